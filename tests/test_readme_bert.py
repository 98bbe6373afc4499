"""README's section on BERT is true of the code: names exist, shapes are those of a real run, figures come out again."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from src.data.batching import Batch
from src.data.masking import NOT_MASKED, Masking
from src.data.packing import PackedRows
from src.data.tokenizer import SPECIAL_TOKENS
from src.model.bert import BertForMaskedLM
from src.utils.config import REPOSITORY, PretrainConfig, PretrainingConfig
from tests.benchmarks.one_sentence import Walk, walk
from tests.call_shapes import Calls, Shapes, record_linear_layers, recorded_calls
from tests.training import tiny_pretraining, tiny_training

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SECTION = README.split("\n## BERT in this repository\n")[1].split("\n## ")[0].replace("\n> ", " ").replace("\n", " ")
STEPS = re.split(r" \*\*\d+\. ", re.sub(r"<!-- bert -->.*<!-- /bert -->", "", SECTION))[1:]

NAME = r"\[`([\w.]+)`\]\((src/[\w/]+\.py)\)"
NAMED = re.findall(NAME, SECTION)
SHAPES = re.findall(NAME + r": (?:`([^`]+)` )?→ `([^`]+)`", SECTION)

B = 3  # sentences, so that no two letters stand for one number


@pytest.fixture(scope="module")
def found() -> Walk:
    torch.set_num_threads(1)
    return walk()


def defined(file: Path) -> set[str]:
    """Functions, classes, methods, and modules that a class keeps as attributes, as `Class.name`."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{name}" for name in members(node)}
    return names


def members(node: ast.ClassDef) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef):
            yield inner.name
        elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
            yield inner.attr


@pytest.mark.parametrize("name, file", sorted(set(NAMED)))
def test_every_function_that_the_section_names_is_where_it_says(name: str, file: str) -> None:
    assert name in defined(REPOSITORY / file)


def test_every_step_names_code_and_a_paper_s_section() -> None:
    assert len(STEPS) == 13
    for step in STEPS:
        assert re.search(NAME, step), step
        assert re.search(r"· (Vaswani|Devlin|Radford) et al. \d{4}, sections? [\d.]+", step), step
    assert sum("$" in step for step in STEPS) == len(STEPS) - 1  # tokens need no equation
    assert len(SHAPES) >= 15


def test_no_equation_is_broken_across_lines() -> None:
    lines = README.split("\n## BERT in this repository\n")[1].split("\n## ")[0].splitlines()
    assert [line for line in lines if line.count("$") % 2] == []
    # Markdown takes a backslash in front of a sign for its own.
    assert [line for line in lines if re.search(r"\$.*\\[^a-zA-Z].*\$", line)] == []


def test_every_paper_that_the_section_cites_is_in_the_references() -> None:
    references = README.split("\n## References\n")[1].replace("\n", " ")
    cited = set(re.findall(r"(\w+) et al\. (\d{4})", SECTION))
    assert len(cited) == 5
    for author, year in cited:
        assert re.search(rf"\b{author}\b[^*]*\*[^*]+\*, {year}", references), author


def masked_batch(found: Walk) -> Batch:
    """Rows cut out of the sentence's own tokens, masked as this project does by default."""
    T, V = found.sizes["T"], found.sizes["V"]
    masking = Masking(PretrainConfig().optimization.mask_rate, True, 4, range(len(SPECIAL_TOKENS)), V)
    cls, *words, sep = found.input_ids[0].tolist()
    stream = np.array(words * (B + 2), dtype=np.uint16)
    rows = PackedRows("the sentence", stream, T, cls, sep, masking)
    return rows.collate(rows.batches(B, 0, 0)[0], torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def calls_and_sizes(found: Walk, tmp_path_factory: pytest.TempPathFactory) -> tuple[Calls, dict[str, int]]:
    """The sentence three times through classification, attention's readable path, masking and both losses."""
    classification, masked_lm = tiny_training.task(), tiny_pretraining.task(tmp_path_factory.mktemp("cache"))
    with recorded_calls() as calls, torch.inference_mode():
        batch = masked_batch(found)
        masked_model = BertForMaskedLM(found.model.config).eval()
        masked_model.bert.load_state_dict(found.model.bert.state_dict())
        record_linear_layers(masked_model, calls)
        masked_lm.loss(masked_model, batch)
        input_ids = found.input_ids.repeat(B, 1)
        labels = torch.ones(B, dtype=torch.long)
        classes = Batch(input_ids=input_ids, attention_mask=None, token_type_ids=None, labels=labels)
        classification.loss(found.model, classes)
        found.model.bert(input_ids, return_attentions=True)
    sizes = found.sizes | {"B": B, "N": int((batch["labels"] != NOT_MASKED).sum())}
    assert len({1, *sizes.values()}) == 1 + len(sizes), f"two letters stand for one number: {sizes}"
    return calls, sizes


def meant(stated: str, sizes: Mapping[str, int]) -> Shapes:
    """Reads "3 of (B, T, D)" or "(N, D) and (V, D)" as shapes."""
    shapes = []
    for part in filter(None, stated.split(" and ")):
        count, _, letters = part.rpartition(" of ")
        assert re.fullmatch(r"\((\w+(, \w+)*,?)?\)", letters), stated
        sides = [letter.strip() for letter in letters[1:-1].split(",") if letter.strip()]
        shapes += [tuple(sizes[side] if side in sizes else int(side) for side in sides)] * int(count or 1)
    return shapes


@pytest.mark.parametrize("name, file, taken, returned", SHAPES)
def test_every_shape_is_what_a_run_takes_and_returns(
    name: str, file: str, taken: str, returned: str, calls_and_sizes: tuple[Calls, dict[str, int]]
) -> None:
    calls, sizes = calls_and_sizes
    assert (meant(taken, sizes), meant(returned, sizes)) in calls[name, file]


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def figures_of_attention(found: Walk) -> list[str]:
    piece, rest = found.tokens.index("stick"), found.tokens.index("##y")
    weights, (before, itself, *_) = found.head.weights, found.attentions[1]
    return [
        "in layer 2, head 1 looks at",
        f"`stick` gives {percent(float(weights[piece, rest]))} of its weight to `##y`",
        f"`##y` {percent(float(weights[rest, piece]))} to `stick`",
        f"the token in front (with {percent(float(before.diagonal(-1).min()))} of the weight or more)",
        f"head 2 at the token itself ({percent(float(itself.diagonal().min()))} or more)",
        f"that would forbid {percent(float(weights.triu(1).sum() / weights.sum()))}",
    ]


def figures_of_masking(V: int) -> list[str]:
    theirs, ours = PretrainingConfig(), PretrainConfig().optimization
    assert (theirs.mask_replacement, ours.mask_replacement) == ("80-10-10", "mask")
    mask, word = 4, V - 1
    masking = Masking(theirs.mask_rate, False, mask, range(len(SPECIAL_TOKENS)), V)
    masked, labels = masking(torch.full((1, 1_000_000), word), torch.Generator().manual_seed(0))
    chosen = masked[labels != NOT_MASKED]
    hidden, same = (float((chosen == one).float().mean()) for one in (mask, word))
    return [
        f"BERT hides {percent(chosen.numel() / labels.numel())} of the tokens, {percent(hidden)} of these behind "
        f"`[MASK]`, {percent(1 - hidden - same)} behind a random token, and leaves {percent(same)} as they are",
        f"this project hides {percent(ours.mask_rate)}, always behind `[MASK]`",
    ]


def test_every_figure_in_the_steps_comes_out_again(found: Walk) -> None:
    steps = " ".join(step.partition(" · ")[0] for step in STEPS)  # before the papers' sections
    for phrase in figures_of_attention(found) + figures_of_masking(found.sizes["V"]):
        assert phrase in steps
        steps = steps.replace(phrase, "")
    steps = re.sub(r"\$\$.*?\$\$|\$.*?\$|`[^`]*`", "", steps)  # equations and code
    assert re.findall(r"[^.;]*\d[^.;]*", steps) == []
