import csv
from pathlib import Path

import pytest

from src.evaluation.predictor import Predictor
from src.utils.config import SHIPPED_CHECKPOINT
from src.utils.errors import DataError
from src.web import table
from src.web.limits import CSV_BYTES, CSV_ROWS
from src.web.table import classify_table


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(SHIPPED_CHECKPOINT, "cpu")


def write(folder: Path, content: str, name: str = "texts.csv") -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def test_every_row_comes_back_with_label_and_confidence(predictor: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path, 'id,text\n007,"a charming, ""fine"" film"\nNA,a bore\n3, \n')
    assert classify_table(predictor, path, "", tmp_path / "out.csv") == 0
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        header, fine, bore, blank = csv.reader(stream)
    assert header == ["id", "text", "predicted_label", "confidence"]
    wanted = predictor.predict(['a charming, "fine" film', "a bore"])
    assert fine == ["007", 'a charming, "fine" film', "positive", f"{wanted[0].score:.4f}"]
    assert bore == ["NA", "a bore", "negative", f"{wanted[1].score:.4f}"]
    assert blank == ["3", " ", "", ""]


def test_a_column_is_named_and_columns_of_an_earlier_answer_are_replaced(predictor: Predictor, tmp_path: Path) -> None:
    path = write(tmp_path, "words,confidence\na bore,old\n")
    classify_table(predictor, path, " words ", tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "words,confidence,predicted_label" and "old" not in lines[1]


def test_long_texts_are_cut_and_counted(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "TEXT_CHARACTERS", len("a bore"))
    path = write(tmp_path, "text\na bore\na bore? no! a charming and wonderful film\n")
    assert classify_table(predictor, path, "", tmp_path / "out.csv") == 1
    short, long = (line.split(",")[-2:] for line in (tmp_path / "out.csv").read_text().splitlines()[1:])
    assert short == long and short[0] == "negative"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "text\n" + "film\n" * (CSV_ROWS + 1), "1,001 rows.*1,000"),
        ("x.csv", "text\n" + "f" * CSV_BYTES, "1,000,005 bytes.*1,000,000"),
        ("x.csv", "words\nfilm\n", "text.*words"),
        ("x.csv", "text\nfilm,dull\n", ":2: "),
        ("x.exe", "text\nfilm\n", r"\.csv"),
    ],
)
def test_what_is_no_table_for_this_page_is_a_data_error_that_names_no_path(
    name: str, content: str, message: str, predictor: Predictor, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as error:
        classify_table(predictor, write(tmp_path, content, name), "", tmp_path / "out.csv")
    assert str(tmp_path) not in str(error.value) and not (tmp_path / "out.csv").exists()
