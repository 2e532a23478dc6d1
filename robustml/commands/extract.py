"""`robustml extract victim=<run or URL>`: copy a model by asking it, and measure what the copy is worth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.commands.failures import report_failures
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import argument
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["extract_run", "main"]

# What an extraction takes from its victim's run. The rest of its config says how it was trained.
_RESTORED = ("name", "seed", "data", "model", "threat")
_PASSED_ON = ("budget", "curve", "transfer_limit", "which", "timeout", "batch_size", "seed", "device", "name")


def extract_run(config: DictConfig) -> None:
    """Build what the config names, and copy the victim."""
    from hydra.core.hydra_config import HydraConfig

    from robustml.commands.hydra.composing import build_data, plain
    from robustml.workflows.building import build
    from robustml.workflows.extract import extract
    from robustml.workflows.secret import with_secret, without_secret

    data = build_data(config, None if _is_address(config.victim) else Path(config.victim))
    settings = plain(config)
    # What can be repeated draws its noise from the seed: no attacker of ours makes use of that. Endpoints draw another.
    defense = with_secret(settings["defense"], f"measured with seed {settings['seed']}")
    extract(
        settings["victim"],
        build(settings["method"], "method"),
        data,
        build(settings["threat"], "threat"),
        out=HydraConfig.get().runtime.output_dir,
        pool=build(settings["pool"], "pool"),
        student=lambda: build(settings["student"], "student"),
        make_defense=None if defense is None else lambda: build(defense, "defense"),
        attack=build(settings["attack"], "attack"),
        settings=without_secret(settings | {"overrides": list(HydraConfig.get().overrides.task)}),
        **{name: settings[name] for name in _PASSED_ON},
    )


def take_up_victim() -> None:
    """Record the settings of the victim's run, so that the command line can override them; a URL has none."""
    from robustml.commands.hydra.composing import record
    from robustml.workflows.settings import read_settings

    victim = argument("victim")
    if victim is None:
        raise RequestError(
            "extract needs a victim: robustml extract victim=outputs/<name>/<time>, or victim=http://<host>:<port>"
        )
    if _is_address(victim):
        if argument("data") is None:
            raise RequestError("victim=<URL> needs data=..., whose test images copy and victim are compared on")
        if argument("threat") is None:
            sys.argv.append("threat=linf")
        record({})
        return
    settings = read_settings(Path(victim))
    missing = [key for key in _RESTORED if key not in settings]
    if missing:
        raise RequestError(f"{victim}/config.yaml lacks {', '.join(missing)}: it is no config of robustml train")
    anew = [group for group in ("data", "threat") if argument(group) is not None]
    restored: dict[str, Any] = {key: settings[key] for key in _RESTORED}
    record(restored | {"output": f"{victim.rstrip('/')}/extractions"}, without=anew)


def _quoted(word: str) -> str:
    """``victim=http://[::1]:8000`` as Hydra can read it, to whom brackets mean a list."""
    name, _, value = word.partition("=")
    if name != "victim" or not _is_address(value) or value[:1] in "'\"":
        return word
    return "victim='" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _is_address(victim: str) -> bool:
    return "://" in str(victim)


def main() -> None:
    """Restore the settings of the victim's run and compose extract.yaml over them."""
    if any(word in ("--help", "-h", "--shell-completion", "-sc") for word in sys.argv):
        from robustml.commands.hydra.composing import record

        record({})  # help and completion need no victim, but a config that composes
    else:
        report_failures(take_up_victim)
        sys.argv = [sys.argv[0], *map(_quoted, sys.argv[1:])]
    hydra_command(extract_run, "extract")


if __name__ == "__main__":
    main()
