"""A table of texts in, the same table with predictions out."""

import csv
from pathlib import Path

from src.data.readers import TEXT_COLUMNS, Row, choose_column, read_rows
from src.evaluation.predictor import Prediction, Predictor
from src.utils.errors import DataError
from src.web.limits import CSV_BYTES, CSV_ROWS, TEXT_CHARACTERS

LABEL, CONFIDENCE = "predicted_label", "confidence"


def classify_table(predictor: Predictor, path: Path, column: str, output: Path) -> int:
    """Classifies the texts of a CSV file.

    Args:
        predictor: the model.
        path: the CSV, with a header.
        column: name of the column of texts; blank: the one that is usually named so.
        output: CSV to write, with two columns more: the label, and its probability.

    Returns:
        The number of texts that were cut.

    Raises:
        DataError: the file is no CSV, too large, malformed, or has no column of texts.
    """
    rows = _read(path)
    name = choose_column(rows[0].cells, column.strip() or None, TEXT_COLUMNS, "the field beside it", "the table")
    texts = [row.cells[name] for row in rows]
    _write(output, rows, predictor.predict([text[:TEXT_CHARACTERS] for text in texts]))
    return sum(len(text) > TEXT_CHARACTERS for text in texts)


def _read(path: Path) -> list[Row]:
    if path.suffix.lower() != ".csv":
        raise DataError("this is no .csv file; save the table as CSV")
    if (size := path.stat().st_size) > CSV_BYTES:
        raise DataError(f"the file has {size:,} bytes, more than the {CSV_BYTES:,} this page takes; divide it")
    try:
        rows = read_rows(path)
    except DataError as error:
        raise DataError(str(error).replace(str(path), "the table")) from None  # where it lies is the server's business
    if len(rows) > CSV_ROWS:
        raise DataError(f"the table has {len(rows):,} rows, more than the {CSV_ROWS:,} this page takes; divide it")
    return rows


def _write(path: Path, rows: list[Row], predictions: list[Prediction]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(rows[0].cells | {LABEL: None, CONFIDENCE: None})
        for row, prediction in zip(rows, predictions, strict=True):
            score = "" if prediction.score is None else f"{prediction.score:.4f}"
            writer.writerow((row.cells | {LABEL: prediction.label or "", CONFIDENCE: score}).values())
