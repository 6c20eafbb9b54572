"""Well-known data sets and what tools write: each row of layouts.csv opens, or is refused by name.

A row has templates of paths, in which `{i}` is a picture's number from 1 to 3, `{split}` one of its
splits and `{k}` one of its values. Masks show the values in vertical stripes, another first one in
each picture, which are to be read as `classes`, where `-` is ignored. `others` are further files,
`path=content`.
"""

import csv
import itertools
import pathlib

import numpy as np
import pytest
from PIL import Image

from seglib import datasets
from seglib.datasets import open_dataset
from seglib.images import DatasetError

with open(pathlib.Path(__file__).with_name("layouts.csv"), newline="", encoding="utf-8") as file:
    ROWS = list(csv.DictReader(file))
SIZE = 48, 64
PICTURES = {".png", ".jpg", ".tif", ".gif"}
MODES = {"grey": np.uint8, "16 bits": np.uint16}


def stripes(values):
    """Values from left to right, each as wide as the others."""
    return np.repeat(values, -(-SIZE[1] // len(values)), axis=0)[None, : SIZE[1]].repeat(SIZE[0], 0)


def turn(values, i):
    return values[i % len(values) :] + values[: i % len(values)]


def draw_mask(kind, values):
    """Picture of values such as `7`, `#804080` or `15=#c08080`."""
    if kind == "colors":
        return Image.fromarray(
            stripes(np.array([list(bytes.fromhex(v[1:])) for v in values], "u1"))
        )
    numbers = [int(value.partition("=")[0]) for value in values]
    picture = Image.fromarray(stripes(np.array(numbers)).astype(MODES.get(kind, np.uint8)))
    if kind == "palette":
        palette = np.zeros((256, 3), int)
        palette[numbers] = [list(bytes.fromhex(value.partition("#")[2])) for value in values]
        picture.putpalette(palette.ravel().tolist())
    return picture


def draw_other(content, random):
    rows, columns = np.indices(SIZE)
    if content == "disc":
        return Image.fromarray(255 * ((rows - 24) ** 2 + (columns - 32) ** 2 < 500).astype("u1"))
    if content == "numbers":
        return Image.fromarray((1000 * (columns // 8) + rows // 8).astype(np.uint16))
    if content == "stripes":
        return Image.fromarray(255 * (columns // 16 % 2).astype("u1"))
    return Image.fromarray(random.integers(0, 256, (*SIZE, 3)).astype("u1"))


def build(folder, row):
    """Write the files of a row; returns the number of each photograph."""
    random, values, written = np.random.default_rng(0), row["values"].split(), {}

    def save(path, draw):
        path = folder / path
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            draw().save(path)

    for split, i in itertools.product(row["splits"].split() or [""], "123"):
        fill = lambda text: text.replace("{i}", i).replace("{split}", split)  # noqa: B023, E731
        if row["image"]:
            save(fill(row["image"]), lambda: draw_other("", random))
            written[folder / fill(row["image"])] = int(i)
        if row["kind"] == "files":
            for k, value in enumerate(values):
                drawn = stripes(np.array([0, *255 * (np.arange(2) == k)])).astype("u1")
                save(fill(row["mask"]).replace("{k}", value), lambda: Image.fromarray(drawn))  # noqa: B023
        elif row["mask"]:
            save(fill(row["mask"]), lambda: draw_mask(row["kind"], turn(values, int(i))))  # noqa: B023
        for other in filter(None, row["others"].split(";")):
            path, _, content = fill(other).partition("=")
            if pathlib.Path(path).suffix in PICTURES:
                save(path, lambda: draw_other(content, random))  # noqa: B023
            else:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(content.replace("\\n", "\n"))
    return written


def read_names(labels, classes, count):
    """What the middle of each stripe is, `-` where it is ignored."""
    middles = [(2 * k + 1) * -(-SIZE[1] // count) // 2 for k in range(count)]
    ids = labels[24, middles].tolist()
    return ["-" if i not in classes.scored_ids else classes.names[i] for i in ids]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("row", ROWS, ids=[row["data_set"] for row in ROWS])
def test_a_layout_is_read_or_refused_by_name(tmp_path, row):
    folder = tmp_path / "data"
    folder.mkdir()
    written = build(folder, row)
    if row["expected"] != "read":
        with pytest.raises(DatasetError, match=row["expected"]):
            open_dataset(folder)
        return
    dataset = open_dataset(folder)
    assert (len(dataset), len(dataset.unlabelled)) == (int(row["labelled"]), int(row["unlabelled"]))
    wanted = row["classes"].split(";") if row["classes"] else []
    for split in dataset.splits.values():
        for (path, _), (image, labels) in zip(split.pairs, split, strict=True):
            assert image.shape == (*SIZE, 3)
            found = read_names(labels, dataset.classes, len(wanted) or 1)
            number = written[path] if row["kind"] else 0
            assert not wanted or found == turn(wanted, number)
    for image, labels in dataset.unlabelled:
        assert image.shape == (*SIZE, 3)
        assert labels is None


PLAIN = "images/{i}.jpg", "masks/{i}.png"
VOC = "JPEGImages/2007_00000{i}.jpg", "SegmentationClass/2007_00000{i}.png"
CITY = "leftImg8bit/bonn_{i}_leftImg8bit.png", "gtFine/bonn_{i}_gtFine_labelIds.png"


def build_pairs(folder, paths, kind, values):
    folder.mkdir(parents=True)
    image, mask = paths
    row = {"image": image, "mask": mask, "kind": kind, "values": values, "splits": "", "others": ""}
    build(folder, row)
    return folder


@pytest.mark.parametrize(
    ("paths", "values", "words"),
    [
        (CITY, "7 26", "taken for Cityscapes, whose 19"),
        (VOC, "0 20", "taken for Pascal VOC, whose 21"),
    ],
)
def test_a_warning_says_what_a_data_set_is_taken_for(tmp_path, paths, values, words):
    folder = build_pairs(tmp_path / "data", paths, "grey", values)
    with pytest.warns(UserWarning, match=f"{words} classes are known: pass classes=…"):
        open_dataset(folder)
    names = [f"mine {i}" for i in range(27)]
    assert open_dataset(folder, classes=names).classes.names == tuple(names)


@pytest.mark.parametrize(
    ("name", "paths", "kind", "values"),
    [
        ("cityscapes/gtFine", PLAIN, "grey", "0 1"),
        ("VOC2012/SegmentationClass", PLAIN, "palette", "0=#000000 1=#800000"),
        ("data", CITY, "grey", " ".join(map(str, range(36)))),
        ("data", VOC, "palette", "0=#000000 1=#123456"),
    ],
)
def test_a_data_set_is_known_by_its_files_and_not_by_its_name(tmp_path, name, paths, kind, values):
    folder = build_pairs(tmp_path / name, paths, kind, values)
    with pytest.warns(UserWarning, match="named class_0 to class_|number is taken for a class"):
        open_dataset(folder)


def test_known_classes_name_their_sources_and_number_their_classes():
    file = pathlib.Path(datasets.__file__).with_name("known_classes.csv")
    with open(file, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    ids = {row["data_set"]: [] for row in rows}
    for row in rows:
        if row["id"]:
            ids[row["data_set"]].append(int(row["id"]))
        else:
            assert row["masks"]
            assert row["source"]
    assert len(ids) >= 20
    for name, own in ids.items():
        own = [i for i in own if i != 255]
        assert own == list(range(len(own))), name


@pytest.mark.long
@pytest.mark.parametrize("name", ["Severstal", "DSB 2018"])
def test_notebooks_1_to_4_run_with_the_path_alone(name, monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[1] / "benchmarks")
    import layouts

    row = next(row for row in ROWS if row["data_set"] == name)
    outcomes = {notebook: outcome for notebook, _, outcome in layouts.run_all(row)}
    assert len(outcomes) == 4
    assert set(outcomes.values()) == {"done"}, outcomes
