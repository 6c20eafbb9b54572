"""The embedded data set: street scenes in perspective, drawn from a seed."""

import os
import pathlib
import tempfile

import numpy as np
from PIL import Image

from seglib.classes import write_class_table
from seglib.scenes.canvas import Canvas
from seglib.scenes.develop import add_texture, develop
from seglib.scenes.layout import create_street, place_things
from seglib.scenes.palette import STREET_CLASSES, THINGS
from seglib.scenes.surroundings import create_sky, draw_ground, draw_skyline, shade_ground
from seglib.scenes.things import draw_bonnet
from seglib.system import show_progress

__all__ = ["STREET_CLASSES", "THINGS", "draw_scene", "write_scenes"]

_PNG = {"compress_level": 3, "compress_type": 3}  # run lengths: a third smaller, faster too


def draw_scene(index, *, seed=0, size=(180, 240)):
    """Draw one street as seen from a car, with its labels and its objects.

    Colour hardly tells the classes apart, shape, texture and place do, so that
    a network has something to learn that a table of colours cannot know.

    Args:
        index: int >= 0. Which scene of the endless series.
        seed: int >= 0. Which series.
        size: (height, width) in pixels, both at least 32.

    Returns:
        Tuple `(image, labels, instances)`: `(height, width, 3)` uint8 RGB;
        `(height, width)` uint8 ids of `STREET_CLASSES`; `(height, width)`
        uint16, 1.. for the visible pixels of each car, pedestrian, bicyclist,
        sign and pole, 0 elsewhere. The same arguments give the same arrays.

    Raises:
        ValueError: the size is below 32 pixels, or index or seed is negative.

    Example:
        >>> image, labels, instances = draw_scene(0, size=(48, 64))
        >>> image.shape, labels.dtype.name, instances.dtype.name
        ((48, 64, 3), 'uint8', 'uint16')
    """
    if min(size) < 32:
        raise ValueError(f"size must be (height, width), both at least 32, received {size}")
    if index < 0 or seed < 0:
        raise ValueError(f"index and seed must be 0 or more, received {index} and {seed}")
    rng = np.random.default_rng([seed, index])
    street = create_street(rng, *size)
    canvas = Canvas(street, create_sky(rng, street))
    placed = place_things(rng, street)
    draw_skyline(canvas, rng)
    draw_ground(canvas, rng)
    shade = shade_ground(canvas, placed)
    for z, x, draw, _, details in sorted(placed, key=lambda thing: -thing[0]):
        draw(canvas, rng, x, z, **details)
    draw_bonnet(canvas, rng)
    photo, labels, instances = canvas.finish()
    add_texture(photo, labels, shade, street, rng)
    return develop(photo, street, rng), labels, instances


def write_scenes(path, *, num_scenes=240, seed=0, size=(180, 240)):
    """Write scenes as a data set in CamVid's layout, 70 % train, 15 % val, 15 % test.

    The folder appears whole or not at all. One that is already there is kept
    as it is, whatever its number of scenes.

    Args:
        path: str or path of the folder, for example `data/street`.
        num_scenes: int, at least 3. Indices 0.. in the order train, val, test.
        seed: int >= 0, see `draw_scene`.
        size: (height, width) in pixels, see `draw_scene`.

    Returns:
        pathlib.Path of the folder. It holds, for each split, `train/*.jpg`,
        `train_labels/*_L.png` in the classes' colours and
        `train_instances/*_I.png` with 16 bits, beside `class_dict.csv`.

    Raises:
        ValueError: `num_scenes` is below 3.
        FileExistsError: the folder holds something other than a data set.
    """
    if num_scenes < 3:
        raise ValueError(f"three splits need num_scenes of at least 3, received {num_scenes}")
    path = pathlib.Path(path)
    if _is_complete(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as holder:
        folder = pathlib.Path(holder, path.name)
        _write_splits(folder, num_scenes, seed, size)
        write_class_table(folder / "class_dict.csv", STREET_CLASSES)
        try:
            os.rename(folder, path)
        except OSError:  # another process was faster: its folder is as good
            if not _is_complete(path):
                raise
    return path


def _is_complete(path):
    if (path / "class_dict.csv").is_file():
        return True
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(
            f"{path} is in the way: expected a data set with class_dict.csv, an empty folder "
            f"or nothing; remove it or choose another path"
        )
    return False


def _write_splits(folder, num_scenes, seed, size):
    held_out = max(1, round(0.15 * num_scenes))
    num_train = num_scenes - 2 * held_out
    for split in ("train", "val", "test"):
        for kind in ("", "_labels", "_instances"):
            (folder / f"{split}{kind}").mkdir(parents=True)
    for index in show_progress(range(num_scenes), desc="drawing streets", unit="scene"):
        late = (index >= num_train) + (index >= num_train + held_out)
        split, name = ("train", "val", "test")[late], f"street_{index:04d}"
        image, labels, instances = draw_scene(index, seed=seed, size=size)
        mask = Image.fromarray(np.take(STREET_CLASSES.colors, labels, axis=0))
        Image.fromarray(image).save(folder / split / f"{name}.jpg", quality=95)
        mask.save(folder / f"{split}_labels" / f"{name}_L.png", **_PNG)
        objects = Image.fromarray(instances)
        objects.save(folder / f"{split}_instances" / f"{name}_I.png", **_PNG)
