"""`robustml report <dir> [<dir> ...]`: the page of one run, one page that compares several, or a ranking of many."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.ending.failures import report_failures
from robustml.errors import RequestError, printable
from robustml.say import say

if TYPE_CHECKING:
    from robustml.reporting import Run


def main() -> None:
    """Read run directories, write a page, print the table."""
    parser = argparse.ArgumentParser(
        prog="robustml report",
        description="Write report.html of one run, or a page that compares several. A run that cannot be read is named "
        "and left out, and the rest is shown. Exit status 0: all runs are shown; 1: some were left out; 2: none can be "
        "read.",
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


def _runs(folders: list[Path]) -> tuple[list[Run], dict[str, str]]:
    """The runs in or below folders, and why each run that cannot be read is left out.

    Raises:
        RequestError: there is none, or a folder is missing.
    """
    from robustml.reporting import find_runs, read_run

    runs: list[Run] = []
    left_out: dict[str, str] = {}
    for folder in folders:
        if not (folder / "results.json").is_file():
            found, broken = find_runs(folder)
            runs += found
            left_out |= {printable(str(folder / name)): reason for name, reason in broken.items()}
            continue
        try:
            runs.append(read_run(folder))
        except RequestError as error:
            left_out[printable(str(folder))] = printable(str(error))
    if not runs and left_out:
        more = f" (and {len(left_out) - 1} more cannot be read)" if len(left_out) > 1 else ""
        raise RequestError(f"{next(iter(left_out.values()))}{more}")
    if not runs:
        raise RequestError(f"there is no finished run (results.json) below {', '.join(map(str, folders))}")
    return runs, left_out


def _say_left_out(left_out: dict[str, str]) -> None:
    """Name what is missing from a page that was written all the same, and exit with 1 if anything is."""
    for name, reason in left_out.items():
        say(f"left out: {name}: {reason}")
    if left_out:
        sys.exit(1)


def _rank(folders: list[Path], out: Path | None) -> None:
    from robustml.reporting.pages.ranking import ranking_text, write_ranking

    folder = out or folders[0]
    if folder.is_file():
        raise RequestError(f"--out={folder} is a file; --table writes leaderboard.csv and .html into a folder")
    runs, left_out = _runs(folders)
    write_ranking(runs, folder, left_out)
    say(ranking_text(runs, folder))
    say(f"table: {folder / 'leaderboard.csv'}, {folder / 'leaderboard.html'}")
    _say_left_out(left_out)


def _report(folders: list[Path], out: Path | None, title: str | None) -> None:
    from robustml.reporting import summary_table, write_report

    runs, left_out = _runs(folders)
    target = out or (runs[0].path / "report.html" if len(runs) == 1 else Path("compare.html"))
    page = write_report([run.path for run in runs], target, title)
    say(summary_table(runs))
    say(f"report: {page}")
    _say_left_out(left_out)


if __name__ == "__main__":
    main()
