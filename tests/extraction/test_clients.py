"""Who is refused, who is forgotten, and what an endpoint still knows when its disk is full."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustml.extraction import Defense, Prada, QueriesRefused
from robustml.extraction.endpoint.clients import EVERYONE, Clients, network_of
from robustml.extraction.endpoint.limits import Limits
from robustml.extraction.endpoint.query_log import QueryLog
from robustml.extraction.endpoint.service import ALARMS, Refusal, Service
from robustml.extraction.endpoint.turns import Crowded, Turns

LATTICE = torch.full((8, 12), 0.5) + torch.arange(8).unsqueeze(1) / 100
Alarms = list[tuple[str, int]]


def clients(model: nn.Module, alarms: Alarms, **bounds: int) -> Clients:
    return Clients(
        model.eval(), lambda: Prada(0.99, minimum=3), lambda client, after: alarms.append((client, after)), **bounds
    )


def honest() -> Tensor:
    return torch.rand(1, 12)


def test_an_alarm_outlives_any_number_of_other_addresses(linear_model: nn.Module) -> None:
    alarms: Alarms = []
    interface = clients(linear_model, alarms, most=10)
    interface("10.0.0.1", LATTICE)
    assert alarms == [("10.0.0.1", 5)]
    for number in range(50):
        interface(f"10.0.1.{number}", honest())
        interface(f"2001:db8:0:{number:x}::1", honest())
    with pytest.raises(QueriesRefused, match="attacker after 5"):
        interface("10.0.0.1", honest())
    assert len(interface._known) == 10


def test_no_alarm_gives_way_to_another(linear_model: nn.Module) -> None:
    """Once as many as may be kept are kept, clients that are not known are refused, and known ones are answered."""
    interface = clients(linear_model, [], most_alarms=3)
    interface("10.0.0.9", honest())
    for number in range(3):
        interface(f"10.0.0.{number}", LATTICE)
    with pytest.raises(QueriesRefused, match="does not know"):
        interface("10.0.0.77", honest())
    for number in range(3):
        with pytest.raises(QueriesRefused, match="attacker"):
            interface(f"10.0.0.{number}", honest())
    assert interface("10.0.0.9", honest()).shape == (1, 5)


def test_an_attacker_with_many_addresses_is_noticed_and_nobody_refused(linear_model: nn.Module) -> None:
    alarms: Alarms = []
    interface = clients(linear_model, alarms)
    for number, query in enumerate(LATTICE):
        interface(f"10.0.0.{number}", query[None])
    assert alarms == [(EVERYONE, 5)]
    assert interface("10.0.0.1", honest()).shape == (1, 5)
    for number, query in enumerate(LATTICE.repeat(1, 1) + 0.2):
        interface(f"10.0.1.{number}", query[None])
    assert [client for client, _ in alarms] == [EVERYONE] * 3, "of 17 queries, each five are an attacker's"


def test_what_is_remembered_of_queries_has_a_bound(linear_model: nn.Module) -> None:
    """Of clients with a record of 16 queries of 12 floats, only so many are remembered as fit."""
    interface = clients(linear_model, [], most_bytes=5 * 16 * 12 * 4)
    for number in range(20):
        interface(f"10.0.0.{number}", honest())
    assert list(interface._known) == [f"10.0.0.{number}" for number in range(15, 20)]
    assert interface._bytes == sum(interface._held.values()) == 5 * 16 * 12 * 4


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_network_is_one_client(address: str, network: str) -> None:
    assert network_of(address) == network


def watched(model: nn.Module, log: Path, make: Callable[[], Defense | None] = lambda: None) -> Service:
    return Service(model.eval(), (12,), 5, log=log, make_defense=make, limits=Limits(8))


def test_alarms_are_noted_in_a_file_of_their_own(
    linear_model: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = watched(linear_model, tmp_path / "log", lambda: Prada(0.99, minimum=3))
    service.predict(json.dumps({"inputs": LATTICE.tolist()}).encode(), "2001:db8::1")
    with pytest.raises(Refusal, match="attacker") as refusal:
        service.predict(b'{"inputs": [[0,0,0,0,0,0,0,0,0,0,0,0]]}', "2001:db8::2")
    assert refusal.value.status == 429
    (line,) = [json.loads(line) for line in (tmp_path / ALARMS).read_text().splitlines()]
    assert (line["client"], line["queries"]) == ("2001:db8::/64", 5)
    for number, query in enumerate(LATTICE):
        service.predict(json.dumps({"inputs": query[None].tolist()}).encode(), f"10.0.0.{number}")
    assert capsys.readouterr().err.count("taken together") == 1


def test_answers_go_on_when_the_log_cannot_be_written(
    linear_model: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = b'{"inputs": [[0,0,0,0,0,0,0,0,0,0,0,0]]}'
    service = watched(linear_model, tmp_path / "log")
    service.predict(body, "a")
    assert service.health("a") == {"status": "ok", "log_lost": 0, "answered": 1, "answered_to_you": 1}
    (tmp_path / "log").rename(tmp_path / "before")
    (tmp_path / "log").symlink_to("/dev/full")
    for _ in range(3):
        assert len(service.predict(body, "a")) == 1
    with pytest.raises(Refusal):
        service.predict(b"{", "b")
    assert service.health("b") == {"status": "log lost", "log_lost": 4, "answered": 4, "answered_to_you": 0}
    (tmp_path / "log").unlink()
    service.predict(body, "a")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2, "once when it is lost, once when it is back"
    assert "No space left" in said[0]
    assert "4 lines are lost" in said[1]
    gap, line = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert gap["lost"] == 4
    assert line["status"] == 200


def test_half_a_line_on_a_full_disk_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    whole = os.write
    log = QueryLog(tmp_path / "log")
    monkeypatch.setattr(os, "write", lambda file, content: whole(file, content[:10]))
    log.note(status=1)
    monkeypatch.setattr(os, "write", whole)
    log.note(status=2)
    half, gap, line = (tmp_path / "log").read_text().splitlines()
    assert len(half) == 10
    assert (json.loads(gap)["lost"], json.loads(line)["status"], log.lost) == (1, 2, 1)


def test_cheap_requests_and_new_clients_come_first() -> None:
    """One is worked on; of those that wait, the small one of the client that has no other comes next."""
    order: list[str] = []

    async def request(turns: Turns, name: str, client: str, size: int) -> None:
        async with turns.stay(client) as stay:
            stay.hold(size)
            async with turns.turn(stay, 5):
                order.append(name)
                await asyncio.sleep(0.001)

    async def all_of_them() -> None:
        turns = Turns(1, 2**30)
        await asyncio.gather(
            request(turns, "first", "attacker", 10),
            request(turns, "large", "attacker", 2**24),
            *[request(turns, "many", "attacker", 10) for _ in range(3)],
            request(turns, "honest", "other", 10),
        )
        assert (turns._free, turns._bytes, len(turns._here)) == (1, 0, 0)

    asyncio.run(all_of_them())
    assert order == ["first", "honest", "many", "many", "many", "large"]


def test_of_too_many_bytes_the_longest_body_is_turned_away() -> None:
    async def request(turns: Turns, size: int) -> str:
        async with turns.stay("a") as stay:
            try:
                async with stay.within(5):
                    for part in range(1, 11):
                        stay.hold(size * part // 10)
                        await asyncio.sleep(0)
                    await asyncio.sleep(0.02)
            except Crowded:
                return "crowded"
            return "read"

    async def all_of_them() -> list[str]:
        turns = Turns(1, 100)
        found = await asyncio.gather(request(turns, 30), request(turns, 70), request(turns, 20), request(turns, 40))
        assert turns._bytes == 0
        return found

    assert asyncio.run(all_of_them()) == ["read", "crowded", "read", "read"]


def test_whoever_waits_too_long_is_told() -> None:
    async def all_of_them() -> None:
        turns = Turns(1, 100)
        async with turns.stay("a") as working, turns.turn(working, 1), turns.stay("b") as waiting:
            with pytest.raises(Crowded, match=r"0\.01 s"):
                async with turns.turn(waiting, 0.01):
                    raise AssertionError("nobody has left")
        async with turns.stay("c") as next_one, turns.turn(next_one, 1):
            pass

    asyncio.run(all_of_them())
