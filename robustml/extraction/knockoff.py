"""Knockoff nets: train on the probabilities that the victim gives, for images chosen at random or by a bandit.

Orekondy, Schiele, Fritz, "Knockoff nets: Stealing functionality of black-box models", CVPR 2019, arXiv:1812.02766.
Deviations of the adaptive strategy: one level of classes, no hierarchy; the policy is updated after rounds of
`round_size` queries, with the probabilities it had when the round was drawn; each reward is scaled by the largest of
its kind so far, and the baseline is the mean of all rewards before the round; the student that the rewards look at
trains on for `round_steps` batches a round, the first of which is drawn evenly and not rewarded; the copy itself is
trained afresh on all answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.errors import RequestError
from robustml.extraction.method import MakeStudent, Pool, Transcript, ask
from robustml.extraction.student import StudentTraining
from robustml.extraction.victim import Victim


@dataclass(frozen=True)
class Knockoff:
    """Uses the whole answer.

    Args:
        strategy: ``"random"`` asks the pool in its order; ``"adaptive"`` learns which of the pool's own classes is
            worth asking.
        training: how the copy is trained.
        round_size: adaptive: queries between two updates of the policy.
        round_steps: adaptive: batches that the running student sees a round.

    Raises:
        RequestError: an unknown strategy, or a round of nothing; when called, a pool without classes for a bandit.
    """

    strategy: Literal["random", "adaptive"] = "random"
    training: StudentTraining = field(default_factory=StudentTraining)
    round_size: int = 32
    round_steps: int = 20

    def __post_init__(self) -> None:
        if self.strategy not in ("random", "adaptive"):
            raise RequestError(f"method.strategy={self.strategy!r} is unknown; expected random or adaptive")
        if self.round_size < 1 or self.round_steps < 1:
            raise RequestError(
                f"knockoff needs round_size and round_steps >= 1, got {self.round_size} and {self.round_steps}"
            )

    def ask(
        self, victim: Victim, pool: Pool, make_student: MakeStudent, *, generator: Generator | None = None
    ) -> Transcript:
        """The pool in its order, or as the bandit chooses.

        Raises:
            RequestError: the strategy is adaptive, and the pool has no two classes to choose among.
        """
        if self.strategy == "random":
            return ask(victim, pool.x)
        if pool.labels is None or len(set(pool.labels.tolist())) < 2:
            raise RequestError(
                "method.strategy=adaptive chooses among the classes of the pool, and this pool has none: take "
                "pool=natural or pool=another, or strategy=random"
            )
        return self._ask_adaptively(victim, pool, pool.labels, make_student, generator)

    def fit(self, heard: Transcript, make_student: MakeStudent, *, generator: Generator | None = None) -> nn.Module:
        """A student of the probabilities."""
        return self.training(make_student, heard.x, heard.answers, generator=generator)

    def _ask_adaptively(
        self, victim: Victim, pool: Pool, labels: Tensor, make_student: MakeStudent, generator: Generator | None
    ) -> Transcript:
        unasked = {label: (labels == label).nonzero().squeeze(1).tolist() for label in sorted(set(labels.tolist()))}
        bandit = Bandit(len(unasked))
        names = list(unasked)
        running = replace(self.training, steps=self.round_steps)
        heard: Transcript | None = None
        student: nn.Module | None = None
        while victim.remaining > 0 and any(unasked.values()):
            left = torch.tensor([bool(unasked[name]) for name in names])
            rows, arms = [], []
            for arm in bandit.draw(self.round_size, left, generator):
                if unasked[names[arm]]:  # the round itself may have taken the last
                    rows.append(unasked[names[arm]].pop())
                    arms.append(arm)
            before = 0 if heard is None else len(heard)
            heard = ask(victim, pool.x[rows], heard)
            if len(heard) == before:
                break
            if student is not None:
                new = Transcript(heard.x[before:], heard.answers[before:])
                bandit.learn(arms[: len(new)], self._rewards(new, heard.first(before), student))
            # from the second round on the student itself, which `train` returns, trains on
            make = make_student if student is None else student.train
            student = running(make, heard.x, heard.answers, generator=generator)
        assert heard is not None
        return heard

    @staticmethod
    @torch.no_grad()
    def _rewards(new: Transcript, before: Transcript, student: nn.Module) -> Tensor:
        """What each answer was worth (N, 3): certainty, diversity, and what the student did not know yet."""
        top = new.answers.topk(2, dim=1).values
        certainty = top[:, 0] - top[:, 1]
        diversity = (new.answers - before.answers.mean(dim=0)).clamp_min(0).sum(dim=1)
        loss = functional.cross_entropy(student(new.x), new.answers.float(), reduction="none")
        return torch.stack([certainty, diversity, loss.to(certainty)], dim=1)


@dataclass
class Bandit:
    """A gradient bandit over `arms` arms (Sutton and Barto, section 2.8), as the paper uses it."""

    arms: int
    preference: Tensor = field(init=False)
    pulls: Tensor = field(init=False)
    largest: Tensor = field(init=False)
    total: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.preference, self.pulls = torch.zeros(self.arms), torch.zeros(self.arms)
        self.largest = torch.full((3,), 1e-12)

    def draw(self, count: int, allowed: Tensor, generator: Generator | None) -> list[int]:
        """`count` arms among the `allowed` (arms,) ones."""
        policy = self.preference.masked_fill(~allowed, -torch.inf).softmax(dim=0)
        return torch.multinomial(policy, count, replacement=True, generator=generator).tolist()

    def learn(self, arms: list[int], rewards: Tensor) -> None:
        """Prefer the arms whose rewards (N, kinds) were above what came before."""
        rewards = rewards.cpu().float()
        self.largest = torch.maximum(self.largest, rewards.amax(dim=0))
        totals = (rewards / self.largest).sum(dim=1)
        seen = float(self.pulls.sum())
        baseline = self.total / seen if seen else float(totals.mean())
        policy = self.preference.softmax(dim=0)
        for arm, total in zip(arms, totals.tolist(), strict=True):
            self.pulls[arm] += 1
            chosen = functional.one_hot(torch.tensor(arm), self.arms)
            self.preference += (total - baseline) * (chosen - policy) / self.pulls[arm]
            self.total += total
