"""Poisoned runs and sets that version 0.1 wrote, without a plan."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from robustml.data import Digits
from robustml.errors import RequestError
from robustml.poisoning import Flip
from robustml.results import read_results
from robustml.workflows.measuring.backdoors import planted_in
from robustml.workflows.poison import poison_as_configured
from robustml.workflows.reading.version_0_1 import is_old_set, restored_old_set
from robustml.workflows.settings import read_settings
from robustml.workflows.settings.building import build

OLD = Path(__file__).parent.parent / "fixtures" / "version_0_1"


@pytest.mark.parametrize("name", ["poisoned", "chained"])
def test_a_run_is_poisoned_to_the_bytes_that_its_manifest_says(name: str) -> None:
    settings: dict[str, Any] = read_settings(OLD / name)
    data = build(settings["data"])
    data.setup()
    poisoning = poison_as_configured(data, settings, OLD / name)
    facts = read_results(OLD / name / "results.json").data
    assert poisoning is not None
    assert poisoning.plan.summary == facts.poison
    assert data.fingerprint == facts.fingerprint
    (planted,) = planted_in(OLD / name)
    assert planted.figures["rate"] == facts.poison.of_kind("badnets").rate
    other = build(settings["data"])
    other.setup()
    with pytest.raises(RequestError, match="another poisoned set than its settings make now"):
        poison_as_configured(other, settings | {"seed": 1}, OLD / name)


def test_a_set_is_restored_and_an_altered_one_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "flipped"
    shutil.copytree(OLD / "flipped", folder)
    assert is_old_set(folder)
    clean = Digits().load("train")
    flipped = Flip().plan(clean, seed=0)
    if not (folder / "originals.parquet").is_file():  # the fixture keeps two of its files
        from robustml.poisoning.files import write_set

        write_set(flipped.before, folder / "originals.parquet")
        write_set(Digits().load("test"), folder / "test.parquet")
    restored = restored_old_set(folder)
    assert restored.fingerprint() == clean.fingerprint()
    assert torch.equal(restored.y, clean.y)
    manifest = folder / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"label": 1', '"label": 2', 1))
    with pytest.raises(RequestError, match="entries_sha256 is another one"):
        restored_old_set(folder)
