"""Where a run stands, and the files that remember it: whole or absent, never half."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import warnings
import zipfile

import numpy as np

PATTERN = "step_*.npz"
TABLES = 1_000_000  # bytes for tables and curves


@dataclasses.dataclass
class RunState:
    """Where a run stands.

    Args:
        step: int, steps trained.
        steps_per_epoch: int.
        batch_size: int, pairs a step; 0 before it is chosen.
        planned_steps: int, steps that the whole run is planned to have; 0 before there is a plan.
        budget: float or None, seconds that the plan was made for.
        history: list of dict, a row for each epoch; its scores are NaN where it was not validated.
        validated_step: int, the step whose weights were validated last.
        best_score: float, the highest validation mean IoU so far; -1 if there is none.
        elapsed: float, seconds since `train` was first called, all sessions together.
        epoch_seconds: float, of those the ones spent in the epoch that is under way.
        settings: dict that the run was begun with.
        arrays: list of arrays for the variables of model and optimizer, until they are restored.
    """

    step: int = 0
    steps_per_epoch: int = 0
    batch_size: int = 0
    planned_steps: int = 0
    budget: float | None = None
    history: list = dataclasses.field(default_factory=list)
    validated_step: int = 0
    best_score: float = -1.0
    elapsed: float = 0.0
    epoch_seconds: float = 0.0
    settings: dict = dataclasses.field(default_factory=dict)
    arrays: list | None = None

    @property
    def recorded(self):
        """bool, whether the last step already has its row in the history."""
        return bool(self.history) and self.history[-1]["step"] == self.step

    @property
    def validated(self):
        """bool, whether the weights of the last step have been validated."""
        return self.recorded and self.validated_step == self.step

    def use_steps_per_epoch(self, steps):
        """Keep the place in the data when an epoch has another number of steps."""
        if self.steps_per_epoch not in (0, steps):
            self.step = self.step * steps // self.steps_per_epoch
            for row in self.history:
                row["step"] = row["step"] * steps // self.steps_per_epoch
            self.validated_step = self.validated_step * steps // self.steps_per_epoch
            self.planned_steps = 0  # it counts steps of the other length
        self.steps_per_epoch = steps


class Checkpoints:
    """The checkpoints of a run: the digest of a file's content is part of its name.

    Args:
        run_dir: path of the run's folder.
        keep: int ≥ 1, how many are kept.
        size_limit: int, bytes that the run's folder may take.
    """

    def __init__(self, run_dir, *, keep=2, size_limit=None):
        self.run_dir, self.folder = run_dir, run_dir / "checkpoints"
        self.keep, self.size_limit = keep, size_limit
        self.good = []  # paths, oldest first

    @property
    def newest(self):
        """Path of the newest checkpoint that was read or written, or None."""
        return self.good[-1] if self.good else None

    def read(self):
        """Return the newest RunState that is whole; a new one where there is none.

        Damaged checkpoints are passed over with a warning.
        """
        damaged = []
        state = RunState()
        for file in sorted(self.folder.glob(PATTERN), reverse=True):
            try:
                state = read_checkpoint(file)
            except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
                damaged.append(f"{file.name} ({error})")
                continue
            self.good = [file]
            break
        if damaged:
            go_on = f"carrying on from step {state.step}" if state.step else "starting anew"
            warnings.warn(
                f"{self.folder}: damaged and passed over: {', '.join(damaged)}; {go_on}",
                stacklevel=2,
            )
        return state

    def check_room(self, variables):
        """Raise OSError before any work is done that could not be kept."""
        size = _count_bytes(variables)
        self._make_room(2 * size)  # a checkpoint stays until the next one is whole
        free = shutil.disk_usage(self.run_dir).free
        if free < size + TABLES:
            raise OSError(
                errno.ENOSPC,
                f"a checkpoint takes {size / 1e6:.1f} MB but the disk of {self.run_dir} has only "
                f"{free / 1e6:.1f} MB free: make room, or choose another run_dir",
            )

    def write(self, state, variables):
        """Write a checkpoint beside and rename it, then remove the ones too many.

        Args:
            state: RunState.
            variables: list of keras variables.

        Raises:
            OSError: the disk is full, or the run's folder would exceed its limit. The
                checkpoint before it stays usable.
        """
        self._make_room(_count_bytes(variables))
        arrays = {f"{i:05d}": np.asarray(variable) for i, variable in enumerate(variables)}
        story = dataclasses.asdict(dataclasses.replace(state, arrays=None))
        self.folder.mkdir(exist_ok=True)
        temporary = self.folder / "writing.tmp"
        with explain_full_disk(self.run_dir, temporary, self.newest):
            with open(temporary, "wb") as stream:
                np.savez(stream, story=np.array(json.dumps(story)), **arrays)
                stream.flush()
                os.fsync(stream.fileno())
            file = self.folder / f"step_{state.step:09d}.{_digest(temporary)}.npz"
            os.replace(temporary, file)
            _flush_folder(self.folder)
        # Names sort by step: what an earlier plan left at this one or a later must not outlast it.
        older = [old for old in self.good if old.name < f"step_{state.step:09d}"]
        self.good = [*older, file][-self.keep :]
        self._remove_others()

    def _make_room(self, size):
        """Let older checkpoints go, but never the newest, until another one fits.

        The next best model stands beside the one before it for a moment.
        """
        if self.size_limit is None:
            return
        best = self.run_dir / "best.keras"
        size += TABLES + (best.stat().st_size if best.is_file() else 0)
        while (taken := folder_size(self.run_dir)) + size > self.size_limit:
            if len(self.good) <= 1:
                raise OSError(
                    errno.EFBIG,
                    f"{self.run_dir} takes {taken / 1e6:.1f} MB and needs {size / 1e6:.1f} MB for "
                    f"checkpoints, more than size_limit={self.size_limit / 1e6:.1f} MB: "
                    "remove files from it, allow more, or train a smaller model",
                )
            self.good.pop(0)
            self._remove_others()

    def _remove_others(self):
        for file in self.folder.glob(PATTERN):
            if file not in self.good:
                file.unlink(missing_ok=True)


def read_checkpoint(file):
    """Return the RunState of a file.

    Raises:
        ValueError: its content is not what was written.
    """
    if _digest(file) != file.name.split(".")[-2]:
        raise ValueError("its content does not match its checksum")
    with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
        story = json.loads(str(archive["story"]))
        names = sorted(name for name in archive.files if name != "story")
        return RunState(**{**story, "arrays": [archive[name] for name in names]})


def write_json(path, content):
    """Write JSON beside the file and rename it, so that it is whole or absent."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")


@contextlib.contextmanager
def replacing(path):
    """Give a path beside a file to write to, and put what was written in the file's place."""
    temporary = path.with_suffix(f".tmp{path.suffix}")
    with explain_full_disk(path.parent, temporary):
        yield temporary
        os.replace(temporary, path)


@contextlib.contextmanager
def explain_full_disk(folder, temporary, checkpoint=None):
    """Remove what was half-written, and say what a full disk means for the run."""
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(folder).free / 1e6
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint yet"
        raise OSError(
            error.errno,
            f"the disk of {folder} is full ({free:.0f} MB free); {kept}: make room and call "
            "train again, it carries on",
        ) from error


def _count_bytes(variables):
    return sum(
        int(np.prod(variable.shape)) * np.dtype(variable.dtype).itemsize for variable in variables
    )


def folder_size(folder):
    """Return the bytes that the files in a folder take."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _digest(file):
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def _flush_folder(folder):
    """Make a rename outlast a power cut, where the system lets folders be flushed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
