"""What an endpoint that strangers can reach has to put up with: real sockets over loopback, an honest client beside."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import uvicorn
from torch import nn

from robustml.errors import RunFailed
from robustml.extraction import HttpVictim
from robustml.extraction.endpoint.connections import Board, Watched
from robustml.extraction.endpoint.limits import Limits
from robustml.extraction.endpoint.server import application, listen
from robustml.extraction.endpoint.service import Service

QUICK = Limits(8, 0.5, connections=64, header_seconds=0.4, body_seconds=0.4, wait_seconds=5)
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
BODY = json.dumps({"inputs": [[0.5] * 12]}).encode()
WHOLE = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@dataclass
class Served:
    """A running endpoint."""

    port: int
    board: Board
    log: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def says(self, content: bytes) -> bytes:
        """What it answers to some bytes, until it closes the connection or nothing comes for half a second."""
        heard = b""
        with self.connect() as client:
            client.settimeout(0.5)
            try:
                client.sendall(content)
                while part := client.recv(65536):
                    heard += part
            except OSError:
                pass
        return heard

    def honest(self) -> float:
        """How long an honest client waits for a right answer, in seconds."""
        started = time.monotonic()
        answer = HttpVictim(f"http://127.0.0.1:{self.port}", timeout=5)(torch.full((1, 12), 0.5))
        assert answer.shape == (1, 5)
        return time.monotonic() - started

    def answers_in_the_end(self) -> bool:
        """Whether an honest client is answered, and not told that everybody is being answered just now (503)."""
        try:
            self.honest()
        except RunFailed as error:
            if "status 503" not in str(error):
                raise
            return False
        return True

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def waits_for(self, condition: Callable[[], bool]) -> None:
        for _ in range(300):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError("it did not happen within three seconds")


@contextmanager
def serving(model: nn.Module, log: Path, limits: Limits) -> Iterator[Served]:
    board = Board(limits)
    service = Service(model.eval(), (12,), 5, log=log, make_defense=lambda: None, limits=limits)
    http = cast(Any, partial(Watched, board=board))
    config = uvicorn.Config(
        application(service, board), http=http, ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    bound = listen("127.0.0.1", 0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield Served(bound.getsockname()[1], board, log)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def served(linear_model: nn.Module, tmp_path: Path) -> Iterator[Served]:
    with serving(linear_model, tmp_path / "log", QUICK) as found:
        yield found


HALVES = {
    "no head": b"",
    "half a head": b"POST /pre",
    "half a header": POST + b"X: ",
    "no body": POST + b"Content-Length: 100\r\n\r\n",
    "half a body": POST + b"Content-Length: 100\r\n\r\n{",
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n9\r\n{",
    "a whole request and half another": WHOLE + b"POST /pre",
    "a body that is refused already": POST + b"Content-Length: 99999999\r\n\r\n",
}


@pytest.mark.parametrize("half", HALVES)
def test_half_sent_requests_do_not_keep_others_out_and_are_dropped(half: str, served: Served) -> None:
    """Three times as many as connections are allowed."""
    with ExitStack() as clients:
        for _ in range(200):
            client = clients.enter_context(served.connect())
            client.sendall(HALVES[half])
        served.waits_for(served.answers_in_the_end)
        assert served.board.dropped >= 200 - QUICK.connections
        # and nobody new has to come for the others to be closed
        served.waits_for(lambda: not served.board._open)
    assert served.honest() < 3


@pytest.mark.parametrize(
    ("content", "status", "noted"),
    [
        (b"GET /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, 405),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, 404),
        (b"POST /predict HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY, 200, 200),
        (POST + b"Content-Type: text/xml\r\nConnection: close\r\n" + WHOLE.removeprefix(POST), 200, 200),
        (POST + b"Content-Length: 10\r\n\r\n{", 408, 408),
        (POST + b"Content-Length: 999999999\r\n\r\n{", 413, 413),
        (POST + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\n{", 415, 415),
        (POST + b"Content-Length: -1\r\n\r\n", 400, None),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{", 400, None),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, 499),
        (b"\x16\x03\x01 no HTTP at all\r\n\r\n", 400, None),
        (b"GET /about HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 400, None),
        (b"GET /about HTTP/1.1\r\nHost: x\r\n" + b"x: y\r\n" * 20_000 + b"\r\n", 400, None),
    ],
)
def test_odd_requests_are_answered_and_noted(content: bytes, status: int, noted: int | None, served: Served) -> None:
    heard = served.says(content)
    assert heard.startswith(b"HTTP/1.1 %d " % status), heard[:100]
    assert served.honest() < 3
    statuses = [line["status"] for line in served.lines()]
    assert statuses == ([200] if noted is None else [noted, 200])


def test_a_client_that_hangs_up_leaves_a_line_and_nothing_else(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    for content in (POST + b"Content-Length: 100\r\n\r\n{", WHOLE):
        with served.connect() as client:
            client.sendall(content)
            time.sleep(0.05)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    served.waits_for(lambda: served.log.exists() and len(served.lines()) == 2)
    assert sorted(line["status"] for line in served.lines()) == [200, 499]
    assert capfd.readouterr() == ("", "")


def test_a_body_in_tiny_chunks_is_cut_off(served: Served) -> None:
    chunks = b"1\r\n \r\n" * 8000
    assert b"200 OK" not in served.says(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert served.board.dropped == 1
    # those of a sensible size are read
    chunk = b"%x\r\n%b\r\n" % (len(BODY), BODY)
    padding = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    body = padding * 10 + chunk + b"0\r\n\r\n"
    head = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert served.says(head + body).startswith(b"HTTP/1.1 200 ")


def test_a_body_without_end_is_refused_and_its_connection_closed(served: Served) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with served.connect() as client:
        client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError, match=r"reset|pipe"):
            client.sendall(chunk * 1600)  # 100 MiB
    served.waits_for(lambda: bool(served.lines()))
    assert [line["status"] for line in served.lines()] == [413]


def test_thousands_of_requests_ahead_are_not_worked_off(served: Served) -> None:
    answers = served.says(WHOLE * 3000)
    assert 1 <= answers.count(b"HTTP/1.1 200 ") < 200
    assert served.honest() < 3


def test_whoever_does_not_read_its_answer_is_dropped(linear_model: nn.Module, tmp_path: Path) -> None:
    body = json.dumps({"inputs": [[0.5] * 12] * 2000}).encode()
    limits = Limits(2000, 1, connections=8, header_seconds=0.2, body_seconds=0.2)
    with serving(linear_model, tmp_path / "log", limits) as served, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        client.connect(("127.0.0.1", served.port))
        request = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
        client.sendall(request)
        served.waits_for(lambda: served.log.exists() and len(served.lines()) == 1)
        served.waits_for(lambda: not served.board._open)


def costly(kind: str, size: int) -> bytes:
    """A body of `size` bytes whose reading would cost as much as possible."""
    part = {
        "empty lists": b"[],",
        "nested lists": b"[",
        "objects": b"{},",
        "strings": b'"",',
        "zeros": b"0,",
        "long integers": b"1" * 4000 + b",",
        "keys": b'{"a":',
    }[kind]
    return b'{"inputs": [' + part * (size // len(part))


@pytest.mark.parametrize(
    "kind", ["empty lists", "nested lists", "objects", "strings", "zeros", "long integers", "keys"]
)
def test_what_a_body_costs_is_known_before_it_is_read(kind: str, linear_model: nn.Module, tmp_path: Path) -> None:
    """8 MiB of them; 15 MiB of empty lists took 16 seconds, and the lock with them."""
    from robustml.extraction.endpoint.service import Refusal

    service = Service(linear_model.eval(), (12,), 5, log=tmp_path / "log", make_defense=lambda: None, limits=Limits())
    body = costly(kind, 2**23)
    started = time.process_time()
    with pytest.raises(Refusal) as refusal:
        service.parse(body)
    assert refusal.value.status in (400, 413)
    assert time.process_time() - started < 0.5


def test_bodies_are_read_while_the_model_works(tmp_path: Path) -> None:
    """A request that is none is refused at once, whatever keeps the model busy."""
    working, leave = threading.Event(), threading.Event()

    class Busy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            working.set()
            assert leave.wait(5)
            return x[:, :5]

    with serving(Busy(), tmp_path / "log", QUICK) as served:
        first = threading.Thread(target=served.honest)
        first.start()
        assert working.wait(5)
        assert served.says(POST + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}").startswith(b"HTTP/1.1 422 ")
        leave.set()
        first.join()
