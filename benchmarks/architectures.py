"""Networks, attention, pretraining and extra heads on CamVid, at an equal budget of time.

    python benchmarks/architectures.py --seeds 0 1 2 --stop-after 2h
    python benchmarks/architectures.py unetpp 'unetpp se' --seeds 0

The five networks are plain: at 128×128 from random weights, in their papers' form, each narrowed
to 2.2 to 2.3 million parameters, so that none wins by its size, and to channels in sixteens:
with 17 channels for 16, U-Net made a quarter of the steps. U-Net++ and U-Net keep the doubling of
channels from level to level, or nearly, FCN and SegNet VGG-16's (the last two stages alike), FCN a
narrower classifier. DeepLabV3+ has rates that reach as far in a map of 8×8 places as the paper's in
one of 32×32. U-Net++ has one head, as in the presets.

At full resolution U-Net++ makes few steps in so little time. What is added to it is therefore added
to that of the preset `scratch`, which works at half the resolution: `se`, `cbam`, and `heads`
(boundary and presence, weighed by learned uncertainty). All these are trained by the recipe of
`scratch`; `pretrained` is the preset `fast`, model and recipe.

A run has a process of its own, and its budget counts from the start of that process, as in
`camvid.py`: who is slow learns from fewer pairs. `ms` is the median of an image at 128×128 by
`predict_on_batch`. A row a run is appended to `benchmarks/results/architectures.csv`; runs that
are there are skipped, so that the campaign may be stopped and carried on. Those with `adamw`, which
notebook 6 shows, are of an earlier recipe of `scratch`: all are run anew.
"""

import argparse
import csv
import datetime
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from camvid import CAMVID, ROOT, append_rows, describe_code, format_spread
from timing import describe_machine

import seglib
from seglib.recipes import get_preset
from seglib.system import parse_duration

RESULTS = ROOT / "benchmarks/results/architectures.csv"
BUDGET = "3m"
SIZE = (128, 128)
ROUNDS = 50  # images that are timed
SCORING = 45  # seconds after the budget, until a run has shown what it takes

PLAIN = {
    "unetpp": {"filters": (16, 32, 64, 128, 256), "deep_supervision": False},
    "unet": {"filters": (16, 32, 64, 128, 288)},
    "deeplabv3plus": {
        "filters": (16, 32, 64, 128, 256),
        "rates": (2, 3, 5),
        "aspp_filters": 96,
    },
    "fcn": {"filters": (16, 32, 64, 128, 128), "hidden": 208},
    "segnet": {"filters": (16, 32, 64, 144, 144)},
}
SCRATCH, PRETRAINED = "unetpp scratch", "unetpp pretrained"
CHANGES = {  # of the presets' U-Net++
    SCRATCH: {},
    "unetpp se": {"attention": "se"},
    "unetpp cbam": {"attention": "cbam"},
    "unetpp + heads": {"heads": ("segmentation", "boundary", "presence")},
    PRETRAINED: {},
}
VARIANTS = [*PLAIN, *CHANGES]
OPTIMIZER = get_preset("scratch").train["optimizer"]


# In the process of a run


def train_and_score(variant, seed, budget, started, folder):
    """Train and score; leave the row in a file."""
    preset = get_preset("fast" if variant == PRETRAINED else "scratch")
    dataset = seglib.open_dataset(CAMVID)
    prepared = dataset.prepare(cache_dir=folder / "cache", **preset.prepare)
    model = create_model(variant, preset, prepared.classes.num_classes, seed)
    left = started + budget - time.time()
    recipe = {**preset.train, "batch_size": 16}  # alike for all, however many steps fit
    run = seglib.train(model, prepared, run_dir=folder / "run", seed=seed, time_budget=left,
                       **recipe)  # fmt: skip
    seconds = time.time() - started
    if not run.finished:
        raise SystemExit(f"stopped by {run.ended_by}: no row")
    report = seglib.evaluate(model, dataset.val)
    row = {
        "steps": int(run.history["step"].iloc[-1]),
        "seconds": round(seconds, 1),
        "mean_iou": round(float(report.mean_iou), 4),
        "pixel_accuracy": round(float(report.pixel_accuracy), 4),
        "parameters": model.count_params(),
        "ms": round(time_image(model), 2),
        "mb": round((run.run_dir / "best.keras").stat().st_size / 1e6, 2),
    }
    (folder / "row.json").write_text(json.dumps(row))


def create_model(variant, preset, num_classes, seed):
    options = {"num_classes": num_classes, "seed": seed}
    if variant in CHANGES:
        return seglib.create_unetpp_model(**options, **preset.model, **CHANGES[variant])
    return seglib.create_model(variant, (*SIZE, 3), **options, **PLAIN[variant])


def time_image(model):
    """Median milliseconds from a picture of the model's size to its probabilities."""
    import keras

    scorer = keras.Model(model.inputs, keras.ops.softmax(model.outputs[-1]))
    image, durations = np.zeros((1, *SIZE, 3), np.uint8), []
    for _ in range(ROUNDS + 3):  # the first ones compile
        start = time.perf_counter()
        scorer.predict_on_batch(image)
        durations.append(1e3 * (time.perf_counter() - start))
    return statistics.median(durations[3:])


# In the process that starts the runs


def run_variant(variant, seed, budget):
    """Return the row of a run; None where it failed, so that the others go on."""
    about = {
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "code": describe_code(),
        "variant": variant,
        "seed": seed,
        "budget_s": f"{budget:g}",
        "optimizer": OPTIMIZER,
    }
    with tempfile.TemporaryDirectory() as folder:
        child = json.dumps([variant, seed, budget, time.time(), folder])
        if subprocess.run([sys.executable, __file__, "--child", child]).returncode:
            print(f"{variant}, seed {seed}: no row, see above", file=sys.stderr)
            return None
        return {**about, **json.loads(pathlib.Path(folder, "row.json").read_text())}


def read_rows(path):
    """Return dict `(variant, seed, budget_s) -> row`, of runs with today's optimizer."""
    if not pathlib.Path(path).is_file():
        return {}
    with open(path, newline="") as file:
        return {
            (row["variant"], row["seed"], row["budget_s"]): row
            for row in csv.DictReader(file)
            if row["optimizer"] == OPTIMIZER
        }


def run_jobs(jobs, path, *, budget, deadline):
    """Do what has no row yet, as long as a run is expected to end before the deadline."""
    scoring = SCORING
    for variant, seed in jobs:
        if (variant, str(seed), f"{budget:g}") in read_rows(path):
            continue
        start = time.monotonic()
        if start + budget + scoring > deadline:
            return print(f"\nno time for {variant}, seed {seed}: run again to carry on")
        row = run_variant(variant, seed, budget)
        if row:
            append_rows([row], path)
            scoring = time.monotonic() - start - budget


def print_table(path, *, budget):
    """Print what each variant reached, over the seeds, and its difference seed by seed.

    It is that of the plain ones to U-Net++, of the others to that of the preset `scratch`.
    """
    rows = {key[:2]: row for key, row in read_rows(path).items() if key[2] == f"{budget:g}"}
    scores = {key: float(row["mean_iou"]) for key, row in rows.items()}
    print(f"\n{budget:g} s: mean IoU (lowest to highest), its difference, and means")
    for variant in VARIANTS:
        seeds = [seed for name, seed in scores if name == variant]
        if not seeds:
            continue
        base = "unetpp" if variant in PLAIN else SCRATCH
        paired = [
            scores[variant, seed] - scores[base, seed] for seed in seeds if (base, seed) in scores
        ]
        gain = format_spread(paired, "+") if paired else ""
        means = "  ".join(
            f"{name} {np.mean([float(rows[variant, seed][name]) for seed in seeds]):.{digits}f}"
            for name, digits in (("pixel_accuracy", 3), ("steps", 0), ("parameters", 0),
                                 ("ms", 1), ("mb", 1))
        )  # fmt: skip
        spread = format_spread([scores[variant, seed] for seed in seeds])
        print(f"{variant:18} {spread}  {gain}, {len(seeds)} seeds  {means}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variants", nargs="*", default=VARIANTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budget", default=BUDGET, help="of a run")
    parser.add_argument("--stop-after", default="30d", help="begin no run that would end later")
    parser.add_argument("--csv", default=RESULTS, help="where rows are appended")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        variant, seed, budget, started, folder = options.child
        return train_and_score(variant, seed, budget, started, pathlib.Path(folder))
    unknown = set(options.variants) - set(VARIANTS)
    if unknown:
        parser.error(f"unknown variants {sorted(unknown)}, expected some of {', '.join(VARIANTS)}")
    deadline = time.monotonic() + parse_duration(options.stop_after)
    budget = parse_duration(options.budget)
    jobs = [(variant, seed) for seed in options.seeds for variant in options.variants]
    run_jobs(jobs, options.csv, budget=budget, deadline=deadline)
    print_table(options.csv, budget=budget)


if __name__ == "__main__":
    main()
