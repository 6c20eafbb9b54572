import json

import keras
import numpy as np
import pytest
from small_runs import TABLE, make_dataset, make_model, make_split

import seglib
from seglib import learning
from seglib.learning import Batches, Learner, resize_split
from seglib.losses import CrossEntropy
from seglib.recipes import DEFAULTS
from seglib.system import StopRequest

HEADS = ("segmentation", "boundary", "presence")
MIXED = seglib.Augmentation(
    scale=(0.7, 1.5), rotation=10, noise=5, focus=0.5, mixup=0.3, cutmix=0.3
)

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
        for a, b in zip(first[step], second[step], strict=True):
            np.testing.assert_array_equal(a, b)
    resized = Batches(split, 3, 1, augment=augment)
    resized.batch_size = 2
    np.testing.assert_array_equal(resized[8][0], first[8][0])
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


def test_what_fills_up_a_batch_or_is_drawn_twice_is_changed_in_another_way():
    split = make_split(4, 0)
    for options in ({"batch_size": 3}, {"batch_size": 4, "sampling": [1, 0, 0, 0]}):
        batches = Batches(split, seed=0, augment=seglib.Augmentation(), **options)
        images = np.concatenate([batches[i][0] for i in range(batches.steps_per_epoch)])
        assert len(set(map(bytes, images))) == len(images)


def test_pairs_are_drawn_by_their_sampling_weights():
    split = make_split(4, 0)
    batches = Batches(split, 4, 0, sampling=[6, 0, 3, 1])
    names = {image.tobytes(): i for i, image in enumerate(split.images)}
    drawn = [names[image.tobytes()] for i in range(250) for image in batches[i][0]]
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, [0.6, 0, 0.3, 0.1], atol=0.05)


def test_blended_pairs_are_shares_of_classes_changed_alike():
    data = seglib.oversample_patches(make_dataset(), method="smote", count=200, seed=0)
    split = data.train
    blended = int(np.flatnonzero(split.share < 1)[0])
    weights = np.arange(len(split)) == blended
    (image, *_), (labels, *_) = Batches(split, 2, 0, sampling=weights)[0]
    (first, own), (second, other) = split[blended], split.partner(blended)
    share = float(split.share[blended])
    np.testing.assert_allclose(image, share * first + (1 - share) * second.astype(float), atol=1)
    expected = share * np.eye(3)[own] + (1 - share) * np.eye(3)[other]
    np.testing.assert_allclose(labels[..., :2], expected[..., :2], atol=1e-6)


@pytest.mark.parametrize("sampling", [[1, 2], [-1, 1, 1], [np.nan, 1, 1], [0, 0, 0]])
def test_sampling_weights_that_cannot_be_drawn_by_are_refused(sampling):
    with pytest.raises(ValueError, match="≥ 0 for each of 3 training pairs, not all 0"):
        Batches(make_split(3, 0), 2, 0, sampling=sampling)


# A learner


def make_linear():
    """One convolution, of which one can compute what it does."""
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(3, 1)])
    model.set_weights([np.full(weight.shape, 0.01) for weight in model.weights])
    return model


def make_learner(model, optimizer=None, *, loss=None, **options):
    options = {**DEFAULTS, "precision": "float32", **options}
    loss = loss or CrossEntropy(ignore_label=2)
    return Learner(model, optimizer or keras.optimizers.SGD(0.1), loss, options, TABLE)


def compute_step(split, rate):
    """Weights of `make_linear` after a step of gradient descent, with NumPy."""
    x = split.images.reshape(-1, 3).astype(float)
    y, kernel, bias = split.labels.ravel(), np.full((3, 3), 0.01), np.full(3, 0.01)
    x, y = x[y != 2], y[y != 2]
    logits = x @ kernel + bias
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    error = (shares - np.eye(3)[y]) / len(y)
    return kernel - rate * x.T @ error, bias - rate * error.sum(axis=0)


def test_a_step_is_one_of_gradient_descent_at_the_rate_that_is_given():
    split, model = make_split(4, 0), make_linear()
    learner = make_learner(model)
    logs = learner.step(split.images, split.labels, rate=1e-4)
    assert logs["loss"] == pytest.approx(np.log(3), rel=1e-4)
    assert learner.learning_rate() == pytest.approx(1e-4)
    kernel, bias = compute_step(split, 1e-4)
    np.testing.assert_allclose(model.get_weights()[0][0, 0], kernel, rtol=1e-4)
    np.testing.assert_allclose(model.get_weights()[1], bias, rtol=1e-4)


def test_the_kept_copy_has_the_averages_and_is_scored_and_saved(tmp_path):
    split, model = make_split(4, 0), make_linear()
    learner = make_learner(model, seglib.AdamW(0.01, use_ema=True, ema_momentum=0.5))
    history = [model.get_weights()[0]]
    for _ in range(2):
        learner.step(split.images, split.labels)
        history.append(model.get_weights()[0])
    learner.update_kept()
    momentum = 1 / 11  # it follows closely at first: t / (t + 10)
    average = momentum * history[1] + (1 - momentum) * history[2]
    np.testing.assert_allclose(learner.kept.get_weights()[0], average, rtol=1e-5)
    scores = learner.validate(split, 3, StopRequest())
    logits = learner.kept.predict_on_batch(split.images)[..., :2]
    valid = split.labels != 2
    accuracy = (logits.argmax(axis=-1) == split.labels)[valid].mean()
    assert scores["pixel_accuracy"] == pytest.approx(accuracy)
    request = StopRequest()
    request.name = "Ctrl-C"
    assert learner.validate(split, 3, request) is None
    learner.save(tmp_path / "best.keras")
    saved = seglib.load_model(tmp_path / "best.keras")
    np.testing.assert_array_equal(saved.get_weights()[0], learner.kept.get_weights()[0])


def test_variables_are_restored_bit_for_bit_and_others_refused():
    split, models = make_split(2, 0), [make_model(dropout=0.5), make_model(dropout=0.5, seed=7)]
    first, second = (make_learner(model, seglib.Muon(1e-2)) for model in models)
    first.step(split.images, split.labels, rate=1e-3)
    second.restore([np.array(variable) for variable in first.variables])
    for learner in (first, second):
        learner.step(split.images, split.labels, rate=1e-3)
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(np.array(a), np.array(b))
    with pytest.raises(ValueError, match=r"optimizer keeps other numbers.*init_from"):
        make_learner(make_linear()).restore([np.array(v) for v in first.variables])


def test_float16_scales_the_loss_and_goes_on_in_float32():
    split = make_split(2, 0)
    halves = make_learner(make_linear(), seglib.AdamW(1e-3), precision="mixed_float16")
    halves.step(split.images, split.labels)
    whole = make_learner(make_linear(), seglib.AdamW(1e-3))
    whole.restore([np.array(variable) for variable in halves.variables])
    np.testing.assert_array_equal(whole.model.get_weights()[0], halves.model.get_weights()[0])


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


# Tasks


def test_tasks_are_weighed_by_what_is_given_or_learned():
    model, split = make_model(heads=HEADS), make_split(2, 0)
    count = len(model.trainable_variables)
    learning.weigh_tasks(model, None)
    assert len(model.trainable_variables) == count + 3
    learning.weigh_tasks(model, {})
    assert len(model.trainable_variables) == count
    logits = [np.zeros(shape, np.float32) for shape in ((2, 32, 32, 1), (2, 3), (2, 32, 32, 3))]
    given = {"boundary": 2, "presence": 0.5}
    losses, weights = learning.create_task_losses(model, CrossEntropy(), given, 2)
    assert weights == [2, 0.5, 1]  # boundary, presence, segmentation
    values = [float(loss(split.labels, x)) for loss, x in zip(losses, logits, strict=True)]
    np.testing.assert_allclose(values, np.log([2, 2, 3]), rtol=1e-4)  # of float32 sums
    learned, _ = learning.create_task_losses(model, CrossEntropy(), None, 2)
    assert float(learned[0](split.labels, logits[0])) == pytest.approx(np.log(2), rel=1e-4)  # s = 0


@pytest.mark.parametrize(
    ("heads", "weights", "words"),
    [
        (("segmentation",), {"boundary": 1}, "the model's tasks are none, since it has one head"),
        (HEADS, {"edges": 1}, "the model's tasks are boundary, presence, segmentation"),
        (HEADS, {"boundary": -1}, "numbers ≥ 0, received {'boundary': -1}"),
        (HEADS, [1, 1, 1], "to be a dict of tasks"),
    ],
)
def test_weights_that_cannot_weigh_are_refused(heads, weights, words):
    with pytest.raises(ValueError, match=words):
        learning.weigh_tasks(make_model(heads=heads), weights)


# What a run is trained with


def take(optimizer, **changes):
    return learning.take_optimizer({**DEFAULTS, "optimizer": optimizer, **changes}, changes)


def test_a_keras_optimizer_has_its_own_settings_and_trains_once():
    optimizer = keras.optimizers.SGD(0.5)
    taken, options = take(optimizer)
    assert taken is optimizer
    expected = {"learning_rate": 0.5, "ema": None, "schedule": "trapezoid"}
    assert expected.items() <= options.items()
    decay = keras.optimizers.schedules.ExponentialDecay(1.0, decay_steps=3, decay_rate=0.5)
    assert take(keras.optimizers.SGD(decay))[1]["schedule"] is None
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
    with pytest.raises(ValueError, match="received 'moun'"):
        take("moun")
    with pytest.raises(ValueError, match="its own learning_rate, which would be ignored"):
        take(seglib.Muon(1e-2), learning_rate=1.0)


def test_a_split_is_resized_like_a_prepared_one():
    small = make_dataset().val
    arrays = (np.repeat(np.repeat(a, 2, 1), 2, 2) for a in (small.images, small.labels))
    large = type(small)(*arrays, small.names, TABLE)
    resized = resize_split(large, (32, 32))
    np.testing.assert_array_equal(resized.labels, small.labels)
    np.testing.assert_array_equal(resized.images[1], seglib.resize_image(large.images[1], (32, 32)))
    assert resize_split(small, (None, 32)) is small
    assert len(resize_split(large[:0], (32, 32))) == 0


@pytest.mark.parametrize(
    ("capability", "policy"),
    [
        ((8, 0), "mixed_bfloat16"),
        (["10", "0"], "mixed_bfloat16"),
        ((7, 5), "mixed_float16"),
        ((6, 0), "float32"),
        ((), "float32"),
        (["gfx942"], "float32"),
    ],
)
def test_precision_follows_the_gpu(monkeypatch, capability, policy):
    monkeypatch.setattr(learning, "find_device", lambda: ("gpu", "a GPU", capability))
    assert learning.choose_precision() == policy


def test_what_a_run_is_trained_with_is_written_down():
    about = learning.describe_versions()
    assert json.loads(json.dumps(about)) == about
    assert about["keras"] == keras.__version__
    assert about["device"]
    assert learning.peak_memory() > 1e8
    assert learning.choose_precision() in ("float32", "mixed_bfloat16", "mixed_float16")
