"""The form of the notebooks, and the names that they and the texts use.

What the notebooks compute is checked by `pytest --nbval`.
"""

import ast
import itertools
import json
import os
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def read_cells(path, kind=None):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if kind in (None, cell["cell_type"])]


def source(cell):
    return "".join(cell["source"])


def find_names(text):
    """All names of seglib in a text: `seglib.a.b`, what is imported, and that of such modules."""
    names = set(re.findall(r"(?<![\w/.])seglib(?:\.[A-Za-z_]\w*)+", text))
    for module, imported in re.findall(r"from (seglib[\w.]*) import ([\w, ]+)", text):
        for name in imported.replace(" ", "").split(","):
            names.add(f"{module}.{name}")
            used = re.findall(rf"(?<![\w/.]){name}\.([A-Za-z_]\w*)", text)
            if module == "seglib" and name.islower():
                names.update(f"seglib.{name}.{attribute}" for attribute in used)
    return names


def is_missing(name):
    """Whether a name is private or cannot be found."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return True
    return re.search(r"\._(?!_)", name) is not None


def test_names_are_found_and_missing_ones_noticed():
    text = "from seglib import plots, train\nplots.keep_figure(seglib.scenes.nothing)\n(seglib.git)"
    names = find_names(text + "from seglib.masks import _take, label_colors  # a/seglib.git")
    missing = {"seglib.scenes.nothing", "seglib.git", "seglib.masks._take"}
    known = {"plots", "plots.keep_figure", "train", "masks", "masks.label_colors"}
    known = {f"seglib.{name}" for name in known}
    assert names == missing | known
    assert {name for name in names if is_missing(name)} == missing


@pytest.mark.parametrize("path", [*NOTEBOOKS, *TEXTS], ids=lambda path: path.stem)
def test_every_name_of_seglib_exists(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join(source(cell) for cell in read_cells(path))
    assert not [name for name in sorted(find_names(text)) if is_missing(name)]


def test_the_notebooks_are_numbered():
    assert [int(path.name[:2]) for path in NOTEBOOKS] == list(range(1, 8))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_as_it_should_be(path):
    cells, (first, *others) = read_cells(path, "code"), read_cells(path, "code")
    assert source(read_cells(path)[0]).startswith("# ")
    # papermill replaces the parameters, which are the first cell.
    assert first["metadata"]["tags"] == ["parameters"]
    assert not any("parameters" in cell["metadata"].get("tags", []) for cell in others)
    names = {node.targets[0].id for node in ast.parse(source(first)).body}
    assert {"DATA_DIR", "OUTPUT_DIR", "IMAGE_SIZE"} <= names
    assert all(name.isupper() for name in names)
    # It was run from top to bottom without an error, as nbval compares only what has a count.
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    kinds = {output["output_type"] for output in outputs}
    assert kinds <= {"execute_result", "display_data", "stream"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    ignored = [c for c in cells if "nbval-ignore-output" in c["metadata"].get("tags", [])]
    assert len(ignored) <= len(cells) / 2
    # It is short, and leaves the work to seglib.
    assert len(read_cells(path)) <= 55
    assert sum(len(source(cell).splitlines()) for cell in cells) <= 200
    assert path.stat().st_size < 1.5e6
    assert not [cell for cell in cells if re.search(r"(?m)^ *(def|class) \w+", source(cell))]


HIDE = """
import importlib.machinery

find = importlib.machinery.PathFinder.find_spec


def find_spec(name, *arguments):
    return None if name.partition(".")[0] in {hidden} else find(name, *arguments)


importlib.machinery.PathFinder.find_spec = find_spec
"""


@pytest.mark.long
def test_notebook_7_works_without_the_extra_deploy(tmp_path):
    hidden = {"ai_edge_litert", "nncf", "onnx", "onnxruntime", "cv2", "openvino", "tf2onnx"}
    (tmp_path / "sitecustomize.py").write_text(HIDE.format(hidden=hidden), encoding="utf-8")
    parameters = {"OUTPUT_DIR": tmp_path, "CACHE_DIR": tmp_path / "cache", "IMAGE_SIZE": 64}
    parameters |= {"EPOCHS": 2, "FINE_TUNING": 1, "PRESET": "scratch"}
    command = [sys.executable, "-m", "papermill", NOTEBOOKS[6], tmp_path / "7.ipynb"]
    command += ["--cwd", ROOT, *itertools.chain(*(["-p", *item] for item in parameters.items()))]
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    subprocess.run([*map(str, command)], check=True, env={**os.environ, "PYTHONPATH": paths})
    printed = (tmp_path / "7.ipynb").read_text(encoding="utf-8")
    assert "needs onnxruntime" in printed or "needs tf2onnx" in printed
