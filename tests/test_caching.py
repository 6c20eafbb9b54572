import concurrent.futures
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from seglib import caching
from seglib.caching import prepare_dataset
from seglib.classes import ClassTable
from seglib.datasets import Dataset, Split, open_dataset
from seglib.images import DatasetError, resize_image
from seglib.masks import resize_labels

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


@pytest.fixture
def no_decoding(monkeypatch):
    """Function that makes an error of every attempt to open a picture."""

    def refuse(path, *arguments, **settings):
        raise AssertionError(f"{path} was decoded")

    return lambda: monkeypatch.setattr(Image, "open", refuse)


def list_cache(cache):
    """Names of the folders of arrays, and of whatever else lies in the cache."""
    return sorted(entry.name for entry in cache.iterdir() if entry.name != "digests.json")


def test_prepared_pairs_are_the_resized_pairs(city, prepare):
    dataset, prepared = open_dataset(city), prepare()
    assert prepared.image_size == SIZE
    assert prepared.classes == dataset.classes
    assert len(prepared) == 8
    for name, split in dataset.splits.items():
        found = getattr(prepared, name)
        assert len(found) == len(split)
        assert found.names == split.names
        for (image, labels), (expected_image, expected_labels) in zip(found, split, strict=True):
            assert (image.dtype, labels.dtype) == (np.uint8, np.uint8)
            np.testing.assert_array_equal(image, resize_image(expected_image, SIZE))
            np.testing.assert_array_equal(labels, resize_labels(expected_labels, SIZE))


def test_arrays_are_memory_mapped_and_read_only(prepare):
    train = prepare().train
    for array, shape in ((train.images, (4, *SIZE, 3)), (train.labels, (4, *SIZE))):
        assert isinstance(array, np.memmap)
        assert array.shape == shape
        assert array.mode == "r"
    with pytest.raises(ValueError, match="read-only"):
        train[0][0][0] = 0


def test_a_prepared_split_is_a_sequence(prepare):
    train = prepare().train
    part = train[1:3]
    assert (len(part), part.names) == (2, ["scene_1", "scene_2"])
    np.testing.assert_array_equal(part[0][0], train[1][0])
    np.testing.assert_array_equal(train[-1][1], train[3][1])
    with pytest.raises(IndexError):
        train[4]


def test_representations_name_size_and_counts(prepare):
    prepared = prepare()
    assert repr(prepared) == "PreparedDataset(32×36, train 4, val 2, test 2)"
    assert repr(prepared.val) == "PreparedSplit(2 pairs of 32×36)"


def test_an_absent_split_is_prepared_as_empty(city, cache):
    dataset = open_dataset(city)
    dataset = Dataset(city, dataset.classes, dataset.train, dataset.val, Split([], dataset.classes))
    prepared = prepare_dataset(dataset, image_size=SIZE, cache_dir=cache)
    assert len(prepared.test) == 0
    assert list(prepared.test) == []
    assert prepared.test.images.shape == (0, *SIZE, 3)


def test_the_second_time_nothing_is_decoded(prepare, no_decoding):
    first = prepare()
    no_decoding()
    second = prepare()
    assert second.path == first.path
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.train.images, first.train.images)


def test_the_second_time_no_file_is_read_whole(prepare, monkeypatch):
    prepare()
    monkeypatch.setattr(
        "pathlib.Path.read_bytes", lambda path: pytest.fail(f"{path} was read again")
    )
    prepare()


def test_files_that_were_touched_or_moved_are_not_decoded_again(
    city, tmp_path, cache, prepare, no_decoding
):
    first = prepare()
    os.utime(city / "train/scene_0.png")
    city.rename(tmp_path / "town")
    no_decoding()
    moved = open_dataset(tmp_path / "town").prepare(image_size=SIZE, cache_dir=cache)
    assert moved.path == first.path


def test_a_damaged_index_of_digests_is_made_anew(cache, prepare):
    first = prepare()
    (cache / "digests.json").write_text('{"scene')
    assert prepare().path == first.path


@pytest.fixture
def masks_of_ids(tmp_path):
    """Folder of three pairs whose masks are uncompressed ids, so that any byte may change."""
    labels = np.random.default_rng(0).integers(0, 3, (32, 36), np.uint8)
    for i in range(3):
        for kind, pixels in (("images", np.zeros((32, 36, 3), np.uint8)), ("masks", labels)):
            (tmp_path / "ids" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "ids" / kind / f"{i}.bmp")
    (tmp_path / "ids/class_dict.csv").write_text("name,r,g,b\na,0,0,0\nb,0,0,9\nc,0,9,0\n")
    return tmp_path / "ids"


@pytest.mark.parametrize("keep_time", [False, True])
def test_one_changed_byte_of_a_mask_is_noticed(masks_of_ids, cache, keep_time):
    def prepare_ids():
        return open_dataset(masks_of_ids).prepare(image_size=SIZE, cache_dir=cache)

    first = prepare_ids()
    path = masks_of_ids / "masks/1.bmp"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-36] = (content[-36] + 1) % 3  # BMP stores the top row last
    path.write_bytes(content)
    if keep_time:  # as some tools that copy and synchronise do
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    second = prepare_ids()
    assert second.fingerprint != first.fingerprint
    before, after = (
        {name: labels for part in (p.train, p.val, p.test)
         for name, labels in zip(part.names, part.labels, strict=True)}
        for p in (first, second)
    )  # fmt: skip
    changed = {name: np.argwhere(before[name] != after[name]).tolist() for name in before}
    assert changed == {"0": [], "1": [[0, 0]], "2": []}


def test_another_table_or_size_makes_other_arrays(city, cache, classes, prepare):
    sizes = [prepare(image_size=size) for size in (SIZE, (36, 32), 40)]
    assert len({prepared.fingerprint for prepared in sizes}) == 3
    paths = {prepared.path for prepared in sizes}
    swapped = ClassTable(classes.names, classes.colors[[1, 0, 2, 3]], ignore_label=3)
    prepared = prepare_dataset(
        open_dataset(city, classes=swapped), image_size=SIZE, cache_dir=cache
    )
    paths.add(prepared.path)
    assert len(paths) == 4
    swap = np.array([1, 0, 2, 3])
    np.testing.assert_array_equal(
        prepared.train.labels,
        [resize_labels(swap[labels], SIZE) for _, labels in open_dataset(city).train],
    )


def test_labels_above_255_are_kept(tmp_path, cache):
    labels = np.full((32, 32), 65535, np.uint16)
    labels[:10] = 1
    Image.fromarray(labels).save(tmp_path / "mask.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "image.png")
    classes = ClassTable(["a", "b"], [(0, 0, 0), (1, 1, 1)], ignore_label=65535)
    split = Split([(tmp_path / "image.png", tmp_path / "mask.png")], classes)
    dataset = Dataset(tmp_path, classes, split, Split([], classes), Split([], classes))
    prepared = prepare_dataset(dataset, image_size=32, cache_dir=cache)
    np.testing.assert_array_equal(prepared.train.labels[0], labels)


# Whole or absent


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("workers", [1, 3])
def test_an_interruption_leaves_nothing_behind(cache, prepare, monkeypatch, error, workers):
    calls = iter(range(100))

    def resize_some(labels, size):
        if next(calls) == 5:  # in the middle of the second split
            raise error("stopped here")
        return resize_labels(labels, size)

    with monkeypatch.context() as patch:
        patch.setattr(caching, "resize_labels", resize_some)
        with pytest.raises(error, match="stopped here"):
            prepare(workers=workers)
    assert list_cache(cache) == []
    prepared = prepare(workers=workers)
    assert list_cache(cache) == [prepared.path.name]
    assert len(prepared) == 8


@pytest.mark.parametrize("name", ["val/scene_4.png", "val_labels/scene_4_L.png"])
def test_a_truncated_file_is_named_and_nothing_is_left_behind(city, cache, prepare, name):
    path = city / name
    path.write_bytes(path.read_bytes()[:90])
    message = rf"{path.name} cannot be read as a picture \(.*\): it is truncated"
    with pytest.raises(DatasetError, match=message):
        prepare()
    assert list_cache(cache) == []


def test_threads_may_prepare_at_once(prepare, cache):
    for size in (32, 33, 34):  # a race is lost in some rounds only
        barrier = threading.Barrier(6)

        def prepare_together(size=size, barrier=barrier):
            barrier.wait()
            return prepare(image_size=size, workers=2)

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            results = [task.result() for task in [pool.submit(prepare_together) for _ in range(6)]]
        assert len({result.path for result in results}) == 1
        for result in results[1:]:
            np.testing.assert_array_equal(result.train.images, results[0].train.images)
        (cache / "digests.json").unlink()
    assert len(list_cache(cache)) == 3


def test_processes_may_prepare_at_once(city, cache, prepare):
    code = (
        "import sys, seglib; dataset = seglib.open_dataset(sys.argv[1]);"
        "print(dataset.prepare(image_size=(32, 36), cache_dir=sys.argv[2]).train.labels.sum())"
    )
    command = [sys.executable, "-c", code, str(city), str(cache)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate() for process in running]
    expected = prepare()
    assert printed == [(f"{expected.train.labels.sum()}\n", "")] * 2
    assert list_cache(cache) == [expected.path.name]


def test_another_process_that_was_quicker_is_believed(prepare, cache, monkeypatch):
    def replace_late(source, target, *, original=os.replace):
        if os.path.isdir(source):
            shutil.copytree(source, target)
        original(source, target)

    monkeypatch.setattr(os, "replace", replace_late)
    prepared = prepare()
    assert len(prepared) == 8
    assert list_cache(cache) == [prepared.path.name]


# What users run into


@pytest.mark.parametrize("below", [".", "cache", "deep/cache"])
def test_an_output_folder_that_cannot_be_written_is_named(tmp_path, prepare, below):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / below
    with pytest.raises(
        OSError, match=rf"the cache cannot be written to {folder} \(.+\): choose another folder"
    ) as caught:
        prepare(cache_dir=folder)
    assert isinstance(caught.value, FileExistsError | NotADirectoryError)


@pytest.mark.parametrize("size", [31, (16, 128), (128, 16)])
def test_an_image_size_smaller_than_32_is_refused(prepare, cache, size):
    with pytest.raises(ValueError, match=r"an image size \(height, width\) of at least 32 pixels"):
        prepare(image_size=size)
    assert not cache.exists()


def test_a_mask_of_another_size_than_its_image_is_an_error(city, prepare):
    Image.new("RGB", (48, 32)).save(city / "test_labels/scene_6_L.png")
    with pytest.raises(DatasetError, match=r"scene_6_L.png is 32×48 .*scene_6.png is 40×48"):
        prepare()


def test_defaults_are_128_by_128_in_outputs(city, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepared = open_dataset(city).prepare()
    assert prepared.image_size == (128, 128)
    assert prepared.path.resolve().parent == tmp_path / "outputs/cache"


def test_preparing_a_small_set_prints_nothing(prepare, capsys):
    prepare()
    assert capsys.readouterr() == ("", "")
