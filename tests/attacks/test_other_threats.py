"""Attacks by pixels, patches, rotations, one change for all, and another model: against what is known without them."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from bound import bound
from torch import Generator, Tensor, nn

from robustml.attacks import (
    PGD,
    FixedPerturbation,
    PatchPGD,
    SparseRS,
    SpatialSearch,
    Transfer,
    UniversalPGD,
    craft_universal,
)
from robustml.errors import RequestError
from robustml.threats import LpBall, Patch, SparseBall, Spatial
from robustml.types import Attack


class Plane(nn.Module):
    """Two classes, and the second leads by weight . x + bias."""

    def __init__(self, weight: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def score(self, x: Tensor) -> Tensor:
        return (x * self.weight).flatten(1).sum(1) + self.bias

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x)
        return torch.stack([torch.zeros_like(score), score], dim=1)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def problem(*shape: int, lead: float = 1000.0) -> tuple[Plane, Tensor, Tensor]:
    """A plane so far away that nothing within a small threat crosses it, images, and the labels that they have."""
    weight = torch.randn(shape, generator=seeded(30), dtype=torch.float64)
    x = (torch.rand(6, *shape, generator=seeded(31), dtype=torch.float64) * 1.4 - 0.2).clamp_(0, 1)
    return Plane(weight, -lead), x, torch.zeros(6, dtype=torch.long)


def gains(model: Plane, x: Tensor) -> Tensor:
    """How far each value (N, ...) alone can raise the score: max over v in [0, 1] of weight . (v - x)."""
    return torch.where(model.weight > 0, model.weight * (1 - x), -model.weight * x).detach()


def raised(model: Plane, x_adv: Tensor, x: Tensor) -> Tensor:
    return (model.score(x_adv) - model.score(x)).detach()


@pytest.mark.parametrize(
    ("attack", "share"),
    [
        (bound(SparseBall(4), PGD(steps=20, restarts=10, relative_step_size=2.0)), 0.95),
        (bound(SparseBall(4), PGD(steps=1, random_start=False, relative_step_size=1000.0)), 0.999),
        (bound(SparseBall(4), SparseRS(queries=600)), 0.95),
        (bound(SparseBall(4), SparseRS(queries=600, loss="ce")), 0.95),
    ],
    ids=["pgd", "pgd-leap", "sparse_rs", "sparse_rs-ce"],
)
def test_the_best_pixels_of_a_plane(attack: Attack, share: float) -> None:
    """The best k pixels are those with the largest gain, their channels added."""
    # Cross-entropy loses its digits far from the plane.
    model, x, y = problem(2, 5, 5, lead=20.0)
    best = gains(model, x).sum(1).flatten(1).topk(4).values.sum(1)
    x_adv = attack(model, x, y, generator=seeded())
    assert (model.score(x_adv) < 0).all(), "no example crosses the plane, so that none stops early"
    reached = raised(model, x_adv, x) / best
    assert (reached <= 1 + 1e-9).all()
    assert (reached >= share).all(), reached


def test_sparse_rs_changes_nothing_but_pixels_to_corners_and_counts_its_queries() -> None:
    model, x, y = problem(3, 4, 4)
    seen: list[int] = []
    model.register_forward_hook(lambda module, arguments, output: seen.append(len(output)))
    x_adv = bound(SparseBall(3), SparseRS(queries=40))(model, x, y, generator=seeded())
    assert seen == [6] * 40
    changed = (x_adv != x).any(1, keepdim=True).expand_as(x)
    assert set(x_adv[changed].tolist()) <= {0.0, 1.0}
    seen.clear()
    near = Plane(model.weight.detach(), -float(model.score(x).detach().max()) - 1000.1)
    near.register_forward_hook(lambda module, arguments, output: seen.append(len(output)))
    x_adv = bound(SparseBall(6), SparseRS(queries=300))(near, x, y, generator=seeded())
    assert seen == sorted(seen, reverse=True)
    assert (near(x_adv).argmax(1) == 1).all()
    assert len(seen) < 300, "every example was fooled, and the search went on"


def test_sparse_rs_with_every_pixel_may_still_recolour() -> None:
    model, x, y = problem(1, 2, 2)
    x_adv = bound(SparseBall(9), SparseRS(queries=200))(model, x, y, generator=seeded())
    torch.testing.assert_close(raised(model, x_adv, x), gains(model, x).flatten(1).sum(1))


def test_the_best_patch_of_a_plane() -> None:
    """The best place is the square with the largest sum of gains, and there every value goes to its best end."""
    model, x, y = problem(2, 6, 5)
    gain = gains(model, x)
    for side in (1, 3):
        best = torch.stack(
            [
                gain[:, :, row : row + side, column : column + side].flatten(1).sum(1)
                for row, column in itertools.product(range(6 - side + 1), range(5 - side + 1))
            ]
        ).amax(0)
        everywhere = bound(Patch(side), PatchPGD(steps=5, locations=None, loss="margin"))
        torch.testing.assert_close(raised(model, everywhere(model, x, y, generator=seeded()), x), best)
        ten = raised(model, bound(Patch(side), PatchPGD(steps=5, loss="margin"))(model, x, y, generator=seeded()), x)
        one = bound(Patch(side), PatchPGD(steps=5, locations=1, loss="margin"))(model, x, y, generator=seeded())
        # The first place is the same, and more places cannot be worse.
        assert (ten >= raised(model, one, x) - 1e-9).all()
        assert (ten > raised(model, one, x) + 1e-9).any()
    fixed = bound(Patch(3, corner=(2, 1)), PatchPGD(steps=5, loss="margin"))(model, x, y, generator=seeded())
    torch.testing.assert_close(raised(model, fixed, x), gain[:, :, 2:5, 1:4].flatten(1).sum(1))


def test_the_places_of_a_patch_are_drawn_without_repetition() -> None:
    model, x, y = problem(1, 4, 4)
    every = bound(Patch(2), PatchPGD(steps=2, locations=9, loss="margin"))(model, x, y, generator=seeded(1))
    best = bound(Patch(2), PatchPGD(steps=2, locations=None, loss="margin"))(model, x, y, generator=seeded(2))
    torch.testing.assert_close(raised(model, every, x), raised(model, best, x))


def test_early_stop_of_a_patch_tries_no_other_place_for_what_is_fooled(digits_net: Any) -> None:
    model, (x, y) = digits_net
    seen: list[int] = []
    hook = model.register_forward_hook(lambda module, arguments, output: seen.append(len(output)))
    results = [
        bound(Patch(3), PatchPGD(steps=3, locations=6, early_stop=early_stop))(
            model, x[:60], y[:60], generator=seeded()
        )
        for early_stop in (False, True)
    ]
    hook.remove()
    whole, stopped = ((model(x_adv).argmax(1) != y[:60]) for x_adv in results)
    # Who leaves early draws no further numbers; nobody else's change.
    assert torch.equal(whole, stopped)
    assert seen[:24] == [60] * 24
    assert sum(seen[24:]) < 0.8 * sum(seen[:24])


def test_the_worst_transform_is_the_worst_of_a_loop(digits_net: Any) -> None:
    model, (x, y) = digits_net
    x, y = x[:12], y[:12]
    threat = Spatial(15, 0.05, rotations=5, shifts=3)
    transforms, _ = threat.transforms()
    with torch.no_grad():
        losses = torch.stack(
            [nn.functional.cross_entropy(model(threat.render(x, t[None])), y, reduction="none") for t in transforms]
        )
        fooled = torch.stack([model(threat.render(x, t[None])).argmax(1) != y for t in transforms]).any(0)
        found = bound(threat, SpatialSearch())(model, x, y)
        assert torch.equal(model(found).argmax(1) != y, fooled)
        loss = nn.functional.cross_entropy(model(found), y, reduction="none")
        torch.testing.assert_close(loss[~fooled], losses.amax(0)[~fooled])
        assert 0 < fooled.sum() < 12
        early = bound(threat, SpatialSearch(early_stop=True))(model, x, y)
        assert torch.equal(model(early).argmax(1) != y, fooled)
        assert threat.contains(early, x).all()


def test_draws_of_transforms_lie_between_none_and_all(digits_net: Any) -> None:
    model, (x, y) = digits_net
    threat = Spatial(15, 0.05, rotations=11, shifts=3)

    def fooled(draws: int | None) -> int:
        x_adv = bound(threat, SpatialSearch(draws=draws))(model, x, y, generator=seeded())
        return int((model(x_adv).argmax(1) != y).sum())

    one, ten, every = fooled(1), fooled(10), fooled(None)
    assert one < ten < every


@pytest.mark.parametrize("p", ["inf", 2, 1])
def test_the_best_universal_perturbation_of_one_class(p: Any) -> None:
    """All images have the same gradient: the best change is eps along the steepest direction of the norm."""
    model = Plane(torch.tensor([0.5, -1.0, 3.0, -2.0], dtype=torch.float64))
    x = torch.full((7, 4), 0.5, dtype=torch.float64) + torch.rand(7, 4, dtype=torch.float64, generator=seeded()) / 10
    y = torch.ones(7, dtype=torch.long)
    threat = LpBall(p, 0.2)
    weight = model.weight.detach()
    steepest = {"inf": weight.sign(), 2: weight / weight.norm(), 1: weight * (weight.abs() == 3) / 3}[p]
    delta = craft_universal(model, [(x[:3], y[:3]), (x[3:], y[3:])], threat, epochs=20)
    torch.testing.assert_close(delta, -0.2 * steepest.unsqueeze(0), atol=1e-6, rtol=0)
    x_adv = bound(threat, UniversalPGD())(model, x, y)
    torch.testing.assert_close(x_adv, x - 0.2 * steepest, atol=1e-6, rtol=0)
    torch.testing.assert_close(bound(threat, FixedPerturbation(delta))(model, x, y), x_adv, atol=1e-6, rtol=0)


def test_capped_images_push_no_further() -> None:
    """One image that is fooled beyond the cap pulls the perturbation its way, unless its loss is capped."""
    model = Plane(torch.tensor([1.0], dtype=torch.float64))
    x = torch.tensor([[-6.0], [-6.0], [0.3]], dtype=torch.float64)
    y = torch.tensor([1, 1, 0])
    threat = LpBall("inf", 0.5, bounds=(-10, 10))
    # Two images with loss 6 want x smaller, one with loss 0.85 wants it larger.
    for cap, sign in ((9.0, -1.0), (2.0, 1.0)):
        delta = craft_universal(model, [(x, y)], threat, epochs=20, cap=cap)
        torch.testing.assert_close(delta, torch.tensor([[0.5 * sign]], dtype=torch.float64))


def test_a_universal_perturbation_fools_images_it_was_not_crafted_on(digits_net: Any) -> None:
    model, (x, y) = digits_net
    threat = LpBall("inf", 0.3)
    train = list(zip(x[:200].split(50), y[:200].split(50), strict=True))
    delta = craft_universal(model, train, threat, epochs=10)
    assert delta.shape == (1, 1, 8, 8)
    assert delta.abs().max() <= 0.3

    def fooled(delta: Tensor) -> int:
        x_adv = bound(threat, FixedPerturbation(delta))(model, x[200:], y[200:])
        assert threat.contains(x_adv, x[200:]).all()
        return int((model(x_adv).argmax(1) != y[200:]).sum())

    noise = 0.3 * torch.randn(delta.shape, generator=seeded()).sign()
    assert fooled(delta) > 2 * fooled(noise)


def test_images_on_one_side_of_the_box_still_push_the_others() -> None:
    """The first image cannot move up, but its gradient must not be lost: clipping passes it on."""
    model = Plane(torch.tensor([1.0], dtype=torch.float64))
    delta = craft_universal(
        model, [(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.long))], LpBall("inf", 0.2)
    )
    assert delta.item() == pytest.approx(0.02)


def test_wrong_universal_settings_are_refused(linear_model: nn.Module, flat_batch: Any) -> None:
    ball = LpBall("inf", 0.1)
    with pytest.raises(RequestError, match="no batches"):
        craft_universal(linear_model, [], ball)
    with pytest.raises(RequestError, match="epochs"):
        craft_universal(linear_model, [(flat_batch.x, flat_batch.y)], ball, epochs=0)
    with pytest.raises(RequestError, match="shape"):
        bound(ball, FixedPerturbation(torch.zeros(3, 4)))(linear_model, flat_batch.x, flat_batch.y)


class Counting(nn.Module):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.zeros(len(x), 10)


def test_transfer_from_the_model_itself_is_the_attack_itself(conv_model: nn.Module, image_batch: Any) -> None:
    attack = bound(LpBall("inf", 0.1), PGD(steps=3))
    x, y = image_batch
    expected = attack(conv_model, x, y, generator=seeded())
    victim = Counting()
    conv_model.train()
    conv_model[1].eval()
    modes = [module.training for module in conv_model.modules()]
    state = {name: tensor.clone() for name, tensor in conv_model.state_dict().items()}
    # The surrogate is attacked in eval mode, whatever mode it is in.
    transfer = bound(attack.threat, Transfer(conv_model, attack.attack))
    assert torch.equal(transfer(victim, x, y, generator=seeded()), expected)
    assert victim.calls == 0
    assert [module.training for module in conv_model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in conv_model.state_dict().items())
    assert all(parameter.requires_grad for parameter in conv_model.parameters())


def test_transfer_hands_the_surrogate_back_where_it_was(linear_model: nn.Module, flat_batch: Any) -> None:
    moves: list[str] = []

    class Moving(nn.Sequential):
        def to(self, device: Any) -> Any:  # type: ignore[override]
            moves.append(str(device))
            return super().to(device)

    def fail(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        raise ZeroDivisionError

    surrogate = Moving(linear_model)
    with pytest.raises(ZeroDivisionError):
        Transfer(surrogate, fail)(linear_model, *flat_batch, LpBall("inf", 0.1))
    assert moves == ["cpu", "cpu"]


def test_one_pixel_found_is_one_that_brute_force_finds(digits_net: Any) -> None:
    """Every pixel at either end of its range, tried in a loop: no search can fool more, and few queries find most."""
    model, (x, y) = digits_net
    with torch.no_grad():
        right = (model(x).argmax(1) == y).nonzero().squeeze(1)[:80]
        x, y = x[right], y[right]
        fooled = torch.zeros_like(y, dtype=torch.bool)
        for row, column, value in itertools.product(range(8), range(8), (0.0, 1.0)):
            x_adv = x.clone()
            x_adv[:, :, row, column] = value
            fooled |= model(x_adv).argmax(1) != y
    search = bound(SparseBall(1), SparseRS(queries=1000))(model, x, y, generator=seeded())
    gradient = bound(SparseBall(1), PGD(steps=20, restarts=10, relative_step_size=2.0, loss="margin"))(
        model, x, y, generator=seeded()
    )
    assert 10 <= fooled.sum() <= 70
    for x_adv in (search, gradient):
        found = model(x_adv).argmax(1) != y
        assert found.sum() >= 0.9 * fooled.sum()
        assert not (found & ~fooled).any()


@pytest.mark.parametrize(
    "attack",
    [
        bound(SparseBall(3), SparseRS(queries=60)),
        bound(Patch(3), PatchPGD(steps=2, locations=4, early_stop=True)),
        bound(Spatial(10, 0.05), SpatialSearch(draws=6, early_stop=True)),
    ],
    ids=["sparse_rs", "patch_pgd", "spatial"],
)
def test_who_leaves_early_changes_nothing_for_those_who_stay(attack: Attack, digits_net: Any) -> None:
    """Images that the model gets right, of which some are fooled soon, some late and some never."""
    # In float64, lest a sign be decided by how a matrix product was split.
    model, x, y = copy.deepcopy(digits_net.model).double(), digits_net.test.x.double(), digits_net.test.y
    with torch.no_grad():
        right = (model(x).argmax(1) == y).nonzero().squeeze(1)[:10]
        x, y = x[right], y[right]
        together = attack(model, x, y, generator=seeded())
        assert 0 < (model(together).argmax(1) != y).sum() < 10
    singles = [attack(model, x[i : i + 1], y[i : i + 1], generator=seeded()) for i in range(10)]
    torch.testing.assert_close(together, torch.cat(singles), atol=1e-5, rtol=0)
