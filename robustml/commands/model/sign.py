"""`robustml model sign run=<dir> key=<folder>`: weights, config, results and card, signed as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.entry import hydra_command

if TYPE_CHECKING:
    from omegaconf import DictConfig


class ModelSign(Asked):
    """What the config must hold."""

    run: str = ""
    key: str = ""
    ignore: list[str] | None = None


def sign(config: DictConfig) -> None:
    """Sign the run."""
    from robustml.workflows.integrity.sign import sign_model

    sign_model(Path(config.run), Path(config.key), None if config.ignore is None else list(config.ignore))


def main() -> None:
    """Compose model_sign.yaml, and sign."""
    hydra_command(sign, "model_sign", ModelSign)


if __name__ == "__main__":
    main()
