from pathlib import Path

import pytest
import torch

from src.evaluation.predictor import Prediction, Predictor
from src.interop.huggingface import Classifier, load_classifier, save_classifier
from src.interop.pretrained import load_pretrained
from src.model.bert import BertForSequenceClassification
from src.utils.config import TrainConfig
from src.utils.errors import CheckpointError
from src.utils.runs import config_of
from tests.conftest import Programs
from tests.hostile.checkpoints import CHECKPOINTS, MARKER, Damage, change_json, only_pickle, write_pickle
from tests.interop.peers import LABELS, SEQ_LEN, our_config, randomized, tokenizer

TEXT = "A slow film"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    model = randomized(BertForSequenceClassification(our_config("bert"), len(LABELS)))
    return Classifier(model, tokenizer(), LABELS, SEQ_LEN)


@pytest.fixture
def folder(classifier: Classifier, tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    save_classifier(path, classifier)
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


def test_the_program_ends_with_one_line_and_code_4(folder: Path, programs: Programs) -> None:
    write_pickle("model.safetensors")(folder)
    answer = programs.inference("--checkpoint", folder, TEXT)
    assert (answer.code, answer.out) == (4, "")
    assert "model.safetensors" in answer.error and answer.error.isprintable()
    assert not (folder.parent / MARKER).exists()


def test_names_show_the_terminal_no_control_characters(folder: Path, programs: Programs) -> None:
    names = {str(number): f"{name}\x1b[2J\n\t" for number, name in enumerate(LABELS)}
    change_json("config.json", id2label=names)(folder)
    answer = programs.inference("--checkpoint", folder, TEXT)
    assert answer.code == 0 and len(answer.out.splitlines()) == 1
    assert answer.out.rstrip("\n").replace("\t", "").isprintable() and r"\x1b[2J\n\t" in answer.out
    change_json("config.json", model_type="\x1b[2J\n" + "x" * 5000)(folder)
    answer = programs.inference("--checkpoint", folder, TEXT)
    assert answer.code == 4 and answer.error.isprintable() and "config.json" in answer.error


# run.json, which says how a model was trained


@pytest.mark.parametrize(
    "content",
    [
        '{"config": [1]}',
        '{"config": {"dataset": 5}}',
        '{"config": {"holdout": 2}}',
        '{"model": null}',
        '{"model": {"pretraining": {"config": {"tokenization": {"seq_len": "x"}}}}}',
    ],
)
def test_settings_and_pretrainings_that_are_none_are_refused(content: str, folder: Path) -> None:
    (folder / "run.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"run\.json"):
        if content.startswith('{"config'):
            config_of(folder, TrainConfig())
        else:
            load_pretrained(folder, LABELS, TrainConfig())


# The hub's cache


def test_a_snapshot_of_the_hub_is_links_to_blobs_beside_it(classifier: Classifier, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--owner--name" / "snapshots" / "abc", tmp_path / "models--owner--name" / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    save_classifier(snapshot, classifier)
    for number, file in enumerate(list(snapshot.iterdir())):
        file.rename(blobs / str(number))
        file.symlink_to(Path("../../blobs") / str(number))
    assert load_classifier(snapshot).label_names == LABELS
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(Path("../../../secret"))
    (tmp_path / "secret").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json links"):
        load_classifier(snapshot)
