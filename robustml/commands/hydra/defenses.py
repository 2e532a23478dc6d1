"""`robustml sweep defenses`: every defense of configs/sweep/defenses.yaml on every backdoor there, as one table."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from robustml.commands.ending.failures import report_failures
from robustml.config import config_dir, config_groups
from robustml.errors import RequestError, nearest
from robustml.untrusted import read_yaml

# Whatever attacks an experiment judges by: here only the clean accuracy and the backdoor count.
_CLEAN = ("~evaluation.attacks", "+evaluation.attacks={}", "evaluation.curve=null")
_OPTIONS = ("poisons", "detectors", "repairs", "seeds", "out", "hardened", "experiment", "device")
_OWN = re.compile(rf"({'|'.join(_OPTIONS)})=(.*)", re.DOTALL)


def main() -> None:
    """Compose every training, and hand them over."""
    report_failures(_dispatch, "train")


def _dispatch() -> None:
    from robustml.commands.hydra.composing import composed
    from robustml.workflows.defenses import TROJANNET, Planting, defenses
    from robustml.workflows.reproduce import Training
    from robustml.workflows.settings.building import build

    sweep = read_yaml(config_dir() / "sweep" / "defenses.yaml")
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    options = {match[1]: match[2] for word in words if (match := _OWN.fullmatch(word))}
    overrides = [word for word in words if not _OWN.fullmatch(word)]
    out = Path(options.get("out", "outputs/defenses"))
    seeds = [int(seed) for seed in _listed(options.get("seeds"), [str(seed) for seed in sweep["seeds"]])]
    poisons = _chosen("poisons", options, list(sweep["poisons"]), list(sweep["poisons"]))
    groups = config_groups(config_dir())
    hardened = options.get("hardened", "true") == "true"
    base = [f"experiment={options.get('experiment', sweep['experiment'])}", "trainer.enable_progress_bar=false"]

    def training(name: str, seed: int, more: Sequence[str]) -> Training:
        run = out / name / f"seed-{seed}"
        line = [*base, *more, *overrides, f"seed={seed}", f"output={out}"]
        return Training(name, seed, run, line, partial(composed, line, run))

    plantings, first = [], []
    for seed in seeds:
        surrogate = training("surrogate", seed, [*sweep["surrogate"], *_CLEAN])
        if "label_consistent" in poisons:
            first.append(surrogate)
        for poison in poisons:
            own = [word.replace("{surrogate}", str(surrogate.run.absolute())) for word in sweep["poisons"][poison]]
            planted = poison != TROJANNET
            twin = ["twin=true"] if planted else []
            harder = training(f"{poison}-hardened", seed, [*own, *sweep["hardened"]]) if planted and hardened else None
            plantings.append(Planting(poison, seed, training(poison, seed, [*own, *twin, *_CLEAN]), harder))
    for each in plantings[: len(poisons)]:  # what does not compose is refused before anything is trained
        each.training.settings()
    detectors = _built("detector", _chosen("detectors", options, sweep["detectors"], groups["detector"]), build)
    repairs = _built("repair", _chosen("repairs", options, sweep["repairs"], groups["repair"]), build)
    defenses(plantings, detectors, repairs, out=out, first=first, device=options.get("device"))


def _built(group: str, names: Sequence[str], build: Any) -> dict[str, Any]:
    """The options of a group, by name, with the values of their configs."""
    found = {}
    for name in names:
        settings: Mapping[str, Any] = read_yaml(config_dir() / group / f"{name}.yaml")
        found[name] = build(settings if "_target_" in settings else next(iter(settings.values())), f"{group}.{name}")
    return found


def _chosen(option: str, options: Mapping[str, str], default: Sequence[str], known: Sequence[str]) -> list[str]:
    """Those that were asked for, or the default.

    Raises:
        RequestError: one of them is unknown.
    """
    chosen = _listed(options.get(option), default)
    for name in chosen:
        if name not in known:
            raise RequestError(f"{option}: there is no {name!r}; {nearest(name, known)}")
    return chosen


def _listed(text: str | None, default: Sequence[str]) -> list[str]:
    return list(default) if text is None else [each.strip() for each in text.strip("[]").split(",") if each.strip()]


if __name__ == "__main__":
    main()
