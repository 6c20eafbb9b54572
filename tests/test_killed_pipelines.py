"""The whole pipeline: killed, after a power cut, and with damaged files."""

import shutil
import warnings

import killed_pipelines
import numpy as np
import pytest

import seglib
from seglib.runs import RunFolder
from seglib.scenes import write_scenes

FLIPS = 50
FORMATS = ("keras", "savedmodel", "litert", "onnx", "openvino")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of a pipeline that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_scenes(folder / "data", num_scenes=12, size=(48, 64))
    assert killed_pipelines.kill_pipeline(folder, []) == 0
    return folder


@pytest.mark.long
@pytest.mark.parametrize("power_cut", [False, True])
def test_a_pipeline_that_was_killed_ends_as_if_it_were_not(ended, tmp_path, power_cut):
    shutil.copytree(ended / "data", tmp_path / "data")
    killed_pipelines.kill_pipeline(tmp_path, [1, 3, 5], power_cut=power_cut)
    assert killed_pipelines.find_changes(killed_pipelines.read_outputs(ended), tmp_path) == []


def damage(file, random):
    """Yield after each damage: cut off at each tenth, then single bits flipped."""
    content = file.read_bytes()
    for tenth in range(10):
        file.write_bytes(content[: len(content) * tenth // 10])
        yield
    for place in random.integers(0, 8 * len(content), FLIPS):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        file.write_bytes(changed)
        yield
    file.write_bytes(content)


def read_cache(folder):
    data = seglib.open_dataset(folder / "data").prepare(
        image_size=(32, 32), cache_dir=folder / "cache"
    )
    splits = data.train, data.val, data.test
    return [half for split in splits for pair in split for half in pair]


def read_best(folder):
    return seglib.load_model(folder / "run/best.keras").get_weights()


def read_run(folder):
    seglib.list_runs(folder)
    return [*read_best(folder), *RunFolder(folder / "run").read().arrays]


def read_export(folder):
    image, _ = seglib.open_dataset(folder / "data").val[0]
    (export,) = (path for path in folder.iterdir() if path.name in FORMATS)
    return [seglib.predict(seglib.load_predictor(export), image)]


KINDS = {
    "caches": ("cache", "*/*", read_cache),
    "best.keras": ("run", "best.keras", read_best),
    "run.json": ("run", "run.json", read_run),
    "results": ("run", "*.csv", read_run),
    **{name: (name, "**/*", read_export) for name in FORMATS},
}


def damage_files(ended, folder, kind):
    """Count what came of damaged files: `{"noticed": n, "harmless": n}`, and what is wrong."""
    part, pattern, read = KINDS[kind]
    for name in ("data", "run", part):
        if (ended / name).is_dir():
            shutil.copytree(ended / name, folder / name, dirs_exist_ok=True)
    if part in FORMATS and not (folder / part).exists():
        seglib.export(seglib.load_model(ended / "run"), folder / part, format=part)
    expected, random = read(folder), np.random.default_rng(0)
    counts, wrong = {"noticed": 0, "harmless": 0}, []
    for file in sorted(path for path in (folder / part).glob(pattern) if path.is_file()):
        for _ in damage(file, random):
            try:
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    found = read(folder)
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
