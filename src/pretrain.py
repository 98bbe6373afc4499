"""Pre-train a BERT on unlabelled text by predicting masked tokens: `python -m src.pretrain --help`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from src.data.documents import settled
from src.utils.command_line import parse_pretraining
from src.utils.config import CACHE_DIR, PretrainConfig
from src.utils.errors import UsageError, run_program
from src.utils.names import settled_model
from src.utils.options import changed_options, with_options
from src.utils.runs import begun_with

if TYPE_CHECKING:
    from src.data.packing import TokenizedCorpus
    from src.training.run_folder import RunFolder

PROGRAM = "python -m src.pretrain"


def main(arguments: list[str]) -> None:
    """Parses the command line, pre-trains, and prints the evaluation and, last, the folder of the run."""
    config = _parsed(arguments)

    # Not above: --help should not wait for PyTorch.
    from src.evaluation.masked_lm import MaskedEvaluation
    from src.utils.distributed import is_first, process_group

    with process_group():
        folder = _run(arguments, config)
        if is_first() and folder is not None:
            print(MaskedEvaluation.from_dict(folder.read_evaluation()).as_text())
            print(f"\n{folder.path}")


def _run(arguments: list[str], config: PretrainConfig) -> "RunFolder | None":
    from src.training.pretrain_setup import describe, set_up_pretraining, with_steps
    from src.training.rehearsal import dry_run
    from src.training.run import run
    from src.training.start import find_checkpoint, new_run, refuse_changes
    from src.utils.distributed import is_first

    folder: RunFolder | None = None
    checkpoint: Path | None = None
    if (found := find_checkpoint(config.run, config.task)) is not None:
        folder, checkpoint = found
        saved = begun_with(folder.path, PretrainConfig())
        config = _parsed(arguments, saved)
        if config.optimization.minutes != saved.optimization.minutes:
            raise UsageError("--minutes became --max-steps when the run began; change that, with --allow-config-change")
        refuse_changes(saved, config)
    elif not config.run.dry_run:
        model = config.preset if config.model_name_or_path is None else Path(config.model_name_or_path).name
        folder = new_run(config.run, model, "pretrained")
    corpus = _corpus(config)
    config = with_steps(config, corpus)
    setup = set_up_pretraining(config, corpus, begins=checkpoint is None)
    describe(setup)
    if folder is None:
        told = dry_run(setup, changed_options(with_options(config, {"dry_run": False})))
        if is_first():
            print(told)
        return None
    run(config, setup, folder, checkpoint)
    return folder


def _corpus(config: PretrainConfig) -> "TokenizedCorpus":
    from src.data.documents import chain, open_documents
    from src.data.packing import tokenized_corpus
    from src.interop.pretrained import fetch, pretrained_tokenizer
    from src.utils.distributed import first_process_first

    documents = chain(open_documents(source, config.text_column) for source in config.corpus)
    tokenizer = None
    if config.model_name_or_path is not None:
        tokenizer = pretrained_tokenizer(fetch(config.model_name_or_path), config)
    with first_process_first():
        return tokenized_corpus(documents, config.tokenization, config.model.vocab_size, CACHE_DIR, tokenizer)


def _parsed(arguments: list[str], default: PretrainConfig | None = None) -> PretrainConfig:
    config = parse_pretraining(arguments, PROGRAM, default)
    return replace(
        config,
        corpus=tuple(settled(source) for source in config.corpus),
        model_name_or_path=settled_model(config.model_name_or_path),
    )


if __name__ == "__main__":
    run_program(main)
