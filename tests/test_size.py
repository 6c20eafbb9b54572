"""The size of seglib, and which module may import which."""

import ast
import pathlib
import subprocess
import sys
import threading

import pytest

from seglib.datasets import open_dataset
from seglib.scenes import write_scenes

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from size import count_code, measure_modules  # noqa: E402

# The kinds of data of competitions took 1,700 lines of code, checking what is read back 150:
# lower these with each cut.
LINES, CODE = 13_310, 8_990
MODULES = range(20, 30)
LONGEST = 750
MODULES_TO_LABELS = 6
# From the ground up. A module imports from floors below, or from what is before it on its own.
FLOORS = """
    system classes
    images splitting annotations masks
    augment recipes
    preparing scenes sources pairing
    datasets reports checks plots
    losses balance
    optimizers encoders
    models compressing
    predicting submissions
    learning runs
    training
    deploying
"""
ORDER = FLOORS.split()
WITHOUT_KERAS = ORDER[: ORDER.index("losses")]


@pytest.fixture(scope="module")
def modules():
    return measure_modules()


def read_imports(module):
    """All that a module imports, within functions as well: `{"numpy", "seglib.masks", …}`."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / f"seglib/{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "seglib":
            names.update(f"seglib.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


def test_code_is_what_is_neither_blank_nor_comment_nor_docstring():
    text = ['"""Title."""', "", "# Two.", "x = [  # here", "    2,", "]", "def f():"]
    text += ['    """Do."""', '    """Two', '    lines."""', ""]
    assert count_code("\n".join(text)) == 6


def test_seglib_stays_small(modules):
    assert len(modules) in MODULES
    assert modules["lines"].max() <= LONGEST
    assert modules["lines"].sum() <= LINES
    assert modules["code"].sum() <= CODE


def test_modules_are_flat_and_formatted(modules):
    assert set(modules.index) == {f"seglib/{name}.py" for name in ["__init__", *ORDER]}
    squeezed = [path for path in modules.index if "# fmt: " in (ROOT / path).read_text("utf-8")]
    assert not squeezed


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_from_floors_below(module):
    names = read_imports(module)
    own = {name.split(".")[1] for name in names if name.startswith("seglib.")} - {"__version__"}
    assert "seglib" not in names  # all floors can be reached through it
    assert own <= set(ORDER[: ORDER.index(module)])
    if module in WITHOUT_KERAS:
        assert not {name.split(".")[0] for name in names} & {"keras", "tensorflow"}
    if module != "plots":
        assert not {name for name in names if name.startswith("matplotlib")}


def test_a_path_passes_few_modules_on_its_way_to_labels(tmp_path):
    data = write_scenes(tmp_path / "streets", num_scenes=3, size=(48, 64))
    passed = set()

    def note(frame, event, argument):
        file = pathlib.Path(frame.f_code.co_filename)
        if event == "call" and file.parent.name == "seglib":
            passed.add(file.stem)

    threading.setprofile(note)  # of the threads that look at masks
    sys.setprofile(note)
    try:
        open_dataset(data).train[0]
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert {"datasets", "masks"} <= passed
    assert len(passed) <= MODULES_TO_LABELS, passed


def test_reading_and_looking_at_data_loads_no_keras():
    modules = ", ".join(f"seglib.{name}" for name in [*WITHOUT_KERAS, "balance", "predicting"])
    code = f"import sys, {modules}; print({{'keras', 'tensorflow'}} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "set()", printed.stderr
