"""Runs of seconds: noisy pictures whose class is their brightness, which anything can learn."""

import shutil

import keras
import numpy as np

import seglib
from seglib.classes import ClassTable
from seglib.preparing import PreparedDataset, PreparedSplit
from seglib.training import TIMINGS

TABLE = ClassTable(["dark", "bright", "void"], [(9, 9, 9), (8, 8, 8), (0, 0, 0)], ignore_label=2)


def make_split(count, seed, classes=TABLE):
    random = np.random.default_rng(seed)
    labels = np.kron(random.integers(0, 2, (count, 4, 4)), np.ones((8, 8), int)).astype(np.uint8)
    images = 60 + 120 * labels[..., None] + random.integers(-40, 40, (count, 32, 32, 3))
    labels[:, :4] = classes.ignore_label
    names = [f"image_{i}" for i in range(count)]
    return PreparedSplit(images.astype(np.uint8), labels, names, classes)


def make_dataset(train=12, val=4, *, classes=TABLE, fingerprint="data"):
    splits = {"train": make_split(train, 0, classes), "val": make_split(val, 1, classes)}
    return PreparedDataset(
        path=None,
        image_size=(32, 32),
        fingerprint=fingerprint,
        classes=classes,
        test=make_split(0, 2, classes),
        **splits,
    )


def make_model(num_classes=3, seed=0, dropout=0.3, filters=(4, 8)):
    return seglib.create_unetpp_model(
        (32, 32, 3), num_classes=num_classes, filters=filters, dropout=dropout, seed=seed
    )


def compute(model, x):
    """What a model answers, as NumPy arrays; eagerly, as tracing takes longer than one call."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))


def copy_run(run, folder):
    """Copy a run's folder, so that what is done to it is not done to others' run."""
    return shutil.copytree(run.run_dir, folder / "copy")


def without_timings(history):
    """The columns of a history that two runs of the same settings share."""
    return history.drop(columns=list(TIMINGS))


def assert_same_weights(first, second):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_same_run(first, second):
    """Everything that an interruption must not change, bit for bit."""
    assert without_timings(first.history).equals(without_timings(second.history))
    assert_same_weights(first.model, second.model)
    assert_same_weights(*(seglib.load_model(run.run_dir) for run in (first, second)))
    for a, b in zip(*(_last_arrays(run.run_dir) for run in (first, second)), strict=True):
        np.testing.assert_array_equal(a, b)


def _last_arrays(run_dir):
    """Weights, dropout's states, optimizer's variables and averages of the last checkpoint."""
    state = seglib.training.Checkpoints(run_dir).read()
    assert state.arrays
    return state.arrays
