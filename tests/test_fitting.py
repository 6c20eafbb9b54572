import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib.classes import ClassTable
from seglib.fitting import (
    FITS,
    PADDING,
    cut_padding,
    fit_classes,
    fit_image,
    fit_labels,
    place_picture,
)
from seglib.images import resize_image
from seglib.masks import resize_labels

sides = st.integers(1, 300)


@pytest.mark.parametrize(
    ("size", "target", "expected"),
    [
        ((360, 480), (128, 128), ((96, 128), (16, 0))),
        ((480, 360), (128, 128), ((128, 96), (0, 16))),
        ((50, 50), (64, 96), ((64, 64), (0, 16))),
        ((32, 64), (64, 128), ((64, 128), (0, 0))),
        ((2, 3), (64, 64), ((43, 64), (10, 0))),  # 42.7 rows; the odd one is below
        ((1, 1000), (64, 64), ((1, 64), (31, 0))),
    ],
)
def test_letterboxed_pictures_lie_in_the_middle(size, target, expected):
    assert place_picture(size, target, fit="letterbox") == expected
    assert place_picture(size, target, fit="stretch") == (target, (0, 0))


@given(height=sides, width=sides, rows=sides, columns=sides)
def test_letterboxed_pictures_keep_their_shape_and_touch_two_edges(height, width, rows, columns):
    inner, offset = place_picture((height, width), (rows, columns), fit="letterbox")
    assert inner[0] == rows or inner[1] == columns
    scale = min(rows / height, columns / width)
    for side, full, start, whole in zip(
        inner, (height, width), offset, (rows, columns), strict=True
    ):
        assert abs(side - scale * full) <= 0.5 + 1e-9 or side == 1
        assert start == (whole - side) // 2
        assert 1 <= side <= whole


@given(height=sides, width=sides)
def test_the_way_back_gives_what_was_fitted(height, width):
    labels = np.random.default_rng(height).integers(0, 5, (height, width), np.uint8)
    for fit in FITS:
        fitted = fit_labels(labels, (40, 56), fit=fit, ignore_label=9)
        inner = cut_padding(fitted, (height, width), fit=fit)
        np.testing.assert_array_equal(inner, resize_labels(labels, inner.shape))
        assert (fitted == 9).sum() == fitted.size - inner.size


def test_photographs_are_padded_with_what_the_models_take_for_nothing():
    image = np.random.default_rng(0).integers(0, 256, (20, 50, 3), np.uint8)
    fitted = fit_image(image, (64, 64), fit="letterbox")
    inner = cut_padding(fitted, (20, 50), fit="letterbox")
    np.testing.assert_array_equal(inner, resize_image(image, (26, 64)))
    assert (fitted[:19] == PADDING).all()
    assert (fitted[19 + 26 :] == PADDING).all()
    assert abs(PADDING / 127.5 - 1) < 0.01  # as models scale it
    np.testing.assert_array_equal(fit_image(image, (64, 64)), resize_image(image, (64, 64)))


def test_labels_make_room_for_the_ignored_one():
    labels = np.ones((10, 20), np.uint8)
    assert fit_labels(labels, (20, 20), fit="letterbox", ignore_label=255).dtype == np.uint8
    fitted = fit_labels(labels, (20, 20), fit="letterbox", ignore_label=65535)
    assert fitted[:, 0].tolist() == [65535] * 5 + [1] * 10 + [65535] * 5


def test_a_class_table_can_ignore_the_padding():
    def table(count, **options):
        return ClassTable(
            [f"{i}" for i in range(count)], [(i, 0, 0) for i in range(count)], **options
        )

    assert fit_classes(table(3), fit="stretch") == table(3)
    assert fit_classes(table(3), fit="letterbox") == table(3, ignore_label=255)
    assert fit_classes(table(255), fit="letterbox").ignore_label == 255
    assert fit_classes(table(256), fit="letterbox").ignore_label == 65535
    void = table(3, ignore_label=2)
    assert fit_classes(void, fit="letterbox") is void


def test_another_fit_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="expected fit to be one of stretch, letterbox, received"):
        fit_image(np.zeros((9, 9, 3), np.uint8), (8, 8), fit="crop")
