"""Whether a boundary head helps to tell objects apart: embedded scenes, panoptic quality.

    python benchmarks/instances.py --seeds 0 1 2

U-Net++ of the preset `fast`, with AdamW, learns from windows of 168 scenes, with and without
the boundary head, the same number of steps. Its label maps of the 72 others are then separated
where regions do not touch, and along the boundary map. `truth` does the same with true label maps,
which says what separating can reach: along the boundaries between classes, which is what the head
learns, and along those between objects, which it would have to know. Rows are appended to
`benchmarks/results/instances.csv`; runs that are there are skipped.
"""

import argparse
import csv
import dataclasses
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple

import numpy as np
from camvid import ROOT, append_rows, describe_code, format_spread
from timing import describe_machine

import seglib
from seglib import reports
from seglib.recipes import get_preset
from seglib.scenes import STREET_CLASSES, THINGS, draw_scene

RESULTS = ROOT / "benchmarks/results/instances.csv"
TRUTH = "truth"
HEADS = {"plain": ("segmentation",), "boundary head": ("segmentation", "boundary")}
EPOCHS = 20  # of 11 steps
OPTIMIZER = {"optimizer": "adamw", "learning_rate": 4e-3}  # as in the rows that are there
SCENES, HELD_OUT = 240, range(168, 240)
THRESHOLDS = (0.3, 0.5, 0.7)
TOUCHING = "touching"


# Panoptic quality: how well the objects of each class are found and outlined


class PanopticQuality(NamedTuple):
    """Figures of each class, float64 arrays `(num_classes,)`; NaN where there is nothing to judge.

    Args:
        pq: panoptic quality, the product of the two others.
        sq: segmentation quality, the mean IoU of the objects that were found.
        rq: recognition quality, the F1 score of finding them.
    """

    pq: np.ndarray
    sq: np.ndarray
    rq: np.ndarray


def count_matches(
    true_labels, true_instances, labels, instances, *, num_classes, things=None, ignore_label=None
):
    """Count the objects of an image that were found, invented and missed.

    An object is found where one of the same class covers it with an IoU above 0.5; there is one at
    the most. Counts add, so a large set can be scored one image at a time.

    Args:
        true_labels, labels: int arrays `(height, width)` of ids, true and predicted.
        true_instances, instances: int arrays `(height, width)`, 1.. for each object.
        num_classes: int.
        things: ids of the classes that have objects; of another class all pixels are one segment,
            whatever their numbers. None: all of them have. Pixels of a thing that have the
            number 0 belong to no object; in the truth they are ignored.
        ignore_label: int or None. Pixels whose true id is this count nowhere; a predicted object
            that lies on them by more than half is not an invented one.

    Returns:
        float64 array `(num_classes, 4)`: true positives, false positives, false negatives, and
        the sum of the IoUs of the true positives.

    Raises:
        ValueError: the shapes differ.
        IndexError: an id is `num_classes` or more, and not ignored.

    Example:
        >>> truth = [[1, 1, 1, 0, 1]], [[1, 1, 1, 0, 2]]
        >>> count_matches(*truth, [[1, 1, 0, 0, 0]], [[5, 5, 0, 0, 0]], num_classes=2, things=[1])
        array([[0.        , 1.        , 1.        , 0.        ],
               [1.        , 0.        , 1.        , 0.66666667]])

    Source: Kirillov et al. 2019, "Panoptic Segmentation", sections 4.1 and 4.2.
    """
    maps = [np.asarray(x) for x in (true_labels, true_instances, labels, instances)]
    if len({x.shape for x in maps}) > 1:
        raise ValueError(f"expected four maps of one shape, received {[x.shape for x in maps]}")
    things = range(num_classes) if things is None else things
    known = np.ones(maps[0].shape, bool) if ignore_label is None else maps[0] != ignore_label
    truth, true_classes = _number_segments(*maps[:2], known, things)
    guess, guessed_classes = _number_segments(*maps[2:], maps[2] < num_classes, things)
    overlaps = np.zeros((len(true_classes), len(guessed_classes)))  # row and column 0: no segment
    np.add.at(overlaps, (truth.ravel(), guess.ravel()), 1)
    sizes, areas = overlaps.sum(axis=1)[:, None], overlaps[1:].sum(axis=0)
    # Of a predicted segment, what lies where the truth has none does not count.
    iou = overlaps / np.maximum(sizes + areas - overlaps, 1)
    found = (iou > 0.5) & (true_classes[:, None] == guessed_classes)
    found[0], found[:, 0] = False, False
    invented = ~found.any(axis=0) & (overlaps[0] <= areas)
    missed = ~found.any(axis=1)
    counts = np.zeros((num_classes, 4))
    for column, classes, values in (
        (0, true_classes, found.any(axis=1)),
        (1, guessed_classes, invented),
        (2, true_classes, missed),
        (3, true_classes, (iou * found).sum(axis=1)),
    ):
        np.add.at(counts[:, column], classes[1:], values[1:])
    return counts


def panoptic_quality(counts):
    """Return the figures that follow from counts of `count_matches`, of one image or summed.

    Args:
        counts: array `(num_classes, 4)`.

    Returns:
        PanopticQuality.

    Example:
        >>> panoptic_quality([[0, 0, 0, 0], [3, 1, 1, 2.4]]).pq
        array([nan, 0.6])
    """
    found, invented, missed, iou = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    judged = found + (invented + missed) / 2
    pq, sq, rq = (
        np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
        for above, below in ((iou, judged), (iou, found), (found, judged))
    )
    return PanopticQuality(pq, sq, rq)


def _number_segments(labels, instances, known, things):
    """Number the segments of a map from 1 on; return numbers and each number's class (0: none)."""
    is_thing = np.isin(labels, list(things))
    known = known & ((instances > 0) | ~is_thing)
    pairs = np.stack([labels, np.where(is_thing, instances, 0)], axis=-1)[known]
    segments, places = np.unique(pairs, axis=0, return_inverse=True)
    numbers = np.zeros(labels.shape, int)
    numbers[known] = places.ravel() + 1
    return numbers, np.concatenate([[0], segments[:, 0]]).astype(int)


# In the process of a run


def train_and_score(variant, seed, folder):
    """Train and score; leave the rows in a file."""
    rows = score_truth() if variant == TRUTH else train_model(variant, seed, folder)
    (folder / "rows.json").write_text(json.dumps(rows))


def train_model(variant, seed, folder):
    seglib.scenes.write_scenes(folder / "streets", num_scenes=SCENES)
    prepared = seglib.open_dataset(folder / "streets").prepare(
        cache_dir=folder / "cache", image_size=(180, 240)
    )
    preset = get_preset("fast")
    form = {**preset.model, "input_shape": (None, None, 3)}
    model = seglib.create_unetpp_model(
        num_classes=STREET_CLASSES.num_classes, heads=HEADS[variant], seed=seed, **form
    )
    augment = dataclasses.replace(
        preset.train["augment"], size=(112, 112), native=True, scale=(0.8, 1.25)
    )
    recipe = {**preset.train, **OPTIMIZER, "augment": augment, "validate_every": EPOCHS}
    run = seglib.train(model, prepared, run_dir=folder / "run", epochs=EPOCHS, seed=seed, **recipe)
    return score_model(model, has_boundary=variant != "plain", steps=int(run.best["step"]))


def score_model(model, *, has_boundary, steps):
    """Rows of a model, one for each way to separate."""
    scores, matrix = {}, 0
    for index in HELD_OUT:
        image, true_labels, objects = draw_scene(index)
        labels = seglib.predict(model, image)
        matrix = matrix + seglib.reports.confusion_matrix(
            true_labels, labels, num_classes=len(STREET_CLASSES.names), ignore_label=11
        )
        ways = {TOUCHING: (None, 0.5)}
        if has_boundary:
            boundary = seglib.predict_heads(model, image)["boundary"]
            ways |= {f"boundary {x}": (boundary, x) for x in THRESHOLDS}
        add_scene(scores, (true_labels, objects), labels, ways)
    mean_iou = round(float(reports.mean_iou(matrix, ignore_label=11)), 4)
    return [{"steps": steps, "mean_iou": mean_iou, **row} for row in summarize(scores)]


def score_truth():
    """Rows of true label maps, separated by true boundaries."""
    scores = {}
    for index in HELD_OUT:
        _, labels, objects = draw_scene(index)
        ways = {
            TOUCHING: (None, 0.5),
            "boundaries of classes": (find_boundaries(labels), 0.5),
            "boundaries of objects": (find_boundaries(100 * objects.astype(int) + labels), 0.5),
        }
        add_scene(scores, (labels, objects), labels, ways)
    return [{"steps": 0, "mean_iou": 1, **row} for row in summarize(scores)]


def find_boundaries(ids):
    from skimage import segmentation

    return segmentation.find_boundaries(ids, connectivity=1, mode="thick")


def add_scene(scores, truth, labels, ways):
    for way, (boundary, threshold) in ways.items():
        found = seglib.separate_instances(
            labels, boundary, class_ids=sorted(THINGS), threshold=threshold
        )
        scores[way] = scores.get(way, 0) + count_matches(
            *truth, labels, found.instances, num_classes=len(STREET_CLASSES.names),
            things=THINGS, ignore_label=STREET_CLASSES.ignore_label,
        )  # fmt: skip


def summarize(scores):
    """Yield a row a way: means over the classes of things, and the quality of each."""
    for way, counts in scores.items():
        quality = panoptic_quality(counts[sorted(THINGS)])
        figures = {name: np.nanmean(getattr(quality, name)) for name in ("pq", "sq", "rq")}
        names = [STREET_CLASSES.names[i] for i in sorted(THINGS)]
        figures |= {f"pq_{name}": pq for name, pq in zip(names, quality.pq, strict=True)}
        yield {"separated_by": way, **{k: round(float(v), 4) for k, v in figures.items()}}


# In the process that starts the runs


def run_variant(variant, seed):
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", variant, str(seed), folder]
        subprocess.run(command, check=True)
        rows = json.loads(pathlib.Path(folder, "rows.json").read_text())
    about = {
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "code": describe_code(),
        "trained": variant,
        "seed": seed,
    }
    return [{**about, **row} for row in rows]


def read_rows(path):
    if not pathlib.Path(path).is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def print_table(path):
    """Print each way's panoptic quality over the seeds (lowest to highest)."""
    kinds = {}
    for row in read_rows(path):
        kinds.setdefault((row["trained"], row["separated_by"]), []).append(row)
    for (trained, way), rows in kinds.items():
        scores = "  ".join(
            f"{name} {format_spread([float(row[name]) for row in rows])}"
            for name in ("pq", "sq", "rq", "pq_Car", "mean_iou")
        )
        print(f"{trained:15} {way:22} {scores}, {len(rows)} seeds")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--csv", default=RESULTS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        variant, seed, folder = options.child
        return train_and_score(variant, int(seed), pathlib.Path(folder))
    jobs = [(TRUTH, 0), *((variant, seed) for seed in options.seeds for variant in HEADS)]
    for variant, seed in jobs:
        known = {(row["trained"], row["seed"]) for row in read_rows(options.csv)}
        if (variant, str(seed)) not in known:
            append_rows(run_variant(variant, seed), options.csv)
    print_table(options.csv)


if __name__ == "__main__":
    main()
