from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from scipy.optimize import linprog
from torch import Generator, Tensor

from robustml.errors import RequestError
from robustml.threats import LpBall, Patch, SparseBall, Spatial
from robustml.types import Threat

Array = npt.NDArray[np.float64]

SHAPES = [(1,), (7,), (1, 1, 1), (1, 2, 3), (3, 4, 4)]
ORDERS = [math.inf, 2.0, 1.0]
fast = settings(max_examples=60, deadline=None, derandomize=True)


class Problem(NamedTuple):
    """A threat, originals in the box, and points anywhere."""

    threat: LpBall
    x: Tensor
    wanted: Tensor


@st.composite
def problems(draw: st.DrawFn, orders: tuple[float, ...] = (math.inf, 2.0, 1.0)) -> Problem:
    p = draw(st.sampled_from(orders))
    shape = draw(st.sampled_from(SHAPES))
    low, high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-2.0, 0.5)]))
    eps = draw(st.sampled_from([0.0, 1e-3, 8 / 255, 0.3, 0.9]) | st.floats(0.001, 1.0))
    if p != math.inf:
        eps *= draw(st.sampled_from([1.0, 3.0]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    generator = Generator().manual_seed(draw(st.integers(0, 10_000)))
    size = (draw(st.integers(1, 4)), *shape)
    # Stretched beyond the box and clamped, so that many originals lie on its edge.
    x = (torch.rand(size, generator=generator, dtype=dtype) * 1.5 - 0.25).clamp_(0, 1) * (high - low) + low
    spread = draw(st.sampled_from([1e-4, 0.1, 1.0, 20.0]))
    move = torch.randn(size, generator=generator, dtype=dtype) * spread
    if draw(st.booleans()):
        move *= torch.rand(size, generator=generator) < 0.5
    if draw(st.booleans()):
        # Ties, as the sign steps of attacks make them.
        move = move.sign() * spread
    return Problem(LpBall(p, eps, (low, high)), x, x + move)


def rows(tensor: Tensor) -> Array:
    array: Array = tensor.double().flatten(1).numpy()
    return array


def norms(delta: Array, p: float) -> Array:
    array: Array = np.linalg.norm(delta, ord=p, axis=1)
    return array


def nearest_by_bisection(threat: LpBall, x: Array, wanted: Array) -> Array:
    """The projection from its optimality conditions: bisection on the multiplier of the norm, in float64."""
    low, high = threat.bounds
    delta = wanted - x

    def clipped(multiplier: float, row: int) -> Array:
        move = delta[row]
        if threat.p == 2.0:
            move = move / (1 + multiplier)
        elif threat.p == 1.0:
            move = np.sign(move) * np.maximum(np.abs(move) - multiplier, 0)
        clip: Array = np.clip(move, low - x[row], high - x[row])
        return clip

    found = x.copy()
    for row in range(len(x)):
        if threat.p == math.inf:
            found[row] = np.clip(
                wanted[row], np.maximum(low, x[row] - threat.eps), np.minimum(high, x[row] + threat.eps)
            )
            continue
        small, large = 0.0, 1e12
        if np.linalg.norm(clipped(0.0, row), ord=threat.p) > threat.eps:
            for _ in range(200):
                middle = math.sqrt(max(small, 1e-18) * large)
                over = np.linalg.norm(clipped(middle, row), ord=threat.p) > threat.eps
                small, large = (middle, large) if over else (small, middle)
            found[row] += clipped(large, row)
        else:
            found[row] += clipped(0.0, row)
    return found


def assert_inside(threat: LpBall, x_adv: Tensor, x: Tensor, boxed: bool = True) -> None:
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert x_adv.isfinite().all()
    assert (norms(rows(x_adv) - rows(x), threat.p) <= threat.eps * (1 + 1e-5) + 1e-6).all()
    if boxed:
        assert x_adv.min() >= threat.bounds[0]
        assert x_adv.max() <= threat.bounds[1]


@fast
@given(problems())
def test_projection_is_feasible_and_idempotent(problem: Problem) -> None:
    threat, x, wanted = problem
    once = threat.project(wanted, x)
    assert_inside(threat, once, x)
    torch.testing.assert_close(threat.project(once, x), once, atol=2e-6, rtol=1e-5)


@fast
@given(problems())
def test_projection_is_the_nearest_point_of_an_independent_solver(problem: Problem) -> None:
    threat, x, wanted = problem
    expected = nearest_by_bisection(threat, rows(x), rows(wanted))
    tolerance = 1e-9 if x.dtype == torch.float64 else 5e-6
    np.testing.assert_allclose(rows(threat.project(wanted, x)), expected, atol=tolerance, rtol=0)


@fast
@given(problems(), st.integers(0, 1000))
def test_no_feasible_point_lies_beyond_the_projection(problem: Problem, seed: int) -> None:
    """The definition itself: <wanted - projection, feasible - projection> <= 0 for every feasible point."""
    threat, x, wanted = problem
    origin, goal, nearest = rows(x), rows(wanted), rows(threat.project(wanted, x))
    random = np.random.default_rng(seed)
    for _ in range(20):
        move = random.standard_normal(origin.shape) * (random.random(origin.shape) < random.random())
        move *= threat.eps * random.random() / np.maximum(norms(move, threat.p), 1e-12)[:, None]
        # x is in the box, so that clipping only shortens the move.
        feasible = np.clip(origin + move, *threat.bounds)
        product = ((goal - nearest) * (feasible - nearest)).sum(axis=1)
        assert (product <= 1e-4 * (1 + np.linalg.norm(goal - nearest, axis=1))).all()


@fast
@given(problems())
def test_points_inside_are_not_moved(problem: Problem) -> None:
    threat, x, wanted = problem
    delta = rows(wanted) - rows(x)
    shrunk = delta * (0.99 * threat.eps / np.maximum(norms(delta, threat.p), max(threat.eps, 1e-12)))[:, None]
    inside = torch.from_numpy(np.clip(rows(x) + shrunk, *threat.bounds)).view_as(x).to(x.dtype)
    torch.testing.assert_close(threat.project(inside, x), inside, atol=3e-7, rtol=0)


@fast
@given(problems())
def test_a_batch_is_projected_and_stepped_example_by_example(problem: Problem) -> None:
    threat, x, wanted = problem
    singles = [threat.project(wanted[i : i + 1], x[i : i + 1]) for i in range(len(x))]
    torch.testing.assert_close(threat.project(wanted, x), torch.cat(singles), atol=1e-6, rtol=0)
    steps = [threat.ascend(x[i : i + 1], wanted[i : i + 1], 0.1) for i in range(len(x))]
    torch.testing.assert_close(threat.ascend(x, wanted, 0.1), torch.cat(steps), atol=1e-6, rtol=0)


def test_projection_leaves_its_arguments_alone() -> None:
    for p in ORDERS:
        x, wanted = torch.rand(3, 5), torch.randn(3, 5)
        before = x.clone(), wanted.clone()
        LpBall(p, 0.1).project(wanted, x)
        assert torch.equal(x, before[0])
        assert torch.equal(wanted, before[1])


@pytest.mark.parametrize("p", [2.0, 1.0])
def test_projection_stays_finite_where_the_box_stops_every_moving_value_right_at_the_border(p: float) -> None:
    """`count` values can each move `room`, the others stay, and eps is exactly the norm of that: rounding decides."""
    for count in range(2, 40):
        for room in np.linspace(0.05, 0.5, 12):
            x = torch.full((1, count + 2), 0.5)
            x[0, :count] = 1 - torch.tensor(room, dtype=torch.float32)
            exact = (1 - x[0, :count].double()).norm(p=p).item()
            wanted = x.clone()
            wanted[0, :count] = 2.0
            projected = LpBall(p, exact).project(wanted, x)
            assert projected.isfinite().all(), f"{count} values with room {room:.4g}: {projected}"
            np.testing.assert_allclose(projected.numpy(), wanted.clamp(0, 1).numpy(), atol=1e-5)


@fast
@given(problems(), st.integers(0, 1000), st.booleans())
def test_samples_are_inside(problem: Problem, seed: int, boxed: bool) -> None:
    threat, x, _ = problem
    first = threat.sample(x, Generator().manual_seed(seed), boxed=boxed)
    assert_inside(threat, first, x, boxed)
    assert torch.equal(first, threat.sample(x, Generator().manual_seed(seed), boxed=boxed))


@pytest.mark.parametrize("p", ORDERS)
def test_samples_that_are_not_boxed_leave_the_box(p: float) -> None:
    threat, x = LpBall(p, 0.5), torch.tensor([0.0, 1.0]).repeat(200, 2)
    x = torch.cat([x, torch.linspace(0, 1, 200).unsqueeze(1)], dim=1)  # equal examples would draw equal starts
    free = threat.sample(x, Generator().manual_seed(0), boxed=False)
    assert free.min() < 0
    assert free.max() > 1
    assert torch.equal(threat.sample(x, Generator().manual_seed(0)), free.clamp(0, 1))


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("own", [True, False])
def test_samples_are_uniform_in_the_ball(p: float, size: int, own: bool) -> None:
    """In a ball of D dimensions the share of the volume within radius r is r^D, whatever the norm."""
    eps = 0.4
    x = 0.5 + 1e-6 * torch.arange(4000 * size, dtype=torch.float64).view(4000, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        delta = rows(LpBall(p, eps, (-9, 9)).sample(x, Generator().manual_seed(1) if own else None) - x) / eps
    assert stats.kstest(norms(delta, p) ** size, "uniform").pvalue > 1e-3
    if p == 1.0:
        # |coordinate| is Beta(1, D) distributed, and the signs are fair coins.
        assert stats.kstest(np.abs(delta[:, 0]), stats.beta(1, size).cdf).pvalue > 1e-3
        assert abs((delta > 0).mean() - 0.5) < 4 * 0.5 / math.sqrt(delta.size)
    else:
        marginal = stats.uniform(-1, 2) if p == math.inf else stats.beta((size + 1) / 2, (size + 1) / 2, -1, 2)
        assert stats.kstest(delta[:, 0], marginal.cdf).pvalue > 1e-3
    assert stats.kstest(delta[:, -1], delta[:, 0]).pvalue > 1e-3


@pytest.mark.parametrize("p", ORDERS)
def test_an_example_gets_the_same_sample_in_any_batch(p: float) -> None:
    x = torch.rand(6, 3, 4, generator=Generator().manual_seed(0))
    together = LpBall(p, 0.3).sample(x, Generator().manual_seed(1))
    for number in range(len(x)):
        alone = LpBall(p, 0.3).sample(x[number : number + 1], Generator().manual_seed(1))
        assert torch.equal(alone[0], together[number])


def test_a_sample_without_a_generator_draws_from_the_global_one() -> None:
    x = torch.full((2, 6), 0.5)
    for p in ORDERS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            first, second = LpBall(p, 0.1).sample(x), LpBall(p, 0.1).sample(x)
            torch.manual_seed(3)
            assert torch.equal(LpBall(p, 0.1).sample(x), first)
        assert not torch.equal(first, second)


@fast
@given(problems(orders=(math.inf, 2.0)), st.floats(0.01, 2.0))
def test_ascend_reaches_the_dual_norm(problem: Problem, step_size: float) -> None:
    """Hoelder: no step of that length gains more than step_size times the dual norm of the gradient."""
    threat, x, gradient = problem
    x, gradient = x.double(), gradient.double()
    step, slope = rows(threat.ascend(x, gradient, step_size)) - rows(x), rows(gradient)
    assert (norms(step, threat.p) <= step_size * (1 + 1e-9) + 1e-12).all()
    dual = 1 if threat.p == math.inf else 2
    np.testing.assert_allclose((step * slope).sum(1), step_size * norms(slope, dual), rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(problems(orders=(1.0,)), st.floats(0.01, 5.0))
def test_ascend_in_l1_is_the_best_step_that_the_box_allows(problem: Problem, step_size: float) -> None:
    """Compared with a linear program: up and down moves, each within the box, that add up to step_size at most."""
    threat, x, gradient = problem
    x, gradient = x.double(), (gradient - x).double()
    low, high = threat.bounds
    after = threat.ascend(x, gradient, step_size)
    assert after.min() >= low - 1e-9
    assert after.max() <= high + 1e-9
    for origin, slope, reached in zip(rows(x), rows(gradient), rows(after), strict=True):
        room = np.concatenate([high - origin, origin - low]).clip(0)
        solution = linprog(
            -np.concatenate([slope, -slope]),
            A_ub=np.ones((1, len(room))),
            b_ub=[step_size],
            bounds=np.stack([np.zeros_like(room), room], axis=1),
        )
        assert np.abs(reached - origin).sum() <= step_size + 1e-9
        assert slope @ (reached - origin) == pytest.approx(-solution.fun, abs=1e-7, rel=1e-7)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_gradient_stays_and_its_neighbours_move(p: float, dtype: torch.dtype) -> None:
    x = torch.full((2, 1, 2, 2), 0.5, dtype=dtype)
    gradient = torch.zeros_like(x)
    gradient[1, 0, 1, 0] = -1e-30
    after = LpBall(p, 0.1).ascend(x, gradient, 0.1)
    assert torch.equal(after[0], x[0])
    expected = x[1].clone()
    expected[0, 1, 0] -= 0.1
    torch.testing.assert_close(after[1], expected)


def test_distance_by_hand() -> None:
    x = torch.zeros(2, 1, 1, 3, dtype=torch.float64)
    x_adv = torch.tensor([[0.3, -0.4, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64).view_as(x)
    for p, expected in ((math.inf, 0.4), (2, 0.5), (1, 0.7)):
        torch.testing.assert_close(LpBall(p, 0.1).distance(x_adv, x), torch.tensor([expected, 0.0]).double())


@pytest.mark.parametrize("p", ORDERS)
def test_contains_on_the_border(p: float) -> None:
    threat = LpBall(p, 0.25)
    x = torch.full((1, 4), 0.5, dtype=torch.float64)

    def moved(by: float) -> bool:
        x_adv = x.clone()
        x_adv[0, 2] += by
        return bool(threat.contains(x_adv, x))

    assert moved(0.25)
    assert moved(-0.25)
    assert moved(0.25 + 5e-7)
    assert moved(0.0)
    assert not moved(0.25 + 1e-4)
    assert not moved(-0.25 - 1e-4)
    assert not moved(math.nan)
    assert not moved(math.inf)
    if p == math.inf:
        assert not moved(0.25 + 2e-6)


@pytest.mark.parametrize("p", ORDERS)
def test_contains_looks_at_the_box_and_at_each_example(p: float) -> None:
    threat = LpBall(p, 0.25)
    x = torch.tensor([[0.0, 1.0]]).repeat(5, 1)
    move = torch.tensor([[0.1, 0.0], [-0.1, 0.0], [0.0, 0.1], [-5e-7, 5e-7], [0.0, -0.3]])
    assert threat.contains(x + move, x).tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("p", ORDERS)
def test_contains_accepts_what_float32_makes_of_a_full_step(p: float) -> None:
    x = torch.rand(16, 3, 32, 32, generator=Generator().manual_seed(4))
    threat = LpBall(p, 8 / 255 if p == math.inf else 4.0)
    far = threat.project(x + torch.randn(x.shape, generator=Generator().manual_seed(5)), x)
    assert threat.contains(far, x).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": "inf", "eps": 8}, "8/255"),
        ({"p": "inf", "eps": 1.5}, "255"),
        ({"p": "inf", "eps": -0.1}, "-0.1"),
        ({"p": 2, "eps": -1}, "-1"),
        ({"p": 2, "eps": math.nan}, "nan"),
        ({"p": 1, "eps": math.inf}, "inf"),
        ({"p": 3, "eps": 0.1}, "3"),
        ({"p": 0, "eps": 0.1}, "0"),
        ({"p": math.nan, "eps": 0.1}, "nan"),
        ({"p": "L3", "eps": 0.1}, "L3"),
        ({"p": "L0", "eps": 1}, "SparseBall"),
        ({"p": 2, "eps": "8/0"}, "8/0"),
        ({"p": 2, "eps": "8/255/3"}, "8/255/3"),
        ({"p": True, "eps": 1}, "True"),
        ({"p": 2, "eps": True}, "True"),
        ({"p": 2, "eps": None}, "None"),
        ({"p": 2, "eps": 0.1, "bounds": (1.0, 0.0)}, "low < high"),
        ({"p": 2, "eps": 0.1, "bounds": (0.5, 0.5)}, "low < high"),
        ({"p": 2, "eps": 0.1, "bounds": (0.0, math.nan)}, "nan"),
        ({"p": 2, "eps": 0.1, "bounds": (0.0, 0.5, 1.0)}, "number"),
    ],
)
def test_wrong_arguments_are_refused_with_what_arrived(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        LpBall(**arguments)  # type: ignore[arg-type]


def test_arguments_become_plain_values_and_stay() -> None:
    threat = LpBall("inf", 1, (0, 1))
    assert (threat.p, threat.eps, threat.bounds, threat.norm) == (math.inf, 1.0, (0.0, 1.0), "inf")
    assert (LpBall(2, 30.0).norm, LpBall(1.0, 12).norm) == ("2", "1")
    assert LpBall("inf", 1.5, (-1, 1)).eps == 1.5
    assert LpBall("Linf", "8/255") == LpBall("linf", 8 / 255) == LpBall("L\N{INFINITY}", torch.tensor(8.0).item() / 255)
    assert LpBall("L2", 1) == LpBall("l2", "1") == LpBall(2, 1.0) == LpBall("2", "2/2")
    with pytest.raises(FrozenInstanceError):
        threat.eps = 0.5  # type: ignore[misc]


# Pixels, patches and rotations: x in the box, `wanted` anywhere, small enough to try every feasible choice.
GRID = Spatial(40, 0.3, rotations=3, shifts=3)
OTHERS: list[tuple[Threat, tuple[int, ...]]] = [
    (SparseBall(2), (5,)),
    (SparseBall(3), (2, 2, 3)),
    (SparseBall(1, (-1.0, 1.0)), (3, 4)),
    (SparseBall(99), (1, 2, 2)),
    (Patch(2), (2, 4, 3)),
    (Patch(1), (1, 3, 3)),
    (Patch(2, corner=(1, 0)), (3, 3, 4)),
    (Patch(3, bounds=(-1.0, 1.0)), (1, 3, 5)),
    (GRID, (2, 5, 4)),
    (Spatial(40, 0.3, eps=0.5, rotations=5, shifts=1), (1, 6, 6)),
]
other_threats = pytest.mark.parametrize(
    ("threat", "shape"), OTHERS, ids=[f"{type(threat).__name__}-{threat.eps:g}-{shape}" for threat, shape in OTHERS]
)


def choices(threat: Threat, x: Tensor) -> list[Tensor]:
    """All that the attacker can choose from, by loops: masks of what is free for one image (1, ...), or the images."""
    if isinstance(threat, Spatial):
        return [by_ndimage(x, *transform, threat.bounds[0]) for transform in threat.transforms()[0].tolist()]
    masks = []
    if isinstance(threat, SparseBall):
        places = list(itertools.product(*(range(side) for side in (x.shape[1:] if x.ndim == 2 else x.shape[2:]))))
        for some in itertools.combinations(places, min(int(threat.eps), len(places))):
            mask = torch.zeros_like(x, dtype=torch.bool)
            for place in some:
                mask[(slice(None), *place) if x.ndim == 2 else (slice(None), slice(None), *place)] = True
            masks.append(mask)
        return masks
    assert isinstance(threat, Patch)
    side = int(threat.eps)
    for row, column in itertools.product(range(x.shape[2] - side + 1), range(x.shape[3] - side + 1)):
        if threat.corner in (None, (row, column)):
            mask = torch.zeros_like(x, dtype=torch.bool)
            mask[:, :, row : row + side, column : column + side] = True
            masks.append(mask)
    return masks


def by_ndimage(x: Tensor, degrees: float, down: float, right: float, black: float) -> Tensor:
    """One transform of images (1, C, H, W) by scipy: rotate about the centre, then shift."""
    angle, (height, width) = math.radians(degrees), x.shape[2:]
    # Rows count downwards: counter-clockwise as seen is clockwise in (row, column).
    back = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    offset = centre - back @ (centre + np.array([down * height, right * width]))
    planes = [
        ndimage.affine_transform(plane.double().numpy(), back, offset, order=1, mode="grid-constant", cval=black)
        for plane in x[0]
    ]
    return torch.tensor(np.stack(planes)).unsqueeze(0).to(x.dtype)


def images_and_goals(threat: Threat, shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(seed)
    low, high = threat.bounds
    x = (torch.rand(3, *shape, generator=generator, dtype=dtype) * 1.5 - 0.25).clamp_(0, 1) * (high - low) + low
    return x, x + torch.randn(x.shape, generator=generator, dtype=dtype) * [0.05, 0.5, 3.0][seed % 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@other_threats
def test_other_projections_are_the_nearest_of_all_choices(
    threat: Threat, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    for seed in range(6):
        x, wanted = images_and_goals(threat, shape, seed, dtype)
        found = threat.project(wanted, x)
        for row in range(len(x)):
            one, goal = x[row : row + 1], wanted[row : row + 1]
            boxed = goal.clamp(*threat.bounds)
            feasible = [
                torch.where(choice, boxed, one) if choice.dtype == torch.bool else choice
                for choice in choices(threat, one)
            ]
            nearest = min(float((goal - image).double().norm()) for image in feasible)
            assert float((goal - found[row : row + 1]).double().norm()) == pytest.approx(nearest, abs=2e-5)
            assert min(float((found[row : row + 1] - image).abs().max()) for image in feasible) < 2e-5


@other_threats
def test_other_projections_are_feasible_idempotent_and_per_example(threat: Threat, shape: tuple[int, ...]) -> None:
    for seed in range(6):
        x, wanted = images_and_goals(threat, shape, seed, torch.float32)
        before = x.clone(), wanted.clone()
        once = threat.project(wanted, x)
        assert threat.contains(once, x).all()
        assert (threat.distance(once, x) <= threat.eps).all()
        assert torch.equal(threat.project(once, x), once)
        assert torch.equal(threat.project(x, x), x)
        singles = [threat.project(wanted[i : i + 1], x[i : i + 1]) for i in range(len(x))]
        assert torch.equal(torch.cat(singles), once)
        assert torch.equal(x, before[0])
        assert torch.equal(wanted, before[1])
        assert isinstance(threat, Threat)


@other_threats
def test_other_samples_are_inside_and_follow_the_generator(threat: Threat, shape: tuple[int, ...]) -> None:
    x = images_and_goals(threat, shape, 0, torch.float32)[0][:1].repeat(50, *[1] * len(shape))
    first, again, other = (threat.sample(x, Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert threat.contains(first, x).all()
    assert first.dtype == x.dtype
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        drawn = threat.sample(x)
        torch.manual_seed(3)
        assert torch.equal(threat.sample(x), drawn)


def test_sparse_samples_take_every_pixel_equally_often() -> None:
    x = torch.full((3000, 2, 3, 2), 0.5)
    x[:, 0, 0, 0] += 1e-4 * torch.arange(3000)  # equal examples would draw equal samples
    delta = SparseBall(2).sample(x, Generator().manual_seed(0)) - x
    counts = (delta != 0).any(1).sum(0).flatten()
    assert (delta != 0).any(1).flatten(1).sum(1).eq(2).all()
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    values = (x + delta)[delta != 0].double()
    assert stats.kstest(values.numpy(), "uniform").pvalue > 1e-3


def test_patch_samples_take_every_place_equally_often() -> None:
    x = torch.full((3000, 1, 4, 3), 0.5) + 1e-4 * torch.arange(3000).view(-1, 1, 1, 1)
    touched = (Patch(2).sample(x, Generator().manual_seed(0)) != x).squeeze(1)
    assert touched.flatten(1).sum(1).eq(4).all()
    first = touched.flatten(1).int().argmax(1)
    counts = torch.bincount(first, minlength=12).view(4, 3)
    assert counts[3].sum() == counts[:, 2].sum() == 0
    assert stats.chisquare(counts[:3, :2].flatten().numpy()).pvalue > 1e-3


def test_sparse_distance_counts_places_and_not_values() -> None:
    x = torch.full((4, 3, 2, 2), 0.5)
    x_adv = x.clone()
    x_adv[1, :, 0, 1] = 0.9
    x_adv[2, 0, 0, 0], x_adv[2, 2, 1, 1], x_adv[2, 1, 1, 1] = 0.0, 1.0, 0.4
    x_adv[3, :, :, :] += 1e-7
    assert SparseBall(2).distance(x_adv, x).tolist() == [0, 1, 2, 0]
    assert SparseBall(1).contains(x_adv, x).tolist() == [True, True, False, True]
    assert SparseBall(3).distance(x_adv.flatten(1), x.flatten(1)).tolist() == [0, 3, 3, 0]


def test_patch_distance_is_the_side_of_the_square_that_holds_all_changes() -> None:
    x = torch.full((5, 2, 6, 5), 0.5)
    x_adv = x.clone()
    x_adv[1, 1, 5, 0] = 1.0
    x_adv[2, 0, 1, 1], x_adv[2, 1, 3, 2] = 1.0, 0.0
    x_adv[3, 0, 4, 0], x_adv[3, 0, 4, 4] = 1.0, 1.0
    x_adv[4] += 1e-7
    assert Patch(3).distance(x_adv, x).tolist() == [0, 1, 3, 5, 0]
    assert Patch(3).contains(x_adv, x).tolist() == [True, True, True, False, True]
    assert Patch(3, corner=(1, 1)).contains(x_adv, x).tolist() == [True, False, True, False, True]
    assert Patch(3, corner=(1, 2)).contains(x_adv, x).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("threat", [SparseBall(2), Patch(2), Patch(2, corner=(0, 0)), GRID], ids=repr)
def test_other_threats_look_at_the_box_and_refuse_what_is_not_finite(threat: Threat) -> None:
    x = torch.zeros(5, 1, 4, 4)
    x_adv = x.clone()
    x_adv[0, 0, 0, 0] = -1e-3
    x_adv[1, 0, 0, 0] = 1 + 1e-3
    x_adv[2, 0, 0, 0] = math.nan
    x_adv[3, 0, 0, 0] = math.inf
    assert threat.contains(x_adv, x).tolist() == [False, False, False, False, True]


def test_a_sparse_step_moves_the_leading_pixels_across_the_box_so_often() -> None:
    x = torch.full((2, 2, 2, 2), 0.0)
    gradient = torch.zeros_like(x)
    gradient[0, 0] = torch.tensor([[3.0, 1.0], [0.5, 0.0]])
    gradient[0, 1, 0, 0] = -2.0
    after = SparseBall(2, (-1.0, 1.0)).ascend(x, gradient, 0.5)
    # The two leading pixels have gradients 3 and 1 in their strongest channel, and share half a box of width 2.
    torch.testing.assert_close(after, gradient * 0.25)
    assert torch.equal(SparseBall(0).ascend(x, gradient, 0.5), x)


def test_a_patch_step_of_eps_crosses_the_box() -> None:
    x, gradient = torch.full((1, 1, 3, 3), 0.0), torch.tensor([-2.0, 0.0, 1e-9]).repeat(1, 1, 3, 1)
    expected = torch.tensor([-2.0, 0.0, 2.0]).repeat(1, 1, 3, 1)
    torch.testing.assert_close(Patch(3, bounds=(-1.0, 1.0)).ascend(x, gradient, 3.0), expected)
    assert torch.equal(Patch(0).ascend(x, gradient, 1.0), x)


def test_rotations_have_no_gradient_step() -> None:
    with pytest.raises(RequestError, match="attack=spatial"):
        GRID.ascend(torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4), 0.1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 10)])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0)])
def test_rotations_and_shifts_are_those_of_scipy(shape: tuple[int, ...], bounds: tuple[float, float]) -> None:
    threat = Spatial(35, 0.25, rotations=5, shifts=3, bounds=bounds)
    x = torch.rand(2, *shape, generator=Generator().manual_seed(0), dtype=torch.float64) * (bounds[1] - bounds[0])
    x += bounds[0]
    transforms, _ = threat.transforms()
    assert len(transforms) == 5 * 3 * 3
    for transform in transforms:
        rendered = threat.render(x, transform.unsqueeze(0))
        for row in range(2):
            expected = by_ndimage(x[row : row + 1], *transform.tolist(), bounds[0])
            torch.testing.assert_close(rendered[row : row + 1], expected, atol=1e-9, rtol=0)


def test_a_rotation_by_scipys_rotate_and_a_shift_by_scipys_shift() -> None:
    """Functions that take an angle and a distance, lest a matrix here repeat a sign error there."""
    x = torch.rand(1, 1, 9, 9, generator=Generator().manual_seed(1), dtype=torch.float64)
    threat = Spatial(90, 0.5)
    for degrees in (-50.0, 10.0, 90.0):
        # scipy turns the array counter-clockwise as it is printed, too.
        expected = ndimage.rotate(x[0, 0].numpy(), degrees, reshape=False, order=1, mode="grid-constant")
        rendered = threat.render(x, torch.tensor([[degrees, 0.0, 0.0]], dtype=torch.float64))
        np.testing.assert_allclose(rendered[0, 0].numpy(), expected, atol=1e-9)
    rendered = threat.render(x, torch.tensor([[0.0, 2 / 9, -1.5 / 9]], dtype=torch.float64))
    expected = ndimage.shift(x[0, 0].numpy(), (2, -1.5), order=1, mode="grid-constant")
    np.testing.assert_allclose(rendered[0, 0].numpy(), expected, atol=1e-9)
    quarter = threat.render(x, torch.tensor([[90.0, 0.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(quarter, torch.rot90(x, 1, (2, 3)), atol=1e-9, rtol=0)


def test_each_image_has_a_transform_of_its_own() -> None:
    x = torch.rand(3, 2, 6, 5)
    transforms = GRID.transforms()[0][[0, 5, 20]]
    rendered = GRID.render(x, transforms)
    singles = [GRID.render(x[i : i + 1], transforms[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(rendered, torch.cat(singles), atol=1e-7, rtol=0)
    assert torch.equal(rendered[0], x[0]), "the smallest transform is none at all"


def test_the_size_of_a_transform_is_read_off_the_image() -> None:
    threat = Spatial(30, 0.2, rotations=5, shifts=5)
    x = torch.rand(1, 1, 8, 8, generator=Generator().manual_seed(2))
    for degrees, down, right, size in ((0, 0, 0, 0), (-15, 0, 0, 0.5), (15, 0.2, 0, 1), (0, -0.1, 0.1, 0.5)):
        x_adv = threat.render(x, torch.tensor([[degrees, down, right]], dtype=torch.float64))
        assert float(threat.distance(x_adv, x)) == pytest.approx(size, abs=1e-6)
        for eps in (0.0, 0.5, 1.0):
            inside = bool(Spatial(30, 0.2, eps, rotations=5, shifts=5).contains(x_adv, x))
            assert inside == (size <= eps)
    between = threat.render(x, torch.tensor([[7.0, 0.0, 0.0]], dtype=torch.float64))
    assert threat.distance(between, x).item() == math.inf
    assert not threat.contains(between, x)


def test_transforms_come_smallest_first_and_less_budget_takes_some_away() -> None:
    transforms, sizes = Spatial(30, 0.1).transforms()
    assert len(transforms) == 31 * 5 * 5
    assert transforms[0].tolist() == [0, 0, 0]
    assert sizes.tolist() == sorted(sizes.tolist())
    assert transforms.abs().amax(0).tolist() == pytest.approx([30, 0.1, 0.1])
    half, _ = Spatial(30, 0.1, eps=0.5).transforms()
    assert {tuple(row) for row in half.tolist()} < {tuple(row) for row in transforms.tolist()}
    assert half.abs().amax(0).tolist() == pytest.approx([14, 0.05, 0.05])
    assert Spatial(30, 0.1, eps=0).transforms()[0].tolist() == [[0, 0, 0]]
    assert len(Spatial(0, 0.1).transforms()[0]) == 25
    assert len(Spatial(30, 0).transforms()[0]) == 31


def test_threats_say_what_they_are() -> None:
    assert LpBall("inf", 8 / 255).describe() == "Linf, eps = 0.0313725 (8/255) on images in [0, 1]"
    assert SparseBall(10).describe() == "L0, any value in at most 10 pixels"
    assert Patch(5).describe() == "a patch of 5 x 5 pixels, anywhere"
    assert Patch(5, (0, 2)).describe() == "a patch of 5 x 5 pixels, with the upper left pixel at row 0, column 2"
    expected = "rotation up to 15 degrees and shifts up to 0.05 of the side, 135 in all"
    assert Spatial(eps=0.5).describe() == expected
    assert [threat.norm for threat in (SparseBall(1), Patch(1), Spatial())] == ["0", "patch", "spatial"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SparseBall(0.3), "0.3"),
        (lambda: SparseBall(-1), "-1"),
        (lambda: SparseBall("8/255"), "8/255"),
        (lambda: SparseBall(math.inf), "inf"),
        (lambda: SparseBall(math.nan), "nan"),
        (lambda: SparseBall(1, (1.0, 0.0)), "low < high"),
        (lambda: SparseBall(1, (0.0, 0.5, 1.0)), "two numbers"),
        (lambda: Patch(2.5), "2.5"),
        (lambda: Patch(2, corner=(1,)), "corner"),
        (lambda: Patch(2, corner=(-1, 0)), "corner"),
        (lambda: Patch(2, corner=(0.5, 0)), "corner"),
        (lambda: Patch(2).project(torch.rand(2, 9), torch.rand(2, 9)), "2, 9"),
        (lambda: Patch(4).sample(torch.rand(2, 1, 3, 5)), "3 x 5"),
        (lambda: Patch(2, corner=(2, 0)).sample(torch.rand(2, 1, 3, 5)), "row 2"),
        (lambda: Spatial(-1), "degrees"),
        (lambda: Spatial(200), "degrees"),
        (lambda: Spatial(shift=1.5), "shift"),
        (lambda: Spatial(eps=2), "eps"),
        (lambda: Spatial(eps="much"), "much"),
        (lambda: Spatial(rotations=4), "odd"),
        (lambda: Spatial(shifts=0), "odd"),
        (lambda: Spatial().sample(torch.rand(2, 9)), "2, 9"),
    ],
)
def test_wrong_pixels_patches_and_rotations_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()
