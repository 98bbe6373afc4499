import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.training.tracking import FINISH_TIMEOUT, GRACE, INIT_TIMEOUT, LOG_TIMEOUT, Tracker, _choose_mode, open_tracker
from src.utils.config import REPOSITORY

CONFIG = {
    "learning_rate": 5e-4,
    "model": {"hidden_size": 37, "betas": (0.9, 0.999)},
    "run": {"output_dir": Path("a/b")},
}
LABELS = ["negative", "positive"]
MATRIX = [[13, 2], [3, 17]]
CHART = "wandb/confusion_matrix/v1"
FAKE_KEY = "0123456789" * 4
UNREACHABLE = "http://127.0.0.1:9"

OPEN_AND_LOG = """
import sys
from pathlib import Path
from src.training.tracking import open_tracker

tracker = open_tracker(sys.argv[1], "project", "name", {}, Path(sys.argv[2]), run_id="abcd1234")
tracker.log(1, {"train/loss": 0.5})
tracker.finish()
print(tracker.run_id, "wandb" in sys.modules)
"""


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    # The tracker sets this one itself; set here so that it is taken back after the test.
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[Tracker]:
    opened = open_tracker("offline", "project", "name", CONFIG, tmp_path, run_id="abcd1234")
    yield opened
    import wandb

    wandb.teardown()


def open_in_subprocess(mode: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OPEN_AND_LOG, mode, str(folder)]
    return subprocess.run(
        command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )


def read_run(folder: Path) -> list[Any]:
    # wandb has no public reader of a run that is not uploaded yet. The file is LevelDB's log format: blocks of 32 KiB
    # that hold pieces (checksum, length, type) of protobuf records, type 1 whole, 2 first, 3 middle, 4 last.
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # The background process writes the end of the file after `finish` has returned.
    data = next(folder.glob("wandb/offline-run-*/run-*.wandb")).read_bytes()
    records, position, parts = [], 7, b""
    while position < len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        piece_type, position = data[position + 6], position + 7
        parts += data[position : position + length]
        position += length
        if piece_type in (1, 4):
            records.append(Record.FromString(parts))
            parts = b""
    return records


def history(records: list[Any]) -> list[dict[str, Any]]:
    rows = [record.history.item for record in records if record.HasField("history")]
    return [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in row} for row in rows]


def config(records: list[Any]) -> dict[str, Any]:
    updates = [update for record in records for update in (record.config.update, record.run.config.update)]
    return {"/".join(u.nested_key) or u.key: json.loads(u.value_json) for update in updates for u in update}


def test_offline_run_holds_the_configuration_with_paths_as_text(tracker: Tracker, tmp_path: Path) -> None:
    tracker.finish()
    stored = config(read_run(tmp_path))
    assert stored["learning_rate"] == 5e-4
    assert stored["model"] == {"hidden_size": 37, "betas": [0.9, 0.999]}
    assert stored["run"] == {"output_dir": str(Path("a/b"))}


def test_offline_run_holds_every_step_of_every_curve(tracker: Tracker, tmp_path: Path) -> None:
    logged = [{"train/loss": 1 / (1 + step), "train/learning_rate": 1e-3 * step} for step in range(301)]
    for step, values in enumerate(logged):
        tracker.log(step, values)
    tracker.finish()
    records = read_run(tmp_path)
    curves = [row for row in history(records) if "train/loss" in row]
    assert [row["global_step"] for row in curves] == list(range(301))
    assert [{name: row[name] for name in values} for row, values in zip(curves, logged, strict=True)] == logged
    axes = {record.metric.glob_name: record.metric.step_metric for record in records if record.HasField("metric")}
    assert axes["*"] == "global_step"


def test_offline_run_holds_the_confusion_matrix_as_table_and_chart(tracker: Tracker, tmp_path: Path) -> None:
    tracker.log_confusion(7, LABELS, MATRIX)
    tracker.finish()
    records = read_run(tmp_path)
    row = next(row for row in history(records) if "confusion_matrix_table/path" in row)
    assert row["global_step"] == 7
    files = next(tmp_path.glob("wandb/offline-run-*/files"))
    table = json.loads((files / row["confusion_matrix_table/path"]).read_text())
    assert table["columns"] == ["true", "predicted", "count"]
    assert ["negative", "positive", 2] in table["data"]
    assert sum(count for _, _, count in table["data"]) == 35
    chart = config(records)["_wandb/visualize/confusion_matrix"]
    assert chart["panel_config"]["panelDefId"] == CHART
    assert set(chart["panel_config"]["fieldSettings"].values()) == set(table["columns"])


def test_run_id_is_kept_for_the_resumed_run(tracker: Tracker, tmp_path: Path) -> None:
    assert tracker.run_id == "abcd1234"
    tracker.finish()
    resumed = open_tracker("offline", "project", "name", CONFIG, tmp_path, run_id=tracker.run_id)
    resumed.finish()
    assert resumed.run_id == "abcd1234"


def test_offline_run_prints_one_notice_that_says_how_to_upload(tmp_path: Path) -> None:
    result = open_in_subprocess("offline", tmp_path)
    assert result.returncode == 0
    assert result.stdout == "abcd1234 True\n"
    (notice,) = result.stderr.splitlines()
    folder = re.search(r"wandb sync (\S+)$", notice)
    assert folder and list(Path(folder[1]).glob("*.wandb"))


def test_null_tracker_writes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = open_tracker("disabled", "project", "name", CONFIG, tmp_path / "run")
    tracker.log(1, {"train/loss": 0.5})
    tracker.log_confusion(1, LABELS, MATRIX)
    tracker.finish()
    assert tracker.run_id is None
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_auto_without_key_is_disabled_and_does_not_import_wandb(tmp_path: Path) -> None:
    result = open_in_subprocess("auto", tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "None False\n", "")
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize("wish", ["online", "offline", "disabled"])
def test_auto_obeys_wandb_mode(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", wish)
    assert _choose_mode("auto") == wish
    assert _choose_mode("offline") == "offline"


@pytest.mark.parametrize(("host", "server", "mode"), [
    ("api.wandb.ai", None, "online"),
    ("api.forge.coreweave.com", None, "online"),
    ("api.wandb.ai", "http://localhost:8080", "disabled"),
    ("localhost:8080", "http://localhost:8080", "online"),
    ("github.com", None, "disabled"),
])  # fmt: skip
def test_auto_finds_the_key_in_netrc(
    host: str, server: str | None, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {FAKE_KEY}\n")
    if server is not None:
        monkeypatch.setenv("WANDB_BASE_URL", server)
    assert _choose_mode("auto") == mode


def test_auto_finds_the_key_of_the_server_in_wandbs_settings(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text(f"machine wandb.example.org\n  login user\n  password {FAKE_KEY}\n")
    (tmp_path / "settings").mkdir()
    assert _choose_mode("auto") == "disabled"
    (tmp_path / "settings" / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    assert _choose_mode("auto") == "online"


def test_online_without_key_becomes_offline_with_one_notice(tmp_path: Path) -> None:
    result = open_in_subprocess("online", tmp_path)
    assert (result.returncode, result.stdout) == (0, "abcd1234 True\n")
    (notice,) = result.stderr.splitlines()
    assert "no API key" in notice and "wandb sync" in notice
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
def test_auto_with_unreachable_server_becomes_offline_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", UNREACHABLE)
    monkeypatch.setenv("WANDB_API_KEY", FAKE_KEY)
    began = time.monotonic()
    result = open_in_subprocess("auto", tmp_path)
    assert time.monotonic() - began < 40
    assert (result.returncode, result.stdout) == (0, "abcd1234 True\n")
    (notice,) = result.stderr.splitlines()
    assert "wandb sync" in notice
    records = read_run(tmp_path)
    assert [row["train/loss"] for row in history(records) if "train/loss" in row] == [0.5]


def test_all_timeouts_together_stay_below_half_a_minute() -> None:
    assert INIT_TIMEOUT + LOG_TIMEOUT + FINISH_TIMEOUT + GRACE < 30


def fail(*_: Any, **__: Any) -> None:
    raise RuntimeError("the disk\nis full.")


@pytest.mark.parametrize("method", ["log", "finish"])
def test_an_exception_in_wandb_becomes_one_notice_and_silence(
    method: str, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    monkeypatch.setattr(tracker._run, method, fail)  # type: ignore[attr-defined]
    tracker.log(1, {"train/loss": 0.5})
    tracker.log(2, {"train/loss": 0.4})
    tracker.finish()
    tracker.log_confusion(3, LABELS, MATRIX)
    printed, notices = capfd.readouterr()
    assert printed == ""
    (notice,) = notices.splitlines()
    assert "the disk is full; tracking stops here" in notice


def test_an_exception_in_init_becomes_one_notice_and_the_null_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wandb.init", fail)
    opened = open_tracker("offline", "project", "name", {}, tmp_path)
    opened.log(1, {"train/loss": 0.5})
    assert type(opened) is Tracker
    assert capfd.readouterr().err == "wandb: the disk is full; training goes on without tracking\n"


def test_a_call_that_does_not_return_is_left_behind(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("src.training.tracking.LOG_TIMEOUT", 0.2)
    monkeypatch.setattr(tracker._run, "log", lambda _: time.sleep(1))  # type: ignore[attr-defined]
    began = time.monotonic()
    tracker.log_confusion(1, LABELS, MATRIX)
    tracker.log_confusion(2, LABELS, MATRIX)
    assert time.monotonic() - began < 0.9
    assert capfd.readouterr().err.count("no answer") == 1
