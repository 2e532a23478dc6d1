"""Put a model behind HTTP, checked, limited and logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from robustml.errors import RequestError
from robustml.extraction import Defense, Limits
from robustml.say import say
from robustml.workflows.preparing import pick_device
from robustml.workflows.run import Run, load_model
from robustml.workflows.settings import CONFIG, read_settings, write_settings

QUERIES = Path("queries.jsonl")


def serve(
    run: Run | str | Path,
    *,
    out: str | Path,
    make_defense: Callable[[], Defense | None] = lambda: None,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    which: Literal["best", "last"] = "best",
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Answer until Ctrl-C or SIGTERM.

    Args:
        run: whose model is served. In a notebook, one that `fit` returned, in a thread of its own.
        out: the directory for config.yaml, the log of queries and that of alarms.
        make_defense: gives what stands in front of the model, for each client its own; None for nothing.
        limits: of requests and connections.
        host: this machine only, by default; ``0.0.0.0`` for everyone who can reach it.
        port: 0 picks a free one, which is said.
        which: weights of the run.
        device: where the model runs; cuda by default where there is one.
        settings: what config.yaml is to say; by default where it serves what.

    Raises:
        RequestError: there is no such run or port, or FastAPI and uvicorn are not installed.
    """
    try:
        # of the extra `serve`
        from robustml.extraction.endpoint import server
        from robustml.extraction.endpoint.service import Service
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn"):
            raise
        raise RequestError(
            f"serve needs {error.name}, which is not installed: pip install 'robustml-lightning[serve]'"
        ) from error
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 2**16:
        raise RequestError(f"port must be a number from 0 (any free one) to 65535, got {port!r}")
    source, out = run.path if isinstance(run, Run) else Path(run), Path(out)
    known: Mapping[str, Any]
    if isinstance(run, Run) and which == "best":
        model, known = run.model, {"shape": run.data.shape, "num_classes": run.data.num_classes}
    else:
        known = read_settings(source).get("data") or {}
        if not known.get("shape") or not known.get("num_classes"):
            raise RequestError(
                f"{source}/config.yaml tells no data.shape and data.num_classes: no config of robustml train"
            )
        model = load_model(source, which)
    model = model.to(pick_device(device))
    make_defense()  # refused now, not at the first request
    service = Service(
        model,
        known["shape"],
        known["num_classes"],
        log=out / QUERIES,
        make_defense=make_defense,
        limits=limits or Limits(),
    )
    bound = server.listen(host, port)
    told = {"run": str(source), "which": which, "host": host, "port": port}
    write_settings(dict(settings or told), out / CONFIG)
    (out / QUERIES).touch()
    place, number = bound.getsockname()[:2]
    say(f"serving on http://{f'[{place}]' if ':' in place else place}:{number}")
    server.serve(service, bound)
    say(f"run: {out}")
