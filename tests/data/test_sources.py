from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from robustml.data import Digits, HubImages, ImageFolder, ParquetImages
from robustml.errors import RequestError

from .tiny import noise, png, write_parquet

GREY, COLOUR = noise(10, 6, 5), noise(10, 6, 5, 3)
LABELS = [0, 1] * 5


def folder(root: Path, classes: dict[str, int], **options: object) -> str:
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            (root / name / f"{index}.png").write_bytes(png(GREY[index], **options))
    return str(root)


# digits


def test_digits():
    train, test = Digits().load("train"), Digits().load("test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.x.shape[1:] == (1, 8, 8)
    assert train.x.dtype == torch.uint8
    assert train.x.min() == 0
    assert train.x.max() == 255
    assert len(train.x.unique()) == 17
    counts = torch.bincount(test.y)
    assert counts.min() >= 34
    assert counts.max() <= 37
    assert test.fingerprint() == Digits().load("test").fingerprint()


@pytest.mark.slow  # a fresh interpreter imports torch and Lightning anew
def test_importing_the_room_is_cheap():
    code = "import sys, robustml.data; assert not {'datasets', 'sklearn', 'hydra'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


# parquet


@pytest.mark.parametrize(("pixels", "channels"), [(GREY, 1), (COLOUR, 3)])
def test_parquet_gives_back_the_pixels(tmp_path, pixels, channels):
    path = write_parquet(tmp_path / "a.parquet", [png(image) for image in pixels], LABELS, ["cat", "dog"])
    arrays = ParquetImages(path, path).load("test")
    assert arrays.x.shape == (10, channels, 6, 5)
    assert arrays.x.is_contiguous()
    np.testing.assert_array_equal(arrays.x.permute(0, 2, 3, 1).numpy(), pixels.reshape(10, 6, 5, channels))
    assert arrays.y.tolist() == LABELS
    assert arrays.class_names == ("cat", "dog")


def test_parquet_without_a_test_file_holds_out_a_fifth(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [png(image) for image in GREY], LABELS)
    train, test = (ParquetImages(path).load(split) for split in ("train", "test"))
    assert (len(train), len(test)) == (8, 2)
    assert sorted(test.y.tolist()) == [0, 1]
    together = {image.numpy().tobytes() for image in torch.cat([train.x, test.x])}
    assert together == {image.tobytes() for image in GREY}


def test_string_labels_are_numbered_as_in_train(tmp_path):
    images = [png(image) for image in GREY]
    train = write_parquet(tmp_path / "a.parquet", images, ["b", "a"] * 5)
    test = write_parquet(tmp_path / "b.parquet", images, ["b"] * 10)
    arrays = ParquetImages(train, test).load("test")
    assert arrays.class_names == ("a", "b")
    assert set(arrays.y.tolist()) == {1}


def test_palette_transparency_and_mixed_sets(tmp_path):
    images = [png(GREY[0]), png(COLOUR[1], "P"), png(COLOUR[2], "RGBA"), png(GREY[3], "1"), png(COLOUR[4], kind="JPEG")]
    path = write_parquet(tmp_path / "a.parquet", images, [0, 1, 0, 1, 0])
    arrays = ParquetImages(path, path).load("train")
    assert arrays.x.shape == (5, 3, 6, 5)
    assert torch.equal(arrays.x[0], torch.from_numpy(GREY[0]).expand(3, 6, 5))
    assert torch.equal(arrays.x[2], torch.from_numpy(COLOUR[2]).permute(2, 0, 1))


def test_sizes(tmp_path):
    images = [png(GREY[0]), png(noise(1, 7, 7)[0])]
    path = write_parquet(tmp_path / "a.parquet", images, [0, 1])
    with pytest.raises(RequestError, match=r"6 x 5 \(.*row 0\) and 7 x 7 \(.*row 1\); set size"):
        ParquetImages(path, path).load("train")
    assert ParquetImages(path, path, size=[4, 3]).load("train").x.shape == (2, 1, 4, 3)
    with pytest.raises(RequestError, match="height, width"):
        ParquetImages(path, path, size=[4]).load("train")


def refused(tmp_path: Path, images: list[bytes | None], labels: list[object], says: str, **options: object) -> None:
    path = write_parquet(tmp_path / "a.parquet", images, labels, **options)
    with pytest.raises(RequestError, match=says) as caught:
        ParquetImages(path, path).load("train")
    assert "\n" not in str(caught.value)
    assert "a.parquet" in str(caught.value)


def test_bad_images_name_file_and_row(tmp_path):
    good = png(COLOUR[0])
    large = png(noise(1, 64, 64)[0])
    refused(tmp_path, [good, good[:60]], [0, 1], "row 1: cannot read the image")
    refused(tmp_path, [large, large[: len(large) // 2]], [0, 1], "row 1: cannot read the image")
    refused(tmp_path, [b"not an image", good], [0, 1], "row 0: cannot read the image")
    refused(tmp_path, [good, None], [0, 1], "row 1: .*missing")
    refused(tmp_path, [png(np.full((4, 4), 40000, np.uint16))] * 2, [0, 1], "row 0: .*8 bits a channel")


def test_bad_labels_name_file_and_row(tmp_path):
    images = [png(GREY[0])] * 2
    refused(tmp_path, images, [0, -1], r"row 1: the label -1 beside 0")
    refused(tmp_path, images, [0, 5], r"row 1: expected a label in 0\.\.1, got 5", names=["cat", "dog"])
    refused(tmp_path, images, [0, None], "row 1: expected a label, found none")
    refused(tmp_path, images, [0.5, 1.0], "row 0: .*all integers or all strings, got the float 0.5")


def test_a_label_above_those_of_train_is_refused(tmp_path):
    train = write_parquet(tmp_path / "a.parquet", [png(GREY[0])] * 2, [0, 1])
    test = write_parquet(tmp_path / "b.parquet", [png(GREY[0])] * 2, [0, 2])
    with pytest.raises(RequestError, match=r"b.parquet, row 1"):
        ParquetImages(train, test).load("test")


def test_bad_files_and_columns(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [png(GREY[0])] * 2, [0, 1])
    with pytest.raises(RequestError, match=r"no column 'img'; did you mean 'image'"):
        ParquetImages(path, image="img").load("train")
    with pytest.raises(RequestError, match="holds int64, not encoded images"):
        ParquetImages(path, path, image="label").load("train")
    with pytest.raises(RequestError, match=r"no file .*gone.parquet"):
        ParquetImages(str(tmp_path / "gone.parquet")).load("train")
    content = Path(path).read_bytes()
    for broken in (content[:-30], content[: len(content) // 2], b""):
        Path(path).write_bytes(broken)
        with pytest.raises(RequestError, match=r"a.parquet: not a readable Parquet file"):
            ParquetImages(path, path).load("train")


# the Hub


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        write_parquet(tmp_path / "toys" / f"{part}.parquet", [png(image) for image in GREY], LABELS, ["cat", "dog"])
    return tmp_path


@pytest.mark.usefixtures("no_local_sets")
def test_local_copies_by_root_and_by_environment(copies, monkeypatch):
    by_root = HubImages("owner/toys", root=str(copies)).load("test")
    assert by_root.class_names == ("cat", "dog")
    assert HubImages("owner/other", root=str(copies), folder="toys").load("test").fingerprint() == by_root.fingerprint()
    assert HubImages("owner/toys").files("test") is None
    assert HubImages("owner/toys", revision="1" * 40).files("test") == ()
    monkeypatch.setenv("ROBUSTML_DATA", str(copies))
    assert HubImages("owner/toys").load("test").fingerprint() == by_root.fingerprint()
    assert len(HubImages("owner/toys").files("test")) == 2


def unreachable(*_: object, **__: object) -> None:
    raise ConnectionError("no route\nand a long tail")


@pytest.mark.usefixtures("no_local_sets")
def test_an_unreachable_hub_says_what_to_set(copies, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=unreachable))
    with pytest.raises(
        RequestError, match=r"ConnectionError: no route; no local folder.*ROBUSTML_DATA=<dir> or data\.root"
    ):
        HubImages("owner/toys").load("train")
    monkeypatch.setenv("ROBUSTML_DATA", str(copies))
    with pytest.raises(RequestError, match=r"no copy in .*others"):
        HubImages("owner/others").load("train")
    with pytest.raises(RequestError, match=r"no file .*others/train\.parquet"):
        HubImages("owner/others", root=str(copies)).load("train")


@pytest.mark.slow
@pytest.mark.usefixtures("no_local_sets")
def test_the_hub_branch_reads_what_datasets_reads(copies, monkeypatch):
    """A local folder in place of the set's name: `datasets` takes both, and needs no network for it."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", copies / "hf")
    hub, local = HubImages(str(copies / "toys")), HubImages("owner/toys", root=str(copies))
    for split in ("train", "test"):
        assert hub.load(split).fingerprint() == local.load(split).fingerprint()
    with pytest.raises(RequestError, match="did you mean 'image'"):
        HubImages(str(copies / "toys"), image="imag").load("train")


# folders


def test_image_folder(tmp_path):
    train = folder(tmp_path / "train", {"dog": 4, "cat": 6})
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    test = folder(tmp_path / "test", {"dog": 2})
    arrays = ImageFolder(train, test).load("train")
    assert arrays.class_names == ("cat", "dog")
    assert arrays.y.tolist() == [0] * 6 + [1] * 4
    np.testing.assert_array_equal(arrays.x[:6, 0].numpy(), GREY[:6])
    assert ImageFolder(train, test).load("test").y.tolist() == [1, 1]
    images = [path.name for path in ImageFolder(train, test).files("test") if path.suffix]
    assert images == ["0.png", "1.png"]
    assert len(ImageFolder(train).load("train")) == 8
    assert len(ImageFolder(train).load("test")) == 2


def test_image_folder_refuses(tmp_path):
    with pytest.raises(RequestError, match=r"no folder .*gone"):
        ImageFolder(str(tmp_path / "gone")).load("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="one folder a class"):
        ImageFolder(str(tmp_path / "empty")).load("train")
    (tmp_path / "empty" / "cat").mkdir()
    with pytest.raises(RequestError, match="no images"):
        ImageFolder(str(tmp_path / "empty")).load("train")
    train, test = folder(tmp_path / "train", {"cat": 2, "dog": 2}), folder(tmp_path / "test", {"dgo": 1})
    with pytest.raises(RequestError, match="'dgo' is no training class; did you mean 'dog'"):
        ImageFolder(train, test).load("test")
    (tmp_path / "train" / "dog" / "1.png").write_bytes(b"")
    with pytest.raises(RequestError, match=r"dog/1\.png: cannot read the image"):
        ImageFolder(train, test).load("train")


def test_photographs_are_turned_upright(tmp_path):
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    Image.fromarray(COLOUR[0]).save(tmp_path / "a" / "0.jpg", exif=exif)
    assert ImageFolder(str(tmp_path), str(tmp_path)).load("train").x.shape == (1, 3, 5, 6)


# the real sets


@pytest.mark.data
@pytest.mark.parametrize(
    ("source", "mean", "sd"),
    [
        (HubImages("ylecun/mnist"), [0.1307], [0.3081]),
        (HubImages("uoft-cs/cifar10", image="img"), [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    ],
    ids=["mnist", "cifar10"],
)
def test_real_sets_have_their_canonical_figures(local_sets, source, mean, sd):
    train, test = source.load("train"), source.load("test")
    assert len(train) == (60_000 if len(mean) == 1 else 50_000)
    assert len(test) == 10_000
    x = train.x.float() / 255
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.tensor(mean), atol=5e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.tensor(sd), atol=1e-4, rtol=0)
    assert train.class_names == test.class_names
    assert len(train.class_names) == 10
