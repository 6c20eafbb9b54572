"""Presets trained on CamVid under a wall-clock budget, and what they reach.

    python benchmarks/camvid.py fast smp --seeds 0 1 2 --budget 5m
    python benchmarks/camvid.py fast --set train.ema=False 'augment.scale=(1, 1)'
    python benchmarks/camvid.py fast --unseen 0006R0    # trained without this drive, scored on it

A run has a process of its own, and its budget counts from the start of that process: imports,
reading and preparing the data in a new cache, and compiling are within, scoring is not. `smp` is
the yardstick, see `yardstick.py`. A row a run is appended to `benchmarks/results/camvid.csv`, or to
`--csv`; runs that are there, of a processor that computes bfloat16 or not as this one, are skipped,
so that the campaign may be stopped and carried on.
"""

import argparse
import ast
import csv
import dataclasses
import datetime
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
from timing import describe_machine

import seglib
from seglib.datasets import Split
from seglib.images import fit_image
from seglib.predicting import label_probabilities
from seglib.recipes import get_preset
from seglib.system import has_bfloat16_units, parse_duration

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/camvid.csv"
CAMVID = os.environ.get("CAMVID_DIR", "data/camvid")
KEY = ("preset", "budget_s", "seed", "note")

YARDSTICK = "smp"
YARDSTICK_BUDGET, YARDSTICK_SIZE = "15m", (128, 128)
YARDSTICK_PLACE = ROOT / "outputs/yardstick-venv"
YARDSTICK_NEEDS = (
    "torch==2.13.0",
    "torchvision==0.28.0",
    "segmentation-models-pytorch==0.6.0",
    "timm==1.0.31",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A run: a preset or the yardstick, its seconds (0: its epochs), and what is changed in it."""

    preset: str
    budget: float
    seed: int
    note: str = ""
    settings: tuple = ()  # such as "train.ema=False"
    unseen: str = ""  # beginning of the names of training pictures that are scored in place of val

    @property
    def key(self):
        about = self.preset, f"{self.budget:g}", str(self.seed), self.note
        return *about, has_bfloat16_units()

    @property
    def title(self):
        return f"{self.preset}, {self.note}" if self.note else self.preset


def create_job(preset, *, seed, budget=None, note=None, settings=(), unseen=""):
    """Return a Job; without a budget that of the preset, without a note what is changed."""
    changes = [*settings, *[f"unseen={unseen}"] * bool(unseen)]
    if preset == YARDSTICK and changes:
        raise ValueError(f"{YARDSTICK} has no settings to change, received {', '.join(changes)}")
    own = YARDSTICK_BUDGET
    if preset != YARDSTICK:
        own = change_preset(get_preset(preset), settings).time_budget
    note = " ".join(changes) if note is None else note
    budget = budget or own
    seconds = parse_duration(budget) if budget else 0.0
    return Job(preset=preset, budget=seconds, seed=seed, note=note, settings=tuple(settings),
               unseen=unseen)  # fmt: skip


def change_preset(preset, settings):
    """Return the preset with `section.name=value` applied; `augment.name` is one of its fields."""
    for setting in settings:
        key, _, text = setting.partition("=")
        section, _, name = key.partition(".")
        if section not in ("prepare", "model", "train", "augment") or not name or not text:
            raise ValueError(
                f"expected prepare.NAME=VALUE, model.…, train.… or augment.…, received {setting!r}"
            )
        value = parse_value(text)
        if section == "augment":
            augmentation = preset.train.get("augment", seglib.Augmentation())
            section, value = "train", dataclasses.replace(augmentation, **{name: value})
            name = "augment"
        getattr(preset, section)[name] = value
    return preset


def parse_value(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


# In the process of a run


def train_and_score(job, started, folder):
    """Train and score one run; print the scores, and leave them in a file."""
    dataset = seglib.open_dataset(CAMVID)
    run = run_yardstick if job.preset == YARDSTICK else run_preset
    figures, report, flipped = run(job, dataset, started, folder)
    row = {**figures, **collect_scores(report, flipped)}
    print_report(job, row, report.per_class)
    (folder / "row.json").write_text(json.dumps(row))


def run_preset(job, dataset, started, folder):
    preset = change_preset(get_preset(job.preset), job.settings)
    dataset, scored = leave_out(dataset, job.unseen)
    prepared = dataset.prepare(cache_dir=folder / "cache", **preset.prepare)
    num_classes = prepared.classes.num_classes
    model = seglib.create_unetpp_model(num_classes=num_classes, seed=job.seed, **preset.model)
    left = started + job.budget - time.time() if job.budget else None
    options = {"run_dir": folder / "run", "seed": job.seed, "time_budget": left}
    run = seglib.train(model, prepared, recipe=preset, **options)
    seconds = round(time.time() - started, 1)
    if not run.finished:
        raise SystemExit(f"stopped by {run.ended_by}: no row")
    return {**describe_run(run), "seconds": seconds}, *(
        seglib.evaluate(model, scored, flip=flip) for flip in (False, True)
    )


def leave_out(dataset, drive):
    """Return the data without a drive's training pictures, and what is scored: these, or val."""
    train = dataset.train
    if not drive:
        return dataset, dataset.val
    sides = [
        [i for i, name in enumerate(train.names) if name.startswith(drive) == is_left_out]
        for is_left_out in (False, True)
    ]
    if not all(sides):
        raise ValueError(f"training pictures that begin with {drive!r} are none or all")
    kept, left_out = (
        Split([train.pairs[i] for i in side], train.classes, train.encoding,
              [train.names[i] for i in side])
        for side in sides
    )  # fmt: skip
    return dataclasses.replace(dataset, train=kept), left_out


def describe_run(run):
    plan = json.loads((run.run_dir / "run.json").read_text())["plan"]
    return {
        "steps": plan["steps"],
        "epochs": plan["epochs"],
        "best_epoch": int(run.best["epoch"]),
        "ms_step": round(1e3 * plan["seconds_per_step"], 1),
        "parameters_m": round(run.model.count_params() / 1e6, 3),
        "megabytes": round((run.run_dir / "best.keras").stat().st_size / 1e6, 2),
    }


def run_yardstick(job, dataset, started, folder):
    place, classes = folder / "run", dataset.classes
    place.mkdir()
    prepared = dataset.prepare(cache_dir=folder / "cache", image_size=YARDSTICK_SIZE)
    for name in ("train", "val"):
        np.save(place / f"{name}_images.npy", getattr(prepared, name).images)
        np.save(place / f"{name}_labels.npy", getattr(prepared, name).labels)
    sizes = ["--num-classes", str(classes.num_classes), "--ignore-label", str(classes.ignore_label)]
    times = ["--deadline", str(started + job.budget), "--seed", str(job.seed)]
    script = ROOT / "benchmarks/yardstick.py"
    subprocess.run([yardstick_python(), script, place, *sizes, *times], check=True)
    figures = json.loads((place / "figures.json").read_text())
    figures["seconds"] = round(figures.pop("finished") - started, 1)
    return figures, *(score_yardstick(dataset.val, place, n) for n in ("straight", "flipped"))


def score_yardstick(split, place, name):
    """Score probabilities of another program, enlarged as `seglib.predict` does."""
    probabilities = np.load(place / f"{name}.npy", mmap_mode="r")
    latencies, ids = list(np.load(place / f"{name}_ms.npy")), range(probabilities.shape[-1])

    def predict_pairs():
        for i, (image, labels) in enumerate(split):
            start = time.perf_counter()
            fit_image(image, YARDSTICK_SIZE)  # done in preparing, timed here
            predicted = label_probabilities(probabilities[i], labels.shape, ids)
            yield labels, predicted, latencies[i] + 1e3 * (time.perf_counter() - start)

    return seglib.create_report(predict_pairs(), split.classes, names=split.names)


def collect_scores(report, flipped):
    low, high = report.intervals["mean_iou"]
    scores = {
        "pixel_accuracy": report.pixel_accuracy,
        "mean_iou": report.mean_iou,
        "mean_iou_low": low,
        "mean_iou_high": high,
        "mean_iou_flip": flipped.mean_iou,
        **{f"iou_{name}": iou for name, iou in report.per_class["iou"].items()},
    }
    latency = report.per_image["latency_ms"].median()
    return {
        **{name: round(float(score), 4) for name, score in scores.items()},
        "ms_image": round(float(latency), 1),
    }


def print_report(job, row, per_class):
    over = " OVER THE BUDGET" * (0 < job.budget < row["seconds"])
    print(
        f"\n{job.title}, seed {job.seed} ({describe_machine()})\n"
        f"  {row['seconds']} s of {job.budget:g}{over}: {row['steps']} steps of "
        f"{row['ms_step']} ms, {row['epochs']} epochs, the best is {row['best_epoch']}\n"
        f"  {row['parameters_m']} million parameters, {row['megabytes']} MB, "
        f"{row['ms_image']} ms an image\n"
        f"{per_class[['iou', 'iou_low', 'iou_high', 'images']].round(3).to_string()}\n"
        f"  pixel accuracy {row['pixel_accuracy']:.3f}, mean IoU {row['mean_iou']:.3f} "
        f"({row['mean_iou_low']:.3f} to {row['mean_iou_high']:.3f}), "
        f"with mirrored pictures {row['mean_iou_flip']:.3f}",
        flush=True,
    )


# In the process that starts the runs


def run_job(job, *, keep=None):
    """Do a run in a process of its own; return its row. `keep` is a folder for what it leaves."""
    if job.preset == YARDSTICK:
        install_yardstick()
    code = describe_code()
    with tempfile.TemporaryDirectory() as folder:
        child = json.dumps([dataclasses.asdict(job), time.time(), folder])
        command = [sys.executable, __file__, "--child", child]
        ended = subprocess.run(command, env={**os.environ, "TQDM_DISABLE": "1"})
        if ended.returncode:  # the run has said why
            raise SystemExit(
                f"{job.title}, seed {job.seed}: exit status {ended.returncode}, no row"
            )
        if keep is not None:
            about = re.sub(r"[^\w.=-]+", "_", f"_{job.note}" * bool(job.note))
            place = pathlib.Path(keep, f"{job.preset}_{job.budget:g}s_seed{job.seed}{about}")
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(f"{folder}/run", place)
        scores = json.loads(pathlib.Path(folder, "row.json").read_text())
    return {
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        **dict(zip(KEY, job.key, strict=False)),
        "code": code,
        **scores,
    }


def describe_code():
    """Return the commit, with a + where the code has been changed since."""
    git = ["git", "--no-optional-locks", "-C", str(ROOT)]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True).strip()
        code = ["seglib", "benchmarks/*.py"]
        changes = subprocess.check_output([*git, "status", "--porcelain", "--", *code])
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + "+" * bool(changes)


def yardstick_python():
    return YARDSTICK_PLACE / ("Scripts" if os.name == "nt" else "bin") / "python"


def install_yardstick():
    """Make the yardstick's own environment, where it is missing or of other packages."""
    marker, needs = YARDSTICK_PLACE / "installed.txt", "\n".join(YARDSTICK_NEEDS)
    if marker.is_file() and marker.read_text() == needs:
        return
    print(f"installing {', '.join(YARDSTICK_NEEDS)} into {YARDSTICK_PLACE}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", YARDSTICK_PLACE], check=True)
    pip = [yardstick_python(), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, *YARDSTICK_NEEDS], check=True)
    marker.write_text(needs)


def read_rows(path):
    """Return dict `Job.key -> row`; of several rows of a key the last."""
    if not pathlib.Path(path).is_file():
        return {}
    with open(path, newline="") as file:
        return {
            (*(row[name] for name in KEY), "bf16" in row["machine"]): row
            for row in csv.DictReader(file)
        }


def append_rows(rows, path):
    """Add the lines of a run in one go, so that a kill leaves all of them or nothing."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns, new = list(rows[0]), not path.is_file()
    if not new:
        with open(path, newline="") as file:
            columns = next(csv.reader(file))
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, columns)
    if new:
        writer.writeheader()
    writer.writerows(rows)
    with open(path, "a", newline="") as file:
        file.write(lines.getvalue())
        file.flush()
        os.fsync(file.fileno())


def print_means(jobs, path):
    """Print mean, lowest and highest score over the seeds of each kind of run."""
    rows = read_rows(path)
    wanted = {(job.preset, f"{job.budget:g}", job.note) for job in jobs}
    about = ("preset", "budget_s", "note", "code", "machine")  # runs of other code are other runs
    kinds = dict.fromkeys(
        tuple(row[name] for name in about)
        for row in rows.values()
        if (row["preset"], row["budget_s"], row["note"]) in wanted
    )
    print("\nmean over the seeds (lowest to highest)")
    for kind in kinds:
        preset, budget, note, code, machine = kind
        chosen = [row for row in rows.values() if tuple(row[name] for name in about) == kind]
        scores = "".join(
            f"  {what} {format_spread([float(row[name]) for row in chosen])}"
            for name, what in (("pixel_accuracy", "pixel accuracy"), ("mean_iou", "mean IoU"))
        )
        print(
            f"  {preset} {note}, {budget} s, code {code}, {len(chosen)} runs:{scores} ({machine})"
        )


def format_spread(values, sign=""):
    mean, low, high = (f"{x:{sign}.3f}" for x in (np.mean(values), min(values), max(values)))
    return f"{mean} ({low} to {high})"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("presets", nargs="*", default=["fast"], help=f"names, or {YARDSTICK}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--budget", help="such as 5m; the preset's own by default")
    parser.add_argument("--note", help="kept in the row; what --set changes by default")
    parser.add_argument("--set", nargs="+", default=[], metavar="SECTION.NAME=VALUE")
    parser.add_argument("--unseen", default="", metavar="DRIVE", help="such as 0006R0")
    parser.add_argument("--again", action="store_true", help="also what has a row already")
    parser.add_argument("--csv", default=RESULTS, help="where rows are appended")
    parser.add_argument("--keep", help="folder for the runs' folders")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        job, started, folder = options.child
        return train_and_score(Job(**job), started, pathlib.Path(folder))
    changes = {"budget": options.budget, "note": options.note, "settings": options.set,
               "unseen": options.unseen}  # fmt: skip
    jobs = [create_job(n, seed=seed, **changes) for n in options.presets for seed in options.seeds]
    for job in jobs:
        if options.again or job.key not in read_rows(options.csv):
            append_rows([run_job(job, keep=options.keep)], options.csv)
    print_means(jobs, options.csv)


if __name__ == "__main__":
    main()
