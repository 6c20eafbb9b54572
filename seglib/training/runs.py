"""What a finished run is, and how its model is loaded."""

import dataclasses
import pathlib

import keras

from seglib import models  # noqa: F401 - registers the layers that a saved model needs


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """What `train` leaves.

    Args:
        run_dir: path of the folder: `run.json`, `history.csv`, `best.keras`, `checkpoints/`.
        model: keras.Model, the best one, as in `best.keras`.
        history: DataFrame, a row an epoch: epoch (from 1), loss, val_loss, pixel_accuracy
            and mean_iou on the validation data at training size, seconds.
    """

    run_dir: pathlib.Path
    model: keras.Model
    history: object

    @property
    def best(self):
        """Series, the row of the history whose weights are the best checkpoint."""
        scores = self.history["mean_iou"]
        return self.history.loc[scores.idxmax() if scores.notna().any() else len(scores) - 1]

    def __repr__(self):
        best = self.best
        return (
            f"Run({self.run_dir.name}: {len(self.history)} epochs, best mean IoU "
            f"{best['mean_iou']:.3f} in epoch {best['epoch']:.0f})"
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
