"""Training that is kept: a run is a folder, and training it again carries on."""

import json

import keras
import numpy as np

from seglib import balance
from seglib.folders import make_folder
from seglib.losses import CrossEntropyDice
from seglib.models import copy_weights, set_model_classes
from seglib.statistics import count_pixels
from seglib.training.batches import Batches
from seglib.training.checkpoints import RunState, seed_dropout, write_json
from seglib.training.keeper import Keeper, validate
from seglib.training.precision import choose_precision, compute_in
from seglib.training.runs import Run, load_model
from seglib.training.schedules import Trapezoid

__all__ = [
    "Batches",
    "Run",
    "Trapezoid",
    "choose_precision",
    "load_model",
    "train",
    "validate",
]


def train(
    model,
    dataset,
    *,
    run_dir,
    epochs=10,
    batch_size=4,
    learning_rate=1e-3,
    optimizer=None,
    loss=None,
    class_weights=None,
    augment=True,
    ema=False,
    precision="auto",
    init_from=None,
    seed=0,
):
    """Train a model, keeping a checkpoint after every epoch; called again it resumes.

    The checkpoint with the highest validation mean IoU is the best; without validation
    data, the last one. A finished run returns at once; more `epochs` carry it on.

    Args:
        model: keras.Model from `seglib.create_…_model`. Its weights become the best ones.
        dataset: PreparedDataset of the model's input size.
        run_dir: str or path of the run's folder, created if missing.
        epochs: int, how often each training pair is seen, all calls together.
        batch_size: int, pairs a step.
        learning_rate: float, of Adam, at its highest; see `Trapezoid`. More `epochs` lay it
            over all of them anew.
        optimizer: keras optimizer in place of Adam.
        loss: keras loss on logits, applied to each head, in place of weighted
            cross-entropy + Dice.
        class_weights: `(num_classes,)` numbers for that loss; None for the median frequency
            weights of the training data, of which the square root is taken.
        augment: bool. True mirrors and changes brightness and contrast at random.
        ema: bool. True keeps an exponential moving average of the weights (over about 50
            steps), which is what is validated, kept as best and returned.
        precision: "auto", or a Keras dtype policy such as "float32", "mixed_bfloat16".
        init_from: str or path of another run's folder or model of the same form, whose
            weights a new run starts from; heads of other classes are left as they are.
        seed: int, of the order of pairs, augmentation and dropout.

    Returns:
        Run.

    Raises:
        ValueError: the settings do not fit the data, or those that the run began with.
        FloatingPointError: the loss is not finite. The last good checkpoint is kept.
        OSError: `run_dir` cannot be written.
    """
    settings = _check_settings(
        model, dataset, epochs=epochs, batch_size=batch_size, seed=seed, augment=augment, ema=ema
    )
    run_dir = make_folder(run_dir, "the run")
    state = RunState(run_dir)
    if state.epoch:
        _check_same_run(run_dir, settings)
    set_model_classes(model, dataset.classes)
    if state.epoch >= epochs:
        return _finish(model, run_dir, state)
    if init_from is not None and not state.epoch:
        _start_from(model, init_from)
    policy = choose_precision() if precision == "auto" else precision
    if loss is None:
        loss = _default_loss(dataset, class_weights)
    batches = Batches(
        dataset.train,
        batch_size=batch_size,
        seed=seed,
        augment=augment,
        heads=len(model.outputs),
        epoch=state.epoch,
    )
    optimizer = optimizer or keras.optimizers.Adam(
        Trapezoid(learning_rate, epochs * len(batches)), use_ema=ema, ema_momentum=0.98
    )
    write_json(run_dir / "run.json", {**settings, "precision": policy, "versions": _versions()})
    with compute_in(model, policy):
        heads = len(model.outputs)
        model.compile(optimizer, [loss] * heads, loss_weights=[1 / heads] * heads)
        seed_dropout(model, seed)
        model.optimizer.build(model.trainable_variables)
        state.restore(model)
        keeper = Keeper(model, dataset.val, loss, state, epochs, policy)
        model.fit(
            batches,
            initial_epoch=state.epoch,
            epochs=epochs,
            callbacks=[keeper],
            shuffle=False,
            verbose=0,
        )
    return _finish(model, run_dir, state)


def _start_from(model, init_from):
    skipped = copy_weights(load_model(init_from), model)
    skipped = [name for name in skipped if not name.endswith("_classes")]
    if skipped:
        raise ValueError(
            f"{init_from} is a model of another form, {len(skipped)} layers such as {skipped[0]} "
            "do not fit: create the model with that one's filters"
        )


def _default_loss(dataset, class_weights):
    ignore_label = dataset.classes.ignore_label
    if class_weights is None:
        counts = count_pixels(dataset.train, num_classes=dataset.classes.num_classes)
        class_weights = balance.class_weights(
            counts, method="median_frequency", ignore_label=ignore_label, power=0.5
        )
    if len(class_weights) != dataset.classes.num_classes:
        raise ValueError(
            f"expected {dataset.classes.num_classes} class weights, one for each row of the "
            f"class table, received {len(class_weights)}"
        )
    return CrossEntropyDice(class_weights, ignore_label)


def _check_settings(model, dataset, **settings):
    """Return what a run must keep to, checked against the data."""
    size = model.input_shape[1:3]
    if any(
        side not in (None, wanted) for side, wanted in zip(size, dataset.image_size, strict=True)
    ):
        raise ValueError(
            f"the model takes images of {size} (height, width) but the data were prepared as "
            f"{dataset.image_size}: use dataset.prepare(image_size={size})"
        )
    if not len(dataset.train):
        raise ValueError("the training split is empty: expected at least one pair")
    for name in ("epochs", "batch_size"):
        if not isinstance(settings[name], int | np.integer) or settings[name] < 1:
            raise ValueError(f"expected {name} to be a whole number ≥ 1, got {settings[name]!r}")
    return {
        **settings,
        "model": model.name,
        "parameters": model.count_params(),
        "image_size": list(dataset.image_size),
        "classes": dataset.classes.to_dict(),
        "data": dataset.fingerprint,
    }


def _check_same_run(run_dir, settings):
    """Refuse to carry a run on with other settings; `epochs` may differ."""
    file = run_dir / "run.json"
    if not file.is_file():
        return
    before = json.loads(file.read_text())
    differences = [
        f"{name}: {before.get(name)!r} before, {value!r} now"
        for name, value in settings.items()
        if name != "epochs" and before.get(name) != value
    ]
    if differences:
        raise ValueError(
            f"{run_dir} holds a run with other settings ({'; '.join(differences)}): "
            "choose another run_dir, or the same settings to carry on"
        )


def _finish(model, run_dir, state):
    import pandas as pd

    model.set_weights(load_model(run_dir).get_weights())
    return Run(run_dir=run_dir, model=model, history=pd.DataFrame(state.history))


def _versions():
    return {"keras": keras.__version__, "backend": keras.backend.backend(), "numpy": np.__version__}
