import io
from pathlib import Path
from typing import Any

from src.data.sources import open_corpus
from src.utils.config import DataConfig


def write_folder(folder: Path, class_names: list[str] | None = None, **splits: list[Any]) -> Path:
    """Writes a corpus in the hub's layout: numbered texts with the labels of each split."""
    import datasets

    kind = datasets.ClassLabel(names=class_names) if class_names else None
    for split, labels in splits.items():
        table = datasets.Dataset.from_dict({"text": [f"{split} {i}" for i in range(len(labels))], "label": labels})
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        (table.cast_column("label", kind) if kind else table).to_parquet(path)
    return folder


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Writes a file, and the folders above it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(columns: dict[str, list[Any]], metadata: dict[str, str] | None = None) -> bytes:
    """Gives the content of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), stream)
    return stream.getvalue()


def opened(path: Path, **options: Any) -> list[tuple[str, str]]:
    """Opens a corpus; returns its validation texts with the names of their labels."""
    corpus = open_corpus(DataConfig(dataset=str(path), **options), ("validation",))
    split = corpus.splits["validation"]
    return [(text, corpus.label_names[label]) for text, label in zip(split.texts, split.labels, strict=True)]
