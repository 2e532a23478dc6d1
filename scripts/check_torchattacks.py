"""Try every attack of torchattacks: `python scripts/check_torchattacks.py`, into docs/measured/torchattacks.md.

Each is examined twice, by `robustml.evaluation.conformance.check_attack`: through our adapter (`TorchAttack`), and as
the package has it, called with the global generators seeded beforehand. Each examination is a process of its own with a
time limit.
"""

from __future__ import annotations

import argparse
import inspect
import multiprocessing
import os
import random
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchattacks
from torch import Generator, Tensor, nn

from robustml.attacks import TorchAttack, torchattacks_names
from robustml.data import Digits
from robustml.evaluation.conformance import PROPERTIES, Finding, check_attack
from robustml.threats import LpBall

OUT = Path(__file__).parent.parent / "docs" / "measured" / "torchattacks.md"
INF, TWO, ONE = LpBall("inf", 0.1), LpBall(2, 1.5), LpBall(1, 20.0)
# Attacks that know no eps look for a small perturbation of their own: the ball in which most of what they find lies.
THREATS = {"CW": TWO, "DeepFool": TWO, "GN": LpBall(2, 3.0), "EADL1": ONE, "EADEN": ONE}
THREATS |= dict.fromkeys(("JSMA", "OnePixel", "Pixle", "SparseFool"), ONE)
# Enough to run every line, and no more.
SMALL: Mapping[str, Any] = {
    "steps": 5,
    "n_queries": 30,
    "max_iterations": 10,
    "restarts": 1,
    "binary_search_steps": 2,
    "num_iter_set": 5,
    "nb_iter": 2,
    "nb_sample": 4,
    "popsize": 3,
    "noise_batch_size": 2,
    "N": 2,
    "m": 2,
    "eot_iter": 1,
    "version": "rand",
}
# Where that would be no attack at all, or take minutes.
RATHER: Mapping[str, Mapping[str, Any]] = {
    "CW": {"steps": 40, "lr": 0.05},  # looks whether to stop at every tenth of its steps, for the whole batch
    "DeepFool": {"steps": 3},
    "EADEN": {"max_iterations": 40, "initial_const": 1.0},
    "EADL1": {"max_iterations": 40, "initial_const": 1.0},
    "JSMA": {"gamma": 0.03},
    "SPSA": {"nb_iter": 10, "nb_sample": 32},
}
# What the raw package is not asked: it knows neither our generator, nor budgets of 0, nor inputs that are no images.
OURS_ALONE = ("global random state unchanged", "a budget of 0 changes nothing", "flat vectors")


def threat_of(name: str) -> LpBall:
    """A ball that suits the attack, on images of 16 x 16."""
    return THREATS.get(name, TWO if name.endswith("L2") else INF)


def params_of(name: str) -> dict[str, Any]:
    """Small values for whatever costs time."""
    accepted = inspect.signature(getattr(torchattacks, name).__init__).parameters
    return {key: value for key, value in SMALL.items() if key in accepted} | dict(RATHER.get(name, {}))


def knows_eps(name: str) -> bool:
    """Whether the attack can be told how far it may go."""
    return not {"eps", "max_epsilon"}.isdisjoint(inspect.signature(getattr(torchattacks, name).__init__).parameters)


@dataclass(frozen=True)
class Raw:
    """The package's own attack, after seeding the global generators that it draws from; all else is its default."""

    name: str
    threat: LpBall
    params: Mapping[str, Any]

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Call it as its README does."""
        seed = 0 if generator is None else generator.initial_seed()
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (that is what the package draws from)
        random.seed(seed)
        attack_class = getattr(torchattacks, self.name)
        accepted = inspect.signature(attack_class.__init__).parameters
        known = {"eps": self.threat.eps, "max_epsilon": self.threat.eps, "norm": f"L{self.threat.norm}"}
        settings = {key: value for key, value in known.items() if key in accepted} | dict(self.params)
        x_adv: Tensor = attack_class(model, **settings)(x, y)
        return x_adv


def reseeds(name: str) -> bool:
    """Whether a call leaves the global generators in the same state, whatever they were in before."""
    from robustml.evaluation.conformance.tiny_models import trained_tiny_model

    model, x, y = trained_tiny_model()
    states = []
    for seed in (1, 2):
        attack = Raw(name, threat_of(name), params_of(name))
        attack_class = getattr(torchattacks, attack.name)
        built = attack_class(model, **attack.params)
        torch.manual_seed(seed)
        built(x[:4], y[:4])
        states.append(torch.get_rng_state())
    return torch.equal(*states)


def examine(name: str, raw: bool, pipe: Connection) -> None:
    """Send the findings, one by one, and last whether the package reseeds."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nothing:  # some attacks print
        os.dup2(nothing.fileno(), 1)
    attack = Raw(name, threat_of(name), params_of(name)) if raw else TorchAttack(name, params_of(name))
    check_attack(attack, threat_of(name), on_finding=pipe.send)
    if raw:
        try:
            broken = reseeds(name)
        except Exception:
            broken = False
        pipe.send(
            Finding("the seed is the caller's", "break" if broken else "pass", "reseeds torch's global generator")
        )
    pipe.close()


def findings_of(name: str, raw: bool, limit: float) -> list[Finding]:
    """What the examination found within `limit` seconds."""
    end = time.monotonic() + limit
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=examine, args=(name, raw, writer))
    process.start()
    writer.close()
    found: list[Finding] = []
    try:
        while reader.poll(max(0.0, end - time.monotonic())):
            found.append(reader.recv())
        process.kill()
        late = list(PROPERTIES)[len(found)] if len(found) < len(PROPERTIES) else "the end"
        found.append(Finding("not finished", "error", f"stopped after {limit:g} s at {late!r}"))
    except EOFError:
        pass
    process.join()
    return [finding for finding in found if not raw or _fair(name, finding)]


def _fair(name: str, finding: Finding) -> bool:
    """Whether the package can be blamed for that: an attack that is told no budget cannot keep to one."""
    return finding.name not in OURS_ALONE and (knows_eps(name) or "outside the threat" not in finding.reason)


def faults(findings: list[Finding]) -> str:
    """A table cell: the names of what is broken."""
    return ", ".join(finding.name for finding in findings if finding.bad) or "nothing"


def page(found: Mapping[str, tuple[list[Finding], list[Finding]]], limit: float) -> str:
    """The Markdown page."""
    clean = [name for name, (ours, _) in found.items() if not any(finding.bad for finding in ours)]
    clean_raw = [name for name, (_, raw) in found.items() if not any(finding.bad for finding in raw)]
    lines = [
        "# torchattacks against the conformance table",
        "",
        f"`python scripts/check_torchattacks.py --limit {limit:g}`, torchattacks {version('torchattacks')}, "
        f"torch {torch.__version__}.",
        "",
        "`robustml check attack=torchattacks attack.name=...` tries one attack on small models: shape, range, budget,",
        "model and random state left as found, one image attacked as if alone, other shapes and numbers of classes, no",
        "weaker with more steps. Here are all. *Adapter* is what the command runs;",
        "*package* is the attack called as its README does, with the global generators seeded before each call, and is",
        "not asked about what it does not know: our generator, budgets of 0, inputs that are no images, and for "
        "attacks",
        "without eps the budget. Steps and queries are few (5, 30, ...), so this says whether an attack is sound, not "
        "how",
        "strong it is. Attacks that need three channels break *runs*, for the images are grey, and are examined no",
        "further. Not reachable by name: MultiAttack, LGV.",
        "",
        f"Nothing broken: {len(clean)} of {len(found)} through the adapter, {len(clean_raw)} of {len(found)} as the "
        "package has them.",
        "",
        "| attack | threat | broken through the adapter | broken by the package |",
        "|---|---|---|---|",
    ]
    for name, (ours, raw) in found.items():
        threat = threat_of(name)
        lines.append(f"| {name} | L{threat.norm}, {threat.eps:g} | {faults(ours)} | {faults(raw)} |")
    lines += ["", "## What happened, through the adapter", ""]
    lines += _reasons({name: ours for name, (ours, _) in found.items()})
    lines += ["", "## What happened, as the package has it", ""]
    lines += _reasons({name: raw for name, (_, raw) in found.items()})
    return "\n".join(lines) + "\n"


def _reasons(found: Mapping[str, list[Finding]]) -> list[str]:
    """A line for each thing that went wrong, with all the attacks that it happened to."""
    attacks: dict[tuple[str, str], list[str]] = {}
    for name, findings in found.items():
        for finding in findings:
            if finding.bad:
                attacks.setdefault((finding.name, finding.reason), []).append(name)
    lines = [f"- {what}: {_plain(reason)} ({', '.join(names)})" for (what, reason), names in attacks.items()]
    return sorted(lines)


def _plain(text: str) -> str:
    """Without what Markdown would read as markup."""
    return text.replace("|", "\\|").replace("<", "&lt;")[:160]


def main() -> None:
    """Examine, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="attacks; all of them, into docs/measured/torchattacks.md, by default")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one examination")
    arguments = parser.parse_args()
    Digits().load("test")  # once for all processes: its import takes longer than an examination
    found = {}
    for name in arguments.names or torchattacks_names():
        ours, raw = (findings_of(name, as_is, arguments.limit) for as_is in (False, True))
        found[name] = ours, raw
        print(f"{name:<12}adapter: {faults(ours)}\n{'':<12}package: {faults(raw)}", flush=True)
    text = page(found, arguments.limit)
    if arguments.names:
        print(text)
    else:
        OUT.write_text(text)
        print(f"written: {OUT}")


if __name__ == "__main__":
    main()
