"""`robustml serve run=<dir>`: a trained model behind HTTP, with the defenses of its interface, checked and logged."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.entry import hydra_command
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["main", "serve_run"]

QUERIES = Path("queries.jsonl")


def serve_run(config: DictConfig) -> None:
    """Answer until Ctrl-C or SIGTERM.

    Raises:
        RequestError: there is no such run or port, or FastAPI and uvicorn are not installed.
    """
    from hydra.core.hydra_config import HydraConfig

    from robustml.commands.hydra.composing import plain
    from robustml.say import say
    from robustml.workflows.building import build
    from robustml.workflows.preparing import pick_device
    from robustml.workflows.run import load_model
    from robustml.workflows.secret import with_secret, without_secret
    from robustml.workflows.settings import read_settings, write_settings

    try:
        from robustml.extraction.server import Service, listen, serve
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn"):
            raise
        raise RequestError(
            f"serve needs {error.name}, which is not installed: pip install 'robustml-lightning[serve]'"
        ) from error

    settings = plain(config)
    if not isinstance(settings["port"], int) or not 0 <= settings["port"] < 2**16:
        raise RequestError(f"port must be a number from 0 (any free one) to 65535, got {settings['port']!r}")
    source = Path(settings["run"])
    data = read_settings(source).get("data") or {}
    if not data.get("shape") or not data.get("num_classes"):
        raise RequestError(
            f"{source}/config.yaml tells no data.shape and data.num_classes: no config of robustml train"
        )
    model = load_model(source, settings["which"]).to(pick_device(settings["device"]))
    limits = build(settings["limits"])
    defense = with_secret(settings["defense"], secrets.token_hex())
    build(defense)  # refused now, not at the first request
    out = Path(HydraConfig.get().runtime.output_dir)
    service = Service(
        model,
        data["shape"],
        data["num_classes"],
        log=out / QUERIES,
        make_defense=lambda: build(defense),
        limits=limits,
    )
    bound = listen(settings["host"], settings["port"])
    write_settings(without_secret(settings), out / "config.yaml")
    (out / QUERIES).touch()
    host, port = bound.getsockname()[:2]
    say(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}")
    serve(service, bound)
    say(f"run: {out}")


def main() -> None:
    """Compose serve.yaml and serve."""
    if any(word in ("-m", "--multirun") for word in sys.argv):
        print("error: serve answers for one run; leave out -m", file=sys.stderr)
        sys.exit(2)
    hydra_command(serve_run, "serve")


if __name__ == "__main__":
    main()
