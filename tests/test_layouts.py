"""Well-known data sets and what tools write: each row of layouts.csv opens, or is refused by name.

Templates of paths hold a picture's number `{i}` from 1 to 3, a split `{split}` and a value `{k}`.
Masks show the values in vertical stripes, another first one in each picture, which are to be read
as `classes`, where `-` is ignored. `others` are further files, `path=content`.
"""

import csv
import itertools
import pathlib

import numpy as np
import pytest
from folders import draw_palette, save, write_texts
from PIL import Image

from seglib import datasets
from seglib.datasets import open_dataset
from seglib.images import DatasetError

with open(pathlib.Path(__file__).with_name("layouts.csv"), newline="", encoding="utf-8") as file:
    ROWS = list(csv.DictReader(file))
SIZE = 48, 64
PICTURES = {".png", ".jpg", ".tif", ".gif"}


def stripes(values):
    """Values from left to right, each as wide as the others."""
    return np.repeat(values, -(-SIZE[1] // len(values)), axis=0)[None, : SIZE[1]].repeat(SIZE[0], 0)


def turn(values, i):
    return values[i % len(values) :] + values[: i % len(values)]


def draw_mask(kind, values):
    """Picture of values such as `7`, `#804080` or `15=#c08080`."""
    parts = [value.partition("#") for value in values]
    numbers = [int(number.strip("=") or 0) for number, _, _ in parts]
    colors = [list(bytes.fromhex(color)) for _, _, color in parts]
    if kind == "palette":
        palette = np.zeros((256, 3))
        palette[numbers] = colors
        return draw_palette(stripes(numbers), palette)
    drawn = stripes(colors if kind == "colors" else numbers)
    return Image.fromarray(drawn.astype(np.uint16 if kind == "16 bits" else np.uint8))


def draw_other(content, random):
    rows, columns = np.indices(SIZE)
    drawn = {
        "disc": 255 * ((rows - 24 - random.integers(2)) ** 2 + (columns - 32) ** 2 < 500),
        "stripes": 255 * (columns // 16 % 2),
        "numbers": 1000 * (columns // 8) + rows // 8,
    }.get(content, random.integers(0, 256, (*SIZE, 3)))
    return Image.fromarray(drawn.astype(np.uint16 if content == "numbers" else np.uint8))


def build(folder, row):
    """Write the files of a row; returns the number of each photograph."""
    random, values, written = np.random.default_rng(0), row["values"].split(), {}
    for split, i in itertools.product(row["splits"].split() or [""], "123"):
        image, mask, others = (
            row[part].replace("{i}", i).replace("{split}", split)
            for part in ("image", "mask", "others")
        )
        pictures = {}
        if image:
            pictures[image] = draw_other("", random)
            written[folder / image] = int(i)
        if row["kind"] == "files":
            for k, value in enumerate(values):
                white = stripes(255 * (np.arange(3) == k + 1)).astype(np.uint8)
                pictures[mask.replace("{k}", value)] = Image.fromarray(white)
        elif mask:
            pictures[mask] = draw_mask(row["kind"], turn(values, int(i)))
        for other in filter(None, others.split(";")):
            name, _, content = other.partition("=")
            if pathlib.Path(name).suffix in PICTURES:
                pictures[name] = draw_other(content, random)
            else:
                write_texts(folder, {name: content.replace("\\n", "\n")})
        for name, picture in pictures.items():
            if not (folder / name).exists():
                save(folder / name, picture)
    return written


def read_names(labels, classes, count):
    """What the middle of each stripe is, `-` where it is ignored."""
    middles = [(2 * k + 1) * -(-SIZE[1] // count) // 2 for k in range(count)]
    ids = labels[24, middles].tolist()
    return ["-" if i not in classes.scored_ids else classes.names[i] for i in ids]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("row", ROWS, ids=[row["data_set"] for row in ROWS])
def test_a_layout_is_read_or_refused_by_name(tmp_path, row):
    written = build(tmp_path, row)
    if row["expected"] != "read":
        with pytest.raises(DatasetError, match=row["expected"]):
            open_dataset(tmp_path)
        return
    dataset = open_dataset(tmp_path)
    assert (len(dataset), len(dataset.unlabelled)) == (int(row["labelled"]), int(row["unlabelled"]))
    wanted = row["classes"].split(";") if row["classes"] else []
    for split in dataset.splits.values():
        for (path, _), (image, labels) in zip(split.pairs, split, strict=True):
            assert image.shape == (*SIZE, 3)
            if wanted:
                found = read_names(labels, dataset.classes, len(wanted))
                assert found == turn(wanted, written[path] if row["kind"] else 0)
    for image, labels in dataset.unlabelled:
        assert (image.shape, labels) == ((*SIZE, 3), None)


PLAIN = "images/{i}.jpg", "masks/{i}.png"
VOC = "JPEGImages/2007_00000{i}.jpg", "SegmentationClass/2007_00000{i}.png"
CITY = "leftImg8bit/bonn_{i}_leftImg8bit.png", "gtFine/bonn_{i}_gtFine_labelIds.png"
UNKNOWN = "named class_0 to class_|number is taken for a class"


@pytest.mark.parametrize(
    ("name", "paths", "kind", "values", "words"),
    [
        ("data", CITY, "grey", "7 26", "taken for Cityscapes, whose 19 classes are known: pass cl"),
        ("data", VOC, "grey", "0 20", "taken for Pascal VOC, whose 21 classes are known: pass cl"),
        ("cityscapes/gtFine", PLAIN, "grey", "0 1", UNKNOWN),
        ("VOC2012/SegmentationClass", PLAIN, "palette", "0=#000000 1=#800000", UNKNOWN),
        ("data", CITY, "grey", " ".join(map(str, range(36))), UNKNOWN),
        ("data", VOC, "palette", "0=#000000 1=#123456", UNKNOWN),
    ],
)
def test_a_data_set_is_known_by_its_files_alone(tmp_path, name, paths, kind, values, words):
    row = {"image": paths[0], "mask": paths[1], "kind": kind, "values": values}
    build(tmp_path / name, row | {"splits": "", "others": ""})
    with pytest.warns(UserWarning, match=words):
        open_dataset(tmp_path / name)
    names = [f"mine {i}" for i in range(36)]
    assert open_dataset(tmp_path / name, classes=names).classes.names == tuple(names)


def test_known_classes_name_their_sources_and_number_their_classes():
    file = pathlib.Path(datasets.__file__).with_name("known_classes.csv")
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    ids = {row["data_set"]: [] for row in rows}
    for row in rows:
        assert row["id"] or (row["masks"] and row["source"])
        ids[row["data_set"]] += [int(row["id"])] if row["id"] not in ("", "255") else []
    assert len(ids) >= 20
    for name, own in ids.items():
        assert own == list(range(len(own))), name


@pytest.mark.long
@pytest.mark.parametrize("name", ["Severstal", "DSB 2018"])
def test_notebooks_1_to_4_run_with_the_path_alone(name, monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[1] / "benchmarks")
    import layouts

    row = next(row for row in ROWS if row["data_set"] == name)
    outcomes = {notebook: outcome for notebook, _, outcome in layouts.run_all(row)}
    assert list(outcomes.values()) == ["done"] * 4, outcomes
