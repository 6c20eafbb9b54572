"""Runs killed with SIGKILL, at named spots and at random times, against undisturbed ones.

    python benchmarks/kill.py tensorflow --groups 10
    python benchmarks/kill.py jax --groups 3

A group is ten kills. A row a run is appended to `benchmarks/results/kill.csv`, with the commit of
seglib; groups of this commit that are there are skipped, so that the campaign may be stopped and
carried on.
"""

import argparse
import csv
import datetime
import pathlib
import subprocess
import sys
import tempfile

import keras
from timing import describe_machine

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import killed_runs  # noqa: E402 - the same processes as in the tests

RESULTS = ROOT / "benchmarks/results/kill.csv"
COLUMNS = (
    "date",
    "machine",
    "code",
    "backend",
    "keras",
    "seed",
    "run",
    "kills",
    "differences",
    "spots",
)
KILLS = 10  # in a group
SECONDS = {"tensorflow": 5.0, "jax": 12.0}  # a small run takes a little longer


def describe_code():
    """Return the last commit that changed seglib; with a + where it was changed since."""
    git = ["git", "-C", str(ROOT)]
    log = [*git, "log", "-1", "--format=%h", "--", "seglib"]
    commit = subprocess.check_output(log, text=True).strip()
    changes = subprocess.check_output([*git, "status", "--porcelain", "--", "seglib"])
    return commit + "+" * bool(changes)


def kill_group(backend, seed, undisturbed, folder):
    """Yield a row for each of the runs that ten kills need."""
    kills = killed_runs.draw_kills(KILLS, seed, seconds=SECONDS[backend])
    runs = killed_runs.train_with_kills(folder, kills, backend=backend)
    for number, (run_dir, hits) in enumerate(runs):
        changes = killed_runs.find_changes(undisturbed, run_dir)
        yield {
            "date": datetime.date.today().isoformat(),
            "machine": describe_machine(),
            "code": describe_code(),
            "backend": backend,
            "keras": keras.__version__,
            "seed": seed,
            "run": number,
            "kills": len(hits),
            "differences": len(changes),
            "spots": "; ".join(hits),
        }


def read_rows(backend, code):
    """Rows of the CSV file of a backend and this code."""
    if not RESULTS.is_file():
        return []
    with open(RESULTS, newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["backend"] == backend and row.get("code") == code]


def append(rows):
    is_new = not RESULTS.is_file()
    with open(RESULTS, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("backend", choices=SECONDS)
    parser.add_argument("--groups", type=int, default=10)
    options = parser.parse_args()
    backend, code = options.backend, describe_code()
    done = {int(row["seed"]) for row in read_rows(backend, code)}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        undisturbed = folder / "undisturbed"
        killed_runs.kill_run(undisturbed, backend=backend)
        for seed in sorted(set(range(options.groups)) - done):
            append(list(kill_group(backend, seed, undisturbed, folder / f"group_{seed}")))
    rows = read_rows(backend, code)
    kills, different = (sum(int(row[name]) for row in rows) for name in ("kills", "differences"))
    print(f"{backend}, {code}: {kills} kills, {len(rows)} runs, {different} arrays differ")


if __name__ == "__main__":
    main()
