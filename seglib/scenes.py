"""The embedded data set: street scenes in perspective, drawn from a seed.

Colour hardly tells the classes apart; shape, texture and place do. A street is laid out in metres,
x to the right, y up and z ahead, and drawn from far to near.
"""

import itertools
import pathlib
import tempfile
import types

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from seglib.classes import ClassTable, write_class_table
from seglib.system import show_progress

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

UNLABELLED = 12  # further scenes, without masks, as a contest's pictures are
_SCALE = 2  # the photo is drawn this much larger and reduced, against jagged edges
# For each weather: how often, sky above, sky at the horizon, clouds, sight in m, dullness, sun.
_WEATHER = (
    (0.30, (104, 148, 206), (196, 214, 230), 0.2, 260, 0.0, True),
    (0.28, (126, 156, 196), (204, 212, 218), 1.6, 200, 0.1, True),
    (0.18, (182, 186, 192), (206, 206, 206), 0.4, 120, 0.35, False),
    (0.13, (104, 112, 150), (226, 172, 132), 0.7, 130, 0.1, True),
    (0.11, (190, 192, 196), (198, 200, 204), 0.1, 36, 0.3, False),
)
_LEAVES = np.array([(62, 84, 44), (84, 106, 56), (44, 64, 46), (124, 94, 48), (140, 114, 58)])
_SIGNS = np.array([(204, 44, 44), (40, 70, 170), (235, 235, 235), (230, 180, 40), (40, 110, 70)])
# Outline of a car from the rear to the front, in shares of length and height.
_SALOON = np.array([(0, 0.6), (0.12, 0.66), (0.24, 0.98), (0.62, 1), (0.78, 0.68), (1, 0.56)])
_VAN = np.array([(0, 0.5), (0.01, 0.6), (0.03, 0.98), (0.78, 1), (0.92, 0.6), (1, 0.5)])
# How much fine and coarse grain change the brightness of each class.
_FINE = np.array([0, 5, 5, 10, 7, 26, 3, 8, 3, 6, 6, 6], np.float32) / 100
_COARSE = np.array([3, 16, 5, 18, 16, 25, 3, 14, 5, 4, 4, 14], np.float32) / 100
_ROUND = np.stack([np.cos(np.arange(10) * np.pi / 5), np.sin(np.arange(10) * np.pi / 5)], 1)


def draw_scene(index: int, *, seed: int = 0, size: tuple = (180, 240)) -> tuple:
    """Draw one street as seen from a car, with its labels and its objects.

    Args:
        index: int >= 0. Which scene of the endless series.
        seed: int >= 0. Which series.
        size: (height, width) in pixels, both at least 32.

    Returns:
        `(image, labels, instances)`: uint8 RGB `(height, width, 3)`; uint8 ids of
        `STREET_CLASSES`; uint16, 1.. for the visible pixels of each car, pedestrian, bicyclist,
        sign and pole, 0 elsewhere. The same arguments give the same arrays.

    Example:
        >>> image, labels, instances = draw_scene(0, size=(48, 64))
        >>> image.shape, labels.dtype.name, instances.dtype.name
        ((48, 64, 3), 'uint8', 'uint16')
    """
    rng = np.random.default_rng([seed, index])
    street = _create_street(rng, *size)
    canvas = _Canvas(street, _create_sky(rng, street))
    _draw_background(canvas, rng)
    for z, x, draw, details in _place_things(rng, street):
        draw(canvas, rng, x, z, **details)
    return _develop(canvas, rng)


def write_scenes(
    path: str | pathlib.Path, *, num_scenes: int = 240, seed: int = 0, size: tuple = (180, 240)
) -> pathlib.Path:
    """Write scenes as a data set in CamVid's layout, 70 % train, 15 % val, 15 % test.

    Twelve further scenes in `unlabelled/` have no masks. The folder appears whole or not at all;
    one that is already there is kept.

    Args:
        path: str or path of the folder, for example `data/streets`.
        num_scenes: int, at least 3. Indices 0.. in the order train, val, test, unlabelled.
        seed, size: as of `draw_scene`.

    Returns:
        pathlib.Path of the folder: `class_dict.csv`, and for each split `train/*.jpg`,
        `train_labels/*_L.png` in the classes' colours and `train_instances/*_I.png` of 16 bits;
        `unlabelled/*.jpg`.

    Raises:
        FileExistsError: the folder holds something other than a data set.
    """
    path = pathlib.Path(path)
    if num_scenes < 3:
        raise ValueError(f"three splits need num_scenes of at least 3, received {num_scenes}")
    if (path / "class_dict.csv").is_file():
        return path
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        reason = "it holds no class_dict.csv: remove it or choose another path"
        raise FileExistsError(f"{path} is in the way, {reason}")
    held_out = max(1, round(0.15 * num_scenes))
    counts = num_scenes - 2 * held_out, held_out, held_out, UNLABELLED
    splits = np.repeat(["train", "val", "test", "unlabelled"], counts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as holder:
        folder = pathlib.Path(holder, path.name)
        for index, split in enumerate(show_progress(splits, desc="drawing streets", unit="scene")):
            image, labels, instances = draw_scene(index, seed=seed, size=size)
            name = f"street_{index:04d}"
            pictures = {f"{split}/{name}.jpg": image}
            if split != "unlabelled":
                pictures[f"{split}_labels/{name}_L.png"] = STREET_CLASSES.colors[labels]
                pictures[f"{split}_instances/{name}_I.png"] = instances
            for file, pixels in pictures.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                # Compressed quickly, and a third smaller than by default.
                options = {"quality": 95, "compress_level": 3, "compress_type": 3}
                Image.fromarray(pixels).save(folder / file, **options)
        write_class_table(folder / "class_dict.csv", STREET_CLASSES)
        try:
            folder.rename(path)
        except OSError:  # another process was faster: its folder is as good
            if not (path / "class_dict.csv").is_file():
                raise
    return path


def _create_street(rng, height, width):
    """Choose camera, layout and weather; lengths in metres."""
    weather = rng.choice(len(_WEATHER), p=[row[0] for row in _WEATHER])
    _, top, bottom, clouds, sight, dullness, sunny = _WEATHER[weather]
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
        sun=int(rng.choice([-1, 1])) if sunny else 0,  # its side
        asphalt=rng.uniform(72, 148) + rng.uniform(-6, 6, 3),
        leaves=_LEAVES[rng.choice(5, p=[0.3, 0.25, 0.15, 0.15, 0.15])],
    )


def _place_things(rng, street):
    """List what stands in the street, far ones first, as tuples `(z, x, draw, details)`."""
    placed = []

    def place(z, x, draw, **details):
        placed.append((float(z), float(x), draw, details))

    for side, curb, walk in zip((-1, 1), street.curbs, street.walks, strict=True):
        edge, verge, middle = curb + side * walk, curb + side * 0.45, curb + side * walk * 0.6
        z = rng.uniform(1.5, 5)
        while z < 70:  # lots: a house, a fence before a house or trees, a hedge, or nothing
            deep, kind = rng.uniform(7, 18), np.searchsorted((0.58, 0.86, 0.95), rng.random())
            back, garden = edge + side * rng.uniform(2.5, 6), rng.random() < 0.5
            if kind == 0 or (kind == 1 and garden):
                place(z + deep, back if kind else edge, _draw_building, side=side, long=deep)
            if kind == 1:
                for ahead in () if garden else rng.uniform(0, deep, 3):
                    place(z + ahead + 0.2, back, _draw_tree)
                place(z + 0.1, edge, _draw_fence, long=deep)
            for ahead in np.arange(0, deep, 2.5) if kind == 2 else ():
                place(z + ahead, edge + side * 1.5, _draw_tree, bushy=True)
            z += deep
        if rng.random() < 0.42:
            for z in np.arange(rng.uniform(5, 14), 60, rng.uniform(9, 16)):
                place(z, verge, _draw_tree)
        for z in np.arange(rng.uniform(6, 22), 55, rng.uniform(17, 32)):
            place(z, verge, _draw_lamp, side=side)
        for z in rng.uniform(6, 22, rng.choice(3, p=[0.35, 0.45, 0.2])):
            place(z, verge + side * 0.2, _draw_sign)
        if rng.random() < 0.7:
            for z in np.arange(rng.uniform(6, 14), 55, rng.uniform(5.4, 7)):
                if rng.random() < 0.75:
                    place(z, curb - side * 1.1, _draw_car, away=side < 0)
        for z in rng.uniform(6.5, 22, rng.choice(4, p=[0.2, 0.35, 0.25, 0.2])):
            place(z, middle + rng.uniform(-0.5, 0.5), _draw_person)
    left, right = street.curbs
    for z in np.arange(rng.uniform(7, 26), 70, 13) + rng.uniform(0, 5):
        away = bool(rng.random() < 0.4)
        if rng.random() < 0.55:
            place(z, left * 0.2 if away else right * 0.5, _draw_car, away=away)
    if rng.random() < 0.2:
        place(rng.uniform(13, 26), rng.uniform(left, right), _draw_car, across=True)
    for z in rng.uniform(7, 22, rng.choice(4, p=[0.25, 0.35, 0.25, 0.15])):
        place(z, rng.uniform(left + 0.5, right - 0.5), _draw_person, rides=True)
    for z in rng.uniform(9, 16, rng.choice(3, p=[0.75, 0.15, 0.1])):
        place(z, rng.uniform(left, right), _draw_person)
    if rng.random() < 0.45:
        place(1, 0, _draw_bonnet)  # of the car that carries the camera
    return sorted(placed, key=lambda thing: -thing[0])


class _Canvas:
    """A picture whose fourth channel holds marks: classes, then each thing's own number."""

    def __init__(self, street, sky):
        self.street = street
        self.origin = _SCALE * np.array([street.center, street.horizon])
        self.picture = sky.resize((street.width * _SCALE, street.height * _SCALE))
        self.picture.putalpha(SKY)
        self.shade = Image.new("L", self.picture.size)  # how dark things make the ground
        self.pen, self.shader = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.shade)
        self.labels = list(range(STREET_CLASSES.num_classes))  # of each mark

    def start(self, label, x=0.0, z=0.0, shadow=None):
        """Begin something of a half width, depth and height that cast a shadow, at this place."""
        self.mark, fog = label, z / (z + self.street.sight)
        if label in THINGS:  # each has a mark of its own
            self.mark = len(self.labels)
            self.labels.append(label)
        self.x, self.z, self.clear, self.haze = x, z, 1 - fog, self.street.haze * fog
        if shadow:
            wide, deep, high = shadow
            lean, far = self.street.sun * high * 0.55, deep + 1.5 * abs(self.street.sun)
            corners = [(-wide, 0, 0), (wide, 0, 0), (wide - lean, 0, far), (-wide - lean, 0, far)]
            self.shader.polygon(self.project([corners])[0], fill=110)

    def project(self, points):
        """Return points `(n, corners, 2 or 3)`, z from `start` on, as n lists of column, row, …"""
        points, street = np.asarray(points, np.float64), self.street
        z = self.z + points[..., 2] if points.shape[-1] == 3 else self.z
        corners = np.empty((*points.shape[:2], 2))
        corners[..., 0] = (self.x + points[..., 0]) / z + street.bend * z
        corners[..., 1] = (street.eye - points[..., 1]) / z
        corners *= _SCALE * street.focal
        corners += self.origin
        return corners.reshape(len(corners), -1).tolist()

    def fill(self, shapes, colors, thickness=None):
        """Fill polygons, or draw lines of this thickness, in one colour or in one for each."""
        street, colors = self.street, np.reshape(colors, (-1, 3)) * self.clear + self.haze
        inks = np.maximum(np.minimum(colors, 255), 0).astype(np.uint8).tolist()
        for corners, ink in zip(self.project(shapes), itertools.cycle(inks), strict=False):
            if thickness is None:
                self.pen.polygon(corners, fill=(*ink, self.mark))
            else:  # at least 1.5 pixels of a photo 240 pixels wide
                pixels = max(thickness * street.focal / self.z, street.width / 160)
                self.pen.line(corners, fill=(*ink, self.mark), width=round(pixels * _SCALE))

    def disc(self, centers, radii, colors):
        """Fill upright ellipses of centers `(n, 2)` and radii `(2,)`, to the right and up."""
        self.fill(np.asarray(centers)[:, None] + _ROUND * radii, colors)


def _front(x0, x1, y0, y1):
    """Return upright rectangles that face the camera, `(n, 4, 2)`."""
    x0, x1, y0, y1 = map(np.ravel, np.broadcast_arrays(x0, x1, y0, y1))
    return np.stack([x0, y0, x0, y1, x1, y1, x1, y0], axis=1).reshape(-1, 4, 2)


def _wall(y0, y1, z0, z1):
    """Return upright rectangles along the street, `(n, 4, 3)`."""
    upright = _front(z0, z1, y0, y1)
    return np.stack([0 * upright[..., 0], upright[..., 1], upright[..., 0]], -1)


def _floor(x0, x1, z0, z1):
    """Return a rectangle on the ground that follows the bend, `(1, 24, 3)`."""
    corners, ahead = np.zeros((1, 24, 3)), z0 * (z1 / z0) ** (np.arange(12) / 11)
    corners[:, :12, 0], corners[:, 12:, 0] = x0, x1
    corners[:, :12, 2], corners[:, 12:, 2] = ahead, ahead[::-1]
    return corners


def _mix_paint(rng, low=30, high=215, tint=40):
    """Mix a colour of things made by people: a random grey, warmer or cooler."""
    warm = rng.uniform(-tint, tint) * np.array([1.0, 0.1, -1.0])
    return warm + rng.uniform(-tint / 3, tint / 3, 3) + rng.uniform(low, high)


def _smooth_noise(rng, shape, cells):
    """Return float32 noise in [-1, 1] with grains of these pixels, coarse ones stronger."""
    total = np.zeros(shape, np.float32)
    for cell in cells:
        coarse = rng.integers(0, 256, [side // cell + 2 for side in shape], np.uint8)
        smooth = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BILINEAR)
        total += np.asarray(smooth) * np.float32(cell / 127.5 / sum(cells))
    return total - 1


def _create_sky(rng, street):
    """Create the sky as a small picture: soft as it is, a sixteenth of the pixels will do."""
    top, bottom, cover = street.sky
    height, width = -(-street.height // 4), -(-street.width // 4)
    fall = np.linspace(0, street.height / street.horizon, height)[:, None, None].clip(0, 1)
    clouds = _smooth_noise(rng, (height, width), (width // 4, width // 12 + 1))[..., None]
    veil = np.clip(clouds * cover + 0.1, 0, 0.9)
    white = street.haze * (1.1 + 0.3 * np.roll(clouds, 2, 0))
    sky = (top * (1 - fall) + bottom * fall) * (1 - veil) + white * veil
    return Image.fromarray(sky.clip(0, 255).astype(np.uint8))


def _draw_background(canvas, rng):
    """Draw hills of no class, houses and trees far away; verge, sidewalks, road and its marks."""
    for kind, z, count in ((VOID, 150, 4), (BUILDING, 130, 9), (TREE, 115, 8)):
        canvas.start(kind, 0, z)
        x, high, wide = rng.uniform((-114, 6, 7), (114, 18, 14), (count, 3)).T[..., None]
        mounds = np.stack([x + 1.2 * wide * _ROUND[:, 0], (8 + high / 2) * _ROUND[:, 1]], -1)
        paints = [canvas.street.leaves if kind == TREE else _mix_paint(rng) for _ in x]
        canvas.fill(_front(x - wide, x + wide, -2, high) if kind == BUILDING else mounds, paints)
    (left, right), (walk_left, walk_right) = canvas.street.curbs, canvas.street.walks
    asphalt = canvas.street.asphalt
    stone = asphalt * rng.uniform(0.9, 1.25) + rng.uniform(-6, 6, 3)
    for label, x0, x1, color in (
        (VOID, -90, 90, _mix_paint(rng, 60, 130)),
        (WALK, left - walk_left + 0.15, right + walk_right - 0.15, stone),
        (WALK, left - 0.25, right + 0.25, stone * 1.25),
        (ROAD, left, right, stone * 0.55),
        (ROAD, left + 0.14, right - 0.14, asphalt),
    ):
        canvas.start(label)
        canvas.fill(_floor(x0, x1, 1.2, 170), color)
    x, z = (left + right) / 2 + rng.uniform(-0.5, 1.0), rng.uniform(7, 16)
    dashes = np.arange(rng.uniform(1.5, 5), 70, rng.choice([4.0, 6.0, 9.0]))
    marks = [_floor(x - 0.07, x + 0.07, start, start + 2.5) for start in dashes]
    if rng.random() < 0.25:
        marks += [_floor(x, x + 0.5, z, z + 2.6) for x in np.arange(left + 0.3, right - 0.4)]
    canvas.fill(np.concatenate(marks), asphalt + rng.uniform(35, 100))


def _draw_building(canvas, rng, x, z, side, long):
    """Draw a house of two to five floors; `long` metres of it stand along the street."""
    canvas.start(BUILDING, x, z - long)
    floors, story = int(rng.integers(2, 6)), rng.uniform(2.8, 3.5)
    paint, glass = _mix_paint(rng, 70, 215, 30), _mix_paint(rng, 25, 110, 14)
    high, light = floors * story + 0.6, paint * (1 + 0.2 * canvas.street.sun * side)
    canvas.fill(_front(0, side * 9, -0.2, high), paint * 0.8)
    canvas.fill(_wall([-0.2, 0], [high, story], 0, long), [light, _mix_paint(rng, 50, 190)])
    base, across = np.divmod(np.arange(2 * floors), 2) * np.array([[story], [side * 3]])
    canvas.fill(_front(across + side * 2, across + side * 3.3, base + 0.9, base + 2.3), glass)
    if canvas.z < 36:  # further away a pane is thinner than a pixel
        bays = max(2, int(long / rng.uniform(2.2, 3.4)))
        bay = long / bays
        base, start = np.divmod(np.arange(floors * bays), bays) * np.array([[story], [bay]])
        frames = _wall(base + 0.9, base + 2.4, start + bay * 0.2, start + bay * 0.8)
        panes = _wall(base + 1.05, base + 2.25, start + bay * 0.27, start + bay * 0.73)
        canvas.fill(frames, light * (0.6, 1.3)[rng.integers(2)])
        canvas.fill(panes, glass * rng.uniform(0.7, 1.6, (len(base), 1)))


def _draw_fence(canvas, rng, x, z, long):
    canvas.start(FENCE, x, z)
    high, paint = rng.uniform(1.2, 2.1), _mix_paint(rng, 40, 200)
    ahead = np.arange(0, long - 0.2, 0.5 if z < 30 else 0.9)
    canvas.fill(_wall(-0.1, high, 0, long), paint * 0.6)
    canvas.fill(_wall(-0.1, high + 0.1, ahead, ahead + 0.2), paint)


def _draw_tree(canvas, rng, x, z, bushy=False):
    """Draw a trunk and a crown of ragged tufts, finer and more of them when near."""
    canvas.start(TREE, x, z, (0.3, 0.3, 6))
    high = rng.uniform(2.5, 4) if bushy else rng.uniform(4.5, 8)
    crown, count = high * rng.uniform(0.26, 0.36), int(12 + 40 * min(1, 8 / z))
    middle, tall = (high * 0.5, 1.3) if bushy else (high - crown, 1.1)
    canvas.fill([[(0, -0.05), (0, middle)]], rng.uniform(45, 95) + np.array([8, 0, -8]), 0.3)
    angle, reach = rng.uniform(0, 2 * np.pi, count), rng.random(count) ** 0.5 * crown
    east, up, late = reach * np.cos(angle), reach * np.sin(angle), np.linspace(0, 1, count)
    radii = crown * (0.13 + 0.38 * (1 - late) ** 2) * rng.uniform(0.6, 1.3, (10, count))
    rims = _ROUND * radii.T[..., None]  # the later, the smaller and the brighter
    leaf = canvas.street.leaves * rng.uniform(0.75, 1.3) + rng.uniform(-14, 14, 3)
    tones = 0.7 + 0.4 * late + 0.25 * (up - canvas.street.sun * east) / crown
    canvas.fill(rims + np.stack([east, middle + up * tall], 1)[:, None], leaf * tones[:, None])


def _draw_lamp(canvas, rng, x, z, side):
    canvas.start(POLE, x, z, (0.12, 0.15, 4))
    high, paint = rng.uniform(5, 8.5), _mix_paint(rng, 40, 170, 12)
    canvas.fill([[(0, -0.05), (0, high)]], paint, 0.17)
    canvas.fill([[(0, high), (-side * 1.5, high + 0.25)]], paint, 0.12)
    canvas.disc([(-side * 1.6, high + 0.2)], (0.4, 0.16), paint * 1.5)


def _draw_sign(canvas, rng, x, z):
    y, radius, corners = rng.uniform(2.3, 3), rng.uniform(0.4, 0.62), (3, 4, 12)[rng.integers(3)]
    canvas.start(POLE, x, z, (0.12, 0.15, 4))
    canvas.fill([[(0, -0.05), (0, y)]], _mix_paint(rng, 60, 170, 10), 0.13)
    canvas.start(SIGN, x, z)
    turn = np.pi * (2 / corners * np.arange(corners) + (0.75 if corners == 4 else 0.5))
    shape = np.stack([np.cos(turn), np.sin(turn)], 1) * radius
    rim, plate = _SIGNS[rng.permutation(5)[:2]]
    canvas.fill(np.add([shape * 1.15, shape * 0.8], (0, y)), [rim, plate])
    canvas.fill(_front(-0.27, 0.27, y - 0.08, y + 0.08), rim * 0.6)


def _draw_person(canvas, rng, x, z, rides=False):
    canvas.start(BICYCLIST if rides else PEDESTRIAN, x, z, (0.25, 0.5, 1.7))
    coat, trousers, hair = _mix_paint(rng), _mix_paint(rng, 20, 120), _mix_paint(rng, 20, 120)
    turn, step = rng.choice([-1.0, -0.12, 0.12, 1.0]) * rides, rng.uniform(0.05, 0.32)
    reach, foot = 0.5 * turn, 0.3 * rides
    if rides:  # across the street where turn is 1 or -1
        wheels = [(-0.54 * turn, 0.34), (0.54 * turn, 0.34)]
        canvas.disc(wheels, (0.37 * turn, 0.37), np.full(3, rng.uniform(20, 50)))
        canvas.disc(wheels, (0.26 * turn, 0.26), canvas.street.asphalt * 0.8)
        bars = [[(-0.3 * turn, 0.9), (reach, 0.35)], [(reach - 0.3, 1), (reach + 0.3, 1)]]
        canvas.fill(bars, hair, 0.09)
    torso = [(-0.2, 0.78), (-0.25, 1.32), (-0.12, 1.45), (0.12, 1.45), (0.25, 1.32), (0.2, 0.78)]
    arms = [[(-0.27, 1.38), (reach - 0.3, 0.85)], [(0.27, 1.38), (reach + 0.3, 0.85)]]
    skin = np.array([236, 192, 162]) * rng.uniform(0.35, 1)
    canvas.fill([[(0, 0.9), (-step, foot)], [(0, 0.9), (step, foot)]], trousers, 0.19)
    canvas.fill([torso], coat)
    canvas.fill(arms, coat * 0.8, 0.13)
    canvas.disc([(0.2 * reach, 1.66), (0.2 * reach, 1.6)], (0.13, 0.15), [hair, skin])


def _draw_car(canvas, rng, x, z, away=True, across=False):
    """Draw a saloon or a van; its panels are (along, up, to the right) in shares of its size."""
    canvas.start(CAR, x, z, (2.1, 1.7, 1.5) if across else (0.95, 4.2, 1.5))
    outline, high = (_SALOON, 1.45) if rng.random() < 0.8 else (_VAN, 1.95)
    if rng.random() < 0.5 if across else not away:
        outline = outline[::-1] * (-1, 1) + (1, 0)
    size = np.array([rng.uniform(3.9, 4.6), high * rng.uniform(0.95, 1.05), 0.88])
    paint, glass = _mix_paint(rng, 30, 205, 55), rng.uniform(20, 70) + np.array([0, 4, 10])
    near, tyre = -1 if across or x > 0 else 1, (22, 22, 22)

    def fill(panels, colors):
        points = np.asarray(panels) * size
        canvas.fill(points - (size[0] / 2, 0, -0.88) if across else points[..., ::-1], colors)

    def shift(points, right):
        return np.column_stack([points, np.full(len(points), right)])

    left, right, radius = shift(outline, -1), shift(outline, 1), 0.33 / size[:2]
    fill(np.stack([left[:-1], left[1:], right[1:], right[:-1]], 1), paint * 1.15)
    fill([shift([(0, 0.18), *outline, (1, 0.18)], near)], paint * 0.82)
    fill([shift(outline[1:5] * (0.86, 0.78) + (0.063, 0.16), near)], glass)
    fill([shift(_ROUND * radius + (along, radius[1]), near) for along in (0.19, 0.8)], tyre)
    if not across:
        (_, v0), (u1, v1), (u2, v2) = outline[:3]
        x0, x1 = [-0.94, 0.62, -1, -0.98, 0.62, -0.3], [-0.62, 0.94, 1, -0.62, 0.98, 0.3]
        low, high = [0, 0, 0.14, v0 - 0.16, v0 - 0.16, 0.3], [0.25, 0.25, v0, v0, v0, 0.4]
        lamp = (204, 30, 24) if away else (240, 236, 214)
        colors = [tyre, tyre, paint, lamp, lamp, (216, 212, 170)]
        canvas.fill(_front(x0, x1, low, high) * (0.88, size[1]), colors)
        fill([[(u1, v1, -0.9), (u2, v2, -0.75), (u2, v2, 0.75), (u1, v1, 0.9)]], glass)


def _draw_bonnet(canvas, rng, x, z):
    street, share = canvas.street, rng.uniform(0.9, 0.97)
    canvas.start(VOID, x, z)
    top = street.eye - (share * street.height - street.horizon) / street.focal
    rim = [(side, top - 0.09 * side**2) for side in np.linspace(-1.2, 1.2, 13)]
    canvas.fill([[*rim, (1.2, -9), (-1.2, -9)]], _mix_paint(rng, 20, 150))


def _develop(canvas, rng):
    """Return the photo, with the grain of each class, weather and camera; labels; instances."""
    street = canvas.street
    marks = np.asarray(canvas.picture.getchannel("A"))[::_SCALE, ::_SCALE]
    labels = np.array(canvas.labels, np.uint8).take(marks)
    things = np.where(marks < STREET_CLASSES.num_classes, 0, marks)
    numbers = (np.cumsum(np.bincount(things.ravel()) > 0) - 1).astype(np.uint16)  # no gaps
    fine, cells = rng.random(labels.shape, np.float32), [street.width // n + 1 for n in (7, 30)]
    light = 1 + _FINE.take(labels) * (2 * fine - 1)
    light += _COARSE.take(labels) * _smooth_noise(rng, labels.shape, cells)
    top = int(street.horizon) + 1  # the ground begins below the horizon
    rows = np.arange(top, street.height, dtype=np.float32)[:, None] - street.horizon
    columns = np.arange(street.width, dtype=np.float32) - street.center
    ahead = street.focal * street.eye / rows
    across = columns * (ahead / street.focal) - street.bend * ahead**2
    walk, gap = labels[top:] == WALK, 0.03 + 0.012 * ahead
    slabs = walk & ((across % 0.9 < gap) | (ahead % 0.9 < gap))
    ground = walk | (labels[top:] == ROAD)
    shade = np.asarray(canvas.shade.reduce(_SCALE), np.float32)[top:] / 255
    light[top:] *= (1 - slabs * (2.4 / (8 + ahead))) * (1 - ground * shade)
    photo = np.asarray(canvas.picture.convert("RGB").reduce(_SCALE)) * light[..., None]
    haze = (ground * (ahead / (ahead + street.sight)))[..., None]
    photo[top:] += haze * (street.haze - photo[top:])
    photo += street.dullness * (photo[..., 1:2] - photo)
    balance = rng.uniform(0.85, 1.3) * (1 + rng.uniform(-0.08, 0.08) * np.array([1, 0, -1]))
    photo = photo * balance.astype(np.float32) + rng.uniform(-6, 12)
    photo = Image.fromarray(photo.clip(0, 255).astype(np.uint8))
    photo = np.asarray(photo.filter(ImageFilter.BoxBlur(rng.uniform(0.02, 0.45))))
    noise = (rng.random(photo.shape, np.float32) * 2 - 1) * np.float32(rng.uniform(1.7, 8.5))
    return (photo + noise + 0.5).clip(0, 255).astype(np.uint8), labels, numbers[things]
