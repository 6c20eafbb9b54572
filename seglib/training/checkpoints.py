"""Where a run stands, in memory and on disk."""

import contextlib
import csv
import json
import os
import zipfile

import keras
import numpy as np

CHECKPOINTS_KEPT = 2


class RunState:
    """Where a run stands, in memory and on disk."""

    def __init__(self, run_dir):
        self.run_dir, self.folder = run_dir, run_dir / "checkpoints"
        self.folder.mkdir(exist_ok=True)
        self.epoch, self.history, self.best_score, self.arrays = 0, [], -1.0, None
        for file in reversed(self.files()):
            with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
                self._read(file)
                break

    def files(self):
        return sorted(self.folder.glob("epoch_*.npz"))

    def restore(self, model):
        """Give model and optimizer the values of the checkpoint, if there is one."""
        if self.arrays is None:
            return
        # Of two precisions, only one may have a loss scale, which stands last.
        for variable, value in zip(training_variables(model), self.arrays, strict=False):
            variable.assign(value)
        self.arrays = None

    def write(self, model):
        """Write a checkpoint beside and rename it, so that it is whole or absent."""
        file = self.folder / f"epoch_{self.epoch:04d}.npz"
        arrays = {f"{i:05d}": np.asarray(keras.ops.convert_to_numpy(variable))
                  for i, variable in enumerate(training_variables(model))}  # fmt: skip
        story = {"epoch": self.epoch, "history": self.history, "best_score": self.best_score}
        temporary = file.with_suffix(".tmp")
        with open(temporary, "wb") as stream:
            np.savez(stream, story=np.array(json.dumps(story)), **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
        for old in self.files()[:-CHECKPOINTS_KEPT]:
            old.unlink()
        self.write_history()

    def write_history(self):
        temporary = self.run_dir / "history.tmp"
        with open(temporary, "w", newline="") as stream:
            writer = csv.DictWriter(stream, self.history[0])
            writer.writeheader()
            writer.writerows(self.history)
        os.replace(temporary, self.run_dir / "history.csv")

    def _read(self, file):
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            story = json.loads(str(archive["story"]))
            names = sorted(name for name in archive.files if name != "story")
            self.arrays = [archive[name] for name in names]
        self.epoch, self.history = story["epoch"], story["history"]
        self.best_score = story["best_score"]


def seed_dropout(model, seed):
    """Set the state of every seed generator from `seed`."""
    for number, variable in enumerate(_seed_states(model)):
        variable.assign(np.array([seed, number], dtype="uint32"))


def _seed_states(model):
    return [variable for variable in model.variables if "seed_generator" in variable.path]


def training_variables(model):
    """All that a step changes: weights, seed generators, optimizer, its loss scale."""
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    known = {id(variable) for variable in inner.variables}
    scale = [variable for variable in model.optimizer.variables if id(variable) not in known]
    return [*model.weights, *_seed_states(model), *inner.variables, *scale]


def write_json(path, content):
    """Write JSON beside the file and rename it, so that it is whole or absent."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2))
    os.replace(temporary, path)
