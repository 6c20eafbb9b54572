"""A rehearsal of the worst: a small run is killed and resumed, on this machine."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from seglib.classes import ClassTable
from seglib.models import create_unetpp_model
from seglib.preparing import PreparedDataset, PreparedSplit
from seglib.training import train
from seglib.training.checkpoints import PATTERN

OPTIONS = {"epochs": 4, "batch_size": 2, "checkpoint_every": 1, "resume_from": None}
PAIRS, VALIDATION_PAIRS, WAIT = 12, 4, 300
SIGNAL = getattr(signal, "SIGKILL", signal.SIGTERM)


def rehearse_kill(dataset, *, seed=0):
    """Train a miniature twice, once undisturbed, once killed in a process of its own and resumed.

    Args:
        dataset: PreparedDataset, of which a few pairs are taken as they are; of blended ones the
            pictures that they are made of.
        seed: int.

    Returns:
        `(undisturbed, resumed)`, two Runs whose folders are gone. Their histories, timings
        aside, and their weights are equal where training computes the same twice.

    Raises:
        RuntimeError: the process ended before it could be killed.
        ValueError: the training split is empty.
    """
    if not len(dataset.train):
        raise ValueError("the training split is empty: expected at least one pair")
    pairs = [dataset.train[i % len(dataset.train)] for i in range(PAIRS)]
    images, labels = (np.stack(parts) for parts in zip(*pairs, strict=True))
    few = dataclasses.replace(
        dataset, train=PreparedSplit(images, labels, [], dataset.classes),
        val=dataset.val[:VALIDATION_PAIRS], test=dataset.test[:0],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        undisturbed = _train(few, folder / "undisturbed", seed)
        _write(few, folder / "few.npz")
        _kill_in_the_second_epoch(folder / "few.npz", folder / "killed", seed)
        return undisturbed, _train(few, folder / "killed", seed)


def train_file(file, run_dir, seed):
    """Train the miniature of a file; what the process that is killed does."""
    _train(_read(file), run_dir, int(seed))


def _train(few, run_dir, seed):
    model = create_unetpp_model(
        (*few.image_size, 3), num_classes=few.classes.num_classes, filters=(4, 8), seed=seed
    )
    return train(model, few, run_dir=run_dir, seed=seed, **OPTIONS)


def _kill_in_the_second_epoch(file, run_dir, seed):
    program = "import sys; from seglib.training.rehearsal import train_file as t; t(*sys.argv[1:])"
    paths = [str(pathlib.Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(file), str(run_dir), str(seed)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdout=output,
            stderr=output,
        )
        end = time.monotonic() + WAIT
        while process.poll() is None and _steps(run_dir) < PAIRS // 2 + 2:
            time.sleep(0.01)
            if time.monotonic() > end:
                break
        process.kill()
        if process.wait() != -SIGNAL:
            output.seek(0)
            raise RuntimeError(
                f"the run to be killed has ended by itself:\n{output.read()[-2000:]}"
            )


def _steps(run_dir):
    files = (run_dir / "checkpoints").glob(PATTERN)
    return max((int(file.name[5:14]) for file in files), default=0)


def _write(few, file):
    story = {"classes": few.classes.to_dict(), "fingerprint": few.fingerprint, "fit": few.fit}
    arrays = {
        f"{name}_{part}": getattr(getattr(few, name), part)
        for name in ("train", "val")
        for part in ("images", "labels")
    }
    np.savez(file, story=np.array(json.dumps(story)), **arrays)


def _read(file):
    with np.load(file, allow_pickle=False) as archive:
        story = json.loads(str(archive["story"]))
        classes = ClassTable(**story["classes"])
        train, val = (
            PreparedSplit(archive[f"{name}_images"], archive[f"{name}_labels"], [], classes)
            for name in ("train", "val")
        )
    size, fingerprint = train.images.shape[1:3], story["fingerprint"]
    return PreparedDataset(None, size, fingerprint, classes, train, val, val[:0], story["fit"])
