"""Train on from the weights of a run, as whoever downloaded them would."""

from __future__ import annotations

from pathlib import Path

from robustml.data import DataModule
from robustml.errors import RequestError
from robustml.workflows.settings import CONFIG, read_settings
from robustml.workflows.settings.building import Settings
from robustml.workflows.training import train


def finetune(settings: Settings, data: DataModule, out: Path) -> float | None:
    """Train from the weights of the run that the settings name, into an ordinary run directory; see `train`.

    Args:
        settings: of a training, with `run` and `which`, and `backdoor_of` where a backdoor is to be watched.
        data: set up.
        out: the directory.

    Raises:
        RequestError: the data are of another shape or number of classes than the run's model.
    """
    run = Path(settings["run"])
    known = read_settings(run)["data"]
    if not known.get("shape") or not known.get("num_classes"):
        raise RequestError(f"{run / CONFIG} tells no data.shape and data.num_classes")
    shape, classes = tuple(known["shape"]), known["num_classes"]
    if (data.shape, data.num_classes) != (shape, classes):
        raise RequestError(
            f"{data.name} has {data.num_classes} classes and inputs of the shape {data.shape}; the model of {run} "
            f"takes {classes} and {shape}: choose data like the run's"
        )
    # Absolute, so that an interrupted run is continued from wherever.
    places = {key: str(Path(settings[key]).resolve()) for key in ("run", "backdoor_of") if settings[key] is not None}
    return train(settings | places, data, out, resume=False)
