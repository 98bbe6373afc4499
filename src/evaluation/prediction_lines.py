"""Classifies lines of text in a stream: one line in, one line out, in constant memory."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice, zip_longest
from pathlib import Path
from typing import TextIO

from src.evaluation.predictor import Prediction, Predictor
from src.utils.distributed import rank, world_size
from src.utils.errors import DataError, notice, printable

# Enough lines to find many of equal length, few enough to hold in memory.
LINES_AT_ONCE = 8192
# A file of a million lines would hide what matters behind as many remarks.
REMARKS_OF_A_KIND = 10


def read_lines(path: Path) -> Iterator[str]:
    """Reads texts, one a line.

    Args:
        path: a UTF-8 file; - is standard input.

    Yields:
        The lines without their line ends; a blank line is a text as well.

    Raises:
        DataError: no such file, or a line is not UTF-8.
    """
    try:
        stream = sys.stdin.buffer if str(path) == "-" else path.open("rb")
        with stream:
            for number, line in enumerate(stream, start=1):
                yield _decode(line, path, number)
    except OSError as error:
        raise DataError(f"--file {path} cannot be read ({error.strerror}); name a text file, one text a line") from None


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise DataError(f"{path}:{number}: not UTF-8; save the file as UTF-8") from None


def predict_all(predictor: Predictor, texts: Iterable[str], in_pairs: bool = False) -> Iterator[Prediction]:
    """Classifies any number of texts, and tells on standard error what is odd about some (`Remarks`).

    Args:
        predictor: the model.
        texts: any strings, in a stream.
        in_pairs: each text is two, separated by a tab.

    Yields:
        One prediction a text, in order.

    Raises:
        DataError: a text that should be two holds no tab, or more than one.
    """
    remarks = Remarks(predictor.classifier.seq_len)
    try:
        for before, chunk in _chunks(texts):
            yield from _predict_chunk(predictor, chunk, before, in_pairs, remarks)
    finally:
        remarks.tell_rest()


def write_share(
    predictor: Predictor, texts: Iterable[str], in_pairs: bool, line: Callable[[Prediction], str], path: Path
) -> list[int]:
    """Classifies this process's share of the texts: of n processes, every n-th chunk.

    Args:
        predictor: the model.
        texts: all of them, the same in every process.
        in_pairs: each text is two, separated by a tab.
        line: formats a prediction.
        path: file for the lines, this process's own.

    Returns:
        How many bytes of the file each chunk takes.

    Raises:
        DataError: as `predict_all`.
    """
    sizes: list[int] = []
    remarks = Remarks(predictor.classifier.seq_len)
    with path.open("wb") as stream:
        for number, (before, chunk) in enumerate(_chunks(texts)):
            if number % world_size() == rank():
                predictions = _predict_chunk(predictor, chunk, before, in_pairs, remarks)
                sizes.append(stream.write("".join(f"{line(one)}\n" for one in predictions).encode()))
    remarks.tell_rest()
    return sizes


def join_shares(paths: Sequence[Path], sizes: Sequence[Sequence[int]], stream: TextIO) -> None:
    """Writes what all processes' files hold, a chunk of each in turn, which is the order of the texts.

    Args:
        paths: the files.
        sizes: what `write_share` returned for each.
        stream: where to.
    """
    with ExitStack() as stack:
        shares = [stack.enter_context(path.open("rb")) for path in paths]
        for turn in zip_longest(*sizes, fillvalue=0):
            for share, size in zip(shares, turn, strict=True):
                stream.write(share.read(size).decode())


def _chunks(texts: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Gives the texts in chunks, each with the number of texts before it."""
    before, remaining = 0, iter(texts)
    while chunk := list(islice(remaining, LINES_AT_ONCE)):
        yield before, chunk
        before += len(chunk)


def _predict_chunk(
    predictor: Predictor, chunk: list[str], before: int, in_pairs: bool, remarks: "Remarks"
) -> Iterator[Prediction]:
    pairs = _divided(chunk, before) if in_pairs else None
    predictions = predictor.predict(chunk) if pairs is None else predictor.predict(*pairs)
    for number, prediction in enumerate(predictions, start=before + 1):
        remarks.tell(number, prediction)
        yield prediction


def _divided(texts: list[str], before: int) -> tuple[list[str], list[str]]:
    """Divides texts at their tab; blank ones stay blank."""
    parts = [text.split("\t") if text.strip() else [text, ""] for text in texts]
    for number, both in enumerate(parts, start=before + 1):
        if len(both) != 2:
            raise DataError(f"text {number}: {len(both) - 1} tabs; write two texts with one tab between them")
    return [first for first, _ in parts], [second for _, second in parts]


class Remarks:
    """Tells on standard error what is odd about predictions: the first few of a kind one by one, the rest as a count.

    Args:
        seq_len: the most tokens the model reads.
    """

    def __init__(self, seq_len: int):
        self.seq_len = seq_len
        self.seen: Counter[str] = Counter()

    def tell(self, number: int, prediction: Prediction) -> None:
        """Tells about one text, given its number, unless enough of its kind have been told."""
        if odd := remark(prediction, self.seq_len):
            self.seen[odd] += 1
            if self.seen[odd] <= REMARKS_OF_A_KIND:
                notice(f"text {number}: {odd}", from_all=True)

    def tell_rest(self) -> None:
        """Counts those that were not told."""
        for odd, times in self.seen.items():
            if times > REMARKS_OF_A_KIND:
                notice(f"{times - REMARKS_OF_A_KIND:,} more: {odd}", from_all=True)


def remark(prediction: Prediction, seq_len: int) -> str | None:
    """Says what is odd about a prediction, given the most tokens the model reads; None: nothing is."""
    if prediction.label is None:
        return "blank, no label"
    if prediction.unknown:
        return "the model knows none of its words, the label is a guess"
    if prediction.truncated:
        return f"longer than {seq_len} tokens, not all of it was read"
    return None


def as_json(prediction: Prediction) -> str:
    """Formats a prediction as one line of JSON: text, its pair if there is one, label, score."""
    pair = {} if prediction.pair is None else {"text_pair": prediction.pair}
    return json.dumps({"text": prediction.text} | pair | {"label": prediction.label, "score": prediction.score})


def as_line(prediction: Prediction) -> str:
    """Formats a prediction for people: label, score and text(s) between tabs; control characters are escaped."""
    score = "" if prediction.score is None else f"{prediction.score:.4f}"
    pair = [] if prediction.pair is None else [printable(prediction.pair)]
    return "\t".join([printable(prediction.label or "-"), score, printable(prediction.text), *pair])
