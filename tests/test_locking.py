import subprocess
import sys
import threading
import time

import pytest

from seglib import locking
from seglib.locking import is_locked, lock_file


def test_a_lock_is_held_by_one_and_released(tmp_path):
    path = tmp_path / ".lock"
    assert not is_locked(path)
    with lock_file(path) as stream:
        assert is_locked(path)
        stream.write(b"note")
        with pytest.raises(BlockingIOError), lock_file(path):
            pytest.fail("both hold it")
    assert not is_locked(path)
    assert path.read_bytes() == b"note"
    assert path.stat().st_mode & 0o111 == 0


def test_who_waits_goes_on_when_the_lock_is_released(tmp_path):
    path, order = tmp_path / ".lock", []

    def wait():
        with lock_file(path, waiting_for="the first"):
            order.append("second")

    with lock_file(path):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.25)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_whoever_waits_long_is_told_what_for(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    show = locking.show_progress
    monkeypatch.setattr(locking, "show_progress", lambda **options: show(**options, delay=0.01))
    path = tmp_path / ".lock"
    with lock_file(path):
        thread = threading.Thread(
            target=lambda: lock_file(path, waiting_for="another process").__enter__()
        )
        thread.start()
        time.sleep(0.4)
    thread.join()
    assert "another process (00:00)" in capsys.readouterr().err


def test_a_killed_process_holds_no_lock(tmp_path):
    path = tmp_path / ".lock"
    code = (
        "import pathlib, sys, time; from seglib.locking import lock_file\n"
        "with lock_file(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    process.stdout.readline()
    assert is_locked(path)
    process.kill()
    process.communicate()
    assert not is_locked(path)


def test_without_locks_everybody_is_let_in(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "fcntl", None)
    with lock_file(tmp_path / ".lock"), lock_file(tmp_path / ".lock", waiting_for="nobody"):
        assert not is_locked(tmp_path / ".lock")
