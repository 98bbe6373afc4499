import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from src.interop.huggingface import load_classifier
from src.training.checkpoint import open_run
from src.training.tasks import ClassificationTask
from src.training.trainer import train
from src.training.wandb_logger import WandbLogger, open_wandb
from src.utils.config import REPOSITORY, RunConfig, TrainConfig, with_options
from src.utils.files import read_json
from tests.training.tiny_training import begin, corpus

FAKE_KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    # The logger sets this one itself; set here so that it is taken back after the test.
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


# With the real Weights & Biases

RECORD = """
import sys
from pathlib import Path
from src.training import wandb_logger
from src.utils.config import RunConfig

wandb_logger.TIMEOUT = 300.0  # a busy machine is no failure
mode, folder = sys.argv[1:]
config = {"learning_rate": 5e-4, "model": {"betas": (0.9, 0.999)}, "run": {"output_dir": Path("a/b")}}
logger = wandb_logger.open_wandb(RunConfig(wandb=mode), config, Path(folder), run_id="abcd1234")
run_id = logger.run_id
for step in range(301):
    logger.log(step, {"train/loss": 1 / (1 + step)})
logger.finish()
print(run_id)
"""


def record(mode: str, folder: Path) -> tuple[str, list[str]]:
    """Records a run in a process of its own; returns what it prints, and its warnings."""
    command = [sys.executable, "-c", RECORD, mode, str(folder)]
    ended = subprocess.run(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr.splitlines()


def test_an_offline_run_is_recorded_with_one_line_that_says_how_to_upload(tmp_path: Path) -> None:
    printed, (line,) = record("offline", tmp_path)
    assert printed == "abcd1234\n"
    folder = re.search(r"wandb sync (\S.*)$", line)
    assert folder is not None
    (recorded,) = Path(folder[1]).glob("*.wandb")
    content = recorded.read_bytes()  # numbers stand there as text
    assert all(text in content for text in (b"learning_rate", b"0.0005", b"a/b", b"global_step", str(1 / 301).encode()))


def test_auto_without_key_records_nothing_and_says_nothing(tmp_path: Path) -> None:
    assert record("auto", tmp_path / "run") == ("None\n", [])
    assert not (tmp_path / "run").exists()


def test_a_fine_tuned_run_is_recorded_with_the_shape_and_tokenizer_of_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path / "base", vocab_size=99).train()
    recorded: list[dict[str, Any]] = []

    def record(_: Any, settings: dict[str, Any], *rest: Any) -> WandbLogger:
        recorded.append(settings)
        return WandbLogger()

    monkeypatch.setattr("src.training.trainer.open_wandb", record)
    options = {"model_name_or_path": str(tmp_path / "base"), "epochs": 1, "wandb": "disabled"}
    config = with_options(TrainConfig(), options)
    with open_run(with_options(config, {"output_dir": tmp_path / "run"})) as folder:
        train(ClassificationTask(config, corpus()), folder, show=False)
    (found,) = recorded
    expected = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "tokenizer_model": "WordLevel",
        "preset": None,
        "tokenizer": None,
        "epochs": 1,
    }
    assert found.items() >= expected.items() and found["vocab_size"] < 99
    assert found["parameters"] == sum(p.numel() for p in load_classifier(tmp_path / "base").model.parameters())
    assert (found["data"]["train"], found["data"]["validation"]) == (36, 12)
    head = subprocess.run(["git", "-C", REPOSITORY, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    run = read_json(tmp_path / "run" / "run.json")
    assert found["commit"] == run["commit"] == (head or None) and run["model"]["tokenizer_model"] == "WordLevel"


# With a stand-in


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces wandb; the modes in which it was asked for a run."""
    modes: list[str] = []

    def init(mode: str, **_: Any) -> Mock:
        modes.append(mode)
        return Mock(id="abcd1234", settings=SimpleNamespace(sync_dir="/somewhere"))

    login = Mock(side_effect=lambda prompt: "WANDB_API_KEY" in os.environ)
    monkeypatch.setitem(sys.modules, "wandb", Mock(init=Mock(side_effect=init), login=login))
    return modes


def open_in(mode: Any, folder: Path, **options: Any) -> WandbLogger:
    return open_wandb(RunConfig(wandb=mode, **options), {}, folder)


@pytest.mark.parametrize(
    ("variable", "wish", "modes"),
    [
        ("WANDB_MODE", "online", ["online"]),
        ("WANDB_MODE", "offline", ["offline"]),
        ("WANDB_MODE", "dryrun", ["offline"]),
        ("WANDB_MODE", "disabled", []),
        ("WANDB_API_KEY", FAKE_KEY, ["online"]),
        ("WANDB_DISABLED", "true", []),
        ("WANDB_DISABLED", "1", []),
        ("WANDB_DISABLED", "false", ["online"]),
    ],
)
def test_auto_obeys_the_environment_and_options_override_it(
    variable: str, wish: str, modes: list[str], opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", FAKE_KEY)
    monkeypatch.setenv(variable, wish)
    open_in("auto", tmp_path)
    assert opened == modes
    for mode in ("online", "offline"):
        open_in(mode, tmp_path)
        assert opened.pop() == mode


def test_names_of_option_or_environment(opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init: Any = sys.modules["wandb"].init
    open_in("offline", tmp_path)
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_NAME", "their run")
    open_in("offline", tmp_path)
    open_in("offline", tmp_path, wandb_project="mine", wandb_name="my run", wandb_tags=("a", "b"))
    asked = [tuple(call.kwargs[key] for key in ("project", "name", "tags")) for call in init.call_args_list]
    own = ("mine", "my run", ("a", "b"))
    assert asked == [("bert-sst2", tmp_path.name, None), ("theirs", "their run", None), own]


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("the disk\nis full.")


def test_without_a_server_the_run_is_an_offline_one_with_one_line(
    opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    init = sys.modules["wandb"].init
    monkeypatch.setattr("wandb.init", lambda mode, **options: fail() if mode == "online" else init(mode, **options))
    assert open_in("online", tmp_path).run_id == "abcd1234"
    assert opened == ["offline"]
    (line,) = capfd.readouterr().err.splitlines()
    assert "the disk is full" in line and "wandb sync /somewhere" in line

    monkeypatch.setattr("wandb.init", fail)
    assert open_in("offline", tmp_path).run_id is None  # records nothing
    (line,) = capfd.readouterr().err.splitlines()
    assert "the disk is full" in line


@pytest.mark.parametrize("method", ["log", "finish"])
def test_an_exception_in_wandb_becomes_one_line_and_silence(method: str, capfd: pytest.CaptureFixture[str]) -> None:
    run = Mock(**{f"{method}.side_effect": fail})
    logger = WandbLogger(run)
    logger.log(1, {"train/loss": 0.5})
    logger.log(2, {"train/loss": 0.4})
    logger.finish()
    logger.log(3, {"train/loss": 0.3})
    printed, lines = capfd.readouterr()
    (line,) = lines.splitlines()
    assert printed == "" and "the disk is full" in line
    assert run.log.call_count == (2 if method == "finish" else 1)
