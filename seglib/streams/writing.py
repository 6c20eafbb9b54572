"""Frames to a video file that is whole or not there."""

import contextlib
import itertools
import os
import pathlib
import time
from typing import NamedTuple

from seglib.streams.reading import import_cv2
from seglib.system import make_folder

CODECS = {".mp4": "mp4v", ".webm": "VP80", ".avi": "MJPG", ".mkv": "FFV1"}


class WrittenVideo(NamedTuple):
    """What `seglib.predict_video` wrote.

    Args:
        path: pathlib.Path of the file.
        frames: int, how many were labelled.
        seconds: float, how long that took.
        rate: float, frames a second.
    """

    path: pathlib.Path
    frames: int
    seconds: float
    rate: float


def check_output(output, source):
    """Return the path of a video to write, in a folder that can be written.

    Raises:
        ValueError: its suffix is of no known format, or it is the source.
        OSError: it is a folder, or in one that cannot be written.
        ModuleNotFoundError: OpenCV is not installed.
    """
    path = pathlib.Path(output)
    if path.suffix.lower() not in CODECS:
        raise ValueError(f"expected a video that ends in {', '.join(CODECS)}, received {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the video to write")
    if isinstance(source, str | os.PathLike) and _are_same(path, source):
        raise ValueError(f"{path} is the source, which would be lost: choose another output")
    import_cv2()
    make_folder(path.parent, "the video")
    return path


def _are_same(path, source):
    return os.path.exists(source) and path.exists() and path.samefile(source)


def write_video(frames, path, rate, *, live=False):
    """Write the overlays of frames, at first under another name.

    Args:
        frames: generator of Frame. It is closed.
        path: pathlib.Path with a suffix of `CODECS`.
        rate: float, frames a second.
        live: bool. True keeps to the clock, with frames repeated or left out, and takes Ctrl-C for
            the end.

    Returns:
        WrittenVideo.

    Raises:
        ValueError: the frames differ in size.
        OSError: OpenCV cannot write it.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    start = time.perf_counter()
    try:
        with contextlib.closing(frames):
            count, written = _write_frames(frames, temporary, rate, live)
        _check_whole(temporary, path, written)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    seconds = time.perf_counter() - start
    return WrittenVideo(path, count, seconds, count / seconds)


def _write_frames(frames, path, rate, live):
    """Write to a file, and return how many frames came, and how many were written at least."""
    first = next(frames)
    size, start = first.overlay.shape[:2], time.perf_counter()
    writer = _open_writer(path, size, rate)
    count = written = 0
    try:
        for count, frame in enumerate(itertools.chain([first], frames), 1):
            _check_size(frame.overlay, size, count)
            due = 1 + int((time.perf_counter() - start) * rate) if live else count
            # At most a second at once: repeating takes time too, for which more would be due.
            copies = min(max(due - written, 0), max(1, int(rate)))
            _write_copies(writer, frame.overlay, copies)
            written += copies
    except KeyboardInterrupt:
        if not live:
            raise
    finally:
        writer.release()
    return count, written


def _open_writer(path, size, rate):
    cv2 = import_cv2()
    codec = CODECS[path.suffix.lower()]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, size[::-1])
    if not writer.isOpened():
        others = " or ".join(suffix for suffix in CODECS if suffix != path.suffix.lower())
        raise OSError(
            f"OpenCV cannot write {path.suffix} of {size[0]}×{size[1]} pixels here, it may lack "
            f"the codec {codec}: try {others}"
        )
    return writer


def _check_size(overlay, size, count):
    if overlay.shape[:2] != size:
        raise ValueError(  # OpenCV would leave it out silently
            f"frame {count - 1} (the first is 0) is of size {overlay.shape[:2]}, but the video of "
            f"{size} (height, width): resize the frames to one size"
        )


def _write_copies(writer, overlay, copies):
    cv2 = import_cv2()
    picture = cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR)
    for _ in range(copies):
        writer.write(picture)


def _check_whole(file, path, written):
    """Raise OSError unless so many frames can be read back: OpenCV does not tell a full disk."""
    cv2 = import_cv2()
    capture = cv2.VideoCapture(str(file))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.set(cv2.CAP_PROP_POS_FRAMES, count - 1)  # the head alone may promise too many
    whole = count >= max(written, 1) and capture.read()[0]
    capture.release()
    if not whole:
        raise OSError(f"{path} could not be written as a whole: is the disk full?")
