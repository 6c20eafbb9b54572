"""Durations, files that are whole or absent, locks, and what the processor can do."""

import errno
import os
import pathlib
import subprocess
import sys
import threading
from unittest.mock import Mock

import pytest
from folders import write_folder

import seglib
from seglib import system
from seglib.system import lock_file, parse_duration, parse_size

AVX2 = "processor\t: 0\nmodel name\t: EPYC avx512f\nflags\t\t: fpu sse2 avx avx2 fma\n"
AMX = AVX2.replace("fma", "avx512f amx_bf16") + "\nprocessor\t: 1\nflags\t\t: fpu\n"
IMPORT = """
import pathlib, sys, types
if sys.argv[1:]:
    sys.modules["tensorflow"] = types.ModuleType("tensorflow")
pathlib.Path.read_text = lambda *_, **__: "flags : avx2"
import seglib
"""
SILENCE = """
import os, sys
from seglib.system import hide_startup
with hide_startup():
    os.write(2, b"from C")
print("python's", file=sys.stderr, flush=True)
"""


def run(program, *arguments, **variables):
    """What a new process writes on standard error."""
    options = {"env": {**os.environ, **variables}, "stderr": subprocess.PIPE, "text": True}
    return subprocess.run([sys.executable, "-c", program, *arguments], check=True, **options).stderr


def test_durations_and_sizes():
    seconds = {"11h30m": 41400, "90s": 90, "1.5h": 5400, "1d 2H": 93600, 7: 7, "12": 12}
    sizes = {"19GB": 19 * 10**9, "1.5 mb": 1500000, 2048: 2048}
    assert {text: parse_duration(text) for text in seconds} == seconds
    assert {text: parse_size(text) for text in sizes} == sizes


@pytest.mark.parametrize("text", ["", "soon", "-3", "inf", "-1GB"])
def test_wrong_arguments(text):
    with pytest.raises(ValueError, match='a duration such as "11h30m"'):
        parse_duration(text)
    with pytest.raises(ValueError, match='a size such as "19GB"'):
        parse_size(text)


def test_a_replaced_file_is_the_old_or_the_new_one(tmp_path):
    path = tmp_path / "scores.csv"
    with system.replacing(path) as temporary:
        temporary.write_text("old")
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".csv")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), system.replacing(path) as temporary:
        assert temporary.write_text("ne") / 0
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_disk_refuses_is_told_in_plain_words(tmp_path):
    assert system.make_folder(tmp_path / "a" / "b", "the run").is_dir()
    with pytest.raises(ValueError, match="the run cannot be written to a folder without a name"):
        system.make_folder("", "the run")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"the run cannot be written to .*file.*another folder"):
        system.make_folder(tmp_path / "file", "the run")
    words = r"the disk of .* is full \(\d+ MB free\): make room"
    with pytest.raises(OSError, match=words), system.explain_full_disk(tmp_path, "make room"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), system.explain_full_disk(tmp_path, "make room"):
        (tmp_path / "missing").stat()


def test_a_lock_is_held_by_one_and_released(tmp_path):
    path = tmp_path / ".lock"
    for _ in range(2):
        with lock_file(path) as stream:
            stream.write(b"note")
            with pytest.raises(BlockingIOError), lock_file(path):
                pytest.fail("both hold it")
        assert path.read_bytes() == b"note"


def test_who_waits_is_told_what_for_and_goes_on(tmp_path, capsys):
    path, order = tmp_path / ".lock", []

    def wait():
        with lock_file(path, waiting_for="another process"):
            order.append("second")

    with lock_file(path):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "waiting: another process" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), None])
def test_where_there_are_no_locks_everybody_is_let_in(tmp_path, monkeypatch, error):
    fcntl = Mock(flock=Mock(side_effect=error), LOCK_EX=2, LOCK_NB=4) if error else None
    monkeypatch.setattr(system, "fcntl", fcntl)
    with lock_file(tmp_path / ".lock"), lock_file(tmp_path / ".lock"):
        pass


def test_the_process_counts_that_a_lock_names(tmp_path):
    path, here = tmp_path / ".lock", os.uname().nodename
    assert not system.is_locked(path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    living = [(os.getpid(), here), (1, here)]
    others = [(os.getpid(), "another"), (ended.pid, here), (10**30, here), ('"x"', here)]
    for pid, host in living + others:
        path.write_text(f'{{"pid": {pid}, "host": "{host}"}}')
        assert system.is_locked(path) == ((pid, host) in living)


def test_a_bar_can_be_switched_off_and_quick_work_shows_none(monkeypatch, capsys):
    for value, delay, shown in (("0", 0, True), ("1", 0, False), ("0", 2, False)):
        monkeypatch.setenv("TQDM_DISABLE", value)
        assert list(system.show_progress(range(3), desc="counting", delay=delay)) == [0, 1, 2]
        assert ("counting" in capsys.readouterr().err) == shown


@pytest.mark.parametrize(
    ("text", "bfloat16", "only_avx2"),
    [(AVX2, False, True), (AMX, True, False), ("Flags bf16", False, False), (None, False, False)],
)
def test_units_are_those_of_the_first_processor(text, bfloat16, only_avx2, monkeypatch):
    read = Mock(return_value=text, side_effect=None if text else FileNotFoundError)
    monkeypatch.setattr(pathlib.Path, "read_text", read)
    monkeypatch.setattr(system, "list_units", system.list_units.__wrapped__)  # not the cache
    assert (system.has_bfloat16_units(), system.has_only_avx2()) == (bfloat16, only_avx2)


def test_a_tensorflow_that_was_imported_before_is_warned_of(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert run(IMPORT) == ""
    assert "import seglib first" in run(IMPORT, "with TensorFlow")
    assert run(IMPORT, "with TensorFlow", TF_ENABLE_ONEDNN_OPTS="0") == ""


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="what a GPU reports is shown")
def test_what_is_written_while_tensorflow_is_imported_is_hidden(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    assert run(SILENCE) == "python's\n"
    assert run(SILENCE, KERAS_BACKEND="jax") == "from Cpython's\n"
    assert run("import os, seglib; os.close(2)\nwith seglib.system.hide_startup(): pass") == ""
    before = os.fstat(2)
    with pytest.raises(ZeroDivisionError), system.hide_startup():
        raise ZeroDivisionError
    assert os.fstat(2) == before


def test_warnings_name_the_line_that_called_seglib(tmp_path):
    write_folder(tmp_path, "no splits", "grey", table=False)
    with pytest.warns(UserWarning, match="no class table") as caught:
        seglib.open_dataset(tmp_path)
    assert [warning.filename for warning in caught] == [__file__]
