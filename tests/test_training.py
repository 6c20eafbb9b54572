import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

import seglib
from seglib import training
from seglib.caching import PreparedDataset, PreparedSplit
from seglib.classes import ClassTable
from seglib.training import Batches, Trapezoid, choose_precision, load_model, train

TABLE = ClassTable(["dark", "bright", "void"], [(9, 9, 9), (8, 8, 8), (0, 0, 0)], ignore_label=2)


def make_split(count, seed, classes=TABLE):
    """Noisy pictures whose class is their brightness, which anything can learn."""
    random = np.random.default_rng(seed)
    labels = np.kron(random.integers(0, 2, (count, 4, 4)), np.ones((8, 8), int)).astype(np.uint8)
    images = 60 + 120 * labels[..., None] + random.integers(-40, 40, (count, 32, 32, 3))
    labels[:, :4] = classes.ignore_label
    names = [f"image_{i}" for i in range(count)]
    return PreparedSplit(images.astype(np.uint8), labels, names, classes)


def make_dataset(train=12, val=4, *, classes=TABLE, fingerprint="data"):
    splits = {"train": make_split(train, 0, classes), "val": make_split(val, 1, classes)}
    return PreparedDataset(
        path=None,
        image_size=(32, 32),
        fingerprint=fingerprint,
        classes=classes,
        test=make_split(0, 2, classes),
        **splits,
    )


def make_model(num_classes=3, seed=0, dropout=0.3, filters=(4, 8)):
    return seglib.create_unetpp_model(
        (32, 32, 3), num_classes=num_classes, filters=filters, dropout=dropout, seed=seed
    )


def assert_same_weights(first, second):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def copy_run(run, folder):
    return shutil.copytree(run.run_dir, folder / "copy")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of three epochs that nobody disturbed."""
    return train(make_model(), make_dataset(), run_dir=tmp_path_factory.mktemp("run"), epochs=3)


def test_a_run_learns_and_tells_what_it_did(finished):
    assert finished.history["epoch"].tolist() == [1, 2, 3]
    columns = ["epoch", "loss", "val_loss", "pixel_accuracy", "mean_iou", "seconds"]
    assert finished.history.columns.tolist() == columns
    assert finished.history["loss"].is_monotonic_decreasing
    best = finished.history["mean_iou"].max()
    assert finished.best["mean_iou"] == best
    files = {file.name for file in finished.run_dir.iterdir()}
    assert files == {"run.json", "history.csv", "best.keras", "checkpoints"}
    assert "3 epochs" in repr(finished)


def test_the_best_checkpoint_scores_what_the_history_says(finished):
    dataset = make_dataset()
    report = seglib.evaluate(load_model(finished.run_dir), dataset.val)
    assert report.mean_iou == pytest.approx(finished.best["mean_iou"])
    assert report.pixel_accuracy == pytest.approx(finished.best["pixel_accuracy"])


def test_all_heads_learn_what_can_be_separated(tmp_path):
    dataset = make_dataset()
    run = train(make_model(dropout=0, filters=(4, 6, 8)), dataset, run_dir=tmp_path, epochs=12,
                learning_rate=1e-2)  # fmt: skip
    assert run.best["pixel_accuracy"] > 0.97
    assert seglib.evaluate(run.model, dataset.val).mean_iou == pytest.approx(run.best["mean_iou"])
    shallow = seglib.evaluate(seglib.prune(run.model, 1), dataset.val)
    assert shallow.pixel_accuracy > 0.9


def test_a_finished_run_returns_at_once(finished, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", None)
    again = train(make_model(seed=5), make_dataset(), run_dir=finished.run_dir, epochs=3)
    assert again.history.equals(finished.history)
    assert_same_weights(again.model, finished.model)


def test_more_epochs_carry_a_run_on(finished, tmp_path):
    copy = copy_run(finished, tmp_path)
    run = train(make_model(seed=5), make_dataset(), run_dir=copy, epochs=4)
    assert run.history[:3].equals(finished.history)
    assert run.history["epoch"].tolist() == [1, 2, 3, 4]
    assert run.history["loss"].iloc[3] < run.history["loss"].iloc[2]


def test_a_run_that_was_interrupted_equals_one_that_was_not(finished, tmp_path, monkeypatch):
    def stop_in_the_second_epoch(*pair, epoch, **options):
        if epoch == 1:
            raise KeyboardInterrupt
        return augment(*pair, epoch=epoch, **options)

    augment = training.batches.augment_pair
    with monkeypatch.context() as patch:
        patch.setattr(training.batches, "augment_pair", stop_in_the_second_epoch)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - the backend may wrap it
            train(make_model(), make_dataset(), run_dir=tmp_path, epochs=3)
    run = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=3)
    np.testing.assert_array_equal(run.history["loss"], finished.history["loss"])
    assert_same_weights(run.model, finished.model)


def test_a_damaged_checkpoint_is_passed_over(finished, tmp_path):
    copy = copy_run(finished, tmp_path)
    newest = sorted((copy / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    run = train(make_model(), make_dataset(), run_dir=copy, epochs=3)
    np.testing.assert_array_equal(run.history["loss"], finished.history["loss"])
    assert_same_weights(run.model, finished.model)


def test_only_the_last_checkpoints_are_kept(finished):
    names = sorted(file.name for file in (finished.run_dir / "checkpoints").iterdir())
    assert names == ["epoch_0002.npz", "epoch_0003.npz"]


def test_other_settings_or_data_are_refused_on_the_same_folder(finished):
    with pytest.raises(ValueError, match="seed: 0 before, 1 now"):
        train(make_model(), make_dataset(), run_dir=finished.run_dir, epochs=3, seed=1)
    other = make_dataset(fingerprint="other")
    with pytest.raises(ValueError, match="choose another run_dir"):
        train(make_model(), other, run_dir=finished.run_dir, epochs=3)


def test_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(finished, tmp_path):
    copy = copy_run(finished, tmp_path)
    before = {file.name: file.read_bytes() for file in (copy / "checkpoints").iterdir()}
    with pytest.raises(FloatingPointError, match=r"epoch 4, batch 1 of 3.*epoch_0003\.npz"):
        train(make_model(), make_dataset(), run_dir=copy, epochs=4, loss=_NoNumber())
    after = {file.name: file.read_bytes() for file in (copy / "checkpoints").iterdir()}
    assert after == before
    assert_same_weights(load_model(copy), finished.model)


class _NoNumber(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.sum(y_pred) * float("nan")


def test_without_validation_data_the_last_epoch_is_best(tmp_path):
    run = train(make_model(), make_dataset(val=0), run_dir=tmp_path, epochs=2)
    assert run.history["mean_iou"].isna().all()
    assert run.best["epoch"] == 2
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
        ({"class_weights": [1.0, 2.0]}, "expected 3 class weights"),
    ],
)
def test_wrong_settings_say_what_was_expected(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train(make_model(), make_dataset(), run_dir=tmp_path, **{"epochs": 1, **options})


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
    seen = []

    def note_precision(scorer, *args):
        seen.append({layer.compute_dtype for layer in scorer.layers})
        return validate(scorer, *args)

    validate = training.validate
    monkeypatch.setattr(training.keeper, "validate", note_precision)
    run = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=1,
                precision="mixed_bfloat16")  # fmt: skip
    assert seen == [{"bfloat16", "float32"}]
    assert json.loads((tmp_path / "run.json").read_text())["precision"] == "mixed_bfloat16"
    for model in (run.model, load_model(tmp_path)):
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert np.isfinite(run.history["loss"]).all()


def test_precision_follows_the_processor(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow gains from bfloat16 units of a processor")
    monkeypatch.setattr(training.precision, "has_bfloat16_units", lambda: True)
    assert choose_precision() == "mixed_bfloat16"
    monkeypatch.setattr(training.precision, "has_bfloat16_units", lambda: False)
    assert choose_precision() == "float32"


def test_batches_are_a_function_of_seed_and_epoch():
    split = make_split(5, 0)
    options = {"batch_size": 2, "augment": True, "heads": 1}
    first, same = (Batches(split, seed=1, epoch=2, **options) for _ in range(2))
    same[0]  # what was asked for before does not matter
    for i in range(3):
        for a, b in zip(first[i], same[i], strict=True):
            np.testing.assert_array_equal(a, b)
    assert [len(first[i][0]) for i in range(3)] == [2, 2, 1]
    other = Batches(split, seed=1, epoch=3, **options)
    assert any((first[i][0] != other[i][0]).any() for i in range(3))
    first.on_epoch_end()
    np.testing.assert_array_equal(first[1][0], other[1][0])


def test_every_pair_is_seen_once_an_epoch():
    split = make_split(7, 0)
    batches = Batches(split, batch_size=3, seed=0, augment=False, heads=2)
    seen = np.concatenate([batches[i][0] for i in range(len(batches))])
    assert sorted(image.tobytes() for image in seen) == sorted(
        image.tobytes() for image in split.images
    )
    images, (first, second) = batches[0]
    np.testing.assert_array_equal(first, second)
    assert len(images) == 3


def test_loading_what_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trained model at .*best\.keras"):
        load_model(tmp_path)


def test_the_learning_rate_rises_is_held_and_falls():
    schedule = Trapezoid(2.0, 100)
    rates = [float(schedule(step)) for step in (0, 4, 5, 60, 80, 100, 120)]
    np.testing.assert_allclose(rates, [0.4, 2, 2, 2, 1, 0, 0], rtol=1e-6)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert float(copy(80)) == float(schedule(80))


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


def test_a_run_in_float16_with_averaged_weights_resumes_in_either_precision(tmp_path):
    options = {"ema": True, "run_dir": tmp_path}
    train(make_model(), make_dataset(), epochs=1, precision="mixed_float16", **options)
    for epochs, precision in ((2, "mixed_float16"), (3, "float32")):
        model = make_model(seed=9)
        run = train(model, make_dataset(), epochs=epochs, precision=precision, **options)
    assert run.history["epoch"].tolist() == [1, 2, 3]
    assert run.history["loss"].is_monotonic_decreasing


def test_the_best_epoch_is_kept_not_the_last(tmp_path, monkeypatch):
    weights, scores = [], iter([0.2, 0.5, 0.3])

    def score(scorer, *args):
        weights.append(scorer.get_weights())
        return {"loss": 1.0, "pixel_accuracy": 0.5, "mean_iou": next(scores)}

    monkeypatch.setattr(training.keeper, "validate", score)
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
