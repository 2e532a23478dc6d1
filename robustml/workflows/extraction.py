"""Rob a victim as the settings of `robustml extract` say, and put what came of it into the results schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustml.data import DataModule, stratified_rows
from robustml.errors import RequestError, RunFailed
from robustml.evaluation.parameters import attack_generator
from robustml.extraction import (
    Defended,
    Defense,
    EquationSolving,
    Extraction,
    HttpVictim,
    Pool,
    QueriesRefused,
    Victim,
    ask,
    budget_curve,
    honest_use,
    sabotage,
)
from robustml.extraction.defenses import Watch
from robustml.extraction.measure import Point
from robustml.results import Rate, rate
from robustml.say import say
from robustml.types import Attack
from robustml.workflows.building import build, plain_target
from robustml.workflows.secret import noise_secret, with_secret

__all__ = ["Heist", "Robbed", "TestPart", "loot", "prepare"]

Settings = Mapping[str, Any]

_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class TestPart:
    """Test inputs (N, ...) in [0, 1], their classes (N,), and what the undefended victim answers them (N, C)."""

    x: Tensor
    y: Tensor
    answers: Tensor

    @property
    def labels(self) -> Tensor:
        """The victim's own labels (N,)."""
        return self.answers.argmax(dim=1)


@dataclass(frozen=True, eq=False)
class Robbed:
    """One theft: the copy, its figures over the budget, and how well it serves to attack the victim."""

    copy: nn.Module
    points: list[Point]
    transfer_success: Rate
    alarm_after: int | None
    queries: int
    """How many inputs the method asked."""


@dataclass(frozen=True, eq=False)
class Heist:
    """All that a theft needs, built and checked before the first query.

    Args:
        open_interface: gives the victim with that many queries to spend, or with any number, undefended.
        method: how it is robbed.
        pool: queries to choose from.
        make_student: gives a fresh student.
        attack: makes adversarial examples of the copy.
        test: what copies are measured on.
        settings: of the command: budget, curve, transfer_limit, seed.
        defense: of the interface, with its secret.
    """

    open_interface: Counted
    method: Extraction
    pool: Pool
    make_student: Callable[[], nn.Module]
    attack: Attack
    test: TestPart
    settings: Settings
    defense: Defense | None = None

    def rob(self, defense: Defense | None, *, with_curve: bool) -> Robbed:
        """Spend one budget, make the copies of the curve, and attack the victim through the last."""
        seed = self.settings["seed"]
        asked = victim = self.open_interface(self.settings["budget"])
        if defense is not None:
            victim = Defended(victim, defense)
        heard = self.method.ask(victim, self.pool, self.make_student, generator=attack_generator(seed, "queries", _CPU))
        say(f"asked {len(heard):,} of {self.settings['budget']:,} queries")
        shares = self.settings["curve"] if with_curve else []
        points, copy = budget_curve(
            self.method,
            heard,
            [round(share * len(heard)) for share in shares],
            self.make_student,
            self.test.x,
            self.test.y,
            self.test.labels,
            seed=seed,
        )
        alarm = victim.alarm_after if isinstance(victim, Defended) else None
        return Robbed(copy, points, self._sabotage(copy), alarm, asked.queries)

    def _sabotage(self, copy: nn.Module) -> Rate:
        """Transfer success on test images that the victim gets right; none where it answers no longer."""
        right = (self.test.labels == self.test.y).nonzero().squeeze(1)
        if (limit := self.settings["transfer_limit"]) is not None:
            right = right[stratified_rows(self.test.y[right], limit).to(right.device)]
        victim = self.open_interface(None)
        generator = attack_generator(self.settings["seed"], "transfer", self.test.x.device)
        try:
            return sabotage(
                copy,
                lambda x: torch.cat([victim(part) for part in torch.split(x, victim.batch_size)]).argmax(dim=1),
                self.attack,
                self.test.x[right],
                self.test.y[right],
                generator=generator,
            )
        except QueriesRefused as refusal:
            say(f"transfer success is not known: {refusal}")
            return rate(0, 0)


class Counted:
    """Gives the victim anew, and adds up what all of them were asked.

    Args:
        open_interface: gives the victim with that many queries to spend.
    """

    def __init__(self, open_interface: Callable[[int | None], Victim]) -> None:
        self._open_interface = open_interface
        self._opened: list[Victim] = []
        self._before = self._told()

    def __call__(self, budget: int | None) -> Victim:
        """The victim, with a budget of its own."""
        victim = self._open_interface(budget)
        self._opened.append(victim)
        return victim

    @property
    def queries(self) -> int:
        """How many inputs were asked in all."""
        return sum(victim.queries for victim in self._opened)

    @property
    def counted(self) -> int | None:
        """How many inputs the victim itself says that it answered meanwhile; None where an endpoint does not tell."""
        told = self._told()
        return None if told is None or self._before is None or told < self._before else told - self._before

    def _told(self) -> int | None:
        victim = self._open_interface(None)
        return victim.counted() if isinstance(victim, HttpVictim) else self.queries


def prepare(
    settings: Settings, data: DataModule, open_interface: Callable[[int | None], Victim], device: torch.device
) -> Heist:
    """Build what the settings name, and ask the victim about the test part.

    Raises:
        RequestError: a setting that cannot be, or a victim, student and data that do not fit each other.
        RunFailed: the victim refuses already here.
    """
    interface = Counted(open_interface)
    interface(settings["budget"])  # refuses an impossible budget
    shares = settings["curve"]
    if not isinstance(shares, list) or not all(isinstance(s, (int, float)) and 0 < s <= 1 for s in shares):
        raise RequestError(f"curve must list shares of the budget above 0 and up to 1, such as [0.1,0.5]; got {shares}")
    limit = settings["transfer_limit"]
    if limit is not None and limit < 1:
        raise RequestError(f"transfer_limit must be at least 1, or null for all images; got {limit}")
    attack: Attack = build(settings["attack"])
    method: Extraction = build(settings["method"])
    if not isinstance(method, Extraction):
        raise RequestError(f"method must be an extraction, which asks and fits; got a {type(method).__name__}")

    defense = build(with_secret(settings["defense"], noise_secret(settings["seed"])))
    if defense is not None and not isinstance(defense, Defense):
        raise RequestError(f"defense must change answers or watch them; got a {type(defense).__name__}")

    def make_student() -> nn.Module:
        student: nn.Module = build(settings["student"])
        return student

    batches = list(data.loader("test", device=device))
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    if not isinstance(method, EquationSolving):
        _try(make_student, x[:1], data)
    test = TestPart(x, y, _answers(interface(None), x, data))
    pool = build(settings["pool"])(data, settings["budget"], generator=attack_generator(settings["seed"], "pool", _CPU))
    if len(pool.x) < settings["budget"]:
        say(f"the pool holds {len(pool.x):,} inputs, fewer than the budget of {settings['budget']:,}")
    return Heist(interface, method, pool.to(device), make_student, attack, test, settings, defense)


def _answers(victim: Victim, x: Tensor, data: DataModule) -> Tensor:
    """What the victim says of the test inputs."""
    heard = ask(victim, x)
    if len(heard) < len(x):
        raise RunFailed(f"the victim refused after {len(heard)} of {len(x)} test images: nothing can be measured")
    classes = heard.answers.shape[1]
    if classes != data.num_classes:
        raise RequestError(f"the victim tells {classes} classes apart, but {data.name} has {data.num_classes}")
    return heard.answers


def _try(make_student: Callable[[], nn.Module], x: Tensor, data: DataModule) -> None:
    """Refuse a student that cannot take the data's inputs, before any query is spent."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            shape = tuple(make_student().eval().to(x.device)(x).shape)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise RequestError(f"the student cannot take inputs of shape {tuple(x.shape[1:])}: {reason}") from error
    if shape != (1, data.num_classes):
        raise RequestError(
            f"the student returns shape {shape} for one input, expected (1, {data.num_classes}); choose another with "
            "model@student=..."
        )


def loot(heist: Heist, defended: Robbed | None, undefended: Robbed) -> dict[str, Any]:
    """The `extraction` block of results.json; `undefended` is the theft itself where there is no defense."""
    settings, test = heist.settings, heist.test
    robbed = undefended if defended is None else defended
    last = robbed.points[-1]
    count = len(test.y)
    most_frequent = int(test.labels.mode().values)
    params = dict(settings["method"]) | {"training": dict(settings["training"])}
    params["training"].pop("_target_")
    if isinstance(heist.method, EquationSolving):
        del params["training"]
    report = None if defended is None else _defense_report(heist, defended, undefended)
    by_method = undefended.queries + (0 if defended is None else defended.queries)
    return {
        "method": _name(params.pop("_target_")),
        "params": params,
        "pool": _name(settings["pool"]["_target_"]),
        "queries": last.queries,
        "budget": settings["budget"],
        "measuring": heist.open_interface.queries - by_method,
        "counted": heist.open_interface.counted,
        "fidelity": last.figures.fidelity.model_dump(),
        "baseline_fidelity": rate(int((test.labels == most_frequent).sum()), count).model_dump(),
        "accuracy": last.figures.accuracy.model_dump(),
        "victim_accuracy": rate(int((test.labels == test.y).sum()), count).model_dump(),
        "transfer_success": robbed.transfer_success.model_dump(),
        "curve": [point.to_dict() for point in robbed.points] if settings["curve"] else [],
        "defense": report,
    }


def _defense_report(heist: Heist, defended: Robbed, undefended: Robbed) -> dict[str, Any]:
    """What the defense cost the thief, and honest users: they ask the test inputs, of an interface of their own."""
    settings, test = heist.settings["defense"], heist.test
    interface = Defended(heist.open_interface(None), build(with_secret(settings, noise_secret(heist.settings["seed"]))))
    # one request, so that a false alarm does not cut short what honest users are told
    honest = honest_use(test.answers, interface(test.x), test.y)
    return {
        "name": plain_target(settings),
        "params": {name: value for name, value in settings.items() if name not in ("_target_", "secret")},
        "undefended": undefended.points[-1].to_dict(),
        "undefended_transfer_success": undefended.transfer_success.model_dump(),
        "watches": isinstance(interface.defense, Watch),
        "alarm_after": defended.alarm_after,
        "honest": honest.to_dict() | {"false_alarm_after": interface.alarm_after},
    }


def _name(target: str) -> str:
    return target.rpartition(".")[2]
