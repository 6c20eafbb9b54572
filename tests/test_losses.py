import keras
import numpy as np
import pytest
from keras_checks import check_loss
from scipy.special import log_softmax, softmax

from seglib.losses import (
    CrossEntropy,
    CrossEntropyDice,
    Dice,
    Focal,
    LovaszSoftmax,
    OneHotLoss,
    Tversky,
    adapt_loss,
)

WEIGHTS = [0.5, 2.0, 1.0, 3.0]
ALL = [CrossEntropy, Focal, Dice, Tversky, LovaszSoftmax, CrossEntropyDice]


def make_case(seed=0, classes=4, ignore_label=None):
    random = np.random.default_rng(seed)
    y_true = random.integers(0, classes - 1, (3, 5, 6))  # the last class is absent
    if ignore_label is not None:
        y_true[random.random(y_true.shape) < 0.3] = ignore_label
    return y_true.astype(np.uint8), random.normal(0, 3, (3, 5, 6, classes)).astype(np.float32)


def reference_cross_entropy(y_true, logits, weights, ignore_label):
    losses, total = 0.0, 0.0
    for label, scores in zip(y_true.ravel(), log_softmax(logits.reshape(-1, 4), -1), strict=True):
        if label != ignore_label:
            losses -= weights[label] * scores[label]
            total += weights[label]
    return losses / total


def reference_dice(y_true, logits, ignore_label):
    probabilities, scores = softmax(logits, -1), []
    valid = y_true != ignore_label
    for label in range(logits.shape[-1]):
        truth = y_true[valid] == label
        if truth.any():
            guess = probabilities[valid][:, label]
            scores.append(2 * guess[truth].sum() / (guess.sum() + truth.sum()))
    return 1 - np.mean(scores)


@pytest.mark.parametrize("ignore_label", [None, 1, 255])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_the_weighted_mean_over_the_pixels_that_count(weights, ignore_label):
    y_true, logits = make_case(ignore_label=ignore_label)
    expected = reference_cross_entropy(y_true, logits, weights or [1] * 4, ignore_label)
    loss = CrossEntropy(weights, ignore_label)
    np.testing.assert_allclose(float(loss(y_true, logits)), expected, rtol=1e-5)


@pytest.mark.parametrize("ignore_label", [None, 255])
def test_cross_entropy_without_weights_is_that_of_keras(ignore_label):
    y_true, logits = make_case(ignore_label=ignore_label)
    keras_loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=ignore_label
    )
    expected = float(keras_loss(y_true, logits))
    answer = float(CrossEntropy(ignore_label=ignore_label)(y_true, logits))
    np.testing.assert_allclose(answer, expected, rtol=1e-5)


@pytest.mark.parametrize("ignore_label", [None, 1, 255])
def test_dice_is_averaged_over_the_classes_that_are_there(ignore_label):
    y_true, logits = make_case(ignore_label=ignore_label)
    expected = reference_dice(y_true, logits, ignore_label)
    np.testing.assert_allclose(float(Dice(ignore_label)(y_true, logits)), expected, rtol=1e-5)


def test_dice_of_classes_that_are_all_there_is_that_of_keras():
    y_true, logits = make_case()
    y_true[0, 0, 0] = 3
    keras_loss = keras.losses.Dice(axis=(0, 1, 2))
    expected = np.mean(keras_loss(keras.ops.one_hot(y_true, 4), softmax(logits, -1)))
    np.testing.assert_allclose(float(Dice()(y_true, logits)), expected, rtol=1e-4)


def test_dice_known_answers():
    y_true = np.array([[[0, 0], [1, 1]]])
    sure = 50 * np.eye(3, dtype=np.float32)
    assert float(Dice()(y_true, sure[y_true])) == pytest.approx(0, abs=1e-6)
    assert float(Dice()(y_true, sure[1 - y_true])) == pytest.approx(1, abs=1e-6)
    # Class 0 on all four pixels: 2·2 / (4 + 2) for class 0 and nothing for class 1.
    assert float(Dice()(y_true, sure[0 * y_true])) == pytest.approx(1 - (2 / 3 + 0) / 2)


def reference_focal(y_true, logits, weights, ignore_label, gamma):
    losses, total = 0.0, 0.0
    for label, scores in zip(y_true.ravel(), log_softmax(logits.reshape(-1, 4), -1), strict=True):
        if label != ignore_label:
            losses -= weights[label] * (1 - np.exp(scores[label])) ** gamma * scores[label]
            total += weights[label]
    return losses / total


@pytest.mark.parametrize("gamma", [0.5, 2, 5])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_loss_is_that_of_a_plain_loop(weights, gamma):
    y_true, logits = make_case(ignore_label=255)
    expected = reference_focal(y_true, logits, weights or [1] * 4, 255, gamma)
    answer = float(Focal(weights, 255, gamma=gamma)(y_true, logits))
    np.testing.assert_allclose(answer, expected, rtol=1e-4)


def test_focal_loss_is_that_of_keras():
    y_true, logits = make_case()
    keras_loss = keras.losses.CategoricalFocalCrossentropy(alpha=1, gamma=2, from_logits=True)
    expected = float(keras_loss(keras.ops.one_hot(y_true, 4), logits))
    np.testing.assert_allclose(float(Focal()(y_true, logits)), expected, rtol=1e-4)


def test_focal_loss_without_focus_is_cross_entropy():
    y_true, logits = make_case(ignore_label=255)
    expected = float(CrossEntropy(WEIGHTS, 255)(y_true, logits))
    answer = float(Focal(WEIGHTS, 255, gamma=0)(y_true, logits))
    np.testing.assert_allclose(answer, expected, rtol=1e-6)


def reference_tversky(y_true, logits, ignore_label, alpha, beta, gamma):
    probabilities, losses = softmax(logits, -1), []
    valid = y_true != ignore_label
    for label in range(logits.shape[-1]):
        truth, guess = y_true[valid] == label, probabilities[valid][:, label]
        if truth.any():
            found, missed, claimed = (
                guess[truth].sum(),
                (1 - guess[truth]).sum(),
                guess[~truth].sum(),
            )
            index = found / (found + alpha * claimed + beta * missed)
            losses.append((1 - index) ** (1 / gamma))
    return np.mean(losses)


@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(0.3, 0.7, 1), (1, 1, 1), (0.3, 0.7, 4 / 3)])
@pytest.mark.parametrize("ignore_label", [None, 1, 255])
def test_tversky_loss_is_that_of_a_plain_loop(ignore_label, alpha, beta, gamma):
    y_true, logits = make_case(ignore_label=ignore_label)
    expected = reference_tversky(y_true, logits, ignore_label, alpha, beta, gamma)
    loss = Tversky(ignore_label, alpha=alpha, beta=beta, gamma=gamma)
    np.testing.assert_allclose(float(loss(y_true, logits)), expected, rtol=1e-5)


def test_tversky_loss_is_that_of_keras():
    y_true, logits = make_case()
    y_true[0, 0, 0] = 3
    # Keras 3.15 takes truth for prediction and the other way round, so that alpha is beta there.
    keras_loss = keras.losses.Tversky(alpha=0.7, beta=0.3, axis=(0, 1, 2))
    expected = np.mean(keras_loss(keras.ops.one_hot(y_true, 4), softmax(logits, -1)))
    answer = float(Tversky(alpha=0.3, beta=0.7)(y_true, logits))
    np.testing.assert_allclose(answer, expected, rtol=1e-4)


def reference_lovasz(y_true, logits, ignore_label):
    """The definition: set after set of the largest errors, each by the Jaccard index it costs."""
    probabilities, losses = softmax(logits, -1), []
    valid = y_true != ignore_label
    for label in range(logits.shape[-1]):
        truth, guess = y_true[valid] == label, probabilities[valid][:, label]
        if not truth.any():
            continue
        errors = np.where(truth, 1 - guess, guess)
        wrong, before, loss = np.zeros(len(truth), bool), 0.0, 0.0
        for place in np.argsort(-errors):
            wrong[place] = True
            claimed = truth ^ wrong
            cost = 1 - (truth & claimed).sum() / (truth | claimed).sum()
            loss, before = loss + errors[place] * (cost - before), cost
        losses.append(loss)
    return np.mean(losses)


@pytest.mark.parametrize("ignore_label", [None, 1, 255])
def test_lovasz_softmax_is_that_of_its_definition(ignore_label):
    y_true, logits = make_case(ignore_label=ignore_label)
    expected = reference_lovasz(y_true, logits, ignore_label)
    answer = float(LovaszSoftmax(ignore_label)(y_true, logits))
    np.testing.assert_allclose(answer, expected, rtol=1e-5)


def test_lovasz_softmax_of_sure_answers_is_the_jaccard_loss():
    y_true, _ = make_case()
    guess = np.random.default_rng(5).integers(0, 4, y_true.shape)
    scores = [
        ((y_true == c) & (guess == c)).sum() / ((y_true == c) | (guess == c)).sum()
        for c in np.unique(y_true)
    ]
    answer = float(LovaszSoftmax()(y_true, 100 * np.eye(4, dtype=np.float32)[guess]))
    assert answer == pytest.approx(1 - np.mean(scores), abs=1e-6)


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: Focal(gamma=-1), "expected gamma to be a finite number ≥ 0, received -1"),
        (lambda: Focal([1, -1]), "finite weight of at least 0"),
        (lambda: Tversky(alpha=np.nan), "expected alpha to be a finite number"),
        (lambda: Tversky(gamma=0), "expected gamma to be a finite number ≥ 0.01"),
        (lambda: Tversky(alpha=0, beta=0), "both 0"),
    ],
)
def test_numbers_that_make_no_loss_are_refused(create, message):
    with pytest.raises(ValueError, match=message):
        create()


def test_the_sum_is_the_sum():
    y_true, logits = make_case(ignore_label=255)
    both = float(CrossEntropyDice(WEIGHTS, 255, dice_weight=0.5)(y_true, logits))
    parts = float(CrossEntropy(WEIGHTS, 255)(y_true, logits)), float(Dice(255)(y_true, logits))
    assert both == pytest.approx(parts[0] + 0.5 * parts[1], rel=1e-6)


@pytest.mark.parametrize("loss", ALL)
def test_ignored_pixels_do_not_count_whatever_is_predicted(loss):
    y_true, logits = make_case(ignore_label=255)
    changed = logits.copy()
    changed[y_true == 255] = np.random.default_rng(1).normal(0, 9, changed[y_true == 255].shape)
    measure = loss(ignore_label=255)
    assert float(measure(y_true, changed)) == pytest.approx(float(measure(y_true, logits)), 1e-6)


@pytest.mark.parametrize("loss", ALL)
def test_a_batch_with_nothing_to_learn_costs_nothing(loss):
    _, logits = make_case()
    assert float(loss(ignore_label=7)(np.full(logits.shape[:3], 7), logits)) == 0


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropy(),
        CrossEntropy(WEIGHTS, 255),
        Focal(WEIGHTS, 255, gamma=1.5),
        Dice(255),
        Tversky(255, alpha=0.2, beta=0.8, gamma=4 / 3),
        LovaszSoftmax(255),
        CrossEntropyDice(WEIGHTS, 255),
    ],
    ids=lambda loss: loss.name,
)
def test_losses_keep_the_contract(loss):
    check_loss(loss, *make_case(ignore_label=255 if loss.get_config()["ignore_label"] else None))


KERAS_LOSSES = [
    keras.losses.BinaryCrossentropy(),
    keras.losses.BinaryFocalCrossentropy(from_logits=True),
    keras.losses.CategoricalCrossentropy(),
    keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    keras.losses.CategoricalFocalCrossentropy(),
    keras.losses.CategoricalHinge(),
    keras.losses.CosineSimilarity(),
    keras.losses.Dice(),
    keras.losses.Dice(axis=(0, 1, 2)),
    keras.losses.Hinge(),
    keras.losses.Huber(),
    keras.losses.KLDivergence(),
    keras.losses.LogCosh(),
    keras.losses.MeanAbsoluteError(),
    keras.losses.MeanSquaredError(),
    keras.losses.MeanSquaredLogarithmicError(),
    keras.losses.Poisson(),
    keras.losses.SparseCategoricalCrossentropy(),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
    keras.losses.SquaredHinge(),
    keras.losses.Tversky(alpha=0.3, beta=0.7),
]


@pytest.mark.parametrize("loss", KERAS_LOSSES, ids=lambda loss: loss.name)
def test_losses_of_keras_take_label_maps_and_logits(loss):
    y_true, logits = make_case(ignore_label=255)
    adapted = adapt_loss(loss, 255)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(adapted))
    assert float(again(y_true, logits)) == float(adapted(y_true, logits))
    others = np.where((y_true == 255)[..., None], 5 - logits, logits)
    assert float(adapted(y_true, others)) == pytest.approx(float(adapted(y_true, logits)), rel=1e-6)
    layer = keras.layers.Conv2D(4, 1, kernel_initializer=keras.initializers.GlorotUniform(1))
    model = keras.Sequential([keras.Input(logits.shape[1:]), layer])
    model.compile(keras.optimizers.SGD(0.01), adapted, run_eagerly=True)
    losses = [float(model.train_on_batch(logits, y_true)) for _ in range(4)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_an_adapted_loss_is_that_of_keras_on_one_hot_truth():
    y_true, logits = make_case(ignore_label=255)
    valid = (y_true != 255)[..., None]
    truth = np.eye(4, dtype=np.float32)[np.where(y_true == 255, 0, y_true)] * valid
    tversky = keras.losses.Tversky(alpha=0.3, beta=0.7, axis=(0, 1, 2))
    expected = float(np.mean(tversky(truth, softmax(logits, -1) * valid)))
    assert float(OneHotLoss(tversky, 255)(y_true, logits)) == pytest.approx(expected, rel=1e-5)
    sparse = adapt_loss(keras.losses.SparseCategoricalCrossentropy(), 255)
    expected = reference_cross_entropy(y_true, logits, [1] * 4, 255)
    assert float(sparse(y_true, logits)) == pytest.approx(expected, rel=1e-5)


# Shares of classes, as mixup makes them


def make_shares(seed=0):
    """Shares of two classes, with pixels that are ignored in one or both; class 3 is absent."""
    random = np.random.default_rng(seed)
    first, second = random.integers(0, 3, (2, 3, 5, 6))
    share = random.uniform(0, 1, (3, 1, 1))
    known = random.random((2, 3, 5, 6)) < 0.7
    eye = np.eye(4)
    shares = (share * known[0])[..., None] * eye[first]
    shares += ((1 - share) * known[1])[..., None] * eye[second]
    return shares.astype(np.float32), random.normal(0, 3, (3, 5, 6, 4)).astype(np.float32)


def reference_soft_cross_entropy(shares, logits, weights):
    losses, total = 0.0, 0.0
    for row, scores in zip(shares.reshape(-1, 4), log_softmax(logits.reshape(-1, 4), -1),
                           strict=True):  # fmt: skip
        for share, weight, score in zip(row, weights, scores, strict=True):
            losses -= share * weight * score
            total += share * weight
    return losses / total


def reference_soft_dice(shares, logits):
    counted = softmax(logits, -1) * shares.sum(-1, keepdims=True)
    scores = []
    for share, guess in zip(shares.reshape(-1, 4).T, counted.reshape(-1, 4).T, strict=True):
        if share.any():
            overlap = (share.sum() + guess.sum() - np.abs(share - guess).sum()) / 2
            scores.append(2 * overlap / (share.sum() + guess.sum()))
    return 1 - np.mean(scores)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_soft_losses_are_those_of_a_plain_loop(weights):
    shares, logits = make_shares()
    cross_entropy = reference_soft_cross_entropy(shares, logits, weights or [1] * 4)
    dice = reference_soft_dice(shares, logits)
    for ignore_label in (None, 255):
        answers = [loss(shares, logits) for loss in (
            CrossEntropy(weights, ignore_label), Dice(ignore_label),
            CrossEntropyDice(weights, ignore_label),
        )]  # fmt: skip
        expected = [cross_entropy, dice, cross_entropy + dice]
        np.testing.assert_allclose([float(answer) for answer in answers], expected, rtol=1e-5)


ON_IDS_AND_SHARES = [
    CrossEntropy(WEIGHTS, 255),
    CrossEntropy(ignore_label=255),
    Focal(WEIGHTS, 255),
    Dice(255),
    Tversky(255, gamma=4 / 3),
    LovaszSoftmax(255),
    CrossEntropyDice(WEIGHTS, 255, dice_weight=0.5),
    OneHotLoss(keras.losses.Tversky(alpha=0.3, beta=0.7, axis=(0, 1, 2)), 255),
    OneHotLoss(keras.losses.CategoricalFocalCrossentropy(), 255),
    OneHotLoss(keras.losses.CategoricalCrossentropy(from_logits=True), 255),
]


@pytest.mark.parametrize("loss", ON_IDS_AND_SHARES, ids=lambda loss: loss.name)
def test_one_hot_shares_cost_what_ids_cost(loss):
    y_true, logits = make_case(ignore_label=255)
    shares = np.eye(256, dtype=np.float32)[y_true][..., :4]  # an ignored pixel is all 0
    np.testing.assert_allclose(float(loss(shares, logits)), float(loss(y_true, logits)), rtol=1e-5)


@pytest.mark.parametrize("loss", ON_IDS_AND_SHARES, ids=lambda loss: loss.name)
def test_one_hot_shares_teach_what_ids_teach(loss):
    y_true, logits = make_case(ignore_label=255)
    shares = np.eye(256, dtype=np.float32)[y_true][..., :4]
    weights = []
    for truth in (y_true, shares):
        layer = keras.layers.Conv2D(4, 1, kernel_initializer=keras.initializers.GlorotUniform(1))
        model = keras.Sequential([keras.Input(logits.shape[1:]), layer])
        model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
        model.train_on_batch(logits, truth)
        weights.append(model.get_weights()[0])
    np.testing.assert_allclose(*weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [CrossEntropy(WEIGHTS), Focal(), Dice(), Tversky(), LovaszSoftmax(), CrossEntropyDice(WEIGHTS)],
)
def test_soft_losses_learn_finitely_and_survive_extremes(loss):
    shares, logits = make_shares()
    assert np.isfinite(float(loss(shares, 1e4 * logits)))
    assert float(loss(0 * shares, logits)) == 0
    low = float(loss(shares, keras.ops.cast(logits, "bfloat16")))
    np.testing.assert_allclose(low, float(loss(shares, logits)), rtol=0.02)
    model = keras.Sequential([keras.Input(logits.shape[1:]), keras.layers.Conv2D(4, 1)])
    model.compile(keras.optimizers.SGD(0.1), loss)
    losses = [float(model.train_on_batch(logits, shares)) for _ in range(5)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("loss", [Dice(), Tversky(), LovaszSoftmax()], ids=lambda x: x.name)
def test_shares_of_half_known_pixels_are_best_met_by_equal_probabilities(loss):
    """As of mixup, where a pixel is ignored in one of the two pairs."""
    shares = np.array([[[[0.3, 0]], [[0, 0.6]], [[1, 0]]]], np.float32)
    sure = np.log(np.array([[[[1, 1e-6]], [[1e-6, 1]], [[1, 1e-6]]]], np.float32))
    best = float(loss(shares, sure))
    assert best == pytest.approx(0, abs=1e-4)
    for pixel in range(3):
        for share in (0, 0.05, 0.2):
            other = sure.copy()
            other[0, pixel] *= share  # less sure
            assert float(loss(shares, other)) > best + 1e-3


def test_shares_are_best_met_by_equal_probabilities():
    shares = np.array([[[[0.75, 0.25]], [[0.5, 0.5]], [[0, 0]]]], np.float32)
    equal = np.log(np.maximum(shares, 1e-6))
    assert float(Dice()(shares, equal)) == pytest.approx(0, abs=1e-5)
    best = float(CrossEntropy()(shares, equal))
    assert best == pytest.approx((-0.75 * np.log(0.75) - 0.25 * np.log(0.25) + np.log(2)) / 2)
    for change in (-0.5, 0.5):
        other = equal + np.array([change, 0], np.float32)
        assert float(Dice()(shares, other)) > 1e-2
        assert float(CrossEntropy()(shares, other)) > best


def test_the_loss_of_a_blend_is_that_of_both_truths():
    """Numerators and weights add, whatever is ignored in one of the two."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (1, 4, 5, 3)).astype(np.float32)
    first, second = random.integers(0, 4, (2, 1, 4, 5))  # 3 is ignored
    soft = np.stack([0.3 * np.eye(4)[first], 0.7 * np.eye(4)[second]]).sum(axis=0)[..., :3]
    counts = [0.3 * (first < 3).sum(), 0.7 * (second < 3).sum()]
    measure = CrossEntropy(ignore_label=3)
    parts = [float(measure(truth, logits)) for truth in (first, second)]
    expected = np.average(parts, weights=counts)
    answer = float(measure(soft.astype(np.float32), logits))
    assert answer == pytest.approx(expected, rel=1e-5)


def test_losses_of_our_own_are_left_as_they_are():
    loss = CrossEntropyDice(WEIGHTS, 255)
    assert adapt_loss(loss, 255) is loss


@pytest.mark.parametrize("weights", [[1, np.nan], [1, np.inf], [-1, 1], [[1, 2]]])
def test_weights_that_are_no_weights_are_refused(weights):
    with pytest.raises(ValueError, match="finite weight of at least 0"):
        CrossEntropy(weights)
