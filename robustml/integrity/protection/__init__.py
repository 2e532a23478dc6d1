"""Protected copies: encrypted shards in several places, any few of which restore every byte."""

from robustml.integrity.protection.protecting import Protected, protect, relative
from robustml.integrity.protection.restoring import Restored, restore

__all__ = ["Protected", "Restored", "protect", "relative", "restore"]
