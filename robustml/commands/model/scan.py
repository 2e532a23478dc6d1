"""`robustml model scan <file or folder>`: what loading it could run; exit status 0 if nothing, 1 if anything."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from robustml.commands.ending.failures import report_failures
from robustml.errors import RequestError
from robustml.files import write_text
from robustml.say import say
from robustml.scanning import scan


def main() -> None:
    """Scan, print a line for each reason to refuse it."""
    parser = argparse.ArgumentParser(
        prog="robustml model scan",
        description="Say what loading a file, or any file of a folder, could run. Nothing in it is loaded: pickles are "
        "followed opcode by opcode, in torch zips and older files of torch, joblib, numpy and nested archives too, and "
        "whatever weights do not need is refused, by the names of what would be called. What is of no known kind is "
        "refused as well. Exit status 0: nothing is refused; 1: something is; 2: there is no such file.",
        epilog="examples: robustml model scan model.pt\n"
        "          robustml model scan outputs/digits_pgd/2026-01-01_12-00-00 out=scan.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="file or folder")
    parser.add_argument("out", nargs="?", metavar="out=FILE", help="write what was found as JSON, too")
    arguments = parser.parse_args()
    report_failures(lambda: _scan(arguments.path, arguments.out))


def _scan(path: Path, out: str | None) -> None:
    if out is not None and not out.startswith("out="):
        raise RequestError(f"scan takes one file or folder, and out=<file>; got {out!r}")
    found = scan(path)
    for finding in found.findings:
        say(f"refused: {finding}")
    kinds = Counter(found.files.values())
    say(f"scanned: {', '.join(f'{number:,} {kind}' for kind, number in kinds.most_common())}")
    if out is not None:
        target = Path(out.removeprefix("out="))
        write_text(target, json.dumps(found.as_json(), indent=2) + "\n")
        say(f"report: {target}")
    if found.findings:
        number = len(found.findings)
        say(f"refused for {number:,} reason{'s' if number > 1 else ''}")
        sys.exit(1)
    say("nothing is refused")


if __name__ == "__main__":
    main()
