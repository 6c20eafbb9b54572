"""Pairs decoded and resized once, kept on disk as memory-mapped arrays."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import math
import os
import pathlib
import shutil
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from seglib import images, system
from seglib.annotations import Annotation
from seglib.classes import ClassTable
from seglib.images import DatasetError, check_image_size, cut_padding, fit_classes, fit_image
from seglib.masks import resize_labels

VERSION = 3  # raise it when the same files and settings give other arrays
READERS = 8  # threads: disks at the end of a network are slow to answer
MENDING = threading.Lock()  # threads that read damaged pairs mend them once
AHEAD = 4  # results that a thread may be ahead of what becomes of them: they take memory


class CheckedArray(np.memmap):
    """Rows in a file, each compared with its checksum when this process first reads it.

    Where one differs, `mend` makes it anew. Views and copies are not checked again.
    """

    left = sums = mend = None

    def __getitem__(self, key):
        plain = self.view(np.memmap)
        if self.left is not None:
            rows = key[0] if isinstance(key, tuple) else key
            rows = slice(None) if np.ndim(rows) > 1 else rows  # a mask of pixels
            rows = np.unique(np.arange(len(self))[rows])
            for i in rows[self.left[rows]]:
                with MENDING:
                    if zlib.crc32(plain[i]) != self.sums[i]:
                        self.mend()
                self.left[i] = False
        return plain[key]


@dataclasses.dataclass(frozen=True, repr=False)
class PreparedSplit:
    """Pairs of one size in memory-mapped arrays; indexed like `Split`.

    `images` are uint8 `(n, height, width, channels)`, `labels` uint8 or uint16 `(n, height,
    width)`.
    """

    images: np.ndarray
    labels: np.ndarray
    names: list
    classes: ClassTable

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if isinstance(index, slice):
            arrays = self.images[index], self.labels[index]
            return PreparedSplit(*arrays, self.names[index], self.classes)
        return np.asarray(self.images[index]), np.asarray(self.labels[index])

    def __repr__(self):
        return f"PreparedSplit({len(self)} pairs of {self.images.shape[1]}×{self.images.shape[2]})"


@dataclasses.dataclass(frozen=True, repr=False)
class PreparedDataset:
    """The three prepared splits of a data set.

    The arrays lie in the folder `path`; `fingerprint` changes when a file, the class table or a
    setting does; `resize` is how pictures were brought to `image_size`, "stretch" or "letterbox",
    and `pixels` how their files' values became channels.
    """

    path: pathlib.Path
    image_size: tuple
    fingerprint: str
    classes: ClassTable
    train: PreparedSplit
    val: PreparedSplit
    test: PreparedSplit
    resize: str = "stretch"
    pixels: images.Pixels = images.RGB

    def __repr__(self):
        height, width = self.image_size
        counts = f"train {len(self.train)}, val {len(self.val)}, test {len(self.test)}"
        return f"PreparedDataset({height}×{width}, {counts})"


def prepare_dataset(
    dataset,
    *,
    image_size: int | tuple = (128, 128),
    cache_dir: str | os.PathLike = "outputs/cache",
    resize: str = "stretch",
) -> PreparedDataset:
    """Decode and resize all pairs of a data set once, and keep the result on disk.

    The arrays lie in a folder named by the files' contents, the class table and the settings.
    So the second call only maps them, and a changed file makes them anew. A call that was killed
    is carried on by the next one. One process at a time works in a cache; others wait. Pairs that
    do not match their checksums when they are first read are made anew, with a warning.

    Args:
        dataset: Dataset.
        image_size: `(height, width)` in pixels, or an int for a square; at least 32.
        cache_dir: str or path, created if missing.
        resize: "stretch", or "letterbox" to keep the aspect ratio: the picture is in the middle
            of grey pixels that are ignored. A class table that ignores none ignores 255 then.

    Raises:
        DatasetError: a pair cannot be read, its halves do not fit, or a file changes meanwhile.
        OSError: `cache_dir` cannot be written, or its disk is full.
    """
    image_size = check_image_size(image_size)
    classes = fit_classes(dataset.classes, fit=resize)
    cache_dir = system.make_folder(cache_dir, "the cache")
    advice = "make room and call it again, it carries on; or choose another cache_dir"
    with (
        system.explain_full_disk(cache_dir, advice),
        system.lock_file(cache_dir / ".lock", waiting_for="another process prepares pairs"),
    ):
        digests = _digest_files(dataset, cache_dir / "digests.json")
        fingerprint = _digest_dataset(dataset, digests, image_size=image_size, fit=resize)
        folder = cache_dir / f"{image_size[0]}x{image_size[1]}-{fingerprint[:16]}"
        files = _list_files(folder, dataset, image_size, classes)
        options = dataset, digests, image_size, resize, classes
        make = functools.partial(_make_arrays, folder, *options)
        if any(_map_file(*file) is None for three in files.values() for file in three):
            make()
    splits = {}
    for name, split in dataset.splits.items():
        *arrays, sums = (_map_file(*file) for file in files[name])
        for column, array in enumerate(arrays):
            array.left, array.sums, array.mend = np.ones(len(split), bool), sums[:, column], make
        splits[name] = PreparedSplit(*arrays, split.names, classes)
    splits |= {"resize": resize, "pixels": dataset.train.pixels}
    return PreparedDataset(folder, image_size, fingerprint, classes, **splits)


def count_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def map_in_order(function: Callable, tasks: Iterable, *, workers: int) -> Iterator:
    """Yield `function(task)` for each task in their order, computed in threads.

    Unlike `Executor.map`, which starts all tasks and keeps all results that nobody took yet.
    """
    waiting = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) == AHEAD * workers:
                yield waiting.popleft().result()
        yield from (future.result() for future in waiting)


def _digest_dataset(dataset, digests, **settings):
    """Digest of all that the arrays depend on, 32 hexadecimal digits."""
    splits, digests = {}, iter(digests)
    for name, split in dataset.splits.items():
        pairs = [[image.name, next(digests), next(digests)] for image, _ in split.pairs]
        splits[name] = [split.encoding, *pairs]
    colors = [[*color, label] for color, label in dataset.classes.mapping.items()]
    content = [VERSION, settings, dataset.classes.to_dict(), colors, splits]
    content += [options] if (options := dataset.train.pixels.to_dict()) else []
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _digest_files(dataset, index):
    """Digests of the pairs' files in their order, which are read if the index has another time."""
    try:
        known = dict(json.loads(index.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none yet, or damaged
        known = {}
    pairs = [pair for split in dataset.splits.values() for pair in split.pairs]
    halves = [images.find_file(half) for pair in pairs for half in pair]
    files = {_name_half(file): file for file, _ in halves}

    def digest(name):
        """Size, times of modification and change, digest. Tools restore the former time only."""
        if isinstance(files[name], Annotation):
            return [files[name].digest()]
        status = os.stat(name)
        seen = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        is_known = known.get(name, [])[:3] == seen
        return known[name] if is_known else [*seen, system.digest_file(name, 16)]

    digests = map_in_order(digest, files, workers=READERS)
    digests = system.show_progress(digests, total=len(files), desc="comparing", unit="file")
    found = dict(zip(files, digests, strict=True))
    if not found.items() <= known.items():
        with system.replacing(index) as temporary:
            temporary.write_text(json.dumps(known | found), encoding="utf-8")
    digests = [(found[_name_half(file)][-1], page) for file, page in halves]
    return [digest if page is None else [digest, page] for digest, page in digests]


def _name_half(file):
    """The path of a file; of an Annotation also its photograph's, which tells them apart."""
    name = os.path.abspath(file)
    return f"{name} of {file.image}" if isinstance(file, Annotation) else name


def _list_files(folder, dataset, image_size, classes):
    """`(path, shape, dtype)` of the images, the labels and the checksums of each split."""
    ids = np.min_scalar_type(max(classes.num_classes - 1, classes.ignore_label or 0))
    files, channels = {}, dataset.train.pixels.channels
    for name, split in dataset.splits.items():
        shape = (len(split), *image_size)
        files[name] = (
            (folder / f"{name}_images.npy", (*shape, channels), np.uint8),
            (folder / f"{name}_labels.npy", shape, ids),
            (folder / f"{name}_sums.npy", (len(split), 2), np.uint32),
        )
    return files


def _map_file(path, shape, dtype):
    """The CheckedArray in a file, or None where it holds none of this form."""
    with contextlib.suppress(Exception):  # a damaged head raises many kinds
        array = np.load(path, mmap_mode="r")
        if (array.shape, array.dtype) == (shape, dtype) and array.flags.c_contiguous:
            return array.view(CheckedArray)
    return None


def _make_arrays(folder, dataset, digests, image_size, fit, classes):
    """Make the pairs that do not match their checksums, at first in a folder that is renamed."""
    is_new, made = not folder.is_dir(), 0
    place = folder.with_name(f"{folder.name}.unfinished") if is_new else folder
    place.mkdir(exist_ok=True)
    files, padding = _list_files(place, dataset, image_size, classes), classes.ignore_label or 0

    def fit_pair(split, dtype, i):
        image, labels = split[i]
        fitted = np.full(image_size, padding, dtype)
        inside = cut_padding(fitted, labels.shape, fit=fit)
        inside[:] = resize_labels(labels, inside.shape)
        return fit_image(image, image_size, fit=fit).tobytes(), fitted.tobytes()

    missing = [file for own in files.values() for file in own if not file[0].exists()]
    needed = sum(math.prod(shape) * np.dtype(dtype).itemsize for _, shape, dtype in missing)
    if needed > shutil.disk_usage(folder.parent).free:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:.0f} MB are needed")
    try:
        for name, split in dataset.splits.items():
            for path, shape, dtype in files[name]:
                if _map_file(path, shape, dtype) is None:
                    np.lib.format.open_memmap(path, "w+", dtype, shape)
            *arrays, sums = maps = [_map_file(*file) for file in files[name]]
            left = [i for i in range(len(split)) if (_sum(a[i] for a in arrays) != sums[i]).any()]
            made += len(left)
            fit_one = functools.partial(fit_pair, split, arrays[1].dtype)
            pairs = map_in_order(fit_one, left, workers=count_processors())
            pairs = system.show_progress(
                pairs, total=len(left), desc=f"preparing {name}", unit="pair"
            )
            with contextlib.ExitStack() as stack:
                # No memory maps: in one, a full disk would end the process without a word.
                streams = [stack.enter_context(open(path, "r+b")) for path, *_ in files[name]]
                for i, pair in zip(left, pairs, strict=True):
                    rows = *pair, _sum(pair).tobytes()
                    for array, stream, row in zip(maps, streams, rows, strict=True):
                        stream.seek(array.offset + i * len(row))
                        stream.write(row)
                        stream.flush()  # a killed process loses no more than this row
                for stream in streams:
                    os.fsync(stream)
        if _digest_files(dataset, folder.with_name("digests.json")) != digests:
            raise DatasetError(f"files in {dataset.path} changed meanwhile: prepare it once more")
    except DatasetError:  # mended files have another fingerprint
        shutil.rmtree(place)
        raise
    if is_new:
        system.flush_folder(place)
        os.replace(place, folder)
        system.flush_folder(folder.parent)
    elif made:
        text = f"{made} of {len(dataset)} pairs did not match their checksums and were made anew"
        why = "an earlier seglib wrote none, or the disk is failing"
        system.warn(f"{folder}: {text}: {why}")


def _sum(rows):
    """Return the checksums of an image and its labels."""
    return np.array([zlib.crc32(row) for row in rows], np.uint32)
