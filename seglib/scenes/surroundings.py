"""The surroundings: sky and skyline, ground, buildings, fences, trees."""

import numpy as np
from PIL import Image, ImageDraw

from seglib.scenes.canvas import OVERSAMPLING, floor, front, wall
from seglib.scenes.noise import smooth_noise
from seglib.scenes.palette import BUILDING, FENCE, ROAD, TREE, VOID, WALK, mix_paint

_ROUND = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)


def create_sky(rng, street):
    """Create the sky as a small picture: soft as it is, a sixteenth of the pixels will do."""
    top, bottom, cover = street.sky
    height, width = -(-street.height // 4), -(-street.width // 4)
    rows = np.linspace(0, street.height, height, dtype=np.float32)[:, None, None]
    fall = np.minimum(rows / street.horizon, 1)
    cells = tuple(max(1, width // n) for n in (4, 9, 20))
    clouds = smooth_noise(rng, (height, width), cells)[..., None]
    veil = np.clip(clouds * cover + 0.1, 0, 0.9)
    white = street.haze * (1.1 - 0.3 * np.clip(-np.roll(clouds, 2, 0), -0.3, 1))
    sky = (top * (1 - fall) + bottom * fall) * (1 - veil) + white * veil
    return Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))


def draw_skyline(canvas, rng):
    """Draw what closes the street far away: hills of no class, roofs, trees."""
    places = np.arange(-114, 115, 12.0)
    kinds = rng.choice([VOID, BUILDING, TREE], len(places), p=[0.15, 0.45, 0.4])
    high, wide = (rng.uniform(6, 18, (len(places), 1)), rng.uniform(7, 14, (len(places), 1)))
    across, ragged = np.linspace(-1, 1, 9), rng.uniform(0.85, 1.1, (len(places), 9))
    gable = high * (1 - rng.uniform(0, 0.2, (len(places), 1)) * np.abs(across))
    mound = (6 + 0.5 * high) * (1 - across**2) * ragged + 2
    rims = np.full((len(places), 11, 2), -2.0)  # the first and the last corner are underground
    rims[:, 1:-1, 1] = np.where(kinds[:, None] == BUILDING, gable, mound)
    rims[..., 0] = places[:, None] + wide * np.r_[-1, across, 1]
    for kind, z in ((VOID, 150), (BUILDING, 130), (TREE, 115)):
        canvas.start(kind, 0, z)
        paints = [canvas.street.leaves if kind == TREE else mix_paint(rng) for _ in places]
        canvas.fill(rims[kinds == kind], np.array(paints)[kinds == kind])


def draw_ground(canvas, rng):
    """Draw road, sidewalks, curbs and gutters, and the marks on the road."""
    street = canvas.street
    (left, right), (walk_left, walk_right) = street.curbs, street.walks
    stone = street.asphalt * rng.uniform(0.9, 1.25) + rng.uniform(-6, 6, 3)
    for label, x0, x1, color in (
        (VOID, -90, 90, mix_paint(rng, 60, 130)),
        (WALK, left - walk_left + 0.15, left, stone),
        (WALK, right, right + walk_right - 0.15, stone),
        (ROAD, left, right, street.asphalt),
        (WALK, left - 0.25, left, stone * 1.25),
        (WALK, right, right + 0.25, stone * 1.25),
        (ROAD, left, left + 0.14, stone * 0.55),
        (ROAD, right - 0.14, right, stone * 0.55),
    ):
        canvas.start(label)
        canvas.fill(floor(x0, x1, 1.2, 170, steps=16), color)
    _draw_marks(canvas, rng, left, right, street.asphalt + rng.uniform(35, 100))


def _draw_marks(canvas, rng, left, right, white):
    canvas.start(ROAD)
    lane = (left + right) / 2 + rng.uniform(-0.5, 1.0)
    z = np.arange(rng.uniform(1.5, 5), 70, rng.choice([4.0, 6.0, 9.0]))
    canvas.fill(floor(lane - 0.07, lane + 0.07, z, z + 2.5), white)
    if rng.random() < 0.35:
        canvas.fill(floor(left + 0.4, left + 0.52, 1.5, 70, steps=12), white)
    if rng.random() < 0.25:
        x, z = np.arange(left + 0.3, right - 0.4, 1.0), rng.uniform(7, 16)
        canvas.fill(floor(x, x + 0.5, z, z + 2.6), white)


def shade_ground(canvas, placed):
    """Return how much of the light things keep from the ground, float32 in [0, 1]."""
    canvas.start(ROAD)
    z, x = np.array([thing[:2] for thing in placed]).T
    wide, deep, high = np.array([thing[3] for thing in placed]).T
    shade = Image.new("L", canvas.picture.size, 0)
    pen = ImageDraw.Draw(shade)
    cast = floor(x - wide, x + wide, z, z + 1.5 + deep)
    cast[:, 2:, 0] -= canvas.street.sun * high[:, None] * 0.55
    under = floor(x - wide, x + wide, z - 0.1, z + deep)
    for polygons, dark in ((cast, 90 * abs(canvas.street.sun)), (under, 130)):
        for row in canvas.project(polygons[wide > 0]).reshape(-1, 8).tolist():
            pen.polygon(row, fill=dark)
    return np.asarray(shade.reduce(OVERSAMPLING), np.float32) / 255


def draw_building(canvas, rng, x, z, side, long):
    """Draw a house of two to five floors; `long` metres of it stand along the street."""
    canvas.start(BUILDING, x, z - long)
    floors, story = int(rng.integers(2, 6)), rng.uniform(2.8, 3.5)
    high, paint = floors * story + 0.6, mix_paint(rng, 70, 215, 30)
    light, glass = (paint * (1 + 0.2 * canvas.street.sun * side), mix_paint(rng, 25, 110, 14))
    top, inward = high + 2.2 * rng.integers(2), side * 2.6
    face = [(0, -0.2), (0, high), (inward, top), (side * 9, top), (side * 9, -0.2)]
    canvas.fill([face], paint * 0.8)
    ridge = [(inward, top, long), (inward, top, 0)]
    canvas.fill([[(0, high, 0), (0, high, long), *ridge]], mix_paint(rng, 50, 110, 30))
    ground = mix_paint(rng, 50, 190) if rng.random() < 0.5 else light
    tops = np.array([high, high, story])
    canvas.fill(wall([-0.2, high - 0.4, 0], tops, 0, long), [light, light * 0.75, ground])
    frame = light * (0.6, 1.3)[rng.integers(2)]
    if canvas.z < 50:  # further away a pane is thinner than a pixel
        _draw_windows(canvas, rng, long, floors, story, frame, glass)
    cells = np.arange(2 * floors)
    base, x0 = cells // 2 * story, side * (2.0 + cells % 2 * 3)
    canvas.fill(front(x0, x0 + side * 1.3, base + 0.9, base + 2.3), glass)


def _draw_windows(canvas, rng, long, floors, story, frame, glass):
    bays = max(2, int(long / rng.uniform(2.2, 3.4)))
    bay, cells = long / bays, np.arange(floors * bays)
    base, start = cells // bays * story, cells % bays * bay
    low = base + np.where((cells < bays) & (rng.random(len(cells)) < 0.3), 0, 0.9)
    near = canvas.z + start < 25  # further away a frame is thinner than a pixel
    frames = wall(low, base + 2.4, start + bay * 0.2, start + bay * 0.8)
    canvas.fill(frames[near], frame)
    panes = wall(low + 0.15, base + 2.25, start + bay * 0.27, start + bay * 0.73)
    canvas.fill(panes, glass * rng.uniform(0.7, 1.6, (len(cells), 1)))


def draw_fence(canvas, rng, x, z, long):
    """Draw pickets and two rails, before planks or before nothing."""
    canvas.start(FENCE, x, z)
    high, paint = rng.uniform(1.2, 2.1), mix_paint(rng, 40, 200)
    planks = wall(-0.1, high, 0, long)
    if rng.random() < 0.6:
        canvas.fill(planks, paint * 0.6)
    else:
        canvas.screen(planks)
    ahead = np.arange(0, long - 0.2, 0.42 if z < 30 else 0.9)
    canvas.fill(wall(-0.1, high + 0.1, ahead, ahead + 0.2), paint)
    rail = high * np.array([0.25, 0.85])
    canvas.fill(wall(rail, rail + 0.12, 0, long), paint * 1.25)


def draw_tree(canvas, rng, x, z, bushy=False):
    """Draw a trunk and a crown of ragged tufts, finer and more of them when near."""
    canvas.start(TREE, x, z)
    high = rng.uniform(2.5, 4) if bushy else rng.uniform(4.5, 8)
    crown, bark = (high * rng.uniform(0.26, 0.36), rng.uniform(45, 95) + np.array([8, 0, -8]))
    leaf = canvas.street.leaves * rng.uniform(0.75, 1.3) + rng.uniform(-14, 14, 3)
    middle, tall = (high * 0.5, 1.3) if bushy else (high - crown, 1.1)
    canvas.stroke([[(0, -0.05), (rng.uniform(-0.2, 0.2), middle)]], 0.3, bark, 1.5)
    count = int(12 + 84 * min(1, 8 / z))
    angle, reach = rng.uniform(0, 2 * np.pi, count), rng.random(count) ** 0.5 * crown
    east, up = reach * np.cos(angle), reach * np.sin(angle)
    late = np.arange(count) / count  # the later, the smaller and the brighter
    tones = 0.7 + 0.4 * late + 0.25 * (up - canvas.street.sun * east) / crown
    tones += rng.uniform(-0.14, 0.14, count)
    radii = crown * (0.11 + 0.38 * (1 - late) ** 2) * rng.uniform(0.7, 1.2, count)
    rims = _ROUND * (radii[:, None] * rng.uniform(0.6, 1.25, (count, 8)))[..., None]
    centers = np.stack([east, middle + up * tall], 1)
    canvas.fill(rims + centers[:, None], leaf * tones[:, None])
