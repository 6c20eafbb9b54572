import json
import shutil

import pandas as pd
import pytest
from small_runs import make_dataset, make_model

import seglib
from seglib.training import train
from seglib.training.locking import lock_run


def test_a_run_tells_its_story(finished):
    story = json.loads((finished.run_dir / "run.json").read_text())
    assert story["status"] == "finished"
    assert story["precision"] == "float32"
    settings = story["settings"]
    assert (settings["batch_size"], settings["learning_rate"], settings["seed"]) == (4, 0.004, 0)
    assert settings["model"]["parameters"] == finished.model.count_params()
    assert settings["data"] == "data"
    assert settings["classes"]["names"] == ["dark", "bright", "void"]
    assert story["plan"]["steps"] == 9
    (session,) = story["sessions"]
    assert {"keras", "numpy", "python", "device", "seglib"} <= set(session)
    assert (session["from_step"], session["to_step"]) == (0, 9)
    assert session["elapsed_seconds"] >= finished.history["seconds"].sum()
    history = pd.read_csv(finished.run_dir / "history.csv")
    pd.testing.assert_frame_equal(history, finished.history)


def test_every_session_is_in_the_story(finished, tmp_path):
    copy = shutil.copytree(finished.run_dir, tmp_path / "copy")
    note = {"pid": 1, "host": "elsewhere", "elapsed": 500.0}  # it was killed after 500 s
    (copy / ".lock").write_text(json.dumps(note))
    train(make_model(), make_dataset(), run_dir=copy, epochs=4, precision="float32")
    first, second = json.loads((copy / "run.json").read_text())["sessions"]
    assert (second["from_step"], second["to_step"]) == (9, 12)
    assert second["seconds_before"] == 500
    assert second["seconds_lost"] == pytest.approx(500 - first["elapsed_seconds"], abs=2)
    assert second["planned_steps_before"] == 9


def test_runs_are_compared_the_best_first(finished, tmp_path):
    for name, score in (("a/first", 0.3), ("second", 0.5), ("third", None)):
        copy = shutil.copytree(finished.run_dir, tmp_path / name)
        if score is None:
            (copy / "history.csv").unlink()
            (copy / "run.json").write_text("{")
        else:
            history = finished.history.assign(mean_iou=[0.1, score, 0.2])
            history.to_csv(copy / "history.csv", index=False)
    story = json.loads((tmp_path / "second" / "run.json").read_text())
    (tmp_path / "second" / "run.json").write_text(json.dumps({**story, "status": "running"}))
    table = seglib.list_runs(tmp_path)
    assert table["run"].tolist() == ["second", "a/first", "third"]
    assert table["status"].tolist() == ["killed", "finished", "unknown"]
    assert table["best_epoch"].tolist()[:2] == [2, 2]
    assert table["epochs"].tolist() == [3, 3, 0]
    assert table["parameters"].tolist()[:2] == [1979, 1979]
    assert table["megabytes"].gt(0.1).all()
    with lock_run(tmp_path / "second"):
        assert seglib.list_runs(tmp_path)["status"][0] == "running"


def test_no_runs_is_an_empty_table_and_no_folder_an_error(tmp_path):
    assert seglib.list_runs(tmp_path).empty
    with pytest.raises(FileNotFoundError, match=r"no folder at .*nowhere"):
        seglib.list_runs(tmp_path / "nowhere")
