"""The program that classifies and evaluates, at its door: standard input and output, files, exit codes."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from src.utils.config import REPOSITORY
from tests.conftest import Answer, Programs, TrainedRun

TEXTS = ["A gripping film.", "dull", "It is good, and then it is not."]


@pytest.fixture
def folder(sample_run: TrainedRun, tmp_path: Path) -> Path:
    """A copy of the trained model that a test may damage."""
    path = tmp_path / "model"
    shutil.copytree(sample_run.path, path, ignore=shutil.ignore_patterns("checkpoints"))
    return path


def succeed(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    return answer


def notices(answer: Answer) -> list[str]:
    return [line for line in answer.err.splitlines() if not line.startswith("checkpoint  ")]


# Classifying


def test_every_text_gets_one_line_of_label_score_and_text_or_one_object(
    programs: Programs, sample_run: TrainedRun
) -> None:
    answer = succeed(programs.inference("--checkpoint", sample_run.path, *TEXTS))
    lines = [line.split("\t") for line in answer.out.splitlines()]
    assert [text for _, _, text in lines] == TEXTS and notices(answer) == []
    assert all(label in ("negative", "positive") and 0.5 <= float(score) <= 1 for label, score, _ in lines)
    answer = succeed(programs.inference("--checkpoint", sample_run.path, "--json", *TEXTS))
    objects = [json.loads(line) for line in answer.out.splitlines()]
    assert [[one["label"], f"{one['score']:.4f}", one["text"]] for one in objects] == lines


@pytest.mark.parametrize("where", ["file", "standard input"])
def test_every_line_of_a_file_gets_one_line_and_a_blank_one_keeps_its_place(
    where: str, programs: Programs, sample_run: TrainedRun, tmp_path: Path
) -> None:
    content = "\ufeffA film.\r\n\nqwxyz zzyzx\n \nna\u00efve\u2028caf\u00e9\n".encode()
    (tmp_path / "texts.txt").write_bytes(content)
    source = tmp_path / "texts.txt" if where == "file" else "-"
    answer = succeed(programs.inference("--checkpoint", sample_run.path, "--json", "--file", source, stdin=content))
    predictions = [json.loads(line) for line in answer.out.splitlines()]
    assert [p["text"] for p in predictions] == ["A film.", "", "qwxyz zzyzx", " ", "na\u00efve\u2028caf\u00e9"]
    assert [p["label"] is None for p in predictions] == [p["score"] is None for p in predictions]
    assert [p["label"] is None for p in predictions] == [False, True, False, True, False]
    for number in (2, 3, 4):  # blank, without a known word, blank
        assert sum(line.startswith(f"warning: text {number}: ") for line in notices(answer)) == 1


def test_pairs_are_two_texts_a_tab_apart(programs: Programs, sample_run: TrainedRun) -> None:
    answer = succeed(programs.inference("--checkpoint", sample_run.path, "--pairs", "--json", "a film\ta bore"))
    prediction = json.loads(answer.out)
    assert (prediction["text"], prediction["text_pair"]) == ("a film", "a bore") and prediction["label"]


def test_a_text_that_is_too_long_is_classified_with_a_notice(programs: Programs, sample_run: TrainedRun) -> None:
    answer = succeed(programs.inference("--checkpoint", sample_run.path, "film " * 100, "film"))
    (notice,) = notices(answer)
    assert notice.startswith("warning: text 1: ") and "64" in notice and answer.out.count("\n") == 2


def test_what_is_not_utf8_is_a_data_error_that_names_source_and_line(
    programs: Programs, sample_run: TrainedRun
) -> None:
    answer = programs.inference("--checkpoint", sample_run.path, "--file", "-", stdin=b"fine\ncaf\xe9\n")
    assert (answer.code, answer.out) == (3, "") and "-:2" in answer.error
    assert programs.inference("--checkpoint", sample_run.path, "--file", "absent.txt").code == 3


def test_a_console_without_the_characters_of_a_text_shows_them_escaped(sample_run: TrainedRun) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "src.inference", "--checkpoint", str(sample_run.path), "film \u2192 film"],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONIOENCODING": "latin-1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        encoding="latin-1",
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("\tfilm \\u2192 film\n")


# Evaluating


def test_evaluation_as_json_is_exactly_one_object(programs: Programs, folder: Path) -> None:
    (folder / "evaluation-validation.json").unlink()
    answer = succeed(programs.inference("--checkpoint", folder, "--json"))
    assert answer.out.count("\n") == 1 and notices(answer) == []
    numbers = json.loads(answer.out)
    assert {"accuracy", "f1", "mcc", "loss", "n", "checkpoint", "dataset"} <= numbers.keys()
    assert (numbers["n"], numbers["checkpoint"], numbers["dataset"]) == (220, str(folder), "sample")
    assert json.loads((folder / "evaluation-validation.json").read_text()) == numbers


def test_evaluation_for_people_shows_what_the_training_printed_and_examples(
    programs: Programs, sample_run: TrainedRun
) -> None:
    answer = succeed(programs.inference("--checkpoint", sample_run.path, "--examples", 3))
    lines = answer.out.splitlines()
    assert "sample" in lines[0] and sample_run.answer.out.splitlines()[0] in lines
    assert sample_run.answer.out.split("\n\n")[1] in answer.out  # the confusion matrix
    assert len(lines) - next(i for i, line in enumerate(lines) if "confidence" in line) - 1 == 3


def test_a_split_that_does_not_exist_is_a_data_error_that_names_those_there_are(
    programs: Programs, sample_run: TrainedRun
) -> None:
    answer = programs.inference("--checkpoint", sample_run.path, "--split", "tset")
    assert (answer.code, answer.out) == (3, "")
    assert all(split in answer.error for split in ("tset", "train", "validation"))


# Where results go


@pytest.mark.parametrize("what", [["--json"], TEXTS])
def test_output_holds_what_standard_output_would_have(
    what: list[str], programs: Programs, sample_run: TrainedRun, tmp_path: Path
) -> None:
    printed = succeed(programs.inference("--checkpoint", sample_run.path, *what)).out
    answer = succeed(programs.inference("--checkpoint", sample_run.path, "--output", tmp_path / "results.txt", *what))
    assert answer.out == ""
    assert (tmp_path / "results.txt").read_text(encoding="utf-8") == printed


def test_an_output_that_cannot_be_written_is_a_storage_error_and_leaves_the_old_file(
    programs: Programs, sample_run: TrainedRun, tmp_path: Path
) -> None:
    source, output = tmp_path / "texts.txt", tmp_path / "out.txt"
    source.write_text("a fine film\n" * 2000)
    output.write_text("before")
    for path in (tmp_path, tmp_path / "absent" / "results.txt"):
        answer = programs.inference("--checkpoint", sample_run.path, "--output", path, "film")
        assert answer.code == 6 and f"--output {path}" in answer.error
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        answer = programs.inference("--checkpoint", sample_run.path, "--file", source, "--output", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert answer.code == 6 and f"--output {output}" in answer.error
    assert output.read_text() == "before" and len(list(tmp_path.iterdir())) == 2


def test_an_output_never_overwrites_the_input(programs: Programs, sample_run: TrainedRun, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("A film.\n")
    (tmp_path / "link.txt").symlink_to(path)
    for output in (path, tmp_path / "link.txt"):
        answer = programs.inference("--checkpoint", sample_run.path, "--file", path, "--output", output)
        assert answer.code == 2 and "--file" in answer.error
    assert path.read_text() == "A film.\n"


# Models


def flipped_bit(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def foreign_tokenizer(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["supernumerary"] = 999_999
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    ("damage", "facts", "what"),
    [
        (shutil.rmtree, [], ["film"]),
        (flipped_bit, ["model.safetensors"], ["film"]),
        (foreign_tokenizer, ["tokenizer.json", "999999"], []),
    ],
)
def test_an_unusable_model_is_a_checkpoint_error_of_one_line(
    damage: Callable[[Path], None], facts: list[str], what: list[str], programs: Programs, folder: Path
) -> None:
    damage(folder)
    answer = programs.inference("--checkpoint", folder, *what)
    assert (answer.code, answer.out) == (4, "") and answer.err.count("\n") == 1
    assert all(fact in answer.error for fact in [str(folder), *facts])


def test_a_folder_that_transformers_wrote_gives_the_numbers_of_transformers(
    programs: Programs, sample_run: TrainedRun, tmp_path: Path
) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, pipeline

    theirs = PreTrainedTokenizerFast(
        tokenizer_file=str(sample_run.path / "tokenizer.json"),
        model_max_length=32,
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(theirs),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=37,
        initializer_range=0.3,
        id2label={0: "no", 1: "perhaps", 2: "yes"},
        label2id={"no": 0, "perhaps": 1, "yes": 2},
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path)
    answer = succeed(programs.inference("--checkpoint", tmp_path, "--json", *TEXTS))
    wanted = pipeline("text-classification", model=model, tokenizer=theirs, device="cpu")(TEXTS)
    for line, expected in zip(answer.out.splitlines(), wanted, strict=True):
        assert json.loads(line)["label"] == expected["label"]
        # Sums in another order.
        assert json.loads(line)["score"] == pytest.approx(expected["score"], abs=1e-5)


def test_transformers_opens_a_runs_folder(programs: Programs, sample_run: TrainedRun) -> None:
    from transformers import pipeline

    answers = pipeline("text-classification", model=str(sample_run.path), device="cpu")(TEXTS)
    ours = succeed(programs.inference("--checkpoint", sample_run.path, "--json", *TEXTS)).out.splitlines()
    for line, answer in zip(ours, answers, strict=True):
        prediction = json.loads(line)
        assert answer == {"label": prediction["label"], "score": pytest.approx(prediction["score"], abs=1e-5)}


# Options


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (["--file", "x.txt", "film"], ["--file"]),
        (["--dataset", "sample", "--file", "x.txt"], ["--dataset", "--file"]),
        (["--fill-mask", "a [MASK]", "film"], ["--fill-mask"]),
        (["--checkpont", "x", "film"], ["--checkpoint "]),
    ],
)
def test_contradictory_and_mistyped_options_are_usage_errors(
    options: list[str], facts: list[str], programs: Programs
) -> None:
    answer = programs.inference(*options)
    assert (answer.code, answer.out) == (2, "")
    assert all(fact in answer.err for fact in facts)
