"""`robustml data protect data=... places=[...] need=4 key=<folder>`: encrypted copies, any few of which suffice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from robustml.commands.hydra.asked import Asked, Count
from robustml.commands.hydra.entry import hydra_command
from robustml.say import say

if TYPE_CHECKING:
    from omegaconf import DictConfig

Seconds = Annotated[float, Field(gt=0)]


class DataProtect(Asked):
    """What the config must hold."""

    places: list[str] = Field(default_factory=list)
    need: Count = 1
    key: str = ""
    manifest: str | None = None
    timeout: Seconds = 30.0


def protect(config: DictConfig) -> None:
    """Protect the set."""
    from robustml.commands.hydra.composing import plain
    from robustml.workflows.integrity.protect import protect_data
    from robustml.workflows.preparing import described_data

    asked = plain(config)
    data = described_data(asked["data"])
    done = protect_data(
        data.source,
        asked["places"],
        asked["need"],
        asked["key"],
        name=asked["name"] or data.name,
        manifest=asked["manifest"],
        timeout=asked["timeout"],
    )
    if done.new_key is not None:
        say(
            f"key:       {done.new_key} was made: keep it, apart from the places; without it nobody can restore the set"
        )
    count, need = len(asked["places"]), asked["need"]
    say(f"protected: {done.name}, version {done.version}: {done.files:,} files, {done.size:,} bytes")
    say(f"places:    {count}, any {need} of which suffice: {count - need} may be lost, or lie; {done.stored:,} bytes")


def main() -> None:
    """Compose data_protect.yaml."""
    hydra_command(protect, "data_protect", DataProtect)


if __name__ == "__main__":
    main()
