"""The sets that come with the package and are no images: a table, and waveforms drawn on the spot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import MinMaxScaler

from robustml.data import BreastCancer, Digits, Tones
from robustml.data.splits import part_of
from robustml.errors import RequestError


@pytest.mark.parametrize("file_found", [True, False])
def test_digits_are_those_of_scikit_learn(file_found: bool, monkeypatch: pytest.MonkeyPatch):
    digits = load_digits()
    if file_found:
        monkeypatch.delattr("sklearn.datasets.load_digits")
    else:
        monkeypatch.setattr("robustml.data.sources.embedded.find_spec", lambda name: None)
    for part in ("train", "test"):
        kept, records = part_of(torch.from_numpy(digits.target), part), Digits().load(part)
        np.testing.assert_array_equal(records.x.squeeze(1), np.rint(digits.images[kept] * 255 / 16))
        np.testing.assert_array_equal(records.y, digits.target[kept])


def test_breast_cancer_is_scaled_by_its_training_rows():
    table = load_breast_cancer()
    raw = {part: table.data[part_of(torch.from_numpy(table.target).long(), part)] for part in ("train", "test")}
    scaler = MinMaxScaler(clip=True).fit(raw["train"])
    for part in ("train", "test"):
        arrays = BreastCancer().load(part)
        assert arrays.x.dtype == torch.float32
        np.testing.assert_allclose(arrays.x.numpy(), scaler.transform(raw[part]), atol=1e-6)
    assert (raw["test"].max(0) > raw["train"].max(0)).any(), "nothing was clipped, so that the test says little"


def test_breast_cancer_parts():
    train, test = BreastCancer().load("train"), BreastCancer().load("test")
    assert (len(train), len(test)) == (455, 114)
    assert train.class_names == ("malignant", "benign")
    assert [torch.bincount(part.y).tolist() for part in (train, test)] == [[170, 285], [42, 72]]
    assert len(torch.cat([train.x, test.x]).unique(dim=0)) == 569
    assert torch.equal(train.x.amin(0), torch.zeros(30))
    assert torch.equal(train.x.amax(0), torch.ones(30))
    assert test.fingerprint() == BreastCancer().load("test").fingerprint()
    assert len(BreastCancer(0.5).load("test")) == 285


QUIET = Tones(train=60, test=30, noise=0.0)


def spectra(x: torch.Tensor) -> np.ndarray:
    """Amplitudes (N, F) at 0, 1/8, 2/8, ... periods a waveform; a window, so that a tone leaks little."""
    centred = (x[:, 0].double().numpy() - 0.5) * np.hanning(x.shape[2])
    return np.abs(np.fft.rfft(centred, 8 * x.shape[2]))


def test_tones_are_what_their_class_says():
    arrays = QUIET.load("train")
    assert arrays.x.shape == (60, 1, 1024)
    for spectrum, label in zip(spectra(arrays.x), arrays.y.tolist(), strict=True):
        band, wave = arrays.class_names[label].split()
        ground = spectrum.argmax()
        low, high = {"low": (8, 16), "high": (24, 48)}[band]
        assert low - 0.5 < ground / 8 < high + 0.5
        # Fourier: a square has the odd harmonics, 1/3 and 1/5; a sawtooth all of them, 1/2 and 1/3
        second, third = (spectrum[n * ground - 1 : n * ground + 2].max() / spectrum[ground] for n in (2, 3))
        expected = {"sine": (0, 0), "square": (0, 1 / 3), "sawtooth": (1 / 2, 1 / 3)}[wave]
        assert (second, third) == pytest.approx(expected, abs=0.06)


def test_tones_differ_in_loudness_and_phase():
    arrays = replace(QUIET, train=1200).load("train")
    x = arrays.x[arrays.y == arrays.class_names.index("low sine")]
    loudness = x.amax(2) - 0.5
    assert 0.2 - 1e-3 < loudness.min() < 0.22
    assert 0.38 < loudness.max() < 0.4 + 1e-3
    torch.testing.assert_close(0.5 - x.amin(2), loudness, atol=2e-3, rtol=0)
    # a sine in random phase is as often rising as falling where it begins
    assert 0.4 < float((x[:, 0, 1] > x[:, 0, 0]).float().mean()) < 0.6


def test_tones_noise():
    noisy = replace(QUIET, noise=0.05).load("train").x - QUIET.load("train").x
    assert float(noisy.mean()) == pytest.approx(0, abs=1e-3)
    assert float(noisy.std()) == pytest.approx(0.05, rel=0.02)
    loud = replace(QUIET, noise=0.5).load("train").x
    assert (float(loud.min()), float(loud.max())) == (0, 1)
    torch.testing.assert_close(loud * 65535, (loud * 65535).round(), atol=0.01, rtol=0)


def test_tones_are_a_matter_of_the_seed():
    assert QUIET.load("train").fingerprint() == QUIET.load("train").fingerprint()
    train, test, other = QUIET.load("train"), QUIET.load("test"), replace(QUIET, seed=1).load("train")
    assert len(torch.cat([train.x, test.x, other.x]).unique(dim=0)) == 150
    assert torch.bincount(test.y).tolist() == [5] * 6
    assert replace(QUIET, length=128).load("test").x.shape == (30, 1, 128)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"test": 5}, "at least 6 tones in each part, one a class, got train=60 and test=5"),
        ({"length": 127}, "length=127"),
        ({"noise": -0.1}, "noise=-0.1"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_tones_refuse(wrong, says):
    with pytest.raises(RequestError, match=says):
        replace(QUIET, **wrong)
