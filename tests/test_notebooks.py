"""The form of the notebooks; what they compute is checked by `pytest --nbval notebooks`."""

import ast
import json
import pathlib
import re

import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def read_cells(path, kind=None):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if kind in (None, cell["cell_type"])]


def source(cell):
    return "".join(cell["source"])


def code_trees(path):
    for cell in read_cells(path, "code"):
        yield ast.parse(re.sub(r"(?m)^[%!].*$", "pass", source(cell)))


def test_the_notebooks_are_numbered():
    numbers = [int(path.name[:2]) for path in NOTEBOOKS]
    assert numbers == list(range(1, len(NOTEBOOKS) + 1))
    assert len(NOTEBOOKS) >= 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_begins_with_a_title_and_its_parameters(self, path):
        assert source(read_cells(path)[0]).startswith("# ")
        first, *others = read_cells(path, "code")
        assert first["metadata"]["tags"] == ["parameters"]
        assert not any("parameters" in cell["metadata"].get("tags", []) for cell in others)
        names = {node.targets[0].id for node in ast.parse(source(first)).body}
        assert {"DATA_DIR", "OUTPUT_DIR", "IMAGE_SIZE"} <= names
        assert all(name.isupper() for name in names)

    def test_was_run_from_top_to_bottom_without_an_error(self, path):
        cells = read_cells(path, "code")
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
        assert kinds <= {"execute_result", "display_data", "stream"}

    def test_is_short_and_small(self, path):
        cells = read_cells(path)
        lines = sum(len(source(cell).splitlines()) for cell in read_cells(path, "code"))
        assert len(cells) <= 42
        assert lines <= 150
        assert path.stat().st_size < 1.5e6

    def test_leaves_the_work_to_seglib(self, path):
        nodes = [node for tree in code_trees(path) for node in ast.walk(tree)]
        assert not [node for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]

    def test_keeps_the_pictures_that_it_shows(self, path):
        outputs = [o for cell in read_cells(path, "code") for o in cell["outputs"]]
        pictures = [o for o in outputs if "image/png" in o.get("data", {})]
        assert len(pictures) >= 2

    def test_compares_most_of_its_cells(self, path):
        cells = read_cells(path, "code")
        ignored = [c for c in cells if "nbval-ignore-output" in c["metadata"].get("tags", [])]
        assert len(ignored) <= len(cells) / 2
