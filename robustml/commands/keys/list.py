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
    """Print a line a key."""
    from robustml.integrity.trust import read_trust

    keys = read_trust(Path(config.store)).keys
    rows = [(key.signer.name, ", ".join(key.may), key.file, key.signer.fingerprint) for key in keys]
    rows.insert(0, ("name", "may sign", "file", "fingerprint"))
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    say("\n".join("  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows))


def main() -> None:
    """Compose keys_list.yaml, and list."""
    hydra_command(keys_of, "keys_list", KeysList)


if __name__ == "__main__":
    main()
