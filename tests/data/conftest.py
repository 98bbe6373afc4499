from pathlib import Path
from typing import Any


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
