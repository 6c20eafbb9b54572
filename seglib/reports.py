"""Score a whole split: every figure, for each image and for each class, with its interval."""

import contextlib
import csv
import dataclasses
import itertools
import pathlib

import numpy as np

from seglib import metrics
from seglib.system import make_folder

MATRIX_FIGURES = ("pixel_accuracy", "mean_iou", "mean_accuracy", "frequency_weighted_iou")


@dataclasses.dataclass(eq=False, repr=False)
class Report:
    """What a model scored on a split; `create_report` makes it.

    Args:
        classes: ClassTable.
        confusion: int64 array `(k, k)`, summed over the images; row true, column predicted.
        per_image: DataFrame, a row for each image: image (its name), pixel_accuracy, mean_iou,
            boundary_f1, latency_ms (NaN where it was not measured).
        per_class: DataFrame, a row for each scored class in the order of ids, its name the index:
            iou with iou_low and iou_high, f1, precision, recall, boundary_f1 (mean over the images
            that hold the class), and its support in the truth: pixels, images.
        intervals: dict `{figure: (low, high)}` for the figures that follow from the matrix; 95 %
            bootstrap intervals over images.
    """

    classes: object
    confusion: np.ndarray
    per_image: object
    per_class: object
    intervals: dict

    @property
    def pixel_accuracy(self):
        """float, the share of pixels that are right."""
        return self._figure("pixel_accuracy")

    @property
    def mean_iou(self):
        """float, the mean IoU of the classes, from the matrix of the whole split."""
        return self._figure("mean_iou")

    @property
    def mean_accuracy(self):
        """float, the mean recall of the classes."""
        return self._figure("mean_accuracy")

    @property
    def frequency_weighted_iou(self):
        """float, the mean IoU, weighted by how many pixels a class has."""
        return self._figure("frequency_weighted_iou")

    @property
    def boundary_f1(self):
        """float, the mean over classes of `per_class.boundary_f1`."""
        return float(self.per_class["boundary_f1"].mean())

    def summary(self):
        """Return a DataFrame with a row for each figure: value, low, high (NaN: no interval)."""
        import pandas as pd

        rows = {
            name: (getattr(self, name), *self.intervals.get(name, (np.nan, np.nan)))
            for name in (*MATRIX_FIGURES, "boundary_f1")
        }
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])
        return table.rename_axis("figure")

    def worst(self, n=5):
        """Return the names of the `n` images with the lowest mean IoU, the worst first."""
        return self._rank(ascending=True)[:n]

    def best(self, n=5):
        """Return the names of the `n` images with the highest mean IoU, the best first."""
        return self._rank(ascending=False)[:n]

    def write(self, folder):
        """Write results.csv (a row for each image), per_class.csv and summary.csv.

        Args:
            folder: str or path; made if it is missing.

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

    def _figure(self, name):
        figure = getattr(metrics, name)
        return float(figure(self.confusion, ignore_label=self.classes.ignore_label))

    def _rank(self, *, ascending):
        order = self.per_image.sort_values("mean_iou", ascending=ascending, kind="stable")
        return order["image"].tolist()


def create_report(pairs, classes, *, names=None, latencies=None, seed=0):
    """Score pairs of true and predicted labels, one image at a time.

    Args:
        pairs: iterable of (labels_true, labels_pred), int arrays `(height, width)`; images may
            differ in size. Consumed once, one pair at a time.
        classes: ClassTable. Pixels whose true id is its ignore label count nowhere.
        names: sequence of str, a name for each image. None numbers them from 0.
        latencies: sequence of float, milliseconds an image. Read after the last pair, so what
            yields the pairs may append to it.
        seed: int, of the bootstrap intervals.

    Returns:
        Report.

    Raises:
        ValueError: there is no pair, a pair is no pair of label maps of this table (its number is
            named), or names or latencies are not as many as the images.

    Example:
        >>> from seglib.classes import ClassTable
        >>> classes = ClassTable(["road", "sky"], [(128, 64, 128), (70, 130, 180)])
        >>> create_report([([[1, 1], [0, 0]], [[1, 1], [1, 0]])], classes)
        Report(1 image: pixel accuracy 0.750, mean IoU 0.583)
    """
    scores = [_score(i, pair, classes) for i, pair in enumerate(pairs)]
    if not scores:
        raise ValueError("nothing to report: the split is empty, expected one image at least")
    matrices = np.stack([matrix for matrix, _ in scores])
    boundaries = np.stack([boundary for _, boundary in scores])
    intervals, iou_bounds = _find_intervals(matrices, classes, seed)
    return Report(
        classes=classes,
        confusion=matrices.sum(axis=0),
        per_image=_tabulate_images(matrices, boundaries, classes, names, latencies),
        per_class=_tabulate_classes(matrices, boundaries, classes, iou_bounds),
        intervals=intervals,
    )


def _score(number, pair, classes):
    options = {"num_classes": classes.num_classes, "ignore_label": classes.ignore_label}
    try:
        labels_true, labels_pred = pair
        return (
            metrics.confusion_matrix(labels_true, labels_pred, **options),
            metrics.boundary_f1(labels_true, labels_pred, **options),
        )
    except ValueError as error:
        raise ValueError(f"image number {number}, counted from 0: {error}") from None


def _find_intervals(matrices, classes, seed):
    """Resample once for all: return the intervals of the figures, and (2, k) for the IoUs."""
    figures = [getattr(metrics, name) for name in MATRIX_FIGURES]

    def statistic(resampled):
        single = [figure(resampled, ignore_label=classes.ignore_label) for figure in figures]
        each = metrics.class_iou(resampled, ignore_label=classes.ignore_label)
        return np.concatenate([np.stack(single, axis=-1), each], axis=-1)

    bounds = np.stack(metrics.bootstrap_interval(matrices, statistic, seed=seed))
    single, each = np.split(bounds, [len(figures)], axis=1)
    pairs = [(float(low), float(high)) for low, high in single.T]
    return dict(zip(MATRIX_FIGURES, pairs, strict=True)), each


def _tabulate_images(matrices, boundaries, classes, names, latencies):
    import pandas as pd

    count, ignored = len(matrices), classes.ignore_label
    names = range(count) if names is None else list(names)
    latencies = itertools.repeat(np.nan, count) if latencies is None else latencies
    columns = {"names": list(map(str, names)), "latencies": [float(x) for x in latencies]}
    for what, values in columns.items():
        if len(values) != count:
            raise ValueError(f"expected {count} {what}, one an image, received {len(values)}")
    return pd.DataFrame(
        {
            "image": columns["names"],
            "pixel_accuracy": metrics.pixel_accuracy(matrices, ignore_label=ignored),
            "mean_iou": metrics.mean_iou(matrices, ignore_label=ignored),
            "boundary_f1": pd.DataFrame(boundaries).mean(axis=1),
            "latency_ms": columns["latencies"],
        }
    )


def _tabulate_classes(matrices, boundaries, classes, iou_bounds):
    import pandas as pd

    confusion, pixels = matrices.sum(axis=0), matrices.sum(axis=2)
    options = {"ignore_label": classes.ignore_label}
    columns = {
        "iou": metrics.class_iou(confusion, **options),
        "iou_low": iou_bounds[0],
        "iou_high": iou_bounds[1],
        "f1": metrics.class_f1(confusion, **options),
        "precision": metrics.class_precision(confusion, **options),
        "recall": metrics.class_recall(confusion, **options),
        "boundary_f1": pd.DataFrame(boundaries).mean(axis=0),
        "pixels": pixels.sum(axis=0),
        "images": (pixels > 0).sum(axis=0),
    }
    table = pd.DataFrame(columns, index=range(classes.num_classes)).iloc[list(classes.scored_ids)]
    return table.set_axis([classes.names[i] for i in classes.scored_ids]).rename_axis("class")


def describe_run(run_dir):
    """Print what a run's folder holds, and the scores reached.

    Args:
        run_dir: str or path of a folder that the notebooks wrote to.
    """
    run_dir = pathlib.Path(run_dir)
    holds = {
        "best.keras": "the model",
        "history.csv": "a row for each epoch",
        "curves.png": "losses and scores over the epochs",
        "run.json": "settings, versions, plan and sessions",
        "summary.csv": "scores with intervals",
        "per_class.csv": "scores of each class",
        "results.csv": "scores of each picture",
        "submission.csv": "run-length encoded predictions",
        "figures": "all figures",
        "*.ipynb": "the executed notebooks",
    }
    for pattern, what in holds.items():
        for path in sorted(run_dir.glob(pattern)):
            print(f"{path!s:55} {what}")
    with contextlib.suppress(OSError), open(run_dir / "summary.csv", newline="") as file:
        for row in csv.DictReader(file):
            print(f"{row['figure'].replace('_', ' '):55} {float(row['value']):.3f}")
