import json
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread

from src.interop.huggingface import load_classifier
from tests.benchmarks import speed
from tests.benchmarks.contenders import OursInInference, OursInTraining, PaddedInTraining, TorchInInference, Work
from tests.benchmarks.pictures import speed_picture
from tests.benchmarks.readme import README
from tests.benchmarks.speed import OURS, checkpoint, ratios, table


def rounds(*rates: float) -> list[dict[str, float]]:
    return [{"tokens": 100.0, "sentences": 10, "seconds": 100 / rate, "flops": 2e9} for rate in rates]


FOUND: dict[str, Any] = {
    "versions": {"torch": "9.9"},
    "peaks": {"square": [4e9, 5e9, 6e9], "model": [8e9], "by default": [3e9]},
    "contenders": {
        OURS: {"rounds": rounds(200, 300, 250), "megabytes": 700.4},
        "a peer": {"rounds": rounds(100, 100, 125), "megabytes": 1200},
        "another": {"missing": "speedy is not installed", "rounds": []},
    },
}


def test_ratios_are_those_of_medians_with_the_range_over_rounds() -> None:
    assert ratios(FOUND) == {"a peer": pytest.approx((2.5, 2.0, 3.0))}


def test_the_table_names_peers_that_are_missing() -> None:
    lines = table("mini, training", FOUND).splitlines()
    assert lines[0].startswith("| mini, training | real tokens/s |") and "of 5 GFLOP/s" in lines[0]
    assert lines[2].startswith(f"| {OURS} | 250 | 200-300 | 25 | 700 MB | 100 % (62 % of 8) |")
    assert lines[3].endswith("| **2.50x** (2.00-3.00) |")
    assert lines[4].startswith("| another | not measured: speedy is not installed |")
    assert {line.count("|") for line in lines[:-2]} == {8}
    assert lines[-1] == "(torch 9.9; by PyTorch's default library 3 GFLOP/s.)"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("speed")
    checkpoint("tiny", folder, None)
    return Work(folder, "sample", batches=2, sentences=20, seed=0)


def test_contenders_start_from_the_same_weights_and_count_the_same_tokens(work: Work) -> None:
    torch.set_num_threads(1)
    training = [kind(work) for kind in (OursInTraining, PaddedInTraining)]
    inference = [kind(work) for kind in (OursInInference, TorchInInference)]
    for first, second in (training, inference):
        assert second.result() == pytest.approx(first.result(), abs=speed.SAME)
    ours, padded = (contender.round() for contender in training)
    assert 0 < padded.tokens < 80 * padded.sentences == 80 * 2 * 16  # what is padded does not count
    assert ours.seconds > 0 and ours.tokens > ours.sentences
    lengths = load_classifier(work.folder).tokenizer.encode_batch(inference[0].train.texts)
    assert min(len(one.ids) for one in lengths) * 20 < inference[0].round().tokens < 64 * 20


def test_flops_are_those_of_the_matrix_products(work: Work) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    contender = OursInInference(work)
    texts = contender.train.texts[:7]
    ids = contender.predictor.dataset(texts).input_ids
    lengths = [len(row) for row in ids]
    with FlopCounterMode(display=False) as counter:
        for row in ids:
            contender.predictor.model(row[None])
    assert contender.count(lengths, 1.0, passes=1).flops == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_the_summary_has_a_column_for_each_machine() -> None:
    faster = FOUND | {"contenders": FOUND["contenders"] | {"another": {"rounds": rounds(25, 25, 25), "megabytes": 1}}}
    first, second, *_ = (one.title for one in speed.COMPARISONS)
    found = {"an abacus": {first: FOUND}, "two of them": {first: faster, second: FOUND}}
    ours = "250 real tokens/s, 100 % of 5 GFLOP/s"
    assert speed.summary(found).splitlines()[:7] == [
        "| | an abacus | two of them |",
        "|---|---|---|",
        f"| **{first}**: {OURS} | {ours} | {ours} |",
        "| against a peer | **2.50x** (2.00-3.00) | **2.50x** (2.00-3.00) |",
        "| against another | not measured | **10.00x** (8.00-12.00) |",
        f"| **{second}**: {OURS} | not measured | {ours} |",
        "| against a peer | not measured | **2.50x** (2.00-3.00) |",
    ]


def test_the_picture_of_speed_leaves_a_gap_where_a_machine_has_no_figure(tmp_path: Path) -> None:
    peers = {"a peer": (2.5, 2.0, 3.0), "another": (10.0, 8.0, 12.0)}
    heights = []
    for name, machines in {"one": {"an abacus": peers}, "two": {"an abacus": {}, "two of them": peers}}.items():
        speed_picture(tmp_path / f"{name}.png", {"mini, training": machines})
        pixels = imread(tmp_path / f"{name}.png")
        assert pixels[..., :3].std() > 0.1
        heights.append(len(pixels))
    assert heights[1] > heights[0]


def test_what_is_in_the_repository_is_what_was_measured() -> None:
    found = json.loads(speed.RESULTS.read_text())
    assert speed.TABLE.read_text() == speed.tables(found)
    assert speed.summary(found) in README.read_text()
    assert all(list(one) == [comparison.title for comparison in speed.COMPARISONS] for one in found.values())
