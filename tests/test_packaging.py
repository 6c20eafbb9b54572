"""What is in the wheel, what it requires, and what importing it costs."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SLOW = ("keras", "tensorflow", "matplotlib", "pandas", "scipy", "skimage", "sklearn")


def run_pip(*arguments):
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--no-deps", "--no-index"]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy, which leaves no folder `build` in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "seglib", folder / "source/seglib")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    run_pip("wheel", "--no-build-isolation", "--wheel-dir", folder, folder / "source")
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_modules_and_data_files(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = [path.name for path in (ROOT / "seglib").glob("*.py")]
    data = ["__init__.pyi", "py.typed", "known_classes.csv", "measured.csv"]
    assert names == {f"seglib/{name}" for name in modules + data}


def test_the_wheel_is_imported_from_elsewhere_and_at_once(wheel, tmp_path):
    run_pip("install", "--target", tmp_path / "site", wheel)
    code = (
        "import json, sys, seglib; loaded = list(sys.modules);"
        "from importlib.metadata import version;"
        "print(json.dumps([seglib.__file__, loaded, seglib.__version__, version('seglib')]));"
        "seglib.count_pixels"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    file, loaded, version, installed = json.loads(printed)
    assert pathlib.Path(file).parent == tmp_path / "site/seglib"
    assert not set(SLOW) & set(loaded)
    assert version == installed


def test_requirements_hold_the_wheels_with_the_same_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    others = [line.split(">=")[0] for line in required if line not in project["dependencies"]]
    assert set(project["dependencies"]) <= set(required)
    assert others == ["jupyterlab", "ipywidgets", "papermill", "nbval", "pytest"]
    assert all(line.count(">=") == 1 for line in required)  # make test-lowest makes == of it
