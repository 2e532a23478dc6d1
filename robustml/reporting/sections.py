"""The sections of a report on one run; each returns HTML, or "" where the run has nothing to say."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from robustml.reporting.formats import eps_text, interval_text, norm_text, percent, plain, seconds_text
from robustml.reporting.page import facts, figure, section, table, tile, verdict_box, verdict_tiles
from robustml.reporting.pictures import magnification, picture_grid
from robustml.reporting.plots import MOST_CLASSES, accuracy_curve, class_bars, training_curves
from robustml.reporting.runs import Run
from robustml.reporting.story import checked_text, run_sentences, selection_sentence, strongest
from robustml.reporting.tables import rate_cell
from robustml.reporting.verdict import verdict
from robustml.results import Cost, Examples, Results, SelectedEpoch

__all__ = [
    "attacks_table",
    "class_section",
    "config_details",
    "curve_figure",
    "example_section",
    "fact_cards",
    "flag_box",
    "lead",
    "selection_table",
    "tiles",
    "training_figure",
]


def lead(run: Run) -> str:
    """The verdict, then the summary in sentences."""
    found = verdict(run.results)
    box = verdict_box(found.level, found.word, found.sentences)
    return box + f'<p class="lead">{escape(" ".join(run_sentences(run)))}</p>'


def tiles(run: Run) -> str:
    """The key figures: what was asked for leads."""
    results, found = run.results, verdict(run.results)
    clean = results.clean_accuracy
    whose = "Clean accuracy of the copy" if results.extraction else "Clean accuracy"
    cells = verdict_tiles(found)
    cells.append(tile(whose, percent(clean.value), interval_text(clean), share=clean.value, css="pale"))
    count = len(results.flags)
    names = ", ".join(dict.fromkeys(flag.name.replace("_", " ") for flag in results.flags))
    raised = f"{count} raised" if count else "none raised"
    # No flag is a verdict on the evaluation: green where there is nothing else to say of the model.
    css = "alert" if count else "fine" if found.level == "fine" else ""
    cells.append(tile("Flags", raised, names or checked_text(results), css=css))
    if results.attacks or results.certified is not None:
        budget = f"{norm_text(results.threat.norm)} {eps_text(results.threat.eps)}"
        cells.append(tile("Attacker's budget", budget, run.budget_remark))
    name = strongest(results)
    if name is not None:
        accuracy = percent(results.attacks[name].robust_accuracy.value)
        cells.append(tile("Strongest attack", name, f"leaves {accuracy}; {len(results.attacks)} tried"))
    if results.cost.train_seconds:
        share = results.cost.attack_share
        more = f"{percent(share)} of it crafting attacks" if share is not None else ""
        more = run.budget_remark if run.budget_remark == "trained without attacks" else more
        cells.append(tile("Training time", seconds_text(results.cost.train_seconds), more))
    return f'<div class="tiles">{"".join(cells)}</div>'


def flag_box(results: Results, level: int = 2) -> str:
    """The flags, set apart; where there are none, the tile of the flags says so."""
    if not results.flags:
        return ""
    items = []
    for flag in results.flags:
        attack = f" ({escape(flag.attack)})" if flag.attack else ""
        items.append(f"<li><b>{escape(flag.name.replace('_', ' '))}</b>{attack}: {escape(flag.message)}</li>")
    noun = "flag" if len(items) == 1 else "flags"
    heading = f"<h{level}>⚠ {len(items)} {noun} raised by the sanity checks</h{level}>"
    return f'<div class="flags" role="note">{heading}<ul>{"".join(items)}</ul></div>'


def training_figure(run: Run) -> str:
    """Training curves."""
    if run.metrics is None:
        return ""
    best = run.results.selection.best.epoch if run.results.selection else None
    caption = "Adversarial accuracy is measured on attacked examples."
    return figure(training_curves(run.metrics, best), caption)


def curve_figure(run: Run) -> str:
    """Accuracy against eps."""
    curve, results = run.results.curve, run.results
    if curve is None or not curve.points:
        return ""
    train_eps = run.train_eps
    svg = accuracy_curve([(curve.attack, curve)], [train_eps] if train_eps else [], results.threat.norm)
    n = curve.points[0].robust_accuracy.n
    caption = f"The worst of {', '.join(curve.took_part)} on {n:,} test {run.unit}"
    return figure(svg, f"{caption}; the band is the 95% interval.")


def example_section(run: Run, most: int = 8) -> str:
    """Pictures of attacked images; for other data, the predictions in a table."""
    examples = run.examples
    if examples is None:
        return ""
    if not examples.images:
        return section("Examples under attack", _prediction_table(examples, most))
    factor = magnification(examples)
    times = f", enlarged {factor} times" if factor > 1 else ""
    caption = (
        f"Middle row: what {examples.attack or 'the attack'} changed{times}; grey is no change. ✓ right, ✗ wrong. "
        "Picked to show the attack at work: not a random sample."
    )
    return section("Images under attack", figure(picture_grid(examples, most), caption, css="pictures"))


def _prediction_table(examples: Examples, most: int) -> str:
    rows = []
    for place in range(min(most, len(examples.y))):
        true = int(examples.y[place])
        cells = [f"<td>{escape(examples.name(true))}</td>"]
        for predictions, confidences in (
            (examples.prediction, examples.confidence),
            (examples.adversarial_prediction, examples.adversarial_confidence),
        ):
            label = int(predictions[place])
            sure = float(confidences[place])
            confidence = f" <small>{100 * sure:.0f}% sure</small>" if math.isfinite(sure) else ""
            cells.append(f"<td>{'✓' if label == true else '✗'} {escape(examples.name(label))}{confidence}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    attack = escape(f" by {examples.attack}" if examples.attack else "")
    head = f"<tr><th>true class</th><th>prediction</th><th>prediction when attacked{attack}</th></tr>"
    return table(head, rows)


def attacks_table(results: Results) -> str:
    """Each attack, the strongest first: what it left standing, how far it went, and what it cost."""
    if not results.attacks:
        return ""

    def remaining(name: str) -> float:
        value = results.attacks[name].robust_accuracy.value
        return 2.0 if value is None else value

    top = strongest(results) if len(results.attacks) > 1 else None
    rows = []
    for name in sorted(results.attacks, key=remaining):
        attack = results.attacks[name]
        mark = ' <span class="mark">strongest</span>' if name == top else ""
        chips = "".join(
            f'<span class="chip">{escape(str(key))} {escape(plain(value))}</span>'
            for key, value in attack.params.items()
        )
        beyond = attack.max_norm > results.threat.eps * 1.001 + 1e-6
        excess = ' <span class="mark">beyond eps</span>' if beyond else ""
        rows.append(
            f'<tr><th scope="row">{escape(name)}{mark}</th>{rate_cell(attack.robust_accuracy)}'
            f'<td class="number">{attack.max_norm:.4g}{excess}</td>'
            f'<td class="number">{escape(seconds_text(attack.seconds))}</td><td class="chips">{chips}</td></tr>'
        )
    if results.worst_case is not None:
        rate = rate_cell(results.worst_case.robust_accuracy)
        note = "<small>still right against every attack</small>" if len(results.worst_case.attacks) > 1 else ""
        rows.append(f'<tr class="total"><th scope="row">worst case</th>{rate}<td></td><td></td><td>{note}</td></tr>')
    norm = escape(norm_text(results.threat.norm))
    head = (
        "<tr><th>attack</th><th class=number>robust accuracy, 95% interval</th>"
        f"<th class=number>largest change ({norm})</th><th class=number>time</th><th>parameters</th></tr>"
    )
    used = f"Allowed: {norm_text(results.threat.norm)} eps {plain(results.threat.eps)}"
    value = f"{results.threat.eps:.4g}"
    used += f" = {value}." if "/" in plain(results.threat.eps) else "."
    return table(head, rows) + f'<p class="note">{escape(used)}</p>'


def class_section(run: Run) -> str:
    """Accuracy of each class as bars, and as a table to unfold; without an attack there is no worst case to draw."""
    rows = run.results.per_class
    if not rows:
        return ""
    if not run.results.attacks:
        plain_rows = [
            f'<tr><th scope="row">{escape(row.name)}</th>{rate_cell(row.clean_accuracy)}</tr>' for row in rows
        ]
        return section("By class", table("<tr><th>class</th><th class=number>clean accuracy</th></tr>", plain_rows))
    cells = [
        f'<tr><th scope="row">{escape(row.name)}</th><td class="number">{row.label}</td>'
        f'<td class="number">{row.n:,}</td>'
        f"{rate_cell(row.clean_accuracy, 'clean')}{rate_cell(row.robust_accuracy)}</tr>"
        for row in rows
    ]
    head = (
        "<tr><th>class</th><th class=number>label</th><th class=number>n</th>"
        "<th class=number>clean accuracy</th><th class=number>worst-case accuracy</th></tr>"
    )
    caption = f"The {MOST_CLASSES} of {len(rows)} classes that hold up worst." if len(rows) > MOST_CLASSES else ""
    return section(
        "By class",
        figure(class_bars(rows), caption),
        f"<details><summary>Table of the {len(rows)} classes</summary>{table(head, cells)}</details>",
    )


def selection_table(results: Results) -> str:
    """The kept epoch beside the last one, on the validation split."""
    if results.selection is None:
        return ""

    def row(name: str, epoch: SelectedEpoch) -> str:
        rates = (epoch.clean_accuracy, epoch.adversarial_accuracy, epoch.train_adversarial_accuracy)
        values = (percent(rate) for rate in rates)
        numbers = "".join(f'<td class="number">{value}</td>' for value in (str(epoch.epoch), *values))
        return f'<tr><th scope="row">{name}</th>{numbers}</tr>'

    head = (
        "<tr><th>weights</th><th class=number>epoch</th><th class=number>clean, validation</th>"
        "<th class=number>adversarial, validation</th><th class=number>adversarial, training</th></tr>"
    )
    rows = [row("kept (best)", results.selection.best), row("last", results.selection.last)]
    return f"<p>{escape(selection_sentence(results))}</p>" + table(head, rows)


def fact_cards(run: Run) -> str:
    """Cost, data, model and environment, with digests."""
    results = run.results
    cost = results.cost
    attacking = sum(attack.seconds for attack in results.attacks.values())
    memory = cost.peak_memory_mb
    spent = {
        "training": seconds_text(cost.train_seconds) if cost.train_seconds else None,
        "crafting attacks in training": percent(cost.attack_share) if cost.attack_share is not None else None,
        "training speed": f"{cost.samples_per_second:,.0f} {run.unit}/s" if cost.samples_per_second else None,
        "passes a sample": _passes_text(cost),
        "a point of robust accuracy": _point_text(cost),
        "peak memory": None if not memory else f"{memory:,.0f} MB" if memory < 4096 else f"{memory / 1024:.1f} GB",
        "attacks of the test": seconds_text(attacking) if results.attacks else None,
    }
    data = {name: _grouped(value) for name, value in results.data.model_dump().items()}
    model = {name: _grouped(value) for name, value in results.model.model_dump().items()}
    model["weights sha256"] = model.pop("sha256", None)
    run_facts = {"experiment": results.experiment, "command": results.command, "seed": results.seed}
    cards = [
        facts("Cost", spent),
        facts("Data", data),
        facts("Model", model),
        facts("Run and environment", run_facts | results.environment.model_dump()),
    ]
    return f'<div class="facts">{"".join(cards)}</div>'


def _passes_text(cost: Cost) -> str | None:
    forward, backward, both = cost.forward_passes, cost.backward_passes, cost.passes_per_sample
    if forward is None or backward is None or not both:
        return None
    share = forward / (forward + backward)
    return f"{share * both:.3g} forward, {(1 - share) * both:.3g} backward"


def _point_text(cost: Cost) -> str | None:
    if cost.seconds_per_robust_point is None or cost.passes_per_robust_point is None:
        return None
    return f"{seconds_text(cost.seconds_per_robust_point)}, {cost.passes_per_robust_point:,.0f} passes"


def _grouped(value: Any) -> Any:
    """Counts with their thousands set apart; elsewhere (a seed, a step count) they are not."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value


def config_details(run: Run) -> str:
    """The config, folded."""
    if not run.config_text:
        return ""
    return f"<details><summary>Config (config.yaml)</summary><pre>{escape(run.config_text)}</pre></details>"
