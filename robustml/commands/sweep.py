"""`robustml sweep <name> ...`: a multirun over one figure, described by configs/sweep/<name>.yaml.

The file names the command, the key to sweep and its values: `values` as they are, or `multiples` of the eps that the
run or the experiment has. `also` sweeps other keys, so that every combination is run. The rest of the command line goes
to that command as it is, so that a list of your own wins:
`robustml sweep eps run=<dir> threat.eps=0,2/255,4/255`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from robustml.commands.ending.failures import report_failures
from robustml.commands.hydra.words import allow_arguments, argument
from robustml.config import config_dir
from robustml.errors import RequestError, nearest
from robustml.say import fitted_lines

HELP = """\
robustml sweep: one figure against another, as a Hydra multirun, into sweep.csv and sweep.html.

usage: robustml sweep <name> [overrides]

{sweeps}

examples:
  robustml sweep eps run=outputs/digits_pgd/2026-01-01_12-00-00
  robustml sweep eps run=<dir> threat.eps=0,2/255,4/255,8/255 attack=pgd attack.steps=50
  robustml sweep train_eps experiment=digits_pgd
  robustml sweep train_eps experiment=digits_pgd threat.eps=0,0.1,0.2 seed=0,1,2
  robustml sweep poison_rate experiment=digits_standard poison=badnets seed=0,1,2
  robustml sweep defenses poisons=[badnets,blended] seeds=[0]
  robustml sweep interaction data=digits +surrogate=<run directory of a model trained without attacks>
"""


def main() -> None:
    """Turn the sweep into a command line of its command, and run that."""
    report_failures(_dispatch, "train")


def _dispatch() -> None:
    folder = config_dir() / "sweep"
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    words = sys.argv[1:]
    if not words or words[0] in ("--help", "-h"):
        lines = [f"  {name:<13}{path.read_text().splitlines()[0].lstrip('# ')}" for name, path in known.items()]
        print("\n".join(fitted_lines(HELP.format(sweeps="\n".join(lines)).rstrip().split("\n"), sys.stdout)))
        return
    if words[0] not in known:
        raise RequestError(f"there is no sweep {words[0]!r}; {nearest(words[0], known)}")
    sweep = yaml.safe_load(known[words[0]].read_text())
    sys.argv = [sys.argv[0], *words[1:]]
    if "over" not in sweep:  # its command has a table of its own
        import_module(f"robustml.commands.{sweep['command']}").main()
        return
    own = argument(sweep["over"])
    values = own.split(",") if own else _values(sweep)
    extra = [f"{sweep['over']}={','.join(values)}"] if own is None else []
    for key, options in sweep.get("also", {}).items():
        if argument(key) is None:
            extra.append(f"{key}={','.join(map(str, options))}")
    for key, what in sweep.get("overrides", {}).items():
        if argument(key) is None:
            extra.append(f"{key}={_fill(what, values)}")
    sys.argv += [*extra, "-m"]
    import_module(f"robustml.commands.{sweep['command']}").main()


def _fill(value: Any, swept: list[str]) -> str:
    """The text of an override; the word ``swept`` stands for the list of swept values."""
    if value == "swept":
        return f"[{','.join(swept)}]"
    return {None: "null", True: "true", False: "false"}.get(value, str(value))


def _values(sweep: Mapping[str, Any]) -> list[str]:
    if "values" in sweep:
        return [str(value) for value in sweep["values"]]
    base = _base_eps(sweep["command"])
    return [f"{base * float(multiple):.9g}" for multiple in sweep["multiples"]]


def _base_eps(command: str) -> float:
    """The eps of the run, or of the config that a training would have."""
    from robustml.numbers import number
    from robustml.workflows.settings import read_settings

    if command == "evaluate":
        run = argument("run")
        if run is None:
            raise RequestError("this sweep needs a run directory: run=outputs/<name>/<time>")
        return number(read_settings(Path(run)).get("threat", {}).get("eps"))
    import hydra

    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        overrides = [word for word in sys.argv[1:] if "=" in word and "," not in word and not word.startswith("-")]
        return number(hydra.compose("train", allow_arguments(overrides)).threat.eps)


if __name__ == "__main__":
    main()
