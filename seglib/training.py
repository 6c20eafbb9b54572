"""Training that is kept: a run is a folder, and training it again carries on."""

import collections
import concurrent.futures
import dataclasses
import functools
import gc
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import pandas as pd

from seglib import learning, models, predicting, runs, system
from seglib.augment import choose_augmentation
from seglib.learning import Batches, Callbacks, Learner, learning_rate_at
from seglib.losses import create_loss
from seglib.preparing import PreparedSplit
from seglib.recipes import DEFAULTS, Recipe, check_names
from seglib.runs import ENDS, Run, RunFolder, RunState, describe_settings, open_run, take_up

FREE = ("precision", "patience")  # options that may differ when a run is resumed
COUNTS = ("batch_size", "validate_every", "gradient_accumulation", "patience")
HIGHEST = {"learning_rate": 1e6, "weight_decay": 1, "encoder_rate": 1, "ema": 1}
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has no SIGKILL
RECENT = 100  # steps that the speed is measured over
STEADY = 3  # steps after which the size of batches is chosen, by the median of their durations
COMPILING = 20, 5.0  # times the usual step and seconds: only a step that compiles takes so long
REVISE = 0.005  # share of the budget after which the plan is looked at again
CLOSING = 4.0  # seconds for tables, curves and loading the best model, on a slow machine
# On CamVid 177 steps of 16 pairs reach 44 % mean IoU, 490 of 4 reach 56; 570 of 16 reach 62 %,
# 1200 of 8 reach 63.
FEW_STEPS = 600


def train(
    model: keras.Model,
    data,
    *,
    run_dir: str | os.PathLike,
    recipe: Recipe | None = None,
    epochs: int | None = None,
    time_budget: str | float | None = None,
    checkpoint_every: str | int = "epoch",
    callbacks=(),
    metrics=(),
    resume_from: str | os.PathLike | None = "auto",
    allow_changes=(),
    seed: int = 0,
    **changes,
) -> Run:
    """Train a model so that no work is lost; called again on the same folder it carries on.

    A run of given `epochs` that was killed and resumed, as often as you like, ends with the same
    weights and history, timings aside, as one that nobody disturbed, on the same machine, versions
    and number of threads. The checkpoint with the highest validation mean IoU is the best; without
    validation data, the last one. A finished run returns at once; more `epochs` or time carry it
    on. Ctrl-C and SIGTERM write a checkpoint and return the run as it stands.

    Args:
        model: keras.Model from `seglib.create_…_model`, or of your own: functional, pictures of 0
            to 255 in, logits of the same size out; `Run.model` is then a model of its layers that
            knows the classes, which the given one does not in a file. The weights become the best.
        data: PreparedDataset of the model's input size; of another size where `augment` cuts
            windows of the model's. Validation pairs are then resized, as `predict` does, or seen
            in blended tiles after `Augmentation(native=True)`.
        run_dir: path of the run's folder, created if missing.
        recipe: Recipe, whose `train` part is used; None for `seglib.recipes.DEFAULTS`.
        epochs: int, passes over the training pairs, all calls together. The last batch of an
            epoch is filled up with pairs of the same epoch. Without `epochs` and `time_budget`,
            the recipe's are used; 10 epochs if it has neither.
        time_budget: seconds, or str such as "11h30m", for this call and all earlier ones of the
            run, validation and checkpoints included. The run measures its speed, plans the steps
            that fit, and lays the learning rate over them. With `epochs`, whichever ends first.
        checkpoint_every: "epoch", or an int of steps, or a duration such as "5m", at which
            checkpoints are written in addition to those at the end of each epoch.
        callbacks: keras callbacks. They get the events of training, epochs, validation and
            batches with the logs, and the run's own count of epochs. An epoch in a checkpoint
            is not told again after a kill. One that sets `model.stop_training` ends this call
            with a checkpoint; the next call carries on. What a callback remembers or changes by
            itself is not restored: runs that depend on it are not resumed exactly.
        metrics: keras metrics on labels and logits of the last head. The history keeps their mean
            over an epoch's batches, and `val_…` of the validation data.
        resume_from: folder of an earlier run, or one that holds it, which a new run carries on.
            "auto": the folders attached on Kaggle are searched for a run of the same settings.
        allow_changes: name or names of settings that may differ from those that the run began
            with, such as `("learning_rate",)`.
        seed: int, of the order of pairs, augmentation and dropout.
        changes: options that replace the recipe's:

            - batch_size: int, pairs a step; or two, such as (16, 4): the first, halved until
              `time_budget` allows 600 steps, or to the second. It is chosen once, in the first
              steps of a run; under JAX, which would compile them anew, it is the first.
            - optimizer: "muon", "adamw", "adam" or a keras optimizer, which has its own learning
              rate or schedule, weight decay, averages, accumulation and encoder rate.
            - learning_rate: float, at its highest.
            - schedule: "trapezoid", "cosine" or "constant", see
              `seglib.learning.learning_rate_at`.
            - weight_decay: share of the learning rate by which kernels shrink in each step.
            - encoder_rate: in [0, 1], share of the learning rate that the encoder gets.
            - gradient_accumulation: int, batches whose gradients make one update.
            - loss: name or object of a keras loss, or function of (labels, logits), in place of
              cross-entropy + Dice.
            - class_weights: `(num_classes,)` numbers for its cross-entropy, such as of
              `seglib.class_weights`.
            - task_weights: of a model with several `heads`, how much each counts, such as
              `{"boundary": 0.5}`; None to learn them.
            - sampling: `(len(data.train),)` numbers by which pairs are drawn, with replacement,
              such as of `seglib.image_weights`; None: each pair once an epoch.
            - augment: bool or Augmentation. True mirrors and changes brightness and contrast. Or
              a function of (image, labels, seed) that returns image and labels, in which all that
              is random follows from the seed; a run that is resumed is given it again.
            - ema: bool or momentum in (0, 1) of an exponential moving average of the weights,
              which is then validated, kept as best and returned. True is 0.98.
            - precision: "auto", or the name of a Keras dtype policy such as "float32".
            - validate_every: int, epochs from one validation to the next; the first and the last
              epoch are validated too.
            - patience: int or None, epochs without a better mean IoU after which to stop.
            - init_from: path of another run or model of the same form, whose weights a new run
              starts from; heads of other classes are left as they are.

    Returns:
        Run.

    Raises:
        TypeError: the model is no keras.Model, or the data are not prepared.
        ValueError: the settings do not fit the data, or those that the run began with.
        BlockingIOError: another process trains this run.
        FloatingPointError: the loss is not finite. The last good checkpoint is kept.
        MemoryError: a step does not fit into the memory of the device.
        OSError: `run_dir` cannot be written, or is full. The last good checkpoint is kept.
    """
    clock = Clock()
    check_names(changes)
    recipe = recipe or Recipe()
    options = {**DEFAULTS, **recipe.train, **changes}
    if epochs is None and time_budget is None:
        epochs, time_budget = recipe.epochs, recipe.time_budget
        epochs = 10 if epochs is time_budget is None else epochs
    budget = None if time_budget is None else system.parse_duration(time_budget)
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"expected seed to be a whole number ≥ 0, received {seed!r}")
    intervals = _check_options(options, epochs, checkpoint_every)
    augmentation = choose_augmentation(options["augment"])
    model, size = _check_data(model, data, augmentation, seed)
    native = (size, data.image_size) if getattr(augmentation, "native", False) else None
    models.set_model_classes(
        model, data.classes, fit=data.resize, native=native, pixels=data.pixels
    )
    learning.weigh_tasks(model, options["task_weights"])
    loss = create_loss(
        options["loss"],
        ignore_label=data.classes.ignore_label,
        class_weights=options["class_weights"],
        num_classes=data.classes.num_classes,
        soft=getattr(data.train, "is_soft", False) or getattr(augmentation, "mixup", 0) > 0,
    )
    optimizer, options = learning.take_optimizer(options, changes)
    kept = {name: value for name, value in options.items() if name not in FREE}
    kept |= {"augment": augmentation or False, "seed": seed}
    settings = describe_settings(model, data, **kept)
    allowed = (allow_changes,) if isinstance(allow_changes, str) else tuple(allow_changes)
    run_dir = system.make_folder(run_dir, "the run")
    with open_run(run_dir) as folder, system.note_interrupts() as request:
        state, clock.earlier = take_up(folder, settings, resume_from=resume_from, allowed=allowed)
        least, most = int(np.min(options["batch_size"])), int(np.max(options["batch_size"]))
        is_chosen = least <= state.batch_size <= most
        size = state.batch_size if is_chosen else most
        drawn = {"augment": augmentation, "sampling": options["sampling"]}
        batches = Batches(data.train, size, seed, **drawn)
        is_open = budget is not None and least < most and not is_chosen
        state.use_batch_size(0 if is_open else size, batches.steps_per_epoch)
        plan = Plan(clock, batches.steps_per_epoch, epochs, budget, options)
        if state.validated and plan.ended_by(state):
            return _finish(model, run_dir, state, plan.ended_by(state))
        fault = state.history and runs.find_fault(run_dir / "best.keras")
        if fault:
            system.warn(f"{fault}: the next validated weights become the best")
            state.best_score = -1.0
        if options["init_from"] is not None and not state.step:
            _start_from(model, options["init_from"])
        # TensorFlow frees one network's functions in 0.3 s, but those of four at once in 18.
        gc.collect()
        try:
            learner = Learner(model, optimizer, loss, options, data.classes, metrics, seed)
            if state.step:
                learner.restore(state.arrays)
            state.arrays, state.settings = None, settings
            about = {"precision": learner.precision, **learning.describe_versions()}
            folder.begin_session(state, clock, **about)
            split = data.val if native else learning.resize_split(data.val, model.input_shape[1:3])
            told = Callbacks(callbacks, model)
            loop = Loop(learner, batches, split, state, plan, options, folder, told, request)
            ended_by = loop.run(*intervals)
        finally:
            gc.unfreeze()  # see `Loop.note`
            models.set_precision(model, "float32")
        return _finish(model, run_dir, state, ended_by)


@dataclasses.dataclass
class Loop:
    """Steps, validation and checkpoints of a run, one after the other.

    `split` are the validation pairs at the model's size; of the options `batch_size`, `schedule`
    and `learning_rate` are used. Instead of a Learner, anything with its methods will do.
    """

    learner: Learner
    batches: Batches
    split: PreparedSplit
    state: RunState
    plan: "Plan"
    options: dict
    folder: RunFolder
    callbacks: Callbacks
    request: system.StopRequest

    def run(self, save_steps=np.inf, save_seconds=np.inf):
        """Train from where the run stands to its end, or until it is stopped; return by what.

        A checkpoint is due within an epoch after so many steps, or so many seconds.
        """
        self.save_steps, self.save_seconds = save_steps, save_seconds
        self.saved = self.state.step, self.plan.clock.elapsed
        self.epoch_start = self.plan.clock.elapsed - self.state.epoch_seconds
        self.ahead = {}  # (step, batch size) -> the batch that the thread reads
        most = predicting.count_together(self.split.images.shape[1:3])
        self.validation_batch = min(most, self.batches.batch_size, len(self.split) or 1)
        self.tell("running")
        advice = "the newest checkpoint is whole: make room and call train again, it carries on"
        progress = {"total": self.plan.steps, "initial": self.state.step, "unit": "step"}
        try:
            with (
                system.explain_full_disk(self.folder.path, advice),
                # More threads gain nothing: a pair's many short calls hold Python's lock.
                concurrent.futures.ThreadPoolExecutor(1) as self.thread,
                system.show_progress(delay=0, **progress) as self.bar,
            ):
                self.callbacks.tell("on_train_begin")
                ended_by = self.follow_plan()
                self.callbacks.tell("on_train_end")
        except BaseException as error:
            try:
                self.tell(f"failed: {str(error) or type(error).__name__}")
            except OSError:  # such as of a full disk, which is told already
                self.folder.note_failure()
            raise
        self.tell("finished" if ended_by in ENDS else f"stopped by {ended_by}")
        return ended_by

    def follow_plan(self):
        """Batch, step, note; validate where it is due, save where it is due; return the end."""
        state, plan, begun = self.state, self.plan, None
        while True:
            ended_by = plan.ended_by(state)
            stopped_by = self.request.name or self.callbacks.stopped_by
            at_epoch_end = state.step > 0 and state.step % self.batches.steps_per_epoch == 0
            if stopped_by:
                if self.saved[0] != state.step:
                    self.save()
                return stopped_by
            if (at_epoch_end and not state.recorded) or (ended_by and not state.validated):
                self.end_epoch()
            elif ended_by:
                return ended_by
            else:
                epoch, batch = divmod(state.step, self.batches.steps_per_epoch)
                if epoch != begun:
                    self.callbacks.tell("on_epoch_begin", epoch)
                    begun = epoch
                self.callbacks.tell("on_train_batch_begin", batch)
                start = plan.clock.elapsed
                logs = self.learner.step(*self.read(state.step), rate=self.choose_rate())
                self.note(logs, plan.clock.elapsed - start)
                self.callbacks.tell("on_train_batch_end", batch, logs)
                if self.save_is_due():
                    self.save()

    def read(self, step):
        """Return the batch of a step, and begin to read the one after it in the thread."""
        size = self.batches.batch_size
        # In the thread alone: a user's function may keep a state that two calls would mix up.
        batch = self.ahead.get((step, size)) or self.thread.submit(self.batches.__getitem__, step)
        self.ahead = {(step + 1, size): self.thread.submit(self.batches.__getitem__, step + 1)}
        return batch.result()

    def choose_rate(self):
        """Return the learning rate of the next step; None where the optimizer has a schedule."""
        state = self.state
        state.planned_steps = self.plan.expect_steps(state)
        if self.options["schedule"] is None:
            return None
        # Counted in updates: after a change of batch size, `step` counts smaller steps.
        steps = state.updates + max(0, state.planned_steps - state.step)
        share = learning_rate_at(state.updates, steps, self.options["schedule"])
        return float(np.float32(self.options["learning_rate"]) * np.float32(share))

    def note(self, logs, seconds):
        """Count a step, refuse a loss that is no number, and look at the plan again."""
        state, plan = self.state, self.plan
        state.step += 1
        state.updates += 1
        epoch, batch = divmod(state.step - 1, self.batches.steps_per_epoch)
        if not np.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"the loss is {logs['loss']} in epoch {epoch + 1}, batch {batch + 1} of "
                f"{self.batches.steps_per_epoch}: lower learning_rate, or check images and class "
                f"weights; the last good checkpoint is {self.folder.newest or 'not there yet'}"
            )
        for name, value in {**logs, "steps": 1}.items():
            state.sums[name] = state.sums.get(name, 0) + value
        plan.note(seconds)
        self.folder.note(plan.clock.elapsed)
        scores = [row["mean_iou"] for row in state.history if not np.isnan(row["mean_iou"])]
        shown = {"epoch": epoch + 1, "loss": logs["loss"], "mean_iou": ["–", *scores][-1]}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()
        if not plan.needs_revision():
            return
        if plan.break_seconds is None and len(self.split):
            plan.break_seconds = self._rehearse_validation()
        if plan.revised is None:
            # TensorFlow now and then takes 20 to 45 s to free a function that is not needed any
            # more. A frozen one is left to the end, where no step has to be given up for it.
            gc.freeze()
        plan.revise(state.step)
        self.bar.total = plan.steps
        is_open = not state.batch_size and not plan.ended_by(state)
        if is_open and len(plan.durations) >= STEADY:
            self.choose_batch_size()

    def choose_batch_size(self):
        """Where few steps fit into the time, go on in smaller batches."""
        state, plan = self.state, self.plan
        most = size = min(self.batches.batch_size, len(self.batches.split))
        if keras.backend.backend() != "jax":  # which compiles each size anew, for minutes
            size = plan.choose_batch_size(most, int(np.min(self.options["batch_size"])))
        if size == most:
            state.batch_size = self.batches.batch_size
            return
        print(
            f"{plan.steps} steps of {most} pairs fit into the time: with so few, "
            f"steps are of {size} from here on"
        )
        self.batches.batch_size = size  # what is being read now is not asked for any more
        state.use_batch_size(size, self.batches.steps_per_epoch)
        plan.use_steps_per_epoch(self.batches.steps_per_epoch)
        self.saved = state.step, self.saved[1]
        self.bar.reset(total=plan.steps)
        self.bar.n = self.bar.initial = state.step

    def end_epoch(self):
        """Validate, add a row to the history, keep the best weights, and write a checkpoint."""
        state, plan, start = self.state, self.plan, self.plan.clock.elapsed
        epoch = -(-state.step // self.batches.steps_per_epoch)
        is_over = plan.ended_by(state) is not None
        if is_over:
            plan.end(state)
        is_due = is_over or epoch % plan.validate_every == 0 or not (state.history and self.split)
        scores = dict.fromkeys(("val_loss", "pixel_accuracy", "mean_iou"), float("nan"))
        if is_due:
            self.learner.update_kept()
        if is_due and len(self.split):
            self.callbacks.tell("on_test_begin")
            scores = self.learner.validate(self.split, self.validation_batch, self.request)
            if scores is None:  # Ctrl-C: the next call validates
                self.save()
                return
            self.callbacks.tell("on_test_end", scores)
        self._record(epoch, scores)
        if is_due:
            state.validated_step, score = state.step, scores["mean_iou"]
            if np.isnan(score) or score > state.best_score:
                state.best_score = max(state.best_score, score)  # NaN leaves it
                self.learner.save(self.folder.path / "best.keras")
        logs = {name: value for name, value in state.history[-1].items() if name != "epoch"}
        self.callbacks.tell("on_epoch_end", epoch - 1, logs)
        self.save()
        if is_due:
            plan.break_seconds = plan.clock.elapsed - start

    def save(self):
        """Write a checkpoint of this very step, and the tables."""
        state, clock = self.state, self.plan.clock
        state.elapsed, state.epoch_seconds = clock.elapsed, clock.elapsed - self.epoch_start
        state.planned_steps = self.plan.expect_steps(state)
        self.folder.save(state, self.learner.variables)
        self.saved = state.step, clock.elapsed
        self.tell("running")

    def save_is_due(self):
        """Whether a checkpoint is due within an epoch; the end of an epoch writes its own."""
        if self.state.step % self.batches.steps_per_epoch == 0 or self.plan.ended_by(self.state):
            return False
        steps, seconds = self.state.step - self.saved[0], self.plan.clock.elapsed - self.saved[1]
        return steps >= self.save_steps or seconds >= self.save_seconds

    def tell(self, status):
        """Write the tables of the run."""
        plan = {"batch_size": self.batches.batch_size, **self.plan.to_dict()}
        self.folder.tell(status, self.state, self.plan.clock, plan)

    def _record(self, epoch, scores):
        """Add a row to the history, or the scores to the one that the last step has."""
        state = self.state
        if state.recorded:
            state.history[-1] |= scores
            return
        now = self.plan.clock.elapsed
        seconds, self.epoch_start = now - self.epoch_start, now
        steps = state.sums.pop("steps")
        images = steps * min(self.batches.batch_size, len(self.batches.split))
        means = {name: total / steps for name, total in state.sums.items()}
        row = {"epoch": epoch, "step": state.step, "loss": means["loss"], **scores, **means}
        row |= {
            "learning_rate": self.learner.learning_rate(),
            "seconds": round(seconds, 3),
            "images_per_second": round(images / max(seconds, 1e-6), 2),
            "peak_memory_mb": float(np.round(learning.peak_memory() / 1e6)),
        }
        state.history, state.sums = [*state.history, row], {}

    def _rehearse_validation(self):
        """Seconds that a validation takes, from one batch of it; compiling does not count."""
        images, clock = self.split.images[: self.validation_batch], self.plan.clock
        for _ in range(2):
            start = clock.elapsed
            self.learner.predict_batch(images, self.validation_batch)
        return (clock.elapsed - start) * len(self.split) / self.validation_batch


class Clock:
    """Seconds since `train` was first called on a run, earlier sessions included."""

    def __init__(self):
        self.start, self.earlier = time.monotonic(), 0.0

    @property
    def elapsed(self):
        """float, the seconds of all sessions."""
        return self.earlier + time.monotonic() - self.start


class Plan:
    """How many steps a run has: so many epochs, or what a time budget allows, if that is less.

    The speed is measured all the time, and the plan follows it, so that a run ends in time on a
    machine that others use as well. `budget` is in seconds; it and `epochs` may be None.
    """

    def __init__(self, clock, steps_per_epoch, epochs, budget, options):
        self.clock, self.steps_per_epoch, self.budget = clock, steps_per_epoch, budget
        self.validate_every, self.patience = options["validate_every"], options["patience"]
        self.limit = int(epochs) * steps_per_epoch if epochs else None
        self.steps = self.limit  # None until the speed is known
        self.durations = collections.deque(maxlen=RECENT)
        self.is_compiling = True  # the next step compiles, and is not typical
        self.break_seconds = None  # of validation and checkpoint, at the end of an epoch
        self.revised = None  # seconds on the clock; None until the speed is known

    @property
    def step_seconds(self):
        """float, the mean duration of recent steps that did not compile; 0 if unknown."""
        longest = max(COMPILING[0] * np.median(self.durations or [0]), COMPILING[1])
        usual = [seconds for seconds in self.durations if seconds <= longest]
        return sum(usual) / max(1, len(usual))

    def ended_by(self, state):
        """Return why no step is left: "plan" (epochs or time), "patience", or None."""
        if self.patience is not None and _epochs_since_best(state.history) >= self.patience:
            return "patience"
        if self.steps is not None and state.step >= self.steps:
            return "plan"
        if self.budget is None or state.step == 0:
            return None
        is_spent = state.spent >= self.budget or self.seconds_left() <= self.step_seconds
        return "plan" if is_spent else None

    def end(self, state):
        """Let the run end at this step, even if validation leaves time for another."""
        self.steps = state.step
        state.spent = 0.0 if state.step == self.limit else self.budget or 0.0

    def expect_steps(self, state):
        """Return how many steps the whole run will have, as far as one can tell."""
        if self.budget is not None and self.revised is None and state.planned_steps > state.step:
            return state.planned_steps  # as an earlier session had planned
        return self.steps or 10 * self.steps_per_epoch

    def note(self, seconds):
        """Note how long a step took."""
        if not self.is_compiling:
            self.durations.append(seconds)
        self.is_compiling = False

    def needs_revision(self):
        """Whether it is time to look at the plan again."""
        if self.budget is None or not self.durations:
            return False
        return self.revised is None or self.clock.elapsed - self.revised > REVISE * self.budget

    def revise(self, step):
        """Fit the steps that are left into the time that is left."""
        self.revised = self.clock.elapsed
        done, seconds = step % self.steps_per_epoch, self.step_seconds
        breaks = (self.break_seconds or 0.0) / self.validate_every
        span = done * seconds + max(0.0, self.seconds_left())  # from the start of this epoch
        epochs, rest = divmod(span, self.steps_per_epoch * seconds + breaks)
        last = min(self.steps_per_epoch, int(rest / seconds))
        steps = step - done + int(epochs) * self.steps_per_epoch + last
        self.steps = min(steps, self.limit or steps)

    def use_steps_per_epoch(self, steps):
        """Plan as many epochs in batches of another size, until their speed is known."""
        self.limit = self.limit and self.limit // self.steps_per_epoch * steps
        self.steps = self.steps * steps // self.steps_per_epoch
        self.steps_per_epoch, self.is_compiling = steps, True
        self.durations.clear()

    def choose_batch_size(self, most, least):
        """Return the pairs a step: halved until enough steps fit into the time, or to `least`."""
        if self.steps == self.limit:  # it is not the time that ends the run
            return most
        size, steps = most, self.steps * self.step_seconds / np.median(self.durations)
        while size > least and steps < FEW_STEPS:
            size, steps = max(least, size // 2), 2 * steps
        return size

    def seconds_left(self):
        """Seconds for steps and the breaks between epochs, the last break taken off."""
        return self.budget - self.clock.elapsed - CLOSING - (self.break_seconds or 0.0)

    def to_dict(self):
        """Return the plan for `run.json`."""
        return {
            "steps": self.steps,
            "epochs": self.steps and round(self.steps / self.steps_per_epoch, 3),
            "steps_per_epoch": self.steps_per_epoch,
            "time_budget_seconds": self.budget,
            "seconds_per_step": round(self.step_seconds, 4) or None,
            "seconds_between_epochs": self.break_seconds and round(self.break_seconds, 3),
        }


def _epochs_since_best(history):
    scores = [row["mean_iou"] for row in history]
    if not scores or np.isnan(scores[-1]):  # judged only where there was a validation
        return 0
    return len(scores) - 1 - int(np.nanargmax(scores))


def _check_options(options, epochs, checkpoint_every):
    """Refuse what no run can have; return the steps and the seconds between checkpoints."""
    by_steps = isinstance(checkpoint_every, int | np.integer)
    counts = {"epochs": epochs, "checkpoint_every": checkpoint_every if by_steps else None}
    for name, values in {**counts, **{name: options[name] for name in COUNTS}}.items():
        for value in np.ravel(values).tolist():
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"expected {name} to be a whole number ≥ 1, received {value!r}")
    for name, highest in HIGHEST.items():
        value = options[name]
        if not isinstance(value, int | float | np.number) or not 0 <= value <= highest:
            raise ValueError(f"expected {name} within [0, {highest}], received {value!r}")
    learning_rate_at(0, 1, options["schedule"])  # refuses what it does not know
    if by_steps or checkpoint_every == "epoch":
        return counts["checkpoint_every"] or np.inf, np.inf
    return np.inf, system.parse_duration(checkpoint_every)


def _check_data(model, data, augmentation, seed):
    """Refuse data that cannot be learned from; return the model and the size that it gets."""
    models.check_model(model)
    if not hasattr(data, "image_size"):
        raise TypeError(
            f"expected prepared data, received a {type(data).__name__}: "
            "dataset.prepare(image_size=…) gives them"
        )
    names = [data.classes.names[i] for i in data.classes.scored_ids]
    if len(names) < 2:
        raise ValueError(
            f"expected at least two classes to tell apart, received {names} beside the ignored "
            "one: give open_dataset a class table (classes=…) with 0 in the column `ignore`"
        )
    for name in ("train", "val") if len(data.val) else ("train",):
        labels = getattr(data, name).labels
        if not any((labels[i] != data.classes.ignore_label).any() for i in range(len(labels))):
            raise ValueError(f"nothing to learn from: all pixels of {name} are ignored, if any")
    count = data.classes.num_classes
    for name in ("focus_weights", "paste_weights"):
        weights = getattr(augmentation, name, None)
        if weights is not None and len(weights) != count:
            raise ValueError(f"expected {count} {name}, a class each, received {len(weights)}")
    mixing = [getattr(augmentation, name, 0) for name in ("mixup", "cutmix", "paste", "focus")]
    if any(mixing) and getattr(data.train, "is_soft", False):
        raise ValueError(
            "the training pairs are blended already: use an Augmentation with mixup=0, cutmix=0, "
            "paste=0 and focus=0"
        )
    images, _ = Batches(data.train, 1, seed, augment=augmentation)[0]
    gets, takes = images.shape[1:], model.inputs[0].shape[1:]
    if [mine or its for mine, its in zip(takes, gets, strict=False)] != list(gets):
        raise ValueError(
            f"the model takes images of {takes} (height, width, channels) but gets {gets} of data "
            f"prepared as {data.image_size}: create it with input_shape={gets}, or use "
            f"dataset.prepare(image_size={takes[:2]}), or augment=Augmentation(size={takes[:2]}) "
            "to cut windows out of larger pictures"
        )
    given, stored = gets[:2], data.image_size
    model = learning.adopt_model(model, given, count)
    is_stretched = given[0] / given[1] != stored[0] / stored[1]
    if data.resize == "letterbox" and is_stretched and not getattr(augmentation, "native", False):
        raise ValueError(
            f"letterboxed pictures of {stored} would be stretched to {given}: prepare them in a "
            "size of the same shape as the model's"
        )
    return model, given


def _start_from(model, init_from):
    skipped = models.copy_weights(runs.load_model(init_from), model)
    skipped = [name for name in skipped if not name.endswith("_classes")]
    if skipped:
        raise ValueError(
            f"{init_from} is a model of another form, {len(skipped)} layers such as {skipped[0]} "
            "do not fit: create the model with that one's filters"
        )


def _finish(model, run_dir, state, ended_by):
    fault = state.history and runs.find_fault(run_dir / "best.keras")
    if fault:
        for variable, value in zip(model.weights, state.arrays or (), strict=False):
            variable.assign(value)  # else it has them already
        system.warn(f"{fault}: the weights are the newest checkpoint's")
    elif state.history:  # the file has no optimizer
        keras.Model(model.inputs, model.outputs).load_weights(run_dir / "best.keras")
    return Run(run_dir, model, pd.DataFrame(state.history), ended_by)


def rehearse_kill(data, *, seed: int = 0) -> tuple[Run, Run]:
    """Train a miniature twice, once undisturbed, once killed in a process of its own and resumed.

    Args:
        data: PreparedDataset, of which a few pairs are taken.
        seed: int.

    Returns:
        `(undisturbed, resumed)`, two Runs whose folders are gone. Their histories, timings
        aside, and their weights are equal where training computes the same twice.

    Raises:
        RuntimeError: the process ended before it could be killed.
    """
    pairs = [data.train[i % len(data.train)] for i in range(12)]
    train_split = PreparedSplit(*map(np.stack, zip(*pairs, strict=True)), [], data.classes)
    few = dataclasses.replace(data, train=train_split, val=data.val[:4], test=data.test[:0])
    code = f"import pickle, sys; sys.path[:] = {sys.path}; pickle.load(sys.stdin.buffer)()"
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = _train_few(few, f"{folder}/undisturbed", seed)
        task = functools.partial(_train_few, few, f"{folder}/killed", seed, [_Die()])
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(task), **output)
        if process.returncode != -KILL:
            said = process.stdout.decode(errors="replace")[-2000:]
            raise RuntimeError(f"the run to be killed has ended by itself:\n{said}")
        return undisturbed, _train_few(few, f"{folder}/killed", seed)


def _train_few(few, run_dir, seed, callbacks=()):
    shape, count = few.train.images.shape[1:], few.classes.num_classes
    model = models.create_unetpp_model(shape, num_classes=count, filters=(4, 8), seed=seed)
    options = {"epochs": 4, "batch_size": 2, "checkpoint_every": 1, "resume_from": None}
    return train(model, few, run_dir=run_dir, seed=seed, callbacks=callbacks, **options)


class _Die(keras.callbacks.Callback):
    """Kills its own process in the middle of the second epoch, which has steps 7 to 12."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations.numpy() == 9:
            os.kill(os.getpid(), KILL)
