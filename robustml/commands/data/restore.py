"""`robustml data restore places=[...] key=<folder> out=<folder>`: a protected set, bit-identical; places are healed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from robustml.commands.data.protect import Seconds
from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.entry import hydra_command
from robustml.say import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


class DataRestore(Asked):
    """What the config must hold."""

    places: list[str] = Field(default_factory=list)
    key: str = ""
    out: str | None = None
    manifest: str | None = None
    timeout: Seconds = 30.0


def restore(config: DictConfig) -> None:
    """Restore the set, and heal its places."""
    from robustml.workflows.integrity.restore import restore_data

    done = restore_data(
        list(config.places), config.key, config.out, manifest=config.manifest, timeout=float(config.timeout)
    )
    for place, wrong in done.wrong.items():
        say(f"place:    {place}: {wrong}{' (healed)' if place in done.healed else ''}")
    if not done.wrong:
        say("places:   all are good")
    for what, folder in (("set", config.out), ("manifest", config.manifest)):
        if folder is not None:
            say(f"{what + ':':<9} {folder}")
    if config.out is not None or config.manifest is not None:
        say(f"restored: {done.name}, version {done.version}: {len(done.files):,} files written, {done.intact:,} intact")
    if config.out is not None and config.manifest is None and any(name.startswith("manifest/") for name in done.others):
        say("note:     its manifest was protected, too: manifest=<folder> restores it")


def main() -> None:
    """Compose data_restore.yaml."""
    hydra_command(restore, "data_restore", DataRestore)


if __name__ == "__main__":
    main()
