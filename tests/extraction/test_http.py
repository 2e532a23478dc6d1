"""What a client of an endpoint has to put up with: a real server over loopback that answers as it is told."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

from robustml.errors import RequestError, RunFailed
from robustml.extraction import BudgetSpent, HttpVictim, QueriesRefused
from robustml.extraction.endpoint.exchange import Address

Answer = tuple[int, str]


class Endpoint(HTTPServer):
    """Counts the requests, and gives the answer that the test has set."""

    answer: Answer = (200, "")
    location = ""
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
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self) -> None:
        self.send_response(self.server.answer[0])
        self.end_headers()
        self.wfile.write(self.server.answer[1].encode())

    def handle(self) -> None:
        with suppress(OSError):  # a client that has heard enough
            super().handle()

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
    client = victim(budget=3)
    assert torch.equal(client(torch.rand(2, 4)), torch.tensor([[0.25, 0.75], [1, 0]], dtype=torch.float64))
    with pytest.raises(BudgetSpent):
        client(torch.rand(2, 4))
    assert (client.queries, endpoint.requests) == (2, 1)


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
        ((200, '{"probabilities": [[1e999, 0], [0, 1]]}'), "not finite"),
        ((200, '{"probabilities": [[true, false], [0, 1]]}'), "numbers"),
        ((200, '{"probabilities": [[' + "[]," * 200_000 + "[]]]}"), "lists"),
        ((200, '{"probabilities": [[0.5, 0.5], [' + "9" * 100_000 + ", 0]]}"), "JSON"),
        ((200, " " * (16 * 2**20 + 1)), "more than 16 MiB"),
        ((302, "there"), "redirects to"),
        ((500, '{"error": "out of order\\u0007"}'), "status 500: out of order"),
        ((404, "nothing here"), "status 404: nothing here"),
    ],
)
def test_nonsense_is_one_clear_line(
    answer: Answer, expected: str, endpoint: Endpoint, victim: Callable[..., HttpVictim]
) -> None:
    endpoint.answer = answer
    client = victim()
    with pytest.raises(RunFailed) as refusal:
        client(torch.rand(2, 4))
    assert expected in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert (client.queries, endpoint.requests) == (2, 1), "asked once, and paid for"


def test_status_429_is_a_refusal_that_keeps_what_was_heard(
    endpoint: Endpoint, victim: Callable[..., HttpVictim]
) -> None:
    endpoint.answer = 429, '{"error": "too many"}'
    with pytest.raises(QueriesRefused, match="too many"):
        victim()(torch.rand(2, 4))


def test_a_slow_endpoint(endpoint: Endpoint, victim: Callable[..., HttpVictim]) -> None:
    endpoint.delay = 0.5
    with pytest.raises(RunFailed, match="timed out"):
        victim(timeout=0.1)(torch.rand(1, 4))


def test_an_endpoint_that_is_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = HttpVictim(f"http://127.0.0.1:{port}")
    with pytest.raises(RunFailed, match="refused"):
        client(torch.rand(1, 4))
    with pytest.raises(RequestError, match="refused"):
        client.about()


DRIPS = {
    "before the status": (b"", b"H"),
    "in the status line": (b"HTTP/1.1 20", b"0"),
    "in a header": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "header after header": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "in the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b" "),
    "in a body without a length": (b"HTTP/1.0 200 OK\r\n\r\n", b" "),
    "chunk after chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "100 Continue without end": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("name", DRIPS)
def test_an_endpoint_that_drips(name: str) -> None:
    """Each byte comes well within the timeout, the whole answer never does."""
    head, drop = DRIPS[name]

    def drip() -> None:
        with listener, suppress(OSError):
            client, _ = listener.accept()
            with client:
                client.sendall(head)
                while True:
                    client.sendall(drop)
                    time.sleep(0.02)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=drip)
    port = listener.getsockname()[1]
    thread.start()
    started = time.monotonic()
    with pytest.raises(RunFailed, match="timed out"):
        HttpVictim(f"http://127.0.0.1:{port}", timeout=0.25)(torch.rand(1, 4))
    assert time.monotonic() - started < 2
    thread.join()


def test_a_redirect_leads_nowhere(endpoint: Endpoint, victim: Callable[..., HttpVictim]) -> None:
    """Not even to the endpoint itself, which would answer."""
    endpoint.answer = 307, '{"probabilities": [[0.5, 0.5]]}'
    endpoint.location = f"http://127.0.0.1:{endpoint.server_port}/elsewhere\u0007"
    with pytest.raises(RunFailed, match=r"elsewhere, .* not followed"):
        victim()(torch.rand(1, 4))
    assert endpoint.requests == 1


def test_no_proxy_of_the_environment_is_asked(
    endpoint: Endpoint, victim: Callable[..., HttpVictim], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.answer = 200, '{"probabilities": [[0.5, 0.5]]}'
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert victim()(torch.rand(1, 4)).tolist() == [[0.5, 0.5]]


def test_an_ipv6_address() -> None:
    class Six(Endpoint):
        address_family = socket.AF_INET6

    try:
        server = Six(("::1", 0), Handler)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        server.answer = 200, '{"probabilities": [[0.5, 0.5]]}'
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            client = HttpVictim(f"http://[::1]:{server.server_port}/")
            assert client(torch.rand(1, 4)).tolist() == [[0.5, 0.5]]
            assert client.url == f"http://[::1]:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("url", "expected", "host", "port"),
    [
        ("http://[::1]:8000/", "http://[::1]:8000", "::1", 8000),
        ("https://[FE80::1%25eth0]/models/7/", "https://[fe80::1%eth0]/models/7", "fe80::1%eth0", 443),
        ("HTTP://Example.COM:80", "http://example.com", "example.com", 80),
        ("http://h:8000/a%20b/é", "http://h:8000/a%20b/%C3%A9", "h", 8000),
        ("http://bücher.example", "http://xn--bcher-kva.example", "xn--bcher-kva.example", 80),
    ],
)
def test_addresses(url: str, expected: str, host: str, port: int) -> None:
    address = Address.of(url)
    assert (address.url, address.host, address.port) == (expected, host, port)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://host", "http://", "http://host:port", "127.0.0.1:80", "", "http://::1:8000",
        "http://[::1", "http://[::1]x:80", "http://[word]:80", "http://h:0", "http://h:99999", "http://h/?a=b",
        "http://h/#a", "http://h/a b", "http://h\r\nX: y/", "http://h:80:90", "http://%31:80", "http://h\\@i",
    ],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(RequestError, match=r"no address|no user"):
        HttpVictim(url)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(RequestError, match="no user and password") as refusal:
        HttpVictim("http://me:hidden@host:80")
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize("about", ["[]", '{"shape": [1, 8.5], "classes": 10}', '{"shape": [1, 8], "classes": "ten"}'])
def test_an_endpoint_that_does_not_tell_what_it_is(
    about: str, endpoint: Endpoint, victim: Callable[..., HttpVictim]
) -> None:
    endpoint.answer = 200, about
    with pytest.raises(RequestError, match="does not tell"):
        victim().about()
    endpoint.answer = 200, json.dumps({"shape": [1, 8], "classes": 10})
    assert victim().about() == ((1, 8), 10)
