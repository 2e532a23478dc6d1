"""What the numbers of a run mean, in a few plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustml.reporting.formats import eps_text, norm_text, percent
from robustml.reporting.runs import Run, comparable, labels, one_model
from robustml.reporting.verdict import verdict
from robustml.results import Results, SelectedEpoch

CHECKED = "by the evaluator's checks of model and attacks, which look for no backdoor"


def strongest(results: Results) -> str | None:
    """The attack that leaves the least accuracy, or None if none was run on any example."""
    known = {name: result.robust_accuracy.value for name, result in results.attacks.items()}
    found = {name: value for name, value in known.items() if value is not None}
    return min(found, key=lambda name: found[name]) if found else None


def threat_words(results: Results, unit: str = "images") -> str:
    """What the attacker may do."""
    eps = eps_text(results.threat.eps)
    norm = norm_text(results.threat.norm)
    if norm == "L∞":
        what = "every pixel of an image" if unit == "images" else "every input value"
        return f"change {what} by up to {eps} of its range"
    if norm in ("L2", "L1"):
        length = "Euclidean length" if norm == "L2" else "sum of absolute values"
        return f"change each {unit.removesuffix('s')} by a {length} of up to {eps} ({norm})"
    return f"use the threat '{norm}' within {eps}"


def run_sentences(run: Run) -> list[str]:
    """Three to five sentences: what it is and how accurate, what survives an attack, and what to doubt."""
    results, unit = run.results, run.unit
    clean = results.clean_accuracy
    model, data = results.model.name, results.data.name
    size = f"{results.model.parameters:,} parameters" if results.model.parameters else ""
    if results.command == "train":
        amount = f"{results.data.train:,} {unit} of " if results.data.train else ""
        subject = f"The model {model}{f' ({size})' if size else ''}, trained on {amount}{data},"
    else:
        what = "The copy, of the architecture" if results.extraction else "The model"
        subject = f"{what} {model}{f' ({size})' if size else ''}, tested on {data},"
    if clean.value is None:
        return [f"{subject} was given no test {unit}, so nothing can be said about its accuracy."]
    sentences = [f"{subject} classifies {percent(clean.value)} of {clean.n:,} clean test {unit} correctly."]
    if results.data.poison is not None:
        sentences.append("Its training data was poisoned on purpose.")
    return [*sentences, *_under_attack(results, unit), *_doubts(results)]


def _under_attack(results: Results, unit: str) -> list[str]:
    worst = results.worst_case.robust_accuracy if results.worst_case else None
    name = strongest(results)
    if worst is None and name is not None:
        worst = results.attacks[name].robust_accuracy
    if name is None or worst is None or worst.value is None:
        block = results.repair
        after, before = (None, None) if block is None else (block.after.robust_accuracy, block.before.robust_accuracy)
        if after is not None and before is not None:
            was = f"{percent(before.value)} before the repair"
            return [f"Under PGD with 10 steps {percent(after.value)} of {after.n:,} {unit} are still right ({was})."]
        return ["It was not attacked, so nothing can be said about its robustness."]
    clean = results.clean_accuracy.value
    sentence = (
        f"When an attacker may {threat_words(results, unit)}, {percent(worst.value)} are still classified correctly"
    )
    classes = len(results.per_class)
    if worst.value == 0:
        return [f"{sentence}: every one of the {unit} can be turned, so it has no robustness here."]
    if classes > 1 and worst.value <= 1 / classes:
        return [f"{sentence}: no better than guessing among {classes} classes, so it has no useful robustness here."]
    if clean:
        kept = 100 * worst.value / clean
        # 99.7 must not read as all of them, nor 0.3 as none.
        text = (
            f"{kept:.0f}"
            if 1 <= round(kept) < 100 or worst.value == clean
            else "more than 99"
            if kept > 1
            else "fewer than 1"
        )
        sentence += f": of 100 {unit} that it gets right, {text} remain{'s' if text == '1' else ''} right"
    return [f"{sentence}."]


def checked_text(results: Results) -> str:
    """What the absence of flags is worth: what the evaluator's checks had to look at."""
    return CHECKED if results.attacks else "nobody attacked: the checks had next to nothing to look at"


def _doubts(results: Results) -> list[str]:
    count, tried, name = len(results.flags), len(results.attacks), strongest(results)
    if count:
        noun = "flag was" if count == 1 else "flags were"
        return [
            f"{count} {noun} raised by the sanity checks: read accuracy under attack as an upper bound until resolved."
        ]
    if name is None:
        return []
    which = f"the strongest of the {tried} attacks tried, {name}," if tried > 1 else f"the one attack tried, {name},"
    return [f"No sanity check raised a flag; an attack beyond {which} could still lower the figure."]


def selection_sentence(results: Results) -> str:
    """Which epoch was kept, and what training on to the end cost or gained."""
    if results.selection is None:
        return ""
    best, last = results.selection.best, results.selection.last
    within = best.epoch == last.epoch and best.step != last.step
    when = f"epoch {best.epoch}, step {best.step}," if within else f"epoch {best.epoch}"
    text = f"The weights of {when} were kept, chosen on {results.selection.monitor}"
    if best.epoch == last.epoch and not within:
        return f"{text}; it was the last to be validated."
    if best.adversarial_accuracy is None or last.adversarial_accuracy is None:
        return f"{text}."
    lost = 100 * (best.adversarial_accuracy - last.adversarial_accuracy)
    if lost < 0.05:
        return f"{text}; the last epoch is as robust on the validation split."
    text += f"; by the last epoch, {lost:.1f} points of adversarial validation accuracy were lost again"
    before, after = best.train_adversarial_accuracy, last.train_adversarial_accuracy
    if before is not None and after is not None and after > before:
        text += f" while that of training rose by {100 * (after - before):.1f}: robust overfitting"
    return f"{text}."


def selection_lines(results: Results) -> list[str]:
    """The kept and the last epoch for whoever watches training end: a line each, and what lies between them."""
    if results.selection is None:
        return []

    def line(name: str, epoch: SelectedEpoch) -> str:
        figures = {"clean": epoch.clean_accuracy, "adversarial": epoch.adversarial_accuracy}
        known = ", ".join(f"{what} {percent(value)}" for what, value in figures.items() if value is not None)
        when = f"epoch {epoch.epoch}, step {epoch.step}" if within else f"epoch {epoch.epoch}"
        return f"{name} {when}: {known} on the validation split"

    best, last = results.selection.best, results.selection.last
    within = best.epoch == last.epoch and best.step != last.step
    if best.epoch == last.epoch and not within:
        return [line("best and last", best)]
    return [line("best", best), line("last", last), selection_sentence(results)]


def comparison_sentences(runs: Sequence[Run]) -> list[str]:
    """Which of several runs leads, on clean examples and under attack, and which carry flags."""
    names = labels(runs)
    sentences = []
    # Nothing is crowned where figures do not compare: one model within several budgets, other data, other examples.
    leading: list[str] = []
    alike = len({(run.results.data.fingerprint or run.results.data.name, run.results.clean_accuracy.n) for run in runs})
    if alike == 1 and not one_model(runs):
        clean = {name: run.results.clean_accuracy.value for name, run in zip(names, runs, strict=True)}
        leading = _leaders(clean)
        sentences += _crowned(leading, clean, "on clean examples", "")
    if comparable(runs):
        worst = {
            name: run.results.worst_case.robust_accuracy.value
            for name, run in zip(names, runs, strict=True)
            if run.results.worst_case and run.results.attacks
        }
        also = " also" if _leaders(worst) == leading else ""
        sentences += _crowned(_leaders(worst), worst, "under the worst attack", also)
    planted = [name for name, run in zip(names, runs, strict=True) if verdict(run.results).word == "backdoored"]
    if planted:
        sentences.append(f"There is a backdoor in {_and(planted)}.")
    threats = {(run.results.threat.norm, run.results.threat.eps) for run in runs}
    if len(threats) > 1:
        sentences.append("The runs were attacked within different budgets, so their robust accuracies do not compare.")
    if len({run.results.data.fingerprint or run.results.data.name for run in runs}) > 1:
        sentences.append("The runs were tested on different data.")
    flagged = [name for name, run in zip(names, runs, strict=True) if run.results.flags]
    if flagged:
        sentences.append(f"Sanity checks raised flags for {_and(flagged)}: take those robust figures as upper bounds.")
    elif all(run.results.attacks for run in runs):
        sentences.append("No sanity check raised a flag.")
    return sentences


def _crowned(leaders: Sequence[str], values: Mapping[str, float | None], condition: str, also: str) -> list[str]:
    if not leaders:
        return []
    verb = "is" if len(leaders) == 1 else "are"
    return [f"{_and(leaders)} {verb}{also} the most accurate {condition}, with {percent(values[leaders[0]])}."]


def _leaders(values: Mapping[str, float | None]) -> list[str]:
    """The names with the highest value, of two or more that have one."""
    known = {name: value for name, value in values.items() if value is not None}
    return [name for name, value in known.items() if value == max(known.values())] if len(known) > 1 else []


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
