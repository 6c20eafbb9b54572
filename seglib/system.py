"""What seglib asks of the machine: durations, folders and files, locks, progress, processor."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import warnings

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

PASSED_OVER = os.path.dirname(__file__) + os.sep, contextlib.__file__  # by `warn`


def parse_duration(duration: str | float) -> float:
    """Return the seconds of a number of seconds or of text such as "11h30m", "1.5h" or "2d"."""
    try:
        seconds = float(duration)
    except ValueError:
        import pandas as pd  # takes half a second

        text = duration.lower().replace("d", "D")  # pandas finds "d" deprecated
        seconds = pd.to_timedelta(text, errors="coerce").total_seconds()
    if not 0 < seconds < float("inf"):
        words = 'expected a duration such as "11h30m" or "90s", or a number of seconds'
        raise ValueError(f"{words}, received {duration!r}")
    return seconds


def parse_size(size: str | float) -> int:
    """Return the bytes of a size such as "19GB" or "500 MB" (powers of 1000)."""
    match = re.fullmatch(r"(\d+\.?\d*) ?([KMGT]?)B?", str(size).upper())
    if match is None:
        raise ValueError(f'expected a size such as "19GB" or a number of bytes, received {size!r}')
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2] or " "))


def make_folder(path: str | os.PathLike, what: str) -> pathlib.Path:
    """Create a folder if needed; an OSError says that `what` cannot be written to it."""
    if not os.fspath(path):
        raise ValueError(f"{what} cannot be written to a folder without a name, received {path!r}")
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise type(error)(
            f"{what} cannot be written to {path} ({error.strerror}): choose another folder, "
            "on Kaggle one in /kaggle/working"
        ) from error
    return path


@contextlib.contextmanager
def replacing(path: str | os.PathLike):
    """Write a file beside another and put it in its place, so that it is whole or absent.

    Yields the path to write to: hidden, with the same extension, of this process alone.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(path: str | os.PathLike) -> None:
    """Bring to disk which files a folder holds, where the system lets it be done."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def digest_file(path: str | os.PathLike, size: int = 8) -> str:
    """Return the checksum of a file's content, so many bytes in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=size)).hexdigest()


@contextlib.contextmanager
def explain_full_disk(folder: str | os.PathLike, advice: str):
    """Say in plain words that the disk of a folder is full, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = f"{shutil.disk_usage(folder).free / 1e6:.0f} MB free"
        raise OSError(error.errno, f"the disk of {folder} is full ({free}): {advice}") from error


@contextlib.contextmanager
def lock_file(path: str | os.PathLike, *, waiting_for: str | None = None, is_held=lambda: False):
    """Hold a lock on a file, which the system releases however the process ends.

    Yields the file's binary stream. Where another process holds the lock, that is a
    BlockingIOError, or waited for, if `waiting_for` tells what for. File systems without locks let
    everybody in, unless the function `is_held` says that another process is there.
    """
    pathlib.Path(path).touch()
    with open(path, "r+b") as stream:
        try:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting_for is None:
                raise
            print(f"waiting: {waiting_for}", file=sys.stderr)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            if is_held():
                raise BlockingIOError from error
        yield stream


def is_locked(path: str | os.PathLike) -> bool:
    """Return whether the process is there that a lock's file names in JSON as `pid` and `host`.

    Asking for the lock would keep others from taking it for an instant.
    """
    try:
        note = json.loads(pathlib.Path(path).read_bytes())
        here = os.name == "posix" and note["host"] == socket.gethostname()
        return here and os.kill(note["pid"], 0) is None  # signal 0 sends nothing
    except PermissionError:
        return True  # somebody else's
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return False


def warn(message: str) -> None:
    """Warn at the line of code that called seglib, however many of its functions lie between."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_code.co_filename.startswith(PASSED_OVER):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def show_progress(iterable=None, **options):
    """Return a tqdm bar that appears after two seconds, or never where `TQDM_DISABLE` is set.

    `options` are those of tqdm. A notebook's bar needs to be told of the variable.
    """
    from tqdm.auto import tqdm

    disable = os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    return tqdm(iterable, **{"delay": 2, "disable": disable, **options})


@functools.cache
def list_units() -> frozenset:
    """Return the names of the processor's extensions, such as "avx2" (Linux; elsewhere none)."""
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
    return frozenset()


def has_bfloat16_units() -> bool:
    """Return whether this processor multiplies bfloat16 itself."""
    return not list_units().isdisjoint({"amx_bf16", "avx512_bf16"})


def has_only_avx2() -> bool:
    """Return whether this is an x86 processor with AVX2 but no AVX-512, as most of laptops."""
    return "avx2" in list_units() and "avx512f" not in list_units()


@contextlib.contextmanager
def hide_startup():
    """Hide what TensorFlow's C++ code writes on standard error while it is imported.

    On machines with a GPU nothing is hidden, so that errors of the GPU stay visible.
    """
    devices = ("/dev/nvidia0", "/proc/driver/nvidia")
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if "tensorflow" in sys.modules or backend != "tensorflow" or any(map(os.path.exists, devices)):
        yield
        return
    with open(os.devnull, "wb") as nothing, redirect((2,), nothing):
        yield
        if "tensorflow" in sys.modules:
            sys.modules["tensorflow"].config.list_physical_devices("GPU")


@contextlib.contextmanager
def redirect(numbers: tuple, file):
    """Let what is written to these descriptors, by C++ code too, go to an open file."""
    saved = {}
    for number in numbers:
        with contextlib.suppress(OSError):  # it is closed
            saved[number] = os.dup(number)
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)


class StopRequest:
    """Says whether somebody asked for the end, and how (`name`, None if nobody did)."""

    name = None


@contextlib.contextmanager
def note_interrupts():
    """Take the first Ctrl-C or SIGTERM as a request to stop; a second one acts at once.

    Yields a StopRequest. It stays empty in a thread other than the main one, where Python does
    not let signals be handled.
    """
    request, names = StopRequest(), {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
    is_main = threading.current_thread() is threading.main_thread()

    def note(number, frame):
        if request.name:
            raise KeyboardInterrupt(f"{names[number]}, the second one")
        request.name = names[number]
        print(f"{request.name}: stopping after this step; once more stops at once", file=sys.stderr)

    previous = {number: signal.signal(number, note) for number in names if is_main}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
