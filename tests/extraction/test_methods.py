"""Methods against victims whose answers are known: exact for equations, bars for what is learnt."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from extraction.victims import Owned, copied, make_student, seeded
from robustml.data import DataModule
from robustml.errors import RequestError
from robustml.extraction import (
    Copycat,
    EquationSolving,
    Extraction,
    InDomain,
    JacobianAugmentation,
    Knockoff,
    ModelVictim,
    Noise,
    Pool,
    StudentTraining,
    TopLabel,
    Transcript,
    budget_curve,
    judge_copy,
    labels_of,
)
from robustml.extraction.knockoff import Bandit
from robustml.extraction.victim import hard_labels

TRAINING = StudentTraining(steps=400, learning_rate=0.005)
QUICK = StudentTraining(steps=5)
SEEDS = (1, 2, 3)


def fidelity(copy: nn.Module, owned: Owned) -> float:
    value = judge_copy(copy, 1, owned.reference).fidelity.value
    assert value is not None
    return value


class Bars(NamedTuple):
    """Median fidelity over three seeds."""

    hard: float
    soft: float
    soft_few: float
    shuffled: float


@pytest.fixture(scope="module")
def bars(owned: Owned, digits: DataModule) -> Bars:
    """Copies from 2,000 queries of noise, from the first 100 of them, and from answers dealt to the wrong queries."""
    rows = []
    for seed in SEEDS:
        pool = Noise()(digits, 2000, generator=seeded(seed))
        victim = ModelVictim(owned.model, budget=2000)
        soft, hard = Knockoff(training=TRAINING), Copycat(TRAINING)
        heard = soft.ask(victim, pool, make_student)
        assert victim.queries == len(heard) == 2000
        mixed = Transcript(heard.x, heard.answers[torch.randperm(2000, generator=seeded(seed))])
        copies = [
            method.fit(part, make_student, generator=seeded(seed))
            for method, part in ((hard, heard), (soft, heard), (soft, heard.first(100)), (soft, mixed))
        ]
        rows.append([fidelity(copy, owned) for copy in copies])
    return Bars(*map(median, zip(*rows, strict=True)))


def test_three_quarters_from_noise(bars: Bars) -> None:
    assert bars.soft >= 0.75


def test_probabilities_are_worth_more_than_labels_out_of_domain(bars: Bars) -> None:
    assert bars.soft > bars.hard + 0.01


def test_agreement_rises_with_the_budget(bars: Bars) -> None:
    assert bars.soft > bars.soft_few + 0.05


def test_answers_to_other_queries_are_worth_nothing(bars: Bars) -> None:
    assert bars.shuffled < 0.3


def test_a_linear_victim_is_copied_exactly(regression: Owned, digits: DataModule) -> None:
    pool = Noise()(digits, 650, generator=seeded(1))
    victim = ModelVictim(regression.model, budget=650)
    copy = copied(EquationSolving(), victim, pool)
    assert victim.queries == 650
    assert fidelity(copy, regression) >= 0.99
    for name, stolen in copy.named_parameters():
        true = dict(regression.model.named_parameters())[name]
        # a constant added to all classes is invisible behind a softmax
        assert torch.allclose(stolen, true - true.mean(dim=0), atol=1e-4)


def test_as_many_queries_as_unknowns_are_enough(regression: Owned, digits: DataModule) -> None:
    pool = Noise()(digits, 65, generator=seeded(1))
    assert fidelity(copied(EquationSolving(), ModelVictim(regression.model), pool), regression) >= 0.99


def test_equations_of_labels_alone_still_give_a_classifier(regression: Owned, digits: DataModule) -> None:
    pool = InDomain()(digits, 1200, generator=seeded(1))
    victim = ModelVictim(regression.model, defense=TopLabel())
    assert 0.7 < fidelity(copied(EquationSolving(), victim, pool), regression) < 0.99


METHODS = {
    "copycat": Copycat(QUICK),
    "knockoff": Knockoff(training=QUICK),
    "adaptive": Knockoff("adaptive", QUICK, round_size=8, round_steps=2),
    "jacobian": JacobianAugmentation(10, training=QUICK),
    "equation": EquationSolving(),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_budget_and_leaves_the_world_as_it_was(
    name: str, owned: Owned, digits: DataModule
) -> None:
    method = METHODS[name]
    assert isinstance(method, Extraction)
    pool = Pool(Noise()(digits, 100, generator=seeded(1)).x, torch.arange(100) % 3)
    before = {key: value.clone() for key, value in owned.model.state_dict().items()}
    state = torch.get_rng_state()
    copies = []
    for _ in range(2):
        victim = ModelVictim(owned.model, budget=77, batch_size=10)
        heard = method.ask(victim, pool, make_student, generator=seeded(5))
        assert victim.queries == len(heard) == 77
        copies.append(method.fit(heard, make_student, generator=seeded(6)))
    assert torch.equal(copies[0](owned.x), copies[1](owned.x))
    assert not copies[0].training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in owned.model.state_dict().items())
    assert 0 <= float(heard.x.min()) <= float(heard.x.max()) <= 1


def test_other_draws_make_another_copy(owned: Owned, digits: DataModule) -> None:
    pool = Noise()(digits, 20, generator=seeded(1))
    one, other = (copied(Copycat(QUICK), ModelVictim(owned.model), pool, seeded(seed)) for seed in (1, 2))
    assert not torch.equal(one(owned.x), other(owned.x))


def test_a_pool_smaller_than_the_budget_is_asked_once(owned: Owned, digits: DataModule) -> None:
    pool = Pool(Noise()(digits, 30, generator=seeded(1)).x, torch.arange(30) % 3)
    for method in (Copycat(QUICK), Knockoff("adaptive", QUICK, round_size=8, round_steps=1)):
        victim = ModelVictim(owned.model, budget=100)
        heard = method.ask(victim, pool, make_student, generator=seeded(1))
        assert victim.queries == len({tuple(row) for row in heard.x.flatten(1).tolist()}) == 30


def test_the_curve_asks_nothing_anew_and_ends_with_the_whole(owned: Owned, digits: DataModule) -> None:
    victim = ModelVictim(owned.model, budget=50)
    method = Knockoff(training=QUICK)
    heard = method.ask(victim, Noise()(digits, 50, generator=seeded(1)), make_student)
    points, copy = budget_curve(method, heard, [20, 0, 500, 5, 20], make_student, owned.reference, seed=4)
    assert [point.queries for point in points] == [5, 20, 50]
    assert victim.queries == 50
    expected = method.fit(heard, make_student, generator=seeded(4))
    assert torch.equal(copy(owned.x), expected(owned.x))
    assert points[-1] == judge_copy(expected, 50, owned.reference)
    shorter = method.fit(heard.first(20), make_student, generator=seeded(4))
    assert points[1] == judge_copy(shorter, 20, owned.reference)


class Linear(nn.Module):
    """Two classes told apart by a known direction."""

    def __init__(self, direction: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([direction, -direction]))

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) @ self.weight.T


def test_augmentation_steps_up_the_score_of_the_victims_label() -> None:
    direction = torch.tensor([1.0, -2.0, 0.5])
    model = Linear(direction)
    x = torch.tensor([[0.5, 0.5, 0.5], [0.95, 0.03, 0.4]])
    victim = ModelVictim(Linear(-direction), budget=4)  # the student's labels are not the victim's
    method = JacobianAugmentation(2, step_size=0.1, training=QUICK)
    heard = Transcript(x, victim(x))
    labels = heard.answers.argmax(dim=1)
    step = torch.where((labels == 0).unsqueeze(1), 1.0, -1.0) * torch.tensor([0.1, -0.1, 0.1])
    assert torch.allclose(method._augmented(model, heard), (x + step).clamp(0, 1))


def test_each_round_of_augmentation_doubles_the_queries(owned: Owned, digits: DataModule) -> None:
    rounds: list[int] = []

    class Counting(ModelVictim):
        def __call__(self, x: Tensor) -> Tensor:
            rounds.append(len(x))
            return super().__call__(x)

    pool = InDomain()(digits, 10, generator=seeded(1))
    heard = JacobianAugmentation(10, training=QUICK).ask(
        Counting(owned.model, budget=70), pool, make_student, generator=seeded(1)
    )
    assert rounds == [10, 10, 20, 30]
    for start, stop in ((10, 20), (20, 40), (40, 70)):
        distance = (heard.x[start:stop, None] - heard.x[None, :start]).abs().flatten(2).amax(dim=2).amin(dim=1)
        assert float(distance.max()) <= 0.1 + 1e-6


def test_the_bandit_prefers_what_pays() -> None:
    bandit = Bandit(3)
    generator = seeded(1)
    everything = torch.ones(3, dtype=torch.bool)
    for _ in range(30):
        arms = bandit.draw(8, everything, generator)
        bandit.learn(arms, torch.tensor([[float(arm == 1), 0.0, 0.0] for arm in arms]))
    assert bandit.preference.argmax() == 1
    assert bandit.draw(50, everything, generator).count(1) > 30
    assert 1 not in bandit.draw(50, torch.tensor([True, False, True]), generator)


def test_one_step_of_the_bandit_by_hand() -> None:
    bandit = Bandit(2)
    bandit.learn([0, 1], torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.0]]))
    # policy (.5, .5), baseline .75: arm 0 gains .25 (1 - .5), then arm 1 loses .25 (1 - .5), each against the other
    assert torch.allclose(bandit.preference, torch.tensor([0.25, -0.25]))
    assert bandit.total == pytest.approx(1.5)


def test_a_bandit_needs_classes(owned: Owned, digits: DataModule) -> None:
    pool = Noise()(digits, 10, generator=seeded(1))
    victim = ModelVictim(owned.model, budget=10)
    with pytest.raises(RequestError, match="classes of the pool"):
        Knockoff("adaptive").ask(victim, pool, make_student)
    assert victim.queries == 0


def test_hard_labels() -> None:
    answers = torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])
    assert hard_labels(answers).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_a_student_learns_by_heart(owned: Owned) -> None:
    """The training loop on its own: labels that belong to no one are reproduced."""
    labels = torch.randint(0, 10, (60,), generator=seeded(1))
    targets = nn.functional.one_hot(labels, 10).float()
    copy = StudentTraining(steps=150, learning_rate=0.01)(make_student, owned.x[:60], targets, generator=seeded(1))
    assert float((labels_of(copy, owned.x[:60]) == labels).float().mean()) > 0.95


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: StudentTraining(steps=0), "training.steps"),
        (lambda: StudentTraining(learning_rate=-1), "training.learning_rate"),
        (lambda: Knockoff("best"), "random or adaptive"),  # type: ignore[arg-type]
        (lambda: Knockoff(round_size=0), "round_size"),
        (lambda: JacobianAugmentation(0), "seeds"),
        (lambda: JacobianAugmentation(step_size=0), "step_size"),
    ],
)
def test_settings_that_cannot_be(make: object, expected: str) -> None:
    with pytest.raises(RequestError, match=expected):
        make()  # type: ignore[operator]
