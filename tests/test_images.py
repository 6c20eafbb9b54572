"""Photographs from files, and how they are brought to another size."""

import numpy as np
import pytest
from PIL import Image

from seglib.classes import ClassTable
from seglib.images import (
    PADDING,
    DatasetError,
    check_fit,
    check_image_size,
    cut_padding,
    fit_classes,
    fit_image,
    read_image,
    resize_image,
)
from seglib.masks import read_labels, read_pair


def save(path, pixels, **settings):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **settings)
    return path


def test_images_are_rgb_whatever_the_file_holds(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    rgb = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    rgba = np.dstack([rgb, np.full((3, 4), 255, np.uint8)])
    for pixels, expected in ((grey, np.dstack([grey] * 3)), (rgb, rgb), (rgba, rgb)):
        image = read_image(save(tmp_path / "image.png", pixels))
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, expected)
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    picture.putpalette([9, 8, 7, 6, 5, 4, 3, 2, 1])
    picture.save(tmp_path / "palette.png", transparency=bytes([0, 128, 255]))
    assert read_image(tmp_path / "palette.png").tolist() == [[[9, 8, 7], [6, 5, 4], [3, 2, 1]]]


def test_of_more_bits_the_upper_8_are_kept(tmp_path):
    grey = np.array([[0, 255, 256], [257, 40000, 65535]], np.uint16)
    for name, values in (("a.png", grey), ("b.tif", grey), ("c.tif", grey.astype(np.int32))):
        Image.fromarray(values).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), np.dstack([grey >> 8] * 3))
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "d.tif")
    assert read_image(tmp_path / "d.tif")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright(tmp_path, orientation):
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:12], upright[:, :10, 2] = (200, 60, 20), 250
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("jpg", "png", "tif", "webp"):
        path = tmp_path / f"photo.{suffix}"
        Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)
        assert np.abs(read_image(path).astype(int) - upright).mean() < 8
    table = ClassTable(["a", "b"], [(0, 0, 0), (9, 9, 9)])
    path = tmp_path / "photo.jpg"
    mask = save(tmp_path / "mask.png", np.zeros((24, 40)))
    assert read_pair(path, mask, table)[1].shape == (24, 40)
    words = (
        r"mask.png is 40×24 .*photo.jpg is 24×40: export the mask at .* size and the same way up"
    )
    with pytest.raises(DatasetError, match=words):
        read_pair(path, save(tmp_path / "mask.png", np.zeros((40, 24))), table)


def test_files_that_cannot_be_read_are_named(tmp_path, classes, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    paths = [save(tmp_path / f"cut.{suffix}", noise) for suffix in ("png", "jpg", "bmp", "webp")]
    for path in paths:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    paths.append(tmp_path / "text.png")
    paths[-1].write_bytes(b"not a picture")
    for path in paths:
        for read in (read_image, lambda path: read_labels(path, classes)):
            with pytest.raises(DatasetError, match=rf"{path.name} cannot be read as a picture"):
                read(path)
    with pytest.raises(
        DatasetError, match=r"gone.png cannot be read .*No such file.*: it is missing"
    ):
        read_image(tmp_path / "gone.png")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", None)  # it would run what is in the file
    for format in ("EPS", "ICO", "PDF"):
        Image.fromarray(noise.astype(np.uint8)).save(tmp_path / "other.png", format=format)
        for read in (read_image, lambda path: read_labels(path, classes)):
            with pytest.raises(
                DatasetError, match=r"other\.png cannot be .*: it is .* another format"
            ):
                read(tmp_path / "other.png")
    Image.fromarray(np.array([[0, 2.5]], np.float32)).save(tmp_path / "grey.tif")
    with pytest.raises(DatasetError, match=r"grey.tif holds floating-point values from 0 to 2.5"):
        read_image(tmp_path / "grey.tif")
    path = save(tmp_path / "large.png", np.zeros((40, 50)))
    monkeypatch.setattr("seglib.images.MAX_PIXELS", 1999)
    with pytest.raises(DatasetError, match=r"large.png claims 40×50 pixels .* than the 1,999"):
        read_image(path)


def test_resize_image_by_hand_is_antialiased():
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 2:] = (200, 100, 0)
    # Each pixel of half the size weighs four, 1:3:3:1, where they exist.
    assert resize_image(image, (1, 2)).tolist() == [[[29, 14, 0], [171, 86, 0]]]
    assert resize_image(image[:, :1], (5, 7)).tolist() == [[[0, 0, 0]] * 7] * 5


@pytest.mark.parametrize(
    ("size", "expected"),
    [(32, (32, 32)), ([96, 128], (96, 128)), (np.array([64, 32]), (64, 32)), (64.0, (64, 64))],
)
def test_image_sizes(size, expected):
    found = check_image_size(size)
    assert found == expected
    assert all(type(side) is int for side in found)


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
    inside = cut_padding(numbers, size, fit="letterbox")
    assert (inside.shape, divmod(int(inside[0, 0]), target[1])) == expected
    assert cut_padding(numbers, size, fit="stretch").shape == target


def test_padding_is_grey_and_can_be_ignored():
    image = np.random.default_rng(0).integers(0, 256, (20, 50, 3), np.uint8)
    fitted = fit_image(image, (64, 64), fit="letterbox")
    np.testing.assert_array_equal(fitted[19:45], resize_image(image, (26, 64)))
    assert (fitted[:19] == PADDING).all()
    assert (fitted[45:] == PADDING).all()
    np.testing.assert_array_equal(fit_image(image, (64, 64)), resize_image(image, (64, 64)))
    for count, ignored in ((3, 255), (255, 255), (256, 65535)):
        table = ClassTable(range(count), [(i, 0, 0) for i in range(count)])
        assert fit_classes(table, fit="stretch") is table
        assert fit_classes(table, fit="letterbox").ignore_label == ignored


@pytest.mark.parametrize("size", [31, (128, 31), (64, 64, 3), (64.5, 64)])
def test_wrong_sizes(size):
    with pytest.raises(ValueError, match="of at least 32 pixels a side, received"):
        check_image_size(size)
    with pytest.raises(ValueError, match="fit to be one of stretch, letterbox"):
        check_fit("crop")
