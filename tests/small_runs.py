"""Runs of seconds: noisy pictures whose class is their brightness, which anything can learn."""

import numpy as np

import seglib
from seglib.classes import ClassTable
from seglib.preparing import PreparedDataset, PreparedSplit
from seglib.runs import TIMINGS, RunFolder

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


def make_model(num_classes=3, seed=0, dropout=0.3, filters=(4, 8), **options):
    return seglib.create_unetpp_model(
        (32, 32, 3), num_classes=num_classes, filters=filters, dropout=dropout, seed=seed, **options
    )


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
    for a, b in zip(*(last_arrays(run.run_dir) for run in (first, second)), strict=True):
        np.testing.assert_array_equal(a, b)


def last_arrays(run_dir):
    """Weights, dropout's states, optimizer's variables and averages of the last checkpoint."""
    arrays = RunFolder(run_dir).read().arrays
    assert arrays
    return arrays
