"""Which class table counts, and masks whose values are no ids of classes."""

import json

import numpy as np
import pytest
from folders import CLASSES, write_folder
from PIL import Image

from seglib.classes import ClassTable
from seglib.datasets import open_dataset
from seglib.images import DatasetError

ROWS = list(zip(CLASSES.names, CLASSES.colors.tolist(), strict=True))
LABELS = np.kron(np.arange(12).reshape(3, 4) % 4, np.ones((16, 16), int))  # of classes 0 to 3


def write(folder, draw, suffix=".png"):
    """Six pairs; `draw` makes a mask's array of its labels."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for i in range(6):
        photograph = np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(photograph).save(folder / f"images/{i}.png")
        mask = Image.fromarray(draw(np.roll(LABELS, 16 * i, axis=1)))
        mask.save(folder / f"masks/{i}{suffix}")
    return folder


def as_type(dtype, scale=1):
    return lambda labels: (scale * labels).astype(dtype)


LINES = "\n".join(f"{name}, {r}, {g}, {b}" for name, (r, g, b) in ROWS)
CVAT = "\n".join(f"{name}:{r},{g},{b}::" for name, (r, g, b) in ROWS)
TITLED = [{"title": name, "color": color} for name, color in ROWS]
META = {"label_map": dict(enumerate(CLASSES.names)), "segmentation_colors": [c for _, c in ROWS]}
HASTY = [{"png_index": i, "class_name": n, "color": c} for i, (n, c) in enumerate(ROWS)]
TABLES = {
    "labelmap.txt": "# label:color_rgb:parts:actions\n" + CVAT,
    "labelmap.csv": "label,R,G,B\n" + LINES,
    "class_dict_seg.csv": "name, r, g, b\n" + LINES,
    "classes.json": json.dumps({"classes": TITLED}),
    "label_classes.json": json.dumps(HASTY[1:]),
    "meta.json": json.dumps({"classes": TITLED[1:], "tags": []}),
    "dataset_meta.json": json.dumps(META),
}


@pytest.mark.parametrize("encoding", ["rgb", "grey"])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.filterwarnings("ignore:.*taken for a class named background")
def test_tables_of_annotation_tools_are_found(tmp_path, name, encoding):
    expected = write_folder(tmp_path, "no splits", encoding, table=False)
    (tmp_path / name).write_text(TABLES[name])
    dataset = open_dataset(tmp_path)
    assert np.array_equal(dataset.classes.colors, CLASSES.colors)
    assert dataset.classes.names[1:] == CLASSES.names[1:]
    for (_, labels), title in zip(dataset.train, dataset.train.names, strict=True):
        np.testing.assert_array_equal(labels, expected[title][1])


def test_grey_colours_of_machines_beside_colours_for_people(tmp_path):
    """As Supervisely exports masks: row 0 of the one table is not id 0."""
    write(tmp_path, lambda labels: (labels % 2).astype(np.uint8))
    (tmp_path / "meta.json").write_text('{"classes": [{"title": "road", "color": "#D0021B"}]}')
    (tmp_path / "obj_class_to_machine_color.json").write_text('{"road": [1, 1, 1]}')
    with pytest.warns(UserWarning, match=r"color.json has no row for the masks' value 0, or black"):
        dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", "road")
    assert set(dataset.train[0][1].flat) == {0, 1}


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"classes.txt": "a\nb\nc\nd", "labels.txt": "a\nc\nb\nd"},
         r"classes.txt and .*labels.txt both fit .* [12] is '[bc]' in the one .* as classes= to"),
        ({"classes.txt": "a\nb\nc"}, r"classes.txt has no row for 3 \(25.0% of the pixels\)"),
        ({"classes.txt": "a\nb\nc", "labels.txt": "x\ny"}, "labels.txt has no row for .*: correct"),
    ],
)  # fmt: skip
def test_tables_that_contradict_or_do_not_fit(tmp_path, tables, words):
    write(tmp_path, as_type(np.uint8))
    for name, text in tables.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path)


def test_of_several_tables_the_one_that_fits_counts_and_a_broken_one_is_named(tmp_path):
    write(tmp_path, as_type(np.uint8))
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd")
    (tmp_path / "labels.txt").write_text("x\ny")
    (tmp_path / "class_names.txt").write_text("A\nB\nC\nD")
    (tmp_path / "meta.json").write_text('{"width": 64, "height": 48}')
    assert open_dataset(tmp_path).classes.names == ("A", "B", "C", "D")
    (tmp_path / "_classes.csv").write_text("class\nroad\n")
    with pytest.warns(UserWarning, match=r"no class table is read from .*_classes.csv: expected"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("draw", "suffix", "options", "expected"),
    [
        (as_type(np.uint8), ".png", {"values": {0: "a", 1: "b", 2: "b", 3: None}}, [0, 1, 1, 255]),
        (as_type(np.uint8), ".png", {"values": {0: "a", "rest": "b"}}, [0, 1, 1, 1]),
        (as_type(np.int32, 70), ".tif", {"values": {"0-69": "a", "70-140": "b", 210: "a"}},
         [0, 1, 1, 0]),
        (as_type(np.uint8), ".png", {"classes": ["c", "b"], "values": {0: "b", "rest": "c"}},
         [1, 0, 0, 0]),
        (as_type(np.uint8, 50), ".png", {"classes": {0: "a", 50: "b", 100: "c", 150: "d"}},
         [0, 1, 2, 3]),
        (lambda x: (x % 2 * 65535).astype(np.uint16), ".png", {}, [0, 1, 0, 1]),
        (lambda x: (x % 2 * 255).astype(np.float32), ".tif", {}, [0, 1, 0, 1]),
        (lambda x: (x % 2 * 255).astype(np.uint8), ".png", {"classes": ["void", "a"]},
         [0, 1, 0, 1]),
        (lambda x: (x % 2).astype(np.uint8), ".png", {"encoding": "binary"}, [0, 1, 0, 1]),
        (as_type(np.uint16, 90), ".png", {"encoding": "binary"}, [0, 1, 1, 1]),
        (as_type(np.uint8, 60), ".png",
         {"classes": {(0, 0, 0): "a", (60, 60, 60): "b", (120,) * 3: "b", (180,) * 3: "a"}},
         [0, 1, 1, 0]),
    ],
)  # fmt: skip
def test_values_of_masks_become_ids(tmp_path, draw, suffix, options, expected):
    dataset = open_dataset(write(tmp_path, draw, suffix), **options)
    for split in dataset.splits.values():
        for name, (_, labels) in zip(split.names, split, strict=True):
            shown = np.roll(LABELS, 16 * int(name), axis=1)
            np.testing.assert_array_equal(labels, np.array(expected)[shown])


@pytest.mark.parametrize(
    ("none", "dtype", "key"),
    [(-9999, np.int32, "-9999"), (-1, np.float32, "-1"), (np.nan, np.float32, "nan")],
)
def test_no_data_is_ignored_with_a_warning(tmp_path, none, dtype, key):
    write(tmp_path, lambda labels: np.where(labels == 3, none, labels).astype(dtype), ".tif")
    with pytest.warns(UserWarning, match=rf"\(25.0% .* ignored; pass values={{…, '{key}': name}}"):
        dataset = open_dataset(tmp_path, classes=["a", "b", "c"])
    assert (dataset.classes.ignore_label, dataset.classes.values[key]) == (255, 255)
    assert set(dataset.train[0][1].flat) == {0, 1, 2, 255}


@pytest.mark.parametrize(
    ("draw", "suffix", "options", "words"),
    [
        (as_type(np.uint8), ".jpg", {"classes": list("abcd")}, "hold ids .*: export them as PNG"),
        (as_type(np.uint8), ".jpg", {}, "hold ids .*: export them as PNG"),
        (as_type(np.uint8, 80), ".jpg", {"classes": {0: "a", 80: "b", 160: "c", 240: "d"}},
         "JPEG or WebP and hold ids .*: export them as PNG"),
        (as_type(np.uint8), ".jpg", {"encoding": "binary"}, "hold ids .*: export them as PNG"),
        (as_type(np.uint16, 900), ".png", {}, r"values 0, 900, 1800, 2700: pass values={0: "),
        (as_type(np.float32, 0.3), ".tif", {}, "masks/.*tif holds fractions"),
        (lambda x: (x % 2 * 255).astype(np.uint8), ".png", {"classes": list("abc")},
         "classes= has no row for 255"),
        (lambda x: (x % 2 * 255).astype(np.uint8), ".png", {"classes": ["polyp", "Background"]},
         "has Background second, which white would show"),
        (as_type(np.uint8), ".png", {"values": {0: "a"}, "classes": ["b"]}, r"values= .*\['a'\]"),
    ],
)  # fmt: skip
def test_masks_that_are_refused(tmp_path, draw, suffix, options, words):
    write(tmp_path, draw, suffix)
    with pytest.raises(ValueError, match=words):
        open_dataset(tmp_path, **options)


def test_values_without_a_class_are_told_when_a_mask_is_read(tmp_path):
    dataset = open_dataset(write(tmp_path, as_type(np.uint8)), values={0: "a", 1: "b"})
    with pytest.raises(DatasetError, match=r'show no class \(2, 3\).* values=, "rest" for all'):
        dataset.train[0]


def test_black_and_white_that_is_blended_is_told(tmp_path):
    def draw(labels):
        mask = Image.fromarray((labels % 2 * 255).astype(np.uint8))
        return np.asarray(mask.rotate(4, Image.BILINEAR).rotate(-4, Image.BILINEAR))

    write(tmp_path, draw)
    with pytest.warns(UserWarning, match="black and white are blended: values from 128 on are wh"):
        dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", "foreground")
    shown = np.roll(LABELS, 16 * int(dataset.train.names[0]), axis=1) % 2
    assert (dataset.train[0][1] == shown).mean() > 0.9


def test_soft_masks_are_cut_at_half(tmp_path):
    ramp = np.repeat(np.clip(np.linspace(-100, 355, 64), 0, 255), 48).reshape(64, 48).T
    write(tmp_path, lambda labels: ramp.astype(np.uint8))
    with pytest.warns(UserWarning, match="black and white are blended"):
        dataset = open_dataset(tmp_path)
    np.testing.assert_array_equal(dataset.train[0][1], ramp.astype(np.uint8) > 127)


def test_255_is_ignored_beside_masks_of_0_and_1_where_a_table_says_so(tmp_path):
    parts = iter([1, 255] * 3)
    write(tmp_path, lambda labels: (labels % 2 * next(parts)).astype(np.uint8))
    classes = ClassTable(["a", "b", "c"], [(0, 0, 0), (1, 1, 1), (2, 2, 2)], ignore_label=255)
    dataset = open_dataset(tmp_path, classes=classes)
    assert {*np.unique([labels for _, labels in dataset.train])} == {0, 1, 255}


def number_objects(labels):
    """A square in each block whose label is not 0, another number of them in each mask."""
    objects = np.zeros((48, 64), np.uint16)
    for number in range(1, 2 + np.flatnonzero(labels[0] == 0)[0] // 16 * 2):
        objects[4 * number : 4 * number + 3, 8:40] = number
    return objects


def test_numbers_of_objects_are_not_taken_for_classes_in_silence(tmp_path):
    write(tmp_path, number_objects)
    call = r'pass values={0: "background", "rest": "object"} to open_dataset for one class'
    with pytest.warns(UserWarning, match=f"{call}, .* number objects, up to 7 in a picture"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=f"no row for .*{call}"):
        open_dataset(tmp_path, classes=["background", "nucleus"])
    dataset = open_dataset(tmp_path, values={0: "background", "rest": "nucleus"})
    assert set(dataset.train[0][1].flat) == {0, 1}
    assert dataset.classes == ClassTable(["background", "nucleus"], dataset.classes.colors)


def number_with_gaps(labels):
    objects = np.zeros((48, 64), np.uint16)
    random = np.random.default_rng(np.flatnonzero(labels[0] == 0)[0])  # others in each mask
    for place, number in enumerate(random.choice(np.arange(1, 18), 12, replace=False)):
        objects[3 * place : 3 * place + 2, 8:40] = number
    return objects


def test_numbers_of_many_objects_may_have_gaps(tmp_path):
    write(tmp_path, number_with_gaps)
    with pytest.warns(UserWarning, match="they seem to number objects"):
        open_dataset(tmp_path)


def test_masks_of_another_size_are_resized_on_request(tmp_path):
    write(tmp_path, lambda labels: labels[::2, ::2].astype(np.uint8))
    with pytest.raises(DatasetError, match="or pass resize_masks=True to open_dataset"):
        open_dataset(tmp_path, classes=CLASSES).train[0]
    dataset = open_dataset(tmp_path, classes=CLASSES, resize_masks=True)
    shown = np.roll(LABELS, 16 * int(dataset.train.names[0]), axis=1)
    np.testing.assert_array_equal(dataset.train[:2][0][1], shown)
