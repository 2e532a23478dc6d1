"""What an endpoint does, apart from HTTP: read a request's body, ask the model through the defense, and note it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustml.errors import RequestError
from robustml.extraction.endpoint.clients import EVERYONE, Clients
from robustml.extraction.endpoint.limits import Limits
from robustml.extraction.endpoint.query_log import QueryLog, warn
from robustml.extraction.endpoint.wire import Misshapen, TooMany, lists_in, read_json, rectangle
from robustml.extraction.victim import Defense, QueriesRefused

ALARMS = "alarms.jsonl"
_NOTHING = torch.empty(0)


class Refusal(Exception):
    """A request that is not answered: the HTTP status, and what was wrong with it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Service:
    """The answers of an endpoint.

    Args:
        model: images (N, *shape) in [0, 1] to logits (N, classes), in eval mode.
        shape: of one input.
        classes: how many there are.
        log: the file that queries are noted in, a JSON object a line: time, client, n, status, digest. Alarms of a
            watching defense go into `ALARMS` beside it: time, client, queries.
        make_defense: gives what stands in front of the model, for each client its own; None for nothing.
        limits: how much one request may hold.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        shape: Sequence[int],
        classes: int,
        *,
        log: Path,
        make_defense: Callable[[], Defense | None],
        limits: Limits,
    ) -> None:
        self.shape = tuple(shape)
        self.classes = classes
        self.limits = limits
        self.answered = 0
        """How many inputs were answered, to all clients."""
        self.log = QueryLog(log)
        self._alarms = QueryLog(Path(log).with_name(ALARMS))
        self._device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self._clients = Clients(model, make_defense, self._alarm)
        # Bodies are read on several threads. The model and what a watch remembers belong to one at a time.
        self._lock = threading.Lock()

    def about(self) -> dict[str, Any]:
        """What a client has to know."""
        return {"shape": list(self.shape), "classes": self.classes, "max_inputs": self.limits.inputs}

    def health(self, client: str) -> dict[str, Any]:
        """Whether queries are noted, and how many inputs were answered: to all clients, and to the one that asks."""
        lost = self.log.lost + self._alarms.lost
        return {
            "status": "log lost" if lost else "ok",
            "log_lost": lost,
            "answered": self.answered,
            "answered_to_you": self._clients.asked(client),
        }

    def predict(self, body: bytes, client: str) -> list[list[float]]:
        """The probabilities for the inputs in a request's body.

        Raises:
            Refusal: the body is no request, or the defense refuses this client.
        """
        x, status = _NOTHING, 500
        try:
            x = self.parse(body)
            with self._lock:
                answer = self._clients(client, x.to(self._device)).cpu()
                self.answered += len(x)
            status = 200
        except QueriesRefused as error:
            status = 429
            raise Refusal(status, str(error)) from error
        except RequestError as error:  # such as a model that turns some input into NaN
            raise Refusal(status, str(error)) from error
        except Refusal as refusal:
            status = refusal.status
            raise
        except Exception as error:  # such as a device that is out of memory: the next request may fare better
            warn(f"the model failed: {type(error).__name__}: {error}")
            raise Refusal(status, "the model failed") from error
        finally:
            self.note(client, status, x)
        return answer.tolist()

    def note(self, client: str, status: int, x: Tensor = _NOTHING) -> None:
        """Add a line to the log: of inputs, it holds a digest."""
        digest = hashlib.sha256(x.numpy().tobytes()).hexdigest()
        self.log.note(client=client, n=len(x), status=status, digest=f"sha256:{digest}")

    def parse(self, body: bytes) -> Tensor:
        """The inputs (N, *shape), float32 in [0, 1], of a body ``{"inputs": [...]}``.

        Raises:
            Refusal: 400 what is no JSON; 413 too many inputs; 422 anything else than finite numbers of that shape and
                range.
        """
        most, each = self.limits.inputs, list(self.shape)
        try:
            content = read_json(body, lists=1 + most * lists_in(self.shape), numbers=most * torch.Size(each).numel())
        except TooMany as error:
            raise Refusal(413, f"{error}: at most {most} inputs of shape {each} are allowed in one request") from error
        except Misshapen as error:
            raise Refusal(400, f"the body is not JSON of numbers: {error}") from error
        inputs = content.get("inputs") if isinstance(content, dict) else None
        if not isinstance(inputs, list) or not inputs:
            raise Refusal(422, 'expected {"inputs": [...]} with at least one input')
        if len(inputs) > most:
            raise Refusal(413, f"{len(inputs)} inputs in one request, at most {most} are allowed")
        try:
            values = rectangle(inputs, self.shape)
        except Misshapen as error:
            raise Refusal(422, f"the inputs cannot be read: {error}") from error
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 1):
            if not torch.from_numpy(values).isfinite().all():
                raise Refusal(422, "expected finite numbers, got NaN or infinity")
            raise Refusal(422, f"expected values in [0, 1], got {low:.4g} to {high:.4g}")
        return torch.from_numpy(values).float()

    def _alarm(self, client: str, queries: int) -> None:
        self._alarms.note(client=client, queries=queries)
        if client == EVERYONE:
            text = f"taken together, clients without an alarm look like an attacker after {queries:,} queries"
            warn(f"{text}; nobody is refused for it")
