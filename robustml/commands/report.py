"""`robustml report <dir> [<dir> ...]`: the page of one run, one page that compares several, or a ranking of many."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.entry import report_failures
from robustml.errors import RequestError

if TYPE_CHECKING:
    from robustml.reporting import Run

__all__ = ["main"]


def main() -> None:
    """Read run directories, write a page, print the table."""
    parser = argparse.ArgumentParser(
        prog="robustml report",
        description="Write report.html of one run, or a page that compares several.",
        epilog="examples: robustml report outputs/digits_pgd/2026-01-01_12-00-00\n"
        "          robustml report outputs/a/<time> outputs/b/<time> --out compare.html --title 'Before and after'\n"
        "          robustml report --table outputs   every run below, ranked by worst-case accuracy",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="run directory, or a folder of several")
    parser.add_argument("--out", type=Path, help="the page; report.html in the run, compare.html here for several")
    parser.add_argument("--title", help="heading of the page")
    parser.add_argument(
        "--table", action="store_true", help="rank the runs; leaderboard.csv and .html in --out, or the first folder"
    )
    arguments = parser.parse_args()
    if arguments.table:
        report_failures(lambda: _rank(arguments.runs, arguments.out))
    else:
        report_failures(lambda: _report(arguments.runs, arguments.out, arguments.title))


def _runs(folders: list[Path]) -> list[Run]:
    """The runs in or below folders.

    Raises:
        RequestError: there is none.
    """
    from robustml.reporting import find_runs, read_run

    runs = []
    for folder in folders:
        is_run = (folder / "results.json").is_file() or not folder.is_dir()
        runs += [read_run(folder)] if is_run else find_runs(folder)
    if not runs:
        raise RequestError(f"there is no finished run (results.json) below {', '.join(map(str, folders))}")
    return runs


def _rank(folders: list[Path], out: Path | None) -> None:
    from robustml.reporting.leaderboard import leaderboard_table, write_leaderboard

    folder = out or folders[0]
    if folder.is_file():
        raise RequestError(f"--out={folder} is a file; --table writes leaderboard.csv and .html into a folder")
    print(leaderboard_table(write_leaderboard(_runs(folders), folder)))
    print(f"table: {folder / 'leaderboard.csv'}, {folder / 'leaderboard.html'}")


def _report(folders: list[Path], out: Path | None, title: str | None) -> None:
    from robustml.reporting import summary_table, write_report

    runs = _runs(folders)
    target = out or (runs[0].path / "report.html" if len(runs) == 1 else Path("compare.html"))
    page = write_report([run.path for run in runs], target, title)
    print(summary_table(runs))
    print(f"report: {page}")


if __name__ == "__main__":
    main()
