"""A figure for the page of each method: `python scripts/benchmarks/methods.py` writes docs/measured/methods.json.

On scikit-learn's digits: each attack on one PGD-trained model; each objective trained as experiment=digits_pgd is; each
poison beside its clean twin; each extraction with 500 queries, and each defense beside the same without it; each threat
with one attack on that PGD-trained model; each callback beside that model, which had none. What cannot be measured is
said, and left out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from robustml.config import config_dir
from robustml.results import Rate, Results, read_results

OUT = Path(__file__).parents[2] / "docs" / "measured" / "methods.json"
SPARSE, NORMS = "threat=sparse threat.eps=5", (("linf", 0.15), ("l2", 1), ("l1", 5))
RADII = " ".join(f"objective.attacks.{name}.threat.eps={eps}" for name, eps in NORMS)
# What a method needs beside its name on this set. <pgd> and <standard> are runs of digits_pgd and digits_standard.
MORE = {
    "attack/ddn": "threat=l2 threat.eps=1",
    "attack/patch_pgd": "threat=patch threat.eps=3",
    "attack/pgd_l0": SPARSE,
    "attack/sparse_rs": SPARSE,
    "attack/spatial": "threat=spatial",
    "attack/transfer": "attack.surrogate.run_dir=<standard>",
    "objective/average_norms": RADII,
    "objective/gaussian": "experiment=digits_smoothing",
    "objective/hat": "objective.helper.run_dir=<standard>",
    "objective/interval": "experiment=digits_ibp",
    "objective/max_norms": RADII,
    "objective/msd": "objective.attack.threat.eps=0.5",
    "threat/l1": "threat.eps=5 attack=pgd",
    "threat/l2": "threat.eps=1 attack=pgd",
    "threat/linf": "attack=pgd",
    "threat/patch": "threat.eps=3 attack=patch_pgd",
    "threat/sparse": "threat.eps=5 attack=pgd_l0",
    "threat/spatial": "attack=spatial",
    "poison/chain": "+poison@poison.poisons.first=badnets +poison@poison.poisons.second=flip",
    "poison/clean_label": "+surrogate=<pgd>",
    "poison/gradient_matching": "poison.surrogate.run_dir=<standard> poison.rows=[17] poison.target=3 poison.rate=0.05 "
    "poison.eps=0.65 poison.steps=60 poison.step_size=0.13",
    "poison/inject": "poison.surrogate.run_dir=<standard>",
    "poison/input_aware": "poison.surrogate.run_dir=<standard>",
    "poison/label_consistent": "poison.surrogate.run_dir=<pgd>",
    "poison/single_pixel": "poison.pixel=[0,0] poison.channel=0 poison.value=1.0",
}
WATCHES = ("callbacks/health", "callbacks/robust_evaluation")  # change nothing that has a figure
COMMANDS = {
    "attack": "evaluate run=<pgd> attack={name}",
    "objective": "train experiment=digits_pgd objective={name} evaluation=fgsm_pgd",
    "poison": "train experiment=digits_standard poison={name} twin=true evaluation=clean",
    "method": "extract victim=<standard> method={name} budget=500 curve=[1.0]",
    "defense": "extract victim=<standard> method=knockoff defense={name} budget=500 curve=[1.0]",
    "threat": "evaluate run=<pgd> threat={name}",
    "callbacks": "train experiment=digits_pgd callbacks={name} evaluation=fgsm_pgd",
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="such as attack/pgd; by default all")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    known = [f"{group}/{each.stem}" for group in COMMANDS for each in sorted((config_dir() / group).glob("*.yaml"))]
    names = arguments.names or [name for name in known if not name.endswith("/none") and name not in WATCHES]
    kept = json.loads(arguments.out.read_text()) if arguments.names and arguments.out.exists() else {}
    methods = kept.pop("methods", {})
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=OUT.parent, text=True).strip()
    when = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": commit}
    facts = kept or {
        **when,
        "command": "python scripts/benchmarks/methods.py",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    multiprocessing.set_forkserver_preload(["robustml.commands.hydra.entry", "torchattacks"])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in ("pgd", "standard"):
            run(f"train experiment=digits_{name} evaluation=fgsm_pgd", name)
        for name in names:
            group, _, option = name.partition("/")
            command = f"{COMMANDS[group].format(name=option)} {MORE.get(name, '')}".strip()
            if "experiment=" in MORE.get(name, ""):
                command = command.replace("experiment=digits_pgd ", "")
            if (results := run(command, name)) is None:
                print(f"{name}: not measured", flush=True)
                continue
            figures = dict(figures_of(results, group))
            within = group in ("attack", "objective", "threat", "callbacks")
            threat = f"{results.threat.norm} eps {results.threat.eps:g}" if within else None
            methods[name] = {
                **when,
                "command": command,
                "threat": threat,
                "seconds": seconds_of(results),
                "figures": {key: figure.model_dump() for key, figure in figures.items()},
            }
            print(f"{name}: {', '.join(f'{key} {figure.value:.1%}' for key, figure in figures.items())}", flush=True)
            arguments.out.write_text(json.dumps(facts | {"methods": dict(sorted(methods.items()))}, indent=1) + "\n")


def seconds_of(results: Results) -> float | None:
    """Of the training, or of all attacks together."""
    if results.command == "evaluate":
        return round(sum(attack.seconds for attack in results.attacks.values()), 1)
    return None if results.cost.train_seconds is None else round(results.cost.train_seconds, 1)


def run(command: str, name: str) -> Results | None:
    """What a command measures, done in a process of its own; None where it fails."""
    words = command.replace("<pgd>", "pgd").replace("<standard>", "standard").split()
    words += [f"hydra.run.dir={name}", "output=outputs"] if words[0] == "train" else [f"hydra.run.dir={name}"]
    words += ["evaluation.curve=null"] if words[0] == "evaluate" else []
    process = multiprocessing.get_context("forkserver").Process(target=_verb, args=(words, Path(f"{name}.log")))
    process.start()
    process.join()
    if process.exitcode or not Path(name, "results.json").is_file():
        print("".join(Path(f"{name}.log").read_text().splitlines(keepends=True)[-3:]), file=sys.stderr)
        return None
    return read_results(name)


def _verb(words: list[str], log: Path) -> None:
    from robustml.cli import main as verb

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    sys.argv = ["robustml", *words]
    sys.exit(verb())


def figures_of(results: Results, group: str) -> Iterator[tuple[str, Rate]]:
    """The figures that the page of a method shows, by name."""
    if group == "method":
        extraction = results.extraction
        assert extraction is not None
        yield from {"fidelity": extraction.fidelity, "accuracy of the copy": extraction.accuracy}.items()
        return
    if group == "defense":
        assert results.extraction is not None
        defense = results.extraction.defense
        assert defense is not None
        yield "accuracy of the answers", defense.honest.label_accuracy
        yield "fidelity of a copy without it", defense.undefended.fidelity
        yield "fidelity of a copy", results.extraction.fidelity
        return
    if group == "callbacks":
        without = read_results("pgd")
        yield "clean accuracy without it", without.clean_accuracy
        yield "robust accuracy without it, pgd", without.attacks["pgd"].robust_accuracy
    yield "clean accuracy", results.clean_accuracy
    if group == "poison":
        if (backdoor := results.backdoor) is not None:
            yield "attack success rate", backdoor.attack_success_rate
        if (twin := twin_of(results)) is not None:
            yield "clean accuracy of the twin", twin.clean_accuracy
        if backdoor is not None and backdoor.twin is not None:
            yield "attack success rate on the twin", backdoor.twin.attack_success_rate
    else:
        for attack, result in results.attacks.items():
            yield f"robust accuracy, {attack}", result.robust_accuracy


def twin_of(results: Results) -> Results | None:
    """The clean twin, which all runs of one experiment share."""
    found: list[Any] = sorted(Path("outputs", "twins").rglob("results.json"))
    return read_results(found[0]) if found else None


if __name__ == "__main__":
    main()
