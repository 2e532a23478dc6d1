"""The server itself, over loopback."""

from __future__ import annotations

import asyncio
import json
import math
import resource
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import uvicorn
from torch import nn

from robustml.errors import RequestError
from robustml.extraction import Defense, HttpVictim, Limits, ModelVictim, Prada, QueriesRefused, Rounding
from robustml.extraction.endpoint import server
from robustml.extraction.endpoint.server import application, listen
from robustml.extraction.endpoint.service import Refusal, Service


@contextmanager
def serving(service: Service) -> Iterator[str]:
    bound = listen("127.0.0.1", 0)
    running = uvicorn.Server(
        uvicorn.Config(application(service), http="h11", ws="none", lifespan="off", log_config=None)
    )
    thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()


@pytest.fixture
def service(linear_model: nn.Module, tmp_path: Path) -> Callable[..., Service]:
    def make(make_defense: Callable[[], Defense | None] = lambda: None, limits: Limits = Limits(8, 0.01)) -> Service:  # noqa: B008
        return Service(linear_model.eval(), (12,), 5, log=tmp_path / "log", make_defense=make_defense, limits=limits)

    return make


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def test_it_answers_what_the_model_answers(
    service: Callable[..., Service], linear_model: nn.Module, tmp_path: Path
) -> None:
    x = torch.rand(8, 12, generator=torch.Generator().manual_seed(1))
    with serving(service()) as url:
        victim = HttpVictim(url, budget=8)
        assert victim.about() == ((12,), 5)
        answers = victim(x)
    # JSON carries every bit of a float32
    assert torch.equal(answers.float(), ModelVictim(linear_model)(x))
    (line,) = lines(tmp_path)
    assert (line["n"], line["status"], line["client"]) == (8, 200, "127.0.0.1")
    assert set(line) == {"time", "client", "n", "status", "digest"}


def test_its_address_says_what_it_is(service: Callable[..., Service]) -> None:
    with serving(service()) as url:
        plain = json.loads(urllib.request.urlopen(url).read())
        page = urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": "text/html"})).read().decode()
    assert (plain["shape"], plain["classes"]) == ([12], 5)
    assert "5 classes" in page
    assert "POST /predict {" in page


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"\x80\x04]q\x00.", 400, "not JSON"),
        (b"[" * 5000, 400, "not JSON"),
        (b"[1, 2]", 422, '"inputs"'),
        (b'{"inputs": []}', 422, "at least one"),
        (b'{"inputs": [[1, 2]]}', 422, "shape [12]"),
        (json.dumps({"inputs": [[0.5] * 12, [0.5] * 11]}).encode(), 422, "shape [12]"),
        (json.dumps({"inputs": [["0.5"] * 12]}).encode(), 422, "numbers"),
        (json.dumps({"inputs": [[True] * 12]}).encode(), 422, "numbers"),
        (json.dumps({"inputs": [[float("nan")] * 12]}).encode(), 422, "finite"),
        (json.dumps({"inputs": [[1.5] * 12]}).encode(), 422, "[0, 1]"),
        (json.dumps({"inputs": [[10**400] * 12]}).encode(), 422, "numbers"),
        (json.dumps({"inputs": [[0.5] * 12] * 9}).encode(), 413, "at most 8"),
        (b" " * 20_000, 413, "longer than 0.01 MiB"),
    ],
)
def test_what_is_no_request_is_refused_and_noted(
    body: bytes, status: int, reason: str, service: Callable[..., Service], tmp_path: Path
) -> None:
    with serving(service()) as url:
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"{url}/predict", data=body, timeout=5)
        with refusal.value as response:
            assert response.code == status
            assert reason in json.load(response)["error"]
    (line,) = lines(tmp_path)
    assert (line["n"], line["status"]) == (0, status)


def test_a_body_without_a_length_is_cut_off(service: Callable[..., Service]) -> None:
    with serving(service()) as url, socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall((b"2000\r\n" + b" " * 0x2000 + b"\r\n") * 2)
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_the_defense_stands_in_front_of_the_model(service: Callable[..., Service], linear_model: nn.Module) -> None:
    x = torch.rand(4, 12)
    with serving(service(lambda: Rounding(1))) as url:
        answers = HttpVictim(url)(x)
    assert torch.equal(answers, Rounding(1)(x, ModelVictim(linear_model)(x)))


def test_a_client_under_alarm_is_refused(service: Callable[..., Service], tmp_path: Path) -> None:
    x = torch.full((8, 12), 0.5) + torch.arange(8).unsqueeze(1) / 100
    with serving(service(lambda: Prada(0.99, minimum=3))) as url:
        victim = HttpVictim(url)
        victim(x)
        with pytest.raises(QueriesRefused, match="attacker"):
            victim(x)
    assert [line["status"] for line in lines(tmp_path)] == [200, 429]


def test_a_model_that_fails_is_a_failure_of_the_server(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :2] * torch.nan

    service = Service(Broken(), (3,), 2, log=tmp_path / "log", make_defense=lambda: None, limits=Limits())
    with pytest.raises(Refusal, match="not finite") as refusal:
        service.predict(b'{"inputs": [[0, 0.5, 1]]}', "a")
    assert refusal.value.status == 500
    assert [line["status"] for line in lines(tmp_path)] == [500]


def test_each_client_has_a_watch_of_its_own(service: Callable[..., Service]) -> None:
    body = json.dumps({"inputs": (torch.full((8, 12), 0.5) + torch.arange(8).unsqueeze(1) / 100).tolist()}).encode()
    watched = service(lambda: Prada(0.99, minimum=3))
    watched.predict(body, "a")
    assert len(watched.predict(body, "b")) == 8


def test_a_port_that_is_taken() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(RequestError, match="in use"):
        listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inputs", 0), ("inputs", 1.5), ("inputs", True), ("megabytes", 0.0), ("megabytes", math.nan),
        ("connections", 0), ("header_seconds", -1), ("body_seconds", math.inf), ("wait_seconds", "long"),
    ],
)  # fmt: skip
def test_limits_that_let_nothing_through(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=rf"limits\.{name} must be"):
        Limits(**{name: value})  # type: ignore[arg-type]


def test_no_more_connections_than_open_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accepting one that the system has no room for fails, and is tried again for ever."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 1024))
    raised: list[object] = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: raised.append(pair))
    assert server.within_the_system(Limits()) == Limits(), "512 connections and some files fit into 1,024"
    assert raised == [(704, 1024)]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 256))
    assert server.within_the_system(Limits()) == Limits(connections=128)
    assert capsys.readouterr().err.count("\n") == 1


def test_the_loop_complains_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(server._Complaints())
    for _ in range(1000):
        loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": OSError(24)})
    loop.close()
    assert capsys.readouterr().err.count("\n") == 1
