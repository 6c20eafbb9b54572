"""README.md, docs/ and notebooks: names, links, code, form; --nbval checks what these compute."""

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

from seglib.scenes import write_scenes

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONG = {"README", "training"}  # 30 to 40 s on two cores
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)#?([^)\s]*)\)")  # to a file and a heading


def read(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """A folder with data/streets in it, of 20 scenes, and outputs/."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "outputs").mkdir()
    write_scenes(folder / "data/streets", num_scenes=20)
    return folder


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.long] * (page.stem in LONG))
        for page in PAGES
        if BLOCK.search(read(page))
    ],
)
def test_code_runs_as_written(page, streets, monkeypatch):
    monkeypatch.chdir(streets)
    text, names = read(page), {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        lines_before = text[: block.start(1)].count("\n")  # errors name the line of the page
        exec(compile("\n" * lines_before + block[1], page, "exec"), names)


def test_readme_is_short():
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", read(ROOT / "README.md"))  # as it is shown
    assert len(text.split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for path, anchor in LINK.findall(read(page)):
        target = page.parent / path if path else page
        assert target.exists(), path
        titles = re.findall(r"(?m)^#+ (.*)$", read(target)) if anchor else []
        anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
        assert not anchor or anchor in anchors  # as GitHub calls them


def read_cells(path):
    """The cells of a notebook, each with its source as one text."""
    cells = json.loads(read(path))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


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


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES], ids=lambda path: path.stem)
def test_every_name_of_seglib_exists(path):
    text = read(path)
    if path in NOTEBOOKS:
        text = "\n".join(cell["source"] for cell in read_cells(path))
    assert [n for n in find_names(f"{text}\nseglib.nothing") if is_missing(n)] == ["seglib.nothing"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_as_it_should_be(path):
    assert int(path.name[:2]) == 1 + NOTEBOOKS.index(path)
    cells = read_cells(path)
    assert cells[0]["source"].startswith("# ")
    assert len(cells) <= 55
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    tags = [cell["metadata"].get("tags", []) for cell in code]
    # papermill replaces the parameters, which are the first cell.
    assert [tags[0], "parameters" in itertools.chain(*tags[1:])] == [["parameters"], False]
    names = {node.targets[0].id for node in ast.parse(code[0]["source"]).body}
    assert {"DATA_DIR", "OUTPUT_DIR", "IMAGE_SIZE"} <= names
    assert all(name.isupper() for name in names)
    # It was run from top to bottom without an error, as nbval compares only what has a count.
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    kinds = {output["output_type"] for output in outputs}
    assert kinds <= {"execute_result", "display_data", "stream"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert sum("nbval-ignore-output" in own for own in tags) <= len(code) / 2
    # It is short, and leaves the work to seglib.
    lines = [line for cell in code for line in cell["source"].splitlines()]
    assert len(lines) <= 200
    assert path.stat().st_size < 1.5e6
    assert not [line for line in lines if re.match(r" *(def|class) \w+", line)]


@pytest.mark.long
def test_notebook_7_works_without_the_extra_deploy(tmp_path):
    hidden = {"ai_edge_litert", "nncf", "onnx", "onnxruntime", "cv2", "openvino", "tf2onnx"}
    hide = f"import sys\nsys.modules |= dict.fromkeys({hidden})"
    (tmp_path / "sitecustomize.py").write_text(hide, encoding="utf-8")
    parameters = {"OUTPUT_DIR": tmp_path, "CACHE_DIR": tmp_path / "cache", "IMAGE_SIZE": 64}
    parameters |= {"EPOCHS": 2, "FINE_TUNING": 1, "PRESET": "scratch"}
    command = [sys.executable, "-m", "papermill", NOTEBOOKS[6], tmp_path / "7.ipynb"]
    command += ["--cwd", ROOT, *itertools.chain(*(["-p", *item] for item in parameters.items()))]
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    subprocess.run([*map(str, command)], check=True, env={**os.environ, "PYTHONPATH": paths})
    printed = read(tmp_path / "7.ipynb")
    assert "needs onnxruntime" in printed or "needs tf2onnx" in printed
