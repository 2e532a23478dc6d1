"""Run directories as a stranger could have prepared them: a file of each is changed into one that means harm.

What would run makes a folder, the canary; nothing here does anything else.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from torch import nn

from integration.stranger import LOAD, SHELL, Bomb, code, put

Change = Callable[[Path, Path], object]
BEST, LAST, WEIGHTS = "checkpoints/best.ckpt", "checkpoints/last.ckpt", "model.safetensors"


@dataclass(frozen=True)
class Hostile:
    """A change to a run, given its directory and the canary, and the commands that have to say no to it."""

    change: Change
    refused_by: tuple[str, ...]


def edited(name: str, read: Callable[[str], Any], write: Callable[[Any], str]) -> Callable[[str, Any], Change]:
    """What puts a node at a place of a file of the run."""

    def editing(place: str, node: Any) -> Change:
        def change(run: Path, canary: Path) -> None:
            path = run / name
            content = read(path.read_text())
            put(place, node)(content)
            path.write_text(write(content))

        return change

    return editing


setting = edited("config.yaml", yaml.safe_load, yaml.safe_dump)
result = edited("results.json", json.loads, json.dumps)


def content(name: str, raw: bytes | str) -> Change:
    def change(run: Path, canary: Path) -> None:
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw.encode() if isinstance(raw, str) else raw)

    return change


def zeros(name: str, size: int = 2**31) -> Change:
    """A file of nothing, which takes no room on the disk."""

    def change(run: Path, canary: Path) -> None:
        with (run / name).open("wb") as file:
            file.truncate(size)

    return change


def pickled(name: str, wrap: Callable[[Any], Any] = lambda bomb: bomb, **options: Any) -> Change:
    """A checkpoint that would make the canary; the rest of it is as it was."""

    def change(run: Path, canary: Path) -> None:
        kept = torch.load(run / LAST, weights_only=True) if (run / LAST).is_file() else {}
        torch.save({**kept, "extra": wrap(Bomb(canary))}, run / name, **options)

    return change


def module(run: Path, canary: Path) -> None:
    torch.save(nn.Linear(2, 2), run / LAST)


def poisoned(change: Change) -> Change:
    """A run that says it was poisoned, and its plan."""

    def both(run: Path, canary: Path) -> None:
        trigger = code("robustml.poisoning.FourCorners", rows=[[0, 1], [1, 0]], amplitude=1.0)
        poison = code("robustml.poisoning.BadNets", rate=0.05, trigger=trigger) | {"target": 0}
        setting("poison", poison)(run, canary)
        change(run, canary)

    return both


def plain_pickle(name: str) -> Change:
    return lambda run, canary: (run / name).write_bytes(pickle.dumps(Bomb(canary)))


def link(name: str, target: str = "/etc") -> Change:
    def change(run: Path, canary: Path) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return change


def pipe(name: str) -> Change:
    def change(run: Path, canary: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return change


def objects(run: Path, canary: Path) -> None:
    with (run / "examples.npz").open("wb") as file:
        np.savez(file, x=np.array([Bomb(canary)], dtype=object))


def bomb(run: Path, canary: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(200 * 2**20))
    (run / "examples.npz").write_bytes(file.getvalue())


def parquet(name: str, **columns: Any) -> Change:
    def change(run: Path, canary: Path) -> None:
        made = {key: [value(canary)] if callable(value) else value for key, value in columns.items()}
        pq.write_table(pa.table(made), run / name)

    return change


def extension(name: str) -> Change:
    """A column whose type is a pickle, which pyarrow before 14.0.1 would have loaded (CVE-2023-47248)."""

    def change(run: Path, canary: Path) -> None:
        kind = {
            b"ARROW:extension:name": b"arrow.py_extension_type",
            b"ARROW:extension:metadata": pickle.dumps(Bomb(canary)),
        }
        schema = pa.schema([pa.field("id", pa.int64(), metadata=kind)])
        pq.write_table(pa.table({"id": [1]}, schema=schema), run / name)

    return change


def foreign(run: Path, canary: Path) -> None:
    """An evaluation that is a link to results which lie elsewhere."""
    (run / "evaluations" / "1").mkdir(parents=True)
    shutil.copy(run / "results.json", canary.with_name("others.json"))
    (run / "evaluations" / "1" / "results.json").symlink_to(canary.with_name("others.json"))


def lying(run: Path, canary: Path) -> None:
    raw = (run / WEIGHTS).read_bytes()
    (run / WEIGHTS).write_bytes(struct.pack("<Q", 2**60) + raw[8:])


def python_tag(tag: str) -> Change:
    def change(run: Path, canary: Path) -> None:
        with (run / "config.yaml").open("a") as file:
            file.write(f"\nextra: !!python/{tag}\n".replace("CANARY", str(canary)))

    return change


READ = ("evaluate", "detect", "extract", "finetune", "trojan", "repair", "serve", "shortcuts")
SHOWN = ("report", "card", "gate")
HOSTILE = {
    "class of a module here": Hostile(setting("model", code("stranger.Net")), READ),
    "shell": Hostile(setting("model", SHELL), READ),
    "torch.load": Hostile(setting("model", LOAD), READ),
    "shell as data": Hostile(setting("data.source", SHELL), READ),
    "shell as trainer": Hostile(setting("trainer.profiler", SHELL), READ),
    "words of Hydra": Hostile(setting("hydra", {"run": {"dir": "/tmp"}}), READ),
    "object tag": Hostile(python_tag("object/apply:os.mkdir [CANARY]"), READ),
    "module tag": Hostile(python_tag("module:stranger"), READ),
    "name tag": Hostile(python_tag("name:os.system"), READ),
    "deep settings": Hostile(content("config.yaml", "a: " + "[" * 5000), READ),
    "settings without end": Hostile(zeros("config.yaml"), READ),
    "settings elsewhere": Hostile(link("config.yaml", "/etc/hostname"), (*READ, *SHOWN)),
    "settings in a pipe": Hostile(pipe("config.yaml"), (*READ, *SHOWN)),
    "results without end": Hostile(zeros("results.json"), (*SHOWN, "lineage")),
    "deep results": Hostile(content("results.json", "[" * 200_000), (*SHOWN, "lineage")),
    "no number": Hostile(content("results.json", '{"schema": NaN}'), SHOWN),
    "many digits": Hostile(content("results.json", '{"schema": ' + "9" * 10_000 + "}"), SHOWN),
    "too large a number": Hostile(result("clean_accuracy.n", 10**400), SHOWN),
    "share above one": Hostile(result("clean_accuracy.value", 1e308), SHOWN),
    "unheard of field": Hostile(result("exec", "import os"), SHOWN),
    "text for a number": Hostile(result("threat.eps", "__import__('os')"), SHOWN),
    "results elsewhere": Hostile(link("results.json", "/etc/hostname"), SHOWN),
    "digest of others": Hostile(result("model.sha256", "sha256:" + "0" * 64), ("evaluate", "card", "gate", "serve")),
    "pickle as weights": Hostile(plain_pickle(WEIGHTS), ("evaluate", "card", "gate", "serve", "scan")),
    "header that lies": Hostile(lying, ("evaluate", "card", "gate", "scan")),
    "weights without end": Hostile(zeros(WEIGHTS, 2**25), ("evaluate", "gate", "scan")),
    "weights elsewhere": Hostile(link(WEIGHTS, "/etc/hostname"), (*READ[:5], *SHOWN, "scan")),
    "checkpoints elsewhere": Hostile(link("checkpoints", "/etc"), ("evaluate last", "resume", "scan", "report")),
    "pickle in the last": Hostile(pickled(LAST), ("evaluate last", "resume", "scan")),
    "pickle of old": Hostile(pickled(LAST, _use_new_zipfile_serialization=False), ("evaluate last", "resume", "scan")),
    "pickle in a list": Hostile(pickled(LAST, lambda bomb: [{"a": bomb}]), ("evaluate last", "resume", "scan")),
    "pickle alone": Hostile(plain_pickle(LAST), ("evaluate last", "resume", "scan")),
    "whole module": Hostile(module, ("evaluate last", "resume", "scan")),
    "checkpoint of zeros": Hostile(zeros(LAST, 2**24), ("evaluate last", "resume", "scan")),
    "checkpoint in a pipe": Hostile(pipe(LAST), ("evaluate last", "resume", "scan", "report")),
    "pickle beside it": Hostile(plain_pickle("notes.txt"), ("scan",)),
    "script beside it": Hostile(content("sitecustomize.py", "import os"), ("scan",)),
    "examples that are objects": Hostile(objects, ("report", "scan")),
    "examples that unpack": Hostile(bomb, ("report", "scan")),
    "figures without end": Hostile(zeros("metrics.csv"), ("report",)),
    "plan that is a pickle": Hostile(
        poisoned(plain_pickle("poison.parquet")), ("lineage", "evaluate", "detect", "scan")
    ),
    "plan of others": Hostile(
        poisoned(parquet("poison.parquet", id=[1], code=[b"x"])), ("lineage", "evaluate", "detect")
    ),
    "suspects that are pickles": Hostile(
        parquet("suspects.parquet", id=lambda canary: pickle.dumps(Bomb(canary))), ("exclude",)
    ),
    "suspects that are paths": Hostile(parquet("suspects.parquet", id=["../../etc/passwd"]), ("exclude",)),
    "plan of a type that is a pickle": Hostile(
        poisoned(extension("poison.parquet")), ("lineage", "evaluate", "detect")
    ),
    "suspects of a type that is a pickle": Hostile(extension("suspects.parquet"), ()),
    "suspects without end": Hostile(zeros("suspects.parquet"), ("exclude", "scan")),
    "evaluation elsewhere": Hostile(link("evaluations", "/etc"), (*SHOWN, "scan")),
    "one evaluation elsewhere": Hostile(foreign, ("gate",)),
    "evaluation that is deep": Hostile(content("evaluations/1/results.json", "[" * 200_000), ("gate",)),
    "signature that is none": Hostile(content("signature.sigstore.json", "{}"), ("verify",)),
    "signature without end": Hostile(zeros("signature.sigstore.json"), ("verify",)),
    "deep signature": Hostile(content("signature.sigstore.json", "[" * 200_000), ("verify",)),
    "signature in a pipe": Hostile(pipe("signature.sigstore.json"), ("verify", "scan")),
    "not signed": Hostile(lambda run, canary: None, ("verify",)),
}
