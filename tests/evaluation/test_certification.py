"""Certificates: against closed forms, exact arithmetic, brute force and attacks; and what refuses them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Generator, Tensor, nn

from robustml.attacks import PGD
from robustml.errors import RequestError, RunFailed
from robustml.evaluation import (
    Certificates,
    IntervalBoundPropagation,
    Smoothing,
    certify,
    evaluate,
)
from robustml.evaluation.certification.smoothing import lower_confidence_bound
from robustml.models import (
    MLP,
    BadNetsCNN,
    DigitsCNN,
    MadryCNN,
    Normalize,
    PreActResNet18,
    ResNet18,
    SingleLayerCNN,
    SmoothedModel,
    TradesSmallCNN,
    WongCNN,
)
from robustml.models.interval_bounds import Interval, logit_bounds, margin_bounds
from robustml.objectives import GaussianNoise, IntervalBound
from robustml.reporting.tables.measured import certified_table
from robustml.results import Certified, Results, rate
from robustml.threats import LpBall
from robustml.training import RobustClassifier
from robustml.workflows.measuring.certification import certified_as_configured


def seeded(count: int, start: int = 0) -> list[Generator]:
    return [Generator().manual_seed(start + number) for number in range(count)]


def ball(x: Tensor, eps: float) -> Interval:
    return Interval((x - eps).clamp(0, 1), (x + eps).clamp(0, 1))


class Halfplane(nn.Module):
    """Class 1 where w.x + b > 0."""

    def __init__(self, w: Sequence[float], b: float) -> None:
        super().__init__()
        self.layer = nn.Linear(len(w), 2).double()
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[0.0] * len(w), list(w)]))
            self.layer.bias.copy_(torch.tensor([0.0, b]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x)
        return logits


# Randomised smoothing.


@pytest.mark.parametrize(("count", "n", "alpha"), [(0, 20, 0.05), (1, 20, 0.05), (17, 20, 0.001), (990, 1000, 0.001)])
def test_the_lower_bound_is_clopper_and_pearson_s(count: int, n: int, alpha: float) -> None:
    """Whose definition is: the p under which so many successes or more have a probability of alpha."""
    bound = float(lower_confidence_bound(np.array([count]), n, alpha)[0])
    if count == 0:
        assert bound == 0
        return
    p = Fraction(bound)
    tail = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(count)) if n <= 20 else None
    if tail is not None:
        assert float(1 - tail) == pytest.approx(alpha, rel=1e-6)
    theirs = binomtest(count, n, alternative="greater").proportion_ci(1 - alpha, method="exact").low
    assert bound == pytest.approx(theirs, rel=1e-8)


def test_the_lower_bound_of_all_successes_in_closed_form() -> None:
    """p^n = alpha. With the paper's n = 100,000 and alpha = 0.001 no radius exceeds 3.81 sigma."""
    for n in (10, 1000, 100_000):
        assert lower_confidence_bound(np.array([n]), n, 0.001)[0] == pytest.approx(0.001 ** (1 / n), rel=1e-9)
    smoothing = Smoothing(sigma=0.5, n0=2, n=1000)
    found = smoothing.certify(Halfplane([1.0], 1000.0), torch.zeros(1, 1).double(), seeded(1))
    assert found.radius.item() == pytest.approx(0.5 * NormalDist().inv_cdf(0.001**0.001), rel=1e-9)
    assert NormalDist().inv_cdf(0.001 ** (1 / 100_000)) == pytest.approx(3.81, abs=0.005)


def test_the_bound_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0)
    for p in (0.6, 0.9, 0.99):
        missed = (lower_confidence_bound(draws.binomial(100, p, 4000), 100, 0.05) > p).mean()
        assert missed <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 4000)
    # and it is no bound that is never wrong
    assert (lower_confidence_bound(draws.binomial(1000, 0.9, 4000), 1000, 0.05) > 0.9).mean() > 0.03


def test_a_halfplane_is_certified_up_to_its_distance() -> None:
    """Under noise w.x + b is normal with deviation sigma |w|, so p = Phi(distance / sigma), and R tends to it."""
    w, b = [3.0, -4.0], 0.5
    model = Halfplane(w, b)
    x = torch.tensor([[0.1, 0.1], [0.2, 0.0], [0.0, 0.3], [0.05, 0.0]], dtype=torch.float64)
    margins = x @ torch.tensor(w).double() + b
    distance = margins.abs() / 5
    smoothing = Smoothing(sigma=0.25, n0=2000, n=40_000, batch_size=20_000)
    found = smoothing.certify(model, x, seeded(4))
    assert found.prediction.tolist() == (margins > 0).long().tolist()
    assert (found.radius <= distance).all()
    torch.testing.assert_close(found.radius, distance, atol=0.012, rtol=0)
    assert smoothing.predict(model, x, seeded(4, 9)).tolist() == found.prediction.tolist()


def test_a_fair_coin_is_abstained_on() -> None:
    model, x = Halfplane([1.0], 0.0), torch.zeros(40, 1).double()
    smoothing = Smoothing(sigma=1.0, n0=10, n=100, alpha=0.001)
    found = smoothing.certify(model, x, seeded(40))
    assert (found.prediction == -1).all()
    assert (found.radius == -1).all()
    assert (smoothing.predict(model, x, seeded(40)) == -1).all()


def test_predict_is_the_two_sided_test_of_the_first_two_classes() -> None:
    class Counted(nn.Module):
        """Of each 100 draws, the first 60 come out as class 2, then 38 as class 0 and 2 as class 1."""

        def forward(self, x: Tensor) -> Tensor:
            classes = torch.tensor([2] * 60 + [0] * 38 + [1] * 2).repeat(len(x) // 100)
            return nn.functional.one_hot(classes, 4).float()

    p = 2 * sum(math.comb(98, k) for k in range(60, 99)) / 2**98
    assert 0.01 < p < 0.1
    for alpha, expected in ((p * 0.99, -1), (p * 1.01, 2)):
        smoothing = Smoothing(sigma=1.0, n=100, alpha=alpha)
        assert smoothing.predict(Counted(), torch.zeros(3, 1), seeded(3)).tolist() == [expected] * 3


@pytest.mark.parametrize("images", [1, 3, 8])
def test_neither_size_of_a_batch_decides_a_certificate(images: int, conv_model: nn.Module, image_batch: Any) -> None:
    """How many noisy copies go through the model at once, and how many images a loader gives at once."""
    x, y = image_batch
    threat, attacks = LpBall(2, 0.1), {"pgd": PGD(steps=2)}
    found = [
        certify(
            conv_model.double(),
            list(zip(x.double().split(size), y.split(size), strict=True)),
            Smoothing(sigma=0.2, n0=10, n=50, alpha=0.05, batch_size=copies, attack_samples=2),
            threat,
            attacks=attacks,
        )
        for size, copies in ((8, 1000), (images, 7 * images))
    ]
    assert np.array_equal(found[0].prediction, found[1].prediction)
    assert np.allclose(found[0].radius, found[1].radius)
    assert np.array_equal(found[0].withstood["pgd"], found[1].withstood["pgd"])


def test_an_example_s_certificate_does_not_depend_on_its_batch(conv_model: nn.Module, image_batch: Any) -> None:
    x, smoothing = image_batch.x, Smoothing(sigma=0.2, n0=10, n=64, alpha=0.05, batch_size=50)
    conv_model.train()
    together = smoothing.certify(conv_model, x, seeded(8))
    assert all(module.training for module in conv_model.modules())
    for place in range(8):
        alone = smoothing.certify(conv_model, x[place : place + 1], seeded(1, place))
        assert (alone.prediction[0], alone.radius[0]) == (together.prediction[place], together.radius[place])
    assert len(set(together.radius.tolist())) > 2
    state = torch.get_rng_state()
    smoothing.predict(conv_model, x, seeded(8))
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_not_clipped_and_has_the_deviation() -> None:
    seen: list[Tensor] = []

    class Watching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return torch.stack([x[:, 0], -x[:, 0]], 1)

    Smoothing(sigma=0.3, n0=1, n=5000, batch_size=700).certify(Watching(), torch.full((1, 1), 0.9), seeded(1))
    noise = torch.cat(seen[1:]) - 0.9
    assert len(noise) == 5000
    assert noise.std().item() == pytest.approx(0.3, rel=0.05)
    assert noise.mean().item() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(
    "wrong", [{"sigma": 0.0}, {"alpha": 0.0}, {"alpha": 0.5}, {"n": 0}, {"n0": 0}, {"batch_size": 0}]
)
def test_smoothing_refuses_what_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        Smoothing(**{"sigma": 0.25, **wrong})


def test_the_smoothed_model_is_the_mean_softmax_over_its_noises(conv_model: nn.Module, image_batch: Any) -> None:
    x = image_batch.x
    smoothed = SmoothedModel(conv_model, sigma=0.2, samples=3, seed=4)
    noise = torch.randn(3, 1, 6, 6, generator=Generator().manual_seed(4))
    expected = torch.stack([conv_model(x + 0.2 * one).softmax(1) for one in noise]).mean(0)
    torch.testing.assert_close(smoothed(x).exp(), expected)
    torch.testing.assert_close(smoothed(x[3:4]), smoothed(x)[3:4])
    x_adv = PGD(steps=2)(smoothed, x, image_batch.y, LpBall(2, 0.5))
    assert not torch.equal(x_adv, x)


def test_gaussian_noise_trains_on_unclipped_noise(conv_model: nn.Module) -> None:
    x, y = torch.ones(200, 1, 6, 6), torch.zeros(200, dtype=torch.long)
    objective = GaussianNoise(sigma=0.5)
    torch.manual_seed(0)
    noisy = objective.perturb(conv_model, x, y, THREAT)
    assert (noisy - x).std().item() == pytest.approx(0.5, rel=0.05)
    assert noisy.max() > 2
    output = objective.loss(conv_model, x, noisy, y, THREAT)
    expected = -conv_model(noisy).double().log_softmax(1)[:, 0].mean()
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(RequestError, match="sigma"):
        GaussianNoise(sigma=-1)


# Interval bounds.


def test_bounds_of_one_affine_layer_are_exact() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double(), torch.rand(4, 6).double()
    box = ball(x, 0.2)
    corners = torch.stack(
        [torch.where(torch.tensor(which), box.upper, box.lower) for which in itertools.product([True, False], repeat=6)]
    )
    logits = model(corners.flatten(0, 1)).view(64, 4, 3)
    lower, upper = logit_bounds(model, box)
    torch.testing.assert_close(lower, logits.amin(0))
    torch.testing.assert_close(upper, logits.amax(0))
    y = torch.tensor([0, 1, 2, 0])
    differences = logits.gather(2, y.expand(64, 4).unsqueeze(2)) - logits
    torch.testing.assert_close(margin_bounds(model, box, y), differences.amin(0))


def test_bounds_of_a_monotone_network_are_exact() -> None:
    """With weights of one sign, each logit is largest and smallest in a corner that is known."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 1), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 4), nn.LeakyReLU(0.3), nn.Linear(4, 3), nn.Sigmoid(),
    ).double()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    box = ball(torch.rand(5, 1, 8, 8).double(), 0.1)
    lower, upper = logit_bounds(model, box)
    torch.testing.assert_close(lower, model(box.lower))
    torch.testing.assert_close(upper, model(box.upper))


def test_a_network_of_two_layers_by_hand() -> None:
    """relu(x1 - x2) - relu(x1 + x2 - 1) on [0.4, 0.6] x [0.1, 0.3]: hidden [.1, .5] and [0, 0], so within [.1, .5]."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
        model[0].bias.copy_(torch.tensor([0.0, -1.0]))
        model[2].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 0.0]]))
        model[2].bias.zero_()
    box = Interval(torch.tensor([[0.4, 0.1]]), torch.tensor([[0.6, 0.3]]))
    lower, upper = logit_bounds(model, box)
    torch.testing.assert_close(lower, torch.tensor([[0.1, 0.1]]))
    torch.testing.assert_close(upper, torch.tensor([[0.5, 0.5]]))
    # The two logits are alike, which their difference in the weights shows and the difference of the bounds does not.
    torch.testing.assert_close(margin_bounds(model, box, torch.tensor([0])), torch.zeros(1, 2))


class Residual(nn.Module):
    """Sums, functions and methods in a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize([0.4], [0.3])
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.norm, self.last = nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.offset = nn.Parameter(torch.tensor(0.3))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(self.normalize(x)))
        x = torch.relu(x + self.norm(self.second(x)) + self.offset)
        logits: Tensor = self.last(x.mean(dim=(2, 3)))
        return logits


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: MLP((1, 6, 6), 5, hidden=(20, 20), mean=[0.2], std=[0.4], dropout=0.3), (1, 6, 6)),
    "digits": (lambda: DigitsCNN(width=8, mean=[0.2], std=[0.4]), (1, 8, 8)),
    "wong": (lambda: WongCNN((1, 12, 12)), (1, 12, 12)),
    "madry": (lambda: MadryCNN((1, 7, 7)), (1, 7, 7)),
    "trades": (lambda: TradesSmallCNN((1, 16, 16)), (1, 16, 16)),
    "single_layer": (lambda: SingleLayerCNN((3, 8, 8)), (3, 8, 8)),
    "badnets": (lambda: BadNetsCNN((1, 28, 28)), (1, 28, 28)),
    "resnet18": (lambda: ResNet18((3, 8, 8)), (3, 8, 8)),
    "preact_resnet18": (lambda: PreActResNet18((3, 8, 8)), (3, 8, 8)),
    "residual": (Residual, (1, 6, 6)),
}


def trained_a_little(name: str) -> tuple[nn.Module, Tensor]:
    """The network in eval mode, with batch statistics, scales of both signs and no layer left at zero."""
    make, shape = ARCHITECTURES[name]
    torch.manual_seed(3)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.mul_(torch.randn_like(module.weight))
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    return model.eval(), torch.rand(3, *shape)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bounds_hold_for_samples_corners_and_pgd(name: str) -> None:
    model, x = trained_a_little(name)
    box = ball(x, 0.03)
    with torch.no_grad():
        lower, upper = logit_bounds(model, box)
        clean = model(x)
        y = clean.argmax(1)
        margins = margin_bounds(model, box, y)
        assert (lower < upper).all()
        slack = 1e-4 * (1 + clean.abs().max())
        for share in (torch.rand(6, *x.shape), (torch.rand(6, *x.shape) > 0.5).float()):
            for point in box.lower + share * (box.upper - box.lower):
                logits = model(point)
                assert (logits >= lower - slack).all()
                assert (logits <= upper + slack).all()
                assert (logits.gather(1, y[:, None]) - logits >= margins - slack).all()
    for loss in ("ce", "margin"):
        logits = model(PGD(steps=5, loss=loss)(model, x, y, LpBall("inf", 0.03))).detach()  # type: ignore[arg-type]
        assert (logits.gather(1, y[:, None]) - logits >= margins - slack).all()


@pytest.mark.parametrize("name", ["digits", "trades", "residual", "mlp"])
def test_bounds_of_a_point_are_the_logits_and_grow_with_the_box(name: str) -> None:
    model, x = trained_a_little(name)
    model.train()
    modes = [module.training for module in model.modules()]
    lower, upper = logit_bounds(model, Interval(x, x))
    assert [module.training for module in model.modules()] == modes
    model.eval()
    torch.testing.assert_close(lower, model(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(upper, model(x), atol=1e-4, rtol=1e-4)
    small, large = (logit_bounds(model, ball(x, eps)) for eps in (0.01, 0.02))
    assert (large.lower < small.lower).all()
    assert (large.upper > small.upper).all()


def test_a_first_layer_that_works_in_place_leaves_the_box_alone() -> None:
    model, x = nn.Sequential(nn.LeakyReLU(0.5, inplace=True), nn.Flatten()), torch.full((1, 2), -1.0)
    lower, upper = logit_bounds(model, Interval(x, x))
    assert lower.tolist() == upper.tolist() == [[-0.5, -0.5]]
    assert x.tolist() == [[-1.0, -1.0]]


def test_the_last_layer_merged_is_tighter() -> None:
    model, x = trained_a_little("digits")
    y = model(x).argmax(1)
    lower, upper = logit_bounds(model, ball(x, 0.02))
    apart = lower.gather(1, y[:, None]) - upper
    merged = margin_bounds(model, ball(x, 0.02), y)
    others = torch.ones_like(merged).scatter_(1, y[:, None], 0).bool()
    assert (merged[others] > apart[others]).all()


class Odd(nn.Module):
    """A linear layer, and something in the forward that bounds must not pass over."""

    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.between = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.between(self.layer(x))


class Sly(nn.Linear):
    """A linear layer by its class, but not by what it computes."""

    def forward(self, x: Tensor) -> Tensor:
        return -super().forward(x)


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 3))
    model[0].register_forward_hook(lambda module, inputs, output: -output)
    return model


def patched() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 3))
    model[0].forward = lambda x: torch.exp(-x)
    return model


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "exp": (lambda: Odd(lambda x: torch.exp(-x)), "exp|neg"),
    "product": (lambda: Odd(lambda x: x * 2), "mul"),
    "difference": (lambda: Odd(lambda x: 1 - x), "sub"),
    "add with alpha": (lambda: Odd(lambda x: torch.add(x, x, alpha=-2)), "add"),
    "in place": (lambda: Odd(lambda x: x.neg_()), "neg_"),
    "branch": (lambda: Odd(lambda x: x if x.sum() > 0 else -x), "Odd, which cannot be traced"),
    "gelu": (lambda: nn.Sequential(nn.Linear(4, 3), nn.GELU()), r"1 \(GELU"),
    "rising and falling": (lambda: nn.Sequential(nn.Linear(4, 3), nn.LeakyReLU(-0.1)), r"1 \(LeakyReLU"),
    "subclass": (lambda: nn.Sequential(Sly(4, 3)), "neg|linear"),
    "attention": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), r"1 \(Softmax"),
    "hook": (hooked, "hooks"),
    "patch": (patched, "patches"),
    "batch statistics": (lambda: nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)), "0 .BatchNorm1d"),
    "weight norm": (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))), "0 .Parametrized"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_bounded_is_refused_by_name(name: str) -> None:
    make, message = REFUSED[name]
    model = make()
    with pytest.raises(RequestError, match=message):
        logit_bounds(model, ball(torch.rand(2, 4), 0.1))


def test_only_the_robust_part_of_a_line_is_certified() -> None:
    """|w|_1 eps against the margin: certified exactly below margin / |w|_1, within the image box."""
    model = Halfplane([2.0, -3.0], 0.0)
    x = torch.tensor([[0.5, 0.1], [0.5, 0.1], [0.1, 0.5]], dtype=torch.float64)
    y = torch.tensor([1, 0, 0])
    method = IntervalBoundPropagation()
    found = method(model, x, y, radii=[0.0, 0.13, 0.139, 0.141, 0.2], bounds=(0, 1))
    assert found.prediction.tolist() == [1, 1, 0]
    # 0.7 / 5 = 0.14. Image 3 has margin 1.3: x1 <= 0.1 + eps, x2 >= 0.5 - eps, so 0.26.
    assert found.radius.tolist() == [0.139, -1.0, 0.2]
    assert method.certified(model, x[2:], y[2:], 0.259).all()
    assert not method.certified(model, x[2:], y[2:], 0.261).any()
    # Cut by the box above: x1 <= 1, so 3 (0.95 - eps) > 2 up to 0.2833; below: x1 >= 0, so 1 > 3 eps up to 0.3333.
    for plane, image, label, eps in ((model, [0.95, 0.95], 0, 0.85 / 3), (Halfplane([2, -3], 1), [0.05, 0], 1, 1 / 3)):
        one = torch.tensor([image], dtype=torch.float64)
        assert method.certified(plane, one, torch.tensor([label]), eps - 0.001).all()
        assert not method.certified(plane, one, torch.tensor([label]), eps + 0.001).any()


def test_the_interval_objective_is_the_worst_logits_cross_entropy() -> None:
    model, x = trained_a_little("digits")
    y = torch.tensor([3, 1, 4])
    objective = IntervalBound(kappa=0.3)
    assert objective.perturb(model, x, y, LpBall("inf", 0.05)) is x
    output = objective.loss(model, x, x, y, LpBall("inf", 0.05))
    margins = margin_bounds(model, ball(x, 0.05), y).double()
    total = 0.0
    for row, logits, label in zip(margins.detach(), model(x).detach().double(), y.tolist(), strict=True):
        clean = logits.exp()[label] / logits.exp().sum()
        worst = 1 / (1 + sum(math.exp(-value) for place, value in enumerate(row.tolist()) if place != label))
        total -= 0.3 * math.log(clean) + 0.7 * math.log(worst)
    assert output.loss.item() == pytest.approx(total / 3, rel=1e-4)
    output.loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_eps_rises_and_kappa_falls_with_the_steps_and_a_checkpoint_keeps_them() -> None:
    model, x = trained_a_little("digits")
    y = torch.tensor([3, 1, 4])
    objective = IntervalBound(kappa=0.5, warmup_steps=2, ramp_steps=4)
    eps, losses = [], []
    for _ in range(8):
        output = objective.loss(model, x, objective.perturb(model, x, y, LpBall("inf", 0.1)), y, LpBall("inf", 0.1))
        eps.append(output.logs["eps"].item())
        losses.append(output.loss.item())
    assert eps == pytest.approx([0, 0, 0.025, 0.05, 0.075, 0.1, 0.1, 0.1])
    assert losses[0] == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-5)
    half = IntervalBound(kappa=0.75).loss(model, x, x, y, LpBall("inf", 0.05))
    assert half.logs["eps"] == 0
    at_once = IntervalBound(kappa=0.75)
    at_once.perturb(model, x, y, LpBall("inf", 0.05))
    assert losses[3] == pytest.approx(at_once.loss(model, x, x, y, LpBall("inf", 0.05)).loss.item(), rel=1e-5)

    resumed = IntervalBound(warmup_steps=2, ramp_steps=4)
    resumed.load_state_dict(objective.state_dict())
    assert resumed.loss(model, x, x, y, LpBall("inf", 0.1)).logs["eps"].item() == pytest.approx(0.1)
    module = RobustClassifier(model, objective, LpBall("inf", 0.1), optimizer=partial(torch.optim.SGD, lr=0.1))
    assert module.state_dict()["objective.step"] == 8


def test_the_interval_objective_refuses_what_cannot_be() -> None:
    with pytest.raises(RequestError, match="linf"):
        IntervalBound().check_threat(LpBall(2, 0.05))
    with pytest.raises(RequestError, match="kappa"):
        IntervalBound(kappa=1.5)
    with pytest.raises(RequestError, match="steps"):
        IntervalBound(ramp_steps=-1)


def test_training_on_bounds_certifies_and_standard_training_does_not(digits_net: Any) -> None:
    x, y = digits_net.test
    method = IntervalBoundPropagation()
    before = method.certified(digits_net.model, x, y, 0.1).float().mean()
    assert before < 0.1
    torch.manual_seed(0)
    model = MLP((1, 8, 8), 10, hidden=(48,))
    objective = IntervalBound()
    momenta = [torch.zeros_like(parameter) for parameter in model.parameters()]
    objective.perturb(model, x, y, LpBall("inf", 0.1))
    for _ in range(150):
        gradients = torch.autograd.grad(
            objective.loss(model, x, x, y, LpBall("inf", 0.1)).loss, list(model.parameters())
        )
        for parameter, gradient, momentum in zip(model.parameters(), gradients, momenta, strict=True):
            momentum.mul_(0.9).add_(gradient)
            parameter.data -= 0.1 * momentum
    certified = method.certified(model, x, y, 0.1)
    assert certified.float().mean() > 0.25
    assert (model(x).argmax(1) == y)[certified].all()


# Certified beside empirical.


@dataclass(frozen=True)
class Claim:
    """A method that certifies the class of every image for a radius of 1, rightly or not."""

    error_rate: float = 0.0
    name = "claim"
    norm = "inf"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, **settings: Any) -> Certificates:
        return Certificates(model(x).argmax(1), torch.ones(len(x)))

    def attackable(self, model: nn.Module) -> nn.Module:
        return model

    def predict(self, model: nn.Module, x: Tensor, generators: Sequence[Generator]) -> Tensor:
        return model(x).argmax(1)


@dataclass(frozen=True)
class Push:
    """Fools the halfplane x > 0.5 on images whose value is below `below`."""

    below: float
    threat: LpBall

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        return torch.where(x < self.below, torch.full_like(x, 0.4), x)


def batches(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


THREAT = LpBall("inf", 0.3)


@pytest.mark.parametrize("known", [True, False])
def test_an_attack_on_a_certified_image_is_an_error_that_names_it(known: bool) -> None:
    model = Halfplane([1.0], -0.5)
    x = torch.linspace(0.61, 0.7, 10).double().unsqueeze(1)
    loader = batches(x, torch.ones(10).long(), 4)
    attacks = {"weak": Push(0.0, THREAT), "push": Push(0.615, THREAT)}
    verdicts = evaluate(model, loader, attacks, THREAT).verdicts if known else None
    with pytest.raises(RunFailed, match=r"'push' fools 1 of 10 images that claim certifies at eps=0\.3.* image 0"):
        certify(model, loader, Claim(), THREAT, attacks=attacks, verdicts=verdicts)
    # 1 of 10 is what an error rate of 0.02 explains; the certificate is lost all the same.
    found = certify(model, loader, Claim(0.02), THREAT, attacks=attacks, verdicts=verdicts)
    assert found.contradicted == 1
    assert found.radius.tolist() == [-1.0] + [1.0] * 9
    assert found.certified_accuracy.value == 0.9
    assert found.empirical_accuracy is not None
    assert found.empirical_accuracy.value == 0.9
    with pytest.raises(RunFailed, match="10 of 10"):
        certify(model, loader, Claim(0.02), THREAT, attacks={"push": Push(0.9, THREAT)})
    with pytest.raises(RequestError, match="10 other images than the 4"):
        certify(model, loader[:1], Claim(), THREAT, attacks={}, verdicts=evaluate(model, loader, {}, THREAT).verdicts)


def test_a_radius_below_eps_is_not_held_against_an_attack() -> None:
    model, threat = Halfplane([1.0], -0.5), LpBall("inf", 0.3)
    loader = batches(torch.tensor([[0.6], [0.9]]).double(), torch.ones(2).long(), 2)
    found = certify(
        model, loader, IntervalBoundPropagation(), threat, attacks={"pgd": PGD(steps=3, random_start=False)}
    )
    assert found.withstood["pgd"].tolist() == [False, True]
    assert found.radius.tolist() == pytest.approx([0.075, 0.375])
    assert [point.radius for point in found.radii] == [0.3 * share for share in (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2)]
    assert [point.certified_accuracy.value for point in found.radii] == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0]
    assert found.acr == pytest.approx(0.225)


@pytest.mark.parametrize("kind", ["ibp", "smoothing"])
def test_certified_is_not_above_empirical_on_a_trained_net(kind: str, digits_net: Any) -> None:
    x, y = digits_net.test.x[:40], digits_net.test.y[:40]
    threat = LpBall("inf", 0.004) if kind == "ibp" else LpBall(2, 0.25)
    method = IntervalBoundPropagation() if kind == "ibp" else Smoothing(sigma=0.2, n0=20, n=200, attack_samples=4)
    found = certify(digits_net.model, batches(x, y, 16), method, threat, attacks={"pgd": PGD(steps=4)}, seed=1)
    again = certify(digits_net.model, batches(x, y, 7), method, threat, attacks={}, seed=1)
    assert again.empirical_accuracy is None
    assert again.radius.tolist() == found.radius.tolist()
    block = found
    assert block.empirical_accuracy is not None
    assert 0.3 < (block.certified_accuracy.value or 0) <= (block.empirical_accuracy.value or 0)
    assert block.contradicted == 0
    assert found.withstood["pgd"][found.radius >= threat.eps].all()
    assert [point.radius for point in block.radii] == [threat.eps * k for k in (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2)]


def test_a_threat_of_another_norm_and_an_empty_loader_are_refused() -> None:
    model = Halfplane([1.0], -0.5)
    for method, threat, option in ((Smoothing(0.25), THREAT, "l2"), (IntervalBoundPropagation(), LpBall(2, 1), "linf")):
        with pytest.raises(RequestError, match=f"threat={option}"):
            certify(model, [], method, threat, attacks={})
    with pytest.raises(RequestError, match="no batches"):
        certify(model, [], IntervalBoundPropagation(), THREAT, attacks={})


def test_the_schema_refuses_certified_above_empirical() -> None:
    model = Halfplane([1.0], -0.5)
    found = certify(model, [(torch.tensor([[0.9]]).double(), torch.ones(1).long())], Claim(), THREAT, attacks={})
    block = found.model_dump(by_alias=True, mode="json")
    zero = rate(0, 1).model_dump()
    for name in ("empirical_accuracy", "accuracy"):
        with pytest.raises(ValueError, match="above"):
            Certified.model_validate(block | {name: zero})
    rising = [{"radius": 0.1, "certified_accuracy": zero}, block["radii"][-1] | {"radius": 0.2}]
    with pytest.raises(ValueError, match="above"):
        Certified.model_validate(block | {"radii": rising})


def test_the_certificates_of_a_run_reach_its_results_and_its_page() -> None:
    model, loader = Halfplane([1.0], -0.5), [(torch.tensor([[0.6], [0.9]]).double(), torch.ones(2).long())]
    attacks = {"push": Push(0.65, THREAT)}
    results = evaluate(model, loader, attacks, THREAT)
    settings = {"seed": 0, "certification": {"_target_": "robustml.evaluation.IntervalBoundPropagation"}}
    rest = (model, loader, THREAT, attacks, results.verdicts)
    certified = certified_as_configured(*rest, settings, torch.device("cpu"))
    identity = {"schema": 1, "command": "evaluate", "experiment": "halfplane", "seed": 0}
    found = results.model_copy(update={"certified": certified}).model_dump(mode="json")
    whole = Results.model_validate(identity | {"data": {"name": "line"}, "model": {"name": "plane"}} | found)
    assert whole.certified is not None
    assert whole.certified.certified_accuracy.value == 0.5
    shown = {row[0].text: row[1].text for row in certified_table(whole.certified).cells}
    assert shown["certified at L∞ 0.3"] == "50.0%"
    assert "under attack at L∞ 0.3, worst of push" in shown

    assert certified_as_configured(*rest, {"seed": 0}, torch.device("cpu")) is None
    for wrong in (5, {"_target_": "robustml.threats.LpBall", "p": 2, "eps": 1}):
        with pytest.raises(RequestError, match="certified_smoothing"):
            certified_as_configured(*rest, {"seed": 0, "certification": wrong}, torch.device("cpu"))
