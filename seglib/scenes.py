"""The embedded data set: street scenes in perspective, drawn from a seed."""

import itertools
import os
import pathlib
import tempfile
import types

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from seglib.classes import ClassTable, write_class_table

_COLORS = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Column_Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Sidewalk": (0, 0, 192),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
    "Void": (0, 0, 0),
}
STREET_CLASSES = ClassTable(list(_COLORS), list(_COLORS.values()), ignore_label=11)
SKY, BUILDING, POLE, ROAD, WALK, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST, VOID = range(12)
THINGS = frozenset({POLE, SIGN, CAR, PEDESTRIAN, BICYCLIST})
OVERSAMPLING = 2  # the photo is drawn this much larger and reduced, against jagged edges


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
    street = _create_street(rng, *size)
    canvas = _Canvas(street, _create_sky(rng, street))
    things = _place_things(rng, street)
    _draw_skyline(canvas, rng)
    _draw_ground(canvas, rng)
    _draw_shadows(canvas, things)
    for z, x, draw, _, details in sorted(things, key=lambda thing: -thing[0]):
        draw(canvas, rng, x, z, **details)
    _draw_bonnet(canvas, rng)
    photo, labels, instances = canvas.finish()
    return _develop(_add_texture(photo, labels, street, rng), street, rng), labels, instances


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
    from tqdm.auto import tqdm

    held_out = max(1, round(0.15 * num_scenes))
    num_train = num_scenes - 2 * held_out
    for split in ("train", "val", "test"):
        for kind in ("", "_labels", "_instances"):
            (folder / f"{split}{kind}").mkdir(parents=True)
    for index in tqdm(range(num_scenes), desc="drawing streets", unit="scene"):
        late = (index >= num_train) + (index >= num_train + held_out)
        split, name = ("train", "val", "test")[late], f"street_{index:04d}"
        image, labels, instances = draw_scene(index, seed=seed, size=size)
        mask = Image.fromarray(STREET_CLASSES.colors[labels])
        Image.fromarray(image).save(folder / split / f"{name}.jpg", quality=95)
        mask.save(folder / f"{split}_labels" / f"{name}_L.png", compress_level=3)
        objects = Image.fromarray(instances)
        objects.save(folder / f"{split}_instances" / f"{name}_I.png", compress_level=3)


# For each weather: how often, sky above, sky at the horizon, clouds, sight in m, dullness.
_WEATHER = {
    "clear": (0.30, (104, 148, 206), (196, 214, 230), 0.2, 260, 0.0),
    "cloudy": (0.28, (126, 156, 196), (204, 212, 218), 1.6, 200, 0.1),
    "overcast": (0.18, (182, 186, 192), (206, 206, 206), 0.4, 120, 0.35),
    "dusk": (0.13, (104, 112, 150), (226, 172, 132), 0.7, 130, 0.1),
    "fog": (0.11, (190, 192, 196), (198, 200, 204), 0.1, 36, 0.3),
}
_LEAVES = ((62, 84, 44), (84, 106, 56), (44, 64, 46), (124, 94, 48), (140, 114, 58))


def _create_street(rng, height, width):
    """Choose camera, layout and weather; lengths in metres, x to the right, z ahead."""
    chances = np.array([row[0] for row in _WEATHER.values()])
    weather = list(_WEATHER)[rng.choice(len(chances), p=chances)]
    _, top, bottom, clouds, sight, dullness = _WEATHER[weather]
    return types.SimpleNamespace(
        height=height,
        width=width,
        focal=width * rng.uniform(0.72, 0.86),
        horizon=height * rng.uniform(0.47, 0.57),
        center=width * rng.uniform(0.36, 0.64),
        eye=rng.uniform(1.5, 2.0),
        bend=rng.uniform(-1, 1) ** 3 * 0.0022,  # the road turns by bend * z**2
        curbs=(-rng.uniform(2.2, 4.2), rng.uniform(3.0, 5.8)),
        walks=(rng.uniform(2.0, 4.4), rng.uniform(2.0, 4.4)),
        sky=(np.array(top, np.float32), np.array(bottom, np.float32), clouds),
        haze=(np.array(bottom) * rng.uniform(0.85, 1.0)).astype(np.float32),
        sight=sight * rng.uniform(0.7, 1.4),  # at this distance half of a colour is haze
        dullness=dullness * rng.uniform(0.4, 1.6),
        sun=0 if weather in ("overcast", "fog") else int(rng.choice([-1, 1])),  # its side
        asphalt=rng.uniform(72, 148) + rng.uniform(-6, 6, 3),
        leaves=np.array(_LEAVES[rng.choice(5, p=[0.3, 0.25, 0.15, 0.15, 0.15])]),
    )


class _Canvas:
    """Photo and ids, on which every shape is drawn in lockstep.

    Points are metres to the right, above the ground and (0 if left out) behind
    the place that `start` was given.
    """

    def __init__(self, street, sky):
        self.street = street
        size = (street.width * OVERSAMPLING, street.height * OVERSAMPLING)
        self.photo = sky.resize(size, Image.Resampling.BILINEAR)
        self.ids = Image.new("I", size, SKY)  # 16 * instance + label
        self.pens = (ImageDraw.Draw(self.photo), ImageDraw.Draw(self.ids))
        self.count = 0

    def start(self, label, x=0.0, z=0.0):
        """Begin something of this label at this place; a thing gets a new instance."""
        self.count += label in THINGS
        self.id = 16 * self.count + label if label in THINGS else label
        self.x, self.z = x, z
        self.share = z / (z + self.street.sight)
        self.fog = self.street.haze * self.share

    def fill(self, points, color):
        """Fill a polygon; without a colour it is seen through, yet labelled."""
        self._draw("polygon", self.project(points), color)

    def disc(self, x, y, radius, color, stretch=1.0):
        """Fill an upright ellipse whose height is `stretch` times its width."""
        high = radius * stretch
        corners = self.project([(x - radius, y + high), (x + radius, y - high)])
        self._draw("ellipse", corners, color)

    def stroke(self, points, thickness, color, thinnest=1.0):
        """Draw a line of this thickness, at least so many pixels of a 240 pixels wide photo."""
        street = self.street
        pixels = max(thickness * street.focal / self.z, thinnest * street.width / 240)
        self._draw("line", self.project(points), color, width=round(pixels * OVERSAMPLING))

    def project(self, points):
        """Return the points as (column, row) of the oversampled photo."""
        street, corners = self.street, []
        for x, y, *behind in points:
            z = self.z + behind[0] if behind else self.z
            column = street.center + street.focal * ((self.x + x) / z + street.bend * z)
            row = street.horizon + street.focal * (street.eye - y) / z
            corners.append((column * OVERSAMPLING, row * OVERSAMPLING))
        return corners

    def _draw(self, shape, corners, color, **style):
        columns = [column for column, _ in corners]
        if max(columns) < 0 or min(columns) > self.photo.width:
            return  # out of sight; this saves a fifth of the time
        if color is not None:
            mixed = np.asarray(color) * (1 - self.share) + self.fog
            ink = tuple([min(max(int(c), 0), 255) for c in mixed.tolist()])
            getattr(self.pens[0], shape)(corners, fill=ink, **style)
        getattr(self.pens[1], shape)(corners, fill=self.id, **style)

    def finish(self):
        """Return photo, labels and instances; the ids of what is hidden are closed up."""
        ids = np.asarray(self.ids)[::OVERSAMPLING, ::OVERSAMPLING]
        labels, instances = (ids % 16).astype(np.uint8), ids // 16
        seen = np.bincount(instances.ravel(), minlength=self.count + 1) > 0
        seen[0] = False
        photo = np.asarray(self.photo.reduce(OVERSAMPLING), np.float32)
        return photo, labels, np.cumsum(seen).astype(np.uint16)[instances] * (instances > 0)


def _front(x0, x1, y0, y1):
    return [(x0, y0), (x0, y1), (x1, y1), (x1, y0)]


def _wall(y0, y1, z0, z1):
    return [(0, y0, z0), (0, y1, z0), (0, y1, z1), (0, y0, z1)]


def _floor(x0, x1, z0, z1, steps=2):
    ahead = [float(z0) * (z1 / z0) ** (i / (steps - 1)) for i in range(steps)]
    return [(x0, 0, z) for z in ahead] + [(x1, 0, z) for z in reversed(ahead)]


def _paint(rng, low=30, high=215, tint=40):
    """Any colour of things made by people: a random grey, warmer or cooler."""
    warm = rng.uniform(-tint, tint) * np.array([1.0, 0.1, -1.0])
    return rng.uniform(low, high) + warm + rng.uniform(-tint, tint, 3) / 3


def _noise(rng, shape, cells):
    """Smooth noise in about [-1, 1] with one octave for each cell size in pixels."""
    total = np.zeros(shape, np.float32)
    for cell in cells:
        coarse = rng.random((shape[0] // cell + 2, shape[1] // cell + 2), np.float32)
        octave = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
        total += (np.asarray(octave) - 0.5) * cell
    return total * (2 / sum(cells))


def _create_sky(rng, street):
    top, bottom, cover = street.sky
    rows = np.arange(street.height, dtype=np.float32)[:, None, None]
    fall = np.minimum(rows / street.horizon, 1)
    cells = [max(1, street.width // n) for n in (4, 9, 20)]
    clouds = _noise(rng, (street.height, street.width), cells)[..., None]
    veil = np.clip(clouds * cover + 0.1, 0, 0.9)
    white = street.haze * (1.1 - 0.3 * np.clip(-np.roll(clouds, 6, 0), -0.3, 1))
    sky = (top * (1 - fall) + bottom * fall) * (1 - veil) + white * veil
    return Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))


def _draw_skyline(canvas, rng):
    for x in np.arange(-170, 170, 12.0):
        kind = int(rng.choice([BUILDING, TREE, VOID], p=[0.45, 0.4, 0.15]))
        canvas.start(kind, x, rng.uniform(110, 150))
        high, wide = rng.uniform(6, 18), rng.uniform(7, 14)
        color = canvas.street.leaves if kind == TREE else _paint(rng)
        canvas.fill(_front(-wide, wide, -2, 5 if kind == TREE else high), color)
        if kind == TREE:
            canvas.disc(0, 5, wide, color, stretch=0.4)


def _draw_ground(canvas, rng):
    street = canvas.street
    (left, right), (walk_left, walk_right) = street.curbs, street.walks
    stone = street.asphalt * rng.uniform(0.9, 1.25) + rng.uniform(-6, 6, 3)
    for label, x0, x1, color in (
        (VOID, -90, 90, _paint(rng, 60, 130)),
        (WALK, left - walk_left + 0.15, left, stone),
        (WALK, right, right + walk_right - 0.15, stone),
        (ROAD, left, right, street.asphalt),
        (WALK, left - 0.25, left, stone * 1.25),
        (WALK, right, right + 0.25, stone * 1.25),
        (ROAD, left, left + 0.14, stone * 0.55),
        (ROAD, right - 0.14, right, stone * 0.55),
    ):
        canvas.start(label)
        canvas.fill(_floor(x0, x1, 1.2, 170, steps=16), color)
    _draw_marks(canvas, rng, left, right, street.asphalt + rng.uniform(35, 100))


def _draw_marks(canvas, rng, left, right, white):
    canvas.start(ROAD)
    lane = (left + right) / 2 + rng.uniform(-0.5, 1.0)
    for z in np.arange(rng.uniform(1.5, 5), 70, rng.choice([4.0, 6.0, 9.0])):
        canvas.fill(_floor(lane - 0.07, lane + 0.07, z, z + 2.5), white)
    if rng.random() < 0.35:
        canvas.fill(_floor(left + 0.4, left + 0.52, 1.5, 70, steps=12), white)
    if rng.random() < 0.25:
        z = rng.uniform(7, 16)
        for x in np.arange(left + 0.3, right - 0.4, 1.0):
            canvas.fill(_floor(x, x + 0.5, z, z + 2.6), white)


def _draw_shadows(canvas, things):
    """Darken the ground where things stand and where they keep the sun out."""
    canvas.start(ROAD)
    shade = Image.new("L", canvas.photo.size, 0)
    pen = ImageDraw.Draw(shade)
    for z, x, _, (wide, deep, high), _ in things:
        reach = -canvas.street.sun * high * 0.55
        if reach:
            far = z + 1.5 + deep
            corners = [(x - wide, 0, z), (x + wide, 0, z), (x + wide + reach, 0, far)]
            pen.polygon(canvas.project([*corners, (x - wide + reach, 0, far)]), fill=95)
        if wide:
            pen.polygon(canvas.project(_floor(x - wide, x + wide, z - 0.1, z + deep)), fill=140)
    canvas.photo.paste((14, 16, 24), (0, 0), shade.filter(ImageFilter.BoxBlur(1)))


def _place_things(rng, street):
    """List what stands in the street as tuples `(z, x, draw, footprint, details)`."""
    things = []
    left, right = street.curbs
    for side, curb, walk in zip((-1, 1), street.curbs, street.walks, strict=True):
        _place_lots(things, rng, side, curb + side * walk)
        _place_furniture(things, rng, side, curb, walk)
    for z in np.arange(rng.uniform(7, 26), 70, 13) + rng.uniform(0, 5):
        away = bool(rng.random() < 0.4)
        if rng.random() < 0.55:
            _add(things, z, left * 0.2 if away else right * 0.5, _draw_car, _CAR_FOOT, away=away)
    if rng.random() < 0.2:
        x, z = rng.uniform(left, right), rng.uniform(13, 26)
        _add(things, z, x, _draw_car, (2.1, 1.7, 1.5), across=True)
    for z in rng.uniform(7, 22, rng.choice(4, p=[0.25, 0.35, 0.25, 0.15])):
        x, across = rng.uniform(left + 0.5, right - 0.5), bool(rng.random() < 0.5)
        _add(things, z, x, _draw_cyclist, (0.3, 0.8, 1.6), across=across)
    for z in rng.uniform(9, 16, rng.choice(3, p=[0.75, 0.15, 0.1])):
        _add(things, z, rng.uniform(left, right), _draw_person, _PERSON_FOOT)
    return things


_CAR_FOOT, _PERSON_FOOT, _TRUNK_FOOT, _POST_FOOT = (
    (0.95, 4.2, 1.5),
    (0.2, 0.3, 1.7),
    (0.3, 0.3, 6),
    (0.12, 0.15, 4),
)


def _add(things, z, x, draw, footprint=(0, 0, 0), **details):
    """List a thing; its footprint is half its width, its depth and its height."""
    things.append((float(z), float(x), draw, footprint, details))


def _place_lots(things, rng, side, edge):
    z = rng.uniform(1.5, 5)
    while z < 70:
        deep, kind = rng.uniform(7, 18), rng.choice(4, p=[0.58, 0.28, 0.09, 0.05])
        back, garden = edge + side * rng.uniform(2.5, 6), rng.random() < 0.5
        if kind == 0 or (kind == 1 and garden):
            x = back if kind else edge
            _add(things, z + deep, x, _draw_building, side=side, long=deep)
        if kind == 1:
            for ahead in () if garden else rng.uniform(0, deep, 3):
                _add(things, z + ahead + 0.2, back, _draw_tree, _TRUNK_FOOT)
            _add(things, z + 0.1, edge, _draw_fence, long=deep)
        for ahead in np.arange(0, deep, 2.5) if kind == 2 else ():
            _add(things, z + ahead, edge + side * 1.5, _draw_tree, _TRUNK_FOOT, bushy=True)
        z += deep


def _place_furniture(things, rng, side, curb, walk):
    verge, middle = curb + side * 0.45, curb + side * walk * 0.6
    if rng.random() < 0.42:
        for z in np.arange(rng.uniform(5, 14), 60, rng.uniform(9, 16)):
            _add(things, z, verge, _draw_tree, _TRUNK_FOOT)
    for z in np.arange(rng.uniform(6, 22), 55, rng.uniform(17, 32)):
        _add(things, z, verge, _draw_lamp, _POST_FOOT, side=side)
    for z in rng.uniform(6, 22, rng.choice(3, p=[0.35, 0.45, 0.2])):
        _add(things, z, verge + side * 0.2, _draw_sign, _POST_FOOT)
    if rng.random() < 0.7:
        for z in np.arange(rng.uniform(6, 14), 55, rng.uniform(5.4, 7)):
            if rng.random() < 0.75:
                _add(things, z, curb - side * 1.1, _draw_car, _CAR_FOOT, away=side < 0)
    for z in rng.uniform(6.5, 22, rng.choice(4, p=[0.2, 0.35, 0.25, 0.2])):
        _add(things, z, middle + rng.uniform(-0.5, 0.5), _draw_person, _PERSON_FOOT)
    for z in rng.uniform(6, 20, rng.choice(2, p=[0.7, 0.3])):
        _add(things, z, middle, _draw_bin, (0.4, 0.6, 1))


def _draw_building(canvas, rng, x, z, side, long):
    canvas.start(BUILDING, x, z - long)
    floors, story = int(rng.integers(2, 6)), rng.uniform(2.8, 3.5)
    high, wall = floors * story + 0.6, _paint(rng, 70, 215, 30)
    light, glass = wall * (1 + 0.2 * canvas.street.sun * side), _paint(rng, 25, 110, 14)
    top, inward = high + rng.choice([0, 2.2]), side * 2.6
    face = [(0, -0.2), (0, high), (inward, top), (side * 9, top), (side * 9, -0.2)]
    canvas.fill(face, wall * 0.8)
    ridge = [(inward, top, long), (inward, top, 0)]
    canvas.fill([(0, high, 0), (0, high, long), *ridge], _paint(rng, 50, 110, 30))
    canvas.fill(_wall(-0.2, high, 0, long), light)
    canvas.fill(_wall(high - 0.4, high, 0, long), light * 0.75)
    if rng.random() < 0.5:
        canvas.fill(_wall(0, story, 0, long), _paint(rng, 50, 190))
    bays = max(2, int(long / rng.uniform(2.2, 3.4)))
    frame = light * rng.choice([0.6, 1.3])
    for floor in range(floors):
        base = floor * story
        for x0 in (side * 2, side * 5):
            canvas.fill(_front(x0, x0 + side * 1.3, base + 0.9, base + 2.3), glass)
        for z0 in long / bays * np.arange(bays):
            low = base + (0 if floor == 0 and rng.random() < 0.3 else 0.9)
            _draw_window(
                canvas, low, base + 2.4, z0, long / bays, frame, glass * rng.uniform(0.7, 1.6)
            )


def _draw_window(canvas, low, high, start, bay, frame, glass):
    if canvas.z + start < 25:  # further away a frame is thinner than a pixel
        canvas.fill(_wall(low, high, start + bay * 0.2, start + bay * 0.8), frame)
    canvas.fill(_wall(low + 0.15, high - 0.15, start + bay * 0.27, start + bay * 0.73), glass)


def _draw_fence(canvas, rng, x, z, long):
    canvas.start(FENCE, x, z)
    high, paint = rng.uniform(1.2, 2.1), _paint(rng, 40, 200)
    canvas.fill(_wall(-0.1, high, 0, long), paint * 0.6 if rng.random() < 0.6 else None)
    for ahead in np.arange(0, long - 0.2, 0.42 if z < 30 else 0.9):
        canvas.fill(_wall(-0.1, high + 0.1, ahead, ahead + 0.2), paint)
    for y in (0.25 * high, 0.85 * high):
        canvas.fill(_wall(y, y + 0.12, 0, long), paint * 1.25)


def _draw_tree(canvas, rng, x, z, bushy=False):
    canvas.start(TREE, x, z)
    high = rng.uniform(2.5, 4) if bushy else rng.uniform(4.5, 8)
    crown, bark = high * rng.uniform(0.26, 0.36), rng.uniform(45, 95) + np.array([8, 0, -8])
    leaf = canvas.street.leaves * rng.uniform(0.75, 1.3) + rng.uniform(-14, 14, 3)
    middle, tall = (high * 0.5, 1.3) if bushy else (high - crown, 1.1)
    canvas.stroke([(0, -0.05), (rng.uniform(-0.2, 0.2), middle)], 0.3, bark, 1.5)
    count = int(12 + 60 * min(1, 8 / z))
    angles, reach = rng.uniform(0, 2 * np.pi, count), rng.random(count) ** 0.5 * crown
    east, up = reach * np.cos(angles), reach * np.sin(angles)
    late = np.arange(count) / count  # the later, the smaller, the brighter and the further out
    tones = 0.7 + 0.4 * late + 0.25 * (up - canvas.street.sun * east) / crown
    tones += rng.uniform(-0.14, 0.14, count)
    radii = crown * (0.46 - 0.34 * late) * rng.uniform(0.6, 1.1, count)
    colors = (leaf * tones[:, None]).tolist()
    for e, u, radius, color in zip(east.tolist(), up.tolist(), radii.tolist(), colors, strict=True):
        canvas.disc(e, middle + u * tall, radius, color)


def _draw_lamp(canvas, rng, x, z, side):
    canvas.start(POLE, x, z)
    high, paint = rng.uniform(5, 8.5), _paint(rng, 40, 170, 12)
    canvas.stroke([(0, -0.05), (0, high)], 0.17, paint, 1.7)
    canvas.stroke([(0.04, 0), (0.04, high)], 0.06, paint * 1.4)
    canvas.stroke([(0, 0), (0, 1.1)], 0.27, paint * 0.9, 2)
    if rng.random() < 0.7:
        canvas.stroke([(0, high), (-side * 1.5, high + 0.25)], 0.12, paint, 1.5)
        canvas.disc(-side * 1.6, high + 0.2, 0.4, paint * 1.5, stretch=0.4)


_RIMS = np.array([(204, 44, 44), (40, 70, 170), (235, 235, 235), (230, 180, 40), (40, 110, 70)])
_LIGHTS = np.array([(240, 60, 50), (240, 185, 60), (70, 225, 130)])


def _draw_sign(canvas, rng, x, z):
    y, radius, corners = rng.uniform(2.3, 3.0), rng.uniform(0.4, 0.62), rng.choice([0, 3, 4, 12])
    canvas.start(POLE, x, z)
    canvas.stroke([(0, -0.05), (0, y)], 0.13, _paint(rng, 60, 170, 10), 1.7)
    canvas.start(SIGN, x, z)
    if corners == 0:
        canvas.fill(_front(-0.32, 0.32, y - 0.4, y + 0.85), (34, 36, 34))
        bright = np.where(np.arange(3) == rng.integers(3), 1.0, 0.35)
        for i, color in enumerate(_LIGHTS * bright[:, None]):
            canvas.disc(0, y + 0.62 - 0.4 * i, 0.17, color)
        return
    turn = np.pi * (0.5 + 2 / corners * np.arange(corners) + (0.25 if corners == 4 else 0))
    rim, plate = _RIMS[rng.permutation(5)[:2]]
    for size, color in ((radius * 1.15, rim), (radius * 0.8, plate)):
        rows = np.stack([np.cos(turn) * size, y + np.sin(turn) * size], 1)
        canvas.fill(rows.tolist(), color)
    wide, tall = ((0.09, 0.25), (0.27, 0.08))[rng.integers(2)]
    canvas.fill(_front(-wide, wide, y - tall, y + tall), rim * 0.6)


def _draw_bin(canvas, rng, x, z):
    canvas.start(VOID, x, z)
    paint, high = _paint(rng), rng.uniform(0.8, 1.4)
    canvas.fill(_front(-0.38, 0.38, -0.05, high), paint)
    canvas.fill(_front(-0.44, 0.44, high - 0.15, high + 0.05), paint * 0.6)


def _draw_person(canvas, rng, x, z):
    canvas.start(PEDESTRIAN, x, z)
    tall, step, turn = rng.uniform(0.88, 1.1), rng.uniform(0.05, 0.32), rng.choice([-0.1, 0.1])
    coat, trousers = _paint(rng), _paint(rng, 20, 120)
    for foot, tone in ((-step, 0.8), (step, 1.0)):
        canvas.stroke([(0, 0.85 * tall), (foot, 0)], 0.19, trousers * tone, 1.5)
    torso = [(-0.2, 0.78), (-0.25, 1.32), (-0.12, 1.45), (0.12, 1.45), (0.25, 1.32), (0.2, 0.78)]
    canvas.fill([(e, u * tall) for e, u in torso], coat)
    for arm in (-0.27, 0.27):
        canvas.stroke([(arm, 1.38 * tall), (arm * 1.2 + turn, 0.8 * tall)], 0.13, coat * 0.8)
    _draw_head(canvas, rng, 0, 1.58 * tall, _paint(rng, 20, 120, 20))


def _draw_head(canvas, rng, x, y, hair):
    canvas.disc(x, y, 0.13, rng.uniform(0.35, 1) * np.array([236, 192, 162]), stretch=1.2)
    canvas.disc(x, y + 0.06, 0.14, hair, stretch=0.75)


def _draw_cyclist(canvas, rng, x, z, across):
    canvas.start(BICYCLIST, x, z)
    jersey, metal, dark = _paint(rng), _paint(rng), np.full(3, rng.uniform(20, 50))
    lean = rng.choice([-0.35, 0.35]) if across else 0.0
    for wheel in (-0.54, 0.54) if across else ():
        canvas.disc(wheel, 0.34, 0.37, dark)
        canvas.disc(wheel, 0.34, 0.26, canvas.street.asphalt * 0.8)
    if not across:
        canvas.stroke([(0, 0), (0, 0.75)], 0.12, dark, 1.5)
    canvas.stroke([(-lean, 0.95), (lean * 1.4, 0.35)], 0.09, metal)
    canvas.stroke([(lean * 1.2 - 0.3, 1.05), (lean * 1.2 + 0.3, 1.05)], 0.09, metal)
    for leg in (-0.12, 0.12):
        canvas.stroke([(leg - lean * 0.6, 0.95), (leg, 0.3 + leg)], 0.18, dark * 1.6, 1.3)
    hip, neck = -lean * 0.6, lean * 0.5
    canvas.fill(
        [(hip - 0.2, 0.9), (neck - 0.25, 1.45), (neck + 0.25, 1.48), (hip + 0.2, 0.9)], jersey
    )
    canvas.stroke([(neck, 1.4), (lean * 1.2, 1.05)], 0.12, jersey * 0.8)
    _draw_head(canvas, rng, lean * 0.8, 1.64, metal)


# Outlines of cars from the rear to the front, in shares of length and height.
_OUTLINES = (
    [(0, 0.62), (0.04, 0.68), (0.16, 0.98), (0.6, 1), (0.76, 0.68), (1, 0.56)],  # hatchback
    [(0, 0.6), (0.15, 0.66), (0.28, 0.98), (0.62, 1), (0.78, 0.68), (1, 0.56)],  # saloon
    [(0, 0.5), (0.01, 0.6), (0.03, 0.98), (0.78, 1), (0.92, 0.6), (1, 0.5)],  # van
)


def _draw_car(canvas, rng, x, z, away=True, across=False):
    canvas.start(CAR, x, z)
    kind = rng.choice(3, p=[0.45, 0.35, 0.2])
    long, high = rng.uniform(3.9, 4.6), rng.uniform(1.4, 1.55) * (1.35 if kind == 2 else 1)
    paint, glass = _paint(rng, 30, 205, 55), rng.uniform(20, 70) + np.array([0, 4, 10])
    outline = _OUTLINES[kind]
    if rng.random() < 0.5 if across else not away:
        outline = [(1 - u, v) for u, v in reversed(outline)]

    def fill(corners, color):
        """Fill a polygon of (along, up, to the right) in shares of the car, from its centre."""
        if across:
            points = [((u - 0.5) * long, v * high, (w + 1) * 0.88) for u, v, w in corners]
        else:
            points = [(w * 0.88, v * high, u * long) for u, v, w in corners]
        canvas.fill(points, color)

    near = -1 if across or x > 0 else 1
    _draw_car_side(fill, outline, near, paint, glass, (0.33 / long, 0.33 / high))
    if not across:
        _draw_car_end(fill, outline, paint, glass, (204, 30, 24) if away else (240, 236, 214))


def _draw_car_side(fill, outline, near, paint, glass, radius):
    for (u0, v0), (u1, v1) in itertools.pairwise(outline):
        fill([(u0, v0, -1), (u1, v1, -1), (u1, v1, 1), (u0, v0, 1)], paint * 1.15)
    fill([(u, v, near) for u, v in [(0, 0.18), *outline, (1, 0.18)]], paint * 0.82)
    window = [(u + (0.45 - u) * 0.14, 0.69 + (v - 0.68) * 0.78) for u, v in outline[1:5]]
    fill([(u, v, near) for u, v in window], glass)
    fill([(u, v, near) for u, v in _front(0.43, 0.46, 0.66, 0.96)], paint)
    around = np.arange(10) * np.pi / 5
    for center in (0.19, 0.8):
        for share, color in ((1.0, (22, 22, 24)), (0.55, (130, 130, 134))):
            along = center + np.cos(around) * share * radius[0]
            up = (1 + np.sin(around) * share) * radius[1]
            fill([(u, v, near) for u, v in zip(along, up, strict=True)], color)


def _draw_car_end(fill, outline, paint, glass, lamp):
    (_, v0), (u1, v1), (u2, v2) = outline[:3]

    def panel(w0, w1, y0, y1, color):
        fill([(0, v, w) for w, v in _front(w0, w1, y0, y1)], color)

    panel(-0.94, -0.62, 0, 0.25, (20, 20, 22))
    panel(0.62, 0.94, 0, 0.25, (20, 20, 22))
    panel(-1, 1, 0.14, v0, paint)
    for inset, low, high, color in ((0, 0, 0, paint * 0.9), (0.1, 0.02, 0.05, glass)):
        wide, narrow = 0.96 - inset, 0.8 - inset
        screen = [(u1, v1 + low, -wide), (u2, v2 - high, -narrow), (u2, v2 - high, narrow)]
        fill([*screen, (u1, v1 + low, wide)], color)
    panel(-1, 1, 0.14, 0.27, paint * 0.5)
    panel(-0.98, -0.62, v0 - 0.16, v0 - 0.03, lamp)
    panel(0.62, 0.98, v0 - 0.16, v0 - 0.03, lamp)
    panel(-0.3, 0.3, 0.3, 0.4, (216, 212, 170))


def _draw_bonnet(canvas, rng):
    street, paint, share = canvas.street, _paint(rng, 20, 150), rng.uniform(0.9, 0.97)
    canvas.start(VOID, 0, 1)
    top = street.eye - (share * street.height - street.horizon) / street.focal
    for drop, tone in ((0, 0.8), (0.02, 1.0), (0.05, 0.7)) if rng.random() < 0.45 else ():
        rim = [(x, top - drop - 0.09 * x * x) for x in np.linspace(-1.2, 1.2, 13)]
        canvas.fill([*rim, (1.2, -9), (-1.2, -9)], paint * tone)


# How much fine and coarse grain change the brightness of each class, in hundredths.
_FINE = np.array([0, 5, 5, 10, 7, 26, 3, 8, 3, 6, 6, 6], np.float32) / 100
_COARSE = np.array([3, 16, 5, 18, 16, 25, 3, 14, 5, 4, 4, 14], np.float32) / 100


def _add_texture(photo, labels, street, rng):
    """Give each class its grain, and the ground asphalt, slabs and haze by distance."""
    fine = _noise(rng, labels.shape, [2, 3])
    coarse = _noise(rng, labels.shape, [max(2, street.width // n) for n in (6, 16, 40)])
    rows, columns = np.indices(labels.shape, np.float32)
    ahead = street.focal * street.eye / np.maximum(rows - street.horizon, 0.6)
    across = (columns - street.center) * ahead / street.focal - street.bend * ahead**2
    near = 8 / (8 + ahead)
    tile = _noise(rng, (128, 128), [1, 2, 4])
    grain = tile[(ahead * 24).astype(int) % 128, (across * 24).astype(int) % 128] * near
    joints = np.minimum(ahead % 0.9, across % 0.9) < 0.03 + 0.012 * ahead
    relief = np.where(labels == WALK, np.where(joints, -0.3 * near, 0.08 * grain), 0.22 * grain)
    ground = (labels == ROAD) | (labels == WALK)
    relief = relief * ground + _FINE[labels] * fine + _COARSE[labels] * coarse
    haze = np.where(ground, ahead / (ahead + street.sight), 0)[..., None]
    return photo * (1 + relief[..., None]) * (1 - haze) + street.haze * haze


def _develop(photo, street, rng):
    """Weather and camera: dullness, low sun, exposure, white balance, vignette, blur, noise."""
    rows, columns = np.indices(photo.shape[:2], np.float32)
    rows, columns = rows / street.height, columns / street.width
    photo = photo + (photo.mean(2, keepdims=True) - photo) * street.dullness
    if street.sun and rng.random() < 0.3:
        away = (columns - (street.sun > 0)) ** 2 + (rows - rng.uniform(0.05, 0.4)) ** 2
        photo = photo + np.array([110, 96, 70], np.float32) / (1 + away / 0.02)[..., None]
    vignette = 1 - rng.uniform(0.1, 0.6) * ((columns - 0.5) ** 2 + (rows - 0.5) ** 2)
    balance = rng.uniform(-0.08, 0.08) * np.array([1, 0, -1])
    gain = (rng.uniform(0.85, 1.3) * (1 + balance)).astype(np.float32)
    photo = photo * vignette[..., None] * gain
    photo = np.clip(photo + rng.uniform(-6, 12), 0, 255).astype(np.uint8)
    soft = Image.fromarray(photo).filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7)))
    noise = rng.standard_normal(photo.shape, np.float32) * rng.uniform(1, 5)
    return np.clip(np.asarray(soft) + noise, 0, 255).round().astype(np.uint8)
