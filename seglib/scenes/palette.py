"""Colours: of the classes in a mask, and of what people paint."""

import numpy as np

from seglib.classes import ClassTable

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
_WARM = np.array([1.0, 0.1, -1.0])


def mix_paint(rng, low=30, high=215, tint=40):
    """Mix any colour of things made by people: a random grey, warmer or cooler."""
    warm = rng.uniform(-tint, tint) * _WARM
    warm += rng.uniform(-tint / 3, tint / 3, 3)
    warm += rng.uniform(low, high)
    return warm
