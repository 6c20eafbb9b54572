"""What each ingredient of a preset is worth: CamVid without it, against CamVid with all of them.

    python benchmarks/ablation.py
    python benchmarks/ablation.py --set train.batch_size=4     # for a processor with AVX2 alone
    python benchmarks/ablation.py nothing 'no EMA' --seeds 0

A row a run is appended to `benchmarks/results/ablation.csv`; runs that are there are skipped, so
that the campaign may be stopped and carried on.
"""

import argparse
import time

from camvid import ROOT, append_rows, create_job, format_spread, read_rows, run_job

from seglib.system import parse_duration

RESULTS = ROOT / "benchmarks/results/ablation.csv"
NOTHING = "nothing"
REMOVED = {
    NOTHING: {},
    "AdamW in place of Muon": {"train.optimizer": "adamw", "train.learning_rate": 4e-3},
    "no EMA": {"train.ema": False},
    "no windows from larger pictures": {
        "prepare.image_size": (128, 128),
        "augment.scale": (1.0, 1.0),
        "augment.aspect": 1.0,
    },
    "random weights": {
        "model.encoder_weights": None,
        "model.frozen_rows": 0,
        "model.frozen_depthwise": False,
        "train.encoder_rate": 1.0,
    },
    "deep supervision added": {"model.deep_supervision": True},
}
SCORING = 45  # seconds after the budget, until a run has shown what it takes


def create_jobs(options, names):
    """All ingredients with the first seed, then with the next one; by what is removed."""
    return [
        (
            name,
            create_job(
                options.preset,
                seed=seed,
                budget=options.budget,
                note=" ".join([name, *options.set]),
                settings=[*options.set, *[f"{key}={value!r}" for key, value in changes.items()]],
            ),
        )
        for seed in options.seeds
        for name, changes in REMOVED.items()
        if name in names
    ]


def run_jobs(jobs, path, *, deadline):
    """Do what has no row yet, as long as a run is expected to end before the deadline."""
    scoring = SCORING
    for _, job in jobs:
        if job.key in read_rows(path):
            continue
        start = time.monotonic()
        if start + job.budget + scoring > deadline:
            return print(f"\nno time for {job.note}, seed {job.seed}: run again to carry on")
        append_rows([run_job(job)], path)
        scoring = time.monotonic() - start - job.budget


def print_differences(jobs, path):
    """Print mean IoU of each ingredient's runs, and what they differ by, seed by seed."""
    rows = read_rows(path)
    scores = {name: {} for name in REMOVED}
    for name, job in jobs:
        if job.key in rows:
            scores[name][job.seed] = float(rows[job.key]["mean_iou"])
    whole = scores[NOTHING]
    print("\nmean IoU without an ingredient, and its difference to all of them (lowest to highest)")
    for name, kind in scores.items():
        differences = [kind[seed] - whole[seed] for seed in kind if seed in whole]
        if differences:
            values = list(kind.values())
            print(f"  {name:35} {format_spread(values)}  {format_spread(differences, '+')}, "
                  f"{len(differences)} seeds")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(REMOVED), help="what is removed")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--budget", default="5m", help="of a run")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="SECTION.NAME=VALUE", help="for all"
    )
    parser.add_argument("--stop-after", default="30d", help="begin no run that would end later")
    parser.add_argument("--csv", default=RESULTS, help="where rows are appended")
    options = parser.parse_args()
    unknown = set(options.names) - set(REMOVED)
    if unknown:
        parser.error(f"unknown {sorted(unknown)}, expected some of {', '.join(REMOVED)}")
    deadline = time.monotonic() + parse_duration(options.stop_after)
    run_jobs(create_jobs(options, options.names), options.csv, deadline=deadline)
    print_differences(create_jobs(options, REMOVED), options.csv)


if __name__ == "__main__":
    main()
