"""`robustml report <dir> [<dir> ...]`: write the page of one run, or one page that compares several."""

from __future__ import annotations

import argparse
from pathlib import Path

from robustml.commands.entry import report_failures
from robustml.errors import RequestError

__all__ = ["main"]


def main() -> None:
    """Read run directories, write a page, print the table."""
    parser = argparse.ArgumentParser(
        prog="robustml report",
        description="Write report.html of one run, or a page that compares several.",
        epilog="examples: robustml report outputs/digits_pgd/2026-01-01_12-00-00\n"
        "          robustml report outputs/a/<time> outputs/b/<time> --out compare.html --title 'Before and after'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="run directory, or a folder of several")
    parser.add_argument("--out", type=Path, help="the page; report.html in the run, compare.html here for several")
    parser.add_argument("--title", help="heading of the page")
    arguments = parser.parse_args()
    report_failures(lambda: _report(arguments.runs, arguments.out, arguments.title))


def _report(folders: list[Path], out: Path | None, title: str | None) -> None:
    from robustml.reporting import find_runs, read_run, summary_table, write_report

    runs = []
    for folder in folders:
        is_run = (folder / "results.json").is_file() or not folder.is_dir()
        runs += [read_run(folder)] if is_run else find_runs(folder)
    if not runs:
        raise RequestError(f"there is no finished run (results.json) below {', '.join(map(str, folders))}")
    target = out or (runs[0].path / "report.html" if len(runs) == 1 else Path("compare.html"))
    page = write_report([run.path for run in runs], target, title)
    print(summary_table(runs))
    print(f"report: {page}")


if __name__ == "__main__":
    main()
