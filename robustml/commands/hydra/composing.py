"""From a composed config to plain settings, and from those of an earlier run to what a config is composed over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from robustml.commands.hydra.words import allow_arguments
from robustml.config import config_dir
from robustml.workflows.settings.building import Settings, numbered
from robustml.workflows.settings.safe import PATHS

if TYPE_CHECKING:
    from robustml.data import DataModule


def plain(config: DictConfig) -> Settings:
    """The resolved config as dicts, lists and values, with every fraction such as ``8/255`` as a number."""
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    settings = numbered(container)
    assert isinstance(settings, dict)
    return settings


def build_data(config: DictConfig, run: str | Path | None = None) -> DataModule:
    """Load the data, and write into the config what only the data knows: classes by name and number, and the shape.

    Args:
        config: of the command.
        run: whose model the data are for; see `load_data`.

    Raises:
        RequestError: see `load_data`.
    """
    # torch is imported once what was asked for is known to compose.
    from robustml.workflows.preparing import load_data

    settings = OmegaConf.to_container(config.data, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    data = load_data({str(key): value for key, value in settings.items()}, None if run is None else Path(run))
    with open_dict(config):
        config.data.num_classes = data.num_classes
        config.data.class_names = list(data.class_names)
        config.data.shape = list(data.shape)
    return data


def prepared(config: DictConfig, run: str | Path | None = None) -> tuple[Settings, DataModule, Path]:
    """The settings of a job, with what was typed (`overrides`); its data, see `build_data`; its output directory."""
    data, job = build_data(config, run), HydraConfig.get()
    return plain(config) | {"overrides": list(job.overrides.task)}, data, Path(job.runtime.output_dir)


def record(settings: Settings, without: Sequence[str] = ()) -> None:
    """Put the settings of an earlier run where the entry points' `recorded` default finds them.

    Overrides on the command line then apply to them as they do to a built-in config.

    Args:
        settings: of the run.
        without: groups that are chosen anew. Merged into the run's, they would keep its keys: the p of an Lp ball in a
            threat that has none.
    """
    literal = {key: _escaped(value) if key in PATHS else value for key, value in settings.items()}
    node = {key: value for key, value in literal.items() if key not in without}
    ConfigStore.instance().store(name="recorded", node=node, package="_global_")


def _escaped(value: Any) -> Any:
    """A path as OmegaConf has to be given it: where it holds ``${``, that is a name and no reference."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", value) if isinstance(value, str) else value


def composed(words: Sequence[str], run: Path, own: Path | None = None) -> Settings:
    """The settings that `robustml train <words>` would write into config.yaml.

    Raises:
        HydraException: they do not compose.
    """
    search = [] if own is None else [f"hydra.searchpath=[file://{own.resolve()}]"]
    overrides = [*search, *allow_arguments([*words, f"hydra.run.dir={run}"])]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose("train", overrides, return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = str(run.absolute())
        HydraConfig.instance().set_config(config)
        config = config.copy()
        del config["hydra"]
    return plain(config)
