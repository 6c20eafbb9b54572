"""What seglib asks of the machine: durations, folders and files, locks, progress, processor."""

import contextlib
import errno
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

SECONDS_BETWEEN_TRIES = 0.1
# C's `struct flock`: type and where from, start, length, process; macOS orders it otherwise.
LOCK_FIELDS, LOCK_TYPE = ("qqihh", 3) if sys.platform == "darwin" else ("hhqqi", 0)


def parse_duration(duration: str | float) -> float:
    """Return the seconds of a duration.

    Args:
        duration: number of seconds, or str such as "11h30m", "90s", "1.5h", "2d", "5ms".

    Raises:
        ValueError: it is no duration, or not longer than 0.

    Example:
        >>> parse_duration("11h30m"), parse_duration("1.5h"), parse_duration(90)
        (41400.0, 5400.0, 90.0)
    """
    text = str(duration).lower()
    try:
        seconds = float(text)
    except ValueError:
        seconds = _parse_units(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(
            f'expected a duration such as "11h30m", "90s" or "1.5h", or a number of seconds, '
            f"received {duration!r}"
        )
    return seconds


def _parse_units(text):
    import pandas as pd  # takes half a second

    try:
        return pd.Timedelta(text.replace("d", "D")).total_seconds()  # "d" is deprecated
    except ValueError:
        return float("nan")


def format_duration(seconds: float) -> str:
    """Return a duration for people.

    Example:
        >>> format_duration(41400), format_duration(75), format_duration(2.5)
        ('11 h 30 min', '1 min 15 s', '2.5 s')
    """
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def parse_size(size: str | float) -> int:
    """Return the bytes of a size such as "19GB" or "500 MB" (powers of 1000).

    Raises:
        ValueError: it is no size.

    Example:
        >>> parse_size("1.5GB")
        1500000000
    """
    match = re.fullmatch(r"(\d+\.?\d*) ?([KMGT]?)B?", str(size).upper())
    if match is None:
        raise ValueError(f'expected a size such as "19GB" or a number of bytes, received {size!r}')
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2] or " "))


def make_folder(path: str | os.PathLike, what: str) -> pathlib.Path:
    """Create a folder if needed, and make sure that it can be written.

    Args:
        path: path of the folder.
        what: str, what is written to it, for the message.

    Raises:
        OSError: it cannot be written; the message says what for and what to do.
    """
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

    Args:
        path: path of the file, which need not exist.

    Yields:
        path to write to: hidden, in the same folder, with the same extension, of this process
        alone. It is removed if the block fails.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # some systems do not let folders be flushed
        _flush(path.parent, os.O_RDONLY)


def _flush(path, mode):
    """Make what was written outlast a power cut."""
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explain_full_disk(folder: str | os.PathLike, advice: str):
    """Say in plain words that the disk of a folder is full, and what to do.

    Raises:
        OSError: the disk is full, a quota is used up, or a file became too large.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(folder).free / 1e6
        raise OSError(
            error.errno, f"the disk of {folder} is full ({free:.0f} MB free): {advice}"
        ) from error


@contextlib.contextmanager
def lock_file(path: str | os.PathLike, *, waiting_for: str | None = None):
    """Hold a lock on a file, which the system releases however the process ends.

    File systems without locks let everybody in.

    Args:
        path: path of the file, created if missing.
        waiting_for: str, what is shown while another process holds it; None not to wait.

    Yields:
        binary stream of the file.

    Raises:
        BlockingIOError: another process or thread holds it, and `waiting_for` is None.
    """
    with open(path, "r+b", opener=_open_or_create) as stream:
        if waiting_for is None and not _take_lock(stream):
            raise BlockingIOError(errno.EAGAIN, "another process holds the lock", str(path))
        if waiting_for is not None:
            with show_progress(desc=waiting_for, bar_format="{desc} ({elapsed})") as bar:
                while not _take_lock(stream):
                    time.sleep(SECONDS_BETWEEN_TRIES)
                    bar.update()
        yield stream


def is_locked(path: str | os.PathLike) -> bool:
    """Return whether a process holds the lock of a file, without taking it for an instant.

    Where the system cannot tell, the process counts that the file names in JSON as `pid` and
    `host`, if it is still there.
    """
    try:
        with open(path, "rb") as stream:
            found = fcntl.fcntl(stream, fcntl.F_OFD_GETLK, _describe_lock())
    except FileNotFoundError:
        return False
    except (AttributeError, OSError):  # no such locks here
        return _names_living_process(path)
    return struct.unpack(LOCK_FIELDS, found)[LOCK_TYPE] != fcntl.F_UNLCK


def _open_or_create(path, flags):
    return os.open(path, flags | os.O_CREAT, 0o666)


def _take_lock(stream):
    """Lock an open file, if possible so that others can ask about it; False if it is taken."""
    for take in (
        lambda: fcntl.fcntl(stream, fcntl.F_OFD_SETLK, _describe_lock()),
        lambda: fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB),
    ):
        try:
            take()
            return True
        except BlockingIOError:
            return False
        except (AttributeError, OSError):
            continue  # no such locks here
    return True


def _describe_lock():
    """Bytes of a lock for writing on a whole file."""
    fields = [0] * 5
    fields[LOCK_TYPE] = fcntl.F_WRLCK
    return struct.pack(LOCK_FIELDS, *fields)


def _names_living_process(path):
    try:
        note = json.loads(pathlib.Path(path).read_bytes())
        if note["host"] != socket.gethostname() or os.name != "posix":
            return False
        os.kill(note["pid"], 0)  # sends nothing
    except PermissionError:
        return True  # somebody else's
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def show_progress(iterable=None, **options):
    """Return a tqdm bar that appears after two seconds, or never where `TQDM_DISABLE` is set.

    Args:
        iterable: what to go through, or None for a bar that is moved by hand.
        options: of `tqdm.auto.tqdm`, such as `desc`, `total`, `unit`, `delay` in seconds.

    Returns:
        tqdm bar. The notebook's own bar, unlike the terminal's, needs to be told of the variable.
    """
    from tqdm.auto import tqdm

    disable = os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    return tqdm(iterable, **{"delay": 2, "disable": disable, **options})


@functools.cache
def list_units() -> frozenset:
    """Return the names of the processor's extensions, such as "avx2" (Linux; elsewhere none)."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2] for line in lines if line.startswith("flags"))
    return frozenset(next(flags, "").split())


def has_bfloat16_units() -> bool:
    """Return whether this processor multiplies bfloat16 itself."""
    return not list_units().isdisjoint({"amx_bf16", "avx512_bf16"})


def has_only_avx2() -> bool:
    """Return whether this is an x86 processor with AVX2 but no AVX-512, as most of laptops."""
    return "avx2" in list_units() and "avx512f" not in list_units()


@contextlib.contextmanager
def hide_startup():
    """Hide what TensorFlow's C++ code writes on standard error while it is imported.

    It looks for GPUs as well, which it reports too. Where there is one, nothing is hidden, so that
    one that cannot be used is told.
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
    """Let what is written to these descriptors, by C++ code too, go to a file.

    Args:
        numbers: tuple of int, such as 2 for standard error. Closed ones stay closed.
        file: open file.
    """
    saved = {}
    for number in numbers:
        with contextlib.suppress(OSError):
            saved[number] = os.dup(number)
    try:
        for number in saved:
            os.dup2(file.fileno(), number)
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

    Yields:
        StopRequest. In a thread other than the main one, where Python does not let
        signals be handled, it stays empty.
    """
    request, names = StopRequest(), {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number, frame):
        if request.name:
            raise KeyboardInterrupt(f"{names[number]}, the second one")
        request.name = names[number]
        print(f"{request.name}: stopping after this step; once more stops at once", file=sys.stderr)

    previous = {number: signal.signal(number, note) for number in names}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
