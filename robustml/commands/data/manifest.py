"""`robustml data manifest data=... out=<folder>`: what every record of a set is, by its digests."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.entry import hydra_command
from robustml.say import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


class DataManifest(Asked):
    """What the config must hold."""

    out: str = ""
    source: str = ""
    licence: str = ""
    revision: str = ""
    decoded: bool | None = None


def manifest(config: DictConfig) -> None:
    """Make the manifest."""
    from robustml.commands.hydra.composing import plain
    from robustml.workflows.integrity.manifest import make_manifest
    from robustml.workflows.preparing import described_data

    settings = plain(config)
    data = described_data(settings["data"])
    made = make_manifest(
        data.source,
        settings["out"],
        name=data.name,
        origin=settings["source"],
        licence=settings["licence"],
        revision=settings["revision"],
        decoded=settings["decoded"],
    )
    for name, part in made.parts.items():
        classes = ", ".join(f"{label} {count}" for label, count in list(part.classes.items())[:12])
        more = f", and {len(part.classes) - 12} classes more" if len(part.classes) > 12 else ""
        say(f"{name + ':':<9}{part.records:,} records; {classes}{more}")
    say(f"files:   {len(made.files):,}, {sum(file.size for file in made.files):,} bytes")
    say(f"root:    {made.root}")
    command = f"robustml data sign {shlex.quote('manifest=' + settings['out'])} key=keys"
    say(f"serial:  {made.serial}; sign it: {command}")


def main() -> None:
    """Compose data_manifest.yaml."""
    hydra_command(manifest, "data_manifest", DataManifest)


if __name__ == "__main__":
    main()
