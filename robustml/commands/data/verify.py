"""`robustml data verify data=... manifest=<folder> trust=<folder>`: is it what was signed, and which record is not.

Exit status 1 where a record or file is not as signed, or where the manifest is signed by nobody who is trusted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.asked import Asked, Count
from robustml.commands.hydra.entry import hydra_command
from robustml.say import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


class DataVerify(Asked):
    """What the config must hold."""

    manifest: str = ""
    trust: str | None = None
    unsigned: bool = False
    out: str | None = None
    most: Count = 1


def verify(config: DictConfig) -> bool:
    """Compare the set with the manifest; whether all is as signed."""
    from robustml.commands.hydra.composing import plain
    from robustml.reporting.pages.integrity import check_out, write_comparison
    from robustml.reporting.tables.integrity import change_lines, verified_line
    from robustml.workflows.integrity.diff import pictures_of
    from robustml.workflows.integrity.verify import verify_data
    from robustml.workflows.preparing import described_data

    settings = plain(config)
    out = check_out(None if settings["out"] is None else Path(settings["out"]))
    data = described_data(settings["data"])
    found = verify_data(
        data.source, settings["manifest"], settings["trust"], unsigned=settings["unsigned"], name=data.name
    )
    if out is not None:
        write_comparison(found, out, pictures_of(found, data.source) if out.suffix != ".json" else {})
    for line in [*change_lines(found, settings["most"], settings["out"]), verified_line(found)]:
        say(line)
    return found.same and not found.old.trouble


def main() -> None:
    """Compose data_verify.yaml."""
    as_signed: list[bool] = []
    hydra_command(lambda config: as_signed.append(verify(config)), "data_verify", DataVerify)
    if not all(as_signed):
        sys.exit(1)


if __name__ == "__main__":
    main()
