"""Photographs of more bits, bands and pages than 8 bits of RGB, from the file to the prediction."""

import dataclasses
import struct
import zlib

import keras
import numpy as np
import pytest
import tifffile
from PIL import Image

import seglib
from seglib import plots
from seglib.augment import Augmentation, augment_pair, blend_pairs
from seglib.encoders import create_encoder
from seglib.images import DatasetError, Pixels, find_range, list_pages, read_image
from seglib.models import known_head
from seglib.splitting import find_groups

RANDOM = np.random.default_rng(0)
RAMP = np.linspace(0, 3000, 4096).reshape(64, 64)
LABELS = np.kron(RANDOM.integers(0, 2, (8, 8)), np.full((8, 8), 255)).astype(np.uint8)
RGB = {"photometric": "rgb"}
OPTIONS = {3: RGB, 4: RGB | {"extrasamples": ["unspecified"]}}


@pytest.fixture
def write_data(tmp_path):
    """Function that writes pairs of these photographs and a mask of black and white."""
    folder = tmp_path / "data"

    def write(photographs):
        for i, values in enumerate(photographs):
            options = OPTIONS.get(values.shape[-1], {})
            tifffile.imwrite(folder / f"images/p_{i}.tif", values, **options)
            Image.fromarray(LABELS).save(folder / f"masks/p_{i}.png")
        return folder

    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    return write


@pytest.mark.parametrize(
    ("scale", "offset", "dtype", "bands"),
    [
        (1, 0, np.uint16, 1),
        (1, -1024, np.int16, 1),
        (1, 0, np.uint16, 3),
        (1e-4, 0, np.float32, 1),
        (1e-4, -0.1, np.float64, 3),
        (1000, 0, np.uint32, 1),
    ],
)
def test_one_range_holds_for_all_photographs(write_data, scale, offset, dtype, bands):
    shown = [np.dstack([RAMP * share] * bands).squeeze() for share in (1, 0.5, 0.25, 1)]
    path = write_data([(scale * each + offset).astype(dtype) for each in shown])
    with pytest.warns(UserWarning, match=r"become 0 to 255: pass value_range=\(.*to confirm"):
        dataset = seglib.open_dataset(path, fractions=(1, 0, 0))
    images = [image for image, _ in dataset.train]
    assert all(image.shape == (64, 64, 3) for image in images)
    assert len(np.unique(images[0])) > 250
    np.testing.assert_allclose([image.max() for image in images], (255, 128, 64, 255), atol=2)
    np.testing.assert_array_equal(images[0], images[3])
    low, high = dataset.train.pixels.value_range
    np.testing.assert_allclose((low, high), (offset, 3000 * scale + offset), atol=8 * scale)
    given = seglib.open_dataset(path, value_range=(low, high), fractions=(1, 0, 0))  # no warning
    np.testing.assert_array_equal(given.train[1][0], images[1])
    assert len(set(find_groups([image for image, _ in given.train.pairs], given.train.pixels)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(65536, dtype=np.uint16), (0, 65535)),
        (np.linspace(0, 1, 100, dtype=np.float32), (0, 1)),
        (np.r_[np.full(50, -9999.0), np.arange(1001)], (0, 1000)),
        (np.r_[np.nan, np.inf, np.arange(1001.0)], (1, 999)),
        (np.r_[np.arange(4000), 65535].astype(np.uint16), (4, 3996)),
        (np.full(9, 7, np.uint16), (7, 8)),
        (np.full(9, np.nan), (0, 1)),
    ],
)
def test_ranges_of_values(values, expected):
    np.testing.assert_allclose(find_range(values), expected, atol=1.1)


def test_values_become_levels_by_hand():
    pixels = Pixels(bands=(1, 0), value_range=(0, 4095))
    values = np.array([[[0, 16], [4095, 5000]]], np.uint16)
    assert pixels.convert(values).tolist() == [[[1, 0], [255, 255]]]
    fractions = np.array([[[np.nan, -1], [0.5, 2]]], np.float32)
    assert Pixels((0, 1), (0, 1)).convert(fractions).tolist() == [[[0, 0], [128, 255]]]
    eight = RANDOM.integers(0, 256, (2, 3, 3), np.uint8)
    np.testing.assert_array_equal(Pixels((2,), (0, 9)).convert(eight), eight[..., 2:])
    assert Pixels(**Pixels([1, 2]).to_dict()) == Pixels((1, 2))


def test_of_four_bands_three_are_taken_and_the_others_named(tmp_path, write_data):
    values = RANDOM.integers(0, 256, (64, 64, 4), np.uint8)
    options = {"photometric": "minisblack", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "planar.tif", np.moveaxis(values, -1, 0), **options)
    with pytest.warns(UserWarning, match=r"left out: 3: pass bands=\(0, 1, 2\) to"):
        np.testing.assert_array_equal(read_image(tmp_path / "planar.tif"), values[..., :3])
    every = read_image(tmp_path / "planar.tif", Pixels((3, 2, 1, 0)))
    np.testing.assert_array_equal(every, values[..., ::-1])
    Image.fromarray(values).save(tmp_path / "alpha.png")  # near infrared, taken for transparency
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png", Pixels((3,))), values[..., 3:])
    path = write_data([values] * 3)
    with pytest.warns(UserWarning, match="left out: 3: pass"):
        assert seglib.open_dataset(path).train[0][0].shape == (64, 64, 3)
    assert seglib.open_dataset(path, bands=(0, 1, 2, 3)).train[0][0].shape == (64, 64, 4)


def test_pages_are_pairs_or_bands(tmp_path, write_data):
    pages, path = RANDOM.integers(0, 4000, (6, 64, 64)).astype(np.uint16), write_data([])
    image, mask = path / "images/stack.tif", path / "masks/stack.tif"
    with tifffile.TiffWriter(image) as tiff:
        for page in pages:  # each with a smaller copy, as GIS programs write them
            tiff.write(page)
            tiff.write(page[::2, ::2], subfiletype=1)
    masks = np.stack([np.roll(LABELS, i) for i in range(6)])
    tifffile.imwrite(mask, masks, photometric="minisblack")
    assert (list_pages(image), list_pages(image / "4")) == ([0, 2, 4, 6, 8, 10], [0])
    splits = tmp_path / "splits.csv"
    seglib.open_dataset(path, value_range=(0, 4095)).write_splits(splits)
    again = seglib.open_dataset(path, value_range=(0, 4095), splits=splits)
    assert len(again) == 6
    for split in again.splits.values():
        for (page, _), (picture, labels) in zip(split.pairs, split, strict=True):
            number = int(page.name) // 2
            np.testing.assert_array_equal(picture[..., 0], pages[number] >> 4)
            np.testing.assert_array_equal(labels, masks[number] > 0)
    with pytest.warns(UserWarning, match="bands 0 to 5 these are left out: 3, 4, 5: pass bands"):
        found = read_image(image, Pixels(value_range=(0, 4095)))
    np.testing.assert_array_equal(found, np.dstack(list(pages[:3])) >> 4)
    tifffile.imwrite(mask, LABELS)
    with pytest.raises(DatasetError, match=r"6 pages but its mask .* has 1: .*bands=\(0, 1, 2\)"):
        seglib.open_dataset(path)
    bands = seglib.open_dataset(path, bands=(5, 0), value_range=(0, 4095))
    np.testing.assert_array_equal(bands.train[0][0], np.dstack([pages[5], pages[0]]) >> 4)


def test_cache_model_export_and_predict_carry_bands_and_range(write_data, tmp_path):
    values = RANDOM.integers(0, 4000, (4, 64, 64, 4)).astype(np.uint16)
    dataset = seglib.open_dataset(write_data(values), bands=(3, 1), value_range=(0, 4095))
    data = dataset.prepare(image_size=(32, 32), cache_dir=tmp_path / "cache")
    other = dataclasses.replace(dataset.train, pixels=Pixels((3, 1), (0, 9999)))
    others = dataclasses.replace(dataset, train=other).prepare(image_size=32, cache_dir=tmp_path)
    assert data.fingerprint != others.fingerprint
    assert data.train.images.shape[1:] == (32, 32, 2)
    wrong = seglib.create_unet_model((32, 32, 3), num_classes=2, filters=(4, 8))
    with pytest.raises(ValueError, match=r"32, 3\) .* gets \(32, 32, 2\) .*=\(32, 32, 2\)"):
        seglib.train(wrong, data, run_dir=tmp_path / "wrong", epochs=1)
    model = seglib.create_unet_model((32, 32, 2), num_classes=2, filters=(4, 8))
    seglib.train(model, data, run_dir=tmp_path / "run", epochs=1, precision="float32")
    loaded = seglib.load_model(tmp_path / "run")
    assert known_head(loaded).pixels == data.pixels == Pixels((3, 1), (0, 4095))
    predictor = seglib.load_predictor(seglib.export(loaded, tmp_path / "export", format="keras"))
    path = dataset.train.pairs[0][0]
    expected = seglib.predict(model, dataset.train[0][0])
    for known in (loaded, predictor):
        for picture in (path, str(path), tifffile.imread(path)):
            np.testing.assert_array_equal(seglib.predict(known, picture), expected)
        np.testing.assert_array_equal(seglib.predict(known, [path])[0], expected)
    scores = [seglib.evaluate(loaded, split).pixel_accuracy for split in (dataset.train, other)]
    assert scores[0] == scores[1]  # read as in training, whatever the range of another data set
    with pytest.raises(ValueError, match=r"uint8 picture \(height, width, 2\), received float32"):
        seglib.predict(loaded, np.zeros((2, 2, 2, 2, 2), np.float32))
    plots.plot_findings(seglib.check_dataset(dataset))


@pytest.mark.parametrize("name", ["unetpp", "unet", "deeplabv3plus", "fcn", "segnet"])
def test_networks_take_1_to_8_channels(name):
    for channels in (1, 8):
        shape = 32, 32, channels
        model = seglib.create_model(name, shape, num_classes=2, filters=(2,) * 5)
        assert model.input_shape == (None, *shape)
    with pytest.raises(ValueError, match=r"or 1 to 8 channels, received"):
        seglib.create_model(name, (32, 32, 9), num_classes=2)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "VGG16"])  # in RGB and in BGR
def test_pretrained_encoders_see_other_channels_as_colours(name, tmp_path):
    weights = "imagenet"
    if name == "VGG16":
        weights = tmp_path / "notop.weights.h5"
        keras.applications.VGG16(weights=None, include_top=False).save_weights(weights)
    rgb = RANDOM.integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    encoders = {c: create_encoder(name, (32, 32, c), weights=weights, levels=2) for c in (1, 3, 6)}
    for bands, shown in (([0], [0, 0, 0]), ([0, 1, 2, 0, 1, 2], [0, 1, 2])):
        found = encoders[len(bands)](rgb[..., bands])[1]
        expected = encoders[3](rgb[..., shown])[1]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.max(expected))


@pytest.mark.parametrize("channels", [1, 4])
def test_augmentation_changes_all_channels_alike(channels):
    image = RANDOM.integers(0, 256, (40, 48, 3), np.uint8)
    places = np.arange(channels) % 3
    labels = RANDOM.integers(0, 3, (40, 48))
    geometry = {"scale": (0.5, 2), "rotation": 20, "aspect": 1.2, "blur": 2}
    for options, largest in (({"brightness": 0, "contrast": 0}, 0), ({"contrast": 0.5}, 1)):
        change = Augmentation(size=(32, 36), **geometry, **options)
        for index in range(4):
            how = {"seed": 0, "epoch": 0, "index": index, "augmentation": change, "ignore_label": 9}
            expected, ids = augment_pair(image, labels, **how)
            found, others = augment_pair(image[..., places], labels, **how)
            assert np.abs(found.astype(int) - expected[..., places]).max() <= largest
            np.testing.assert_array_equal(ids, others)
    strong = Augmentation(saturation=1, hue=90, noise=9)
    assert augment_pair(image[..., places], labels, seed=0, epoch=0, index=0, augmentation=strong)
    pairs = [(image[..., places], labels), (image[::-1][..., places], labels)]
    blended, _ = blend_pairs(*pairs, share=0.25, num_classes=3)
    assert np.abs(blended - (0.25 * pairs[0][0] + 0.75 * pairs[1][0])).max() <= 1
    plots.plot_grid([[pairs[0][0], labels]], seglib.create_class_table(list("abc")), overlay=True)


def test_png_of_16_bits_rgb_keeps_all_of_them(tmp_path):
    """Written by hand, as Pillow does not write it."""
    values = np.dstack([RAMP, RAMP[::-1], RAMP // 2]).astype(np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0)
    for data in (b"IHDR" + head, b"IDAT" + zlib.compress(rows), b"IEND"):
        content += struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    (tmp_path / "photo.png").write_bytes(content)
    for highest, expected in ((255, values.clip(0, 255)), (65535, values >> 8)):
        found = read_image(tmp_path / "photo.png", Pixels(value_range=(0, highest)))
        np.testing.assert_array_equal(found, expected)


def test_all_bands_together_take_bounded_memory(tmp_path, monkeypatch):
    values = np.zeros((64, 64, 8), np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    np.save(tmp_path / "a.npy", values)
    monkeypatch.setattr("seglib.images.MAX_BYTES", values.nbytes - 1)
    for name in ("a.tif", "a.npy"):
        with pytest.raises(DatasetError, match=f"{name} holds 131072 bytes: cut it into tiles"):
            read_image(tmp_path / name)


def test_what_cannot_be_read_says_why(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16)).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.save(tmp_path / "b.npy", RAMP.astype(np.float32))
    tifffile.imwrite(tmp_path / "c.tif", RAMP.astype(np.complex64))
    with pytest.warns(UserWarning, match="values from 2 to 2997 become 0 to 255"):
        assert len(np.unique(read_image(tmp_path / "a.tif"))) == 256  # by Pillow
    for name, pixels, words in (
        ("a.tif", Pixels((3,)), r"a.tif has bands 0 to 0, but bands=\(3,\) are wanted"),
        ("b.npy", Pixels(), r"values from 0 to 3000: .*value_range=\(0, 3000\)"),
        ("c.tif", Pixels(), "c.tif holds complex64 .*: expected real numbers"),
    ):
        with pytest.raises(DatasetError, match=words):
            read_image(tmp_path / name, pixels)
    for wrong in ({"bands": ()}, {"bands": range(9)}, {"bands": (-1,)}, {"value_range": (1, 1)}):
        with pytest.raises(ValueError, match=r"expected 1 to 8 bands, .*received Pixels"):
            Pixels(**wrong)
    model = seglib.create_unet_model((32, 32, 3), num_classes=2, filters=(4, 8))
    with pytest.raises(ValueError, match=r"expected a uint8 RGB picture .*uint16"):
        seglib.predict(model, np.zeros((40, 40, 3), np.uint16))
