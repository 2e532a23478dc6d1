"""What version 0.1 wrote and later ones write otherwise: read here, and nowhere else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from robustml.data import Records
from robustml.errors import RequestError
from robustml.files import read_text
from robustml.poisoning import PoisonPlan
from robustml.poisoning.files import TEST, TRAIN, read_set

_POISONS = ("robustml.poisoning.InjectAdversarial", "robustml.poisoning.LabelConsistent")
_MANIFEST, _SET_MANIFEST, _ORIGINALS = "poison.jsonl", "manifest.jsonl", "originals.parquet"
_LARGEST_MANIFEST = 2**30


def check_old_manifest(run: Path, plan: PoisonPlan) -> None:
    """Hold a poison that was crafted anew against the manifest of a run of version 0.1, which kept no plan.

    Raises:
        RequestError: the same set has become another one: the model was trained on what is not there any more.
    """
    if not (run / _MANIFEST).is_file():
        return
    facts, _ = _manifest(run / _MANIFEST)
    if plan.clean_sha256 == facts.get("clean_sha256") and plan.poisoned_sha256 != facts.get("poisoned_sha256"):
        raise RequestError(f"{run} was trained on another poisoned set than its settings make now: use 0.1")


def is_old_set(folder: Path) -> bool:
    """Whether a folder holds a poisoned set that version 0.1 wrote."""
    return (folder / _SET_MANIFEST).is_file()


def restored_old_set(folder: Path) -> Records:
    """The clean training set out of a poisoned one that version 0.1 wrote.

    Raises:
        RequestError: a file is missing or altered, or not of the others.
    """
    facts, entries = _manifest(folder / _SET_MANIFEST)
    parts = {name: read_set(folder / name) for name in (TRAIN, TEST, _ORIGINALS)}
    digests = {TRAIN: "poisoned_sha256", TEST: "test_sha256", _ORIGINALS: "originals_sha256"}
    lines = (json.dumps(entry).encode() + b"\n" for entry in entries)
    found = {digests[name]: part.fingerprint() for name, part in parts.items()}
    found["entries_sha256"] = f"sha256:{hashlib.sha256(b''.join(lines)).hexdigest()}"
    if altered := [name for name, digest in found.items() if facts.get(name) != digest]:
        raise RequestError(f"{folder} holds no complete poisoned set, or was altered: {altered[0]} is another one")
    train, originals = parts[TRAIN], parts[_ORIGINALS]
    touched = [entry["index"] for entry in entries if entry["index"] is not None]
    lost = torch.tensor([entry["original_index"] for entry in entries if entry["original_index"] is not None])
    is_kept, is_lost = torch.ones(len(train), dtype=torch.bool), torch.zeros(facts["clean_rows"], dtype=torch.bool)
    is_kept[touched], is_lost[lost] = False, True
    x, y = train.x.new_empty(len(is_lost), *train.x.shape[1:]), train.y.new_empty(len(is_lost))
    for whole, kept, old in ((x, train.x, originals.x), (y, train.y, originals.y)):
        whole[~is_lost], whole[lost] = kept[is_kept], old
    clean = Records(x, y, train.class_names)
    if clean.fingerprint() != facts.get("clean_sha256"):
        raise RequestError(f"{folder}: the set that comes out is not the one that was poisoned")
    return clean


def _manifest(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The first line and the entries."""
    try:
        facts, *entries = [json.loads(line) for line in read_text(path, _LARGEST_MANIFEST).split("\n") if line]
        return dict(facts), [dict(entry) for entry in entries]
    except (ValueError, TypeError, RecursionError) as error:
        raise RequestError(f"{path} is no manifest of a poisoned set: {str(error).splitlines()[0]}") from error


def without_threats(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run without the copies of its threat that every attack held, and some objectives and callbacks.

    An attack that held another threat than the run's keeps it (`robustml.attacks.Within`), and so does a poison. An
    objective that did (`Free`, `IntervalBound`) is left as it is: it can be read, and not be trained on.

    Args:
        settings: of a config.yaml; today's come back unchanged.
    """
    threat = settings.get("threat")
    return {key: value if key == "threat" else _without(value, threat) for key, value in settings.items()}


def _without(node: Any, threat: Any) -> Any:
    if isinstance(node, list):
        return [_without(value, threat) for value in node]
    if not isinstance(node, dict):
        return node
    target = str(node.get("_target_"))
    if target in _POISONS and "threat" not in node:
        attack = dict(node["attack"])
        node = node | {"threat": attack.pop("threat", threat), "attack": attack}
    room = target.removeprefix("robustml.").partition(".")[0]
    node = {key: value if key == "threat" else _without(value, threat) for key, value in node.items()}
    if "threat" not in node or target.startswith("robustml.attacks.Within"):
        return node
    if room in ("attacks", "objectives", "training") and node["threat"] == threat:
        del node["threat"]
    elif room == "attacks":
        return {"_target_": "robustml.attacks.Within", "threat": node.pop("threat"), "attack": node}
    return node
