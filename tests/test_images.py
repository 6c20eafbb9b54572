import concurrent.futures
import io
import warnings

import numpy as np
import pytest
from PIL import Image

from seglib import masks
from seglib.classes import ClassTable
from seglib.encodings import read_labels, read_pair
from seglib.images import DatasetError, check_image_size, read_image, resize_image
from seglib.scenes import STREET_CLASSES, draw_scene


def save(path, pixels, **settings):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **settings)
    return path


def as_jpeg(pixels, quality):
    """The picture after a lossy compression."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=quality)
    return np.asarray(Image.open(buffer))


# read_image


def test_images_are_rgb_whatever_the_file_holds(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    rgb = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    rgba = np.dstack([rgb, np.full((3, 4), 255, np.uint8)])
    palette = Image.fromarray(rgb).quantize(16)
    palette.save(tmp_path / "palette.png")
    for pixels, expected in ((grey, np.dstack([grey] * 3)), (rgb, rgb), (rgba, rgb)):
        image = read_image(save(tmp_path / "image.png", pixels))
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), palette.convert("RGB"))


def test_photographs_of_16_bits_keep_their_upper_8(tmp_path):
    grey = np.array([[0, 255, 256], [257, 40000, 65535]], np.uint16)
    expected = np.dstack([grey >> 8] * 3)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "grey_32.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "grey_32.tif"), expected)


def test_photographs_in_floating_point_are_in_0_to_1(tmp_path):
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "grey.tif")
    assert read_image(tmp_path / "grey.tif")[0, :, 0].tolist() == [0, 128, 255]
    for values in ([-0.5, 1], [0, 300], [0, np.nan]):
        Image.fromarray(np.array([values], np.float32)).save(tmp_path / "grey.tif")
        with pytest.raises(DatasetError, match=r"grey.tif holds floating-point values"):
            read_image(tmp_path / "grey.tif")


def test_cmyk_photographs_have_the_colours_that_others_show(tmp_path):
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[:, :8], rgb[:, 8:] = (200, 30, 60), (20, 180, 90)
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    with Image.open(tmp_path / "cmyk.jpg") as picture:
        assert picture.mode == "CMYK"
    assert np.abs(read_image(tmp_path / "cmyk.jpg").astype(int) - rgb).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_photographs_are_upright(tmp_path, orientation, suffix):
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:12], upright[:, :10, 2] = (200, 60, 20), 250
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)
    found = read_image(path)
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() < 8
    if suffix == "jpg":
        mask = save(tmp_path / "mask.png", np.zeros((24, 40)))
        table = ClassTable(["a", "b"], [(0, 0, 0), (9, 9, 9)])
        assert read_pair(path, mask, table)[1].shape == (24, 40)
        if orientation > 4:
            mask = save(tmp_path / "mask.png", np.zeros((40, 24)))
            with pytest.raises(DatasetError, match="turned upright, as its EXIF data ask"):
                read_pair(path, mask, table)


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    path = save(tmp_path / "large.png", np.zeros((40, 50)))
    monkeypatch.setattr("seglib.images.MAX_PIXELS", 1999)
    monkeypatch.setattr(Image.Image, "load", None)
    for read in (read_image, lambda path: read_labels(path, None)):
        with pytest.raises(DatasetError, match=r"large.png claims 40×50 pixels .* than the 1,999"):
            read(path)


def test_a_palette_with_transparency_is_read(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    picture.putpalette([9, 8, 7, 6, 5, 4, 3, 2, 1])
    picture.save(tmp_path / "palette.png", transparency=bytes([0, 128, 255]))
    assert read_image(tmp_path / "palette.png").tolist() == [[[9, 8, 7], [6, 5, 4], [3, 2, 1]]]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
@pytest.mark.parametrize("read", ["image", "mask"])
def test_a_truncated_file_is_named(tmp_path, classes, suffix, read):
    path = tmp_path / f"scene.{suffix}"
    save(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match=rf"scene.{suffix} cannot be read as a picture \(.*\): "):
        read_image(path) if read == "image" else read_labels(path, classes)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named(tmp_path, content):
    path = tmp_path / "scene.png"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="truncated or of another format; copy it again"):
        read_image(path)


def test_a_file_that_vanished_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone.png is not there any more"):
        read_image(tmp_path / "gone.png")


def test_reading_leaves_the_warning_filters_alone(tmp_path, monkeypatch):
    # They belong to all threads: whoever sets them while others read may leave them set.
    seen = []

    def open_and_look(path, *, original=Image.open):
        seen.append(list(warnings.filters))
        return original(path)

    monkeypatch.setattr(Image, "open", open_and_look)
    path = save(tmp_path / "image.png", np.zeros((4, 4, 3)))
    before = list(warnings.filters)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(read_image, [path] * 8))
    assert seen == [before] * 8


# read_labels


def test_colour_masks_become_ids(tmp_path, classes):
    labels = np.random.default_rng(0).integers(0, 4, (9, 7), np.uint8)
    path = save(tmp_path / "mask.png", masks.label_colors(labels, classes))
    found = read_labels(path, classes)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels)


def test_colour_masks_with_alpha_become_ids(tmp_path, classes):
    labels = np.random.default_rng(0).integers(0, 4, (9, 7), np.uint8)
    alpha = np.full((9, 7), 255, np.uint8)
    path = save(tmp_path / "mask.png", np.dstack([masks.label_colors(labels, classes), alpha]))
    np.testing.assert_array_equal(read_labels(path, classes), labels)


def test_values_of_grey_and_palette_masks_are_ids(tmp_path, classes):
    labels = np.random.default_rng(0).integers(0, 4, (9, 7), np.uint8)
    np.testing.assert_array_equal(read_labels(save(tmp_path / "grey.png", labels), classes), labels)
    picture = Image.fromarray(labels)
    picture.putpalette([9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0])
    picture.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png", classes), labels)


def test_masks_of_one_bit_are_ids(tmp_path, classes):
    labels = np.random.default_rng(0).integers(0, 2, (9, 7), np.uint8)
    Image.fromarray(labels.astype(bool)).save(tmp_path / "bits.png")
    found = read_labels(tmp_path / "bits.png", classes)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels)


def test_masks_of_16_bits_are_ids(tmp_path):
    many = ClassTable([str(i) for i in range(300)], [(i // 256, i % 256, 0) for i in range(300)])
    labels = np.array([[0, 299], [255, 256]], np.uint16)
    Image.fromarray(labels).save(tmp_path / "ids.png")
    found = read_labels(tmp_path / "ids.png", many)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, labels)


def test_a_label_outside_the_table_is_an_error_and_an_ignored_one_is_none(tmp_path):
    path = save(tmp_path / "mask.png", [[0, 1, 255], [1, 9, 255]])
    table = {"names": ["road", "car"], "colors": [(1, 2, 3), (4, 5, 6)]}
    with pytest.raises(
        DatasetError,
        match=r"mask.png: 1 pixels hold a label outside the class table \(9\); "
        r"expected 0 to 1 or 255 \(ignored\): add the class to the table, correct the mask, or",
    ):
        read_labels(path, ClassTable(**table, ignore_label=255))
    with pytest.raises(DatasetError, match=r"3 pixels .* \(9, 255\); expected 0 to 1: add"):
        read_labels(path, ClassTable(**table))
    save(path, [[0, 1, 255]])
    found = read_labels(path, ClassTable(**table, ignore_label=255))
    assert found.tolist() == [[0, 1, 255]]


def test_palette_and_grey_masks_that_show_the_tables_colours_are_read_as_colours(tmp_path):
    table = ClassTable(["back", "front"], [(0, 0, 0), (255, 255, 255)])
    labels = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    binary = save(tmp_path / "binary.png", 255 * labels)
    np.testing.assert_array_equal(read_labels(binary, table), labels)
    colors = ClassTable(["a", "b"], [(200, 10, 0), (0, 90, 30)])
    picture = Image.fromarray(colors.colors[labels]).convert("P", palette=Image.Palette.ADAPTIVE)
    picture.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png", colors), labels)


def test_all_ignored_rows_are_read_as_the_first_one(tmp_path):
    table = ClassTable(list("abc"), [(9, 0, 0), (0, 9, 0), (0, 0, 9)], ignore_label=1,
                       also_ignored=(2,))  # fmt: skip
    path = save(tmp_path / "ids.png", np.array([[0, 1, 2]], np.uint8))
    assert read_labels(path, table).tolist() == [[0, 1, 1]]
    path = save(tmp_path / "colors.png", table.colors[None])
    assert read_labels(path, table).tolist() == [[0, 1, 1]]
    assert table.scored_ids == (0,)
    assert ClassTable(**table.to_dict()) == table
    again = ClassTable(list("abc"), table.colors, ignore_label=0, also_ignored=np.array([1, 2]))
    assert again.also_ignored == (1, 2)
    assert all(type(row) is int for row in again.also_ignored)  # as JSON wants them
    with pytest.raises(ValueError, match="expected an ignore_label from 0 to 2, received 255"):
        ClassTable(list("abc"), table.colors, ignore_label=255, also_ignored=(2,))


def test_blends_with_each_of_several_ignored_colours_are_boundaries(tmp_path):
    """As in an antialiased mask: a road that borders on two colours, both ignored."""
    table = ClassTable(["road", "void", "unlabelled"], [(128, 64, 128), (0, 0, 0), (0, 250, 90)],
                       ignore_label=1, also_ignored=(2,))  # fmt: skip
    rows = np.repeat([1, 0, 2], 6)[None].repeat(9, axis=0)
    pixels = table.colors[rows].astype(float)
    for edge in (6, 12):
        pixels[:, edge] = 0.5 * pixels[:, edge - 1] + 0.5 * pixels[:, edge]
    labels = read_labels(save(tmp_path / "soft.png", pixels.round().astype(np.uint8)), table)
    assert set(np.unique(labels)) == {0, 1}
    assert (labels[:, 8:11] == 0).all()
    assert (labels[:, :6] == 1).all()
    assert (labels[:, 13:] == 1).all()


def mask_with_a_patch(classes, color, count):
    """100×100 pixels of Sky, `count` of them of another colour."""
    pixels = np.tile(classes.colors[0], (100, 100, 1))
    rows, columns = np.divmod(np.arange(count), 40)
    pixels[rows, columns] = color
    return pixels


def test_more_than_one_percent_of_unknown_colours_is_an_error(tmp_path, classes):
    pixels = mask_with_a_patch(classes, (0, 255, 0), 150)
    pixels[50, :20] = (255, 255, 0)
    path = save(tmp_path / "scene_L.png", pixels)
    with pytest.raises(
        DatasetError,
        match=r"scene_L.png: 170 of 10000 pixels are far from every class colour, most often "
        r"\(0, 255, 0\) \(150 pixels; nearest class Sky\): add the colour to the class table",
    ):
        read_labels(path, classes)


def test_one_percent_of_unknown_colours_is_read(tmp_path, classes):
    path = save(tmp_path / "scene_L.png", mask_with_a_patch(classes, (0, 255, 0), 100))
    assert (read_labels(path, classes) == 0).all()


def test_colours_within_32_of_a_class_are_read(tmp_path, classes):
    path = save(tmp_path / "scene_L.png", mask_with_a_patch(classes, (128, 92, 140), 900))
    assert set(read_labels(path, classes).flat) <= {0, 2}


def test_blended_masks_are_read_without_a_third_class(tmp_path, classes):
    sky, building = classes.colors[:2].astype(float)
    share = np.linspace(0, 1, 7)[:, None]
    columns = np.concatenate([[sky] * 15, share * building + (1 - share) * sky, [building] * 15])
    pixels = np.tile(columns.round().astype(np.uint8), (30, 1, 1))
    assert not masks.exact_colors(pixels, classes).mean() > 0.9
    path = save(tmp_path / "scene_L.png", pixels)
    assert set(read_labels(path, classes, sharpen=False).flat) == {0, 1, 2}
    found = read_labels(path, classes)
    assert found[0].tolist() == [0] * 18 + [found[0, 18]] + [1] * 18
    assert found[0, 18] in (0, 1)


@pytest.fixture(scope="module")
def scene():
    """The labels of a street scene, and its mask in colours."""
    labels = draw_scene(3, size=(360, 480))[1]
    return labels, STREET_CLASSES.colors[labels]


def mistakes(path, pixels, labels, **settings):
    found = read_labels(save(path, pixels), STREET_CLASSES, **settings)
    return (found != labels).mean()


@pytest.mark.parametrize("quality", [90, 95])
def test_sharpening_mends_masks_saved_as_jpeg(tmp_path, scene, quality):
    labels, colors = scene
    pixels = as_jpeg(colors, quality)
    sharpened = mistakes(tmp_path / "mask.png", pixels, labels)
    assert sharpened < 0.6 * mistakes(tmp_path / "mask.png", pixels, labels, sharpen=False)
    assert sharpened < 0.005


def test_masks_a_little_off_their_colours_are_read_without_a_mistake(tmp_path, scene):
    labels, colors = scene
    pixels = (colors * 0.97).round().astype(np.uint8)
    assert mistakes(tmp_path / "mask.png", pixels, labels) == 0


def test_sharpening_mends_smoothed_masks(tmp_path, scene):
    labels, colors = scene
    size = (labels.shape[0] * 3, labels.shape[1] * 3)
    pixels = np.asarray(Image.fromarray(colors).resize(size[::-1], Image.Resampling.BILINEAR))
    expected = labels.repeat(3, axis=0).repeat(3, axis=1)
    nearest = mistakes(tmp_path / "mask.png", pixels, expected, sharpen=False)
    assert mistakes(tmp_path / "mask.png", pixels, expected) < nearest / 2


# read_pair


def test_a_mask_of_another_size_than_its_image_is_an_error(tmp_path, classes):
    image = save(tmp_path / "scene.png", np.zeros((40, 30, 3)))
    mask = save(tmp_path / "scene_L.png", np.zeros((20, 30, 3)))
    with pytest.raises(
        DatasetError,
        match=r"scene_L.png is 20×30 \(height × width\) but its image .*scene.png is 40×30: "
        "export the mask at the image's size",
    ):
        read_pair(image, mask, classes)


# resize_image


def test_resize_image_by_hand():
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 2:] = (200, 100, 0)
    # Each pixel of half the size weighs four, 1:3:3:1, where they exist.
    half = resize_image(image, (1, 2))
    assert half.tolist() == [[[29, 14, 0], [171, 86, 0]]]
    assert resize_image(image[:, :1], (5, 7)).tolist() == [[[0, 0, 0]] * 7] * 5


def test_resize_image_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_image(stripes, (16, 16))
    assert small.shape == (16, 16, 3)
    assert small.dtype == np.uint8
    assert np.abs(small[:, 1:-1].astype(int) - 128).max() <= 4


def test_resize_image_takes_height_and_width_and_any_layout():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert resize_image(image, (40, 10)).shape == (40, 10, 3)
    np.testing.assert_array_equal(
        resize_image(image[:, ::-1], (10, 15)), resize_image(image[:, ::-1].copy(), (10, 15))
    )
    np.testing.assert_array_equal(resize_image(image, (20, 30)), image)


# check_image_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [(32, (32, 32)), ((32, 64), (32, 64)), ([96, 128], (96, 128)), (np.int64(48), (48, 48)),
     (np.array([64, 32]), (64, 32)), (64.0, (64, 64))],
)  # fmt: skip
def test_image_sizes(size, expected):
    found = check_image_size(size)
    assert found == expected
    assert all(type(side) is int for side in found)


@pytest.mark.parametrize("size", [31, 0, -64, (128, 31), (31, 128), (64, 64, 3), (64,), (64.5, 64)])
def test_image_sizes_smaller_than_32_are_refused(size):
    with pytest.raises(
        ValueError, match=r"an image size \(height, width\) of at least 32 pixels a side, received"
    ):
        check_image_size(size)
