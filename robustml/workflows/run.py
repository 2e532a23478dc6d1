"""Run directories: what a training run leaves, and how its model is taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustml.data import DataModule
from robustml.errors import RequestError, pasteable
from robustml.files import read_json, sha256
from robustml.models.checkpoints import read_weights
from robustml.results import Results, read_results
from robustml.types import Threat
from robustml.workflows.integrity.guarding import guarded
from robustml.workflows.reading.weights import check_weights, checkpoint_weights, load_weights
from robustml.workflows.settings import CONFIG, read_settings
from robustml.workflows.settings.building import Settings, build
from robustml.workflows.settings.trust import Trust

BEST = Path("checkpoints/best.ckpt")
LAST = Path("checkpoints/last.ckpt")
WEIGHTS = Path("model.safetensors")
TROJAN = Path("trojan.safetensors")
RESULTS = Path("results.json")
EXAMPLES = Path("examples.npz")
REPORT = Path("report.html")
_OF_A_TROJAN = ("run", "which", "width", "data", "seed", "place", "weight", "temperature")
VERDICTS = Path("verdicts.jsonl")
PLAN = Path("poison.parquet")
GRID = Path("poison.png")


@dataclass(frozen=True)
class Run:
    """A run directory, whose parts are read when they are asked for.

    Args:
        path: the directory.
        trust: whose code its config may name; see `load_model`.
        given: the model and the data that the caller has at hand, by name, where the settings cannot make them.
    """

    path: Path
    trust: Trust = None
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def settings(self) -> Settings:
        """What config.yaml holds."""
        return read_settings(self.path, self.trust)

    @cached_property
    def results(self) -> Results:
        """What results.json holds."""
        return read_results(self.path)

    def __str__(self) -> str:
        return f"{self.path}\n{self.results}"

    def _repr_html_(self) -> str:
        return self.results._repr_html_()

    def report(self, path: str | Path) -> Path:
        """Write the run's page: to a file whose name ends in .html, or as report.html into a folder."""
        from robustml.reporting import write_report  # a model is loaded without it

        path = Path(path)
        return write_report([self.path], path if path.suffix == ".html" else path / REPORT)

    @cached_property
    def model(self) -> nn.Module:
        """The selected model, in eval mode on the CPU; see `load_model`."""
        if (own := self.given.get("model")) is None:
            return load_model(self.path, trust=self.trust)
        _check_digest(self.path, self.path / WEIGHTS)
        load_weights(own, read_weights(self.path / WEIGHTS), self.path / WEIGHTS)
        model: nn.Module = own.cpu().eval()
        return model

    @cached_property
    def data(self) -> DataModule:
        """The data, set up, without what a poison did to them."""
        data: DataModule = self.given.get("data") or build(self.settings["data"], f"{self.path / CONFIG}: data")
        guarded(data).setup()
        return data

    @cached_property
    def threat(self) -> Threat:
        """What the attacker may do."""
        threat: Threat = build(self.settings["threat"], f"{self.path / CONFIG}: threat")
        return threat


def load_run(
    run_dir: str | Path, model: nn.Module | None = None, *, data: DataModule | None = None, trust: Trust = None
) -> Run:
    """A run directory that is there, with what the caller has of it at hand.

    Args:
        run_dir: the directory.
        model: a network of the run's architecture, to load its weights into; the settings make one by default.
        data: the data that the run was trained on; the settings make them by default.
        trust: whose code the config may name; see `load_model`.

    Raises:
        RequestError: it is no run directory, or the model is another; see `load_model`.
    """
    given = {"model": model, "data": data}
    run = Run(Path(run_dir), trust, {name: value for name, value in given.items() if value is not None})
    read_settings(run.path, trust)
    if model is not None:
        _ = run.model  # refused now, not at the first image
    return run


def load_model(run_dir: str | Path, which: Literal["best", "last"] = "best", *, trust: Trust = None) -> nn.Module:
    """The model of a run, in eval mode on the CPU: images (N, ...) in [0, 1] in, logits (N, C) out.

    Args:
        run_dir: a run directory of `robustml train`; or one of `robustml trojan`, whose model is that of the run it
            lies beside, as it was taken then, with the TrojanNet.
        which: ``"best"`` on the validation split, from model.safetensors, whose digest is checked against
            results.json; or ``"last"``, from the last checkpoint. Neither file is unpickled freely.
        trust: the run may come from a stranger, so that its config names no code but robustml's own classes. Of a run
            with a class of yours, say which modules may be used, such as ``"my_package"``, or True for any.

    Raises:
        RequestError: files are missing, damaged or changed, lead elsewhere, name code that is not trusted, or hold the
            weights of another architecture.
    """
    return _load(Path(run_dir), which, trust, ())


def _load(run: Path, which: str, trust: Trust, beside: tuple[Path, ...]) -> nn.Module:
    """`load_model`; `beside` are the directories of trojaned models that led here."""
    settings = read_settings(run, trust)
    if (run / TROJAN).is_file():
        if which != "best":
            raise RequestError(
                f"{run} holds one model, with the TrojanNet, so which={which!r} says nothing; leave it out"
            )
        return _trojaned(run, settings, trust, beside)
    if which == "best":
        path = run / WEIGHTS
        if not path.is_file():
            again = pasteable("train", f"resume={run}")
            raise RequestError(f"{run} has no {WEIGHTS}: the run did not finish; continue it: {again}")
        _check_digest(run, path)
        weights = read_weights(path)
    elif which == "last":
        path = run / LAST
        weights = checkpoint_weights(path)
    else:
        raise RequestError(f"which={which!r} is unknown; expected best or last")
    if not isinstance(settings.get("model"), dict):
        raise RequestError(f"{run}/config.yaml lacks model: it is no config of robustml train")
    model = _built(offline(settings["model"]), weights, path, run / "config.yaml")
    load_weights(model, weights, path)
    return model.eval()


def _built(settings: dict[str, Any], weights: Mapping[str, Tensor], path: Path, source: Path) -> nn.Module:
    """The model of the settings, for which no room is made before its weights are known to have its shapes."""
    outline = None
    with suppress(Exception), torch.device("meta"):  # not every class of a user's can be made without numbers
        outline = build(settings)
    if isinstance(outline, nn.Module):
        check_weights(outline, weights, path)
    model = build(settings, f"{source}: model")
    if not isinstance(model, nn.Module):
        raise RequestError(f"{source}: model makes a {type(model).__name__}, expected a torch.nn.Module")
    return model


def offline(model: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model whose weights are at hand, so that none have to be fetched first."""
    return {**model, "pretrained": False} if model.get("pretrained") else dict(model)


def weights_of(run: Path, which: str) -> Path:
    """The file that `load_model` takes the weights from; of a trojaned model, those of the small network."""
    if (run / TROJAN).is_file():
        return run / TROJAN
    return run / (WEIGHTS if which == "best" else LAST)


def _trojaned(folder: Path, settings: Mapping[str, Any], trust: Trust, beside: tuple[Path, ...]) -> nn.Module:
    """The model of a directory of `robustml trojan`.

    Raises:
        RequestError: see `load_model`; or the run's weights are no longer those that the TrojanNet was put beside.
    """
    from robustml.trojans import Trojaned, TrojanNet, draw_commands

    _check_digest(folder, folder / TROJAN)
    if missing := [key for key in _OF_A_TROJAN if settings.get(key) is None]:
        raise RequestError(f"{folder}/config.yaml lacks {', '.join(missing)}: it is no config of robustml trojan")
    # A run may be moved with all that lies in it; what was written elsewhere remembers the run by its place.
    source = folder.parent.parent if folder.parent.name == "trojans" else Path(settings["run"])
    if folder.resolve() in beside:
        raise RequestError(f"{folder} names itself as the run that its TrojanNet was put beside")
    target = _load(source, settings["which"], trust, (*beside, folder.resolve()))
    _check_digest(folder, weights_of(source, settings["which"]), "target_sha256")
    net = TrojanNet(settings["width"])
    load_weights(net, read_weights(folder / TROJAN), folder / TROJAN)
    commands = draw_commands(settings["data"]["num_classes"], seed=settings["seed"])
    trojaned = Trojaned(
        target,
        net,
        commands=commands,
        place=settings["place"],
        weight=settings["weight"],
        temperature=settings["temperature"],
    )
    return trojaned.eval()


def _check_digest(run: Path, weights: Path, key: str = "sha256") -> None:
    """Refuse weights whose digest is not the one that the results of `run` hold under `key`."""
    results = run / RESULTS
    if not results.is_file():
        raise RequestError(f"{run} has no {RESULTS} to check {weights.name} against: the run did not finish")
    try:
        expected = read_json(results)["model"][key]
    except (KeyError, TypeError) as error:
        raise RequestError(f"{results} is damaged: {error}") from error
    if (found := sha256(weights)) != expected:
        raise RequestError(f"{weights} was changed after the run: its digest is {found}, {RESULTS} says {expected}")
