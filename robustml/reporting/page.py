"""The page around the sections of a report: one file, styled for screen, dark screen, phone and paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from robustml.reporting.formats import interval_text, percent, plain
from robustml.reporting.verdict import Verdict

__all__ = [
    "document",
    "facts",
    "figure",
    "left_out_box",
    "section",
    "table",
    "tile",
    "verdict_box",
    "verdict_tiles",
]

STYLESHEET = """
:root{color-scheme:light dark;--page:#f5f7f9;--card:#fff;--ink:#1f2933;--soft:#5b6773;--line:#dfe4e9;
--blue:#0072b2;--pale:#b9d6ea;--track:#e9edf1;--alert:#a33f00;--alert-card:#fff3ea;--alert-line:#eab78f;
--good:#00694d;--lead:#eef6fb;--alarm:#a8071a;--alarm-card:#fdeeee;--alarm-line:#e3a1a1}
@media (prefers-color-scheme:dark){:root{--page:#12171c;--card:#1b2229;--ink:#e6ebf0;--soft:#9dabb8;--line:#323c46;
--blue:#5bb4e5;--pale:#3f6c88;--track:#2b343d;--alert:#ffb27a;--alert-card:#33231a;--alert-line:#7a4a26;
--good:#5fd3ad;--lead:#1d2f3b;--alarm:#ff9a9a;--alarm-card:#371d20;--alarm-line:#7d3a40}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);line-height:1.5;font-size:16px;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1040px;margin:0 auto;padding:2rem 1.25rem 3rem}
h1{font-size:1.9rem;line-height:1.2;margin:.1rem 0 .3rem;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
h3{font-size:1rem;margin:1.3rem 0 .4rem}
p{margin:.4rem 0}
a{color:var(--blue)}
.kicker{color:var(--soft);font-size:.85rem;margin:0;overflow-wrap:anywhere}
.lead{font-size:1.08rem;max-width:46rem;margin:.9rem 0 1.3rem}
.note{color:var(--soft);font-size:.9rem;max-width:50rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(16.5rem,1fr));gap:.75rem;margin:1rem 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.8rem .95rem .85rem;
display:flex;flex-direction:column}
.tile .what{color:var(--soft);font-size:.85rem}
.tile .value{font-size:1.75rem;font-weight:650;letter-spacing:-.02em;line-height:1.25;overflow-wrap:anywhere;
font-variant-numeric:tabular-nums}
.tile .more{color:var(--soft);font-size:.82rem;overflow-wrap:anywhere;margin-bottom:auto}
.tile .bar{margin-top:.55rem}
.tile.alert{background:var(--alert-card);border-color:var(--alert-line)}
.tile.alert .value{color:var(--alert)}
.tile.fine .value{color:var(--good)}
.tile.alarm{background:var(--alarm-card);border-color:var(--alarm-line)}
.tile.alarm .value{color:var(--alarm)}
.tile.alarm .bar i{background:var(--alarm)}
.word.fine{color:var(--good)}.word.caution{color:var(--alert)}.word.alarm{color:var(--alarm);font-weight:600}
.verdict{border:1px solid var(--line);border-left:5px solid var(--good);border-radius:8px;padding:.7rem 1.1rem;
margin:1.1rem 0;background:var(--card)}
.verdict b{display:block;font-size:1.12rem;color:var(--good)}
.verdict.caution{background:var(--alert-card);border-color:var(--alert-line);border-left-color:var(--alert)}
.verdict.caution b{color:var(--alert)}
.verdict.alarm{background:var(--alarm-card);border-color:var(--alarm-line);border-left-color:var(--alarm)}
.verdict.alarm b{color:var(--alarm)}
.bar{display:block;height:5px;border-radius:3px;background:var(--track);overflow:hidden;margin-top:4px}
.bar i{display:block;height:100%;background:var(--blue);border-radius:3px}
.bar.clean i{background:var(--pale)}
.flags{background:var(--alert-card);border:1px solid var(--alert-line);border-left:5px solid var(--alert);
border-radius:8px;padding:.7rem 1.1rem;margin:1.1rem 0}
.flags h2,.flags h3{margin:0 0 .3rem;color:var(--alert);font-size:1.05rem}
.flags ul{margin:.2rem 0;padding-left:1.1rem}
figure{margin:.4rem 0 .6rem;background:#fff;color:#1f2933;border:1px solid var(--line);border-radius:10px;
padding:.8rem .9rem;overflow-x:auto}
figure svg{display:block;max-width:100%;height:auto;margin:0 auto}
figure.pictures svg{max-width:none}
figcaption{color:#5b6773;font-size:.88rem;margin-top:.4rem;position:sticky;left:0}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px}
table{border-collapse:collapse;width:100%;font-size:.93rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.5rem .8rem;border-bottom:1px solid var(--line);vertical-align:top}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--soft);font-weight:600;font-size:.84rem;white-space:nowrap;vertical-align:bottom}
tbody th{font-weight:600;overflow-wrap:anywhere;min-width:11rem}
.number{text-align:right;white-space:nowrap}
td small{color:var(--soft);font-size:.8rem;margin-left:.35rem}
tr.leads>*{background:var(--lead)}
tr.total>*{border-top:2px solid var(--line)}tr.total small{margin-left:0}tr.total .number small{margin-left:.35rem}
.chip{display:inline-block;background:var(--track);border-radius:4px;padding:0 .4rem;margin:0 .25rem .2rem 0;
font-size:.82rem;overflow-wrap:anywhere}
.chips{min-width:11rem}
.mark{color:var(--blue);font-size:.8rem;font-weight:600;white-space:nowrap}
.measured{max-width:36rem}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(22rem,1fr));gap:.75rem}
.facts>div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.3rem 1rem .8rem}
.facts h3{margin:.6rem 0 .3rem}
dl{display:grid;grid-template-columns:auto 1fr;gap:.2rem .9rem;margin:0;font-size:.92rem}
dt{color:var(--soft)}
dd{margin:0;text-align:right;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
dd.digest{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.76rem;text-align:left;
grid-column:1/-1;color:var(--soft)}
details{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.6rem 1rem;margin:.8rem 0}
summary{cursor:pointer;font-weight:600}
pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.82rem;line-height:1.45;
overflow-x:auto;margin:.6rem 0 .2rem}
.run{border-top:2px solid var(--line);margin-top:2.6rem;padding-top:.6rem}
.run>h2{font-size:1.4rem;margin-top:.8rem}
footer{color:var(--soft);font-size:.85rem;margin-top:2.5rem;border-top:1px solid var(--line);padding-top:.7rem}
@media (max-width:640px){main{padding:1.1rem .8rem 2rem}h1{font-size:1.5rem}figure svg{min-width:560px}
.tile .value{font-size:1.45rem}.tiles{grid-template-columns:1fr 1fr}.facts{grid-template-columns:1fr}}
@media print{@page{margin:14mm}:root{color-scheme:light;--page:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#ccc;
--blue:#0072b2;--pale:#b9d6ea;--track:#e9edf1;--alert:#a33f00;--alert-card:#fff;--good:#00694d;--lead:#fff;--alarm:#a8071a;--alarm-card:#fff}
body{font-size:11pt}main{max-width:none;padding:0}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
figure,.tile,.flags,.verdict,.facts>div,tr{break-inside:avoid}h2,h3{break-after:avoid}
figure.pictures svg{max-width:100%}}
"""


def document(title: str, body: Iterable[str]) -> str:
    """A whole page that loads nothing and runs nothing.

    Args:
        title: plain text.
        body: sections in HTML; empty ones vanish.
    """
    inside = "\n".join(part for part in body if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Whatever a hostile name might smuggle in, the browser shall neither run nor load it.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLESHEET}</style>\n</head>\n<body>\n<main>\n"
        f"{inside}\n</main>\n</body>\n</html>\n"
    )


def tile(what: str, value: str, more: str = "", *, share: float | None = None, css: str = "") -> str:
    """One large figure in a box, for a `<div class="tiles">`.

    Args:
        what: plain text above the figure.
        value: the figure, as text.
        more: plain text below it.
        share: in [0, 1]; draws a bar so long.
        css: further classes: "alarm", "alert", "fine" or "pale".
    """
    pale = " clean" if css == "pale" else ""
    bar = "" if share is None else f'<span class="bar{pale}"><i style="width:{100 * share:.1f}%"></i></span>'
    return (
        f'<div class="tile {css}"><span class="what">{escape(what)}</span><span class="value">{escape(value)}</span>'
        f'<span class="more">{escape(more)}</span>{bar}</div>'
    )


def table(head: str, rows: Iterable[str]) -> str:
    """A table in a box that scrolls by itself where it is too wide: its heading row and its rows, in HTML."""
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def left_out_box(reasons: Mapping[str, str]) -> str:
    """The runs that a page leaves out, set apart, each with its reason; "" where there is none."""
    if not reasons:
        return ""
    items = "".join(f"<li><b>{escape(name)}</b>: {escape(reason)}</li>" for name, reason in reasons.items())
    noun = "run" if len(reasons) == 1 else "runs"
    return f'<div class="flags"><h2>⚠ {len(reasons)} {noun} failed and left out</h2><ul>{items}</ul></div>'


def verdict_box(level: str, word: str, sentences: Sequence[str]) -> str:
    """The verdict, above all else on a page: a word, and a sentence for each figure that was asked for and each doubt.

    Colour alone says nothing to many eyes, nor on paper: the word says the same.
    """
    text = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)
    return f'<p class="verdict {level}" role="note"><b>{escape(word[0].upper() + word[1:])}</b>{escape(text)}</p>'


def verdict_tiles(found: Verdict) -> list[str]:
    """A tile for each figure that was asked for, the leading one first."""
    css = {"fine": "", "caution": "alert", "alarm": "alarm"}
    return [
        tile(
            finding.name,
            percent(finding.value),
            "; ".join(filter(None, (finding.beside, "" if finding.rate is None else interval_text(finding.rate)))),
            share=finding.value,
            css=css[finding.level],
        )
        for finding in found.findings
        if finding.name and finding.kind != "clean"
    ]


def section(title: str, *parts: str, level: int = 2) -> str:
    """A heading with what follows it, or "" when nothing does."""
    inside = "\n".join(part for part in parts if part)
    return f"<h{level}>{escape(title)}</h{level}>\n{inside}" if inside else ""


def figure(svg: str, caption: str = "", css: str = "") -> str:
    """A chart on a white card, so that it reads alike in light and dark; "" for an empty chart.

    Args:
        svg: an SVG element.
        caption: plain text.
        css: a class of the card.
    """
    if not svg:
        return ""
    # Within HTML an SVG needs neither its namespaces nor their prefixes: no address is left on the page.
    inline = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg, count=2).replace("xlink:href=", "href=")
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure{f' class={css}' if css else ''}>{inline}{below}</figure>"


def facts(title: str, values: Mapping[str, Any]) -> str:
    """A card of names and values; values that are None are left out, and "" is returned when none is left."""
    rows = []
    for name, value in values.items():
        if value is None:
            continue
        digest = isinstance(value, str) and len(value) > 40 and " " not in value
        label = escape(name.replace("_", " "))
        rows.append(f"<dt>{label}</dt><dd{' class=digest' if digest else ''}>{escape(plain(value))}</dd>")
    return f"<div><h3>{escape(title)}</h3><dl>{''.join(rows)}</dl></div>" if rows else ""
