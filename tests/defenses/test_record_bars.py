"""What detectors of records must reach on digits, BadNets at 5% over three seeds; `-s` prints the figures."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Generator

from defenses.planted import POISONS, SEEDS, planted
from robustml.defenses.detect import STRIP, ActivationClustering, Beatrix, ScaleUp, SpectralSignatures
from robustml.types import Detector, Suspicion


class Figures(NamedTuple):
    """Of one detector, poison and seed; rates are of poisoned and of other records that are flagged."""

    found: bool
    auroc: float
    true: float
    false: float


def asked(detector: Detector, poison: str, seed: int) -> Figures:
    case = planted(poison, seed)
    found = detector(case.model, case.train, case.clean, generator=Generator().manual_seed(seed))
    bad = case.is_poisoned
    true, false = (float(found.flagged[rows].double().mean()) for rows in (bad, ~bad))
    figures = Figures(found.says_so, roc_auc_score(bad, found.scores), true, false)
    print(f"{type(detector).__name__} {poison} {seed}", *(f"{name} {x:.3f}" for name, x in figures._asdict().items()))
    return figures


def of_twin(detector: Detector, seed: int) -> Suspicion:
    case = planted(seed=seed)
    return detector(case.twin, case.clean_train, case.clean, generator=Generator().manual_seed(seed))


def test_strip() -> None:
    seen = [asked(STRIP(), "badnets", seed) for seed in SEEDS]
    assert median(each.auroc for each in seen) >= 0.95
    assert all(each.found for each in seen)
    assert not any(of_twin(STRIP(), seed).says_so for seed in SEEDS)


def test_activation_clustering() -> None:
    seen = [asked(ActivationClustering(), "badnets", seed) for seed in SEEDS]
    assert median(each.true for each in seen) >= 0.8
    assert median(each.false for each in seen) <= 0.1
    assert all(each.found for each in seen)
    assert not any(of_twin(ActivationClustering(), seed).flagged.any() for seed in SEEDS)


def test_spectral_signatures() -> None:
    seen = [asked(SpectralSignatures(), "badnets", seed) for seed in SEEDS]
    assert median(each.true for each in seen) >= 0.5
    assert all(each.true > 1.5 * 0.05 * 3 for each in seen), "three times as many as random removal takes away"
    assert not any(of_twin(SpectralSignatures(), seed).says_so for seed in SEEDS)


def test_beatrix() -> None:
    seen = [asked(Beatrix(), "badnets", seed) for seed in SEEDS]
    assert median(each.auroc for each in seen) >= 0.95
    assert not any(of_twin(Beatrix(), seed).says_so for seed in SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("detector", [STRIP(), ActivationClustering(), SpectralSignatures(), Beatrix(), ScaleUp()])
def test_the_table_of_all_poisons(detector: Detector) -> None:
    for poison in POISONS:
        for seed in SEEDS:
            asked(detector, poison, seed)
    assert not any(of_twin(detector, seed).says_so for seed in SEEDS)
    assert torch.isfinite(of_twin(detector, 0).scores).all()
