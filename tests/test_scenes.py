"""The embedded data set: what it promises to the rest of the project."""

import concurrent.futures

import numpy as np
import pytest
from PIL import Image

from seglib.balance import score_colors
from seglib.classes import read_class_table
from seglib.scenes import STREET_CLASSES, THINGS, draw_scene, write_scenes

SMALL = (48, 64)


@pytest.fixture(scope="module")
def streets():
    """Forty scenes as three arrays, images, labels, instances."""
    drawn = [draw_scene(index, size=(90, 120)) for index in range(40)]
    return [np.stack(layer) for layer in zip(*drawn, strict=True)]


def test_a_scene_is_a_function_of_index_and_seed():
    for first, again in zip(draw_scene(7, seed=3), draw_scene(7, seed=3), strict=True):
        np.testing.assert_array_equal(first, again)
    image = draw_scene(0, size=SMALL)[0]
    for index, seed in ((1, 0), (0, 1)):
        assert (image != draw_scene(index, seed=seed, size=SMALL)[0]).mean() > 0.5


@pytest.mark.parametrize("size", [(32, 32), (64, 200), (101, 77)])
def test_size_is_height_and_width(size):
    image, labels, instances = draw_scene(5, size=size)
    assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
    assert (labels.shape, labels.dtype) == (size, np.uint8)
    assert (instances.shape, instances.dtype) == (size, np.uint16)


def test_classes_are_as_imbalanced_as_in_camvid(streets):
    labels = streets[1]
    shares = np.bincount(labels.ravel(), minlength=12) / labels.size
    share = dict(zip(STREET_CLASSES.names, shares.tolist(), strict=True))
    assert shares.size == 12
    assert all(shares > 0.001)
    assert 0.005 < share["Void"] < 0.06
    assert max(share[name] for name in ("SignSymbol", "Pedestrian", "Bicyclist")) < 0.015
    assert {"Road", "Building"} == set(sorted(share, key=share.get)[-2:])
    assert share["Road"] > 20 * share["Bicyclist"]
    for part in (labels[:28], labels[28:34], labels[34:]):  # as splits are
        assert np.unique(part).tolist() == list(range(12))


def test_each_thing_has_one_id_and_each_id_one_class(streets):
    for labels, instances in zip(*streets[1:], strict=True):
        np.testing.assert_array_equal(instances > 0, np.isin(labels, list(THINGS)))
        ids = np.unique(instances[instances > 0])
        assert ids.tolist() == list(range(1, ids.size + 1))
        assert all(np.unique(labels[instances == i]).size == 1 for i in ids)
    assert instances.max() > 5


def test_photo_and_labels_show_the_same_place(streets):
    for image, ids in zip(streets[0][:20], streets[1][:20], strict=True):
        edges = np.abs(np.diff(image.astype(float).sum(2), axis=1))
        border = np.diff(ids.astype(int), axis=1) != 0
        assert edges[border].mean() > 1.5 * edges[~border].mean()


class Pairs(list):
    classes = STREET_CLASSES


def test_colour_alone_does_not_tell_the_class(streets):
    pairs = list(zip(*streets[:2], strict=True))
    assert 0.25 < score_colors(Pairs(pairs[:28]), Pairs(pairs[28:])) < 0.60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("data") / "street", num_scenes=8, size=SMALL)


def test_layout_is_that_of_camvid(folder):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert "class_dict.csv" in names
    assert {"train/street_0000.jpg", "train_labels/street_0000_L.png"} < set(names)
    assert {"val_instances/street_0006_I.png", "test/street_0007.jpg"} < set(names)
    unlabelled = [f"unlabelled/street_{index:04d}.jpg" for index in range(8, 20)]
    assert [name for name in names if "unlabelled" in name] == unlabelled
    assert len(names) == 8 * 3 + 1 + 12
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


def test_second_call_keeps_the_folder(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_scenes(str(folder), num_scenes=5, seed=9, size=SMALL) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_writers_at_once_leave_one_whole_folder_and_failure_none(tmp_path):
    with pytest.raises(ValueError, match="non-negative"):
        write_scenes(tmp_path / "street", seed=-1, size=SMALL)
    assert list(tmp_path.iterdir()) == []
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        options = {"num_scenes": 4, "size": SMALL}
        calls = [pool.submit(write_scenes, tmp_path / "street", **options) for _ in range(3)]
        paths = {call.result() for call in calls}
    assert list(tmp_path.iterdir()) == list(paths)
    assert len(list((tmp_path / "street" / "train").iterdir())) == 2


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="is in the way, it holds no class_dict"):
        write_scenes(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
