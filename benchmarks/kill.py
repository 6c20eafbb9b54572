"""Runs killed with SIGKILL, at named spots and at random times, against undisturbed ones.

A row a run is appended to `benchmarks/results/kill.csv`; groups of kills that are there are
skipped, so that the campaign may be stopped and carried on.
"""

import csv
import pathlib
import sys
import tempfile

import keras
from timing import describe_machine

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import killed_runs  # noqa: E402 - the same processes as in the tests

RESULTS = ROOT / "benchmarks/results/kill.csv"
COLUMNS = ("backend", "keras", "seed", "run", "kills", "differences", "spots")
KILLS = 10  # in a group
SECONDS = {"tensorflow": 3.0, "jax": 9.0}  # a small run takes a little longer


def kill_group(backend, seed, undisturbed, folder):
    """Yield a row for each of the runs that ten kills need."""
    kills = killed_runs.draw_kills(KILLS, seed, seconds=SECONDS[backend])
    runs = killed_runs.train_with_kills(folder, kills, backend=backend)
    for number, (run_dir, hits) in enumerate(runs):
        changes = killed_runs.find_changes(undisturbed, run_dir)
        yield {
            "backend": backend,
            "keras": keras.__version__,
            "seed": seed,
            "run": number,
            "kills": len(hits),
            "differences": len(changes),
            "spots": "; ".join(hits),
        }


def read_rows():
    if not RESULTS.is_file():
        return []
    with open(RESULTS, newline="") as file:
        return list(csv.DictReader(file))


def append(rows):
    RESULTS.parent.mkdir(exist_ok=True)
    new = not RESULTS.is_file()
    with open(RESULTS, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerows(rows)


def run_campaign(backend, *, groups=10):
    done = {int(row["seed"]) for row in read_rows() if row["backend"] == backend}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        undisturbed = folder / "undisturbed"
        killed_runs.kill_run(undisturbed, backend=backend)
        for seed in set(range(groups)) - done:
            append(list(kill_group(backend, seed, undisturbed, folder / f"group_{seed}")))


def main():
    for backend in sys.argv[1:] or SECONDS:
        run_campaign(backend)
    print(f"kills and what came of them ({describe_machine()})")
    for backend in SECONDS:
        rows = [row for row in read_rows() if row["backend"] == backend]
        kills, different = (
            sum(int(row[name]) for row in rows) for name in ("kills", "differences")
        )
        print(f"  {backend:12} {kills:4} kills, {len(rows):3} runs, {different} arrays differ")


if __name__ == "__main__":
    main()
