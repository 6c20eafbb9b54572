"""Pairs decoded and resized once, kept on disk as memory-mapped arrays."""

import collections
import concurrent.futures
import dataclasses
import errno
import functools
import hashlib
import json
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from seglib import images
from seglib.annotations import Annotation
from seglib.classes import ClassTable
from seglib.images import DatasetError, check_image_size, cut_padding, fit_classes, fit_image
from seglib.masks import resize_labels
from seglib.system import explain_full_disk, lock_file, make_folder, replacing, show_progress

VERSION = 3  # raise it when the same files and settings give other arrays
READERS = 8  # threads: disks at the end of a network are slow to answer
AHEAD = 4  # results that a thread may be ahead of what becomes of them: they take memory


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
    is carried on by the next one. One process at a time works in a cache; others wait.

    Args:
        dataset: Dataset.
        image_size: `(height, width)` in pixels, or an int for a square; at least 32.
        cache_dir: str or path, created if missing.
        resize: "stretch", or "letterbox" to keep the aspect ratio: the picture is in the middle
            of grey pixels that are ignored. A class table that ignores none ignores 255 then.

    Raises:
        DatasetError: a pair cannot be read, or its halves do not fit.
        OSError: `cache_dir` cannot be written, or its disk is full.
    """
    image_size = check_image_size(image_size)
    classes = fit_classes(dataset.classes, fit=resize)
    cache_dir = make_folder(cache_dir, "the cache")
    advice = "make room and call it again, it carries on; or choose another cache_dir"
    with (
        explain_full_disk(cache_dir, advice),
        lock_file(cache_dir / ".lock", waiting_for="another process prepares pairs"),
    ):
        digests = _digest_files(dataset, cache_dir / "digests.json")
        fingerprint = _digest_dataset(dataset, digests, image_size=image_size, fit=resize)
        folder = cache_dir / f"{image_size[0]}x{image_size[1]}-{fingerprint[:16]}"
        if not folder.is_dir():
            _make_arrays(folder, dataset, image_size, resize, classes)
    splits = {}
    for name, split in dataset.splits.items():
        images = np.load(folder / f"{name}_images.npy", mmap_mode="r")
        labels = np.load(folder / f"{name}_labels.npy", mmap_mode="r")
        splits[name] = PreparedSplit(images, labels, split.names, classes)
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
        if known.get(name, [])[:3] == seen:
            return known[name]
        with open(name, "rb") as stream:
            content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
        return [*seen, content.hexdigest()]

    digests = map_in_order(digest, files, workers=READERS)
    digests = show_progress(digests, total=len(files), desc="comparing", unit="file")
    found = dict(zip(files, digests, strict=True))
    if not found.items() <= known.items():
        with replacing(index) as temporary:
            temporary.write_text(json.dumps(known | found), encoding="utf-8")
    digests = [(found[_name_half(file)][-1], page) for file, page in halves]
    return [digest if page is None else [digest, page] for digest, page in digests]


def _name_half(file):
    """The path of a file; of an Annotation also its photograph's, which tells them apart."""
    name = os.path.abspath(file)
    return f"{name} of {file.image}" if isinstance(file, Annotation) else name


def _make_arrays(folder, dataset, image_size, fit, classes):
    """Fill an unfinished folder, which may have been begun before, and rename it."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    unfinished.mkdir(exist_ok=True)
    padding = classes.ignore_label or 0
    dtype = np.min_scalar_type(max(classes.num_classes - 1, padding))

    def fit_pair(split, i):
        image, labels = split[i]
        fitted = np.full(image_size, padding, dtype)
        inside = cut_padding(fitted, labels.shape, fit=fit)
        inside[:] = resize_labels(labels, inside.shape)
        return fit_image(image, image_size, fit=fit).tobytes(), fitted.tobytes()

    channels = dataset.train.pixels.channels
    size = len(dataset) * math.prod(image_size) * (channels + dtype.itemsize)
    size -= sum(file.stat().st_size for file in unfinished.glob("*.npy"))
    if size > shutil.disk_usage(folder.parent).free:
        raise OSError(errno.ENOSPC, f"{size / 1e6:.0f} MB are needed")
    try:
        with show_progress(total=len(dataset), desc="preparing", unit="pair") as bar:
            for name, split in dataset.splits.items():
                shape, path = (len(split), *image_size), f"{unfinished / name}"
                images, start = _open_array(f"{path}_images.npy", (*shape, channels), np.uint8)
                labels, held = _open_array(f"{path}_labels.npy", shape, dtype)
                start = min(start, held)
                fit_one, left = functools.partial(fit_pair, split), range(start, len(split))
                with images, labels:
                    images.seek(channels * start * math.prod(image_size), os.SEEK_CUR)
                    labels.seek(dtype.itemsize * start * math.prod(image_size), os.SEEK_CUR)
                    bar.update(start)
                    for image, ids in map_in_order(fit_one, left, workers=count_processors()):
                        images.write(image)
                        labels.write(ids)
                        bar.update()
    except DatasetError:  # mended files have another fingerprint
        shutil.rmtree(unfinished)
        raise
    os.replace(unfinished, folder)


def _open_array(path, shape, dtype):
    """Open a `.npy` file for writing: the stream after its header, and how many rows it holds.

    It is no memory map: in one, a full disk would end the process without a word.
    """
    pathlib.Path(path).touch()
    length, dtype = os.path.getsize(path), np.dtype(dtype)
    stream = open(path, "r+b")  # noqa: SIM115 - the caller closes it
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream, max(0, length - stream.tell()) // (math.prod(shape[1:]) * dtype.itemsize)
