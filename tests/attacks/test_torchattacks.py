# ruff: noqa: NPY002  (numpy's global state is what must be left alone)
from __future__ import annotations

import inspect
import random
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from bound import bound
from torch import Generator, Tensor, nn

from robustml.attacks import TorchAttack, torchattacks_names
from robustml.errors import RequestError
from robustml.threats import LpBall

INF = LpBall("inf", 0.1)

# The least work for every argument of the package that sets how much there is.
SMALL: Mapping[str, Any] = {
    "steps": 2,
    "n_queries": 5,
    "max_iterations": 10,
    "restarts": 1,
    "binary_search_steps": 1,
    "num_iter_set": 2,
    "nb_iter": 1,
    "nb_sample": 2,
    "popsize": 2,
    "noise_batch_size": 1,
    "N": 1,
    "m": 1,
    "eot_iter": 1,
    "version": "rand",
}
SLOW = {"JSMA", "AutoAttack", "FAB"}


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture
def colour_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(21)
        model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
    return model.eval()


@pytest.fixture
def colour_batch(colour_model: nn.Module) -> tuple[Tensor, Tensor]:
    x = torch.rand(2, 3, 32, 32, generator=seeded(22))
    with torch.no_grad():
        return x, colour_model(x).argmax(1)


def small(name: str) -> TorchAttack:
    accepted = inspect.signature(getattr(torchattacks, name).__init__).parameters
    threat = LpBall(2, 0.5) if name.endswith("L2") else INF
    return bound(threat, TorchAttack(name, {key: value for key, value in SMALL.items() if key in accepted}))


def test_where_the_package_is_absent_the_one_command_that_adds_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(RequestError, match="pip install --no-deps torchattacks"):
        TorchAttack("FGSM")


def test_every_attack_of_the_package_has_a_name_but_two() -> None:
    everything = {
        name
        for name, value in vars(torchattacks).items()
        if inspect.isclass(value) and issubclass(value, torchattacks.attack.Attack)
    }
    assert everything - set(torchattacks_names()) == {"MultiAttack", "LGV"}
    assert torchattacks_names() == sorted(set(torchattacks_names()) & everything)
    assert len(torchattacks_names()) > 30


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in torchattacks_names()
        if name != "SparseFool"
    ],
)
def test_every_attack_runs(name: str, colour_model: nn.Module, colour_batch: tuple[Tensor, Tensor]) -> None:
    attack, (x, y) = small(name), colour_batch
    before = x.clone()
    x_adv = attack(colour_model, x, y, generator=seeded())
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert not x_adv.requires_grad
    assert attack.threat.contains(x_adv, x).all()
    assert torch.equal(x, before)
    assert torch.equal(attack(colour_model, x, y, generator=seeded()), x_adv)
    assert not any(module.training for module in colour_model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in colour_model.parameters())


def test_sparsefool_runs_but_warns(colour_model: nn.Module, colour_batch: tuple[Tensor, Tensor]) -> None:
    """The package hands a tensor subclass to numpy in a way that numpy 2 calls deprecated."""
    attack, (x, y) = small("SparseFool"), colour_batch
    with pytest.raises(DeprecationWarning, match="__array__ implementation doesn't accept a copy keyword"):
        attack(colour_model, x, y, generator=seeded())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert attack.threat.contains(attack(colour_model, x, y, generator=seeded()), x).all()


@pytest.mark.parametrize(
    ("name", "params", "hint"),
    [
        ("PGDD", {}, "'PGD'"),
        ("pgdl2", {}, "'PGDL2'|known"),
        ("MultiAttack", {}, "MultiAttack"),
        ("LGV", {}, "LGV"),
        ("Attack", {}, "Attack"),
        ("PGD", {"step": 3}, "did you mean 'steps'"),
        ("CW", {"eps": 0.1}, "eps"),
        ("PGD", {"model": None}, "model"),
    ],
)
def test_unknown_names_and_arguments_are_refused_with_the_nearest(name: str, params: dict[str, Any], hint: str) -> None:
    with pytest.raises(RequestError, match=hint):
        bound(INF, TorchAttack(name, params))


def record_arguments(monkeypatch: pytest.MonkeyPatch, name: str) -> dict[str, Any]:
    """The keyword arguments that the adapter hands to an attack of the package."""
    seen: dict[str, Any] = {}
    original = getattr(torchattacks, name)
    initialise = original.__init__

    def record(self: Any, model: nn.Module, **arguments: Any) -> None:
        seen.update(arguments)
        initialise(self, model, **arguments)

    record.__signature__ = inspect.signature(initialise)  # type: ignore[attr-defined]
    monkeypatch.setattr(original, "__init__", record)
    return seen


@pytest.mark.parametrize(
    ("name", "params", "alpha"),
    [
        ("PGD", {"steps": 10}, 0.025),
        ("PGD", {"steps": 50}, 0.005),
        ("PGD", {}, 0.025),
        ("PGD", {"steps": 10, "alpha": 0.07}, 0.07),
        ("FFGSM", {}, 0.125),
        ("FFGSM", {"alpha": 0.1}, 0.1),
    ],
)
def test_the_step_size_follows_eps_unless_it_is_given(
    name: str,
    params: dict[str, Any],
    alpha: float,
    monkeypatch: pytest.MonkeyPatch,
    conv_model: nn.Module,
    image_batch: Any,
) -> None:
    seen = record_arguments(monkeypatch, name)
    bound(INF, TorchAttack(name, params))(conv_model, *image_batch, generator=seeded())
    assert seen["alpha"] == pytest.approx(alpha)
    assert seen["eps"] == 0.1


def test_norm_classes_and_seed_come_from_threat_model_and_generator(
    monkeypatch: pytest.MonkeyPatch,
    conv_model: nn.Module,
    image_batch: Any,
    colour_model: nn.Module,
    colour_batch: tuple[Tensor, Tensor],
) -> None:
    seen = record_arguments(monkeypatch, "APGDT")
    seeds = []
    for threat, norm in ((INF, "Linf"), (LpBall(2, 0.5), "L2")):
        x_adv = bound(threat, TorchAttack("APGDT", {"steps": 2}))(
            conv_model, *image_batch, generator=seeded(len(seeds))
        )
        assert (seen["norm"], seen["n_classes"], seen["eps"]) == (norm, 5, threat.eps)
        assert threat.contains(x_adv, image_batch.x).all()
        seeds.append(seen["seed"])
    assert seeds[0] != seeds[1]
    seen = record_arguments(monkeypatch, "PIFGSM")
    bound(INF, TorchAttack("PIFGSM"))(colour_model, *colour_batch, generator=seeded())
    assert seen["max_epsilon"] == 0.1


def test_what_an_attack_does_to_its_surroundings_is_undone(
    monkeypatch: pytest.MonkeyPatch, conv_model: nn.Module, image_batch: Any
) -> None:
    def vandalise(self: Any, images: Tensor, labels: Tensor) -> Tensor:
        self.model.train()
        torch.manual_seed(0)
        torch.rand(10)
        np.random.seed(0)
        random.seed(0)
        self.model[0].weight.grad = torch.ones_like(self.model[0].weight)
        return images.clone()

    monkeypatch.setattr(torchattacks.VANILA, "forward", vandalise)
    conv_model.train()
    conv_model[1].eval()
    conv_model[4].weight.requires_grad_(False)
    modes = [module.training for module in conv_model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    bound(INF, TorchAttack("VANILA"))(conv_model, image_batch.x, image_batch.y, generator=seeded())
    assert [module.training for module in conv_model.modules()] == modes
    assert not conv_model[1].training
    assert conv_model[2].training
    assert conv_model[0].weight.grad is None
    assert [name for name, p in conv_model.named_parameters() if not p.requires_grad] == ["4.weight"]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]


def test_the_attack_sees_the_mode_that_the_caller_chose(conv_model: nn.Module, image_batch: Any) -> None:
    modes: list[tuple[bool, bool]] = []
    conv_model.register_forward_hook(lambda model, _, __: modes.append((model.training, model[1].training)))
    for mode in (True, False):
        conv_model.train(mode)
        conv_model[1].eval()
        modes.clear()
        bound(INF, TorchAttack("PGD", {"steps": 2}))(conv_model, image_batch.x, image_batch.y, generator=seeded())
        assert set(modes) == {(mode, False)}


def test_a_training_model_with_batch_norm_over_vectors_can_be_attacked(image_batch: Any) -> None:
    """Such a layer refuses batches of one, which the adapter must not make of a batch that the caller gave whole."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.BatchNorm1d(5)).train()
    x_adv = bound(INF, TorchAttack("FGSM"))(model, image_batch.x, image_batch.y, generator=seeded())
    assert INF.contains(x_adv, image_batch.x).all()


def test_a_training_model_sees_the_attack_s_forward_passes_and_no_others(
    conv_model: nn.Module, image_batch: Any
) -> None:
    """Every pass moves the running statistics: FGSM needs one, on the whole batch."""
    sizes: list[int] = []
    conv_model.train().register_forward_hook(lambda model, inputs, _: sizes.append(len(inputs[0])))
    bound(INF, TorchAttack("FGSM"))(conv_model, image_batch.x, image_batch.y, generator=seeded())
    assert sizes == [8]


@pytest.mark.parametrize("norm", [2, "inf"])
def test_an_attack_without_eps_comes_back_within_the_threat_or_unchanged(norm: Any, digits_net: Any) -> None:
    model, (x, y) = digits_net
    x, y = x[:60], y[:60]
    with torch.no_grad():
        x, y = x[model(x).argmax(1) == y], y[model(x).argmax(1) == y]
    params = {"c": 5, "steps": 40, "lr": 0.05}
    everything = bound(LpBall(2, 1e6), TorchAttack("CW", params))(model, x, y, generator=seeded())
    size = everything.sub(x).flatten(1).norm(p=float(norm), dim=1)
    eps = float(size[size > 0].median())
    x_adv = bound(LpBall(norm, eps), TorchAttack("CW", params))(model, x, y, generator=seeded())
    for image, before, unlimited, distance in zip(x_adv, x, everything, size, strict=True):
        assert torch.equal(image, unlimited if distance <= eps else before)
    changed = (x_adv != x).flatten(1).any(1)
    assert changed.any()
    assert not changed.all()


def test_the_global_generator_decides_where_none_is_given(conv_model: nn.Module, image_batch: Any) -> None:
    attack = bound(INF, TorchAttack("PGD", {"steps": 2}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first, second = attack(conv_model, *image_batch), attack(conv_model, *image_batch)
        torch.manual_seed(1)
        assert torch.equal(attack(conv_model, *image_batch), first)
    assert not torch.equal(first, second)


def test_a_norm_that_the_attack_does_not_have_is_refused() -> None:
    """With another ball it would leave the threat, or (PGDL2 in an L-infinity ball) hardly move in it."""
    for name, threat in (("PGD", LpBall(2, 0.5)), ("FGSM", LpBall(1, 3.0)), ("PGDL2", INF)):
        with pytest.raises(RequestError, match=name):
            bound(threat, TorchAttack(name))


@pytest.mark.parametrize("name", ["FGSM", "PGD", "MIFGSM", "CW", "APGD"])
def test_vectors_are_attacked_like_pictures_of_one_row(name: str) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(12, 3)
    flat, pictured = linear, torch.nn.Sequential(torch.nn.Flatten(), linear)
    x = torch.rand(5, 12)
    y = linear(x).argmax(1)
    attack = bound(LpBall("inf", 0.2), TorchAttack(name, {"steps": 5} if name != "FGSM" else {}))

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(1)

    x_adv = attack(flat, x, y, generator=seeded())
    assert x_adv.shape == x.shape
    expected = attack(pictured, x.view(5, 1, 1, 12), y, generator=seeded()).view(5, 12)
    torch.testing.assert_close(x_adv, expected)
