"""Options that cannot be, at every program's door: exit code 2, and what is wrong by name."""

from pathlib import Path

import pytest

from tests.conftest import Programs

USAGE: list[tuple[str, str, str]] = [
    ("train", "--dataset sample --train-file x.csv", "--dataset --train-file"),
    ("train", "--hidden-size 30 --num-attention-heads 4", "num_attention_heads=4 hidden_size=30"),
    ("train", "--epochs 0", "epochs=0"),
    ("train", "--preset huge", "--preset huge nano tiny mini small medium"),
    ("train", "--dataset sample --device abacus --output-dir never-made", "--device abacus"),
    ("train", "--learing-rate 1", "--learning-rate"),
    ("train", "--epochs many", "--epochs"),
    ("train", "--tokenizer bytes", "--tokenizer"),
    ("train", "--preset", "--preset"),
    ("train", "--recipe huge", "--recipe huge sample finetune"),
    ("pretrain", "--corpus", "--corpus"),
    ("pretrain", "--preset huge", "--preset huge tiny"),
    ("pretrain", "--max-steps 0", "max_steps=0"),
    ("pretrain", "--max-step 3", "--max-steps"),
    ("pretrain", "--recipe sample", "--recipe"),  # which a training alone has
    ("inference", "--file x.txt film", "--file"),
    ("inference", "--dataset sample --file x.txt", "--dataset --file"),
    ("inference", "--dataset sample film", "--dataset"),
    ("inference", "--pairs", "--pairs"),
    ("inference", "--scores film", "--scores"),
    ("inference", "--file x.txt --text-column a", "--text-column"),
    ("inference", "--file x.csv --no-header --split test", "--split"),
    ("inference", "--file x.csv --output x.parquet", ".jsonl"),
    ("inference", "--file x.csv --output y.csv --json", ".jsonl"),
    ("inference", "--examples -1", "examples=-1"),
    ("inference", "--fill-mask [MASK] film", "--fill-mask"),
    ("inference", "--checkpont x film", "--checkpoint"),
    ("explain", "", "--file"),
    ("explain", "film --file x.txt", "--file"),
    ("explain", "--file x.txt --html x.txt", "--file"),
    ("explain", "film dull --attention x.png", "--attention"),
    ("export", "", "--push-to-hub"),
    ("export", "--output x --push-to-hub me/model", "--push-to-hub"),
    ("export", "--output x --dataset sample", "--quantize int8"),
    ("export", "--output x --license mit", "--push-to-hub"),
    ("export", "--push-to-hub reviews", "reviews"),
]


@pytest.mark.parametrize("program", dict.fromkeys(program for program, _, _ in USAGE))
def test_options_that_cannot_be_are_usage_errors(program: str, programs: Programs, tmp_path: Path) -> None:
    for options in (one for one in USAGE if one[0] == program):
        cache = [tmp_path] if program == "pretrain" else []
        answer = getattr(programs, program)(*cache, *options[1].split())
        assert (answer.code, answer.out) == (2, ""), options
        assert all(fact in answer.err.replace(" = ", "=") for fact in options[2].split()), options
