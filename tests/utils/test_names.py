from pathlib import Path

import pytest

from src.utils.names import local_path, settled_model


def test_a_name_that_is_no_path_stays() -> None:
    for name in ("google-bert/bert-base-uncased", "x" * 300, "~nobody-of-this-name/model", "", "a\0b"):
        assert local_path(name) is None and settled_model(name) == name


def test_a_folder_is_named_by_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("model", "./model", "model/../model", "~/model"):
        assert settled_model(name) == str(tmp_path.resolve() / "model")
    assert local_path("~/file") == tmp_path / "file" and settled_model("file") == "file" and settled_model(None) is None
