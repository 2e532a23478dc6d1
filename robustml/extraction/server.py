"""Serve a model over HTTP: ``POST /predict`` and ``GET /about``, checked, limited and logged.

Needs FastAPI and uvicorn, the extra `serve`. Nothing that a client sends is unpickled, evaluated or written to the log:
of inputs, it holds a digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import signal
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from torch import Tensor

from robustml.errors import RequestError
from robustml.extraction.defences import Defence, Defended
from robustml.extraction.victim import ModelVictim, QueriesRefused, Victim

__all__ = ["Limits", "Refusal", "Service", "listen", "serve"]

# A watching defence keeps a record a client: of more clients than this, the one not seen for longest is forgotten.
_MOST_CLIENTS = 1000


@dataclass(frozen=True)
class Limits:
    """How much one request may hold.

    Args:
        inputs: how many inputs.
        megabytes: how long the body, in MiB.

    Raises:
        RequestError: a limit that lets nothing through.
    """

    inputs: int = 256
    megabytes: float = 16.0

    def __post_init__(self) -> None:
        """Refuse what would refuse everything."""
        if self.inputs < 1 or not self.megabytes > 0:
            raise RequestError(
                f"limits.inputs must be at least 1 and limits.megabytes above 0, got {self.inputs} and {self.megabytes}"
            )


class Refusal(Exception):
    """A request that is not answered: the HTTP status, and what was wrong with it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Service:
    """What the endpoints do, apart from HTTP.

    Args:
        model: images (N, *shape) in [0, 1] to logits (N, classes), in eval mode.
        shape: of one input.
        classes: how many there are.
        log: the file that queries are noted in, a JSON object a line: time, client, n, status, digest.
        make_defence: gives what stands in front of the model, for each client its own; None for nothing.
        limits: how much one request may hold.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        shape: Sequence[int],
        classes: int,
        *,
        log: Path,
        make_defence: Callable[[], Defence | None],
        limits: Limits,
    ) -> None:
        self.shape = tuple(shape)
        self.classes = classes
        self.limits = limits
        self._model = model
        self._device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self._log = log
        self._make_defence = make_defence
        self._clients: OrderedDict[str, Victim] = OrderedDict()
        # requests run on several threads, a watch's record and the log line belong to one at a time
        self._lock = threading.Lock()

    def about(self) -> dict[str, Any]:
        """What a client has to know."""
        return {"shape": list(self.shape), "classes": self.classes, "max_inputs": self.limits.inputs}

    def predict(self, body: bytes, client: str) -> list[list[float]]:
        """The probabilities for the inputs in a request's body.

        Raises:
            Refusal: the body is no request, or the defence refuses this client.
        """
        with self._lock:
            x, status = torch.empty(0), 500
            try:
                x = self.parse(body)
                answer = self._interface(client)(x.to(self._device))
                status = 200
            except QueriesRefused as error:
                status = 429
                raise Refusal(status, str(error)) from error
            except RequestError as error:  # such as a model that turns some input into NaN
                raise Refusal(status, str(error)) from error
            except Refusal as refusal:
                status = refusal.status
                raise
            finally:
                self._note(client, status, x)
        return answer.tolist()

    def too_long(self, client: str) -> Refusal:
        """A request whose body is cut off unread; noted like any other."""
        with self._lock:
            self._note(client, 413, torch.empty(0))
        return Refusal(413, f"the body is longer than {self.limits.megabytes:g} MiB")

    def parse(self, body: bytes) -> Tensor:
        """The inputs (N, *shape), float32 in [0, 1], of a body ``{"inputs": [...]}``.

        Raises:
            Refusal: 400 what is no JSON; 413 too many inputs; 422 anything else than finite numbers of that shape and
                range.
        """
        try:
            content = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, "the body is not JSON") from error
        inputs = content.get("inputs") if isinstance(content, dict) else None
        if not isinstance(inputs, list) or not inputs:
            raise Refusal(422, 'expected {"inputs": [...]} with at least one input')
        if len(inputs) > self.limits.inputs:
            raise Refusal(413, f"{len(inputs)} inputs in one request, at most {self.limits.inputs} are allowed")
        try:
            values = np.asarray(inputs)
        except ValueError as error:
            raise Refusal(422, f"the inputs are not all of shape {list(self.shape)}") from error
        if values.dtype.kind not in "fi" or values.shape[1:] != self.shape:
            raise Refusal(422, f"expected numbers of shape {list(self.shape)} for each input")
        if not np.isfinite(values).all():
            raise Refusal(422, "expected finite numbers, got NaN or infinity")
        if values.min() < 0 or values.max() > 1:
            raise Refusal(422, f"expected values in [0, 1], got {values.min():.4g} to {values.max():.4g}")
        return torch.from_numpy(values.astype(np.float32))

    def _interface(self, client: str) -> Victim:
        """What this client talks to."""
        interface = self._clients.pop(client, None)
        if interface is None:
            defence = self._make_defence()
            victim = ModelVictim(self._model)
            interface = victim if defence is None else Defended(victim, defence)
        self._clients[client] = interface
        if len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        return interface

    def _note(self, client: str, status: int, x: Tensor) -> None:
        digest = hashlib.sha256(x.numpy().tobytes()).hexdigest()
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": client,
            "n": len(x),
            "status": status,
            "digest": f"sha256:{digest}",
        }
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def application(service: Service) -> FastAPI:
    """The endpoints; no page of documentation, which would load scripts from elsewhere."""
    app = FastAPI(title="robustml serve", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/about")
    def about() -> dict[str, Any]:
        return service.about()

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        client = request.client.host if request.client is not None else "unknown"
        try:
            body = await _body(request, math.floor(service.limits.megabytes * 2**20))
            if body is None:
                raise service.too_long(client)
            probabilities = await run_in_threadpool(service.predict, body, client)
        except Refusal as refusal:
            return JSONResponse({"error": str(refusal)}, refusal.status)
        return JSONResponse({"probabilities": probabilities})

    return app


async def _body(request: Request, most: int) -> bytes | None:
    """The body of a request, None where it is longer than `most` bytes: its header may lie about that."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            return None
    return bytes(body)


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections from now on.

    Args:
        host: name or address to bind to.
        port: its port; 0 for any that is free.

    Raises:
        RequestError: it cannot be bound.
    """
    bound = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()
    except (OSError, OverflowError) as error:
        if bound is not None:
            bound.close()
        raise RequestError(f"cannot serve on {host}:{port}: {error}; choose another port=... or host=...") from error
    return bound


def serve(service: Service, bound: socket.socket) -> None:
    """Answer until SIGINT (Ctrl-C) or SIGTERM; requests under way are finished first."""
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    config = uvicorn.Config(
        application(service),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # behind no proxy of ours: what a client says of its address is not believed
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn catches the signals while it runs and raises them once more when it has ended: then they find this
    with contextlib.ExitStack() as before:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before.callback(signal.signal, number, signal.signal(number, stop))
        server.run(sockets=[bound])
