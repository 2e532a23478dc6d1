"""Defences of the interface against figures worked out by hand, and a watch against a second implementation."""

from __future__ import annotations

import math
from statistics import fmean, pstdev

import pytest
import torch
from scipy.stats import shapiro
from torch import Tensor

from extraction.victims import Owned, seeded
from robustml.data import DataModule
from robustml.errors import RequestError
from robustml.extraction import (
    BudgetSpent,
    Defence,
    Defended,
    InDomain,
    ModelVictim,
    OutputNoise,
    Prada,
    QueriesRefused,
    ReverseSigmoid,
    Rounding,
    TopLabel,
    Victim,
    honest_use,
    judge_copy,
    sabotage,
)
from robustml.extraction.defences import Watch

ROWS = torch.tensor([[0.9, 0.06, 0.04], [0.333, 0.334, 0.333], [1.0, 0.0, 0.0]])
DEFENCES = {
    "top1": TopLabel(),
    "rounding": Rounding(1),
    "reverse sigmoid": ReverseSigmoid(),
    "noise": OutputNoise(0.2),
    "prada": Prada(),
}


@pytest.mark.parametrize("name", DEFENCES)
def test_every_defence_gives_probabilities_and_treats_inputs_one_by_one(name: str) -> None:
    defence = DEFENCES[name]
    assert isinstance(defence, Defence)
    x = torch.rand(40, 5, generator=seeded(1))
    rows = torch.rand(40, 4, generator=seeded(2)).pow(4)
    rows /= rows.sum(dim=1, keepdim=True)
    kept = rows.clone()
    answer = defence(x, rows)
    assert torch.equal(rows, kept)
    assert answer.shape == rows.shape
    assert float(answer.min()) >= 0
    assert torch.allclose(answer.sum(dim=1).double(), torch.ones(40, dtype=torch.float64), atol=1e-6)
    one_by_one = torch.cat([defence(x[i : i + 1], rows[i : i + 1]) for i in range(40)])
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


def test_noise_belongs_to_the_input() -> None:
    x = torch.rand(200, 5, generator=seeded(1))
    rows = torch.full((200, 4), 0.25)
    noisy = OutputNoise(0.05)(x, rows)
    assert torch.equal(noisy, OutputNoise(0.05)(x, rows)), "averaging repeated questions takes nothing off"
    assert not torch.equal(noisy, OutputNoise(0.05, seed=1)(x, rows))
    # the sum is made 1 again: of four deviations s, one part in four of the variance goes
    assert float((noisy - rows).std()) == pytest.approx(0.05 * math.sqrt(0.75), rel=0.1)


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


def test_prada_tells_a_lattice_from_honest_digits(owned: Owned, digits: DataModule) -> None:
    honest = Defended(ModelVictim(owned.model), Prada(0.9))
    honest(owned.x)
    assert honest.alarm_after is None
    thief = Defended(ModelVictim(owned.model), Prada(0.9))
    image = InDomain()(digits, 1, generator=seeded(1)).x
    lattice = (image + 0.02 * torch.arange(1, 257).view(-1, 1, 1, 1) / 256).clamp(0, 1)
    thief(lattice[:128])
    assert thief.alarm_after is not None
    with pytest.raises(QueriesRefused, match="thief"):
        thief(lattice[128:])
    assert thief.queries == 128


def test_a_defended_victim_is_a_victim() -> None:
    inner = ModelVictim(lambda x: x[:, :3], budget=5, batch_size=2)
    victim = Defended(inner, TopLabel())
    assert isinstance(victim, Victim)
    assert not isinstance(victim.defence, Watch)
    victim(torch.rand(4, 3))
    assert (victim.queries, victim.remaining, victim.batch_size, victim.alarm_after) == (4, 1, 2, None)
    with pytest.raises(BudgetSpent):
        victim(torch.rand(2, 3))


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
    figures = judge_copy(Sign(0.4), x, y, torch.tensor([0, 0, 1, 1]))  # the copy says 0 1 1 1
    assert (figures.fidelity.value, figures.accuracy.value) == (0.75, 0.5)
    low, high = figures.fidelity.ci95
    assert low < 0.75 < high


def test_sabotage_by_hand() -> None:
    """The copy sends each image across its own line; only those that cross the victim's as well fool it."""

    def across(model: torch.nn.Module, x: Tensor, y: Tensor, *, generator: object = None) -> Tensor:
        assert isinstance(model, Sign)
        return torch.full_like(x, model.at) + 0.01 * (1 - 2 * y).view(-1, 1)

    x, y = torch.tensor([[0.1], [0.2], [0.8], [0.9]]), torch.tensor([0, 0, 1, 1])
    victim = Sign(0.5)
    success = sabotage(Sign(0.6), lambda x: victim(x).argmax(dim=1), across, x, y)
    assert (success.value, success.n) == (0.5, 4)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Rounding(0), "defence.digits"),
        (lambda: OutputNoise(0), "defence.scale"),
        (lambda: ReverseSigmoid(beta=0), "defence.beta"),
        (lambda: Prada(threshold=1), "defence.threshold"),
        (lambda: Prada(minimum=2), "minimum"),
    ],
)
def test_settings_that_cannot_be(make: object, expected: str) -> None:
    with pytest.raises(RequestError, match=expected):
        make()  # type: ignore[operator]
