"""What happens between the steps: progress, validation, checkpoints, the plan, the end."""

import gc
import time

import keras
import numpy as np

from seglib.system import show_progress
from seglib.training.batches import ENDLESS
from seglib.training.devices import explain_full_memory, peak_memory
from seglib.training.planning import SMALL_BATCH, STEADY, choose_batch_size
from seglib.training.validation import LARGEST_BATCH, predict_batch
from seglib.training.variables import (
    bring_home,
    inner_optimizer,
    loss_metric,
    training_variables,
)


class Keeper(keras.callbacks.Callback):
    """Watches Keras' fit over all steps of a run, and keeps what comes out of it.

    Where smaller batches are chosen, a second fit goes on with them.

    Args:
        snapshot: Snapshot, which is validated and kept.
        split: PreparedSplit of validation pairs; may be empty.
        validate_every: int, epochs from one validation to the next.
        state: RunState.
        checkpoints: Checkpoints.
        plan: Plan.
        planned_steps: keras.Variable that the learning rate follows.
        batches: Batches.
        batch_sizes: two ints, the most and the fewest pairs a step.
        checkpoint_every: ("steps", int), ("seconds", float) or None for epochs alone.
        request: StopRequest.
        lock: RunLock.
        on_kept: function without arguments, called after each checkpoint.
    """

    def __init__(self, *, snapshot, split, validate_every, state, checkpoints, plan,
                 planned_steps, batches, batch_sizes, checkpoint_every, request, lock,
                 on_kept):  # fmt: skip
        super().__init__()
        self.snapshot, self.split, self.state = snapshot, split, state
        self.validate_every = validate_every
        # What fits into memory in training does so here.
        self.validation_batch = min(LARGEST_BATCH, batch_sizes[0], len(split) or 1)
        self.checkpoints, self.plan, self.planned_steps = checkpoints, plan, planned_steps
        self.batches, self.checkpoint_every = batches, checkpoint_every
        self.smallest_batch, self.smaller = batch_sizes[1], None
        self.request, self.lock, self.on_kept = request, lock, on_kept
        self.kept_at = (state.step, plan.clock.elapsed)
        self.epoch_start = plan.clock.elapsed - state.epoch_seconds
        self.first_step = state.step

    def train(self):
        """Train from where the run stands to its end, or until somebody asks to stop."""
        state = self.state
        at_epoch_end = state.step % self.batches.steps_per_epoch == 0
        ended = self.plan.ended_by(state)
        if ended == "plan":
            self.plan.steps = state.step  # as an earlier session had planned
        is_due = ended and not state.validated
        if not ended:
            self._plan_learning_rate()
        if state.step and (is_due or (at_epoch_end and not state.recorded)):
            self._end_epoch()  # what an earlier session was stopped before
        if self.plan.ended_by(state) or self.request:
            return
        self.checkpoints.check_room(training_variables(self.model))
        self.bar = show_progress(total=self.plan.steps, initial=state.step, unit="step", delay=0)
        try:
            self._fit()
            is_stopped = self.request and self.kept_at[0] == state.step
            if self.smaller and not is_stopped and not self._is_at_end():
                self._take_smaller_batches()
                self._fit()
        finally:
            self.bar.close()
        if self.plan.ended_by(state) == "plan" and state.planned_steps != state.step:
            self.plan.steps = state.step  # time was up earlier than planned
            self.keep()

    def _fit(self):
        self.loss_so_far = [np.array(variable) for variable in loss_metric(self.model).variables]
        accumulated = inner_optimizer(self.model).gradient_accumulation_steps or 1
        with explain_full_memory(self.batches.batch_size, accumulated, self.state.step):
            self.model.fit(self.batches, shuffle=False, verbose=0, callbacks=[self])

    def _take_smaller_batches(self):
        """Go on in about the same place of the data, in batches of the size that was chosen."""
        state, plan = self.state, self.plan
        for variable, value in zip(self.model.trainable_variables, self.weights, strict=True):
            variable.assign(value)  # Keras' fit may have put their average in their place
        self.weights, state.batch_size = None, self.smaller
        self.batches = self.batches.resize(self.smaller)
        state.use_steps_per_epoch(self.batches.steps_per_epoch)
        plan.use_steps_per_epoch(self.batches.steps_per_epoch)
        self.batches.start, self.batches.steps = state.step, plan.limit or ENDLESS
        self.first_step, self.kept_at = state.step, (state.step, self.kept_at[1])
        self._plan_learning_rate()
        self.bar.reset(total=plan.steps)
        self.bar.n = self.bar.initial = state.step

    def on_epoch_begin(self, epoch, logs=None):
        # Keras has just set its metrics to zero, but the run's epoch may be half over.
        for variable, value in zip(
            loss_metric(self.model).variables, self.loss_so_far, strict=True
        ):
            variable.assign(value)
        self._show()

    def on_train_batch_begin(self, batch, logs=None):
        self.step_start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        state, plan = self.state, self.plan
        state.step += 1
        self._check_loss(logs["loss"])
        if state.step > self.first_step + 1:  # the session's first step compiles
            plan.durations.append(time.perf_counter() - self.step_start)
        self.lock.note(plan.clock.elapsed)
        self.bar.update()
        if not self.bar.disable:
            self._show(loss=logs["loss"])
        if plan.needs_revision():
            self._revise_plan()
        ended = plan.is_over(state.step)
        if ended or state.step % self.batches.steps_per_epoch == 0:
            self._end_epoch()
            ended = self._is_at_end()
        elif self.request or self._is_checkpoint_due():
            self.keep()
        if self.request or ended:
            self.model.stop_training = True

    def _is_at_end(self):
        # What was not validated is not the end, even if time ran out over its checkpoint.
        return self.state.validated and self.plan.ended_by(self.state) is not None

    def keep(self):
        """Write a checkpoint of this very step."""
        bring_home(self.model)
        state, clock = self.state, self.plan.clock
        state.elapsed, state.epoch_seconds = clock.elapsed, clock.elapsed - self.epoch_start
        if self.plan.is_known or self.plan.steps == state.step:
            state.planned_steps, state.budget = self.plan.steps, self.plan.binding_budget
        self.checkpoints.write(state, training_variables(self.model))
        self.kept_at = (state.step, clock.elapsed)
        self.on_kept()

    def _end_epoch(self):
        """Validate, keep the best weights, and write a checkpoint."""
        start, plan = time.perf_counter(), self.plan
        bring_home(self.model)
        is_due = self._is_validation_due()
        scores = self._validate() if is_due else {}
        if scores is not None:
            self._record(scores)
            if is_due:
                self.state.validated_step = self.state.step
                self._keep_if_best(self.state.history[-1]["mean_iou"])
            self.model.reset_metrics()
            self.epoch_start = plan.clock.elapsed
        self.keep()
        if is_due:
            plan.break_seconds = time.perf_counter() - start

    def _is_validation_due(self):
        """Whether it is time, or the end, or nothing has been kept yet."""
        epoch = -(-self.state.step // self.batches.steps_per_epoch)
        # Asked of the state, which is resumed, not of the disk, which may be ahead of it.
        is_free = not self.state.history or not len(self.split)
        return epoch % self.validate_every == 0 or is_free or self.plan.is_over(self.state.step)

    def _validate(self):
        """Return the scores of the weights that would be kept; None if told to stop."""
        self.snapshot.update(self.model)
        if not len(self.split):
            return {}
        return self.snapshot.validate(
            self.split, batch_size=self.validation_batch, should_stop=lambda: bool(self.request)
        )

    def _record(self, scores):
        """Add a row to the history, or the scores to the one that the last step has."""
        state = self.state
        scores = {
            "val_loss": scores.get("loss", float("nan")),
            "pixel_accuracy": scores.get("pixel_accuracy", float("nan")),
            "mean_iou": scores.get("mean_iou", float("nan")),
        }
        if state.recorded:
            state.history = [*state.history[:-1], {**state.history[-1], **scores}]
        else:
            state.history = [*state.history, self._create_row(scores)]

    def _create_row(self, scores):
        state, steps = self.state, self.batches.steps_per_epoch
        seconds = self.plan.clock.elapsed - self.epoch_start
        trained = state.step - (state.history[-1]["step"] if state.history else 0)
        images = trained * min(self.batches.batch_size, len(self.batches.split))
        return {
            "epoch": -(-state.step // steps),
            "step": state.step,
            "loss": float(loss_metric(self.model).result()),
            **scores,
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": round(seconds, 3),
            "images_per_second": round(images / max(seconds, 1e-6), 2),
            "peak_memory_mb": np.round(peak_memory() / 1e6),
        }

    def _keep_if_best(self, score):
        state = self.state
        if np.isnan(score) or score > state.best_score:
            state.best_score = -1.0 if np.isnan(score) else score
            self.snapshot.save(self.checkpoints.run_dir / "best.keras")

    def _check_loss(self, loss):
        if np.isfinite(loss):
            return
        epoch, batch = divmod(self.state.step - 1, self.batches.steps_per_epoch)
        kept = self.checkpoints.newest
        raise FloatingPointError(
            f"the loss is {loss} in epoch {epoch + 1}, batch {batch + 1} of "
            f"{self.batches.steps_per_epoch}; "
            + (f"the last good checkpoint is {kept}" if kept else "no checkpoint yet")
            + ": lower learning_rate, or check images and class weights"
        )

    def _is_checkpoint_due(self):
        if self.checkpoint_every is None:
            return False
        unit, amount = self.checkpoint_every
        now = {"steps": self.state.step, "seconds": self.plan.clock.elapsed}[unit]
        return now - dict(zip(("steps", "seconds"), self.kept_at, strict=True))[unit] >= amount

    def _revise_plan(self):
        if self.plan.break_seconds is None and len(self.split):
            self.plan.break_seconds = self._rehearse_validation()
        is_first = self.plan.revised < 0
        if is_first:
            gc.freeze()  # all is compiled by now; see `keep_garbage`
        self.plan.revise(self.state.step)
        self._plan_learning_rate()
        self.bar.total = self.plan.steps
        is_chosen = self.state.batch_size or self.smaller
        is_ending = self.request or self.plan.is_over(self.state.step)
        if not is_chosen and not is_ending and len(self.plan.durations) >= STEADY:
            self._choose_batch_size()

    def _choose_batch_size(self):
        """Where few steps fit into the time, stop for smaller batches, or advise to take them."""
        most = min(self.batches.batch_size, len(self.batches.split))
        # JAX would compile a step of another size anew, which can take minutes.
        may_shrink = self.smallest_batch < most and keras.backend.backend() != "jax"
        size = choose_batch_size(
            self.plan, most, self.smallest_batch if may_shrink else SMALL_BATCH
        )
        few = f"{self.plan.steps} steps of {most} pairs fit into the time: with so few, "
        if size < most and may_shrink:
            print(f"{few}steps are of {size} from here on")
            self.weights = [np.array(variable) for variable in self.model.trainable_variables]
            self.smaller, self.model.stop_training = size, True
            return
        self.state.batch_size = self.batches.batch_size
        if size < most and not self.first_step:  # one that goes on would be another run
            print(f"{few}batch_size={size} makes more of them and may learn more")

    def _rehearse_validation(self):
        """Seconds that a validation takes, from one batch of it; compiling does not count."""
        images = self.split.images[: self.validation_batch]
        for _ in range(2):
            start = time.perf_counter()
            predict_batch(self.snapshot.scorer, images, self.validation_batch)
        return (time.perf_counter() - start) * len(self.split) / self.validation_batch

    def _plan_learning_rate(self):
        """Tell the learning rate how many steps there will be, where that has changed."""
        if not self.plan.is_known and self.state.planned_steps > self.state.step:
            return  # as an earlier session had planned
        steps = self.plan.steps or 10 * self.batches.steps_per_epoch
        if steps == self.state.planned_steps:
            return
        bring_home(self.model)
        optimizer = inner_optimizer(self.model)
        updates = int(keras.ops.convert_to_numpy(optimizer.iterations))
        done = updates * (optimizer.gradient_accumulation_steps or 1)  # as schedules count
        self.planned_steps.assign(done + max(0, steps - self.state.step))
        self.state.planned_steps = steps

    def _show(self, loss=None):
        epochs = (self.plan.steps or 0) / self.batches.steps_per_epoch
        step = self.state.step - (self.state.step == self.plan.steps)  # the last one is over
        epoch = step // self.batches.steps_per_epoch + 1
        self.bar.set_description(f"epoch {epoch}" + f"/{epochs:.3g}" * bool(epochs), refresh=False)
        scores = {} if loss is None else {"loss": f"{loss:.3f}"}
        known = [row["mean_iou"] for row in self.state.history if not np.isnan(row["mean_iou"])]
        if known:
            scores["mean_iou"] = f"{known[-1]:.3f}"
        self.bar.set_postfix(scores, refresh=False)
