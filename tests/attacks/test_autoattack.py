"""AutoAttack and its members against closed forms, linear programs and the reference implementation."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bound import Brief, bound
from scipy.optimize import LinearConstraint, linprog, minimize
from torch import Generator, Tensor, nn

from robustml.attacks import APGD, FAB, AutoAttack, Square
from robustml.attacks.engine.gradient import input_gradient
from robustml.attacks.engine.hyperplane import step_onto_hyperplane
from robustml.attacks.engine.low_precision import HalfPrecision, search_in_half_precision
from robustml.attacks.engine.thin_convolution import ThinConvolutions
from robustml.draws import Draws
from robustml.errors import RequestError
from robustml.evaluation import evaluate
from robustml.threats import LpBall
from robustml.types import Attack

ORDERS = [math.inf, 2.0, 1.0]
DUAL = {math.inf: 1.0, 2.0: 2.0, 1.0: math.inf}
NORMS = {math.inf: "Linf", 2.0: "L2", 1.0: "L1"}


class Plane(nn.Module):
    """Class 1 on one side of a plane and class 0 on the other, and two classes that nothing reaches."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def score(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight + self.bias

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x)
        far = torch.full_like(score, -50)
        return torch.stack([torch.zeros_like(score), score, far, far - 1], dim=1)


@pytest.fixture
def plane() -> tuple[Plane, Tensor, Tensor]:
    """A plane, and points (8, 1, 4, 4) far enough from the walls of the box."""
    generator = Generator().manual_seed(3)
    x = 0.5 + 0.1 * torch.randn(8, 1, 4, 4, generator=generator, dtype=torch.float64)
    model = Plane(torch.randn(16, generator=generator, dtype=torch.float64), 0.0)
    model.bias = -float(model.score(torch.full_like(x[:1], 0.5)).detach())
    return model, x, (model.score(x) > 0).long()


def smallest(model: Plane, x: Tensor, p: float) -> Tensor:
    return model.score(x).detach().abs() / torch.linalg.vector_norm(model.weight.detach(), ord=DUAL[p])


@pytest.mark.parametrize("p", ORDERS)
def test_the_step_onto_a_hyperplane_is_the_smallest(p: float) -> None:
    """Linear programs for L-infinity and L1, a convex solver for L2; some planes lie outside the box."""
    generator = Generator().manual_seed(0)
    x = torch.rand(12, 7, generator=generator, dtype=torch.float64)
    x[:4] = x[:4].round()  # on the walls
    normal = torch.randn(12, 7, generator=generator, dtype=torch.float64)
    normal[3, 2:5] = 0
    offset = (normal * x).sum(1) + torch.linspace(-2.5, 2.5, 12, dtype=torch.float64)
    steps = step_onto_hyperplane(x, normal, offset, p, (0.0, 1.0))
    assert (x + steps).min() > -1e-9
    assert (x + steps).max() < 1 + 1e-9
    exhausted = 0
    for point, row, target, step in zip(x.numpy(), normal.numpy(), offset.numpy(), steps.numpy(), strict=True):
        ends = np.maximum(row * (1 - point), row * -point), np.minimum(row * (1 - point), row * -point)
        reach = row @ point + (ends[0].sum() if target > row @ point else ends[1].sum())
        if abs(target - row @ point) > abs(reach - row @ point):
            exhausted += 1
            assert row @ (point + step) == pytest.approx(reach, abs=1e-9)
            continue
        assert row @ (point + step) == pytest.approx(target, abs=1e-9)
        assert np.linalg.norm(step, ord=p) == pytest.approx(_least_norm(point, row, target, p), abs=2e-6)
    assert 0 < exhausted < 12


def _least_norm(point: Any, normal: Any, offset: float, p: float) -> float:
    d, box = len(point), [(float(-a), float(1 - a)) for a in point]
    needed = offset - normal @ point
    if p == 2:
        result = minimize(
            lambda step: step @ step,
            np.zeros(d),
            jac=lambda step: 2 * step,
            bounds=box,
            constraints=LinearConstraint(normal[None], needed, needed),
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return math.sqrt(result.fun)
    # Variables: the step, and its size (one number for L-infinity, one a coordinate for L1).
    sizes = 1 if p == math.inf else d
    size_of = np.ones((d, 1)) if p == math.inf else np.eye(d)
    result = linprog(
        np.r_[np.zeros(d), np.ones(sizes)],
        A_ub=np.block([[np.eye(d), -size_of], [-np.eye(d), -size_of]]),
        b_ub=np.zeros(2 * d),
        A_eq=np.r_[normal, np.zeros(sizes)][None],
        b_eq=[needed],
        bounds=box + [(0, None)] * sizes,
    )
    return float(result.fun)


MEMBERS: dict[str, Any] = {
    "apgd-ce": lambda threat: bound(threat, APGD()),
    "apgd-dlr": lambda threat: bound(threat, APGD(loss="dlr")),
    "apgd-margin": lambda threat: bound(threat, APGD(loss="margin")),
    "apgd-t": lambda threat: bound(threat, APGD(loss="dlr", targets=3)),
    "fab": lambda threat: bound(threat, FAB(targets=None)),
    "fab-t": lambda threat: bound(threat, FAB()),
}


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("name", MEMBERS)
def test_members_reach_a_plane_as_soon_as_it_can_be_reached(
    name: str, p: float, plane: tuple[Plane, Tensor, Tensor]
) -> None:
    model, x, y = plane
    for point, label in zip(x[:3].split(1), y[:3].split(1), strict=True):
        closest = float(smallest(model, point, p))
        # The sparse steps of L1 end short of the vertex of the ball (those of the reference a little shorter still).
        slack = 0.2 if p == 1 and name.startswith("apgd") else 0.01
        for factor, fools in ((1 + slack, True), (0.999, False)):
            attack = MEMBERS[name](LpBall(p, closest * factor))
            x_adv = attack(model, point, label, generator=Generator().manual_seed(0))
            assert bool(model(x_adv).argmax(1) != label) == fools, f"eps = {factor} of the closed form"


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("targets", [None, 9])
def test_fab_finds_the_smallest_perturbation(
    p: float, targets: int | None, plane: tuple[Plane, Tensor, Tensor]
) -> None:
    model, x, y = plane
    found = bound(LpBall(p, 0.01), FAB(targets=targets)).smallest(model, x, y)
    assert (model(found).argmax(1) != y).all()
    ratio = LpBall(p, 1).distance(found, x) / smallest(model, x, p)
    assert (ratio >= 1 - 1e-9).all()
    assert (ratio < 1.01).all(), ratio


def test_shrinking_radii_reach_the_vertex_of_the_l1_ball(plane: tuple[Plane, Tensor, Tensor]) -> None:
    model, x, y = plane
    for point, label in zip(x.split(1), y.split(1), strict=True):
        threat = LpBall(1, 1.2 * float(smallest(model, point, 1.0)))
        x_adv = bound(threat, APGD(shrink_radius=True))(model, point, label, generator=Generator().manual_seed(0))
        assert threat.contains(x_adv, point)
        assert model(x_adv).argmax(1) != label


@pytest.mark.parametrize("p", ORDERS)
def test_square_needs_no_gradient_to_cross_a_plane(p: float) -> None:
    """With weights of one sign in each half of the picture, squares are the right shape, and noise is not."""
    weight = torch.cat([torch.ones(8), -torch.ones(8)]).double()
    x = torch.full((4, 1, 4, 4), 0.5, dtype=torch.float64)
    model, y = Plane(weight, 0.1), torch.ones(4, dtype=torch.long)
    threat = LpBall(p, 3 * float(smallest(model, x[:1], p)))
    x_adv = bound(threat, Square(queries=500))(model, x, y, generator=Generator().manual_seed(0))
    assert threat.contains(x_adv, x).all()
    assert (model(x_adv).argmax(1) != y).all()
    weak = LpBall(p, 0.99 * float(smallest(model, x[:1], p)))
    assert (model(bound(weak, Square(queries=500))(model, x, y)).argmax(1) == y).all()


def test_square_asks_the_model_only_what_it_does_not_know() -> None:
    """A one-pixel picture has two proposals; whichever was taken, proposing it again changes nothing."""
    asked = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(len(x))
            return torch.stack([x.flatten(1).sum(1) + 5, torch.zeros(len(x))], dim=1)

    bound(LpBall("inf", 0.1), Square(queries=100))(Counting(), torch.full((1, 1, 1, 1), 0.5), torch.tensor([0]))
    assert sum(asked) < 75, "every query was shown to the model"


REFERENCE = [("apgd-ce", math.inf, 0.12), ("apgd-t", 2.0, 0.6), ("fab-t", 1.0, 1.5)]


@pytest.mark.parametrize(("name", "p", "eps"), REFERENCE)
def test_members_agree_with_the_reference_implementation(name: str, p: float, eps: float, digits_net: Any) -> None:
    from pyautoattack import AutoAttack as Reference

    model, (x, y) = digits_net
    x, y = x[:60], y[:60]
    threat = LpBall(p, eps)
    member: Any = AutoAttack().members(one_norm=p == 1)[name]
    if name != "apgd-ce":  # nine targets each are a matter of budgets, held further below
        member = replace(member, targets=3)
    results = evaluate(model, [(x, y)], {name: member}, threat)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        reference = Reference(model, eps=eps, norm=NORMS[p], seed=0, version="standard")
        reference.attacks_to_run = [name]
        reference.fab.n_target_classes = reference.apgd_targeted.n_target_classes = 3
        found, _ = reference.run_standard_evaluation(x, y, batch_size=60)
    expected = (model(found).argmax(1) == y).numpy()
    assert 0.1 < expected.mean() < 0.9, "an eps at which the attack has work to do"
    robust = results.verdicts.attacks[name].robust
    assert (robust == expected).mean() >= 0.98
    assert robust.mean() <= expected.mean() + 0.01


def test_square_agrees_with_the_reference_implementation_under_l1(digits_net: Any) -> None:
    """On pictures of 32 x 32: the reference never paints the last row and column, which is much of an 8 x 8 one."""
    from pyautoattack import AutoAttack as Reference

    small, (x, y) = digits_net
    model = nn.Sequential(nn.AvgPool2d(4), small).eval()
    x, y = x[:50].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3), y[:50]
    threat = LpBall(1, 32.0)

    def robust(queries: int) -> Tensor:
        found = bound(threat, Square(queries=queries))(model, x, y, generator=Generator().manual_seed(0))
        assert threat.contains(found, x).all()
        return model(found).argmax(1) == y

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        reference = Reference(model, eps=32.0, norm="L1", seed=0, version="standard")
        reference.attacks_to_run = ["square"]
        reference.square.n_queries = 250
        found, _ = reference.run_standard_evaluation(x, y, batch_size=50)
    expected, ours = model(found).argmax(1) == y, robust(250)
    # of four seeds, the reference agreed with itself on .96 to 1 of the images
    assert (ours == expected).float().mean() >= 0.94
    assert ours.float().mean() <= expected.float().mean() + 0.04
    assert robust(1).float().mean() > expected.float().mean() + 0.1, "an eps at which the attack has work to do"


SMALL: dict[str, Any] = {
    "apgd": lambda threat: bound(threat, APGD(steps=8, restarts=2)),
    "apgd-t": lambda threat: bound(threat, APGD(steps=8, loss="dlr", targets=9)),
    "fab-t": lambda threat: bound(threat, FAB(steps=8)),
    "fab": lambda threat: bound(threat, FAB(steps=8, targets=None, restarts=2)),
    "square": lambda threat: bound(threat, Square(queries=40)),
}


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("name", SMALL)
def test_an_example_gets_the_same_image_in_any_batch(name: str, p: float, digits_net: Any) -> None:
    model, (x, y) = digits_net
    x, y = x[:6], y[:6]
    attack: Attack = SMALL[name](LpBall(p, {math.inf: 0.1, 2.0: 0.6, 1.0: 2.5}[p]))
    together = attack(model, x, y, generator=Generator().manual_seed(5))
    for number in (0, 3, 5):
        one = slice(number, number + 1)
        alone = attack(model, x[one], y[one], generator=Generator().manual_seed(5))
        torch.testing.assert_close(alone, together[one], atol=1e-4, rtol=0)
    assert not torch.equal(together, x), "an attack that does nothing agrees with itself"


@pytest.mark.parametrize(
    ("shape", "classes"), [((1, 8, 8), 2), ((3, 6, 10), 3), ((3, 10, 6), 10), ((7,), 100), ((7,), 2)]
)
@pytest.mark.parametrize("p", ORDERS)
def test_any_number_of_classes_and_any_shape(shape: tuple[int, ...], classes: int, p: float) -> None:
    generator = Generator().manual_seed(1)
    size = math.prod(shape)
    model = nn.Sequential(nn.Flatten(), nn.Linear(size, classes)).requires_grad_(False)
    model[1].weight.copy_(torch.randn(classes, size, generator=generator))
    x = torch.rand(6, *shape, generator=generator)
    y = model(x).argmax(1)
    threat = LpBall(p, {math.inf: 0.05, 2.0: 0.2, 1.0: 0.8}[p])
    attacks = {name: make(threat).attack for name, make in SMALL.items()}
    results = evaluate(model, [(x, y)], attacks, threat)
    remarks = [flag.message for flag in results.flags if flag.name == "reduced_attack"]
    assert any("target classes instead of 9" in remark for remark in remarks) == (classes < 10)
    assert any("targeted DLR loss is not defined" in remark for remark in remarks) == (classes < 4)


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
def test_the_published_order_and_budgets(version: Any) -> None:
    members = AutoAttack(version=version).members()
    order = {
        "standard": ["apgd-ce", "apgd-t", "fab-t", "square"],
        "plus": ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"],
        "rand": ["apgd-ce", "apgd-dlr"],
    }
    assert list(members) == order[version]
    first: Any = members["apgd-ce"]
    assert (first.steps, first.restarts, first.eot) == (
        100,
        5 if version == "plus" else 1,
        20 if version == "rand" else 1,
    )
    if version != "rand":
        targeted: Any = members["apgd-t"]
        fab_t: Any = members["fab-t"]
        square: Any = members["square"]
        assert (targeted.targets, fab_t.targets, fab_t.steps, square.queries, square.share) == (9, 9, 100, 5000, 0.8)
    if version == "standard":
        sparse: Any = AutoAttack().members(one_norm=True)
        assert (sparse["apgd-ce"].restarts, sparse["apgd-t"].targets, sparse["apgd-t"].shrink_radius) == (5, 5, True)


def test_processes_change_nothing(digits_net: Any) -> None:
    model, (x, y) = digits_net
    x, y = x[:30], y[:30]
    threat = LpBall("inf", 0.15)
    found = [
        bound(threat, Brief(version="rand", processes=processes))(model, x, y, generator=Generator().manual_seed(2))
        for processes in (1, 3)
    ]
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)
    assert threat.contains(found[1], x).all()


def test_what_fails_in_a_process_is_raised_here() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                raise RequestError("this model cannot be differentiated")
            return torch.tensor([[1.0, 0.0]]).expand(len(x), 2)

    with pytest.raises(RequestError, match="cannot be differentiated"):
        bound(LpBall("inf", 0.1), AutoAttack(processes=2))(
            Broken(), torch.rand(4, 1, 4, 4), torch.zeros(4, dtype=torch.long)
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bound(LpBall(2, 1), APGD(steps=0)), "steps >= 1"),
        (lambda: bound(LpBall(2, 1), APGD(shrink_radius=True)), "L1"),
        (lambda: bound(LpBall(2, 1), APGD(loss="hinge")), "hinge"),  # type: ignore[arg-type]
        (lambda: bound(LpBall(2, 1), FAB(targets=0)), "targets >= 1"),
        (lambda: bound(LpBall(2, 1), Square(share=0)), "share"),
        (lambda: bound(LpBall(2, 1), AutoAttack(version="standart")), "did you mean 'standard'"),  # type: ignore[arg-type]
        (lambda: bound(LpBall(2, 1), AutoAttack(processes=0)), "processes"),
        (lambda: bound(LpBall(2, 1), AutoAttack(only="apgd_t")), "no member 'apgd_t'; did you mean 'apgd-t'"),
        (lambda: bound(LpBall(2, 1), AutoAttack(precision="float16")), "did you mean 'bfloat16'"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()


def test_numbers_belong_to_the_example() -> None:
    x = torch.rand(5, 3, generator=Generator().manual_seed(0))
    drawn = Draws.of(x, Generator().manual_seed(1)).uniform(4)
    assert torch.equal(Draws.of(x[2:4], Generator().manual_seed(1)).uniform(4), drawn[2:4])
    assert not torch.equal(Draws.of(x, Generator().manual_seed(2)).uniform(4), drawn)
    assert len({tuple(row.tolist()) for row in drawn}) == 5
    streams = Draws.of(x, Generator().manual_seed(1))
    first, second = streams.normal(2), streams.take(torch.tensor([1])).normal(2)
    assert not torch.equal(first[1:2], second), "a stream goes on"


@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "stride", "padding", "dilation"),
    [
        (1, 16, 4, 2, 1, 1),
        (1, 32, 5, 1, 2, 1),
        (3, 64, 3, 1, 1, 1),
        (2, 16, (3, 5), (2, 1), (1, 2), 1),
        (1, 8, 3, 3, 0, 2),
    ],
)
def test_thin_convolutions_have_the_gradient_of_any_other(
    channels: int, filters: int, kernel: Any, stride: Any, padding: Any, dilation: int
) -> None:
    convolution = nn.Conv2d(channels, filters, kernel, stride, padding, dilation).double().requires_grad_(False)
    x = torch.rand(2, channels, 13, 12, dtype=torch.float64)

    def gradient(context: Any) -> tuple[Tensor, str]:
        leaf = x.clone().requires_grad_()
        with context:
            output = convolution(leaf)
        (found,) = torch.autograd.grad(output.square().sum(), leaf)
        return found, type(output.grad_fn).__name__

    (thin, name), (plain, _) = gradient(ThinConvolutions()), gradient(torch.enable_grad())
    assert name == "_ThinConvolutionBackward"
    torch.testing.assert_close(thin, plain)


def test_thin_convolutions_leave_training_alone() -> None:
    convolution = nn.Conv2d(1, 16, 3)
    with ThinConvolutions():
        output = convolution(torch.rand(2, 1, 6, 6, requires_grad=True))
    assert "Thin" not in type(output.grad_fn).__name__
    output.sum().backward()
    assert convolution.weight.grad is not None


def test_half_precision_is_the_same_model_up_to_rounding(digits_net: Any) -> None:
    model, (x, _) = digits_net
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = x[:40]
    slope, logits = input_gradient(model, x, lambda scores: scores[:, 3])
    half_slope, half_logits = input_gradient(HalfPrecision(model), x, lambda scores: scores[:, 3])
    assert half_logits.dtype == half_slope.dtype == torch.float32
    assert not torch.equal(half_logits, logits)
    assert (half_logits - logits).abs().max() < 0.02 * logits.abs().max()
    cosine = nn.functional.cosine_similarity(half_slope.flatten(1), slope.flatten(1))
    assert cosine.min() > 0.98
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_fools_half_precision_alone_is_searched_again() -> None:
    """Class 1 begins at .5; bfloat16 rounds .4995 up to it."""

    class Threshold(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = torch.matmul(x.flatten(1), torch.ones(1, 1)).float()
            return torch.cat([torch.full_like(score, 0.49975), score], dim=1)

    calls: list[tuple[str, int]] = []

    class Creep:
        """Goes up by steps of .0005 until the model is fooled."""

        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Any, *, generator: Any = None) -> Tensor:
            calls.append((type(model).__name__, len(x)))
            position = x.clone()
            for _ in range(5):
                position = torch.where(
                    model(position).argmax(1).view(-1, 1) == y.view(-1, 1), position + 5e-4, position
                )
            return position

    everywhere = LpBall("inf", 1.0)
    x, y = torch.tensor([[0.4980], [0.499], [0.4995], [0.6]]), torch.tensor([0, 0, 0, 1])
    found = search_in_half_precision(Creep(), Threshold(), x, y, everywhere, seed=0, batch_size=2)
    assert [name for name, _ in calls] == ["HalfPrecision", "Threshold"]
    assert 0 < calls[1][1] < len(x)
    assert (Threshold()(found).argmax(1) == torch.tensor([1, 1, 1, 1])).all()


def test_its_members_one_by_one_do_what_the_whole_does(digits_net: Any) -> None:
    model, (x, y) = digits_net
    x, y, threat = x[:12], y[:12], LpBall("inf", 0.12)
    whole = bound(threat, Brief(processes=1))
    found = whole(model, x, y, generator=Generator().manual_seed(4))
    left, chained, added = model(x).argmax(1) == y, x.clone(), []
    for name in whole.members():
        index = left.nonzero().squeeze(1)
        part = bound(threat, Brief(processes=1, only=name))
        assert part.black_box == (name == "square")
        chained[index] = part(model, x[index], y[index], generator=Generator().manual_seed(4))
        left = model(chained).argmax(1) == y
        added.append(len(index) - int(left.sum()))
    torch.testing.assert_close(chained, found, rtol=0, atol=0)
    assert added[0] > 0
    assert not whole.black_box


def test_searching_in_half_precision_finds_as_much(digits_net: Any) -> None:
    model, (x, y) = digits_net
    x, y, threat = x[:40], y[:40], LpBall("inf", 0.12)
    verdicts = []
    for precision in ("float32", "bfloat16"):
        attack = bound(threat, Brief(precision=precision, processes=1))  # type: ignore[arg-type]
        found = attack(model, x, y, generator=Generator().manual_seed(0))
        assert threat.contains(found, x).all()
        verdicts.append(model(found).argmax(1) == y)
    assert 0.1 < verdicts[0].float().mean() < 0.95
    assert (verdicts[0] == verdicts[1]).float().mean() >= 0.95


def test_thin_convolutions_follow_autocast() -> None:
    convolution = nn.Conv2d(1, 16, 4, 2, 1).requires_grad_(False)
    x = torch.rand(4, 1, 12, 12)

    def gradient(context: Any) -> Tensor:
        leaf = x.clone().requires_grad_()
        with context, torch.autocast("cpu", torch.bfloat16):
            output = convolution(leaf)
        assert output.dtype == torch.bfloat16
        (found,) = torch.autograd.grad(output.float().square().sum(), leaf)
        return found

    torch.testing.assert_close(gradient(ThinConvolutions()), gradient(torch.enable_grad()), rtol=0.05, atol=0.05)
