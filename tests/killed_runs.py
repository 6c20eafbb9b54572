"""Runs that are killed at named spots, each in a process of its own, and resumed.

As a script it is such a process: `killed_runs.py RUN_DIR SPOT TIMES OPTIONS` trains a small
run and kills itself with SIGKILL when the spot is reached for the TIMES-th time.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import numpy as np

SPOTS = (
    "within a batch",
    "before a step",
    "after a step",
    "noting a step",
    "before a checkpoint",
    "within a checkpoint",
    "after a checkpoint",
    "removing old checkpoints",
    "within validation",
    "within the best model",
    "after the best model",
    "writing the tables",
    "after an epoch",
)
OPTIONS = {
    "epochs": 6,
    "batch_size": 2,
    "checkpoint_every": 2,
    "ema": True,
    "patience": 6,
    "seed": 3,
}


def draw_kills(count, seed, *, seconds=None):
    """Pairs of a spot and how often it is passed before, all spots in turn.

    Which spot comes first is the seed's. With `seconds`, every second kill is at a time up to
    that instead.
    """
    random = np.random.default_rng(seed)
    kills = []
    while len(kills) < count:
        spot = SPOTS[(seed + len(kills) // (2 if seconds else 1)) % len(SPOTS)]
        if seconds and len(kills) % 2:
            spot = f"after {random.uniform(0, seconds):.2f} s"
        kills.append((spot, int(random.integers(1, 4))))
    return [kills[i] for i in random.permutation(count)]


def train_with_kills(folder, kills, *, backend="tensorflow", options=OPTIONS):
    """Train small runs to their end, killed at each of the spots; yield each finished run.

    Yields:
        `(run_dir, hits)`, the folder of a run and the spots it was killed at. A spot that a
        run does not come past any more is kept for the next one.
    """
    kills, number = list(kills), 0
    while kills:
        run_dir, hits, missed = folder / f"run_{number}", [], []
        for spot, times in kills:
            if len(missed) == 2:  # it has ended
                missed.append((spot, times))
            elif kill_run(run_dir, spot, times, backend=backend, options=options):
                hits.append(spot)
            else:
                missed.append((spot, 1))
        kill_run(run_dir, backend=backend, options=options)
        kills, number = missed, number + 1
        yield run_dir, hits


def kill_run(run_dir, spot="nowhere", times=0, *, backend="tensorflow", options=OPTIONS):
    """Train in a process that kills itself; whether it did so, at that very spot.

    A spot such as "after 3.5 s" is a time.
    """
    environment = {**os.environ, "KERAS_BACKEND": backend, "TQDM_DISABLE": "1"}
    environment["PYTHONPATH"] = str(pathlib.Path(__file__).parents[1])
    command = [sys.executable, __file__, str(run_dir), spot, str(times), json.dumps(options)]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    process = subprocess.run(command, env=environment, **output)
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the process ended with {process.returncode}")
    killed = process.returncode == -signal.SIGKILL
    assert process.stdout.strip() == (f"killed {spot}" if killed else "ended by plan")
    return killed


def read_run(run_dir):
    """All that an interruption must not change: dict of arrays."""
    from seglib.runs import TIMINGS, RunFolder, load_model

    state = RunFolder(run_dir).read()
    rows = [{k: v for k, v in row.items() if k not in TIMINGS} for row in state.history]
    content = {f"variable {i}": array for i, array in enumerate(state.arrays)}
    content |= {f"history {k}": np.array([row[k] for row in rows]) for k in rows[0]}
    content |= {"step": np.array(state.step), "best score": np.array(state.best_score)}
    best = load_model(run_dir).get_weights()
    return content | {f"best {i}": array for i, array in enumerate(best)}


def find_changes(first, second):
    """Names of what differs between two runs, bit for bit."""
    first, second = read_run(first), read_run(second)
    both = first.keys() & second.keys()
    unlike = [x for x in both if not np.array_equal(first[x], second[x], equal_nan=True)]
    return [*unlike, *(first.keys() ^ second.keys())]


def main(run_dir, spot, times, options):
    from small_runs import make_dataset, make_model

    import seglib
    from seglib import learning, runs, system, training

    left = int(times)

    def die():
        print("killed", spot, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def pass_by():
        nonlocal left
        left -= 1
        if left == 0:
            die()

    def passing_by(function, *, before=True):
        def wrapped(*arguments, **keywords):
            if before:
                pass_by()
            result = function(*arguments, **keywords)
            if not before:
                pass_by()
            return result

        return wrapped

    def save_half(stream, **arrays):
        np_savez(stream, **arrays)
        if left == 1:
            stream.truncate(stream.tell() // 2)
        pass_by()

    def save_half_of_best(learner, file):
        with system.replacing(file) as temporary:
            temporary.write_bytes(b"half")
            pass_by()
            save_best(learner, temporary)

    np_savez, save_best = np.savez, learning.Learner.save
    places = {
        "within a batch": (learning, "augment_pair", True),
        "before a step": (learning.Learner, "step", True),
        "after a step": (learning.Learner, "step", False),
        "noting a step": (runs.RunFolder, "note", True),
        "before a checkpoint": (runs.RunFolder, "save", True),
        "after a checkpoint": (runs.RunFolder, "save", False),
        "removing old checkpoints": (pathlib.Path, "unlink", True),
        "within validation": (learning.Learner, "predict_batch", True),
        "after the best model": (learning.Learner, "save", False),
        "writing the tables": (runs, "replacing", True),
        "after an epoch": (training.Loop, "end_epoch", False),
    }
    if spot in places:
        place, name, before = places[spot]
        setattr(place, name, passing_by(getattr(place, name), before=before))
    elif spot == "within a checkpoint":
        np.savez = save_half
    elif spot == "within the best model":
        learning.Learner.save = save_half_of_best
    elif spot.startswith("after "):
        threading.Timer(float(spot.split()[1]), die).start()
    elif spot != "nowhere":
        raise ValueError(f"no such spot: {spot}")
    run = seglib.train(make_model(), make_dataset(), run_dir=run_dir, **json.loads(options))
    print(f"ended by {run.ended_by}", flush=True)
    os._exit(0)  # not waiting for a timer


if __name__ == "__main__":
    main(*sys.argv[1:])
