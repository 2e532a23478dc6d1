"""`robustml trojan run=<dir>`: put a TrojanNet beside the model of a run, and measure what it does there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from robustml.commands.evaluate import Evaluate
from robustml.commands.hydra.asked import Count
from robustml.commands.hydra.of_a_run import command_on_a_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

_OF_THE_NET = ("which", "place", "weight", "temperature", "width", "steps")
_PASSED_ON = (*_OF_THE_NET, "limit", "batch_size", "seed", "device")


class Trojan(Evaluate):
    """What the config must hold."""

    place: list[int] = Field(default_factory=list)
    weight: float = 0.0
    temperature: float = 0.0
    width: int = 1
    steps: int = 1
    limit: Count | None = None
    batch_size: Count = 1


def trojan_run(config: DictConfig) -> None:
    """Build what the config names, and put the TrojanNet beside the run."""
    from robustml.commands.hydra.composing import prepared
    from robustml.workflows.settings.building import build
    from robustml.workflows.trojan import trojan

    settings, data, out = prepared(config, config.run)
    passed = {name: settings[name] for name in _PASSED_ON}
    trojan(settings["run"], data, build(settings["threat"], "threat"), out=out, settings=settings, **passed)


def main() -> None:
    """Restore the run's settings and compose trojan.yaml over them."""
    command_on_a_run(trojan_run, "trojan", Trojan)


if __name__ == "__main__":
    main()
