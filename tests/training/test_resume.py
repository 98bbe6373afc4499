import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.training import start
from src.training.run_folder import RunFolder
from src.training.start import FREE_TO_CHANGE, find_checkpoint, held, look_again, new_run, refuse_changes
from src.training.state import TENSORS
from src.utils import runs
from src.utils.config import PretrainConfig, RunConfig, TrainConfig
from src.utils.errors import CheckpointError, UsageError
from src.utils.folder import MANIFEST
from src.utils.options import options_of, with_options
from tests.training.tiny_training import begin, settings

Maker = Callable[[Path], RunFolder]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of weights/."""
    monkeypatch.setattr(runs, "WEIGHTS_DIR", tmp_path)
    monkeypatch.setattr(start, "WEIGHTS_DIR", tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Puts a finished run with the checkpoints step-6 and step-12 where it is told."""
    training = begin(tmp_path_factory.mktemp("finished") / "run")
    training.run()
    training.folder.finish(0.0)
    return lambda path: RunFolder(shutil.copytree(training.folder.path, path))


@pytest.fixture(scope="session")
def unfinished(finished: Maker) -> Maker:
    """Puts such a run there that has yet to be finished."""

    def make(path: Path) -> RunFolder:
        folder = finished(path)
        (path / "run.json").write_text(json.dumps(folder.read_run() | {"finished": None}))
        return folder

    return make


def fresh(path: Path | None, name: str = "made-up", **options: Any) -> RunFolder:
    return new_run(settings(output_dir=path, **options).run, "nano", name)


# New runs


def test_a_new_folder_is_named_after_data_preset_time_and_seed(weights: Path) -> None:
    path = new_run(settings(seed=7).run, "tiny", "stanfordnlp/sst2").path
    assert path.parent == weights and path.name.startswith("sst2-tiny-20") and path.name.endswith("-seed7")


def test_a_taken_folder_is_refused_with_all_ways_out(finished: Maker, tmp_path: Path) -> None:
    finished(tmp_path / "run")
    with pytest.raises(UsageError) as caught:
        fresh(tmp_path / "run")
    assert all(option in str(caught.value) for option in ("--output-dir", "--resume auto", "--overwrite"))
    assert fresh(tmp_path / "run", overwrite=True).path == tmp_path / "run"


@pytest.mark.parametrize("left", ["", ".unfinished-abc"], ids=["empty", "died before it wrote anything"])
def test_a_free_folder_is_taken(left: str, tmp_path: Path) -> None:
    (tmp_path / "run" / left).mkdir(parents=True)
    assert fresh(tmp_path / "run").path == tmp_path / "run"
    assert fresh(tmp_path / "absent").path == tmp_path / "absent"


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": "auto"}])
def test_what_is_no_run_is_never_deleted(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    for path in (tmp_path / "thesis", tmp_path / "thesis" / "chapter.txt"):
        with pytest.raises(UsageError, match=str(path)):
            fresh(path, **options)


# One process at a time


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    for _ in range(2):
        with held(folder), pytest.raises(UsageError, match=str(folder)), held(folder):
            pass
    with held(folder), held(tmp_path / "another"):
        assert not list(folder.iterdir())


@pytest.mark.parametrize("options", [{}, {"resume": "auto"}])
def test_a_folder_that_was_free_and_is_taken_by_now_is_refused(
    options: dict[str, Any], unfinished: Maker, tmp_path: Path
) -> None:
    folder, config = fresh(tmp_path / "run", **options), settings(output_dir=tmp_path / "run", **options)
    look_again(config, folder, None)
    unfinished(tmp_path / "run")
    with pytest.raises(UsageError, match=str(folder.path)):
        look_again(config, folder, None)
    look_again(with_options(config, {"resume": "never", "overwrite": True}), folder, None)


@pytest.mark.parametrize("named", [False, True], ids=["run", "checkpoint"])
def test_a_run_that_has_gone_on_by_now_is_refused_unless_its_checkpoint_is_named(
    named: bool, unfinished: Maker, tmp_path: Path
) -> None:
    folder = unfinished(tmp_path / "run")
    newest, checkpoint, *_ = folder.checkpoints()
    config = settings(resume=str(checkpoint if named else folder.path))
    aside = newest.rename(tmp_path / "later")
    look_again(config, folder, checkpoint)
    aside.rename(newest)
    if named:
        look_again(config, folder, checkpoint)
        shutil.rmtree(checkpoint)
    with pytest.raises(UsageError, match=str(folder.path)):
        look_again(config, folder, checkpoint)


# Resuming


def test_auto_picks_the_newest_run_that_is_not_finished(finished: Maker, unfinished: Maker, weights: Path) -> None:
    assert find_checkpoint(RunConfig(resume="auto"), TrainConfig.task) is None
    for age, name in ((30, "old"), (20, "newer")):
        unfinished(weights / name)
        os.utime(weights / name / "run.json", (10**9 - age, 10**9 - age))
    finished(weights / "done")
    found = find_checkpoint(RunConfig(resume="auto"), TrainConfig.task)
    assert found is not None
    assert (found[0].path, found[1].name) == (weights / "newer", "step-12")
    assert find_checkpoint(RunConfig(resume="auto"), PretrainConfig.task) is None
    assert find_checkpoint(RunConfig(output_dir=weights / "newer"), TrainConfig.task) is None  # resume is never


def test_auto_goes_on_in_the_output_folder_if_one_is_named(finished: Maker, unfinished: Maker, weights: Path) -> None:
    unfinished(weights / "other")
    finished(weights / "run")
    found = find_checkpoint(RunConfig(resume="auto", output_dir=weights / "run"), TrainConfig.task)
    assert found is not None and found[0].path == weights / "run"
    assert find_checkpoint(RunConfig(resume="auto", output_dir=weights / "absent"), TrainConfig.task) is None


def test_auto_begins_anew_in_a_run_that_ended_before_its_first_checkpoint(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run").folder
    config = RunConfig(resume="auto", output_dir=tmp_path / "run")
    assert find_checkpoint(config, TrainConfig.task) is None
    assert fresh(tmp_path / "run", resume="auto").path == tmp_path / "run"
    folder.finish(0.0)  # but not over a finished model
    with pytest.raises(UsageError, match=str(tmp_path / "run")):
        fresh(tmp_path / "run", resume="auto")


@pytest.mark.parametrize("where", ["run", "checkpoints"])
def test_a_run_or_a_checkpoint_can_be_named(where: str, finished: Maker, tmp_path: Path) -> None:
    path = tmp_path / where  # also a folder of runs that is itself called checkpoints
    finished(path / "mine")
    for name in ("mine", "mine/checkpoints/step-6"):
        found = find_checkpoint(RunConfig(resume=str(path / name)), TrainConfig.task)
        assert found is not None
        assert found[0].path == path / "mine"
        assert found[1].name == ("step-6" if name.endswith("step-6") else "step-12")


def test_nothing_whole_to_resume_is_a_checkpoint_error(finished: Maker, tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    newest, before = run.checkpoints()
    (newest / TENSORS).write_bytes(b"")
    (before / MANIFEST).unlink()
    configs = [RunConfig(resume=str(path)) for path in (tmp_path / "absent", run.path, newest, before)]
    for config in (*configs, RunConfig(resume="auto", output_dir=run.path)):
        with pytest.raises(CheckpointError):
            find_checkpoint(config, TrainConfig.task)


def test_a_run_of_another_task_is_refused_wherever_it_is_named(finished: Maker, tmp_path: Path) -> None:
    run = finished(tmp_path / "run").path
    for config in (
        RunConfig(resume=str(run)),
        RunConfig(resume=str(run / "checkpoints" / "step-6")),
        RunConfig(resume="auto", output_dir=run),
    ):
        with pytest.raises(UsageError, match=f"{run} .*{TrainConfig.task}.*{PretrainConfig.task}"):
            find_checkpoint(config, PretrainConfig.task)


# Changed settings


def test_changed_settings_are_refused_and_all_of_them_named_unless_they_are_wanted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UsageError, match=r"batch_size 8 -> 16, learning_rate 0.003 -> 0.1\b.*--allow-config-change"):
        refuse_changes(settings(), settings(batch_size=16, learning_rate=0.1))
    refuse_changes(settings(), settings(batch_size=16, allow_config_change=True))
    assert "batch_size 8 -> 16" in capsys.readouterr().err


def test_where_it_runs_and_what_is_watched_may_change(capsys: pytest.CaptureFixture[str]) -> None:
    change = {"device": "cuda", "num_threads": 3, "save_every": 9, "keep_last": 9, "evaluate_every": 9, "debug": True}
    change |= {"output_dir": Path("elsewhere"), "wandb": "offline", "wandb_project": "other"}
    refuse_changes(settings(), with_options(settings(), change))
    assert capsys.readouterr().err == ""
    assert options_of(TrainConfig().run).keys() >= FREE_TO_CHANGE
    assert not FREE_TO_CHANGE & {"seed", "precision", "keep"}
