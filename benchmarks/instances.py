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

import numpy as np
from camvid import ROOT, append_rows, describe_code, format_spread
from timing import describe_machine

import seglib
from seglib import metrics
from seglib.presets import get_preset
from seglib.scenes import STREET_CLASSES, THINGS, draw_scene

RESULTS = ROOT / "benchmarks/results/instances.csv"
TRUTH = "truth"
HEADS = {"plain": ("segmentation",), "boundary head": ("segmentation", "boundary")}
EPOCHS = 20  # of 11 steps
OPTIMIZER = {"optimizer": "adamw", "learning_rate": 4e-3}  # as in the rows that are there
SCENES, HELD_OUT = 240, range(168, 240)
THRESHOLDS = (0.3, 0.5, 0.7)
TOUCHING = "touching"


# In the process of a run


def train_and_score(variant, seed, folder):
    """Train and score; leave the rows in a file."""
    rows = score_truth() if variant == TRUTH else train_model(variant, seed, folder)
    (folder / "rows.json").write_text(json.dumps(rows))


def train_model(variant, seed, folder):
    seglib.write_scenes(folder / "streets", num_scenes=SCENES)
    prepared = seglib.open_dataset(folder / "streets").prepare(
        cache_dir=folder / "cache", image_size=(180, 240)
    )
    preset = get_preset("fast")
    form = {**preset["model"], "input_shape": (None, None, 3)}
    model = seglib.create_unetpp_model(
        num_classes=STREET_CLASSES.num_classes, heads=HEADS[variant], seed=seed, **form
    )
    augment = dataclasses.replace(
        preset["train"]["augment"], size=(112, 112), native=True, scale=(0.8, 1.25)
    )
    recipe = {**preset["train"], **OPTIMIZER, "augment": augment, "validate_every": EPOCHS}
    run = seglib.train(model, prepared, run_dir=folder / "run", epochs=EPOCHS, seed=seed, **recipe)
    return score_model(model, has_boundary=variant != "plain", steps=int(run.best["step"]))


def score_model(model, *, has_boundary, steps):
    """Rows of a model, one for each way to separate."""
    scores, matrix = {}, 0
    for index in HELD_OUT:
        image, true_labels, objects = draw_scene(index)
        labels = seglib.predict(model, image)
        matrix = matrix + seglib.confusion_matrix(
            true_labels, labels, num_classes=len(STREET_CLASSES.names), ignore_label=11
        )
        ways = {TOUCHING: (None, 0.5)}
        if has_boundary:
            boundary = seglib.predict_heads(model, image)["boundary"]
            ways |= {f"boundary {x}": (boundary, x) for x in THRESHOLDS}
        add_scene(scores, (true_labels, objects), labels, ways)
    mean_iou = round(float(metrics.mean_iou(matrix, ignore_label=11)), 4)
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
        scores[way] = scores.get(way, 0) + seglib.count_matches(
            *truth, labels, found.instances, num_classes=len(STREET_CLASSES.names),
            things=THINGS, ignore_label=STREET_CLASSES.ignore_label,
        )  # fmt: skip


def summarize(scores):
    """Yield a row a way: means over the classes of things, and the quality of each."""
    for way, counts in scores.items():
        quality = seglib.panoptic_quality(counts[sorted(THINGS)])
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
