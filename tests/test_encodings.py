"""Labels that are written in any encoding and read again."""

import pathlib
import tempfile
import warnings

import folders
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seglib.classes import ClassTable, voc_colors
from seglib.datasets import open_dataset
from seglib.encodings import choose_encoding, read_labels, survey_masks
from seglib.images import DatasetError

LOSSLESS = sorted(set(folders.ENCODINGS) - {"jpeg"})


@st.composite
def label_maps(draw):
    """`(labels, number of classes, whether 255 occurs)`: blocks, noise or stripes of any size."""
    num_classes = draw(st.integers(2, 40))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = random.integers(0, num_classes, (height, width))
    block = draw(st.integers(1, 12))
    labels = np.kron(labels[::block, ::block], np.ones((block, block), int))[:height, :width]
    if draw(st.booleans()):
        labels[random.random(labels.shape) < 0.2] = labels.flat[0]
    return labels.astype(np.uint8), num_classes


@settings(max_examples=150, deadline=None)
@given(label_maps(), st.sampled_from(LOSSLESS))
def test_labels_survive_being_written_and_read(case, encoding):
    labels, num_classes = case
    classes = ClassTable([f"class {i}" for i in range(num_classes)], voc_colors(num_classes))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for kind in ("images", "masks"):
            (folder / kind).mkdir()
        Image.new("RGB", labels.shape[::-1]).save(folder / "images/a.png")
        folders.ENCODINGS[encoding](folder / "masks/a", labels, classes)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*in another order; read as colours")
            dataset = open_dataset(folder, classes=classes, fractions=(1, 0, 0))
        if encoding == "a palette of its own for each" and len(np.unique(labels)) < 2:
            return  # a single value: an id as well as a colour
        found = dataset.train[0][1]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels)


@settings(max_examples=40, deadline=None)
@given(st.integers(257, 3000), st.integers(0, 2**32 - 1))
def test_many_ids_survive_in_16_bits(num_classes, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, (20, 30)).astype(np.uint16)
    colors = [(i >> 8, i & 255, 7) for i in range(num_classes)]
    classes = ClassTable([str(i) for i in range(num_classes)], colors)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "mask.png")
        folders.write_grey_16(path, labels, classes)
        found = read_labels(path.with_suffix(".PNG"), classes)
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == np.uint16 or labels.max() < 256


def save(path, values, mode=None):
    Image.fromarray(np.asarray(values, mode)).save(path)
    return path


def test_masks_of_floating_point_hold_whole_ids(tmp_path):
    table = ClassTable(["a", "b"], [(0, 0, 0), (9, 9, 9)])
    path = save(tmp_path / "mask.tif", [[0, 1, 1]], np.float32)
    found = read_labels(path, table)
    assert (found.tolist(), found.dtype) == ([[0, 1, 1]], np.uint8)
    save(path, [[0, 0.5]], np.float32)
    with pytest.raises(DatasetError, match=r"mask.tif holds fractions: expected whole numbers"):
        read_labels(path, table)
    save(path, [[0, -1]], np.int32)
    with pytest.raises(DatasetError, match=r"1 pixels hold a label outside the class table \(-1\)"):
        read_labels(path, table)


def test_grey_with_alpha_holds_ids(tmp_path):
    values, alpha = (Image.fromarray(np.array([row], np.uint8)) for row in ([0, 1, 2], [9, 0, 255]))
    Image.merge("LA", [values, alpha]).save(tmp_path / "mask.png")
    table = ClassTable(list("abc"), [(0, 0, 0), (9, 0, 0), (0, 9, 0)])
    assert read_labels(tmp_path / "mask.png", table).tolist() == [[0, 1, 2]]


def test_a_survey_counts_values_and_decodes_few_colour_masks(tmp_path, monkeypatch):
    paths = [save(tmp_path / f"{i}.png", [[i, i + 1]], np.uint8) for i in range(3)]
    paths.append(save(tmp_path / "color.png", np.full((4, 4, 3), (9, 0, 0)), np.uint8))
    (tmp_path / "empty.png").touch()
    survey = survey_masks([*paths, tmp_path / "empty.png", tmp_path / "gone.png"])
    assert survey.values == {0: 1, 1: 2, 2: 2, 3: 1}
    assert (survey.one_channel, survey.colored, survey.grey, survey.lossy) == (3, 1, 3, 0)
    monkeypatch.setattr(Image.Image, "load", None)
    assert survey_masks(paths[3:]).colored == 1


def test_shades_of_grey_are_colours_where_the_table_has_them(tmp_path):
    table = ClassTable(["sky", "ground"], [(255, 255, 255), (100, 100, 100)])
    path = save(tmp_path / "mask.png", [[100, 255, 255]], np.uint8)
    assert choose_encoding(survey_masks([path]), table) == "colors"
    assert read_labels(path, table).tolist() == [[1, 0, 0]]
    noisy = np.full((40, 40), 100)
    noisy[::20, ::20], noisy[0, 1] = 255, 101
    path = save(tmp_path / "noisy.png", noisy, np.uint8)
    assert read_labels(path, table)[:2, :3].tolist() == [[0, 1, 1], [1, 1, 1]]
