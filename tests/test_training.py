"""The loop and the plan with NumPy in place of a network; then `train` as users call it."""

import ctypes
import dataclasses
import errno
import gc
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import threading
import weakref

import keras
import killed_runs
import numpy as np
import pytest
from keras_checks import assert_same
from numpy_runs import Numbers, Stepper, run
from small_runs import assert_same_run, assert_same_weights, make_dataset, make_model, make_split

import seglib
from seglib.classes import ClassTable
from seglib.learning import learning_rate_at
from seglib.recipes import DEFAULTS
from seglib.runs import TIMINGS, RunFolder
from seglib.training import CLOSING, Plan


def carry_on(folder, **options):
    """Train to the end of the plan; return all that an interruption must not change."""
    ended_by, state, stepper = run(folder, **options)
    assert ended_by == "plan"
    rows = [{k: v for k, v in row.items() if k not in TIMINGS} for row in state.history]
    best = (folder / "best.keras").read_text()
    return rows, state.step, state.best_score, best, stepper.weights.tolist()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What is left by a run of three epochs that nobody disturbed."""
    return carry_on(tmp_path_factory.mktemp("whole"))


def read_story(folder):
    return json.loads((folder / "run.json").read_text())


# Interruptions of the loop


class Stop(Exception):
    """What ends a run in the middle."""


def stop_at(count):
    """Return a function that fails when it is called for the `count`-th time."""
    calls = itertools.count(1)

    def stop(*_):
        if next(calls) == count:
            raise Stop

    return stop


def watch(spot, *, before=lambda loop: None, after=lambda loop: None):
    """Return a change of a loop: functions called around a method, such as "learner.step"."""
    *part, name = spot.split(".")

    def change(loop):
        place = getattr(loop, *part) if part else loop
        method = getattr(place, name)

        def watched(*arguments, **options):
            before(loop)
            result = method(*arguments, **options)
            after(loop)
            return result

        object.__setattr__(place, name, watched)

    return change


SPOTS = ["batches.__getitem__", "learner.step", "note", "learner.validate", "learner.save"]
SPOTS += ["folder.save", "folder.tell", "end_epoch"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("spot", SPOTS)
@pytest.mark.parametrize("count", [1, 2])
def test_a_run_stopped_anywhere_ends_like_one_left_alone(tmp_path, whole, spot, when, count):
    with pytest.raises(Stop):
        run(tmp_path, change=watch(spot, **{when: stop_at(count)}))
    if spot != "folder.tell":
        assert read_story(tmp_path)["status"] == "failed: Stop"
    assert carry_on(tmp_path) == whole


@pytest.mark.parametrize("validation", [0, 4])
def test_validation_comes_every_few_epochs_and_at_both_ends(tmp_path, validation):
    _, state, stepper = run(tmp_path, epochs=5, validation=validation, validate_every=3)
    validated = [row["epoch"] for row in state.history if not np.isnan(row["mean_iou"])]
    assert validated == ([1, 3, 5] if validation else [])
    if not validation:  # the last weights are the best
        assert json.loads((tmp_path / "best.keras").read_text()) == stepper.weights.tolist()


def test_patience_ends_a_run_and_counts_over_sessions(tmp_path):
    assert run(tmp_path, epochs=3, patience=3)[0] == "plan"
    ended_by, state, _ = run(tmp_path, epochs=9, patience=3)
    assert ended_by == "patience"
    assert [row["mean_iou"] for row in state.history] == [0.2, 0.5, 0.3, 0.4, 0.45]


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(tmp_path, whole):
    class Diverging(Stepper):
        def step(self, *batch, rate):
            logs = super().step(*batch, rate=rate)
            return {"loss": float("nan")} if self.steps == 4 else logs

    with pytest.raises(FloatingPointError, match=r"epoch 1, batch 4 of 5.*step_000000002"):
        run(tmp_path, stepper=Diverging())
    assert carry_on(tmp_path) == whole


@pytest.mark.parametrize(
    ("number", "name", "spot", "at"),
    [
        (signal.SIGINT, "Ctrl-C", "folder.note", 7),
        (signal.SIGTERM, "SIGTERM", "folder.note", 7),
        (signal.SIGINT, "Ctrl-C", "learner.validate", 5),
    ],
)
def test_a_signal_ends_a_session_with_a_checkpoint(tmp_path, capsys, whole, number, name, spot, at):
    def interrupt(loop):
        if loop.state.step == at:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    ended_by, state, _ = run(tmp_path, change=watch(spot, before=interrupt))
    assert (ended_by, state.step, state.recorded) == (name, at, False)
    assert f"{name}: stopping after this step" in capsys.readouterr().err
    assert signal.getsignal(number) is handler
    assert read_story(tmp_path)["status"] == f"stopped by {name}"
    assert carry_on(tmp_path) == whole


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, change=lambda loop: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])


@pytest.mark.parametrize(
    ("part", "options", "steps"),
    [
        ("folder", {"epochs": 1, "save_steps": 2}, [2, 4, 5]),
        ("folder", {"epochs": 1, "save_seconds": 1e-9}, [1, 2, 3, 4, 5]),
        ("folder", {"epochs": 1, "save_steps": np.inf}, [5]),
        ("learner", {}, [5, 10]),  # the best epochs so far, of scores 0.2, 0.5 and 0.3
    ],
)
def test_checkpoints_and_the_best_are_saved_when_due(tmp_path, part, options, steps):
    saved = []
    note = watch(f"{part}.save", before=lambda loop: saved.append(loop.state.step))
    run(tmp_path, change=note, **options)
    assert saved == steps


@pytest.mark.parametrize("has_room", [True, False])
def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch, has_room):
    """Tables, which are small, may find room where a checkpoint does not, or not."""
    run(tmp_path, epochs=2)

    def refuse(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill_disk(stream, **arrays):
        stream.write(b"half")
        if not has_room:
            patch.setattr(os, "fsync", refuse)
        refuse(stream)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fill_disk)
        with pytest.raises(OSError, match=r"is full .*newest checkpoint is whole: make room"):
            run(tmp_path, epochs=4)
    assert not [file for file in tmp_path.rglob("*") if ".tmp" in file.name]
    assert read_story(tmp_path)["status"].startswith("failed: " if has_room else "failed")
    assert run(tmp_path, epochs=4)[1].step == 20


# Callbacks


class Recorder(keras.callbacks.Callback):
    """Writes "(0[01])" for a run of one epoch of two batches; stops training after so many."""

    def __init__(self, stop_after):
        super().__init__()
        self.heard, self.left = "", stop_after

    def on_train_begin(self, logs=None):
        self.heard += "("

    def on_epoch_begin(self, epoch, logs=None):
        self.heard += f"{epoch}["

    def on_train_batch_end(self, batch, logs=None):
        assert np.isfinite(logs["loss"])
        self.heard += str(batch)
        self.left -= 1
        self.model.stop_training = self.left == 0

    def on_epoch_end(self, epoch, logs=None):
        assert {"loss", "val_loss", "mean_iou"} <= set(logs)
        self.heard += "]"

    def on_train_end(self, logs=None):
        self.heard += ")"


def test_callbacks_hear_each_epoch_once_over_a_kill_and_a_stop(tmp_path, whole):
    recorder = Recorder(stop_after=12)
    with pytest.raises(Stop):
        run(tmp_path, callbacks=[recorder], change=watch("end_epoch", after=stop_at(1)))
    ended_by, state, _ = run(tmp_path, callbacks=[recorder])
    assert (ended_by, state.step) == ("Recorder", 12)
    assert read_story(tmp_path)["status"] == "stopped by Recorder"
    assert carry_on(tmp_path, callbacks=[recorder]) == whole
    assert recorder.heard == "(0[01234]" + "(1[01234]2[01)" + "(2[234])"


# The plan


class Watch:
    """A clock that goes on by a tick whenever it is read, whatever the machine does."""

    def __init__(self, tick=0.0):
        self.now, self.earlier, self.tick = 0.0, 0.0, tick

    @property
    def elapsed(self):
        self.now += self.tick
        return self.earlier + self.now


def make_plan(clock=None, *, steps_per_epoch=10, epochs=None, budget=None, durations=()):
    plan = Plan(clock or Watch(), steps_per_epoch, epochs, budget, DEFAULTS)
    plan.durations.extend(durations)
    return plan


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("budget", "step_seconds", "break_seconds"),
    [(60, 0.2, 1), (60, 0.5, 10), (300, 0.5, 10), (300, 3, 5), (900, 3, 5), (11.5 * 3600, 60, 300)],
)
def test_a_budget_is_used_up_and_not_overrun(tmp_path, budget, step_seconds, break_seconds, seed):
    """Steps and breaks take random times, half as long again when others use the machine."""
    random, clock = np.random.default_rng(seed), Watch()

    def spend(seconds):
        slow = 1.5 if clock.now > 0.5 * budget else 1
        clock.now += slow * seconds * random.uniform(0.7, 1.3)

    def slow_down(loop):
        watch("learner.step", after=lambda _: spend(step_seconds))(loop)
        watch("learner.validate", after=lambda _: spend(break_seconds))(loop)
        watch("learner.predict_batch", after=lambda _: spend(break_seconds / 2))(loop)

    options = {"epochs": None, "budget": budget, "save_steps": np.inf, "batches": Numbers(2, 184)}
    stepper = run(tmp_path, clock=clock, change=slow_down, **options)[2]
    tolerance = max(0.02 * budget, 10)
    assert budget - tolerance - break_seconds <= clock.now + CLOSING <= budget + tolerance
    assert stepper.rate < 0.1 * DEFAULTS["learning_rate"]  # which falls to 0 over the planned steps


def test_steps_and_breaks_are_counted_as_they_fall():
    clock = Watch()
    plan = make_plan(clock, budget=100 + CLOSING, durations=[1.0])
    plan.break_seconds = 5.0
    for elapsed, done, steps in (
        (0, 0, 65),  # 65 s, six breaks within and one at the end
        (42 + 4 * 5, 42, 65),
        (42 + 4 * 5 + 20, 42, 50),  # somebody else took the machine
    ):
        clock.now = elapsed
        plan.revise(done)
        assert plan.steps == steps


def test_a_step_that_compiles_anew_is_not_the_usual_one():
    plan = make_plan(budget=900, durations=[0.05] * 22 + [240])
    assert plan.step_seconds == pytest.approx(0.05)
    plan.durations.extend([0.2] * 69 + [1.0])  # slower since: no reason to leave any out
    assert plan.step_seconds == pytest.approx(np.mean([0.05] * 22 + [0.2] * 69 + [1.0]))


@pytest.mark.parametrize(
    ("budget", "epochs", "durations", "sizes", "chosen"),
    [
        (100, None, [1], (16, 4), 4),
        (500, None, [1], (16, 4), 8),
        (1000, None, [1], (16, 4), 16),
        (100, 3, [1], (16, 4), 16),
        (100, None, [1], (3, 4), 3),
        (100, None, [1], (16, 6), 6),
        (100, None, [4, 0.1, 0.1], (16, 4), 16),  # one slow step of three
    ],
)
def test_where_few_steps_fit_batches_are_halved(budget, epochs, durations, sizes, chosen):
    plan = make_plan(epochs=epochs, budget=budget, durations=durations)
    plan.revise(0)
    assert plan.choose_batch_size(*sizes) == chosen


@pytest.mark.parametrize("epochs", [None, 1000])
def test_where_few_steps_fit_a_run_stays_with_smaller_batches(tmp_path, capsys, epochs):
    def go_on(budget):
        options = {"epochs": epochs, "batch_size": (4, 1), "save_steps": np.inf}
        batches = Numbers(4, pairs=20)
        return run(tmp_path, budget=budget, clock=Watch(tick=0.02), batches=batches, **options)[:2]

    ended_by, state = go_on(8)
    assert ended_by == "plan"
    said = "of 4 pairs fit into the time: with so few, steps are of 1 from"
    assert capsys.readouterr().out.count(said) == 1
    assert (state.batch_size, state.steps_per_epoch) == (1, 20)
    assert state.history[-1]["step"] == state.step
    plan = read_story(tmp_path)["plan"]
    assert (plan["steps"], plan["batch_size"]) == (state.step, 1)
    assert go_on(8)[1].history == state.history  # a budget that is used up is not used again
    assert go_on(30)[1].step > state.step
    assert "pairs fit" not in capsys.readouterr().out


def test_a_resumed_run_keeps_to_its_plan_until_it_knows_its_speed(tmp_path):
    planned = []

    def interrupt(loop):
        planned.append(loop.state.planned_steps)
        if loop.state.step in (30, 31):
            os.kill(os.getpid(), signal.SIGINT)

    options = {"epochs": None, "budget": 20, "save_steps": np.inf}
    for count in (30, 31):
        change = watch("note", after=interrupt)
        assert run(tmp_path, clock=Watch(tick=0.02), change=change, **options)[0] == "Ctrl-C"
        assert len(planned) == count
    assert planned[30] == planned[29]


def test_an_end_by_time_is_validated_wherever_it_falls(tmp_path):
    clock = Watch(tick=0.02)

    def dawdle(loop):
        clock.now += 1000 * (loop.state.step == 10)

    options = {"epochs": None, "save_steps": np.inf, "validate_every": 4, "budget": 500}
    change = watch("folder.save", after=dawdle)
    ended_by, state, _ = run(tmp_path, clock=clock, change=change, **options)
    assert ended_by == "plan"
    assert [row["step"] for row in state.history][:2] == [5, 10]
    assert not np.isnan(state.history[-1]["mean_iou"])


def test_the_learning_rate_rises_and_falls():
    for schedule, expected in (
        ("trapezoid", {0: 0.2, 4: 1, 5: 1, 60: 1, 80: 0.5, 100: 0, 120: 0}),
        ("cosine", {0: 0.2, 50: 0.5, 75: 0.1464466, 100: 0, 120: 0}),
        ("constant", {0: 1, 50: 1, 120: 1}),
    ):
        shares = {step: learning_rate_at(step, 100, schedule) for step in expected}
        assert shares == pytest.approx(expected, abs=1e-6)


# `train` with a network


def train(run_dir, *, model=None, data=None, **options):
    options = {"precision": "float32", "epochs": 3, **options}
    return seglib.train(model or make_model(), data or make_dataset(), run_dir=run_dir, **options)


def train_in_parts(folder, make_options):
    """Return an undisturbed run; one that fails in its second epoch and is resumed is the same."""
    whole = train(folder / "whole", checkpoint_every=1, **make_options())
    fail = keras.callbacks.LambdaCallback(on_train_batch_end=stop_at(5))
    with pytest.raises(Stop):
        train(folder / "parts", checkpoint_every=1, callbacks=[fail], **make_options())
    assert_same_run(whole, train(folder / "parts", checkpoint_every=1, **make_options()))
    return whole


def test_a_run_learns_and_tells_what_it_did(finished):
    columns = ["epoch", "step", "loss", "val_loss", "pixel_accuracy", "mean_iou", "learning_rate"]
    assert finished.history.columns.tolist() == [*columns, *TIMINGS]
    assert finished.history[["epoch", "step"]].values.tolist() == [[1, 3], [2, 6], [3, 9]]
    assert (finished.history[list(TIMINGS)] > 0).all(axis=None)
    assert (finished.history["peak_memory_mb"] > 100).all()
    assert finished.history["loss"].is_monotonic_decreasing
    rates = [4e-3, 4e-3, 4e-3 / 3.6]  # of the last step in each epoch of a trapezoid over nine
    np.testing.assert_allclose(finished.history["learning_rate"], rates, rtol=1e-5)
    assert finished.best["mean_iou"] == finished.history["mean_iou"].max()
    files = {file.name for file in finished.run_dir.iterdir()}
    assert files == {"run.json", "history.csv", "curves.png", "best.keras", "checkpoints", ".lock"}
    assert finished.finished
    assert "3 epochs" in repr(finished)
    report = seglib.evaluate(seglib.load_model(finished.run_dir), make_dataset().val)
    assert report.mean_iou == pytest.approx(finished.best["mean_iou"])
    assert report.pixel_accuracy == pytest.approx(finished.best["pixel_accuracy"])


def test_all_that_learns_at_once_is_resumed_exactly(tmp_path):
    """Tasks, averages, dropout, accumulated gradients, mixed pairs, metrics that counted before."""
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def make_options():
        return {
            "model": make_model(heads=("segmentation", "boundary")),
            "metrics": [accuracy],
            "augment": seglib.Augmentation(cutmix=0.3, scale=(0.7, 1.5)),
            "ema": 0.9,
            "gradient_accumulation": 2,
        }

    whole = train_in_parts(tmp_path, make_options)
    assert whole.history["val_accuracy"].between(0, 1).all()
    variances = [np.array(w) for w in whole.model.weights if w.path.endswith("log_variance")]
    assert np.count_nonzero(variances) == len(variances) == 2


def jitter(image, labels, seed):
    random = np.random.default_rng(seed)
    image += random.integers(0, 9, image.shape, np.uint8)
    return (image[:, ::-1], labels[:, ::-1]) if random.random() < 0.5 else (image, labels)


def test_a_function_of_ones_own_augments_and_is_resumed_exactly(tmp_path):
    train_in_parts(tmp_path, lambda: {"augment": jitter})


@pytest.mark.parametrize("damage", [b"", None])
def test_best_weights_that_are_gone_are_replaced_by_the_next(finished, tmp_path, damage):
    shutil.copytree(finished.run_dir, tmp_path / "run")
    best = tmp_path / "run/best.keras"
    best.unlink() if damage is None else best.write_bytes(damage)
    words = r"best\.keras is (missing|damaged) .* are the newest checkpoint's"
    with pytest.warns(UserWarning, match=words):
        again = train(tmp_path / "run", model=make_model(seed=5))
    weights = again.model.get_weights()
    assert_same(weights, RunFolder(tmp_path / "run").read().arrays[: len(weights)])
    with pytest.warns(UserWarning, match="the next validated weights become the best"):
        more = train(tmp_path / "run", model=make_model(seed=5), epochs=4)
    assert_same_weights(more.model, seglib.load_model(tmp_path / "run"))


def test_a_recipe_is_followed_and_arguments_replace_it(tmp_path):
    recipe = seglib.Recipe(train={"batch_size": 6, "optimizer": "adam", "augment": False}, epochs=1)
    train(tmp_path, recipe=recipe, batch_size=4, precision="mixed_bfloat16", epochs=None)
    story = read_story(tmp_path)
    session = story["sessions"][0]
    assert (story["settings"]["batch_size"], story["settings"]["optimizer"]) == (4, "adam")
    assert story["plan"]["epochs"] == 1
    assert (session["precision"], session["keras"]) == ("mixed_bfloat16", keras.__version__)
    assert session["device"]
    model = seglib.load_model(tmp_path)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_init_from_another_run_starts_there(finished, tmp_path):
    options = {"init_from": finished.run_dir, "epochs": np.int64(1), "learning_rate": 0}
    run = train(tmp_path / "same", model=make_model(seed=3), **options)
    assert_same(run.model.trainable_weights, finished.model.trainable_weights)
    with pytest.raises(ValueError, match="create the model with that one's filters"):
        train(tmp_path / "other", model=make_model(filters=(2, 3, 4)), **options)


def test_windows_of_larger_pictures_train_with_a_keras_optimizer(tmp_path):
    """Validation is at the model's size; the optimizer has its own schedule."""
    augment = seglib.Augmentation(size=32, scale=(0.8, 2))
    decay = keras.optimizers.schedules.ExponentialDecay(1.0, decay_steps=3, decay_rate=0.5)
    options = {"augment": augment, "optimizer": keras.optimizers.SGD(decay), "epochs": 2}
    run = train(tmp_path, data=make_dataset(scale=2), **options)
    np.testing.assert_allclose(run.history["learning_rate"], [0.5, 0.25], rtol=1e-6)
    assert read_story(tmp_path)["settings"]["learning_rate"] is None
    report = seglib.evaluate(run.model, make_dataset().val)
    assert report.pixel_accuracy == pytest.approx(run.best["pixel_accuracy"], abs=0.02)


def test_windows_at_own_scale_are_validated_and_used_in_tiles(tmp_path):
    data, augment = make_dataset(scale=2), seglib.Augmentation(size=32, native=True)
    run = train_in_parts(tmp_path, lambda: {"data": data, "augment": augment})
    learned, tiled = (seglib.evaluate(run.model, data.val, tile=tile) for tile in (None, True))
    assert learned.mean_iou == pytest.approx(run.best["mean_iou"])
    np.testing.assert_array_equal(learned.confusion, tiled.confusion)
    assert np.isfinite(run.history["val_loss"]).all()
    loaded = seglib.load_model(run.run_dir)
    assert seglib.models.known_head(loaded).native == ((32, 32), (64, 64))
    predictor = seglib.load_predictor(seglib.export(loaded, tmp_path / "export", format="keras"))
    image = data.val.images[0]
    expected = seglib.predict(loaded, image, tile=True)
    np.testing.assert_array_equal(predictor.predict(image), expected)


def make_own(channels=3, *, size=(32, 32), activation=None, stride=1, end=lambda x: x):
    """A small network of somebody's who does not know seglib."""
    image = keras.Input((*size, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image / 255)
    x = keras.layers.Conv2D(channels, stride, stride, activation=activation)(x)
    return keras.Model(image, end(x))


class Subclassed(keras.Model):
    """A network without known outputs, and not registered."""

    def call(self, image):
        return image


def make_with_two_inputs():
    images = [keras.Input((32, 32, 3)) for _ in "ab"]
    return keras.Model(images, keras.layers.Conv2D(3, 1)(keras.layers.Add()(images)))


@pytest.mark.parametrize(
    "own",
    [{"end": lambda x: {"masks": x}}, {"size": (None, None), "end": lambda x: [x, 2 * x]}],
)
def test_a_model_of_ones_own_learns_once_and_its_file_knows_the_classes(tmp_path, own):
    model, data = make_own(**own), make_dataset()
    run = train(tmp_path, model=model, epochs=2)
    again = train(tmp_path, model=make_own(**own), epochs=2)  # returns at once
    assert again.finished
    assert again.history.equals(run.history)
    assert_same_weights(again.model, run.model)
    run.model.save(tmp_path / "saved.keras")
    loaded = [seglib.load_model(path) for path in (tmp_path, tmp_path / "saved.keras")]
    for each in (model, run.model, *loaded):
        assert seglib.models.known_head(each).classes == data.classes
        assert seglib.evaluate(each, data.val).mean_iou == pytest.approx(run.best["mean_iou"])


def test_a_run_of_other_data_models_or_settings_is_refused(finished):
    for options, words in (
        ({"data": make_dataset(fingerprint="other")}, r"data: 'data' before, 'other' now"),
        ({"model": make_model(filters=(4, 9))}, r"model\.parameters: 1979 before"),
        ({"model": make_model(dropout=0.2)}, r"model\.layers: "),
        ({"seed": 1}, "seed: 0 before, 1 now"),
        ({"batch_size": 3, "seed": 1, "allow_changes": "seed"}, r'now.*\("seed", "batch_size",\)'),
        ({"loss": seglib.losses.Dice(2)}, r"loss: None before, \{'class': 'Dice'"),
        ({"augment": seglib.Augmentation(rotation=10)}, r"augment\.rotation: 0\.0 before, 10 now"),
        ({"augment": jitter}, r"augment\.class: 'Augmentation' before, 'function' now"),
    ):
        with pytest.raises(ValueError, match=words):
            train(finished.run_dir, **options)


def change_labels(function, split="train"):
    """The pairs of `make_dataset` with other labels."""
    data = make_dataset()
    pairs = getattr(data, split)
    changed = dataclasses.replace(pairs, labels=function(pairs.labels.astype(int)))
    return dataclasses.replace(data, **{split: changed})


layers = keras.layers
NO_LOGITS = "expected logits of .*without softmax or sigmoid"
BROKEN = layers.Lambda(str.upper, lambda shape: shape)  # fails when it is called with pictures
ONE_LEFT = ClassTable(["unlabeled", "road"], [(0, 0, 0), (9, 9, 9)], ignore_label=0)
BLENDED = seglib.oversample_patches(make_dataset(), method="smote", count=20)
LETTERBOXED = make_dataset(scale=2, resize="letterbox", image_size=(64, 48))


@pytest.fixture(scope="module")
def untrained():
    return make_model()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 2.5}, "epochs to be a whole number"),
        ({"batch_size": (4, 0)}, "batch_size to be a whole number ≥ 1, received 0"),
        ({"time_budget": "soon"}, "expected a duration such as"),
        ({"checkpoint_every": 0}, "checkpoint_every to be a whole number ≥ 1"),
        ({"seed": -1}, "seed to be a whole number ≥ 0, received -1"),
        ({"schedule": "linear"}, "schedule of trapezoid, cosine, constant"),
        ({"learning_rate": -1}, r"learning_rate within \[0, "),
        ({"learning_rate": float("nan")}, r"learning_rate within \[0, "),
        ({"learningrate": 0.1}, "no option 'learningrate': did you mean learning_rate"),
        ({"class_weights": [0, 0, 0]}, "a weight ≥ 0 for each of 3 classes, not all 0"),
        ({"data": make_split(2, 0)}, r"received a PreparedSplit: dataset\.prepare"),
        ({"data": make_dataset(train=0)}, "all pixels of train are ignored, if any"),
        ({"data": make_dataset(classes=ONE_LEFT)}, r"at least two classes.*\['road'\]"),
        ({"data": change_labels(lambda x: 0 * x + 2)}, "all pixels of train are ignored, if any"),
        ({"data": change_labels(lambda x: 0 * x + 2, "val")}, "all pixels of val are ignored"),
        ({"data": change_labels(lambda x: x + 70)}, r"has the ids \[70, 71, 72\]: expected 0 to 2"),
        ({"data": change_labels(lambda x: x - 1)}, r"has the ids \[-1\]: expected 0 to 2"),
        ({"data": make_dataset(scale=2)}, r"or augment=Augmentation\(size=\(32, 32\)\)"),
        ({"data": BLENDED, "augment": seglib.Augmentation(mixup=0.3)}, "are blended already"),
        ({"data": LETTERBOXED, "augment": seglib.Augmentation(size=32)}, "would be stretched"),
        ({"augment": seglib.Augmentation(size=64)}, r"gets \(64, 64, 3\) of data .* \(32, 32\)"),
        ({"augment": seglib.Augmentation(focus=1, focus_weights=[1, 2])}, "expected 3 focus_weigh"),
        ({"augment": lambda image, labels, seed: None}, "a uint8 image .* received object"),
        ({"augment": lambda image, labels, seed: (image, labels[1:])}, "a uint8 image .*32, 32, 3"),
        ({"augment": lambda image, labels, seed: (image[:16], labels[:16])}, r"gets \(16, 32, 3\)"),
        (lambda: make_own(activation="softmax"), NO_LOGITS),
        (lambda: make_own(activation="sigmoid"), NO_LOGITS),
        (lambda: make_own(activation="softmax", stride=2, end=layers.UpSampling2D(2)), NO_LOGITS),
        (lambda: make_own(channels=1), r"scores of \[\(32, 32, 1\)\].*a channel for each class"),
        (lambda: make_own(stride=2), r"\(16, 16, 3\).*keras.layers.Resizing"),
        (lambda: make_own(end=lambda x: [keras.ops.mean(x, (1, 2)), x]), r"scores of \[\(3,\), "),
        (lambda: make_own(end=type("Hidden", (Subclassed,), {})()), "register_keras_serializable"),
        (lambda: make_own(end=layers.Lambda(lambda x: 2 * x)), "no file can keep: use no Lambda"),
        (lambda: make_own(end=BROKEN), r"takes no pictures of \(32, 32, 3\): "),
        (lambda: make_own(size=(64, 64)), r"takes images of \(64, 64, 3\)"),
        (make_with_two_inputs, "has 2 inputs: expected one"),
        (Subclassed, r"not known.*give keras.Model\(image, model\(image\)\)"),
        (lambda: keras.Sequential([layers.Conv2D(3, 1)]), "not known.*not built"),
    ],
)
def test_what_cannot_be_trained_says_what_was_expected(tmp_path, untrained, options, words):
    """Options of `train`, or what makes a model."""
    options = {"model": options()} if callable(options) else {"model": untrained, **options}
    with pytest.raises((TypeError, ValueError), match=words):
        train(tmp_path, **options)


def test_a_run_in_a_thread_trains_all_the_same(tmp_path, whole):
    results = []
    thread = threading.Thread(target=lambda: results.append(carry_on(tmp_path)))
    thread.start()
    thread.join()
    assert results == [whole]


def test_a_run_killed_while_it_trains_is_carried_on(tmp_path):
    options = {"epochs": 1, "checkpoint_every": 1, "seed": 3}
    seglib.train(make_model(), make_dataset(), run_dir=tmp_path / "whole", **options)
    assert killed_runs.kill_run(tmp_path / "parts", "within a checkpoint", 3, options=options)
    assert not killed_runs.kill_run(tmp_path / "parts", options=options)
    assert killed_runs.find_changes(tmp_path / "whole", tmp_path / "parts") == []


def test_a_rehearsal_ends_with_equal_runs():
    assert_same_run(*seglib.rehearse_kill(make_dataset()), folders=False)


def test_models_are_freed_after_a_run(tmp_path):
    model = make_model()
    run = train(tmp_path, model=model, time_budget="60s", epochs=2)
    assert run.history["epoch"].tolist() == [1, 2]  # which the budget has room for
    reference = weakref.ref(model)
    del model, run
    gc.collect()
    assert reference() is None


@pytest.mark.long
def test_runs_of_one_process_do_not_add_up_in_memory(tmp_path):
    resident = []
    for number in range(5):
        train(tmp_path / f"run_{number}", time_budget="60s")
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what glibc keeps of freed memory is up to 40 MB
        status = pathlib.Path("/proc/self/status").read_text()
        resident.append(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024)
    assert resident[4] - resident[1] <= 60, resident
