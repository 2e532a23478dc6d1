"""`robustml feedback data=...`: a filter that learns from its users' reports, and an attacker among the users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustml.commands.hydra.asked import Asked, Count, Share
from robustml.commands.hydra.entry import hydra_command

if TYPE_CHECKING:
    from omegaconf import DictConfig

_OPTIONS = ("spam", "rounds", "share", "first", "shuffle", "seed")


class Feedback(Asked):
    """What the config must hold."""

    rounds: Count = 1
    first: Count = 1
    share: Share = 0.0
    shuffle: bool = False
    spam: str | int = ""


def feedback(config: DictConfig) -> None:
    """Simulate a campaign as the config says."""
    from omegaconf import open_dict

    from robustml.commands.hydra.composing import prepared
    from robustml.workflows import feedback as workflow
    from robustml.workflows.settings.building import build

    with open_dict(config):
        config.data.val_size = 0
    settings, data, out = prepared(config)
    monitors = {name: build(settings[name]) for name in ("previous_round", "baseline")}
    workflow.feedback(data, **{name: settings[name] for name in _OPTIONS}, **monitors, out=out, settings=settings)


def main() -> None:
    """Compose feedback.yaml and simulate."""
    hydra_command(feedback, "feedback", Feedback)


if __name__ == "__main__":
    main()
