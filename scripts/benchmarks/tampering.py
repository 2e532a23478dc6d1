"""A campaign of tampering against a signed and protected copy of real MNIST: what is found, named, restored.

    python scripts/benchmarks/tampering.py ../shared/data --tamperings 1100 --untouched 1000 --json tampering.json

The set is the 10,000 pictures of MNIST's test part; `--whole` takes its 60,000 training pictures. What was done is
known from what this script did and, where bytes of the file were flipped, from reading the file by pyarrow alone: the
records that `verify_data` names are held against that.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robustml.data import ParquetImages
from robustml.errors import RequestError, RunFailed
from robustml.integrity.protection import protect, restore
from robustml.say import hushed
from robustml.workflows.integrity.guarding import guarded
from robustml.workflows.integrity.keys import new_keys
from robustml.workflows.integrity.manifest import make_manifest
from robustml.workflows.integrity.sign import sign_data
from robustml.workflows.integrity.verify import verify_data

NEED, PLACES = 4, 6
Rows = list[dict[str, Any]]


class Site:
    """A folder with a signed set, its manifest, an older manifest of it, keys of ours and of a stranger, and places."""

    def __init__(self, folder: Path, original: Path) -> None:
        self.folder, self.original = folder, original
        self.file, self.manifest, self.old = folder / "set" / "train.parquet", folder / "m", folder / "old"
        self.keys, self.stranger, self.secret = folder / "keys", folder / "stranger", folder / "secret"
        self.places = [str(folder / f"place{number}") for number in range(PLACES)]
        self.table = pq.read_table(original)
        self.rows: Rows = self.table.to_pylist()
        self.file.parent.mkdir(parents=True)
        new_keys(self.keys, "us")
        new_keys(self.stranger, "us")
        older = self.rows[:]
        older[0] = older[0] | {"label": (older[0]["label"] + 1) % 10}
        self.write(older)
        self.sign()
        shutil.copytree(self.manifest, self.old)
        self.reset()
        self.sign()
        self.verify()  # by which the trust store has seen it
        shutil.copytree(self.manifest, folder / "kept")
        protect({"data/train.parquet": self.file}, self.places, NEED, self.secret, name="mnist")

    @property
    def source(self) -> ParquetImages:
        """The set."""
        return ParquetImages(str(self.file))

    def sign(self) -> None:
        """Make and sign the manifest."""
        make_manifest(self.source, self.manifest, name="mnist")
        sign_data(self.manifest, self.keys)

    def write(self, rows: Rows) -> None:
        """Put these records in the place of the set."""
        pq.write_table(pa.Table.from_pylist(rows, self.table.schema), self.file)

    def reset(self) -> None:
        """Put everything back."""
        shutil.copyfile(self.original, self.file)
        if (self.folder / "kept").exists():
            shutil.rmtree(self.manifest)
            shutil.copytree(self.folder / "kept", self.manifest)

    def verify(self) -> tuple[bool, set[str], str]:
        """Whether all is as signed, the records that are named, and how it is said."""
        try:
            found = verify_data(self.source, self.manifest, self.keys)
        except RunFailed as error:
            return False, set(), str(error)
        named = {change.record for change in found.records}
        return found.same and not found.old.trouble, named, "; ".join(map(str, [*found.files, *found.records][:3]))


def differing(site: Site) -> set[str] | None:
    """The rows that pyarrow reads otherwise than before; None where it cannot read the file, or reads other rows."""
    try:
        rows = pq.read_table(site.file).to_pylist()
        if len(rows) != len(site.rows) or rows[0].keys() != site.rows[0].keys():
            return None
    except Exception:
        return None
    return {f"train {row}" for row, (one, other) in enumerate(zip(rows, site.rows, strict=True)) if one != other}


def flip_bit(site: Site, draw: random.Random) -> set[str] | None:
    content = bytearray(site.file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    site.file.write_bytes(content)
    return differing(site)


def flip_in_picture(site: Site, draw: random.Random) -> set[str] | None:
    rows, row = site.rows[:], draw.randrange(len(site.rows))
    content = bytearray(rows[row]["image"]["bytes"])
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    rows[row] = rows[row] | {"image": rows[row]["image"] | {"bytes": bytes(content)}}
    site.write(rows)
    return {f"train {row}"}


def delete(site: Site, draw: random.Random) -> set[str] | None:
    gone = set(draw.sample(range(len(site.rows)), draw.randint(1, 5)))
    site.write([each for row, each in enumerate(site.rows) if row not in gone])
    return {f"train {row}" for row in gone}


def insert(site: Site, draw: random.Random) -> set[str] | None:
    from PIL import Image

    place = draw.randrange(len(site.rows))
    image = Image.frombytes("L", (28, 28), draw.randbytes(784))
    image.save(content := io.BytesIO(), "png")
    new = {"image": {"bytes": content.getvalue(), "path": None}, "label": draw.randrange(10)}
    site.write([*site.rows[:place], new, *site.rows[place:]])
    return {f"train {place}"}


def swap(site: Site, draw: random.Random) -> set[str] | None:
    one, other = draw.sample(range(len(site.rows)), 2)
    rows = site.rows[:]
    rows[one], rows[other] = rows[other], rows[one]
    site.write(rows)
    return {f"train {one}", f"train {other}"}


def swap_labels(site: Site, draw: random.Random) -> set[str] | None:
    rows = site.rows[:]
    while True:
        one, other = draw.sample(range(len(rows)), 2)
        if rows[one]["label"] != rows[other]["label"]:
            break
    first, second = rows[one]["label"], rows[other]["label"]
    rows[one], rows[other] = rows[one] | {"label": second}, rows[other] | {"label": first}
    site.write(rows)
    return {f"train {one}", f"train {other}"}


def relabel(site: Site, draw: random.Random) -> set[str] | None:
    rows, chosen = site.rows[:], draw.sample(range(len(site.rows)), draw.randint(1, 20))
    for row in chosen:
        rows[row] = rows[row] | {"label": (rows[row]["label"] + draw.randint(1, 9)) % 10}
    site.write(rows)
    return {f"train {row}" for row in chosen}


def truncate(site: Site, draw: random.Random) -> set[str] | None:
    os.truncate(site.file, draw.randrange(site.file.stat().st_size))
    return None


def replay(site: Site, draw: random.Random) -> set[str] | None:
    """The older manifest, which was rightly signed, and in half of all cases the older data with it."""
    shutil.rmtree(site.manifest)
    shutil.copytree(site.old, site.manifest)
    if draw.random() < 0.5:
        rows = site.rows[:]
        rows[0] = rows[0] | {"label": (rows[0]["label"] + 1) % 10}
        site.write(rows)
    return set()


def forge(site: Site, draw: random.Random) -> set[str] | None:
    """Data and manifest made anew, signed by a stranger of the same name; or a signature that is not of them."""
    relabel(site, draw)
    signature = (site.manifest / "signature.sigstore.json").read_bytes()
    make_manifest(site.source, site.manifest, name="mnist")
    if draw.random() < 0.5:
        sign_data(site.manifest, site.stranger)
    else:
        (site.manifest / "signature.sigstore.json").write_bytes(signature)
    return set()


def flip_in_manifest(site: Site, draw: random.Random) -> set[str] | None:
    path = site.manifest / draw.choice(["manifest.json", "records.parquet", "signature.sigstore.json"])
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return set()


KINDS: dict[str, Callable[[Site, random.Random], set[str] | None]] = {
    "a bit of the file flipped": flip_bit,
    "a bit of a picture flipped": flip_in_picture,
    "records deleted": delete,
    "a record inserted": insert,
    "two records swapped": swap,
    "two labels swapped": swap_labels,
    "labels changed": relabel,
    "file truncated": truncate,
    "older manifest put back": replay,
    "manifest forged": forge,
    "a bit of the manifest flipped": flip_in_manifest,
}


def campaign(site: Site, count: int, seed: int) -> dict[str, Any]:
    draw, table = random.Random(seed), {name: {"tried": 0, "found": 0, "named": 0, "seconds": []} for name in KINDS}
    for number, name in zip(range(count), itertools.cycle(KINDS), strict=False):
        truth = KINDS[name](site, draw)
        began = time.perf_counter()
        same, named, said = site.verify()
        row: dict[str, Any] = table[name]
        row["seconds"].append(time.perf_counter() - began)
        row["tried"] += 1
        row["found"] += not same
        right = named == truth if truth is not None else not same
        row["named"] += right
        if same or not right:
            print(
                f"MISSED {number} {name}: {sorted(named)[:5]} for {sorted(truth or ())[:5]}; {said[:200]}", flush=True
            )
        site.reset()
        if number % 50 == 49:
            print(f"{number + 1} of {count} tamperings", flush=True)
    for row in table.values():
        row["seconds"] = statistics.median(row["seconds"]) if row["seconds"] else None
    return table


def untouched(site: Site, count: int) -> dict[str, int]:
    return {"tried": count, "alarms": sum(not site.verify()[0] for _ in range(count))}


def patterns(site: Site) -> dict[str, Any]:
    """Every place good, lost or altered: restored where four are good, else refused with nothing changed."""
    kept, out = site.folder / "kept places", site.folder / "restored"
    kept.mkdir()
    for place in site.places:
        shutil.copytree(place, kept / Path(place).name)
    right = {"restored": 0, "refused": 0}
    wrong: list[str] = []
    draw = random.Random(0)
    original = site.original.read_bytes()
    for states in itertools.product(("good", "lost", "altered", "swapped"), repeat=PLACES):
        if states.count("swapped") not in (0, 2):
            continue
        for place in site.places:
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(kept / Path(place).name, place)
        swapped = [Path(place) for place, state in zip(site.places, states, strict=True) if state == "swapped"]
        if swapped:
            for one, other in (swapped, swapped[::-1]):
                shutil.rmtree(one)
                shutil.copytree(kept / other.name, one)
        for place, state in zip(map(Path, site.places), states, strict=True):
            if state == "lost":
                shutil.rmtree(place)
            if state == "altered":
                shard = max((path for path in place.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
                shard.write_bytes(draw.randbytes(shard.stat().st_size))
        shutil.rmtree(out, ignore_errors=True)
        try:
            restore(site.places, site.secret, out)
            good = (out / "data/train.parquet").read_bytes() == original
            as_expected = good and states.count("good") >= NEED
            right["restored"] += as_expected
        except RunFailed:
            as_expected = states.count("good") < NEED and not out.exists()
            right["refused"] += as_expected
        if not as_expected:
            wrong.append(" ".join(states))
    return right | {"wrong": wrong}


def kills(site: Site, count: int, seed: int) -> dict[str, Any]:
    """Kill -9 at random moments of protect, restore, sign and heal: the old state or the new is left."""
    draw, broken = random.Random(seed), []
    done = {"protect": 0, "restore": 0, "sign": 0, "heal": 0}
    context = multiprocessing.get_context("fork")
    original = site.original.read_bytes()
    out = site.folder / "killed"

    def healing() -> None:
        from robustml.data import DataModule

        data = DataModule(site.source, name="mnist", verify="start", heal=True, manifest=str(site.manifest),
                          trust=str(site.keys), places=site.places, key=str(site.secret), val_size=0)  # fmt: skip
        guarded(data).guard.check(site.source)  # type: ignore[union-attr]

    jobs: dict[str, Callable[[], object]] = {
        "protect": lambda: protect({"data/train.parquet": site.file}, site.places, NEED, site.secret, name="mnist"),
        "restore": lambda: restore(site.places, site.secret, out),
        "sign": site.sign,
        "heal": healing,
    }
    jobs["protect"]()
    for number in range(count):
        for name, job in jobs.items():
            if name == "heal":
                site.file.write_bytes(original[: len(original) // 2])
            child = context.Process(target=job)
            child.start()
            child.join(draw.uniform(0.0, 1.2))
            if child.is_alive():
                os.kill(child.pid or 0, signal.SIGKILL)
                done[name] += 1
            child.join()
            try:
                if name == "heal":
                    healing()
                    assert site.file.read_bytes() == original
                elif name == "sign":
                    try:
                        state = site.verify()
                    except RequestError as error:  # killed between the manifest and its records
                        state = False, set(), str(error)
                    site.sign()
                    assert site.verify()[0], state
                else:
                    shutil.rmtree(out, ignore_errors=True)
                    restore(site.places, site.secret, out)
                    assert (out / "data/train.parquet").read_bytes() == original
                    shutil.rmtree(out)
            except Exception as error:
                broken.append(f"{number} {name}: {type(error).__name__}: {error}")
                print("BROKEN", broken[-1], flush=True)
    return {"killed": done, "broken": broken}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="the folder that holds mnist/test.parquet")
    parser.add_argument("--tamperings", type=int, default=1000)
    parser.add_argument("--untouched", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true", help="the 60,000 training pictures")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    original = asked.root / "mnist" / ("train.parquet" if asked.whole else "test.parquet")
    found: dict[str, Any] = {"set": str(original.name), "seed": asked.seed}
    with tempfile.TemporaryDirectory() as folder, hushed():
        site = Site(Path(folder), original)
        found["untouched"] = untouched(site, asked.untouched)
        found["tampered"] = campaign(site, asked.tamperings, asked.seed)
        if not asked.whole:
            found["patterns"] = patterns(site)
            site.reset()
            for place in site.places:
                shutil.rmtree(place, ignore_errors=True)
            site.secret = site.folder / "another secret"
            found["kills"] = kills(site, asked.kills, asked.seed)
    text = json.dumps(found, indent=1)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n")
    tampered = found["tampered"].values()
    fine = all(row["tried"] == row["found"] == row["named"] for row in tampered) and not found["untouched"]["alarms"]
    sys.exit(not (fine and not found.get("patterns", {}).get("wrong") and not found.get("kills", {}).get("broken")))


if __name__ == "__main__":
    main()
