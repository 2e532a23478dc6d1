"""One request and its answer, within a time and a size, whatever the other side does.

A timeout of a socket is one for each part of an answer: whoever sends a byte now and then keeps a client for ever. So
the exchange runs in a thread that is waited for so long and no longer. No redirect is followed, and no proxy of the
environment is used: what is asked goes to the address that was named, and nowhere else.
"""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.request import getproxies

from pydantic import AnyHttpUrl, TypeAdapter

from robustml.errors import RequestError

# The zone of a link-local address, which URL parsers do not know: http://[fe80::1%25eth0]
_ZONE = re.compile(r"(?<=:)(\w*)%25([\w.-]+)\]")


class Unreachable(Exception):
    """No answer came: why not, in a few words."""


class Answer(NamedTuple):
    """Of an endpoint: the status, where a redirect points to, and the content."""

    status: int
    location: str | None
    content: bytes


class Address(NamedTuple):
    """Where an endpoint listens: `host` without brackets, `path` what stands in front of ``/predict``, or ``""``."""

    scheme: str
    host: str
    port: int
    path: str
    url: str

    @staticmethod
    def of(url: str) -> Address:
        """The parts of a URL such as ``http://[::1]:8000/models/7``.

        Raises:
            RequestError: it is none, has another scheme, a query, or a name and password, which would be written into
                the config of the run.
        """
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise RequestError(
                "victim=<URL> takes no user and password: they would be written into the config of the run"
            )
        zone = f"%{found[2]}" if (found := _ZONE.search(url)) else ""
        plain = _ZONE.sub(r"\1]", url)
        try:
            parts = TypeAdapter(AnyHttpUrl).validate_python(plain)
            strange = not url.isprintable() or set(url) & set(" ?#\\") or "%" in plain.split("/")[2]
            if strange or not parts.port or not parts.host:
                raise ValueError(url)
        except ValueError as error:
            raise RequestError(
                f"victim={url!r} is no address: expected http://<host>:<port>, https://..., or http://[<IPv6>]:<port>"
            ) from error
        host, path = parts.host.strip("[]") + zone, (parts.path or "").rstrip("/")
        return Address(parts.scheme, host, parts.port, path, str(parts).rstrip("/").replace("]", f"{zone}]"))


def exchange(address: Address, path: str, body: bytes | None, *, seconds: float, most: int) -> Answer:
    """POST `body`, or GET where it is None.

    Args:
        address: of the endpoint.
        path: to be added to its own.
        body: JSON.
        seconds: for everything: connecting, sending, and the whole answer.
        most: bytes of the answer; of what comes after them, one is read.

    Raises:
        Unreachable: it is down, too slow, or no HTTP.
    """
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    connection = kind(address.host, address.port, timeout=seconds)
    outcome: list[Answer | Exception] = []
    opened: list[socket.socket] = []

    def ask() -> None:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
        try:
            connection.connect()
            opened.append(connection.sock)
            kind = {} if body is None else {"Content-Type": "application/json"}
            connection.request("GET" if body is None else "POST", address.path + path, body, headers | kind)
            response = connection.getresponse()
            outcome.append(Answer(response.status, response.getheader("Location"), response.read(most + 1)))
        except Exception as error:
            outcome.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    found = outcome[0] if outcome else TimeoutError()
    for bare in opened:  # so that a thread that still reads comes to its end
        with suppress(OSError):
            socket.socket.shutdown(bare, socket.SHUT_RDWR)
    if isinstance(found, Answer):
        return found
    proxies = sorted(getproxies().keys() & {"http", "https", "all"})
    unused = f" (the {proxies[0]}_proxy of the environment is not used)" if proxies else ""
    if isinstance(found, TimeoutError):
        raise Unreachable(f"timed out: no whole answer within {seconds:g} s{unused}") from found
    if isinstance(found, (OSError, HTTPException, ValueError)):
        raise Unreachable((str(found) or type(found).__name__) + unused) from found
    raise found
