"""`robustml data sign manifest=<folder> key=<folder>`: put a name under what a manifest says of a set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.entry import hydra_command

if TYPE_CHECKING:
    from omegaconf import DictConfig


class DataSign(Asked):
    """What the config must hold."""

    manifest: str = ""
    key: str = ""


def sign(config: DictConfig) -> None:
    """Sign the manifest."""
    from robustml.workflows.integrity.sign import sign_data

    sign_data(Path(config.manifest), Path(config.key))


def main() -> None:
    """Compose data_sign.yaml, and sign."""
    hydra_command(sign, "data_sign", DataSign)


if __name__ == "__main__":
    main()
