"""One table of attacks, each within a threat, and what every one of them has to keep to. A new attack is a new row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bound import bound
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
    PatchPGD,
    SparseRS,
    SpatialSearch,
    Square,
    TorchAttack,
    Transfer,
    UniversalPGD,
    Within,
)
from robustml.attacks.engine.setup import choose_target
from robustml.errors import RequestError
from robustml.evaluation.conformance import PROPERTIES, check_attack
from robustml.threats import LpBall, Patch, SparseBall, Spatial, Union
from robustml.types import Attack

INF, TWO, ONE = LpBall("inf", 0.1), LpBall(2, 0.6), LpBall(1, 2.5)
BATCH, NOISE, STEPS = "a batch gives what its images give", "no weaker than noise", "no weaker with more steps"


class Surrogate(nn.Module):
    """Logits (N, 100) of anything that has 12 values at least, in its precision."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1)[:, :12] @ torch.sin(torch.arange(1200.0)).view(12, 100).to(x.dtype)).exp()


TABLE: dict[str, bound] = {
    "fgsm": bound(INF, FGSM()),
    "fgsm-2": bound(TWO, FGSM(loss="margin")),
    "fgsm-1": bound(ONE, FGSM()),
    "fgsm_rs": bound(INF, FGSMRS()),
    "fgsm_rs-clip_start": bound(TWO, FGSMRS(clip_start=True, step_size=0.6)),
    "pgd": bound(INF, PGD(steps=4)),
    "pgd-2": bound(TWO, PGD(steps=4, relative_step_size=0.5)),
    "pgd-1": bound(ONE, PGD(steps=4)),
    "pgd-0": bound(SparseBall(4), PGD(steps=5, relative_step_size=2.0, early_stop=True)),
    "pgd-start_noise": bound(INF, PGD(steps=3, start_noise=0.01, clip_start=False, restarts=2)),
    "pgd-restarts-early_stop": bound(INF, PGD(steps=3, restarts=3, early_stop=True, loss="margin")),
    "pgd-target-random": bound(INF, PGD(steps=4, target="random")),
    "bim-early_stop": bound(TWO, PGD(steps=4, random_start=False, early_stop=True)),
    "bim-target-class": bound(INF, PGD(steps=4, random_start=False, target=1)),
    "bim-target-least_likely": bound(INF, PGD(steps=6, random_start=False, target="least_likely")),
    "mifgsm": bound(INF, MIFGSM(steps=4)),
    "mifgsm-early_stop": bound(TWO, MIFGSM(steps=4, early_stop=True, decay=0.5, step_size=0.2)),
    "kl_pgd": bound(INF, KLPGD(steps=4)),
    "msd": bound(Union([INF, TWO, ONE]), MSD(steps=3)),
    # In wide balls, for what lies outside of the ball is not given back.
    "fmn": bound(LpBall("inf", 0.4), FMN(steps=10)),
    "fmn-2-target": bound(LpBall(2, 2.5), FMN(steps=10, target=1)),
    "fmn-1": bound(LpBall(1, 7.0), FMN(steps=10)),
    "ddn": bound(LpBall(2, 2.5), DDN(steps=12)),
    "fab": bound(INF, FAB(steps=3, targets=2)),
    "fab-nearest": bound(TWO, FAB(steps=2, targets=None, restarts=2)),
    "fab-1": bound(ONE, FAB(steps=3, targets=2)),
    "apgd": bound(INF, APGD(steps=6)),
    "apgd-t": bound(TWO, APGD(steps=6, loss="margin", targets=2)),
    "apgd-1-shrink_radius": bound(ONE, APGD(steps=8, shrink_radius=True)),
    "square": bound(INF, Square(queries=20)),
    "square-2": bound(TWO, Square(queries=10)),
    "square-1": bound(ONE, Square(queries=10)),
    "sparse_rs": bound(SparseBall(4), SparseRS(queries=30)),
    "patch_pgd": bound(Patch(3), PatchPGD(steps=3, locations=2, early_stop=True)),
    "patch_pgd-corner": bound(Patch(3, corner=(1, 3)), PatchPGD(steps=3, loss="margin")),
    "spatial": bound(Spatial(rotations=5, shifts=3), SpatialSearch(early_stop=True)),
    "spatial-draws": bound(Spatial(rotations=5, shifts=3), SpatialSearch(draws=4)),
    "universal": bound(TWO, UniversalPGD(steps=4)),
    "transfer": bound(INF, Transfer(Surrogate(), PGD(steps=3, random_start=False))),
    "within": bound(INF, Within(PGD(steps=3), LpBall("inf", 0.05))),
    "ta-PGD": bound(INF, TorchAttack("PGD", {"steps": 3})),
    "ta-MIFGSM": bound(INF, TorchAttack("MIFGSM", {"steps": 3})),
    "ta-CW": bound(TWO, TorchAttack("CW", {"steps": 3})),
}
# What an attack cannot keep: one perturbation for all images, images of another model, a target that others are nearer
# to, and CW of torchattacks, which finds nothing inside the threat in three steps.
BROKEN: dict[str, set[str]] = {
    "universal": {BATCH},
    "transfer": {NOISE},
    "pgd-target-random": {STEPS},
    "bim-target-least_likely": {STEPS},
    "ta-CW": {NOISE},
}


@pytest.mark.parametrize("name", TABLE)
def test_conformance(name: str) -> None:
    """What `robustml check` examines: shape, dtype, range, budget, model, seeds, batches, strength."""
    row = TABLE[name]
    findings = check_attack(row.attack, row.threat)
    assert len(findings) == len(PROPERTIES)
    assert {finding.name: finding.reason for finding in findings if finding.bad}.keys() == BROKEN.get(name, set())


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["pgd", "pgd-2", "pgd-1", "fgsm_rs"])
def test_another_seed_starts_elsewhere_and_without_a_generator_the_global_one_decides(
    name: str, conv_model: nn.Module, image_batch: Any
) -> None:
    attack = TABLE[name]
    first, second = (attack(conv_model, *image_batch, generator=seeded(s)) for s in (1, 2))
    assert not torch.equal(first, second)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        first = attack(conv_model, *image_batch)
        torch.manual_seed(6)
        assert torch.equal(attack(conv_model, *image_batch), first)


def fooled(attack: Any, trained: Any, seed: int = 0) -> Tensor:
    x_adv = attack(trained.model, trained.test.x, trained.test.y, generator=seeded(seed))
    with torch.no_grad():
        return trained.model(x_adv).argmax(1) != trained.test.y


def test_a_step_size_that_is_too_small_gains_with_every_step(digits_net: Any) -> None:
    few, many = (
        fooled(bound(LpBall("inf", 0.12), PGD(steps=steps, step_size=0.01, random_start=False)), digits_net)
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
        fooled(bound(threat, PGD(steps=2, restarts=restarts, loss=loss, early_stop=early_stop)), digits_net)
        for restarts in (1, 6)
    )
    assert not (one & ~many).any()
    assert many.sum() > one.sum()


@pytest.mark.parametrize("name", ["pgd-0", "pgd-restarts-early_stop", "bim-early_stop", "mifgsm-early_stop"])
def test_early_stop_fools_no_fewer(name: str, digits_net: Any) -> None:
    row = TABLE[name]
    full = bound(row.threat, replace(row.attack, early_stop=False))
    assert fooled(row, digits_net).sum() >= fooled(full, digits_net).sum()


def test_early_stop_saves_forward_passes_and_images(digits_net: Any) -> None:
    model, (x, y) = digits_net
    seen: list[int] = []
    hook = model.register_forward_hook(lambda module, arguments, output: seen.append(len(output)))
    bound(LpBall("inf", 0.1), PGD(steps=10, early_stop=True))(model, x, y, generator=seeded())
    hook.remove()
    assert seen[0] == len(y)
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 10
    assert seen[5] < 0.9 * len(y)
    seen.clear()
    hook = model.register_forward_hook(lambda module, arguments, output: seen.append(len(output)))
    bound(LpBall("inf", 1.0), PGD(steps=50, early_stop=True))(model, x, y, generator=seeded())
    hook.remove()
    assert len(seen) < 50, "every image was fooled, and the climb went on"


@pytest.mark.parametrize("name", ["fgsm", "pgd-target-random", "mifgsm", "kl_pgd", "apgd", "fab", "universal"])
def test_only_the_input_is_differentiated(name: str, conv_model: nn.Module, image_batch: Any) -> None:
    flags: list[bool] = []
    conv_model.register_forward_hook(
        lambda module, arguments, output: flags.extend(parameter.requires_grad for parameter in module.parameters())
    )
    TABLE[name](conv_model, *image_batch, generator=seeded())
    assert flags
    assert not any(flags)


@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("restarts", [1, 2])
def test_examples_that_have_the_target_for_a_label_are_left_as_they_are(
    early_stop: bool, restarts: int, conv_model: nn.Module, image_batch: Any
) -> None:
    for target in range(5):
        attack = bound(INF, PGD(steps=3, target=target, early_stop=early_stop, restarts=restarts))
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
    attack = bound(LpBall("inf", 0.5), PGD(steps=30, target=4))
    with torch.no_grad():
        prediction = model(attack(model, x, y, generator=seeded())).argmax(1)
    assert (prediction[y != 4] == 4).float().mean() > 0.9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bound(INF, PGD(steps=0)), "steps"),
        (lambda: bound(INF, PGD(restarts=0)), "restarts"),
        (lambda: bound(INF, PGD(step_size=0.1, relative_step_size=0.1)), "not both"),
        (lambda: bound(INF, PGD(step_size=0)), "step_size"),
        (lambda: bound(INF, PGD(relative_step_size=-1)), "relative_step_size"),
        (lambda: bound(INF, PGD(step_size=float("nan"))), "step_size"),
        (lambda: bound(INF, PGD(loss="dlrr")), "dlr"),  # type: ignore[arg-type]
        (lambda: bound(INF, PGD(start_noise=0.0)), "start_noise"),
        (lambda: bound(INF, PGD(start_noise=0.1, random_start=False)), "random_start"),
        (lambda: bound(INF, MIFGSM(steps=0)), "steps"),
        (lambda: bound(INF, KLPGD(steps=0)), "steps"),
        (lambda: bound(INF, KLPGD(start_noise=0.0)), "no gradient"),
        (lambda: bound(INF, KLPGD(step_size=0.1, relative_step_size=0.1)), "not both"),
        (lambda: bound(INF, SparseRS()), "threat=sparse"),  # type: ignore[arg-type]
        (lambda: bound(SparseBall(4), SparseRS(queries=0)), "queries"),
        (lambda: bound(SparseBall(4), SparseRS(alpha=0)), "alpha"),
        (lambda: bound(SparseBall(4), SparseRS(loss="mse")), "mse"),  # type: ignore[arg-type]
        (lambda: bound(INF, PatchPGD()), "threat=patch"),  # type: ignore[arg-type]
        (lambda: bound(Patch(2), PatchPGD(steps=0)), "steps"),
        (lambda: bound(Patch(2), PatchPGD(locations=0)), "locations"),
        (lambda: bound(Patch(2), PatchPGD(step_size=0)), "step_size"),
        (lambda: bound(INF, SpatialSearch()), "threat=spatial"),  # type: ignore[arg-type]
        (lambda: bound(Spatial(), SpatialSearch(draws=0)), "draws"),
        (lambda: bound(SparseBall(4), UniversalPGD()), "Lp"),  # type: ignore[arg-type]
        (lambda: bound(INF, UniversalPGD(steps=0)), "steps"),
        (lambda: bound(INF, UniversalPGD(cap=0)), "cap"),
        (lambda: bound(INF, UniversalPGD(step_size=1.0, relative_step_size=1.0)), "not both"),
    ],
)
def test_wrong_settings_are_refused_at_once(make: Callable[[], Attack], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (bound(INF, PGD(target=5)), "target=5"),
        (bound(INF, PGD(target=-1)), "target=-1"),
        (bound(INF, PGD(target="likeliest")), "likeliest"),  # type: ignore[arg-type]
        (bound(INF, FGSM(loss="cw")), "cw"),  # type: ignore[arg-type]
        (bound(INF, MIFGSM(step_size=0.1, relative_step_size=1.0)), "not both"),
        (bound(INF, FGSMRS(step_size=-1.0)), "step_size"),
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
        bound(INF, PGD(loss="dlr"))(two, flat_batch.x, y)
    with pytest.raises(RequestError, match="4 classes"):
        bound(INF, PGD(loss="dlr", target="runner_up"))(three, flat_batch.x, y)


@pytest.mark.parametrize(
    "output", [lambda logits: {"logits": logits}, lambda logits: logits[0], lambda logits: logits[:1]]
)
def test_a_model_that_returns_something_else_is_refused(output: Callable[[Tensor], Any], flat_batch: Any) -> None:
    class Odd(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return output(super().forward(x))

    with pytest.raises(RequestError, match="model returned"):
        bound(INF, FGSM())(Odd(12, 5), flat_batch.x, flat_batch.y)


def test_relative_steps_follow_the_threat_of_the_call_and_fixed_ones_stay(linear_model: nn.Module) -> None:
    x, y = torch.full((1, 12), 0.5), torch.tensor([0])
    for attack, expected in (
        (PGD(steps=1, random_start=False, relative_step_size=0.5), 0.1),
        (PGD(steps=1, random_start=False, step_size=0.03), 0.03),
        (FGSM(), 0.2),
    ):
        moved = (attack(linear_model, x, y, INF.at(0.2)) - x).abs().max().item()
        assert moved == pytest.approx(expected, abs=1e-6)
