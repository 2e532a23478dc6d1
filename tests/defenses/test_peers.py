"""The detectors beside others' code, on the same backdoored digits: where they agree, and where the others err."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Generator, nn

from defenses.planted import planted
from robustml.defenses.detect import STRIP, ActivationClustering, LabelQuality, SpectralSignatures
from robustml.defenses.reading import read_maps

pytestmark = pytest.mark.slow


def classifier(model: nn.Module) -> Any:
    """ART's wrapper around a model."""
    pytest.importorskip("art")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.estimators.classification import PyTorchClassifier

        return PyTorchClassifier(model, nn.CrossEntropyLoss(), (1, 8, 8), 10, device_type="cpu")


def test_strip_of_the_usual_toolbox_has_the_entropy_over_the_wrong_axis() -> None:
    """ART 1.20.1 says itself which inputs it would not answer; ours, at the same rate of false alarms, which."""
    strip = pytest.importorskip("art.defences.transformer.poisoning").STRIP
    case = planted()
    np.random.seed(0)  # noqa: NPY002  (the only one that ART knows)
    defended = strip(classifier(nn.Sequential(case.model, nn.Softmax(1))))(num_samples=32, false_acceptance_rate=0.01)
    clean = (case.clean.x / 255.0).numpy()
    defended.mitigate(clean)
    triggered, honest = (x[:150].float().numpy() / 255 for x in (case.triggered.x, case.test.x))
    theirs = [float((defended.predict(x).sum(axis=1) == 0).mean()) for x in (triggered, honest)]
    found = STRIP(32)(case.model, case.train, case.clean, generator=Generator().manual_seed(0))
    ours = [float(found.flagged[which].double().mean()) for which in (case.is_poisoned, ~case.is_poisoned)]
    print(f"STRIP on digits, refused of triggered / of honest: ART {theirs}, ours {ours}")
    assert ours[0] > 0.9
    assert ours[1] < 0.05
    assert theirs[0] < ours[0] - 0.3


def test_spectral_signatures_agree_with_arts_once_its_features_are_centred() -> None:
    """ART centres for the singular vectors and projects the uncentred features: given centred ones it is ours."""
    toolbox = pytest.importorskip("art.defences.detector.poison").SpectralSignatureDefense
    case = planted()
    found = SpectralSignatures()(case.model, case.train, case.clean)
    features = read_maps(case.model, case.train.x, None)[0].flatten(1).double().numpy()
    whole, centred = (np.zeros(len(features)) for _ in range(2))
    for label in range(10):
        own = (case.train.y == label).numpy()
        whole[own] = toolbox.spectral_signature_scores(features[own])[:, 0]
        centred[own] = toolbox.spectral_signature_scores(features[own] - features[own].mean(0))[:, 0]
    np.testing.assert_allclose(centred**2, found.scores.numpy(), rtol=1e-6, atol=1e-9)
    truth = case.is_poisoned.numpy()
    as_it_is, ours = (roc_auc_score(truth, scores) for scores in (whole, found.scores.numpy()))
    print(f"spectral signatures on digits, AUROC: ART as it is {as_it_is:.3f}, centred (ours) {ours:.3f}")


def test_activation_clustering_of_the_usual_toolbox_flags_a_share_of_every_class() -> None:
    """ART's default (the smaller cluster of every class is poison), given the layer that ours reads."""
    detectors = pytest.importorskip("art.defences.detector.poison")
    case = planted()
    flagged = {}
    for name, model, data in (("poisoned", case.model, case.train), ("twin", case.twin, case.clean_train)):
        x, y = (data.x / 255.0).numpy(), np.eye(10)[data.y]
        body = nn.Sequential(model.normalize, *model.features[:5], nn.Flatten())
        found = detectors.ActivationDefence(classifier(body), x, y)
        _, kept = found.detect_poison(nb_clusters=2, nb_dims=10, reduce="PCA", cluster_analysis="smaller")
        ours = ActivationClustering()(model, data, case.clean)
        flagged[name] = (float(np.mean(np.array(kept) == 0)), float(ours.flagged.double().mean()))
    print(f"activation clustering on digits, share flagged (ART, ours): {flagged}")
    assert flagged["twin"][0] > 0.2
    assert flagged["twin"][1] == 0
    assert flagged["poisoned"][1] == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_label_quality_calls_off_what_cleanlab_does(seed: int) -> None:
    pytest.importorskip("cleanlab")
    case = planted(seed=seed)
    draw = Generator().manual_seed(seed)
    flipped = torch.randperm(len(case.clean_train), generator=draw)[:126]
    y = (case.clean_train.y[flipped] + torch.randint(1, 10, (126,), generator=draw)) % 10
    data = case.clean_train.changed(flipped, y=y)
    ours, theirs = (
        LabelQuality(view="inputs", rule=rule)(case.twin, data, generator=Generator().manual_seed(0))
        for rule in ("confident_learning", "cleanlab")
    )
    torch.testing.assert_close(ours.scores, theirs.scores)
    assert (ours.threshold, ours.says_so) == (theirs.threshold, theirs.says_so)
