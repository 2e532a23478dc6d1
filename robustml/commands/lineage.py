"""`robustml lineage run=<dir>`: where the model of a run comes from, and whether every link holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.entry import hydra_command
from robustml.say import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


class AskedLineage(Asked):
    """What the config must hold."""

    run: str = ""
    trust: str | None = None
    out: str | None = None


def show_lineage(config: DictConfig) -> int:
    """Print the steps, write them where `out` names a folder, and say how many links are broken."""
    from robustml.files import write_text
    from robustml.reporting.figures.lineage import lineage_picture
    from robustml.reporting.tables.lineage import lineage_text
    from robustml.results.reading import write_checked
    from robustml.workflows.lineage import lineage

    found = lineage(config.run, trust=config.trust)
    say(f"\n{lineage_text(found)}\n")
    if config.out is not None:
        folder = Path(config.out)
        write_checked(found, folder / "lineage.json")
        say(f"picture: {write_text(folder / 'lineage.svg', lineage_picture(found))}")
    broken = found.broken
    say("\n".join(f"broken: {line}" for line in broken) or "no link is broken")
    return len(broken)


def main() -> None:
    """Compose lineage.yaml; exit with 1 where a link is broken."""
    broken: list[int] = []
    hydra_command(lambda config: broken.append(show_lineage(config)), "lineage", AskedLineage)
    sys.exit(int(any(broken)))


if __name__ == "__main__":
    main()
