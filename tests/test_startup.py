import os
import subprocess
import sys

import pytest

from seglib import startup

PROGRAM = """
import os, sys
import seglib
seglib.load_model
print("python's", file=sys.stderr, flush=True)
os.write(2, b"and C's\\n")
"""


def run(program, **variables):
    """What a new process writes on standard error."""
    ended = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **variables}, stderr=subprocess.PIPE,
        text=True, check=True,
    )  # fmt: skip
    return ended.stderr


@pytest.mark.skipif(startup._has_nvidia_device(), reason="what a GPU reports is shown")
def test_tensorflow_starts_in_silence_and_what_follows_is_seen():
    assert run(PROGRAM) == "python's\nand C's\n"


def test_an_import_that_fails_is_told(monkeypatch):
    for name in ("tensorflow", "keras", "seglib.models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = os.fstat(2)
    with pytest.raises(ZeroDivisionError), startup.hide_startup():
        1 / 0  # noqa: B018
    assert os.fstat(2) == before


def test_without_standard_error_it_starts_as_well():
    closed = "import os; os.close(2)\n" + PROGRAM.replace('print("python', "#").replace("os.w", "#")
    assert run(closed) == ""
