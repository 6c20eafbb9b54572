"""The table of modules in README against what they import."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
WITHOUT_KERAS = 5  # rows


def read_rows():
    """Modules of README's table, row by row."""
    lines = (ROOT / "README.md").read_text().partition("| module | knows |")[2].splitlines()[2:]
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in lines if line.startswith("| `")]
    assert len(rows) > WITHOUT_KERAS
    return rows


def read_imports():
    """Dict `module -> names of all that it imports`, those within functions as well."""
    imports = {}
    for file in (ROOT / "seglib").rglob("*.py"):
        module = file.relative_to(ROOT / "seglib").parts[0].removesuffix(".py")
        names = imports.setdefault(module, set())
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names.update(name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module == "seglib":
                names.update(f"seglib.{name.name}" for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
    del imports["__init__"]
    return imports


def test_modules_import_only_from_rows_above_and_their_own():
    rows, imports = read_rows(), read_imports()
    assert {module for row in rows for module in row} == set(imports)
    allowed = set()
    for row in rows:
        allowed.update(row)
        for module in row:
            assert "seglib" not in imports[module], module  # through it all rows are reached
            own = {name.split(".")[1] for name in imports[module] if name.startswith("seglib.")}
            assert own - {"__version__"} <= allowed, module


def test_the_first_rows_never_import_keras():
    imports = read_imports()
    for module in (module for row in read_rows()[:WITHOUT_KERAS] for module in row):
        assert not {name.split(".")[0] for name in imports[module]} & {"keras", "tensorflow"}
