"""Show a run in one page and in pictures: `python -m src.report --help` lists every option."""

from src.utils.cli import parse, run_program
from src.utils.errors import notice
from src.utils.programs import ReportConfig

PROGRAM = "python -m src.report"


def main(arguments: list[str]) -> None:
    """Parses the command line, writes the report of a run, and prints the path of its page."""
    config = parse(ReportConfig, arguments, PROGRAM)

    # Not above: --help should not wait for PyTorch.
    from src.evaluation.charts import draw_charts
    from src.evaluation.report import make_report, write_report
    from src.utils.device import set_up_device
    from src.utils.files import writing

    set_up_device(config.device, config.num_threads)
    report = make_report(config)
    for sentence in report.missing:
        notice(sentence)
    page = write_report(report, config.output_dir or config.folder / "report", config.predictions is None)
    if config.picture is not None:
        accuracy = f": accuracy {report.facts['accuracy']}" if "accuracy" in report.facts else ""
        with writing("--picture", config.picture):
            draw_charts(config.picture, report.charts, report.title + accuracy)
        notice(f"picture     {config.picture}")
    print(page)


if __name__ == "__main__":
    run_program(main)
