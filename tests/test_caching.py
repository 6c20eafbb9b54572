import concurrent.futures
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from seglib.caching import arrays, digests, prepare_dataset, threads
from seglib.classes import ClassTable, write_class_table
from seglib.datasets import Dataset, Split, open_dataset
from seglib.images import DatasetError, fit_image, resize_image
from seglib.masks import fit_labels, resize_labels

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
    """Names of the folders of arrays, and of whatever else lies in the cache, hidden or not."""
    return sorted(entry.name for entry in cache.iterdir() if entry.name != "digests.jsonl")


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
    monkeypatch.setattr(hashlib, "file_digest", lambda file, _: pytest.fail(f"{file} was read"))
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


@pytest.mark.parametrize("damage", [b'["/half/a/line', b"7\n[]\n[1]\n", b"\xff\x00"])
def test_a_damaged_index_of_digests_is_mended(cache, prepare, monkeypatch, damage):
    first = prepare()
    (cache / "digests.jsonl").write_bytes(damage)
    assert [prepare().path, prepare().path] == [first.path] * 2
    monkeypatch.setattr(hashlib, "file_digest", lambda file, _: pytest.fail(f"{file} was read"))
    assert prepare().path == first.path


def test_masks_read_in_another_way_make_other_arrays(city, cache):
    """The same files and class table: whether values are ids or colours is decided elsewhere."""
    dataset = open_dataset(city)
    splits = {
        name: Split(split.pairs, split.classes, encoding="ids")
        for name, split in dataset.splits.items()
    }
    other = Dataset(city, dataset.classes, **splits)
    paths = {
        prepare_dataset(each, image_size=SIZE, cache_dir=cache).path for each in (dataset, other)
    }
    assert len(paths) == 2


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


# Letterbox


def test_letterboxed_pairs_keep_their_shape_and_the_rest_is_ignored(city, cache):
    dataset = open_dataset(city)
    prepared = prepare_dataset(dataset, image_size=(64, 64), cache_dir=cache, fit="letterbox")
    assert prepared.fit == "letterbox"
    assert prepared.classes == dataset.classes
    for (image, labels), (full_image, full_labels) in zip(
        prepared.train, dataset.train, strict=True
    ):
        assert (labels[:5] == 3).all()  # 40×48 becomes 53×64
        assert (labels[58:] == 3).all()
        assert (image[:5] == 128).all()
        np.testing.assert_array_equal(image[5:58], resize_image(full_image, (53, 64)))
        np.testing.assert_array_equal(labels[5:58], resize_labels(full_labels, (53, 64)))
        np.testing.assert_array_equal(image, fit_image(full_image, (64, 64), fit="letterbox"))


def test_each_fit_has_its_own_arrays(prepare, city, cache):
    stretched = prepare()
    boxed = prepare_dataset(open_dataset(city), image_size=SIZE, cache_dir=cache, fit="letterbox")
    assert stretched.fit == "stretch"
    assert stretched.path != boxed.path
    with pytest.raises(ValueError, match="fit to be one of stretch, letterbox, received 'crop'"):
        prepare_dataset(open_dataset(city), image_size=SIZE, cache_dir=cache, fit="crop")


@pytest.mark.parametrize(("count", "label", "dtype"), [(3, 255, "uint8"), (256, 65535, "uint16")])
def test_a_table_that_ignores_nothing_ignores_the_padding(tmp_path, cache, count, label, dtype):
    labels = np.arange(32 * 64).reshape(32, 64) % count
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "mask.png")
    Image.new("RGB", (64, 32)).save(tmp_path / "image.png")
    classes = ClassTable([f"{i}" for i in range(count)], [(i, i, 9) for i in range(count)])
    split = Split([(tmp_path / "image.png", tmp_path / "mask.png")], classes, encoding="ids")
    dataset = Dataset(tmp_path, classes, split, split[:0], split[:0])
    prepared = prepare_dataset(dataset, image_size=64, cache_dir=cache, fit="letterbox")
    assert prepared.classes.ignore_label == prepared.train.classes.ignore_label == label
    assert prepared.train.labels.dtype == dtype
    assert (prepared.train.labels[0, :16] == label).all()
    np.testing.assert_array_equal(prepared.train.labels[0, 16:48], labels)
    stretched = prepare_dataset(dataset, image_size=64, cache_dir=cache)
    assert stretched.classes.ignore_label is None
    np.testing.assert_array_equal(
        prepared.train.labels[0], fit_labels(labels, (64, 64), fit="letterbox", ignore_label=label)
    )


# Whole or absent, and carried on


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("workers", [1, 3])
def test_what_was_interrupted_is_carried_on(cache, prepare, monkeypatch, error, workers):
    undisturbed, calls, read = prepare(cache_dir=cache / "other"), [], Split.__getitem__

    def read_some(split, index):
        if len(calls) == 5:  # in the middle of the second split
            raise error("stopped here")
        calls.append(split.names[index])
        return read(split, index)

    with monkeypatch.context() as patch:
        patch.setattr(Split, "__getitem__", read_some)
        with pytest.raises(error, match="stopped here"):
            prepare(workers=workers)
    assert [name for name in list_cache(cache) if not name.endswith((".lock", "other"))] == [
        f"{undisturbed.path.name}.unfinished"
    ]
    monkeypatch.setattr(
        Split, "__getitem__", lambda split, i: calls.append(split.names[i]) or read(split, i)
    )
    assert_same_arrays(prepare(workers=workers), undisturbed)
    assert set(list_cache(cache)) == {"other", undisturbed.path.name}
    assert len(calls) <= 8 + workers  # what was under way is decoded again at the most
    assert calls[:4] == [f"scene_{i}" for i in range(4)] or workers > 1


def assert_same_arrays(prepared, expected):
    files = sorted(file.name for file in expected.path.iterdir())
    assert sorted(file.name for file in prepared.path.iterdir()) == files
    for file in files:
        assert (prepared.path / file).read_bytes() == (expected.path / file).read_bytes()


@pytest.mark.parametrize("lengths", [(0, 0), (70, 3000), (128 + 3456, 128), (9000, 128 + 3456 - 1),
                                     (128 + 4 * 3456, 128 + 4 * 1152)])  # fmt: skip
def test_files_of_any_length_are_carried_on(cache, prepare, lengths):
    """As a kill leaves them: without a whole header, within a picture, images and labels apart."""
    expected = prepare(cache_dir=cache / "other")
    unfinished = cache / f"{expected.path.name}.unfinished"
    shutil.copytree(expected.path, unfinished)
    for kind, length in zip(("images", "labels"), lengths, strict=True):
        with open(unfinished / f"train_{kind}.npy", "r+b") as stream:
            stream.truncate(length)
    (unfinished / "test_labels.npy").unlink()
    assert_same_arrays(prepare(), expected)


SLOWLY = """
import os, sys, time
from seglib.datasets import Split, open_dataset
read = Split.__getitem__
def read_slowly(split, index):
    os.write(1, f"{split.names[index]}\\n".encode())
    time.sleep(float(sys.argv[3]))
    return read(split, index)
Split.__getitem__ = read_slowly
open_dataset(sys.argv[1]).prepare(image_size=(32, 36), cache_dir=sys.argv[2], workers=2)
print("whole")
"""


def start_preparing(folder, cache, seconds=0.02):
    """A process that prepares and prints each pair that it decodes."""
    command = [sys.executable, "-c", SLOWLY, str(folder), str(cache), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def suburb(tmp_path, classes, write_pair):
    """Folder with 70 pairs: 50 for training, 10 each for validation and test."""
    folder = tmp_path / "suburb"
    for split, numbers in {"train": range(50), "val": range(50, 60), "test": range(60, 70)}.items():
        for i in numbers:
            paths = folder / split / f"{i:02d}.png", folder / f"{split}_labels" / f"{i:02d}.png"
            write_pair(*paths, seed=i)
    write_class_table(folder / "class_dict.csv", classes)
    return folder


def finished_pairs(cache):
    """Names of the pairs that an unfinished folder holds, by the lengths of its files."""
    done = []
    for name, numbers in {"train": range(50), "val": range(50, 60), "test": range(60, 70)}.items():
        files = [*cache.glob(f"*.unfinished/{name}_*.npy")]
        count = min(((file.stat().st_size - 128) // (1152 * (3 if "images" in file.name else 1))
                     for file in files), default=0)  # fmt: skip
        done += [f"{i:02d}" for i in numbers[: max(0, count)]]
    return done


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_process_killed_at_any_moment_is_carried_on(suburb, cache, seed):
    random = np.random.default_rng(seed)
    expected = open_dataset(suburb).prepare(image_size=SIZE, cache_dir=cache / "undisturbed")
    kills = decoded = 0
    while True:
        done = finished_pairs(cache)
        process = start_preparing(suburb, cache)
        if kills % 3 < 2:
            first = process.stdout.readline()  # the moment is within the decoding
            time.sleep(random.uniform(0, 0.15))
        else:
            first = ""
            time.sleep(random.uniform(0, 1))
        if kills < 6:
            process.kill()
        names, errors = process.communicate()
        names = (first + names).split()
        decoded += len(names)
        assert not set(names) & set(done)
        if "whole" in names:
            break
        assert (process.returncode, errors) == (-signal.SIGKILL, "")
        kills += 1
    assert kills >= 4
    assert decoded <= 71 + kills * (threads.AHEAD + 1) * 2
    prepared = open_dataset(suburb).prepare(image_size=SIZE, cache_dir=cache)
    assert_same_arrays(prepared, expected)
    assert list_cache(cache) == [prepared.path.name, "undisturbed"]


def test_few_pairs_are_in_memory_at_any_moment(suburb, cache, monkeypatch):
    """However slow the disk is."""
    read, write = Split.__getitem__, arrays._GrowingArray.write
    started, written, most = [], [], []

    def note_start(split, index):
        started.append(index)
        most.append(len(started) - len(written))
        return read(split, index)

    def write_slowly(array, index, picture):
        time.sleep(0.002)
        write(array, index, picture)
        if picture.ndim == 2:
            written.append(index)

    monkeypatch.setattr(Split, "__getitem__", note_start)
    monkeypatch.setattr(arrays._GrowingArray, "write", write_slowly)
    open_dataset(suburb).prepare(image_size=SIZE, cache_dir=cache, workers=3)
    assert len(written) == 70
    assert 3 < max(most) <= threads.AHEAD * 3


def test_digests_are_noted_while_files_are_read(suburb, cache, monkeypatch):
    """What was compared before a kill need not be read again."""
    read = []
    digest = hashlib.file_digest

    def digest_some(file, kind):
        if len(read) == 100:
            raise KeyboardInterrupt
        read.append(file.name)
        return digest(file, kind)

    monkeypatch.setattr(digests, "READERS", 1)
    monkeypatch.setattr(digests, "FILES_AT_ONCE", 8)
    monkeypatch.setattr(hashlib, "file_digest", digest_some)
    with pytest.raises(KeyboardInterrupt):
        open_dataset(suburb).prepare(image_size=SIZE, cache_dir=cache)
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind)
    )
    open_dataset(suburb).prepare(image_size=SIZE, cache_dir=cache)
    assert len(set(read)) == 140
    assert len(read) <= 140 + 8 * threads.AHEAD


@pytest.mark.parametrize("name", ["val/scene_4.png", "val_labels/scene_4_L.png"])
def test_a_truncated_file_is_named_and_nothing_is_left_behind(city, cache, prepare, name):
    path = city / name
    path.write_bytes(path.read_bytes()[:90])
    message = rf"{path.name} cannot be read as a picture \(.*\): it is truncated"
    with pytest.raises(DatasetError, match=message):
        prepare()
    assert list_cache(cache) == []


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_decoded(
    cache, prepare, monkeypatch, no_decoding
):
    usage = shutil.disk_usage(".")._replace(free=20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    no_decoding()
    message = rf"the disk of {cache} is full \(0 MB are needed, 0 MB free\): make room and call it"
    with pytest.raises(OSError, match=message) as caught:
        prepare()
    assert caught.value.errno == errno.ENOSPC
    assert list_cache(cache) == []
    monkeypatch.undo()
    prepare()


FULL = """
import resource, sys, seglib
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))
try:
    seglib.open_dataset(sys.argv[1]).prepare(image_size=(32, 36), cache_dir=sys.argv[2])
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(seglib.open_dataset(sys.argv[1]).prepare(image_size=(32, 36), cache_dir=sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
def test_a_disk_that_fills_up_is_explained_and_carried_on(city, cache, prepare):
    command = [sys.executable, "-c", FULL, str(city), str(cache)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert printed.stderr == ""
    error, result = printed.stdout.splitlines()
    assert error.startswith(f"[Errno {errno.EFBIG}] the disk of {cache} is full (File too large, ")
    assert result == "PreparedDataset(32×36, train 4, val 2, test 2)"
    assert_same_arrays(prepare(), prepare(cache_dir=cache / "other"))


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
        (cache / "digests.jsonl").unlink()
    assert len(list_cache(cache)) == 3


def test_of_two_processes_one_waits_for_the_other(suburb, cache):
    running = [start_preparing(suburb, cache) for _ in range(2)]
    printed, errors = zip(*(process.communicate() for process in running), strict=True)
    assert errors == ("", "")
    names = [line for lines in printed for line in lines.split()]
    assert sorted(names) == [*(f"{i:02d}" for i in range(70)), "whole", "whole"]
    prepared = open_dataset(suburb).prepare(image_size=SIZE, cache_dir=cache)
    expected = open_dataset(suburb).prepare(image_size=SIZE, cache_dir=cache / "other")
    assert_same_arrays(prepared, expected)
    assert list_cache(cache) == [prepared.path.name, "other"]


def test_who_waits_for_a_process_that_is_killed_carries_on(suburb, cache):
    first = start_preparing(suburb, cache)
    first.stdout.readline()
    second = start_preparing(suburb, cache, seconds=0)
    time.sleep(0.3)
    first.kill()
    first.communicate()
    printed, errors = second.communicate()
    assert (errors, printed.split()[-1]) == ("", "whole")
    prepared = open_dataset(suburb).prepare(image_size=SIZE, cache_dir=cache)
    expected = open_dataset(suburb).prepare(image_size=SIZE, cache_dir=cache / "other")
    assert_same_arrays(prepared, expected)


def test_without_locks_two_processes_write_the_same(prepare, cache, monkeypatch):
    """Both fill the same folder at once; the quicker one is believed."""
    monkeypatch.setattr("seglib.system.fcntl", None)
    expected = prepare(cache_dir=cache / "other")
    for size in (32, 33, 34, SIZE):
        barrier = threading.Barrier(3)

        def prepare_together(size=size, barrier=barrier):
            barrier.wait()
            return prepare(image_size=size, workers=2)

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            results = [task.result() for task in [pool.submit(prepare_together) for _ in range(3)]]
    assert_same_arrays(results[0], expected)


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
