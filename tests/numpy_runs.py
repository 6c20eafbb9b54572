"""The loop of `seglib.training` with a few NumPy numbers in place of a network."""

import json

import numpy as np
from small_runs import make_split

from seglib.learning import Batches, Callbacks
from seglib.recipes import DEFAULTS
from seglib.runs import open_run, take_up
from seglib.system import note_interrupts
from seglib.training import Clock, Loop, Plan

SCORES = (0.2, 0.5, 0.3, 0.4, 0.45, 0.6, 0.1, 0.2)  # of epochs of five steps


class Numbers(Batches):
    """Ten pairs, read in batches that are a function of the step."""

    def __init__(self, batch_size=2, pairs=10):
        super().__init__(range(pairs), batch_size, seed=0)

    def __getitem__(self, step):
        random = np.random.default_rng(step)
        return random.normal(size=self.batch_size), np.full(self.batch_size, step)


class Stepper:
    """Remembers all it has learned from, in an order that matters."""

    def __init__(self):
        self.weights, self.rate, self.steps, self.kept = np.zeros(2), 0.0, 0, None

    @property
    def variables(self):
        return [self.weights, np.array(self.rate), np.array(self.steps)]

    def restore(self, arrays):
        self.weights, self.rate, self.steps = arrays[0], float(arrays[1]), int(arrays[2])

    def step(self, images, labels, *, rate=None):
        self.rate = rate
        self.steps += 1
        self.weights = 0.9 * self.weights + rate * np.array([images.sum(), labels.sum()])
        return {"loss": float(np.exp(-np.abs(self.weights).sum()))}

    def learning_rate(self):
        return self.rate

    def update_kept(self):
        self.kept = self.weights.copy()

    def validate(self, split, batch_size, request):
        if request.name:
            return None
        score = SCORES[(self.steps // 5 - 1) % len(SCORES)]
        return {"val_loss": 1.0, "pixel_accuracy": 0.5, "mean_iou": score}

    def predict_batch(self, images, batch_size):
        return images

    def save(self, file):
        file.write_text(json.dumps(self.kept.tolist()))


def run(
    folder,
    *,
    epochs=3,
    budget=None,
    clock=None,
    stepper=None,
    batches=None,
    validation=4,
    callbacks=(),
    batch_size=2,
    save_steps=2,
    save_seconds=np.inf,
    change=lambda loop: None,
    settings=None,
    **options,
):
    """Train to the end, or from where the folder stands; return what ended it, state and stepper.

    `change` is called with the loop before it runs.
    """
    folder.mkdir(exist_ok=True, parents=True)
    options = {**DEFAULTS, "batch_size": batch_size, **options}
    batches = batches or Numbers(int(np.max(batch_size)))
    clock, stepper, settings = clock or Clock(), stepper or Stepper(), settings or {}
    with open_run(folder) as files, note_interrupts() as request:
        state, clock.earlier = take_up(files, settings, resume_from=None)
        batches.batch_size = state.batch_size or batches.batch_size
        is_open = budget is not None and np.ndim(batch_size) and not state.batch_size
        state.use_batch_size(0 if is_open else batches.batch_size, batches.steps_per_epoch)
        plan = Plan(clock, batches.steps_per_epoch, epochs, budget, options)
        if state.step:
            stepper.restore(state.arrays)
        state.settings, state.arrays = settings, None
        files.begin_session(state, clock)
        files.draw_curves = lambda history: None  # takes longer than all the rest
        split, told = make_split(validation, 0), Callbacks(callbacks, stepper)
        loop = Loop(stepper, batches, split, state, plan, options, files, told, request)
        change(loop)
        return loop.run(save_steps, save_seconds), state, stepper
