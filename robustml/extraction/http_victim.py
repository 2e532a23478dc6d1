"""A victim behind HTTP: what `robustml serve` offers, or anything that answers alike."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from robustml.errors import RequestError
from robustml.extraction.victim import QueriesRefused, QueryMeter, check_answer

__all__ = ["HttpVictim"]

_LONGEST_ANSWER = 64 * 2**20
_TOO_MANY_REQUESTS = 429


class HttpVictim:
    """Asks ``POST <url>/predict`` with ``{"inputs": [...]}``, and is told ``{"probabilities": [...]}``.

    A request is sent once: whoever counts queries must not repeat them unseen.

    Args:
        url: the address, ``http://`` or ``https://``; ``/predict`` is added to it.
        budget: how many inputs may be asked; None for any number.
        timeout: seconds to wait for an answer.
        batch_size: how many inputs one request should hold.

    Raises:
        RequestError: no such address or budget; when called, an endpoint that is down or slow, or an answer that
            cannot be one.
    """

    def __init__(self, url: str, *, budget: int | None = None, timeout: float = 10.0, batch_size: int = 64) -> None:
        try:
            address = urlsplit(url)
            sound = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:
            sound = False
        # urllib would open file:// as well
        if not sound:
            raise RequestError(f"victim={url!r} is no address: expected http://<host>:<port> or https://...")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.batch_size = batch_size
        self._meter = QueryMeter(budget)

    @property
    def queries(self) -> int:
        """How many inputs were asked so far."""
        return self._meter.queries

    @property
    def remaining(self) -> int:
        """How many may still be asked."""
        return self._meter.remaining

    def __call__(self, x: Tensor) -> Tensor:
        """Probabilities (N, C), float64, on the device of `x` (N, ...), from one request.

        Raises:
            BudgetSpent: N is more than remain; nothing was sent.
            QueriesRefused: the endpoint answers this client no longer (status 429).
        """
        self._meter.spend(len(x))
        body = json.dumps({"inputs": x.detach().cpu().tolist()}).encode()
        answer = self._fetch("/predict", body)
        if not isinstance(answer, dict) or "probabilities" not in answer:
            raise RequestError(f'{self.url}/predict answered without "probabilities"; is it a robustml serve?')
        try:
            values = np.asarray(answer["probabilities"])
        except ValueError as error:
            raise RequestError(f"{self.url}/predict answered with rows of several lengths") from error
        if values.dtype.kind not in "fi":
            raise RequestError(f"{self.url}/predict answered with something else than numbers as probabilities")
        probabilities = torch.from_numpy(values.astype(np.float64)).to(x.device)
        check_answer(probabilities, len(x), f"{self.url}/predict")
        return probabilities

    def about(self) -> tuple[tuple[int, ...], int]:
        """The shape of one input, and the number of classes, as ``GET <url>/about`` tells them.

        Raises:
            RequestError: the endpoint is down, or does not tell.
        """
        answer = self._fetch("/about")
        shape, classes = (answer.get("shape"), answer.get("classes")) if isinstance(answer, dict) else (None, None)
        if not isinstance(shape, list) or not all(type(size) is int for size in shape) or type(classes) is not int:
            raise RequestError(f'{self.url}/about does not tell "shape" and "classes"; is it a robustml serve?')
        return tuple(shape), classes

    def _fetch(self, path: str, body: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        request = urllib.request.Request(self.url + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                content = response.read(_LONGEST_ANSWER + 1)
        except urllib.error.HTTPError as error:
            with error:
                reason = _reason(error)
            if error.code == _TOO_MANY_REQUESTS:
                raise QueriesRefused(f"{self.url} answers no longer: {reason}") from error
            raise RequestError(f"{self.url}{path} refused with status {error.code}: {reason}") from error
        except (OSError, HTTPException) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
            raise RequestError(f"{self.url}{path} cannot be reached: {reason}") from error
        if len(content) > _LONGEST_ANSWER:
            raise RequestError(f"{self.url}{path} answered with more than {_LONGEST_ANSWER >> 20} MiB")
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{self.url}{path} answered with something else than JSON") from error


def _reason(error: urllib.error.HTTPError) -> str:
    """What the endpoint says of a refusal, in a line that cannot flood a terminal."""
    text = error.read(2000).decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"])
    return "".join(letter if letter.isprintable() else " " for letter in text)[:200] or "no reason given"
