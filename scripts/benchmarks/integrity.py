"""What proving a set costs: `python scripts/benchmarks/integrity.py [--data <dir with mnist/train.parquet>]`.

In one run, interleaved so that a noisy machine slows all alike, on the same files of random pictures in Parquet:

- openssl: `openssl dgst -sha256 <files>`, one process, a core;
- one thread: `hashlib.file_digest` over the files, one after the other;
- verify: `verify_data` of the untouched set, its manifest read and its files hashed in two threads.

A ratio is bytes a second over openssl's, each the median over rounds of the ratio within a round. With `--data` also
the seconds of a manifest of MNIST (all digests, without decoding), of verifying it, of finding one flipped bit, and
those that `data.verify=start` adds to loading it, beside an epoch of PGD-10 training of a small network.
`--flat` makes a manifest of a file and of one ten times larger in processes of their own, and prints the peak of the
memory of each, imports included. Prints a table, writes JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from robustml.attacks import PGD
from robustml.data import DataModule, HubImages, ParquetImages
from robustml.data.guard import Verify
from robustml.models import WongCNN
from robustml.say import hushed
from robustml.threats import LpBall
from robustml.workflows.integrity.guarding import guarded
from robustml.workflows.integrity.keys import new_keys
from robustml.workflows.integrity.manifest import make_manifest
from robustml.workflows.integrity.sign import sign_data
from robustml.workflows.integrity.verify import verify_data

PICTURE = 4096


def write(path: Path, megabytes: int, seed: int) -> None:
    """Random bytes as pictures, in one group: the worst case for reading in parts."""
    random, rows = np.random.RandomState(seed), megabytes * 2**20 // PICTURE
    schema = pa.schema({"image": pa.binary(), "label": pa.int64()})
    content = random.bytes(rows * PICTURE)
    images = [content[row * PICTURE : (row + 1) * PICTURE] for row in range(rows)]
    table = pa.table({"image": images, "label": [row % 10 for row in range(rows)]}, schema)
    pq.write_table(table, path, compression="none", use_dictionary=False, row_group_size=rows)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bulk(folder: Path, megabytes: int, rounds: int) -> dict[str, Any]:
    """Verification against openssl."""
    files = [folder / "train.parquet", folder / "test.parquet"]
    for seed, path in enumerate(files):
        write(path, megabytes // 2, seed)
    source, manifest = ParquetImages(*map(str, files)), folder / "m"
    make_manifest(source, manifest, name="bulk", decoded=False)
    size = sum(path.stat().st_size for path in files)

    def one_thread() -> None:
        for path in files:
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")

    def verify() -> None:
        assert verify_data(source, manifest, unsigned=True).same

    command = ["openssl", "dgst", "-sha256", *map(str, files)]
    ways: dict[str, Callable[[], object]] = {
        "openssl": lambda: subprocess.run(command, check=True, capture_output=True),
        "one thread": one_thread,
        "verify": verify,
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, work in ways.items():
            each = seconds(work)
            if number:  # the first round warms the disk's cache
                took[way].append(each)
    return {
        way: {
            "mb_per_s": size / 1e6 / statistics.median(times),
            "ratio_to_openssl": statistics.median(a / b for a, b in zip(took["openssl"], times, strict=True)),
        }
        for way, times in took.items()
    }


def mnist(data: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Seconds on real MNIST, a copy of it."""
    shutil.copytree(data / "mnist", folder / "mnist")
    path, source, manifest = folder / "mnist" / "train.parquet", HubImages("mnist", root=str(folder)), folder / "m"
    path.chmod(0o644)
    made = [seconds(lambda: make_manifest(source, manifest, name="mnist", decoded=False)) for _ in range(rounds)]
    verified = [seconds(lambda: verify_data(source, manifest, unsigned=True)) for _ in range(rounds)]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found = verify_data(source, manifest, unsigned=True)
    print("a flipped bit:", *found.files, *found.records)
    named = [seconds(lambda: verify_data(source, manifest, unsigned=True)) for _ in range(rounds)]
    times = {"manifest": made, "verify": verified, "verify, one bit flipped": named}
    return {what: statistics.median(each) for what, each in times.items()}


def at_start(data: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Seconds that `data.verify=start` adds to loading MNIST (decoded before), beside an epoch of PGD training."""
    shutil.copytree(data / "mnist", folder / "mnist")
    source, manifest, keys = HubImages("mnist", root=str(folder)), folder / "m", folder / "keys"
    with hushed():
        new_keys(keys, "us")
        make_manifest(source, manifest, name="mnist", decoded=True)
        sign_data(manifest, keys)

        def loading(verify: Verify) -> float:
            data = DataModule(source, name="mnist", verify=verify, manifest=str(manifest), trust=str(keys))
            return seconds(guarded(data).setup)

        loading("never")  # fills the cache
        added = [loading("start") - loading("never") for _ in range(rounds)]
    plain = DataModule(source, name="mnist", batch_size=100)
    plain.setup()
    model, attack, threat = WongCNN((1, 28, 28), 10), PGD(steps=10), LpBall("inf", 0.3)
    optimizer = torch.optim.Adam(model.parameters())
    batches = iter(plain.train_dataloader())

    def step() -> None:
        x, y = next(batches)[:2]
        adversarial = attack(model, x, y, threat)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(adversarial), y).backward()
        optimizer.step()

    step()
    epoch = statistics.median(seconds(step) for _ in range(20)) * len(plain.train) / 100
    return {"verify=start adds": statistics.median(added), "an epoch of PGD-10 training": epoch}


def flat(folder: Path, megabytes: int) -> dict[str, float]:
    """Peak memory of making a manifest, in MiB, by the size of the file."""
    peaks = {}
    for size in (megabytes, 10 * megabytes):
        path = folder / f"{size}.parquet"
        write(path, size, 0)
        words = [sys.executable, __file__, "--peak", str(path)]
        peaks[f"{size} MiB"] = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return peaks


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256, help="of the bulk files together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--flat", action="store_true")
    parser.add_argument("--peak", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.peak is not None:
        with tempfile.TemporaryDirectory() as out:
            make_manifest(ParquetImages(str(arguments.peak)), Path(out) / "m", name="flat", decoded=False)
        # getrusage would begin with what the process that started this one held
        status = Path("/proc/self/status").read_text()
        print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
        return
    found: dict[str, Any] = {"megabytes": arguments.megabytes, "rounds": arguments.rounds}
    with tempfile.TemporaryDirectory() as folder:
        found["bulk"] = bulk(Path(folder), arguments.megabytes, arguments.rounds)
    for way, row in found["bulk"].items():
        print(f"{way:<12}{row['mb_per_s']:8.0f} MB/s   {row['ratio_to_openssl']:.2f} of openssl")
    if arguments.data is not None:
        with tempfile.TemporaryDirectory() as folder:
            found["mnist"] = mnist(arguments.data, Path(folder), arguments.rounds)
        with tempfile.TemporaryDirectory() as folder:
            found["mnist"] |= at_start(arguments.data, Path(folder), arguments.rounds)
        for what, took in found["mnist"].items():
            print(f"MNIST, {what}: {took:.2f} s")
    if arguments.flat:
        with tempfile.TemporaryDirectory() as folder:
            found["peak_mib"] = flat(Path(folder), 64)
        for size, peak in found["peak_mib"].items():
            print(f"peak memory, manifest of {size}: {peak:.0f} MiB")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
