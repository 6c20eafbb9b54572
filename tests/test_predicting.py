import dataclasses
import itertools
import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage
from scipy.special import expit
from skimage import morphology
from small_runs import make_dataset

import seglib
from seglib import (
    decode_rle,
    encode_rle,
    evaluate,
    predict,
    predict_heads,
    predict_probabilities,
    read_submission,
    separate_instances,
    write_submission,
)
from seglib.classes import ClassTable
from seglib.images import fit_image
from seglib.models import ClassLogits, set_model_classes
from seglib.predicting import (
    Scorer,
    apply_thresholds,
    fill_holes,
    fit_thresholds,
    label_probabilities,
    morph_labels,
    remove_small_regions,
)
from seglib.scenes import THINGS, draw_scene

COLORS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90)]
TABLE = ClassTable(list("rgbx"), COLORS)


def see_colors(size=(32, 32), *, fit="stretch", ignore_label=None):
    """A Scorer that knows classes by their colour: red, green, blue, and grey for class 3."""
    table = ClassTable(list("rgbx"), COLORS, ignore_label=ignore_label)

    def score(batch):
        logits = np.concatenate([batch / 20, np.ones((*batch.shape[:3], 1))], axis=-1)
        exponentials = np.exp(logits[..., list(table.scored_ids)]).astype(np.float32)
        return exponentials / exponentials.sum(axis=-1, keepdims=True)

    return Scorer(score=score, size=size, fit=fit, num_classes=4, classes=table)


def paint(labels):
    return np.array(COLORS, np.uint8)[labels]


def blocks(height, width, seed=0, side=8):
    """A label map of square blocks, cut to a size."""
    coarse = np.random.default_rng(seed).integers(0, 3, (-(-height // side), -(-width // side)))
    return np.kron(coarse, np.ones((side, side), int))[:height, :width].astype(np.uint8)


# Predicting, with NumPy in place of a network


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (33, 50), (20, 20), (1, 7), (90, 20)])
def test_any_size_comes_back_as_it_was(size, fit):
    labels = np.zeros(size, np.uint8)
    labels[:, size[1] // 2 :] = 1
    answer = predict(see_colors(fit=fit), paint(labels))
    assert (answer.shape, answer.dtype) == (size, np.uint8)
    assert (answer == labels).mean() > 0.95 or min(size) < 20


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_batches_and_lists_answer_like_single_pictures(fit):
    scorer = see_colors(fit=fit)
    pictures = [paint(blocks(40, 48, seed)) for seed in range(18)]
    singles = [predict(scorer, picture) for picture in pictures]
    np.testing.assert_array_equal(predict(scorer, np.stack(pictures)), singles)
    mixed = predict(scorer, [pictures[0], pictures[1][:33, :35]])
    assert isinstance(mixed, list)
    np.testing.assert_array_equal(mixed[0], singles[0])
    assert mixed[1].shape == (33, 35)
    assert predict(scorer, []) == []
    assert predict(scorer, np.empty((0, 20, 30, 3), np.uint8)).shape == (0, 20, 30)


def test_large_pictures_are_scored_in_small_batches():
    sizes = []

    def score(batch):
        sizes.append(len(batch))
        return np.ones((len(batch), 4, 4, 300), np.float32)

    scorer = Scorer(score=score, size=(1024, 1536), fit="stretch", num_classes=300)
    answer = predict(scorer, np.zeros((3, 9, 9, 3), np.uint8))
    assert (sizes, answer.shape, answer.dtype) == ([2, 1], (3, 9, 9), np.uint16)


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"tile": True}])
def test_the_ignored_class_is_never_answered(options):
    scorer, picture = see_colors(ignore_label=0), paint(np.zeros((40, 50), int))
    assert (predict(scorer, picture, **options) != 0).all()
    probabilities = predict_probabilities(scorer, picture, **options)
    assert (probabilities[..., 0] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


def sure_at_the_right(batch):
    """Probabilities that depend on the column alone."""
    ramp = np.broadcast_to(np.linspace(0.1, 0.9, batch.shape[2]), batch.shape[:3])
    return np.stack([ramp, 1 - ramp], axis=-1).astype(np.float32)


def test_flip_averages_with_the_mirrored_picture():
    scorer = Scorer(score=sure_at_the_right, size=(32, 32), fit="stretch", num_classes=2)
    wide = np.zeros((32, 96, 3), np.uint8)
    np.testing.assert_allclose(predict_probabilities(scorer, wide, flip=True), 0.5, atol=1e-6)


@pytest.mark.parametrize("size", [(32, 32), (40, 70), (20, 50), (97, 133)])
def test_tiles_see_the_picture_at_its_own_scale_by_themselves_where_the_model_learned_so(size):
    labels, plain = blocks(*size, side=1), see_colors()  # resizing would lose single pixels
    picture, native = paint(labels), dataclasses.replace(plain, native=((32, 32), size))
    for answer in (
        predict(plain, picture, tile=True),
        predict(native, picture),
        predict(native, [picture])[0],
        predict_probabilities(native, picture).argmax(axis=-1),
        predict(see_colors((None, None)), [picture])[0],  # where a model takes any size
        predict(see_colors((size[0], None)), [picture])[0],
    ):
        np.testing.assert_array_equal(answer, labels)
    np.testing.assert_array_equal(predict(native, picture, tile=False), predict(plain, picture))
    assert evaluate(native, Pairs([(picture, labels)])).pixel_accuracy == 1


def blend_by_hand(scorer, picture):
    """What tiles of 32×32 amount to, all probabilities in memory at once."""
    rows, columns = picture.shape[:2]
    missing = (0, max(0, 32 - rows)), (0, max(0, 32 - columns)), (0, 0)
    padded = np.pad(picture, missing, "symmetric")
    window = np.outer(*[np.sin(np.pi * (np.arange(32) + 0.5) / 32) ** 2] * 2)[..., None]
    total, weight = np.zeros((*padded.shape[:2], 4)), np.zeros((*padded.shape[:2], 1))
    spans = [(side - 32, 1 - (32 - side) // 16) for side in padded.shape[:2]]
    starts = [np.linspace(0, last, count).round().astype(int) for last, count in spans]
    for y, x in itertools.product(*starts):
        place = np.s_[y : y + 32, x : x + 32]
        total[place] += scorer.score(padded[None, *place])[0] * window
        weight[place] += window
    return (total / weight)[:rows, :columns]


@pytest.mark.parametrize("size", [(97, 131), (40, 300), (300, 40), (20, 90), (32, 33)])
@pytest.mark.parametrize("tiles", [1000, 3, 1])
def test_tiles_are_blended_the_same_whatever_fits_into_memory(monkeypatch, size, tiles):
    monkeypatch.setattr(seglib.predicting, "BUFFER", tiles * 4 * 32 * 32 * 4)
    shape = (32, 32, 4)
    tilt = np.random.default_rng(0).random(shape).astype(np.float32)  # a tile's places differ
    scorer = Scorer(
        score=lambda batch: (batch[..., [0, 1, 2, 0]] / np.float32(255) + tilt) / 9,
        size=(32, 32),
        fit="stretch",
        num_classes=4,
    )
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    expected = blend_by_hand(scorer, picture)
    answer = predict_probabilities(scorer, picture, tile=True)
    np.testing.assert_allclose(answer, expected, atol=1e-6)
    np.testing.assert_array_equal(predict(scorer, picture, tile=True), answer.argmax(axis=-1))


@pytest.mark.parametrize("tile", [True, False])
def test_a_picture_of_a_hundred_megapixels_takes_little_memory(tile):
    ramp = np.linspace(0, 1, 256 * 4, dtype=np.float32).reshape(256, 4)

    def score(batch):
        return np.broadcast_to(ramp, (*batch.shape[:2], 256, 4))

    scorer = Scorer(score=score, size=(256, 256), fit="stretch", num_classes=4)
    picture = np.broadcast_to(np.uint8(9), (10_000, 10_000, 3))
    tracemalloc.start()
    labels = predict(scorer, picture, tile=tile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.shape == (10_000, 10_000)
    assert peak < 0.6e9


def test_weights_that_are_no_numbers_are_refused(model):
    before, picture = model.get_weights(), paint(blocks(40, 48))
    model.set_weights([before[0], np.array([0, np.nan, 0, 0])])
    for options in ({}, {"tile": True}):
        with pytest.raises(ValueError, match=r"answers NaN, .* weights .*: load an earlier one"):
            predict(model, picture, **options)
    model.set_weights(before)


@pytest.mark.parametrize("size", [(64, 96), (33, 50), (20, 20), (1, 7), (32, 24), (97, 131)])
def test_labels_are_the_most_probable_of_probabilities_enlarged_bilinearly(size):
    """Though they are computed only where neighbours differ."""
    random = np.random.default_rng(0)
    scores = ndimage.gaussian_filter(random.random((32, 24, 5)), (2, 2, 0)).astype(np.float32)
    scores[:, :2] = scores[:3] = 0.2  # of equals the first
    scorer = Scorer(score=lambda _: scores[None], size=(32, 24), fit="stretch", num_classes=5)
    planes = predict_probabilities(scorer, np.zeros((*size, 3), np.uint8))
    labels = label_probabilities(scores, size, [1, 2, 3, 5, 8])
    np.testing.assert_array_equal(labels, np.array([1, 2, 3, 5, 8])[planes.argmax(axis=-1)])
    assert label_probabilities(scores, size, [1, 2, 3, 5, 256]).dtype == np.uint16
    if min(size) >= 32:  # where it enlarges, Pillow's bilinear resize only interpolates
        picture = Image.fromarray(scores[..., 2].copy())
        expected = picture.resize(size[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_allclose(planes[..., 2], expected, atol=1e-5)


class Pairs(list):
    """A split in memory."""

    def __init__(self, pairs, classes=TABLE):
        super().__init__(pairs)
        self.classes, self.names = classes, [f"image_{i}" for i in range(len(pairs))]


def test_evaluation_counts_what_prediction_gives():
    pairs, table = [], ClassTable(list("rgbx"), COLORS, ignore_label=3)
    for seed in range(3):
        truth = blocks(32, 32, seed)
        seen = truth.copy()
        seen[:4] = (seen[:4] + 1) % 3  # an eighth of the pixels is painted wrongly
        truth[-4:] = 3  # an eighth is ignored
        pairs.append((paint(seen), truth))
    report = evaluate(see_colors(ignore_label=3), Pairs(pairs, table))
    assert report.pixel_accuracy == pytest.approx(1 - 4 / 28)
    assert report.confusion.sum() == 3 * 28 * 32
    assert list(report.per_class.index) == ["r", "g", "b"]
    assert (report.per_image["latency_ms"] > 0).all()
    assert report.per_image["image"].tolist() == ["image_0", "image_1", "image_2"]
    fine = blocks(64, 96, side=1)  # too fine for the model's own size
    assert evaluate(see_colors(), Pairs([(paint(fine), fine)])).pixel_accuracy < 0.8
    boxed = see_colors((96, 96), fit="letterbox", ignore_label=255)  # TABLE ignores nothing
    assert evaluate(boxed, Pairs([(paint(fine), fine)])).pixel_accuracy == 1


# Keras models


@pytest.fixture(scope="module")
def model():
    """A model whose class is the colour, as of `see_colors`, with two heads beside it."""
    image = keras.Input((32, 32, 3))
    scores = keras.layers.Conv2D(4, 1)(keras.layers.Rescaling(1 / 20)(image))
    model = keras.Model(image, ClassLogits()(scores, image))
    model.layers[-2].set_weights([np.eye(3, 4)[None, None], np.array([0, 0, 0, 1.0])])
    return model


def test_a_keras_model_is_compiled_once_and_follows_its_classes_and_weights(model):
    labels, red = blocks(40, 56, side=1), paint(np.zeros((32, 32), int))
    for options in ({}, {"tile": True}):
        expected = predict_probabilities(see_colors(), paint(labels), **options)
        answer = predict_probabilities(model, paint(labels), **options)
        np.testing.assert_allclose(answer, expected, atol=1e-5)
    score = seglib.predicting.get_scorer(model).score
    assert seglib.predicting.get_scorer(model).score == score
    set_model_classes(model, ClassTable(list("rgbx"), COLORS, ignore_label=0), fit="letterbox")
    assert seglib.predicting.get_scorer(model).fit == "letterbox"
    assert (predict(model, red) != 0).all()
    set_model_classes(model, TABLE)
    before = model.layers[-2].get_weights()
    model.layers[-2].set_weights([before[0], np.array([0, 99.0, 0, 0])])
    assert (predict(model, red) == 1).all()
    model.layers[-2].set_weights(before)


def test_a_keras_model_of_ones_own_is_understood():
    """The ignored class of the data is not scored; probabilities are taken as they are."""
    table = ClassTable(list("rgbx"), COLORS, ignore_label=3)
    labels = blocks(32, 32)
    grey = np.where(np.arange(32) < 8, 3, labels)  # what the model would call class 3
    pair = paint(grey), labels
    image = keras.Input((32, 32, 3))
    scores = keras.layers.Conv2D(4, 1)(keras.layers.Rescaling(1 / 20)(image))
    for outputs in (scores, {"masks": keras.layers.Softmax()(scores)}):
        own = keras.Model(image, outputs)
        own.layers[2].set_weights([np.eye(3, 4)[None, None], np.array([0, 0, 0, 5.0])])
        assert evaluate(own, Pairs([pair], table)).confusion[:, 3].sum() == 0
        expected = keras.ops.softmax(keras.Model(image, scores)(pair[0][None]))[0]
        np.testing.assert_allclose(predict_probabilities(own, pair[0]), expected, atol=1e-4)
    one = keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(image))
    with pytest.raises(ValueError, match=r"answers in one channel.*a channel for each class"):
        predict(one, pair[0])


def test_scales_are_averaged(model):
    with pytest.raises(ValueError, match="no heads beside segmentation: create"):
        predict_heads(model, np.zeros((32, 32, 3), np.uint8))
    both = seglib.combine_scales(model, (2, 1))
    assert both.size == (64, 64)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    small, large = (predict_probabilities(see_colors((n, n)), picture) for n in (32, 64))
    np.testing.assert_allclose(predict_probabilities(both, picture), (small + large) / 2, atol=1e-5)
    labels = predict(both, picture)
    assert evaluate(both, Pairs([(picture, labels)])).pixel_accuracy == 1
    assert 0 < (predict(model, picture) == labels).mean() < 1


@pytest.fixture(scope="module")
def tasks():
    return seglib.create_unetpp_model(
        (32, 32, 3), num_classes=2, filters=(4, 6), heads=("segmentation", "boundary", "presence")
    )


def test_heads_answer_at_the_pictures_own_size(tasks):
    for fit, size in (("stretch", (32, 32)), ("letterbox", (16, 32))):
        set_model_classes(tasks, ClassTable(["a", "b"], COLORS[:2], ignore_label=255), fit=fit)
        picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        answers = predict_heads(tasks, picture)
        boundary, presence, *_ = tasks(fit_image(picture, (32, 32), fit=fit)[None], training=False)
        np.testing.assert_allclose(answers["presence"], expit(presence[0]), rtol=1e-4)
        assert (answers["boundary"].shape, answers["boundary"].dtype) == (size, np.float32)
        whole = expit(np.asarray(boundary))[0, ..., 0]
        shown = whole[8:24] if fit == "letterbox" else whole
        np.testing.assert_allclose(answers["boundary"], shown, rtol=1e-4)


# Cleaning up

THREE = np.array([[[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7]]], np.float32)


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ([0.6] * 3, [0, 0, 2]),  # where no class reaches its threshold, the most probable one
        ({0: 0.45}, [0, 1, 2]),
        ([0.45, 0.4, 0.2], [0, 2, 2]),
        ({0: 0.9, 2: 0.7}, [1, 1, 2]),  # 0.7 is reached, in float32 too
        ({2: 0.71}, [0, 0, 1]),  # the next best of the last pixel is class 1
    ],
)
def test_apply_thresholds_takes_the_next_class(thresholds, expected):
    labels = apply_thresholds(THREE, thresholds)
    assert (labels.tolist(), labels.dtype) == ([expected], np.uint8)
    never = np.array([[0.55, 0.45, 0.0]])  # what has the probability 0 reaches no threshold
    assert apply_thresholds(never, {0: 0.6, 1: 0.6}).tolist() == [0]


def test_fitted_thresholds_are_nearly_the_best_of_all_for_two_classes():
    random = np.random.default_rng(0)
    labels = (random.random(400) < 0.2).astype(int)
    likely = (0.35 + 0.3 * labels + random.normal(0, 0.2, 400)).clip(0.01, 0.99)
    probabilities = np.column_stack([1 - likely, likely])

    def score(thresholds):
        predicted = apply_thresholds(probabilities, thresholds)
        matrix = seglib.reports.confusion_matrix(labels, predicted, num_classes=2)
        return seglib.reports.mean_iou(matrix)

    fitted = fit_thresholds(probabilities, labels)
    best = max(score(pair) for pair in itertools.product(np.arange(10) / 10, repeat=2))
    assert score(fitted) == pytest.approx(best, abs=0.01)
    assert score(fitted) > score([0, 0]) + 0.02
    unknown = np.where(np.arange(400) % 2, 255, labels)  # ignored pixels are not listened to
    np.testing.assert_array_equal(
        fit_thresholds(probabilities, unknown, ignore_label=255),
        fit_thresholds(probabilities[::2], labels[::2]),
    )


@pytest.mark.parametrize(
    ("operation", "labels", "expected"),
    [
        ("dilation", [[0, 0, 0, 0, 1, 1, 1, 2]], [[0, 0, 0, 1, 1, 1, 2, 2]]),
        ("closing", [[1, 1, 0, 1, 1, 0, 0, 0, 0, 0]], [[1, 1, 1, 1, 1, 0, 0, 0, 0, 0]]),
        ("opening", [[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[0] * 3] * 3),
        ("erosion", [[0, 0, 0, 0, 1, 1, 1]] * 3, [[0, 0, 0, 0, 1, 1, 1]] * 3),  # in turn
        ("erosion", [[5, 5, 5], [5, 5, 5]], [[5, 5, 5], [5, 5, 5]]),  # spares the image border
        ("opening", [[2, 2, 2, 1, 3, 3, 3, 3]], [[2, 2, 2, 2, 3, 3, 3, 3]]),  # of nearest the first
    ],
)
def test_morphology_of_hand_typed_labels(operation, labels, expected):
    assert morph_labels(labels, operation).tolist() == expected


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("operation", ["dilation", "closing"])
def test_growing_is_scikit_images(operation, radius):
    # The image is padded so that scikit-image's own border rule plays no part.
    mask = np.pad(np.random.default_rng(0).random((30, 40)) < 0.4, 8)
    labels = morph_labels(mask.astype(int), operation, radius=radius)
    expected = getattr(morphology, operation)(mask.astype(np.uint8), morphology.disk(radius))
    np.testing.assert_array_equal(labels, expected)


SPECKS = np.array(
    [
        [0, 0, 0, 0, 2, 2, 2],
        [0, 1, 0, 0, 2, 2, 2],
        [0, 0, 1, 0, 2, 3, 2],
        [0, 0, 0, 0, 2, 2, 2],
    ],
    np.uint16,
)


@pytest.mark.parametrize(
    ("min_size", "gone"), [(3, {1, 3}), (2, {3}), (1, set()), (1000, set()), ({1: 3, 2: 9}, {1})]
)
def test_small_regions_go_to_the_nearest(min_size, gone):
    """Corners connect; an image of small regions alone stays as it is."""
    labels = remove_small_regions(SPECKS, min_size=min_size)
    expected = np.where(np.isin(SPECKS, list(gone)), [0, 0, 0, 0, 2, 2, 2], SPECKS)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint16


def test_holes_are_filled_by_what_encloses_them():
    rings = [
        [1, 1, 1, 1, 0, 0, 0],
        [1, 0, 2, 1, 3, 3, 3],
        [1, 1, 1, 1, 3, 0, 3],
        [0, 1, 0, 0, 3, 3, 3],
        [0, 0, 1, 1, 0, 0, 0],
    ]
    expected = np.array(rings)
    expected[1, 1:3], expected[2, 5] = 1, 3
    np.testing.assert_array_equal(fill_holes(rings), expected)
    nested = np.zeros((7, 7), int)
    nested[1:6, 1:6], nested[2:5, 2:5] = 1, 2
    assert not fill_holes(nested).any()  # the larger of two rings wins


@pytest.mark.parametrize(
    "function",
    [
        lambda labels: morph_labels(labels, "dilation"),
        lambda labels: morph_labels(labels, "opening", radius=1.5),
        lambda labels: morph_labels(labels, "closing"),
        lambda labels: morph_labels(labels, "erosion"),
        lambda labels: remove_small_regions(labels, min_size=3),
        fill_holes,
    ],
)
@settings(deadline=None, max_examples=15)  # the first example imports
@given(data=st.data())
def test_no_function_changes_its_input_or_invents_a_class(function, data):
    shape = st.tuples(st.integers(1, 7), st.integers(1, 7))
    labels = data.draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255])))
    before = labels.copy()
    received = function(labels)
    np.testing.assert_array_equal(labels, before)
    assert (received.dtype, received.shape) == (labels.dtype, labels.shape)
    assert set(received.ravel().tolist()) <= set(labels.ravel().tolist())
    assert not np.shares_memory(received, labels)


# Objects

BELL = np.ones((4, 7), int)  # two squares that touch over a neck of two pixels
BELL[[0, 3], 3] = 0
WALL = np.zeros((4, 7))
WALL[:, 3] = 1


def test_without_a_boundary_what_touches_is_one():
    labels = np.array([[1, 0, 2, 2], [0, 1, 0, 2], [0, 0, 0, 0], [2, 2, 1, 1]])
    found = separate_instances(labels, class_ids=[1, 2], min_size=1)
    assert found.instances.tolist() == [[1, 0, 3, 3], [0, 1, 0, 3], [0, 0, 0, 0], [4, 4, 2, 2]]
    assert found.counts == {1: 2, 2: 2}
    assert found.instances.dtype == np.int32
    assert separate_instances(labels, min_size=1).counts == {0: 1, 1: 2, 2: 2}


@pytest.mark.parametrize(("height", "threshold", "count"), [(0.4, 0.5, 1), (0.4, 0.3, 2)])
def test_a_boundary_above_the_threshold_cuts_and_is_dealt_out(height, threshold, count):
    found = separate_instances(BELL, height * WALL, class_ids=[1], threshold=threshold)
    assert found.counts == {1: count}
    assert ((found.instances > 0) == (BELL > 0)).all()
    assert (set(found.instances[:, :3].flat), set(found.instances[:, 4:].flat)) == ({1}, {count})


def test_parts_grow_over_the_weakest_boundary_first():
    labels, boundary = np.ones((3, 8), int), np.tile([0, 0, 0.9, 0.6, 0.6, 0.6, 0, 0], (3, 1))
    found = separate_instances(labels, boundary, min_size=2)
    for row in found.instances.tolist():
        assert row[:2] + row[3:] == [1, 1, 2, 2, 2, 2, 2]  # both may take the highest
    assert separate_instances(np.ones((7, 7), int), np.eye(7)).counts == {1: 2}  # a slanting one


def test_small_parts_do_not_grow_and_what_boundaries_fill_stays_one():
    boundary = WALL.copy()
    boundary[:3, 4:] = 1  # three pixels are left on the right
    for wall, min_size, count in ((boundary, 3, 2), (boundary, 4, 1), (BELL, 22, 1), (BELL, 27, 0)):
        found = separate_instances(BELL, wall, class_ids=[1], min_size=min_size)
        assert found.counts == {1: count}
        assert (found.instances > 0).sum() == (BELL.sum() if count else 0)


def test_boxes_are_slices_of_the_objects():
    _, labels, _ = draw_scene(2, size=(90, 120))
    found = separate_instances(labels, class_ids=sorted(THINGS))
    assert len(found.boxes) == sum(found.counts.values()) > 5
    for number, row in found.boxes.iterrows():
        rows, columns = np.nonzero(found.instances == number)
        assert (row["top"], row["left"]) == (rows.min(), columns.min())
        assert (row["bottom"], row["right"]) == (rows.max() + 1, columns.max() + 1)
        assert row["pixels"] == len(rows) >= 8
        assert set(labels[rows, columns]) == {row["class"]}
        assert ndimage.label(found.instances == number, np.ones((3, 3)))[1] == 1
    nothing = separate_instances(np.zeros((4, 5), int), class_ids=[1])
    assert nothing.counts == {1: 0}
    assert list(nothing.boxes) == ["class", "top", "left", "bottom", "right", "pixels"]
    assert nothing.boxes.empty


# Submissions

STREET = ClassTable(["void", "road", "sky, blue"], [(0,) * 3, (1,) * 3, (2,) * 3], ignore_label=0)


def test_the_example_of_kaggles_contests():
    # "1 3 10 5" are the pixels 1, 2, 3 and 10 to 14, counted down the columns.
    mask = decode_rle("1 3 10 5", (4, 5))
    assert np.flatnonzero(mask.ravel(order="F")).tolist() == [0, 1, 2, 9, 10, 11, 12, 13]
    assert encode_rle(mask) == "1 3 10 5"
    # Runs may touch and come in any order.
    np.testing.assert_array_equal(decode_rle("3 2 1 2", (2, 3)), decode_rle("1 4", (2, 3)))


@settings(deadline=None, max_examples=40)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_rle_round_trip(mask):
    decoded = decode_rle(encode_rle(mask), mask.shape)
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, mask)


def test_a_submission_has_a_row_for_each_image_and_scored_class(tmp_path):
    predictions = [("001", [[1, 1], [0, 2]]), ("b", [[1, 1], [1, 1]])]
    write_submission(tmp_path / "s.csv", iter(predictions), STREET, empty_mask="-1")
    rows = ["image_id,class,rle", "001,road,1 1 3 1", '001,"sky, blue",4 1', "b,road,1 4"]
    assert (tmp_path / "s.csv").read_text().splitlines() == [*rows, 'b,"sky, blue",-1']
    assert [p.name for p in tmp_path.iterdir()] == ["s.csv"]


@pytest.mark.parametrize(
    ("ignore_label", "ids", "empty_mask"),
    [(0, [0, 1, 2], ""), (None, [0, 1, 2, 255], "-1"), (300, [0, 1, 2, 300], "1 0")],
)
def test_submission_round_trip(tmp_path, empty_mask, ignore_label, ids):
    classes = ClassTable(STREET.names, STREET.colors, ignore_label=ignore_label)
    rng = np.random.default_rng(0)
    images = {f"0{i}": rng.choice(ids, (5 + i, 7)).astype(np.uint16) for i in range(3)}
    images["NA"] = np.full((4, 4), ids[-1], np.uint16)
    images["long"] = rng.choice(ids, (360, 300)).astype(np.uint16)  # more than 128 KiB of text
    write_submission(tmp_path / "s.csv", images.items(), classes, empty_mask=empty_mask)
    shapes = {name: labels.shape for name, labels in images.items()}
    received = read_submission(tmp_path / "s.csv", classes, shapes, empty_mask=empty_mask)
    assert list(received) == list(images)
    for name, labels in images.items():
        np.testing.assert_array_equal(received[name], labels)
        assert received[name].dtype == (np.uint16 if ignore_label == 300 else np.uint8)


def read_rows(folder, rows):
    (folder / "s.csv").write_text(f"image_id,class,rle\n{rows}\n")
    return read_submission(folder / "s.csv", STREET, {"a": (2, 2)})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda _: predict(see_colors(), np.zeros((32, 32, 3))), "expected a uint8 RGB picture"),
        (
            lambda _: predict(see_colors(), make_dataset().val),
            "received a PreparedSplit: predict_f",
        ),
        (lambda _: seglib.check_dataset(make_dataset()), "received a PreparedDataset"),
        (lambda _: predict(see_colors(), np.zeros((9, 9), np.uint8)), r"received uint8 \(9, 9\)"),
        (lambda _: evaluate(see_colors(), Pairs([])), "empty"),
        (lambda _: evaluate(see_colors(), Pairs([], STREET)), "trained for"),
        (lambda _: seglib.combine_scales(see_colors((None, 32))), "takes any size"),
        (lambda _: morph_labels(BELL, "dilate"), "expected one of dilation, erosion, .* 'dilate'"),
        (lambda _: fill_holes(np.zeros((2, 3, 3), int)), r"ids \(height, width\), received"),
        (lambda _: separate_instances(np.zeros((3, 4))), "ids .* received float64"),
        (lambda _: encode_rle([[0, 2]]), "labels == class_id"),
        (lambda _: decode_rle("1 2 3", (2, 3)), "expected 'start length start length ...'"),
        (lambda _: decode_rle("0 2", (2, 3)), "within 6 pixels from 1 on"),
        (lambda _: decode_rle("1 9223372036854775807", (2, 3)), "expected 'start length"),
        (lambda _: decode_rle("4 2 1 4", (2, 3)), "no overlap"),
        (lambda _: decode_rle("1 x", (2, 3)), "received '1 x'"),
        (lambda p: write_submission(p / "s", [("a", [[1]])] * 2, STREET), "'a': it occurs twice"),
        (lambda p: write_submission(p / "s", [("a", [[7]])], STREET), r"'a': ids \[7\] are no cl"),
        (lambda p: read_rows(p, "a,tree,1 1"), "image 'a', class 'tree': 'tree' is not known"),
        (lambda p: read_rows(p, "b,road,1 1"), "'b' is not known"),
        (lambda p: read_rows(p, "a,road,5 1"), "image 'a', class 'road': expected 'start length"),
        (lambda p: read_rows(p, 'a,road,1 2\na,"sky, blue",2 1'), "already of another class"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, call, words):
    with pytest.raises(ValueError, match=words):
        call(tmp_path)
