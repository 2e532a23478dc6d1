"""Serve a model over HTTP: ``POST /predict``, ``GET /``, ``GET /about`` and ``GET /health``: checked, limited, logged.

Needs FastAPI and uvicorn, the extra `serve`. Nothing that a client sends is unpickled, evaluated or written to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic_core import to_json
from starlette.exceptions import HTTPException as NoSuchPage
from starlette.requests import ClientDisconnect

from robustml.errors import RequestError
from robustml.extraction.endpoint.connections import Board, Watched
from robustml.extraction.endpoint.limits import Limits
from robustml.extraction.endpoint.query_log import warn
from robustml.extraction.endpoint.service import Refusal, Service
from robustml.extraction.endpoint.turns import Crowded, Stay, Turns

# While the model works on one request, the body of the next is read.
_AT_ONCE = 2
# As many as may be taken on in one turn of the loop, and as many as may wait for it in a flood.
_ACCEPTED, _BACKLOG = 64, 512
# Open files that are not connections: the log, modules, devices.
_OTHER_FILES = 128
_ASKED_BY = ('POST /predict {"inputs": [...]}', "GET /about", "GET /health")
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>robustml serve</title><style>body {{ font: 16px/1.5 system-ui; max-width: 40rem; margin: 3rem auto;
padding: 0 1rem }}</style><h1>robustml serve</h1><p>A trained model. {facts}</p><ul>{asked}</ul></html>
"""
# Not an answer that anybody gets: what is noted of a client that has hung up.
_HUNG_UP, _TOO_SLOW = 499, 408


def application(service: Service, board: Board | None = None) -> FastAPI:
    """The endpoints; no page of documentation, which would load scripts from elsewhere.

    Args:
        service: what answers.
        board: the connections, if they are watched, for ``/health`` to tell how many were dropped.
    """
    app = FastAPI(title="robustml serve", docs_url=None, redoc_url=None, openapi_url=None)
    limits = service.limits
    turns = Turns(_AT_ONCE, limits.held_bytes)
    workers = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="predict")

    @app.get("/")
    async def what_it_is(request: Request) -> Response:
        about = {"what": "robustml serve: a trained model", "asked by": list(_ASKED_BY)} | service.about()
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse(about)
        asked = "".join(f"<li><code>{each}</code></li>" for each in _ASKED_BY)
        shape = " x ".join(map(str, service.shape))
        facts = f"Inputs of shape {shape}, values in [0, 1]; {service.classes} classes."
        return HTMLResponse(_PAGE.format(facts=facts, asked=asked))

    @app.get("/about")
    async def about() -> dict[str, Any]:
        return service.about()

    @app.get("/health")
    async def health(request: Request) -> dict[str, Any]:
        return service.health(_client(request)) | {"dropped": 0 if board is None else board.dropped}

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        client = _client(request)
        try:
            async with turns.stay(client) as stay:
                body = await _body(request, stay, limits)
                async with turns.turn(stay, limits.wait_seconds):
                    if await request.is_disconnected():
                        raise ClientDisconnect
                    work = partial(_answer, service, body, client)
                    content = await asyncio.get_running_loop().run_in_executor(workers, work)
            return Response(content, media_type="application/json")
        except _Unread as unread:
            return _refused(unread.status, str(unread), client)
        except Refusal as refusal:  # noted where it was found
            return JSONResponse({"error": str(refusal)}, refusal.status)
        except ClientDisconnect:
            return _refused(_HUNG_UP, "the client has hung up", client)
        except Crowded as crowded:
            return _refused(503, str(crowded), client)
        except Exception as error:  # one line, and the server goes on
            warn(f"a request failed: {type(error).__name__}: {error}")
            return _refused(500, "the endpoint failed", client)

    @app.exception_handler(NoSuchPage)
    async def no_such_page(request: Request, error: Exception) -> Response:
        assert isinstance(error, NoSuchPage)
        return _refused(error.status_code, error.detail, _client(request))

    def _refused(status: int, reason: str, client: str) -> Response:
        service.note(client, status)
        # whoever has not sent a body in time is not waited for
        return JSONResponse({"error": reason}, status, {"connection": "close"} if status == _TOO_SLOW else None)

    return app


class _Unread(Refusal):
    """A request whose body was not read to its end."""


async def _body(request: Request, stay: Stay, limits: Limits) -> bytes:
    """The body of a request: its header may lie about the length.

    Raises:
        _Unread: it is too long, too slow, or packed.
    """
    too_long = _Unread(413, f"the body is longer than {limits.megabytes:g} MiB")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise _Unread(415, "a body that is packed is not read: leave out Content-Encoding")
    if (length := request.headers.get("content-length", "")).isdecimal() and int(length) > limits.body_bytes:
        raise too_long
    body = bytearray()
    try:
        async with stay.within(limits.body_seconds):
            async for part in request.stream():
                body += part
                if len(body) > limits.body_bytes:
                    raise too_long
                stay.hold(len(body))
    except TimeoutError as error:
        raise _Unread(_TOO_SLOW, f"the body did not arrive within {limits.body_seconds:g} s") from error
    return bytes(body)


def _answer(service: Service, body: bytes, client: str) -> bytes:
    return to_json({"probabilities": service.predict(body, client)})


def _client(request: Request) -> str:
    return request.client.host if request.client is not None else "unknown"


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
        bound.listen(_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        if bound is not None:
            bound.close()
        raise RequestError(f"cannot serve on {host}:{port}: {error}; choose another port=... or host=...") from error
    return bound


def serve(service: Service, bound: socket.socket) -> None:
    """Answer until SIGINT (Ctrl-C) or SIGTERM; requests under way are finished first."""
    # what clients do is counted and noted; on a terminal it would be theirs to fill
    for name in ("uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    board = Board(within_the_system(service.limits))
    config = uvicorn.Config(
        application(service, board),
        loop="asyncio",
        http=cast(Any, partial(Watched, board=board)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # behind no proxy of ours: what a client says of its address is not believed
        proxy_headers=False,
        backlog=_ACCEPTED,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    # thousands of connections a second are garbage, and looking for it would go through the model and torch each time
    gc.collect()
    gc.freeze()

    async def until_told() -> None:
        asyncio.get_running_loop().set_exception_handler(_Complaints())
        await server.serve(sockets=[bound])

    # uvicorn catches the signals while it runs and raises them once more when it has ended: then they find this
    with contextlib.ExitStack() as before:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before.callback(signal.signal, number, signal.signal(number, stop))
        asyncio.run(until_told())
    gc.unfreeze()


class _Server(uvicorn.Server):
    """uvicorn with a longer queue of connections: asyncio takes its length for the number to accept at once."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for bound in sockets or []:
            bound.listen(_BACKLOG)


def within_the_system(limits: Limits) -> Limits:
    """As many connections as there may be open files: accepting one more would fail, again and again."""
    try:
        import resource
    except ImportError:  # no such thing on Windows
        return limits
    wanted = limits.connections + _ACCEPTED + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    most = max(1, soft // 2, soft - _ACCEPTED - _OTHER_FILES)
    warn(f"limits.connections is {most}, not {limits.connections}: only {soft} files may be open (ulimit -n)")
    return replace(limits, connections=most)


class _Complaints:
    """What the event loop cannot tell anybody else, such as a connection that cannot be accepted: a line a minute."""

    def __init__(self) -> None:
        self._last, self._unsaid = -60.0, 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._unsaid += 1
        if time.monotonic() - self._last >= 60:
            what = f"{context.get('message')}: {context.get('exception')}"
            warn(what if self._unsaid == 1 else f"{what} ({self._unsaid:,} times since the last such line)")
            self._last, self._unsaid = time.monotonic(), 0
