"""A model behind HTTP, and the client that asks it. `server` needs the extra `serve`, so it is not imported here."""

from robustml.extraction.endpoint.http_victim import HttpVictim
from robustml.extraction.endpoint.limits import Limits

__all__ = ["HttpVictim", "Limits"]
