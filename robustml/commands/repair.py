"""`robustml repair run=<dir> method=fine_pruning`: make a model forget its backdoor, and measure whether it did."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from robustml.commands.hydra.asked import Count, OfARun
from robustml.commands.hydra.of_a_run import command_on_a_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

_PASSED_ON = ("which", "clean", "images", "twin", "reactivation", "seed", "device")


class Repair(OfARun):
    """What the config must hold."""

    twin: bool = True
    clean: Literal["val", "test"] | None = None
    images: Count | None = None
    reactivation: Count = 1
    method: dict[str, Any] = Field(default_factory=dict)


def repair(config: DictConfig) -> None:
    """Repair the model of the run into a run directory of its own."""
    from robustml.commands.hydra.composing import prepared
    from robustml.workflows.repair import repair
    from robustml.workflows.run import load_model, load_run
    from robustml.workflows.settings.building import build

    settings, data, out = prepared(config, config.run)
    passed = {name: settings[name] for name in _PASSED_ON}
    method = settings["method"]
    other = {} if method.get("other") is None else {"other": load_model(method["other"])}
    made = build({key: value for key, value in method.items() if key != "other"}, "method", **other)
    repair(load_run(settings["run"]), made, data, out=out, settings=settings, **passed)


def main() -> None:
    """Restore the run's settings and compose repair.yaml over them."""
    # Repairs are the options of the group repair, and `method` is what everybody calls the one that is chosen.
    sys.argv = [re.sub(r"^method=", "repair@method=", word) for word in sys.argv]
    command_on_a_run(repair, "repair", Repair)


if __name__ == "__main__":
    main()
