"""What predictions score: confusion matrices, the figures that follow, and reports of a split.

A figure takes an array of matrices `(..., k, k)`, row true and column predicted, and returns one
value for each, or one a class. True pixels of the class `ignore_label` count nowhere, and its
figure is NaN; predicting it is still an error of the true class.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import spatial
from skimage import measure

from seglib.classes import ClassTable
from seglib.system import make_folder, replacing


def confusion_matrix(
    y_true: ArrayLike, y_pred: ArrayLike, *, num_classes: int, ignore_label: int | None = None
) -> np.ndarray:
    """Count how often each true class was predicted as each class.

    Matrices add, so a large set can be scored one batch at a time.

    Args:
        y_true, y_pred: int arrays of one shape, ids in `[0, num_classes)`.
        num_classes: int. Includes the background.
        ignore_label: int or None. Pixels whose true id is this are skipped.

    Returns:
        int64 array `(num_classes, num_classes)`; row is the true class, column the predicted one.

    Raises:
        ValueError: the shapes differ, or an id is out of range.

    Example:
        >>> confusion_matrix([0, 0, 1, 255], [0, 1, 1, 1],
        ...                  num_classes=2, ignore_label=255)
        array([[1, 1],
               [0, 1]])
    """
    y_true, y_pred, valid = _check_labels(y_true, y_pred, num_classes, ignore_label)
    pairs = y_true[valid] * num_classes + y_pred[valid]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Intersection over union of each class, also called the Jaccard index.

    NaN for a class that is neither true nor predicted anywhere.

    Example:
        >>> class_iou([[1, 1, 0], [0, 2, 0], [0, 0, 0]]).round(3)
        array([0.5  , 0.667,   nan])
    """
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(hits, true + predicted - hits)


def class_f1(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """F1 score of each class, also called Dice; NaN as in `class_iou`."""
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(2 * hits, true + predicted)


def class_dice(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """`class_f1` as contests score a picture: 1 for a class that it neither shows nor is given.

    Example:
        >>> class_dice([[1, 1, 0], [0, 2, 0], [0, 0, 0]]).round(3)
        array([0.667, 0.8  , 1.   ])
    """
    hits, true, predicted = _count(matrix, ignore_label)
    return np.where(true + predicted == 0, 1, _divide(2 * hits, true + predicted))


def class_precision(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Share of each class's predicted pixels that are right, 0 for a class never predicted."""
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(hits, np.where(true > 0, np.maximum(predicted, 1), predicted))


def class_recall(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Share of each class's true pixels that are found, 0 for a class only predicted."""
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(hits, np.where(predicted > 0, np.maximum(true, 1), true))


def pixel_accuracy(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Share of all pixels that are right."""
    hits, true, _ = _count(matrix, ignore_label)
    return _divide(np.nansum(hits, axis=-1), np.nansum(true, axis=-1))[()]


def mean_iou(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Mean of `class_iou` over the classes that are true or predicted somewhere.

    Example:
        >>> float(mean_iou([[1, 1, 0], [0, 3, 0], [0, 0, 0]]))
        0.625
    """
    return _mean(class_iou(matrix, ignore_label=ignore_label))


def mean_accuracy(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Mean of `class_recall` over the classes that are true somewhere."""
    hits, true, _ = _count(matrix, ignore_label)
    return _mean(_divide(hits, true))


def frequency_weighted_iou(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Mean of `class_iou`, each class weighted by its number of true pixels."""
    hits, true, predicted = _count(matrix, ignore_label)
    weighted = true * _divide(hits, true + predicted - hits)
    return _divide(np.nansum(weighted, axis=-1), np.nansum(true, axis=-1))[()]


def boundary_f1(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    num_classes: int,
    ignore_label: int | None = None,
    tolerance: float | None = None,
) -> np.ndarray:
    """Score how well the outline of each class is met in one image.

    A boundary pixel has a 4-neighbour of another class. Precision is the share of a class's
    predicted boundary pixels within `tolerance` of a true one, recall the reverse. Ignored pixels
    are neither boundary pixels nor another class. A class that has no boundary in truth and
    prediction, as when it fills the image, scores 1 if it covers the same pixels in both, else 0.

    Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013.

    Args:
        y_true, y_pred, num_classes, ignore_label: as in `confusion_matrix`, `(height, width)`.
        tolerance: float. Pixels; None takes 0.75 % of the image diagonal, rounded up.

    Returns:
        float64 array `(num_classes,)` in [0, 1]; NaN for a class that is not in the truth.

    Example:
        >>> boundary_f1([[0, 0, 0, 1]], [[0, 0, 1, 1]], num_classes=3, tolerance=1)
        array([ 1.,  1., nan])
    """
    y_true, y_pred, valid = _check_labels(y_true, y_pred, num_classes, ignore_label)
    if tolerance is None:
        tolerance = np.ceil(0.0075 * np.hypot(*y_true.shape))
    outlines = [_find_outline(labels, valid) for labels in (y_true, y_pred)]
    scores = np.full(num_classes, np.nan)
    for i in np.unique(y_true[valid]):
        masks = [(labels == i) & valid for labels in (y_true, y_pred)]
        true, predicted = map(np.argwhere, np.logical_and(masks, outlines))
        if len(true) or len(predicted):
            recall = _share_near(true, predicted, tolerance)
            precision = _share_near(predicted, true, tolerance)
            scores[i] = 2 * precision * recall / max(precision + recall, 1e-300)
        else:
            scores[i] = np.array_equal(*masks)
    return scores


def bootstrap_interval(
    matrices: ArrayLike, statistic: Callable, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % bootstrap interval `(low, high)` of a figure over images.

    Whole images are resampled 1,000 times, as pixels of an image are not independent; resamples
    where the figure is NaN are left out.
    """
    matrices = np.asarray(matrices, np.float64)
    n, rng = len(matrices), np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=(10, 100)).astype(np.float64)
    # In ten parts, so that the matrices of many classes fit into memory.
    values = np.concatenate([statistic(np.tensordot(c, matrices, axes=1)) for c in counts])
    bounds = np.full((2, *values.shape[1:]), np.nan)
    some = ~np.isnan(values).all(axis=0)  # nanquantile warns where all are NaN
    bounds[:, some] = np.nanquantile(values[:, some], [0.025, 0.975], axis=0)
    return bounds[0][()], bounds[1][()]


FIGURES = (pixel_accuracy, mean_iou, mean_accuracy, frequency_weighted_iou)


@dataclasses.dataclass(eq=False, repr=False)
class Report:
    """What a model scored on a split; `create_report` makes it.

    Args:
        matrices: int64 array `(n, k, k)`, the confusion matrix of each image.
        per_image: DataFrame, a row for each image: image (its name), pixel_accuracy, mean_iou,
            boundary_f1, latency_ms (NaN where it was not measured), dice (mean over classes).
        per_class: DataFrame by class name, a row for each scored class in the order of ids:
            iou with iou_low and iou_high, f1, precision, recall, boundary_f1 (mean over the images
            that hold the class), its support in the truth: pixels, images, and dice (mean over all
            images, 1 for one where the class is neither true nor predicted, as contests score).
        pixel_accuracy, mean_iou, mean_accuracy, frequency_weighted_iou: float, of `confusion`.
        boundary_f1, dice: float, the mean over classes of those of `per_class`.
        intervals: dict `{figure: (low, high)}` of the figures that follow from the matrix; 95 %
            bootstrap intervals over images.
    """

    matrices: np.ndarray
    per_image: pd.DataFrame
    per_class: pd.DataFrame
    pixel_accuracy: float
    mean_iou: float
    mean_accuracy: float
    frequency_weighted_iou: float
    boundary_f1: float
    dice: float
    intervals: dict

    @property
    def confusion(self) -> np.ndarray:
        """int64 array `(k, k)`, summed over the images; row true, column predicted."""
        return self.matrices.sum(axis=0)

    def summary(self) -> pd.DataFrame:
        """Return a table with a row for each figure: value, low, high (NaN: no interval)."""
        rows = {name: (getattr(self, name), *bounds) for name, bounds in self.intervals.items()}
        rows |= {name: (getattr(self, name), np.nan, np.nan) for name in ("boundary_f1", "dice")}
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])
        return table.rename_axis("figure")

    def worst(self, n: int = 5) -> list[str]:
        """Return the names of the `n` images with the lowest mean IoU, lowest first."""
        return self.per_image.nsmallest(n, "mean_iou")["image"].tolist()

    def best(self, n: int = 5) -> list[str]:
        """Return the names of the `n` images with the highest mean IoU, highest first."""
        return self.per_image.nlargest(n, "mean_iou")["image"].tolist()

    def write(self, folder: str | os.PathLike) -> list[pathlib.Path]:
        """Write results.csv (a row an image), per_class.csv and summary.csv; return the paths."""
        folder = make_folder(folder, "the report")
        tables = self.per_image.set_index("image"), self.per_class, self.summary()
        paths = [folder / name for name in ("results.csv", "per_class.csv", "summary.csv")]
        for table, path in zip(tables, paths, strict=True):
            with replacing(path) as temporary:  # names need not be UTF-8
                table.to_csv(temporary, errors="surrogateescape")
        return paths

    def __repr__(self):
        figures = f"pixel accuracy: {self.pixel_accuracy:.3f}, mean IoU: {self.mean_iou:.3f}"
        return f"Report(images: {len(self.per_image)}, {figures})"


def create_report(
    pairs: Iterable, classes: ClassTable, *, names: Sequence[str] | None = None, seed: int = 0
) -> Report:
    """Score pairs of true and predicted labels, one image at a time.

    Args:
        pairs: iterable of (labels_true, labels_pred), int arrays `(height, width)`; images may
            differ in size. A third item is the milliseconds that it took. Consumed one at a time.
        classes: ClassTable. Pixels whose true id is its ignore label count nowhere.
        names: sequence of str, one for each image. None numbers them from 0.
        seed: int, of the bootstrap intervals.

    Raises:
        ValueError: there is no pair, or a pair is no pair of label maps of this table (its number
            is named).

    Example:
        >>> from seglib.classes import ClassTable
        >>> classes = ClassTable(["road", "sky"], [(128, 64, 128), (70, 130, 180)])
        >>> create_report([([[1, 1], [0, 0]], [[1, 1], [1, 0]])], classes)
        Report(images: 1, pixel accuracy: 0.750, mean IoU: 0.583)
    """
    ignored = {"ignore_label": classes.ignore_label}
    matrices, boundaries, latencies = [], [], []
    for number, (*maps, milliseconds) in enumerate((*pair, np.nan)[:3] for pair in pairs):
        latencies.append(milliseconds)
        try:
            matrices.append(confusion_matrix(*maps, num_classes=classes.num_classes, **ignored))
            boundaries.append(boundary_f1(*maps, num_classes=classes.num_classes, **ignored))
        except ValueError as error:
            raise ValueError(f"image number {number}, counted from 0: {error}") from None
    if not matrices:
        raise ValueError("nothing to report: the split is empty, expected one image at least")
    matrices, boundaries = np.stack(matrices), pd.DataFrame(np.stack(boundaries))
    confusion, pixels = matrices.sum(axis=0), matrices.sum(axis=2)

    def score(matrices):  # each figure, and then the IoU of each class
        return np.column_stack([figure(matrices, **ignored) for figure in (*FIGURES, class_iou)])

    dice = pd.DataFrame(class_dice(matrices, **ignored))
    bounds = bootstrap_interval(matrices, score, seed=seed)
    values, low, high = (x.tolist() for x in (score(confusion[None])[0], *bounds))
    figures, iou = [figure.__name__ for figure in FIGURES], slice(len(FIGURES), None)
    per_image = {
        "image": list(map(str, range(len(matrices)) if names is None else names)),
        "pixel_accuracy": pixel_accuracy(matrices, **ignored),
        "mean_iou": mean_iou(matrices, **ignored),
        "boundary_f1": boundaries.mean(axis=1),
        "latency_ms": np.array(latencies, float),
        "dice": dice.mean(axis=1),
    }
    per_class = {
        "iou": values[iou],
        "iou_low": low[iou],
        "iou_high": high[iou],
        "f1": class_f1(confusion, **ignored),
        "precision": class_precision(confusion, **ignored),
        "recall": class_recall(confusion, **ignored),
        "boundary_f1": boundaries.mean(axis=0),
        "pixels": pixels.sum(axis=0),
        "images": (pixels > 0).sum(axis=0),
        "dice": dice.mean(axis=0),
    }
    index = pd.Index(classes.names, name="class")
    table = pd.DataFrame(per_class).set_axis(index).iloc[list(classes.scored_ids)]
    return Report(
        matrices=matrices,
        per_image=pd.DataFrame(per_image),
        per_class=table,
        **dict(zip(figures, values, strict=False)),
        boundary_f1=float(table["boundary_f1"].mean()),
        dice=float(table["dice"].mean()),
        intervals=dict(zip(figures, zip(low, high, strict=True), strict=False)),
    )


def find_regions(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the regions of a label map, which are connected by sides or corners, from 1 on.

    Returns the int array of numbers, and each number's class id and pixel count; 0 has id -1.
    """
    regions = measure.label(labels, background=-1, connectivity=2)
    areas = np.bincount(regions.ravel())
    ids = np.full(len(areas), -1)
    ids[regions] = labels
    return regions, ids, areas


def score_min_sizes(
    pairs: Iterable, sizes: Sequence[int], *, num_classes: int, ignore_label: int | None = None
) -> np.ndarray:
    """Return the mean `class_dice` of images, float64 `(sizes, num_classes)`.

    It is that without predicted regions below each size; `pairs` are (labels_true, labels_pred).
    """
    scores = []
    for truth, predicted in pairs:
        regions, ids, areas = find_regions(predicted)
        kept, of_class = areas >= np.array(sizes)[:, None], ids[:, None] == np.arange(num_classes)
        valid = truth != ignore_label
        right = valid & (truth == predicted)
        pixels, hits = (np.bincount(regions[some], minlength=len(areas)) for some in (valid, right))
        total = (kept * pixels) @ of_class + np.bincount(truth[valid], minlength=num_classes)
        scores.append(np.where(total == 0, 1, _divide(2 * (kept * hits) @ of_class, total)))
    return np.mean(scores, axis=0)


def _check_labels(y_true, y_pred, num_classes, ignore_label):
    """Return both as int64, and which pixels count."""
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    valid = np.ones(y_true.shape, bool) if ignore_label is None else y_true != ignore_label
    for name, labels in (("y_true", y_true), ("y_pred", y_pred)):
        if labels.shape != y_true.shape or (labels.size and labels.dtype.kind not in "iub"):
            found = f"received {labels.dtype} of shape {labels.shape}"
            raise ValueError(f"{name}: expected integer ids of shape {y_true.shape}, {found}")
        ids = labels[valid]
        if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
            found = f"received {ids.min()} to {ids.max()}; give an ignored one as ignore_label="
            raise ValueError(f"{name}: expected ids in [0, {num_classes}), {found}")
    return y_true.astype(np.int64), y_pred.astype(np.int64), valid


def _count(matrix, ignore_label):
    """Return hits, true and predicted pixels, float64 `(3, ..., k)`, NaN for the ignored class."""
    matrix = np.array(matrix, np.float64)
    ignored = np.arange(matrix.shape[-1]) == (-1 if ignore_label is None else ignore_label)
    matrix[..., ignored, :] = 0
    counts = np.stack([np.einsum("...ii->...i", matrix), matrix.sum(axis=-1), matrix.sum(axis=-2)])
    counts[..., ignored] = np.nan
    return counts


def _divide(numerator, denominator):
    """Quotients, NaN where a denominator is 0 or NaN."""
    nothing = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)


def _mean(values):
    return _divide(np.nansum(values, axis=-1), np.sum(~np.isnan(values), axis=-1))[()]


def _find_outline(labels, valid):
    """Return where the boundary pixels are, bool `(height, width)`."""
    found = np.zeros(labels.shape, bool)
    for ids, ok, out in ((labels, valid, found), (labels.T, valid.T, found.T)):
        differ = (ids[1:] != ids[:-1]) & ok[1:] & ok[:-1]
        out[1:] |= differ
        out[:-1] |= differ
    return found


def _share_near(points, targets, tolerance):
    """Share of the points within `tolerance` of a target; 0 where there is neither."""
    if not len(points) or not len(targets):
        return 0.0
    distance, _ = spatial.cKDTree(targets).query(points, distance_upper_bound=tolerance + 1)
    return float(np.mean(distance <= tolerance))
