"""The embedded data set: what it promises to the rest of the project."""

import itertools

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from seglib import scenes
from seglib.classes import read_class_table
from seglib.scenes import STREET_CLASSES, THINGS, draw_scene, write_scenes

SIZE = (90, 120)
SMALL = (48, 64)


@pytest.fixture(scope="module")
def streets():
    """Forty scenes as three arrays, images, labels, instances."""
    drawn = [draw_scene(index, size=SIZE) for index in range(40)]
    return [np.stack(layer) for layer in zip(*drawn, strict=True)]


def test_classes_are_those_of_camvid():
    assert STREET_CLASSES.num_classes == 12
    assert STREET_CLASSES.names[STREET_CLASSES.ignore_label] == "Void"
    assert STREET_CLASSES.mapping[(64, 0, 128)] == STREET_CLASSES.names.index("Car")
    assert {STREET_CLASSES.names[i] for i in THINGS} == {
        "Column_Pole", "SignSymbol", "Car", "Pedestrian", "Bicyclist"
    }  # fmt: skip


def test_same_arguments_draw_the_same_scene():
    for first, again in zip(draw_scene(7, seed=3), draw_scene(7, seed=3), strict=True):
        np.testing.assert_array_equal(first, again)


def test_index_and_seed_draw_other_scenes():
    images = [draw_scene(*ids, size=SMALL)[0] for ids in ((0,), (1,), (2,))]
    images.append(draw_scene(0, seed=1, size=SMALL)[0])
    for one, other in itertools.combinations(images, 2):
        assert (one != other).mean() > 0.5


@pytest.mark.parametrize("size", [(32, 32), (64, 200), (180, 240), (101, 77)])
def test_size_is_height_and_width(size):
    image, labels, instances = draw_scene(5, size=size)
    assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
    assert (labels.shape, labels.dtype) == (size, np.uint8)
    assert (instances.shape, instances.dtype) == (size, np.uint16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"index": 0, "size": (20, 240)}, "at least 32, received"),
        ({"index": -1}, "index and seed must be 0 or more, received -1 and 0"),
        ({"index": 0, "seed": -2}, "received 0 and -2"),
    ],
)
def test_impossible_scenes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_scene(**arguments)


def test_classes_are_as_imbalanced_as_in_camvid(streets):
    _, labels, _ = streets
    assert labels.max() < STREET_CLASSES.num_classes
    shares = np.bincount(labels.ravel(), minlength=12) / labels.size
    share = dict(zip(STREET_CLASSES.names, shares.tolist(), strict=True))
    assert all(shares > 0.001)
    assert 0.005 < share["Void"] < 0.06
    assert min(share[name] for name in ("SignSymbol", "Pedestrian", "Bicyclist")) < 0.01
    assert shares.argmax() in (STREET_CLASSES.names.index(n) for n in ("Road", "Building"))
    assert share["Road"] > 20 * share["Bicyclist"]


def test_every_class_is_in_every_split(streets):
    _, labels, _ = streets
    for part in (labels[:28], labels[28:34], labels[34:]):
        assert np.unique(part).tolist() == list(range(12))


def test_each_thing_has_one_id_and_each_id_one_class(streets):
    _, all_labels, all_instances = streets
    for labels, instances in zip(all_labels, all_instances, strict=True):
        np.testing.assert_array_equal(instances > 0, np.isin(labels, list(THINGS)))
        ids = np.unique(instances[instances > 0])
        assert ids.tolist() == list(range(1, ids.size + 1))
        assert all(np.unique(labels[instances == i]).size == 1 for i in ids)


def test_photo_and_labels_show_the_same_place(streets):
    images, labels, _ = streets
    for image, ids in zip(images[:20], labels[:20], strict=True):
        edges = np.abs(np.diff(image.astype(float).sum(2), axis=1))
        border = np.diff(ids.astype(int), axis=1) != 0
        assert edges[border].mean() > 1.5 * edges[~border].mean()


def test_colour_alone_does_not_tell_the_class(streets):
    images, labels, _ = streets
    rng = np.random.default_rng(0)

    def sample(part):
        pixels, ids = images[part].reshape(-1, 3) / 255, labels[part].ravel()
        chosen = rng.permutation(np.flatnonzero(ids != STREET_CLASSES.ignore_label))[:4000]
        return pixels[chosen], ids[chosen]

    linear = LogisticRegression(max_iter=500, C=10).fit(*sample(slice(0, 28)))
    assert 0.25 < linear.score(*sample(slice(28, 40))) < 0.60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("data") / "street", num_scenes=8, size=SMALL)


def test_layout_is_that_of_camvid(folder):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert "class_dict.csv" in names
    assert {"train/street_0000.jpg", "train_labels/street_0000_L.png"} < set(names)
    assert {"val_instances/street_0006_I.png", "test/street_0007.jpg"} < set(names)
    assert len(names) == 8 * 3 + 1
    assert [entry.name for entry in folder.parent.iterdir()] == ["street"]


def test_files_hold_what_was_drawn(folder):
    image, labels, instances = draw_scene(6, size=SMALL)
    mask = np.asarray(Image.open(folder / "val_labels" / "street_0006_L.png"))
    np.testing.assert_array_equal(mask, STREET_CLASSES.colors[labels])
    objects = np.asarray(Image.open(folder / "val_instances" / "street_0006_I.png"))
    np.testing.assert_array_equal(objects, instances)
    photo = np.asarray(Image.open(folder / "val" / "street_0006.jpg")).astype(int)
    assert np.abs(photo - image).mean() < 12  # JPEG halves the resolution of colour
    assert read_class_table(folder / "class_dict.csv") == STREET_CLASSES


def test_split_is_70_15_15(monkeypatch, tmp_path):
    blank = [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint16)]
    monkeypatch.setattr(scenes, "draw_scene", lambda *args, **options: blank)
    folder = write_scenes(tmp_path / "street", num_scenes=40)
    counts = [len(list((folder / split).iterdir())) for split in ("train", "val", "test")]
    assert counts == [28, 6, 6]


def test_failure_in_the_middle_leaves_no_folder(monkeypatch, tmp_path):
    def draw_two(index, **options):
        if index == 2:
            raise OSError("no space left")
        return draw_scene(index, **options)

    monkeypatch.setattr(scenes, "draw_scene", draw_two)
    with pytest.raises(OSError, match="no space left"):
        write_scenes(tmp_path / "street", num_scenes=4, size=SMALL)
    assert list(tmp_path.iterdir()) == []


def test_second_call_keeps_the_folder(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_scenes(str(folder), num_scenes=5, seed=9, size=SMALL) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_first_of_two_processes_wins(monkeypatch, tmp_path):
    def be_overtaken(*args):
        (tmp_path / "street").mkdir()
        (tmp_path / "street" / "class_dict.csv").write_text("theirs")
        write_table(*args)

    write_table = scenes.write_class_table
    monkeypatch.setattr(scenes, "write_class_table", be_overtaken)
    path = write_scenes(tmp_path / "street", num_scenes=3, size=SMALL)
    assert (path / "class_dict.csv").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_foreign_folder_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="is in the way: expected a data set"):
        write_scenes(tmp_path, num_scenes=3, size=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_three_splits_need_three_scenes(tmp_path):
    with pytest.raises(ValueError, match="num_scenes of at least 3, received 2"):
        write_scenes(tmp_path / "street", num_scenes=2)
