import contextlib
import gc
import itertools
import json
import os
import signal
import types

import keras
import numpy as np
import pytest
from small_runs import make_dataset, make_model

from seglib import training
from seglib.training import list_runs, train
from seglib.training.checkpoints import RunState
from seglib.training.planning import CLOSING, Plan, choose_batch_size

SECONDS_A_READING = 0.01  # of the clock of a run in a test


class Watch:
    """A clock that stands still until it is told."""

    elapsed = 0.0


def simulate(budget, *, step_seconds, break_seconds, steps_per_epoch, epochs=None, seed=0):
    """What a plan does with steps and breaks of random length; returns seconds, steps, plan."""
    random, clock = np.random.default_rng(seed), Watch()
    plan = Plan(clock, steps_per_epoch=steps_per_epoch, epochs=epochs, budget=budget)
    plan.break_seconds, step = break_seconds, 0
    clock.elapsed = min(25.0, 0.1 * budget)  # the first step compiles
    step += 1
    while not plan.is_over(step):
        slow = 1.5 if clock.elapsed > 0.5 * budget else 1  # others come to use the machine
        seconds = slow * step_seconds * random.uniform(0.7, 1.3)
        clock.elapsed += seconds
        plan.durations.append(seconds)
        step += 1
        if plan.needs_revision():
            plan.revise(step)
        if step % steps_per_epoch == 0 and not plan.is_over(step):
            plan.break_seconds = slow * break_seconds * random.uniform(0.7, 1.3)
            clock.elapsed += plan.break_seconds
    clock.elapsed += slow * break_seconds * random.uniform(0.7, 1.3) + CLOSING
    return clock.elapsed, step, plan


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("budget", "step_seconds", "break_seconds"),
    [
        *((budget, *speed) for budget in (60, 300, 900) for speed in ((0.2, 1), (0.5, 10), (3, 5))),
        (11.5 * 3600, 3, 5),
    ],
)
def test_a_budget_is_used_up_and_not_overrun(budget, step_seconds, break_seconds, seed):
    seconds, step, plan = simulate(
        budget, step_seconds=step_seconds, break_seconds=break_seconds, steps_per_epoch=92,
        seed=seed,
    )  # fmt: skip
    tolerance = max(0.02 * budget, 10)
    assert seconds <= budget + tolerance
    assert seconds >= budget - tolerance - break_seconds
    assert step == pytest.approx(plan.steps, rel=0.02, abs=2)


def test_a_step_that_compiles_anew_is_not_the_usual_one():
    plan = Plan(Watch(), steps_per_epoch=23, budget=900)
    plan.durations.extend([0.05] * 22 + [240])
    assert plan.step_seconds == pytest.approx(0.05)
    plan.durations.extend([0.2] * 69 + [1.0])  # slower since: no reason to leave any out
    assert plan.step_seconds == pytest.approx(np.mean([0.05] * 22 + [0.2] * 69 + [1.0]))


@pytest.mark.parametrize("budget", [3600.0, None])
def test_more_epochs_carry_on_what_epochs_ended(tmp_path, budget):
    first = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=1, time_budget=budget)
    assert first.history["epoch"].tolist() == [1]
    more = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=2, time_budget=budget)
    assert more.history["epoch"].tolist() == [1, 2]


def test_steps_and_breaks_are_counted_as_they_fall():
    clock = Watch()
    plan = Plan(clock, steps_per_epoch=10, budget=100 + CLOSING)
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


def test_a_plan_without_a_budget_is_its_epochs():
    plan = Plan(Watch(), steps_per_epoch=7, epochs=3)
    assert plan.steps == 21
    assert not plan.is_over(20)
    assert plan.is_over(21)
    assert not plan.needs_revision()
    assert plan.ended_by(RunState(step=21)) == "plan"


def test_patience_is_judged_only_where_there_was_a_validation():
    plan = Plan(Watch(), steps_per_epoch=3, epochs=9, patience=2)
    rows = [{"mean_iou": score} for score in (0.5, np.nan, np.nan, np.nan)]
    assert plan.ended_by(RunState(step=12, history=rows)) is None
    rows[-1] = {"mean_iou": 0.4}
    assert plan.ended_by(RunState(step=12, history=rows)) == "patience"


def test_a_budget_that_was_used_up_is_not_used_again():
    plan = Plan(Watch(), steps_per_epoch=7, budget=900.0)
    done = RunState(step=40, planned_steps=40, budget=900.0)
    assert plan.ended_by(done) == "plan"
    assert Plan(Watch(), steps_per_epoch=7, budget=1800.0).ended_by(done) is None


@pytest.mark.parametrize(
    ("seconds", "epochs", "sizes", "chosen"),
    [(100, None, (16, 4), 4), (500, None, (16, 4), 8), (1000, None, (16, 4), 16),
     (100, 3, (16, 4), 16), (100, None, (5, 4), 4), (100, None, (3, 4), 3),
     (100, None, (16, 6), 6)],
)  # fmt: skip
def test_where_few_steps_fit_batches_are_halved(seconds, epochs, sizes, chosen):
    plan = Plan(Watch(), steps_per_epoch=10, epochs=epochs, budget=seconds)
    plan.durations.append(1.0)
    plan.revise(0)
    assert choose_batch_size(plan, *sizes) == chosen


def test_one_slow_step_of_three_does_not_halve_batches():
    plan = Plan(Watch(), steps_per_epoch=10, budget=100.0)
    plan.durations.extend([4.0, 0.1, 0.1])
    plan.revise(0)
    assert plan.steps < 100
    assert choose_batch_size(plan, 16, 4) == 16


def count_readings(monkeypatch):
    """Let a run's clock go on by as much whenever it is read."""
    readings = itertools.count()
    watch = types.SimpleNamespace(
        monotonic=lambda: SECONDS_A_READING * next(readings),
        perf_counter=lambda: SECONDS_A_READING * next(readings),
    )
    monkeypatch.setattr(training.planning, "time", watch)
    monkeypatch.setattr(training.keeper, "time", watch)


def test_a_run_ends_with_its_time(tmp_path, capsys, monkeypatch):
    """A real one: tables, curves and checkpoint are there, and the rate has come down.

    Its clock goes on by as much whenever it is read, so that no machine is too slow for the budget.
    """
    count_readings(monkeypatch)
    monkeypatch.setattr(training.planning, "FEW_STEPS", 10**9)
    monkeypatch.setattr(training.keeper, "SMALL_BATCH", 2)
    run = train(make_model(), make_dataset(), run_dir=tmp_path, time_budget="14s")
    assert capsys.readouterr().out.count("pairs fit into the time") == 1
    story = json.loads((tmp_path / "run.json").read_text())
    session = story["sessions"][-1]
    assert 4 < session["elapsed_seconds"] < 24
    assert run.history["step"].iloc[-1] == story["plan"]["steps"] == session["to_step"]
    assert run.history["learning_rate"].iloc[-1] < 0.1 * run.history["learning_rate"].max()
    assert {"best.keras", "history.csv", "curves.png"} <= {file.name for file in tmp_path.iterdir()}
    assert run.finished
    again = train(make_model(), make_dataset(), run_dir=tmp_path, time_budget="14s")
    assert again.history.equals(run.history)
    epochs = int(run.history["epoch"].iloc[-1]) + 1
    more = train(make_model(), make_dataset(), run_dir=tmp_path, time_budget="60s", epochs=epochs)
    assert more.history.iloc[: len(run.history)].equals(run.history)
    assert more.history["step"].iloc[-1] == epochs * story["plan"]["steps_per_epoch"]
    sessions = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert sessions[1]["seconds_before"] == pytest.approx(session["elapsed_seconds"], abs=3)


@pytest.mark.parametrize("epochs", [None, 1000])
def test_a_run_takes_smaller_batches_where_few_steps_fit_and_stays_with_them(
    tmp_path, capsys, monkeypatch, epochs
):
    count_readings(monkeypatch)
    monkeypatch.setattr(training.planning, "FEW_STEPS", 10**9)
    options = {"run_dir": tmp_path / "run", "batch_size": (3, 1)}
    data = make_dataset(train=15)
    train(make_model(), data, time_budget="20s", epochs=epochs, **options)
    said = "of 3 pairs fit into the time: with so few, steps are of 1"
    assert capsys.readouterr().out.count(said) == 1
    story = json.loads((tmp_path / "run/run.json").read_text())
    assert story["settings"]["batch_size"] == [3, 1]
    assert (story["plan"]["batch_size"], story["plan"]["steps_per_epoch"]) == (1, 15)
    more = train(make_model(), data, time_budget="40s", **options)
    assert "pairs fit" not in capsys.readouterr().out
    assert more.history["step"].iloc[:3].tolist() == [15, 30, 45]
    assert list_runs(tmp_path)["batch_size"].tolist() == [1]
    with pytest.raises(ValueError, match=r"batch_size: \[3, 1\] before, 1 now"):
        train(make_model(), data, run_dir=tmp_path / "run", batch_size=1, epochs=1)


def test_what_one_size_was_begun_with_two_carry_on(tmp_path):
    begun = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=1, batch_size=3)
    run = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=2, batch_size=(3, 1))
    assert run.history["step"].tolist() == [*begun.history["step"], 8]


def test_where_steps_are_compiled_anew_smaller_batches_are_advised(tmp_path, capsys, monkeypatch):
    count_readings(monkeypatch)
    monkeypatch.setattr(training.planning, "FEW_STEPS", 10**9)
    choose = training.keeper.Keeper._choose_batch_size

    def choose_under_jax(self):
        with monkeypatch.context() as patch:
            patch.setattr(keras.backend, "backend", lambda: "jax")
            choose(self)

    monkeypatch.setattr(training.keeper.Keeper, "_choose_batch_size", choose_under_jax)
    train(make_model(), make_dataset(), run_dir=tmp_path, time_budget="8s", batch_size=(6, 2))
    assert "batch_size=4 makes more" in capsys.readouterr().out
    assert list_runs(tmp_path)["batch_size"].tolist() == [6]


def test_weights_and_plan_are_the_same_in_smaller_batches(tmp_path, monkeypatch):
    """Keras puts the averages in the place of the weights when a fit ends."""
    count_readings(monkeypatch)
    monkeypatch.setattr(training.planning, "FEW_STEPS", 10**9)
    keeper, seen = training.keeper.Keeper, []
    choose, take = keeper._choose_batch_size, keeper._take_smaller_batches

    def note(self):
        weights = [np.array(variable) for variable in self.model.trainable_variables]
        seen.append((self.state.step, self.state.planned_steps, weights))

    monkeypatch.setattr(keeper, "_choose_batch_size", lambda self: (choose(self), note(self)))
    monkeypatch.setattr(keeper, "_take_smaller_batches", lambda self: (take(self), note(self)))
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    train(make_model(), make_dataset(train=15), run_dir=tmp_path, time_budget="8s",
          batch_size=(3, 1), optimizer=optimizer)  # fmt: skip
    (step, planned, weights), (step_after, planned_after, weights_after) = seen
    assert (step, step_after) == (4, 12)
    assert planned_after == 3 * planned
    for a, b in zip(weights, weights_after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_stopped_as_it_takes_smaller_batches_takes_them_when_it_goes_on(
    tmp_path, capsys, monkeypatch
):
    count_readings(monkeypatch)
    monkeypatch.setattr(training.planning, "FEW_STEPS", 10**9)
    choose = training.keeper.Keeper._choose_batch_size

    def choose_and_stop(self):
        choose(self)
        os.kill(os.getpid(), signal.SIGINT)

    options = {"run_dir": tmp_path, "batch_size": (3, 1), "time_budget": "14s"}
    with monkeypatch.context() as patch:
        patch.setattr(training.keeper.Keeper, "_choose_batch_size", choose_and_stop)
        stopped = train(make_model(), make_dataset(train=15), **options)
    assert not stopped.finished
    session = json.loads((tmp_path / "run.json").read_text())["sessions"][-1]
    assert session["to_step"] == 4
    capsys.readouterr()
    run = train(make_model(), make_dataset(train=15), **options)
    assert "steps are of 1 from here on" in capsys.readouterr().out
    assert run.finished
    assert run.history["step"].iloc[:2].tolist() == [15, 30]


def test_without_a_budget_batches_are_the_larger_ones(tmp_path):
    train(make_model(), make_dataset(), run_dir=tmp_path, epochs=1, batch_size=(6, 2))
    assert json.loads((tmp_path / "run.json").read_text())["plan"]["batch_size"] == 6


@pytest.mark.parametrize("ends", [True, False])
def test_garbage_is_not_collected_until_time_is_up(tmp_path, monkeypatch, ends):
    """What was compiled is looked through no more, as freeing some of it can take long."""
    count_readings(monkeypatch)
    frozen, keep = [], training.keeper.Keeper.keep

    def note(keeper):
        frozen.append(gc.get_freeze_count())
        keep(keeper)
        if not ends and frozen[-1]:
            raise OSError("disk full")

    monkeypatch.setattr(training.keeper.Keeper, "keep", note)
    with contextlib.nullcontext() if ends else pytest.raises(OSError, match="disk full"):
        train(make_model(), make_dataset(), run_dir=tmp_path, time_budget="8s")
    assert frozen[-1] > 10_000
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("epochs", [None, 1000])
def test_a_run_stopped_in_its_last_validation_is_validated_when_it_goes_on(
    tmp_path, monkeypatch, epochs
):
    """Though there is time left by then, which was set aside for that."""
    count_readings(monkeypatch)
    validate = training.keeper.Keeper._validate

    def stop_at_the_end(keeper):
        if keeper.plan.is_over(keeper.state.step):
            os.kill(os.getpid(), signal.SIGINT)
        return validate(keeper)

    options = {"run_dir": tmp_path, "validate_every": 4, "time_budget": "6s", "epochs": epochs}
    with monkeypatch.context() as patch:
        patch.setattr(training.keeper.Keeper, "_validate", stop_at_the_end)
        stopped = train(make_model(), make_dataset(), **options)
    assert stopped.ended_by == "Ctrl-C"
    step = json.loads((tmp_path / "run.json").read_text())["plan"]["steps"]
    monkeypatch.setattr(training.planning, "CLOSING", 0.0)
    run = train(make_model(), make_dataset(), **options)
    assert run.finished
    assert run.history["step"].iloc[-1] == step
    assert run.history["mean_iou"].notna().iloc[-1]
    assert train(make_model(), make_dataset(), **options).history.equals(run.history)


@pytest.mark.parametrize("epochs", [None, 1000])
def test_a_resumed_run_keeps_to_its_plan_until_it_knows_its_speed(tmp_path, monkeypatch, epochs):
    """The learning rate goes on where it was, and not as if the run had just begun."""
    count_readings(monkeypatch)
    planned = note_plans(monkeypatch, stops=(20, 21))  # the second one at once after a resume
    options = {"run_dir": tmp_path, "time_budget": "14s", "epochs": epochs}
    for _ in range(2):
        assert train(make_model(), make_dataset(), **options).ended_by == "Ctrl-C"
    assert train(make_model(), make_dataset(), **options).finished
    assert 20 < planned[19] < 1000
    assert planned[20:23] == [planned[19]] * 3
    assert planned[-1] < planned[20]  # and from then on as the clock says


def test_a_budget_for_all_epochs_lays_the_learning_rate_over_them(tmp_path, monkeypatch):
    """Whenever the sessions before were stopped."""
    count_readings(monkeypatch)
    planned = note_plans(monkeypatch, stops=(20, 21, 25))
    for budget in ("14s", "100h", "100h"):
        train(make_model(), make_dataset(), run_dir=tmp_path, time_budget=budget, epochs=1000)
    assert planned[19] < planned[-1] == 3000


def test_more_epochs_lay_the_learning_rate_anew_though_a_validation_was_interrupted(
    tmp_path, monkeypatch
):
    validate = training.keeper.Keeper._validate

    def stop(keeper):
        os.kill(os.getpid(), signal.SIGINT)
        return validate(keeper)

    with monkeypatch.context() as patch:
        patch.setattr(training.keeper.Keeper, "_validate", stop)
        assert train(make_model(), make_dataset(), run_dir=tmp_path, epochs=2).ended_by == "Ctrl-C"
    run = train(make_model(), make_dataset(), run_dir=tmp_path, epochs=4)
    assert (run.history["learning_rate"].iloc[:3] > 1e-4).all()


def note_plans(monkeypatch, *, stops):
    """Return a list that gets the steps which the learning rate is laid over, before each step."""
    planned, begin = [], training.keeper.Keeper.on_train_batch_begin

    def note(keeper, batch, logs=None):
        planned.append(int(keeper.planned_steps))
        if len(planned) in stops:
            os.kill(os.getpid(), signal.SIGINT)
        begin(keeper, batch, logs)

    monkeypatch.setattr(training.keeper.Keeper, "on_train_batch_begin", note)
    return planned
