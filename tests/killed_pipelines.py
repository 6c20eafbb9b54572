"""All from a folder of pictures to exports, in a process that is killed and started again.

As a script it is such a process: `killed_pipelines.py FOLDER [FLUSHED]`. Where FLUSHED names a
file, it notes there what it brings to disk, so that a power cut can be played: the rest is emptied.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import killed_runs
import numpy as np
import pandas as pd

SETTINGS = {"epochs": 3, "batch_size": 2, "checkpoint_every": 3, "precision": "float32"}
FORMATS = ("keras", "litert")


def run_pipeline(folder):
    import seglib

    dataset = seglib.open_dataset(folder / "data")
    data = dataset.prepare(image_size=(32, 32), cache_dir=folder / "cache")
    model = seglib.create_unetpp_model(
        (32, 32, 3), num_classes=dataset.classes.num_classes, filters=(4, 8), seed=0
    )
    run = seglib.train(model, data, run_dir=folder / "run", seed=0, **SETTINGS)
    seglib.evaluate(run.model, dataset.val).write(folder / "results")
    masks = seglib.predict_folder(run.model, dataset.unlabelled, folder / "results")
    labels = [seglib.read_labels(mask, dataset.classes, encoding="colors") for mask in masks]
    predicted = zip(dataset.unlabelled.names, labels, strict=True)
    seglib.write_submission(folder / "results/submission.csv", predicted, dataset.classes)
    for name in FORMATS:
        seglib.export(run.model, folder / name, format=name)


def read_outputs(folder):
    """All that an interruption must not change: `{name: array or bytes}`."""
    import seglib

    image, _ = seglib.open_dataset(folder / "data").val[0]
    found = killed_runs.read_run(folder / "run")
    for name in FORMATS:
        found[name] = seglib.predict(seglib.load_predictor(folder / name), image)
    for path in (folder / "results").glob("[!.]*"):
        content = path.read_bytes()
        if path.name == "results.csv":
            content = pd.read_csv(path).drop(columns="latency_ms").to_csv().encode()
        found[path.name] = np.frombuffer(content, np.uint8)
    return found


def find_changes(expected, folder):
    """Names of what differs from these outputs, and of what a killed export left."""
    found = read_outputs(folder)
    wrong = [
        name
        for name in {**expected, **found}
        if not (name in expected and name in found and is_same(expected[name], found[name]))
    ]
    return wrong + [path.name for path in folder.iterdir() if path.name.startswith(".")]


def is_same(first, second):
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")


def kill_pipeline(folder, delays, *, power_cut=False):
    """Go through it to its end, killed so many seconds after each start; return how often it was.

    A power cut also empties what was written since the start and not flushed.
    """
    kills, flushed = 0, folder.with_suffix(".flushed")
    command = [sys.executable, __file__, str(folder), *[str(flushed)] * power_cut]
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    environment["PYTHONPATH"] = str(pathlib.Path(__file__).parents[1])
    for delay in [*delays, None]:
        flushed.write_text("")
        begun = time.time_ns()
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "begun\n", process.stderr.read()
        try:
            _, errors = process.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += 1
        if power_cut:
            empty_unflushed(folder, set(flushed.read_text().splitlines()), begun)
    return kills


def empty_unflushed(folder, flushed, begun):
    for path in folder.rglob("*"):
        status = path.stat()
        if path.is_file() and status.st_mtime_ns >= begun and describe(status) not in flushed:
            os.truncate(path, 0)


def describe(status):
    """A file as it is now: it is another one after each change."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def main(folder, flushed=None):
    import seglib

    seglib.train  # noqa: B018 - imports Keras
    if flushed:
        fsync = os.fsync

        def note(file):
            fsync(file)
            with open(flushed, "a") as log:
                print(describe(os.stat(getattr(file, "fileno", lambda: file)())), file=log)

        os.fsync = note
    print("begun", flush=True)
    run_pipeline(pathlib.Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
