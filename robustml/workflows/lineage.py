"""Where the model of a run comes from, every link checked: data, poison, training, repair, card, signature.

What is recorded is held against what lies there now: digests of weights and plans, the Merkle root of the manifest that
the data were verified against, what the card drew on, who signed. A digest alone proves that nothing was changed by
accident; only a signature by a key that is trusted proves who wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustml.errors import RequestError, RunFailed, printable
from robustml.files import sha256
from robustml.integrity.manifest import MANIFEST, read_manifest
from robustml.integrity.signing import SIGNATURE, check_folder
from robustml.integrity.trust import Trust, read_trust
from robustml.poisoning import read_plan
from robustml.reporting.weights import verify_weights
from robustml.results import Results, read_card, read_results
from robustml.results.lineage import Kind, Lineage, Link, Step
from robustml.untrusted import own_files
from robustml.workflows.run import PLAN, RESULTS, weights_of
from robustml.workflows.settings import read_settings

_CARD = "card.json"
_MOST = 20
_KINDS: dict[str, Kind] = {"repair": "repair", "trojan": "trojan"}


def lineage(run: str | Path, *, trust: str | Path | None = None) -> Lineage:
    """The steps that led to a run, the earliest first.

    Args:
        run: a finished run directory of `train`, `finetune`, `repair` or `trojan`.
        trust: the folder of public keys that signatures count by; None checks no signature.

    Raises:
        RequestError: it is no run directory, or the runs that it came from lead round in a circle.
    """
    known = None if trust is None else read_trust(Path(trust))
    return Lineage(run=str(run), steps=list(_steps(Path(run), known, ())))


def _steps(run: Path, trust: Trust | None, after: tuple[Path, ...]) -> Iterator[Step]:
    if run.resolve() in after or len(after) == _MOST:
        raise RequestError(f"{run} comes from itself: the runs that its config names lead round in a circle")
    own_files(run)
    results, settings = read_results(run), read_settings(run)
    parent = Path(settings["run"]) if settings.get("run") else None
    links: list[Link] = []
    if parent is None or results.command == "train":  # a repair has the data of the run that it repaired
        yield _data(results, trust)
    if parent is not None and not (parent / RESULTS).is_file():
        links.append(Link(says=f"the run that it began from is not there: {printable(str(parent))}", holds=None))
    elif parent is not None:
        yield from _steps(parent, trust, (*after, run.resolve()))
        links.append(_began(results, parent, settings))
    if (run / PLAN).is_file() or (results.data.poison is not None and results.command == "train"):
        yield _poison(run, results, balanced=settings.get("balance") is not None)
    yield _model(run, results, links)
    if not after and (run / _CARD).is_file():
        yield _card(run, results)
    yield _signature(run, trust)


def _data(results: Results, trust: Trust | None) -> Step:
    counts = {"train": results.data.train, "validation": results.data.val, "test": results.data.test}
    facts = {"records": ", ".join(f"{count or 0:,} {part}" for part, count in counts.items())}
    facts |= {"digest": results.data.fingerprint or "unknown"}
    signed = results.data.manifest
    if signed is None:
        none = Link(says="nobody vouched for the data: trained without data.verify", holds=None)
        return Step(kind="data", name=results.data.name, facts=facts, links=[none])
    by = f", signed by {signed.signed_by}" if signed.signed_by else ", signed by nobody"
    facts |= {"root": signed.root, "manifest": f"{signed.name}, number {signed.serial} of its series{by}"}
    facts |= {"verified": signed.verified + (f", {signed.healed} files restored first" if signed.healed else "")}
    place = signed.place
    links = []
    if not (Path(place) / MANIFEST).is_file():
        links.append(Link(says="the manifest is not where the run found it", holds=None))
    else:
        now = read_manifest(Path(place))
        links.append(Link(says="the manifest has the root that was trained on", holds=now.root == signed.root))
        links.append(_signed(Path(place), trust, "data"))
    return Step(kind="data", name=results.data.name, place=place, facts=facts, links=links)


def _poison(run: Path, results: Results, *, balanced: bool) -> Step:
    summary, trained_on = results.data.poison, (results.data.fingerprints or {}).get("train")
    facts = {} if summary is None else {"dose": summary.describe()}
    try:
        same = read_plan(run / PLAN).poisoned_sha256 == trained_on
        # what was balanced after the poison has another digest
        holds = None if balanced and not same else same
        link = Link(says="the plan makes the training part that was trained on", holds=holds)
    except RequestError as error:
        link = Link(says=printable(str(error)), holds=False)
    name = "poison" if summary is None else summary.kind
    return Step(kind="poison", name=name, place=str(run / PLAN), facts=facts, links=[link])


def _model(run: Path, results: Results, links: list[Link]) -> Step:
    try:
        found = [Link(says=line, holds=True) for line in verify_weights(run, results)]
    except (RunFailed, RequestError) as error:
        found = [Link(says=printable(str(error)), holds=False)]
    environment = results.environment
    facts = {"experiment": results.experiment, "seed": str(results.seed), "model": results.model.name}
    facts |= {"ended": environment.date or "unknown", "code": environment.commit or "unknown"}
    return Step(
        kind=_KINDS.get(results.command, "training"),
        name=results.command,
        place=str(run),
        facts=facts,
        links=[*links, *found],
    )


def _began(results: Results, parent: Path, settings: dict[str, Any]) -> Link:
    """Whether the weights that it began from are those that lie in the other run now."""
    recorded = results.model.origin_sha256 or results.model.target_sha256
    if recorded is None:
        return Link(says="results.json has no digest of the weights that it began from", holds=None)
    weights = weights_of(parent, settings.get("which", "best"))
    same = weights.is_file() and sha256(weights) == recorded
    return Link(says=f"it began from the weights of {printable(str(parent))}", holds=same)


def _card(run: Path, results: Results) -> Step:
    try:
        card = read_card(run)
    except RequestError as error:
        return Step(kind="card", name=_CARD, links=[Link(says=printable(str(error)), holds=False)])
    links = [Link(says="the card is of these weights", holds=card.model.sha256 == results.model.sha256)]
    for each in card.evidence:
        path = run / each.name
        inside = path.resolve().is_relative_to(run.resolve()) and path.is_file()
        says = f"the card drew on {printable(each.name)}"
        links.append(Link(says=says, holds=inside and sha256(path) == each.sha256))
    return Step(kind="card", name=_CARD, place=str(run / _CARD), facts={"verdict": card.verdict.word}, links=links)


def _signature(run: Path, trust: Trust | None) -> Step:
    return Step(kind="signature", name=SIGNATURE, facts={"of": str(run)}, links=[_signed(run, trust, "model")])


def _signed(folder: Path, trust: Trust | None, may: str) -> Link:
    if not (folder / SIGNATURE).is_file():
        return Link(says=f"{printable(folder.name)} is not signed", holds=None)
    if trust is None:
        return Link(says="it is signed; trust=<folder of public keys> says by whom", holds=None)
    try:
        checked = check_folder(folder, trust, may)
    except RunFailed as error:
        return Link(says=printable(str(error)), holds=False)
    changed = ", ".join(f"{printable(name)} {what}" for name, what in checked.changes.items())
    whose = f"signed by {checked.signer.name} ({checked.signer.fingerprint[:19]})"
    return Link(says=whose + (f", but changed since: {changed}" if changed else ""), holds=not changed)
