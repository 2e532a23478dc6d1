"""The end of a card's page: the files that its figures are from, with digests and how to repeat them, and facts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from robustml.reporting.card_comparison import distinct
from robustml.reporting.formats import percent, seconds_text
from robustml.reporting.page import facts
from robustml.results import Card

__all__ = ["evidence_table", "fact_cards", "headed_table", "left_out_details"]


def headed_table(headings: Sequence[str], rows: Sequence[str], numbers: Sequence[str] = ()) -> str:
    """A table under plain headings; those in `numbers` are flush right."""
    head = "".join(f"<th{' class=number' if name in numbers else ''}>{escape(name)}</th>" for name in headings)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def evidence_table(card: Card) -> str:
    """The files, numbered as the tables refer to them, with digests and the commands that repeat them."""
    rows, lines = [], []
    for place, evidence in enumerate(card.evidence):
        attacks = ", ".join(evidence.attacks) or "no attack"
        state = "" if evidence.complete else ", not complete"
        config = evidence.config_sha256 or "missing"
        rows.append(
            f'<tr><td class="number">{place + 1}</td><th scope="row">{escape(evidence.name)}<dl>'
            f'<dd class="digest">{escape(evidence.sha256)}</dd>'
            f'<dd class="digest">config.yaml {escape(config)}</dd></dl></th>'
            f'<td>{escape(f"{attacks}{state}")}</td><td class="number">{evidence.n:,}</td></tr>'
        )
        lines.append(f"# {place + 1}\n{evidence.command_line or 'the settings of its config.yaml'}")
    table = headed_table(["no.", "file, and SHA-256 digests", "attacks", "n"], rows, numbers=["no.", "n"])
    commands = f'<pre style="white-space:pre-wrap">{escape(chr(10).join(lines))}</pre>'
    return f"{table}<details open><summary>To repeat it</summary>{commands}</details>"


def left_out_details(card: Card) -> str:
    """The evaluations that say nothing of this model, or cannot be read."""
    if not card.left_out:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in card.left_out)
    return f'<div class="note"><p>Left out:</p><ul>{items}</ul></div>'


def fact_cards(card: Card) -> str:
    """Model, data, run and environments."""
    model = card.model.model_dump()
    model["weights sha256, verified"] = model.pop("sha256")
    cost = card.cost
    run = {
        "experiment": card.experiment,
        "seed": card.seed,
        "training": seconds_text(cost.train_seconds) if cost.train_seconds else None,
        "crafting attacks in training": percent(cost.attack_share) if cost.attack_share is not None else None,
    }
    environments = [evidence.environment for evidence in card.evidence]
    cards = [facts("Model", model), facts("Data", card.data.model_dump()), facts("Run", run)]
    cards += [
        facts("Environment" if place == 0 else f"Environment, {place + 1}", environment.model_dump())
        for place, environment in enumerate(distinct(environments))
    ]
    return f'<div class="facts">{"".join(cards)}</div>'
