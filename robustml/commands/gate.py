"""`robustml gate run=<dir> '<condition>' ...`: exit status 0 if a run meets every condition, 1 if it does not."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from robustml.commands.ending.failures import report_failures
from robustml.errors import RequestError, RunFailed, nearest, printable
from robustml.say import say

_OPTION = re.compile(r"(\w+)=(?!=)(.*)")
_OPTIONS = ("run", "evaluation", "lower_bound", "flags", "weights")


def main() -> None:
    """Read figures, print a line a condition."""
    parser = argparse.ArgumentParser(
        prog="robustml gate",
        description="Hold the figures of a run against conditions: <figure>[@<eps>][:<attack>] <op> <number>. Without "
        "@eps, figures at the run's own threat. run=<dir> looks at the run and all finished evaluations of the same "
        "weights below it, and lets the worst matching figure count; evaluation=<dir> looks at one results.json alone. "
        "Nothing is judged before the digest of the weights on disk is found to be the one that results.json names; "
        "weights=unverified does without. flags=none wants no flag, an attack or a certificate, and no backdoor. Exit "
        "status 0: all met; 1: not met, a figure is missing, an evaluation is damaged, or the weights are missing or "
        "others; 2: a condition or the run's own results cannot be read.",
        epilog="examples: robustml gate run=<dir> 'robust_accuracy@8/255>=0.45' 'clean_accuracy>=0.8'\n"
        "          robustml gate run=<dir> 'robust_accuracy:pgd>=0.5' lower_bound=true   its 95%% bound\n"
        "          robustml gate evaluation=<dir> 'worst_class_robust_accuracy>0.2' flags=none\n"
        "figures:  clean_accuracy, robust_accuracy (worst case; :<attack> for one), worst_class_accuracy,\n"
        "          worst_class_robust_accuracy, certified_accuracy, corruption_accuracy, attack_success_rate",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="WORD", help="run=<dir> or evaluation=<dir>, and conditions")
    words = parser.parse_args().words
    report_failures(lambda: _gate(words))


def _gate(words: list[str]) -> None:
    from robustml.reporting.evaluations import Source, evaluations_of
    from robustml.reporting.gate import judge, parse_condition
    from robustml.reporting.verdict import unfit, verdict
    from robustml.reporting.weights import verify_weights
    from robustml.results import read_results

    options = {match[1]: match[2] for word in words if (match := _OPTION.fullmatch(word))}
    for name in options:
        if name not in _OPTIONS:
            raise RequestError(f"gate knows no option {name!r} (equality is ==); {nearest(name, _OPTIONS)}")
    conditions = [parse_condition(word) for word in words if not _OPTION.fullmatch(word)]
    lower_bound = _choice(options, "lower_bound", "false", "true") == "true"
    no_flags = _choice(options, "flags", "any", "none") == "none"
    if ("run" in options) == ("evaluation" in options):
        raise RequestError("gate needs either run=<dir> or evaluation=<dir>")
    if not conditions and not no_flags:
        raise RequestError("gate needs a condition, such as 'robust_accuracy>=0.45' (in quotes, for the shell)")
    verify = _choice(options, "weights", "verified", "unverified") == "verified"
    folder = Path(options.get("run", options.get("evaluation", "")))
    if "run" in options:
        sources, left_out, broken = evaluations_of(folder)
    else:
        sources, left_out, broken = [Source("results.json", read_results(folder))], [], []

    if verify:
        try:
            lines = verify_weights(folder if folder.is_dir() else folder.parent, sources[0].results)
        except RunFailed as error:
            say(f"FAIL weights: {printable(str(error))}; nothing is judged")
            sys.exit(1)
        say("\n".join(f"pass weights: {line}" for line in lines))
    else:
        say("weights: not verified, as asked")
    for line in left_out:
        say(f"left out: {line}")
    # It may be the one that says no: damaging it must not open the gate.
    for line in broken:
        say(f"FAIL {line}")
    judgements = [judge(condition, sources, lower_bound=lower_bound) for condition in conditions]
    for judged in judgements:
        say(str(judged))
    flags = [(source.name, flag) for source in sources for flag in source.results.flags]
    for name, flag in flags:
        say(f"flags: {flag.name}{f' ({flag.attack})' if flag.attack else ''} in {name}: {flag.message}")
    found = verdict(*(source.results for source in sources))
    say(f"verdict: {found.text}")
    against = unfit(*(source.results for source in sources)) if no_flags else []
    if no_flags:
        raised = f"{len(flags)} raised"
        reason = "; ".join([raised, *against])
        say(f"{'FAIL' if flags or against else 'pass'} flags=none {reason}")
    if broken or not all(judged.passed for judged in judgements) or (no_flags and (flags or against)):
        sys.exit(1)


def _choice(options: dict[str, str], name: str, default: str, other: str) -> str:
    value = options.get(name, default)
    if value not in (default, other):
        raise RequestError(f"{name}={value!r} is unknown; expected {default} or {other}")
    return value


if __name__ == "__main__":
    main()
