"""Detectors of records against what is worked out by hand, what was planted, and what others' code does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score
from torch import Generator, Tensor, nn

from defenses.planted import planted
from robustml.data import Records
from robustml.defenses.detect import STRIP, ActivationClustering, Beatrix, ScaleUp, SpectralSignatures
from robustml.defenses.detect.beatrix import _gram, _outside
from robustml.defenses.detect.concentration import concentrations
from robustml.errors import RequestError
from robustml.types import Detector


def points(x: Tensor, y: Tensor, classes: int = 2) -> Records:
    return Records(x.clamp(0, 1), y, tuple("abcdefgh"[:classes]))


def blobs(counts: list[list[int]], seed: int) -> Records:
    """Points around (.2, .2) and (.8, .8): so many of each for each class."""
    middles = torch.tensor([0.2, 0.8]).repeat(len(counts)).repeat_interleave(torch.tensor(counts).flatten())
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts).sum(1))
    noise = 0.02 * torch.randn(len(y), 4, generator=Generator().manual_seed(seed))
    return points(middles[:, None] + noise, y, len(counts))


def probabilities_under(model: nn.Module, x: Tensor, over: Tensor) -> np.ndarray:
    """(N, K, C): picture by picture."""
    with torch.no_grad():
        return np.stack([model((one + over).clamp(0, 1)).softmax(1).double().numpy() for one in x])


def test_strip_takes_the_entropy_over_classes_which_the_usual_toolbox_does_not() -> None:
    case = planted()
    found = STRIP(16)(case.model, case.train, case.clean, generator=Generator().manual_seed(3))
    drawn = torch.randperm(len(case.clean), generator=Generator().manual_seed(3))[:16]
    rows = torch.cat([case.is_poisoned.nonzero()[:20], (~case.is_poisoned).nonzero()[:100]]).flatten()
    asked = probabilities_under(case.model, case.train.x[rows] / 255, case.clean.x[drawn] / 255)
    by_hand = entropy(asked, axis=2).mean(1)
    np.testing.assert_allclose(-found.scores[rows].numpy(), by_hand, atol=1e-5)
    # ART 1.20: np.sum(entropy(perturbed_predictions, base=2, axis=0)) / num_samples, where axis 0 are the overlays
    as_in_art = entropy(asked, base=2, axis=1).sum(1) / 16
    right, wrong = (roc_auc_score(case.is_poisoned[rows], -each) for each in (by_hand, as_in_art))
    print(f"STRIP on digits, AUROC over classes {right:.3f}, over overlays (ART) {wrong:.3f}")
    assert right > 0.95
    assert wrong < right - 0.1


@pytest.mark.parametrize("known", [True, False])
def test_activation_clustering_finds_the_blob_that_does_not_belong(known: bool) -> None:
    model = nn.Linear(4, 4)
    records = blobs([[40, 20], [60, 0], [60, 0], [60, 0]], 0)
    found = ActivationClustering()(model, records, blobs([[30, 0]] * 4, 1) if known else None)
    assert found.says_so
    assert found.facts["classes"] == [0]
    assert found.flagged.nonzero().flatten().tolist() == list(range(40, 60))


def test_activation_clustering_takes_no_natural_cluster_for_poison() -> None:
    records, clean = blobs([[40, 20], [60, 0]], 0), blobs([[20, 10], [30, 0]], 1)
    assert not ActivationClustering()(nn.Linear(4, 2), records, clean).says_so
    # and where the poison is the greater part of its class, it is the larger cluster that the clean records lack
    found = ActivationClustering()(nn.Linear(4, 2), blobs([[10, 50], [60, 0]], 0), blobs([[30, 0]] * 2, 1))
    assert found.flagged.nonzero().flatten().tolist() == list(range(10, 60))


def test_spectral_signatures_of_a_planted_direction() -> None:
    direction = torch.tensor([0.6, 0.8, 0.0])
    x = 0.4 + 0.001 * torch.randn(60, 3, generator=Generator().manual_seed(0)) + torch.zeros(60, 1)
    x[:6] += 0.5 * direction
    y = torch.zeros(60, dtype=torch.int64)
    found = SpectralSignatures(0.07)(nn.Linear(3, 2), points(x, y))
    assert found.flagged.nonzero().flatten().tolist() == list(range(6))
    # by hand: a tenth lies .5 away from the others, thus .45 from the mean, and the others .05
    torch.testing.assert_close(found.scores[:6], torch.full((6,), 0.45**2).double(), rtol=0.02, atol=0)
    torch.testing.assert_close(found.scores[6:].mean(), torch.tensor(0.05**2).double(), rtol=0.02, atol=0)
    leading = np.linalg.eigh(np.cov(x.double().numpy().T))[1][:, -1]
    by_numpy = ((x.double().numpy() - x.double().numpy().mean(0)) @ leading) ** 2
    np.testing.assert_allclose(found.scores, by_numpy, rtol=1e-6, atol=1e-12)


def test_beatrix_of_small_matrices() -> None:
    maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    torch.testing.assert_close(_gram(maps, 1)[0], torch.tensor([5.0, 11.0, 25.0]).double())
    torch.testing.assert_close(_gram(maps, 2)[0], torch.tensor([17.0, 73.0, 337.0]).double().sqrt())
    bounds = torch.tensor([6.0, 2.0, 20.0]).double(), torch.tensor([8.0, 10.0, 30.0]).double()
    assert float(_outside(_gram(maps, 1), bounds)) == pytest.approx((6 - 5) / 6 + (11 - 10) / 10)


def test_scale_up_counts_the_scales_that_keep_the_class() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    nn.init.constant_(model[1].weight[0], 0.0)
    nn.init.constant_(model[1].weight[1], 1.0)
    model.append(Less(torch.tensor([2.1, 0.0])))  # of the second class are sums above 2.1
    x = torch.tensor([0.1, 0.2, 0.3, 0.6])[:, None, None, None].expand(4, 1, 2, 2).contiguous()
    records = points(x, torch.tensor([0, 0, 0, 1]))
    found = ScaleUp()(model, records)
    # .1 is .3, .5, .7, .9, 1; .2 is .6, then 1; .3 is .9, then 1; .6 stays
    torch.testing.assert_close(found.scores, torch.tensor([0.4, 0.0, 0.0, 1.0]).double())
    assert found.flagged.tolist() == [False, False, False, True]
    # of the first class the clean ones have .4, 0 and 0: mean 2/15, deviation .1886 and .1 on top; of the
    # second there is one, which says nothing: the mean of all is .35, their deviation .4093
    found = ScaleUp(standardise=True)(model, records, records)
    first, last = (torch.tensor([0.4, 0.0, 0.0]) - 2 / 15) / 0.288562, torch.tensor([1 - 0.35]) / 0.509268
    expected = torch.cat([first, last])
    torch.testing.assert_close(found.scores, expected.double(), rtol=1e-4, atol=0)


class Less(nn.Module):
    """Adds to logits (N, C)."""

    def __init__(self, added: Tensor) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        return x + self.added


def test_a_class_is_suspect_where_the_clean_records_of_it_are_not() -> None:
    labels = torch.arange(3).repeat_interleave(40)
    flagged = torch.zeros(120, dtype=torch.bool)
    flagged[:20] = flagged[40:60] = True  # half of the classes 0 and 1
    clean_flagged = flagged.clone()
    clean_flagged[:20] = False
    (only,) = concentrations(flagged, labels, clean_flagged, labels)
    assert (only.label, only.share, only.clean_share) == (0, 0.5, 0.0)
    # Fisher by hand: 40 choose 20 of 80 choose 20 ways
    assert only.chance == pytest.approx(137846528820 / 3535316142212174320, rel=1e-6)
    assert concentrations(flagged, labels, clean_flagged[:0], labels[:0]) == []


@pytest.mark.parametrize("detector", [STRIP(), ActivationClustering(), SpectralSignatures(), Beatrix(), ScaleUp()])
def test_a_model_of_other_classes_is_refused(detector: Detector) -> None:
    records = Records(torch.rand(80, 1, 2, 2), torch.arange(80) % 4, tuple("abcd"))
    with pytest.raises(RequestError, match="tells 2 classes apart"):
        detector(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), records, records)


@pytest.mark.parametrize("detector", [ActivationClustering("mid"), SpectralSignatures(layer="mid"), Beatrix("mid")])
def test_a_layer_that_is_not_there_is_refused(detector: Detector) -> None:
    records = Records(torch.rand(80, 1, 2, 2), torch.arange(80) % 4, tuple("abcd"))
    with pytest.raises(RequestError, match="layer='mid' is none of the model's"):
        detector(nn.Sequential(nn.Flatten(), nn.Linear(4, 4)), records, records)
