"""Developing: from flat colours to what a camera would have seen."""

import numpy as np
from PIL import Image, ImageFilter

from seglib.scenes.noise import TILE, noise_tile, smooth_noise
from seglib.scenes.palette import ROAD, WALK

# How much fine and coarse grain change the brightness of each class, in hundredths.
_FINE = np.array([0, 5, 5, 10, 7, 26, 3, 8, 3, 6, 6, 6], np.float32) / 100
_COARSE = np.array([3, 16, 5, 18, 16, 25, 3, 14, 5, 4, 4, 14], np.float32) / 100


def add_texture(photo, labels, shade, street, rng):
    """Give each class its grain, and the ground asphalt, slabs, shade and haze, in place."""
    fine = smooth_noise(rng, labels.shape, (2, 3))
    cells = tuple(max(2, street.width // n) for n in (6, 16, 40))
    light = 1 + _FINE[labels] * fine
    light += _COARSE[labels] * smooth_noise(rng, labels.shape, cells)
    top = int(street.horizon) + 1  # the ground begins below the horizon
    ahead = street.focal * street.eye / (np.arange(top, street.height) - street.horizon)
    ahead = ahead.astype(np.float32)[:, None]
    ground = (labels[top:] == ROAD) | (labels[top:] == WALK)
    relief = _pave(labels[top:] == WALK, ahead, street)
    light[top:] += ground * relief
    light[top:] *= 1 - ground * shade[top:]
    photo *= light[..., None]
    haze = (ground * (ahead / (ahead + street.sight)))[..., None]
    photo[top:] += haze * (street.haze - photo[top:])


def _pave(walk, ahead, street):
    """Return the relief of ground `ahead` metres away: slabs where one walks, else asphalt."""
    across = (np.arange(street.width, dtype=np.float32) - street.center) * (ahead / street.focal)
    across -= street.bend * ahead**2
    near, gap = 8 / (8 + ahead), 0.03 + 0.012 * ahead
    rows, columns = ((ahead * 24).astype(np.int32) % TILE, (across * 24).astype(np.int32) % TILE)
    grain = noise_tile((1, 2, 4))[rows, columns] * near
    joints = (across % 0.9 < gap) | (ahead % 0.9 < gap)
    return np.where(walk, np.where(joints, -0.3 * near, 0.08 * grain), 0.22 * grain)


def develop(photo, street, rng):
    """Weather and camera: dullness, low sun, exposure, white balance, vignette, blur, noise."""
    grey = (photo[..., 0] + photo[..., 1] + photo[..., 2]) * (street.dullness / 3)
    photo = photo * (1 - street.dullness) + grey[..., None]
    rows = np.linspace(0, 1, street.height, dtype=np.float32)[:, None]
    columns = np.linspace(0, 1, street.width, dtype=np.float32)
    if street.sun and rng.random() < 0.3:
        away = (columns - (street.sun > 0)) ** 2 + (rows - rng.uniform(0.05, 0.4)) ** 2
        photo += np.array([110, 96, 70], np.float32) / (1 + away / 0.02)[..., None]
    photo *= 1 - rng.uniform(0.1, 0.6) * ((columns - 0.5) ** 2 + (rows - 0.5) ** 2)[..., None]
    balance = 1 + rng.uniform(-0.08, 0.08) * np.array([1, 0, -1])
    photo *= (rng.uniform(0.85, 1.3) * balance).astype(np.float32)
    photo += rng.uniform(-6, 12)
    tap = rng.uniform(0.02, 0.24)
    taps = np.outer([tap, 1 - 2 * tap, tap], [tap, 1 - 2 * tap, tap]).ravel().tolist()
    soft = Image.fromarray(_to_bytes(photo)).filter(ImageFilter.Kernel((3, 3), taps))
    noise = smooth_noise(rng, (street.height, 3 * street.width), (1,)).reshape(photo.shape)
    return _to_bytes(np.asarray(soft) + noise * rng.uniform(1.7, 8.5) + 0.5)


def _to_bytes(photo):
    return np.clip(photo, 0, 255).astype(np.uint8)
