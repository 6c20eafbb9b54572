import json

import keras
import numpy as np
import pytest
from keras_checks import check_layer, check_loss
from scipy.special import expit
from skimage.segmentation import find_boundaries
from small_runs import TABLE, assert_same_run, compute, make_dataset, make_model

import seglib
from seglib.augment.mixing import soften
from seglib.fitting import fit_image
from seglib.losses import (
    BoundaryLoss,
    CrossEntropyDice,
    PresenceLoss,
    UncertainLoss,
    true_boundaries,
)
from seglib.models import TaskLogits, copy_weights, prune, set_precision, task_layers
from seglib.training import Batches
from seglib.training.tasks import create_losses, describe_tasks

HEADS = ("segmentation", "boundary", "presence")
OPTIONS = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, "precision": "float32"}


def create(shape=(32, 32, 3), *, heads=HEADS, filters=(4, 6, 8), **options):
    return seglib.create_unetpp_model(
        shape, **{"num_classes": 3, "filters": filters, "heads": heads, **options}
    )


def images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two epochs of a model with all heads, their weights learned."""
    return seglib.train(
        create(filters=(4, 6)), make_dataset(), run_dir=tmp_path_factory.mktemp("run"), **OPTIONS
    )


# Models


@pytest.mark.parametrize("options", [{}, {"stride": 2, "detail": 3}, {"deep_supervision": False}])
def test_other_tasks_stand_before_the_segmentation_of_any_size(options):
    model = create((None, None, 3), **options)
    *others, _ = outputs = compute(model, images(2, 45, 70))
    assert [layer and layer.task for layer in task_layers(model)] == [
        "boundary", "presence", *[None] * (len(others) - 2), "segmentation",
    ]  # fmt: skip
    shapes = [(2, 45, 70, 1), (2, 3)] + [(2, 45, 70, 3)] * (len(outputs) - 2)
    assert [output.shape for output in outputs] == shapes


@pytest.mark.parametrize("heads", [HEADS, ["boundary", "segmentation"]])
def test_other_heads_leave_the_segmentation_as_it_is(heads):
    with_heads, plain, x = create(heads=heads), create(heads=["segmentation"]), images(2, 32, 32)
    expected = compute(plain, x)
    for a, b in zip(compute(with_heads, x)[-2:], expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert task_layers(plain) == [None, None]


def test_heads_fit_a_pretrained_encoder_and_read_its_deepest_map():
    model = create((64, 64, 3), encoder="efficientnet_lite0", encoder_weights=None, filters=(4, 6))
    assert [tuple(x.shape[1:]) for x in model.outputs[:2]] == [(64, 64, 1), (3,)]
    assert model.get_layer("presence_mean").input.shape[1] == 8
    assert create().get_layer("presence_mean").input.shape[1:] == (8, 8, 8)


def test_heads_stay_float32_in_low_precision():
    model = create()
    set_precision(model, "mixed_bfloat16")
    assert model.get_layer("boundary_conv").compute_dtype == "bfloat16"
    for layer in task_layers(model):
        assert layer is None or layer.compute_dtype == "float32"
    assert {x.dtype for x in compute(model, images(1, 32, 32))} == {np.dtype("float32")}


@pytest.mark.parametrize("shape", [(2, 6, 8, 1), (2, 4)])
def test_task_logits_keep_the_contract_of_layers(shape, tmp_path):
    scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    image = np.zeros((2, 5, 7, 3), np.float32)
    answer = TaskLogits("boundary")(scores, image)
    np.testing.assert_array_equal(answer, scores[:, :5, :7] if len(shape) == 4 else scores)
    if len(shape) == 4:
        check_layer(TaskLogits("boundary"), scores, image, tmp_path=tmp_path)


@pytest.mark.parametrize(
    "heads", ["segmentation", ("boundary",), ("segmentation", "depth"), ("segmentation",) * 2]
)
def test_unknown_heads_are_refused(heads):
    with pytest.raises(ValueError, match=r'expected heads to be \("segmentation",\), with'):
        create(heads=heads)


def test_weights_go_to_a_model_of_other_classes_but_for_its_classes():
    skipped = copy_weights(create(seed=1), create(num_classes=5, seed=2))
    assert sorted(skipped) == ["head_1_classes", "head_2_classes", "presence_classes"]


# The truth of boundaries


def draw_truth(labels, ignore_label=None):
    logits = np.zeros((1, *np.shape(labels), 1), np.float32)
    truth, valid = true_boundaries(np.array([labels], np.float32), logits, ignore_label)
    return np.asarray(truth)[0], np.asarray(valid)[0]


def test_a_boundary_is_next_to_another_label():
    truth, valid = draw_truth([[0, 0, 0, 0], [0, 0, 0, 1], [0, 9, 0, 0]], ignore_label=9)
    assert truth.tolist() == [[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert valid.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1]]


def test_boundaries_are_those_of_scikit_image():
    labels = np.random.default_rng(0).integers(0, 3, (20, 30)).repeat(2, 0).repeat(3, 1)
    expected = find_boundaries(labels, connectivity=1, mode="thick")
    np.testing.assert_array_equal(draw_truth(labels)[0], expected)
    one_hot = np.eye(3, dtype=np.float32)[labels][None]
    shares, _ = true_boundaries(one_hot, np.zeros((1, 40, 90, 1), np.float32), None)
    np.testing.assert_array_equal(np.asarray(shares)[0], expected)


def test_a_blend_has_each_boundary_by_its_share():
    parts = [(np.array([[0, 0, 1, 1, 9]]), 0.75), (np.array([[0, 1, 1, 1, 1]]), 0.25)]
    shares = soften(parts, num_classes=2, ignore_label=9)[None]
    truth, valid = true_boundaries(shares, np.zeros((1, 1, 5, 1), np.float32), 9)
    assert np.asarray(truth).tolist() == [[[0.25, 0.75, 0.75, 0, 0]]]
    assert np.asarray(valid).tolist() == [[[1, 1, 1, 1, 0.25]]]


# Losses


def make_case(ignore_label, seed=0):
    random = np.random.default_rng(seed)
    y_true = random.integers(0, 3, (3, 5, 6)).astype(np.uint8)
    if ignore_label is not None:
        y_true[random.random(y_true.shape) < 0.3] = ignore_label
        y_true[2] = ignore_label  # nothing is known of this picture
    boundary = random.normal(0, 3, (3, 5, 6, 1)).astype(np.float32)
    return y_true, boundary, random.normal(0, 3, (3, 4)).astype(np.float32)


def cross_entropy(is_true, logit):
    return -np.log(expit(logit if is_true else -logit))


def reference_boundary_loss(y_true, logits, ignore_label):
    losses = []
    for n, i, j in np.ndindex(y_true.shape):
        if y_true[n, i, j] == ignore_label:
            continue
        near = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
        near = [y_true[n, a, b] for a, b in near if 0 <= a < 5 and 0 <= b < 6]
        differs = any(x not in (y_true[n, i, j], ignore_label) for x in near)
        losses.append(cross_entropy(differs, float(logits[n, i, j, 0])))
    return np.mean(losses)


def reference_presence_loss(y_true, logits, ignore_label):
    losses = []
    for labels, scores in zip(y_true, logits, strict=True):
        known = set(labels.ravel().tolist()) - {ignore_label}
        for label, score in enumerate(scores):
            if known and label != ignore_label:
                losses.append(cross_entropy(label in known, float(score)))
    return np.mean(losses)


@pytest.mark.parametrize("ignore_label", [None, 1, 255])
def test_losses_are_those_of_plain_loops(ignore_label):
    y_true, boundary, presence = make_case(ignore_label)
    value = float(BoundaryLoss(ignore_label)(y_true, boundary))
    expected = reference_boundary_loss(y_true, boundary, ignore_label)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    value = float(PresenceLoss(ignore_label)(y_true, presence))
    expected = reference_presence_loss(y_true, presence, ignore_label)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("ignore_label", [None, 1, 255])
def test_shares_of_one_and_nothing_are_ids(ignore_label):
    y_true, boundary, presence = make_case(ignore_label)
    shares = [soften([(y, 1)], num_classes=4, ignore_label=ignore_label) for y in y_true]
    for loss, logits in (
        (BoundaryLoss(ignore_label), boundary),
        (PresenceLoss(ignore_label), presence),
    ):
        np.testing.assert_allclose(
            float(loss(np.stack(shares), logits)), float(loss(y_true, logits)), rtol=1e-5
        )


def test_a_blend_has_the_presence_of_each_by_its_share():
    shares = soften([(np.array([[0]]), 0.75), (np.array([[2]]), 0.25)], num_classes=3)[None]
    logits = np.array([[1.0, -2.0, 3.0]], np.float32)
    terms = [
        share * cross_entropy(True, x) + (1 - share) * cross_entropy(False, x)
        for share, x in zip((0.75, 0, 0.25), (1.0, -2.0, 3.0), strict=True)
    ]
    np.testing.assert_allclose(float(PresenceLoss()(shares, logits)), np.mean(terms), rtol=1e-5)


@pytest.mark.parametrize("ignore_label", [None, 1])
def test_losses_keep_the_contract(ignore_label):
    y_true, boundary, presence = make_case(ignore_label)
    check_loss(BoundaryLoss(ignore_label), y_true, boundary)
    check_loss(PresenceLoss(ignore_label), y_true, presence)


def test_uncertainty_lowers_what_a_loss_counts_and_costs_by_itself():
    y_true, logits, _ = make_case(None)
    plain, s = BoundaryLoss(), keras.Variable(0.7)
    loss, value = UncertainLoss(plain, s), float(plain(y_true, logits))
    expected = np.exp(-0.7) * value + 0.35
    np.testing.assert_allclose(float(loss(y_true, logits)), expected, rtol=1e-6)
    s.assign(np.log(2 * value))  # where it would come to rest
    lowest = float(loss(y_true, logits))
    for step in (-0.1, 0.1):
        s.assign(np.log(2 * value) + step)
        assert float(loss(y_true, logits)) > lowest
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(copy(y_true, logits)) == float(loss(y_true, logits))


# Training


def evaluate_losses(model, task_weights, variances):
    """The loss that Keras computes, and that of each task by itself."""
    split = make_dataset().train
    for layer in task_layers(model):
        if layer is not None:
            layer.log_variance.assign(variances[layer.task])
    loss = CrossEntropyDice(None, 2)
    losses, weights = create_losses(model, loss, task_weights, 2)
    model.compile("sgd", losses, loss_weights=weights)
    truth = [split.labels] * len(model.outputs)
    total = np.ravel(model.test_on_batch(split.images, truth))[0]
    boundary, presence, *logits = compute(model, split.images)
    return total, {
        "boundary": float(BoundaryLoss(2)(split.labels, boundary)),
        "presence": float(PresenceLoss(2)(split.labels, presence)),
        "segmentation": np.mean([float(loss(split.labels, x)) for x in logits]),
    }


@pytest.mark.parametrize("given", [None, {"boundary": 0.25, "presence": 0}])
def test_losses_add_up_by_what_is_learned_or_given(given):
    s = {"boundary": -0.5, "presence": 1.0, "segmentation": 0.25}
    total, parts = evaluate_losses(create(dropout=0), given, s)
    if given is None:
        expected = sum(np.exp(-s[task]) * parts[task] + s[task] / 2 for task in parts)
    else:
        expected = sum(given.get(task, 1) * parts[task] for task in parts)
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def read_variances(model):
    return {layer.task: float(layer.log_variance) for layer in task_layers(model) if layer}


def test_a_run_learns_all_tasks_and_how_they_count(run):
    assert run.history["loss"].is_monotonic_decreasing
    assert all(value != 0 for value in read_variances(run.model).values())
    assert json.loads((run.run_dir / "run.json").read_text())["settings"]["task_weights"] == (
        "learned"
    )
    loaded, x = seglib.load_model(run.run_dir), images(2, 32, 32)
    assert read_variances(loaded) == read_variances(run.model)
    for a, b in zip(*(compute(m, x) for m in (run.model, loaded)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_trained_model_is_saved_and_loaded_with_its_losses(run, tmp_path):
    run.model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    split = make_dataset().train
    losses = [
        np.ravel(model.test_on_batch(split.images, [split.labels] * 3))[0]
        for model in (run.model, loaded)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_pruned_models_keep_the_segmentation_alone(run):
    pruned, x = prune(run.model, 1), images(2, 32, 32)
    assert len(pruned.outputs) == 1
    assert task_layers(pruned) == [None]
    np.testing.assert_array_equal(compute(pruned, x), compute(run.model, x)[-1])
    np.testing.assert_array_equal(seglib.predict(pruned, x[0]), seglib.predict(run.model, x[0]))


def test_settings_of_tasks_are_kept_to(run):
    with pytest.raises(ValueError, match=r"task_weights: 'learned' before, \{'presence': 2\} now"):
        seglib.train(create(filters=(4, 6)), make_dataset(), run_dir=run.run_dir,
                     task_weights={"presence": 2}, **OPTIONS)  # fmt: skip


def test_models_of_one_task_have_no_such_setting(finished):
    assert "task_weights" not in json.loads((finished.run_dir / "run.json").read_text())["settings"]


def test_what_is_given_by_hand_is_not_learned():
    model = create()
    count = len(model.trainable_variables)
    assert describe_tasks(model, None) == {"task_weights": "learned"}
    assert len(model.trainable_variables) == count + 3
    assert describe_tasks(model, {}) == {"task_weights": {}}
    assert len(model.trainable_variables) == count


@pytest.fixture(scope="module")
def models():
    return {heads: create(filters=(4, 6), heads=heads) for heads in (("segmentation",), HEADS)}


@pytest.mark.parametrize(
    ("heads", "task_weights", "message"),
    [
        (("segmentation",), {"boundary": 1}, "the model has one task, received task_weights="),
        (HEADS, {"edges": 1}, "dict of some of boundary, presence, segmentation and numbers"),
        (HEADS, {"boundary": -1}, "numbers ≥ 0, received {'boundary': -1}"),
        (HEADS, {"boundary": float("nan")}, "numbers ≥ 0, received"),
        (HEADS, [1, 1, 1], "expected task_weights to be a dict"),
        (HEADS, {"boundary": "half"}, "numbers ≥ 0, received"),
    ],
)
def test_weights_that_cannot_weigh_are_refused(models, heads, task_weights, message):
    with pytest.raises(ValueError, match=message):
        describe_tasks(models[heads], task_weights)


@pytest.mark.long
@pytest.mark.parametrize("task_weights", [None, {"boundary": 0.5}])
def test_a_run_that_was_stopped_equals_one_that_was_not(tmp_path, monkeypatch, task_weights):
    options = {**OPTIONS, "task_weights": task_weights, "ema": 0.9,
               "augment": seglib.Augmentation(mixup=0.5, cutmix=0.5)}  # fmt: skip
    data = make_dataset()
    whole = seglib.train(create(), data, run_dir=tmp_path / "whole", **options)
    read = Batches.__getitem__

    def stop(batches, index):
        if batches.start + index > 4:
            raise RuntimeError("lost power")
        return read(batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__getitem__", stop)
        with pytest.raises(Exception, match="lost power"):  # TensorFlow wraps it
            seglib.train(create(), data, run_dir=tmp_path / "parts", **options)
    parts = seglib.train(create(), data, run_dir=tmp_path / "parts", **options)
    assert_same_run(whole, parts)
    moved = [value != 0 for value in read_variances(whole.model).values()]
    assert moved == [task_weights is None] * 3


# Predicting


@pytest.mark.parametrize("size", [(32, 32), (48, 40)])
def test_heads_answer_at_the_pictures_own_size(run, size):
    picture = images(*size)
    answers = seglib.predict_heads(run.model, picture)
    boundary, presence, *_ = compute(run.model, fit_image(picture, (32, 32))[None])
    np.testing.assert_allclose(answers["presence"], expit(presence[0]), rtol=1e-5)
    assert answers["boundary"].shape == size
    assert answers["boundary"].dtype == np.float32
    if size == (32, 32):
        np.testing.assert_allclose(answers["boundary"], expit(boundary[0, ..., 0]), rtol=1e-5)


def test_boundaries_are_enlarged_as_probabilities_are():
    model = create(num_classes=2, heads=("segmentation", "boundary"), seed=3)
    # The last two layers made alike: the boundary's score is that of a class against another.
    for letter in ("conv", "norm"):
        source = model.get_layer(f"head_2_{letter}")
        model.get_layer(f"boundary_{letter}").set_weights(source.get_weights())
    kernel, bias = model.get_layer("head_2_classes").get_weights()
    model.get_layer("boundary_score").set_weights(
        [kernel[..., 1:] - kernel[..., :1], bias[1:] - bias[:1]]
    )
    picture = images(50, 70)
    expected = seglib.predict_probabilities(model, picture)[..., 1]
    np.testing.assert_allclose(
        seglib.predict_heads(model, picture)["boundary"], expected, atol=1e-5
    )


def test_a_letterboxed_picture_gets_its_own_part_of_the_map():
    table = seglib.ClassTable(["a", "b", "void"], TABLE.colors, ignore_label=2)
    model = create(heads=("segmentation", "boundary"))
    seglib.set_model_classes(model, table, fit="letterbox")
    picture = images(16, 32)
    whole = expit(compute(model, fit_image(picture, (32, 32), fit="letterbox")[None])[0])
    np.testing.assert_allclose(
        seglib.predict_heads(model, picture)["boundary"], whole[0, 8:24, :, 0], rtol=1e-5
    )


def test_a_model_without_other_heads_says_so():
    with pytest.raises(ValueError, match="no heads beside segmentation: create it with"):
        seglib.predict_heads(make_model(), images(32, 32))
