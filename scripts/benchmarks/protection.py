"""What protected copies cost: `python scripts/benchmarks/protection.py`.

Random files are protected in six folders, of which four suffice, restored from all, restored with two places lost, and
these healed, each in a process of its own on one core: megabytes (10^6) of data by processor second and by wall-clock
second, the median of several rounds, and the most memory that the process took. Beside it, in the same run, the erasure
code alone and ISA-L's (pyeclib, the dev environment). Prints a table, and writes it as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

NEED, PLACES = 4, 6
LOST = (0, 3)


def main() -> None:
    """Measure and print; with `--do`, be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--do", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if arguments.do is not None:
        print(json.dumps(one(arguments.do, arguments.folder)))
        return
    found: dict[str, object] = {"code": (code := erasure(arguments.rounds))}
    print("the code alone, MB/s of data   ours  ISA-L")
    for what in ("encode", "rebuild two"):
        print(f"  {what:<28}{code[what]['ours']:7.0f}{code[what]['isa_l']:7.0f}")
    print("\n           MB  what                    MB/s of processor  of wall clock  most memory, MiB")
    for megabytes in arguments.megabytes:
        rounds = [measured(megabytes, arguments.folder) for _ in range(arguments.rounds)]
        table = {
            what: {unit: statistics.median(each[what][unit] for each in rounds) for unit in rounds[0][what]}
            for what in rounds[0]
        }
        found[f"{megabytes} MB"] = table
        for what, row in table.items():
            rates = f"{megabytes / row['processor']:18.0f}{megabytes / row['wall']:15.0f}"
            print(f"  {megabytes:>11}  {what:<22}{rates}{row['memory']:18.0f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1))


def measured(megabytes: int, folder: Path) -> dict[str, dict[str, float]]:
    """Seconds and MiB of each of the things that are done to a set."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        root = Path(name)
        (root / "set").mkdir()
        for number in range(10):
            (root / f"set/{number}").write_bytes(np.random.default_rng(number).bytes(megabytes * 100_000))
        words = [sys.executable, __file__, "--folder", name, "--do"]
        done = {}
        for what in ("protect", "restore", "restore, two lost", "heal two"):
            if what == "restore, two lost":
                for place in LOST:
                    shutil.rmtree(root / str(place))
            done[what] = json.loads(subprocess.run([*words, what], capture_output=True, check=True).stdout)
            for path in (root / "set").iterdir() if what.startswith("restore") else ():
                assert path.read_bytes() == (root / "out" / path.name).read_bytes()
        return done


def one(what: str, root: Path) -> dict[str, float]:
    """Do it, and say what it took."""
    from robustml.integrity.protection import protect, restore

    places = [str(root / f"{place}") for place in range(PLACES)]
    shutil.rmtree(root / "out", ignore_errors=True)
    wall, processor = time.perf_counter(), time.process_time()
    if what == "protect":
        protect(sorted((root / "set").iterdir()), places, NEED, root / "keys")
    elif what == "heal two":
        assert len(restore(places, root / "keys", None).healed) == len(LOST)
    else:
        restore(places, root / "keys", root / "out", heal=what == "restore")
    took = {"processor": time.process_time() - processor, "wall": time.perf_counter() - wall}
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return took | {"memory": int(status["VmHWM"].split()[0]) / 1024}


def erasure(rounds: int) -> dict[str, dict[str, float]]:
    """MB/s of the code alone, on stripes of 1 MiB."""
    from pyeclib.ec_iface import ECDriver

    from robustml.integrity.protection.erasure import encode, rebuild

    other = ECDriver(k=NEED, m=PLACES - NEED, ec_type="isa_l_rs_cauchy")
    data = list(np.random.default_rng(0).integers(0, 2**16, (NEED, 2**17), np.uint16))
    content = b"".join(map(bytes, data))
    chunks = dict(enumerate([*data, *encode(data, PLACES)]))
    fragments = other.encode(content)
    left = {number: chunk for number, chunk in chunks.items() if number not in LOST}
    few = [fragment for number, fragment in enumerate(fragments) if number not in LOST]
    assert other.decode(few) == content
    calls: dict[str, dict[str, Callable[[], object]]] = {
        "encode": {"ours": lambda: encode(data, PLACES), "isa_l": lambda: other.encode(content)},
        "rebuild two": {"ours": lambda: rebuild(left, NEED), "isa_l": lambda: other.decode(few)},
    }
    return {
        what: {name: statistics.median(rate(call, len(content)) for _ in range(rounds)) for name, call in both.items()}
        for what, both in calls.items()
    }


def rate(call: Callable[[], object], size: int) -> float:
    """MB/s of a call on so many bytes."""
    call()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 0.5:
        call()
        count += 1
    return count * size / 1e6 / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
