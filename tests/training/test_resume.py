import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from src.training import checkpoint
from src.training.checkpoint import FREE_TO_CHANGE, TENSORS, RunFolder, open_run, refuse_changes
from src.utils import runs
from src.utils.config import PretrainConfig, TrainConfig, options_of, with_options
from src.utils.errors import CheckpointError, UsageError
from src.utils.files import LOCK, MANIFEST, read_json
from tests.training.tiny_training import begin, settings

Maker = Callable[[Path], RunFolder]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of weights/."""
    monkeypatch.setattr(runs, "WEIGHTS_DIR", tmp_path)
    monkeypatch.setattr(checkpoint, "WEIGHTS_DIR", tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Puts a finished run with the checkpoints step-6 and step-12 where it is told."""
    training = begin(tmp_path_factory.mktemp("finished") / "run")
    training.train()
    return lambda path: RunFolder(shutil.copytree(training.folder.path, path))


@pytest.fixture(scope="session")
def unfinished(finished: Maker) -> Maker:
    """Puts such a run there that has yet to be finished."""

    def make(path: Path) -> RunFolder:
        folder = finished(path)
        (path / "run.json").write_text(json.dumps(read_json(path / "run.json") | {"finished": None}))
        return folder

    return make


def fresh(path: Path | None, **options: Any) -> Path:
    """The folder that a new run would have."""
    with open_run(settings(output_dir=path, **options)) as folder:
        assert folder.checkpoint is None
        return folder.path


def found(config: TrainConfig | PretrainConfig | None = None, **options: Any) -> tuple[Path, str] | None:
    """The run and the checkpoint that --resume finds."""
    with open_run(with_options(config or settings(), options)) as folder:
        return None if folder.checkpoint is None else (folder.path, folder.checkpoint.name)


def just_before_the_lock(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Has another process do something between a first look at a folder and its lock."""
    original = RunFolder.lock

    @contextmanager
    def lock(folder: RunFolder) -> Iterator[None]:
        act()
        with original(folder):
            yield

    patch.setattr(RunFolder, "lock", lock)


# New runs


def test_a_new_folder_is_named_after_data_preset_time_and_seed(weights: Path) -> None:
    path = fresh(None, dataset="stanfordnlp/sst2", seed=7)
    assert path.parent == weights and path.name.startswith("sst2-nano-20") and path.name.endswith("-seed7")


def test_new_folders_of_the_same_second_have_different_names(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda pattern: "20000101-000000")
    paths = []
    for _ in range(3):
        paths.append(fresh(None))
        paths[-1].mkdir()
    assert len(set(paths)) == 3


def test_a_taken_folder_is_refused_with_all_ways_out(finished: Maker, tmp_path: Path) -> None:
    finished(tmp_path / "run")
    with pytest.raises(UsageError) as caught:
        fresh(tmp_path / "run")
    assert all(option in str(caught.value) for option in ("--output-dir", "--resume auto", "--overwrite"))
    assert fresh(tmp_path / "run", overwrite=True) == tmp_path / "run"


@pytest.mark.parametrize("left", ["", ".unfinished-abc", LOCK])
def test_a_free_folder_is_taken(left: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    if left:  # by a run that died before it wrote anything else
        (tmp_path / "run" / left).touch()
    assert fresh(tmp_path / "run") == tmp_path / "run"
    assert fresh(tmp_path / "absent") == tmp_path / "absent"


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": "auto"}])
def test_what_is_no_run_is_never_deleted(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    for path in (tmp_path / "thesis", tmp_path / "thesis" / "chapter.txt"):
        with pytest.raises(UsageError, match=str(path)):
            fresh(path, **options)


# One process at a time


def test_a_folder_is_locked_while_a_run_is_begun_or_resumed_in_it(finished: Maker, tmp_path: Path) -> None:
    run, path = finished(tmp_path / "run").path, tmp_path / "absent"
    with open_run(settings(resume=str(run))), open_run(settings(output_dir=path)):
        for act in (lambda: found(resume=str(run)), lambda: fresh(run, overwrite=True), lambda: fresh(path)):
            with pytest.raises(UsageError, match="another process trains in"):
                act()
    assert found(resume=str(run)) == (run, "step-12") and fresh(path) == path


def test_a_folder_taken_just_now_is_refused(unfinished: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    just_before_the_lock(monkeypatch, lambda: unfinished(tmp_path / "run"))
    with pytest.raises(UsageError, match=str(tmp_path / "run")):
        fresh(tmp_path / "run")


def test_a_run_that_just_went_on_is_found(unfinished: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newest, _ = unfinished(tmp_path / "run").checkpoints()
    aside = newest.rename(tmp_path / "later")
    just_before_the_lock(monkeypatch, lambda: aside.rename(newest))
    assert found(resume=str(tmp_path / "run")) == (tmp_path / "run", "step-12")


# Resuming


def test_auto_resumes_in_the_output_folder_if_one_is_named(finished: Maker, unfinished: Maker, weights: Path) -> None:
    unfinished(weights / "other")
    finished(weights / "run")
    assert found(resume="auto", output_dir=weights / "run") == (weights / "run", "step-12")
    assert found(resume="auto", output_dir=weights / "absent") is None
    assert found(resume="auto") == (weights / "other", "step-12") and found(PretrainConfig(), resume="auto") is None


def test_auto_begins_again_in_a_run_that_ended_before_its_first_checkpoint(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run").folder
    assert found(resume="auto", output_dir=tmp_path / "run") is None
    assert fresh(tmp_path / "run", resume="auto") == tmp_path / "run"
    folder.finish(0.0)  # but not over a finished model
    with pytest.raises(UsageError, match=str(tmp_path / "run")):
        fresh(tmp_path / "run", resume="auto")


@pytest.mark.parametrize("where", ["run", "checkpoints"])
def test_a_run_or_a_checkpoint_can_be_named(where: str, finished: Maker, tmp_path: Path) -> None:
    path = tmp_path / where  # also a folder of runs that is itself called checkpoints
    finished(path / "mine")
    assert found(resume=str(path / "mine")) == (path / "mine", "step-12")
    assert found(resume=str(path / "mine" / "checkpoints" / "step-6")) == (path / "mine", "step-6")


def test_nothing_whole_to_resume_is_a_checkpoint_error(finished: Maker, tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    newest, before = run.checkpoints()
    (newest / TENSORS).write_bytes(b"")
    (before / MANIFEST).unlink()
    for path in (tmp_path / "absent", run.path, newest, before):
        with pytest.raises(CheckpointError):
            found(resume=str(path))
    with pytest.raises(CheckpointError):
        found(resume="auto", output_dir=run.path)


def test_a_run_of_another_task_is_refused_wherever_it_is_named(finished: Maker, tmp_path: Path) -> None:
    run = finished(tmp_path / "run").path
    checkpoint = run / "checkpoints" / "step-6"
    cases: tuple[dict[str, Any], ...] = (
        {"resume": str(run)},
        {"resume": str(checkpoint)},
        {"resume": "auto", "output_dir": run},
    )
    for options in cases:
        with pytest.raises(UsageError, match=f"{run} .*{TrainConfig.task}.*{PretrainConfig.task}"):
            found(PretrainConfig(), **options)


# Changed settings


def test_changed_settings_are_refused_by_name_unless_they_are_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"batch_size 8 -> 16, learning_rate 0.003 -> 0.1\b.*--allow-config-change"):
        refuse_changes(settings(), settings(batch_size=16, learning_rate=0.1))
    refuse_changes(settings(), settings(batch_size=16, allow_config_change=True))
    assert "batch_size 8 -> 16" in capsys.readouterr().err


def test_where_it_runs_and_what_is_watched_may_change(capsys: pytest.CaptureFixture[str]) -> None:
    change = {"device": "cuda", "num_threads": 3, "save_every": 9, "keep_last": 9, "evaluate_every": 9, "debug": True}
    change |= {"output_dir": Path("elsewhere"), "wandb": "offline", "wandb_project": "other", "compile": True}
    refuse_changes(settings(), with_options(settings(), change))
    assert capsys.readouterr().err == ""
    for config in (TrainConfig(), PretrainConfig()):
        assert options_of(config).keys() >= FREE_TO_CHANGE
    assert not FREE_TO_CHANGE & {"seed", "precision", "keep"}
