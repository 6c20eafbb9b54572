import numpy as np
import pytest

from seglib.baselines import score_colors
from seglib.classes import ClassTable

TABLE = ClassTable(["red", "blue", "void"], [(255, 0, 0), (0, 0, 255), (0, 0, 0)], ignore_label=2)


class Pairs(list):
    classes = TABLE


def make_split(seed, mixed):
    """Red and blue pixels, a share of whose labels is exchanged; the top row is ignored."""
    random = np.random.default_rng(seed)
    pairs = Pairs()
    for _ in range(4):
        seen = random.integers(0, 2, (20, 30))
        labels = np.where(random.random(seen.shape) < mixed, 1 - seen, seen).astype(np.uint8)
        labels[0] = 2
        pairs.append((TABLE.colors[seen], labels))
    return pairs


def test_colours_that_say_all_are_read_and_those_that_say_nothing_are_not():
    assert score_colors(make_split(0, 0.0), make_split(1, 0.0)) == 1
    assert score_colors(make_split(0, 0.2), make_split(1, 0.2)) == pytest.approx(0.8, abs=0.03)
    assert score_colors(make_split(0, 0.5), make_split(1, 0.5)) == pytest.approx(0.5, abs=0.05)


def test_the_pixels_drawn_are_a_function_of_the_seed():
    split = make_split(0, 0.3)
    options = {"max_pixels": 100}
    first = score_colors(split, split, seed=1, **options)
    assert first == score_colors(split, split, seed=1, **options)
    assert len({score_colors(split, split, seed=seed, **options) for seed in range(6)}) > 1
