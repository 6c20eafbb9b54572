"""One process a run, and a note of how long it has been at work."""

import contextlib
import json
import os
import socket
import time

from seglib import system

LENGTH = 200  # bytes of the note, so that it is written at once
SECONDS_BETWEEN_NOTES = 1.0


class RunLock:
    """Held by the process that trains; the system releases it however the process ends."""

    def __init__(self, stream):
        self.stream, self.noted = stream, -SECONDS_BETWEEN_NOTES

    def note(self, elapsed):
        """Note the run's seconds, once a second, so that a killed session counts as well."""
        now = time.monotonic()
        if now - self.noted < SECONDS_BETWEEN_NOTES:
            return
        self.noted = now
        content = {"pid": os.getpid(), "host": socket.gethostname(), "elapsed": round(elapsed, 1)}
        with contextlib.suppress(OSError):  # a full disk is reported by what matters more
            self.stream.seek(0)
            self.stream.write(json.dumps(content).ljust(LENGTH).encode())
            self.stream.flush()


@contextlib.contextmanager
def lock_run(run_dir):
    """Keep other processes from training the same run.

    Args:
        run_dir: path of the run's folder.

    Yields:
        RunLock.

    Raises:
        BlockingIOError: another process trains it.
    """
    path = run_dir / ".lock"
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(system.lock_file(path))
        except BlockingIOError:
            holder = _read_note(path)
            raise BlockingIOError(
                f"{run_dir} is being trained by process {holder.get('pid', 'unknown')} on "
                f"{holder.get('host', 'this machine')}: wait for it, stop it, or choose another "
                "run_dir"
            ) from None
        yield RunLock(stream)


def is_locked(run_dir):
    """Return whether a process trains this run at the moment."""
    return system.is_locked(run_dir / ".lock")


def noted_seconds(run_dir):
    """Return how long a run has been trained by its own last note; 0.0 if there is none."""
    return float(_read_note(run_dir / ".lock").get("elapsed", 0.0))


def _read_note(path):
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(path.read_bytes()))
    return {}
