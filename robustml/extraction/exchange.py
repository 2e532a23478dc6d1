"""One request and its answer, within a time and a size, whatever the other side does.

A timeout of a socket is one for each part of an answer: whoever sends a byte now and then keeps a client for ever. Here
every operation gets what is left of the time for all of them. No redirect is followed, and no proxy of the environment
is used: what is asked goes to the address that was named, and nowhere else.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.request import getproxies

from robustml.extraction.address import Address

__all__ = ["Unreachable", "exchange"]


class Unreachable(Exception):
    """No answer came: why not, in a few words."""


def exchange(
    address: Address, path: str, body: bytes | None, *, seconds: float, most: int
) -> tuple[int, str | None, bytes]:
    """POST `body`, or GET where it is None.

    Args:
        address: of the endpoint.
        path: to be added to its own.
        body: JSON.
        seconds: for everything: connecting, sending, and the whole answer.
        most: bytes of the answer; what comes after them is not read.

    Returns:
        The status, where a redirect points to, and the content, of which one byte more than `most` may be returned.

    Raises:
        Unreachable: it is down, too slow, or no HTTP.
    """
    connection = _Connection(address, time.monotonic() + seconds)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        headers |= {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
        connection.request("GET" if body is None else "POST", address.path + path, body, headers)
        response = connection.getresponse()
        return response.status, response.getheader("Location"), response.read(most + 1)
    except TimeoutError as error:
        raise Unreachable(f"timed out: no whole answer within {seconds:g} s{_proxies()}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise Unreachable((str(error) or type(error).__name__) + _proxies()) from error
    finally:
        connection.finish()


def _proxies() -> str:
    names = sorted(getproxies().keys() & {"http", "https", "all"})
    return f" (the {names[0]}_proxy of the environment is not used)" if names else ""


class _Connection(HTTPConnection):
    """A connection all of which ends by a time of the monotonic clock."""

    def __init__(self, address: Address, end: float) -> None:
        super().__init__(address.host, address.port)
        self.default_port = 443 if address.scheme == "https" else 80  # for the Host header
        self._address, self._end = address, end
        self._bare: socket.socket | None = None

    def connect(self) -> None:
        """To the first address of the name that answers."""
        failure: OSError = OSError("the name has no address")
        for family, kind, protocol, _, place in socket.getaddrinfo(
            self._address.host, self._address.port, type=socket.SOCK_STREAM
        ):
            bare = socket.socket(family, kind, protocol)
            try:
                bare.settimeout(_left(self._end))
                bare.connect(place)
                if self._address.scheme == "https":
                    bare = ssl.create_default_context().wrap_socket(bare, server_hostname=self._address.host)
            except OSError as error:
                bare.close()
                failure = error
                continue
            self._bare, self.sock = bare, _Timed(bare, self._end)
            return
        raise failure

    def finish(self) -> None:
        """Close the socket; `close` is called as soon as the head of an answer has arrived."""
        if self._bare is not None:
            self._bare.close()


class _Timed:
    """As much of a socket as http.client uses."""

    def __init__(self, bare: socket.socket, end: float) -> None:
        self._bare, self._end = bare, end

    def sendall(self, data: bytes) -> None:
        self._bare.settimeout(_left(self._end))  # which sendall takes for all of it
        self._bare.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Parts(self._bare, self._end))

    def close(self) -> None:
        """Leave that to `_Connection.finish`."""


class _Parts(io.RawIOBase):
    """What arrives at a socket. Closing it leaves the socket to its connection."""

    def __init__(self, bare: socket.socket, end: float) -> None:
        self._bare, self._end = bare, end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._bare.settimeout(_left(self._end))
        return self._bare.recv_into(buffer)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
