from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustml.errors import RequestError, RunFailed
from robustml.extraction import BudgetSpent, ModelVictim, QueriesRefused, Victim, ask


class Spy:
    """A callable that remembers how many inputs it was ever shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.shown.append(len(x))
        return x.flatten(1)[:, :3]


def test_queries_are_counted_and_never_beyond_the_budget() -> None:
    spy = Spy()
    victim = ModelVictim(spy, budget=10)
    assert isinstance(victim, Victim)
    assert victim(torch.rand(7, 4)).shape == (7, 3)
    assert (victim.queries, victim.remaining) == (7, 3)
    with pytest.raises(BudgetSpent, match="3 left"):
        victim(torch.rand(4, 4))
    assert (victim.queries, victim.remaining, spy.shown) == (7, 3, [7])
    victim(torch.rand(3, 4))
    assert victim.remaining == 0
    with pytest.raises(BudgetSpent):
        victim(torch.rand(1, 4))
    assert sum(spy.shown) == 10


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 3]), (64, [11])])
def test_asking_stops_at_the_budget(batch_size: int, sizes: list[int]) -> None:
    spy, x = Spy(), torch.rand(30, 4)
    heard = ask(ModelVictim(spy, budget=11, batch_size=batch_size), x)
    assert spy.shown == sizes
    assert torch.equal(heard.x, x[:11])
    assert torch.equal(heard.answers, x[:11, :3].softmax(dim=1))


def test_asking_stops_at_the_end_of_the_queries() -> None:
    victim = ModelVictim(Spy(), budget=100)
    heard = ask(victim, torch.rand(5, 4))
    heard = ask(victim, torch.rand(6, 4), heard)
    assert (len(heard), victim.queries) == (11, 11)


class Moody(Victim):
    """Refuses its third request, and all after it."""

    def _answer(self, x: Tensor) -> Tensor:
        if self.queries > 4:
            raise QueriesRefused("enough")
        return torch.full((len(x), 2), 0.5)


def test_what_was_answered_before_a_refusal_stays() -> None:
    moody = Moody(budget=100, batch_size=2)
    heard = ask(moody, torch.rand(10, 4))
    assert len(heard) == 4
    assert len(ask(moody, torch.rand(10, 4), heard)) == 4
    with pytest.raises(RunFailed, match="no query"):
        ask(moody, torch.rand(10, 4))


def test_without_a_budget_anything_may_be_asked() -> None:
    victim = ModelVictim(Spy())
    victim(torch.rand(1000, 4))
    assert victim.remaining > 10**9


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_of_nothing_is_refused(budget: int) -> None:
    with pytest.raises(RequestError, match="at least 1"):
        ModelVictim(Spy(), budget=budget)


def test_a_module_answers_in_eval_mode_and_is_left_as_found(conv_model: nn.Module, image_batch: Tensor) -> None:
    x = image_batch[0]
    expected = conv_model(x).softmax(dim=1)
    conv_model.train()
    before = {key: value.clone() for key, value in conv_model.state_dict().items()}
    assert torch.allclose(ModelVictim(conv_model)(x), expected)
    assert all(module.training for module in conv_model.modules())
    assert all(torch.equal(value, before[key]) for key, value in conv_model.state_dict().items())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (torch.full((2, 3), 1 / 3), "(3, classes)"),
        (torch.ones(3, 1), "(3, classes)"),
        (torch.tensor([[0.5, 0.5], [0.5, torch.nan], [0.5, 0.5]]), "not finite"),
        (torch.tensor([[2.0, -1.0]] * 3), "-1 to 2"),
        (torch.tensor([[0.5, 0.4]] * 3), "sums to 0.9"),
    ],
)
def test_what_cannot_be_probabilities_is_refused(answer: Tensor, expected: str) -> None:
    victim = ModelVictim(lambda x: answer, outputs="probabilities")
    with pytest.raises(RequestError) as refusal:
        victim(torch.rand(3, 4))
    assert expected in str(refusal.value) or "3 examples" in str(refusal.value)
