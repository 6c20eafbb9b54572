"""The layout: what a street is like and where everything in it stands."""

import bisect
import types

import numpy as np

from seglib.scenes import surroundings, things

# For each weather: how often, sky above, sky at the horizon, clouds, sight in m, dullness.
_WEATHER = {
    "clear": (0.30, (104, 148, 206), (196, 214, 230), 0.2, 260, 0.0),
    "cloudy": (0.28, (126, 156, 196), (204, 212, 218), 1.6, 200, 0.1),
    "overcast": (0.18, (182, 186, 192), (206, 206, 206), 0.4, 120, 0.35),
    "dusk": (0.13, (104, 112, 150), (226, 172, 132), 0.7, 130, 0.1),
    "fog": (0.11, (190, 192, 196), (198, 200, 204), 0.1, 36, 0.3),
}
_LEAVES = ((62, 84, 44), (84, 106, 56), (44, 64, 46), (124, 94, 48), (140, 114, 58))
_CAR, _PERSON, _TRUNK, _POST = ((0.95, 4.2, 1.5), (0.2, 0.3, 1.7), (0.3, 0.3, 6), (0.12, 0.15, 4))


def create_street(rng, height, width):
    """Choose camera, layout and weather; lengths in metres, x to the right, z ahead."""
    weather = rng.choice(list(_WEATHER), p=[row[0] for row in _WEATHER.values()])
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


def place_things(rng, street):
    """List what stands in the street as tuples `(z, x, draw, footprint, details)`.

    A footprint is half the width, the depth and the height, for the shadow.
    """
    placed = []
    for side, curb, walk in zip((-1, 1), street.curbs, street.walks, strict=True):
        _place_lots(placed, rng, side, curb + side * walk)
        _place_furniture(placed, rng, side, curb, walk)
    _place_traffic(placed, rng, *street.curbs)
    return placed


def _add(placed, z, x, draw, footprint=(0, 0, 0), **details):
    placed.append((float(z), float(x), draw, footprint, details))


def _place_lots(placed, rng, side, edge):
    z = rng.uniform(1.5, 5)
    while z < 70:
        deep, kind = rng.uniform(7, 18), bisect.bisect((0.58, 0.86, 0.95), rng.random())
        back, garden = edge + side * rng.uniform(2.5, 6), rng.random() < 0.5
        if kind == 0 or (kind == 1 and garden):
            x = back if kind else edge
            _add(placed, z + deep, x, surroundings.draw_building, side=side, long=deep)
        if kind == 1:
            for ahead in () if garden else rng.uniform(0, deep, 3):
                _add(placed, z + ahead + 0.2, back, surroundings.draw_tree, _TRUNK)
            _add(placed, z + 0.1, edge, surroundings.draw_fence, long=deep)
        for ahead in np.arange(0, deep, 2.5) if kind == 2 else ():
            x = edge + side * 1.5
            _add(placed, z + ahead, x, surroundings.draw_tree, _TRUNK, bushy=True)
        z += deep


def _place_furniture(placed, rng, side, curb, walk):
    verge, middle = curb + side * 0.45, curb + side * walk * 0.6
    if rng.random() < 0.42:
        for z in np.arange(rng.uniform(5, 14), 60, rng.uniform(9, 16)):
            _add(placed, z, verge, surroundings.draw_tree, _TRUNK)
    for z in np.arange(rng.uniform(6, 22), 55, rng.uniform(17, 32)):
        _add(placed, z, verge, things.draw_lamp, _POST, side=side)
    for z in rng.uniform(6, 22, rng.choice(3, p=[0.35, 0.45, 0.2])):
        _add(placed, z, verge + side * 0.2, things.draw_sign, _POST)
    if rng.random() < 0.7:
        for z in np.arange(rng.uniform(6, 14), 55, rng.uniform(5.4, 7)):
            if rng.random() < 0.75:
                _add(placed, z, curb - side * 1.1, things.draw_car, _CAR, away=side < 0)
    for z in rng.uniform(6.5, 22, rng.choice(4, p=[0.2, 0.35, 0.25, 0.2])):
        _add(placed, z, middle + rng.uniform(-0.5, 0.5), things.draw_person, _PERSON)
    for z in rng.uniform(6, 20, rng.choice(2, p=[0.7, 0.3])):
        _add(placed, z, middle, things.draw_bin, (0.4, 0.6, 1))


def _place_traffic(placed, rng, left, right):
    for z in np.arange(rng.uniform(7, 26), 70, 13) + rng.uniform(0, 5):
        away = bool(rng.random() < 0.4)
        if rng.random() < 0.55:
            _add(placed, z, left * 0.2 if away else right * 0.5, things.draw_car, _CAR, away=away)
    if rng.random() < 0.2:
        x, z = rng.uniform(left, right), rng.uniform(13, 26)
        _add(placed, z, x, things.draw_car, (2.1, 1.7, 1.5), across=True)
    for z in rng.uniform(7, 22, rng.choice(4, p=[0.25, 0.35, 0.25, 0.15])):
        x, across = rng.uniform(left + 0.5, right - 0.5), bool(rng.random() < 0.5)
        _add(placed, z, x, things.draw_cyclist, (0.3, 0.8, 1.6), across=across)
    for z in rng.uniform(9, 16, rng.choice(3, p=[0.75, 0.15, 0.1])):
        _add(placed, z, rng.uniform(left, right), things.draw_person, _PERSON)
