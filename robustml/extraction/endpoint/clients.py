"""Who asks an endpoint, and what its defense remembers of each: bounded, and no alarm is ever forgotten for room.

A client is an IPv4 address, or the /64 network of an IPv6 address, since whoever has one address there has all of them.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustml.extraction.victim import Defense, ModelVictim, QueriesRefused, Victim, Watch

EVERYONE = "everyone"


class Clients:
    """The interface that each client talks to.

    A watch has one record a client. Of more clients, or of more bytes of their queries, than may be remembered, the one
    not seen for longest is forgotten, unless there was an alarm over it: alarms are kept apart, and once there are as
    many as may be kept, clients that are not known are refused instead of one being forgotten.

    An attacker with many addresses is below every threshold of one client. So a further record takes all clients
    together that there is no alarm over. What it finds is told, and nobody is refused for it: else any attacker could
    shut out everyone. It is told about a mixture, and may well miss an attacker among many honest users.

    Args:
        model: inputs (N, *shape) in [0, 1] to logits (N, classes), in eval mode.
        make_defense: gives what stands in front of it; None for nothing.
        alarmed: called with the client, or `EVERYONE`, and how many queries there had been.
        most: clients to remember.
        most_bytes: of their queries.
        most_alarms: clients to refuse.
    """

    def __init__(
        self,
        model: nn.Module,
        make_defense: Callable[[], Defense | None],
        alarmed: Callable[[str, int], None],
        *,
        most: int = 1000,
        most_bytes: int = 2**29,
        most_alarms: int = 100_000,
    ) -> None:
        self._model, self._make_defense, self._alarmed = model, make_defense, alarmed
        self._most, self._most_bytes, self._most_alarms = most, most_bytes, most_alarms
        self._known: OrderedDict[str, Victim] = OrderedDict()
        self._held: dict[str, int] = {}
        self._bytes = 0
        self._alarms: dict[str, int] = {}
        self._together = self._make_defense()

    def asked(self, address: str) -> int:
        """How many inputs a client was answered, as far as it is remembered."""
        client = network_of(address)
        known = self._known.get(client)
        return self._alarms.get(client, 0) if known is None else known.queries

    def __call__(self, address: str, x: Tensor) -> Tensor:
        """The answer (N, C) to a client's inputs (N, *shape).

        Raises:
            QueriesRefused: there is an alarm over this client.
        """
        client = network_of(address)
        if client in self._alarms:
            raise QueriesRefused(f"the interface took its client for an attacker after {self._alarms[client]} queries")
        if client not in self._known and len(self._alarms) >= self._most_alarms:
            raise QueriesRefused("the interface took too many clients for attackers to answer one it does not know")
        interface = self._known.get(client) or ModelVictim(self._model, defense=self._make_defense())
        answer = interface(x)
        if interface.alarm_after is not None:
            self._alarms[client] = interface.alarm_after
            self._forget(client)
            self._alarmed(client, interface.alarm_after)
        else:
            self._look_at_all(x, answer)
            self._remember(client, interface)
        return answer

    def _remember(self, client: str, interface: Victim) -> None:
        self._known[client] = interface
        self._known.move_to_end(client)
        held = interface.defense.held if isinstance(interface.defense, Watch) else 0
        self._bytes += held - self._held.get(client, 0)
        self._held[client] = held
        # the one that asks now is kept, however much that is: a watch has a bound of its own
        while len(self._known) > 1 and (len(self._known) > self._most or self._bytes > self._most_bytes):
            self._forget(next(iter(self._known)))

    def _forget(self, client: str) -> None:
        self._known.pop(client, None)
        self._bytes -= self._held.pop(client, 0)

    @torch.no_grad()
    def _look_at_all(self, x: Tensor, answer: Tensor) -> None:
        if not isinstance(self._together, Watch):
            return
        self._together(x, answer)
        if self._together.alarm_after is not None:
            self._alarmed(EVERYONE, self._together.alarm_after)
            self._together = self._make_defense()  # the next attacker is to be noticed as well


def network_of(address: str) -> str:
    """What a client is known by: its IPv4 address, the /64 of its IPv6 address, or the name itself if it is neither."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
