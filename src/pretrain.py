"""Pre-train a BERT on unlabelled text by predicting masked tokens: `python -m src.pretrain --help`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from src.data.documents import settled
from src.utils.command_line import parse_pretraining
from src.utils.config import CACHE_DIR, PretrainConfig
from src.utils.errors import UsageError, run_program
from src.utils.names import settled_model
from src.utils.runs import begun_with

if TYPE_CHECKING:
    from src.data.packing import TokenizedCorpus

PROGRAM = "python -m src.pretrain"


def main(arguments: list[str]) -> None:
    """Parses the command line, pre-trains, and prints the evaluation and, last, the folder of the run."""
    config = _parsed(arguments)

    # Not above: --help should not wait for PyTorch.
    from src.training.dry_run import dry_run, with_steps
    from src.training.resume import checkpoint_to_resume, new_run, refuse_changes
    from src.training.run import run
    from src.training.tasks import MaskedLMTask
    from src.utils.distributed import process_group

    with process_group(), checkpoint_to_resume(config.run, config.task) as found:
        if found is not None:
            folder, checkpoint = found
            saved = begun_with(folder.path, PretrainConfig())
            config = _parsed(arguments, saved)
            if config.optimization.minutes != saved.optimization.minutes:
                raise UsageError(
                    "--minutes became --max-steps when the run began; change that, with --allow-config-change"
                )
            refuse_changes(saved, config)
            run(config, MaskedLMTask(config, _corpus(config), initialize=False), folder, checkpoint)
        elif config.run.dry_run:
            corpus = _corpus(config)
            dry_run(MaskedLMTask(with_steps(config, corpus), corpus))
        else:
            model = config.preset if config.model_name_or_path is None else Path(config.model_name_or_path).name
            with new_run(config.run, model, "pretrained") as folder:
                corpus = _corpus(config)
                config = with_steps(config, corpus)
                run(config, MaskedLMTask(config, corpus), folder)


def _corpus(config: PretrainConfig) -> "TokenizedCorpus":
    from src.data.documents import chain, open_documents
    from src.data.packing import tokenized_corpus
    from src.interop.pretrained import fetch, pretrained_tokenizer
    from src.utils.distributed import main_process_first

    documents = chain(open_documents(source, config.text_column) for source in config.corpus)
    tokenizer = None
    if config.model_name_or_path is not None:
        tokenizer = pretrained_tokenizer(fetch(config.model_name_or_path), config)
    with main_process_first():
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
