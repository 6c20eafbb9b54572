"""Frames from videos, cameras and iterables, as uint8 RGB."""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

FRAME_RATE = 25  # of sources that tell none


class Source(NamedTuple):
    """An opened source.

    Args:
        name: str, for messages.
        frames: generator of uint8 arrays `(height, width, 3)`; closed, it lets go of the source.
        rate: float, frames a second.
        live: bool. True if frames come whether or not they are taken.
    """

    name: str
    frames: Iterator
    rate: float
    live: bool


def open_source(source):
    """Open what `seglib.predict_video` takes.

    Returns:
        Source.

    Raises:
        ModuleNotFoundError, FileNotFoundError, ValueError, OSError: as `seglib.predict_video`.
        TypeError: it is nothing of the kind.
    """
    if isinstance(source, int):
        return _open_capture(source, f"camera {source}", live=True)
    if isinstance(source, str | os.PathLike):
        if not os.path.isfile(source):
            raise FileNotFoundError(f"there is no video {os.fspath(source)}")
        return _open_capture(os.fspath(source), os.fspath(source), live=False)
    if not isinstance(source, Iterable | np.ndarray):
        raise TypeError(
            "expected the path of a video, the number of a camera or an iterable of frames, "
            f"received {type(source).__name__}"
        )
    return Source("the source", _read_iterable(source), FRAME_RATE, live=False)


def import_cv2():
    """Return OpenCV, or raise ModuleNotFoundError with what to install."""
    try:
        import cv2
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "videos and cameras need OpenCV, not installed here: pip install "
            "opencv-python-headless, or all runtimes with pip install 'seglib[deploy]'; "
            "an iterable of frames without an output needs none"
        ) from None
    return cv2


def _open_capture(source, name, *, live):
    cv2 = import_cv2()
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        if live:
            raise OSError(f"{name} is not there, or another program has it: the first is often 0")
        raise ValueError(f"{name} is no video that OpenCV can read: convert it to .mp4")
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if 0 < rate <= 300 else FRAME_RATE  # some tell the unit of their clock instead
    return Source(name, _read_capture(capture), rate, live)


def _read_capture(capture):
    cv2 = import_cv2()
    try:
        while (answer := capture.read())[0]:
            yield cv2.cvtColor(answer[1], cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


def _read_iterable(frames):
    for i, frame in enumerate(frames):
        frame = np.array(frame)  # a copy, as some sources fill one buffer again and again
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise ValueError(
                f"frame {i} (the first is 0): expected uint8 RGB (height, width, 3), received "
                f"{frame.dtype} {frame.shape}"
            )
        yield frame
