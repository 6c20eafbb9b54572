import contextlib
import errno
import io
import json
import os
import pathlib
import shutil
import socket
import zipfile
from unittest.mock import Mock

import keras
import numpy as np
import pytest
from numpy_runs import run
from small_runs import assert_same_weights, make_dataset, make_model

import seglib
from seglib.runs import RunFolder, RunState, find_differences, open_run, take_up


def test_a_checkpoint_holds_all_of_a_state(tmp_path):
    random = np.random.default_rng(0)
    arrays = [random.normal(size=shape).astype(np.float32) for shape in ((), (3,), (2, 2))]
    state = RunState(step=7, updates=9, steps_per_epoch=5, sums={"loss": 0.1 + 0.2, "steps": 2})
    state.history = [{"epoch": 1, "step": 5, "mean_iou": float("nan")}]
    RunFolder(tmp_path).save(state, arrays)
    read = RunFolder(tmp_path).read()
    np.testing.assert_equal(vars(read), {**vars(state), "arrays": arrays})
    assert {array.dtype for array in read.arrays} == {np.dtype(np.float32)}


def test_the_last_two_checkpoints_are_kept_and_abandoned_plans_are_not(tmp_path):
    folder = RunFolder(tmp_path)
    for step in (2, 4, 6):
        folder.save(RunState(step=step), [])
    steps = [file.name[5:14] for file in sorted((tmp_path / "checkpoints").iterdir())]
    assert steps == ["000000004", "000000006"]
    # Larger batches at last: fewer steps for as many pairs.
    for step, planned in ((6, 9), (6, 8), (6, 7), (3, 7)):
        folder.save(RunState(step=step, planned_steps=planned), [])
        read = RunFolder(tmp_path).read()
        assert (read.step, read.planned_steps) == (step, planned)


def truncate(content):
    return content[: len(content) // 2]


def flip_a_bit(content):
    place = len(content) // 3
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, lambda _: b"", lambda _: b"x"])
def test_damaged_checkpoints_are_passed_over(tmp_path, damage):
    run(tmp_path, epochs=2)
    older, newer = sorted((tmp_path / "checkpoints").iterdir())
    newer.write_bytes(damage(newer.read_bytes()))
    with pytest.warns(UserWarning, match=rf"passed over: {newer.name}.*carrying on from step 9"):
        assert RunFolder(tmp_path).read().step == 9
    older.write_bytes(damage(older.read_bytes()))
    with pytest.warns(UserWarning, match="starting anew"):
        assert run(tmp_path, epochs=2)[1].step == 10


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"seed": 0}, {"seed": 1}, ["seed: 0 before, 1 now"]),
        ({"ema": 0.99}, {"ema": 0.99 + 1e-9}, []),
        ({"model": {"name": "a"}}, {"model": {"name": "b"}}, ["model.name: 'a' before, 'b' now"]),
        ({}, {"patience": 3}, ["patience: None before, 3 now"]),
        ({"batch_size": 16}, {"batch_size": [16, 4]}, []),
        ({"batch_size": [16, 4]}, {"batch_size": 16}, ["batch_size: [16, 4] before, 16 now"]),
        ({"class_weights": [0.3, 2]}, {"class_weights": [float(np.float32(0.3)), 2.0]}, []),
        ({"sampling": [0.3]}, {"sampling": [0.303]}, ["sampling: [0.3] before, [0.303] now"]),
    ],
)
def test_differences_are_told_in_words(before, now, expected):
    assert find_differences(before, now) == expected


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """The output of an earlier session, attached read-only beside a folder of pictures."""
    folder = tmp_path / "input"
    run(folder / "earlier-session/outputs/run", epochs=2, settings={"seed": 0})
    (folder / "camvid" / "train").mkdir(parents=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setenv("SEGLIB_INPUTS", str(folder))
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)


def begin(path, settings, **options):
    path.mkdir()
    with open_run(path) as folder:
        return take_up(folder, settings, **options)


def test_a_new_folder_carries_on_what_the_inputs_hold(inputs, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in inputs.rglob("*")}
    state, seconds = begin(tmp_path / "working", {"seed": 0})
    assert (state.step, seconds > 0) == (10, True)
    assert "carrying on from step 10 of" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in inputs.rglob("*")} == before
    run(tmp_path / "working", settings={"seed": 0}, epochs=3)
    story = json.loads((tmp_path / "working/run.json").read_text())
    assert [session["from_step"] for session in story["sessions"]] == [0, 10]


def test_runs_of_other_settings_among_the_inputs_are_left_alone(inputs, tmp_path, capsys):
    assert begin(tmp_path / "working", {"seed": 1})[0].step == 0
    assert "seed: 0 before, 1 now" in capsys.readouterr().out
    assert begin(tmp_path / "third", {"seed": 1}, allowed=("seed",))[0].step == 10


def test_no_name_of_inputs_is_not_the_working_folder(inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(inputs)
    monkeypatch.setenv("SEGLIB_INPUTS", "")
    assert begin(tmp_path / "working", {"seed": 0})[0].step == 0


def test_of_runs_in_unlike_batches_the_one_with_more_epochs_is_found(tmp_path):
    for step, steps_per_epoch in ((16, 16), (10, 5), (20, 20)):
        folder = tmp_path / "earlier" / f"run_{step}"
        folder.mkdir(parents=True)
        RunFolder(folder).save(RunState(step=step, steps_per_epoch=steps_per_epoch), [])
    assert begin(tmp_path / "new", {}, resume_from=tmp_path / "earlier")[0].step == 10


def test_resume_from_names_the_folder(inputs, tmp_path):
    assert begin(tmp_path / "new", {"seed": 0}, resume_from=inputs)[0].step == 10
    with pytest.raises(ValueError, match=r'seed: 0 before, 1 now.*allow_changes=\("seed",\)'):
        begin(tmp_path / "other", {"seed": 1}, resume_from=inputs)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*earlier session's output"):
        begin(tmp_path / "third", {}, resume_from=tmp_path / "nothing")


def test_a_second_process_on_the_same_folder_is_refused(tmp_path):
    with open_run(tmp_path) as folder:
        folder.note(12.0)
        with pytest.raises(BlockingIOError, match=rf"process {os.getpid()} on .*another run_dir"):
            run(tmp_path)
    assert run(tmp_path)[0] == "plan"


def test_without_locks_the_note_of_a_living_process_counts(tmp_path, monkeypatch):
    refuse = Mock(side_effect=OSError(errno.ENOLCK, "No locks available"))
    monkeypatch.setattr("seglib.system.fcntl.flock", refuse)
    refusal = pytest.raises(BlockingIOError, match=f"trained by process {os.getppid()} on")
    for pid, status, outcome in (
        (os.getppid(), "running", refusal),
        (os.getppid(), "finished", contextlib.nullcontext()),
        (os.getpid(), "running", contextlib.nullcontext()),
        (2**22 + 1, "running", contextlib.nullcontext()),  # which no process has
    ):
        (tmp_path / ".lock").write_text(json.dumps({"pid": pid, "host": socket.gethostname()}))
        (tmp_path / "run.json").write_text(json.dumps({"status": status}))
        with outcome, open_run(tmp_path):
            pass


def test_runs_are_compared_whatever_became_of_them(finished, tmp_path):
    shutil.copytree(finished.run_dir, tmp_path / "good")
    run(tmp_path / "numbers", epochs=1, settings={"seed": 3})
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed/run.json").write_text('{"status": "running"}')
    table = seglib.list_runs(tmp_path).set_index("run")
    status = {"good": "finished", "numbers": "finished", "killed": "killed"}
    assert table["status"].to_dict() == status
    good = table.loc["good"]
    assert (good["model"], good["parameters"], good["epochs"]) == ("unetpp", 1979, 3)
    assert good["mean_iou"] == pytest.approx(finished.best["mean_iou"])
    assert table.loc["numbers", "seed"] == 3
    with open_run(tmp_path / "killed") as folder:
        folder.note(1.0)
        assert "running" in seglib.list_runs(tmp_path)["status"].tolist()
    with pytest.raises(FileNotFoundError, match="expected a folder that runs were trained in"):
        seglib.list_runs(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", b'{"settings": null}'),
        ("run.json", b'{"sessions": [], "plan": 3}'),
        ("history.csv", b"epoch,mean_iou\n1,good\n"),
        ("history.csv", b"epoch,mean_iou\n1,\xff\xfe\n"),
        ("history.csv", b"epoch\n1\n"),
    ],
)
def test_a_damaged_run_is_named_and_passed_over(tmp_path, file, content):
    for name in ("good", "bad"):
        run(tmp_path / name, epochs=1)
    (tmp_path / "bad" / file).write_bytes(content)
    with pytest.warns(UserWarning, match="bad: damaged and passed over"):
        assert seglib.list_runs(tmp_path)["run"].tolist() == ["good"]


@pytest.mark.parametrize("content", [b"null", b"[1, 2]", b"[" * 100_000, b'{"pid": [], "host": 1}'])
def test_odd_notes_stop_no_other_run(tmp_path, content):
    run(tmp_path / "good", epochs=1)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/run.json").write_text('{"status": "running"}')
    for file, status in ((".lock", "killed"), ("run.json", "unknown")):
        (tmp_path / "odd" / file).write_bytes(content)
        table = seglib.list_runs(tmp_path).set_index("run")
        assert table["status"].to_dict() == {"good": "finished", "odd": status}


def test_the_best_model_is_loaded_from_a_run_or_a_file(finished, tmp_path):
    file = finished.run_dir / "best.keras"
    for path in (finished.run_dir, file):
        assert_same_weights(seglib.load_model(path), finished.model)
    with pytest.raises(FileNotFoundError, match=r"no trained model at .*best\.keras"):
        seglib.load_model(tmp_path)
    content, hdf5, bomb = file.read_bytes(), b"\x89HDF\r\n\x1a\n", io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(130_000_000))
    for damaged in (truncate(content), flip_a_bit(content), hdf5, bomb.getvalue()):
        (tmp_path / "best.keras").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"best.keras is damaged .*: copy it again, or train"):
            seglib.load_model(tmp_path)
    (tmp_path / "model.h5").write_bytes(hdf5)
    with pytest.raises(ValueError, match=r"model\.h5 is no \.keras file, .* run code"):
        seglib.load_model(tmp_path / "model.h5")


@pytest.mark.skipif(
    tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15),
    reason="its model was saved by Keras 3.15, which older ones do not read",
)
def test_a_run_of_an_older_seglib_is_refused_and_its_model_is_read(tmp_path):
    """`data/old_run` was trained by seglib 0.1."""
    folder = shutil.copytree(pathlib.Path(__file__).parent / "data/old_run", tmp_path / "run")
    model = seglib.load_model(folder)
    images, logits = (np.load(folder / f"{name}.npy") for name in ("images", "logits"))
    np.testing.assert_allclose(model.predict_on_batch(images)[-1], logits, atol=1e-4)
    assert seglib.predict(model, images[0]).shape == images.shape[1:3]
    old, data = make_model(), make_dataset()
    with pytest.raises(ValueError, match=r"of an older seglib.*another run_dir, and init_from="):
        seglib.train(old, data, run_dir=folder, epochs=9, precision="float32")
    assert seglib.list_runs(folder)["status"].tolist() == ["finished"]
    assert seglib.train(old, data, run_dir=tmp_path / "new", init_from=folder, epochs=1).finished
