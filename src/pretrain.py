"""Pre-train a BERT on unlabelled text by predicting masked tokens: `python -m src.pretrain --help`."""

from dataclasses import replace

from src.data.documents import absolute_source, open_documents
from src.utils.cli import parse_training, run_program
from src.utils.config import CACHE_DIR, PretrainConfig, with_options
from src.utils.errors import UsageError
from src.utils.files import absolute_model_path

PROGRAM = "python -m src.pretrain"
CONTINUED = {"learning_rate": 1e-4}  # a higher rate would undo what a checkpoint has learned


def main(arguments: list[str]) -> None:
    """Parses the command line, pre-trains, and prints the evaluation and, last, the folder of the run."""
    config = _parsed(arguments)

    # Not above: --help should not wait for PyTorch.
    from src.data.packing import tokenized_corpus
    from src.interop.huggingface import fetch, pretrained_tokenizer
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
                raise UsageError("--minutes became --max-steps at the start; change that, with --allow-config-change")
            refuse_changes(saved, config)
        documents, base = open_documents(config.corpus, config.text_column), config.model_name_or_path
        tokenizer = None if base is None else pretrained_tokenizer(fetch(base), config)
        corpus = tokenized_corpus(documents, config.tokenization, config.model.vocab_size, CACHE_DIR, tokenizer)
        config = with_steps(config, corpus)
        task = MaskedLMTask(config, corpus, initialize=folder.checkpoint is None)
        if config.run.dry_run:
            dry_run(task)
        else:
            train(task, folder)


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
