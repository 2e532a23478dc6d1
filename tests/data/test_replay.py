"""Each batch several times in a row, the same to the last bit, and resumed at the right replay."""

from __future__ import annotations

import pytest
import torch

from robustml.data import CutMix, DataModule, RandomCrop, TensorLoader
from robustml.errors import RequestError

from .test_loader import Recorder, batches, trainer
from .test_module import Given


def loader(arrays, replay: int, **options) -> TensorLoader:
    return TensorLoader(arrays, 6, shuffle=True, augment=(RandomCrop(1),), replay=replay, **options)


@pytest.mark.parametrize("rank", [0, 1])
def test_every_batch_comes_so_many_times_in_a_row(toy, rank):
    options = {"rank": rank, "world_size": 2, "mix": CutMix(start=1.0), "epochs": 3}
    once, thrice = (loader(toy(20, side=6), replay, **options) for replay in (1, 3))
    for epoch in (0, 2):
        once.set_epoch(epoch)
        thrice.set_epoch(epoch)
        expected = [batch for batch in once for _ in range(3)]
        found = list(thrice)
        assert len(thrice) == len(found) == 3 * len(once) == 12
        for (x, y), (expected_x, expected_y) in zip(found, expected, strict=True):
            assert torch.equal(x, expected_x)
            assert torch.equal(y, expected_y)


def test_a_consumer_that_writes_into_a_batch_does_not_change_its_replay(toy):
    first, second = loader(toy(20, side=6), 2), loader(toy(20, side=6), 2)
    for (x, _), (untouched, _) in zip(first, second, strict=True):
        assert torch.equal(x, untouched)
        x.zero_()


@pytest.mark.parametrize("done", [1, 2, 3, 5, 11])
def test_a_pass_goes_on_at_the_replay_where_it_stood(toy, done):
    whole = batches(loader(toy(20, side=6), 3))
    stopped = loader(toy(20, side=6), 3)
    iterator = iter(stopped)
    for _ in range(done):
        next(iterator)
    resumed = loader(toy(20, side=6), 3)
    resumed.load_state_dict(stopped.state_dict())
    assert batches(resumed) == whole[done:]
    assert len(batches(resumed)) == 12


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on its own loaders is not what is tested here
@pytest.mark.parametrize("stop_after", [2, 4, 8, 11])
def test_lightning_resumes_between_replays(toy, tmp_path, stop_after):
    def make() -> TensorLoader:
        return TensorLoader(toy(20), 6, shuffle=True, replay=2)

    whole, first, second = Recorder(), Recorder(stop_after), Recorder()
    trainer(tmp_path, 2).fit(whole, make())
    assert len(whole.seen) == 16
    assert whole.seen[::2] == whole.seen[1::2]
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, 2).fit(first, make())
    trainer(tmp_path, 2).fit(second, make(), ckpt_path=tmp_path / "stopped.ckpt")
    assert first.seen + second.seen == whole.seen


def test_the_data_module_replays_training_alone(toy):
    data = DataModule(Given(toy(40), toy(10)), name="toy", batch_size=10, val_size=10, replay=4)
    data.setup()
    assert len(data.train_dataloader()) == 12
    assert len(data.val_dataloader()) == len(data.test_dataloader()) == len(data.loader("train")) == 1


def test_no_replay_at_all_is_refused(toy):
    with pytest.raises(RequestError, match=r"data\.replay=0"):
        loader(toy(), 0)
