"""What the model of a run was trained on, so that no later command judges it on that without a word."""

from __future__ import annotations

from pathlib import Path

from robustml.data import DataModule, Lineage
from robustml.errors import RequestError
from robustml.workflows.run import TROJAN
from robustml.workflows.settings import read_settings

RECORDS = Path("records.safetensors")
# 128 MiB are records of 16 million pictures.
_LARGEST = 128 * 2**20


def records_to_train_on(run: Path, data: DataModule, begun_with: str | None, *, begun: bool) -> Lineage:
    """The records that a run is about to be trained and judged on.

    Args:
        run: the directory.
        data: set up, before any poison.
        begun_with: the run whose weights are tuned on; None for a training from scratch.
        begun: there are checkpoints already.

    Raises:
        RequestError: the run began with other data: what is now in its test part may have been trained on.
    """
    records = Lineage.of(data, None if begun_with is None else read_records(Path(begun_with)))
    noted = read_records(run) if begun else None
    if noted is not None and (changed := noted.changed(records)):
        raise RequestError(
            f"the data of {run} have changed since it began (other records in: {', '.join(changed)}), and it would be "
            "judged on what it was trained on: restore them, or start a new run"
        )
    return records


def read_records(run: Path) -> Lineage | None:
    """The records of a run; None for one of a version that did not note them.

    Raises:
        RequestError: the file is damaged.
    """
    if not (run / RECORDS).is_file() and (run / TROJAN).is_file():
        # As in load_model: beside the run, wherever that was moved, or where it was.
        run = run.parent.parent if run.parent.name == "trojans" else Path(read_settings(run)["run"])
    path = run / RECORDS
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > _LARGEST:
        raise RequestError(f"{path} is larger than {_LARGEST / 2**20:g} MiB, so it is none of ours")
    try:
        return Lineage.from_bytes(content)
    except RequestError as error:
        raise RequestError(f"{path} is damaged: {error}") from error


def leave_out_known(run: Path, data: DataModule) -> str | None:
    """Take out of the test part what the model of `run` was trained or selected on.

    Nothing is where the set is as it was. A split that is drawn anew, since files were added, would otherwise hand
    training records to the evaluation.

    Returns:
        What is to be said of the test part, where it is not as it was.

    Raises:
        RequestError: nothing is left; or the training part decides on what the inputs mean (the scale of columns, a
            vocabulary), and is not the one that the model was trained on.
    """
    records = read_records(run)
    if records is None:
        return f"{run}, of a former version, does not tell its training records: some may be in the test part"
    # inputs that come scaled already, as robustml poison writes them, tell nothing of how
    if None not in (records.fitted_to, data.fitted_to) and records.fitted_to != data.fitted_to:
        raise RequestError(
            f"{data.name}: the training part decides on what the inputs mean (scales, words), and is not the one that "
            f"{run} was trained on: keep data.source.train as it was, and name new records in data.source.test"
        )
    total = len(data.test)
    kept, new = records.unseen(data.test.x)
    data.left_out = total - int(kept.sum())
    if data.left_out == total:
        raise RequestError(
            f"{data.name}: {run} was trained on all {total} test records: name others, data.source.test=..."
        )
    if data.left_out:
        data.test = data.test.take(kept.nonzero().squeeze(1))
        return (
            f"the set has changed since {run} was trained: {data.left_out} of {total} test records were trained or "
            f"selected on, and are left out; of the rest, {new - data.left_out} are new"
        )
    return f"{new} of {total} test records were not in the test part of {run}" if new else None
