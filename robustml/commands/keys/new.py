"""`robustml keys new out=<folder>`: a key that signs, and a trust store that believes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.entry import hydra_command

if TYPE_CHECKING:
    from omegaconf import DictConfig


class KeysNew(Asked):
    """What the config must hold."""

    name: str | None = None  # type: ignore[assignment]  # here it is whose key it is, by default the user's
    out: str = ""
    ask: bool = False


def new(config: DictConfig) -> None:
    """Make the key."""
    from robustml.workflows.integrity.keys import new_keys

    new_keys(Path(config.out), config.name, ask=config.ask)


def main() -> None:
    """Compose keys_new.yaml, and make the key."""
    hydra_command(new, "keys_new", KeysNew)


if __name__ == "__main__":
    main()
