import keras
import numpy as np
import pytest
from keras_checks import check_loss
from scipy.special import log_softmax, softmax

from seglib import losses
from seglib.losses import CrossEntropy, CrossEntropyDice, Dice, Focal, LovaszSoftmax, Tversky

WEIGHTS = [0.5, 2.0, 1.0, 3.0]


def make_labels(ignore_label=None):
    """Labels of 4 classes, of which the last is absent, and logits."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (3, 5, 6))
    if ignore_label is not None:
        labels[random.random(labels.shape) < 0.3] = ignore_label
    return labels.astype(np.uint8), random.normal(0, 3, (3, 5, 6, 4)).astype(np.float32)


def make_shares():
    """Shares of two classes, as of mixup, with pixels that are ignored in one or both."""
    random = np.random.default_rng(0)
    first, second = np.eye(4)[random.integers(0, 3, (2, 3, 5, 6))]
    share, known = random.uniform(0, 1, (3, 1, 1)), random.random((2, 3, 5, 6)) < 0.7
    shares = (share * known[0])[..., None] * first + ((1 - share) * known[1])[..., None] * second
    return shares.astype(np.float32)


# The definitions, on shares of classes in NumPy; truth is `(…, 4)`, all zeros where ignored


def reference_cross_entropy(truth, logits, class_weights=(1, 1, 1, 1), gamma=0):
    costs = (1 - softmax(logits, -1)) ** gamma * -log_softmax(logits, -1)
    weights = truth * class_weights
    return (weights * costs).sum() / weights.sum()


def reference_tversky(truth, logits, alpha=0.5, beta=0.5, gamma=1):
    guess = softmax(logits, -1) * truth.sum(-1, keepdims=True)
    found, pixels, claimed = np.sum([np.minimum(truth, guess), truth, guess], axis=(1, 2, 3))
    wrong = alpha * (claimed - found) + beta * (pixels - found)
    return np.mean((wrong / (found + wrong))[pixels > 0] ** (1 / gamma))


def reference_lovasz(truth, logits):
    """Set after set of the largest errors, each by the Jaccard index that it costs."""
    known, costs = truth.sum(-1) > 0, []
    for share, guess in zip(truth[known].T > 0, softmax(logits, -1)[known].T, strict=True):
        errors = np.where(share, 1 - guess, guess)
        order, wrong, lost = np.argsort(-errors), np.zeros(len(share), bool), [0]
        for place in order:
            wrong[place] = True
            claimed = share ^ wrong
            lost.append(1 - (share & claimed).sum() / (share | claimed).sum())
        if share.any():
            costs.append(errors[order] @ np.diff(lost))
    return np.mean(costs)


def reference_sum(truth, logits, class_weights, dice_weight):
    dice = reference_tversky(truth, logits)
    return reference_cross_entropy(truth, logits, class_weights) + dice_weight * dice


@pytest.mark.parametrize("ignore_label", [None, 1, 255])
@pytest.mark.parametrize(
    ("kind", "define", "options"),
    [
        (CrossEntropy, reference_cross_entropy, {}),
        (CrossEntropy, reference_cross_entropy, {"class_weights": WEIGHTS}),
        (Focal, reference_cross_entropy, {"class_weights": WEIGHTS, "gamma": 1.5}),
        (Dice, reference_tversky, {}),
        (Tversky, reference_tversky, {"alpha": 0.3, "beta": 0.7}),
        (Tversky, reference_tversky, {"alpha": 1, "beta": 1, "gamma": 4 / 3}),
        (LovaszSoftmax, reference_lovasz, {}),
        (CrossEntropyDice, reference_sum, {"class_weights": WEIGHTS, "dice_weight": 0.5}),
    ],
)
def test_losses_are_those_of_their_definitions(kind, define, options, ignore_label):
    loss = kind(ignore_label=ignore_label, **options)
    labels, logits = make_labels(ignore_label)
    known = labels != ignore_label
    truth = np.eye(4, dtype=np.float32)[np.where(known, labels, 0)] * known[..., None]
    truths = [(labels, truth), (truth, truth), (make_shares(), make_shares())]
    for given, shares in truths[: 2 if kind is LovaszSoftmax else 3]:
        expected = define(shares, logits, **options)
        assert float(loss(given, logits)) == pytest.approx(expected, rel=1e-5)


def test_dice_known_answers():
    truth = np.array([[[0, 0], [1, 1]]])
    sure = 50 * np.eye(3, dtype=np.float32)
    # Class 0 on all four pixels: 2·2 / (4 + 2) for class 0 and nothing for class 1.
    for answer, expected in ((truth, 0), (1 - truth, 1), (0 * truth, 1 - (2 / 3 + 0) / 2)):
        assert float(Dice()(truth, sure[answer])) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        Focal(WEIGHTS, 255, gamma=1.5),
        Tversky(255, gamma=4 / 3),
        LovaszSoftmax(255),
        CrossEntropyDice(WEIGHTS, 255),
        losses.OneHotLoss(keras.losses.Tversky(alpha=0.3, axis=(0, 1, 2)), 255),
        losses.OneHotLoss(keras.losses.CategoricalCrossentropy(from_logits=True), 255),
    ],
    ids=lambda loss: loss.name,
)
def test_losses_keep_the_contract_and_ignored_pixels_cost_nothing(loss):
    labels, logits = make_labels(255)
    check_loss(loss, labels, logits)
    changed = np.where((labels == 255)[..., None], 5 - logits, logits)
    assert float(loss(labels, changed)) == pytest.approx(float(loss(labels, logits)), 1e-6)
    if not isinstance(loss, losses.OneHotLoss):  # whose sums over nothing are Keras' own
        assert float(loss(np.full_like(labels, 255), logits)) == 0
        assert float(loss(0 * make_shares(), logits)) == 0
    assert np.isfinite(float(loss(make_shares(), 1e4 * logits)))
    low = float(loss(make_shares(), keras.ops.cast(logits, "bfloat16")))
    assert low == pytest.approx(float(loss(make_shares(), logits)), rel=0.02)


def test_a_compiled_loss_is_the_same():
    labels, logits = make_labels(255)
    loss = Focal(WEIGHTS, 255, gamma=1.5)
    compiled = losses.compile_loss(loss)
    assert float(compiled(labels, logits)) == pytest.approx(float(loss(labels, logits)), rel=1e-6)
    assert compiled.get_config() == loss.get_config()


# Losses of other tasks: a picture of sky (0), road (1) and void (2), which is ignored

PICTURE = np.array([[[0, 0, 1], [0, 2, 1]]])


def test_boundaries_of_a_known_picture():
    """The columns of sky and road meet in the first row; void makes no boundary."""
    truth, known = np.array([0, 1, 1, 0, 0]), [0, 1, 2, 3, 5]
    logits = np.random.default_rng(0).normal(size=(1, 2, 3, 1)).astype(np.float32)
    right = np.where(truth, 1, -1) * logits.ravel()[known]
    shares = np.eye(3, dtype=np.float32)[PICTURE] * (PICTURE != 2)[..., None]
    for given in (PICTURE, shares):
        found = float(losses.BoundaryLoss(ignore_label=2)(given, logits))
        assert found == pytest.approx(np.log1p(np.exp(-right)).mean(), rel=1e-5)


def test_presence_of_a_known_picture():
    sky = np.array([[[0, 0, 2], [0, 0, 2]]])
    logits = np.array([[1.0, -2, 9], [3, 1, 9]], np.float32)  # void, which is ignored, is not asked
    right = np.array([[1, 1], [1, -1]]) * logits[:, :2]
    loss = losses.PresenceLoss(2)
    found = float(loss(np.concatenate([PICTURE, sky]), logits))
    assert found == pytest.approx(np.log1p(np.exp(-right)).mean(), rel=1e-5)
    assert losses.PresenceLoss.from_config(loss.get_config()).get_config() == loss.get_config()


def test_an_uncertain_task_counts_less_and_pays_for_it():
    labels, logits = make_labels()
    loss = CrossEntropy()
    uncertain = losses.UncertainLoss(loss, keras.Variable(0.7))
    expected = np.exp(-0.7) * float(loss(labels, logits)) + 0.35
    assert float(uncertain(labels, logits)) == pytest.approx(expected, rel=1e-6)
    again = losses.UncertainLoss.from_config(uncertain.get_config())
    assert again.log_variance == pytest.approx(0.7)


def ask(loss, **options):
    return losses.create_loss(loss, **{"ignore_label": 255, "num_classes": 4, **options})


@pytest.mark.parametrize(
    ("loss", "same"),
    [
        (None, CrossEntropyDice(None, 255)),
        ("SparseCategoricalCrossentropy", CrossEntropy(None, 255)),
        (keras.losses.sparse_categorical_crossentropy, CrossEntropy(None, 255)),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), CrossEntropy(None, 255)),
        ("dice", keras.losses.Dice()),
        (
            keras.losses.categorical_focal_crossentropy,
            keras.losses.CategoricalFocalCrossentropy(from_logits=True),
        ),
        (keras.losses.MeanSquaredError(), keras.losses.MeanSquaredError()),
    ],
)
def test_what_a_user_asks_for(loss, same):
    labels, logits = make_labels(255)
    same = same if isinstance(same, losses.LabelLoss) else losses.OneHotLoss(same, 255)
    np.testing.assert_allclose(ask(loss)(labels, logits), same(labels, logits), rtol=1e-5)


def test_functions_and_losses_of_ones_own_work():
    def cross_entropies(labels, logits):
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    labels, logits = make_labels()
    found, expected = (loss(labels, logits) for loss in (ask(cross_entropies), CrossEntropy()))
    assert float(found) == pytest.approx(float(expected))
    own = Focal(WEIGHTS, 255)
    assert ask(own) is own
    weighted = ask(None, class_weights=WEIGHTS)
    assert weighted.get_config() == CrossEntropyDice(WEIGHTS, 255).get_config()
    shares = ask("sparse_categorical_crossentropy", soft=True)  # which takes ids alone
    assert shares.get_config() == CrossEntropy(None, 255).get_config()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Focal([1, np.inf]), "weight ≥ 0"),
        (lambda: Focal([1, -1]), "weight ≥ 0 for each of the classes"),
        (lambda: CrossEntropyDice([[1, 2]]), "weight ≥ 0"),
        (lambda: Dice(ignore_label=1.5), "ignore_label to be a whole number or None, received 1.5"),
        (lambda: ask(None, class_weights=[1, 2]), "for each of 4 classes"),
        (lambda: ask(Dice(), class_weights=WEIGHTS), "give them to the loss itself"),
        (lambda: ask("hinges"), "name of keras.losses, received 'hinges'"),
        (lambda: ask(keras.losses.CategoricalCrossentropy()), "losses.Cat.*from_logits=True"),
    ],
)
def test_wrong_arguments_say_what_was_expected(call, words):
    with pytest.raises(ValueError, match=words):
        call()
