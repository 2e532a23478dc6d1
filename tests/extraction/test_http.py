"""What a client of an endpoint has to put up with: a real server over loopback that answers as it is told."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

from robustml.errors import RequestError
from robustml.extraction import BudgetSpent, HttpVictim, QueriesRefused

Answer = tuple[int, str]


class Endpoint(HTTPServer):
    """Counts the requests, and gives the answer that the test has set."""

    answer: Answer = (200, "")
    requests = 0
    delay = 0.0


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        self.server.requests += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.delay)
        status, body = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self) -> None:
        self.send_response(self.server.answer[0])
        self.end_headers()
        self.wfile.write(self.server.answer[1].encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def victim(endpoint: Endpoint) -> Callable[..., HttpVictim]:
    return lambda **options: HttpVictim(f"http://127.0.0.1:{endpoint.server_port}/", **options)


def test_a_sound_answer(endpoint: Endpoint, victim: Callable[..., HttpVictim]) -> None:
    endpoint.answer = 200, '{"probabilities": [[0.25, 0.75], [1, 0]]}'
    thief = victim(budget=3)
    assert torch.equal(thief(torch.rand(2, 4)), torch.tensor([[0.25, 0.75], [1, 0]], dtype=torch.float64))
    with pytest.raises(BudgetSpent):
        thief(torch.rand(2, 4))
    assert (thief.queries, endpoint.requests) == (2, 1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, "<html>"), "something else than JSON"),
        ((200, "[" * 100_000), "something else than JSON"),
        ((200, "[1]"), '"probabilities"'),
        ((200, '{"probabilities": [[0.5, 0.5]]}'), "(2, classes)"),
        ((200, '{"probabilities": [[0.5, 0.5], [1]]}'), "several lengths"),
        ((200, '{"probabilities": [["a", "b"], ["c", "d"]]}'), "numbers"),
        ((200, '{"probabilities": [[NaN, 1], [0, 1]]}'), "not finite"),
        ((200, '{"probabilities": [[0.5, 0.4], [0, 1]]}'), "sums to 0.9"),
        ((200, '{"probabilities": [[5, -4], [0, 1]]}'), "[0, 1]"),
        ((200, '{"probabilities": null}'), "numbers"),
        ((500, '{"error": "out of order\\u0007"}'), "status 500: out of order "),
        ((404, "nothing here"), "status 404: nothing here"),
    ],
)
def test_nonsense_is_one_clear_line(
    answer: Answer, expected: str, endpoint: Endpoint, victim: Callable[..., HttpVictim]
) -> None:
    endpoint.answer = answer
    thief = victim()
    with pytest.raises(RequestError) as refusal:
        thief(torch.rand(2, 4))
    assert expected in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert (thief.queries, endpoint.requests) == (2, 1), "asked once, and paid for"


def test_status_429_is_a_refusal_that_keeps_what_was_heard(
    endpoint: Endpoint, victim: Callable[..., HttpVictim]
) -> None:
    endpoint.answer = 429, '{"error": "thief"}'
    with pytest.raises(QueriesRefused, match="thief"):
        victim()(torch.rand(2, 4))


def test_a_slow_endpoint(endpoint: Endpoint, victim: Callable[..., HttpVictim]) -> None:
    endpoint.delay = 0.5
    with pytest.raises(RequestError, match="timed out"):
        victim(timeout=0.1)(torch.rand(1, 4))


def test_an_endpoint_that_is_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    thief = HttpVictim(f"http://127.0.0.1:{port}")
    with pytest.raises(RequestError, match="refused"):
        thief(torch.rand(1, 4))
    with pytest.raises(RequestError, match="refused"):
        thief.about()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host", "http://", "http://host:port", "127.0.0.1:80", ""])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(RequestError, match="no address"):
        HttpVictim(url)


@pytest.mark.parametrize("about", ["[]", '{"shape": [1, 8.5], "classes": 10}', '{"shape": [1, 8], "classes": "ten"}'])
def test_an_endpoint_that_does_not_tell_what_it_is(
    about: str, endpoint: Endpoint, victim: Callable[..., HttpVictim]
) -> None:
    endpoint.answer = 200, about
    with pytest.raises(RequestError, match="does not tell"):
        victim().about()
    endpoint.answer = 200, json.dumps({"shape": [1, 8], "classes": 10})
    assert victim().about() == ((1, 8), 10)
