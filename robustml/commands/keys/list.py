"""`robustml keys list store=<folder>`: whose signatures count, and for what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.entry import hydra_command
from robustml.say import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


class KeysList(Asked):
    """What the config must hold."""

    store: str = ""


def keys_of(config: DictConfig) -> None:
    """Print each key, and its fingerprint below it."""
    from robustml.integrity.trust import read_trust

    for key in read_trust(Path(config.store)).keys:
        say(f"{key.signer.name}: may sign {', '.join(key.may)}; {key.file}\n  {key.signer.fingerprint}")


def main() -> None:
    """Compose keys_list.yaml, and list."""
    hydra_command(keys_of, "keys_list", KeysList)


if __name__ == "__main__":
    main()
