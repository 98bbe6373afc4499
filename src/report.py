"""Show a run in one page and in pictures: `python -m src.report --help` lists every option."""

from src.utils.cli import parse, run_program
from src.utils.config import ReportConfig

PROGRAM = "python -m src.report"


def main(arguments: list[str]) -> None:
    """Parses the command line, writes the report of a run, and prints the path of its page."""
    config = parse(ReportConfig, arguments, PROGRAM)
    # Not above: --help should not wait for PyTorch.
    from src.evaluation.report import write_report
    from src.utils.device import set_up_device

    set_up_device(config.device, config.num_threads)
    print(write_report(config))


if __name__ == "__main__":
    run_program(main)
