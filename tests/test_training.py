"""The loop and the plan with NumPy in place of a network; then `train` as users call it."""

import dataclasses
import errno
import gc
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import weakref

import keras
import killed_runs
import numpy as np
import pytest
from numpy_runs import Numbers, Stepper, run
from small_runs import (
    assert_same_run,
    assert_same_weights,
    last_arrays,
    make_dataset,
    make_model,
    make_split,
    without_timings,
)

import seglib
from seglib.classes import ClassTable
from seglib.learning import learning_rate_at
from seglib.preparing import PreparedSplit
from seglib.recipes import DEFAULTS
from seglib.runs import TIMINGS, RunState
from seglib.training import CLOSING, Plan


class Stop(Exception):
    """What ends a run in the middle."""


def describe(folder, state, stepper):
    """All that an interruption must not change."""
    rows = [{k: v for k, v in row.items() if k not in TIMINGS} for row in state.history]
    best = (folder / "best.keras").read_text()
    return rows, state.step, state.best_score, best, stepper.weights.tolist()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What is left by a run of three epochs that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return describe(folder, *run(folder)[1:])


# Interruptions of the loop


def stop_at(place, method, count, *, before):
    """Let the `count`-th call of a method fail, before or after it does its work."""
    function, calls = getattr(place, method), []

    def fail(*arguments, **options):
        calls.append(1)
        if before and len(calls) == count:
            raise Stop
        result = function(*arguments, **options)
        if len(calls) == count:
            raise Stop
        return result

    object.__setattr__(place, method, fail)


SPOTS = {
    "a step": lambda loop: (loop.learner, "step"),
    "noting a step": lambda loop: (loop, "note"),
    "validating": lambda loop: (loop.learner, "validate"),
    "saving the best": lambda loop: (loop.learner, "save"),
    "a checkpoint": lambda loop: (loop.folder, "save"),
    "the tables": lambda loop: (loop.folder, "tell"),
    "the end of an epoch": lambda loop: (loop, "end_epoch"),
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("spot", SPOTS)
@pytest.mark.parametrize("count", [1, 2])
def test_a_run_stopped_anywhere_ends_like_one_left_alone(tmp_path, whole, spot, before, count):
    with pytest.raises(Stop):
        run(tmp_path, change=lambda loop: stop_at(*SPOTS[spot](loop), count, before=before))
    if spot != "the tables":
        assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed: Stop"
    ended_by, *rest = run(tmp_path)
    assert ended_by == "plan"
    assert describe(tmp_path, *rest) == whole


def test_what_goes_wrong_while_a_batch_is_read_is_reported(tmp_path):
    class Broken(Numbers):
        def __getitem__(self, step):
            if step == 7:
                raise OSError("the disk has gone")
            return super().__getitem__(step)

    with pytest.raises(OSError, match="the disk has gone"):
        run(tmp_path, batches=Broken())
    assert run(tmp_path)[1].step == 15


def test_the_best_epoch_is_kept_not_the_last(tmp_path):
    kept = []

    class Noting(Stepper):
        def save(self, file):
            kept.append(self.steps)
            super().save(file)

    _, state, _ = run(tmp_path, epochs=3, stepper=Noting())
    assert [row["mean_iou"] for row in state.history] == [0.2, 0.5, 0.3]
    assert kept == [5, 10]


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


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(tmp_path):
    class Diverging(Stepper):
        def step(self, *batch, rate):
            logs = super().step(*batch, rate=rate)
            return {"loss": float("nan")} if self.steps == 4 else logs

    with pytest.raises(FloatingPointError, match=r"epoch 1, batch 4 of 5.*step_000000002"):
        run(tmp_path, stepper=Diverging())
    assert run(tmp_path)[1].step == 15


@pytest.mark.parametrize(
    ("number", "name", "method", "at", "step"),
    [
        (signal.SIGINT, "Ctrl-C", "step", 6, 7),
        (signal.SIGTERM, "SIGTERM", "step", 6, 7),
        (signal.SIGINT, "Ctrl-C", "validate", 5, 5),
    ],
)
def test_a_signal_writes_a_checkpoint_and_ends_the_session(
    tmp_path, capsys, whole, number, name, method, at, step
):
    def interrupt(loop):
        function = getattr(loop.learner, method)

        def interrupted(*arguments, **options):
            if loop.state.step == at:
                os.kill(os.getpid(), number)
            return function(*arguments, **options)

        setattr(loop.learner, method, interrupted)

    handler = signal.getsignal(number)
    ended_by, state, _ = run(tmp_path, change=interrupt)
    assert (ended_by, state.step, state.recorded) == (name, step, False)
    assert f"{name}: stopping after this step" in capsys.readouterr().err
    assert signal.getsignal(number) is handler
    assert json.loads((tmp_path / "run.json").read_text())["status"] == f"stopped by {name}"
    assert describe(tmp_path, *run(tmp_path)[1:]) == whole


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def twice(loop):
        loop.learner.step = lambda *a, **b: [os.kill(os.getpid(), signal.SIGINT) for _ in "ab"]

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, change=twice)


def test_checkpoints_come_after_so_many_steps_or_seconds(tmp_path):
    for name, rule, expected in (
        ("steps", {"save_steps": 2}, [2, 4, 5]),
        ("seconds", {"save_steps": np.inf, "save_seconds": 1e-9}, [1, 2, 3, 4, 5]),
        ("epochs", {"save_steps": np.inf}, [5]),
    ):
        steps = []

        def note(loop, steps=steps):
            save = loop.folder.save
            loop.folder.save = lambda state, arrays: (steps.append(state.step), save(state, arrays))

        run(tmp_path / name, epochs=1, change=note, **rule)
        assert steps == expected


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
    status = json.loads((tmp_path / "run.json").read_text())["status"]
    assert status.startswith("failed: " if has_room else "failed")
    assert run(tmp_path, epochs=4)[1].step == 20


# Callbacks


class Recorder(keras.callbacks.Callback):
    """Notes events; stops training after so many batches."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.events, self.left = [], stop_after

    def set_model(self, model):
        self._model = model

    def on_train_begin(self, logs=None):
        self.events.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.events.append(("epoch begins", epoch))

    def on_train_batch_end(self, batch, logs=None):
        assert np.isfinite(logs["loss"])
        self.events.append(("batch", batch))
        self.left = None if self.left is None else self.left - 1
        if self.left == 0:
            self._model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        assert {"loss", "val_loss", "mean_iou"} <= set(logs)
        self.events.append(("epoch ends", epoch))

    def on_train_end(self, logs=None):
        self.events.append("end")


def test_callbacks_hear_each_epoch_once_over_a_stop(tmp_path, whole):
    first, second = Recorder(stop_after=12), Recorder()
    ended_by, state, _ = run(tmp_path, callbacks=[first])
    assert (ended_by, state.step) == ("Recorder", 12)
    epochs = [
        [("epoch begins", epoch), *(("batch", i) for i in range(5)), ("epoch ends", epoch)]
        for epoch in range(2)
    ]
    rest = [("epoch begins", 2), ("batch", 0), ("batch", 1)]
    assert first.events == ["begin", *epochs[0], *epochs[1], *rest, "end"]
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "stopped by Recorder"
    ended_by, *rest = run(tmp_path, callbacks=[second])
    batches = [("batch", i) for i in (2, 3, 4)]
    assert second.events == ["begin", ("epoch begins", 2), *batches, ("epoch ends", 2), "end"]
    assert describe(tmp_path, *rest) == whole


def test_an_epoch_in_a_checkpoint_is_not_told_again_after_a_kill(tmp_path):
    first, second = Recorder(), Recorder()
    with pytest.raises(Stop):
        run(
            tmp_path,
            callbacks=[first],
            change=lambda loop: stop_at(loop, "end_epoch", 1, before=False),
        )
    run(tmp_path, epochs=2, callbacks=[second])
    ends = [event for event in (*first.events, *second.events) if event[0] == "epoch ends"]
    assert ends == [("epoch ends", 0), ("epoch ends", 1)]


# The plan


class Watch:
    """A clock that stands still until it is told."""

    elapsed = 0.0


def make_plan(clock=None, *, steps_per_epoch=10, epochs=None, budget=None, **options):
    return Plan(clock or Watch(), steps_per_epoch, epochs, budget, {**DEFAULTS, **options})


def simulate(budget, *, step_seconds, break_seconds, steps_per_epoch=92, epochs=None, seed=0):
    """What a plan does with steps and breaks of random length; returns seconds, step, plan."""
    random, clock = np.random.default_rng(seed), Watch()
    plan = make_plan(clock, steps_per_epoch=steps_per_epoch, epochs=epochs, budget=budget)
    plan.break_seconds, state = break_seconds, RunState(step=1)
    clock.elapsed = min(25.0, 0.1 * budget)  # the first step compiles
    plan.note(clock.elapsed)
    while not plan.ended_by(state):
        slow = 1.5 if clock.elapsed > 0.5 * budget else 1  # others come to use the machine
        seconds = slow * step_seconds * random.uniform(0.7, 1.3)
        clock.elapsed += seconds
        plan.note(seconds)
        state.step += 1
        if plan.needs_revision():
            plan.revise(state.step)
        if state.step % steps_per_epoch == 0 and not plan.ended_by(state):
            plan.break_seconds = slow * break_seconds * random.uniform(0.7, 1.3)
            clock.elapsed += plan.break_seconds
    clock.elapsed += slow * break_seconds * random.uniform(0.7, 1.3) + CLOSING
    return clock.elapsed, state.step, plan


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("budget", "step_seconds", "break_seconds"),
    [
        *((budget, *speed) for budget in (60, 300, 900) for speed in ((0.2, 1), (0.5, 10))),
        *((budget, 3, 5) for budget in (60, 300, 900, 11.5 * 3600)),
    ],
)
def test_a_budget_is_used_up_and_not_overrun(budget, step_seconds, break_seconds, seed):
    seconds, step, plan = simulate(
        budget, step_seconds=step_seconds, break_seconds=break_seconds, seed=seed
    )
    tolerance = max(0.02 * budget, 10)
    assert budget - tolerance - break_seconds <= seconds <= budget + tolerance
    assert step == pytest.approx(plan.steps, rel=0.02, abs=2)


def test_steps_and_breaks_are_counted_as_they_fall():
    clock = Watch()
    plan = make_plan(clock, budget=100 + CLOSING)
    plan.durations.append(1.0)
    plan.break_seconds = 5.0
    plan.revise(0)
    assert plan.steps == 65  # 65 s, six breaks within and one at the end
    clock.elapsed = 42 + 4 * 5
    plan.revise(42)
    assert plan.steps == 65
    clock.elapsed += 20  # somebody else took the machine
    plan.revise(42)
    assert plan.steps == 50


def test_epochs_end_a_run_that_has_time_left():
    seconds, step, _ = simulate(
        3600, step_seconds=0.1, break_seconds=1, steps_per_epoch=10, epochs=5
    )
    assert step == 50
    assert seconds < 100


def test_a_step_that_compiles_anew_is_not_the_usual_one():
    plan = make_plan(budget=900)
    plan.durations.extend([0.05] * 22 + [240])
    assert plan.step_seconds == pytest.approx(0.05)
    plan.durations.extend([0.2] * 69 + [1.0])  # slower since: no reason to leave any out
    assert plan.step_seconds == pytest.approx(np.mean([0.05] * 22 + [0.2] * 69 + [1.0]))


def test_a_budget_that_was_used_up_is_not_used_again():
    done = RunState(step=40, planned_steps=40, spent=900.0)
    assert make_plan(budget=900.0).ended_by(done) == "plan"
    assert make_plan(budget=1800.0).ended_by(done) is None


@pytest.mark.parametrize(
    ("seconds", "epochs", "sizes", "chosen"),
    [
        (100, None, (16, 4), 4),
        (500, None, (16, 4), 8),
        (1000, None, (16, 4), 16),
        (100, 3, (16, 4), 16),
        (100, None, (5, 4), 4),
        (100, None, (3, 4), 3),
        (100, None, (16, 6), 6),
    ],
)
def test_where_few_steps_fit_batches_are_halved(seconds, epochs, sizes, chosen):
    plan = make_plan(epochs=epochs, budget=seconds)
    plan.durations.append(1.0)
    plan.revise(0)
    assert plan.choose_batch_size(*sizes) == chosen


def test_one_slow_step_of_three_does_not_halve_batches():
    plan = make_plan(budget=100.0)
    plan.durations.extend([4.0, 0.1, 0.1])
    plan.revise(0)
    assert plan.choose_batch_size(16, 4) == 16


class Ticking:
    """A clock that goes on by as much whenever it is read, whatever the machine does."""

    now = earlier = 0.0

    @property
    def elapsed(self):
        self.now += 0.02
        return self.earlier + self.now


@pytest.mark.parametrize("epochs", [None, 1000])
def test_a_run_takes_smaller_batches_where_few_steps_fit_and_stays_with_them(
    tmp_path, capsys, epochs
):
    options = {"epochs": epochs, "batch_size": (4, 1), "save_steps": np.inf}
    batches = Numbers(4, pairs=20)
    ended_by, state, _ = run(tmp_path, budget=8, clock=Ticking(), batches=batches, **options)
    assert ended_by == "plan"
    said = "of 4 pairs fit into the time: with so few, steps are of 1 from"
    assert capsys.readouterr().out.count(said) == 1
    assert (state.batch_size, state.steps_per_epoch) == (1, 20)
    assert state.history[-1]["step"] == state.step
    plan = json.loads((tmp_path / "run.json").read_text())["plan"]
    assert (plan["steps"], plan["batch_size"]) == (state.step, 1)
    again = run(tmp_path, budget=8, clock=Ticking(), batches=batches, **options)[1]
    assert again.history == state.history
    more = run(tmp_path, budget=30, clock=Ticking(), batches=batches, **options)[1]
    assert "pairs fit" not in capsys.readouterr().out
    assert more.step > state.step


def test_a_resumed_run_keeps_to_its_plan_until_it_knows_its_speed(tmp_path):
    def stop(step):
        def change(loop):
            note = loop.note

            def interrupted(*arguments):
                planned.append(loop.state.planned_steps)
                note(*arguments)
                if loop.state.step == step:
                    os.kill(os.getpid(), signal.SIGINT)

            loop.note = interrupted

        return change

    planned = []
    options = {"epochs": None, "budget": 20, "save_steps": np.inf}
    assert run(tmp_path, clock=Ticking(), change=stop(30), **options)[0] == "Ctrl-C"
    before = planned[-1]
    assert run(tmp_path, clock=Ticking(), change=stop(31), **options)[0] == "Ctrl-C"
    assert planned[-1] == before


def test_an_end_by_time_is_validated_wherever_it_falls(tmp_path):
    clock = Ticking()

    def dawdle(loop):
        save = loop.folder.save

        def slow(state, arrays):
            save(state, arrays)
            clock.now += 1000 * (state.step == 10)

        loop.folder.save = slow

    options = {"epochs": None, "save_steps": np.inf, "validate_every": 4}
    ended_by, state, _ = run(tmp_path, budget=500, clock=clock, change=dawdle, **options)
    assert ended_by == "plan"
    assert [row["step"] for row in state.history][:2] == [5, 10]
    assert not np.isnan(state.history[-1]["mean_iou"])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("trapezoid", {0: 0.2, 4: 1, 5: 1, 60: 1, 80: 0.5, 100: 0, 120: 0}),
        ("cosine", {0: 0.2, 50: 0.5, 75: 0.1464466, 100: 0, 120: 0}),
        ("constant", {0: 1, 50: 1, 120: 1}),
    ],
)
def test_the_learning_rate_rises_and_falls(schedule, expected):
    for step, share in expected.items():
        assert learning_rate_at(step, 100, schedule) == pytest.approx(share, abs=1e-6)


# `train` with a network


def train(run_dir, *, model=None, data=None, **options):
    options = {"precision": "float32", "epochs": 3, **options}
    data = data or make_dataset()
    return seglib.train(model or make_model(), data, run_dir=run_dir, **options)


def test_a_run_learns_and_tells_what_it_did(finished):
    assert finished.history["epoch"].tolist() == [1, 2, 3]
    columns = ["epoch", "step", "loss", "val_loss", "pixel_accuracy", "mean_iou", "learning_rate"]
    assert finished.history.columns.tolist() == [*columns, *TIMINGS]
    assert finished.history["step"].tolist() == [3, 6, 9]
    assert (finished.history[list(TIMINGS)] > 0).all(axis=None)
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


class Die(keras.callbacks.Callback):
    """Fails in the middle of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 1):
            raise Stop


def test_all_that_learns_at_once_is_resumed_exactly(tmp_path):
    """Tasks, averages, dropout, accumulated gradients, mixed pairs, metrics."""

    def train_all(name, **options):
        return train(
            tmp_path / name,
            model=make_model(heads=("segmentation", "boundary")),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            ema=0.9,
            augment=seglib.Augmentation(cutmix=0.3, scale=(0.7, 1.5)),
            gradient_accumulation=2,
            checkpoint_every=1,
            **options,
        )

    whole = train_all("whole")
    with pytest.raises(Stop):
        train_all("parts", callbacks=[Die()])
    parts = train_all("parts")
    assert_same_run(whole, parts)
    assert whole.history["val_accuracy"].between(0, 1).all()
    weights = [w for w in whole.model.weights if w.path.endswith("log_variance")]
    assert len(weights) == 2
    assert all(float(keras.ops.convert_to_numpy(w)) != 0 for w in weights)


def test_a_finished_run_returns_at_once(finished):
    again = train(finished.run_dir, model=make_model(seed=5))
    assert again.history.equals(finished.history)
    assert again.finished
    assert_same_weights(again.model, finished.model)


@pytest.mark.parametrize("damage", [b"", None])
def test_best_weights_that_are_gone_are_replaced_by_the_next_validated(finished, tmp_path, damage):
    shutil.copytree(finished.run_dir, tmp_path / "run")
    best = tmp_path / "run/best.keras"
    best.unlink() if damage is None else best.write_bytes(damage)
    with pytest.warns(
        UserWarning, match=r"best\.keras is (missing|damaged) .* are the newest checkpoint's"
    ):
        again = train(tmp_path / "run", model=make_model(seed=5))
    newest = last_arrays(tmp_path / "run")
    for weight, value in zip(again.model.get_weights(), newest, strict=False):
        np.testing.assert_array_equal(weight, value)
    with pytest.warns(UserWarning, match="the next validated weights become the best"):
        more = train(tmp_path / "run", model=make_model(seed=5), epochs=4)
    assert_same_weights(more.model, seglib.load_model(tmp_path / "run"))


def test_a_recipe_is_followed_and_arguments_replace_it(tmp_path):
    recipe = seglib.Recipe(train={"batch_size": 6, "optimizer": "adam", "augment": False}, epochs=1)
    changes = {"batch_size": 4, "precision": "mixed_bfloat16", "epochs": None}
    train(tmp_path, recipe=recipe, **changes)
    story = json.loads((tmp_path / "run.json").read_text())
    assert (story["settings"]["batch_size"], story["settings"]["optimizer"]) == (4, "adam")
    assert story["plan"]["epochs"] == 1
    assert story["sessions"][0]["precision"] == "mixed_bfloat16"
    model = seglib.load_model(tmp_path)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_init_from_another_run_starts_there(finished, tmp_path):
    model = make_model(num_classes=3, seed=3)
    run = train(
        tmp_path / "same",
        model=model,
        init_from=finished.run_dir,
        epochs=np.int64(1),
        learning_rate=0,
    )
    names = [layer.name for layer in run.model.layers if layer.name.endswith("_conv")]
    for name in names:
        kernels = [m.get_layer(name).get_weights()[0] for m in (run.model, finished.model)]
        np.testing.assert_array_equal(*kernels)
    other = seglib.create_unetpp_model((32, 32, 3), num_classes=3, filters=(2, 3, 4))
    with pytest.raises(ValueError, match="create the model with that one's filters"):
        train(tmp_path / "other", model=other, epochs=1, init_from=finished.run_dir)


def make_large_dataset(**changes):
    """The pairs of `make_dataset`, twice as large."""
    dataset, splits = make_dataset(), {}
    for name in ("train", "val"):
        split = getattr(dataset, name)
        arrays = (np.repeat(np.repeat(a, 2, 1), 2, 2) for a in (split.images, split.labels))
        splits[name] = PreparedSplit(*arrays, split.names, split.classes)
    return dataclasses.replace(dataset, **{"image_size": (64, 64), **splits, **changes})


def test_windows_of_larger_pictures_train_with_a_keras_optimizer(tmp_path):
    """Validation is at the model's size; the optimizer has its own schedule."""
    augment = seglib.Augmentation(size=32, scale=(0.8, 2))
    decay = keras.optimizers.schedules.ExponentialDecay(1.0, decay_steps=3, decay_rate=0.5)
    options = {"augment": augment, "optimizer": keras.optimizers.SGD(decay), "epochs": 2}
    run = train(tmp_path, data=make_large_dataset(), **options)
    np.testing.assert_allclose(run.history["learning_rate"], [0.5, 0.25], rtol=1e-6)
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["learning_rate"] is None
    report = seglib.evaluate(run.model, make_dataset().val)
    assert report.pixel_accuracy == pytest.approx(run.best["pixel_accuracy"], abs=0.02)


WINDOWS = seglib.Augmentation(size=32, native=True)


def test_windows_at_own_scale_are_validated_and_used_in_tiles(tmp_path):
    options = {"data": make_large_dataset(), "augment": WINDOWS, "checkpoint_every": 1}
    run = train(tmp_path / "whole", **options)
    scores = {
        tile: seglib.evaluate(run.model, options["data"].val, tile=tile) for tile in (None, True)
    }
    assert scores[None].mean_iou == pytest.approx(run.best["mean_iou"])
    np.testing.assert_array_equal(scores[None].confusion, scores[True].confusion)
    assert np.isfinite(run.history["val_loss"]).all()
    loaded = seglib.load_model(run.run_dir)
    assert seglib.models.known_head(loaded).native == ((32, 32), (64, 64))
    predictor = seglib.load_predictor(seglib.export(loaded, tmp_path / "export", format="keras"))
    image = options["data"].val.images[0]
    np.testing.assert_array_equal(
        predictor.predict(image), seglib.predict(loaded, image, tile=True)
    )
    with pytest.raises(Stop):
        train(tmp_path / "parts", callbacks=[Die()], **options)
    assert_same_run(run, train(tmp_path / "parts", **options))


def jitter(image, labels, seed):
    random = np.random.default_rng(seed)
    image += random.integers(0, 9, image.shape, np.uint8)
    return (image[:, ::-1], labels[:, ::-1]) if random.random() < 0.5 else (image, labels)


def test_a_function_of_ones_own_augments_and_is_resumed_exactly(tmp_path):
    options = {"augment": jitter, "checkpoint_every": 1}
    whole = train(tmp_path / "whole", **options)
    with pytest.raises(Stop):
        train(tmp_path / "parts", callbacks=[Die()], **options)
    with pytest.raises(ValueError, match=r"augment\.class: 'function' before, 'Augmentation' now"):
        train(tmp_path / "parts")
    assert_same_run(whole, train(tmp_path / "parts", **options))


def make_own(channels=3, *, size=(32, 32), activation=None, wrap=None, stride=1):
    """A small network of somebody's who does not know seglib."""
    image = keras.Input((*size, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image / 255)
    x = keras.layers.Conv2D(channels, stride, stride, activation=activation)(x)
    return keras.Model(image, wrap(x, image) if wrap else x)


class Subclassed(keras.Model):
    """A network without known outputs, and not registered."""

    def __init__(self):
        super().__init__()
        self.scores = keras.layers.Conv2D(3, 1)

    def call(self, image):
        return self.scores(image)


class Picky(keras.layers.Layer):
    def call(self, x):
        raise ValueError("expected pictures of 5 pixels")

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def make_with_two_inputs():
    images = [keras.Input((32, 32, 3)) for _ in "ab"]
    return keras.Model(images, keras.layers.Conv2D(3, 1)(keras.layers.Add()(images)))


@pytest.mark.parametrize(
    "own",
    [
        lambda: make_own(wrap=lambda x, image: {"masks": x}),
        lambda: make_own(size=(None, None), wrap=lambda x, image: [x, 2 * x]),
    ],
)
def test_a_model_of_ones_own_learns_and_its_file_knows_the_classes(tmp_path, own):
    model, data = own(), make_dataset()
    run = train(tmp_path, model=model, epochs=2)
    assert train(tmp_path, model=own(), epochs=2).history.equals(run.history)
    run.model.save(tmp_path / "saved.keras")
    every = [
        model,
        run.model,
        seglib.load_model(tmp_path),
        seglib.load_model(tmp_path / "saved.keras"),
    ]
    for each in every:
        assert seglib.models.known_head(each).classes == data.classes
        assert seglib.evaluate(each, data.val).mean_iou == pytest.approx(run.best["mean_iou"])


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (lambda: make_own(activation="softmax"), "expected logits of .*without softmax or sigmoid"),
        (lambda: make_own(activation="sigmoid"), "without softmax or sigmoid"),
        (
            lambda: make_own(
                stride=2,
                wrap=lambda x, image: keras.layers.UpSampling2D(2)(keras.layers.Softmax()(x)),
            ),
            "without softmax or sigmoid",
        ),
        (
            lambda: make_own(1, activation="sigmoid"),
            r"scores of \[\(32, 32, 1\)\].*a channel for each class",
        ),
        (lambda: make_own(stride=2), r"\(16, 16, 3\).*keras.layers.Resizing"),
        (
            lambda: make_own(wrap=lambda x, image: [keras.ops.mean(x, (1, 2)), x]),
            r"scores of \[\(3,\), ",
        ),
        (Subclassed, r"not known.*give keras.Model\(image, model\(image\)\)"),
        (lambda: keras.Sequential([keras.layers.Conv2D(3, 1)]), "not known.*not built"),
        (
            lambda: make_own(wrap=lambda x, image: Subclassed()(image)),
            "decorate them with @keras.saving.register_keras_serializable",
        ),
        (
            lambda: make_own(wrap=lambda x, image: keras.layers.Lambda(lambda x: 2 * x)(x)),
            "a layer that no file can keep: use no Lambda",
        ),
        (
            lambda: make_own(wrap=lambda x, image: Picky()(x)),
            r"takes no pictures of \(32, 32, 3\): ",
        ),
        (make_with_two_inputs, "has 2 inputs: expected one"),
        (lambda: make_own(size=(64, 64)), r"takes images of \(64, 64, 3\)"),
    ],
)
def test_a_model_of_ones_own_that_cannot_be_trained_says_why(tmp_path, own, words):
    with pytest.raises((TypeError, ValueError), match=words):
        train(tmp_path, model=own())


def test_other_data_classes_models_and_settings_are_refused(finished):
    for options, words in (
        ({"data": make_dataset(fingerprint="other")}, r"data: 'data' before, 'other' now"),
        ({"model": make_model(filters=(4, 9))}, r"model\.parameters: 1979 before"),
        ({"model": make_model(dropout=0.2)}, r"model\.layers: "),
        ({"seed": 1}, "seed: 0 before, 1 now"),
        (
            {"batch_size": 3, "seed": 1, "allow_changes": "seed"},
            r'batch_size: 4 before, 3 now.*allow_changes=\("seed", "batch_size",\)',
        ),
        ({"loss": seglib.losses.Dice(2)}, r"loss: None before, \{'class': 'Dice'"),
        ({"augment": seglib.Augmentation(rotation=10)}, r"augment\.rotation: 0\.0 before, 10 now"),
    ):
        with pytest.raises(ValueError, match=words):
            train(finished.run_dir, **options)


CUT, MIXUP = seglib.Augmentation(size=32), seglib.Augmentation(mixup=0.3)


def change_labels(function, *, classes=None):
    """The pairs of `make_dataset` with other labels, or with other classes."""
    data = make_dataset() if classes is None else make_dataset(classes=classes)
    split = dataclasses.replace(data.train, labels=function(data.train.labels.astype(int)))
    return dataclasses.replace(data, train=split)


IGNORED = change_labels(lambda x: 0 * x + 2).train
IGNORED_VAL = dataclasses.replace(make_dataset(), val=IGNORED)
ONE_LEFT = ClassTable(["unlabeled", "road"], [(0, 0, 0), (9, 9, 9)], ignore_label=0)


@pytest.fixture(scope="module")
def untrained():
    return make_model()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs to be a whole number"),
        ({"batch_size": 2.5}, "batch_size to be a whole number"),
        ({"batch_size": (4, 0)}, "batch_size to be a whole number ≥ 1, received 0"),
        ({"time_budget": "soon"}, "expected a duration such as"),
        ({"checkpoint_every": 0}, "checkpoint_every to be a whole number ≥ 1"),
        ({"checkpoint_every": "often"}, "expected a duration such as"),
        ({"seed": -1}, "seed to be a whole number ≥ 0, received -1"),
        ({"schedule": "linear"}, "schedule of trapezoid, cosine, constant"),
        ({"learning_rate": -1}, r"learning_rate within \[0, "),
        ({"learning_rate": float("nan")}, "learning_rate within"),
        ({"class_weights": [0, 0, 0]}, "a weight ≥ 0 for each of 3 classes, not all 0"),
        ({"data": make_dataset(classes=ONE_LEFT)}, r"at least two classes.*\['road'\]"),
        ({"data": change_labels(lambda x: 0 * x + 2)}, "all pixels of train are ignored, if any"),
        ({"data": IGNORED_VAL}, "all pixels of val are ignored"),
        ({"augment": seglib.Augmentation(focus=1, focus_weights=[1, 2])}, "expected 3 focus_weigh"),
        ({"data": change_labels(lambda x: x + 70)}, r"has the ids \[70, 71, 72\]: expected 0 to 2"),
        ({"data": change_labels(lambda x: x - 1)}, r"has the ids \[-1\]: expected 0 to 2"),
        ({"augment": lambda image, labels, seed: None}, "a uint8 image .* received object"),
        ({"augment": lambda image, labels, seed: (image, labels[1:])}, "a uint8 image .*32, 32, 3"),
        (
            {"augment": lambda image, labels, seed: (image[:16], labels[:16])},
            r"takes images of \(32, 32, 3\) .* gets \(16, 32, 3\)",
        ),
        ({"learningrate": 0.1}, "no option 'learningrate': did you mean learning_rate"),
        ({"data": make_split(2, 0)}, r"received a PreparedSplit: dataset\.prepare"),
        ({"data": make_dataset(train=0)}, "all pixels of train are ignored, if any"),
        ({"data": make_large_dataset()}, r"or augment=Augmentation\(size=\(32, 32\)\)"),
        (
            {"augment": seglib.Augmentation(size=64)},
            r"gets \(64, 64, 3\) of data prepared as \(32, 32\)",
        ),
        (
            {
                "data": make_large_dataset(resize="letterbox", image_size=(64, 48)),
                "augment": CUT,
            },
            "would be stretched",
        ),
        (
            {
                "data": seglib.oversample_patches(make_dataset(), method="smote", count=20),
                "augment": MIXUP,
            },
            "pairs are blended already",
        ),
    ],
)
def test_what_cannot_be_trained_says_what_was_expected(tmp_path, untrained, options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        train(tmp_path, model=untrained, **{"epochs": 1, **options})


def test_a_run_in_a_thread_trains_all_the_same(tmp_path):
    states = []
    thread = threading.Thread(target=lambda: states.append(run(tmp_path, epochs=1)[1]))
    thread.start()
    thread.join()
    assert states[0].step == 5


def test_a_run_killed_while_it_trains_is_carried_on(tmp_path):
    options = {"epochs": 1, "checkpoint_every": 1, "seed": 3}
    seglib.train(make_model(), make_dataset(), run_dir=tmp_path / "whole", **options)
    assert killed_runs.kill_run(tmp_path / "parts", "within a checkpoint", 3, options=options)
    assert not killed_runs.kill_run(tmp_path / "parts", options=options)
    assert killed_runs.find_changes(tmp_path / "whole", tmp_path / "parts") == []


def test_a_rehearsal_ends_with_equal_runs():
    undisturbed, resumed = seglib.rehearse_kill(make_dataset())
    assert without_timings(undisturbed.history).equals(without_timings(resumed.history))
    assert_same_weights(undisturbed.model, resumed.model)


def test_models_are_freed_after_a_run(tmp_path):
    model = make_model()
    train(tmp_path, model=model, time_budget="30s", epochs=2)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


MEMORY = """
import ctypes, gc, pathlib, re, sys, tempfile, weakref
import seglib
from small_runs import make_dataset, make_model

alive, resident = [], []
for number in range(5):
    model = make_model(seed=number)
    with tempfile.TemporaryDirectory() as folder:
        options = {"epochs": 3, "time_budget": "60s", "precision": "float32"}
        seglib.train(model, make_dataset(), run_dir=folder, **options)
    alive.append(weakref.ref(model))
    del model
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what glibc keeps of freed memory is up to 40 MB
    status = pathlib.Path("/proc/self/status").read_text()
    resident.append(int(re.search(r"VmRSS:\\s+(\\d+)", status)[1]) / 1024)
print([reference() is None for reference in alive], resident[4] - resident[1])
assert all(reference() is None for reference in alive)
assert resident[4] - resident[1] <= 60, resident
"""


@pytest.mark.long
def test_runs_of_one_process_do_not_add_up_in_memory():
    here = pathlib.Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "TQDM_DISABLE": "1"}
    subprocess.run([sys.executable, "-c", MEMORY], env=environment, check=True)
