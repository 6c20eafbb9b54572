"""Class colours and the frame rate, drawn quickly."""

import collections
import contextlib
import functools
import time
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont


class Frame(NamedTuple):
    """A labelled frame.

    Args:
        image: uint8 array `(height, width, 3)`, RGB.
        labels: array `(height, width)` of ids, as `seglib.predict` returns them.
        overlay: uint8 array like `image`, with the colours of the classes over it.
        rate: float, frames a second over the last second or so.
    """

    image: np.ndarray
    labels: np.ndarray
    overlay: np.ndarray
    rate: float


def paint_frames(labelled, colors, opacity, show_rate):
    """Yield a Frame for each `(image, labels)` of a generator.

    Args:
        labelled: generator.
        colors: uint8 array `(k, 3)`, of each class.
        opacity, show_rate: as of `seglib.predict_video`.
    """
    times = collections.deque([time.perf_counter()])
    with contextlib.closing(labelled):
        for image, labels in labelled:
            rate = measure_rate(times, time.perf_counter())
            overlay = blend_classes(image, labels, colors, opacity)
            if show_rate:
                height, width = overlay.shape[:2]
                strip = _draw_text(f"{rate:.1f} frames/s", max(10, height // 24))[:height, :width]
                overlay[: strip.shape[0], : strip.shape[1]] = strip
            yield Frame(image, labels, overlay, rate)


def measure_rate(times, now):
    """Return the frames a second over the last second, or the last frame's if it took longer.

    Args:
        times: deque of the seconds at which frames came, the start first. `now` is added, and what
            is too old is taken off.
        now: float, seconds.

    Example:
        >>> measure_rate(collections.deque([0.0, 4.5, 4.75]), 5.0)
        4.0
    """
    times.append(now)
    while len(times) > 2 and now - times[0] > 1:
        times.popleft()
    return (len(times) - 1) / max(now - times[0], 1e-6)


def blend_classes(image, labels, colors, opacity):
    """Lay class colours over an image as `seglib.plots.overlay` does, but ten times as fast.

    In fixed point, so that values differ from exact ones by 1 at the most.

    Args:
        image: uint8 array `(height, width, 3)`.
        labels: int array `(height, width)`, each the row of its colour.
        colors: uint8 array `(k, 3)`.
        opacity: float in [0, 1].

    Returns:
        uint8 array like `image`, a new one.

    Example:
        >>> image, colors = np.full((1, 1, 3), 100, np.uint8), np.array([(200, 100, 0)])
        >>> blend_classes(image, np.array([[0]]), colors, 0.25)
        array([[[125, 100,  75]]], dtype=uint8)
    """
    share = round(256 * opacity)
    tints = (share * colors.astype(int) + 128).astype(np.uint16)
    blend = image * np.uint16(256 - share)
    blend += tints.take(labels, axis=0)
    blend >>= 8
    return blend.astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _draw_text(text, size):
    """White text on a dark strip, uint8 `(height, width, 3)`."""
    font = _load_font(size)
    right, bottom = font.getbbox(text)[2:]
    strip = Image.new("RGB", (int(right) + size, int(bottom) + size // 2), (24, 24, 24))
    ImageDraw.Draw(strip).text((size // 2, size // 4), text, fill="white", font=font)
    return np.asarray(strip)


_load_font = functools.lru_cache(maxsize=4)(ImageFont.load_default)
