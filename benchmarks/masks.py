"""Colours to labels: `closest_labels` against a NumPy broadcast and SciPy's k-d tree."""

import time

import numpy as np
from scipy.spatial import cKDTree
from timing import print_ratios, time_alternatives

import seglib


def draw_mask(random, colors, *, size=(360, 480), blended=0.04):
    """A mask of uniform blocks, a share of whose pixels are half-way blends."""
    labels = np.kron(random.integers(0, len(colors), (18, 24)), np.ones((20, 20), int))
    pixels = colors[labels[: size[0], : size[1]]]
    chosen = random.random(size) < blended
    other = colors[random.integers(0, len(colors), size)]
    return np.where(chosen[..., None], (pixels + other) // 2, pixels).astype(np.uint8)


def main():
    random = np.random.default_rng(0)
    colors = random.integers(0, 256, (32, 3))
    mapping = {tuple(color): label for label, color in enumerate(colors.tolist())}
    start = time.perf_counter()
    seglib.closest_labels(draw_mask(random, colors), mapping)
    first = time.perf_counter() - start
    masks = iter([draw_mask(random, colors) for _ in range(64)])
    fixed = draw_mask(random, colors)
    tree = cKDTree(colors)
    seconds = time_alternatives(
        {
            "closest_labels, a new mask each time": lambda: seglib.closest_labels(
                next(masks), mapping
            ),
            "NumPy broadcast": lambda: (
                ((fixed[:, :, None].astype(float) - colors) ** 2).sum(-1).argmin(-1)
            ),
            "scipy.spatial.cKDTree.query": lambda: tree.query(fixed.reshape(-1, 3)),
        }
    )
    print_ratios(
        "480×360 mask, 32 classes, 4 % blended",
        seconds,
        reference="closest_labels, a new mask each time",
    )
    print(f"  first call for a mapping: {1e3 * first:.0f} ms, mask drawing included")


if __name__ == "__main__":
    main()
