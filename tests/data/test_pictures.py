"""Pictures keep their meaning: what shows through, which way is up, what is colour, and which files are pictures."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustml.data import Csv, DataModule, ImageFolder, ParquetImages
from robustml.errors import RequestError

from .tiny import noise, png, write_parquet

GREY, COLOUR = noise(10, 6, 5), noise(10, 6, 5, 3)
SHAPES = [np.eye(6, 5, dtype=bool), np.tri(6, 5, dtype=bool), np.arange(30).reshape(6, 5) % 2 == 0]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def raw_png(kind: int, depth: int, rows: list[bytes], transparent: bytes) -> bytes:
    """A PNG whose transparent value stands beside the pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 5, len(rows), depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = chunk(b"IHDR", header) + chunk(b"tRNS", transparent) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def load(images: list[bytes], tmp_path: Path, **options: object):
    path = write_parquet(tmp_path / "a.parquet", images, [row % 2 for row in range(len(images))])
    return ParquetImages(path, path, **options).load("train")


def folder(root: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return str(root)


def notes(arrays) -> str:
    return "; ".join(arrays.understood.notes)


# what shows through


def icon(shape: np.ndarray, mode: str, ink: int = 0) -> bytes:
    """A shape in `ink` on transparent ground of the same colour: the shape is in the alpha alone."""
    alpha = np.where(shape, 255, 0).astype(np.uint8)
    flat = np.full(shape.shape, ink, np.uint8)
    if mode == "RGBA":
        return png(np.dstack([flat, flat, flat, alpha]))
    if mode == "LA":
        return saved(Image.merge("LA", [Image.fromarray(flat), Image.fromarray(alpha)]), "PNG")
    if mode == "WEBP":
        return saved(Image.fromarray(np.dstack([flat, flat, flat, alpha])), "WEBP", lossless=True, exact=True)
    if mode == "P":
        image = Image.fromarray(shape.astype(np.uint8), "P")
        image.putpalette([ink] * 6)
        return saved(image, "PNG", transparency=b"\x00\xff")
    if mode == "GIF":
        image = Image.fromarray(shape.astype(np.uint8), "P")
        image.putpalette([ink] * 6)
        return saved(image, "GIF", transparency=0)
    # one grey or colour value counts as transparent: here the ground is told apart from the ink by it
    if mode == "L with tRNS":
        return raw_png(0, 8, [bytes(np.where(row, ink, 7).astype(np.uint8)) for row in shape], b"\0\x07")
    return raw_png(2, 8, [bytes(np.repeat(np.where(row, ink, 7), 3).astype(np.uint8)) for row in shape], b"\0\x07" * 3)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "GIF", "WEBP", "L with tRNS", "RGB with tRNS"])
def test_transparent_icons_stay_distinct(tmp_path, mode):
    """Black on transparent: all of them were the same black square."""
    arrays = load([icon(shape, mode) for shape in SHAPES], tmp_path)
    expected = torch.tensor(np.array(SHAPES)).logical_not() * 255
    assert arrays.x.shape[1] == (1 if mode in ("LA", "L with tRNS") else 3)
    assert torch.equal(arrays.x, expected.to(torch.uint8).unsqueeze(1).expand_as(arrays.x))
    assert "3 of 3 pictures were laid on the background where they are transparent" in notes(arrays)
    white = [icon(shape, mode, 255) for shape in SHAPES]
    with pytest.raises(RequestError, match=r"row 0: .* nothing is left of it on a background of #ffffff: set data"):
        load(white, tmp_path)
    assert torch.equal(load(white, tmp_path, background="black").x[:, 0], torch.tensor(np.array(SHAPES)) * 255)
    with pytest.raises(RequestError, match="#000000"):
        load([icon(SHAPES[0], mode)] * 2, tmp_path, background="black")


def test_half_transparent_pixels_are_mixed(tmp_path):
    pixels = np.zeros((6, 5, 4), np.uint8)
    pixels[..., 0], pixels[:3, :, 3] = 200, 51  # a fifth of red in the upper half
    arrays = load([png(pixels)] * 2, tmp_path, background="#0000ff")
    assert arrays.x[0, :, 0, 0].tolist() == [40, 0, 204]
    assert arrays.x[0, :, 5, 0].tolist() == [0, 0, 255]
    opaque = load([png(np.dstack([image, np.full((6, 5), 255, np.uint8)])) for image in COLOUR], tmp_path)
    np.testing.assert_array_equal(opaque.x.permute(0, 2, 3, 1).numpy(), COLOUR)
    assert not opaque.understood.notes
    with pytest.raises(RequestError, match="background is the name of a colour"):
        load([png(pixels)] * 2, tmp_path, background="whitte")


# which way is up


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, kind, turn):
    upright = np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2) * 80, np.ones((16, 8), np.uint8))
    back = {2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180], 4: [Image.Transpose.FLIP_TOP_BOTTOM]}
    back |= {5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE]}
    back[8] = [Image.Transpose.ROTATE_270]
    image = Image.fromarray(upright)
    for step in back.get(turn, []):
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    arrays = load([saved(image, kind, exif=exif, **options)] * 2, tmp_path)
    assert arrays.x.shape[2:] == (32, 16)
    assert np.abs(arrays.x[0, 0].numpy().astype(int) - upright).max() <= (8 if kind == "JPEG" else 0)
    assert ("2 of 2 pictures were turned upright" in notes(arrays)) == (turn > 1)


def test_a_damaged_orientation_is_said(tmp_path):
    arrays = load([saved(Image.fromarray(COLOUR[0]), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")] * 2, tmp_path)
    assert arrays.x.shape == (2, 3, 6, 5)
    assert "Corrupt EXIF data" in notes(arrays)


# grey and colour


def test_grey_and_colour_pictures(tmp_path):
    images = [png(GREY[0]), png(COLOUR[1]), png(GREY[2])]
    mixed = load(images, tmp_path)
    assert mixed.x.shape[1] == 3
    assert torch.equal(mixed.x[2], torch.from_numpy(GREY[2]).expand(3, 6, 5))
    assert "1 of 3 pictures are in colour" in notes(mixed)
    assert "row 1" in notes(mixed)
    grey = load(images, tmp_path, channels=1)
    assert torch.equal(grey.x[0, 0], torch.from_numpy(GREY[0]))
    np.testing.assert_array_equal(grey.x[1, 0].numpy(), np.asarray(Image.fromarray(COLOUR[1]).convert("L")))
    repeated = load([png(np.dstack([image] * 3)) for image in GREY], tmp_path, channels=1)
    np.testing.assert_array_equal(repeated.x[:, 0].numpy(), GREY)
    assert load(images[:1] * 2, tmp_path, channels=3).x.shape[1] == 3
    with pytest.raises(RequestError, match="expected channels as 1"):
        load(images, tmp_path, channels=4)


@pytest.mark.parametrize("coloured", ["train", "test"])
def test_one_part_in_colour_and_one_in_grey(tmp_path, coloured):
    parts = {}
    for part in ("train", "test"):
        pixels = COLOUR if part == coloured else GREY
        files = {f"{name}/{row}.png": png(pixels[row]) for row in range(4) for name in "ab"}
        parts[part] = folder(tmp_path / part, files)
    data = DataModule(ImageFolder(**parts), name="icons", val_size=2)
    data.setup()
    assert data.shape == (3, 6, 5)
    grey = data.test if coloured == "train" else data.train
    assert torch.equal(grey.x[:, 0], grey.x[:, 2])
    assert torch.equal(grey.x[0, 0], torch.from_numpy(GREY[0]))
    said = data.understood["test" if coloured == "train" else "train"]
    assert "since the other part is in colour" in said.notes[-1]


def test_sixteen_bits_and_several_frames_are_said(tmp_path):
    deep = raw_png(2, 16, [bytes(range(30))] * 6, b"\0\x07" * 3)
    arrays = load([deep, deep], tmp_path)
    assert arrays.x[0, :, 0, 0].tolist() == [0, 2, 4]
    assert "2 of 2 pictures were cut from 16 to 8 bits" in notes(arrays)
    frames = [Image.fromarray(image) for image in COLOUR[:3]]
    moving = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    arrays = load([moving, png(COLOUR[1])], tmp_path)
    np.testing.assert_array_equal(arrays.x[0].permute(1, 2, 0).numpy(), COLOUR[0])
    assert "1 of 2 pictures were read as the first of several frames" in notes(arrays)


# which files are pictures


def test_what_is_read_of_a_folder_and_what_is_passed_over(tmp_path):
    jpeg = saved(Image.fromarray(COLOUR[0]), "JPEG")
    files = {f"cat/{name}": jpeg for name in ("a.JPG", "b.jfif", "c.JPEG", "deep/er/d.jpe")}
    files |= {"dog/e.png": png(COLOUR[1]), "dog/f.WEBP": saved(Image.fromarray(COLOUR[2]), "WEBP")}
    files |= dict.fromkeys(["cat/._a.JPG", "dog/.DS_Store", "dog/Thumbs.db", ".ipynb_checkpoints/e.png"], b"rubbish")
    files |= dict.fromkeys(["dog/.ipynb_checkpoints/e-checkpoint.png", "__MACOSX/cat/a.jpg"], b"rubbish")
    files |= dict.fromkeys(["cat/g.heic", "cat/h.heic", "dog/i.HEIC", "dog/j", "labels.csv"], b"unknown")
    root = folder(tmp_path / "pets", files)
    (tmp_path / "pets" / "empty").mkdir()
    (tmp_path / "pets" / "dog" / "back").symlink_to(tmp_path / "pets" / "dog")
    source = ImageFolder(root, root)
    arrays = source.load("train")
    assert arrays.class_names == ("cat", "dog", "empty")
    assert arrays.y.tolist() == [0] * 4 + [1] * 2
    skipped = {each.why: each.count for each in arrays.understood.skipped}
    assert skipped == {
        "hidden, or left behind by other programs": 6,
        "outside the class folders": 1,
        "of the unknown kind .heic": 3,
        "without a suffix": 1,
        "links to a folder that they lie in": 1,
    }
    assert "the class folder 'empty' holds no images" in notes(arrays)
    assert any(
        "skipped: 3 files, of the unknown kind .heic (cat/g.heic, " in line for line in arrays.understood.lines()
    )
    (tmp_path / "pets" / "dog" / "k.png").write_text("<html>not found</html>")
    with pytest.raises(RequestError, match=r"dog/k\.png: cannot read the image \(it is no picture"):
        source.load("train")


@pytest.mark.parametrize("test", ["test", "Testing", "val", "valid"])
def test_a_folder_of_parts_is_not_one_of_classes(tmp_path, test):
    parts = ("train", test) if test.startswith("val") else ("train", "val", test)
    root = folder(tmp_path / "set", {f"{part}/{name}/0.png": png(GREY[0]) for part in parts for name in ("cat", "dog")})
    (tmp_path / "set" / "annotations").mkdir()
    with pytest.raises(RequestError, match=rf"parts of a set .*train={root}/train data\.source\.test={root}/{test}"):
        ImageFolder(root).load("train")
    assert ImageFolder(f"{root}/train", f"{root}/{test}").load("test").class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ["train/cat/0", "train/dog/0", "test/0"],
            r"\(test, train\), not its classes: use data\.source\.train=\S+/train$",
        ),
        (["train/cat/0", "test/dog/0"], r"data\.source\.train=\S+/train data\.source\.test=\S+/test$"),
        (["train/0", "test/0"], "sort each part into class folders.*rename them if they are classes"),
        (["test/cat/0", "val/cat/0"], "sort each part"),
        (["set/cat/0", "set/dog/0"], r"holds the one folder 'set', with 2 folders in it.* name \S+/set$"),
        (["train/0", "plane/0"], None),
        (["train/steam/0", "plane/0"], None),
        (["pets/0"], None),
    ],
)
def test_folders_that_hold_no_classes(tmp_path, names, says):
    root = folder(tmp_path / "root", {f"{name}.png": png(GREY[0]) for name in names})
    if says is None:
        classes = tuple(sorted({name.partition("/")[0] for name in names}))
        assert ImageFolder(root, root).load("train").class_names == classes
    else:
        with pytest.raises(RequestError, match=says):
            ImageFolder(root, root).load("train")


def test_nothing_is_run_to_read_a_picture(tmp_path):
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    with pytest.raises(RequestError, match="it is no picture"):
        load([postscript] * 2, tmp_path)


def test_tables_of_pictures_take_the_same_options(tmp_path):
    for row, shape in enumerate(SHAPES):
        (tmp_path / f"{row}.png").write_bytes(icon(shape, "RGBA", 255))
    (tmp_path / "a.csv").write_text("image;label\n0.png;01\n\n1.png;1\n2.png;NA\n")
    path = str(tmp_path / "a.csv")
    arrays = Csv(path, path, image="image", channels=1, background="black").load("train")
    assert torch.equal(arrays.x, torch.tensor(np.array(SHAPES)).unsqueeze(1) * 255)
    assert set(arrays.class_names) == {"01", "1", "NA"}


def test_a_picture_that_claims_to_be_endless_is_refused(tmp_path: Path) -> None:
    content = bytearray(png(GREY[0]))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    for name in ("a", "b", "c"):
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / "cat" / f"{name}.png").write_bytes(content)
    with pytest.raises(RequestError, match=r"\.png.*pixels"):
        ImageFolder(str(tmp_path)).load("train")
