"""`robustml serve run=<dir>`: a trained model behind HTTP, with the defenses of its interface, checked and logged."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from robustml.commands.ending.failures import report_failures
from robustml.commands.hydra.asked import OfARun
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import COMPLETION, HELP, argument
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Serve(OfARun):
    """What the config must hold."""

    host: str = ""
    port: Annotated[int, Field(ge=0, le=65535)] = 0


def serve_run(config: DictConfig) -> None:
    """Answer until Ctrl-C or SIGTERM."""
    from hydra.core.hydra_config import HydraConfig

    from robustml.commands.hydra.composing import plain
    from robustml.workflows.secret import with_secret, without_secret
    from robustml.workflows.serve import serve
    from robustml.workflows.settings.building import build

    settings = plain(config)
    defense = with_secret(settings["defense"], secrets.token_hex())
    serve(
        settings["run"],
        out=Path(HydraConfig.get().runtime.output_dir),
        make_defense=lambda: build(defense, "defense"),
        limits=build(settings["limits"], "limits"),
        settings=without_secret(settings),
        **{name: settings[name] for name in ("host", "port", "which", "device")},
    )


def main() -> None:
    """Compose serve.yaml and serve."""
    if any(word in ("-m", "--multirun") for word in sys.argv):
        print("error: serve answers for one run; leave out -m", file=sys.stderr)
        sys.exit(2)
    if argument("run") is None and not (HELP | COMPLETION) & set(sys.argv):
        report_failures(_refuse)
    hydra_command(serve_run, "serve", Serve)


def _refuse() -> None:
    raise RequestError("serve needs a run directory: robustml serve run=outputs/<name>/<time>")


if __name__ == "__main__":
    main()
