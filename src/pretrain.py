"""Pre-train a BERT on unlabelled text by predicting masked tokens: `python -m src.pretrain --help`."""

from dataclasses import replace
from typing import TYPE_CHECKING

from src.data.documents import absolute_source
from src.utils.cli import parse_training, run_program
from src.utils.config import CACHE_DIR, PretrainConfig, with_options
from src.utils.errors import UsageError
from src.utils.files import absolute_model_path

if TYPE_CHECKING:
    from src.data.packing import TokenizedCorpus

PROGRAM = "python -m src.pretrain"
CONTINUED = {"learning_rate": 1e-4}  # a higher rate would undo what a checkpoint has learned


def main(arguments: list[str]) -> None:
    """Parses the command line, pre-trains, and prints the evaluation and, last, the folder of the run."""
    config = _parsed(arguments)

    # Not above: --help should not wait for PyTorch.
    from src.training.checkpoint import open_run, refuse_changes
    from src.training.dry_run import dry_run, with_steps
    from src.training.tasks import MaskedLMTask
    from src.training.trainer import train
    from src.utils.distributed import process_group
    from src.utils.runs import config_of

    with process_group(), open_run(config) as folder:
        if folder.checkpoint is not None:
            saved = config_of(folder.path, PretrainConfig())
            config = _parsed(arguments, saved)
            if config.optimization.minutes != saved.optimization.minutes:
                raise UsageError(
                    "--minutes became --max-steps when the run began; change that, with --allow-config-change"
                )
            refuse_changes(saved, config)
        corpus = _corpus(config)
        config = with_steps(config, corpus)
        task = MaskedLMTask(config, corpus, initialize=folder.checkpoint is None)
        if config.run.dry_run:
            dry_run(task)
        else:
            train(task, folder)


def _corpus(config: PretrainConfig) -> "TokenizedCorpus":
    from src.data.documents import open_documents
    from src.data.packing import tokenized_corpus
    from src.interop.pretrained import fetch, pretrained_tokenizer
    from src.utils.distributed import main_process_first

    documents = open_documents(config.corpus, config.text_column)
    tokenizer = None
    if config.model_name_or_path is not None:
        tokenizer = pretrained_tokenizer(fetch(config.model_name_or_path), config)
    with main_process_first():
        return tokenized_corpus(documents, config.tokenization, config.model.vocab_size, CACHE_DIR, tokenizer)


def _parsed(arguments: list[str], default: PretrainConfig | None = None) -> PretrainConfig:
    config = parse_training(arguments, PROGRAM, default or PretrainConfig())
    if default is None and config.model_name_or_path is not None:
        config = parse_training(arguments, PROGRAM, with_options(PretrainConfig(), CONTINUED))
    return replace(
        config,
        corpus=tuple(absolute_source(source) for source in config.corpus),
        model_name_or_path=absolute_model_path(config.model_name_or_path),
    )


if __name__ == "__main__":
    run_program(main)
