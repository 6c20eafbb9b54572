"""Damaged files are read or refused by name; nothing crashes, hangs or takes the memory."""

import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("mutated_files.py")


@pytest.mark.parametrize(
    ("count", "seed"), [(300, 1), pytest.param(2000, 0, marks=pytest.mark.long)]
)
def test_damaged_files(tmp_path, count, seed):
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(count), str(seed)]
    process = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=600
    )
    assert process.returncode == 0, f"left: {[file.name for file in tmp_path.iterdir()]}"
    found = json.loads(process.stdout)
    assert found["wrong"] == []
    assert found["decoded"] + found["refused"] == count
    assert min(found["decoded"], found["refused"]) > 0.1 * count
    assert found["peak"] < 1e9
