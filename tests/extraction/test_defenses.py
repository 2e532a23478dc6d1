"""Defenses of the interface against figures worked out by hand, and a watch against a second implementation."""

from __future__ import annotations

import math
from statistics import fmean, pstdev

import pytest
import torch
from scipy.stats import kurtosis, shapiro
from torch import Tensor

from extraction.victims import Owned, seeded
from robustml.data import DataModule
from robustml.errors import RequestError
from robustml.extraction import (
    Defense,
    InDomain,
    ModelVictim,
    OutputNoise,
    Prada,
    QueriesRefused,
    Reference,
    ReverseSigmoid,
    Rounding,
    TopLabel,
    honest_use,
    judge_copy,
    prada,
    transfer_success,
)
from robustml.threats import LpBall

ROWS = torch.tensor([[0.9, 0.06, 0.04], [0.333, 0.334, 0.333], [1.0, 0.0, 0.0]])
SECRET = "a secret of this test"
DEFENSES = {
    "top1": TopLabel(),
    "rounding": Rounding(1),
    "reverse sigmoid": ReverseSigmoid(),
    "noise": OutputNoise(0.2, SECRET),
    "prada": Prada(),
}


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defense_gives_probabilities_and_treats_inputs_one_by_one(name: str) -> None:
    defense = DEFENSES[name]
    assert isinstance(defense, Defense)
    x = torch.rand(40, 5, generator=seeded(1))
    rows = torch.rand(40, 4, generator=seeded(2)).pow(4)
    rows /= rows.sum(dim=1, keepdim=True)
    kept = rows.clone()
    answer = defense(x, rows)
    assert torch.equal(rows, kept)
    assert answer.shape == rows.shape
    assert float(answer.min()) >= 0
    assert torch.allclose(answer.sum(dim=1).double(), torch.ones(40, dtype=torch.float64), atol=1e-6)
    one_by_one = torch.cat([defense(x[i : i + 1], rows[i : i + 1]) for i in range(40)])
    assert torch.allclose(answer, one_by_one, rtol=0, atol=1e-12)  # vector units round otherwise than scalar ones


def test_top_label() -> None:
    assert TopLabel()(ROWS, ROWS).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_rounding() -> None:
    rounded = Rounding(1)(ROWS, ROWS)
    assert rounded[0].tolist() == pytest.approx([0.9, 0.1, 0.0])
    assert rounded[1].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    many = torch.full((1, 40), 0.025)
    many[0, 7] += 1e-3
    assert Rounding(1)(many, many)[0].argmax() == 7
    assert Rounding(1)(many, many).sum() == 1


def test_reverse_sigmoid_by_the_papers_formula() -> None:
    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    beta, gamma = 0.7, 0.2
    row = [0.8, 0.15, 0.05]
    bent = [y - beta * (sigmoid(gamma * math.log(y / (1 - y))) - 0.5) for y in row]
    expected = [value / sum(bent) for value in bent]
    answer = ReverseSigmoid(beta, gamma)(torch.zeros(1, 2), torch.tensor([row]))
    assert answer[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert ReverseSigmoid()(ROWS, ROWS).isfinite().all()


def test_noise_is_normal_at_every_answer_and_drawn_by_the_secret() -> None:
    """Of four deviations s, one part in four of the variance goes, as the sum is made 1 again."""
    x, rows = torch.zeros(1, 5), torch.full((1, 4), 0.25, dtype=torch.float64)
    noise = torch.cat([OutputNoise(0.05, f"secret {number}")(x, rows) - rows for number in range(300)])
    assert float(noise.std()) == pytest.approx(0.05 * math.sqrt(0.75), rel=0.1)
    assert float(noise.mean()) == pytest.approx(0, abs=1e-6)
    assert float(kurtosis(noise[:, 0])) == pytest.approx(0, abs=0.6)
    assert torch.equal(OutputNoise(0.05, "a")(x, rows), OutputNoise(0.05, "a")(x, rows))


def test_averaging_over_inputs_that_are_answered_alike_takes_nothing_off_the_noise() -> None:
    """The linear victim looks at 20 of 64 values: changes of any size to the others, and tiny ones to all."""
    weights = torch.randn(20, 5, generator=seeded(1), dtype=torch.float64)
    noise = OutputNoise(0.1, SECRET)

    def answers(x: Tensor) -> tuple[Tensor, Tensor]:
        rows = (x[:, :20] @ weights / 4).softmax(dim=1)
        return rows, noise(x, rows)

    places = torch.rand(8, 64, generator=seeded(2), dtype=torch.float64)
    true, single = answers(places)
    once = float((single - true).pow(2).mean().sqrt())
    assert once > 0.05
    for size, columns in ((0.0, 64), (1e-6, 64), (1e-4, 64), (1 / 255, 64), (1.0, 44)):
        change = torch.zeros(1000, 1, 64, dtype=torch.float64)
        change[:, :, -columns:] = (2 * torch.rand(1000, 1, columns, generator=seeded(3)) - 1) * size
        heard = answers((places + change).clamp(0, 1).flatten(0, 1))[1].unflatten(0, (1000, 8)).mean(dim=0)
        averaged = float((heard - true).pow(2).mean().sqrt())
        assert averaged == pytest.approx(once, rel=0.02), (size, averaged, once)


def test_what_the_docstring_says_that_averaging_over_a_neighbourhood_leaves() -> None:
    """Answers that lie r = scale apart share exp(-1/8) of the noise's variance, far ones none."""
    near, scale = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64), 0.1
    step = torch.tensor([[1.0, -1.0, 0.0]], dtype=torch.float64) / math.sqrt(2)
    for distance, expected in ((scale, math.exp(-1 / 8)), (2 * scale, math.exp(-1 / 2)), (1.5, 0.0)):
        rows = torch.cat([near, near + distance * step])
        draws = torch.stack([OutputNoise(scale, str(number))._noise(rows) for number in range(500)])
        assert float((draws[:, 0] * draws[:, 1]).mean()) == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("secret", [None, "", "  ", True])
def test_noise_needs_a_secret_and_does_not_show_it(secret: str | None) -> None:
    with pytest.raises(RequestError, match=r"defense\.secret"):
        OutputNoise(0.1, secret)
    assert SECRET not in repr(OutputNoise(0.1, SECRET))


def test_rounding_can_be_undone_along_a_path_as_its_docstring_says() -> None:
    """Bisecting for the place where the answer jumps tells the probability there to nine digits."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        row = torch.tensor([[middle, 1 - middle]], dtype=torch.float64)
        low, high = (middle, high) if float(Rounding(1)(row, row)[0, 0]) < 0.7 else (low, middle)
    assert low == pytest.approx(0.65, abs=1e-6)


def naive_prada(x: Tensor, labels: list[int], minimum: int) -> list[float]:
    """Algorithm 3 of the paper, once more, in plain lists: W after each query that is judged."""
    growing: dict[int, list[list[float]]] = {}
    noted: dict[int, list[float]] = {}
    thresholds: dict[int, float] = {}
    distances: list[float] = []
    found = []
    for query, label in zip(x.tolist(), labels, strict=True):
        if label not in growing:
            growing[label], noted[label], thresholds[label] = [query], [], 0.0
            continue
        distance = min(math.dist(query, other) for other in growing[label])
        distances.append(distance)
        if distance >= thresholds[label]:
            growing[label].append(query)
            noted[label].append(distance)
            thresholds[label] = max(thresholds[label], fmean(noted[label]) - pstdev(noted[label]))
        if len(distances) > minimum:
            middle, spread = fmean(distances), pstdev(distances)
            kept = [value for value in distances if middle - 3 * spread <= value <= middle + 3 * spread]
            found.append(float(shapiro(kept).statistic))
    return found


def test_prada_against_a_second_implementation() -> None:
    x = torch.rand(60, 6, generator=seeded(3)).double()
    labels = torch.randint(0, 3, (60,), generator=seeded(4))
    expected = naive_prada(x, labels.tolist(), 20)
    watch = Prada(threshold=1e-6, minimum=20)
    for part in torch.split(torch.arange(60), 7):
        watch(x[part], torch.nn.functional.one_hot(labels[part], 3).double())
    assert watch.lowest == pytest.approx(min(expected), abs=1e-6)
    assert watch.alarm_after is None
    # with the threshold between, the alarm comes at the first query whose W lies below it
    threshold = sorted(expected)[len(expected) // 3]
    alarmed = Prada(threshold=threshold, minimum=20)
    alarmed(x, torch.nn.functional.one_hot(labels, 3).double())
    judged = len(x) - len(expected)
    first = next(place for place, value in enumerate(expected) if value < threshold)
    assert alarmed.alarm_after == judged + first + 1


def test_prada_remembers_a_bounded_number_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prada, "_MOST_QUERIES", 40)
    watch, x = Prada(threshold=1e-6, minimum=3), torch.rand(3, 50, 6, generator=seeded(3))
    for part in x:
        watch(part * torch.arange(1, 51).view(-1, 1), torch.full((50, 2), 0.5))
        assert watch.held <= 40 * 6 * 4
    assert watch.seen == 150


def test_prada_tells_a_lattice_from_honest_digits(owned: Owned, digits: DataModule) -> None:
    honest = ModelVictim(owned.model, defense=Prada(0.9))
    honest(owned.x)
    assert honest.alarm_after is None
    watched = ModelVictim(owned.model, defense=Prada(0.9))
    image = InDomain()(digits, 1, generator=seeded(1)).x
    lattice = (image + 0.02 * torch.arange(1, 257).view(-1, 1, 1, 1) / 256).clamp(0, 1)
    watched(lattice[:128])
    assert watched.alarm_after is not None
    with pytest.raises(QueriesRefused, match="attacker"):
        watched(lattice[128:])
    assert watched.queries == 128


def test_what_honest_users_lose() -> None:
    plain = torch.tensor([[0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    moved = torch.tensor([[0.4, 0.6], [0.2, 0.8], [0.8, 0.2]])
    use = honest_use(plain, moved, torch.tensor([0, 1, 1]))
    assert (use.label_accuracy.value, use.label_accuracy.n) == (pytest.approx(1 / 3), 3)
    assert use.label_accuracy_change == pytest.approx(-1 / 3)
    assert use.mean_l1_change == pytest.approx((0.4 + 0 + 0.2) / 3)


class Sign(torch.nn.Module):
    """Class 1 where the only value is above `at`."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1).sum(dim=1) - self.at
        return torch.stack([-score, score], dim=1)


def test_figures_of_a_copy_by_hand() -> None:
    x = torch.tensor([[0.1], [0.45], [0.55], [0.9]])
    y = torch.tensor([0, 0, 1, 0])
    answers = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    figures = judge_copy(Sign(0.4), 7, Reference(x, y, answers))  # the copy says 0 1 1 1
    assert figures.queries == 7
    assert (figures.fidelity.value, figures.accuracy.value) == (0.75, 0.5)
    low, high = figures.fidelity.ci95
    assert low < 0.75 < high


def test_transfer_success_by_hand() -> None:
    """The copy sends each image across its own line; only those that cross the victim's as well fool it."""

    def across(model: torch.nn.Module, x: Tensor, y: Tensor, *, generator: object = None) -> Tensor:
        assert isinstance(model, Sign)
        return torch.full_like(x, model.at) + 0.01 * (1 - 2 * y).view(-1, 1)

    x, y = torch.tensor([[0.1], [0.2], [0.8], [0.9]]), torch.tensor([0, 0, 1, 1])
    victim = Sign(0.5)
    success = transfer_success(Sign(0.6), victim, across, LpBall("inf", 0.1), x, y)
    assert (success.value, success.n) == (0.5, 4)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Rounding(0), "defense.digits"),
        (lambda: OutputNoise(0, SECRET), "defense.scale"),
        (lambda: ReverseSigmoid(beta=0), "defense.beta"),
        (lambda: Prada(threshold=1), "defense.threshold"),
        (lambda: Prada(minimum=2), "minimum"),
    ],
)
def test_settings_that_cannot_be(make: object, expected: str) -> None:
    with pytest.raises(RequestError, match=expected):
        make()  # type: ignore[operator]
