"""Random changes to training pairs: the same geometry for image and labels."""

import numpy as np


def augment_pair(image, labels, *, seed, epoch, index, flip=True, jitter=0.2):
    """Mirror a pair at random, and change its brightness and contrast.

    The result is a function of the arguments alone, so that a resumed run sees what
    an undisturbed one would have seen.

    Args:
        image: uint8 array `(height, width, 3)`.
        labels: int array `(height, width)`.
        seed, epoch, index: ints ≥ 0, of the run, the epoch and the pair.
        flip: bool. Mirror left and right in half of the cases.
        jitter: float ≥ 0. Contrast is scaled by up to 1 ± jitter and brightness
            shifted by up to ± 128 jitter.

    Returns:
        `(image, labels)` of the same shapes and dtypes.

    Example:
        >>> image, labels = np.full((1, 2, 3), 9, np.uint8), np.array([[0, 1]])
        >>> augment_pair(image, labels, seed=0, epoch=0, index=0, jitter=0)[1]
        array([[0, 1]])
        >>> augment_pair(image, labels, seed=0, epoch=0, index=1, jitter=0)[1]
        array([[1, 0]])
    """
    random = np.random.default_rng([seed, epoch, index])
    mirrored, contrast, shift = random.random(3)
    if flip and mirrored < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    if jitter:
        levels = (np.arange(256) - 128.0) * (1 + jitter * (2 * contrast - 1)) + 128
        levels += 128 * jitter * (2 * shift - 1)
        image = levels.round().clip(0, 255).astype(np.uint8)[image]
    return image, labels
