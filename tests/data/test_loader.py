from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from robustml.data import RandomCrop, RandomHorizontalFlip, Records, TensorLoader
from robustml.errors import RequestError


def values(batch: tuple[torch.Tensor, torch.Tensor]) -> list[int]:
    """Which rows of a toy set a batch holds: row `i` is filled with value `i`."""
    return (batch[0][:, 0, 0, 0] * 255).round().int().tolist()


def batches(loader: TensorLoader) -> list[list[int]]:
    return [values(batch) for batch in loader]


def test_batches_are_floats_in_the_unit_interval_and_labels_follow(toy):
    loader = TensorLoader(toy(), 16, shuffle=True)
    for x, y in loader:
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert x.min() >= 0
        assert x.max() <= 1
        assert [value % 2 for value in values((x, y))] == y.tolist()
    assert TensorLoader(toy(256), 256).records.x[255].max() == 255
    assert next(iter(TensorLoader(toy(256), 256)))[0].max() == 1.0


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [7, 16, 50, 64])
def test_evaluation_covers_each_sample_once_over_the_ranks(toy, world_size, batch_size):
    arrays = toy()
    whole = batches(TensorLoader(arrays, batch_size))
    assert [row for rows in whole for row in rows] == list(range(50))
    seen = {}
    for rank in range(world_size):
        loader = TensorLoader(arrays, batch_size, rank=rank, world_size=world_size)
        own = batches(loader)
        assert len(loader) == len(own) == len(loader.batch_indices)
        seen.update(zip(loader.batch_indices, own, strict=True))
    assert [seen[index] for index in sorted(seen)] == whole


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [7, 16, 49, 50, 64])
def test_training_shares_make_up_the_global_batches(toy, world_size, batch_size):
    arrays, augment = toy(side=6), (RandomCrop(2), RandomHorizontalFlip())
    whole = list(TensorLoader(arrays, batch_size, shuffle=True, augment=augment))
    if len(whole[-1][1]) < world_size:
        whole.pop()
    ranks = [
        list(TensorLoader(arrays, batch_size, shuffle=True, augment=augment, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert {len(own) for own in ranks} == {len(whole)}
    for (x, y), *shares in zip(whole, *ranks, strict=True):
        assert torch.equal(x, torch.cat([share[0] for share in shares]))
        assert torch.equal(y, torch.cat([share[1] for share in shares]))
        sizes = [len(share[1]) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) > 0


def test_training_covers_each_sample_once_an_epoch(toy):
    loader = TensorLoader(toy(), 16, shuffle=True)
    for epoch in range(3):
        loader.set_epoch(epoch)
        assert sorted(row for rows in batches(loader) for row in rows) == list(range(50))


def test_drop_last(toy):
    assert [len(y) for _, y in TensorLoader(toy(), 16, shuffle=True, drop_last=True)] == [16] * 3
    assert len(TensorLoader(toy(), 16, drop_last=True)) == 3
    assert len(TensorLoader(toy(), 50, drop_last=True)) == 1


def test_order_and_augmentation_follow_seed_and_epoch_alone(toy):
    def draw(seed: int, epoch: int) -> torch.Tensor:
        torch.rand(3)  # the global state is no part of it
        loader = TensorLoader(toy(side=6), 16, shuffle=True, augment=(RandomCrop(2),), seed=seed)
        loader.set_epoch(epoch)
        return torch.cat([x for x, _ in loader])

    assert torch.equal(draw(0, 1), draw(0, 1))
    assert not torch.equal(draw(0, 1), draw(0, 2))
    assert not torch.equal(draw(0, 1), draw(1, 1))
    loader = TensorLoader(toy(), 16, shuffle=True)
    assert batches(loader) == batches(loader), "the epoch moves by set_epoch, not by iterating"


def test_changing_a_batch_leaves_the_set_alone():
    x = torch.rand(6, 3)
    arrays = Records(x.clone(), torch.zeros(6, dtype=torch.int64), ("a",))
    for batch, _ in TensorLoader(arrays, 4):
        batch.zero_()
    assert torch.equal(arrays.x, x)


def test_channels_last_and_sharing(toy):
    arrays = toy(channels=3)
    x, _ = next(iter(TensorLoader(arrays, 8, channels_last=True)))
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert TensorLoader(arrays, 8).records is arrays


def test_bad_requests(toy):
    with pytest.raises(RequestError, match="empty set"):
        TensorLoader(toy().sample(0), 4)
    with pytest.raises(RequestError, match="at least 1 "):
        TensorLoader(toy(), 0)
    with pytest.raises(RequestError, match="at least 4 "):
        TensorLoader(toy(), 3, shuffle=True, world_size=4)
    with pytest.raises(RequestError, match="_target_"):
        TensorLoader(toy(), 3, augment=[{"padding": 4}])  # type: ignore[list-item]


class Recorder(pl.LightningModule):
    """Trains on one weight and notes which rows each step saw."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, list[int]]] = []
        self.stop_after = stop_after

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, values(batch)))
        return (self.weight - batch[0].mean()).square().sum()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.stop_after == len(self.seen):
            self.trainer.save_checkpoint(self.trainer.default_root_dir + "/stopped.ckpt")
            raise KeyboardInterrupt

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder, epochs: int) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on its own loaders is not what is tested here
def test_lightning_sets_the_epoch_and_resumes_at_its_end(toy, tmp_path):
    def make() -> TensorLoader:
        return TensorLoader(toy(20), 6, shuffle=True)

    whole = Recorder()
    trainer(tmp_path, 4).fit(whole, make())
    expected = []
    for epoch in range(4):
        loader = make()
        loader.set_epoch(epoch)
        expected += [(epoch, rows) for rows in batches(loader)]
    assert whole.seen == expected

    first, second = Recorder(), Recorder()
    half = trainer(tmp_path, 2)
    half.fit(first, make())
    half.save_checkpoint(tmp_path / "half.ckpt")
    trainer(tmp_path, 4).fit(second, make(), ckpt_path=tmp_path / "half.ckpt")
    assert first.seen + second.seen == expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stop_after", [2, 3, 4, 5, 8])
def test_lightning_resumes_within_an_epoch_and_after_its_last_batch(toy, tmp_path, stop_after):
    def make() -> TensorLoader:
        return TensorLoader(toy(20), 6, shuffle=True)

    whole, first, second = Recorder(), Recorder(stop_after), Recorder()
    trainer(tmp_path, 3).fit(whole, make())
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, 3).fit(first, make())
    trainer(tmp_path, 3).fit(second, make(), ckpt_path=tmp_path / "stopped.ckpt")
    assert first.seen + second.seen == whole.seen


def test_state_of_another_epoch_is_not_applied(toy):
    loader = TensorLoader(toy(20), 6, shuffle=True)
    loader.load_state_dict({"epoch": 1, "batches": 2})
    assert len(batches(loader)) == 2
    assert len(batches(loader)) == 4
    loader.load_state_dict({"epoch": 1, "batches": 2})
    loader.set_epoch(2)
    assert len(batches(loader)) == 4
    loader.load_state_dict({"epoch": 2, "batches": 4})
    assert len(batches(loader)) == 4
