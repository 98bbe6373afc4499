import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.data import hub, sources
from src.data.sources import Corpus, TextSplit, corpus_of_lists, open_corpus
from src.utils.config import SAMPLE, SENTIMENT_LABELS, SST2, DataConfig
from src.utils.errors import DataError

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the network, the user's cache or the user's SST-2."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("SST2_DIR", raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    return write


@pytest.fixture
def sample(write: Write, monkeypatch: pytest.MonkeyPatch) -> Path:
    write("bundled/train.jsonl", '{"sentence": "bad", "label": 0}\n{"sentence": "good", "label": 1}\n')
    path = write("bundled/validation.jsonl", '{"sentence": "fine", "label": 1}\n').parent
    monkeypatch.setattr(sources, "SAMPLE_DIR", path)
    return path


def rows(count: int, label: Callable[[int], object] = lambda row: row % 2) -> str:
    return "text,label\n" + "".join(f"text {row},{label(row)}\n" for row in range(count))


def write_folder(folder: Path, class_names: list[str] | None = None, **splits: list[Any]) -> Path:
    import datasets

    kind = datasets.ClassLabel(names=class_names) if class_names else None
    for split, labels in splits.items():
        rows = datasets.Dataset.from_dict({"text": [f"{split} {i}" for i in range(len(labels))], "label": labels})
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        (rows.cast_column("label", kind) if kind else rows).to_parquet(path)
    return folder


def open_named(source: object, *args: Any, **kwargs: Any) -> Corpus:
    return open_corpus(DataConfig(dataset=str(source)), *args, **kwargs)


def refusal(data: DataConfig, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_corpus(data, *args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Which source


def test_the_bundled_sample_is_read_by_name(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = open_named(SAMPLE)
    assert corpus == Corpus(
        "sample",
        SENTIMENT_LABELS,
        {
            "train": TextSplit(["bad", "good"], [0, 1], "sample, split train"),
            "validation": TextSplit(["fine"], [1], "sample, split validation"),
        },
        DataConfig(dataset=SAMPLE),
    )
    assert corpus.is_sample and not corpus.is_fallback
    assert capsys.readouterr().err == ""


def test_the_sample_that_is_shipped_opens() -> None:
    corpus = open_named(SAMPLE)
    assert all(set(split.labels) == {0, 1} for split in corpus.splits.values())


def test_the_sample_has_no_other_split(sample: Path) -> None:
    assert "sample has no split test; it has train, validation" in refusal(DataConfig(dataset=SAMPLE), ("test",))


def test_with_nothing_named_and_no_hub_the_sample_stands_in_behind_a_banner(
    sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = open_corpus(DataConfig())
    assert corpus.is_sample and corpus.is_fallback
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and "THIS IS NOT SST-2" in err
    assert len(lines) >= 5 and {len(line) for line in lines} == {80} and lines[0] == lines[-1] == "#" * 80
    for tried in ("SST2_DIR", "http://127.0.0.1:9 does not", "stanfordnlp/sst2", "--dataset"):
        assert tried in err


def test_with_nothing_named_the_hub_is_asked_for_sst2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    folder = write_folder(tmp_path / "corpus", ["negative", "positive"], train=[0, 1], validation=[1])

    def load(dataset_id: str) -> dict[str, Any]:
        asked.append(dataset_id)
        return hub.load_folder(folder)

    monkeypatch.setattr(hub, "load_hub", load)
    corpus = open_corpus(DataConfig())
    assert asked == [SST2] == [corpus.name] and not corpus.is_fallback
    assert corpus.source == DataConfig(dataset=SST2)
    assert open_named("owner/name").source == DataConfig(dataset="owner/name")
    assert corpus.splits["validation"].origin == "stanfordnlp/sst2, split validation"


def test_sst2_dir_wins_over_the_hub_and_loses_to_a_named_source(
    tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "mine", ["negative", "positive"], train=[0, 1], validation=[1])
    monkeypatch.setenv("SST2_DIR", str(folder))
    assert open_corpus(DataConfig()).name == "mine"
    assert open_named(SAMPLE).is_sample


def test_an_sst2_dir_that_does_not_work_is_an_error_and_no_reason_for_the_sample(
    tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SST2_DIR", str(tmp_path / "gone"))
    assert "gone is no folder" in refusal(DataConfig())
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("SST2_DIR", str(tmp_path / "empty"))
    assert "cannot load" in refusal(DataConfig())


@pytest.mark.parametrize(
    "source, fragment",
    [
        (SST2, "does not answer and stanfordnlp/sst2 is not cached here; check the network"),
        ("reviews.csv", "'reviews.csv' does not exist"),
        ("./stanfordnlp/sst2", "'./stanfordnlp/sst2' does not exist"),
        ("", "'' does not exist"),
    ],
)
def test_a_named_source_never_falls_back(sample: Path, source: str, fragment: str) -> None:
    assert fragment in refusal(DataConfig(dataset=source))


def test_a_folder_named_sample_is_not_the_sample(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample", train=["a", "b"], validation=["a"])
    assert not open_named(folder).is_sample


def test_a_missing_train_file_is_an_error(tmp_path: Path) -> None:
    assert "cannot read" in refusal(DataConfig(train_file=tmp_path / "gone.csv"))


# Which splits


def test_only_the_named_splits_of_a_folder_are_loaded(tmp_path: Path) -> None:
    # The training split could not be loaded: its labels are missing.
    folder = write_folder(tmp_path / "c", ["negative", "positive"], train=[-1, -1], validation=[0, 1, 1])
    assert {name: split.labels for name, split in open_named(folder, ("validation",)).splits.items()} == {
        "validation": [0, 1, 1]
    }


def test_the_labelled_test_split_is_the_validation_split_where_there_is_none(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "imdb", ["neg", "pos"], train=[0, 1], test=[1, 0, 1])
    validation = open_named(folder).splits["validation"]
    assert validation == TextSplit(
        ["test 0", "test 1", "test 2"], [1, 0, 1], "imdb, split test (it has no validation split)"
    )


def test_an_unknown_split_is_refused_with_those_there_are(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "c", ["neg", "pos"], train=[0, 1], validation=[1])
    assert "c has no split dev with rows in it; it has train, validation" in refusal(
        DataConfig(dataset=str(folder)), ("dev",)
    )


def test_a_split_without_labels_is_refused_unless_allowed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "c", ["neg", "pos"], train=[0, 1], test=[-1, -1])
    data = DataConfig(dataset=str(folder))
    message = refusal(data, ("test",))
    assert "c, split test has no labels" in message and "--file" in message
    assert open_corpus(data, ("test",), allow_unlabelled=True).splits["test"].labels == [-1, -1]


def test_a_column_of_labels_may_be_lacking_only_where_that_is_allowed(write: Write) -> None:
    data = DataConfig(dataset=str(write("a.csv", "text\na\nb\n")))
    assert "no column label or labels or sentiment or class; name one of text" in refusal(data, ("train",))
    corpus = open_corpus(data, ("train",), allow_unlabelled=True)
    assert corpus.splits["train"] == TextSplit(["a", "b"], [-1, -1], "a.csv") and corpus.label_names == ()
    named = DataConfig(dataset=str(write("b.csv", "text,stars\na,x\nb,y\n")), label_column="stars")
    assert open_corpus(named, ("train",), allow_unlabelled=True).splits["train"].labels == [0, 1]


def test_one_split_of_a_single_file_is_the_whole_file(write: Write) -> None:
    path = write("reviews.csv", rows(30))
    for split in ("train", "validation", "test"):
        loaded = open_named(path, (split,)).splits
        assert list(loaded) == [split] and len(loaded[split].texts) == 30 and loaded[split].origin == "reviews.csv"


def test_a_single_file_has_no_third_split(write: Write) -> None:
    data = DataConfig(dataset=str(write("reviews.csv", rows(30))))
    assert "reviews.csv has no split test" in refusal(data, ("train", "test"))


@pytest.mark.parametrize("option", ["dataset", "train_file"])
def test_the_validation_rows_of_a_single_file_are_a_seeded_tenth_of_each_class(write: Write, option: str) -> None:
    path = write("reviews.csv", rows(103, lambda row: "rare" if row < 3 else "common"))
    data = DataConfig(dataset=str(path)) if option == "dataset" else DataConfig(train_file=path)
    corpus = open_corpus(data, seed=1)
    train, validation = corpus.splits["train"], corpus.splits["validation"]
    assert corpus.label_names == ("common", "rare") and corpus.name == "reviews.csv"
    assert sorted(validation.labels) == [0] * 10 + [1] and len(train.texts) == 92
    assert sorted(train.texts + validation.texts) == sorted(f"text {row}" for row in range(103))
    assert "reviews.csv" in validation.origin and "stratified tenth" in validation.origin
    assert open_corpus(data, seed=1) == corpus
    assert open_corpus(data, seed=2).splits["validation"].texts != validation.texts


def test_the_rows_keep_their_labels_through_the_draw(write: Write) -> None:
    corpus = open_corpus(DataConfig(train_file=write("a.csv", rows(60, lambda row: row % 3))))
    for split in corpus.splits.values():
        assert [int(text.split()[1]) % 3 for text in split.texts] == split.labels


def test_the_validation_rows_of_a_train_file_are_the_same_when_asked_for_alone(write: Write) -> None:
    data = DataConfig(train_file=write("reviews.csv", rows(40)))
    both = open_corpus(data)
    for split in ("train", "validation"):
        assert open_corpus(data, (split,)).splits[split] == both.splits[split]


def test_a_class_of_one_row_cannot_be_divided(write: Write) -> None:
    data = DataConfig(train_file=write("a.csv", "text,label\na,x\nb,x\nc,y\n"))
    assert "a.csv: one row only is labelled y" in refusal(data)


def test_a_validation_file_is_read_beside_the_train_file(write: Write) -> None:
    train, validation = write("a.csv", "text,label\na,x\nb,y\n"), write("b.tsv", "review\tclass\nc\ty\n")
    corpus = open_corpus(DataConfig(train_file=train, validation_file=validation))
    assert corpus.name == "a.csv"
    assert corpus.splits["train"] == TextSplit(["a", "b"], [0, 1], "a.csv")
    assert corpus.splits["validation"] == TextSplit(["c"], [1], "b.tsv")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_holdout_takes_the_validation_rows_from_the_training_split(tmp_path: Path, write: Write, kind: str) -> None:
    if kind == "file":
        data = DataConfig(train_file=write("a.csv", rows(20)), holdout=0.25)
    else:
        labels = [row % 2 for row in range(20)]
        folder = write_folder(tmp_path / "c", train=labels, validation=[0, 1], test=[1])
        data = DataConfig(dataset=str(folder), holdout=0.25)
    corpus = open_corpus(data, seed=3)
    train, validation = corpus.splits["train"], corpus.splits["validation"]
    assert (len(train.texts), len(validation.texts)) == (15, 5) and not set(train.texts) & set(validation.texts)
    assert "held-out" in validation.origin
    assert open_corpus(data, ("validation",), seed=3).splits["validation"] == validation
    if kind == "folder":
        assert open_corpus(data, ("test",)).splits["test"].texts == ["test 0"]


def test_a_holdout_of_no_row_is_refused(write: Write) -> None:
    assert "holdout = 0.01" in refusal(DataConfig(train_file=write("a.csv", rows(20)), holdout=0.01))


# Labels


@pytest.mark.parametrize("labels", [("0", "1"), ("Negative", "POSITIVE"), ("neg", "pos")])
def test_sentiment_labels_of_a_file_are_negative_and_positive(write: Write, labels: tuple[str, str]) -> None:
    corpus = open_named(write("a.csv", rows(4, lambda row: labels[row % 2])), ("train",))
    assert corpus.label_names == SENTIMENT_LABELS and corpus.splits["train"].labels == [0, 1, 0, 1]


@pytest.mark.parametrize("class_names", [["neg", "pos"], ["positive", "negative"], ["0", "1"]])
def test_sentiment_classes_of_a_folder_are_put_in_one_order(tmp_path: Path, class_names: list[str]) -> None:
    corpus = open_named(write_folder(tmp_path / "c", class_names, train=[0, 1, 1]), ("train",))
    assert corpus.label_names == SENTIMENT_LABELS
    assert corpus.splits["train"].labels == ([1, 0, 0] if class_names[0] == "positive" else [0, 1, 1])


def test_declared_classes_keep_their_order_and_others_are_sorted(tmp_path: Path) -> None:
    declared = open_named(write_folder(tmp_path / "a", ["world", "art", "sport"], train=[0, 2]), ("train",))
    assert declared.label_names == ("world", "art", "sport") and declared.splits["train"].labels == [0, 2]
    found = open_named(write_folder(tmp_path / "b", train=["world", "art"]), ("train",))
    assert found.label_names == ("art", "world") and found.splits["train"].labels == [1, 0]
    numbers = open_named(write_folder(tmp_path / "n", train=[10, 1, 2]), ("train",))
    assert numbers.label_names == ("1", "2", "10") and numbers.splits["train"].labels == [2, 0, 1]


def test_the_training_split_decides_the_labels_in_whatever_order_splits_are_asked_for(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "c", train=["a", "b", "c"], validation=["c", "b"])
    corpus = open_named(folder, ("validation", "train"))
    assert corpus.label_names == ("a", "b", "c") and corpus.splits["validation"].labels == [2, 1]


def test_labels_of_a_file_stay_text(write: Write) -> None:
    corpus = open_named(write("a.csv", "text,label\nnull,NA\nb,007\n"), ("train",))
    assert corpus.label_names == ("007", "NA") and corpus.splits["train"] == TextSplit(["null", "b"], [1, 0], "a.csv")


@pytest.mark.parametrize("model_names", [("negative", "positive"), ("POSITIVE", "NEGATIVE"), ("pos", "neg")])
def test_a_model_of_sentiment_reads_every_spelling_of_it(write: Write, model_names: tuple[str, str]) -> None:
    path = write("a.csv", "text,label\na,0\nb,Positive\nc,neg\n")
    corpus = open_named(path, ("validation",), label_names=model_names)
    flipped = model_names[0].lower().startswith("pos")
    assert corpus.label_names == model_names
    assert corpus.splits["validation"].labels == ([1, 0, 1] if flipped else [0, 1, 0])


def test_a_label_the_model_does_not_know_is_refused_with_its_line(write: Write) -> None:
    path = write("a.csv", "text,label\na,art\nb,Art\n")
    message = refusal(DataConfig(dataset=str(path)), ("validation",), label_names=("art", "world"))
    assert f"{path}:3: label 'Art' is none of art, world" in message


def test_a_label_of_the_validation_file_that_training_never_saw_is_refused(write: Write) -> None:
    train, validation = write("a.csv", "text,label\na,x\nb,y\n"), write("b.csv", "text,label\na,x\nb,z\n")
    data = DataConfig(train_file=train, validation_file=validation)
    assert f"{validation}:3: label 'z' is none of x, y" in refusal(data)
    assert "label 'z'" in refusal(data, ("validation",))


@pytest.mark.parametrize("label", ["-1", "", " "])
def test_a_row_without_label_is_refused_with_its_line(write: Write, label: str) -> None:
    path = write("a.csv", f"text,label\na,0\nb,{label}\nc,1\n")
    assert f"{path}:3: no label" in refusal(DataConfig(dataset=str(path)), ("train",))
    assert f"{path}:3: no label" in refusal(DataConfig(dataset=str(path)), ("train",), allow_unlabelled=True)


def test_a_file_without_any_label_is_refused_with_its_line(write: Write) -> None:
    path = write("a.csv", rows(3, lambda _: -1))
    assert f"a.csv has no labels (first at {path}:2)" in refusal(DataConfig(dataset=str(path)), ("train",))


def test_training_on_one_class_is_refused_and_evaluating_on_it_is_not(write: Write) -> None:
    path = write("a.csv", rows(30, lambda _: 1))
    assert "a.csv: all labels are the same" in refusal(DataConfig(dataset=str(path)), ("train",))
    assert set(open_named(path, ("validation",)).splits["validation"].labels) == {1}


# Columns and rows


def test_columns_are_named_or_usual_and_others_are_ignored(write: Write) -> None:
    usual = open_named(write("a.csv", "id,review,sentiment\n1,a,0\n2,b,1\n"), ("train",))
    assert usual.splits["train"].texts == ["a", "b"]
    path = write("b.csv", "text,body,label,stars\na,A,0,x\nb,B,1,y\n")
    named = open_corpus(DataConfig(dataset=str(path), text_column="body", label_column="stars"), ("train",))
    assert named.splits["train"].texts == ["A", "B"] and named.label_names == ("x", "y")


@pytest.mark.parametrize(
    "header, fragment",
    [
        ("body,label", "a.csv: no column sentence or text or review or content; name one of body, label with --text"),
        ("text,stars", "a.csv: no column label or labels or sentiment or class; name one of text, stars with --label"),
        ("text,review,label", "a.csv: several columns could be meant; name one of text, review, label with --text"),
        ("text,label,class", "a.csv: several columns could be meant; name one of text, label, class with --label"),
    ],
)
def test_columns_that_are_not_clear_are_refused(write: Write, header: str, fragment: str) -> None:
    path = write("a.csv", f"{header}\n" + ",".join(header.split(",")) + "\n")
    assert fragment in refusal(DataConfig(dataset=str(path)), ("train",))


def test_an_empty_text_is_refused_with_its_place(tmp_path: Path, write: Write) -> None:
    path = write("a.jsonl", '{"text": "a", "label": 1}\n{"text": " ", "label": 0}\n')
    assert f"{path}:2: empty text" in refusal(DataConfig(dataset=str(path)), ("train",))
    import datasets

    (tmp_path / "c").mkdir()
    datasets.Dataset.from_dict({"text": ["a", ""], "label": ["x", "y"]}).to_parquet(tmp_path / "c" / "train.parquet")
    message = refusal(DataConfig(dataset=str(tmp_path / "c")), ("train",))
    assert "c, split train, row 2: empty text" in message


def test_a_json_line_without_the_column_is_refused_with_its_line(write: Write) -> None:
    path = write("a.jsonl", '{"text": "a", "label": 1}\n{"sentence": "b", "label": 0}\n')
    assert f"{path}:2: no 'text'" in refusal(DataConfig(dataset=str(path)), ("train",))


# Pairs of texts

TWO_TEXTS = "text,second,label\n" + "".join(f"text {row},second {row},{row % 2}\n" for row in range(40))


def test_second_texts_are_read_from_the_column_that_is_named(write: Write) -> None:
    path = write("a.csv", "text,other,label\na,A,0\nb,B,1\n")
    assert open_named(path, ("train",)).splits["train"].pairs is None
    named = open_corpus(DataConfig(dataset=str(path), text_pair_column="other"), ("train",))
    assert named.splits["train"] == TextSplit(["a", "b"], [0, 1], "a.csv", ["A", "B"])
    assert named.source.text_pair_column == "other"


@pytest.mark.parametrize("holdout", [0.0, 0.25])
def test_second_texts_stay_with_their_first_through_every_draw(write: Write, holdout: float) -> None:
    data = DataConfig(train_file=write("a.csv", TWO_TEXTS), text_pair_column="second", holdout=holdout)
    splits = open_corpus(data, seed=3).splits.values()
    assert sum(len(split.texts) for split in splits) == 40
    for split in splits:
        assert split.pairs == [text.replace("text", "second") for text in split.texts]
        drawn = split.select([1, 0], "drawn")
        assert drawn.pairs == [text.replace("text", "second") for text in drawn.texts]


def test_second_texts_of_a_folder_are_read(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"premise": ["a", "b"], "claim": ["c", "d"], "label": ["x", "y"]})
    rows.to_parquet(tmp_path / "train.parquet")
    data = DataConfig(dataset=str(tmp_path), text_column="premise", text_pair_column="claim")
    assert open_corpus(data, ("train",)).splits["train"].pairs == ["c", "d"]


def test_a_column_of_second_texts_that_is_not_there_is_refused(write: Write) -> None:
    data = DataConfig(dataset=str(write("a.csv", rows(4))), text_pair_column="second")
    assert "a.csv: no column second; name one of text, label with --text-pair-column" in refusal(data, ("train",))


@pytest.mark.parametrize("cell, problem", [('""', "empty text"), ('" "', "empty text"), ("null", "None"), ("7", "7")])
def test_a_second_text_that_is_none_is_refused_with_its_line(write: Write, cell: str, problem: str) -> None:
    path = write("a.jsonl", '{"text": "a", "second": "b", "label": 1}\n{"text": "c", "second": CELL, "label": 0}\n')
    path.write_text(path.read_text().replace("CELL", cell))
    message = refusal(DataConfig(dataset=str(path), text_pair_column="second"), ("train",))
    assert f"{path}:2, second: " in message and problem in message


def test_a_row_without_second_text_is_refused_with_its_line(write: Write) -> None:
    path = write("a.jsonl", '{"text": "a", "second": "b", "label": 1}\n{"text": "c", "label": 0}\n')
    data = DataConfig(dataset=str(path), text_pair_column="second")
    assert f"{path}:2: no 'second'" in refusal(data, ("train",))


# The real thing

REAL = os.environ.get("SST2_DIR")


@pytest.mark.skipif(not REAL, reason="needs the environment variable SST2_DIR: a folder with SST-2")
def test_sst2_has_its_known_size_and_balance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SST2_DIR", str(REAL))
    corpus = open_corpus(DataConfig())
    train, validation = corpus.splits["train"], corpus.splits["validation"]
    assert (len(train.texts), len(validation.texts)) == (67_349, 872) and corpus.label_names == SENTIMENT_LABELS
    assert (sum(train.labels), sum(validation.labels)) == (37_569, 444)
    assert "split test has no labels" in refusal(DataConfig(), ("test",))


# Python lists


def test_lists_become_a_corpus_that_validates_on_itself() -> None:
    corpus = corpus_of_lists(["x", "y", "z"], ["b", "a", "b"])
    train = corpus.splits["train"]
    assert (corpus.name, corpus.label_names, corpus.is_fallback) == ("lists", ("a", "b"), False)
    assert (train.texts, train.labels, train.pairs) == (["x", "y", "z"], [1, 0, 1], None)
    assert train.origin == "the training texts themselves"
    assert corpus.splits == {"train": train, "validation": train}
    assert corpus.source == DataConfig()


@pytest.mark.parametrize("labels", [[0, 1], ["0", "1"], ["negative", "positive"]])
def test_lists_of_zeros_and_ones_are_sentiment(labels: list[str | int]) -> None:
    corpus = corpus_of_lists(["x", "y"], labels)
    assert (corpus.label_names, corpus.splits["train"].labels) == (("negative", "positive"), [0, 1])


@pytest.mark.parametrize(
    "texts, labels, message",
    [
        (["x", "y"], ["a"], "2 texts and 1 labels; give one label for each text"),
        (["x", " "], ["a", "b"], "text 2: empty text; remove the row"),
        (["x", "y"], ["a", ""], "text 2: no label; give the row one of a"),
        (["x", "y"], ["a", "\ud800"], "text 2: NUL or half a surrogate pair in the label; remove it"),
        (["x", "y"], ["a", "a"], "all labels are the same; give texts of at least two classes"),
        (["x", "y"], [0, 0], "all labels are the same; give texts of at least two classes"),
    ],
)
def test_lists_that_teach_nothing_are_refused(texts: list[str], labels: list[str | int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        corpus_of_lists(texts, labels)
    assert str(caught.value) == message


# The same corpus again


def test_a_corpus_names_itself_wherever_the_program_runs_next(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "text,label\nx,a\ny,b\nx,a\ny,b\n"
    train, validation = write("train.csv", rows), write("validation.csv", rows)
    monkeypatch.chdir(tmp_path)
    named = DataConfig(train_file=Path(train.name), validation_file=Path(validation.name), label_column="label")
    source = open_corpus(named).source
    assert (source.train_file, source.validation_file) == (train.resolve(), validation.resolve())
    assert (source.label_column, source.dataset) == ("label", None)
    alone = open_corpus(DataConfig(train_file=Path(train.name))).source
    assert (alone.train_file, alone.validation_file) == (train.resolve(), None)
    as_dataset = open_corpus(DataConfig(dataset=train.name)).source
    assert (as_dataset.train_file, as_dataset.dataset) == (train.resolve(), None)


def test_a_folder_names_itself_by_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    (tmp_path / "corpus").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "corpus" / f"{split}.csv").write_text("text,label\nx,a\ny,b\n")
    monkeypatch.chdir(tmp_path)
    assert open_corpus(DataConfig(dataset="corpus")).source == DataConfig(dataset=str(tmp_path / "corpus"))
    monkeypatch.setenv("SST2_DIR", "corpus")
    assert open_corpus(DataConfig()).source == DataConfig(dataset=str(tmp_path / "corpus"))


def test_the_sample_names_itself(sample: Path) -> None:
    assert open_corpus(DataConfig(dataset="sample")).source == DataConfig(dataset="sample")
