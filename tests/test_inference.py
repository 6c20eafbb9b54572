import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from small_runs import make_dataset
from small_runs import make_model as make_unetpp

import seglib
from seglib import labelling, resize_model
from seglib.classes import ClassTable
from seglib.images import fit_image
from seglib.inference import evaluate, get_scorer, predict, predict_probabilities
from seglib.labelling import (
    Scorer,
    label_pictures,
    label_probabilities,
    measure_probabilities,
)
from seglib.models import ClassLogits, model_classes, model_fit, set_model_classes

COLORS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90)]


def make_model(size=(32, 32), ignore_label=None, fit="stretch"):
    """A model whose class is the colour: logits are red, green and blue, and 1 for class 3."""
    image = keras.Input((*size, 3))
    scores = keras.layers.Conv2D(4, 1)(keras.layers.Rescaling(1 / 20)(image))
    model = keras.Model(image, ClassLogits()(scores, image))
    model.layers[-2].set_weights([np.eye(3, 4)[None, None], np.array([0, 0, 0, 1.0])])
    table = ClassTable(list("rgbx"), COLORS, ignore_label=ignore_label)
    set_model_classes(model, table, fit=fit)
    return model


def paint(labels):
    return np.array(COLORS, np.uint8)[labels]


@pytest.fixture(scope="module")
def model():
    return make_model()


def blocks(height, width, seed=0, side=8, classes=3):
    """A label map of square blocks, cut to a size."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, classes, (-(-height // side), -(-width // side)))
    return np.kron(coarse, np.ones((side, side), int))[:height, :width].astype(np.uint8)


def test_a_picture_of_the_models_size_is_labelled_exactly(model):
    labels = blocks(32, 32, side=1)
    answer = predict(model, paint(labels))
    np.testing.assert_array_equal(answer, labels)
    assert answer.dtype == np.uint8


@pytest.mark.parametrize("size", [(64, 96), (33, 50), (20, 20), (1, 7)])
def test_any_size_comes_back_as_it_was(model, size):
    labels = np.zeros(size, np.uint8)
    labels[:, size[1] // 2 :] = 1
    answer = predict(model, paint(labels))
    assert answer.shape == size
    if min(size) >= 20:
        assert (answer == labels).mean() > 0.95


def test_batches_and_lists_answer_like_single_pictures(model):
    pictures = [paint(blocks(40, 48, seed)) for seed in range(18)]
    singles = [predict(model, picture) for picture in pictures]
    batch = predict(model, np.stack(pictures))
    assert batch.shape == (18, 40, 48)
    np.testing.assert_array_equal(batch, singles)
    mixed = predict(model, [pictures[0], pictures[1][:33, :35]])
    assert isinstance(mixed, list)
    np.testing.assert_array_equal(mixed[0], singles[0])
    assert mixed[1].shape == (33, 35)


def test_large_pictures_are_scored_in_small_batches(model, monkeypatch):
    pictures = [paint(blocks(40, 48, seed)) for seed in range(5)]
    expected, scorer, sizes = predict(model, pictures), get_scorer(model), []

    def note_size(batch):
        sizes.append(len(batch))
        return scorer.score(batch)

    monkeypatch.setattr(labelling, "BATCH_PIXELS", 2 * 32 * 32)
    answers = label_pictures(dataclasses.replace(scorer, score=note_size), pictures)
    np.testing.assert_array_equal(answers, expected)
    assert sizes == [2, 2, 1]
    assert predict(model, []) == []
    assert predict(model, np.empty((0, 20, 30, 3), np.uint8)).shape == (0, 20, 30)


def test_of_pictures_in_tiles_one_at_a_time_is_held(monkeypatch):
    """Their planes are of the pictures' own size."""
    model, pictures, held = make_model((32, 32)), [paint(blocks(48, 64))] * 3, []
    score = labelling._score_pictures

    def note_pictures(scorer, pictures, *options):
        held.append(len(pictures))
        return score(scorer, pictures, *options)

    monkeypatch.setattr(labelling, "_score_pictures", note_pictures)
    assert len(predict(model, pictures, tile=True)) == 3
    assert held == [1, 1, 1]


def test_scales_are_averaged():
    model, picture = make_unetpp(), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    own, large = (predict_probabilities(m, picture) for m in (model, resize_model(model, (64, 64))))
    both = seglib.combine_scales(model, (2, 1))
    np.testing.assert_allclose(predict_probabilities(both, picture), (own + large) / 2, atol=1e-5)
    np.testing.assert_array_equal(predict(both, picture), ((own + large) / 2).argmax(axis=-1))
    flipped = predict_probabilities(both, picture[:, ::-1].copy(), flip=True)[:, ::-1]
    np.testing.assert_allclose(predict_probabilities(both, picture, flip=True), flipped, atol=1e-5)


def test_the_models_own_scale_is_the_model(boxed):
    for model in (make_unetpp(), boxed):
        alone = seglib.combine_scales(model, (1,))
        picture = paint(blocks(40, 56))
        np.testing.assert_allclose(
            predict_probabilities(alone, picture), predict_probabilities(model, picture), atol=1e-6
        )


def test_scales_are_evaluated_as_predicted():
    own = make_model((32, 32))
    model = seglib.combine_scales(own)
    assert model.scorer.size == (48, 48)
    picture = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    labels = predict(own, picture)
    share = (predict(model, picture) == labels).mean()
    assert 0 < share < 1
    split = Pairs([(picture, labels)], ClassTable(list("rgbx"), COLORS))
    assert evaluate(model, split).pixel_accuracy == pytest.approx(share)
    assert evaluate(own, split).pixel_accuracy == 1


@pytest.mark.parametrize(
    ("size", "scales", "message"),
    [
        ((32, 32), (), "scales to be numbers > 0"),
        ((32, 32), (1, 0), "scales to be numbers > 0"),
        ((32, 32), "big", "scales to be numbers > 0"),
        ((32, 32), (1, float("nan")), "scales to be numbers > 0"),
        ((None, 32), (1, 2), "takes pictures of any"),
    ],
)
def test_scales_that_cannot_be_are_refused(size, scales, message):
    with pytest.raises(ValueError, match=message):
        seglib.combine_scales(make_model(size), scales)


def test_a_side_of_any_length_is_the_pictures():
    model, labels = make_model((None, 32)), blocks(48, 32)
    np.testing.assert_array_equal(predict(model, paint(labels)), labels)


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"tile": True}])
def test_the_ignored_class_is_never_answered(options):
    model = make_model(ignore_label=0)
    picture = paint(np.zeros((40, 40), int))
    assert (predict(model, picture, **options) != 0).all()
    probabilities = predict_probabilities(model, picture, **options)
    assert (probabilities[..., 0] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_classes_that_change_are_noticed_at_once():
    model = make_model()
    picture = paint(np.zeros((32, 32), int))
    assert (predict(model, picture) == 0).all()
    set_model_classes(model, ClassTable(list("rgbx"), COLORS, ignore_label=0))
    assert (predict(model, picture) != 0).all()


def test_weights_that_change_are_used_at_once():
    model = make_model()
    picture = paint(np.zeros((32, 32), int))
    predict(model, picture)
    model.layers[-2].set_weights([np.eye(3, 4)[None, None], np.array([0, 99.0, 0, 0])])
    assert (predict(model, picture) == 1).all()


def test_flip_averages_with_the_mirrored_picture():
    image = keras.Input((32, 32, 3))
    column = keras.ops.cast(keras.ops.arange(32), "float32")[None, None, :, None] / 16 - 1
    scores = keras.ops.concatenate([image / 100 + column] * 1, axis=-1)
    model = keras.Model(image, scores)
    picture = paint(blocks(32, 32))
    plain = predict_probabilities(model, picture)
    mirrored = predict_probabilities(model, np.ascontiguousarray(picture[:, ::-1]))[:, ::-1]
    answer = predict_probabilities(model, picture, flip=True)
    np.testing.assert_allclose(answer, (plain + mirrored) / 2, atol=1e-6)


@pytest.mark.parametrize("size", [(32, 32), (40, 70), (20, 50), (97, 33)])
def test_tiles_see_the_picture_at_its_own_scale(model, size):
    labels = blocks(*size, side=1)  # single pixels would be lost by any resizing
    np.testing.assert_array_equal(predict(model, paint(labels), tile=True), labels)


def test_tiles_blend_to_probabilities(model):
    probabilities = predict_probabilities(model, paint(blocks(50, 70)), tile=True)
    assert probabilities.shape == (50, 70, 4)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_tiles_blend_without_seams():
    """A model that is sure at one side of its tile only: blended, nothing jumps."""
    image = keras.Input((32, 32, 3))
    ramp = keras.ops.cast(keras.ops.arange(32), "float32")[None, None, :, None] / 8 - 2
    model = keras.Model(image, keras.ops.concatenate([0 * image + ramp, 0 * image], axis=-1))
    answer = predict_probabilities(model, np.zeros((32, 96, 3), np.uint8), tile=True)[..., 0]
    assert np.abs(np.diff(answer, axis=1)).max() < 0.04
    assert np.ptp(answer) > 0.1


@pytest.mark.parametrize("size", [(90, 61), (31, 45), (32, 64)])
def test_probabilities_are_enlarged_bilinearly(model, size):
    """Pillow's own bilinear resize of floats, which only interpolates when it enlarges."""
    picture = paint(blocks(*size))
    small = predict_probabilities(model, seglib.resize_image(picture, (32, 32)))
    if min(size) < 32:
        size = (64, 45)
        picture = np.asarray(Image.fromarray(picture).resize((45, 64)))
        small = predict_probabilities(model, seglib.resize_image(picture, (32, 32)))
    expected = np.stack(
        [
            np.asarray(
                Image.fromarray(np.ascontiguousarray(plane)).resize(
                    size[::-1], Image.Resampling.BILINEAR
                )
            )
            for plane in np.moveaxis(small, -1, 0)
        ],
        axis=-1,
    )
    answer = predict_probabilities(model, picture)
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    labels = predict(model, picture)
    np.testing.assert_array_equal(labels, answer.argmax(axis=-1))


def test_pictures_larger_than_the_model_are_antialiased(model):
    """A fine red and green stripe is neither red nor green at a quarter of the size."""
    labels = np.tile([0, 1], (128, 64))
    probabilities = predict_probabilities(model, paint(labels))
    inside = probabilities[:, 8:-8]  # at the border the filter sees half of a stripe more
    np.testing.assert_allclose(inside[..., 0], inside[..., 1], atol=0.05)


@pytest.mark.parametrize("size", [(40, 40), (33, 57)])
def test_models_of_free_size_work_at_the_pictures_size(size):
    model = make_model(size=(None, None))
    labels = blocks(*size, side=1)
    np.testing.assert_array_equal(predict(model, paint(labels)), labels)
    answers = predict(model, [paint(labels), paint(labels[:35])])
    np.testing.assert_array_equal(answers[1], labels[:35])


@pytest.mark.parametrize(
    "picture",
    [np.zeros((32, 32, 3)), np.zeros((32, 32), np.uint8), np.zeros((1, 32, 32, 4), np.uint8)],
)
def test_what_is_no_picture_is_refused(model, picture):
    with pytest.raises(ValueError, match="expected a uint8 RGB picture"):
        predict(model, picture)


# Letterbox


@pytest.fixture(scope="module")
def boxed():
    return make_model(ignore_label=255, fit="letterbox")


@pytest.mark.parametrize("size", [(24, 32), (32, 17), (1, 32)])
@pytest.mark.parametrize("flip", [False, True])
def test_letterboxed_pictures_come_back_without_their_padding(boxed, size, flip):
    """They fit as they are: each pixel is labelled, which stretched ones would blur."""
    labels = blocks(*size, side=1)
    np.testing.assert_array_equal(predict(boxed, paint(labels), flip=flip), labels)


@pytest.mark.parametrize("size", [(64, 96), (90, 20), (360, 480), (20, 27), (1, 7)])
def test_letterboxed_pictures_of_any_size_come_back_as_they_were(boxed, size):
    labels = np.zeros(size, np.uint8)
    labels[:, size[1] // 2 :] = 1
    answer = predict(boxed, paint(labels))
    assert answer.shape == size
    if min(size) >= 20:
        assert (answer == labels).mean() > 0.95
    assert predict_probabilities(boxed, paint(labels)).shape == (*size, 4)


def test_a_letterboxing_model_sees_the_picture_in_grey():
    seen = []
    scorer = Scorer(
        score=lambda batch: seen.append(batch) or np.zeros((*batch.shape[:3], 3)),
        size=(32, 32),
        fit="letterbox",
        num_classes=3,
    )
    picture = paint(blocks(30, 70))
    label_pictures(scorer, [picture, paint(blocks(70, 30))])
    np.testing.assert_array_equal(seen[0][0], fit_image(picture, (32, 32), fit="letterbox"))
    assert (seen[0][0][[0, -1]] == 128).all()
    assert (seen[0][1][:, [0, -1]] == 128).all()
    assert measure_probabilities(scorer, picture).shape == (30, 70, 3)


def test_a_grey_picture_is_refused_as_a_whole(model):
    with pytest.raises(ValueError, match=r"received uint8 \(40, 50\)"):
        predict(model, np.zeros((40, 50), np.uint8))


@pytest.mark.parametrize("size", [(64, 96), (33, 50), (20, 20), (1, 7), (32, 24), (97, 131)])
def test_labels_are_the_most_probable_of_all_pixels(size):
    """Though they are computed only where neighbours differ."""
    random = np.random.default_rng(0)
    probabilities = gaussian_filter(random.random((32, 24, 5)), (2, 2, 0)).astype(np.float32)
    probabilities[:, :2] = probabilities[:3] = 0.2  # of equals the first
    scorer = Scorer(
        score=lambda batch: probabilities[None], size=(32, 24), fit="stretch", num_classes=5
    )
    planes = measure_probabilities(scorer, np.zeros((*size, 3), np.uint8))
    labels = label_probabilities(probabilities, size, [1, 2, 3, 5, 8])
    np.testing.assert_array_equal(labels, np.array([1, 2, 3, 5, 8])[planes.argmax(axis=-1)])
    assert labels.dtype == np.uint8
    assert label_probabilities(probabilities, size, [1, 2, 3, 5, 256]).dtype == np.uint16


def test_lists_and_tiles_and_free_sizes_are_letterboxed_alike(boxed):
    pictures = [paint(blocks(40, 64, 0)), paint(blocks(64, 40, 1)), paint(blocks(9, 9, 2))]
    for answer, picture in zip(predict(boxed, pictures), pictures, strict=True):
        np.testing.assert_array_equal(answer, predict(boxed, picture))
    fine = blocks(40, 70, side=1)
    np.testing.assert_array_equal(predict(boxed, paint(fine), tile=True), fine)
    free = make_model(size=(None, None), fit="letterbox")
    np.testing.assert_array_equal(predict(free, paint(fine)), fine)


def test_evaluation_fits_pictures_as_the_model_learned():
    """And the data's own table, which ignores nothing, is still the model's."""
    table = ClassTable(list("rgbx"), COLORS)
    truth = blocks(16, 32, side=1)
    stretched, boxed = make_model(), make_model(ignore_label=255, fit="letterbox")
    pairs = Pairs([(paint(truth), truth)], table)
    assert evaluate(boxed, pairs).pixel_accuracy == 1
    assert evaluate(boxed, Pairs(pairs, model_classes(boxed))).pixel_accuracy == 1
    assert evaluate(boxed, pairs).confusion.sum() == truth.size
    with pytest.raises(ValueError, match="trained for"):
        evaluate(stretched, Pairs(pairs, model_classes(boxed)))


def test_a_model_trained_on_letterboxed_pairs_predicts_so(tmp_path):
    dataset = dataclasses.replace(make_dataset(), fit="letterbox")
    seglib.train(make_unetpp(), dataset, run_dir=tmp_path, epochs=1, precision="float32")
    model = seglib.load_model(tmp_path)
    assert model_fit(model) == "letterbox"
    assert predict(model, np.zeros((20, 50, 3), np.uint8)).shape == (20, 50)


# Evaluation


class Pairs(list):
    """A split in memory."""

    def __init__(self, pairs, classes):
        super().__init__(pairs)
        self.classes = classes
        self.names = [f"image_{i}" for i in range(len(pairs))]


def test_evaluation_counts_what_prediction_gives():
    table = ClassTable(list("rgbx"), COLORS, ignore_label=3)
    model = make_model(ignore_label=3)
    pairs = []
    for seed in range(3):
        truth = blocks(32, 32, seed)
        seen = truth.copy()
        seen[:4] = (seen[:4] + 1) % 3  # an eighth of the pixels is painted wrongly
        truth[-4:] = 3  # an eighth is ignored
        pairs.append((paint(seen), truth))
    report = evaluate(model, Pairs(pairs, table))
    assert report.pixel_accuracy == pytest.approx(1 - 4 / 28)
    assert report.confusion.sum() == 3 * 28 * 32
    assert list(report.per_class.index) == ["r", "g", "b"]
    assert (report.per_image["latency_ms"] > 0).all()
    assert report.per_image["image"].tolist() == ["image_0", "image_1", "image_2"]


def test_evaluation_scores_at_the_pictures_own_size():
    model = make_model()
    truth = blocks(64, 96, side=1)  # too fine for the model's own size
    report = evaluate(model, Pairs([(paint(truth), truth)], ClassTable(list("rgbx"), COLORS)))
    assert report.confusion.sum() == 64 * 96
    assert report.pixel_accuracy < 0.8
    tiled = evaluate(model, Pairs([(paint(truth), truth)], ClassTable(list("rgbx"), COLORS)),
                     tile=True)  # fmt: skip
    assert tiled.pixel_accuracy == 1


def test_evaluation_refuses_nothing_and_other_classes(model):
    with pytest.raises(ValueError, match="empty"):
        evaluate(model, Pairs([], ClassTable(list("rgbx"), COLORS)))
    with pytest.raises(ValueError, match="trained for"):
        evaluate(model, Pairs([], ClassTable(list("abcd"), COLORS)))


def test_the_compiled_function_is_made_once(model, monkeypatch):
    picture = paint(blocks(32, 32))
    predict(model, picture)
    monkeypatch.setattr("seglib.inference.create_probabilities", None)
    predict(model, picture)
