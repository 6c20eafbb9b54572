"""How much of each class there is, and what makes up for the rare ones."""

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.ndimage import laplace

from seglib.augment import Augmentation, choose_augmentation
from seglib.classes import ClassTable
from seglib.images import resize_image, show_rgb
from seglib.preparing import PreparedDataset, PreparedSplit
from seglib.reports import find_regions
from seglib.system import show_progress

GRID = 32  # cells along each side of the frame
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601
IMAGE_COLUMNS = ("height", "width", "brightness", "contrast", "red", "green", "blue", "sharpness")
WEIGHTINGS = ("none", "inverse_frequency", "median_frequency", "effective_number")
NEIGHBORS = 5  # as in the papers on SMOTE and ADASYN
MEASURED = pathlib.Path(__file__).with_name("measured.csv")  # benchmarks/imbalance.py writes it

LOSSES = {
    "cross-entropy": "CrossEntropy",
    "focal": "Focal",
    "Dice": "Dice",
    "Tversky": "Tversky",
    "focal Tversky": "Tversky",
    "Lovász-softmax": "LovaszSoftmax",
    "cross-entropy + Dice": "CrossEntropyDice",
}
TRAINED_METHODS = (
    *LOSSES,
    *(f"weights: {name.replace('_', ' ')}" for name in WEIGHTINGS[1:]),
    *(f"sampling: {name}" for name in ("images", "windows", "copy-paste")),
    *(f"patches: {name}" for name in ("random", "smote", "adasyn")),
)


class SplitStatistics(NamedTuple):
    """What `measure_split` found, in pixels; tables have a row for each scored class.

    Args:
        counts: int64 array `(num_images, num_classes)`, pixels.
        frequency: DataFrame. `pixels`; `pixel_share` of the scored pixels; `images` that hold the
            class; `image_share` of all images; `share_where_present` of these images' scored
            pixels.
        imbalance_ratio: float, pixels of the commonest class over those of the rarest present.
        co_occurrence: DataFrame, share of the images with the row's class that hold the column's.
        regions: DataFrame of 8-connected regions: `regions`, their number; `median_area`,
            `smallest_area`, `largest_area`.
        location: float array `(num_classes, 32, 32)`, mean share of a class in each cell of the
            frame.
        images: DataFrame, a row an image: `height`, `width`; `brightness` and `contrast`, mean and
            standard deviation of grey in [0, 255]; `red`, `green`, `blue`, means; `sharpness`,
            variance of the Laplacian of grey.
    """

    counts: np.ndarray
    frequency: pd.DataFrame
    imbalance_ratio: float
    co_occurrence: pd.DataFrame
    regions: pd.DataFrame
    location: np.ndarray
    images: pd.DataFrame


def count_pixels(split: Sequence, *, num_classes: int) -> np.ndarray:
    """Count the pixels of each class in each image, int64 `(num_images, num_classes)`.

    Args:
        split: sequence of `(image, labels)`, labels int `(height, width)` of any size.
        num_classes: int. Ids outside `[0, num_classes)`, such as 255, are not counted.

    Raises:
        ValueError: the split is empty.

    Example:
        >>> labels = np.array([[0, 1, 1], [255, 1, 0]], np.uint8)
        >>> count_pixels([(None, labels)], num_classes=3)
        array([[2, 3, 0]])
    """
    return np.stack([_count(labels, num_classes) for _, labels in _read_pairs(split)])


def measure_split(split: Sequence, classes: ClassTable) -> SplitStatistics:
    """Measure images and labels of a split, reading each pair once.

    What cannot be known, such as the share of an absent class, is NaN.

    Raises:
        ValueError: the split is empty.
    """
    counts, regions, locations, images = [], [], [], []
    for image, labels in _read_pairs(split):
        counts.append(_count(labels, classes.num_classes))
        _, ids, areas = find_regions(labels)
        regions.append(pd.DataFrame({"id": ids[1:], "area": areas[1:]}))
        locations.append(_locate(labels, classes.num_classes))
        image = show_rgb(image)
        grey, colors = image.astype(np.float32) @ GREY, image.mean(axis=0).mean(axis=0)
        figures = grey.mean(), grey.std(), *colors, laplace(grey, mode="nearest").var()
        images.append((*grey.shape, *map(float, figures)))
    counts, scored = np.stack(counts), list(classes.scored_ids)
    seen = pd.DataFrame(counts, columns=pd.Index(classes.names, name="class")).iloc[:, scored]
    pixels, holds = seen.sum(), (seen > 0).astype(int)
    frequency = {
        "pixels": pixels,
        "pixel_share": pixels / pixels.sum(),
        "images": holds.sum(),
        "image_share": holds.mean(),
        "share_where_present": pixels / (seen.sum(axis=1) @ holds),
    }
    areas = pd.concat(regions).groupby("id")["area"]
    areas = areas.agg(regions="size", median_area="median", smallest_area="min", largest_area="max")
    areas = areas.reindex(scored).set_axis(seen.columns)
    areas["regions"] = areas["regions"].fillna(0).astype(int)
    ratio = float(pixels.max() / pixels[pixels > 0].min())
    together, location = (holds.T @ holds).div(holds.sum(), axis=0), np.mean(locations, axis=0)
    frequency, images = pd.DataFrame(frequency), pd.DataFrame(images, columns=IMAGE_COLUMNS)
    return SplitStatistics(counts, frequency, ratio, together, areas, location, images)


def score_colors(train: Sequence, val: Sequence) -> float:
    """Return the pixel accuracy on `val` of a logistic regression that sees one pixel's colour.

    What colour does not give away has to be learned from shape, texture and place. It learns from
    20,000 scored pixels of `train`, and is scored on as many.

    Raises:
        ValueError: a split is empty.
    """
    from sklearn.linear_model import LogisticRegression

    drawn = []
    for stream, split in enumerate((train, val)):
        random, colors, labels = np.random.default_rng([0, stream]), [], []
        for image, ids in _read_pairs(split):
            places = np.flatnonzero(np.isin(ids, split.classes.scored_ids))
            places = random.permutation(places)[: -(-20_000 // len(split))]
            colors.append(image.reshape(-1, image.shape[2])[places] / 127.5 - 1)
            labels.append(ids.ravel()[places])
        drawn += [np.concatenate(colors), np.concatenate(labels)]
    if len(np.unique(drawn[1])) == 1:
        return float((drawn[3] == drawn[1][0]).mean())
    return float(LogisticRegression(max_iter=500).fit(*drawn[:2]).score(*drawn[2:]))


def _read_pairs(split):
    if not len(split):
        raise ValueError("the split is empty: expected at least one pair of image and labels")
    for i in show_progress(range(len(split)), desc="measuring", unit="image"):
        yield split[i]


def _count(labels, num_classes):
    return np.bincount(labels[(labels >= 0) & (labels < num_classes)], minlength=num_classes)


def _locate(labels, num_classes):
    for axis, side in enumerate(labels.shape):  # repeated so that no cell of the grid is empty
        labels = labels.repeat(-(-GRID // side), axis=axis)
    rows, columns = (np.arange(side) * GRID // side for side in labels.shape)
    cells = rows[:, None] * GRID + columns
    found = _count(labels.astype(int) * GRID**2 + cells, num_classes * GRID**2)
    shares = found.reshape(num_classes, -1) / np.bincount(cells.ravel())
    return shares.reshape(num_classes, GRID, GRID)


def class_weights(
    counts: ArrayLike, *, method: str, ignore_label: int | None = None, power: float = 1.0
) -> np.ndarray:
    """Weigh each class by how rare it is.

    - `"none"`: 1 for every class.
    - `"inverse_frequency"`: all scored pixels over the class's pixels times the number of
      classes present; scikit-learn's `"balanced"`.
    - `"median_frequency"`: the frequency of a class is its pixels over all pixels, ignored ones
      included, of the images that hold it; the weight is the median of these frequencies over
      the class's own (Eigen & Fergus 2015, https://arxiv.org/abs/1411.4734).
    - `"effective_number"`: `(1 - beta) / (1 - beta ** pixels)`, scaled to a mean of 1 (Cui et
      al. 2019, https://arxiv.org/abs/1901.05555). `1 / (1 - beta)` is the median of the classes'
      pixels: rarer classes are weighed nearly by inverse frequency, commoner ones nearly alike.

    Args:
        counts: int array `(num_images, num_classes)`, pixels, as `count_pixels` returns it.
        method: str, one of the four.
        ignore_label: int or None, a class that gets 0, as does one without a pixel.
        power: float. The weights are raised to it at the end: 0.5 softens them.

    Returns:
        float32 array `(num_classes,)`.

    Raises:
        ValueError: the method is unknown, `counts` has a wrong shape or holds no scored pixel.

    Example:
        >>> class_weights([[6, 2, 2], [8, 0, 2]], method="median_frequency", ignore_label=2)
        array([0.64285713, 2.25      , 0.        ], dtype=float32)
    """
    counts, present = _find_present(counts, ignore_label)
    weights, pixels = np.zeros(len(present), np.float32), counts.sum(axis=0)[present].astype(float)
    if method == "none":
        chosen = np.ones_like(pixels)
    elif method == "inverse_frequency":
        chosen = pixels.sum() / (len(pixels) * pixels)
    elif method == "median_frequency":
        frequency = pixels / (counts.sum(axis=1) @ (counts[:, present] > 0))
        chosen = np.median(frequency) / frequency
    elif method == "effective_number":
        beta = 1 - 1 / np.median(pixels)
        chosen = (1 - beta) / (1 - beta**pixels)
        chosen = chosen / chosen.mean()
    else:
        raise ValueError(f"unknown method {method!r}: expected one of {', '.join(WEIGHTINGS)}")
    weights[present] = chosen**power
    return weights


def weight_table(counts: ArrayLike, classes: ClassTable) -> pd.DataFrame:
    """Tabulate the weights of each scored class (row) by each method of `class_weights`."""
    ignored, names = classes.ignore_label, pd.Index(classes.names, name="class")
    table = {name: class_weights(counts, method=name, ignore_label=ignored) for name in WEIGHTINGS}
    return pd.DataFrame(table, index=names).iloc[list(classes.scored_ids)]


def image_weights(counts: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Weigh each image by how much it holds of each class, a rare class counting as a common one.

    Draw a class other than `ignore_label`, all equally likely, then one of its pixels: the weight
    is the chance that it lies in this image, times the number of images. `counts` are as of
    `count_pixels`.

    Example:
        >>> image_weights([[4, 0], [4, 0], [4, 4]]).round(3)
        array([0.5, 0.5, 2. ])
    """
    counts, present = _find_present(counts, ignore_label)
    scored = counts[:, present]
    return (scored / scored.sum(axis=0)).mean(axis=1) * len(counts)


def find_rare(counts: ArrayLike, classes: ClassTable) -> dict[str, float]:
    """Return the classes that have less than a quarter of an equal share of the pixels.

    Returns a dict `{name: share}` in the table's order; a class without a pixel is not in it.

    Example:
        >>> table = ClassTable(["road", "car"], [(128, 64, 128), (64, 0, 128)])
        >>> find_rare([[95, 5]], table)
        {'car': 0.05}
    """
    counts, present = _find_present(counts, classes.ignore_label)
    shares = counts.sum(axis=0) / counts[:, list(classes.scored_ids)].sum()
    rare = present & (shares < 0.25 / len(classes.scored_ids))
    return {classes.names[i]: float(shares[i]) for i in rare.nonzero()[0]}


def _find_present(counts, ignore_label):
    """Return counts as an array, and which of the scored classes have a pixel."""
    counts = np.asarray(counts)
    if counts.ndim != 2:
        raise ValueError(f"expected counts (num_images, num_classes), received {counts.shape}")
    present = (counts.sum(axis=0) > 0) & (np.arange(counts.shape[1]) != ignore_label)
    if not present.any():
        raise ValueError("the counts hold no pixel of a scored class: are the labels decoded?")
    return counts, present


@dataclasses.dataclass(frozen=True, repr=False)
class BlendedSplit(PreparedSplit):
    """Pairs as they are, and pairs in which a patch is blended with one of another pair.

    `patches`, int `(m, 2, 3)`, holds pair, row and column of the pair's own patch of this `size`
    and of the other one; `share`, float `(m,)`, how much of the own is kept.
    """

    size: tuple
    patches: np.ndarray
    share: np.ndarray

    def __len__(self):
        return len(self.patches)

    def __getitem__(self, index):
        pair = self.patches[index, 0, 0]
        return np.asarray(self.images[pair]), np.asarray(self.labels[pair])

    @property
    def is_soft(self) -> bool:
        return bool((self.share < 1).any())

    def partner(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the pair with the other patch in place of its own: what it is blended with."""
        image, labels = (np.array(part) for part in self[index])
        own, (pair, *corner) = self.patches[index]
        own, other = _cut(own[1:], self.size), _cut(corner, self.size)
        image[own], labels[own] = self.images[pair][other], self.labels[pair][other]
        return image, labels


def oversample_patches(
    dataset: PreparedDataset, *, method: str = "smote", count: int | None = None, seed: int = 0
) -> PreparedDataset:
    """Add training pairs for rare classes: patches around their pixels, repeated or blended.

    Patches of a quarter of the picture's sides are drawn around random pixels and take the class
    of that pixel. imbalanced-learn makes as many for each class as the commonest one has,
    comparing patches by thumbnails. Each new patch is a pair of its own, in its own surroundings;
    where two are blended, pictures and one-hot labels are blended by the same share.

    Args:
        dataset: PreparedDataset.
        method: "random" repeats patches; "smote" blends one with one of its nearest neighbours of
            the same class (Chawla et al. 2002); "adasyn" does so most where other classes are near
            (He et al. 2008), and makes none for a class that needs few or meets no other.
        count: int, patches drawn before over-sampling; None for about 20 of the rarest class,
            but at least 1000 and at most 10,000 in all.
        seed: int.

    Returns:
        PreparedDataset whose `train` is a BlendedSplit: all pairs as they are, then the new ones.

    Raises:
        ValueError: a class has too few patches, none is rarer than another, `method` is unknown,
            or the pairs are over-sampled already.
    """
    split, random = dataset.train, np.random.default_rng(seed)
    if isinstance(split, BlendedSplit):
        raise ValueError("the pairs are over-sampled already: use those that dataset.prepare made")
    sides, scored = split.images.shape[1:3], split.classes.scored_ids
    size = tuple(max(1, side // 4) for side in sides)
    if count is None:
        pixels = count_pixels(split, num_classes=split.classes.num_classes)[:, list(scored)].sum(0)
        count = int(np.clip(20 * pixels.sum() / pixels[pixels > 0].min(), 1000, 10_000))
    # Twice as many as are wanted, as some pixels are ignored.
    places = [random.integers(side, size=2 * count) for side in (len(split), *sides)]
    ids = split.labels[tuple(places)]
    kept = np.isin(ids, scored).nonzero()[0][:count]
    places, ids = np.column_stack(places)[kept], ids[kept]
    places[:, 1:] -= np.floor_divide(size, 2)
    places[:, 1:] = places[:, 1:].clip(0, np.subtract(sides, size))
    corners = [(pair, *_cut(corner, size)) for pair, *corner in places]
    thumbnails = [resize_image(np.asarray(split.images[corner]), (16, 16)) for corner in corners]
    features = np.reshape(thumbnails, (len(ids), -1)).astype(np.float32) / 255
    first, second, share = blend_samples(features, ids, method, seed)
    own = np.outer(np.arange(len(split)).repeat(2), [1, 0, 0]).reshape(-1, 2, 3)
    patches = np.concatenate([own, np.stack([places[first], places[second]], axis=1)])
    names = [*split.names, *(split.names[i] for i in places[first, 0])]
    share = np.concatenate([np.ones(len(split)), share])
    train = BlendedSplit(split.images, split.labels, names, split.classes, size, patches, share)
    what = f"{dataset.fingerprint} {method} {size} {count} {NEIGHBORS} {seed}"
    fingerprint = hashlib.blake2b(what.encode(), digest_size=16).hexdigest()
    return dataclasses.replace(dataset, train=train, fingerprint=fingerprint)


def blend_samples(features: np.ndarray, ids: np.ndarray, method: str, seed: int) -> tuple:
    """Return which samples imbalanced-learn blends, two arrays, and the first one's share.

    It gets the samples as rows of the identity matrix and finds their neighbours by `features`, so
    each row that it makes holds the shares of the two samples that it is made of.
    """
    import scipy.sparse
    from imblearn.over_sampling import ADASYN, SMOTE, RandomOverSampler
    from sklearn.neighbors import NearestNeighbors

    class Neighbors(NearestNeighbors):
        def fit(self, rows, y=None):
            return super().fit(rows @ features)

        def kneighbors(self, rows, **options):
            return super().kneighbors(rows @ features, **options)

    search = Neighbors(n_neighbors=NEIGHBORS + 1)  # a sample is its own nearest
    samplers = {"random": RandomOverSampler(), "smote": SMOTE(k_neighbors=search)}
    samplers["adasyn"] = ADASYN(n_neighbors=search)
    if method not in samplers:
        raise ValueError(f"expected method of {', '.join(samplers)}, received {method!r}")
    found, counts = np.unique(ids, return_counts=True)
    if method != "random" and counts.min() <= NEIGHBORS:
        few = f"found {counts.min()}: draw more with count="
        raise ValueError(f"{method} needs at least {NEIGHBORS + 1} patches of a class, {few}")
    samples, made = scipy.sparse.eye_array(len(ids), dtype=np.float32, format="csr"), []
    sampler = samplers[method]
    for rare in found[counts < counts.max()]:
        sampler.set_params(sampling_strategy={rare: counts.max()}, random_state=seed)
        # ADASYN refuses a class that needs few new samples or is only among its own.
        with contextlib.suppress(ValueError, RuntimeError):
            made.append(sampler.fit_resample(samples, ids)[0][len(ids) :])
    if not made:
        raise ValueError(f"no class is rarer than another in the patches, or {method} refuses it")
    shares = scipy.sparse.csr_array(scipy.sparse.vstack(made))
    first, share = shares.argmax(axis=1), shares.max(axis=1).toarray().ravel()
    shares[np.arange(len(first)), first] = 0
    return first, np.where(share < 1, shares.argmax(axis=1), first), share


def _cut(corner, size):
    return tuple(slice(start, start + side) for start, side in zip(corner, size, strict=True))


def apply_method(
    method: str,
    dataset: PreparedDataset,
    *,
    augment: bool | Augmentation = True,
    count: int | None = None,
    seed: int = 0,
) -> tuple[PreparedDataset, dict]:
    """Return the data and the arguments of `seglib.train` that a method stands for.

    Weights and over-sampling go with plain cross-entropy.

    Args:
        method: str, one of `TRAINED_METHODS`.
        dataset: PreparedDataset.
        augment: bool or Augmentation; windows and copy-paste add to it.
        count, seed: of patches, as of `oversample_patches`.

    Returns:
        `(PreparedDataset, dict)`, the dict with `loss`, `augment` and what the method adds.

    Raises:
        ValueError: there is no such method, or it cannot be applied to these data.
    """
    from seglib import losses

    if method not in TRAINED_METHODS:
        raise ValueError(f"expected a method of {', '.join(TRAINED_METHODS)}, received {method!r}")
    classes, ignored = dataset.classes, dataset.classes.ignore_label
    settings = {"gamma": 4 / 3} if method == "focal Tversky" else {}
    loss = getattr(losses, LOSSES.get(method, "CrossEntropy"))(ignore_label=ignored, **settings)
    options = {"loss": loss, "augment": augment}
    kind, _, name = method.partition(": ")
    if kind == "patches":
        return oversample_patches(dataset, method=name, count=count, seed=seed), options
    counts = count_pixels(dataset.train, num_classes=classes.num_classes)
    weighting = name.replace(" ", "_") if kind == "weights" else "inverse_frequency"
    weights = class_weights(counts, method=weighting, ignore_label=ignored)
    if kind == "weights":
        options["loss"] = losses.CrossEntropy(weights, ignored)
    elif name == "images":
        options["sampling"] = image_weights(counts, ignore_label=ignored)
    elif kind == "sampling":
        added = {"focus": 0.5, "focus_weights": weights}
        if name == "copy-paste":
            rarer = weights * (weights > np.median(weights[weights > 0]))
            added = {"paste": 0.5, "paste_weights": rarer}
        plain = Augmentation(flip=0, brightness=0, contrast=0)  # where augment is False
        augmentation = choose_augmentation(augment) or plain
        if not isinstance(augmentation, Augmentation):
            raise ValueError(f"{method} adds to a seglib.Augmentation, not to a function: give one")
        options["augment"] = dataclasses.replace(augmentation, **added)
    return dataset, options


def cut_pairs(dataset: PreparedDataset, count: int, *, seed: int = 0) -> tuple:
    """Return the data and epochs that show about `count` pairs: methods are compared alike.

    Epochs are whole and of equal length. Added pairs are left out at random.
    """
    train, own = dataset.train, len(dataset.train.images)
    if not isinstance(train, BlendedSplit):
        return dataset, max(1, round(count / len(train)))
    epochs = max(1, min(-(-count // len(train)), count // own))
    added = own + np.random.default_rng(seed).permutation(len(train) - own)
    rows = np.concatenate([np.arange(own), added[: max(0, count // epochs - own)]])
    names, patches = [train.names[i] for i in rows], train.patches[rows]
    train = dataclasses.replace(train, names=names, patches=patches, share=train.share[rows])
    return dataclasses.replace(dataset, train=train), epochs


def compare_methods(rows: pd.DataFrame, *, rare: list[str]) -> pd.DataFrame:
    """Summarize runs of several methods, seed by seed against plain cross-entropy.

    Args:
        rows: DataFrame, a row a class of a run: method (one is "cross-entropy"), seed, class, iou.
        rare: list of str, the names of the rare classes.

    Returns:
        DataFrame, a row a method, the largest rare_gain first: seeds; mean_iou, rare_iou and
        common_iou, each with _low and _high, the lowest and highest seed; gain and rare_gain, mean
        differences to cross-entropy with the same seeds (NaN where there is none).
    """
    is_rare = rows["class"].isin(rare)
    groups = {"mean_iou": rows, "rare_iou": rows[is_rare], "common_iou": rows[~is_rare]}
    runs = [group.groupby(["method", "seed"])["iou"].mean() for group in groups.values()]
    runs = pd.concat(runs, axis=1, keys=groups)
    gains = (runs - runs.loc["cross-entropy"]).groupby("method").mean()
    methods = runs.groupby("method")
    lowest, highest = methods.min().add_suffix("_low"), methods.max().add_suffix("_high")
    table = methods.size().to_frame("seeds").join([methods.mean(), lowest, highest])
    table = table.assign(gain=gains["mean_iou"], rare_gain=gains["rare_iou"])
    return table.sort_values("rare_gain", ascending=False)


class BalanceAdvice(NamedTuple):
    """A method of `TRAINED_METHODS` for rare classes, and the reasons for it."""

    method: str
    reasons: list[str]


def recommend_balance(dataset: PreparedDataset) -> BalanceAdvice:
    """Recommend a loss, weights or a way to sample, by what methods gained on CamVid.

    One of them: methods were measured one at a time, and their gains do not add up.
    `seglib.apply_method(advice.method, dataset)` follows the advice.
    """
    counts = count_pixels(dataset.train, num_classes=dataset.classes.num_classes)
    rare = find_rare(counts, dataset.classes)
    if not rare:
        return BalanceAdvice("cross-entropy", ["no class is rare: nothing has to be made up for"])
    # One lucky seed is no evidence, and no method may cost all classes a point.
    table = pd.read_csv(MEASURED, index_col="method").query("seeds > 1 and gain >= -0.01")
    row = table[table.index.isin(TRAINED_METHODS)].nlargest(1, "rare_gain").iloc[0]
    reasons = [f"{name} has {share:.2%} of the pixels" for name, share in rare.items()]
    reasons.append(
        f"{row.name} gained {100 * row['rare_gain']:.1f} points of mean IoU for rare classes and "
        f"{100 * row['gain']:.1f} for all, against cross-entropy, in {row['seeds']:.0f} runs"
    )
    return BalanceAdvice(row.name, reasons)
