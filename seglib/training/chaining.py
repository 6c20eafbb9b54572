"""Carrying on what an earlier session left in a folder that may be read-only."""

import os
import pathlib
import shutil

from seglib.training.checkpoints import PATTERN, Checkpoints
from seglib.training.locking import noted_seconds
from seglib.training.settings import find_differences

INPUTS_VARIABLE = "SEGLIB_INPUTS"
KAGGLE_INPUTS = "/kaggle/input"
DEPTH = 5  # folders between the inputs and a run


def find_earlier_run(resume_from, settings, *, allowed=()):
    """Find the folder of a run to carry on.

    Args:
        resume_from: "auto", None, or path of a run's folder or of one that holds it.
            "auto" searches the folders that the environment attached (`/kaggle/input`, or
            what `SEGLIB_INPUTS` names) for a run of the same settings.
        settings: dict, what the run is to be.
        allowed: names of settings that may differ.

    Returns:
        path of the folder with the most epochs, and its RunState; or None.

    Raises:
        FileNotFoundError: `resume_from` is a path without a usable checkpoint.
    """
    if resume_from is None:
        return None
    automatic = resume_from == "auto"
    attached = os.environ.get(INPUTS_VARIABLE) or KAGGLE_INPUTS  # "" would be the working folder
    inputs = attached if automatic else resume_from
    found = [(folder, Checkpoints(folder).read()) for folder in _find_runs(pathlib.Path(inputs))]
    found = [(folder, state) for folder, state in found if state.step]
    if automatic:
        found = [run for run in found if _is_same(*run, settings, allowed)]
    elif not found:
        raise FileNotFoundError(
            f"no checkpoint in {inputs}: expected a run's folder with checkpoints/{PATTERN} in it; "
            "add the earlier session's output to the inputs, or leave resume_from away"
        )
    return max(found, key=lambda run: run[1].step / run[1].steps_per_epoch, default=None)


def _is_same(folder, state, settings, allowed):
    differences = find_differences(state.settings, settings, allowed=allowed)
    if differences:
        more = f" and {len(differences) - 1} more" * (len(differences) > 1)
        print(f"{folder} is not carried on, its settings are others: {differences[0]}{more}")
    return not differences


def copy_run(source, run_dir):
    """Copy what a run needs to be carried on; its checkpoint last, so that it is whole or absent.

    Returns:
        float, the seconds that the earlier sessions took.
    """
    checkpoints = Checkpoints(source)
    checkpoints.read()
    target = run_dir / "checkpoints"
    target.mkdir(exist_ok=True)
    files = [source / name for name in ("run.json", "history.csv", "curves.png", "best.keras")]
    for file in [*files, checkpoints.newest]:
        if file.is_file():
            folder = target if file is checkpoints.newest else run_dir
            temporary = folder / "copying.tmp"
            shutil.copyfile(file, temporary)
            os.replace(temporary, folder / file.name)
    return noted_seconds(source)


def _find_runs(folder):
    """Folders of runs at or below a folder, without looking into folders of pictures."""
    for path, names, _ in os.walk(folder):
        if "checkpoints" in names:
            yield pathlib.Path(path)
            names.remove("checkpoints")
        if len(pathlib.Path(path).relative_to(folder).parts) >= DEPTH:
            names.clear()
