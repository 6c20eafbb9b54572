"""One pass over all pairs: what the checks need to know of each, and no more."""

import collections
import concurrent.futures
import dataclasses
import os
import pathlib

import numpy as np

from seglib import masks
from seglib.encodings import (
    LOSSY_NOISE_DISTANCE,
    LOSSY_UNKNOWN_DISTANCE,
    MAX_UNKNOWN_SHARE,
    NOISE_DISTANCE,
    UNKNOWN_DISTANCE,
    read_mask,
)
from seglib.images import DatasetError
from seglib.progress import show_progress
from seglib.splitting import look_at_photograph

KEPT_COLORS = 16  # unknown ones of a mask
SQUARE = np.ones((3, 3), bool)
PACK = np.array([1 << 16, 1 << 8, 1], np.int32)


@dataclasses.dataclass(eq=False)
class Look:
    """What one pair looks like; what could not be read stays as it is here.

    Args:
        split: str.
        image, mask: paths.
        encoding: str, how the mask is read.
        unreadable: dict path -> message.
        thumbnail: uint8 array, see `look_at_photograph`.
        image_size, mask_size: `(height, width)`; the photograph upright.
        turned: bool, whether EXIF data turn the photograph.
        counts: int array `(num_classes,)`, pixels as they would be read.
        lossy: bool, whether the mask's format changed its colours.
        unknown: int, pixels of a colour of no class; `colors`: Counter of the most frequent.
        blends: int, pixels between the colours of two classes nearby.
        wrong_ids: dict id -> pixels, of ids outside the table.
        regions, tiny, tiny_pixels: int arrays `(num_classes,)`, connected regions, too small
            ones, and the pixels of these.
    """

    split: str
    image: pathlib.Path
    mask: pathlib.Path
    encoding: str
    unreadable: dict = dataclasses.field(default_factory=dict)
    thumbnail: np.ndarray | None = None
    image_size: tuple | None = None
    mask_size: tuple | None = None
    turned: bool = False
    counts: np.ndarray | None = None
    lossy: bool = False
    unknown: int = 0
    colors: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    blends: int = 0
    wrong_ids: dict = dataclasses.field(default_factory=dict)
    regions: np.ndarray | None = None
    tiny: np.ndarray | None = None
    tiny_pixels: np.ndarray | None = None

    @property
    def pixels(self):
        """int, of the mask."""
        return self.mask_size[0] * self.mask_size[1]

    @property
    def refused(self):
        """bool, whether so much of the mask is of unknown colours that reading it fails."""
        return bool(self.unknown) and self.unknown > MAX_UNKNOWN_SHARE * self.pixels


def look_at_pairs(dataset, *, image_size, workers=None):
    """Look at all pairs in threads; only a few pictures are in memory at a time.

    Returns:
        list of Look, in the order of the splits.
    """
    looks = [
        Look(name, image, mask, getattr(split, "encoding", "auto"))
        for name, split in dataset.splits.items()
        for image, mask in split.pairs
    ]

    def look(pair):
        _look_at_image(pair)
        _look_at_mask(pair, dataset.classes, image_size)
        return pair

    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        found = pool.map(look, looks)
        return list(show_progress(found, total=len(looks), desc="checking", unit="pair"))


def find_strange_pixels(pixels, labels, classes, *, lossy=False):
    """Tell apart pixels whose colour is no class's.

    Args:
        pixels: uint8 array `(height, width, 3)`, the mask as RGB.
        labels: int array `(height, width)`, its nearest classes.
        classes: ClassTable.
        lossy: bool, whether its format changes colours.

    Returns:
        `(unknown, blends)`, bool arrays `(height, width)`: far from every class; and between the
        colours of classes nearby, with the far ones that are part of such a seam, as where three
        classes meet or a pole is narrower than its blur. Colours a little off are neither.
    """
    far = LOSSY_UNKNOWN_DISTANCE if lossy else UNKNOWN_DISTANCE
    noise = LOSSY_NOISE_DISTANCE if lossy else NOISE_DISTANCE
    unknown = masks.find_unknown_colors(pixels, labels, classes, distance=far)
    blends = ~(masks.exact_colors(pixels, classes) | unknown)
    blends[blends] = measure_distance(pixels[blends], classes)[0] > noise
    if 0 < unknown.mean() <= MAX_UNKNOWN_SHARE and blends.any():
        from scipy import ndimage

        seam = unknown & ~ndimage.binary_opening(unknown, SQUARE)
        seam &= ndimage.binary_dilation(blends, SQUARE)
        unknown, blends = unknown & ~seam, blends | seam
    return unknown, blends


def measure_distance(colors, classes):
    """Return `(distance, row)` of the class nearest to each colour `(n, 3)`, Euclidean in RGB."""
    colors = np.asarray(colors, np.int32)
    nearest, row = np.full(len(colors), np.inf), np.zeros(len(colors), int)
    for i, color in enumerate(classes.colors.astype(np.int32)):
        distance = np.sqrt(((colors - color) ** 2).sum(axis=1))
        row[distance < nearest] = i
        nearest = np.minimum(nearest, distance)
    return nearest, row


def find_tiny_regions(labels, image_size):
    """Find 8-connected regions of less area than one pixel has at the size of the training.

    Args:
        labels: int array `(height, width)`.
        image_size: `(height, width)`.

    Returns:
        `(regions, ids, areas, tiny)`: int array `(height, width)`, the number of a region from 1
        on; and by number, 0 meaning nothing, its id, its pixels, and whether it is tiny.
    """
    from skimage.measure import label

    regions = label(labels, background=-1, connectivity=2)
    areas = np.bincount(regions.ravel())
    ids = np.full(len(areas), -1, np.int64)
    ids[regions.ravel()] = labels.ravel()
    return regions, ids, areas, areas * (image_size[0] * image_size[1]) < labels.size


def _look_at_image(pair):
    try:
        pair.thumbnail, pair.image_size, pair.turned = look_at_photograph(pair.image)
    except DatasetError as error:
        pair.unreadable[pair.image] = str(error)


def _look_at_mask(pair, classes, image_size):
    try:
        labels, pixels, lossy = read_mask(pair.mask, classes, encoding=pair.encoding)
    except DatasetError as error:
        pair.unreadable[pair.mask] = str(error)
        return
    pair.mask_size = labels.shape
    if pixels is None:
        _look_at_ids(pair, labels, classes)
    elif not masks.exact_colors(pixels, classes).all():
        labels = _look_at_colors(pair, pixels, labels, classes, lossy)
    known = labels[(labels >= 0) & (labels < classes.num_classes)]
    pair.counts = np.bincount(known, minlength=classes.num_classes)
    if not (pair.refused or pair.wrong_ids):
        _count_regions(pair, labels, classes, image_size)


def _look_at_ids(pair, labels, classes):
    known = (labels >= 0) & (labels < classes.num_classes)
    if classes.ignore_label is not None:
        known |= labels == classes.ignore_label
    found, counts = np.unique(labels[~known], return_counts=True)
    pair.wrong_ids = dict(zip(found.tolist(), counts.tolist(), strict=True))


def _look_at_colors(pair, pixels, labels, classes, lossy):
    """Count what is of no class, and return the labels as they would be read."""
    unknown, blends = find_strange_pixels(pixels, labels, classes, lossy=lossy)
    pair.lossy, pair.unknown, pair.blends = lossy, int(unknown.sum()), int(blends.sum())
    keys, counts = np.unique(pixels[unknown].astype(np.int32) @ PACK, return_counts=True)
    for i in np.argsort(-counts, kind="stable")[:KEPT_COLORS]:
        pair.colors[tuple((keys[i] // PACK % 256).tolist())] = int(counts[i])
    if pair.refused:
        return np.where(unknown | blends, -1, labels.astype(np.int64))
    tolerance = LOSSY_NOISE_DISTANCE if lossy else NOISE_DISTANCE
    return masks.sharpen_boundaries(pixels, labels, classes, tolerance=tolerance)


def _count_regions(pair, labels, classes, image_size):
    _, ids, areas, tiny = find_tiny_regions(labels, image_size)
    known = (ids >= 0) & (ids < classes.num_classes)
    ids, areas, tiny = ids[known], areas[known], tiny[known]
    size = classes.num_classes
    pair.regions = np.bincount(ids, minlength=size)
    pair.tiny = np.bincount(ids[tiny], minlength=size)
    pair.tiny_pixels = np.bincount(ids[tiny], areas[tiny], size).astype(np.int64)
