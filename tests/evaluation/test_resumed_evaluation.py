"""An evaluation that is stopped, killed and continued: bounds that only tighten, and never another model's verdicts."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM, PGD
from robustml.errors import RequestError, RunFailed
from robustml.evaluation import evaluate
from robustml.threats import LpBall
from robustml.types import Attack

THREAT = LpBall("inf", 0.1)
ATTACKS: dict[str, Attack] = {"fgsm": FGSM(), "pgd": PGD(steps=10)}


@pytest.fixture
def batches(digits_net: Any) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    model, (x, y) = digits_net
    return model, list(zip(x[:100].split(20), y[:100].split(20), strict=True))


@pytest.mark.parametrize("cascade", [False, True])
@pytest.mark.parametrize("done", [1, 3, 7])
def test_stopped_early_it_bounds_and_resumed_it_tightens(
    batches: Any, cascade: bool, done: int, tmp_path: Path
) -> None:
    model, loader = batches
    record = tmp_path / "verdicts.jsonl"
    whole = evaluate(model, loader, ATTACKS, THREAT, cascade=cascade)
    asked: list[str] = []

    def interrupt(name: str, batch: int, images: int) -> None:
        asked.append(name)
        if len(asked) == done:
            raise KeyboardInterrupt

    early = evaluate(model, loader, ATTACKS, THREAT, cascade=cascade, progress=record, on_attack=interrupt)
    assert len(asked) == done
    assert not early.verdicts.complete
    assert (early.verdicts.worst_case >= whole.verdicts.worst_case).all()
    resumed = evaluate(
        model, loader, ATTACKS, THREAT, cascade=cascade, progress=record, on_attack=lambda name, *_: asked.append(name)
    )
    assert asked == ["fgsm"] * 5 + ["pgd"] * 5
    assert resumed.verdicts.complete
    for name in ATTACKS:
        assert np.array_equal(resumed.verdicts.attacks[name].robust, whole.verdicts.attacks[name].robust)
        assert np.array_equal(resumed.verdicts.attacks[name].distance, whole.verdicts.attacks[name].distance)
        assert np.array_equal(resumed.verdicts.attacks[name].rounded, whole.verdicts.attacks[name].rounded)


def test_a_killed_evaluation_loses_at_most_a_batch(batches: Any, tmp_path: Path) -> None:
    model, loader = batches
    record = tmp_path / "verdicts.jsonl"
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        try:
            evaluate(model, loader, ATTACKS, THREAT, progress=record, on_attack=lambda *_: time.sleep(0.1))
        finally:
            os._exit(0)
    deadline = time.monotonic() + 60
    while (not record.exists() or record.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    known = record.read_bytes()
    assert 1 < known.count(b"\n") < 11, "the kill came too early or too late to show anything"
    record.write_bytes(known[:-7])  # as if the last line had been cut short as well
    asked: list[tuple[str, int]] = []
    results = evaluate(
        model, loader, ATTACKS, THREAT, progress=record, on_attack=lambda name, batch, _: asked.append((name, batch))
    )
    assert len(asked) == 10 - (known.count(b"\n") - 2)
    whole = evaluate(model, loader, ATTACKS, THREAT)
    assert np.array_equal(results.verdicts.worst_case, whole.verdicts.worst_case)


def test_a_time_limit_stops_between_batches(batches: Any) -> None:
    model, loader = batches
    results = evaluate(model, loader, ATTACKS, THREAT, time_limit=0)
    assert results.worst_case.robust_accuracy.value == results.clean_accuracy.value
    assert not results.complete
    assert [flag.name for flag in results.flags] == ["looks_unfinished", "stopped_early"]
    assert results.attacks["pgd"].pending == int(results.verdicts.correct.sum())


def test_verdicts_of_another_evaluation_are_refused(batches: Any, tmp_path: Path) -> None:
    model, loader = batches
    record = tmp_path / "verdicts.jsonl"
    evaluate(model, loader, ATTACKS, THREAT, progress=record)
    with pytest.raises(RequestError, match="another seed"):
        evaluate(model, loader, ATTACKS, THREAT, progress=record, seed=1)
    with pytest.raises(RequestError, match="another data"):
        evaluate(model, loader[:4], ATTACKS, THREAT, progress=record)
    with pytest.raises(RequestError, match="another attacks"):
        evaluate(model, loader, {"fgsm": ATTACKS["fgsm"]}, THREAT, progress=record)
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(RequestError, match="another model"):
        evaluate(other, loader, ATTACKS, THREAT, progress=record)
    # One grey level brighter: the same labels, the same predictions, and other images.
    brighter = [((x * 0.99 + 1 / 255).clamp(max=1), y) for x, y in loader]
    before, after = (torch.cat([model(x).argmax(1) for x, _ in each]) for each in (loader, brighter))
    assert torch.equal(before, after)
    with pytest.raises(RequestError, match="another data"):
        evaluate(model, brighter, ATTACKS, THREAT, progress=record)
    merged = [(torch.cat([x for x, _ in loader]), torch.cat([y for _, y in loader]))]
    with pytest.raises(RequestError, match="another data"):
        evaluate(model, merged, ATTACKS, THREAT, progress=record)
    record.write_text('{"identity": \n{}\n')
    with pytest.raises(RequestError, match="damaged"):
        evaluate(model, loader, ATTACKS, THREAT, progress=record)


def test_a_cascade_attacks_survivors_only(batches: Any) -> None:
    model, loader = batches
    attacked: dict[str, int] = {"fgsm": 0, "pgd": 0}

    def count(name: str, batch: int, images: int) -> None:
        attacked[name] += images

    results = evaluate(model, loader, ATTACKS, THREAT, cascade=True, on_attack=count)
    after_fgsm = int(results.verdicts.attacks["fgsm"].robust.sum())
    assert attacked == {"fgsm": int(results.verdicts.correct.sum()), "pgd": after_fgsm}
    apart = evaluate(model, loader, ATTACKS, THREAT)
    assert np.array_equal(results.verdicts.worst_case, apart.verdicts.worst_case)
    assert results.attacks["pgd"].robust_accuracy.value == results.worst_case.robust_accuracy.value


def test_images_stored_with_8_bits(batches: Any) -> None:
    """FGSM at a third of a grey value is rounded away: what fooled as a float does not as a file."""
    model, loader = batches
    tiny = LpBall("inf", 0.3 / 255)
    stored = [((x * 255).round() / 255, y) for x, y in loader]
    results = evaluate(model, stored, {"fgsm": FGSM()}, tiny)
    verdicts = results.verdicts.attacks["fgsm"]
    assert np.array_equal(verdicts.rounded, results.verdicts.correct)
    wide = evaluate(model, stored, {"fgsm": FGSM()}, LpBall("inf", 20 / 255))
    assert abs(wide.verdicts.attacks["fgsm"].rounded.mean() - wide.verdicts.attacks["fgsm"].robust.mean()) < 0.05


def test_logits_that_break_only_under_attack(batches: Any) -> None:
    class Fragile(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1).sum(1)
            return torch.stack([score, 100 - score], dim=1) / (x.flatten(1).amax(1, keepdim=True) <= 1.0)

    x, y = torch.full((4, 1, 2, 2), 0.5), torch.ones(4, dtype=torch.long)

    class Leave:
        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
            return x + 1e-7 + 0.5

    with pytest.raises(RunFailed, match="not finite on images that attack 'leave' made"):
        evaluate(Fragile(), [(x, y)], {"leave": Leave()}, LpBall("inf", 0.6))


def test_a_full_disk_loses_only_the_batch_in_hand(batches: Any, tmp_path: Path) -> None:
    model, loader = batches
    record = tmp_path / "verdicts.jsonl"
    whole = evaluate(model, loader, ATTACKS, THREAT)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(name: str, batch: int, images: int) -> None:
        if (name, batch) == ("pgd", 1):  # from here on 40 bytes more fit, which is less than a line
            resource.setrlimit(resource.RLIMIT_FSIZE, (record.stat().st_size + 40, limits[1]))

    try:
        with pytest.raises(RunFailed, match=r"cannot be written .*make room, and resume"):
            evaluate(model, loader, ATTACKS, THREAT, progress=record, on_attack=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not record.read_bytes().endswith(b"\n"), "the disk was full in the middle of a line"
    asked: list[tuple[str, int]] = []
    resumed = evaluate(
        model, loader, ATTACKS, THREAT, progress=record, on_attack=lambda name, batch, _: asked.append((name, batch))
    )
    assert asked == [("pgd", 2), ("pgd", 3), ("pgd", 4)]
    for name in ATTACKS:
        assert np.array_equal(resumed.verdicts.attacks[name].robust, whole.verdicts.attacks[name].robust)
