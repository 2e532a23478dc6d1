"""The address of an endpoint: http or https, a name or an IPv4 or IPv6 address, a port, and a path before its pages."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from robustml.errors import RequestError

__all__ = ["Address"]

# What a path may hold as it is: what is percent-encoded already stays so.
_SAFE = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True)
class Address:
    """Where an endpoint listens.

    Args:
        scheme: ``"http"`` or ``"https"``.
        host: a name in ASCII, or an address without brackets.
        port: 1 to 65535.
        path: ``""``, or what stands in front of ``/predict``, beginning with a slash and percent-encoded.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str = ""

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
        try:
            parts = urlsplit(url)
            port, host = parts.port, _host(parts.netloc)
            if parts.scheme not in ("http", "https") or port == 0 or not url.isprintable() or set(url) & set(" ?#\\"):
                raise ValueError(url)
        except ValueError as error:
            raise RequestError(
                f"victim={url!r} is no address: expected http://<host>:<port>, https://..., or http://[<IPv6>]:<port>"
            ) from error
        standard = 443 if parts.scheme == "https" else 80
        path = quote(parts.path.rstrip("/"), safe=_SAFE)
        return Address("https" if parts.scheme == "https" else "http", host, port or standard, path)

    def __str__(self) -> str:
        """The URL again, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        standard = 443 if self.scheme == "https" else 80
        return f"{self.scheme}://{host}{'' if self.port == standard else f':{self.port}'}{self.path}"


def _host(place: str) -> str:
    """The host of ``<host>:<port>`` or ``[<IPv6>]:<port>``, in ASCII and without brackets.

    Raises:
        ValueError: it is none.
    """
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        if rest and not rest.startswith(":"):
            raise ValueError(place)
        host = unquote(host)  # a zone is written as %25eth0
        return str(ipaddress.IPv6Address(host))
    host, _, rest = place.partition(":")
    host = (host if host.isascii() else host.encode("idna").decode()).lower()
    if not host or ":" in rest or any(letter in host for letter in "%[]"):
        raise ValueError(place)
    return host
