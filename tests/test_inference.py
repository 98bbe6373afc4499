"""The program that classifies and evaluates, at its door: standard input and output, files, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.data.readers import read_table
from src.data.sources import open_corpus
from src.utils.config import REPOSITORY, SAMPLE_DIR, DataConfig
from tests.conftest import Programs, TrainedRun, full_disk, succeed
from tests.interop import peers

TEXTS = ["A gripping film.", "dull", "It is good, and then it is not."]


# Classifying


def test_every_text_gets_one_line_or_one_object(programs: Programs, sample_run: TrainedRun, tmp_path: Path) -> None:
    answer = succeed(programs.inference("--checkpoint", sample_run.path, *TEXTS))
    lines = [line.split("\t") for line in answer.out.splitlines()]
    assert [text for _, _, text in lines] == TEXTS and answer.notices == []
    assert all(label in ("negative", "positive") and 0.5 <= float(score) <= 1 for label, score, _ in lines)
    options = ("--checkpoint", sample_run.path, "--json", *TEXTS)
    printed = succeed(programs.inference(*options)).out
    objects = [json.loads(line) for line in printed.splitlines()]
    assert [[one["label"], f"{one['score']:.4f}", one["text"]] for one in objects] == lines
    assert programs.inference(*options, "--output", tmp_path / "results.txt").out == ""
    assert (tmp_path / "results.txt").read_text(encoding="utf-8") == printed


def test_every_line_of_a_file_gets_one_line(programs: Programs, sample_run: TrainedRun, tmp_path: Path) -> None:
    content = "\ufeffA film.\r\n\nqwxyz zzyzx\n \nna\u00efve\u2028caf\u00e9\n".encode()
    (tmp_path / "texts.txt").write_bytes(content)
    options = ("--checkpoint", sample_run.path, "--json", "--file")
    answer = succeed(programs.inference(*options, tmp_path / "texts.txt"))
    assert answer == programs.inference(*options, "-", stdin=content)
    predictions = [json.loads(line) for line in answer.out.splitlines()]
    assert [p["text"] for p in predictions] == ["A film.", "", "qwxyz zzyzx", " ", "na\u00efve\u2028caf\u00e9"]
    assert [p["label"] is None for p in predictions] == [p["score"] is None for p in predictions]
    assert [p["label"] is None for p in predictions] == [False, True, False, True, False]
    for number in (2, 3, 4):  # blank, without a known word, blank
        assert sum(line.startswith(f"warning: text {number}: ") for line in answer.notices) == 1


def test_pairs_are_a_tab_apart_and_what_is_too_long_is_said(programs: Programs, sample_run: TrainedRun) -> None:
    options = ("--checkpoint", sample_run.path, "--pairs", "--json")
    answer = succeed(programs.inference(*options, "a film\ta bore", "film " * 100 + "\tfilm"))
    one, other = map(json.loads, answer.out.splitlines())
    assert (one["text"], one["text_pair"]) == ("a film", "a bore") and one["label"] and other["label"]
    (notice,) = answer.notices
    assert notice.startswith("warning: text 2: ")


def test_a_file_that_cannot_be_read_is_a_data_error(programs: Programs, sample_run: TrainedRun) -> None:
    for source, place in (("-", "-:2"), ("absent.txt", "absent.txt")):
        answer = programs.inference("--checkpoint", sample_run.path, "--file", source, stdin=b"fine\ncaf\xe9\n")
        assert (answer.code, answer.out) == (3, "") and place in answer.error


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


# A table


TABLES = {
    "a.csv": 'id,message\n007,a gripping film\n8, \n-0.5,"@a dull, ""long"" bore"\n',
    "b.jsonl": '{"message": "a gripping film"}\n{"message": "", "id": -1}\n{"message": "@a \\"dull\\" bore"}\n',
    "c.json": '[{"message": "a film", "id": ["=1"]}, {"message": "\\t"}, {"message": "@a, \\"dull\\" bore"}]',
}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.csv", ""), ("a.csv", ".tsv"), ("a.csv", ".jsonl"), ("b.jsonl", ""), ("b.jsonl", ".csv"), ("c.json", ".csv")],
)
def test_rows_of_a_table_come_back_with_label_and_scores(
    name: str, suffix: str, programs: Programs, sample_run: TrainedRun, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(TABLES[name], encoding="utf-8")
    options = ["--checkpoint", sample_run.path, "--file", tmp_path / name, "--text-column", "message", "--scores"]
    answer = succeed(programs.inference(*options, *(["--output", tmp_path / f"out{suffix}"] if suffix else [])))
    assert "text 2: blank" in answer.err
    suffix = suffix or (".csv" if name == "a.csv" else ".jsonl")
    if answer.out:
        (tmp_path / f"out{suffix}").write_text(answer.out, encoding="utf-8")
    before, after = ([row.cells for row in read_table(tmp_path / file).rows] for file in (name, f"out{suffix}"))
    alone = succeed(programs.inference(*options[:2], "--json", *(row["message"] for row in before))).out.splitlines()
    for given, row, wanted in zip(before, after, map(json.loads, alone), strict=True):
        assert (row.pop("predicted_label") or None) == wanted["label"]
        names = {"predicted_score": wanted["label"]} | {f"score_{name}": name for name in ("negative", "positive")}
        for key, of in names.items():
            assert float(row.pop(key) or -1) == pytest.approx(wanted["scores"].get(of, -1), abs=1e-5)
        text = given["message"]
        if suffix == ".jsonl":
            assert row == given
        else:  # a spreadsheet computes what begins like a formula
            assert row.pop("message") == (f"'{text}" if text[:1] == "@" else text)
            assert row.get("id", "") in (str(given.get("id", "")), '["=1"]')


def test_a_bad_row_or_column_is_a_data_error(programs: Programs, sample_run: TrainedRun, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    options = ("--checkpoint", sample_run.path, "--file", path)
    path.write_text("text\na film\na,film\n")
    answer = programs.inference(*options)
    assert (answer.code, answer.out) == (3, "") and "a.csv:3: " in answer.error
    answer = succeed(programs.inference(*options, "--skip-bad-rows"))
    assert answer.out.count("\n") == 2 and "1 bad row" in answer.err
    path.write_text("text,predicted_label\na film,x\n")
    answer = programs.inference(*options)
    assert (answer.code, answer.out) == (3, "") and "predicted_label" in answer.error


# Evaluating


def evaluation(programs: Programs, folder: Path, *options: object) -> dict[str, Any]:
    answer = succeed(programs.inference("--checkpoint", folder, "--json", *options))
    assert answer.out.count("\n") == 1
    numbers: dict[str, Any] = json.loads(answer.out)
    return numbers


def test_without_data_the_model_is_evaluated_on_its_own_and_numbers_are_kept(programs: Programs, folder: Path) -> None:
    trained = json.loads((folder / "evaluation-validation.json").read_text())
    numbers = evaluation(programs, folder)
    assert (numbers["n"], numbers["checkpoint"], numbers["dataset"]) == (220, str(folder), "sample")
    assert numbers == numbers | trained | {"loss": pytest.approx(trained["loss"], abs=1e-6)}
    assert json.loads((folder / "evaluation-validation.json").read_text()) == numbers  # left beside the model
    assert evaluation(programs, folder, "--split", "train")["n"] == 640
    assert json.loads((folder / "evaluation-train.json").read_text())["n"] == 640
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"model_max_length": 10}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "manifest.json").unlink()
    (folder / "evaluation-train.json").unlink()
    (folder / "evaluation-train.json").mkdir()
    said = succeed(programs.inference("--checkpoint", folder, "--split", "train")).err
    assert "10 tokens" in said and "evaluation-train.json" in said


def test_evaluation_shows_what_the_training_printed_and_examples(programs: Programs, sample_run: TrainedRun) -> None:
    answer, again = (succeed(programs.inference("--checkpoint", sample_run.path, "--examples", 3)) for _ in range(2))
    assert again.out == answer.out  # the seed fixes the examples
    lines = answer.out.splitlines()
    assert "sample" in lines[0] and sample_run.answer.out.splitlines()[0] in lines
    assert sample_run.answer.out.split("\n\n")[1] in answer.out  # the confusion matrix
    assert len(lines) - next(i for i, line in enumerate(lines) if "confidence" in line) - 1 == 3


def test_a_held_out_part_is_drawn_again_by_the_seed_of_the_run(programs: Programs, folder: Path) -> None:
    run, texts = json.loads((folder / "run.json").read_text()), []
    run["config"]["data"] |= {"dataset": None, "train_file": str(SAMPLE_DIR / "train.jsonl")}
    del run["data"]["validation_sha256"]  # as before it was noted
    for seed in (0, 0, 1):
        run["config"]["run"]["seed"] = seed
        (folder / "run.json").write_text(json.dumps(run))
        answer = succeed(programs.inference("--checkpoint", folder, "--examples", 64))
        table = answer.out.partition("confidence")[2].splitlines()[1:]
        assert len(table) == 64
        texts.append({line.partition(" %  ")[2] for line in table})
    assert texts[0] == texts[1] != texts[2]


def test_a_lost_held_out_part_is_refused_and_changed_data_is_said(programs: Programs, folder: Path) -> None:
    lines = (SAMPLE_DIR / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    for name, content in (("train.jsonl", lines), ("validation.jsonl", lines[:20])):
        (folder / name).write_text("".join(content), encoding="utf-8")
    run = json.loads((folder / "run.json").read_text())
    run["config"]["data"] |= {"dataset": None, "train_file": str(folder / "train.jsonl")}
    for validation, changed, code in ((None, "train", 3), (folder / "validation.jsonl", "validation", 0)):
        run["config"]["data"]["validation_file"] = validation and str(validation)
        corpus = open_corpus(DataConfig(train_file=folder / "train.jsonl", validation_file=validation))
        run["data"]["validation_sha256"] = corpus.splits["validation"].sha256
        (folder / "run.json").write_text(json.dumps(run))
        assert succeed(programs.inference("--checkpoint", folder)).notices == []
        content = (folder / f"{changed}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{changed}.jsonl").write_text("".join(sorted(content)), encoding="utf-8")
        answer = programs.inference("--checkpoint", folder)
        assert answer.code == code and "not what it was" in answer.err
    assert programs.report(folder).code == 0


def test_a_named_file_is_evaluated_whole_and_its_labels_must_be_known(programs: Programs, folder: Path) -> None:
    path = folder / "mine.tsv"
    path.write_text("review\tverdict\na fine film\tpositive\na dull film\tnegative\nwarm\tpositive\n")
    numbers = evaluation(programs, folder, "--dataset", path, "--text-column", "review", "--label-column", "verdict")
    assert (numbers["dataset"], numbers["n"]) == ("mine.tsv", 3)
    assert [sum(row) for row in numbers["confusion"]] == [1, 2]
    assert (folder / "evaluation-mine-validation.json").exists()
    path.write_text("sentence\tlabel\na film\tmixed\n")
    for options, facts in (
        (("--dataset", path), ("mine.tsv:2: ", "mixed", "negative, positive")),
        (("--text-column", "colour"), ("colour",)),  # in place of the column that was trained on
        (("--split", "tset"), ("tset", "train", "validation")),
    ):
        answer = programs.inference("--checkpoint", folder, *options)
        assert (answer.code, answer.out) == (3, "") and all(fact in answer.error for fact in facts)


# Where results go


def test_an_output_not_written_leaves_the_old_file(programs: Programs, sample_run: TrainedRun, tmp_path: Path) -> None:
    source, output = tmp_path / "texts.txt", tmp_path / "out.txt"
    source.write_text("a fine film\n" * 2000)
    output.write_text("before")
    for path in (tmp_path, tmp_path / "absent" / "results.txt"):
        answer = programs.inference("--checkpoint", sample_run.path, "--output", path, "film")
        assert answer.code == 6 and str(path) in answer.error
    with full_disk(10_000):
        answer = programs.inference("--checkpoint", sample_run.path, "--file", source, "--output", output)
    assert answer.code == 6 and str(output) in answer.error
    assert output.read_text() == "before" and len(list(tmp_path.iterdir())) == 2


# Models


def test_an_unusable_model_is_a_checkpoint_error_of_one_line(programs: Programs, folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    for path, fact in ((folder, "model.safetensors"), (folder / "absent", "absent")):
        answer = programs.inference("--checkpoint", path, "film")
        assert (answer.code, answer.out) == (4, "") and answer.err.count("\n") == 1
        assert str(path) in answer.error and fact in answer.error


@pytest.mark.parametrize("wrote", ["transformers", "training"])
def test_transformers_finds_the_same(wrote: str, programs: Programs, sample_run: TrainedRun, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast, pipeline

    if wrote == "transformers":
        peers.their_model("bert", "classifier", max_position_embeddings=64).save_pretrained(tmp_path)
        special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
        PreTrainedTokenizerFast(tokenizer_object=peers.tokenizer(), **special).save_pretrained(tmp_path)
    path = tmp_path if wrote == "transformers" else sample_run.path
    answer = succeed(programs.inference("--checkpoint", path, "--json", *peers.SENTENCES))
    wanted = pipeline("text-classification", model=str(path), device="cpu")(peers.SENTENCES)
    for line, expected in zip(answer.out.splitlines(), wanted, strict=True):
        found = json.loads(line)
        assert found["label"] == expected["label"]
        assert found["score"] == pytest.approx(expected["score"], abs=1e-5)  # sums in another order


def test_an_output_that_is_the_input_is_a_usage_error(programs: Programs, tmp_path: Path) -> None:
    path, link = tmp_path / "texts.txt", tmp_path / "link.txt"
    path.write_text("A film.\n")
    link.symlink_to(path)
    for output in (path, link):
        answer = programs.inference("--file", path, "--output", output)
        assert (answer.code, answer.out) == (2, "") and "--file" in answer.err
    assert path.read_text() == "A film.\n"
