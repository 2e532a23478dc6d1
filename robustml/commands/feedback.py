"""`robustml feedback data=...`: a filter that learns from its users' reports, and an attacker among the users."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.commands.hydra.entry import hydra_command
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from robustml.data import Records
    from robustml.poisoning import FeedbackRound, Mailbox

__all__ = ["feedback", "main"]


def feedback(config: DictConfig) -> None:
    """Run the campaign, its control, and the campaign with rollback; write what came of each.

    The training part is cut, in its order, into one part for the filter before any feedback and one a round; every
    round is measured on the test part. The directory gets config.yaml, feedback.json and feedback.html.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    from robustml.commands.hydra.composing import build_data, plain
    from robustml.files import write_text
    from robustml.poisoning import linear_filter, simulate_feedback
    from robustml.poisoning.choose import class_label
    from robustml.reporting.pages.feedback import feedback_text, write_feedback_page
    from robustml.say import say
    from robustml.workflows.settings import write_settings
    from robustml.workflows.settings.building import build

    with open_dict(config):
        config.data.val_size = 0
    data = build_data(config)
    settings = plain(config)
    shares = _shares(settings)
    spam = class_label(data.test, settings["spam"], "spam")
    trusted, *rounds = _parts(data.train, spam, settings)
    monitors = {name: build(settings[name]) for name in ("previous_round", "baseline")}

    def simulate(shares: list[float], *, roll_back: bool = False) -> list[dict[str, Any]]:
        found = simulate_feedback(
            trusted,
            rounds,
            _mailbox(data.test, spam),
            shares=shares,
            seed=settings["seed"],
            roll_back=roll_back,
            learner=linear_filter,
            **monitors,
        )
        return [_plain(each) for each in found]

    attacked = simulate(shares)
    report = {
        "command": "feedback",
        "seed": settings["seed"],
        "data": data.summary().model_dump(),
        "spam": data.class_names[spam],
        "shares": shares,
        "notes": _notes(attacked, shares, len(data.train)),
        "attacked": attacked,
        "control": simulate([0.0] * len(shares)),
        "rolled_back": simulate(shares, roll_back=True),
    }
    out = Path(HydraConfig.get().runtime.output_dir)
    write_settings(settings | {"overrides": list(HydraConfig.get().overrides.task)}, out / "config.yaml")
    write_text(out / "feedback.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    page = write_feedback_page(report, out / "feedback.html")
    say("\n" + feedback_text(report) + "\n")
    for note in report["notes"]:
        say(f"note: {note}")
    say(f"report: {page}")
    say(f"run: {out}")


def _shares(settings: dict[str, Any]) -> list[float]:
    """What share of the spam of each round is reported falsely: it grows evenly from the first round that has some."""
    count, first, last = settings["rounds"], settings["first"], settings["share"]
    if type(count) is not int or count < 1:
        raise RequestError(f"rounds must be at least 1, got {count!r}")
    if type(first) is not int or not 1 <= first <= count:
        raise RequestError(f"first is the round that the campaign begins in, from 1 to {count} here; got {first!r}")
    if isinstance(last, bool) or not isinstance(last, int | float) or not 0 <= last <= 1:
        raise RequestError(f"share is that of the spam of the last round, in [0, 1]; got {last!r}")
    return [last * max(0, number - first + 1) / (count - first + 1) for number in range(1, count + 1)]


def _parts(train: Records, spam: int, settings: dict[str, Any]) -> list[Mailbox]:
    """The training part cut into equal parts: the trusted mail, and that of each round."""
    import torch

    from robustml.poisoning.choose import seeded

    count = settings["rounds"] + 1
    if len(train) < count:
        raise RequestError(
            f"{len(train)} training rows are too few for the trusted part and {settings['rounds']} rounds of at least "
            "one: lower rounds="
        )
    order = torch.arange(len(train))
    if settings["shuffle"]:
        order = torch.randperm(len(train), generator=seeded(settings["seed"], "feedback order"))
    size = len(train) // count
    return [_mailbox(train.take(order[start : start + size]), spam) for start in range(0, size * count, size)]


def _notes(attacked: list[dict[str, Any]], shares: list[float], rows: int) -> list[str]:
    """Where the campaign is not quite what was asked for, and why.

    Raises:
        RequestError: nothing was reported falsely, although a share was asked for.
    """
    sent, false = ([each[name] for each in attacked[1:]] for name in ("spam", "false_reports"))
    if any(shares) and not any(false):
        raise RequestError(
            f"share={max(shares):g} of the spam of a round, {max(sent)} mails at most, rounds to none in every round: "
            "raise it, or lower rounds="
        )
    notes = []
    aimed = zip(sent, shares, strict=True)
    if without := [number for number, (count, share) in enumerate(aimed, 1) if share and not count]:
        notes.append(f"no spam came in rounds {', '.join(map(str, without))}, so none was reported falsely there")
    if unused := rows % len(attacked):
        notes.append(f"the last {unused} training rows are in no round: parts have {rows // len(attacked)} rows each")
    return notes


def _mailbox(part: Records, spam: int) -> Mailbox:
    """Rows as vectors (D,) in [0, 1], and which of them are spam."""
    from robustml.poisoning import Mailbox
    from robustml.poisoning.pixels import in_unit_range

    return Mailbox(list(in_unit_range(part.x).flatten(1).numpy()), (part.y == spam).tolist())


def _plain(found: FeedbackRound) -> dict[str, Any]:
    """The figures of a round, without its filter."""
    return {name: value for name, value in vars(found).items() if name != "model"}


def main() -> None:
    """Compose feedback.yaml and simulate."""
    hydra_command(feedback, "feedback")


if __name__ == "__main__":
    main()
