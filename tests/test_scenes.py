"""The embedded data set: what it promises to the rest of the project."""

import concurrent.futures

import numpy as np
import pytest
from PIL import Image

from seglib.balance import score_colors
from seglib.classes import read_class_table
from seglib.preparing import PreparedSplit
from seglib.scenes import STREET_CLASSES, THINGS, draw_scene, write_scenes

SMALL = (48, 64)


@pytest.fixture(scope="module")
def streets():
    """Forty scenes as three arrays, images, labels, instances."""
    drawn = [draw_scene(index, size=(90, 120)) for index in range(40)]
    return [np.stack(layer) for layer in zip(*drawn, strict=True)]


def test_a_scene_is_a_function_of_index_seed_and_size():
    for first, again in zip(draw_scene(7, seed=3), draw_scene(7, seed=3), strict=True):
        np.testing.assert_array_equal(first, again)
    image = draw_scene(0, size=SMALL)[0]
    for index, seed in ((1, 0), (0, 1)):
        assert (image != draw_scene(index, seed=seed, size=SMALL)[0]).mean() > 0.5
    for size in ((32, 32), (64, 200), (101, 77)):
        found = [(array.shape, array.dtype) for array in draw_scene(5, size=size)]
        assert found == [((*size, 3), np.uint8), (size, np.uint8), (size, np.uint16)]


def test_classes_are_as_imbalanced_as_in_camvid(streets):
    labels = streets[1]
    shares = np.bincount(labels.ravel(), minlength=12) / labels.size
    share = dict(zip(STREET_CLASSES.names, shares.tolist(), strict=True))
    assert all(shares > 0.001)
    assert 0.005 < share["Void"] < 0.06
    assert max(share[name] for name in ("SignSymbol", "Pedestrian", "Bicyclist")) < 0.015
    assert set(sorted(share, key=share.get)[-2:]) == {"Road", "Building"}
    assert share["Road"] > 20 * share["Bicyclist"]
    for part in np.split(labels, [28, 34]):  # as splits are
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


def test_colour_alone_does_not_tell_the_class(streets):
    split = PreparedSplit(*streets[:2], [""] * 40, STREET_CLASSES)
    assert 0.25 < score_colors(split[:28], split[28:]) < 0.60


def test_a_folder_in_camvids_layout_holds_what_was_drawn_and_is_kept(tmp_path):
    folder = write_scenes(tmp_path / "street", num_scenes=8, size=SMALL)
    expected = {"class_dict.csv", *(f"unlabelled/street_{i:04d}.jpg" for i in range(8, 20))}
    for i, split in enumerate(["train"] * 6 + ["val", "test"]):
        name = f"street_{i:04d}"
        expected |= {f"{split}/{name}.jpg", f"{split}_labels/{name}_L.png"}
        expected.add(f"{split}_instances/{name}_I.png")
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    assert {path.relative_to(folder).as_posix() for path in written} == expected
    assert [entry.name for entry in tmp_path.iterdir()] == ["street"]
    image, labels, instances = draw_scene(6, size=SMALL)
    mask = np.asarray(Image.open(folder / "val_labels" / "street_0006_L.png"))
    np.testing.assert_array_equal(mask, STREET_CLASSES.colors[labels])
    np.testing.assert_array_equal(Image.open(folder / "val_instances/street_0006_I.png"), instances)
    photo = np.asarray(Image.open(folder / "val" / "street_0006.jpg")).astype(int)
    assert np.abs(photo - image).mean() < 12  # JPEG halves the resolution of colour
    assert read_class_table(folder / "class_dict.csv") == STREET_CLASSES
    assert write_scenes(str(folder), num_scenes=5, seed=9, size=SMALL) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")} == written


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
    with pytest.raises(FileExistsError, match="is in the way, it holds no class_dict"):
        write_scenes(tmp_path)
    assert list(tmp_path.iterdir()) == list(paths)
