"""All that was measured of the weights of one run: its own results, and those of its evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robustml.errors import RequestError, printable
from robustml.results import Results, read_results
from robustml.untrusted import own_files


@dataclass(frozen=True)
class Source:
    """A results.json, and how to name it."""

    name: str
    results: Results


def evaluations_of(run: Path) -> tuple[list[Source], list[str], list[str]]:
    """The results of a run and of all finished evaluations of the same model on the same data below it.

    Returns:
        The run's own results first; a line for each evaluation that is left out, for it says nothing of this model; and
        a line for each that cannot be read.

    Raises:
        RequestError: the run has no results, its own cannot be read, or it leads elsewhere.
    """
    own_files(run)
    own = Source("results.json", read_results(run / "results.json"))
    sources, left_out, broken = [own], [], []
    for folder in ("evaluations", "sweeps", "detections"):
        for path in sorted((run / folder).rglob("results.json")):
            name = printable(path.relative_to(run).as_posix())
            if not path.resolve().is_relative_to(run.resolve()):
                broken.append(f"{name} is a link that leads out of the run directory")
                continue
            try:
                results = read_results(path)
            except RequestError as error:
                broken.append(printable(str(error).replace(str(path), name)))
                continue
            if results.model.sha256 != own.results.model.sha256:
                left_out.append(f"{name}: other weights (which=last?)")
            elif results.data.fingerprint != own.results.data.fingerprint:
                left_out.append(f"{name}: other data")
            else:
                sources.append(Source(name, results))
    return sources, left_out, broken
