import numpy as np
import pytest
import skimage.morphology
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seglib import postprocess

THREE = np.array([[[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7]]], np.float32)


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        (0.0, [0, 0, 2]),
        (0.6, [0, 0, 2]),  # where no class reaches its threshold, the most probable one
        ({0: 0.45}, [0, 1, 2]),
        ([0.45, 0.4, 0.2], [0, 2, 2]),
        ({0: 0.9, 2: 0.7}, [1, 1, 2]),  # 0.7 is reached, in float32 too
        ({2: 0.71}, [0, 0, 1]),  # the next best of the last pixel is class 1
    ],
)
def test_apply_thresholds_takes_the_next_class(thresholds, expected):
    labels = postprocess.apply_thresholds(THREE, thresholds)
    assert labels.tolist() == [expected]
    assert labels.dtype == np.uint8


def test_apply_thresholds_ignores_unsure_pixels():
    labels = postprocess.apply_thresholds(THREE, {0: 0.45, 2: 0.7}, below="ignore", ignore_label=9)
    assert labels.tolist() == [[0, 9, 2]]


def test_apply_thresholds_widens_the_dtype_only_for_many_classes():
    for num_classes, dtype in ((256, np.uint8), (257, np.uint16)):
        probabilities = np.zeros((1, 1, num_classes))
        probabilities[..., -1] = 1
        labels = postprocess.apply_thresholds(probabilities, 0.5)
        assert labels.dtype == dtype
        assert labels.item() == num_classes - 1


@pytest.mark.parametrize(
    ("thresholds", "options", "message"),
    [
        ([0.5, 0.5], {}, r"expected one threshold or 3, one a class, received \(2,\)"),
        ({3: 0.5}, {}, r"thresholds name ids \[3\], expected ids in \[0, 3\)"),
        (0.5, {"below": "ignore"}, "below='ignore' needs an ignore_label >= 0, received None"),
        (0.5, {"below": "drop"}, "expected below='next' or 'ignore', received 'drop'"),
    ],
)
def test_apply_thresholds_says_what_is_wrong(thresholds, options, message):
    with pytest.raises(ValueError, match=message):
        postprocess.apply_thresholds(THREE, thresholds, **options)


# Class 1: a block of 3 x 3, with an arm of one pixel's width; class 2 is right of it.
BLOCK = np.array(
    [
        [0, 0, 0, 0, 0, 2],
        [0, 1, 1, 1, 0, 2],
        [0, 1, 1, 1, 1, 2],
        [0, 1, 1, 1, 0, 2],
        [0, 0, 0, 0, 0, 2],
    ],
    np.uint8,
)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (
            "dilation",
            [
                [0, 1, 1, 1, 0, 2],
                [1, 1, 1, 1, 1, 2],
                [1, 1, 1, 1, 1, 1],
                [1, 1, 1, 1, 1, 2],
                [0, 1, 1, 1, 0, 2],
            ],
        ),
        (
            "erosion",
            [
                [0, 0, 0, 0, 0, 2],
                [0, 0, 0, 0, 0, 2],
                [0, 0, 1, 1, None, 2],
                [0, 0, 0, 0, 0, 2],
                [0, 0, 0, 0, 0, 2],
            ],
        ),
        (
            "opening",
            [
                [0, 0, 0, 0, 0, 2],
                [0, 0, 1, 1, 0, 2],
                [0, 1, 1, 1, 1, 2],
                [0, 0, 1, 1, 0, 2],
                [0, 0, 0, 0, 0, 2],
            ],
        ),
    ],
)
def test_morph_labels_of_a_hand_typed_block(operation, expected):
    labels = postprocess.morph_labels(BLOCK, operation, class_ids=[1])
    known = np.array([[x is not None for x in row] for row in expected])
    expected = np.array([[x or 0 for x in row] for row in expected])
    np.testing.assert_array_equal(labels[known], expected[known])
    assert labels.dtype == np.uint8
    if operation == "erosion":  # the tip of the arm is as near to class 0 as to class 2
        assert labels[2, 4] in (0, 2)


def test_closing_bridges_a_gap_and_keeps_the_border():
    labels = [[1, 1, 0, 1, 1], [1, 1, 0, 1, 1], [1, 1, 0, 1, 1]]
    assert postprocess.morph_labels(labels, "closing", class_ids=[1]).tolist() == [[1] * 5] * 3


def test_erosion_spares_the_image_border():
    labels = [[1, 1, 1, 0]] * 3
    received = postprocess.morph_labels(labels, "erosion", class_ids=[1])
    assert received.tolist() == [[1, 1, 0, 0]] * 3


def test_lost_pixels_take_the_nearest_other_class():
    labels = [[2, 1, 0, 0, 0]]
    assert postprocess.morph_labels(labels, "opening", class_ids=[1]).tolist()[0][1] in (0, 2)
    labels = [[2, 2, 1, 1, 1, 1, 3]]
    received = postprocess.morph_labels(labels, "erosion", class_ids=[1], radius=2)
    assert received.tolist() == [[2, 2, 2, 2, 3, 3, 3]]


def test_rare_classes_are_worked_last_unless_an_order_is_given():
    labels = [[0, 0, 0, 0, 1, 1, 1, 2]]
    assert postprocess.morph_labels(labels, "dilation").tolist() == [[0, 0, 0, 1, 1, 1, 2, 2]]
    received = postprocess.morph_labels(labels, "dilation", class_ids=[2, 1, 0])
    assert received.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]


def test_classes_that_shrink_in_turn_do_not_swap_their_rims():
    labels = np.array([[0, 0, 0, 0, 1, 1, 1]] * 3)
    np.testing.assert_array_equal(postprocess.morph_labels(labels, "erosion"), labels)


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("operation", postprocess.OPERATIONS)
def test_morphology_is_scikit_images(operation, radius):
    # The image is padded so that scikit-image's own border rule plays no part.
    mask = np.pad(np.random.default_rng(0).random((30, 40)) < 0.6, 8)
    labels = postprocess.morph_labels(mask.astype(int), operation, class_ids=[1], radius=radius)
    disk = skimage.morphology.disk(radius)
    expected = getattr(skimage.morphology, operation)(mask.astype(np.uint8), disk)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("operation", "radius", "message"),
    [
        ("dilate", 1, "expected one of dilation, erosion, opening, closing, received 'dilate'"),
        ("erosion", -1, "radius of 0 pixels or more, received -1"),
    ],
)
def test_morph_labels_says_what_is_wrong(operation, radius, message):
    with pytest.raises(ValueError, match=message):
        postprocess.morph_labels(BLOCK, operation, radius=radius)


SPECKS = np.array(
    [
        [0, 0, 0, 0, 2, 2, 2],
        [0, 1, 0, 0, 2, 2, 2],
        [0, 0, 1, 0, 2, 3, 2],
        [0, 0, 0, 0, 2, 2, 2],
    ],
    np.uint16,
)


def test_remove_small_regions_gives_them_to_the_nearest():
    labels = postprocess.remove_small_regions(SPECKS, min_size=3)
    assert labels.tolist() == [[0, 0, 0, 0, 2, 2, 2]] * 4
    assert labels.dtype == np.uint16


def test_regions_touch_at_corners_too():
    kept = SPECKS.copy()
    kept[2, 5] = 2
    labels = postprocess.remove_small_regions(SPECKS, min_size=2)
    np.testing.assert_array_equal(labels, kept)


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({"min_size": {1: 3}}, {1}),
        ({"min_size": {3: 2, 1: 2}}, {3}),
        ({"min_size": 3, "class_ids": [3]}, {3}),
        ({"min_size": {1: 3, 3: 3}, "class_ids": [3]}, {3}),
        ({"min_size": 1}, set()),
    ],
)
def test_sizes_and_classes_to_remove_can_be_chosen(options, gone):
    labels = postprocess.remove_small_regions(SPECKS, **options)
    assert set(labels.ravel().tolist()) == {0, 1, 2, 3} - gone


def test_an_image_of_small_regions_alone_stays():
    labels = postprocess.remove_small_regions(SPECKS, min_size=1000)
    np.testing.assert_array_equal(labels, SPECKS)
    assert not np.shares_memory(labels, SPECKS)


RINGS = np.array(
    [
        [1, 1, 1, 1, 0, 0, 0],
        [1, 0, 2, 1, 3, 3, 3],
        [1, 1, 1, 1, 3, 0, 3],
        [0, 1, 0, 0, 3, 3, 3],
        [0, 0, 1, 1, 0, 0, 0],
    ],
    np.int32,
)


def test_fill_holes_of_a_hand_typed_image():
    labels = postprocess.fill_holes(RINGS)
    assert labels.tolist() == [
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 3, 3, 3],
        [1, 1, 1, 1, 3, 3, 3],
        [0, 1, 0, 0, 3, 3, 3],
        [0, 0, 1, 1, 0, 0, 0],
    ]
    assert labels.dtype == np.int32


@pytest.mark.parametrize(
    ("options", "filled"),
    [
        ({"max_size": 1}, [(2, 5)]),
        ({"class_ids": [1]}, [(1, 1), (1, 2)]),
        ({"class_ids": [9]}, []),
    ],
)
def test_holes_to_fill_can_be_chosen(options, filled):
    labels = postprocess.fill_holes(RINGS, **options)
    assert list(zip(*np.nonzero(labels != RINGS), strict=True)) == filled


def test_the_larger_of_two_nested_rings_wins():
    labels = np.zeros((7, 7), int)
    labels[0:7, 0:7], labels[1:6, 1:6], labels[2:5, 2:5], labels[3, 3] = 0, 1, 2, 3
    assert (postprocess.fill_holes(labels) == 0).all()
    assert set(postprocess.fill_holes(labels, max_size=9).ravel().tolist()) == {0, 1}


@pytest.mark.parametrize(
    "function",
    [
        lambda labels: postprocess.morph_labels(labels, "dilation"),
        lambda labels: postprocess.morph_labels(labels, "opening", radius=1.5),
        lambda labels: postprocess.morph_labels(labels, "closing", class_ids=[2, 7]),
        lambda labels: postprocess.morph_labels(labels, "erosion", class_ids=[0, 1]),
        lambda labels: postprocess.remove_small_regions(labels, min_size=3),
        lambda labels: postprocess.fill_holes(labels, class_ids=[0, 7, 1]),
    ],
)
@settings(deadline=None)  # the first example imports
@given(data=st.data())
def test_no_function_changes_its_input_or_invents_a_class(function, data):
    shape = st.tuples(st.integers(1, 7), st.integers(1, 7))
    labels = data.draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255])))
    before = labels.copy()
    received = function(labels)
    np.testing.assert_array_equal(labels, before)
    assert received.dtype == labels.dtype
    assert received.shape == labels.shape
    assert set(received.ravel().tolist()) <= set(labels.ravel().tolist())
    assert not np.shares_memory(received, labels)


@pytest.mark.parametrize("labels", [np.zeros((2, 3, 3), int), np.zeros((3, 3)), np.zeros((0, 3))])
def test_label_maps_are_checked(labels):
    with pytest.raises(ValueError, match=r"expected integer labels \(height, width\), received"):
        postprocess.fill_holes(labels)


def test_a_class_of_probability_zero_reaches_no_threshold():
    probabilities = np.array([[[0.55, 0.45, 0.0]]])
    assert postprocess.apply_thresholds(probabilities, {0: 0.6, 1: 0.6}).tolist() == [[0]]


def test_fitted_thresholds_are_the_best_of_all_for_two_classes():
    random = np.random.default_rng(0)
    labels = (random.random(400) < 0.2).astype(int)
    likely = (0.35 + 0.3 * labels + random.normal(0, 0.2, 400)).clip(0.01, 0.99)
    probabilities = np.column_stack([1 - likely, likely])
    candidates = np.arange(10) / 10
    fitted = postprocess.fit_thresholds(probabilities, labels, candidates=candidates)

    def mean_iou(thresholds):
        predicted = postprocess.apply_thresholds(probabilities, thresholds)
        pairs = [
            ((labels == c) & (predicted == c), (labels == c) | (predicted == c)) for c in (0, 1)
        ]
        return np.mean([both.sum() / either.sum() for both, either in pairs])

    best = max(mean_iou([a, b]) for a in candidates for b in candidates)
    assert mean_iou(fitted) == pytest.approx(best, abs=0.01)
    assert mean_iou(fitted) > mean_iou([0, 0]) + 0.02


def test_fitted_thresholds_do_not_listen_to_ignored_pixels():
    random = np.random.default_rng(1)
    probabilities = random.dirichlet([1, 1, 1], (20, 30))
    labels = probabilities.cumsum(-1).argmax(-1) % 2
    known = random.random(labels.shape) < 0.5
    expected = postprocess.fit_thresholds(probabilities[known], labels[known])
    fitted = postprocess.fit_thresholds(
        probabilities, np.where(known, labels, 255), ignore_label=255
    )
    np.testing.assert_array_equal(fitted, expected)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros(3, int), {}, r"expected probabilities of \(3,\) and classes, received \(2, 2\)"),
        (np.full(2, 9), {"ignore_label": 9}, "no pixel counts"),
    ],
)
def test_fit_thresholds_says_what_is_wrong(labels, options, message):
    with pytest.raises(ValueError, match=message):
        postprocess.fit_thresholds(np.full((2, 2), 0.5), labels, **options)
