"""Processes that kill themselves with SIGKILL, at a named spot or a time; small runs in them."""

import multiprocessing
import os
import pkgutil
import signal
import threading
from unittest import mock

import numpy as np
from small_runs import make_dataset, make_model

import seglib
from seglib.runs import TIMINGS, RunFolder

# Where a process dies: before or after a function, or when half of what it wrote is on disk.
PLACES = {
    "within a batch": ("before", "seglib.learning", "augment_pair"),
    "before a step": ("before", "seglib.learning.Learner", "step"),
    "after a step": ("after", "seglib.learning.Learner", "step"),
    "noting a step": ("before", "seglib.runs.RunFolder", "note"),
    "before a checkpoint": ("before", "seglib.runs.RunFolder", "save"),
    "within a checkpoint": ("half", "numpy", "savez"),
    "after a checkpoint": ("after", "seglib.runs.RunFolder", "save"),
    "removing old checkpoints": ("before", "pathlib.Path", "unlink"),
    "within validation": ("before", "seglib.learning.Learner", "predict_batch"),
    "within the best model": ("half", "keras.Model", "save"),
    "after the best model": ("after", "seglib.learning.Learner", "save"),
    "writing the tables": ("before", "seglib.runs", "replacing"),
    "after an epoch": ("after", "seglib.training.Loop", "end_epoch"),
}
OPTIONS = {"epochs": 6, "batch_size": 2, "checkpoint_every": 2, "ema": True, "seed": 3}


def kill_run(run_dir, spot="nowhere", times=1, *, backend="tensorflow", options=OPTIONS):
    """Train a small run in a process that kills itself; whether it did so."""
    return kill(train, run_dir, options, spot=spot, times=times, KERAS_BACKEND=backend)


def train(run_dir, options):
    run = seglib.train(make_model(), make_dataset(), run_dir=run_dir, **options)
    assert run.ended_by == "plan"


def kill(function, *arguments, spot, times=1, **variables):
    """Call a function in a process that kills itself at a spot; whether it did so.

    A spot is one of PLACES, at the given time of passing it, or a time such as "after 3.5 s".
    """
    with mock.patch.dict(os.environ, {"TQDM_DISABLE": "1", **variables}):
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=call_to_spot, args=(function, arguments, spot, times))
        process.start()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the process ended with {process.exitcode}")
    return process.exitcode != 0


def call_to_spot(function, arguments, spot, left):
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def pass_by(*arguments, **options):
        nonlocal left
        left -= 1
        if when == "before" and left == 0:
            die()
        result = original(*arguments, **options)
        if when == "half" and left == 0:
            file = arguments[-1]
            path = file if isinstance(file, os.PathLike) else file.name
            os.truncate(path, os.path.getsize(path) // 2)
        if left == 0:
            die()
        return result

    if spot in PLACES:
        when, place, name = PLACES[spot]
        place = pkgutil.resolve_name(place)
        original = getattr(place, name)
        setattr(place, name, pass_by)
    elif spot != "nowhere":
        threading.Timer(float(spot.split()[1]), die).start()
    function(*arguments)
    os._exit(0)  # not waiting for a timer


def read_run(run_dir):
    """All that an interruption must not change: dict of arrays."""
    state = RunFolder(run_dir).read()
    rows = [{k: v for k, v in row.items() if k not in TIMINGS} for row in state.history]
    content = {f"variable {i}": array for i, array in enumerate(state.arrays)}
    content |= {f"history {k}": np.array([row[k] for row in rows]) for k in rows[0]}
    content |= {"step": np.array(state.step), "best score": np.array(state.best_score)}
    best = seglib.load_model(run_dir).get_weights()
    return content | {f"best {i}": array for i, array in enumerate(best)}


def find_changes(first, second):
    """Names of what differs between two runs, bit for bit."""
    return list_unlike(read_run(first), read_run(second))


def list_unlike(first, second):
    """Keys of the arrays that two dicts do not share."""
    both = first.keys() & second.keys()
    unlike = [x for x in both if not np.array_equal(first[x], second[x], equal_nan=True)]
    return [*unlike, *(first.keys() ^ second.keys())]
