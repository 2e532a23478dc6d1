"""The lineage of a model as a picture: a box a step, joined by lines that are red where a link is broken."""

from __future__ import annotations

from html import escape

from robustml.errors import printable
from robustml.reporting.figures.look import EDGE, FONTS, GREEN, GREY, INK, VERMILLION
from robustml.results.lineage import Lineage, Step

_WIDTH, _BOX, _GAP, _LINE = 460, 64, 26, 17
_COLOURS = {True: GREEN, False: VERMILLION, None: GREY}
_LETTERS = 52


def lineage_picture(found: Lineage) -> str:
    """An SVG document, 460 pixels wide."""
    parts, top = [], 8
    for number, step in enumerate(found.steps):
        if number:
            parts.append(f'<path d="M30 {top - _GAP}v{_GAP - 7}m-4 -5l4 6l4 -6" stroke="{GREY}" fill="none"/>')
        height = _BOX - _LINE + _LINE * max(len(step.links), 1)
        parts.append(_box(step, top, height))
        top += height + _GAP
    size = f'width="{_WIDTH}" height="{top - _GAP + 8}" viewBox="0 0 {_WIDTH} {top - _GAP + 8}"'
    label = escape(f"The steps that led to {printable(found.run)}")
    look = f'font-family="{escape(FONTS)}" font-size="12" fill="{INK}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}" {look}>'
    return "\n".join([head, *parts, "</svg>\n"])


def _box(step: Step, top: int, height: int) -> str:
    worst = False if any(link.holds is False for link in step.links) else None
    good = bool(step.links) and all(link.holds for link in step.links)
    colour = _COLOURS[True if good else worst]
    name = _short(step.kind if step.name == step.kind else f"{step.kind}: {step.name}")
    fact = next(iter(step.facts.values()), "")
    lines = [
        f'<rect x="8" y="{top}" width="{_WIDTH - 16}" height="{height}" rx="6" fill="white" stroke="{EDGE}"/>',
        f'<rect x="8" y="{top}" width="5" height="{height}" rx="2" fill="{colour}"/>',
        f'<text x="24" y="{top + 19}" font-weight="bold">{escape(name)}</text>',
        f'<text x="24" y="{top + 36}" fill="{GREY}">{escape(_short(fact))}</text>',
    ]
    for row, link in enumerate(step.links):
        place = top + 36 + _LINE * (row + 1)
        lines.append(f'<circle cx="28" cy="{place - 4}" r="4" fill="{_COLOURS[link.holds]}"/>')
        lines.append(f'<text x="38" y="{place}">{escape(_short(link.says))}</text>')
    return "".join(lines)


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"
