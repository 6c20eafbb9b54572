"""What a run leaves, how its model is loaded, and how runs compare."""

import dataclasses
import json
import pathlib

import keras

from seglib import compressing  # noqa: F401 - registers the layers that a saved model needs
from seglib.training.checkpoints import folder_size
from seglib.training.locking import is_locked

TIMINGS = ("seconds", "images_per_second", "peak_memory_mb")


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """What `train` leaves.

    Args:
        run_dir: path of the folder: `run.json`, `history.csv`, `curves.png`, `best.keras`,
            `checkpoints/`.
        model: keras.Model with the best weights, as in `best.keras`; with the last ones as
            long as no epoch was validated.
        history: DataFrame, a row an epoch: epoch (from 1), step, loss, val_loss,
            pixel_accuracy and mean_iou on the validation data at training size, NaN between
            validations,
            learning_rate, seconds, images_per_second, peak_memory_mb.
        ended_by: "plan" (its epochs, or its time), "patience", "Ctrl-C" or "SIGTERM".
    """

    run_dir: pathlib.Path
    model: keras.Model
    history: object
    ended_by: str = "plan"

    @property
    def finished(self):
        """bool, False where somebody stopped the run: `train` carries it on."""
        return self.ended_by in ("plan", "patience")

    @property
    def best(self):
        """Series, the row of the history whose weights are the best checkpoint."""
        scores = self.history["mean_iou"]
        return self.history.loc[scores.idxmax() if scores.notna().any() else len(scores) - 1]

    def __repr__(self):
        if self.history.empty:
            return f"Run({self.run_dir.name}: stopped by {self.ended_by} in the first epoch)"
        stopped = "" if self.finished else f", stopped by {self.ended_by}"
        return (
            f"Run({self.run_dir.name}: {len(self.history)} epochs{stopped}, best mean IoU "
            f"{self.best['mean_iou']:.3f} in epoch {self.best['epoch']:.0f})"
        )


def load_model(path):
    """Load a trained model.

    Args:
        path: str or path of a run's folder, whose best checkpoint is taken, or of a
            `.keras` file.

    Returns:
        keras.Model.

    Raises:
        FileNotFoundError: there is no trained model.
    """
    path = pathlib.Path(path)
    file = path / "best.keras" if path.is_dir() or not path.suffix else path
    if not file.is_file():
        raise FileNotFoundError(
            f"no trained model at {file}: train one with seglib.train(..., run_dir={str(path)!r})"
        )
    return keras.saving.load_model(file, compile=False, safe_mode=True)


def list_runs(folder="outputs"):
    """Compare the runs in a folder and the folders in it.

    Args:
        folder: str or path.

    Returns:
        DataFrame, a row a run, the best first: run (path in the folder), status (finished,
        running, killed, stopped by …, failed: …), model, parameters, image_size, batch_size,
        learning_rate, seed, epochs, best_epoch, mean_iou, pixel_accuracy (of the best epoch),
        seconds, megabytes.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    import pandas as pd

    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}: expected one that runs were trained in")
    rows = [_describe(file.parent, folder) for file in sorted(folder.rglob("run.json"))]
    columns = list(_describe_nothing())
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("mean_iou", ascending=False, ignore_index=True, kind="stable")


def read_run_file(run_dir):
    """Return the content of `run.json`; an empty dict where it is missing or damaged."""
    try:
        return dict(json.loads((run_dir / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _describe(run_dir, folder):
    story = read_run_file(run_dir)
    status = story.get("status", "unknown")
    if status == "running" and not is_locked(run_dir):
        status = "killed"
    settings, sessions = story.get("settings", {}), story.get("sessions", [{}])
    model = settings.get("model", {})
    return {
        **_describe_nothing(),
        "run": str(run_dir.relative_to(folder)),
        "status": status,
        "model": model.get("name"),
        "parameters": model.get("parameters"),
        **{name: settings.get(name) for name in ("image_size", "seed")},
        "batch_size": story.get("plan", {}).get("batch_size", settings.get("batch_size")),
        "learning_rate": settings.get("learning_rate"),
        **_describe_best(run_dir / "history.csv"),
        "seconds": sessions[-1].get("elapsed_seconds"),
        "megabytes": round(folder_size(run_dir) / 1e6, 1),
    }


def _describe_nothing():
    names = ("run status model parameters image_size batch_size learning_rate seed epochs "
             "best_epoch mean_iou pixel_accuracy seconds megabytes")  # fmt: skip
    return dict.fromkeys(names.split())


def _describe_best(file):
    import pandas as pd

    try:
        history = pd.read_csv(file)
    except (OSError, pd.errors.EmptyDataError):
        return {"epochs": 0}
    best = Run(None, None, history).best
    return {
        "epochs": len(history),
        "best_epoch": int(best["epoch"]),
        "mean_iou": best["mean_iou"],
        "pixel_accuracy": best["pixel_accuracy"],
    }
