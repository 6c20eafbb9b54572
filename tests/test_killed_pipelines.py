"""All from a folder of pictures to exports: killed, after a power cut, and with damaged files."""

import itertools
import os
import shutil
import time
import warnings

import killed_runs
import numpy as np
import pandas as pd
import pytest
from small_runs import make_model

import seglib
from seglib.runs import RunFolder
from seglib.scenes import write_scenes

SETTINGS = {"epochs": 3, "batch_size": 2, "checkpoint_every": 3, "precision": "float32"}
EXPORTED = ("keras", "litert")  # by the pipeline
FORMATS = ("keras", "savedmodel", "litert", "onnx", "openvino")


def prepare(folder):
    dataset = seglib.open_dataset(folder / "data")
    return dataset, dataset.prepare(image_size=(32, 32), cache_dir=folder / "cache")


def run_pipeline(folder, flushed):
    """All of it; what is brought to disk is noted in the file `flushed`."""
    fsync = os.fsync

    def note(file):
        fsync(file)
        with open(flushed, "a") as log:
            print(describe(os.stat(getattr(file, "fileno", lambda: file)())), file=log)

    os.fsync = note
    dataset, data = prepare(folder)
    model = make_model(dataset.classes.num_classes)
    run = seglib.train(model, data, run_dir=folder / "run", seed=0, **SETTINGS)
    seglib.evaluate(run.model, dataset.val).write(folder / "results")
    masks = seglib.predict_folder(run.model, dataset.unlabelled, folder / "results")
    labels = [seglib.read_labels(mask, dataset.classes, encoding="colors") for mask in masks]
    predicted = zip(dataset.unlabelled.names, labels, strict=True)
    seglib.write_submission(folder / "results/submission.csv", predicted, dataset.classes)
    for name in EXPORTED:
        seglib.export(run.model, folder / name, format=name)


def predict(folder, name):
    image, _ = seglib.open_dataset(folder / "data").val[0]
    return seglib.predict(seglib.load_predictor(folder / name), image)


def read_outputs(folder):
    """All that an interruption must not change: dict of arrays."""
    found = killed_runs.read_run(folder / "run")
    found |= {name: predict(folder, name) for name in EXPORTED}
    for path in (folder / "results").glob("[!.]*"):
        content = path.read_bytes()
        if path.name == "results.csv":
            content = pd.read_csv(path).drop(columns="latency_ms").to_csv().encode()
        found[path.name] = np.frombuffer(content, np.uint8)
    return found


def find_changes(expected, folder):
    """Names of what differs from these outputs, and of what a killed export left."""
    left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    return killed_runs.list_unlike(expected, read_outputs(folder)) + left


def kill_pipeline(folder, delays, *, power_cut=False):
    """Go through it to its end, killed so many seconds after each start; return how often it was.

    A power cut also empties what was written since the start and not flushed.
    """
    kills, flushed = 0, folder.with_suffix(".flushed")
    for spot in [*(f"after {delay} s" for delay in delays), "nowhere"]:
        flushed.write_text("")
        begun = time.time_ns()
        if not killed_runs.kill(run_pipeline, folder, flushed, spot=spot):
            break
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


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of a pipeline that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_scenes(folder / "data", num_scenes=12, size=(48, 64))
    assert kill_pipeline(folder, []) == 0
    return folder


@pytest.mark.long
@pytest.mark.parametrize("power_cut", [False, True])
def test_a_pipeline_that_was_killed_ends_as_if_it_were_not(ended, tmp_path, power_cut):
    shutil.copytree(ended / "data", tmp_path / "data")
    assert kill_pipeline(tmp_path, [1, 3, 5], power_cut=power_cut) > 0
    assert find_changes(read_outputs(ended), tmp_path) == []


def damage(file, random):
    """Yield after each damage: cut off at each tenth, then single bits flipped."""
    content = file.read_bytes()
    for tenth in range(10):
        file.write_bytes(content[: len(content) * tenth // 10])
        yield
    for place in random.integers(0, 8 * len(content), 50):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        file.write_bytes(changed)
        yield
    file.write_bytes(content)


def read_part(folder, part):
    """All that a part of the outputs gives to its user: a list of arrays."""
    if part in FORMATS:
        return [predict(folder, part)]
    if part == "cache":
        _, data = prepare(folder)
        pairs = itertools.chain(data.train, data.val, data.test)
        return list(itertools.chain(*pairs))
    seglib.list_runs(folder)
    best = seglib.load_model(folder / "run/best.keras")
    return [*best.get_weights(), *RunFolder(folder / "run").read().arrays]


KINDS = {
    "caches": ("cache", "*/*"),
    "best.keras": ("run", "best.keras"),
    "run.json": ("run", "run.json"),
    "results": ("run", "*.csv"),
    **{name: (name, "**/*") for name in FORMATS},
}


def damage_files(ended, folder, kind):
    """Count what came of damaged files: `{"noticed": n, "harmless": n}`, and what is wrong."""
    part, pattern = KINDS[kind]
    for name in ("data", "run", part):
        if (ended / name).is_dir():
            shutil.copytree(ended / name, folder / name, dirs_exist_ok=True)
    if part in FORMATS and not (folder / part).exists():
        seglib.export(seglib.load_model(ended / "run"), folder / part, format=part)
    expected, random = read_part(folder, part), np.random.default_rng(0)
    counts, wrong = {"noticed": 0, "harmless": 0}, []
    for file in sorted(path for path in (folder / part).glob(pattern) if path.is_file()):
        for _ in damage(file, random):
            try:
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    found = read_part(folder, part)
            except (ValueError, OSError) as error:
                told, found = [error], expected
            if len(found) == len(expected) and all(map(np.array_equal, found, expected)):
                counts["noticed" if told else "harmless"] += 1
            else:
                wrong.append(file.name)
    return counts, wrong


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noticed_or_harmless(ended, tmp_path, kind):
    if kind in FORMATS[2:]:
        pytest.importorskip({"litert": "ai_edge_litert"}.get(kind, kind))
    counts, wrong = damage_files(ended, tmp_path, kind)
    assert (wrong, sum(counts.values()) > 0) == ([], True)
