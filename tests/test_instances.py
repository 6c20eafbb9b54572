import numpy as np
import pytest
from scipy import ndimage

import seglib
from seglib.scenes import THINGS, draw_scene

BELL = np.array(  # two squares that touch over a neck of two pixels
    [
        [1, 1, 1, 0, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 0, 1, 1, 1],
    ]
)


def draw_wall(height=1.0):
    boundary = np.zeros(BELL.shape)
    boundary[:, 3] = height
    return boundary


# Separating


def test_without_a_boundary_what_touches_is_one():
    labels = np.array([[1, 0, 2, 2], [0, 1, 0, 2], [0, 0, 0, 0], [2, 2, 1, 1]])
    found = seglib.separate_instances(labels, class_ids=[1, 2], min_size=1)
    assert found.instances.tolist() == [[1, 0, 3, 3], [0, 1, 0, 3], [0, 0, 0, 0], [4, 4, 2, 2]]
    assert found.counts == {1: 2, 2: 2}
    assert found.instances.dtype == np.int32
    assert seglib.separate_instances(labels, min_size=1).counts == {0: 1, 1: 2, 2: 2}


def test_a_boundary_cuts_what_touches_and_its_pixels_are_dealt_out():
    found = seglib.separate_instances(BELL, draw_wall(), class_ids=[1])
    assert found.counts == {1: 2}
    assert (found.instances > 0).tolist() == (BELL > 0).tolist()
    assert set(found.instances[:, :3].flat) == {1}
    assert set(found.instances[:, 4:].flat) == {2}


@pytest.mark.parametrize(("height", "threshold", "count"), [(0.4, 0.5, 1), (0.4, 0.3, 2)])
def test_only_a_boundary_above_the_threshold_cuts(height, threshold, count):
    found = seglib.separate_instances(BELL, draw_wall(height), class_ids=[1], threshold=threshold)
    assert found.counts == {1: count}


def test_parts_grow_over_the_weakest_boundary_first():
    labels, boundary = np.ones((3, 8), int), np.tile([0, 0, 0.9, 0.6, 0.6, 0.6, 0, 0], (3, 1))
    found = seglib.separate_instances(labels, boundary, min_size=2)
    for row in found.instances.tolist():
        assert row[:2] + row[3:] == [1, 1, 2, 2, 2, 2, 2]  # both may take the highest


def test_a_slanting_boundary_cuts():
    found = seglib.separate_instances(np.ones((7, 7), int), np.eye(7))
    assert found.counts == {1: 2}


def test_parts_that_are_too_small_do_not_grow():
    boundary = draw_wall()
    boundary[:3, 4:] = 1  # three pixels are left on the right
    for min_size, count in ((3, 2), (4, 1)):
        found = seglib.separate_instances(BELL, boundary, class_ids=[1], min_size=min_size)
        assert found.counts == {1: count}
        assert (found.instances > 0).sum() == BELL.sum()


def test_what_boundaries_fill_stays_one_object_unless_it_is_too_small():
    for min_size, count in ((22, 1), (27, 0)):
        found = seglib.separate_instances(
            BELL, np.ones(BELL.shape), class_ids=[1], min_size=min_size
        )
        assert found.counts == {1: count}
        assert found.instances.max() == count


def test_boxes_are_slices_of_the_objects():
    _, labels, _ = draw_scene(2, size=(90, 120))
    found = seglib.separate_instances(labels, class_ids=sorted(THINGS))
    assert len(found.boxes) == sum(found.counts.values()) > 5
    assert found.boxes["pixels"].min() >= 8
    for number, row in found.boxes.iterrows():
        rows, columns = np.nonzero(found.instances == number)
        assert (row["top"], row["left"]) == (rows.min(), columns.min())
        assert (row["bottom"], row["right"]) == (rows.max() + 1, columns.max() + 1)
        assert row["pixels"] == len(rows)
        assert set(labels[rows, columns]) == {row["class"]}
        assert ndimage.label(found.instances == number, np.ones((3, 3)))[1] == 1


def test_a_map_without_objects_has_no_boxes():
    found = seglib.separate_instances(np.zeros((4, 5), int), class_ids=[1])
    assert found.counts == {1: 0}
    assert not found.instances.any()
    assert list(found.boxes) == ["class", "top", "left", "bottom", "right", "pixels"]
    assert found.boxes.empty


@pytest.mark.parametrize(
    ("labels", "boundary", "message"),
    [
        (np.zeros((2, 3, 4), int), None, "expected integer labels"),
        (np.zeros((3, 4)), None, "expected integer labels .* received float64"),
        (np.zeros((3, 4), int), np.zeros((3, 5)), r"labels' shape \(3, 4\), received \(3, 5\)"),
    ],
)
def test_maps_that_do_not_fit_are_refused(labels, boundary, message):
    with pytest.raises(ValueError, match=message):
        seglib.separate_instances(labels, boundary)


# Panoptic quality


def test_known_counts():
    true = [[1, 1, 1, 1, 0, 0, 9, 9]], [[1, 1, 2, 2, 0, 0, 0, 0]]
    guess = [[1, 1, 1, 0, 0, 0, 1, 1]], [[1, 1, 2, 0, 0, 0, 3, 3]]
    counts = count_matches(*true, *guess, num_classes=2, things=[1], ignore_label=9)
    # Half of object 2 is not enough; object 3 lies where nothing is known.
    assert counts.tolist() == [[1, 0, 0, 2 / 3], [1, 1, 1, 1]]
    quality = panoptic_quality(counts + counts)
    np.testing.assert_allclose(quality.pq, [2 / 3, 0.5])
    np.testing.assert_allclose(quality.sq, [2 / 3, 1])
    np.testing.assert_allclose(quality.rq, [1, 0.5])


def test_an_object_of_another_class_is_not_found():
    counts = count_matches([[1, 1]], [[1, 1]], [[2, 2]], [[1, 1]], num_classes=3)
    assert counts.tolist() == [[0] * 4, [0, 0, 1, 0], [0, 1, 0, 0]]


def test_what_is_unknown_takes_nothing_from_an_objects_iou():
    true = [[1, 1, 9, 9]], [[1, 1, 0, 0]]
    guess = [[1, 1, 1, 0]], [[4, 4, 4, 0]]
    counts = count_matches(*true, *guess, num_classes=2, things=[1], ignore_label=9)
    assert counts.tolist() == [[0, 0, 0, 0], [1, 0, 0, 1]]


def test_pixels_of_things_without_a_number_are_no_object():
    labels = [[1, 1, 1, 1]]
    for true, guess, expected in (
        ([[1, 1, 1, 0]], [[1, 1, 1, 0]], [1, 0, 0, 1]),
        ([[0, 0, 0, 0]], [[1, 1, 1, 0]], [0, 0, 0, 0]),  # nothing is known
        ([[1, 1, 1, 1]], [[0, 0, 0, 0]], [0, 0, 1, 0]),
    ):
        counts = count_matches(labels, true, labels, guess, num_classes=2)
        assert counts[1].tolist() == expected


def test_classes_that_are_nowhere_have_no_quality():
    quality = panoptic_quality([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0]])
    np.testing.assert_array_equal(quality.pq, [np.nan, 0, 0])
    np.testing.assert_array_equal(quality.sq, [np.nan] * 3)


def reference_counts(true_labels, true_numbers, labels, numbers, num_classes, things, ignored):
    """The paper's definition over sets of pixels, pair by pair."""

    def collect(labels, numbers):
        segments = {}
        for place in np.ndindex(labels.shape):
            label, number = int(labels[place]), int(numbers[place])
            if label == ignored or (label in things and number == 0):
                continue
            key = (label, number if label in things else 0)
            segments.setdefault(key, set()).add(place)
        return segments

    truth, guess = collect(true_labels, true_numbers), collect(labels, numbers)
    known = set().union(*truth.values())
    counts, met = np.zeros((num_classes, 4)), set()
    for key, pixels in truth.items():
        for other, claimed in guess.items():
            claimed = claimed & known
            iou = len(pixels & claimed) / len(pixels | claimed)
            if key[0] == other[0] and iou > 0.5:
                counts[key[0]] += (1, 0, 0, iou)
                met |= {("truth", key), ("guess", other)}
    for key in truth:
        counts[key[0], 2] += ("truth", key) not in met
    for key, pixels in guess.items():
        unknown = len(pixels - known) / len(pixels)
        counts[key[0], 1] += ("guess", key) not in met and unknown <= 0.5
    return counts


@pytest.mark.parametrize("seed", range(6))
def test_counts_are_those_of_sets_of_pixels(seed):
    random = np.random.default_rng(seed)

    def blocks(high):
        return random.integers(0, high, (5, 6)).repeat(3, 0).repeat(3, 1)

    true_labels, true_numbers = blocks(4), blocks(3)
    changed = random.random(true_labels.shape) < 0.15
    labels = np.where(changed, random.integers(0, 3, changed.shape), true_labels)
    labels[labels == 3] = 1
    numbers = np.where(random.random(changed.shape) < 0.1, 2, true_numbers) * 7
    maps = (true_labels, true_numbers, labels, numbers)
    expected = reference_counts(*maps, 4, {1, 2}, 3)
    counts = count_matches(*maps, num_classes=4, things=[1, 2], ignore_label=3)
    np.testing.assert_allclose(counts, expected)
    assert counts[:, 0].sum() > 0


def test_the_true_objects_of_a_scene_are_all_found():
    _, labels, instances = draw_scene(0, size=(90, 120))
    maps = (labels, instances) * 2
    counts = count_matches(*maps, num_classes=12, things=THINGS, ignore_label=11)
    assert counts[:, 0].sum() == instances.max() + len(set(labels.flat) - THINGS - {11})
    assert not counts[:, 1:3].any()
    np.testing.assert_array_equal(counts[:, 3], counts[:, 0])


def test_maps_of_other_shapes_are_refused():
    maps = [np.zeros((2, 3), int)] * 3
    with pytest.raises(ValueError, match="expected four maps of one shape"):
        count_matches(*maps, np.zeros((3, 2), int), num_classes=2)


def test_counts_add_up_over_images():
    scenes = [draw_scene(i, size=(60, 80)) for i in range(2)]
    options = {"num_classes": 12, "things": THINGS, "ignore_label": 11}
    found = [seglib.separate_instances(labels, class_ids=THINGS) for _, labels, _ in scenes]
    parts = [
        count_matches(labels, truth, labels, objects.instances, **options)
        for (_, labels, truth), objects in zip(scenes, found, strict=True)
    ]
    total = panoptic_quality(sum(parts))
    for label, (hits, invented, missed, iou) in enumerate(np.sum(parts, axis=0)):
        if hits + invented + missed:
            assert total.pq[label] == pytest.approx(iou / (hits + (invented + missed) / 2))
    assert sum(part[sorted(THINGS), 0].sum() for part in parts) > 0
