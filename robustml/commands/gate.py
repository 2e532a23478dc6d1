"""`robustml gate run=<dir> '<condition>' ...`: exit status 0 if a run meets every condition, 1 if it does not."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from robustml.commands.entry import report_failures
from robustml.errors import RequestError, nearest

__all__ = ["main"]

_OPTION = re.compile(r"(\w+)=(?!=)(.*)")
_OPTIONS = ("run", "evaluation", "lower_bound", "flags")


def main() -> None:
    """Read figures, print a line a condition."""
    parser = argparse.ArgumentParser(
        prog="robustml gate",
        description="Hold the figures of a run against conditions: <figure>[@<eps>][:<attack>] <op> <number>. Without "
        "@eps, figures at the run's own threat. run=<dir> looks at the run and all finished evaluations of the same "
        "weights below it, and lets the worst matching figure count; evaluation=<dir> looks at one results.json alone. "
        "Exit status 0: all met; 1: not met, or a figure is missing; 2: a condition cannot be read.",
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
    from robustml.reporting.schema import read_results

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
    if "run" in options:
        sources, left_out = evaluations_of(Path(options["run"]))
    else:
        sources, left_out = [Source("results.json", read_results(Path(options["evaluation"])))], []

    for line in left_out:
        print(f"left out: {line}")
    verdicts = [judge(condition, sources, lower_bound=lower_bound) for condition in conditions]
    for verdict in verdicts:
        print(verdict)
    flags = [(source.name, flag) for source in sources for flag in source.results.flags]
    for name, flag in flags:
        print(f"flags: {flag.name}{f' ({flag.attack})' if flag.attack else ''} in {name}: {flag.message}")
    if no_flags:
        print(f"{'FAIL' if flags else 'pass'} flags=none {len(flags)} raised")
    if not all(verdict.passed for verdict in verdicts) or (no_flags and flags):
        sys.exit(1)


def _choice(options: dict[str, str], name: str, default: str, other: str) -> str:
    value = options.get(name, default)
    if value not in (default, other):
        raise RequestError(f"{name}={value!r} is unknown; expected {default} or {other}")
    return value


if __name__ == "__main__":
    main()
