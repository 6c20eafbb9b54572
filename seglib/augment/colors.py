"""Colours, sharpness and noise of a picture, changed at random."""

import statistics

import numpy as np
from PIL import Image, ImageFilter

MID_GREY = 128.0
GREY = np.full((3, 3), 1 / 3)  # the part of a colour that is grey: the mean of its channels
# A quarter turn about the grey axis, of the part of a colour that is not grey.
QUARTER = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
# 256 equally probable values of the normal distribution: a random byte looks one up, four times
# faster than NumPy draws from it.
NORMAL = np.array([statistics.NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])
NORMAL /= NORMAL.std()


def change_colors(random, image, augmentation):
    """Change brightness, contrast, saturation and hue of a picture, blur it, add noise.

    Args:
        random: numpy Generator.
        image: uint8 array `(height, width, 3)`.
        augmentation: Augmentation.

    Returns:
        uint8 array like `image`; `image` itself where all is 0.
    """
    *colors, blurred, blur, noisy, noise = random.random(8)
    names = ("brightness", "contrast", "saturation", "hue")
    strengths = np.array([getattr(augmentation, name) for name in names])
    blur *= augmentation.blur * (blurred < augmentation.blur_probability)
    noise *= augmentation.noise * (noisy < augmentation.noise_probability)
    if strengths.any() or blur:
        picture = Image.fromarray(image)
        if strengths.any():
            matrix = color_matrix(*strengths * (2 * np.array(colors) - 1))
            picture = picture.convert("RGB", tuple(matrix.ravel()))
        if blur:
            picture = picture.filter(ImageFilter.GaussianBlur(float(blur)))
        image = np.asarray(picture)
    return _add_noise(random, image, noise) if noise else image


def color_matrix(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0):
    """Return all changes of colour as one map of RGB.

    Grey is the mean of the channels, so that hue is a turn about the grey axis, and neither
    hue nor saturation changes how bright a pixel is.

    Args:
        brightness: share of the full range that is added.
        contrast: the distance from mid grey is scaled by 1 + contrast.
        saturation: the distance from grey is scaled by 1 + saturation.
        hue: degrees, from red towards green.

    Returns:
        float array `(3, 4)`: the last column is added to the channels, in grey levels.

    Example:
        >>> color_matrix(brightness=0.2, contrast=-1).round(9).tolist()
        [[0.0, 0.0, 0.0, 179.0], [0.0, 0.0, 0.0, 179.0], [0.0, 0.0, 0.0, 179.0]]
    """
    cosine, sine = np.cos(np.radians(hue)), np.sin(np.radians(hue))
    turned = cosine * (np.eye(3) - GREY) + sine * QUARTER
    matrix = (1 + contrast) * (GREY + (1 + saturation) * turned)
    return np.column_stack([matrix, np.full(3, 255 * brightness - contrast * MID_GREY)])


def _add_noise(random, image, deviation):
    levels = (deviation * NORMAL).round().astype(np.int16)
    noise = levels.take(np.frombuffer(random.bytes(image.size), np.uint8)).reshape(image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)
