"""How long the command line takes to answer: `python scripts/benchmarks/startup.py`.

Whole processes, each started once to warm the disk cache and then several times; prints medians, writes JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "robustml --help": ["--help"],
    "robustml train --cfg job": ["train", "--cfg", "job"],
    "robustml train --help": ["train", "--help"],
    "robustml configs": ["configs"],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    medians = {}
    for name, words in COMMANDS.items():
        seconds = []
        for _ in range(arguments.runs + 1):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-m", "robustml.cli", *words], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
        medians[name] = statistics.median(seconds[1:])
        print(f"{name:<28}{medians[name]:.2f} s")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(medians, indent=2) + "\n")


if __name__ == "__main__":
    main()
