import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.data import hub, sources
from src.data.sources import Corpus, TextSplit, corpus_of_lists, open_corpus
from src.utils.config import SAMPLE, SENTIMENT_LABELS, SST2, DataConfig
from src.utils.errors import DataError
from tests.data.conftest import write as write_file
from tests.data.conftest import write_folder

Write = Callable[[str, str], Path]
HELD_OUT = (["v"], ["a"])


@pytest.fixture(autouse=True)
def sealed(own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the user's cache or the user's SST-2."""
    monkeypatch.delenv("SST2_DIR", raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return partial(write_file, tmp_path)


def rows(count: int, label: Callable[[int], object] = lambda row: row % 2) -> str:
    lines = (f"text {row},second {row},{label(row)}\n" for row in range(count))
    return "".join(["text,second,label\n", *lines])


def open_named(source: object, *args: Any, **kwargs: Any) -> Corpus:
    return open_corpus(DataConfig(dataset=str(source)), *args, **kwargs)


def train_of(source: object, **names: Any) -> TextSplit:
    return open_corpus(DataConfig(dataset=str(source), **names), ("train",)).splits["train"]


def refuses(data: DataConfig | Path, splits: tuple[str, ...], *facts: object, **options: Any) -> None:
    named = data if isinstance(data, DataConfig) else DataConfig(dataset=str(data))
    with pytest.raises(DataError) as caught:
        open_corpus(named, splits, **options)
    assert all(str(fact) in str(caught.value) for fact in facts), caught.value


BOTH, TRAIN, VALIDATION, TEST = ("train", "validation"), ("train",), ("validation",), ("test",)


def test_the_sample_is_read_by_name_and_replaces_sst2_out_of_reach_behind_a_banner(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all(set(split.labels) == {0, 1} for split in open_named(SAMPLE).splits.values())  # that is shipped
    write("bundled/train.jsonl", '{"sentence": "bad", "label": 0}\n{"sentence": "good", "label": 1}\n')
    folder = write("bundled/validation.jsonl", '{"sentence": "fine", "label": 1}\n').parent
    monkeypatch.setattr(sources, "SAMPLE_DIR", folder)
    splits = {
        "train": TextSplit(["bad", "good"], [0, 1], "sample, split train"),
        "validation": TextSplit(["fine"], [1], "sample, split validation"),
    }
    corpus = Corpus("sample", SENTIMENT_LABELS, splits, DataConfig(dataset=SAMPLE))
    assert open_named(SAMPLE) == corpus and capsys.readouterr().err == ""
    refuses(DataConfig(dataset=SAMPLE), TEST, "sample has no split test; it has train, validation")
    assert open_corpus(DataConfig()) == replace(corpus, is_fallback=True)
    out, err = capsys.readouterr()
    assert out == "" and "NOT SST-2" in err and all(tried in err for tried in ("SST2_DIR", "stanfordnlp/sst2"))


def test_with_nothing_named_sst2_is_taken_from_sst2_dir_or_else_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "mine", ["negative", "positive"], train=[0, 1], validation=[1])
    with monkeypatch.context() as patch:
        patch.setattr(hub, "load_hub", lambda name: hub.load_folder(folder))
        corpus = open_corpus(DataConfig())
        assert corpus.name == SST2 and corpus.source == DataConfig(dataset=SST2) and not corpus.is_fallback
        assert corpus.splits["validation"].origin == "stanfordnlp/sst2, split validation"
    monkeypatch.setenv("SST2_DIR", str(folder))
    corpus = open_corpus(DataConfig())
    assert (corpus.name, corpus.source) == ("mine", DataConfig(dataset=str(folder)))
    # What is named and does not work is an error, and no reason for the sample.
    (tmp_path / "empty").mkdir()
    for name in ("gone", "empty"):
        monkeypatch.setenv("SST2_DIR", str(tmp_path / name))
        refuses(DataConfig(), BOTH, tmp_path / name)
    for source in (SST2, "reviews.csv", "./stanfordnlp/sst2", ""):
        refuses(DataConfig(dataset=source), BOTH, source)


def test_a_source_names_itself_wherever_the_program_runs_next(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, validation = write("corpus/train.csv", rows(4)), write("corpus/validation.csv", rows(4))
    monkeypatch.chdir(tmp_path)
    own, other = train.relative_to(tmp_path), validation.relative_to(tmp_path)
    for given, found in (
        (DataConfig(train_file=own, validation_file=other), DataConfig(train_file=train, validation_file=validation)),
        (DataConfig(dataset=str(own)), DataConfig(train_file=train)),
        (DataConfig(dataset="corpus"), DataConfig(dataset=str(tmp_path / "corpus"))),
    ):
        assert open_corpus(given).source == found
    write_folder(tmp_path / SAMPLE, train=[0, 1], validation=[0])  # a folder of that name is not the sample
    assert open_named(f"./{SAMPLE}").name != SAMPLE


def test_a_split_a_column_or_a_row_without_labels_is_refused_unless_allowed(tmp_path: Path, write: Write) -> None:
    folder = write_folder(tmp_path / "c", ["neg", "pos"], train=[0, 1], test=[-1, -1])
    refuses(folder, TEST, "c, split test has no labels", "--file")
    assert open_named(folder, TEST, allow_unlabelled=True).splits["test"].labels == [-1, -1]
    path = write("a.csv", "text\na\nb\n")
    refuses(path, TRAIN, "no column label or labels or sentiment or class or target; name one of text")
    corpus = open_named(path, TRAIN, allow_unlabelled=True)
    assert corpus.splits["train"] == TextSplit(["a", "b"], [-1, -1], "a.csv") and corpus.label_names == ()
    path = write("a.csv", "text,label\na,0\nb, \nc,1\n")
    for allow in (False, True):  # one row among others never
        refuses(path, TRAIN, f"{path}:3: no label", "negative, positive", allow_unlabelled=allow)


def test_only_the_named_splits_of_a_folder_are_loaded_and_one_split_of_a_file_is_all_of_it(
    tmp_path: Path, write: Write
) -> None:
    # The training split could not be loaded: its labels are missing.
    folder = write_folder(tmp_path / "c", ["negative", "positive"], train=[-1, -1], test=[0, 1, 1])
    splits = open_named(folder, VALIDATION).splits
    assert list(splits) == ["validation"] and splits["validation"].labels == [0, 1, 1]
    assert "c, split test" in splits["validation"].origin  # because there is no validation split
    refuses(folder, ("dev",), "c has no split dev", "train, test")
    path = write("reviews.csv", rows(30))
    for split in ("train", "validation", "test"):
        loaded = open_named(path, (split,)).splits
        assert list(loaded) == [split] and len(loaded[split].texts) == 30
    refuses(path, ("train", "test"), "reviews.csv has no split test")


def test_the_validation_rows_of_a_single_file_are_a_seeded_tenth_of_each_class(write: Write) -> None:
    path = write("reviews.csv", rows(103, lambda row: "rare" if row < 3 else "common"))
    data = DataConfig(train_file=path)
    corpus = open_corpus(data, seed=1)
    train, validation = corpus.splits["train"], corpus.splits["validation"]
    assert corpus.label_names == ("common", "rare") and corpus.name == "reviews.csv"
    assert sorted(validation.labels) == [0] * 10 + [1] and len(train.texts) == 92
    assert sorted(train.texts + validation.texts) == sorted(f"text {row}" for row in range(103))
    assert "reviews.csv" in validation.origin and "stratified tenth" in validation.origin
    assert open_named(path, seed=1).splits == corpus.splits
    assert open_corpus(data, seed=2).splits["validation"].texts != validation.texts
    assert open_corpus(data, VALIDATION, seed=1).splits == {"validation": validation}
    assert open_corpus(data, TRAIN, seed=1).splits == {"train": train}
    refuses(DataConfig(train_file=write("b.csv", "text,label\na,x\nb,x\nc,y\n")), BOTH, "b.csv", "one text only is y")


def test_texts_in_training_and_validation_are_counted_and_a_draw_keeps_equal_ones_together(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    train = write("a.csv", "text,label\nx,a\ny,b\nz,b\n")
    validation = write("b.csv", "text,label\nX ,a\nz,b\nnew,a\n")
    open_corpus(DataConfig(train_file=train, validation_file=validation))
    assert "2 validation texts" in caplog.text
    caplog.clear()
    lines = [f"text {row % 20}{' ' * (row // 20)},{'ab'[row % 2]}\n" for row in range(100)]
    for seed in range(5):
        splits = open_corpus(DataConfig(train_file=write("c.csv", f"text,label\n{''.join(lines)}")), seed=seed).splits
        kept, drawn = ({text.strip() for text in split.texts} for split in splits.values())
        assert not kept & drawn and len(drawn) == 2 and len(splits["validation"].texts) == 10
    assert "overlap" not in caplog.text


def test_a_validation_file_is_read_with_the_train_file_whose_labels_count(write: Write) -> None:
    train, validation = write("a.csv", "text,label\na,x\nb,y\n"), write("b.tsv", "review\tclass\nc\ty\n")
    data = DataConfig(train_file=train, validation_file=validation)
    splits = {"train": TextSplit(["a", "b"], [0, 1], "a.csv"), "validation": TextSplit(["c"], [1], "b.tsv")}
    assert open_corpus(data).splits == splits
    write("b.tsv", "review\tclass\nc\ty\nd\tz\n")
    for names in (BOTH, VALIDATION):
        refuses(data, names, f"{validation}:3: label 'z' is none of x, y")


def test_holdout_takes_the_validation_rows_from_the_training_split(tmp_path: Path, write: Write) -> None:
    folder = write_folder(tmp_path / "c", train=[row % 2 for row in range(20)], validation=[0, 1], test=[1])
    of_folder = DataConfig(dataset=str(folder), holdout=0.25)
    for data in (of_folder, DataConfig(train_file=write("a.csv", rows(20)), holdout=0.25)):
        corpus = open_corpus(data, seed=3)
        train, validation = corpus.splits["train"], corpus.splits["validation"]
        assert (len(train.texts), len(validation.texts)) == (15, 5) and not set(train.texts) & set(validation.texts)
        assert "held-out" in validation.origin
        assert open_corpus(data, VALIDATION, seed=3).splits["validation"] == validation
        refuses(replace(data, holdout=0.01), BOTH, "0.01")
    assert open_corpus(of_folder, TEST).splits["test"].texts == ["test 0"]


@pytest.mark.parametrize(
    ("names", "first"),
    [(("0", "1"), 0), (("Negative", "POSITIVE"), 0), (("pos", "neg"), 1)],
)
def test_labels_of_sentiment_are_negative_and_positive_in_this_order_or_in_that_of_a_model(
    tmp_path: Path, write: Write, names: tuple[str, str], first: int
) -> None:
    declared = write_folder(tmp_path / "c", list(names), train=[0, 1, 1])
    for source in (declared, write("a.csv", rows(3, lambda row: names[min(row, 1)]))):
        corpus = open_named(source, TRAIN)
        assert corpus.label_names == SENTIMENT_LABELS
        assert corpus.splits["train"].labels == [first, 1 - first, 1 - first]
    if names != ("0", "1"):  # a model of sentiment reads every spelling of it
        read = open_named(write("a.csv", "text,label\na,0\nb,Positive\nc,neg\n"), VALIDATION, label_names=names)
        assert read.label_names == names and read.splits["validation"].labels == [first, 1 - first, first]
    unnamed = ("LABEL_0", "LABEL_1")  # by a model of two classes, which the data names
    read = open_named(write("b.csv", "text,label\na,0\nb,Positive\nc,LABEL_0\n"), VALIDATION, label_names=unnamed)
    assert read.splits["validation"].labels == [0, 1, 0]


def test_declared_classes_keep_their_order_and_others_are_sorted(tmp_path: Path, write: Write) -> None:
    declared = open_named(write_folder(tmp_path / "a", ["world", "art", "sport"], train=[0, 2]), TRAIN)
    assert declared.label_names == ("world", "art", "sport") and declared.splits["train"].labels == [0, 2]
    assert open_named(write_folder(tmp_path / "n", train=[10, 1, 2]), TRAIN).label_names == ("1", "2", "10")
    folder = write_folder(tmp_path / "c", train=["a", "b", "c"], validation=["c", "b"])
    corpus = open_named(folder, ("validation", "train"))  # training decides, in whatever order they are asked for
    assert corpus.label_names == ("a", "b", "c") and corpus.splits["validation"].labels == [2, 1]
    path = write("a.csv", "text,label\na,art\nb,Art\n")
    refuses(path, VALIDATION, f"{path}:3: label 'Art' is none of art, world", label_names=("art", "world"))
    path = write("a.csv", rows(30, lambda _: 1))
    refuses(path, TRAIN, "a.csv: all labels are the same")  # but one may evaluate on them
    assert set(open_named(path, VALIDATION).splits["validation"].labels) == {1}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["007", "NA"], ("007", "NA")),
        ([3, "21"], ("3", "21")),
        ([True, False], ("false", "true")),
        ([-1, "1"], ("-1", "1")),
        ([0, 1.0, "0.0", 2], ("0", "1", "2")),
        ([True, "TRUE", "no"], ("no", "true")),
        (["a", 1.5], "1.5"),
        (["a", ["b"]], "['b']"),
        (["a", "\udfff"], "surrogate"),
        *((["a", missing], "no label") for missing in (" ", None, float("nan"))),
    ],
)
def test_labels_become_text_or_are_refused(cells: list[object], expected: tuple[str, ...] | str, write: Write) -> None:
    path = write("a.jsonl", "".join(json.dumps({"text": "NA", "label": cell}) + "\n" for cell in cells))
    if isinstance(expected, tuple):
        assert open_named(path, TRAIN).label_names == expected
    else:
        refuses(path, TRAIN, f"{path}:2: ", expected)


def test_labels_that_differ_by_case_or_blanks_only_are_classes_of_their_own_and_said(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write("a.csv", "text,label\nx,Spam\ny,spam \nz,ham\n")
    assert open_named(path, TRAIN).label_names == ("Spam", "ham", "spam ") and "'Spam', 'spam '" in caplog.text


def test_columns_are_named_or_usual_and_others_are_ignored(write: Write) -> None:
    assert train_of(write("a.csv", "id,review,sentiment\n1,a,0\n2,b,1\n")).texts == ["a", "b"]
    path = write("b.csv", "text,body,label,stars\na,A,0,x\nb,B,1,y\n")
    assert train_of(path, text_column="body", label_column="stars") == TextSplit(["A", "B"], [0, 1], "b.csv")
    for header, option in (("body,label", "--text-column"), ("text,stars", "--label-column")):
        refuses(write("c.csv", f"{header}\na,b\n"), TRAIN, "c.csv", *header.split(","), option)
    refuses(DataConfig(dataset=str(path), text_pair_column="pair"), TRAIN, "no column pair", "--text-pair-column")


@pytest.mark.parametrize("holdout", [0.0, 0.25])
def test_second_texts_stay_with_their_first_through_every_draw(write: Write, holdout: float) -> None:
    data = DataConfig(train_file=write("a.csv", rows(40)), text_pair_column="second", holdout=holdout)
    splits = open_corpus(data, seed=3).splits.values()
    assert sum(len(split.texts) for split in splits) == 40
    for split in (*splits, *(split.select([1, 0], "drawn") for split in splits)):
        assert split.pairs == [text.replace("text", "second") for text in split.texts]


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ('"text": "c", "second": " "', "empty text"),
        ('"text": " ", "second": "d"', "empty text"),
        ('"text": "c"', "'second'"),
    ],
)
def test_a_first_or_second_text_that_is_none_is_refused_with_its_line(write: Write, cells: str, problem: str) -> None:
    path = write("c/train.jsonl", f'{{"text": "a", "second": "b", "label": 1}}\n{{{cells}, "label": 0}}\n')
    refuses(DataConfig(dataset=str(path), text_pair_column="second"), TRAIN, f"{path}:2", problem)
    refuses(DataConfig(dataset=str(path.parent), text_pair_column="second"), TRAIN, "c, split train, row 2", problem)


def test_lists_become_a_corpus_with_its_own_validation_texts_or_a_tenth() -> None:
    splits = corpus_of_lists(list("abcdef"), list("xyxyxy")).splits
    assert [len(splits[split].texts) for split in ("train", "validation")] == [4, 2]
    assert not set(splits["train"].texts) & set(splits["validation"].texts)
    with pytest.raises(DataError, match="one text only is a"):
        corpus_of_lists(["x", "y", "z"], ["b", "a", "b"])
    with pytest.raises(DataError, match="text 1: label 'c'"):
        corpus_of_lists(["x", "y"], ["b", "a"], (["v"], ["c"]))
    corpus = corpus_of_lists(["x", "y", "z"], ["b", "a", "b"], HELD_OUT)
    expected = {"train": (["x", "y", "z"], [1, 0, 1]), "validation": (["v"], [0])}
    assert (corpus.name, corpus.label_names) == ("lists", ("a", "b"))
    assert {name: (split.texts, split.labels) for name, split in corpus.splits.items()} == expected
    skipping = corpus_of_lists(["x", " ", "z"], ["b", "a", "a"], HELD_OUT, data=DataConfig(skip_bad_rows=True))
    assert skipping.splits["train"].texts == ["x", "z"]
    pandas = pytest.importorskip("pandas")
    shuffled = pandas.Series(["z", "x", "y"], index=[2, 0, 1])
    assert corpus_of_lists(shuffled, iter("bba"), HELD_OUT).splits["train"].texts == ["z", "x", "y"]


def test_texts_to_calibrate_on_are_whole_phrases_taken_from_the_training_texts_alone(write: Write) -> None:
    texts = [f"w{row} is {'a fine' if row % 2 else 'a dull'} film" for row in range(40)]
    texts += [text.rpartition(" ")[0].upper() for text in texts]  # phrases of them, in other letters
    rows = "".join(f'{{"text": "{text}", "label": {row % 2}}}\n' for row, text in enumerate(texts))
    validation = write("v.jsonl", rows[: rows.index("w5")].rpartition("\n")[0])
    data = DataConfig(train_file=write("t.jsonl", rows), validation_file=validation, calibration=0.25)
    splits = open_corpus(data).splits
    assert [len(split.texts) for split in splits.values()] == [60, 5, 10]
    assert open_corpus(replace(data, calibration=0.0)).splits["validation"] == splits["validation"]
    trained = {text.split()[0].lower() for text in splits["train"].texts}
    assert not trained & {text.split()[0].lower() for text in splits["calibration"].texts}
    assert set(open_corpus(data, ("validation",)).splits) == {"validation"}
    held_out = (texts[:2], [0, 1])
    lists = corpus_of_lists(texts, [row % 2 for row in range(80)], held_out, data=DataConfig(calibration=0.25))
    assert lists.splits["calibration"].texts == splits["calibration"].texts
    refuses(replace(data, calibration=0.001), TRAIN, "0.001")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1], ("negative", "positive")),
        (torch.tensor([0, 1]), ("negative", "positive")),
        (np.array([0.0, 1.0]), ("negative", "positive")),
        (np.array([2, 10]), ("2", "10")),
        (np.array(["a", "b"]), ("a", "b")),
        ([False, np.True_], ("false", "true")),  # as in JSON
    ],
)
def test_labels_of_numpy_and_torch_are_names_and_whole_numbers(labels: Any, names: tuple[str, ...]) -> None:
    corpus = corpus_of_lists(["x", "y"], labels, (["v"], [labels[0]]))
    assert (corpus.label_names, corpus.splits["train"].labels) == (names, [0, 1])


@pytest.mark.parametrize(
    ("texts", "labels", "fact"),
    [
        ([], [], "two classes"),
        (["x", "y"], ["a"], "2 texts and 1 labels"),
        (["x", " "], ["a", "b"], "text 2: empty text"),
        (["x", "y"], ["a", ""], "text 2: no label"),
        (["x", "y"], ["a", "a"], "two classes"),
        (["x", None], ["a", "b"], "text 2: None"),
        (["x", "y"], ["a", None], "text 2: no label"),
        (["x", "y"], [0, math.nan], "text 2: no label"),
        (["x", "y"], [0, math.inf], "text 2: .*inf"),
        (["x", "y"], ["a", torch.tensor(0.5)], r"text 2.*0\.5"),
        (["x", "y"], [["a"], "b"], r"text 1.*\['a'\]"),
        (["x", "y"], [[1, 0, 0], [0, 1, 1]], r"text 1.*\[1, 0, 0\].*each once"),
        (["x", "y"], [["a"], ["b", None]], r"text 2: .*\['b', None\]"),
        (["x", "y"], np.eye(2), "table"),
    ],
)
def test_lists_that_teach_nothing_are_refused(texts: list[str], labels: list[Any], fact: str) -> None:
    with pytest.raises(DataError, match=fact):
        corpus_of_lists(texts, labels, HELD_OUT)
