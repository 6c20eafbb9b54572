"""What predictions score: confusion matrices, the figures that follow, and reports of a split.

Figures work over leading axes: one matrix, one an image, or a thousand resampled ones.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from seglib.classes import ClassTable
from seglib.system import make_folder


def confusion_matrix(
    y_true: ArrayLike, y_pred: ArrayLike, *, num_classes: int, ignore_label: int | None = None
) -> np.ndarray:
    """Count how often each true class was predicted as each class.

    Matrices add, so a large set can be scored one batch at a time.

    Args:
        y_true: int array, any shape. Ids in `[0, num_classes)` or `ignore_label`.
        y_pred: int array, same shape. Ids in `[0, num_classes)`.
        num_classes: int. Includes the background.
        ignore_label: int or None. Pixels whose true id is this are skipped.

    Returns:
        int64 array of shape `(num_classes, num_classes)`; row is the true
        class, column the predicted one.

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

    Args:
        matrix: array `(..., k, k)` of counts, row true and column predicted.
        ignore_label: int or None. True pixels of this class count nowhere and its figure is NaN;
            predicting it is still an error of the true class.

    Returns:
        float64 array `(..., k)` in [0, 1]; NaN for a class neither true nor predicted anywhere.

    Raises:
        ValueError: the matrix is not square.

    Example:
        >>> class_iou([[1, 1, 0], [0, 2, 0], [0, 0, 0]]).round(3)
        array([0.5  , 0.667,   nan])
    """
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(hits, true + predicted - hits)


def class_f1(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """F1 score of each class, also called Dice; arguments and NaN as in `class_iou`.

    Example:
        >>> class_f1([[1, 1], [0, 2]]).round(3)
        array([0.667, 0.8  ])
    """
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(2 * hits, true + predicted)


def class_precision(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Share of each class's predicted pixels that are right, 0 for a class never predicted.

    Arguments and NaN as in `class_iou`.

    Example:
        >>> class_precision([[1, 1], [0, 2]]).round(3)
        array([1.   , 0.667])
    """
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(hits, np.where(true > 0, np.maximum(predicted, 1), predicted))


def class_recall(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Share of each class's true pixels that are found, 0 for a class only predicted.

    Arguments and NaN as in `class_iou`.

    Example:
        >>> class_recall([[1, 1], [0, 2]])
        array([0.5, 1. ])
    """
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(hits, np.where(predicted > 0, np.maximum(true, 1), true))


def pixel_accuracy(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Share of all pixels that are right; arguments as in `class_iou`, one figure a matrix.

    Example:
        >>> float(pixel_accuracy([[1, 1], [0, 2]]))
        0.75
    """
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
    """Mean of `class_recall` over the classes that are true somewhere.

    Example:
        >>> float(mean_accuracy([[1, 1, 0], [0, 1, 1], [0, 0, 0]]))
        0.5
    """
    hits, true, _ = _count(matrix, ignore_label)
    return _mean(_divide(hits, true))


def frequency_weighted_iou(matrix: ArrayLike, *, ignore_label: int | None = None) -> np.ndarray:
    """Mean of `class_iou`, each class weighted by its number of true pixels.

    Example:
        >>> round(float(frequency_weighted_iou([[1, 1], [0, 2]])), 3)
        0.583
    """
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
    """Say how well the outline of each class is met in one image.

    A boundary pixel has a 4-neighbour of another class. Precision is the share of a class's
    predicted boundary pixels within `tolerance` of a true one, recall the reverse. Ignored pixels
    are neither boundary pixels nor another class. A class that has no boundary in truth and
    prediction, as when it fills the image, scores 1 if it covers the same pixels in both, else 0.

    Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013.

    Args:
        y_true: int array `(height, width)`. Ids in `[0, num_classes)` or `ignore_label`.
        y_pred: int array, same shape. Ids in `[0, num_classes)`.
        num_classes: int.
        ignore_label: int or None. Pixels whose true id is this take no part.
        tolerance: float. Pixels; None takes 0.75 % of the image diagonal, rounded up.

    Returns:
        float64 array `(num_classes,)` in [0, 1]; NaN for a class that is not in the truth.

    Raises:
        ValueError: the shapes differ or are not 2D, or an id is out of range.

    Example:
        >>> boundary_f1([[0, 0, 0, 1]], [[0, 0, 1, 1]], num_classes=3, tolerance=1)
        array([ 1.,  1., nan])
    """
    y_true, y_pred, valid = _check_labels(y_true, y_pred, num_classes, ignore_label)
    if y_true.ndim != 2:
        raise ValueError(f"expected labels of shape (height, width), received {y_true.shape}")
    if tolerance is None:
        tolerance = np.ceil(0.0075 * np.hypot(*y_true.shape))
    outlines = [_find_outline(labels, valid) for labels in (y_true, y_pred)]
    scores = np.full(num_classes, np.nan)
    for i in np.unique(y_true[valid]):
        true, predicted = (
            np.argwhere(outline & (labels == i))
            for outline, labels in zip(outlines, (y_true, y_pred), strict=True)
        )
        if len(true) or len(predicted):
            recall = _share_near(true, predicted, tolerance)
            precision = _share_near(predicted, true, tolerance)
            scores[i] = 2 * precision * recall / max(precision + recall, 1e-300)
        else:
            scores[i] = np.array_equal((y_true == i) & valid, (y_pred == i) & valid)
    return scores


def bootstrap_interval(
    matrices: ArrayLike, statistic: Callable, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a figure, had other images of the same kind been scored.

    Images are resampled with replacement 1,000 times, not pixels: the pixels of one image are not
    independent.

    Args:
        matrices: array `(n, k, k)`, the confusion matrix of each image.
        statistic: function of an array `(r, k, k)` that returns `(r, ...)`, as `mean_iou` does.
        seed: int.

    Returns:
        Two float64 arrays, low and high, in the shape of the figure. Resamples where it is NaN
        are left out.

    Example:
        >>> low, high = bootstrap_interval([[[1, 1], [0, 2]]] * 3, pixel_accuracy)
        >>> float(low), float(high)
        (0.75, 0.75)
    """
    matrices = np.asarray(matrices, np.float64)
    rng, chances = np.random.default_rng(seed), np.full(len(matrices), 1 / len(matrices))
    values = []
    for _ in range(10):  # in parts, so that the matrices of many classes fit into memory
        counts = rng.multinomial(len(matrices), chances, size=100).astype(np.float64)
        values.append(statistic(np.tensordot(counts, matrices, axes=1)))
    values = np.concatenate(values)
    bounds = np.full((2, *values.shape[1:]), np.nan)
    some = ~np.isnan(values).all(axis=0)  # nanquantile warns where all are NaN
    bounds[:, some] = np.nanquantile(values[:, some], [0.025, 0.975], axis=0)
    return bounds[0][()], bounds[1][()]


MATRIX_FIGURES = {
    "pixel_accuracy": pixel_accuracy,
    "mean_iou": mean_iou,
    "mean_accuracy": mean_accuracy,
    "frequency_weighted_iou": frequency_weighted_iou,
}


@dataclasses.dataclass(eq=False, repr=False)
class Report:
    """What a model scored on a split; `create_report` makes it.

    Args:
        classes: ClassTable.
        confusion: int64 array `(k, k)`, summed over the images; row true, column predicted.
        per_image: DataFrame, a row for each image: image (its name), pixel_accuracy, mean_iou,
            boundary_f1, latency_ms (NaN where it was not measured).
        per_class: DataFrame by class name, a row for each scored class in the order of ids:
            iou with iou_low and iou_high, f1, precision, recall, boundary_f1 (mean over the images
            that hold the class), and its support in the truth: pixels, images.
        pixel_accuracy, mean_iou, mean_accuracy, frequency_weighted_iou: float, of `confusion`.
        boundary_f1: float, the mean over classes of `per_class.boundary_f1`.
        intervals: dict `{figure: (low, high)}` of the figures that follow from the matrix; 95 %
            bootstrap intervals over images.
    """

    classes: ClassTable
    confusion: np.ndarray
    per_image: pd.DataFrame
    per_class: pd.DataFrame
    pixel_accuracy: float
    mean_iou: float
    mean_accuracy: float
    frequency_weighted_iou: float
    boundary_f1: float
    intervals: dict

    def summary(self) -> pd.DataFrame:
        """Return a table with a row for each figure: value, low, high (NaN: no interval)."""
        rows = {
            name: (getattr(self, name), *self.intervals.get(name, (np.nan, np.nan)))
            for name in (*MATRIX_FIGURES, "boundary_f1")
        }
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])
        return table.rename_axis("figure")

    def worst(self, n: int = 5) -> list[str]:
        """Return the names of the `n` images with the lowest mean IoU, the worst first."""
        return self.per_image.sort_values("mean_iou", kind="stable")["image"].tolist()[:n]

    def best(self, n: int = 5) -> list[str]:
        """Return the names of the `n` images with the highest mean IoU, the best first."""
        order = self.per_image.sort_values("mean_iou", ascending=False, kind="stable")
        return order["image"].tolist()[:n]

    def write(self, folder: str | os.PathLike) -> list[pathlib.Path]:
        """Write results.csv (a row for each image), per_class.csv and summary.csv to a folder.

        Returns:
            list of the three paths.
        """
        folder = make_folder(folder, "the report")
        paths = [folder / name for name in ("results.csv", "per_class.csv", "summary.csv")]
        self.per_image.to_csv(paths[0], index=False)
        self.per_class.to_csv(paths[1])
        self.summary().to_csv(paths[2])
        return paths

    def __repr__(self):
        count = len(self.per_image)
        return (
            f"Report({count} image{'s' * (count != 1)}: pixel accuracy {self.pixel_accuracy:.3f}, "
            f"mean IoU {self.mean_iou:.3f})"
        )


def create_report(
    pairs: Iterable,
    classes: ClassTable,
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Report:
    """Score pairs of true and predicted labels, one image at a time.

    Args:
        pairs: iterable of (labels_true, labels_pred), int arrays `(height, width)`; images may
            differ in size. A third item is the milliseconds that it took. Consumed one at a time.
        classes: ClassTable. Pixels whose true id is its ignore label count nowhere.
        names: sequence of str, a name for each image. None numbers them from 0.
        seed: int, of the bootstrap intervals.

    Returns:
        Report.

    Raises:
        ValueError: there is no pair, a pair is no pair of label maps of this table (its number is
            named), or names are not as many as the images.

    Example:
        >>> from seglib.classes import ClassTable
        >>> classes = ClassTable(["road", "sky"], [(128, 64, 128), (70, 130, 180)])
        >>> create_report([([[1, 1], [0, 0]], [[1, 1], [1, 0]])], classes)
        Report(1 image: pixel accuracy 0.750, mean IoU 0.583)
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
    names = list(range(len(matrices)) if names is None else names)
    if len(names) != len(matrices):
        raise ValueError(f"expected {len(matrices)} names, one an image, received {len(names)}")
    matrices, boundaries = np.stack(matrices), pd.DataFrame(np.stack(boundaries))
    confusion, pixels = matrices.sum(axis=0), matrices.sum(axis=2)

    def score(matrix):  # each figure of matrices, and then the IoU of each class
        figures = [figure(matrix, **ignored) for figure in MATRIX_FIGURES.values()]
        return np.concatenate([np.stack(figures, axis=-1), class_iou(matrix, **ignored)], axis=-1)

    values, count = score(confusion).tolist(), len(MATRIX_FIGURES)
    low, high = bootstrap_interval(matrices, score, seed=seed)
    bounds = zip(low[:count].tolist(), high[:count].tolist(), strict=True)
    per_image = {
        "image": [str(name) for name in names],
        "pixel_accuracy": pixel_accuracy(matrices, **ignored),
        "mean_iou": mean_iou(matrices, **ignored),
        "boundary_f1": boundaries.mean(axis=1),
        "latency_ms": np.array(latencies, float),
    }
    per_class = {
        "iou": values[count:],
        "iou_low": low[count:],
        "iou_high": high[count:],
        "f1": class_f1(confusion, **ignored),
        "precision": class_precision(confusion, **ignored),
        "recall": class_recall(confusion, **ignored),
        "boundary_f1": boundaries.mean(axis=0),
        "pixels": pixels.sum(axis=0),
        "images": (pixels > 0).sum(axis=0),
    }
    table = pd.DataFrame(per_class).iloc[list(classes.scored_ids)]
    table.index = pd.Index([classes.names[i] for i in classes.scored_ids], name="class")
    return Report(
        classes=classes,
        confusion=confusion,
        per_image=pd.DataFrame(per_image),
        per_class=table,
        **dict(zip(MATRIX_FIGURES, values[:count], strict=True)),
        boundary_f1=float(table["boundary_f1"].mean()),
        intervals=dict(zip(MATRIX_FIGURES, bounds, strict=True)),
    )


def find_regions(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the regions of a label map: pixels of one class that touch at a side or a corner.

    Args:
        labels: int array `(height, width)`.

    Returns:
        int array `(height, width)` of numbers from 1 on; and by number, of which 0 is no region,
        int arrays of the regions' ids (that of no region is -1) and of their pixels.

    Example:
        >>> regions, ids, areas = find_regions(np.array([[5, 5, 7], [0, 5, 7]]))
        >>> ids, areas
        (array([-1,  5,  7,  0]), array([0, 3, 2, 1]))
    """
    from skimage.measure import label

    regions = label(labels, background=-1, connectivity=2)
    areas = np.bincount(regions.ravel())
    ids = np.full(len(areas), -1)
    ids[regions] = labels
    return regions, ids, areas


def _check_labels(y_true, y_pred, num_classes, ignore_label):
    """Return both as int64, and which pixels count."""
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if y_true.shape != y_pred.shape:
        raise ValueError(f"y_true has shape {y_true.shape}, but y_pred has shape {y_pred.shape}")
    valid = np.ones(y_true.shape, bool) if ignore_label is None else y_true != ignore_label
    for name, labels in (("y_true", y_true), ("y_pred", y_pred)):
        if labels.size and labels.dtype.kind not in "iub":
            raise ValueError(f"{name}: expected integer ids, received {labels.dtype}")
        ids = labels[valid]
        if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
            raise ValueError(
                f"{name}: expected ids in [0, {num_classes}), received {ids.min()} to {ids.max()}; "
                f"give the id of pixels without a class as ignore_label (now {ignore_label})"
            )
    return y_true.astype(np.int64), y_pred.astype(np.int64), valid


def _count(matrix, ignore_label):
    """Return hits, true and predicted pixels, float64 `(3, ..., k)`, NaN for the ignored class."""
    matrix = np.array(matrix, np.float64)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"expected a square confusion matrix (..., k, k), received {matrix.shape}")
    ignored = np.arange(matrix.shape[-1]) == (-1 if ignore_label is None else ignore_label)
    matrix[..., ignored, :] = 0
    counts = np.stack([np.einsum("...ii->...i", matrix), matrix.sum(axis=-1), matrix.sum(axis=-2)])
    counts[..., ignored] = np.nan
    return counts


def _divide(numerator, denominator):
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
    from scipy.spatial import cKDTree

    if not len(points) or not len(targets):
        return 0.0
    distance, _ = cKDTree(targets).query(points, distance_upper_bound=tolerance + 1)
    return float(np.mean(distance <= tolerance))
