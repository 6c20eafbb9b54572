"""What helps rare classes, and what it costs the others: each method on CamVid, equal terms.

    python benchmarks/imbalance.py --seeds 0 1 2 --stop-after 2h
    python benchmarks/imbalance.py 'patches: smote' --seeds 0

The same U-Net++, the same number of steps. A run has a process of its own, and appends a row a
class to `benchmarks/results/imbalance.csv`; runs that are there are skipped, so that the campaign
may be stopped and carried on. Everything but the method is the preset `fast`, which was made with
cross-entropy + Dice, but for the optimizer: AdamW, as in the rows that are there.
"""

import argparse
import csv
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from camvid import CAMVID, ROOT, append_rows

import seglib
from seglib.balance import MEASURED, TRAINED_METHODS, apply_method, compare_methods, cut_pairs
from seglib.predicting import apply_thresholds, fit_thresholds
from seglib.recipes import get_preset
from seglib.system import parse_duration

RESULTS = ROOT / "benchmarks/results/imbalance.csv"
PLAIN = "cross-entropy"
OPTIMIZER = {"optimizer": "adamw", "learning_rate": 4e-3}  # as in the rows that are there
PAIRS = 300 * 16  # pairs shown to each model, in steps of 16
PATCHES = 5000
RARE = ["Bicyclist", "Pedestrian", "Column_Pole", "SignSymbol", "Fence"]  # by training pixels
AFTER = ("after: reweighted posterior", "after: thresholds")  # nothing is trained anew


# In the process of a run


def train_and_score(method, seed, folder):
    """Train and score; leave the rows in a file."""
    dataset, preset = seglib.open_dataset(CAMVID), get_preset("fast")
    whole = dataset.prepare(cache_dir=ROOT / "outputs/cache", **preset.prepare)
    classes = whole.classes
    counts = seglib.count_pixels(whole.train, num_classes=classes.num_classes)
    augment = preset.train["augment"]
    prepared, options = apply_method(method, whole, augment=augment, count=PATCHES, seed=seed)
    prepared, epochs = cut_pairs(prepared, PAIRS, seed=seed)
    model = seglib.create_unetpp_model(num_classes=classes.num_classes, seed=seed, **preset.model)
    recipe = {**preset.train, **OPTIMIZER, "validate_every": 1000, **options}
    run = seglib.train(model, prepared, run_dir=folder / "run", epochs=epochs, seed=seed, **recipe)
    steps = int(run.history["step"].iloc[-1])
    reports = {method: seglib.evaluate(model, dataset.val)}
    if method == PLAIN:
        reports |= score_after_training(model, dataset, counts)
    rows = [
        {"method": name, "seed": seed, "steps": steps, "class": label,
         **{figure: round(float(row[figure]), 4) for figure in ("iou", "recall", "precision")}}
        for name, report in reports.items()
        for label, row in report.per_class.iterrows()
    ]  # fmt: skip
    (folder / "rows.json").write_text(json.dumps(rows))


def score_after_training(model, dataset, counts):
    """Reports of the same model, its probabilities weighed, or with thresholds.

    The thresholds are fitted on training pictures.
    """
    classes = dataset.classes
    weights = seglib.class_weights(
        counts, method="inverse_frequency", ignore_label=classes.ignore_label, power=0.5
    )
    chosen = range(0, len(dataset.train), 8)
    probabilities, labels = [], []
    for i in chosen:
        image, truth = dataset.train[i]
        probabilities.append(seglib.predict_probabilities(model, image)[::4, ::4])
        labels.append(truth[::4, ::4])
    thresholds = fit_thresholds(
        np.stack(probabilities), np.stack(labels), ignore_label=classes.ignore_label
    )
    predicted = (
        (truth, apply_thresholds(seglib.predict_probabilities(model, image), thresholds))
        for image, truth in dataset.val
    )
    return {
        AFTER[0]: seglib.evaluate(seglib.reweight_classes(model, weights), dataset.val),
        AFTER[1]: seglib.create_report(predicted, classes, names=dataset.val.names),
    }


# In the process that starts the runs


def run_method(method, seed):
    """Return the rows of a run; none where it failed, so that the others go on."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", method, str(seed), folder]
        if subprocess.run(command).returncode:
            print(f"{method}, seed {seed}: no row, see above", file=sys.stderr)
            return []
        return json.loads(pathlib.Path(folder, "rows.json").read_text())


def read_scores(path):
    """Return dict `(method, seed) -> {class: row}`."""
    scores = {}
    if pathlib.Path(path).is_file():
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                scores.setdefault((row["method"], int(row["seed"])), {})[row["class"]] = row
    return scores


def print_table(path):
    """Print means over the seeds, and write what `seglib.recommend_balance` goes by."""
    import pandas as pd

    rows = pd.read_csv(path)
    table = compare_methods(rows, rare=RARE)
    print(table.round(3).to_string())
    print(rows.pivot_table(index="method", columns="class", values="iou").round(2).to_string())
    if path == RESULTS:
        table.round(4).to_csv(MEASURED)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="*", default=TRAINED_METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--stop-after", default="24h", help="begin no run after that")
    parser.add_argument("--csv", default=RESULTS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        method, seed, folder = options.child
        return train_and_score(method, int(seed), pathlib.Path(folder))
    unknown = set(options.methods) - set(TRAINED_METHODS)
    if unknown:
        parser.error(
            f"unknown methods {sorted(unknown)}, expected some of {', '.join(TRAINED_METHODS)}"
        )
    end = time.monotonic() + parse_duration(options.stop_after)
    for seed in options.seeds:
        for method in options.methods:
            if (method, seed) not in read_scores(options.csv) and time.monotonic() < end:
                rows = run_method(method, seed)
                if rows:
                    append_rows(rows, options.csv)
    if any(method == PLAIN for method, _ in read_scores(options.csv)):
        print_table(options.csv)


if __name__ == "__main__":
    main()
