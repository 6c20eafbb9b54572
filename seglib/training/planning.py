"""How many steps fit into the time that there is."""

import collections
import contextlib
import gc
import time

import numpy as np

RECENT = 100  # steps that the speed is measured over
STEADY = 3  # steps after which the size of batches is chosen, by the median of their durations
COMPILING = 20, 5.0  # times the usual step and seconds: so long takes none but one that compiles
REVISE = 0.005  # share of the budget after which the plan is looked at again
CLOSING = 4.0  # seconds for tables, curves and loading the best model, on a slow machine

# CamVid, a processor without bfloat16: 177 steps of 16 pairs reach 44 % mean IoU, 490 of 4 reach
# 56; 570 of 16 reach 62 %, 1200 of 8 63 (`benchmarks/RESULTS.md`).
FEW_STEPS, SMALL_BATCH = 600, 4


class Clock:
    """Seconds since `train` was first called on a run, earlier sessions included."""

    def __init__(self):
        self.start, self.earlier = time.monotonic(), 0.0

    @property
    def session(self):
        """float, the seconds of this session."""
        return time.monotonic() - self.start

    @property
    def elapsed(self):
        """float, the seconds of all sessions."""
        return self.earlier + self.session


class Plan:
    """How many steps a run has: so many epochs, or what a time budget allows, if that is less.

    The speed is measured all the time, and the plan follows it, so that a run ends in time on a
    machine that others use as well.

    Args:
        clock: Clock.
        steps_per_epoch: int.
        validate_every: int, epochs from one validation to the next.
        epochs: int or None.
        budget: float or None, seconds.
        patience: int or None, epochs without a better score after which to stop.
    """

    def __init__(self, clock, *, steps_per_epoch, validate_every=1, epochs=None, budget=None,
                 patience=None):  # fmt: skip
        self.clock, self.steps_per_epoch = clock, steps_per_epoch
        self.validate_every = validate_every
        self.budget, self.patience = budget, patience
        self.limit = epochs * steps_per_epoch if epochs else None
        self.steps = self.limit  # None until the speed is known
        self.durations = collections.deque(maxlen=RECENT)
        self.break_seconds = None  # validation and checkpoint, at the end of an epoch
        self.revised = -1.0

    @property
    def step_seconds(self):
        """float or None, the mean duration of the last steps, those aside that compiled anew."""
        if not self.durations:
            return None
        longest = max(COMPILING[0] * np.median(self.durations), COMPILING[1])
        usual = [seconds for seconds in self.durations if seconds <= longest]
        return sum(usual) / len(usual)

    @property
    def is_known(self):
        """bool, whether it is more than a guess: of epochs alone, or since the speed is known."""
        return self.budget is None or self.revised >= 0

    @property
    def binding_budget(self):
        """float or None, the budget, unless it is the epochs that end the run."""
        return None if self.limit is not None and self.steps == self.limit else self.budget

    def ended_by(self, state):
        """Return why a run is at its end: "plan", "patience", or None if it is not."""
        if self.patience is not None and _epochs_since_best(state.history) >= self.patience:
            return "patience"
        kept_to_budget = (
            None not in (self.budget, state.budget)
            and self.budget <= state.budget
            and state.step == state.planned_steps
        )
        return "plan" if kept_to_budget or self.is_over(state.step) else None

    def is_over(self, step):
        """Whether no step is left, or no time for another one."""
        if self.steps is not None and step >= self.steps:
            return True
        if self.budget is None or step == 0:
            return False
        return self._seconds_left() <= (self.step_seconds or 0.0)

    def use_steps_per_epoch(self, steps):
        """Plan as many epochs in batches of another size, until their speed is known."""
        self.limit = self.limit and self.limit // self.steps_per_epoch * steps
        self.steps = self.steps * steps // self.steps_per_epoch
        self.steps_per_epoch = steps
        self.durations.clear()

    def needs_revision(self):
        """Whether it is time to look at the plan again."""
        if self.budget is None or not self.durations:
            return False
        return self.revised < 0 or self.clock.elapsed - self.revised > REVISE * self.budget

    def revise(self, step):
        """Fit the steps that are left into the time that is left."""
        self.revised = self.clock.elapsed
        left = self._count_steps(step, self._seconds_left())
        self.steps = min(step + left, self.limit or step + left)

    def to_dict(self):
        """Return the plan for `run.json`."""
        return {
            "steps": self.steps,
            "epochs": self.steps and round(self.steps / self.steps_per_epoch, 3),
            "steps_per_epoch": self.steps_per_epoch,
            "time_budget_seconds": self.budget,
            "seconds_per_step": self.step_seconds and round(self.step_seconds, 4),
            "seconds_between_epochs": self.break_seconds and round(self.break_seconds, 3),
        }

    def _seconds_left(self):
        """Seconds for steps and the breaks between epochs, the last break taken off."""
        return self.budget - self.clock.elapsed - CLOSING - (self.break_seconds or 0.0)

    def _count_steps(self, step, seconds):
        """The most steps whose time, with a break at each end of an epoch, is within `seconds`."""
        step_seconds = self.step_seconds
        break_seconds = (self.break_seconds or 0.0) / self.validate_every
        to_epoch_end = self.steps_per_epoch - step % self.steps_per_epoch
        first = int(seconds / step_seconds) if seconds > 0 else 0
        if first <= to_epoch_end:  # the break at the run's end is taken off already
            return first
        seconds -= to_epoch_end * step_seconds + break_seconds
        epoch_seconds = self.steps_per_epoch * step_seconds + break_seconds
        whole, rest = divmod(max(0.0, seconds), epoch_seconds)
        within = min(self.steps_per_epoch, int(rest / step_seconds))
        return to_epoch_end + int(whole) * self.steps_per_epoch + within


@contextlib.contextmanager
def keep_garbage():
    """Leave to the end what `gc.freeze()` sets aside within.

    TensorFlow now and then takes 20 to 45 s to free a function that is not needed any more. Once
    the speed is known, a collection could come when no step is left to be taken off for it.
    """
    is_mine = not gc.get_freeze_count()
    try:
        yield
    finally:
        if is_mine:  # else some of it was set aside before, by somebody else
            gc.unfreeze()


def choose_batch_size(plan, most, least):
    """Return how many pairs a step: halved until enough steps fit into the time, or to `least`."""
    if plan.steps == plan.limit:  # it is not the time that ends the run
        return most
    size, steps = most, plan.steps * plan.step_seconds / np.median(plan.durations)
    while size > least and steps < FEW_STEPS:
        size, steps = max(least, size // 2), 2 * steps
    return size


def _epochs_since_best(history):
    scores = [row["mean_iou"] for row in history]
    if not scores or np.isnan(scores[-1]):  # judged only where there was a validation
        return 0
    return len(scores) - 1 - int(np.nanargmax(scores))
