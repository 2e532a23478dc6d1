"""The DataModule: a source, split and checked, behind the loaders that training and evaluation read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch

from robustml.data.augment import Augmentation
from robustml.data.cache import Source, cached
from robustml.data.exclude import without
from robustml.data.expected import Expected
from robustml.data.extra import ExtraImages, Mixture
from robustml.data.guard import Guard, Verify, check_verify, guard_of
from robustml.data.loader import ALONE, Place, TensorLoader
from robustml.data.mixing import Mix
from robustml.data.records import Records
from robustml.data.splits import rows_in, stratified_split
from robustml.data.understood import Understood, listed
from robustml.errors import RequestError
from robustml.results import DataFacts, ExtraData, PoisonSummary

Part = Literal["train", "val", "test"]


class DataModule:
    """A set with its training, validation and test parts.

    No trainer knows of it: Lightning's takes `robustml.training.TrainerData` of it.

    After `setup`: `train`, `val` (None without a validation part) and `test` are `Records`; `num_classes`, `shape` (of
    one input, without the batch axis) and `class_names` describe them. They hold bytes as loaded; the loaders give
    float32 in [0, 1].

    Args:
        source: where the set comes from.
        name: what reports call it.
        batch_size: training samples a step, over all processes together.
        eval_batch_size: samples a batch in validation and test.
        val_size: how much of the training part is held out, stratified: a count, a fraction, or 0 for none.
        augment: applied in order to the training batches.
        replay: hand out each training batch so many times in a row (Shafahi et al. 2019, "Free"). An epoch of the
            trainer is then as many passes over the set: divide `trainer.max_epochs` by it.
        extra: images beside those of the source, for training alone. They are read when they are first asked for, and
            no poison touches them.
        mix: blends the images of a training batch once they are augmented; labels are then distributions (B, C).
        seed: of the order, the augmentation and the mixing of training batches, and of the extra images in them.
        split_seed: of the held-out validation part; apart from `seed`, so that runs of all seeds validate alike.
        num_classes: how many classes the set must have; None takes what it has. Classes that are mere numbers are 0 to
            `num_classes` - 1 then, be there a sample of each or not.
        class_names: the classes in label order, such as those that a model was trained on; None takes those of the
            training part. The labels of both parts are matched with them by name.
        shape: the shape that one input must have; None takes what it has.
        train_limit: train on that many samples only, drawn by `split_seed`, every class in proportion.
        test_limit: test on that many samples only, drawn likewise.
        channels_last: lay images out in memory channels last.
        drop_last: leave out a last training batch of fewer samples than the others.
        root: kept for the record; sources that read local copies take it themselves.
        exclude: a table of records, such as suspects.parquet of `robustml detect`, that training leaves out: a column
            ``id``, and ``flagged`` where only some of them are meant. They stay in `train`.
        verify: ``"start"`` refuses files that are not as `manifest` says, ``"always"`` asks again before every epoch;
            whoever sets them up by hand calls `robustml.guarded` first.
        heal: restore altered files from `places` instead.
        manifest: the folder of the manifest.
        trust: the folder of public keys that its signature counts by.
        places: where protected copies lie (`robustml data protect`).
        key: that they are encrypted with.
    """

    train: Records
    val: Records | None
    test: Records
    num_classes: int
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    fitted_to: str | None
    """Which training part the inputs are scaled by, or their words chosen from; None where it decides on nothing."""
    left_out: int = 0
    """How many records were taken out of the test part, since the model at hand was trained on them."""
    poison: PoisonSummary | None = None
    """What was done to the training part, for the record: set by whoever replaces it by a poisoned one."""
    understood: dict[str, Understood]
    """What the source made of the files of each part."""
    guard: Guard | None = None
    """Who vouches for the files, where `verify` asks for it."""

    def __init__(
        self,
        source: Source,
        *,
        name: str,
        batch_size: int = 128,
        eval_batch_size: int = 500,
        val_size: float = 0.1,
        augment: Sequence[Augmentation] = (),
        replay: int = 1,
        extra: ExtraImages | None = None,
        mix: Mix | None = None,
        seed: int = 0,
        split_seed: int = 0,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        shape: Sequence[int] | None = None,
        train_limit: int | None = None,
        test_limit: int | None = None,
        channels_last: bool = False,
        drop_last: bool = False,
        root: str | None = None,
        exclude: str | None = None,
        verify: Verify = "never",
        heal: bool = False,
        manifest: str | None = None,
        trust: str | None = None,
        places: Sequence[str] = (),
        key: str | None = None,
    ) -> None:
        check_verify(verify)
        self.source, self.name = source, name
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_size = val_size
        self.augment = tuple(augment)
        self.replay, self.mix = replay, mix
        self.seed, self.split_seed = seed, split_seed
        self.train_limit, self.test_limit = train_limit, test_limit
        self.channels_last, self.drop_last = channels_last, drop_last
        self.root, self.exclude = root, exclude
        self.verify, self.manifest, self.trust = verify, manifest, trust
        self.heal, self.places, self.key = heal, tuple(places), key
        self._kept: tuple[Records, Records] | None = None
        self._expected = Expected(
            name,
            num_classes,
            None if class_names is None else tuple(str(class_name) for class_name in class_names),
            None if shape is None else tuple(int(length) for length in shape),
        )
        self._ready = False
        self._extra_source = extra
        self._extra: Mixture | None = None
        self._hashed: dict[str, tuple[Records | None, str]] = {}
        self._on_device: dict[tuple[Part, torch.device], tuple[Records, Records]] = {}

    def setup(self) -> None:
        """Load and split the set; a second call does nothing.

        Raises:
            RequestError: when the set cannot be loaded, disagrees with `num_classes` or `shape`, or has an empty part.
        """
        if self._ready:
            return
        for part, limit in (("train", self.train_limit), ("test", self.test_limit)):
            if limit is not None and limit < 1:
                raise RequestError(f"{self.name}: the {part} part is empty with data.{part}_limit={limit}; raise it")
        if (guard := guard_of(self)) is not None:
            guard.check(self.source)
        train, test = self._expected.load(self.source, cached if guard is None else guard.load)
        self.understood = {"train": train.understood, "test": test.understood}
        fits = getattr(self.source, "fitted", False)
        self.fitted_to = Records(train.x, torch.zeros_like(train.y), ("",)).fingerprint() if fits else None
        self.val = None
        if self.val_size:
            rest, held_out = stratified_split(train.y, rows_in(self.val_size, len(train)), self.split_seed)
            self.val, train = train.take(held_out), train.take(rest)
        self.train = train if self.train_limit is None else train.sample(self.train_limit, self.split_seed)
        self.test = test if self.test_limit is None else test.sample(self.test_limit, self.split_seed)
        self.class_names = train.class_names
        self.num_classes, self.shape = len(train.class_names), tuple(train.x.shape[1:])
        self._ready = True

    @property
    def trained_on(self) -> Records:
        """The training part without the records that are excluded; raises what `exclude.without` does."""
        if self.exclude is None:
            return self.train
        if self._kept is None or self._kept[0] is not self.train:  # a poison may have replaced it
            self._kept = self.train, without(self.train, self.exclude, self.name)
        return self._kept[1]

    @property
    def extra(self) -> Mixture | None:
        """The extra training images, read on the first call; None where there are none.

        Raises:
            RequestError: they cannot be read, or are not of the set's classes and shape.
        """
        if self._extra_source is not None and self._extra is None:
            self._extra = self._extra_source.load(self.class_names).beside(self.train)
        return self._extra

    @property
    def fingerprint(self) -> str:
        """The identity of all parts together as used, ``sha256:...``."""
        return f"sha256:{hashlib.sha256(' '.join(self.fingerprints().values()).encode()).hexdigest()}"

    def fingerprints(self) -> dict[str, str]:
        """The identity of each part as used, ``sha256:...``; empty for a part that there is none of.

        Each is hashed once, and again if it is replaced.
        """
        parts = {"train": self.train, "val": self.val, "test": self.test}
        if self.extra is not None:
            parts["extra"] = self.extra.records
        for part, records in parts.items():
            if part not in self._hashed or self._hashed[part][0] is not records:
                self._hashed[part] = records, "" if records is None else records.fingerprint()
        return {part: self._hashed[part][1] for part in parts}

    def notes(self) -> list[str]:
        """What may surprise about the classes: those that a part has no sample of."""
        parts = (("training", self.train), ("validation", self.val), ("test", self.test))
        lacking = [(part, records.without_rows()) for part, records in parts if records is not None]
        words = "no {} sample of {} of {} classes: {}"
        return [words.format(part, len(names), self.num_classes, listed(names, 5)) for part, names in lacking if names]

    def summary(self) -> DataFacts:
        """The `data` block of results.json."""
        extra = self.extra
        return DataFacts(
            name=str(self.name),
            fingerprint=self.fingerprint,
            fingerprints=self.fingerprints(),
            train=len(self.train),
            val=0 if self.val is None else len(self.val),
            test=len(self.test),
            poison=self.poison,
            left_out=self.left_out or None,
            excluded=None if self._kept is None else len(self._kept[0]) - len(self._kept[1]),
            manifest=None if self.guard is None else self.guard.facts,
            extra=None if extra is None else ExtraData(train=len(extra.records), ratio=extra.ratio),
        )

    def loader(
        self,
        split: Part,
        *,
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
        limit: int | None = None,
    ) -> TensorLoader:
        """Every sample of a part once, in order, unaugmented, on one process.

        With a `limit`, that many of them, drawn with every class in proportion; the same ones in every run and command.

        Raises:
            RequestError: when the part is the validation part and there is none.
        """
        self.setup()
        records = self._arrays(split, torch.device(device))
        if limit is not None:
            records = records.sample(limit)
        return TensorLoader(
            records, batch_size or self.eval_batch_size, device=device, channels_last=self.channels_last
        )

    def train_dataloader(self, place: Place = ALONE, epochs: int | None = None) -> TensorLoader:
        """Shuffled, augmented and mixed batches, with extra images, each cut over the processes.

        Args:
            place: of the process that asks.
            epochs: how many there will be; None where that is open.
        """
        return TensorLoader(
            self._arrays("train", place.device),
            self.batch_size,
            shuffle=True,
            augment=self.augment,
            replay=self.replay,
            extra=self.extra,
            mix=self.mix,
            epochs=epochs,
            seed=self.seed,
            **place._asdict(),
            drop_last=self.drop_last,
            channels_last=self.channels_last,
        )

    def val_dataloader(self, place: Place = ALONE) -> TensorLoader | list[TensorLoader]:
        """The validation part, whole batches dealt to the processes; no loader where there is none."""
        return [] if self.val is None else self._evaluation("val", place)

    def test_dataloader(self, place: Place = ALONE) -> TensorLoader:
        """The test part, whole batches dealt to the processes."""
        return self._evaluation("test", place)

    def _evaluation(self, split: Part, place: Place) -> TensorLoader:
        records = self._arrays(split, place.device)
        # Lightning skips validation in a process that has no batch, and the others would wait for it.
        size = min(self.eval_batch_size, max(len(records) // place.world_size, 1))
        return TensorLoader(records, size, channels_last=self.channels_last, **place._asdict())

    def _arrays(self, split: Part, device: torch.device) -> Records:
        """One copy of a part for each device, shared by all its loaders."""
        records: Records | None = getattr(self, split if split != "train" else "trained_on")
        if records is None:
            raise RequestError(f"{self.name}: there is no validation part; set data.val_size above 0")
        kept = self._on_device.get((split, device))
        if kept is None or kept[0] is not records:  # a part may be replaced after setup, by a poisoned one
            kept = self._on_device[split, device] = records, records.to(device)
        return kept[1]
