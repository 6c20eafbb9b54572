import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from seglib.classes import ClassTable, write_class_table
from seglib.datasets import Dataset, Split, open_dataset
from seglib.images import DatasetError, resize_image
from seglib.masks import resize_labels
from seglib.preparing import AHEAD

SIZE = (32, 36)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "outputs" / "cache"


@pytest.fixture
def prepare(city, cache):
    """Function that opens the data set and prepares it, as a notebook does."""
    return lambda **settings: open_dataset(city).prepare(
        **{"image_size": SIZE, "cache_dir": cache} | settings
    )


def list_arrays(cache):
    """Names of the folders of arrays, finished or not."""
    return sorted(entry.name for entry in cache.iterdir() if entry.is_dir())


def read_arrays(prepared):
    """Content of each file."""
    return {file.name: file.read_bytes() for file in prepared.path.iterdir()}


def save_pairs(folder, labels, count=1):
    """A Dataset of equal pairs, in BMP: not compressed, so that any byte may change."""
    pairs, ids = [], range(labels.max() + 1)
    for i in range(count):
        pairs.append((folder / f"image_{i}.bmp", folder / f"mask_{i}.bmp"))
        for path, pixels in zip(pairs[-1], (np.zeros((*labels.shape, 3)), labels), strict=True):
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    classes = ClassTable([f"{i}" for i in ids], [(i, i, 9) for i in ids])
    split = Split(pairs, classes, encoding="ids")
    return Dataset(folder, classes, split, split[:0], split[:0])


def test_prepared_pairs_are_the_resized_pairs(city, prepare):
    dataset, prepared = open_dataset(city), prepare()
    assert (prepared.image_size, prepared.classes) == (SIZE, dataset.classes)
    for name, split in dataset.splits.items():
        found = getattr(prepared, name)
        assert found.names == split.names
        assert found.images.dtype == found.labels.dtype == np.uint8
        expected = [(resize_image(image, SIZE), resize_labels(ids, SIZE)) for image, ids in split]
        np.testing.assert_equal(list(found), expected)
    np.testing.assert_array_equal(prepared.train[1:3][1][0], prepared.train[2][0])
    assert (prepared.train.images.mode, prepared.train.labels.mode) == ("r", "r")
    assert repr(prepared) == "PreparedDataset(32×36, train 4, val 2, test 2)"
    assert repr(prepared.val) == "PreparedSplit(2 pairs of 32×36)"


@pytest.mark.parametrize(("count", "label", "dtype"), [(3, 255, "uint8"), (256, 65535, "uint16")])
def test_padding_of_letterboxed_pairs_is_ignored(tmp_path, cache, count, label, dtype):
    labels = np.arange(32 * 64).reshape(32, 64) % count
    dataset = save_pairs(tmp_path, labels)
    prepared = dataset.prepare(image_size=64, cache_dir=cache, resize="letterbox")
    assert prepared.resize == "letterbox"
    assert prepared.classes.ignore_label == prepared.train.classes.ignore_label == label
    assert prepared.train.labels.dtype == dtype
    expected = np.pad(labels, ((16, 16), (0, 0)), constant_values=label)
    np.testing.assert_array_equal(prepared.train.labels[0], expected)
    assert (prepared.train.images[0, :16] == 128).all()
    assert dataset.prepare(image_size=64, cache_dir=cache).classes.ignore_label is None


def test_the_second_time_nothing_is_decoded_nor_read(prepare, monkeypatch):
    first = prepare()
    monkeypatch.setattr(Image, "open", Mock(side_effect=AssertionError))
    monkeypatch.setattr("hashlib.file_digest", lambda file, _: pytest.fail(f"{file} was read"))
    second = prepare()
    assert (second.path, second.fingerprint) == (first.path, first.fingerprint)
    np.testing.assert_array_equal(second.train.images, first.train.images)


@pytest.mark.parametrize("index", [None, b'{"/half/a/line', b"7"])
def test_only_content_counts(city, tmp_path, cache, prepare, monkeypatch, index):
    first = prepare()
    os.utime(city / "train/scene_0.png")
    city.rename(tmp_path / "town")
    if index is not None:
        (cache / "digests.json").write_bytes(index)
    monkeypatch.setattr(Image, "open", Mock(side_effect=AssertionError))
    moved = open_dataset(tmp_path / "town").prepare(image_size=SIZE, cache_dir=cache)
    assert moved.path == first.path


@pytest.mark.parametrize("keep_time", [False, True])
def test_one_changed_byte_of_a_mask_is_noticed(tmp_path, cache, keep_time):
    labels = np.random.default_rng(0).integers(0, 3, (32, 36), np.uint8)
    dataset, path = save_pairs(tmp_path, labels, 3), tmp_path / "mask_1.bmp"
    first = dataset.prepare(image_size=SIZE, cache_dir=cache)
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-36] = (content[-36] + 1) % 3  # the top row is the last one
    path.write_bytes(content)
    if keep_time:  # as some tools that copy and synchronise do
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = dataset.prepare(image_size=SIZE, cache_dir=cache)
    assert second.fingerprint != first.fingerprint
    assert np.argwhere(first.train.labels != second.train.labels).tolist() == [[1, 0, 0]]


def test_another_size_fit_table_or_encoding_makes_other_arrays(city, cache, classes, prepare):
    swapped = ClassTable(classes.names, classes.colors[[1, 0, 2, 3]], ignore_label=3)
    dataset, options = open_dataset(city), {"image_size": SIZE, "cache_dir": cache}
    as_ids = {n: Split(s.pairs, s.classes, encoding="ids") for n, s in dataset.splits.items()}
    found = [prepare(image_size=size) for size in (SIZE, SIZE[::-1], 40)]
    found += [prepare(resize="letterbox"), open_dataset(city, classes=swapped).prepare(**options)]
    found += [dataclasses.replace(dataset, **as_ids).prepare(**options)]
    assert len({prepared.fingerprint for prepared in found}) == len(list_arrays(cache)) == 6
    expected = [resize_labels(np.array([1, 0, 2, 3])[ids], SIZE) for _, ids in dataset.train]
    np.testing.assert_array_equal(found[-2].train.labels, expected)


@pytest.mark.parametrize(
    ("images", "labels"), [(0, 0), (70, 3000), (3584, 128), (9000, 3583), (13952, 4736)]
)
def test_files_of_any_length_are_carried_on(cache, prepare, images, labels):
    """As a kill leaves them: without a whole header, within a picture, images and labels apart."""
    expected = prepare(cache_dir=cache / "other")
    unfinished = cache / f"{expected.path.name}.unfinished"
    shutil.copytree(expected.path, unfinished)
    os.truncate(unfinished / "train_images.npy", images)
    os.truncate(unfinished / "train_labels.npy", labels)
    (unfinished / "test_labels.npy").unlink()
    assert read_arrays(prepare()) == read_arrays(expected)


SLOWLY = """
import os, sys, time
from seglib.datasets import Split, open_dataset
read = Split.__getitem__
def read_slowly(split, index):
    if isinstance(index, int):
        os.write(1, f"{split.names[index]}\\n".encode())
        time.sleep(float(sys.argv[3]))
    return read(split, index)
Split.__getitem__ = read_slowly
open_dataset(sys.argv[1]).prepare(image_size=(32, 36), cache_dir=sys.argv[2])
print("whole")
"""


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.long)])
def test_a_process_killed_at_any_moment_is_carried_on(tmp_path, classes, write_pair, cache, kills):
    folder, random, decoded = tmp_path / "suburb", np.random.default_rng(kills), 0
    for i in range(40):
        split = "train" if i < 30 else "val"
        write_pair(folder / f"{split}/{i:02d}.png", folder / f"{split}_labels/{i:02d}.png", seed=i)
    write_class_table(folder / "class_dict.csv", classes)

    def start_preparing(seconds):
        command = [sys.executable, "-c", SLOWLY, folder, cache, str(seconds)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, **pipes)

    for _ in range(kills):
        process = start_preparing(0.02)
        first = process.stdout.readline()  # the moment is within the decoding
        time.sleep(random.uniform(0, 0.12))
        process.kill()
        printed, errors = process.communicate()
        assert (process.returncode, errors) == (-signal.SIGKILL, "")
        decoded += len((first + printed).split())
    printed, errors = start_preparing(0).communicate()
    assert (errors, printed.split()[-1]) == ("", "whole")
    assert decoded + len(printed.split()) <= 41 + kills * (AHEAD + 1) * len(os.sched_getaffinity(0))
    dataset, places = open_dataset(folder), (cache, cache / "other")
    found, expected = (dataset.prepare(image_size=SIZE, cache_dir=place) for place in places)
    assert read_arrays(found) == read_arrays(expected)


def test_a_disk_that_fills_up_is_explained_and_carried_on(cache, prepare):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"{errno.EFBIG}. the disk of {cache} is full"):
            prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list_arrays(cache)[0].endswith(".unfinished")
    assert read_arrays(prepare()) == read_arrays(prepare(cache_dir=cache / "other"))


def change_bytes(path, place, content):
    with open(path, "r+b") as file:
        file.seek(place if place >= 0 else place + path.stat().st_size)
        file.write(content)


@pytest.mark.parametrize(
    ("name", "damage", "count"),
    [
        ("train_images.npy", lambda path: change_bytes(path, -1, b"\x01"), 1),
        ("train_images.npy", lambda path: change_bytes(path, 3000, bytes(1500)), 2),
        ("train_labels.npy", lambda path: change_bytes(path, 500, b"M"), 1),  # label 77
        ("val_sums.npy", lambda path: change_bytes(path, -2, b"??"), 1),
        ("train_labels.npy", lambda path: os.truncate(path, 0), 4),
        ("test_labels.npy", lambda path: os.truncate(path, 700), 2),
        ("val_images.npy", lambda path: path.write_bytes(bytes(path.stat().st_size)), 2),
        ("val_images.npy", lambda path: change_bytes(path, 8, b"\xff"), 2),  # of the header
        ("train_sums.npy", lambda path: path.unlink(), 4),
    ],
)
def test_damaged_arrays_are_made_anew_with_one_warning(prepare, name, damage, count):
    prepared = prepare()
    expected = read_arrays(prepared)
    damage(prepared.path / name)

    def read_all():
        found = prepare()
        return [pair for split in (found.train, found.val, found.test) for pair in split]

    with pytest.warns(UserWarning, match=f"{count} of 8 pairs did not match") as caught:
        pairs = read_all()
    assert (len(caught), len(pairs), read_arrays(prepared)) == (1, 8, expected)
    np.testing.assert_equal(pairs, read_all())


@pytest.mark.parametrize(
    "key", [1, -3, [1, 2], slice(0, 2), (slice(None), 0), ..., ([1, 0], 3, 4), np.arange(4) == 1]
)
def test_pairs_are_compared_when_they_are_first_read_whatever_the_index(prepare, key):
    prepared = prepare()
    expected = np.array(prepared.train.images[key])
    found = prepare()
    change_bytes(found.path / "train_images.npy", 128 + 3456 + 480, b"\x01\x02")  # of pair 1
    with pytest.warns(UserWarning, match="1 of 8 pairs did not match"):
        read = found.train.images[key]
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_array_equal(found.train.images[key], expected)


def test_a_picture_that_changes_before_it_is_decoded_is_noticed(city, cache, monkeypatch):
    read, other = Split.__getitem__, (city / "train/scene_1.png").read_bytes()
    dataset = open_dataset(city)

    def change(split, index):
        if split.names[index] == "scene_0":
            (city / "train/scene_0.png").write_bytes(other)
        return read(split, index)

    monkeypatch.setattr(Split, "__getitem__", change)
    with pytest.raises(DatasetError, match="changed meanwhile"):
        dataset.prepare(image_size=SIZE, cache_dir=cache)
    assert list_arrays(cache) == []
