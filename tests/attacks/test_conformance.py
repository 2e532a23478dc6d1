# ruff: noqa: NPY002  (numpy's global state is what must be left alone)
"""One table of attacks, and what every one of them has to keep to. A new attack is a new row."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import (
    APGD,
    DDN,
    FAB,
    FGSM,
    FGSMRS,
    FMN,
    KLPGD,
    MIFGSM,
    MSD,
    PGD,
    FixedPerturbation,
    PatchPGD,
    SparseRS,
    SpatialSearch,
    Square,
    TorchAttack,
    Transfer,
    UniversalPGD,
    at_eps,
)
from robustml.attacks.pgd import choose_target
from robustml.errors import RequestError
from robustml.threats import LpBall, Patch, SparseBall, Spatial, Union
from robustml.types import Attack, Threat

INF, TWO, ONE = LpBall("inf", 0.1), LpBall(2, 0.6), LpBall(1, 2.5)
BALLS = {"inf": INF, "2": TWO, "1": ONE}
FOUR_PIXELS = SparseBall(4)

DETERMINISTIC: dict[str, Attack] = {
    **{f"fgsm-{norm}": FGSM(ball) for norm, ball in BALLS.items()},
    "fgsm-margin": FGSM(INF, loss="margin"),
    **{f"bim-{norm}": PGD(ball, steps=4, random_start=False) for norm, ball in BALLS.items()},
    "bim-0": PGD(FOUR_PIXELS, steps=4, random_start=False),
    "bim-margin": PGD(INF, steps=4, random_start=False, loss="margin"),
    "bim-dlr": PGD(TWO, steps=4, random_start=False, loss="dlr"),
    "bim-early_stop": PGD(INF, steps=4, random_start=False, early_stop=True),
    "bim-target-class": PGD(INF, steps=4, random_start=False, target=3),
    "bim-target-least_likely": PGD(TWO, steps=4, random_start=False, target="least_likely"),
    "bim-target-runner_up-dlr": PGD(INF, steps=4, random_start=False, target="runner_up", loss="dlr"),
    **{f"mifgsm-{norm}": MIFGSM(ball, steps=4) for norm, ball in BALLS.items()},
    **{f"fab-{norm}": FAB(ball, steps=4, targets=2) for norm, ball in BALLS.items()},
    "fab-nearest": FAB(INF, steps=4, targets=None),
    "mifgsm-early_stop": MIFGSM(INF, steps=4, early_stop=True, decay=0.5, step_size=0.04),
    "msd": MSD(Union([INF, TWO, ONE]), steps=4),
    "msd-step_sizes-dlr": MSD(Union([TWO, ONE], eps=0.8), steps=4, step_sizes=[0.2, 0.5], loss="dlr"),
    # In wide balls, for what lies outside of the ball is not given back.
    **{f"fmn-{norm}": FMN(LpBall(norm, wide), steps=10) for norm, wide in (("inf", 0.6), (2, 2.0), (1, 7.0))},
    "fmn-target-class": FMN(LpBall(2, 3.0), steps=10, target=3),
    "ddn": DDN(LpBall(2, 2.0), steps=20),
}

RANDOM: dict[str, Attack] = {
    **{f"fgsmrs-{norm}": FGSMRS(ball) for norm, ball in BALLS.items()},
    "fgsmrs-clip_start": FGSMRS(INF, clip_start=True, step_size=0.1),
    **{f"pgd-{norm}": PGD(ball, steps=4) for norm, ball in BALLS.items()},
    "pgd-0": PGD(FOUR_PIXELS, steps=4),
    "pgd-0-restarts-early_stop": PGD(FOUR_PIXELS, steps=3, restarts=2, early_stop=True),
    "pgd-step_size": PGD(INF, steps=4, step_size=0.01),
    "pgd-relative_step_size": PGD(TWO, steps=4, relative_step_size=0.5),
    "pgd-restarts": PGD(INF, steps=3, restarts=3),
    "pgd-restarts-2-margin": PGD(TWO, steps=3, restarts=2, loss="margin"),
    "pgd-restarts-1": PGD(ONE, steps=3, restarts=2),
    "pgd-early_stop": PGD(INF, steps=4, early_stop=True),
    "pgd-restarts-early_stop": PGD(TWO, steps=3, restarts=3, early_stop=True, loss="dlr"),
    **{f"apgd-{norm}": APGD(ball, steps=6) for norm, ball in BALLS.items()},
    "apgd-shrink_radius": APGD(ONE, steps=8, shrink_radius=True),
    "apgd-t": APGD(INF, steps=6, loss="margin", targets=2),
    **{f"square-{norm}": Square(ball, queries=20) for norm, ball in BALLS.items()},
    "pgd-target-restarts": PGD(INF, steps=3, restarts=2, target="least_likely", loss="margin"),
    "pgd-target-early_stop": PGD(ONE, steps=3, target="runner_up", early_stop=True),
}

# The targets are drawn, so that batches of one draw others than a batch of N does.
DRAWN_TARGETS: dict[str, Attack] = {"pgd-target-random": PGD(INF, steps=3, target="random")}

# They draw from streams that belong to each example, so that a batch gives it the same ones as no batch.
STREAMED: dict[str, Attack] = {
    "sparse_rs": SparseRS(FOUR_PIXELS, queries=60),
    "sparse_rs-ce": SparseRS(FOUR_PIXELS, queries=60, loss="ce", alpha=1.0),
    "pgd-start_noise": PGD(INF, steps=4, start_noise=0.001),
    "pgd-start_noise-restarts": PGD(TWO, steps=3, start_noise=0.01, clip_start=False, restarts=2),
}

# They climb away from the clean prediction, whatever the label, and draw as those above.
UNLABELLED: dict[str, Attack] = {f"kl_pgd-{norm}": KLPGD(ball, steps=4) for norm, ball in BALLS.items()}


class Surrogate(nn.Module):
    """Logits (N, 5) of anything that has 12 values at least, in its precision."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1)[:, :12] @ torch.sin(torch.arange(60.0)).view(12, 5).to(x.dtype)).exp()


ELSEWHERE: dict[str, Attack] = {"transfer": Transfer(Surrogate(), PGD(INF, steps=3, random_start=False))}

ON_IMAGES: dict[str, Attack] = {
    "patch_pgd": PatchPGD(Patch(3), steps=3, locations=2),
    "patch_pgd-all": PatchPGD(Patch(4), steps=2, locations=None, step_size=0.3, loss="margin"),
    "patch_pgd-early_stop": PatchPGD(Patch(3), steps=3, locations=3, early_stop=True),
    "patch_pgd-corner": PatchPGD(Patch(3, corner=(1, 3)), steps=3),
    "spatial": SpatialSearch(Spatial(rotations=5, shifts=3)),
    "spatial-early_stop": SpatialSearch(Spatial(rotations=5, shifts=3), loss="margin", early_stop=True),
    "spatial-draws": SpatialSearch(Spatial(rotations=5, shifts=3), draws=4),
    "fixed": FixedPerturbation(torch.linspace(-0.2, 0.2, 36).view(1, 6, 6), TWO),
}

# One perturbation for the whole batch: by nature, what it does to an image depends on the others.
TOGETHER: dict[str, Attack] = {f"universal-{norm}": UniversalPGD(ball, steps=4) for norm, ball in BALLS.items()}

TORCHATTACKS: dict[str, Attack] = {
    "ta-FGSM": TorchAttack("FGSM", INF),
    "ta-BIM": TorchAttack("BIM", INF, {"steps": 3}),
    "ta-MIFGSM": TorchAttack("MIFGSM", INF, {"steps": 3}),
    "ta-PGD": TorchAttack("PGD", INF, {"steps": 3}),
    "ta-PGDL2": TorchAttack("PGDL2", TWO, {"steps": 3}),
    "ta-FFGSM": TorchAttack("FFGSM", INF),
    "ta-APGD": TorchAttack("APGD", INF, {"steps": 3}),
    "ta-CW": TorchAttack("CW", TWO, {"steps": 3}),
    "ta-DeepFool": TorchAttack("DeepFool", TWO, {"steps": 3}),
    "ta-Square": TorchAttack("Square", INF, {"n_queries": 10}),
}
TORCHATTACKS_DETERMINISTIC = ["ta-FGSM", "ta-BIM", "ta-MIFGSM"]

OWN = DETERMINISTIC | RANDOM | DRAWN_TARGETS | STREAMED | UNLABELLED | ELSEWHERE | TOGETHER
ALL = OWN | ON_IMAGES | TORCHATTACKS
# One for every way through the code, where a check does not depend on norms and numbers.
FEW = {
    name: ALL[name]
    for name in (
        "fgsm-inf",
        "fgsmrs-2",
        "bim-early_stop",
        "bim-dlr",
        "bim-target-class",
        "bim-target-least_likely",
        "bim-target-runner_up-dlr",
        "mifgsm-early_stop",
        "msd",
        "pgd-1",
        "pgd-restarts-2-margin",
        "pgd-restarts-early_stop",
        "pgd-target-random",
        "pgd-0-restarts-early_stop",
        "pgd-start_noise",
        "kl_pgd-inf",
        "patch_pgd-early_stop",
        "universal-2",
        "ta-PGD",
        "ta-MIFGSM",
        "ta-APGD",
    )
}


# They take no gradient of the model that they are called with.
BLIND = {name: ALL[name] for name in ("sparse_rs", "spatial-early_stop", "spatial-draws", "fixed", "transfer")}


def over(table: dict[str, Attack]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("attack", table.values(), ids=table)


def threat_of(attack: Attack) -> Threat:
    threat = attack.threat  # type: ignore[attr-defined]
    assert isinstance(threat, Threat)
    return threat


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def assert_sound(attack: Attack, x_adv: Tensor, x: Tensor) -> None:
    threat = threat_of(attack)
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert x_adv.device == x.device
    assert not x_adv.requires_grad
    assert x_adv.isfinite().all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert threat.contains(x_adv, x).all()
    delta = (x_adv - x).double().flatten(1).numpy()
    if isinstance(threat, LpBall):
        norms = np.linalg.norm(delta, ord=threat.p, axis=1)
        assert (norms <= threat.eps * (1 + 1e-5) + 1e-6).all()
    elif isinstance(threat, SparseBall):
        # Grey images and flat vectors: a pixel is a value.
        assert ((delta != 0).sum(axis=1) <= threat.eps).all()
    elif isinstance(threat, Patch):
        for rows, columns in (np.nonzero(image)[-2:] for image in (x_adv != x).numpy()):
            assert not len(rows) or max(np.ptp(rows), np.ptp(columns)) < threat.eps


def snapshot(model: nn.Module) -> dict[str, Any]:
    return {
        "modes": [module.training for module in model.modules()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "state": copy.deepcopy(model.state_dict()),
        "gradients": [(parameter.grad, copy.deepcopy(parameter.grad)) for parameter in model.parameters()],
    }


def assert_as_found(model: nn.Module, before: dict[str, Any], buffers: bool = True) -> None:
    assert [module.training for module in model.modules()] == before["modes"]
    assert [parameter.requires_grad for parameter in model.parameters()] == before["requires_grad"]
    names = [name for name, _ in model.named_parameters()]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before["state"][name]) or not (buffers or name in names), name
    for parameter, (gradient, value) in zip(model.parameters(), before["gradients"], strict=True):
        assert parameter.grad is gradient
        assert gradient is None or torch.equal(gradient, value)


@over(ALL)
def test_one_call_in_eval_mode(attack: Attack, conv_model: nn.Module, image_batch: Any) -> None:
    """Shape, range and budget; model, arguments and global random state as they were; the same from the same seed."""
    conv_model[0].weight.requires_grad_(False)
    conv_model(image_batch.x).sum().backward()
    x, y = image_batch.x.clone(), image_batch.y.clone()
    before = snapshot(conv_model)
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    x_adv = attack(conv_model, x, y, generator=seeded(5))
    assert_sound(attack, x_adv, image_batch.x)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))
    assert random.getstate() == python_state
    assert_as_found(conv_model, before)
    assert torch.equal(x, image_batch.x)
    assert torch.equal(y, image_batch.y)
    torch.rand(3)
    np.random.random()
    random.random()
    again = attack(conv_model, x, y, generator=seeded(5))
    assert torch.equal(again, x_adv)
    again.add_(1)
    assert torch.equal(x, image_batch.x), "the result shares memory with the images"


@over(OWN)
def test_float64_and_flat_inputs(attack: Attack, linear_model: nn.Module, flat_batch: Any) -> None:
    x = flat_batch.x.double()
    assert_sound(attack, attack(linear_model.double(), x, flat_batch.y, generator=seeded()), x)


@over(DETERMINISTIC | RANDOM | STREAMED)
def test_the_loss_rises(attack: Attack, linear_model: nn.Module, flat_batch: Any) -> None:
    """An attack that returns noise, or walks downhill, would pass every other check."""
    targeted = getattr(attack, "target", None) is not None
    x = flat_batch.x
    with torch.no_grad():
        y = linear_model(x).argmax(1)
        x_adv = attack(linear_model, x, y, generator=seeded())
        before, after = (linear_model(images).log_softmax(1).gather(1, y[:, None]) for images in (x, x_adv))
        fell = (after < before).squeeze(1)
    if isinstance(attack, APGD | FAB | Square):
        # All or nothing: an example that was not fooled comes back as it was.
        moved = (x_adv != x).any(dim=1)
        assert moved.any()
        fell = fell[moved]
    assert fell.float().mean() >= (0.7 if targeted else 1.0)


@over(ALL)
def test_a_training_model_keeps_its_mixed_modes(attack: Attack, conv_model: nn.Module, image_batch: Any) -> None:
    conv_model.train()
    conv_model[1].eval()
    before = snapshot(conv_model)
    attack(conv_model, image_batch.x, image_batch.y, generator=seeded())
    # The layers in training see the attack's batches, which moves their running statistics; the frozen one does not.
    assert_as_found(conv_model, before, buffers=False)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(conv_model.state_dict()[name], before["state"][name])


@over(FEW)
def test_the_model_is_handed_back_when_the_attack_fails(
    attack: Attack, conv_model: nn.Module, image_batch: Any
) -> None:
    conv_model.train()
    conv_model[1].eval()
    before = snapshot(conv_model)
    numpy_state, python_state = np.random.get_state(), random.getstate()

    def fail(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        if torch.is_grad_enabled():
            raise ZeroDivisionError

    hook = conv_model[-1].register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError):
        attack(conv_model, image_batch.x, image_batch.y, generator=seeded())
    hook.remove()
    assert_as_found(conv_model, before, buffers=False)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))
    assert random.getstate() == python_state


@over({name: RANDOM[name] for name in ("pgd-inf", "pgd-2", "pgd-1", "fgsmrs-inf", "fgsmrs-2", "fgsmrs-1")})
def test_another_seed_starts_elsewhere(attack: Attack, conv_model: nn.Module, image_batch: Any) -> None:
    first, second = (attack(conv_model, image_batch.x, image_batch.y, generator=seeded(s)) for s in (1, 2))
    assert not torch.equal(first, second)


@over({name: RANDOM[name] for name in ("pgd-inf", "pgd-2", "pgd-1", "fgsmrs-inf")})
def test_without_a_generator_the_global_one_decides(attack: Attack, conv_model: nn.Module, image_batch: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        first = attack(conv_model, image_batch.x, image_batch.y)
        torch.manual_seed(6)
        assert torch.equal(attack(conv_model, image_batch.x, image_batch.y), first)


@over(FEW | BLIND)
def test_the_result_is_detached_from_images_that_carry_a_gradient(
    attack: Attack, conv_model: nn.Module, image_batch: Any
) -> None:
    x = image_batch.x.clone().requires_grad_()
    x_adv = attack(conv_model, x, image_batch.y, generator=seeded())
    assert not x_adv.requires_grad
    assert x_adv.grad_fn is None
    assert x.grad is None
    assert x.requires_grad


@over(
    DETERMINISTIC
    | STREAMED
    | UNLABELLED
    | ELSEWHERE
    | ON_IMAGES
    | {name: TORCHATTACKS[name] for name in TORCHATTACKS_DETERMINISTIC}
)
def test_a_batch_gives_what_its_examples_give(attack: Attack, conv_model: nn.Module, image_batch: Any) -> None:
    assert_batch_invariant(attack, conv_model, image_batch)


@over(RANDOM)
def test_a_batch_gives_what_its_examples_give_from_the_same_start(
    attack: Attack, conv_model: nn.Module, image_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(threat: Threat, x: Tensor, generator: Generator | None = None, *, boxed: bool = True) -> Tensor:
        return threat.project(x + threat.eps * torch.sin(1000 * x), x)

    monkeypatch.setattr(type(threat_of(attack)), "sample", start)
    assert_batch_invariant(attack, conv_model, image_batch)


def assert_batch_invariant(attack: Attack, model: nn.Module, batch: Any) -> None:
    # In float64, lest a sign or a largest gradient be decided by how a matrix product was split.
    model, x, y = model.double(), batch.x[:3].double(), batch.y[:3]
    together = attack(model, x, y, generator=seeded())
    singles = [attack(model, x[i : i + 1], y[i : i + 1], generator=seeded()) for i in range(len(x))]
    torch.testing.assert_close(together, torch.cat(singles), atol=1e-5, rtol=0)


def fooled(attack: Attack, trained: Any, seed: int = 0) -> Tensor:
    x_adv = attack(trained.model, trained.test.x, trained.test.y, generator=seeded(seed))
    with torch.no_grad():
        return trained.model(x_adv).argmax(1) != trained.test.y


STEPPED: dict[str, Callable[[int], Attack]] = {
    "pgd-inf": lambda steps: PGD(LpBall("inf", 0.12), steps=steps),
    "pgd-2": lambda steps: PGD(LpBall(2, 0.7), steps=steps),
    "pgd-1": lambda steps: PGD(LpBall(1, 3.0), steps=steps, step_size=0.5),
    "pgd-margin": lambda steps: PGD(LpBall("inf", 0.12), steps=steps, loss="margin"),
    "pgd-dlr": lambda steps: PGD(LpBall("inf", 0.12), steps=steps, loss="dlr"),
    "mifgsm": lambda steps: MIFGSM(LpBall("inf", 0.12), steps=steps),
    "ta-PGD": lambda steps: TorchAttack("PGD", LpBall("inf", 0.12), {"steps": steps}),
}


@pytest.mark.parametrize("attack", STEPPED.values(), ids=STEPPED)
def test_more_steps_are_no_weaker(attack: Callable[[int], Attack], digits_net: Any) -> None:
    few, many = fooled(attack(2), digits_net), fooled(attack(20), digits_net)
    # Three images of 300: another path may miss what a shorter one hit.
    assert many.sum() >= few.sum() - 3
    assert 0.05 < many.float().mean() < 0.995, "an eps at which there is something to compare"


def test_a_step_size_that_is_too_small_gains_with_every_step(digits_net: Any) -> None:
    few, many = (
        fooled(PGD(LpBall("inf", 0.12), steps=steps, step_size=0.01, random_start=False), digits_net)
        for steps in (2, 20)
    )
    assert many.sum() > few.sum() + 20
    assert not (few & ~many).any()


@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_more_restarts_keep_every_success(loss: Any, early_stop: bool, digits_net: Any) -> None:
    """The first start is the same, so that what it fooled stays fooled: image by image."""
    threat = LpBall("inf", 0.1)
    one, many = (
        fooled(PGD(threat, steps=2, restarts=restarts, loss=loss, early_stop=early_stop), digits_net)
        for restarts in (1, 6)
    )
    assert not (one & ~many).any()
    assert many.sum() > one.sum()


@over({name: attack for name, attack in OWN.items() if "early_stop" in name and "target" not in name})
def test_early_stop_fools_no_fewer(attack: Attack, digits_net: Any) -> None:
    full = replace(attack, early_stop=False)  # type: ignore[type-var]
    assert fooled(attack, digits_net).sum() >= fooled(full, digits_net).sum()


def test_early_stop_saves_forward_passes_and_images(digits_net: Any) -> None:
    model, (x, y) = digits_net
    seen: list[int] = []
    hook = model.register_forward_hook(lambda module, arguments, output: seen.append(len(output)))
    PGD(LpBall("inf", 0.1), steps=10, early_stop=True)(model, x, y, generator=seeded())
    hook.remove()
    assert seen[0] == len(y)
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 10
    assert seen[5] < 0.9 * len(y)
    seen.clear()
    hook = model.register_forward_hook(lambda module, arguments, output: seen.append(len(output)))
    PGD(LpBall("inf", 1.0), steps=50, early_stop=True)(model, x, y, generator=seeded())
    hook.remove()
    assert len(seen) < 50, "every image was fooled, and the climb went on"


CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


@over(FEW | BLIND)
@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_works_where_gradients_are_switched_off(
    attack: Attack, context: Callable[[], AbstractContextManager[Any]], conv_model: nn.Module, image_batch: Any
) -> None:
    expected = attack(conv_model, image_batch.x, image_batch.y, generator=seeded())
    with context():
        x_adv = attack(conv_model, image_batch.x, image_batch.y, generator=seeded())
        assert torch.equal(x_adv, expected)
        # Lightning's evaluation loops move batches under inference mode, which makes inference tensors of them.
        x_adv = attack(conv_model, image_batch.x.clone(), image_batch.y.clone(), generator=seeded())
        assert torch.equal(x_adv, expected)


@over({name: attack for name, attack in ALL.items() if not name.startswith(("bim", "transfer", "ta-"))})
def test_a_budget_of_zero_changes_nothing(attack: Attack, conv_model: nn.Module, image_batch: Any) -> None:
    nothing = at_eps(attack, 0.0)
    torch.testing.assert_close(
        nothing(conv_model, image_batch.x, image_batch.y, generator=seeded()), image_batch.x, atol=1e-7, rtol=0
    )


@over({name: attack for name, attack in FEW.items() if name not in TORCHATTACKS})
def test_parameters_get_no_gradient_and_the_input_only_is_differentiated(
    attack: Attack, conv_model: nn.Module, image_batch: Any
) -> None:
    flags: list[bool] = []
    conv_model.register_forward_hook(
        lambda module, arguments, output: flags.extend(parameter.requires_grad for parameter in module.parameters())
    )
    attack(conv_model, image_batch.x, image_batch.y, generator=seeded())
    assert flags
    assert not any(flags)


@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("restarts", [1, 2])
def test_examples_that_have_the_target_for_a_label_are_left_as_they_are(
    early_stop: bool, restarts: int, conv_model: nn.Module, image_batch: Any
) -> None:
    for target in range(5):
        attack = PGD(INF, steps=3, target=target, early_stop=early_stop, restarts=restarts)
        x_adv = attack(conv_model, image_batch.x, image_batch.y, generator=seeded())
        own = image_batch.y == target
        assert torch.equal(x_adv[own], image_batch.x[own])
        assert not torch.equal(x_adv[~own], image_batch.x[~own])


def test_targets_are_what_they_say(digits_net: Any) -> None:
    model, (x, y) = digits_net
    with torch.no_grad():
        logits = model(x).numpy()
    for kind, expected in (("least_likely", 0), ("runner_up", -1)):
        chosen = choose_target(kind, model, x, y, None)
        assert chosen is not None
        for row, label, target in zip(logits, y.tolist(), chosen.tolist(), strict=True):
            others = [k for k in np.argsort(row) if k != label]
            assert target == others[expected]
    drawn = choose_target("random", model, x, y, seeded(1))
    assert drawn is not None
    assert (drawn != y).all()
    assert set(drawn.tolist()) == set(range(10))
    assert torch.equal(drawn, choose_target("random", model, x, y, seeded(1)))  # type: ignore[arg-type]


def test_a_targeted_attack_reaches_its_target(digits_net: Any) -> None:
    model, (x, y) = digits_net
    attack = PGD(LpBall("inf", 0.5), steps=30, target=4)
    with torch.no_grad():
        prediction = model(attack(model, x, y, generator=seeded())).argmax(1)
    assert (prediction[y != 4] == 4).float().mean() > 0.9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PGD(INF, steps=0), "steps"),
        (lambda: PGD(INF, restarts=0), "restarts"),
        (lambda: PGD(INF, step_size=0.1, relative_step_size=0.1), "not both"),
        (lambda: PGD(INF, step_size=0), "step_size"),
        (lambda: PGD(INF, relative_step_size=-1), "relative_step_size"),
        (lambda: PGD(INF, step_size=float("nan")), "step_size"),
        (lambda: PGD(INF, loss="dlrr"), "dlr"),  # type: ignore[arg-type]
        (lambda: PGD(INF, start_noise=0.0), "start_noise"),
        (lambda: PGD(INF, start_noise=0.1, random_start=False), "random_start"),
        (lambda: MIFGSM(INF, steps=0), "steps"),
        (lambda: KLPGD(INF, steps=0), "steps"),
        (lambda: KLPGD(INF, start_noise=0.0), "no gradient"),
        (lambda: KLPGD(INF, step_size=0.1, relative_step_size=0.1), "not both"),
        (lambda: SparseRS(INF), "threat=sparse"),  # type: ignore[arg-type]
        (lambda: SparseRS(FOUR_PIXELS, queries=0), "queries"),
        (lambda: SparseRS(FOUR_PIXELS, alpha=0), "alpha"),
        (lambda: SparseRS(FOUR_PIXELS, loss="mse"), "mse"),  # type: ignore[arg-type]
        (lambda: PatchPGD(INF), "threat=patch"),  # type: ignore[arg-type]
        (lambda: PatchPGD(Patch(2), steps=0), "steps"),
        (lambda: PatchPGD(Patch(2), locations=0), "locations"),
        (lambda: PatchPGD(Patch(2), step_size=0), "step_size"),
        (lambda: SpatialSearch(INF), "threat=spatial"),  # type: ignore[arg-type]
        (lambda: SpatialSearch(Spatial(), draws=0), "draws"),
        (lambda: UniversalPGD(FOUR_PIXELS), "Lp"),  # type: ignore[arg-type]
        (lambda: UniversalPGD(INF, steps=0), "steps"),
        (lambda: UniversalPGD(INF, cap=0), "cap"),
        (lambda: UniversalPGD(INF, step_size=1.0, relative_step_size=1.0), "not both"),
    ],
)
def test_wrong_settings_are_refused_at_once(make: Callable[[], Attack], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (PGD(INF, target=5), "target=5"),
        (PGD(INF, target=-1), "target=-1"),
        (PGD(INF, target="likeliest"), "likeliest"),  # type: ignore[arg-type]
        (FGSM(INF, loss="cw"), "cw"),  # type: ignore[arg-type]
        (MIFGSM(INF, step_size=0.1, relative_step_size=1.0), "not both"),
        (FGSMRS(INF, step_size=-1.0), "step_size"),
    ],
)
def test_wrong_settings_are_refused_at_the_latest_on_the_first_batch(
    attack: Attack, message: str, conv_model: nn.Module, image_batch: Any
) -> None:
    with pytest.raises(RequestError, match=message):
        attack(conv_model, image_batch.x, image_batch.y)


def test_dlr_needs_enough_classes(flat_batch: Any) -> None:
    two, three = (nn.Linear(12, classes) for classes in (2, 3))
    y = flat_batch.y % 2
    with pytest.raises(RequestError, match="3 classes"):
        PGD(INF, loss="dlr")(two, flat_batch.x, y)
    with pytest.raises(RequestError, match="4 classes"):
        PGD(INF, loss="dlr", target="runner_up")(three, flat_batch.x, y)


@pytest.mark.parametrize(
    "output", [lambda logits: {"logits": logits}, lambda logits: logits[0], lambda logits: logits[:1]]
)
def test_a_model_that_returns_something_else_is_refused(output: Callable[[Tensor], Any], flat_batch: Any) -> None:
    class Odd(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return output(super().forward(x))

    with pytest.raises(RequestError, match="model returned"):
        FGSM(INF)(Odd(12, 5), flat_batch.x, flat_batch.y)


def test_at_eps_scales_relative_steps_and_keeps_fixed_ones(linear_model: nn.Module) -> None:
    x, y = torch.full((1, 12), 0.5), torch.tensor([0])
    for attack, expected in (
        (PGD(INF, steps=1, random_start=False, relative_step_size=0.5), 0.1),
        (PGD(INF, steps=1, random_start=False, step_size=0.03), 0.03),
        (FGSM(INF), 0.2),
    ):
        moved = (at_eps(attack, 0.2)(linear_model, x, y) - x).abs().max().item()
        assert moved == pytest.approx(expected, abs=1e-6)
    with pytest.raises(RequestError, match="another eps"):
        at_eps(lambda model, x, y, *, generator=None: x, 0.1)
