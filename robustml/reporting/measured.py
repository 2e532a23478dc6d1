"""The sections on what is measured beside attacks: corruptions, backdoors, extraction, certificates."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from robustml.reporting.backdoor import backdoor_section
from robustml.reporting.extraction import extraction_section
from robustml.reporting.formats import eps_text, interval_text, norm_text, percent, plain, seconds_text
from robustml.reporting.page import figure, section, table
from robustml.reporting.plots import accuracy_curve
from robustml.reporting.tables import rate_cell
from robustml.results import Certified, Curve, CurvePoint, Rate, Results

__all__ = ["corruption_section", "extra_sections"]


def extra_sections(results: Results) -> str:
    """Corruption, backdoor, extraction and certification figures, for the commands that measure them."""
    parts = [corruption_section(results), backdoor_section(results)]
    if results.extraction:
        parts.append(extraction_section(results.extraction))
    if results.certified is not None:
        parts.append(_certified_section(results, results.certified))
    return "\n".join(parts)


def _certified_section(results: Results, certified: Certified) -> str:
    """What is proved beside what attacks left standing, at eps and over growing radii."""
    smoothed = certified.method == "smoothing"
    found = certified.empirical_accuracy
    budget = f"{norm_text(certified.norm)} {eps_text(certified.eps)}"
    rows = [
        ("accuracy of the smoothed classifier" if smoothed else "clean accuracy", certified.accuracy),
        (f"under attack at {budget}, worst of {', '.join(certified.attacks)}", found),
        (f"certified at {budget}", certified.certified_accuracy),
    ]
    cells = [f'<tr><th scope="row">{escape(name)}</th>{rate_cell(rate)}</tr>' for name, rate in rows if rate]
    points = [CurvePoint(eps=point.radius, robust_accuracy=point.certified_accuracy) for point in certified.radii]
    lines = [("certified", Curve(attack=certified.method, points=points))]
    if results.curve is not None and not smoothed:
        lines.append((f"under {results.curve.attack}", results.curve))
    settings = ", ".join(f"{name} {plain(value)}" for name, value in certified.params.items())
    note = (
        f"Method {certified.method}{f' ({settings})' if settings else ''}: average certified radius "
        f"{certified.acr:.3g}, {seconds_text(certified.seconds)}. "
    )
    if smoothed:
        note += (
            "Certificates and attacks are about the classifier smoothed by noise, not the model itself; each is wrong "
            f"with a probability of at most {plain(certified.params.get('alpha'))}. It abstains on "
            f"{certified.abstained:,} images; attacks disproved {certified.contradicted:,}."
        )
    chart = figure(accuracy_curve(lines, (), certified.norm), "By radius; the band is the 95% interval.")
    listed = table("<tr><th>measure</th><th class=number>accuracy, 95% interval</th></tr>", cells)
    return section("Certified robustness", listed, f'<p class="note">{escape(note)}</p>', chart)


def corruption_section(results: Results) -> str:
    """Accuracy under each common corruption and severity: a table shaded by how much is left."""
    block = results.corruptions
    if block is None or not block.accuracy:
        return ""
    severities = sorted({point.severity for points in block.accuracy.values() for point in points})
    columns: dict[int, list[float]] = {severity: [] for severity in severities}
    rows = []
    for name, points in block.accuracy.items():
        found = {point.severity: point.accuracy for point in points}
        values = [rate.value for rate in found.values() if rate.value is not None]
        cells = [_shaded(found[severity].value, found[severity]) if severity in found else "<td></td>"
                 for severity in severities]  # fmt: skip
        for severity, rate in found.items():
            columns[severity] += [] if rate.value is None else [rate.value]
        mean = _shaded(_mean(values))
        rows.append(f'<tr><th scope="row">{escape(name.replace("_", " "))}</th>{"".join(cells)}{mean}</tr>')
    means = "".join(_shaded(_mean(columns[severity])) for severity in severities)
    rows.append(f'<tr class="total"><th scope="row">mean</th>{means}{_shaded(block.mean_accuracy)}</tr>')
    numbers = "".join(f"<th class=number>severity {severity}</th>" for severity in severities)
    note = (
        f"Accuracy on corrupted images, clean {percent(results.clean_accuracy.value)}; mean corruption error "
        f"{percent(block.mean_corruption_error)}, a plain mean."
    )
    note += f" Images: {block.source}." if block.source else ""
    head = f"<tr><th>corruption</th>{numbers}<th class=number>mean</th></tr>"
    return section("Common corruptions", table(head, rows), f'<p class="note">{escape(note)}</p>')


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _shaded(value: float | None, rate: Rate | None = None) -> str:
    """A cell the bluer the higher its value, as a heat map; its interval shows when it is pointed at."""
    title = f' title="{escape(interval_text(rate))}"' if rate is not None else ""
    # no darker than 0.6, so that the figure reads on it in light and dark
    shade = f' style="background:rgba(0,114,178,{0.6 * value**2:.3f})"' if value is not None else ""
    return f'<td class="number"{shade}{title}>{percent(value)}</td>'
