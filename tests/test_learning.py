import keras
import numpy as np
import pytest
from keras_checks import assert_same
from small_runs import TABLE, make_dataset, make_model, make_split

import seglib
from seglib import learning
from seglib.learning import Batches, Learner, resize_split
from seglib.losses import CrossEntropy
from seglib.recipes import DEFAULTS
from seglib.system import StopRequest

HEADS = ("segmentation", "boundary", "presence")
MIXED = seglib.Augmentation(scale=(0.7, 1.5), rotation=10, focus=0.5, mixup=0.3, cutmix=0.3)

# Batches


def shift(image, labels, seed):
    return image + np.uint8(seed % 50), labels


@pytest.mark.parametrize("augment", [None, seglib.Augmentation(), MIXED, shift])
def test_batches_are_a_function_of_seed_and_step(augment):
    split = make_split(5, 0)
    first, second = (Batches(split, 2, 1, augment=augment) for _ in "ab")
    assert first.steps_per_epoch == 3
    second[2]  # what was asked for before does not matter
    for step in (7, 11, 8):
        assert_same(first[step], second[step])
    resized = Batches(split, 3, 1, augment=augment)
    resized.batch_size = 2
    assert_same(resized[8], first[8])
    assert (first[0][0] != first[3][0]).any()
    assert (first[0][0] != Batches(split, 2, 2, augment=augment)[0][0]).any()
    labels = first[0][1]
    if augment is MIXED:  # shares of classes, none of the ignored one
        assert (labels.dtype, labels.shape) == (np.float32, (2, 32, 32, 3))
        assert not labels[..., 2].any()
        assert labels.sum(axis=-1).max() < 1 + 1e-6


def test_every_pair_is_seen_once_an_epoch_and_some_again():
    split = make_split(7, 0)
    batches = Batches(split, 3, 0)
    for epoch in range(2):
        seen = np.concatenate([batches[3 * epoch + i][0] for i in range(3)])
        assert sorted(map(bytes, seen[:7])) == sorted(map(bytes, split.images))
        np.testing.assert_array_equal(seen[7:], seen[:2])
    assert len(Batches(split, 9, 0)[0][0]) == 7


@pytest.mark.parametrize(("batch_size", "sampling"), [(3, None), (4, [1, 0, 0, 0])])
def test_a_pair_that_comes_twice_is_changed_in_another_way(batch_size, sampling):
    options = {"augment": seglib.Augmentation(), "sampling": sampling}
    batches = Batches(make_split(4, 0), batch_size, 0, **options)
    images = np.concatenate([batches[i][0] for i in range(batches.steps_per_epoch)])
    assert len(set(map(bytes, images))) == len(images)


def test_pairs_are_drawn_by_their_sampling_weights():
    split = make_split(4, 0)
    batches = Batches(split, 4, 0, sampling=[6, 0, 3, 1])
    drawn = [image for step in range(250) for image in batches[step][0]]
    shares = [np.mean([np.array_equal(image, each) for each in drawn]) for image in split.images]
    np.testing.assert_allclose(shares, [0.6, 0, 0.3, 0.1], atol=0.05)


def test_blended_pairs_are_shares_of_classes_changed_alike():
    split = seglib.oversample_patches(make_dataset(), method="smote", count=200, seed=0).train
    blended = int(np.flatnonzero(split.share < 1)[0])
    weights = np.arange(len(split)) == blended
    (image, *_), (labels, *_) = Batches(split, 2, 0, sampling=weights)[0]
    (first, own), (second, other) = split[blended], split.partner(blended)
    share = float(split.share[blended])
    np.testing.assert_allclose(image, share * first + (1 - share) * second.astype(float), atol=1)
    expected = share * np.eye(3)[own] + (1 - share) * np.eye(3)[other]
    np.testing.assert_allclose(labels[..., :2], expected[..., :2], atol=1e-6)


def test_a_split_is_resized_like_a_prepared_one():
    small, large = (make_split(4, 1, scale=scale) for scale in (1, 2))
    resized = resize_split(large, (32, 32))
    expected = [seglib.resize_image(image, (32, 32)) for image in large.images]
    assert_same((resized.images, resized.labels), (expected, small.labels))
    assert resize_split(small, (None, 32)) is small
    assert len(resize_split(large[:0], (32, 32))) == 0


# A learner


def make_linear():
    """One convolution, of which one can compute what it does."""
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(3, 1)])
    model.set_weights([np.full(weight.shape, 0.01) for weight in model.weights])
    return model


def make_learner(model, optimizer=None, **options):
    options = {**DEFAULTS, "precision": "float32", **options}
    loss = CrossEntropy(ignore_label=2)
    return Learner(model, optimizer or keras.optimizers.SGD(0.1), loss, options, TABLE)


def compute_step(split, rate):
    """Weights of `make_linear` after a step of gradient descent, with NumPy."""
    valid = split.labels != 2
    x, y = split.images[valid].astype(float), np.eye(3)[split.labels[valid]]
    kernel, bias = np.full((3, 3), 0.01), np.full(3, 0.01)
    shares = np.exp(x @ kernel + bias)
    error = (shares / shares.sum(axis=1, keepdims=True) - y) / len(y)
    return [[[kernel - rate * x.T @ error]], bias - rate * error.sum(axis=0)]


def test_a_step_is_one_of_gradient_descent_at_the_rate_that_is_given():
    split, model = make_split(4, 0), make_linear()
    learner = make_learner(model)
    logs = learner.step(split.images, split.labels, rate=1e-4)
    assert logs["loss"] == pytest.approx(np.log(3), rel=1e-4)
    assert learner.learning_rate() == pytest.approx(1e-4)
    assert_same(model.get_weights(), compute_step(split, 1e-4), rtol=1e-4)


def test_the_kept_copy_has_the_averages_and_is_scored_and_saved(tmp_path):
    split, model = make_split(4, 0), make_linear()
    learner = make_learner(model, seglib.AdamW(0.01, use_ema=True, ema_momentum=0.5))
    history = []
    for _ in range(2):
        learner.step(split.images, split.labels)
        history.append(model.get_weights()[0])
    learner.update_kept()
    # It follows closely at first: its momentum is t / (t + 10).
    average = np.average(history, axis=0, weights=[1, 10])
    np.testing.assert_allclose(learner.kept.get_weights()[0], average, rtol=1e-5)
    logits = learner.kept.predict_on_batch(split.images)[..., :2]
    accuracy = (logits.argmax(axis=-1) == split.labels)[split.labels != 2].mean()
    request = StopRequest()
    scores = learner.validate(split, 3, request)
    assert scores["pixel_accuracy"] == pytest.approx(accuracy)
    request.name = "Ctrl-C"
    assert learner.validate(split, 3, request) is None
    learner.save(tmp_path / "best.keras")
    saved = seglib.load_model(tmp_path / "best.keras")
    assert_same(saved.get_weights(), learner.kept.get_weights())


def test_float16_scales_the_loss_and_goes_on_in_float32():
    split = make_split(2, 0)
    halves = make_learner(make_linear(), seglib.AdamW(1e-3), precision="mixed_float16")
    halves.step(split.images, split.labels)
    whole = make_learner(make_linear(), seglib.AdamW(1e-3))
    whole.restore([np.array(variable) for variable in halves.variables])
    assert_same(whole.model.get_weights(), halves.model.get_weights())


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("OOM when allocating tensor", MemoryError, "4 pairs.*halve batch_size"),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes", MemoryError, "smaller images"),
        ("CUDA out of memory. Tried to allocate 20.00 MiB", MemoryError, "fewer filters"),
        ("no ROOM for 4 pairs", RuntimeError, "no ROOM"),
    ],
)
def test_a_step_that_does_not_fit_into_memory_says_what_to_do(monkeypatch, text, error, words):
    """As TensorFlow, JAX and PyTorch say it; other errors stay as they are."""

    def fail(*arguments, **options):
        raise RuntimeError(text)

    learner, split = make_learner(make_linear()), make_split(4, 0)
    monkeypatch.setattr(learner.model, "train_on_batch", fail)
    with pytest.raises(error, match=words):
        learner.step(split.images, split.labels)


# What a run is trained with


def test_tasks_are_weighed_by_what_is_given_or_learned():
    model, split = make_model(heads=HEADS), make_split(2, 0)
    count = len(model.trainable_variables)
    for given, learned in ((None, 3), ({}, 0)):
        learning.weigh_tasks(model, given)
        assert len(model.trainable_variables) == count + learned
    logits = [np.zeros(shape, np.float32) for shape in ((2, 32, 32, 1), (2, 3), (2, 32, 32, 3))]
    given = {"boundary": 2, "presence": 0.5}
    losses, weights = learning.create_task_losses(model, CrossEntropy(), given, 2)
    assert weights == [2, 0.5, 1]  # boundary, presence, segmentation
    values = [float(loss(split.labels, x)) for loss, x in zip(losses, logits, strict=True)]
    np.testing.assert_allclose(values, np.log([2, 2, 3]), rtol=1e-4)  # of float32 sums
    learned, _ = learning.create_task_losses(model, CrossEntropy(), None, 2)
    assert float(learned[0](split.labels, logits[0])) == pytest.approx(np.log(2), rel=1e-4)  # s = 0


def take(optimizer, **changes):
    return learning.take_optimizer({**DEFAULTS, "optimizer": optimizer, **changes}, changes)


def test_a_keras_optimizer_has_its_own_settings_and_trains_once():
    optimizer = keras.optimizers.SGD(0.5)
    taken, options = take(optimizer)
    assert taken is optimizer
    expected = {"learning_rate": 0.5, "ema": None, "schedule": "trapezoid"}
    assert expected.items() <= options.items()
    optimizer.build([keras.Variable(np.ones(3))])
    with pytest.raises(ValueError, match="has trained before: give train a new one"):
        take(optimizer)


def test_optimizers_are_created_by_name_with_their_options():
    taken, _ = take("adamw", ema=True, gradient_accumulation=2, weight_decay=0.1)
    assert type(taken) is seglib.AdamW
    assert (taken.ema_momentum, taken.gradient_accumulation_steps) == (0.98, 2)
    assert (taken.weight_decay, taken.encoder_rate) == (0.1, 0.2)
    assert type(take("muon")[0]) is seglib.Muon
    assert type(take("adam")[0]) is keras.optimizers.Adam  # which knows no encoder


def weigh(weights, heads=HEADS):
    learning.weigh_tasks(make_model(heads=heads), weights)


def draw(sampling):
    Batches(make_split(3, 0), 2, 0, sampling=sampling)


UNFIT = "≥ 0 for each of 3 training pairs, not all 0"


@pytest.mark.parametrize(
    ("call", "argument", "words"),
    [
        (weigh, {"edges": 1}, "the model's tasks are boundary, presence, segmentation"),
        (weigh, {"boundary": -1}, "numbers ≥ 0, received {'boundary': -1}"),
        (weigh, [1, 1, 1], "to be a dict of tasks"),
        (lambda x: weigh(x, ["segmentation"]), {"boundary": 1}, "none, since it has one head"),
        (take, "moun", "received 'moun'"),
        (lambda x: take(x, ema=0.9), seglib.Muon(), "its own ema, which would be ignored"),
        (lambda x: make_learner(make_linear()).restore(x), [np.zeros(3)], "numbers.*init_from="),
        *((draw, weights, UNFIT) for weights in ([1, 2], [-1, 1, 1], [np.nan, 1, 1], [0, 0, 0])),
    ],
)
def test_wrong_arguments(call, argument, words):
    with pytest.raises(ValueError, match=words):
        call(argument)


def test_precision_follows_the_gpu(monkeypatch):
    policies = []
    for capability in ((8, 0), ["10", "0"], (7, 5), (6, 0), (), ["gfx942"]):
        device = ("gpu", "a GPU", capability)
        monkeypatch.setattr(learning, "find_device", lambda device=device: device)
        policies.append(learning.choose_precision())
    assert policies == ["mixed_bfloat16"] * 2 + ["mixed_float16"] + ["float32"] * 3
