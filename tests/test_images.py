"""Photographs from files, and how they are brought to another size."""

import numpy as np
import pytest
from folders import draw_palette, save
from PIL import Image

from seglib import images
from seglib.classes import ClassTable
from seglib.images import DatasetError, read_image, resize_image
from seglib.masks import read_labels, read_pair

RANDOM = np.random.default_rng(0)
GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
COLORS = RANDOM.integers(0, 256, (3, 4, 3), np.uint8)
DEEP = np.array([[0, 255, 256], [257, 40000, 65535]], np.uint16)
PALETTE = [[9, 8, 7], [6, 5, 4], [3, 2, 1]]


@pytest.mark.parametrize(
    ("name", "stored", "options", "expected"),
    [
        ("grey.png", GREY, {}, np.dstack([GREY] * 3)),
        ("rgb.png", COLORS, {}, COLORS),
        ("rgba.png", np.dstack([COLORS, GREY]), {}, COLORS),
        ("p.png", draw_palette([[0, 1, 2]], PALETTE), {"transparency": b"\0\x80\xff"}, [PALETTE]),
        ("16.png", DEEP, {"dtype": np.uint16}, np.dstack([DEEP >> 8] * 3)),  # the upper 8 bits
        ("16.tif", DEEP, {"dtype": np.uint16}, np.dstack([DEEP >> 8] * 3)),
        ("32.tif", DEEP, {"dtype": np.int32}, np.dstack([DEEP >> 8] * 3)),
        ("float.tif", [[0, 0.5, 1]], {"dtype": np.float32}, [[[0] * 3, [128] * 3, [255] * 3]]),
    ],
)
def test_images_are_rgb_whatever_the_file_holds(tmp_path, name, stored, options, expected):
    image = read_image(save(tmp_path / name, stored, **options))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


TURNS = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_90 TRANSVERSE ROTATE_270"


@pytest.mark.parametrize(("orientation", "turn"), list(enumerate(TURNS.split(), 2)))
def test_photographs_are_upright(tmp_path, orientation, turn):
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:12], upright[:, :10, 2] = (200, 60, 20), 250
    stored = Image.fromarray(upright).transpose(Image.Transpose[turn])
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("png", "tif", "webp", "jpg"):
        path = save(tmp_path / f"photo.{suffix}", stored, exif=exif, quality=95)
        assert np.abs(read_image(path).astype(int) - upright).mean() < 8
    table = ClassTable(["a", "b"], [(0, 0, 0), (9, 9, 9)])
    lying = save(tmp_path / "lying.png", np.zeros((40, 24)))
    words = r"lying.png is 40×24 .*photo.jpg is 24×40: export the mask at .* and the same way up"
    with pytest.raises(DatasetError, match=words):
        read_pair(path, lying, table)


def test_files_that_cannot_be_read_are_named(tmp_path, classes, monkeypatch):
    def refuse(path, words):
        for read in (read_image, lambda path: read_labels(path, classes)):
            with pytest.raises(DatasetError, match=f"{path.name} {words}"):
                read(path)

    noise = RANDOM.integers(0, 256, (64, 64, 3))
    for suffix in ("png", "jpg", "bmp", "webp"):
        path = save(tmp_path / f"cut.{suffix}", noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refuse(path, "cannot be read as a picture")
    (tmp_path / "text.png").write_bytes(b"not a picture")
    refuse(tmp_path / "text.png", "cannot be read as a picture")
    refuse(tmp_path / "gone.png", "cannot be read .*No such file.*: it is missing")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", None)  # it would run what is in the file
    for format in ("EPS", "ICO", "PDF"):
        refuse(save(tmp_path / "other.png", noise, format=format), "cannot be .*: it is .* another")
    with pytest.raises(DatasetError, match=r"grey.tif holds floating-point values from 0 to 2.5"):
        read_image(save(tmp_path / "grey.tif", [[0, 2.5]], np.float32))
    monkeypatch.setattr("seglib.images.MAX_PIXELS", 1999)
    refuse(save(tmp_path / "large.png", np.zeros((40, 50))), "claims 40×50 .* than the 1,999")


def test_resize_image_by_hand_is_antialiased():
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 2:] = (200, 100, 0)
    # Each pixel of half the size weighs four, 1:3:3:1, where they exist.
    assert resize_image(image, (1, 2)).tolist() == [[[29, 14, 0], [171, 86, 0]]]
    assert resize_image(image[:, :1], (5, 7)).tolist() == [[[0, 0, 0]] * 7] * 5


@pytest.mark.parametrize(
    ("size", "target", "expected"),
    [
        ((360, 480), (128, 128), ((96, 128), (16, 0))),
        ((480, 360), (128, 128), ((128, 96), (0, 16))),
        ((50, 50), (64, 96), ((64, 64), (0, 16))),
        ((32, 64), (64, 128), ((64, 128), (0, 0))),
        ((2, 3), (64, 64), ((43, 64), (10, 0))),  # 42.7 rows; the odd one is below
        ((1, 1000), (64, 64), ((1, 64), (31, 0))),
    ],
)
def test_letterboxed_pictures_lie_in_the_middle(size, target, expected):
    numbers = np.arange(target[0] * target[1]).reshape(target)
    inside = images.cut_padding(numbers, size, fit="letterbox")
    assert (inside.shape, divmod(int(inside[0, 0]), target[1])) == expected
    assert images.cut_padding(numbers, size, fit="stretch").shape == target


def test_padding_is_grey_and_can_be_ignored():
    image = RANDOM.integers(0, 256, (20, 50, 3), np.uint8)
    fitted = images.fit_image(image, (64, 64), fit="letterbox")
    np.testing.assert_array_equal(fitted[19:45], resize_image(image, (26, 64)))
    assert (np.delete(fitted, np.s_[19:45], axis=0) == images.PADDING).all()
    np.testing.assert_array_equal(images.fit_image(image, (64, 64)), resize_image(image, (64, 64)))
    for count, ignored in ((3, 255), (255, 255), (256, 65535)):
        table = ClassTable(range(count), [(i, 0, 0) for i in range(count)])
        assert images.fit_classes(table, fit="stretch") is table
        assert images.fit_classes(table, fit="letterbox").ignore_label == ignored


def test_image_sizes_are_two_ints():
    for size, expected in ((32, (32, 32)), (np.array([64, 32]), (64, 32)), (64.0, (64, 64))):
        found = images.check_image_size(size)
        assert (found, {type(side) for side in found}) == (expected, {int})


@pytest.mark.parametrize("size", [31, (128, 31), (64, 64, 3), (64.5, 64)])
def test_wrong_sizes(size):
    with pytest.raises(ValueError, match="of at least 32 pixels a side, received"):
        images.check_image_size(size)
    with pytest.raises(ValueError, match="fit to be one of stretch, letterbox"):
        images.check_fit("crop")
