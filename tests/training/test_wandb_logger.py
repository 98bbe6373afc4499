import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.training import wandb_logger
from src.training.wandb_logger import Tracker, WandbTracker, open_tracker
from src.utils.config import REPOSITORY

LABELS = ["negative", "positive"]
MATRIX = [[13, 2], [3, 17]]
FAKE_KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    # The tracker sets this one itself; set here so that it is taken back after the test.
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


# With the real Weights & Biases

RECORD = """
import sys
from pathlib import Path
from src.training import wandb_logger

for name in ("INIT_TIMEOUT", "LOG_TIMEOUT", "FINISH_TIMEOUT"):
    setattr(wandb_logger, name, 300.0)  # a busy machine is no failure
mode, folder = sys.argv[1:]
config = {"learning_rate": 5e-4, "model": {"betas": (0.9, 0.999)}, "run": {"output_dir": Path("a/b")}}
tracker = wandb_logger.open_tracker(mode, "project", "name", config, Path(folder), run_id="abcd1234")
for step in range(301):
    tracker.log(step, {"train/loss": 1 / (1 + step)})
tracker.log_confusion(7, ["negative", "positive"], [[13, 2], [3, 17]])
tracker.finish()
print(tracker.run_id, "wandb" in sys.modules)
"""


def record(mode: str, folder: Path) -> tuple[str, list[str]]:
    """Records a run in a process of its own; returns what it prints, and its notices."""
    command = [sys.executable, "-c", RECORD, mode, str(folder)]
    ended = subprocess.run(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr.splitlines()


def test_an_offline_run_is_recorded_with_one_notice_that_says_how_to_upload(tmp_path: Path) -> None:
    printed, (notice,) = record("offline", tmp_path)
    assert printed == "abcd1234 True\n"
    folder = re.search(r"wandb sync (\S.*)$", notice)
    assert folder is not None
    (recorded,) = Path(folder[1]).glob("*.wandb")
    content = recorded.read_bytes()  # numbers stand there as text
    assert all(text in content for text in (b"learning_rate", b"0.0005", b"a/b", b"global_step", str(1 / 301).encode()))
    (table,) = (json.loads(path.read_text()) for path in Path(folder[1]).rglob("*.table.json"))
    assert table["columns"] == ["true", "predicted", "count"]
    assert ["negative", "positive", 2] in table["data"] and sum(count for *_, count in table["data"]) == 35


def test_auto_without_key_records_nothing_and_does_not_import_wandb(tmp_path: Path) -> None:
    assert record("auto", tmp_path / "run") == ("None False\n", [])
    assert not (tmp_path / "run").exists()


# With a stand-in


class Run:
    """What `wandb.init` returns, as far as it is used."""

    id = "abcd1234"
    settings = SimpleNamespace(sync_dir="/somewhere")

    def __init__(self) -> None:
        self.logged: list[Any] = []

    def define_metric(self, name: str, step_metric: str) -> None:
        pass

    def log(self, values: Any) -> None:
        self.logged.append(values)

    def finish(self, exit_code: int) -> None:
        self.logged.append(exit_code)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces wandb; the modes in which it was asked for a run."""
    modes: list[str] = []

    def init(mode: str, **_: Any) -> Run:
        modes.append(mode)
        return Run()

    ignore = lambda *_, **__: None  # noqa: E731
    functions = {"Settings": ignore, "setup": ignore, "teardown": ignore, "Table": ignore, "plot_table": ignore}
    module = SimpleNamespace(init=init, **functions)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return modes


def open_in(mode: Any, folder: Path) -> Tracker:
    return open_tracker(mode, "project", "name", {}, folder)


@pytest.mark.parametrize("wish", ["online", "offline", "disabled", "dryrun"])
def test_auto_obeys_wandb_mode(wish: str, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", wish)
    monkeypatch.setenv("WANDB_API_KEY", FAKE_KEY)
    open_in("auto", tmp_path)
    assert opened == {"disabled": [], "dryrun": ["offline"]}.get(wish, [wish])
    opened.clear()
    open_in("offline", tmp_path)
    assert opened == ["offline"]


def test_auto_finds_the_key_of_the_server(opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_recorded(host: str) -> bool:
        (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {FAKE_KEY}\n")
        opened.clear()
        open_in("auto", tmp_path)
        return opened == ["online"]

    assert is_recorded("api.wandb.ai") and is_recorded("api.forge.coreweave.com") and not is_recorded("github.com")
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    assert is_recorded("wandb.example.org") and not is_recorded("api.wandb.ai")
    monkeypatch.setenv("WANDB_BASE_URL", "http://localhost:8080")
    assert is_recorded("localhost:8080") and not is_recorded("wandb.example.org")


def test_without_key_or_server_the_run_is_an_offline_one_with_one_notice(
    opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert open_in("online", tmp_path).run_id == "abcd1234"
    assert opened == ["offline"]
    (notice,) = capfd.readouterr().err.splitlines()
    assert "API key" in notice and "wandb sync /somewhere" in notice

    init = sys.modules["wandb"].init
    monkeypatch.setattr("wandb.init", lambda mode, **options: fail() if mode == "online" else init(mode, **options))
    monkeypatch.setenv("WANDB_API_KEY", FAKE_KEY)
    assert open_in("auto", tmp_path).run_id == "abcd1234"
    assert opened == ["offline", "offline"]
    (notice,) = capfd.readouterr().err.splitlines()
    assert "the disk is full" in notice and "wandb sync /somewhere" in notice

    monkeypatch.setattr("wandb.init", fail)
    assert type(open_in("offline", tmp_path)) is Tracker  # which records nothing
    (notice,) = capfd.readouterr().err.splitlines()
    assert "the disk is full" in notice


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("the disk\nis full.")


@pytest.mark.parametrize("method", ["log", "finish"])
def test_an_exception_in_wandb_becomes_one_notice_and_silence(
    method: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run()
    tracker = WandbTracker(run)
    monkeypatch.setattr(run, method, fail)
    tracker.log(1, {"train/loss": 0.5})
    tracker.log(2, {"train/loss": 0.4})
    tracker.finish()
    tracker.log_confusion(3, LABELS, MATRIX)
    printed, notices = capfd.readouterr()
    assert printed == ""
    (notice,) = notices.splitlines()
    assert "the disk is full" in notice
    assert len(run.logged) == (2 if method == "finish" else 0)


def test_a_call_that_does_not_return_is_left_behind(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run, released = Run(), threading.Event()
    monkeypatch.setattr(wandb_logger, "LOG_TIMEOUT", 0.01)
    monkeypatch.setattr(run, "log", lambda _: released.wait(60))
    tracker = WandbTracker(run)
    tracker.log_confusion(1, LABELS, MATRIX)
    tracker.log_confusion(2, LABELS, MATRIX)
    released.set()
    assert capfd.readouterr().err.count("no answer") == 1
