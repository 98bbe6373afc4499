import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from src.evaluation.predictor import Predictor
from src.evaluation.split import evaluate_split
from src.utils.config import SAMPLE_DIR
from src.utils.errors import DataError
from src.utils.programs import InferenceConfig
from tests.conftest import TrainedRun


@pytest.fixture
def folder(sample_run: TrainedRun, tmp_path: Path) -> Path:
    path = tmp_path / "run"
    shutil.copytree(sample_run.path, path, ignore=shutil.ignore_patterns("checkpoints"))
    return path


def config(**options: Any) -> InferenceConfig:
    return InferenceConfig(texts=(), **options)


def numbers(folder: Path, split: str = "validation") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"evaluation-{split}.json").read_text())
    return content


def test_without_data_the_model_is_evaluated_on_what_it_was_trained_on(folder: Path) -> None:
    trained = numbers(folder)
    result = evaluate_split(Predictor.load(folder, "cpu"), folder, config())
    assert (result.dataset, result.checkpoint, result.evaluation.n) == ("sample", str(folder), 220)
    assert result.evaluation.accuracy == trained["accuracy"]
    assert result.evaluation.loss == pytest.approx(trained["loss"], abs=1e-6)
    assert result.evaluation.confusion == trained["confusion"]
    result = evaluate_split(Predictor.load(folder, "cpu"), folder, config(split="train"))
    assert "\n" not in result.as_json() and numbers(folder, "train") == json.loads(result.as_json())
    assert numbers(folder, "train")["n"] == 640 and numbers(folder) != trained  # left beside the model


def test_a_held_out_part_is_drawn_again_by_the_seed_of_the_run(folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text())
    run["config"]["data"] |= {"dataset": None, "train_file": str(SAMPLE_DIR / "train.jsonl")}
    texts = []
    for seed in (0, 0, 1):
        run["config"]["run"]["seed"] = seed
        (folder / "run.json").write_text(json.dumps(run))
        result = evaluate_split(Predictor.load(folder, "cpu"), folder, config(examples=64))
        assert result.evaluation.n == 64
        texts.append({example.text for example in result.examples})
    assert texts[0] == texts[1] != texts[2]


def test_a_file_that_is_named_is_evaluated_whole(folder: Path) -> None:
    path = folder / "mine.tsv"
    path.write_text("review\tverdict\na fine film\tpositive\na dull film\tnegative\nwarm\tpositive\n")
    options = {"dataset": str(path), "text_column": "review", "label_column": "verdict"}
    result = evaluate_split(Predictor.load(folder, "cpu"), folder, config(**options))
    assert (result.dataset, result.evaluation.n) == ("mine.tsv", 3)
    assert [sum(row) for row in result.evaluation.confusion] == [1, 2]


def test_labels_and_columns_that_are_unknown_are_refused(folder: Path) -> None:
    path, predictor = folder / "mine.tsv", Predictor.load(folder, "cpu")
    for label in ("2", "mixed"):
        path.write_text(f"sentence\tlabel\na film\t{label}\n")
        with pytest.raises(DataError, match=rf"mine\.tsv:2: .*{label}.*negative, positive"):
            evaluate_split(predictor, folder, config(dataset=str(path)))
    with pytest.raises(DataError, match="colour"):  # in place of the column that was trained on
        evaluate_split(predictor, folder, config(text_column="colour"))


def test_truncated_texts_are_counted_the_seed_fixes_the_examples_and_numbers_need_not_be_saved(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config | {"model_max_length": 10}))
    (folder / "manifest.json").unlink()
    (folder / "evaluation-validation.json").unlink()
    (folder / "evaluation-validation.json").mkdir()
    first, second = (evaluate_split(Predictor.load(folder, "cpu"), folder, config(examples=4)) for _ in range(2))
    said = capsys.readouterr().err
    assert "10 tokens" in said and "evaluation-validation.json" in said
    assert first.examples == second.examples and len(first.examples) == 4
