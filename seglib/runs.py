"""What a run is on disk: checkpoints, settings, tables, the best model; and how it is found."""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import math
import os
import pathlib
import reprlib
import shutil
import socket
import time
import zipfile

import keras
import numpy as np
import pandas as pd

import seglib.compressing  # noqa: F401 - registers the layers that a saved model needs
from seglib import plots
from seglib.recipes import simplify
from seglib.system import digest_file, is_locked, lock_file, replacing, warn

ENDS = ("plan", "patience")  # of a run that is finished
PATTERN = "checkpoints/step_*.npz"
FORMAT = 2  # of checkpoints; those of seglib 0.1 have none
TIMINGS = ("seconds", "images_per_second", "peak_memory_mb")
SECONDS_BETWEEN_CURVES = 300.0
INPUTS_VARIABLE, KAGGLE_INPUTS = "SEGLIB_INPUTS", "/kaggle/input"

SHORT = reprlib.Repr()
SHORT.maxstring, SHORT.maxother, SHORT.maxlist = 60, 60, 4


@dataclasses.dataclass
class RunState:
    """Where a run stands: all that a checkpoint holds."""

    step: int = 0  # steps trained, counted in batches of the present size
    updates: int = 0  # steps trained, whatever their size
    steps_per_epoch: int = 0
    batch_size: int = 0  # 0 before it is chosen
    planned_steps: int = 0  # of the whole run; 0 before there is a plan
    spent: float = 0.0  # the time budget in seconds that was used up at this step; 0 if none was
    sums: dict = dataclasses.field(default_factory=dict)  # of logs and "steps" in this epoch
    history: list = dataclasses.field(default_factory=list)  # a row an epoch, NaN: not validated
    validated_step: int = 0  # the step whose weights were validated last
    best_score: float = -1.0  # the highest validation mean IoU
    elapsed: float = 0.0  # seconds since `train` was first called, all sessions together
    epoch_seconds: float = 0.0  # seconds of the epoch under way
    settings: dict = dataclasses.field(default_factory=dict)
    arrays: list | None = None  # of model and optimizer, until they are restored
    format: int = FORMAT

    @property
    def recorded(self) -> bool:
        """Whether the last step already has its row in the history."""
        return bool(self.history) and self.history[-1]["step"] == self.step

    @property
    def validated(self) -> bool:
        """Whether the weights of the last step have been validated."""
        return self.recorded and self.validated_step == self.step

    def use_batch_size(self, batch_size, steps_per_epoch):
        """Keep the place in the data when an epoch has another number of steps."""
        if self.steps_per_epoch not in (0, steps_per_epoch):
            now, before = steps_per_epoch, self.steps_per_epoch
            self.step = self.step * now // before
            self.validated_step = self.validated_step * now // before
            self.history = [{**row, "step": row["step"] * now // before} for row in self.history]
            self.planned_steps = 0  # it counts steps of the other size
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch


class RunFolder:
    """The files of one run. Whatever is replaced is whole or absent, never half.

    `stream` is the lock's open file, in which the folder notes how long the run has taken.
    """

    def __init__(self, path, stream=None):
        self.path, self.stream = path, stream
        self.newest = None  # path of the newest checkpoint that was read or written
        self.drawn = time.monotonic()

    def read(self) -> RunState:
        """Return the state in the newest whole checkpoint; a new one where there is none.

        Damaged checkpoints are passed over with a warning.
        """
        damaged, state = [], RunState()
        for file in sorted(self.path.glob(PATTERN), reverse=True):
            try:
                state, self.newest = _read_checkpoint(file), file
                break
            except Exception as error:  # NumPy and zipfile raise many kinds
                damaged.append(f"{file.name} ({error})")
        if damaged:
            go_on = f"carrying on from step {state.step}" if state.step else "starting anew"
            text = f"{self.path}: damaged and passed over: {', '.join(damaged)}; {go_on}"
            warn(text)
        return state

    def save(self, state, variables):
        """Write a checkpoint, then remove all but the newest two."""
        arrays = {f"{i:05d}": np.asarray(variable) for i, variable in enumerate(variables)}
        story = json.dumps(dataclasses.asdict(dataclasses.replace(state, arrays=None)))
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        with replacing(folder / "new.npz") as temporary:
            with open(temporary, "wb") as stream:
                np.savez(stream, story=np.array(story), **arrays)
            name = f"step_{state.step:09d}.{digest_file(temporary)}.npz"
        self.newest = (folder / "new.npz").replace(folder / name)
        files = sorted(self.path.glob(PATTERN))
        before = [file for file in files if file.name < name[:14]]
        for file in files:  # those at this step or later belong to an abandoned plan
            if file not in (self.newest, *before[-1:]):
                file.unlink(missing_ok=True)

    def begin_session(self, state, clock, **about):
        """Note where a session begins, and what it trains with."""
        session = {
            "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "from_step": state.step,
            "seconds_before": round(clock.earlier, 1),
            # trained, but not kept when the session before was cut off
            "seconds_lost": round(max(0.0, clock.earlier - state.elapsed), 1),
            **about,
        }
        self.sessions = [*_read_json(self.path / "run.json").get("sessions", []), session]

    def note(self, elapsed):
        """Note the run's seconds, so that a killed session counts as well."""
        content = {"pid": os.getpid(), "host": socket.gethostname(), "elapsed": round(elapsed, 1)}
        with contextlib.suppress(OSError):  # a full disk is reported where it matters more
            self.stream.seek(0)
            self.stream.write(json.dumps(content).ljust(200).encode())
            self.stream.flush()

    def tell(self, status, state, clock, plan):
        """Write `run.json` and `history.csv`, and now and then, or at the end, `curves.png`."""
        if state.history:
            history = pd.DataFrame(state.history)
            with replacing(self.path / "history.csv") as temporary:
                history.to_csv(temporary, index=False)
            if status != "running" or time.monotonic() - self.drawn > SECONDS_BETWEEN_CURVES:
                self.draw_curves(history)
                self.drawn = time.monotonic()
        self.sessions[-1] |= {
            "to_step": state.step,
            "seconds": round(clock.elapsed - clock.earlier, 1),
            "elapsed_seconds": round(clock.elapsed, 1),
        }
        content = {
            "status": status,
            "elapsed": str(datetime.timedelta(seconds=round(clock.elapsed))),
            "settings": state.settings,
            "plan": plan,
            "sessions": self.sessions,
        }
        with replacing(self.path / "run.json") as temporary:
            temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")

    def note_failure(self):
        """Note in `run.json` that the run failed, where the disk has no room for a new file."""
        with contextlib.suppress(OSError), open(self.path / "run.json", "r+b") as stream:
            content = stream.read().replace(b'"status": "running"', b'"status": "failed" ')
            stream.seek(0)
            stream.write(content)

    def draw_curves(self, history):
        """Write `curves.png`."""
        with replacing(self.path / "curves.png") as temporary:
            plots.plot_learning_curves(history).savefig(temporary, dpi=120)


def _read_checkpoint(file):
    if digest_file(file) != file.name.split(".")[-2]:
        raise ValueError("its content does not match its checksum")
    with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
        story = json.loads(str(archive["story"]))
        if story.get("format") != FORMAT:
            return RunState(step=story["step"], settings=story["settings"], format=0)
        names = sorted(name for name in archive.files if name != "story")
        return RunState(**{**story, "arrays": [archive[name] for name in names]})


@contextlib.contextmanager
def open_run(path):
    """Yield a RunFolder, or raise BlockingIOError where another process trains in it."""

    def is_held():
        """Whether the note in a lock that the file system cannot keep is of another process."""
        is_running = _read_json(path / "run.json").get("status") == "running"
        is_mine = _read_json(path / ".lock").get("pid") == os.getpid()
        return is_running and not is_mine and is_locked(path / ".lock")

    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(lock_file(path / ".lock", is_held=is_held))
        except BlockingIOError:
            holder = _read_json(path / ".lock")
            raise BlockingIOError(
                f"{path} is being trained by process {holder.get('pid', 'unknown')} on "
                f"{holder.get('host', 'this machine')}: wait for it, stop it, or choose another "
                "run_dir"
            ) from None
        yield RunFolder(path, stream)


def _read_json(file):
    """The dict in a file; an empty one where it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        return dict(json.loads(file.read_bytes()))
    return {}


def describe_settings(model, data, **options):
    """Return what a run must keep to when it is resumed, as JSON holds it."""
    layers = [[type(layer).__name__, simplify(layer)] for layer in model.layers]
    content = json.dumps(layers, sort_keys=True, default=str)
    settings = {
        "model": {
            "name": model.name,
            "parameters": model.count_params(),
            "layers": hashlib.blake2b(content.encode(), digest_size=8).hexdigest(),
        },
        "image_size": data.image_size,
        "classes": data.classes.to_dict(),
        "data": data.fingerprint,
        **options,
    }
    return simplify(settings)


def find_differences(before, now, *, allowed=()):
    """Return the differences between two settings in words, a list of str."""
    sizes = now.get("batch_size")
    if isinstance(sizes, list) and before.get("batch_size") == sizes[0]:
        allowed = (*allowed, "batch_size")  # which may become smaller
    names = [name for name in {**before, **now} if name not in allowed]
    return [line for name in names for line in _compare(name, before.get(name), now.get(name))]


def _compare(name, before, now):
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _compare(f"{name}.{key}", before.get(key), now.get(key))
    elif not _is_same(before, now):
        yield f"{name}: {SHORT.repr(before)} before, {SHORT.repr(now)} now"


def _is_same(before, now):
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return all(map(_is_same, before, now))
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=1e-6)  # other versions may sum in another order
    return before == now


def take_up(folder, settings, *, resume_from="auto", allowed=()):
    """Return where a run stands, here or in an earlier session's output, and its seconds."""
    state, source = folder.read(), folder
    if not state.step and resume_from is not None:
        source, state = _find_earlier_run(resume_from, settings, allowed) or (folder, state)
    if not state.step:
        return state, 0.0  # nothing was kept that the clock could count for
    refusal = _refuse(source.path, state, settings, allowed)
    if refusal:
        raise ValueError(refusal)
    if source is not folder:
        print(f"carrying on from step {state.step} of {source.path}")
        (folder.path / "checkpoints").mkdir(exist_ok=True)
        names = ("run.json", "history.csv", "curves.png", "best.keras")
        # The checkpoint comes last, so that the run is whole or absent.
        for file in [*(source.path / name for name in names), source.newest]:
            if file.is_file():
                with replacing(folder.path / file.relative_to(source.path)) as temporary:
                    shutil.copyfile(file, temporary)
        state = folder.read()
    return state, max(_read_json(source.path / ".lock").get("elapsed", 0.0), state.elapsed)


def _refuse(path, state, settings, allowed):
    """Why a run cannot be carried on with these settings; an empty text if it can."""
    if state.format != FORMAT:
        return (
            f"{path} holds a run of an older seglib, which cannot be carried on: choose another "
            f"run_dir, and init_from={str(path)!r} to start from its weights"
        )
    differences = find_differences(state.settings, settings, allowed=allowed)
    names = [line.split(":")[0].split(".")[0] for line in differences]
    names = ", ".join(f'"{name}"' for name in dict.fromkeys([*allowed, *names]))
    return differences and (
        f"{path} holds a run with other settings ({'; '.join(differences)}): choose another "
        "run_dir, or the same settings to carry on, or say that the change is meant with "
        f"allow_changes=({names},)"
    )


def _find_earlier_run(resume_from, settings, allowed):
    """The folder and state of the attached run with the most epochs; None without one."""
    automatic = resume_from == "auto"
    attached = os.environ.get(INPUTS_VARIABLE) or KAGGLE_INPUTS
    found = []
    inputs = pathlib.Path(attached if automatic else resume_from)
    for path in sorted({file.parent.parent for file in inputs.rglob(PATTERN)}):
        folder = RunFolder(path)
        state = folder.read()
        refusal = automatic and state.step and _refuse(folder.path, state, settings, allowed)
        if refusal:
            print(f"not carried on: {refusal.split(': choose')[0]}")
        elif state.step:
            found.append((folder, state))
    if not automatic and not found:
        raise FileNotFoundError(
            f"no checkpoint in {resume_from}: expected a run's folder with {PATTERN} in it; add "
            "the earlier session's output to the inputs, or leave resume_from away"
        )
    return max(found, key=lambda run: run[1].step / (run[1].steps_per_epoch or 1), default=None)


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """What `train` leaves.

    Args:
        run_dir: path of the folder: `run.json`, `history.csv`, `curves.png`, `best.keras`,
            `checkpoints/`.
        model: keras.Model with the best weights, as in `best.keras`; with the last ones as
            long as no epoch was validated.
        history: DataFrame, a row an epoch: epoch (from 1), step, loss, val_loss, pixel_accuracy
            and mean_iou on the validation data at training size, NaN between validations, the
            given `metrics`, learning_rate, seconds, images_per_second, peak_memory_mb.
        ended_by: "plan" (its epochs, or its time), "patience", "Ctrl-C", "SIGTERM", or the class
            of the callback that stopped it.
    """

    run_dir: pathlib.Path
    model: keras.Model
    history: pd.DataFrame
    ended_by: str = "plan"

    @property
    def finished(self) -> bool:
        """False where the run was stopped: `train` carries it on."""
        return self.ended_by in ENDS

    @property
    def best(self) -> pd.Series:
        """The row of the history whose weights are the best checkpoint."""
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


def load_model(path: str | os.PathLike) -> keras.Model:
    """Load a trained model.

    Args:
        path: path of a run's folder, whose best checkpoint is taken, or of a `.keras` file.

    Returns:
        keras.Model.

    Raises:
        FileNotFoundError: there is no trained model.
        ValueError: the file is damaged, or not of the kind `.keras`: HDF5 files run code that is
            hidden in them, as `.keras` files do under Keras below 3.11.3.
    """
    path = pathlib.Path(path)
    file = path / "best.keras" if path.is_dir() or not path.suffix else path
    if not file.is_file():
        raise FileNotFoundError(
            f"no trained model at {file}: train one with seglib.train(..., run_dir={str(path)!r})"
        )
    if file.suffix != ".keras":
        raise ValueError(
            f"{file} is no .keras file, and others can run code that is hidden in them: if you "
            "trust who made it, load it with Keras and save it as .keras"
        )
    fault = find_fault(file)
    if fault:
        raise ValueError(f"{fault}: copy it again, or train again")
    return keras.saving.load_model(file, compile=False, safe_mode=True)


def find_fault(file: pathlib.Path) -> str | None:
    """Return in words why a `.keras` file cannot be read; None if it is whole, and no zip bomb."""
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(part.file_size for part in archive.infolist())
            if size > 10 * file.stat().st_size + 1e8 or archive.testzip():
                raise ValueError(f"{size:,} bytes, some of which do not match their checksums")
    except Exception as error:  # zipfile raises many kinds
        return f"{file} is {'damaged' if file.is_file() else 'missing'} ({error})"


def list_runs(folder: str | os.PathLike = "outputs") -> pd.DataFrame:
    """Compare the runs in a folder and the folders in it.

    Args:
        folder: path.

    Returns:
        DataFrame, a row a run, the best first: run (path in the folder), status (finished,
        running, killed, stopped by …, failed: …), model, parameters, image_size, batch_size,
        learning_rate, seed, epochs, best_epoch, mean_iou, pixel_accuracy (of the best epoch),
        seconds, megabytes.

    Raises:
        FileNotFoundError: there are no runs.
    """
    folder = pathlib.Path(folder)
    rows = []
    for file in sorted(folder.rglob("run.json")):
        try:
            rows.append(_describe_run(file.parent, folder))
        except Exception as error:  # whatever damaged files hold
            warn(f"{file.parent}: damaged and passed over ({error!r})")
    if not rows:
        raise FileNotFoundError(f"no run in {folder}: expected a folder that runs were trained in")
    table = pd.DataFrame(rows)
    return table.sort_values("mean_iou", ascending=False, ignore_index=True, kind="stable")


def _describe_run(run_dir, folder):
    story = _read_json(run_dir / "run.json")
    status = story.get("status", "unknown")
    if status == "running" and not is_locked(run_dir / ".lock"):
        status = "killed"
    settings, sessions = story.get("settings", {}), story.get("sessions", [{}])
    history, best = [], {}
    with contextlib.suppress(OSError, pd.errors.EmptyDataError):
        history = pd.read_csv(run_dir / "history.csv").astype(float)
        best = Run(None, None, history).best.to_dict()
    files = [file for file in run_dir.rglob("*") if file.is_file()]
    return {
        "run": str(run_dir.relative_to(folder)),
        "status": status,
        "model": settings.get("model", {}).get("name"),
        "parameters": settings.get("model", {}).get("parameters"),
        **{name: settings.get(name) for name in ("image_size", "learning_rate", "seed")},
        "batch_size": story.get("plan", {}).get("batch_size", settings.get("batch_size")),
        "epochs": len(history),
        "best_epoch": int(best["epoch"]) if best else None,
        **{name: best.get(name) for name in ("mean_iou", "pixel_accuracy")},
        "seconds": sessions[-1].get("elapsed_seconds"),
        "megabytes": round(sum(file.stat().st_size for file in files) / 1e6, 1),
    }
