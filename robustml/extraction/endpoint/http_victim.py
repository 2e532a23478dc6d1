"""A victim behind HTTP: what `robustml serve` offers, or anything that answers alike."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import torch
from torch import Tensor

from robustml.errors import RequestError, RunFailed, printable
from robustml.extraction.endpoint.exchange import Address, Unreachable, exchange
from robustml.extraction.endpoint.wire import Misshapen, read_json, rectangle
from robustml.extraction.victim import QueriesRefused, Victim, check_answer

_LONGEST_ANSWER = 16 * 2**20
_TOO_MANY_REQUESTS = 429
# More classes than any model tells apart: an answer that holds more is none.
_MOST_CLASSES = 100_000


class HttpVictim(Victim):
    """Asks ``POST <url>/predict`` with ``{"inputs": [...]}``, and is told ``{"probabilities": [...]}``.

    A request is sent once, whatever becomes of it: whoever counts queries must not repeat them unseen. Redirects are
    not followed, and proxies of the environment are not used. Probabilities are float64, on the device of the inputs.

    Args:
        url: the address, ``http://`` or ``https://``, IPv6 in brackets; ``/predict`` is added to it.
        budget: how many inputs may be asked; None for any number.
        timeout: seconds for a request and its whole answer.
        batch_size: how many inputs one request should hold.

    Raises:
        RequestError: no such address or budget.
        RunFailed: when called, an endpoint that is down or slow, or an answer that cannot be one.
    """

    def __init__(self, url: str, *, budget: int | None = None, timeout: float = 10.0, batch_size: int = 64) -> None:
        super().__init__(budget, batch_size)
        self.address = Address.of(url)
        if not (timeout > 0 and math.isfinite(timeout) and batch_size >= 1):
            raise RequestError(f"timeout must be above 0 and batch_size at least 1, got {timeout} and {batch_size}")
        self.url = self.address.url
        self.timeout = timeout

    def _answer(self, x: Tensor) -> Tensor:
        body = json.dumps({"inputs": x.detach().cpu().tolist()}).encode()
        content = self._ask("/predict", body, lists=1 + len(x), numbers=len(x) * _MOST_CLASSES)
        if not isinstance(content, dict) or "probabilities" not in content:
            raise RunFailed(f'{self.url}/predict answered without "probabilities"; is it a robustml serve?')
        rows = content["probabilities"]
        try:
            lengths = {len(row) if isinstance(row, list) else 0 for row in rows} if isinstance(rows, list) else {0}
            if len(lengths) > 1:
                raise Misshapen("rows of several lengths")
            probabilities = torch.from_numpy(rectangle(rows, tuple(lengths)))
            check_answer(probabilities, len(x), f"{self.url}/predict")
        except Misshapen as error:
            raise RunFailed(f"{self.url}/predict answered with probabilities that cannot be read: {error}") from error
        except RequestError as error:
            raise RunFailed(str(error)) from error
        return probabilities.to(x.device)

    def about(self) -> tuple[tuple[int, ...], int]:
        """The shape of one input, and the number of classes, as ``GET <url>/about`` tells them.

        Raises:
            RequestError: the endpoint is down, or does not tell: there is none at this address.
        """
        try:
            answer = self._ask("/about", lists=1, numbers=100)
        except RunFailed as error:
            raise RequestError(str(error)) from error
        shape, classes = (answer.get("shape"), answer.get("classes")) if isinstance(answer, dict) else (None, None)
        if not isinstance(shape, list) or not all(_is_count(size) for size in (*shape, classes)):
            raise RequestError(f'{self.url}/about does not tell "shape" and "classes"; is it a robustml serve?')
        return tuple(shape), int(classes or 0)

    def counted(self) -> int | None:
        """How many inputs the endpoint itself says that it has answered to us, ever; None where it does not tell."""
        try:
            answer = self._ask("/health", lists=1, numbers=100)
        except RunFailed:
            return None
        count = answer.get("answered_to_you") if isinstance(answer, dict) else None
        return count if _is_count(count) or count == 0 else None

    def _ask(self, path: str, body: bytes | None = None, *, lists: int, numbers: int) -> Any:
        """What an endpoint answers, read as JSON of so many lists and numbers at most.

        Raises:
            QueriesRefused: it refuses this client.
            RunFailed: it does not answer, or something else.
        """
        place = f"{self.url}{path}"
        try:
            status, elsewhere, content = exchange(self.address, path, body, seconds=self.timeout, most=_LONGEST_ANSWER)
        except Unreachable as error:
            raise RunFailed(f"{place} cannot be reached: {error}") from error
        if status == _TOO_MANY_REQUESTS:
            raise QueriesRefused(f"{self.url} answers no longer: {_reason(content)}")
        if 300 <= status < 400:
            where = _in_a_line(elsewhere or "nowhere")
            raise RunFailed(f"{place} redirects to {where}, which is not followed: name that address as the victim")
        if status != 200:
            raise RunFailed(f"{place} refused with status {status}: {_reason(content)}")
        if len(content) > _LONGEST_ANSWER:
            raise RunFailed(f"{place} answered with more than {_LONGEST_ANSWER >> 20} MiB")
        try:
            return read_json(content, lists=lists, numbers=numbers)
        except Misshapen as error:
            raise RunFailed(f"{place} answered with something else than JSON of the kind expected: {error}") from error


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value < 2**63


def _reason(content: bytes) -> str:
    """What the endpoint says of a refusal."""
    text = content[:2000].decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        text = str(json.loads(text)["error"])
    return _in_a_line(text) or "no reason given"


def _in_a_line(text: str) -> str:
    """What cannot flood a terminal."""
    return printable(" ".join(text.split()))[:200]
