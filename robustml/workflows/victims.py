"""The victim of an extraction, opened anew for each budget: a run's model, a model of the user's, or an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from robustml.data import DataModule
from robustml.errors import RequestError
from robustml.extraction import Defense, HttpVictim, ModelVictim, Victim
from robustml.models import as_module
from robustml.workflows.run import Run, load_model


def is_address(victim: object) -> bool:
    """Whether a victim is named by the address of an endpoint."""
    return isinstance(victim, str) and "://" in victim


class Victims:
    """Gives a victim anew, with a budget and a defense, and adds up what all of them were asked.

    Args:
        victim: a run, an address, or a model.
        data: what it must be for.
        device: where a model runs.
        which: weights of a run.
        timeout: of an endpoint: seconds for a request and its whole answer.
        batch_size: of an endpoint: inputs in one request.

    Raises:
        RequestError: there is no such victim, or it is for other data.
    """

    def __init__(
        self,
        victim: Run | str | Callable[[Tensor], Tensor],
        data: DataModule,
        device: torch.device,
        *,
        which: Literal["best", "last"],
        timeout: float,
        batch_size: int,
    ) -> None:
        self.model: nn.Module | None = None
        """Where it is at hand."""
        self._timeout, self._batch_size = timeout, batch_size
        self._address = str(victim)
        self._opened: list[Victim] = []
        if isinstance(victim, str):
            self._refuse_other_data(data)
        else:
            self.model = (self._of_a_run(victim, which) if isinstance(victim, Run) else as_module(victim)).to(device)
        self._before = self._told()

    def __call__(self, budget: int | None = None, defense: Defense | None = None) -> Victim:
        """The victim, with a budget of its own; an endpoint has the defense that it was started with."""
        victim: Victim = (
            self._endpoint(budget) if self.model is None else ModelVictim(self.model, budget=budget, defense=defense)
        )
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

    @staticmethod
    def _of_a_run(run: Run, which: Literal["best", "last"]) -> nn.Module:
        return run.model if which == "best" else load_model(run.path, which, trust=run.trust)

    def _told(self) -> int | None:
        return self.queries if self.model is not None else self._endpoint().counted()

    def _endpoint(self, budget: int | None = None) -> HttpVictim:
        return HttpVictim(self._address, budget=budget, timeout=self._timeout, batch_size=self._batch_size)

    def _refuse_other_data(self, data: DataModule) -> None:
        timeout, batch_size = self._timeout, self._batch_size
        if not (isinstance(timeout, (int, float)) and timeout > 0 and isinstance(batch_size, int) and batch_size > 0):
            raise RequestError(f"timeout and batch_size must be above 0, got {timeout!r} and {batch_size!r}")
        told, known = self._endpoint().about(), (tuple(data.shape), data.num_classes)
        if told != known:
            raise RequestError(
                f"{self._address} takes inputs of shape {told[0]} and tells {told[1]} classes apart, but {data.name} "
                f"has shape {known[0]} and {known[1]} classes: choose its data with data=..."
            )
