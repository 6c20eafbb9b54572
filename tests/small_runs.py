"""Runs of seconds: noisy pictures whose class is their brightness, which anything can learn."""

import numpy as np
from keras_checks import assert_same

import seglib
from seglib.classes import ClassTable
from seglib.preparing import PreparedDataset, PreparedSplit
from seglib.runs import TIMINGS, RunFolder

TABLE = ClassTable(["dark", "bright", "void"], [(9, 9, 9), (8, 8, 8), (0, 0, 0)], ignore_label=2)


def make_split(count, seed, classes=TABLE, scale=1):
    """Pairs of 32×32 pixels, each of them `scale` pixels wide and high."""
    random = np.random.default_rng(seed)
    labels = np.kron(random.integers(0, 2, (count, 4, 4)), np.ones((8, 8), int)).astype(np.uint8)
    images = 60 + 120 * labels[..., None] + random.integers(-40, 40, (count, 32, 32, 3))
    labels[:, :4] = classes.ignore_label
    arrays = (x.repeat(scale, axis=1).repeat(scale, axis=2) for x in (np.uint8(images), labels))
    return PreparedSplit(*arrays, [f"image_{i}" for i in range(count)], classes)


def make_dataset(train=12, val=4, *, classes=TABLE, scale=1, **changes):
    counts = {"train": train, "val": val, "test": 0}
    splits = {x: make_split(counts[x], seed, classes, scale) for seed, x in enumerate(counts)}
    fields = {"path": None, "image_size": (32 * scale, 32 * scale), "fingerprint": "data"}
    return PreparedDataset(classes=classes, **splits, **{**fields, **changes})


def make_model(num_classes=3, seed=0, dropout=0.3, filters=(4, 8), **options):
    return seglib.create_unetpp_model(
        (32, 32, 3), num_classes=num_classes, filters=filters, dropout=dropout, seed=seed, **options
    )


def assert_same_weights(first, second):
    assert_same(first.get_weights(), second.get_weights())


def assert_same_run(first, second, *, folders=True):
    """Everything that an interruption must not change, bit for bit."""
    history, other = (run.history.drop(columns=list(TIMINGS)) for run in (first, second))
    assert history.equals(other)
    assert_same_weights(first.model, second.model)
    if not folders:
        return
    assert_same_weights(*(seglib.load_model(run.run_dir) for run in (first, second)))
    arrays, others = (RunFolder(run.run_dir).read().arrays for run in (first, second))
    assert arrays
    assert_same(arrays, others)
