"""`make demo-integrity`: digits are signed and protected, a byte is flipped, training refuses it, heals it and goes on.

Every step is one public function, and the command that does the same stands before it.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

import robustml
from robustml.data import DataModule, Digits, ImageFolder
from robustml.errors import RunFailed
from robustml.models import DigitsCNN
from robustml.say import hushed
from robustml.workflows.integrity.keys import new_keys
from robustml.workflows.integrity.manifest import make_manifest
from robustml.workflows.integrity.protect import protect_data
from robustml.workflows.integrity.sign import sign_data, sign_model, verify_model
from robustml.workflows.integrity.verify import verify_data

torch.set_num_threads(1)  # two wait for each other on a network this small
PLACES = [f"places/{number}" for number in range(6)]


def step(text: str, command: str = "") -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")
    if command:
        print(f"$ robustml {command}")


def pictures(part: str) -> None:
    """Digits as a folder of pictures."""
    records = Digits().load(part)  # type: ignore[arg-type]
    for row, (x, y) in enumerate(zip(records.x[:, 0], records.y.tolist(), strict=True)):
        path = Path("digits", part, records.class_names[y], f"{row:04}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.numpy()).save(path)


def data(heal: bool = False) -> DataModule:
    source = ImageFolder("digits/train", "digits/test")
    return DataModule(source, name="digits", verify="start", heal=heal, manifest="manifest", trust="keys",
                      places=PLACES, key="secret")  # fmt: skip


def main() -> None:
    began = time.perf_counter()
    for part in ("train", "test"):
        pictures(part)
    threat = robustml.LpBall("Linf", 0.15)
    source, where = ImageFolder("digits/train", "digits/test"), "data=image_folder data.source.train=digits/train ..."
    with hushed():
        step("Name yourself", "keys new out=keys")
        print(f"  {new_keys(Path('keys'), 'you').fingerprint}")
        step("Say what every record is, and sign it", f"data manifest {where} out=manifest && ... sign key=keys")
        manifest = make_manifest(source, "manifest", name="digits")
        sign_data(Path("manifest"), Path("keys"))
        print(f"  {sum(part.records for part in manifest.parts.values()):,} records, root {manifest.root}")
        step("Spread encrypted shards over six places, any four of which suffice",
             f"data protect {where} places=[...] need=4 key=secret")  # fmt: skip
        done = protect_data(source, PLACES, 4, "secret", name="digits")
        print(f"  {done.files:,} files, {done.size:,} bytes; {done.stored:,} in all places")
        victim = random.Random(0).choice(sorted(Path("digits/train").rglob("*.png")))
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
        step(f"Somebody flips one bit of {victim}; two places burn down")
        for place in PLACES[1:3]:
            for path in sorted(Path(place).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        step("Training refuses", "train data.verify=start data.manifest=manifest data.trust=keys ...")
        try:
            robustml.fit(DigitsCNN(), data(), None, threat, out="refused", epochs=1)
            sys.exit("  it did not")
        except RunFailed as error:
            print(f"  {error}")
        step("Training heals, and goes on", "train data.verify=start data.heal=true data.places=[...] data.key=secret")
        run = robustml.fit(DigitsCNN(), data(heal=True), None, threat, out="run", epochs=3)
        signed = run.results.data.manifest
        assert signed is not None
        print(f"  {signed.healed} file restored; {run.results.clean_accuracy}")
        assert verify_data(source, "manifest", "keys").same
        step("Sign the model, and check it", "model sign run=run key=keys; robustml model verify run=run trust=keys")
        sign_model(Path("run"), Path("keys"))
        verify_model(Path("run"), Path("keys"))
        step("Where it comes from", "lineage run=run trust=keys")
        lineage = robustml.lineage("run", trust="keys")
        for each in lineage.steps:
            for link in each.links:
                print(f"  {each.kind:<10} {'holds' if link.holds else '?':<6} {link.says}")
        assert not lineage.broken
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
