"""Training that is kept: a run is a folder, and training it again carries on."""

import gc
import inspect
import os

import keras
import numpy as np

from seglib.augment import choose_augmentation
from seglib.folders import make_folder
from seglib.losses import choose_jit, create_loss
from seglib.models import check_model, copy_weights, set_model_classes
from seglib.optimizers import create_optimizer
from seglib.training.batches import ENDLESS, Batches
from seglib.training.chaining import copy_run, find_earlier_run
from seglib.training.checkpoints import Checkpoints
from seglib.training.interrupts import note_interrupts
from seglib.training.keeper import Keeper
from seglib.training.locking import lock_run, noted_seconds
from seglib.training.planning import Clock, Plan, keep_garbage
from seglib.training.precision import choose_precision, compute_in
from seglib.training.runs import TIMINGS, Run, list_runs, load_model
from seglib.training.schedules import Cosine, Trapezoid, plan_learning_rate
from seglib.training.settings import describe_settings, find_differences
from seglib.training.story import Story
from seglib.training.tasks import create_losses, describe_tasks
from seglib.training.validation import Snapshot, resize_split, validate
from seglib.training.variables import inner_optimizer, restore_variables, seed_dropout
from seglib.units import parse_duration, parse_size

__all__ = [
    "TIMINGS",
    "Batches",
    "Checkpoints",
    "Cosine",
    "Run",
    "Trapezoid",
    "choose_precision",
    "list_runs",
    "load_model",
    "resize_split",
    "train",
    "validate",
]


def train(
    model,
    dataset,
    *,
    run_dir,
    epochs=None,
    time_budget=None,
    batch_size=4,
    learning_rate=4e-3,
    schedule="trapezoid",
    weight_decay=0.0,
    encoder_rate=0.2,
    optimizer="muon",
    gradient_accumulation=1,
    loss=None,
    class_weights=None,
    task_weights=None,
    sampling=None,
    augment=True,
    ema=False,
    precision="auto",
    patience=None,
    validate_every=1,
    checkpoint_every="epoch",
    keep_checkpoints=2,
    size_limit="19GB",
    init_from=None,
    resume_from="auto",
    allow_changes=(),
    seed=0,
):
    """Train a model so that no work is lost; called again on the same folder it carries on.

    A run of given `epochs` that was killed and resumed, as often as you like, ends with the
    same weights and history, timings aside, as one that nobody disturbed, on the same machine and
    versions. The checkpoint with the highest validation mean IoU is the best; without validation
    data, the last one. A finished run returns at once; more `epochs` or time carry it on. Ctrl-C
    and SIGTERM write a checkpoint and return the run as it stands.

    Args:
        model: keras.Model from `seglib.create_…_model`. Its weights become the best ones.
        dataset: PreparedDataset of the model's input size; of another size where `augment` cuts
            windows of the model's. Validation pairs are then resized, as `predict` does.
        run_dir: str or path of the run's folder, created if missing.
        epochs: int, how often each training pair is seen, all calls together; 10 where no
            `time_budget` is given either. An epoch's last batch is filled up with some again.
        time_budget: seconds, or str such as "11h30m", for this call and all earlier ones of the
            run, validation and checkpoints included. The run measures its speed, plans the steps
            that fit, and lays the learning rate over them. With `epochs`, whichever ends first.
        batch_size: int, pairs a step; or two, such as (16, 4): the first, halved until
            `time_budget` allows 600 steps, or to the second. It is chosen once, in the first
            steps of a run; under JAX, which would compile them anew, it is the first.
        learning_rate: float, at its highest.
        schedule: "trapezoid", "cosine" or "constant": how the learning rate is laid over all
            steps; see `Trapezoid`. More epochs lay it over all of them anew.
        weight_decay: float, share of the learning rate by which kernels shrink in each step.
        encoder_rate: float in [0, 1], share of the learning rate by which an encoder's weights
            move; 1 for one that is not pretrained.
        optimizer: "muon" or "adamw", see `seglib.Muon` and `seglib.AdamW`; or a keras optimizer. If
            its learning rate is a number, `schedule` holds for it as well; a schedule of its own
            is left as it is. It has learning rate, weight decay, averages, accumulation of
            gradients and the encoder's rate itself: they are not given here as well. A copy of it
            trains, or itself if it has a schedule.
        gradient_accumulation: int, batches whose gradients make one update.
        loss: keras loss on labels and logits, applied to each head of segmentation, in place of
            cross-entropy + Dice. Keras' own, which want one-hot truth, are adapted.
        class_weights: `(num_classes,)` numbers for its cross-entropy, such as of
            `seglib.class_weights`. None for all alike: Dice hears rare classes as it is.
        task_weights: of a model with several `heads`, how much the loss of each counts, such as
            `{"boundary": 0.5}`; 1 for the others. None: learned with the model, see
            `seglib.losses.UncertainLoss`.
        sampling: `(len(dataset.train),)` numbers by which pairs are drawn, with replacement, such
            as of `seglib.image_weights`; None: each pair once an epoch.
        augment: bool or Augmentation. True mirrors and changes brightness and contrast at random,
            which are the defaults of `seglib.Augmentation`.
        ema: bool or float in (0, 1). Keeps an exponential moving average of the weights, which is
            what is validated, kept as best and returned. The float is its momentum; True is 0.98,
            an average over about 50 steps.
        precision: "auto", or the name of a Keras dtype policy such as "float32" or
            "mixed_bfloat16".
        patience: int or None, epochs without a better validation mean IoU after which to stop.
        validate_every: int, epochs from one validation to the next. The first epoch is validated,
            and the last.
        checkpoint_every: "epoch", or an int of steps, or a duration such as "5m", at which
            checkpoints are written in addition to those at the end of each epoch.
        keep_checkpoints: int, how many of the last ones are kept, beside the best model.
        size_limit: bytes, or str such as "19GB", that the run's folder may take; Kaggle keeps
            20 GB.
        init_from: str or path of another run's folder or model of the same form, whose
            weights a new run starts from; heads of other classes are left as they are.
        resume_from: where a run that is new here was begun: path of its folder, or of one that
            holds it. "auto": the folders attached on Kaggle are searched for a run of the same
            settings. None: nowhere.
        allow_changes: name or names of settings that may differ from those that the run began
            with, such as `("learning_rate",)`.
        seed: int, of the order of pairs, augmentation and dropout.

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
    augmentation = choose_augmentation(augment)
    _check_fit(model, dataset, augmentation)
    if epochs is None and time_budget is None:
        epochs = 10
    batch_sizes = _parse_batch_size(batch_size)
    _check_counts(epochs=epochs, patience=patience, validate_every=validate_every,
                  keep_checkpoints=keep_checkpoints,
                  gradient_accumulation=gradient_accumulation)  # fmt: skip
    optimizer, own = _take_optimizer(
        optimizer, learning_rate=learning_rate, weight_decay=weight_decay, ema=ema,
        encoder_rate=encoder_rate, gradient_accumulation=gradient_accumulation,
    )  # fmt: skip
    budget = None if time_budget is None else parse_duration(time_budget)
    every = _parse_interval(checkpoint_every)
    size_limit = parse_size(size_limit)
    allow_changes = (allow_changes,) if isinstance(allow_changes, str) else tuple(allow_changes)
    set_model_classes(model, dataset.classes, fit=dataset.fit)
    tasks = describe_tasks(model, task_weights)
    settings = describe_settings(
        model, dataset, batch_size=batch_size, schedule=schedule, optimizer=optimizer, loss=loss,
        class_weights=class_weights, sampling=sampling, augment=augmentation or False,
        init_from=init_from and os.fspath(init_from), validate_every=validate_every, seed=seed,
        **own, **tasks,
    )  # fmt: skip
    run_dir = make_folder(run_dir, "the run")
    with lock_run(run_dir) as lock, note_interrupts() as request, keep_garbage():
        checkpoints = Checkpoints(run_dir, keep=keep_checkpoints, size_limit=size_limit)
        state = _take_up(checkpoints, clock, settings, resume_from, allow_changes)
        most, least = batch_sizes
        if not least <= state.batch_size <= most:
            state.batch_size = 0 if budget else most
        batches = Batches(dataset.train, batch_size=state.batch_size or most, seed=seed,
                          augment=augmentation, heads=len(model.outputs),
                          sampling=sampling)  # fmt: skip
        state.use_steps_per_epoch(batches.steps_per_epoch)
        plan = Plan(clock, steps_per_epoch=batches.steps_per_epoch, epochs=epochs, budget=budget,
                    validate_every=validate_every, patience=patience)  # fmt: skip
        if state.validated and plan.ended_by(state):
            return _finish(model, run_dir, state, plan.ended_by(state))
        if init_from is not None and not state.step:
            _start_from(model, init_from)
        batches.start, batches.steps = state.step, plan.limit or ENDLESS
        policy = choose_precision() if precision == "auto" else precision
        loss = _choose_loss(loss, dataset, class_weights, augmentation)
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            optimizer = create_optimizer(
                optimizer, learning_rate, weight_decay=weight_decay, encoder_rate=encoder_rate,
                use_ema=bool(ema), ema_momentum=0.98 if ema is True else float(ema),
                gradient_accumulation_steps=(
                    gradient_accumulation if gradient_accumulation > 1 else None
                ),
            )  # fmt: skip
        # TensorFlow frees one network's functions in 0.3 s, but those of four at once in 18.
        gc.collect()
        with compute_in(model, policy):
            planned_steps = plan_learning_rate(optimizer, schedule)
            losses = create_losses(model, loss, task_weights, dataset.classes.ignore_label)
            _compile(model, optimizer, *losses, seed)
            if state.step:
                _restore(model, state.arrays)
            state.arrays, state.settings = None, settings
            story = Story(run_dir, state, plan, precision=policy, batch_size=most)
            keeper = Keeper(
                snapshot=Snapshot(model, loss, policy), state=state,
                split=resize_split(dataset.val, model.input_shape[1:3]),
                validate_every=validate_every,
                checkpoints=checkpoints, plan=plan, planned_steps=planned_steps,
                batches=batches, batch_sizes=batch_sizes, checkpoint_every=every, request=request,
                lock=lock, on_kept=story.write,
            )  # fmt: skip
            keeper.set_model(model)
            with story:
                keeper.train()
                story.ended_by = request.name or plan.ended_by(state)
        return _finish(model, run_dir, state, story.ended_by)


def _check_fit(model, dataset, augmentation):
    check_model(model)
    if not hasattr(dataset, "image_size"):
        raise TypeError(
            f"expected prepared data, received a {type(dataset).__name__}: "
            "dataset.prepare(image_size=…) gives them"
        )
    size, stored = model.input_shape[1:3], dataset.image_size
    given = (augmentation and augmentation.size) or stored
    if any(side not in (None, wanted) for side, wanted in zip(size, given, strict=True)):
        cut = f" and cut to {given}" if given != stored else ""
        raise ValueError(
            f"the model takes images of {size} (height, width) but the data were prepared as "
            f"{stored}{cut}: use dataset.prepare(image_size={size}), or "
            f"augment=Augmentation(size={size}) to cut windows out of larger pictures"
        )
    if dataset.fit == "letterbox" and given[0] / given[1] != stored[0] / stored[1]:
        raise ValueError(
            f"letterboxed pictures of {stored} would be stretched to {given}: prepare them in a "
            "size of the same shape as the model's"
        )
    if not len(dataset.train):
        raise ValueError("the training split is empty: expected at least one pair")
    is_soft = getattr(dataset.train, "is_soft", False)
    if is_soft and augmentation and (augmentation.mixes or augmentation.focus):
        raise ValueError(
            "the training pairs are blended already: use an Augmentation with mixup=0, cutmix=0, "
            "paste=0 and focus=0"
        )
    rows = dataset.classes.num_classes
    for name in ("focus_weights", "paste_weights"):
        weights = getattr(augmentation, name, None)
        if weights is not None and len(weights) != rows:
            raise ValueError(
                f"expected {rows} {name}, one for each row of the class table, "
                f"received {len(weights)}"
            )


def _take_optimizer(optimizer, **own):
    """Return an optimizer, or its name, and the settings that are its own.

    Of a keras optimizer these are None, and one that has trained nothing yet is returned; with a
    schedule of its own it is the very same.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        return optimizer, own
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "expected the optimizer that is inside the LossScaleOptimizer: where training is in "
            "float16, the loss is scaled anyway"
        )
    defaults = inspect.signature(train).parameters
    given = [name for name, value in own.items() if value != defaults[name].default]
    if given:
        raise ValueError(
            f"an optimizer has its own {', '.join(given)}, which would be ignored here: give them "
            "to it, such as seglib.Muon(2e-3, weight_decay=0.1, use_ema=True), or name it, such "
            'as optimizer="muon"'
        )
    settings = optimizer.get_config()
    if not isinstance(settings["learning_rate"], float):
        return optimizer, dict.fromkeys(own)
    copy = type(optimizer).from_config(settings)
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(optimizer, name):  # no part of its settings
            setattr(copy, name, getattr(optimizer, name))
    return copy, dict.fromkeys(own)


def _check_counts(**settings):
    for name, value in settings.items():
        if value is None and name in ("epochs", "patience"):
            continue
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ValueError(f"expected {name} to be a whole number ≥ 1, got {value!r}")


def _parse_batch_size(batch_size):
    """Return the most and the fewest pairs a step."""
    if not isinstance(batch_size, tuple | list):
        _check_counts(batch_size=batch_size)
        return int(batch_size), int(batch_size)
    for size in batch_size:
        _check_counts(batch_size=size)
    if len(batch_size) != 2 or batch_size[0] < batch_size[1]:
        raise ValueError(
            f"expected one batch_size, or the largest and the smallest, got {batch_size!r}"
        )
    return int(batch_size[0]), int(batch_size[1])


def _parse_interval(checkpoint_every):
    if checkpoint_every in (None, "epoch"):
        return None
    if isinstance(checkpoint_every, int | np.integer):
        _check_counts(checkpoint_every=checkpoint_every)
        return "steps", checkpoint_every
    return "seconds", parse_duration(checkpoint_every)


def _take_up(checkpoints, clock, settings, resume_from, allowed):
    """Return where the run stands, here or in an earlier session's output."""
    run_dir = checkpoints.run_dir
    state, seconds = checkpoints.read(), noted_seconds(run_dir)
    if not state.step:
        earlier = find_earlier_run(resume_from, settings, allowed=allowed)
        if earlier is not None:
            print(f"carrying on from step {earlier[1].step} of {earlier[0]}")
            _check_same_run(*earlier, settings, allowed)
            seconds = copy_run(earlier[0], run_dir)
            state = checkpoints.read()
    else:
        _check_same_run(run_dir, state, settings, allowed)
    # Without a checkpoint nothing was kept that the clock could count for.
    clock.earlier = max(seconds, state.elapsed) if state.step else 0.0
    return state


def _check_same_run(run_dir, state, settings, allowed):
    differences = find_differences(state.settings, settings, allowed=allowed)
    if differences:
        names = [line.split(":")[0].split(".")[0] for line in differences]
        names = dict.fromkeys([*allowed, *names])
        names = ", ".join(f'"{name}"' for name in names)
        raise ValueError(
            f"{run_dir} holds a run with other settings ({'; '.join(differences)}): choose "
            "another run_dir, or the same settings to carry on, or say that the change is meant "
            f"with allow_changes=({names},)"
        )


def _start_from(model, init_from):
    skipped = copy_weights(load_model(init_from), model)
    skipped = [name for name in skipped if not name.endswith("_classes")]
    if skipped:
        raise ValueError(
            f"{init_from} is a model of another form, {len(skipped)} layers such as {skipped[0]} "
            "do not fit: create the model with that one's filters"
        )


def _choose_loss(loss, dataset, class_weights, augmentation):
    is_soft = getattr(dataset.train, "is_soft", False)
    return create_loss(
        loss,
        ignore_label=dataset.classes.ignore_label,
        class_weights=class_weights,
        num_classes=dataset.classes.num_classes,
        soft=is_soft or bool(augmentation and augmentation.mixup),
    )


def _compile(model, optimizer, losses, loss_weights, seed):
    model.compile(optimizer, losses, loss_weights=loss_weights, jit_compile=choose_jit())
    seed_dropout(model, seed)
    model.optimizer.build(model.trainable_variables)


def _restore(model, arrays):
    """Give back what a checkpoint holds, but for a rate of its own, which may have been changed."""
    optimizer = inner_optimizer(model)
    rate = optimizer.get_config()["learning_rate"]
    restore_variables(model, arrays)
    if isinstance(rate, float):
        optimizer.learning_rate = rate


def _finish(model, run_dir, state, ended_by):
    import pandas as pd

    if state.history:
        bare = keras.Model(model.inputs, model.outputs)  # the file has no optimizer
        bare.load_weights(run_dir / "best.keras")
    history = pd.DataFrame(state.history)
    return Run(run_dir=run_dir, model=model, history=history, ended_by=ended_by)
