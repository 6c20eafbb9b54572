"""A folder of arrays that is filled pair by pair: whole or absent, and carried on after a kill."""

import contextlib
import errno
import os
import shutil

import numpy as np

from seglib.caching.threads import map_in_order
from seglib.images import DatasetError, fit_image
from seglib.masks import fit_labels
from seglib.system import lock_file, show_progress


def make_arrays(folder, dataset, *, image_size, fit, classes, workers):
    """Fill an unfinished folder and rename it; one that was begun before is carried on.

    Args:
        folder: path, the fingerprint being part of its name.
        dataset: Dataset.
        image_size: `(height, width)`.
        fit: "stretch" or "letterbox".
        classes: ClassTable of the fitted labels.
        workers: int, threads that decode.
    """
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    lock = folder.with_name(f".{folder.name}.lock")
    with lock_file(lock, waiting_for="another process prepares the same pairs"):
        try:
            if not folder.is_dir():
                _write_splits(unfinished, dataset, image_size, fit, classes, workers)
                os.replace(unfinished, folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker, where there are no locks
                raise
            shutil.rmtree(unfinished, ignore_errors=True)
        except DatasetError:  # once the files are mended, their arrays go elsewhere
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        finally:
            if not unfinished.is_dir():  # whoever waits for the lock finds the folder, or fails too
                lock.unlink(missing_ok=True)


def _write_splits(folder, dataset, image_size, fit, classes, workers):
    highest = max(classes.num_classes - 1, classes.ignore_label or 0)
    dtype = np.dtype(np.uint8 if highest < 256 else np.uint16)
    _check_room(folder, len(dataset) * image_size[0] * image_size[1] * (3 + dtype.itemsize))
    folder.mkdir(exist_ok=True)

    def fit_pair(image, labels):
        ignore_label = classes.ignore_label
        return (
            fit_image(image, image_size, fit=fit),
            fit_labels(labels, image_size, fit=fit, ignore_label=ignore_label),
        )

    with show_progress(total=len(dataset), desc="preparing", unit="pair") as bar:
        for name, split in dataset.splits.items():
            if len(split):
                shape = (len(split), *image_size)
                with (
                    _GrowingArray(folder / f"{name}_images.npy", np.uint8, (*shape, 3)) as images,
                    _GrowingArray(folder / f"{name}_labels.npy", dtype, shape) as labels,
                ):
                    _write_pairs(split, fit_pair, images, labels, workers, bar)


def _write_pairs(split, fit_pair, images, labels, workers, bar):
    start = min(images.length, labels.length)
    bar.update(start)
    pairs = map_in_order(lambda i: fit_pair(*split[i]), range(start, len(split)), workers=workers)
    for index, (image, ids) in enumerate(pairs, start):
        images.write(index, image)
        labels.write(index, ids)
        bar.update()


class _GrowingArray:
    """A `.npy` file that is written picture by picture; `length` is how many it had before.

    It is no memory map, in which a full disk would end the process without a word. Nothing is
    cut off, so that two processes, where there are no locks, write the same bytes at worst.
    """

    def __init__(self, path, dtype, shape):
        path.touch()
        self.stream = open(path, "r+b")  # noqa: SIM115 - __exit__ closes it
        size = self.stream.seek(0, os.SEEK_END)
        self.stream.seek(0)
        self.dtype = np.dtype(dtype)
        description = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.stream, description)
        self.start, self.bytes = self.stream.tell(), int(np.prod(shape[1:])) * self.dtype.itemsize
        self.length = max(0, size - self.start) // self.bytes

    def write(self, index, picture):
        self.stream.seek(self.start + index * self.bytes)
        self.stream.write(np.ascontiguousarray(picture, self.dtype))
        self.stream.flush()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stream.close()


def _check_room(folder, size):
    """Raise OSError where `size` bytes of arrays, less what is there, exceed the free space."""
    missing = size - sum(file.stat().st_size for file in folder.glob("*.npy"))
    if missing > shutil.disk_usage(folder.parent).free:
        raise OSError(errno.ENOSPC, f"{missing / 1e6:.0f} MB are needed")


@contextlib.contextmanager
def explain_full_disk(cache_dir):
    """Say what to do when the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(cache_dir).free / 1e6
        raise OSError(
            error.errno,
            f"the disk of {cache_dir} is full ({error.strerror}, {free:.0f} MB free): make room "
            "and call it again, it carries on; or choose another cache_dir or a smaller image_size",
        ) from error
