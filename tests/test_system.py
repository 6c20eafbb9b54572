"""Durations, files that are whole or absent, locks, and what the processor can do."""

import errno
import os
import pathlib
import subprocess
import sys
import threading

import pytest
from folders import write_folder

import seglib
from seglib import system
from seglib.system import (
    explain_full_disk,
    has_bfloat16_units,
    has_only_avx2,
    is_locked,
    lock_file,
    make_folder,
    parse_duration,
    parse_size,
    replacing,
    show_progress,
)

AVX2 = "processor\t: 0\nmodel name\t: EPYC avx512f\nflags\t\t: fpu sse2 avx avx2 fma\n"
AMX = AVX2.replace("fma", "avx512f amx_bf16") + "\nprocessor\t: 1\nflags\t\t: fpu\n"
HOLD = """
import sys, time
from seglib.system import lock_file
with lock_file(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
IMPORT = """
import os, pathlib, sys, types
if sys.argv[1:]:
    sys.modules["tensorflow"] = types.ModuleType("tensorflow")
pathlib.Path.read_text = lambda *_, **__: "flags : avx2"
import seglib
assert "keras" not in sys.modules and len(sys.argv) > 1 or "tensorflow" not in sys.modules
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
    command, environment = [sys.executable, "-c", program, *arguments], {**os.environ, **variables}
    return subprocess.run(
        command, env=environment, stderr=subprocess.PIPE, text=True, check=True
    ).stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("11h30m", 41400), ("90s", 90), ("1.5h", 5400), ("1d 2H", 93600), (7, 7), ("12", 12)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


def test_sizes():
    assert [parse_size(text) for text in ("19GB", "1.5 mb", 2048)] == [19 * 10**9, 1500000, 2048]


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [(parse_duration, text, 'a duration such as "11h30m"') for text in ("", "soon", "-3", "inf")]
    + [(parse_size, text, 'a size such as "19GB"') for text in ("big", "-1GB")],
)
def test_wrong_arguments(parse, text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_a_replaced_file_is_the_old_or_the_new_one(tmp_path):
    path = tmp_path / "scores.csv"
    with replacing(path) as temporary:
        temporary.write_text("old")
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".csv")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        assert temporary.write_text("ne") / 0
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_disk_refuses_is_told_in_plain_words(tmp_path):
    assert make_folder(tmp_path / "a" / "b", "the run").is_dir()
    with pytest.raises(ValueError, match="the run cannot be written to a folder without a name"):
        make_folder("", "the run")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"the run cannot be written to .*file.*another folder"):
        make_folder(tmp_path / "file", "the run")
    words = r"the disk of .* is full \(\d+ MB free\): make room"
    with pytest.raises(OSError, match=words), explain_full_disk(tmp_path, "make room"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), explain_full_disk(tmp_path, "make room"):
        (tmp_path / "missing").stat()


def test_a_lock_is_held_by_one_and_released(tmp_path):
    path = tmp_path / ".lock"
    with lock_file(path) as stream:
        stream.write(b"note")
        with pytest.raises(BlockingIOError), lock_file(path):
            pytest.fail("both hold it")
    assert path.read_bytes() == b"note"
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE)
    process.stdout.readline()
    with pytest.raises(BlockingIOError), lock_file(path):
        pytest.fail("both hold it")
    process.kill()
    process.communicate()
    with lock_file(path):
        pass


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


@pytest.mark.parametrize("missing", ["fcntl", "locks"])
def test_where_there_are_no_locks_everybody_is_let_in(tmp_path, monkeypatch, missing):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    if missing == "fcntl":
        monkeypatch.setattr(system, "fcntl", None)
    else:
        monkeypatch.setattr(system.fcntl, "flock", refuse)
    with lock_file(tmp_path / ".lock"), lock_file(tmp_path / ".lock"):
        pass


def test_the_process_counts_that_a_lock_names(tmp_path):
    path, here = tmp_path / ".lock", os.uname().nodename
    assert not is_locked(path)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for pid, host, locked in (
        (os.getpid(), here, True),
        (os.getpid(), "another", False),
        (process.pid, here, False),
        (1, here, True),
        (10**30, here, False),
        ('"x"', here, False),
    ):
        path.write_text(f'{{"pid": {pid}, "host": "{host}"}}')
        assert is_locked(path) == locked


def test_a_bar_can_be_switched_off_and_quick_work_shows_none(monkeypatch, capsys):
    for value, delay, shown in (("0", 0, True), ("1", 0, False), ("0", 2, False)):
        monkeypatch.setenv("TQDM_DISABLE", value)
        assert list(show_progress(range(3), desc="counting", delay=delay)) == [0, 1, 2]
        assert ("counting" in capsys.readouterr().err) == shown


@pytest.mark.parametrize(
    ("text", "bfloat16", "only_avx2"),
    [
        (AVX2, False, True),
        (AMX, True, False),
        ("Features : asimd bf16", False, False),
        (None, False, False),
    ],
)
def test_units_are_those_of_the_first_processor(text, bfloat16, only_avx2, monkeypatch):
    def read(path, **_):
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(pathlib.Path, "read_text", read)
    system.list_units.cache_clear()
    assert (has_bfloat16_units(), has_only_avx2()) == (bfloat16, only_avx2)
    system.list_units.cache_clear()


def test_import_seglib_imports_no_keras_and_warns_of_an_earlier_tensorflow(monkeypatch):
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
