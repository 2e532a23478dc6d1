"""`robustml card <run> [<run> ...]`: all that was measured of a model, verified, as card.json and card.html."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from robustml.commands.ending.failures import report_failures
from robustml.errors import RequestError, RunFailed, printable
from robustml.say import say


def main() -> None:
    """Read run directories and their evaluations, write the card, print the figures."""
    parser = argparse.ArgumentParser(
        prog="robustml card",
        description="Write card.json and card.html of a run: clean, robust, certified and corruption accuracy of one "
        "model out of the run and all finished evaluations below it, with intervals, flags and digests. Of several "
        "runs, the cards side by side; a run of which no card can be made is named and left out. Exit status 0: done; "
        "1: the weights of a run are not those that were measured, or one of several was left out; 2: none can be "
        "read.",
        epilog="examples: robustml card outputs/digits_pgd/2026-01-01_12-00-00\n"
        "          robustml card outputs/a/<time> outputs/b/<time> --out cards",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory of robustml train")
    parser.add_argument("--out", type=Path, help="folder to write into; the run itself by default, needed for several")
    arguments = parser.parse_args()
    report_failures(lambda: _card(arguments.runs, arguments.out))


def _card(runs: list[Path], out: Path | None) -> None:
    from robustml.reporting.card import Gathered, gather
    from robustml.reporting.pages.card import write_gathered
    from robustml.reporting.tables.card import card_text

    if out is None and len(runs) > 1:
        raise RequestError("several runs need a folder for their card: --out=<folder>")
    folder = out or runs[0]
    found: dict[Path, Gathered] = {}
    left_out: dict[str, str] = {}
    for run in runs:
        try:
            found[run] = gather(run)
        except (RequestError, RunFailed) as error:
            left_out[printable(str(run))] = printable(str(error))
            failure = error
    if not found:
        raise failure
    for run, card in zip(found, write_gathered(list(found.values()), folder, left_out), strict=True):
        if len(found) > 1:
            say(f"{printable(str(run))}:")
        say(card_text(card))
    say(f"card: {folder / 'card.json'}\npage: {folder / 'card.html'}")
    for name, reason in left_out.items():
        say(f"left out: {name}: {reason}")
    if left_out:
        sys.exit(1)


if __name__ == "__main__":
    main()
