"""Runs that are killed, damaged, moved, stopped and started twice."""

import dataclasses
import errno
import importlib.util
import json
import os
import shutil
import signal
import threading

import killed_runs
import numpy as np
import pytest
from small_runs import (
    assert_same_run,
    assert_same_weights,
    copy_run,
    make_dataset,
    make_model,
    without_timings,
)

import seglib
from seglib import training
from seglib.balance import oversample_patches
from seglib.classes import ClassTable
from seglib.training import Checkpoints, chaining, load_model, rehearsal, train
from seglib.training.checkpoints import RunState
from seglib.training.interrupts import note_interrupts
from seglib.training.locking import lock_run

OPTIONS = {"epochs": 3, "precision": "float32"}
BACKENDS = [name for name in ("tensorflow", "jax") if importlib.util.find_spec(name)]


def train_again(folder, **options):
    return train(make_model(seed=7), make_dataset(), run_dir=folder, **{**OPTIONS, **options})


def newest_checkpoint(folder):
    return max((folder / "checkpoints").glob("step_*.npz"))


def check_kills(folder, kills, backend):
    undisturbed = folder / "undisturbed"
    assert not killed_runs.kill_run(undisturbed, backend=backend)
    hits = []
    for run_dir, spots in killed_runs.train_with_kills(folder, kills, backend=backend):
        assert killed_runs.find_changes(undisturbed, run_dir) == []
        hits += spots
    assert sorted(hits) == sorted(spot for spot, _ in kills)


def test_a_run_that_was_killed_equals_one_that_was_not(tmp_path):
    check_kills(tmp_path, killed_runs.draw_kills(8, seed=0)[:3], training.keras.backend.backend())


def test_the_rehearsal_kills_a_process_and_resumes():
    """With few pairs, too; of pairs that are blended of others, what they are made of."""
    few = oversample_patches(make_dataset(train=2), size=8, count=60, neighbors=2)
    undisturbed, resumed = seglib.rehearse_kill(dataclasses.replace(few, fit="letterbox"))
    assert without_timings(undisturbed.history).equals(without_timings(resumed.history))
    assert_same_weights(undisturbed.model, resumed.model)
    assert len(resumed.history) == 4
    assert seglib.models.model_fit(resumed.model) == "letterbox"


def test_a_rehearsal_without_pairs_is_refused():
    with pytest.raises(ValueError, match="the training split is empty"):
        seglib.rehearse_kill(make_dataset(train=0))


def test_a_rehearsal_that_cannot_be_killed_says_what_happened(tmp_path):
    with pytest.raises(RuntimeError, match=r"ended by itself[\s\S]*FileNotFoundError"):
        rehearsal._kill_in_the_second_epoch(tmp_path / "none.npz", tmp_path / "run", 0)


@pytest.mark.long
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_that_was_killed_twenty_times(tmp_path, backend):
    check_kills(tmp_path, killed_runs.draw_kills(20, seed=1), backend)


OPTIMIZERS = ("Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "AdamW", "Ftrl", "Lamb",
              "Lion", "Muon", "Nadam", "RMSprop", "SGD")  # fmt: skip


def create_optimizer(name, **options):
    decay = training.keras.optimizers.schedules.CosineDecay(0.01, 9)
    return getattr(training.keras.optimizers, name)(decay, **options)


SETTINGS = {
    "mixed_float16 and averaged weights": lambda: {"precision": "mixed_float16", "ema": True},
    "mixed_bfloat16, accumulated gradients, few validations, mixed pairs": lambda: {
        "precision": "mixed_bfloat16",
        "gradient_accumulation": 2,
        "validate_every": 2,
        "weight_decay": 0.1,
        "ema": 0.9,
        "augment": seglib.Augmentation(
            scale=(0.7, 1.5), rotation=10, focus=0.5, mixup=0.3, cutmix=0.3
        ),
    },
    "AdamW, a loss of Keras and a cosine": lambda: {
        "optimizer": "adamw",
        "ema": 0.9,
        "loss": training.keras.losses.Tversky(axis=(0, 1, 2)),
        "schedule": "cosine",
    },
    "SGD with momentum": lambda: {
        "optimizer": training.keras.optimizers.SGD(0.01, momentum=0.9, clipnorm=1.0, use_ema=True)
    },
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_run_of_any_settings_is_resumed_exactly(tmp_path, monkeypatch, settings):
    check_resume(tmp_path, monkeypatch, settings)


@pytest.mark.long
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_with_any_optimizer_is_resumed_exactly(tmp_path, monkeypatch, optimizer):
    check_resume(tmp_path, monkeypatch, lambda: {"optimizer": create_optimizer(optimizer)})


def check_resume(folder, monkeypatch, settings):
    """Stop in the second epoch, by what leaves no time to tidy up, and carry on."""

    def crash():
        raise MemoryError

    def run(name):
        options = {**OPTIONS, "checkpoint_every": 1, **settings()}
        return train(make_model(), make_dataset(), run_dir=folder / name, **options)

    undisturbed = run("undisturbed")
    with monkeypatch.context() as patch:
        stop_in_step(patch, 5, crash)
        with pytest.raises(MemoryError):
            run("stopped")
    story = json.loads((folder / "stopped" / "run.json").read_text())
    assert story["status"] == "failed: MemoryError"  # which says nothing itself
    assert_same_run(run("stopped"), undisturbed)


def flip_a_byte(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [*(lambda content, part=part: content[: len(content) * part // 10] for part in range(10)),
     flip_a_byte, lambda content: flip_a_byte(content[:200]) + content[200:]],
)  # fmt: skip
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_read(finished, tmp_path, damage):
    copy = copy_run(finished, tmp_path)
    newest = newest_checkpoint(copy)
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match=r"passed over: step_000000009\..*carrying on from step 6"):
        state = training.Checkpoints(copy).read()
    assert state.step == 6


@pytest.mark.filterwarnings("ignore:.*damaged and passed over")
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(finished, tmp_path):
    copy = copy_run(finished, tmp_path)
    newest = newest_checkpoint(copy)
    newest.write_bytes(newest.read_bytes()[:1000])
    assert_same_run(train_again(copy), finished)
    assert len(list((copy / "checkpoints").iterdir())) == 2


def test_where_no_checkpoint_can_be_read_a_run_starts_anew_and_says_so(finished, tmp_path):
    copy = copy_run(finished, tmp_path)
    for file in (copy / "checkpoints").iterdir():
        file.write_bytes(b"")
    with pytest.warns(UserWarning, match="starting anew"):
        assert training.Checkpoints(copy).read().step == 0


def test_only_the_last_checkpoints_are_kept(finished, tmp_path):
    names = sorted(file.name for file in (finished.run_dir / "checkpoints").iterdir())
    assert [name.split(".")[0] for name in names] == ["step_000000006", "step_000000009"]
    run = train(make_model(), make_dataset(), run_dir=tmp_path, checkpoint_every=1,
                keep_checkpoints=5, **OPTIONS)  # fmt: skip
    steps = [int(file.name[5:14]) for file in (run.run_dir / "checkpoints").iterdir()]
    assert sorted(steps) == [5, 6, 7, 8, 9]
    assert_same_run(run, finished)  # more of them change nothing


def test_checkpoints_come_after_so_many_seconds(tmp_path, monkeypatch):
    steps = []
    write = training.Checkpoints.write
    monkeypatch.setattr(training.Checkpoints, "write",
                        lambda self, state, arrays: (steps.append(state.step),
                                                     write(self, state, arrays)))  # fmt: skip
    train_again(tmp_path, epochs=1, checkpoint_every="0.001s")
    assert steps == [1, 2, 3]


def test_patience_ends_a_run_and_is_kept_over_an_interruption(tmp_path, monkeypatch):
    scores = iter([0.2, 0.5, 0.3, 0.4, 0.45, 0.6])

    def score(*args, **options):
        return {"loss": 1.0, "pixel_accuracy": 0.5, "mean_iou": next(scores)}

    monkeypatch.setattr(training.validation, "validate", score)
    first = train_again(tmp_path, epochs=3, patience=3)
    assert first.ended_by == "plan"
    run = train_again(tmp_path, epochs=9, patience=3)
    assert run.ended_by == "patience"
    assert run.finished
    assert run.history["mean_iou"].tolist() == [0.2, 0.5, 0.3, 0.4, 0.45]
    assert run.best["epoch"] == 2
    assert len(train_again(tmp_path, epochs=9, patience=3).history) == 5


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "seed: 0 before, 1 now"),
        ({"learning_rate": 0.01}, r"learning_rate: 0\.004 before, 0\.01 now"),
        ({"ema": True}, "ema: False before, True now"),
        ({"class_weights": [1, 2, 0]}, r"class_weights: None before, \[1, 2, 0\] now"),
        ({"batch_size": 3}, r'batch_size: 4 before, 3 now.*allow_changes=\("batch_size",\)'),
        ({"batch_size": 3, "seed": 1}, r'allow_changes=\("\w+", "\w+",\)'),
        (
            {"batch_size": 3, "seed": 1, "allow_changes": ("seed",)},
            r'allow_changes=\("seed", "batch_size",\)',
        ),
        (
            {"batch_size": 3, "seed": 1, "allow_changes": "seed"},
            r'allow_changes=\("seed", "batch_size",\)',
        ),
        ({"loss": seglib.Dice(2)}, r"loss: None before, \{'class': 'Dice'"),
    ],
)
def test_other_settings_are_refused_on_the_same_folder(finished, options, message):
    with pytest.raises(ValueError, match=message):
        train_again(finished.run_dir, **options)


def test_other_data_classes_and_models_are_refused(finished):
    folder, options = finished.run_dir, {"run_dir": finished.run_dir, **OPTIONS}
    with pytest.raises(ValueError, match=r"data: 'data' before, 'other' now.*another run_dir"):
        train(make_model(), make_dataset(fingerprint="other"), **options)
    table = ClassTable(["dark", "light", "void"], [(9, 9, 9), (8, 8, 8), (0, 0, 0)], ignore_label=2)
    with pytest.raises(ValueError, match=r"classes\.names: \['dark', 'bright', 'void'\] before"):
        train(make_model(), make_dataset(classes=table), **options)
    with pytest.raises(ValueError, match=r"model\.parameters: 1979 before"):
        train(make_model(filters=(4, 9)), make_dataset(), **options)
    with pytest.raises(ValueError, match=r"model\.layers: "):
        train(make_model(dropout=0.2), make_dataset(), **options)
    assert load_model(folder).count_params() == 1979


def test_changes_that_are_asked_for_by_name_are_made(finished, tmp_path):
    run = train_again(copy_run(finished, tmp_path), epochs=4, batch_size=2, learning_rate=1e-4,
                      allow_changes=("batch_size", "learning_rate"))  # fmt: skip
    assert run.history["step"].tolist() == [6, 12, 18, 24]
    assert run.history["loss"].iloc[:3].equals(finished.history["loss"])
    settings = json.loads((run.run_dir / "run.json").read_text())["settings"]
    assert (settings["batch_size"], settings["learning_rate"]) == (2, 1e-4)
    with pytest.raises(ValueError, match="batch_size: 2 before, 4 now"):
        train_again(run.run_dir, epochs=4)


def test_batches_and_epochs_that_are_doubled_go_on_learning(tmp_path):
    """As many steps are planned as before, of another length: the rate must not stay at its end."""
    first = train_again(tmp_path, epochs=2, batch_size=3)
    before = first.model.get_weights()
    run = train_again(tmp_path, epochs=4, batch_size=6, allow_changes=("batch_size",))
    assert run.history["step"].tolist() == [2, 4, 6, 8]
    assert run.history["learning_rate"].iloc[2] > 1e-4
    assert any((a != b).any() for a, b in zip(run.model.get_weights(), before, strict=True))


def test_a_rate_that_is_held_may_be_changed(tmp_path):
    options = {"schedule": "constant", "learning_rate": 1e-2}
    train_again(tmp_path, epochs=1, **options)
    options["learning_rate"] = 1e-3
    run = train_again(tmp_path, epochs=2, allow_changes=("learning_rate",), **options)
    np.testing.assert_allclose(run.history["learning_rate"], [1e-2, 1e-3], rtol=1e-6)


@pytest.mark.parametrize("change", [{"ema": 0.9}, {"schedule": "constant"}, {"optimizer": "adamw"}])
def test_a_change_of_what_the_optimizer_keeps_is_refused(tmp_path, change):
    train_again(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"optimizer keeps other numbers.*init_from"):
        train_again(tmp_path, epochs=2, allow_changes=tuple(change), **change)


def test_of_two_checkpoints_of_a_step_the_later_stays(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for planned in (9, 8, 7, 6, 5):
        checkpoints.write(RunState(step=5, planned_steps=planned), [])
        assert Checkpoints(tmp_path).read().planned_steps == planned
    checkpoints.write(RunState(step=3), [])  # larger batches: fewer steps for as many pairs
    assert Checkpoints(tmp_path).read().step == 3


# Chained sessions


@pytest.fixture
def inputs(finished, tmp_path, monkeypatch):
    """The output of an earlier session, attached read-only beside a large folder of pictures."""
    folder = tmp_path / "input"
    shutil.copytree(finished.run_dir, folder / "earlier-session" / "outputs" / "run")
    (folder / "camvid" / "train").mkdir(parents=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setenv("SEGLIB_INPUTS", str(folder))
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)


def test_a_new_folder_carries_on_what_the_inputs_hold(finished, inputs, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in inputs.rglob("*")}
    run = train_again(tmp_path / "working", epochs=4)
    assert "carrying on from step 9 of" in capsys.readouterr().out
    assert run.history["loss"].iloc[:3].equals(finished.history["loss"])
    assert len(run.history) == 4
    assert {path: path.stat().st_mtime_ns for path in inputs.rglob("*")} == before
    story = json.loads((tmp_path / "working" / "run.json").read_text())
    assert [session["from_step"] for session in story["sessions"]] == [0, 9]


def test_a_finished_run_among_the_inputs_returns_at_once(finished, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(training.keras.Model, "fit", None)
    run = train_again(tmp_path / "working")
    assert_same_run(run, finished)


def test_runs_of_other_settings_among_the_inputs_are_left_alone(inputs, tmp_path):
    run = train_again(tmp_path / "working", epochs=1, seed=1)
    assert len(run.history) == 1


def test_an_empty_name_of_inputs_is_not_the_working_folder(finished, monkeypatch):
    monkeypatch.chdir(finished.run_dir)
    monkeypatch.setenv("SEGLIB_INPUTS", "")
    settings = training.Checkpoints(finished.run_dir).read().settings
    assert chaining.find_earlier_run("auto", settings) is None
    assert chaining.find_earlier_run(finished.run_dir, settings) is not None


def test_of_runs_in_unlike_batches_the_one_with_more_epochs_is_found(tmp_path):
    for name, step, steps_per_epoch in (("a", 16, 16), ("b", 10, 5), ("c", 20, 20)):
        (tmp_path / name).mkdir()
        state = RunState(step=step, steps_per_epoch=steps_per_epoch)
        Checkpoints(tmp_path / name).write(state, [])
    assert chaining.find_earlier_run(tmp_path, {})[0] == tmp_path / "b"


def test_resume_from_names_the_folder(finished, tmp_path):
    copy_run(finished, tmp_path / "earlier" / "session")
    run = train_again(tmp_path / "new", resume_from=tmp_path / "earlier")
    assert_same_run(run, finished)
    with pytest.raises(ValueError, match="seed: 0 before, 1 now"):
        train_again(tmp_path / "other", resume_from=finished.run_dir, seed=1)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*earlier session's output"):
        train_again(tmp_path / "third", resume_from=tmp_path / "nothing")


# Stopping


def stop_in_step(monkeypatch, number, act):
    """Let something happen while the training of a step begins."""
    begin = training.keeper.Keeper.on_train_batch_begin

    def act_in_time(self, batch, logs=None):
        if self.state.step == number:
            act()
        begin(self, batch, logs)

    monkeypatch.setattr(training.keeper.Keeper, "on_train_batch_begin", act_in_time)


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_a_signal_is_a_wish_and_its_handler_comes_back(capsys, number, name):
    handler = signal.getsignal(number)
    with note_interrupts() as request:
        os.kill(os.getpid(), number)
        assert (bool(request), request.name) == (True, name)
    assert f"{name}: stopping after this step" in capsys.readouterr().err
    assert signal.getsignal(number) is handler


def test_a_signal_finishes_the_checkpoint_and_returns_the_run(finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_in_step(patch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
        run = train(make_model(), make_dataset(), run_dir=tmp_path, **OPTIONS)
    assert (run.ended_by, run.finished, len(run.history)) == ("SIGTERM", False, 1)
    assert "stopped by SIGTERM" in repr(run)
    assert newest_checkpoint(tmp_path).name.startswith("step_000000005")
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "stopped by SIGTERM"
    assert_same_run(train_again(tmp_path), finished)


def test_stopped_in_the_first_epoch_a_run_has_no_history_yet(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_in_step(patch, 0, lambda: os.kill(os.getpid(), signal.SIGINT))
        run = train(make_model(), make_dataset(), run_dir=tmp_path, **OPTIONS)
    assert run.history.empty
    assert "stopped by Ctrl-C in the first epoch" in repr(run)
    assert newest_checkpoint(tmp_path).name.startswith("step_000000001")


def test_a_second_ctrl_c_stops_at_once(tmp_path, monkeypatch):
    def twice():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    stop_in_step(monkeypatch, 1, twice)
    with pytest.raises(KeyboardInterrupt):
        train(make_model(), make_dataset(), run_dir=tmp_path, **OPTIONS)


def test_ctrl_c_does_not_wait_for_a_long_validation(finished, tmp_path, monkeypatch):
    predict = training.validation.predict_batch

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return predict(*args)

    dataset = make_dataset(val=20)  # two batches
    undisturbed = train(make_model(), dataset, run_dir=tmp_path / "undisturbed", **OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(training.validation, "predict_batch", interrupted)
        run = train(make_model(), dataset, run_dir=tmp_path / "run", **OPTIONS)
    assert run.history.empty
    again = train(make_model(), dataset, run_dir=tmp_path / "run", **OPTIONS)
    assert_same_run(again, undisturbed)


def test_in_a_thread_a_run_trains_all_the_same(finished, tmp_path):
    runs, copy = [], copy_run(finished, tmp_path)
    thread = threading.Thread(target=lambda: runs.append(train_again(copy, epochs=4)))
    thread.start()
    thread.join()
    assert len(runs[0].history) == 4


def test_a_second_process_on_the_same_folder_is_refused(tmp_path):
    with lock_run(tmp_path) as lock:  # how another process sees it: test_locking.py
        lock.note(0)
        message = rf"is being trained by process {os.getpid()} on .*choose another run_dir"
        with pytest.raises(BlockingIOError, match=message):
            train_again(tmp_path)


# Disks


def test_a_full_disk_keeps_the_checkpoint_before(finished, tmp_path, monkeypatch):
    def fill_disk(stream, **arrays):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    copy = copy_run(finished, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fill_disk)
        with pytest.raises(OSError, match=r"is full .*last good checkpoint is .*step_000000009"):
            train_again(copy, epochs=4)
    assert not list(copy.rglob("*.tmp*"))
    assert "failed: " in json.loads((copy / "run.json").read_text())["status"]
    assert len(train_again(copy, epochs=4).history) == 4


def test_a_full_disk_is_named_whatever_is_being_written(finished, tmp_path, monkeypatch):
    os_replace, copy = os.replace, copy_run(finished, tmp_path)
    for epochs, file in enumerate(("best.keras", "history.csv", "run.json"), 5):

        def replace(source, target, file=file):
            if str(target).endswith(file):
                raise OSError(errno.ENOSPC, "No space left on device")
            os_replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            with pytest.raises(OSError, match="is full"):
                train_again(copy, epochs=epochs)
        assert not list(copy.rglob("*.tmp*"))
    assert len(train_again(copy, epochs=8).history) == 8


def test_the_folder_stays_below_its_size_limit(finished, tmp_path):
    copy = copy_run(finished, tmp_path)
    size = training.checkpoints.folder_size(copy)
    one = newest_checkpoint(copy).stat().st_size
    limit = size + 1_000_000 + (copy / "best.keras").stat().st_size + int(2.5 * one)
    run = train_again(copy, epochs=8, keep_checkpoints=9, size_limit=limit)
    assert len(run.history) == 8
    assert training.checkpoints.folder_size(copy) < limit
    assert 2 < len(list((copy / "checkpoints").iterdir())) < 6


def test_what_could_not_be_kept_is_not_begun(tmp_path, monkeypatch):
    with pytest.raises(OSError, match=r"needs .* MB for checkpoints, more than size_limit=0\.1 MB"):
        train_again(tmp_path / "small", size_limit="50kB")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"has only 0\.0 MB free: make room"):
        train_again(tmp_path / "full")
