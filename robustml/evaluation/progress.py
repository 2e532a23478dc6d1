"""What an evaluation has found so far, a line a batch: it can be stopped at any moment and go on later.

Each line is written and synced before the next batch begins. After a kill or a power cut at most the batch in hand is
lost; a line that was cut short is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from robustml.errors import RequestError, RunFailed
from robustml.evaluation.parameters import attack_parameters
from robustml.evaluation.verdicts import AttackVerdicts, Verdicts
from robustml.types import Attack, Threat


def identity(
    model: nn.Module,
    parts: Mapping[int, Verdicts],
    attacks: Mapping[str, Attack],
    threat: Threat,
    seed: int,
    *,
    cascade: bool,
) -> dict[str, Any]:
    """Everything that verdicts depend on, as plain values; `parts` are the clean verdicts, by number of the batch."""
    weights, data = hashlib.sha256(), hashlib.sha256()
    for key, value in model.state_dict().items():
        weights.update(key.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for number in sorted(parts):
        for values in (parts[number].images, parts[number].y, parts[number].prediction):
            data.update(np.ascontiguousarray(values).tobytes())
    return {
        "model": weights.hexdigest(),
        "data": data.hexdigest(),
        "threat": str(threat),
        "attacks": {name: str(attack_parameters(attack, threat.eps)) for name, attack in attacks.items()},
        "seed": seed,
        "cascade": cascade,
    }


class Progress:
    """The record of one evaluation in a file.

    Args:
        path: JSON lines; made where it does not exist.
        identity: see the function of that name.

    Raises:
        RequestError: the file belongs to an evaluation of another model, data, attack or setting.
        RunFailed: it cannot be written, here and in `put`.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        """Read what is there, drop a line that was cut short, and go on behind it."""
        self._done: dict[tuple[str, int], dict[str, Any]] = {}
        self._path = path
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        whole = lines[:-1]  # what follows the last line break was cut short
        if not whole:
            path.write_text("")
            self._append({"identity": identity})
            return
        os.truncate(path, sum(len(line) + 1 for line in whole))
        header, *entries = (self._parse(line) for line in whole)
        found = header.get("identity", {})
        plain = json.loads(json.dumps(identity))
        different = [key for key in plain if found.get(key) != plain[key]]
        if different:
            raise RequestError(
                f"{path} was begun with another {', '.join(different)}: finish it with the same settings, or start anew"
            )
        for entry in entries:
            self._done[entry["attack"], entry["batch"]] = entry

    def get(self, attack: str, batch: int) -> AttackVerdicts | None:
        """The verdicts of one attack on one batch, or None where they are not known yet."""
        entry = self._done.get((attack, batch))
        if entry is None:
            return None
        robust = np.array(entry["robust"], dtype=np.bool_)
        rounded = np.array(entry["rounded"], dtype=np.bool_)
        verdicts = AttackVerdicts(robust, np.array(entry["distance"], dtype=np.float64), rounded, entry["seconds"])
        if "to_go" in entry:
            verdicts.to_go, verdicts.at_once = np.array(entry["to_go"], dtype=np.bool_), entry["at_once"]
            verdicts.pending = int(verdicts.to_go.sum())
        return verdicts

    def put(self, attack: str, batch: int, verdicts: AttackVerdicts, ids: npt.NDArray[np.int64] | None = None) -> None:
        """Record the verdicts of one attack on one batch, of records `ids`; on return they are on the disk."""
        entry = {
            "attack": attack,
            "batch": batch,
            **({} if ids is None else {"ids": ids.tolist()}),
            "robust": verdicts.robust.astype(int).tolist(),
            "rounded": verdicts.rounded.astype(int).tolist(),
            "distance": verdicts.distance.tolist(),
            "seconds": verdicts.seconds,
        }
        if verdicts.to_go is not None:
            entry |= {"to_go": verdicts.to_go.astype(int).tolist(), "at_once": verdicts.at_once}
        self._append(entry)
        self._done[attack, batch] = entry

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunFailed(
                f"{self._path} cannot be written ({error.strerror}); what stands in it is kept: make room, and resume"
            ) from error

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise RequestError(f"{self._path} is damaged ({error}); delete it to start anew") from error
        return entry
