"""`robustml reproduce <paper>`: train and evaluate what a paper did, and set our figures beside the published ones."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from robustml.commands.ending.failures import report_failures
from robustml.commands.hydra.words import config_folder
from robustml.config import config_dir
from robustml.errors import RequestError, nearest
from robustml.results.paper import Paper, read_paper

HELP = """\
robustml reproduce: train and evaluate what a paper did, and set our figures beside the published ones.

usage: robustml reproduce <paper> [seeds=5] [n_eval=1000] [variants=[..]] [out=<dir>] [overrides]
       robustml reproduce --list

seeds=5 runs seeds 0 to 4, seeds=[0,3] those two; n_eval evaluates on so many test images; variants chooses
among those of the paper. Anything else is an override of its experiment. What is done is not done again, and what was
interrupted goes on: give the same command again.

Exit status 0: every published figure that was measured is within its tolerance; 1: one is not, or a training failed;
2: the request cannot be understood.

examples:
  robustml reproduce --list
  robustml reproduce wong2020_fast_mnist data.root=<dir with mnist/train.parquet>
  robustml reproduce wong2020_fast_mnist seeds=[0,1] n_eval=1000 variants=[published]
  robustml reproduce wong2020_fast_cifar10 trainer=gpu out=outputs/gpu
"""

_OPTIONS = ("seeds", "n_eval", "variants", "out")
_OWN = re.compile(rf"({'|'.join(_OPTIONS)})=(.*)", re.DOTALL)
# What the command itself says to every training.
_TAKEN = ("seed", "experiment", "hydra.run.dir", "resume")


@dataclass(frozen=True)
class Request:
    """The command line, understood as far as that goes without the paper."""

    paper: str
    seeds: list[int] | None
    variants: list[str] | None
    n_eval: int | None
    out: Path
    own: Path | None
    overrides: list[str]


def main() -> None:
    """List the papers, or reproduce one."""
    report_failures(_dispatch, "train")


def _dispatch() -> None:
    from robustml.reporting.reproduction.tables import papers_text

    words, own = config_folder(sys.argv[1:])
    if words[:1] in (["--help"], ["-h"]):
        print(HELP, end="")
        return
    papers = known_papers(own)
    if not words or words == ["--list"]:
        print(papers_text(list(papers.values())))
        return
    name = words[0]
    paper = find_paper(name, papers)
    _reproduce(paper, _request(name, words[1:], own))


def _reproduce(paper: Paper, request: Request) -> None:
    from robustml.commands.hydra.composing import composed
    from robustml.workflows.reproduce import Training, reproduce

    chosen = chosen_variants(paper, request.variants)
    folder = request.out / request.paper
    limit = [] if request.n_eval is None else [f"evaluation.limit={request.n_eval}"]
    options = [] if request.own is None else ["--config-dir", str(request.own)]
    trainings = []
    for variant in (each for each in paper.variants if each.name in chosen):
        for seed in paper.seeds if request.seeds is None else request.seeds:
            run = folder / variant.name / f"seed-{seed}"
            places = {"{folder}": str(folder.absolute()), "{seed}": str(seed)}
            own = [_filled(word, places) for word in variant.overrides]
            bar = "trainer.enable_progress_bar=false"
            words = [f"experiment={request.paper}", bar, *own, *limit, *request.overrides, f"seed={seed}"]
            settings = partial(composed, words, run, request.own)
            trainings.append(Training(variant.name, seed, run, [*options, *words], settings))
    for name in chosen:  # what does not compose is refused before anything is trained
        next(each for each in trainings if each.variant == name).settings()
    reproduce(paper, trainings, folder, [*limit, *request.overrides])


def _filled(word: str, places: Mapping[str, str]) -> str:
    """An override of a variant that takes up what another variant left."""
    for place, value in places.items():
        word = word.replace(place, value)
    return word


def _request(paper: str, words: Sequence[str], own: Path | None) -> Request:
    options = {match[1]: match[2] for word in words if (match := _OWN.fullmatch(word))}
    overrides = [word for word in words if not _OWN.fullmatch(word)]
    for word in overrides:
        key = word.partition("=")[0]
        if key == "seed":
            raise RequestError(f"reproduce takes seeds, not seed: write seeds=[{word.partition('=')[2]}]")
        if key in _TAKEN:
            raise RequestError(f"reproduce sets {key} itself; leave out {word}")
        if "=" not in word and not word.startswith("~"):
            raise RequestError(f"cannot read {word!r}: expected <option>=<value>; {nearest(word, _OPTIONS)}")
    return Request(
        paper,
        seeds=_seeds(options["seeds"]) if "seeds" in options else None,
        variants=_names(options["variants"]) if "variants" in options else None,
        n_eval=_count("n_eval", options["n_eval"]) if "n_eval" in options else None,
        out=Path(options.get("out") or "outputs/reproductions"),
        own=own,
        overrides=overrides,
    )


def _count(name: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise RequestError(f"{name} must be a whole number above 0, got {text!r}")
    return int(text)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.strip("[]").split(",") if name.strip()]


def _seeds(text: str) -> list[int]:
    """``5`` is how many, from 0; ``[5]`` and ``0,5`` are which."""
    if not text.startswith("[") and "," not in text:
        return list(range(_count("seeds", text)))
    names = _names(text)
    if not names or not all(name.isdigit() for name in names):
        raise RequestError(f"seeds={text}: expected how many, such as seeds=5, or which, such as seeds=[0,1]")
    return list(dict.fromkeys(map(int, names)))


def known_papers(own: Path | None = None) -> dict[str, Paper]:
    """Every experiment that has a `paper` block, by name.

    Args:
        own: a folder of a user's configs (`--config-dir`), searched beside the built-in ones.

    Raises:
        RequestError: a block or a file is not valid.
    """
    folders = [config_dir(), *([own] if own is not None else [])]
    papers = {}
    for path in sorted(path for folder in folders for path in (folder / "experiment").glob("*.yaml")):
        try:
            content = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise RequestError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
        if isinstance(content, dict) and "paper" in content:
            papers[path.stem] = read_paper(content["paper"], path.stem)
    return papers


def find_paper(name: str, papers: dict[str, Paper]) -> Paper:
    """The paper of that name.

    Raises:
        RequestError: there is none; names the nearest.
    """
    if name not in papers:
        raise RequestError(f"there is no paper {name!r}; {nearest(name, papers)} (robustml reproduce --list)")
    return papers[name]


def chosen_variants(paper: Paper, names: Sequence[str] | None) -> list[str]:
    """The variants to run, all of them if none is named.

    Raises:
        RequestError: a name is unknown.
    """
    known = [variant.name for variant in paper.variants]
    for name in names or []:
        if name not in known:
            raise RequestError(f"{paper.id} has no variant {name!r}; {nearest(name, known)}")
    return [name for name in known if names is None or name in names]


if __name__ == "__main__":
    main()
