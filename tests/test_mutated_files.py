"""Damaged files are read or refused by name; nothing crashes, hangs or takes the memory."""

import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("mutated_files.py")
GIGABYTE = 1e9


def check_mutations(folder, count, seed):
    command = [sys.executable, str(SCRIPT), str(folder), str(count), str(seed)]
    process = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=600
    )
    assert process.returncode == 0, f"left: {[file.name for file in folder.iterdir()]}"
    found = json.loads(process.stdout)
    assert found["wrong"] == []
    assert found["decoded"] + found["refused"] == count
    assert min(found["decoded"], found["refused"]) > 0.1 * count
    assert found["peak"] < GIGABYTE


def test_300_damaged_files(tmp_path):
    check_mutations(tmp_path, 300, seed=1)


@pytest.mark.long
def test_2000_damaged_files(tmp_path):
    check_mutations(tmp_path, 2000, seed=0)
