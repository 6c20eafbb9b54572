import dataclasses
import functools
import itertools
import tracemalloc

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import ndimage
from scipy.special import expit, softmax
from skimage import morphology
from small_runs import make_dataset

import seglib
from seglib import evaluate, predict, predict_heads, predict_probabilities, predicting
from seglib.classes import ClassTable
from seglib.images import Pixels, fit_image
from seglib.models import ClassLogits, set_model_classes
from seglib.preparing import PreparedSplit
from seglib.reports import class_dice, confusion_matrix, mean_iou
from seglib.scenes import THINGS, draw_scene

COLORS = np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90)], np.uint8)
TABLE, OTHERS = (ClassTable(list(names), COLORS) for names in ("rgbx", "abcd"))
IGNORING = dataclasses.replace(TABLE, ignore_label=3)
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def make_scorer(score, size=(32, 32), *, fit="stretch", num_classes=4, **options):
    return predicting.Scorer(score=score, size=size, fit=fit, num_classes=num_classes, **options)


def see_colors(size=(32, 32), *, fit="stretch", ignore_label=None):
    """A Scorer that knows classes by their colour: red, green, blue, and grey for class 3."""
    table = dataclasses.replace(TABLE, ignore_label=ignore_label)

    def score(batch):
        logits = np.pad(batch / 20, [(0, 0), (0, 0), (0, 0), (0, 1)], constant_values=1)
        return softmax(logits[..., list(table.scored_ids)], axis=-1).astype(np.float32)

    return make_scorer(score, size, fit=fit, classes=table)


def blocks(height, width, seed=0, side=8):
    """A label map of square blocks of three classes."""
    coarse = np.random.default_rng(seed).integers(0, 3, (height, width), np.uint8)
    return coarse.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]


def make_split(pictures, truths, classes=TABLE):
    return PreparedSplit(pictures, truths, [f"image_{i}" for i in range(len(truths))], classes)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_any_size_comes_back_alone_in_lists_and_in_batches(fit):
    scorer, sizes = see_colors(fit=fit), [(32, 32), (64, 96), (33, 50), (20, 20), (1, 7), (90, 20)]
    truths = [np.uint8(np.indices(size)[1] >= size[1] // 2) for size in sizes]
    listed = predict(scorer, [COLORS[labels] for labels in truths])
    assert isinstance(listed, list)
    for labels, answer in zip(truths, listed, strict=True):
        assert_array_equal(predict(scorer, COLORS[labels]), answer)
        assert (answer.shape, answer.dtype) == (labels.shape, np.uint8)
        assert (answer == labels).mean() > 0.95 or min(labels.shape) < 20
    batch = np.stack([COLORS[blocks(40, 48, seed)] for seed in range(18)])
    assert_array_equal(predict(scorer, batch), [predict(scorer, picture) for picture in batch])
    assert predict(scorer, []) == []
    assert predict(scorer, batch[:0]).shape == (0, 40, 48)


def test_large_pictures_are_scored_in_small_batches():
    sizes = []

    def score(batch):
        sizes.append(len(batch))
        return np.ones((len(batch), 4, 4, 300), np.float32)

    scorer = make_scorer(score, (1024, 1536), num_classes=300)
    answer = predict(scorer, np.zeros((3, 9, 9, 3), np.uint8))
    assert (sizes, answer.shape, answer.dtype) == ([2, 1], (3, 9, 9), np.uint16)


def test_flip_averages_with_the_mirrored_picture():
    ramp = np.tile(np.linspace(0.1, 0.9, 32, dtype=np.float32), (1, 32, 1))
    scorer = make_scorer(lambda batch: np.stack([ramp, 1 - ramp], axis=-1), num_classes=2)
    planes = predict_probabilities(scorer, np.zeros((32, 96, 3), np.uint8), flip=True)
    assert_allclose(planes, 0.5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"tile": True}])
def test_several_models_are_averaged_and_the_ignored_class_is_never_answered(options):
    models = [see_colors(ignore_label=0), see_colors((None, None), ignore_label=0)]
    models += [see_colors((64, 48), fit="letterbox", ignore_label=0)]
    picture = COLORS[blocks(50, 70)]
    mean = np.mean([predict_probabilities(each, picture, **options) for each in models], axis=0)
    assert (mean[..., 0] == 0).all()
    assert_allclose(mean.sum(axis=-1), 1, rtol=1e-5)
    assert_allclose(predict_probabilities(models, picture, **options), mean, atol=1e-6)
    batch = predict(models, np.stack([picture, picture]), **options)
    assert_array_equal(batch, [mean.argmax(axis=-1)] * 2)
    cropped, labels = predict(models, [picture[:40], picture], thresholds={1: 0.9}, **options)
    assert_array_equal(labels, predicting.apply_thresholds(mean, {1: 0.9}))
    assert cropped.shape == (40, 70)


@pytest.mark.parametrize("size", [(32, 32), (40, 70), (20, 50), (97, 133)])
def test_tiles_see_the_picture_at_its_own_scale(size):
    labels, plain = blocks(*size, side=1), see_colors()  # resizing would lose single pixels
    picture, native = COLORS[labels], dataclasses.replace(plain, native=((32, 32), size))
    for answer in (
        predict(plain, picture, tile=True),
        predict(native, picture),
        predict(native, [picture])[0],
        predict_probabilities(native, picture).argmax(axis=-1),
        predict(see_colors((None, None)), [picture])[0],  # where a model takes any size
        predict(see_colors((size[0], None)), [picture])[0],
    ):
        assert_array_equal(answer, labels)
    assert_array_equal(predict(native, picture, tile=False), predict(plain, picture))
    assert evaluate(native, make_split([picture], [labels])).pixel_accuracy == 1


def blend_by_hand(scorer, picture):
    """What tiles of 32×32 amount to, all probabilities in memory at once."""
    rows, columns = picture.shape[:2]
    missing = [(0, max(0, 32 - rows)), (0, max(0, 32 - columns)), (0, 0)]
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
    monkeypatch.setattr(predicting, "BUFFER", tiles * 4 * 32 * 32 * 4)
    tilt = np.random.default_rng(0).random((32, 32, 4), np.float32)  # a tile's places differ
    scorer = make_scorer(lambda batch: (batch[..., [0, 1, 2, 0]] / np.float32(255) + tilt) / 9)
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    answer = predict_probabilities(scorer, picture, tile=True)
    assert_allclose(answer, blend_by_hand(scorer, picture), atol=1e-6)
    assert_array_equal(predict(scorer, picture, tile=True), answer.argmax(axis=-1))


@pytest.mark.parametrize("tile", [True, False])
def test_a_picture_of_a_hundred_megapixels_takes_little_memory(tile):
    ramp = np.linspace(0, 1, 256 * 4, dtype=np.float32).reshape(256, 4)
    scorer = make_scorer(lambda x: np.broadcast_to(ramp, (*x.shape[:2], 256, 4)), (256, 256))
    picture = np.broadcast_to(np.uint8(9), (10_000, 10_000, 3))
    tracemalloc.start()
    labels = predict(scorer, picture, tile=tile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.shape == (10_000, 10_000)
    assert peak < 0.6e9


@pytest.mark.parametrize("size", [(64, 96), (33, 50), (20, 20), (1, 7), (32, 24), (97, 131)])
def test_labels_are_the_most_probable_of_probabilities_enlarged_bilinearly(size):
    """Though they are computed only where neighbours differ."""
    random = np.random.default_rng(0)
    scores = ndimage.gaussian_filter(random.random((32, 24, 5)), (2, 2, 0)).astype(np.float32)
    scores[:, :2] = scores[:3] = 0.2  # of equals the first
    scorer = make_scorer(lambda _: scores[None], (32, 24), num_classes=5)
    planes = predict_probabilities(scorer, np.zeros((*size, 3), np.uint8))
    assert_array_equal(predict(scorer, np.zeros((*size, 3), np.uint8)), planes.argmax(axis=-1))
    if min(size) >= 32:  # where it enlarges, Pillow's bilinear resize only interpolates
        plane = Image.fromarray(scores[..., 2].copy())
        expected = plane.resize(size[::-1], Image.Resampling.BILINEAR)
        assert_allclose(planes[..., 2], expected, atol=1e-5)


def test_evaluation_counts_what_prediction_gives():
    truths = np.stack([blocks(32, 32, seed) for seed in range(3)])
    seen = truths.copy()
    seen[:, :4] = (seen[:, :4] + 1) % 3  # an eighth of the pixels is painted wrongly
    truths[:, -4:] = 3  # an eighth is ignored
    report = evaluate(see_colors(ignore_label=3), make_split(COLORS[seen], truths, IGNORING))
    assert report.pixel_accuracy == pytest.approx(1 - 4 / 28)
    assert report.confusion.sum() == 3 * 28 * 32
    assert list(report.per_class.index) == ["r", "g", "b"]
    assert (report.per_image["latency_ms"] > 0).all()
    assert report.per_image["image"].tolist() == ["image_0", "image_1", "image_2"]
    fine = blocks(64, 96, side=1)  # too fine for the model's own size
    split = make_split([COLORS[fine]], [fine])
    assert evaluate(see_colors(), split).pixel_accuracy < 0.8
    boxed = see_colors((96, 96), fit="letterbox", ignore_label=255)  # TABLE ignores nothing
    assert evaluate(boxed, split).pixel_accuracy == 1


def create_network(grey=1):
    """A network whose logits are of colours, as those of `see_colors`."""
    image = keras.Input((32, 32, 3))
    network = keras.Model(image, keras.layers.Conv2D(4, 1)(keras.layers.Rescaling(1 / 20)(image)))
    network.set_weights([np.eye(3, 4)[None, None], np.array([0, 0, 0, grey])])
    return network


@pytest.fixture(scope="module")
def model():
    network = create_network()
    return keras.Model(network.input, ClassLogits()(network.output, network.input))


def test_a_keras_model_is_compiled_once_and_follows_its_classes_and_weights(model):
    labels, red = blocks(40, 56, side=1), COLORS[np.zeros((32, 32), int)]
    for options in ({}, {"tile": True}):
        expected = predict_probabilities(see_colors(), COLORS[labels], **options)
        answer = predict_probabilities(model, COLORS[labels], **options)
        assert_allclose(answer, expected, atol=1e-5)
    score = predicting.get_scorer(model).score
    assert predicting.get_scorer(model).score == score
    set_model_classes(model, dataclasses.replace(TABLE, ignore_label=0), fit="letterbox")
    assert predicting.get_scorer(model).fit == "letterbox"
    assert (predict(model, red) != 0).all()
    set_model_classes(model, TABLE)
    before = model.get_weights()
    model.set_weights([before[0], np.array([0, 99.0, 0, 0])])
    assert (predict(model, red) == 1).all()
    model.set_weights(before)


def test_a_keras_model_of_ones_own_is_understood():
    """The ignored class of the data is not scored; probabilities are taken as they are."""
    labels, network = blocks(32, 32), create_network(grey=5)
    picture = COLORS[np.where(np.arange(32) < 8, 3, labels)]  # the model would call class 3 grey
    expected = keras.ops.softmax(network(picture[None]))[0]
    for outputs in (network.output, {"masks": keras.layers.Softmax()(network.output)}):
        own = keras.Model(network.input, outputs)
        report = evaluate(own, make_split([picture], [labels], IGNORING))
        assert report.confusion[:, 3].sum() == 0
        assert_allclose(predict_probabilities(own, picture), expected, atol=1e-4)


def test_scales_are_averaged(model):
    both = seglib.combine_scales(model, (2, 1))
    assert both.size == (64, 64)
    small, large = (predict_probabilities(see_colors((n, n)), PICTURE) for n in (32, 64))
    assert_allclose(predict_probabilities(both, PICTURE), (small + large) / 2, atol=1e-5)
    labels = predict(both, PICTURE)
    assert evaluate(both, make_split([PICTURE], [labels])).pixel_accuracy == 1
    assert 0 < (predict(model, PICTURE) == labels).mean() < 1


def test_heads_answer_at_the_pictures_own_size():
    heads = ("segmentation", "boundary", "presence")
    tasks = seglib.create_unetpp_model((32, 32, 3), num_classes=2, filters=(4, 6), heads=heads)
    for fit, size in (("stretch", (32, 32)), ("letterbox", (16, 32))):
        set_model_classes(tasks, ClassTable(["a", "b"], COLORS[:2], ignore_label=255), fit=fit)
        picture = PICTURE[: size[0], : size[1]]
        answers = predict_heads(tasks, picture)
        boundary, presence, *_ = tasks(fit_image(picture, (32, 32), fit=fit)[None], training=False)
        assert_allclose(answers["presence"], expit(presence[0]), rtol=1e-4)
        assert (answers["boundary"].shape, answers["boundary"].dtype) == (size, np.float32)
        whole = expit(np.asarray(boundary))[0, ..., 0]
        shown = whole[8:24] if fit == "letterbox" else whole
        assert_allclose(answers["boundary"], shown, rtol=1e-4)


FOUR = [[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7], [0.55, 0.45, 0.0]]


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ([0.6] * 3, [0, 0, 2, 0]),  # where no class reaches its threshold, the most probable one
        ({0: 0.45}, [0, 1, 2, 0]),
        ([0.45, 0.4, 0.2], [0, 2, 2, 0]),
        ({0: 0.9, 2: 0.7}, [1, 1, 2, 1]),  # 0.7 is reached, in float32 too
        ({2: 0.71}, [0, 0, 1, 0]),  # the next best of the third pixel is class 1
        ({0: 0.6, 1: 0.6}, [2, 2, 2, 0]),  # what has the probability 0 reaches no threshold
    ],
)
def test_apply_thresholds_takes_the_next_class(thresholds, expected):
    labels = predicting.apply_thresholds(np.float32([FOUR]), thresholds)
    assert (labels.tolist(), labels.dtype) == ([expected], np.uint8)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_fitted_thresholds_are_nearly_the_best_of_all(seed, regions):
    """Objects that are seen weakly, and specks in pictures that show none; 9 is ignored."""
    random, labels = np.random.default_rng(seed), np.zeros((6, 24, 30), np.uint8)
    likely = np.full(labels.shape, 0.1)
    for number, row, column in random.integers(0, (6, 20, 20), (24, 3)):
        likely[number, row : row + 2, column : column + 3] = random.uniform(0.3, 0.8)
    labels[1::2, 4:14, 5:15] = 1
    likely[1::2, 4:14, 5:15] = random.uniform(0.25, 0.45, (3, 1, 1))
    labels[:, :, -2:] = 9
    probabilities = np.stack([1 - likely, likely], axis=-1).astype(np.float16)

    def score(thresholds):
        """Mean Dice a picture and class; without regions mean IoU of all pixels."""
        predicted = [predicting.apply_thresholds(planes, thresholds) for planes in probabilities]
        pairs = zip(labels, predicted, strict=True)
        matrices = [confusion_matrix(*pair, num_classes=2, ignore_label=9) for pair in pairs]
        return class_dice(matrices).mean() if regions else mean_iou(sum(matrices))

    fitted = predicting.fit_thresholds(probabilities, labels, ignore_label=9, regions=regions)
    pairs, sizes = itertools.product(np.arange(10) / 10, repeat=2), (0, 4, 8, 16, 32, 64, 128)
    every = itertools.product(pairs, sizes if regions else [0])
    best = max(score(predicting.Thresholds(pair, (0, size))) for pair, size in every)
    assert score(fitted) == pytest.approx(best, abs=0.01)
    assert score(fitted) > score({}) + 0.1
    if not regions:
        known = predicting.fit_thresholds(probabilities[:, :, :-2], labels[:, :, :-2])
        assert_array_equal(fitted, known)


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
    assert predicting.morph_labels(labels, operation).tolist() == expected


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("operation", ["dilation", "closing"])
def test_growing_is_scikit_images(operation, radius):
    # The image is padded so that scikit-image's own border rule plays no part.
    mask = np.pad(np.random.default_rng(0).random((30, 40)) < 0.4, 8)
    labels = predicting.morph_labels(mask.astype(int), operation, radius=radius)
    expected = getattr(morphology, operation)(mask.astype(np.uint8), morphology.disk(radius))
    assert_array_equal(labels, expected)


SPECKS = np.array([[0, 0, 0, 0, 2, 2, 2]] * 4, np.uint16)
SPECKS[[1, 2, 2], [1, 2, 5]] = 1, 1, 3


@pytest.mark.parametrize(
    ("min_size", "gone"), [(3, {1, 3}), (2, {3}), (1, set()), (1000, set()), ({1: 3, 2: 9}, {1})]
)
def test_small_regions_go_to_the_nearest(min_size, gone):
    """Corners connect; an image of small regions alone stays as it is."""
    labels = predicting.remove_small_regions(SPECKS, min_size=min_size)
    expected = np.where(np.isin(SPECKS, list(gone)), SPECKS[0], SPECKS)
    assert_array_equal(labels, expected)
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
    assert_array_equal(predicting.fill_holes(rings), expected)
    nested = np.pad(np.pad(np.full((3, 3), 2), 1, constant_values=1), 1)
    assert not predicting.fill_holes(nested).any()  # the larger of two rings wins


MORPH = [functools.partial(predicting.morph_labels, operation=x) for x in predicting.MORPHOLOGY]
REMOVE = functools.partial(predicting.remove_small_regions, min_size=3)


@pytest.mark.parametrize("function", [*MORPH, REMOVE, predicting.fill_holes])
def test_no_function_changes_its_input_or_invents_a_class(function):
    random = np.random.default_rng(0)
    for _ in range(30):
        labels = random.choice(np.array([0, 1, 2, 255], np.uint8), random.integers(1, 8, 2))
        before = labels.copy()
        received = function(labels)
        assert_array_equal(labels, before)
        assert (received.dtype, received.shape) == (labels.dtype, labels.shape)
        assert set(received.ravel().tolist()) <= set(labels.ravel().tolist())
        assert not np.shares_memory(received, labels)


BELL = np.ones((4, 7), int)  # two squares that touch over a neck of two pixels
BELL[[0, 3], 3] = 0
WALL = np.tile(np.eye(7)[3], (4, 1))
CORNER = WALL.copy()
CORNER[:3, 4:] = 1  # three pixels are left on the right


def test_without_a_boundary_what_touches_is_one():
    labels = np.array([[1, 0, 2, 2], [0, 1, 0, 2], [0, 0, 0, 0], [2, 2, 1, 1]])
    found = seglib.separate_instances(labels, class_ids=[1, 2], min_size=1)
    assert found.instances.tolist() == [[1, 0, 3, 3], [0, 1, 0, 3], [0, 0, 0, 0], [4, 4, 2, 2]]
    assert found.counts == {1: 2, 2: 2}
    assert found.instances.dtype == np.int32
    assert seglib.separate_instances(labels, min_size=1).counts == {0: 1, 1: 2, 2: 2}


@pytest.mark.parametrize(
    ("boundary", "options", "count"),
    [
        (0.4 * WALL, {}, 1),
        (0.4 * WALL, {"threshold": 0.3}, 2),
        (CORNER, {"min_size": 3}, 2),
        (CORNER, {"min_size": 4}, 1),  # small parts do not grow
        (BELL, {"min_size": 22}, 1),  # what boundaries fill stays one
        (BELL, {"min_size": 27}, 0),
    ],
)
def test_a_boundary_above_the_threshold_cuts_and_is_dealt_out(boundary, options, count):
    found = seglib.separate_instances(BELL, boundary, class_ids=[1], **options)
    assert found.counts == {1: count}
    assert_array_equal(found.instances > 0, BELL > 0 if count else 0 * BELL)
    if boundary is not CORNER:
        sides = found.instances[:, :3], found.instances[:, 4:]
        assert [set(side.flat) for side in sides] == [{min(count, 1)}, {count}]


def test_parts_grow_over_the_weakest_boundary_first():
    labels, boundary = np.ones((3, 8), int), np.tile([0, 0, 0.9, 0.6, 0.6, 0.6, 0, 0], (3, 1))
    found = seglib.separate_instances(labels, boundary, min_size=2)
    sure = np.delete(found.instances, 2, axis=1)  # both may take the highest
    assert sure.tolist() == [[1, 1, 2, 2, 2, 2, 2]] * 3
    assert seglib.separate_instances(np.ones((7, 7), int), np.eye(7)).counts == {1: 2}


def test_boxes_are_slices_of_the_objects():
    _, labels, _ = draw_scene(2, size=(90, 120))
    found = seglib.separate_instances(labels, class_ids=sorted(THINGS))
    assert len(found.boxes) == sum(found.counts.values()) > 5
    places = ndimage.find_objects(found.instances)
    for (number, row), (rows, columns) in zip(found.boxes.iterrows(), places, strict=True):
        mask = found.instances == number
        box = [rows.start, columns.start, rows.stop, columns.stop]
        assert row.tolist() == [labels[mask][0], *box, mask.sum()]
        assert mask.sum() >= 8
        assert len(set(labels[mask])) == ndimage.label(mask, np.ones((3, 3)))[1] == 1
    nothing = seglib.separate_instances(np.zeros((4, 5), int), class_ids=[1])
    assert (nothing.counts, len(nothing.boxes)) == ({1: 0}, 0)
    assert list(nothing.boxes) == ["class", "top", "left", "bottom", "right", "pixels"]


def see_twice(**change):
    return [see_colors(), dataclasses.replace(see_colors(), **change)]


NAN = make_scorer(lambda batch: np.nan * batch[..., [0, 1, 2, 2]])
ONE_CHANNEL = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(1, 1)])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: predict(see_colors(), make_dataset().val), "received a PreparedSplit: predict_f"),
        (lambda: seglib.check_dataset(make_dataset()), "received a PreparedDataset"),
        (lambda: predict(see_colors(), np.zeros((9, 9), np.uint8)), r"RGB .* uint8 \(9, 9\)"),
        (lambda: predict(NAN, PICTURE), "answers NaN, .* weights .*: load an earlier"),
        (lambda: predict(NAN, PICTURE, tile=True), "answers NaN, .* weights"),
        (lambda: predict(ONE_CHANNEL, PICTURE), "answers in one channel.* channel for each"),
        (lambda: predict_heads(create_network(), PICTURE), "no heads beside segmentation: crea"),
        (lambda: predict([], PICTURE), "an empty list"),
        (lambda: predict(see_twice(classes=OTHERS), PICTURE), r"same classes .* and \(\('a', 'b'"),
        (lambda: predict(see_twice(classes=IGNORING), PICTURE), r"2, 3\), .* and .*, \(0, 1, 2\)"),
        (lambda: predict(see_twice(classes=None), PICTURE), r"received \(\('r', .* and \(None"),
        (lambda: predict(see_twice(pixels=Pixels((3, 0, 1))), PICTURE), r"and .*bands=\(3, 0, 1\)"),
        (lambda: evaluate(see_colors(), make_split([], [])), "empty"),
        (lambda: evaluate(see_colors(), make_split([], [], OTHERS)), "trained for"),
        (lambda: seglib.combine_scales(see_colors((None, 32))), "takes any size"),
        (lambda: predicting.morph_labels(BELL, "dilate"), "one of dilation, erosion, .* 'dilate'"),
        (lambda: predicting.fill_holes(np.zeros((2, 3, 3), int)), r"ids \(height, width\), recei"),
        (lambda: seglib.separate_instances(np.zeros((3, 4))), "ids .* received float64"),
    ],
)
def test_what_is_wrong_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call()
