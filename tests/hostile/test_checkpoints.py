import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.interop.huggingface import Classifier, load_classifier, save_classifier
from src.interop.pretrained import load_pretrained
from src.model.bert import BertForSequenceClassification
from src.utils.config import REPOSITORY, TrainConfig
from src.utils.errors import CheckpointError
from tests.conftest import Programs
from tests.hostile.checkpoints import CHECKPOINTS, MARKER, Damage, change_json, only_pickle
from tests.hostile.memory import peak_growth
from tests.interop.peers import LABELS, SEQ_LEN, our_config, randomized, tokenizer

TEXT = "A slow film"
MOST_BYTES = 100e6

# What is wrong with the head, or shows when a text is read, is no matter to fine-tuning.
OF_THE_HEAD = ("classifier", "classes", "no tensors", "numbers that overflow", "a length")
BEGINNINGS = {name: case for name, case in CHECKPOINTS.items() if not any(word in name for word in OF_THE_HEAD)}

RUNS = [
    "{}",
    '{"config": null}',
    '{"config": [1]}',
    '{"config": "x"}',
    '{"config": {"seed": "x"}}',
    '{"config": {"dataset": ["a"]}}',
    '{"config": {"dataset": 5}}',
    '{"config": {"train_file": 5}}',
    '{"config": {"holdout": 2}}',
    '{"config": {"data": {"text_column": 1.5}}}',
]
PASTS = [
    "{}",
    '{"model": null}',
    '{"model": {"pretraining": 5}}',
    '{"model": {"pretraining": {"config": {}}}}',
    '{"model": {"pretraining": {"config": {"tokenization": {"seq_len": "x"}}}}}',
    '{"model": {"pretraining": {"config": {"tokenization": {"seq_len": -5}}, "model": {}}}}',
    '{"task": "pretrain"}',
]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(
        randomized(BertForSequenceClassification(our_config("bert"), len(LABELS))), tokenizer(), LABELS, SEQ_LEN
    )


@pytest.fixture
def folder(classifier: Classifier, tmp_path: Path, programs: Programs) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    save_classifier(path, classifier)
    return path


@pytest.fixture(scope="module")
def answer_of_the_good_one(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory, programs: Programs) -> str:
    path = tmp_path_factory.mktemp("good")
    save_classifier(path, classifier)
    answer = programs.inference("--checkpoint", path, TEXT)  # imports what takes memory as well
    assert answer.code == 0, answer.err
    return answer.out


def test_there_are_enough_of_them() -> None:
    assert len(CHECKPOINTS) > 100


def test_the_measure_sees_what_is_taken_and_given_back() -> None:
    with peak_growth() as growth:
        assert len(b"x" * 150_000_000) == 150_000_000
    assert 140e6 < growth.bytes < 170e6


def test_the_payload_works_where_pickles_are_loaded(folder: Path) -> None:
    only_pickle(folder)
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert (folder.parent / MARKER).exists()


@pytest.mark.parametrize("damage, complaint", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_is_refused_in_one_line_or_does_no_harm(
    damage: Damage, complaint: str | None, folder: Path, answer_of_the_good_one: str, programs: Programs
) -> None:
    damage(folder)
    with peak_growth() as growth:
        answer = programs.inference("--checkpoint", folder, TEXT)
    assert growth.bytes < MOST_BYTES
    assert not (folder.parent / MARKER).exists()
    if complaint is None:
        assert (answer.code, answer.out) == (0, answer_of_the_good_one), answer.err
    else:
        assert (answer.code, answer.out) == (4, "")
        said = [line for line in answer.err.splitlines() if not line.startswith("checkpoint  ")]
        assert len(said) == 1 and said[0].startswith("error: ") and complaint in said[0], answer.err
        assert said[0].isprintable() and len(said[0]) < 1100


# Where fine-tuning begins


@pytest.mark.parametrize("damage, complaint", BEGINNINGS.values(), ids=BEGINNINGS)
def test_fine_tuning_does_not_begin_with_what_lies(
    damage: Damage, complaint: str | None, folder: Path, answer_of_the_good_one: str
) -> None:
    damage(folder)
    with peak_growth() as growth:
        if complaint is None:
            load_pretrained(folder, LABELS, TrainConfig())
        else:
            with pytest.raises(CheckpointError):
                load_pretrained(folder, LABELS, TrainConfig())
    assert growth.bytes < MOST_BYTES
    assert not (folder.parent / MARKER).exists()


# What else a folder says


def test_names_of_classes_and_tensors_command_no_terminal(folder: Path, programs: Programs) -> None:
    names = {str(number): f"{name}\x1b[2J\n\t" for number, name in enumerate(LABELS)}
    change_json("config.json", id2label=names)(folder)
    answer = programs.inference("--checkpoint", folder, TEXT)
    assert answer.code == 0 and len(answer.out.splitlines()) == 1
    assert answer.out.rstrip("\n").replace("\t", "").isprintable() and r"\x1b[2J\n\t" in answer.out


@pytest.mark.parametrize("content", RUNS)
def test_a_run_that_is_none_is_refused_in_one_line(content: str, folder: Path, programs: Programs) -> None:
    (folder / "run.json").write_text(content)
    answer = programs.inference("--checkpoint", folder)
    assert (answer.code, answer.out) == (4, "") and answer.error.endswith("; restore the file"), answer.err


@pytest.mark.parametrize("content", PASTS)
def test_a_past_that_is_none_is_refused_in_one_line(content: str, folder: Path) -> None:
    (folder / "run.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"run\.json does not describe a run .*; restore the file"):
        load_pretrained(folder, LABELS, TrainConfig())


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
    with pytest.raises(CheckpointError, match="links to a file outside its folder"):
        load_classifier(snapshot)


# The real programs


@pytest.mark.parametrize(
    "name",
    [
        "code: a pickle called safetensors",
        pytest.param("config: a billion layers", marks=pytest.mark.deep),
        pytest.param("path: a secret", marks=pytest.mark.deep),
    ],
)
def test_the_program_itself_ends_with_one_line_and_code_4(name: str, folder: Path) -> None:
    damage, complaint = CHECKPOINTS[name]
    damage(folder)
    command = [sys.executable, "-m", "src.inference", "--checkpoint", str(folder), TEXT]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (4, "")
    assert len(done.stderr.splitlines()) == 1 and str(complaint) in done.stderr
    assert not (folder.parent / MARKER).exists()
