"""The deployment card: what each way to deploy a model costs and what it loses."""

import dataclasses
import pathlib
import tempfile
import time
import zipfile

import numpy as np

from seglib import reports
from seglib.exports import check_export, export
from seglib.exports.formats import FORMATS, PRECISIONS, check_runtime
from seglib.exports.predictor import load_predictor
from seglib.system import make_folder
from seglib.predicting import check_classes
from seglib.system import has_bfloat16_units
from seglib.system import show_progress
from seglib.system import parse_duration, parse_size

REFERENCE = ("keras", "float32")
KEYS = ("model", "format", "precision")


@dataclasses.dataclass(eq=False, repr=False)
class DeploymentCard:
    """What `compare_exports` measured.

    Args:
        table: DataFrame by (model, format, precision): `megabytes` of the folder, and
            `zipped_megabytes`; `parameters`; `zeros`, the share of its kernels that is 0;
            `network_ms`, the median of the network alone on a picture of its size; `p50_ms`,
            `p95_ms` and `p99_ms` of a whole `predict`, from picture to label map; `images_s`, of
            one after another; `agreement`, the share of pixels labelled as by the first model in
            float32; `mean_iou`, `change` from that model's, and `change_low` and `change_high`,
            its 95 % interval over pictures, paired.
        missing: dict format -> message, of the formats whose runtime is not installed.
    """

    table: object
    missing: dict

    def choose(self, *, within=None, max_size=None):
        """Return the most accurate way that is fast and small enough; of equals the fastest.

        Args:
            within: seconds, or str such as "5ms": what 95 % of the pictures may take.
            max_size: bytes, or str such as "3MB", that the folder may have.

        Returns:
            dict with model, format and precision, and its row of the table.

        Raises:
            ValueError: nothing is; the message tells the nearest.
        """
        table = self.table.reset_index()
        fits = np.ones(len(table), bool)
        if within is not None:
            fits &= table["p95_ms"] <= 1e3 * parse_duration(within)
        if max_size is not None:
            fits &= table["megabytes"] * 1e6 <= parse_size(max_size)
        if not fits.any():
            fastest, smallest = table["p95_ms"].idxmin(), table["megabytes"].idxmin()
            raise ValueError(
                f"nothing fits within={within}, max_size={max_size}: the fastest is "
                f"{self._name(fastest)} with {table['p95_ms'][fastest]:.1f} ms at p95, the "
                f"smallest {self._name(smallest)} with {table['megabytes'][smallest]:.1f} MB"
            )
        order = ["mean_iou", "p50_ms"]
        return table[fits].sort_values(order, ascending=[False, True]).iloc[0].to_dict()

    def write(self, folder):
        """Write `exports.csv` and `exports.png` to a folder, and return its path."""
        from seglib.plots import keep_figure, plot_tradeoff

        folder = make_folder(folder, "the deployment card")
        self.table.round(5).to_csv(folder / "exports.csv")
        figure = plot_tradeoff(self.table, ["p50_ms", "megabytes"], "mean_iou")
        keep_figure(figure, folder / "exports.png")
        return folder

    def _name(self, row):
        return " ".join(map(str, self.table.index[row]))

    def __repr__(self):
        lines = [self.table.round(3).to_string(), *self.missing.values()]
        if (self.table["zeros"] > 0.2).any():
            lines.append("weights that are 0 make a file smaller once it is zipped, none faster")
        return "\n".join(lines)


def compare_exports(models, split, *, calibration, variants=None, folder=None, seed=0):
    """Export a model in several ways, and measure size, speed and what is lost.

    One way after the other labels all pictures of the split, as a user would.

    Args:
        models: keras.Model, or dict of names and models, such as a model and what `prune_channels`
            made of it, or `prune(model, level)` of each level of a U-Net++. The first in float32 is
            what the others are compared with.
        split: Split with at least one pair, at the pictures' own sizes.
        calibration: as of `seglib.export`: training pictures, not those of `split`.
        variants: pairs of format and precision; None for all whose runtime is installed, without
            bfloat16 where the processor has no units for it.
        folder: str or path, where the exports are kept, as `model_format_precision`; None to
            throw them away.
        seed: int, of the intervals.

    Returns:
        DeploymentCard.

    Raises:
        ValueError: the split is empty or of other classes, a variant is unknown, or a model cannot
            be exported; before anything is.
        ModuleNotFoundError: the runtime of one of `variants` is not installed.
    """
    if not len(split):
        raise ValueError("the split is empty: expected at least one pair to measure on")
    models = models if isinstance(models, dict) else {"model": models}
    if not models:
        raise ValueError("expected at least one model, received an empty dict")
    missing = _find_missing()
    if variants is None:
        variants = [
            (name, precision)
            for name in FORMATS
            if name not in missing
            for precision in PRECISIONS[name]
            if precision != "bfloat16" or has_bfloat16_units()
        ]
    variants = [REFERENCE, *(pair for pair in map(tuple, variants) if pair != REFERENCE)]
    jobs = [(name, *variant) for name in models for variant in variants]
    for name, *variant in jobs:  # before the first has taken a minute
        check_export(models[name], *variant, calibration)
    rows, reference = {}, None
    with tempfile.TemporaryDirectory() as temporary:
        for name, format, precision in show_progress(jobs, desc="exporting", unit="export"):
            path = pathlib.Path(folder or temporary) / f"{name}_{format}_{precision}"
            export(models[name], path, format=format, precision=precision, calibration=calibration)
            measured = _measure(load_predictor(path), split)
            reference = reference or measured
            rows[name, format, precision] = {
                **_describe_files(path),
                "parameters": models[name].count_params(),
                "zeros": _count_zeros(models[name]),
                **_compare(measured, reference, split.classes, seed),
            }
    return DeploymentCard(_create_table(rows), missing)


def _find_missing():
    missing = {}
    for name in FORMATS:
        try:
            check_runtime(name)
        except (ModuleNotFoundError, RuntimeError) as error:
            missing[name] = str(error)
    return missing


def _measure(predictor, split):
    """Latencies, label maps and confusion matrices, a picture each."""
    check_classes(predictor.scorer, split.classes)
    predictor.predict(split[0][0])  # what only the first call takes
    latencies, predictions, matrices = [], [], []
    for i in range(len(split)):
        image, labels = split[i]
        start = time.perf_counter()
        predicted = predictor.predict(image)
        latencies.append(1e3 * (time.perf_counter() - start))
        predictions.append(predicted)
        matrices.append(
            reports.confusion_matrix(
                labels,
                predicted,
                num_classes=split.classes.num_classes,
                ignore_label=split.classes.ignore_label,
            )
        )
    return {
        "latencies": latencies,
        "network_ms": _time_network(predictor.scorer),
        "predictions": predictions,
        "matrices": np.stack(matrices),
    }


def _time_network(scorer, calls=21):
    picture = np.random.default_rng(0).integers(0, 256, (1, *scorer.size, 3)).astype(np.uint8)
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        scorer.score(picture)
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds))


def _describe_files(folder):
    files = [file for file in folder.rglob("*") if file.is_file()]
    with tempfile.TemporaryFile() as packed:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
        zipped = packed.tell()
    return {
        "megabytes": sum(file.stat().st_size for file in files) / 1e6,
        "zipped_megabytes": zipped / 1e6,
    }


def _count_zeros(model):
    kernels = [np.asarray(weight) for weight in model.weights if len(weight.shape) > 1]
    count = sum(kernel.size for kernel in kernels)
    return sum((kernel == 0).sum() for kernel in kernels) / count if count else 0.0


def _compare(measured, reference, classes, seed):
    ignore_label, k = classes.ignore_label, classes.num_classes
    pairs = np.zeros((len(measured["matrices"]), 2 * k, 2 * k))
    pairs[:, :k, :k], pairs[:, k:, k:] = measured["matrices"], reference["matrices"]

    def change(matrices):
        now, before = matrices[..., :k, :k], matrices[..., k:, k:]
        ious = [reports.mean_iou(matrix, ignore_label=ignore_label) for matrix in (now, before)]
        return ious[0] - ious[1]

    low, high = reports.bootstrap_interval(pairs, change, seed=seed)
    latencies = np.percentile(measured["latencies"], [50, 95, 99])
    same = [
        predicted == expected
        for predicted, expected in zip(
            measured["predictions"], reference["predictions"], strict=True
        )
    ]
    return {
        "network_ms": measured["network_ms"],
        **dict(zip(("p50_ms", "p95_ms", "p99_ms"), latencies, strict=True)),
        "images_s": 1e3 / np.mean(measured["latencies"]),
        "agreement": sum(part.sum() for part in same) / sum(part.size for part in same),
        "mean_iou": reports.mean_iou(measured["matrices"].sum(axis=0), ignore_label=ignore_label),
        "change": change(pairs.sum(axis=0)),
        "change_low": low,
        "change_high": high,
    }


def _create_table(rows):
    import pandas as pd

    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=KEYS)
    return table
