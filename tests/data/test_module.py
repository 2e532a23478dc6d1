from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from robustml.data import DataModule, Digits, RandomHorizontalFlip, Records
from robustml.data.module import Place
from robustml.errors import RequestError

from .tiny import noise, png, write_parquet

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "data").glob("*.yaml"))


@dataclass(frozen=True)
class Given:
    """A source of sets made on the spot."""

    train: Records
    test: Records

    def load(self, split: str) -> Records:
        return self.train if split == "train" else self.test


def composed(name: str, **changes: object):
    path = next(path for path in CONFIGS if path.stem == name)
    config = OmegaConf.create({"data": OmegaConf.load(path), "seed": 3})
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    return instantiate(config).data


def test_digits_by_default():
    data = DataModule(Digits(), name="digits", val_size=180, num_classes=10, shape=[1, 8, 8])
    data.setup()
    facts = {"name": "digits", "train": 1257, "val": 180, "test": 360, "fingerprint": data.fingerprint}
    assert data.summary().model_dump(exclude={"fingerprints"}, exclude_none=True) == facts
    assert data.fingerprint.startswith("sha256:")
    assert data.num_classes == 10
    assert data.shape == (1, 8, 8)
    assert data.class_names == tuple("0123456789")


def test_setup_is_idempotent_and_the_split_ignores_the_run_seed():
    modules = [DataModule(Digits(), name="digits", val_size=0.1, seed=seed) for seed in (0, 1)]
    for data in modules:
        data.setup()
        train = data.train
        data.setup()
        assert data.train is train
    assert modules[0].fingerprint == modules[1].fingerprint
    other = DataModule(Digits(), name="digits", val_size=0.1, split_seed=1)
    other.setup()
    assert other.fingerprint != modules[0].fingerprint


def test_loaders(toy):
    data = DataModule(
        Given(toy(40), toy(10)),
        name="toy",
        batch_size=8,
        eval_batch_size=4,
        val_size=10,
        augment=[RandomHorizontalFlip()],
    )
    data.setup()
    assert data.train_dataloader().shuffle
    assert data.train_dataloader().augment
    assert len(data.train_dataloader()) == 4
    for loader, count in ((data.val_dataloader(), 10), (data.test_dataloader(), 10), (data.loader("train"), 30)):
        assert not loader.shuffle
        assert not loader.augment
        assert sum(len(y) for _, y in loader) == count
    assert data.loader("test").records is data.test_dataloader().records is data.test
    assert [len(y) for _, y in data.loader("test", batch_size=7)] == [7, 3]


def test_processes_share_the_batches(toy):
    data = DataModule(Given(toy(40), toy(10)), name="toy", batch_size=8, eval_batch_size=4)
    data.setup()
    second = Place(rank=1, world_size=2)
    assert [len(y) for _, y in data.train_dataloader(second)] == [4] * 4 + [2]
    assert data.test_dataloader(second).batch_indices == range(1, 3, 2)
    assert len(data.loader("test")) == 3, "an evaluation loader is whole on every process"


def test_no_process_is_without_a_batch_to_validate(toy):
    data = DataModule(Given(toy(40), toy(11)), name="toy", batch_size=8, eval_batch_size=500)
    data.setup()
    seen = 0
    for rank in range(4):
        sizes = [len(y) for _, y in data.test_dataloader(Place(rank=rank, world_size=4))]
        assert sizes
        seen += sum(sizes)
    assert seen == 11


def test_a_replaced_part_reaches_loaders_and_fingerprint(toy):
    data = DataModule(Given(toy(40), toy(10)), name="toy", val_size=0)
    data.setup()
    before = data.fingerprint
    data.train_dataloader()
    data.train = Records(255 - data.train.x, data.train.y, data.train.class_names)
    assert data.train_dataloader().records is data.train
    assert data.fingerprint != before


def test_no_validation_part(toy):
    data = DataModule(Given(toy(), toy(10)), name="toy", val_size=0)
    data.setup()
    assert data.val is None
    assert data.val_dataloader() == []
    assert data.summary().val == 0
    assert len(data.train) == 50
    with pytest.raises(RequestError, match="no validation part"):
        data.loader("val")


def test_limits(toy):
    data = DataModule(Given(toy(), toy(10)), name="toy", val_size=10, train_limit=6, test_limit=3)
    data.setup()
    assert (len(data.train), len(data.val), len(data.test)) == (6, 10, 3)
    rows = data.test.x[:, 0, 0, 0].tolist()
    assert rows == toy(10).sample(3, seed=0).x[:, 0, 0, 0].tolist() == sorted(rows)
    with pytest.raises(RequestError, match=r"test part is empty with data\.test_limit=0"):
        DataModule(Given(toy(), toy()), name="toy", test_limit=0).setup()


@pytest.mark.parametrize("limited", ["test_limit", "train_limit", "loader"])
def test_a_limit_of_a_set_sorted_by_class_keeps_every_class_in_proportion(limited):
    """The front of such a set is one class: a model that always answers 0 would be right every time."""
    y = torch.arange(4).repeat_interleave(torch.tensor([400, 300, 200, 100]))
    sorted_set = Records(torch.arange(1000).remainder(256).to(torch.uint8).view(-1, 1, 1, 1), y, ("a", "b", "c", "d"))
    limit = {} if limited == "loader" else {limited: 50}
    data = DataModule(Given(sorted_set, sorted_set), name="sorted", val_size=0, **limit)
    data.setup()
    part = {"test_limit": data.test, "train_limit": data.train, "loader": data.loader("test", limit=50).records}[
        limited
    ]
    assert part.y.tolist() == [0] * 20 + [1] * 15 + [2] * 10 + [3] * 5
    if limited == "loader":
        other = DataModule(Given(sorted_set, sorted_set), name="sorted", val_size=0, seed=9, split_seed=9)
        assert torch.equal(other.loader("test", limit=50).records.x, part.x), "runs of all seeds are judged alike"


def test_what_the_config_promises_must_be_there(toy):
    def made(**options: object) -> DataModule:
        data = DataModule(Given(toy(), toy(10)), name="toy", **options)
        data.setup()
        return data

    with pytest.raises(RequestError, match="expected 10 classes, the train part has 2"):
        made(num_classes=10)
    with pytest.raises(RequestError, match=r"shape \(3, 4, 4\), the train part has \(1, 4, 4\)"):
        made(shape=[3, 4, 4])
    with pytest.raises(RequestError, match="1 to 48 of 50"):
        made(val_size=50)
    with pytest.raises(RequestError, match="test part is empty"):
        DataModule(Given(toy(), toy().sample(0)), name="toy").setup()
    with pytest.raises(RequestError, match="one shape"):
        DataModule(Given(toy(), toy(side=5)), name="toy").setup()
    with pytest.raises(RequestError, match="toy, test part: 'a', 'b' are no training classes; known: even, odd"):
        DataModule(Given(toy(), Records(toy().x, toy().y, ("a", "b"))), name="toy").setup()


def test_integer_classes_may_lack_samples_of_the_highest(toy):
    numbered = Records(toy().x, toy().y, ("0", "1"))
    data = DataModule(Given(numbered, numbered), name="toy", num_classes=5)
    data.setup()
    assert data.num_classes == 5
    assert data.class_names == tuple("01234")
    with pytest.raises(RequestError, match="expected 1 classes"):
        DataModule(Given(numbered, numbered), name="toy", num_classes=1).setup()


FILES = ("csv", "features", "image_folder", "parquet", "text")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_instantiates(path):
    required = {"hub": {"data__source__path": "owner/set"}}
    files = {"data__source__train": "some/file"} if path.stem in FILES else {}
    data = composed(path.stem, **required.get(path.stem, files))
    assert isinstance(data, DataModule)
    assert data.seed == 3
    assert isinstance(data.augment, tuple)
    assert len(data.augment) == (2 if path.stem.startswith("cifar") or path.stem == "cats_dogs" else 0)


def test_root_reaches_the_source(tmp_path):
    for part in ("train", "test"):
        images = [png(image) for image in noise(20, 28, 28)]
        write_parquet(tmp_path / "mnist" / f"{part}.parquet", images, [0, 1] * 10, list("0123456789"))
    data = composed("mnist", data__root=str(tmp_path), data__val_size=4)
    data.setup()
    assert data.root == str(tmp_path)
    assert data.num_classes == 10
    assert len(data.train) == 16
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2
    again = composed("mnist", data__root=str(tmp_path), data__val_size=4)
    again.setup()
    assert again.fingerprint == data.fingerprint
