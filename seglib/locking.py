"""One process at a time: locks on files, which the system releases however a process ends."""

import contextlib
import os
import time

from seglib.progress import show_progress

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

SECONDS_BETWEEN_TRIES = 0.1


@contextlib.contextmanager
def lock_file(path, *, waiting_for=None):
    """Hold a lock on a file. File systems without locks let everybody in.

    Args:
        path: path of the file, created if missing.
        waiting_for: str, what is shown while another process holds it; None not to wait.

    Yields:
        binary stream of the file.

    Raises:
        BlockingIOError: another process or thread holds it, and `waiting_for` is None.
    """
    with open(path, "r+b", opener=_open_or_create) as stream:
        if waiting_for is None:
            _lock(stream)
        else:
            _wait_for_lock(stream, waiting_for)
        yield stream


def is_locked(path):
    """Return whether a process holds the lock of a file at the moment."""
    try:
        with open(path, "rb") as stream:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _open_or_create(path, flags):
    return os.open(path, flags | os.O_CREAT, 0o666)


def _lock(stream):
    try:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks


def _wait_for_lock(stream, waiting_for):
    with show_progress(desc=waiting_for, bar_format="{desc} ({elapsed})") as bar:
        while True:
            with contextlib.suppress(BlockingIOError):
                return _lock(stream)
            time.sleep(SECONDS_BETWEEN_TRIES)
            bar.update()
