"""Over-sampling of patches: repeated, or blended with neighbours as SMOTE and ADASYN do."""

import dataclasses
import hashlib

import numpy as np

from seglib.images import resize_image
from seglib.preparing import PreparedSplit
from seglib.statistics import count_pixels

METHODS = ("random", "smote", "adasyn")
ENOUGH = 0.95  # of the commonest class's patches: ADASYN rounds fewer new ones down to none
THUMBNAIL = 16  # pixels a side, of what patches are compared by
TRACE = 1e-6  # so little that it changes no neighbour


@dataclasses.dataclass(frozen=True, repr=False)
class BlendedSplit(PreparedSplit):
    """Pairs as they are, and pairs in which a patch is blended with one of another pair.

    Args:
        images, labels, classes: as of PreparedSplit.
        names: list of m str, of the pairs.
        size: `(height, width)` of a patch.
        first, second: int arrays `(m,)`, which pair it is and which one the other patch is of.
        corners, others: int arrays `(m, 2)`, row and column where the patch and the other begin.
        share: float array `(m,)`, how much of the pair's own patch is kept; 1 for all of it.
    """

    size: tuple
    first: np.ndarray
    second: np.ndarray
    corners: np.ndarray
    others: np.ndarray
    share: np.ndarray

    def __len__(self):
        return len(self.first)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        pair = int(self.first[index])
        return np.asarray(self.images[pair]), np.asarray(self.labels[pair])

    def __repr__(self):
        return (
            f"BlendedSplit({len(self)} pairs, {int((self.share < 1).sum())} with blended patches)"
        )

    def take(self, rows):
        """Return the split of some of the pairs, int array of their numbers."""
        arrays = ("first", "second", "corners", "others", "share")
        chosen = {name: getattr(self, name)[rows] for name in arrays}
        return dataclasses.replace(self, names=[self.names[i] for i in rows], **chosen)

    @property
    def is_soft(self):
        """bool, whether labels are shares of classes."""
        return bool((self.share < 1).any())

    def partner(self, index):
        """Return the pair with the other patch in place of its own: what it is blended with."""
        image, labels = (np.array(part) for part in self[index])
        if self.share[index] < 1:
            own, other = (_cut(corner[index], self.size) for corner in (self.corners, self.others))
            second = int(self.second[index])
            image[own], labels[own] = self.images[second][other], self.labels[second][other]
        return image, labels


def oversample_patches(dataset, *, method="smote", size=None, count=None, neighbors=5, seed=0):
    """Add training pairs for rare classes: patches around their pixels, repeated or blended.

    Patches are drawn around random pixels, and are of the class of that pixel: rare classes have
    few. imbalanced-learn makes as many for each class as the commonest one has, comparing patches
    by small pictures of them. Each new patch is a pair of its own, in its own surroundings; where
    it is blended with a neighbour, picture and one-hot labels are blended by the same share.

    Args:
        dataset: PreparedDataset.
        method: "random" repeats pairs, each patch standing for its own; "smote" blends one with
            one of its nearest neighbours of the same class; "adasyn" does so most where other
            classes are near, and makes none for a class that needs few or meets no other.
        size: int or `(height, width)` of a patch in stored pixels; None for a quarter of the
            picture's sides.
        count: int, patches drawn before over-sampling; None for about 20 of the rarest class,
            but at least 1000 and at most 10,000 in all.
        neighbors: int, how many nearest neighbours one is drawn from.
        seed: int.

    Returns:
        PreparedDataset whose `train` is a BlendedSplit: all pairs as they are, then the new ones.

    Raises:
        ValueError: a class has too few patches for its neighbours, there is no class that is
            rarer than another, `method` or `size` is out of range, or the pairs are
            over-sampled already.
        ModuleNotFoundError: imbalanced-learn is not installed.

    Source: Chawla et al. 2002, "SMOTE: Synthetic Minority Over-sampling Technique"; He et al.
    2008, "ADASYN: Adaptive synthetic sampling approach for imbalanced learning".
    """
    split = dataset.train
    if isinstance(split, BlendedSplit):
        raise ValueError(
            "the training pairs are over-sampled already: give the data set that dataset.prepare "
            "made"
        )
    size = _check_size(size, split)
    if method not in METHODS:
        raise ValueError(f"expected method to be one of {', '.join(METHODS)}, received {method!r}")
    random = np.random.default_rng(seed)
    count = _choose_count(split) if count is None else count
    pairs, corners, classes = _draw_patches(split, size, count, random)
    names = split.classes.names
    _check_classes(classes, names, method, neighbors)
    thumbnails = [
        resize_image(np.asarray(split.images[pair][_cut(corner, size)]), (THUMBNAIL, THUMBNAIL))
        for pair, corner in zip(pairs, corners, strict=True)
    ]
    features = np.reshape(thumbnails, (count, -1)).astype(np.float32) / 255
    first, second, share = _resample(features, classes, method, neighbors, seed)
    own = np.arange(len(split))
    nowhere = np.zeros((len(split), 2), int)
    blended = BlendedSplit(
        split.images,
        split.labels,
        [*split.names, *(split.names[i] for i in pairs[first])],
        split.classes,
        size=size,
        first=np.concatenate([own, pairs[first]]),
        second=np.concatenate([own, pairs[second]]),
        corners=np.concatenate([nowhere, corners[first]]),
        others=np.concatenate([nowhere, corners[second]]),
        share=np.concatenate([np.ones(len(split)), share]),
    )
    what = f"{dataset.fingerprint} {method} {size} {count} {neighbors} {seed}"
    fingerprint = hashlib.blake2b(what.encode(), digest_size=16).hexdigest()
    return dataclasses.replace(dataset, train=blended, fingerprint=fingerprint)


def _choose_count(split):
    counts = count_pixels(split, num_classes=split.classes.num_classes)
    pixels = counts.sum(axis=0)[list(split.classes.scored_ids)]
    least = pixels[pixels > 0].min(initial=pixels.max())
    return int(np.clip(20 * pixels.sum() / max(least, 1), 1000, 10_000))


def _draw_patches(split, size, count, random):
    """Pairs, corners and classes of patches around pixels that are drawn uniformly."""
    height, width = split.images.shape[1:3]
    pairs = random.integers(len(split), size=2 * count)
    rows, columns = random.integers(height, size=2 * count), random.integers(width, size=2 * count)
    classes = np.array(
        [split.labels[p][r, c] for p, r, c in zip(pairs, rows, columns, strict=True)]
    )
    kept = np.isin(classes, split.classes.scored_ids).nonzero()[0][:count]
    if len(kept) < count:
        raise ValueError("more than half of the training pixels are ignored: patches have no class")
    corners = np.column_stack([rows, columns]) - np.floor_divide(size, 2)
    corners = corners.clip(0, np.subtract((height, width), size))
    return pairs[kept], corners[kept], classes[kept]


def _resample(features, classes, method, neighbors, seed):
    """What each new patch is made of: two patches, and the share of the first."""
    ids, counts = np.unique(classes, return_counts=True)
    made = [
        _resample_class(features, classes, label, counts.max(), method, neighbors, seed)
        for label in ids[counts < ENOUGH * counts.max()]
    ]
    made = [parts for parts in made if parts is not None]
    if not made:
        raise ValueError(
            f"{method} finds nothing to make: each class needs few new patches, or is only among "
            "its own; use method='smote', or more patches"
        )
    return tuple(np.concatenate(parts) for parts in zip(*made, strict=True))


def _resample_class(features, classes, label, wanted, method, neighbors, seed):
    sampler = _create_sampler(
        method, neighbors, sampling_strategy={label: wanted}, random_state=seed
    )
    # A trace of which patch it is goes along: what is left of it tells how a new one was made.
    members = np.flatnonzero(classes == label)
    traces = np.zeros((len(features), len(members)), features.dtype)
    traces[members, range(len(members))] = TRACE
    try:
        resampled, _ = sampler.fit_resample(np.hstack([features, traces]), classes)
    except (ValueError, RuntimeError):
        if method != "adasyn":
            raise
        return None  # the class needs few, or is only among its own
    traces = resampled[len(features) :, features.shape[1] :] / TRACE
    rows = np.arange(len(traces))
    first = traces.argmax(axis=1)
    share = traces[rows, first].clip(0, 1)
    traces[rows, first] = 0
    is_blend = share < 1 - 1e-4
    second = np.where(is_blend, traces.argmax(axis=1), first)
    return members[first], members[second], np.where(is_blend, share, 1.0)


def _create_sampler(method, neighbors, **options):
    try:
        from imblearn.over_sampling import ADASYN, SMOTE, RandomOverSampler
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "over-sampling of patches needs a package that is not installed: "
            "pip install imbalanced-learn"
        ) from error
    if method == "random":
        return RandomOverSampler(**options)
    if method == "smote":
        return SMOTE(k_neighbors=neighbors, **options)
    return ADASYN(n_neighbors=neighbors, **options)


def _cut(corner, size):
    return tuple(slice(start, start + side) for start, side in zip(corner, size, strict=True))


def _check_size(size, split):
    sides = split.images.shape[1:3]
    if size is None:
        return tuple(side // 4 for side in sides)
    size = tuple(np.broadcast_to(size, 2).tolist())
    if any(not 1 <= part <= side for part, side in zip(size, sides, strict=True)):
        raise ValueError(
            f"expected patches of at least 1 pixel and at most {sides}, received {size}"
        )
    return size


def _check_classes(classes, names, method, neighbors):
    ids, counts = np.unique(classes, return_counts=True)
    if len(ids) < 2 or counts.min() >= ENOUGH * counts.max():
        raise ValueError("no class is rarer than another in the patches: nothing to make up for")
    if method == "random":
        return
    scarce = [f"{names[i]} {n}" for i, n in zip(ids, counts, strict=True) if n <= neighbors]
    if scarce:
        raise ValueError(
            f"{method} of {neighbors} neighbors needs at least {neighbors + 1} patches of a class, "
            f"found {', '.join(scarce)}: draw more with count=, or take fewer neighbors"
        )
