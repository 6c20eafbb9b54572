"""Pairs decoded and fitted to one size once, kept on disk as memory-mapped arrays."""

import dataclasses
import pathlib

import numpy as np

from seglib.caching.arrays import explain_full_disk, make_arrays
from seglib.caching.digests import digest_dataset
from seglib.caching.threads import count_processors
from seglib.classes import ClassTable
from seglib.images import check_fit, check_image_size, fit_classes
from seglib.system import make_folder

__all__ = ["PreparedDataset", "PreparedSplit", "prepare_dataset"]


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
        fingerprint: str that changes when a file, the class table or a setting does.
        classes: ClassTable.
        train, val, test: PreparedSplit.
        fit: "stretch" or "letterbox", how the pictures were brought to this size.
    """

    path: pathlib.Path
    image_size: tuple
    fingerprint: str
    classes: ClassTable
    train: PreparedSplit
    val: PreparedSplit
    test: PreparedSplit
    fit: str = "stretch"

    def __len__(self):
        return len(self.train) + len(self.val) + len(self.test)

    def __repr__(self):
        height, width = self.image_size
        counts = f"train {len(self.train)}, val {len(self.val)}, test {len(self.test)}"
        return f"PreparedDataset({height}×{width}, {counts})"


def prepare_dataset(
    dataset, *, image_size=(128, 128), cache_dir="outputs/cache", workers=None, fit="stretch"
):
    """Decode and resize all pairs of a data set once, and keep the result on disk.

    The arrays lie in a folder named by the files' contents, the class table and the
    settings. So the second call only maps them, and a changed file makes them anew.
    Wherever a call was killed, the next one does only the rest; of two processes that
    prepare the same, one waits for the other.

    Args:
        dataset: Dataset.
        image_size: `(height, width)` in pixels, or an int for a square; at least 32.
        cache_dir: str or path, created if missing.
        workers: int, threads that decode; the number of processors by default.
        fit: "stretch", or "letterbox" to keep the aspect ratio: the picture is in the middle
            of grey pixels that are ignored. A class table that ignores none ignores 255 then.

    Returns:
        PreparedDataset.

    Raises:
        ValueError: the size is smaller than 32, or `fit` is neither of the two.
        DatasetError: a pair cannot be read, or its halves do not fit.
        OSError: `cache_dir` cannot be written, or its disk is full.
    """
    image_size = check_image_size(image_size)
    check_fit(fit)
    cache_dir = make_folder(cache_dir, "the cache")
    workers = workers or count_processors()
    classes = fit_classes(dataset.classes, fit=fit)
    with explain_full_disk(cache_dir):
        fingerprint = digest_dataset(
            dataset, cache_dir / "digests.jsonl", image_size=image_size, fit=fit
        )
        folder = cache_dir / f"{image_size[0]}x{image_size[1]}-{fingerprint[:16]}"
        if not folder.is_dir():
            make_arrays(
                folder, dataset, image_size=image_size, fit=fit, classes=classes, workers=workers
            )
    splits = {
        name: PreparedSplit(*_map_arrays(folder, name), split.names, classes)
        if len(split)
        else _empty_split(image_size, classes)
        for name, split in dataset.splits.items()
    }
    return PreparedDataset(
        path=folder,
        image_size=image_size,
        fingerprint=fingerprint,
        classes=classes,
        fit=fit,
        **splits,
    )


def _map_arrays(folder, name):
    return (np.load(folder / f"{name}_{kind}.npy", mmap_mode="r") for kind in ("images", "labels"))


def _empty_split(image_size, classes):
    images = np.zeros((0, *image_size, 3), np.uint8)
    return PreparedSplit(images, np.zeros((0, *image_size), np.uint8), [], classes)
