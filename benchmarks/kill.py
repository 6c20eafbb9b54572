"""Runs killed with SIGKILL, at named spots and at random times, against undisturbed ones.

    python benchmarks/kill.py tensorflow --groups 10
    python benchmarks/kill.py jax --groups 3
    python benchmarks/kill.py pipelines --groups 10   # from pictures to exports
    python benchmarks/kill.py "power cuts" --groups 3  # which empty what was not flushed
    python benchmarks/kill.py damage                  # files cut off, and single bits flipped

A group is ten kills. A row a run is appended to `benchmarks/results/kill.csv`, with the commit of
seglib; groups of this commit that are there are skipped, so that the campaign may be stopped and
carried on.
"""

import argparse
import csv
import datetime
import pathlib
import shutil
import subprocess
import sys
import tempfile

import keras
import numpy as np
from timing import describe_machine

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import killed_runs  # noqa: E402 - the same processes as in the tests
import test_killed_pipelines  # noqa: E402

from seglib.scenes import write_scenes  # noqa: E402

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
PIPELINE_SECONDS = 6


def describe_code():
    """Return the last commit that changed seglib; with a + where it was changed since."""
    git = ["git", "-C", str(ROOT)]
    log = [*git, "log", "-1", "--format=%h", "--", "seglib"]
    commit = subprocess.check_output(log, text=True).strip()
    changes = subprocess.check_output([*git, "status", "--porcelain", "--", "seglib"])
    return commit + "+" * bool(changes)


def draw_kills(seed, seconds):
    """Return ten pairs of a spot and how often it is passed before.

    Every second spot is a time, up to these seconds; which of the others is first is the seed's.
    """
    random, spots = np.random.default_rng(seed), list(killed_runs.PLACES)
    kills = []
    for i in range(KILLS):
        spot = spots[(seed + i // 2) % len(spots)]
        if i % 2:
            spot = f"after {random.uniform(0, seconds):.2f} s"
        kills.append((spot, int(random.integers(1, 4))))
    return [kills[i] for i in random.permutation(KILLS)]


def kill_group(backend, seed, undisturbed, folder):
    """Yield a row for each of the runs that ten kills need.

    Where a run ends before it comes past a spot, the next run is killed there.
    """
    kills, number = draw_kills(seed, SECONDS[backend]), 0
    while kills:
        run_dir, hits = folder / f"run_{number}", []
        while kills and killed_runs.kill_run(run_dir, *kills[0], backend=backend):
            hits.append(kills.pop(0)[0])
        if kills:
            kills[0] = kills[0][0], 1
        else:
            killed_runs.kill_run(run_dir, backend=backend)
        changes = killed_runs.find_changes(undisturbed, run_dir)
        yield describe(backend, seed, number, len(hits), len(changes), "; ".join(hits))
        number += 1


def describe(backend, seed, number, kills, differences, spots):
    """Return a row."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "code": describe_code(),
        "backend": backend,
        "keras": keras.__version__,
        "seed": seed,
        "run": number,
        "kills": kills,
        "differences": differences,
        "spots": spots,
    }


def kill_pipelines(what, seed, undisturbed, folder):
    """Yield a row for each of the pipelines that ten kills need."""
    random, number, left = np.random.default_rng(seed), 0, KILLS
    expected = test_killed_pipelines.read_outputs(undisturbed)
    while left > 0:
        place = folder / f"pipeline_{number}"
        shutil.copytree(undisturbed / "data", place / "data")
        delays = random.uniform(0, PIPELINE_SECONDS, left)
        kills = test_killed_pipelines.kill_pipeline(place, delays, power_cut=what == "power cuts")
        changes = test_killed_pipelines.find_changes(expected, place)
        spots = "; ".join(f"after {delay:.2f} s" for delay in delays[:kills])
        yield describe(what, seed, number, kills, len(changes), spots)
        left, number = left - kills, number + 1


def damage_files(undisturbed, folder):
    """Yield a row for each kind of files."""
    for number, kind in enumerate(test_killed_pipelines.KINDS):
        (folder / kind).mkdir(parents=True)
        counts, wrong = test_killed_pipelines.damage_files(undisturbed, folder / kind, kind)
        tried = sum(counts.values()) + len(wrong)
        spots = "; ".join(f"{name} {count}" for name, count in counts.items())
        yield describe(f"damaged {kind}", 0, number, tried, len(wrong), spots)


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
    parser.add_argument("what", choices=[*SECONDS, "pipelines", "power cuts", "damage"])
    parser.add_argument("--groups", type=int, default=10)
    options = parser.parse_args()
    what, code = options.what, describe_code()
    done = {int(row["seed"]) for row in read_rows(what, code)}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        undisturbed = folder / "undisturbed"
        if what in SECONDS:
            killed_runs.kill_run(undisturbed, backend=what)
        else:
            write_scenes(undisturbed / "data", num_scenes=12, size=(48, 64))
            test_killed_pipelines.kill_pipeline(undisturbed, [])
        if what == "damage":
            append(list(damage_files(undisturbed, folder)))
            return
        kill = kill_group if what in SECONDS else kill_pipelines
        for seed in sorted(set(range(options.groups)) - done):
            append(list(kill(what, seed, undisturbed, folder / f"group_{seed}")))
    rows = read_rows(what, code)
    kills, different = (sum(int(row[name]) for row in rows) for name in ("kills", "differences"))
    print(f"{what}, {code}: {kills} kills, {len(rows)} runs, {different} arrays differ")


if __name__ == "__main__":
    main()
