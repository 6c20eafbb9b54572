"""Smooth noise, cut from tiles that are made once."""

import functools

import numpy as np
from PIL import Image

TILE = 512


def smooth_noise(rng, shape, cells):
    """Cut noise in about [-1, 1] from a random place of the tile for these cells.

    Args:
        rng: numpy Generator, which chooses the place.
        shape: (height, width). Beyond `TILE` pixels the noise repeats.
        cells: tuple of int, the grain in pixels of each octave; coarse ones weigh more.

    Returns:
        float32 array of the shape.
    """
    rows, columns = ((np.arange(n) + rng.integers(TILE)) % TILE for n in shape)
    return noise_tile(cells)[rows[:, None], columns]


@functools.lru_cache(maxsize=32)
def noise_tile(cells):
    """Return the tile of `TILE` x `TILE` pixels for these cells, which has no seams."""
    rng, total = np.random.default_rng(cells), np.zeros((TILE, TILE), np.float32)
    for cell in cells:
        count = max(1, TILE // cell)
        coarse = np.pad(rng.random((count, count), np.float32), 2, mode="wrap")
        octave = Image.fromarray(coarse).resize(
            (TILE, TILE), Image.Resampling.BICUBIC, box=(2, 2, count + 2, count + 2)
        )
        total += (np.asarray(octave) - 0.5) * cell
    total *= 2 / sum(cells)
    total.setflags(write=False)
    return total
