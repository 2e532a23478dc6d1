"""`robustml keys trust store=<folder> key=<public.pem> name=<whose>`: believe what somebody signs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.entry import hydra_command

if TYPE_CHECKING:
    from omegaconf import DictConfig


class KeysTrust(Asked):
    """What the config must hold."""

    store: str = ""
    key: str = ""
    may: list[str] = Field(default_factory=list)


def trust(config: DictConfig) -> None:
    """Put the key into the store."""
    from robustml.workflows.integrity.keys import trust_key

    trust_key(Path(config.store), Path(config.key), config.name, list(config.may))


def main() -> None:
    """Compose keys_trust.yaml, and believe the key."""
    hydra_command(trust, "keys_trust", KeysTrust)


if __name__ == "__main__":
    main()
