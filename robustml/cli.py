"""`robustml <verb> ...`: finds the verb's module and runs it as the main program.

Nothing heavy is imported here, so that `robustml --help` answers at once.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib import import_module

from robustml.errors import RequestError, nearest
from robustml.say import fitted_lines

VERBS = {
    "train": "train a model from a config, and measure clean against adversarial accuracy",
    "evaluate": "attack a trained model: robustml evaluate run=<dir>",
    "poison": "write a poisoned training set with its plan: robustml poison poison=badnets out=<dir>",
    "trojan": "put a small network with secret commands beside a trained model: robustml trojan run=<dir>",
    "shortcuts": "find marks that a model relies on, told of none: robustml shortcuts run=<dir>",
    "detect": "find poisoned records and backdoors, told of none: robustml detect run=<dir>",
    "feedback": "wear a filter down by false reports, round after round: robustml feedback data.source.train=mails.csv",
    "data": "describe, sign, verify, protect and restore a set: robustml data verify data=<set> manifest=m trust=keys",
    "lineage": "where a model comes from, every link checked: robustml lineage run=<dir> trust=keys",
    "keys": "make keys that sign, and say whose signatures count: robustml keys new out=keys",
    "model": "scan a file for what loading it could run, sign and verify a model: robustml model scan <file>",
    "finetune": "train on from the weights of a run, on clean data: robustml finetune run=<dir>",
    "check": "try an attack, yours too, on what every attack has to keep to: robustml check attack=pgd",
    "extract": "copy a model by asking it: robustml extract victim=<dir or URL> method=copycat budget=1000",
    "serve": "put a trained model behind HTTP: robustml serve run=<dir>",
    "sweep": "one figure against another: robustml sweep eps run=<dir>",
    "repair": "make a model forget its backdoor: robustml repair run=<dir> method=fine_pruning",
    "reproduce": "train what a paper did, and compare: robustml reproduce <paper>; robustml reproduce --list",
    "gate": "exit with 1 unless a run meets conditions: robustml gate run=<dir> 'robust_accuracy>=0.45'",
    "card": "all that was measured of a model, its weights verified: robustml card <dir> [<dir> ...]",
    "report": "write the page of one run, or compare several: robustml report <dir> [<dir> ...]",
    "configs": "list, show and copy the built-in configs",
}

USAGE = """\
robustml: train models that cannot be fooled, and find out which of yours can be.

usage: robustml <verb> [options]

{verbs}

examples:
  robustml train                                      PGD training on scikit-learn's digits, no download
  robustml train experiment=mnist_fgsm_rs data.root=<dir with mnist/train.parquet>
  robustml train data=cifar10 model=preact_resnet18 threat=linf threat.eps=8/255
  robustml evaluate run=outputs/<name>/<time> attack=torchattacks attack.name=CW
  robustml sweep eps run=outputs/<name>/<time>

`robustml <verb> --help` says more; `robustml --version` prints the version; `robustml -sc install=bash` prints the
shell completion.
"""


def main() -> None:
    """Dispatch; exit status 0 done, 1 the run failed, 2 the request was wrong."""
    # Read when torch is loaded. Where a small network's threads spin while they wait for each other, other work on the
    # machine makes them ten times slower; asleep they compute the same figures (scripts/benchmarks/threads.py).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:]
    verb = arguments[0] if arguments else "--help"
    if verb in ("--help", "-h", "help"):
        width = max(map(len, VERBS)) + 2
        text = USAGE.format(verbs="\n".join(f"  {name:<{width}}{what}" for name, what in VERBS.items()))
        print("\n".join(fitted_lines(text.rstrip().split("\n"), sys.stdout)))
    elif verb == "--version":
        from robustml import __version__

        print(__version__)
    elif verb in ("-sc", "--shell-completion"):
        _complete(arguments)
    elif verb in VERBS:
        _run(verb, arguments[1:])
    else:
        print(f"error: {verb!r} is not a verb of robustml; {nearest(verb, VERBS)}", file=sys.stderr)
        sys.exit(2)


def _run(verb: str, arguments: list[str]) -> None:
    """Run the verb as `__main__`, so that Lightning can relaunch `python -m robustml.commands.<verb>` for DDP."""
    from robustml.workflows.settings.trust import own_modules, take_trust

    own_modules()
    # Where signatures are checked, trust=<folder> says whose count, and not whose code may run.
    of_keys = verb in ("keys", "model", "lineage") or (verb == "data" and arguments[:1] != ["describe"])
    try:
        sys.argv = [sys.argv[0], *(arguments if of_keys else take_trust(arguments))]
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    runpy.run_module(f"robustml.commands.{verb}", run_name="__main__", alter_sys=True)


def _complete(arguments: list[str]) -> None:
    """Hydra's shell completion, with the verb taken out of the line that it completes."""
    words = os.environ.get("COMP_LINE", "").split(" ")
    if len(words) == 2:
        print(" ".join(name for name in VERBS if name.startswith(words[1])))
        return
    verb = "evaluate" if words[1:2] == ["evaluate"] else "train"
    # Of what stands before the word in question, Hydra can read the overrides only: not the name of a sweep.
    os.environ["COMP_LINE"] = " ".join([*words[:1], *(word for word in words[2:-1] if "=" in word), *words[2:][-1:]])
    # Hydra names the completed program after argv[0].
    sys.argv = [os.path.basename(sys.argv[0]), *arguments]
    import_module(f"robustml.commands.{verb}").main()


if __name__ == "__main__":
    main()
