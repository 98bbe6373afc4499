"""Hostile model folders: what is done to a good one, and what the error must name, or None where it does no harm."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from src.evaluation.predictor import Prediction, Predictor
from src.interop.huggingface import Classifier, load_classifier, load_pretrained, save_classifier
from src.model.bert import BertForSequenceClassification
from src.utils.config import TrainConfig
from src.utils.errors import CheckpointError
from src.utils.runs import config_of
from tests.conftest import Programs
from tests.interop.peers import LABELS, SEQ_LEN, our_config, randomized, tokenizer

Damage = Callable[[Path], object]

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
MARKER = "executed"  # the file that appears next to the folder if anything of it is executed
WORDS, QUERY = "bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.attention.self.query.weight"
TEXT = "A slow film"


class Payload:
    """What touches the marker when it is unpickled."""

    def __init__(self, folder: Path):
        self.marker = folder.parent / MARKER

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def only_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({"weights": Payload(folder)}, folder / "pytorch_model.bin")


def pickled_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps(Payload(folder)))


def code(folder: Path) -> None:
    (folder / "modeling.py").write_text(f"open({str(folder.parent / MARKER)!r}, 'w')\n")
    change_json(CONFIG, auto_map={"AutoModel": "modeling.Model"}, trust_remote_code=True)(folder)


def change_json(name: str, **changes: object) -> Damage:
    return lambda folder: (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))


def write(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def change_tensor(name: str, edit: Callable[[Tensor], Tensor | None], source: str = QUERY) -> Damage:
    """Replaces one tensor by what an edit makes of another; None removes it."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        edited = edit(tensors[source])
        others = {key: tensor for key, tensor in tensors.items() if key != name}
        save_file(others if edited is None else others | {name: edited.contiguous()}, folder / "new")
        (folder / "new").rename(folder / WEIGHTS)

    return damage


def enlarge(name: str) -> Damage:
    return lambda folder: os.truncate(folder / name, 10**12)  # of holes


def link_out(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / WEIGHTS)
    (folder / WEIGHTS).symlink_to(f"../{WEIGHTS}")


PADDING: dict[str, Any] = {"strategy": {"Fixed": 10**10}, "direction": "Right", "pad_to_multiple_of": None}
PADDING |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}

CHECKPOINTS: dict[str, tuple[Damage, str | None]] = {
    "only a pickle": (only_pickle, "pytorch_model.bin"),
    "a pickle named model.safetensors": (pickled_weights, WEIGHTS),
    "auto_map and trust_remote_code": (code, None),
    "a header of a petabyte": (write(WEIGHTS, struct.pack("<Q", 10**15) + b"{}"), WEIGHTS),
    "integers": (change_tensor(QUERY, lambda tensor: tensor.int()), f"{QUERY} holds torch.int32"),
    "another shape": (change_tensor(WORDS, lambda tensor: tensor[:, :31], WORDS), "(99, 31), not (99, 32)"),
    "a missing tensor": (change_tensor(QUERY, lambda tensor: None), QUERY),
    "NaN": (change_tensor(QUERY, lambda tensor: tensor * float("nan")), QUERY),
    "logits that overflow": (change_tensor("classifier.weight", lambda tensor: tensor.sign() * 3e38, "classifier.weight"), "logits"),
    "a tensor of no use": (change_tensor("evil\n\x1b[2J", lambda tensor: tensor * float("nan")), None),
    "more layers than tensors": (change_json(CONFIG, num_hidden_layers=9), CONFIG),
    "more classes than scores": (change_json(CONFIG, id2label={str(n): str(n) for n in range(9)}), "(5, 32), not (9, 32)"),
    "a config.json of a terabyte": (enlarge(CONFIG), "1,000,000,000,000 bytes"),
    "a tokenizer.json of a terabyte": (enlarge(TOKENIZER), "1,000,000,000,000 bytes"),
    "a tokenizer of no kind": (change_json(TOKENIZER, model={"type": "Telepathy"}), TOKENIZER),
    "padding to billions": (change_json(TOKENIZER, padding=PADDING), None),
    "weights link out of the folder": (link_out, f"{WEIGHTS} links"),
    "a manifest of files above": (write("manifest.json", b'{"../secret": {}}'), "'../secret'"),
    "a manifest of other sums": (write("manifest.json", b'{"config.json": {"bytes": 1, "sha256": "0"}}'), f"{CONFIG} is damaged"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model" / "snapshots" / "abc"
    path.mkdir(parents=True)
    model = randomized(BertForSequenceClassification(our_config("bert"), len(LABELS)))
    save_classifier(path, Classifier(model, tokenizer(), LABELS, SEQ_LEN))
    return path


def predicted(folder: Path) -> Prediction:
    (prediction,) = Predictor.load(folder, "cpu").predict([TEXT])
    return prediction


def test_the_payload_works_where_pickles_are_loaded(folder: Path) -> None:
    only_pickle(folder)
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert (folder.parent / MARKER).exists()


@pytest.mark.parametrize("damage, fact", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_is_refused_or_does_no_harm(damage: Damage, fact: str | None, folder: Path) -> None:
    good = predicted(folder)
    damage(folder)
    if fact is None:
        found = predicted(folder)
        assert found.label == good.label and found.score == pytest.approx(good.score, abs=1e-6)
    else:
        with pytest.raises(CheckpointError) as caught:
            predicted(folder)
        assert fact in str(caught.value) and len(str(caught.value)) < 1200
    assert not (folder.parent / MARKER).exists()


def test_names_show_the_terminal_no_control_characters(folder: Path, programs: Programs) -> None:
    names = {str(number): f"{name}\x1b[2J\n\t" for number, name in enumerate(LABELS)}
    change_json(CONFIG, id2label=names)(folder)
    answer = programs.inference("--checkpoint", folder, TEXT)
    assert answer.code == 0 and len(answer.out.splitlines()) == 1
    assert answer.out.rstrip("\n").replace("\t", "").isprintable() and r"\x1b[2J\n\t" in answer.out
    change_json(CONFIG, model_type="\x1b[2J\n" + "x" * 5000)(folder)
    answer = programs.inference("--checkpoint", folder, TEXT)
    assert answer.code == 4 and answer.error.isprintable() and CONFIG in answer.error


@pytest.mark.parametrize("config", [[1], {"holdout": 2}])
def test_a_run_json_without_settings_or_a_pre_training_is_refused(config: Any, folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"config": config, "model": {"pretraining": {"config": config}}}))
    with pytest.raises(CheckpointError, match=r"run\.json"):
        config_of(folder, TrainConfig())
    with pytest.raises(CheckpointError, match=r"run\.json"):
        load_pretrained(folder, LABELS, TrainConfig())


def test_a_snapshot_of_the_hub_is_links_to_blobs(folder: Path) -> None:
    (blobs := folder.parent.parent / "blobs").mkdir()
    for number, file in enumerate(list(folder.iterdir())):
        file.rename(blobs / str(number))
        file.symlink_to(Path("../../blobs") / str(number))
    assert load_classifier(folder).label_names == LABELS
