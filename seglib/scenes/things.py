"""The things: lamps, signs, bins, people, bicycles and cars."""

import bisect

import numpy as np

from seglib.scenes.canvas import front
from seglib.scenes.palette import BICYCLIST, CAR, PEDESTRIAN, POLE, SIGN, VOID, mix_paint

_RIMS = np.array([(204, 44, 44), (40, 70, 170), (235, 235, 235), (230, 180, 40), (40, 110, 70)])
_LIGHTS = np.array([(240, 60, 50), (240, 185, 60), (70, 225, 130)])
# Outlines of cars from the rear to the front, in shares of length and height.
_OUTLINES = (
    [(0, 0.62), (0.04, 0.68), (0.16, 0.98), (0.6, 1), (0.76, 0.68), (1, 0.56)],  # hatchback
    [(0, 0.6), (0.15, 0.66), (0.28, 0.98), (0.62, 1), (0.78, 0.68), (1, 0.56)],  # saloon
    [(0, 0.5), (0.01, 0.6), (0.03, 0.98), (0.78, 1), (0.92, 0.6), (1, 0.5)],  # van
)
_AROUND = np.stack([np.cos(np.arange(10) * np.pi / 5), np.sin(np.arange(10) * np.pi / 5)], 1)


def draw_lamp(canvas, rng, x, z, side):
    """Draw a street lamp, two times in three with an arm over the road."""
    canvas.start(POLE, x, z)
    high, paint = rng.uniform(5, 8.5), mix_paint(rng, 40, 170, 12)
    canvas.stroke([[(0, -0.05), (0, high)]], 0.17, paint, 1.7)
    canvas.stroke([[(0.04, 0), (0.04, high)]], 0.06, paint * 1.4)
    canvas.stroke([[(0, 0), (0, 1.1)]], 0.27, paint * 0.9, 2)
    if rng.random() < 0.7:
        canvas.stroke([[(0, high), (-side * 1.5, high + 0.25)]], 0.12, paint, 1.5)
        canvas.disc(-side * 1.6, high + 0.2, 0.4, paint * 1.5, stretch=0.4)


def draw_sign(canvas, rng, x, z):
    """Draw traffic lights, or a round, square or triangular sign."""
    y, radius, corners = (
        rng.uniform(2.3, 3.0),
        rng.uniform(0.4, 0.62),
        (0, 3, 4, 12)[rng.integers(4)],
    )
    canvas.start(POLE, x, z)
    canvas.stroke([[(0, -0.05), (0, y)]], 0.13, mix_paint(rng, 60, 170, 10), 1.7)
    canvas.start(SIGN, x, z)
    if corners == 0:
        canvas.fill(front(-0.32, 0.32, y - 0.4, y + 0.85), (34, 36, 34))
        bright = np.where(np.arange(3) == rng.integers(3), 1.0, 0.35)
        canvas.disc(0, y + 0.62 - 0.4 * np.arange(3), 0.17, _LIGHTS * bright[:, None])
        return
    turn = np.pi * (0.5 + 2 / corners * np.arange(corners) + (0.25 if corners == 4 else 0))
    rim, plate = _RIMS[rng.permutation(5)[:2]]
    shape = np.stack([np.cos(turn), np.sin(turn)], 1) * radius
    canvas.fill(np.add([shape * 1.15, shape * 0.8], (0, y)), [rim, plate])
    wide, tall = ((0.09, 0.25), (0.27, 0.08))[rng.integers(2)]
    canvas.fill(front(-wide, wide, y - tall, y + tall), rim * 0.6)


def draw_bin(canvas, rng, x, z):
    """Draw a litter bin, which no class knows."""
    canvas.start(VOID, x, z)
    paint, high = mix_paint(rng), rng.uniform(0.8, 1.4)
    half, top = np.array([0.38, 0.44]), np.array([high, high + 0.05])
    canvas.fill(front(-half, half, [-0.05, high - 0.15], top), [paint, paint * 0.6])


def draw_person(canvas, rng, x, z):
    """Draw a person on foot."""
    canvas.start(PEDESTRIAN, x, z)
    tall, step, turn = (rng.uniform(0.88, 1.1), rng.uniform(0.05, 0.32), rng.uniform(-0.14, 0.14))
    coat, trousers = mix_paint(rng), mix_paint(rng, 20, 120)
    legs = np.array([[(0, 0.85), (-step, 0)], [(0, 0.85), (step, 0)]])
    canvas.stroke(legs * (1, tall), 0.19, [trousers * 0.8, trousers], 1.5)
    torso = [(-0.2, 0.78), (-0.25, 1.32), (-0.12, 1.45), (0.12, 1.45), (0.25, 1.32), (0.2, 0.78)]
    canvas.fill([np.array(torso) * (1, tall)], coat)
    arms = np.array([[(arm, 1.38), (arm * 1.2 + turn, 0.8)] for arm in (-0.27, 0.27)])
    canvas.stroke(arms * (1, tall), 0.13, coat * 0.8)
    _draw_head(canvas, rng, 0, 1.58 * tall, mix_paint(rng, 20, 120, 20))


def _draw_head(canvas, rng, x, y, hair):
    canvas.disc(x, y, 0.13, rng.uniform(0.35, 1) * np.array([236, 192, 162]), stretch=1.2)
    canvas.disc(x, y + 0.06, 0.14, hair, stretch=0.75)


def draw_cyclist(canvas, rng, x, z, across):
    """Draw a person on a bicycle, riding across the street or along it."""
    canvas.start(BICYCLIST, x, z)
    jersey, metal, dark = (mix_paint(rng), mix_paint(rng), np.full(3, rng.uniform(20, 50)))
    lean = (-0.35, 0.35)[rng.integers(2)] if across else 0.0
    if across:
        wheels, hub = np.array([-0.54, 0.54, -0.54, 0.54]), canvas.street.asphalt * 0.8
        radii = np.array([0.37, 0.37, 0.26, 0.26])
        canvas.disc(wheels, 0.34, radii, [dark, dark, hub, hub])
    else:
        canvas.stroke([[(0, 0), (0, 0.75)]], 0.12, dark, 1.5)
    bar = [(lean * 1.2 - 0.3, 1.05), (lean * 1.2 + 0.3, 1.05)]
    canvas.stroke([[(-lean, 0.95), (lean * 1.4, 0.35)], bar], 0.09, metal)
    legs = [[(leg - lean * 0.6, 0.95), (leg, 0.3 + leg)] for leg in (-0.12, 0.12)]
    canvas.stroke(legs, 0.18, dark * 1.6, 1.3)
    hip, neck = -lean * 0.6, lean * 0.5
    back = [(hip - 0.2, 0.9), (neck - 0.25, 1.45), (neck + 0.25, 1.48), (hip + 0.2, 0.9)]
    canvas.fill([back], jersey)
    canvas.stroke([[(neck, 1.4), (lean * 1.2, 1.05)]], 0.12, jersey * 0.8)
    _draw_head(canvas, rng, lean * 0.8, 1.64, metal)


def draw_car(canvas, rng, x, z, away=True, across=False):
    """Draw a hatchback, a saloon or a van, along the street or across it.

    Its panels are polygons of (along, up, to the right) in shares of its size,
    the last one from -1 to 1.
    """
    canvas.start(CAR, x, z)
    kind = bisect.bisect((0.45, 0.8), rng.random())
    long, high = (rng.uniform(3.9, 4.6), rng.uniform(1.4, 1.55) * (1.35 if kind == 2 else 1))
    paint, glass = (mix_paint(rng, 30, 205, 55), rng.uniform(20, 70) + np.array([0, 4, 10]))
    outline = np.array(_OUTLINES[kind])
    if rng.random() < 0.5 if across else not away:
        outline = outline[::-1] * (-1, 1) + (1, 0)

    def fill(panels, colors):
        points = np.asarray(panels) * (long, high, 0.88)
        canvas.fill(points - (long / 2, 0, -0.88) if across else points[..., ::-1], colors)

    near = -1 if across or x > 0 else 1
    _draw_car_side(fill, outline, near, paint, glass, (0.33 / long, 0.33 / high))
    if not across:
        _draw_car_end(fill, outline, paint, glass, (204, 30, 24) if away else (240, 236, 214))


def _draw_car_side(fill, outline, near, paint, glass, radius):
    rear, ahead = outline[:-1], outline[1:]
    roof = np.empty((len(rear), 4, 3))
    roof[:, 0, :2] = roof[:, 3, :2] = rear
    roof[:, 1, :2] = roof[:, 2, :2] = ahead
    roof[..., 2] = (-1, -1, 1, 1)
    fill(roof, paint * 1.15)

    def fill_near(panels, colors):
        panels = np.asarray(panels)
        fill(np.concatenate([panels, np.full((*panels.shape[:2], 1), near)], -1), colors)

    fill_near([[(0, 0.18), *outline, (1, 0.18)]], paint * 0.82)
    window = outline[1:5] * (0.86, 0.78) + (0.063, 0.1596)
    fill_near([window, *front(0.43, 0.46, 0.66, 0.96)], [glass, paint])
    size = np.array([1, 0.55, 1, 0.55])[:, None, None] * radius
    hubs = np.array([(0.19, radius[1]), (0.19, radius[1]), (0.8, radius[1]), (0.8, radius[1])])
    fill_near(_AROUND * size + hubs[:, None], [(22, 22, 24), (130, 130, 134)] * 2)


def _draw_car_end(fill, outline, paint, glass, lamp):
    (_, v0), (u1, v1), (u2, v2) = outline[:3]
    panels = np.zeros((9, 4, 3))
    left = np.array([-0.94, 0.62, -1, 0, 0, -1, -0.98, 0.62, -0.3])
    right = np.array([-0.62, 0.94, 1, 0, 0, 1, -0.62, 0.98, 0.3])
    low = np.array([0, 0, 0.14, 0, 0, 0.14, v0 - 0.16, v0 - 0.16, 0.3])
    high = np.array([0.25, 0.25, v0, 0, 0, 0.27, v0 - 0.03, v0 - 0.03, 0.4])
    panels[..., :0:-1] = front(left, right, low, high)
    for i, inset, down, up in ((3, 0, 0, 0), (4, 0.1, 0.02, 0.05)):  # the screen and its glass
        panels[i, :, 0], panels[i, :, 1] = (
            (u1, u2, u2, u1),
            (v1 + down, *[v2 - up] * 2, v1 + down),
        )
        panels[i, :, 2] = (inset - 0.96, inset - 0.8, 0.8 - inset, 0.96 - inset)
    tyre, plate = (20, 20, 22), (216, 212, 170)
    fill(panels, [tyre, tyre, paint, paint * 0.9, glass, paint * 0.5, lamp, lamp, plate])


def draw_bonnet(canvas, rng):
    """Draw the bonnet of the car that carries the camera, in almost half of the scenes."""
    street, paint, share = (canvas.street, mix_paint(rng, 20, 150), rng.uniform(0.9, 0.97))
    if rng.random() < 0.45:
        canvas.start(VOID, 0, 1)
        top = street.eye - (share * street.height - street.horizon) / street.focal
        across = np.linspace(-1.2, 1.2, 13)
        rim = np.stack([across, top - 0.09 * across**2], 1)
        layers = [[*(rim - (0, drop)), (1.2, -9), (-1.2, -9)] for drop in (0, 0.02, 0.05)]
        canvas.fill(layers, [paint * 0.8, paint, paint * 0.7])
