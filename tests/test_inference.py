import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from src.utils import runs
from src.utils.config import REPOSITORY, SAMPLE_DIR
from tests.conftest import Answer, Programs, TrainedRun

TEXTS = ["A gripping film.", "dull", "It is good, and then it is not."]
PNG = b"\x89PNG\r\n\x1a\n"


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


def cells(answer: Answer) -> list[list[str]]:
    return [line.split("\t") for line in answer.out.splitlines()]


# Classifying


def test_every_text_gets_one_line_of_label_score_and_text(programs: Programs, sample_run: TrainedRun) -> None:
    answer = succeed(programs.inference("--checkpoint", sample_run.path, *TEXTS))
    assert [text for _, _, text in cells(answer)] == TEXTS
    assert all(label in ("negative", "positive") and 0.5 <= float(score) <= 1 for label, score, _ in cells(answer))
    assert notices(answer) == []


def test_json_is_one_object_a_line(programs: Programs, sample_run: TrainedRun) -> None:
    answer = succeed(programs.inference("--checkpoint", sample_run.path, "--json", *TEXTS))
    predictions = [json.loads(line) for line in answer.out.splitlines()]
    assert [prediction["text"] for prediction in predictions] == TEXTS
    lines = cells(programs.inference("--checkpoint", sample_run.path, *TEXTS))
    assert [(p["label"], f"{p['score']:.4f}") for p in predictions] == [(label, score) for label, score, _ in lines]


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
    told = {2: "blank", 3: "the model knows none of its words", 4: "blank"}
    for number, remark in told.items():
        assert sum(line.startswith(f"text {number}: {remark}") for line in notices(answer)) == 1


def test_a_text_that_is_too_long_is_classified_with_a_notice(programs: Programs, sample_run: TrainedRun) -> None:
    answer = succeed(programs.inference("--checkpoint", sample_run.path, "film " * 100, "film"))
    assert notices(answer) == ["text 1: longer than 64 tokens, not all of it was read"]
    assert len(cells(answer)) == 2


@pytest.mark.parametrize("source", ["file", "-"])
def test_what_is_not_utf8_is_a_data_error_that_names_file_and_line(
    source: str, programs: Programs, sample_run: TrainedRun, tmp_path: Path
) -> None:
    content, path = b"fine\ncaf\xe9\n", tmp_path / "texts.txt"
    path.write_bytes(content)
    named = path if source == "file" else "-"
    answer = programs.inference("--checkpoint", sample_run.path, "--file", named, stdin=content)
    assert (answer.code, answer.out) == (3, "")
    assert f"{named}:2: not UTF-8" in answer.error


def test_a_file_that_is_missing_is_a_data_error(programs: Programs, sample_run: TrainedRun, tmp_path: Path) -> None:
    answer = programs.inference("--checkpoint", sample_run.path, "--file", tmp_path / "absent.txt")
    assert answer.code == 3 and "absent.txt cannot be read (No such file or directory)" in answer.error


def test_ten_megabytes_in_one_line_add_less_than_a_second(
    programs: Programs, sample_run: TrainedRun, tmp_path: Path
) -> None:
    seconds = []
    for size in (1, 10_000_000):
        (tmp_path / "texts.txt").write_text("A film.\n" + "." * size + "\n")
        started = time.process_time()
        answer = succeed(programs.inference("--checkpoint", sample_run.path, "--file", tmp_path / "texts.txt"))
        seconds.append(time.process_time() - started)
        assert len(answer.out.splitlines()) == 2
    assert seconds[1] - seconds[0] < 1.0


def test_control_characters_never_reach_the_terminal(programs: Programs, sample_run: TrainedRun) -> None:
    answer = succeed(programs.inference("--checkpoint", sample_run.path, "film\x1b[2J\n\tfilm\udcff"))
    assert answer.out.endswith("\tfilm\\x1b[2J\\n\\tfilm\\udcff\n") and answer.out.count("\n") == 1


def test_a_console_without_the_characters_of_a_text_shows_them_escaped(sample_run: TrainedRun) -> None:
    command = [sys.executable, "-m", "src.inference", "--checkpoint", str(sample_run.path), "film \u2192 film"]
    result = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONIOENCODING": "latin-1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
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


def test_evaluation_for_people_shows_origin_numbers_confusion_and_examples(
    programs: Programs, sample_run: TrainedRun
) -> None:
    answer = succeed(programs.inference("--checkpoint", sample_run.path, "--examples", 3))
    origin, blank, *rest = answer.out.splitlines()
    assert (origin, blank) == ("sample, split validation", "")
    assert rest[: rest.index("")][0] in sample_run.answer.out
    assert "true \\ predicted" in answer.out
    assert len(rest) - next(i for i, line in enumerate(rest) if "confidence" in line) - 1 == 3
    assert sample_run.answer.out.split("\n\n")[1] in answer.out  # the same tables as after the training


def test_a_split_that_does_not_exist_is_a_data_error(programs: Programs, sample_run: TrainedRun) -> None:
    answer = programs.inference("--checkpoint", sample_run.path, "--split", "tset")
    assert (answer.code, answer.out) == (3, "")
    assert "no split tset; it has train, validation" in answer.error


def test_a_picture_is_drawn_of_an_evaluation(programs: Programs, folder: Path, tmp_path: Path) -> None:
    answer = succeed(programs.inference("--checkpoint", folder, "--picture", tmp_path / "results.png"))
    assert (tmp_path / "results.png").read_bytes().startswith(PNG)
    assert f"picture     {tmp_path / 'results.png'}" in notices(answer)


# Where results go


@pytest.mark.parametrize("what", [["--json"], ["--json", *TEXTS], TEXTS, []])
def test_output_holds_what_standard_output_would_have(
    what: list[str], programs: Programs, sample_run: TrainedRun, tmp_path: Path
) -> None:
    printed = succeed(programs.inference("--checkpoint", sample_run.path, *what)).out
    answer = succeed(programs.inference("--checkpoint", sample_run.path, "--output", tmp_path / "results.txt", *what))
    assert answer.out == ""
    assert (tmp_path / "results.txt").read_text(encoding="utf-8") == printed


def test_an_output_that_cannot_be_written_is_a_storage_error(
    programs: Programs, sample_run: TrainedRun, tmp_path: Path
) -> None:
    for path in (tmp_path, tmp_path / "absent" / "results.txt"):
        answer = programs.inference("--checkpoint", sample_run.path, "--output", path, "film")
        assert answer.code == 6 and f"cannot write --output {path}" in answer.error


def test_a_disk_that_fills_up_under_the_output_is_a_storage_error_and_leaves_the_old_file(
    programs: Programs, sample_run: TrainedRun, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("a fine film\n" * 2000)
    output = tmp_path / "out.txt"
    output.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        answer = programs.inference(
            "--checkpoint", sample_run.path, "--file", tmp_path / "texts.txt", "--output", output
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert answer.code == 6 and f"cannot write --output {output} (File too large)" in answer.error
    assert output.read_text() == "before" and len(list(tmp_path.iterdir())) == 2


def test_an_output_never_overwrites_the_input(programs: Programs, sample_run: TrainedRun, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("A film.\n")
    (tmp_path / "link.txt").symlink_to(path)
    for output in (path, tmp_path / "link.txt"):
        answer = programs.inference("--checkpoint", sample_run.path, "--file", path, "--output", output)
        assert answer.code == 2 and "would overwrite --file" in answer.error
    assert path.read_text() == "A film.\n"


# Models that cannot be used


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_model(folder: Path) -> None:
    shutil.rmtree(folder)


def flipped_bit(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def cut_weights(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def no_weights(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    (folder / "model.safetensors").unlink()


def foreign_tokenizer(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["supernumerary"] = 999_999
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def broken_tokenizer(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    (folder / "tokenizer.json").write_text("{}")


def broken_config(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    (folder / "config.json").write_text('{"model_type": "bert"')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_model, "is not a folder"),
        (no_config, "config.json is missing; is "),
        (flipped_bit, "model.safetensors is damaged: it differs from manifest.json"),
        (cut_weights, "model.safetensors cannot be read"),
        (no_weights, "model.safetensors is missing"),
        (foreign_tokenizer, "tokenizer.json does not fit the model: its largest id is 999999"),
        (broken_tokenizer, "tokenizer.json cannot be read"),
        (broken_config, "config.json cannot be read as JSON"),
    ],
)
@pytest.mark.parametrize("what", [["film"], []])
def test_an_unusable_model_is_a_checkpoint_error(
    damage: Any, message: str, what: list[str], programs: Programs, folder: Path
) -> None:
    damage(folder)
    answer = programs.inference("--checkpoint", folder, *what)
    assert (answer.code, answer.out) == (4, "")
    assert message in answer.error and answer.err.count("\n") == 1


def test_without_a_checkpoint_the_newest_run_is_used(
    programs: Programs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "WEIGHTS_DIR", folder.parent)
    assert f"checkpoint  {folder}\n" in succeed(programs.inference("film")).err


def test_without_any_model_the_user_is_told_to_train_one(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "WEIGHTS_DIR", tmp_path)
    monkeypatch.setattr(runs, "SHIPPED_CHECKPOINT", tmp_path / "bert-sst2")
    answer = programs.inference("film")
    assert answer.code == 4 and "train one with python -m src.train" in answer.error


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--file", "x.txt", "film"], "two inputs"),
        (["--dataset", "sample", "film"], "give one of them"),
        (["--fill-mask", "a [MASK]", "film"], "--fill-mask takes one text of its own"),
        (["--fill-mask", "a [MASK]", "--file", "x.txt"], "--fill-mask takes one text of its own"),
        (["--fill-mask", "a [MASK]", "--dataset", "sample"], "--fill-mask takes one text of its own"),
        (["--dataset", "sample", "--file", "x.txt"], "give one of them"),
        (["--picture", "x.png", "film"], "--picture draws an evaluation"),
        (["--file", "x.txt", "--picture", "x.png"], "--picture draws an evaluation"),
    ],
)
def test_contradictory_options_are_usage_errors(options: list[str], message: str, programs: Programs) -> None:
    answer = programs.inference(*options)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.error


def test_a_mistyped_option_is_a_usage_error_that_suggests_the_right_one(programs: Programs) -> None:
    answer = programs.inference("--checkpont", "x", "film")
    assert (answer.code, answer.out) == (2, "")
    assert "--checkpoint " in answer.err


def test_help_answers_without_pytorch() -> None:
    program = (
        "import sys; from src.inference import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout.endswith("\nFalse\n")
    assert "--checkpoint" in result.stdout


# Folders of other programs


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
        assert json.loads(line)["score"] == pytest.approx(expected["score"], abs=1e-5)


def test_another_programs_folder_is_evaluated_on_data_that_is_named(programs: Programs, folder: Path) -> None:
    for name in ("run.json", "manifest.json", "metrics.jsonl", "README.md", "evaluation-validation.json"):
        (folder / name).unlink()
    answer = succeed(programs.inference("--checkpoint", folder, "--dataset", SAMPLE_DIR / "validation.jsonl", "--json"))
    assert json.loads(answer.out)["n"] == 220
    assert (folder / "evaluation-validation-validation.json").exists()
