import dataclasses
import json

import keras
import numpy as np
import pytest
from small_runs import (
    TABLE,
    assert_same_run,
    assert_same_weights,
    copy_run,
    make_dataset,
    make_model,
    make_split,
)

import seglib
from seglib import training
from seglib.classes import ClassTable
from seglib.preparing import PreparedSplit
from seglib.training import (
    TIMINGS,
    Batches,
    Cosine,
    Trapezoid,
    choose_precision,
    load_model,
    train,
)
from seglib.training.devices import explain_full_memory
from seglib.training.schedules import plan_learning_rate
from seglib.training.variables import inner_optimizer


@pytest.fixture(scope="module")
def untrained():
    """A model for settings that are refused before it learns anything."""
    return make_model()


def test_a_run_learns_and_tells_what_it_did(finished):
    assert finished.history["epoch"].tolist() == [1, 2, 3]
    columns = ["epoch", "step", "loss", "val_loss", "pixel_accuracy", "mean_iou", "learning_rate"]
    assert finished.history.columns.tolist() == [*columns, *TIMINGS]
    assert finished.history["step"].tolist() == [3, 6, 9]
    assert (finished.history[list(TIMINGS)] > 0).all(axis=None)
    assert finished.history["loss"].is_monotonic_decreasing
    rates = [4e-3, 4e-3 * 3 / 3.6, 0]  # the last two fifths of nine steps
    np.testing.assert_allclose(finished.history["learning_rate"], rates, rtol=1e-5, atol=1e-9)
    best = finished.history["mean_iou"].max()
    assert finished.best["mean_iou"] == best
    files = {file.name for file in finished.run_dir.iterdir()}
    assert files == {"run.json", "history.csv", "curves.png", "best.keras", "checkpoints", ".lock"}
    assert finished.finished
    assert "3 epochs" in repr(finished)


def test_the_best_checkpoint_scores_what_the_history_says(finished):
    dataset = make_dataset()
    report = seglib.evaluate(load_model(finished.run_dir), dataset.val)
    assert report.mean_iou == pytest.approx(finished.best["mean_iou"])
    assert report.pixel_accuracy == pytest.approx(finished.best["pixel_accuracy"])


def test_all_heads_learn_what_can_be_separated(tmp_path):
    dataset = make_dataset()
    run = train(make_model(dropout=0, filters=(4, 6, 8)), dataset, run_dir=tmp_path, epochs=12,
                learning_rate=3e-2, precision="float32")  # fmt: skip
    assert run.best["pixel_accuracy"] > 0.97
    assert seglib.evaluate(run.model, dataset.val).mean_iou == pytest.approx(run.best["mean_iou"])
    shallow = seglib.evaluate(seglib.prune(run.model, 1), dataset.val)
    assert shallow.pixel_accuracy > 0.9


def test_a_finished_run_returns_at_once(finished, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", None)
    again = train(make_model(seed=5), make_dataset(), run_dir=finished.run_dir, epochs=3)
    assert again.history.equals(finished.history)
    assert again.finished
    assert_same_weights(again.model, finished.model)


def test_more_epochs_carry_a_run_on(finished, tmp_path):
    copy = copy_run(finished, tmp_path)
    run = train(make_model(seed=5), make_dataset(), run_dir=copy, epochs=4)
    assert run.history[:3].equals(finished.history)
    assert run.history["epoch"].tolist() == [1, 2, 3, 4]
    assert run.history["loss"].iloc[3] < run.history["loss"].iloc[2]


def test_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(finished, tmp_path):
    copy = copy_run(finished, tmp_path)
    before = {file.name: file.read_bytes() for file in (copy / "checkpoints").iterdir()}
    with pytest.raises(FloatingPointError, match=r"epoch 4, batch 1 of 3.*step_000000009"):
        train(make_model(), make_dataset(), run_dir=copy, epochs=4, loss=_NoNumber(),
              allow_changes=["loss"])  # fmt: skip
    after = {file.name: file.read_bytes() for file in (copy / "checkpoints").iterdir()}
    assert after == before
    assert_same_weights(load_model(copy), finished.model)


class _NoNumber(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.sum(y_pred) * float("nan")


@pytest.mark.parametrize(("batch_size", "accumulation", "advice"), [
    (5, 2, r"step of 5 pairs.*batch_size=3 .*gradient_accumulation=4"),
    (1, 1, "prepare smaller images"),
])  # fmt: skip
def test_a_step_that_does_not_fit_into_memory_says_what_to_do(
    tmp_path, batch_size, accumulation, advice
):
    with pytest.raises(MemoryError, match=advice) as caught:
        train(make_model(), make_dataset(), run_dir=tmp_path / "run", epochs=1, loss=_TooLarge(),
              batch_size=batch_size, gradient_accumulation=accumulation)  # fmt: skip
    assert caught.value.__cause__ is not None  # the backend's own
    assert json.loads((tmp_path / "run/run.json").read_text())["status"].startswith("failed: a tr")


class _TooLarge(keras.losses.Loss):
    """More bytes than a processor can address."""

    def call(self, y_true, y_pred):
        return keras.ops.sum(keras.ops.broadcast_to(keras.ops.mean(y_pred), (10**8, 10**8)))


@pytest.mark.parametrize(("text", "error"), [
    ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes", MemoryError),  # JAX
    ("CUDA out of memory. Tried to allocate 20.00 MiB", MemoryError),  # PyTorch
    ("no ROOM for 4 pairs", RuntimeError),
])  # fmt: skip
def test_other_errors_than_full_memory_stay_as_they_are(text, error):
    with pytest.raises(error, match="4 pairs"), explain_full_memory(4, 1, 0):
        raise RuntimeError(text)


def test_a_run_that_goes_on_is_told_how_to_take_smaller_batches():
    advice = r'batch_size=2 .*allow_changes=\("batch_size",\)'
    with pytest.raises(MemoryError, match=advice), explain_full_memory(4, 1, 7):
        raise RuntimeError("CUDA out of memory")


def test_without_validation_data_the_last_epoch_is_best(tmp_path, monkeypatch):
    """However seldom it would be validated; and where the system does not tell the memory."""
    saved, save = [], training.validation.Snapshot.save
    monkeypatch.setattr(training.validation.Snapshot, "save",
                        lambda self, file: (saved.append(file), save(self, file)))  # fmt: skip
    monkeypatch.setattr(training.keeper, "peak_memory", lambda: float("nan"))
    run = train(make_model(), make_dataset(val=0), run_dir=tmp_path, epochs=3, validate_every=3)
    assert len(saved) == 3
    assert run.history["mean_iou"].isna().all()
    assert run.history["peak_memory_mb"].isna().all()
    assert run.best["epoch"] == 3
    assert_same_weights(load_model(tmp_path), run.model)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"the run cannot be written to .*choose another folder"):
        train(make_model(), make_dataset(), run_dir=tmp_path / "file" / "run", epochs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs to be a whole number"),
        ({"batch_size": 2.5}, "batch_size to be a whole number"),
        ({"batch_size": (4, 0)}, "batch_size to be a whole number ≥ 1, got 0"),
        ({"batch_size": (4, 8)}, r"the largest and the smallest, got \(4, 8\)"),
        ({"class_weights": [1.0, 2.0]}, "expected 3 class weights"),
        ({"time_budget": "soon"}, "expected a duration such as"),
        ({"checkpoint_every": 0}, "checkpoint_every to be a whole number"),
        ({"checkpoint_every": "often"}, "expected a duration such as"),
        ({"size_limit": "big"}, "expected a size such as"),
        ({"schedule": "linear"}, "expected a schedule of trapezoid, cosine or constant"),
        ({"patience": 0}, "patience to be a whole number"),
    ],
)
def test_wrong_settings_say_what_was_expected(untrained, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train(untrained, make_dataset(), run_dir=tmp_path, **{"epochs": 1, **options})


def test_data_that_do_not_fit_the_model_are_refused(tmp_path):
    with pytest.raises(ValueError, match="create it with num_classes=3"):
        train(make_model(num_classes=4), make_dataset(), run_dir=tmp_path, epochs=1)
    larger = seglib.create_unet_model((64, 64, 3), num_classes=3, filters=(2, 4))
    with pytest.raises(ValueError, match=r"dataset\.prepare"):
        train(larger, make_dataset(), run_dir=tmp_path, epochs=1)
    with pytest.raises(ValueError, match="training split is empty"):
        train(make_model(), make_dataset(train=0), run_dir=tmp_path, epochs=1)


def test_init_from_another_run_starts_there(finished, tmp_path):
    plain = {"epochs": 1, "learning_rate": 0.0, "ema": False}
    run = train(make_model(seed=3), make_dataset(), run_dir=tmp_path / "same",
                init_from=finished.run_dir, **plain)  # fmt: skip
    kernel = "x_1_0_a_conv"
    np.testing.assert_array_equal(
        *(model.get_layer(kernel).get_weights()[0] for model in (run.model, finished.model))
    )
    table = ClassTable(["a", "b", "c", "void"], [(i, i, i) for i in range(4)], ignore_label=3)
    model = make_model(num_classes=4, seed=3)
    fresh = model.get_layer("head_1_classes").get_weights()[0]
    train(model, make_dataset(classes=table), run_dir=tmp_path / "other",
          init_from=finished.run_dir, **plain)  # fmt: skip
    np.testing.assert_array_equal(model.get_layer("head_1_classes").get_weights()[0], fresh)
    np.testing.assert_array_equal(
        *(m.get_layer(kernel).get_weights()[0] for m in (model, finished.model))
    )


def test_low_precision_trains_and_leaves_a_float32_model(tmp_path, monkeypatch):
    """It is validated in that precision as well, in batches no larger than those of training."""
    seen = []

    def note_call(scorer, images):
        seen.append((len(images), {layer.compute_dtype for layer in scorer.layers}))
        return predict_on_batch(scorer, images)

    predict_on_batch = keras.Model.predict_on_batch
    monkeypatch.setattr(keras.Model, "predict_on_batch", note_call)
    run = train(make_model(), make_dataset(val=5), run_dir=tmp_path, epochs=1, batch_size=2,
                precision="mixed_bfloat16")  # fmt: skip
    assert seen == [(2, {"bfloat16", "float32"})] * 3
    assert json.loads((tmp_path / "run.json").read_text())["precision"] == "mixed_bfloat16"
    for model in (run.model, load_model(tmp_path)):
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_precision_follows_the_processor(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow gains from bfloat16 units of a processor")
    monkeypatch.setattr(training.precision, "has_bfloat16_units", lambda: True)
    assert choose_precision() == "mixed_bfloat16"
    monkeypatch.setattr(training.precision, "has_bfloat16_units", lambda: False)
    assert choose_precision() == "float32"


@pytest.mark.parametrize(
    ("capability", "policy"),
    [
        ((8, 0), "mixed_bfloat16"),
        (["10", "0"], "mixed_bfloat16"),
        ((7, 5), "mixed_float16"),
        (["7", "5"], "mixed_float16"),
        ((6, 0), "float32"),
        ((), "float32"),
        (["gfx942"], "float32"),
    ],
)
def test_precision_follows_the_gpu(capability, policy):
    assert training.precision.precision_of_gpu(capability) == policy


def test_batches_are_a_function_of_seed_and_step():
    split = make_split(5, 0)
    options = {"batch_size": 2, "augment": True, "heads": 1, "steps": 12}
    whole, later = Batches(split, seed=1, **options), Batches(split, seed=1, start=7, **options)
    assert (whole.steps_per_epoch, len(whole), len(later)) == (3, 12, 5)
    later[2]  # what was asked for before does not matter
    for i in range(5):
        for a, b in zip(later[i], whole[7 + i], strict=True):
            np.testing.assert_array_equal(a, b)
    assert [len(whole[i][0]) for i in range(6)] == [2] * 6
    resized = Batches(split, seed=1, **{**options, "batch_size": 3}).resize(2)
    assert resized.steps_per_epoch == 3
    np.testing.assert_array_equal(resized[8][0], whole[8][0])
    assert (whole[0][0] != whole[3][0]).any()
    assert (whole[0][0] != Batches(split, seed=2, **options)[0][0]).any()


MIXED = seglib.Augmentation(scale=(0.7, 1.5), rotation=10, noise=5, focus=0.5, mixup=0.3,
                            cutmix=0.3)  # fmt: skip


def test_augmented_and_mixed_batches_are_a_function_of_seed_and_step():
    split = make_split(5, 0)
    options = {"batch_size": 2, "augment": MIXED, "heads": 2, "steps": 12}
    whole, later = Batches(split, seed=1, **options), Batches(split, seed=1, start=7, **options)
    for i in range(5):
        (images, (shares, _)), (again, (same, _)) = whole[7 + i], later[i]
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(shares, same)
        assert (shares.dtype, shares.shape[1:]) == (np.float32, (32, 32, 3))
        assert not shares[..., 2].any()  # the ignored class
        assert shares.sum(axis=-1).max() < 1 + 1e-6
    assert (whole[0][0] != whole[3][0]).any()


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="with several workers Keras gives other backends the first batches in another order",
)
def test_keras_workers_keep_order_and_stop():
    """Even of an endless run; `seglib.train` needs none, a caller may want them."""
    split = make_split(5, 0)
    streams = []
    for workers in (1, 3):
        batches = Batches(split, batch_size=2, seed=0, augment=True, heads=1)
        batches.workers, seen = workers, []

        class Seen(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None, seen=seen):
                seen.append(logs["loss"])
                self.model.stop_training = batch == 7

        layer = keras.layers.Conv2D(1, 1, kernel_initializer="ones")
        model = keras.Sequential([keras.Input((32, 32, 3)), layer])
        model.compile(keras.optimizers.SGD(0.0), lambda y_true, y_pred: keras.ops.mean(y_pred))
        model.fit(batches, shuffle=False, verbose=0, callbacks=[Seen()])
        streams.append(seen)
    assert len(streams[0]) == 8
    np.testing.assert_allclose(*streams, rtol=1e-6)
    assert len(set(streams[0])) == 8


def test_every_pair_is_seen_once_an_epoch_and_some_again():
    split = make_split(7, 0)
    batches = Batches(split, batch_size=3, seed=0, augment=False, heads=2)
    for epoch in range(2):
        seen = np.concatenate([batches[3 * epoch + i][0] for i in range(3)])
        assert sorted(image.tobytes() for image in seen[:7]) == sorted(
            image.tobytes() for image in split.images
        )
        np.testing.assert_array_equal(seen[7:], seen[:2])
    images, (first, second) = batches[0]
    np.testing.assert_array_equal(first, second)
    assert len(images) == 3


def test_what_fills_up_a_batch_is_changed_in_another_way():
    split = make_split(3, 0)
    batches = Batches(split, batch_size=2, seed=0, augment=True, heads=1)
    images = np.concatenate([batches[i][0] for i in range(2)])
    assert len({image.tobytes() for image in images}) == 4
    assert len(Batches(split, batch_size=8, seed=0, augment=True, heads=1)[0][0]) == 3


def test_pairs_are_drawn_by_their_sampling_weights():
    split = make_split(4, 0)
    options = {"batch_size": 4, "augment": False, "heads": 1, "seed": 0}
    batches = Batches(split, sampling=[6, 0, 3, 1], **options)
    names = {image.tobytes(): i for i, image in enumerate(split.images)}
    drawn = [names[image.tobytes()] for i in range(250) for image in batches[i][0]]
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, [0.6, 0, 0.3, 0.1], atol=0.05)
    later = Batches(split, sampling=[6, 0, 3, 1], start=7, **options)
    for a, b in zip(later[3], batches[10], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_pair_that_is_drawn_twice_is_changed_twice():
    split = make_split(4, 0)
    batches = Batches(split, batch_size=4, seed=0, augment=True, heads=1, sampling=[1, 0, 0, 0])
    images = batches[0][0]
    assert len({image.tobytes() for image in images}) == 4


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ([1, 2], "for each of 12 training pairs"),
        ([-1] + [1] * 11, "of at least 0"),
        ([np.nan] + [1] * 11, "finite"),
        ([0] * 12, "0 for all training pairs"),
    ],
)
def test_sampling_weights_that_cannot_be_drawn_by_are_refused(
    untrained, tmp_path, sampling, message
):
    with pytest.raises(ValueError, match=message):
        train(untrained, make_dataset(), run_dir=tmp_path, epochs=1, sampling=sampling)


def test_what_goes_wrong_while_pairs_are_read_is_reported(tmp_path, monkeypatch):
    def fail(*pair, epoch, **options):
        if epoch == 1:
            raise ValueError("the disk has gone")
        return pair

    monkeypatch.setattr(training.batches, "augment_pair", fail)
    with pytest.raises(Exception, match="the disk has gone"):
        train(make_model(), make_dataset(), run_dir=tmp_path, epochs=3)


# Augmentation


def test_a_run_with_mixed_pairs_learns(tmp_path):
    run = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=4, augment=MIXED,
                precision="float32", schedule="constant")  # fmt: skip
    assert run.history["val_loss"].iloc[-1] < run.history["val_loss"].iloc[0]


def test_another_augmentation_is_another_run(finished):
    options = {"run_dir": finished.run_dir, "epochs": 3}
    with pytest.raises(ValueError, match=r"augment\.rotation: 0\.0 before, 10 now"):
        train(make_model(), make_dataset(), augment=seglib.Augmentation(rotation=10), **options)
    with pytest.raises(ValueError, match=r"augment: \{.* before, False now"):
        train(make_model(), make_dataset(), augment=False, **options)
    same = train(make_model(), make_dataset(), augment=seglib.Augmentation(), **options)
    assert same.finished


def make_large_dataset():
    """The pairs of `make_dataset`, twice as large."""
    dataset = make_dataset()

    def enlarge(split):
        images, labels = (part.repeat(2, axis=1).repeat(2, axis=2)
                          for part in (split.images, split.labels))  # fmt: skip
        return PreparedSplit(images, labels, split.names, split.classes)

    splits = {name: enlarge(getattr(dataset, name)) for name in ("train", "val", "test")}
    return dataclasses.replace(dataset, image_size=(64, 64), **splits)


def test_windows_of_larger_pictures_train_and_validation_is_at_the_models_size(tmp_path):
    augmentation = seglib.Augmentation(size=32, scale=(0.8, 2))
    run = train(make_model(dropout=0), make_large_dataset(), run_dir=tmp_path, epochs=8,
                learning_rate=3e-2, precision="float32", augment=augmentation)  # fmt: skip
    assert run.best["pixel_accuracy"] > 0.95
    resized = training.resize_split(make_large_dataset().val, (32, 32))
    report = seglib.evaluate(run.model, resized)
    assert report.mean_iou == pytest.approx(run.best["mean_iou"])


def test_a_split_is_resized_like_a_prepared_one():
    large, small = make_large_dataset().val, make_dataset().val
    resized = training.resize_split(large, (32, 32))
    np.testing.assert_array_equal(resized.labels, small.labels)
    np.testing.assert_array_equal(resized.images[1], seglib.resize_image(large.images[1], (32, 32)))
    assert training.resize_split(small, (None, 32)) is small
    assert training.resize_split(large, (None, None)) is large
    assert len(training.resize_split(large[:0], (32, 32))) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": "strong"}, r"augment to be True, False or a seglib\.Augmentation"),
        (
            {"augment": seglib.Augmentation(size=64)},
            r"prepared as \(32, 32\) and cut to \(64, 64\)",
        ),
        ({"augment": seglib.Augmentation(focus_weights=[1, 1])}, "expected 3 focus_weights"),
        (
            {"augment": MIXED, "loss": keras.losses.SparseCategoricalCrossentropy()},
            "SparseCategoricalCrossentropy takes ids alone",
        ),
    ],
)
def test_augmentation_that_does_not_fit_is_refused(untrained, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train(untrained, make_dataset(), run_dir=tmp_path, epochs=1, **options)


def test_larger_pictures_need_an_augmentation_that_cuts(untrained, tmp_path):
    for augment in (True, False, seglib.Augmentation(scale=(1, 2))):
        with pytest.raises(ValueError, match=r"or augment=Augmentation\(size=\(32, 32\)\)"):
            train(untrained, make_large_dataset(), run_dir=tmp_path, epochs=1, augment=augment)


def test_letterboxed_pictures_are_not_stretched(tmp_path):
    dataset = dataclasses.replace(make_large_dataset(), fit="letterbox")
    model = seglib.create_unet_model((32, 48, 3), num_classes=3, filters=(2, 4))
    with pytest.raises(ValueError, match=r"letterboxed pictures of \(64, 64\) would be stretched"):
        train(model, dataset, run_dir=tmp_path, epochs=1,
              augment=seglib.Augmentation(size=(32, 48)))  # fmt: skip


def test_losses_of_keras_take_mixed_pairs(tmp_path):
    run = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=3, augment=MIXED,
                loss=keras.losses.CategoricalFocalCrossentropy())  # fmt: skip
    assert run.history["loss"].is_monotonic_decreasing


def test_loading_what_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trained model at .*best\.keras"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Trapezoid, {0: 0.4, 4: 2, 5: 2, 60: 2, 80: 1, 100: 0, 120: 0}),
        (Cosine, {0: 0.4, 50: 1, 75: 0.292893, 100: 0, 120: 0}),
    ],
)
def test_the_learning_rate_rises_and_falls(schedule, expected):
    rates = schedule(2.0, 100)
    np.testing.assert_allclose([float(rates(step)) for step in expected],
                               list(expected.values()), rtol=1e-5, atol=1e-7)  # fmt: skip
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rates))
    assert float(copy(80)) == float(rates(80))


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("trapezoid", [2, 2 * 3 / 3.6, 0]), ("cosine", [1.5, 0.5, 0]), ("constant", [2, 2, 2])],
)
def test_a_schedule_is_laid_over_all_steps(schedule, rates):
    optimizer = keras.optimizers.SGD(2.0)
    plan_learning_rate(optimizer, schedule).assign(9)
    for step, rate in zip((3, 6, 9), rates, strict=True):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(rate, abs=1e-6)


def test_an_optimizer_has_its_settings_itself(tmp_path):
    data, optimizer = make_dataset(), seglib.Muon(1e-2)
    for given in ({"ema": 0.9}, {"learning_rate": 1e-2}, {"encoder_rate": 1.0}):
        with pytest.raises(ValueError, match=f"its own {next(iter(given))}, which would be"):
            train(
                make_model(), data, run_dir=tmp_path / "a", epochs=1, optimizer=optimizer, **given
            )
    with pytest.raises(ValueError, match="inside the LossScaleOptimizer"):
        train(make_model(), data, run_dir=tmp_path / "a", epochs=1,
              optimizer=keras.optimizers.LossScaleOptimizer(optimizer))  # fmt: skip
    first = train(make_model(), data, run_dir=tmp_path / "a", epochs=2, optimizer=optimizer)
    again = train(make_model(), data, run_dir=tmp_path / "b", epochs=2, optimizer=optimizer)
    assert_same_run(first, again)  # what the first run did to it is not in the second
    settings = json.loads((first.run_dir / "run.json").read_text())["settings"]
    assert settings["learning_rate"] is None
    assert settings["optimizer"]["learning_rate"] == 0.01
    train(make_model(), data, run_dir=tmp_path / "a", epochs=2, optimizer=optimizer)


def test_a_schedule_of_the_optimizers_own_is_left_as_it_is(tmp_path):
    decay = keras.optimizers.schedules.ExponentialDecay(1.0, decay_steps=3, decay_rate=0.5)
    run = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=2,
                optimizer=keras.optimizers.Adam(decay))  # fmt: skip
    np.testing.assert_allclose(run.history["learning_rate"], [0.5, 0.25], rtol=1e-6)


def test_an_optimizer_is_chosen_by_name(untrained, tmp_path):
    run = train(make_model(), make_dataset(), run_dir=tmp_path / "adamw", epochs=1,
                optimizer="adamw")  # fmt: skip
    settings = json.loads((run.run_dir / "run.json").read_text())["settings"]
    assert settings["optimizer"] == "adamw"
    assert type(inner_optimizer(run.model)) is seglib.AdamW
    message = "optimizer of adamw, muon, or a keras optimizer, received 'sgd'"
    with pytest.raises(ValueError, match=message):
        train(untrained, make_dataset(), run_dir=tmp_path / "sgd", epochs=1, optimizer="sgd")


def test_weights_that_an_optimizer_spares_are_spared_by_its_copy():
    optimizer = keras.optimizers.AdamW(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    taken, _ = training._take_optimizer(optimizer)
    assert taken is not optimizer
    variables = [keras.Variable(np.ones(3), name=name) for name in ("kernel", "bias")]
    taken.apply([keras.ops.zeros(3)] * 2, variables)
    np.testing.assert_array_equal([np.array(v) for v in variables], [[0.5] * 3, [1.0] * 3])


def test_accumulated_gradients_of_four_batches_equal_those_of_one(tmp_path):
    """Four pairs a step, or one pair a step and an update after four steps."""
    models = []
    for batch_size, accumulated in ((4, 1), (1, 4)):
        model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(3, 1)])
        model.set_weights([np.full(weight.shape, 0.01) for weight in model.weights])
        train(model, make_dataset(val=0), run_dir=tmp_path / str(batch_size), epochs=2,
              batch_size=batch_size, gradient_accumulation=accumulated, augment=False,
              schedule="constant", precision="float32",
              loss=seglib.CrossEntropy(ignore_label=2))  # fmt: skip
        models.append(model)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4)
        assert (a != np.float32(0.01)).any()


def test_a_run_that_never_finished_an_epoch_may_begin_anew_with_other_settings(tmp_path):
    with pytest.raises(FloatingPointError, match="no checkpoint yet"):
        train(make_model(), make_dataset(), run_dir=tmp_path, epochs=1, loss=_NoNumber())
    run = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=1, seed=1)
    assert len(run.history) == 1


def test_a_run_is_described_by_its_files_and_scores(finished, tmp_path, capsys):
    report = seglib.evaluate(finished.model, make_dataset().val)
    copy = copy_run(finished, tmp_path)
    report.write(copy)
    seglib.describe_run(copy)
    printed = capsys.readouterr().out
    assert "best.keras" in printed
    assert f"{report.mean_iou:.3f}" in printed


def test_a_run_in_float16_with_averaged_weights_goes_on_in_float32(tmp_path):
    options = {"ema": True, "run_dir": tmp_path}
    train(make_model(), make_dataset(), epochs=1, precision="mixed_float16", **options)
    run = train(make_model(seed=9), make_dataset(), epochs=3, precision="float32", **options)
    assert run.history["epoch"].tolist() == [1, 2, 3]
    assert run.history["loss"].is_monotonic_decreasing


def test_the_best_epoch_is_kept_not_the_last(tmp_path, monkeypatch):
    weights, scores = [], iter([0.2, 0.5, 0.3])

    def score(scorer, *args, **options):
        weights.append(scorer.get_weights())
        return {"loss": 1.0, "pixel_accuracy": 0.5, "mean_iou": next(scores)}

    monkeypatch.setattr(training.validation, "validate", score)
    run = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=3)
    assert run.best["epoch"] == 2
    kept = keras.Model(run.model.inputs, run.model.outputs[-1]).get_weights()
    for a, b in zip(kept, weights[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(weights[1], weights[2], strict=True))


def test_validation_that_scores_nothing_still_leaves_a_model(tmp_path):
    dataset = make_dataset()
    nothing = PreparedSplit(dataset.val.images, np.full_like(dataset.val.labels, 2), [], TABLE)
    dataset = dataclasses.replace(dataset, val=nothing)
    run = train(make_model(), dataset, run_dir=tmp_path, epochs=1)
    assert run.history["mean_iou"].isna().all()
    assert load_model(tmp_path).count_params() == run.model.count_params()


def test_init_from_a_model_of_another_form_is_refused(finished, tmp_path):
    other = seglib.create_unetpp_model((32, 32, 3), num_classes=3, filters=(2, 3, 4))
    with pytest.raises(ValueError, match="create the model with that one's filters"):
        train(other, make_dataset(), run_dir=tmp_path, epochs=1, init_from=finished.run_dir)


def test_validation_comes_every_few_epochs_and_at_both_ends(tmp_path):
    options = {"validate_every": 3, "ema": 0.9, "precision": "float32"}
    straight = train(make_model(), make_dataset(), run_dir=tmp_path / "a", epochs=5, **options)
    validated = straight.history["mean_iou"].notna()
    assert straight.history["epoch"][validated].tolist() == [1, 3, 5]
    assert straight.history["loss"].notna().all()
    report = seglib.evaluate(load_model(tmp_path / "a"), make_dataset().val)
    assert report.mean_iou == pytest.approx(straight.best["mean_iou"])


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")  # planned steps
def test_a_trained_model_is_saved_and_loaded_by_keras(tmp_path):
    run = train(make_model(), make_dataset(), run_dir=tmp_path / "run", epochs=1)
    run.model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_weights(run.model, loaded)


def test_averages_are_the_weights_before_the_first_update(tmp_path):
    run = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=1, gradient_accumulation=8,
                ema=True)  # fmt: skip
    assert all(np.abs(layer.kernel).max() > 0 for layer in run.model.layers if "conv" in layer.name)


def test_a_run_stopped_between_validations_and_ended_there_is_validated(tmp_path, monkeypatch):
    options = {"validate_every": 4, "ema": 0.9, "precision": "float32"}
    keep = training.Keeper.keep

    def fail(keeper):
        keep(keeper)
        if keeper.state.step == 9:
            raise RuntimeError("lost power")

    with monkeypatch.context() as patch:
        patch.setattr(training.Keeper, "keep", fail)
        with pytest.raises(RuntimeError, match="lost power"):
            train(make_model(), make_dataset(), run_dir=tmp_path, epochs=6, **options)
    run = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=3, **options)
    assert run.history["epoch"].tolist() == [1, 2, 3]
    assert run.history["mean_iou"].notna().tolist() == [True, False, True]
    assert run.history["loss"].notna().all()
    assert (run.history["loss"] > 0).all()


def test_time_that_runs_out_over_a_checkpoint_leaves_nothing_unvalidated(tmp_path, monkeypatch):
    keep = training.Keeper.keep

    def dawdle(keeper):
        keep(keeper)
        if keeper.state.step == 6:
            keeper.plan.clock.start -= 1000

    monkeypatch.setattr(training.Keeper, "keep", dawdle)
    run = train(make_model(), make_dataset(), run_dir=tmp_path, validate_every=4, time_budget=500)
    assert run.finished
    assert run.history["step"].tolist() == [3, 6, 7]
    assert run.history["mean_iou"].notna().tolist() == [True, False, True]


def test_data_that_are_not_prepared_are_told(tmp_path):
    with pytest.raises(TypeError, match=r"received a PreparedSplit: dataset\.prepare"):
        seglib.train(make_model(), make_split(2, 0), run_dir=tmp_path / "run", epochs=1)
