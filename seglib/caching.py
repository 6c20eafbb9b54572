"""Pairs decoded and resized once, kept on disk as memory-mapped arrays."""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np

from seglib.classes import ClassTable
from seglib.folders import make_folder
from seglib.images import check_image_size, resize_image
from seglib.masks import resize_labels
from seglib.progress import show_progress

VERSION = 1  # raise it when the same files and settings give other arrays


@dataclasses.dataclass(frozen=True, repr=False)
class PreparedSplit:
    """Pairs of one size in memory-mapped arrays; indexed like `Split`.

    Args:
        images: uint8 array `(n, height, width, 3)`.
        labels: uint8 or uint16 array `(n, height, width)`.
        names: list of n str.
        classes: ClassTable.
    """

    images: np.ndarray
    labels: np.ndarray
    names: list
    classes: ClassTable

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return PreparedSplit(
                self.images[index], self.labels[index], self.names[index], self.classes
            )
        return np.asarray(self.images[index]), np.asarray(self.labels[index])

    def __repr__(self):
        return f"PreparedSplit({len(self)} pairs of {self.images.shape[1]}×{self.images.shape[2]})"


@dataclasses.dataclass(frozen=True, repr=False)
class PreparedDataset:
    """The three prepared splits of a data set.

    Args:
        path: path of the folder that the arrays lie in.
        image_size: `(height, width)`.
        fingerprint: str that changes when a file, the class table or the size does.
        classes: ClassTable.
        train, val, test: PreparedSplit.
    """

    path: pathlib.Path
    image_size: tuple
    fingerprint: str
    classes: ClassTable
    train: PreparedSplit
    val: PreparedSplit
    test: PreparedSplit

    def __len__(self):
        return len(self.train) + len(self.val) + len(self.test)

    def __repr__(self):
        height, width = self.image_size
        counts = f"train {len(self.train)}, val {len(self.val)}, test {len(self.test)}"
        return f"PreparedDataset({height}×{width}, {counts})"


def prepare_dataset(dataset, *, image_size=(128, 128), cache_dir="outputs/cache", workers=None):
    """Decode and resize all pairs of a data set once, and keep the result on disk.

    The arrays lie in a folder named by the files' contents, the class table and the
    size. So the second call only maps them, and a changed file makes them anew.

    Args:
        dataset: Dataset.
        image_size: `(height, width)` in pixels, or an int for a square; at least 32.
        cache_dir: str or path, created if missing.
        workers: int, threads that decode; the number of processors by default.

    Returns:
        PreparedDataset.

    Raises:
        ValueError: the size is smaller than 32.
        DatasetError: a pair cannot be read, or its halves do not fit.
        OSError: `cache_dir` cannot be written.
    """
    image_size = check_image_size(image_size)
    cache_dir = make_folder(cache_dir, "the cache")
    fingerprint = _fingerprint(dataset, image_size, cache_dir)
    folder = cache_dir / f"{image_size[0]}x{image_size[1]}-{fingerprint[:16]}"
    if not folder.is_dir():
        _write_arrays(dataset, image_size, folder, workers or count_processors())
    splits = {
        name: PreparedSplit(
            np.load(folder / f"{name}_images.npy", mmap_mode="r"),
            np.load(folder / f"{name}_labels.npy", mmap_mode="r"),
            split.names,
            dataset.classes,
        )
        if len(split)
        else _empty_split(image_size, dataset.classes)
        for name, split in dataset.splits.items()
    }
    return PreparedDataset(
        path=folder,
        image_size=image_size,
        fingerprint=fingerprint,
        classes=dataset.classes,
        **splits,
    )


def count_processors():
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _empty_split(image_size, classes):
    images = np.zeros((0, *image_size, 3), np.uint8)
    return PreparedSplit(images, np.zeros((0, *image_size), np.uint8), [], classes)


def _write_arrays(dataset, image_size, folder, workers):
    """Fill a temporary folder and rename it, so that the cache is whole or absent."""
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        with (
            concurrent.futures.ThreadPoolExecutor(workers) as pool,
            show_progress(total=len(dataset), desc="preparing", unit="pair") as bar,
        ):
            for name, split in dataset.splits.items():
                if len(split):
                    _write_split(name, split, image_size, temporary, pool, bar)
        os.replace(temporary, folder)
    except OSError:
        if not folder.is_dir():  # else another process was quicker, with the same result
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_split(name, split, image_size, folder, pool, bar):
    highest = max(split.classes.num_classes - 1, split.classes.ignore_label or 0)
    dtype = np.uint8 if highest < 256 else np.uint16
    images = np.lib.format.open_memmap(
        folder / f"{name}_images.npy", "w+", np.uint8, (len(split), *image_size, 3)
    )
    labels = np.lib.format.open_memmap(
        folder / f"{name}_labels.npy", "w+", dtype, (len(split), *image_size)
    )

    def prepare_pair(index):
        image, ids = split[index]
        images[index] = resize_image(image, image_size)
        labels[index] = resize_labels(ids, image_size)
        bar.update()

    try:
        for _ in pool.map(prepare_pair, range(len(split))):
            pass
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise


def _fingerprint(dataset, image_size, cache_dir):
    """Digest of every file's content, the class table and the settings."""
    digests = _content_digests(dataset, cache_dir)
    content = {
        "version": VERSION,
        "image_size": image_size,
        "classes": dataset.classes.to_dict(),
        "colors": [[*color, label] for color, label in dataset.classes.mapping.items()],
        "splits": {
            name: [[image.name, *(digests[str(file.resolve())][2] for file in (image, mask))]
                   for image, mask in split.pairs]
            for name, split in dataset.splits.items()
        },
    }  # fmt: skip
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _content_digests(dataset, cache_dir):
    """`{path: [size, times, digest]}`; a file is only read when size or a time changed.

    The time of the change of status shows also a change that kept the time of modification.
    """
    index = cache_dir / "digests.json"
    try:
        known = json.loads(index.read_text())
    except (OSError, ValueError):
        known = {}
    current = {}
    for split in dataset.splits.values():
        for file in (file.resolve() for pair in split.pairs for file in pair):
            status = file.stat()
            entry = known.get(str(file), [None, None, None])
            seen = [status.st_size, [status.st_mtime_ns, status.st_ctime_ns]]
            if entry[:2] != seen:
                digest = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
                entry = [*seen, digest]
            current[str(file)] = entry
    if any(known.get(name) != entry for name, entry in current.items()):
        with tempfile.NamedTemporaryFile("w", dir=cache_dir, delete=False) as file:
            json.dump(known | current, file)
        os.replace(file.name, index)
    return current
