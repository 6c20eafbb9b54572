"""Training that is kept: a run is a folder, and training it again carries on."""

import contextlib
import csv
import dataclasses
import json
import os
import pathlib
import re
import time
import zipfile

import keras
import numpy as np

from seglib import balance, metrics
from seglib.augment import augment_pair
from seglib.caching import make_folder
from seglib.losses import CrossEntropyDice
from seglib.models import copy_weights, set_model_classes, set_precision
from seglib.progress import show_progress
from seglib.statistics import count_pixels

CHECKPOINTS_KEPT = 2


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """What `train` leaves.

    Args:
        run_dir: path of the folder: `run.json`, `history.csv`, `best.keras`, `checkpoints/`.
        model: keras.Model, the best one, as in `best.keras`.
        history: DataFrame, a row an epoch: epoch (from 1), loss, val_loss, pixel_accuracy
            and mean_iou on the validation data at training size, seconds.
    """

    run_dir: pathlib.Path
    model: keras.Model
    history: object

    @property
    def best(self):
        """Series, the row of the history whose weights are the best checkpoint."""
        scores = self.history["mean_iou"]
        return self.history.loc[scores.idxmax() if scores.notna().any() else len(scores) - 1]

    def __repr__(self):
        best = self.best
        return (
            f"Run({self.run_dir.name}: {len(self.history)} epochs, best mean IoU "
            f"{best['mean_iou']:.3f} in epoch {best['epoch']:.0f})"
        )


def train(
    model,
    dataset,
    *,
    run_dir,
    epochs=10,
    batch_size=8,
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
        learning_rate: float, of Adam; reached after a warm-up of a twentieth of all steps and
            lowered to 0 by a cosine over the rest. More `epochs` lay it over all of them anew.
        optimizer: keras optimizer in place of Adam.
        loss: keras loss on logits, applied to each head, in place of weighted
            cross-entropy + Dice.
        class_weights: `(num_classes,)` numbers for that loss; None for the square root
            of the median frequency weights of the training data.
        augment: bool. True mirrors and changes brightness and contrast at random.
        ema: bool. True keeps an exponential moving average of the weights (over about 50
            steps), which is what is validated, kept as best and returned.
        precision: "auto", or a Keras dtype policy such as "float32", "mixed_bfloat16".
        init_from: str or path of another run's folder or model, whose weights a new run
            starts from; heads of other classes are left as they are.
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
    _check_same_run(run_dir, settings)
    set_model_classes(model, dataset.classes)
    state = _State(run_dir)
    if state.epoch >= epochs:
        return _finish(model, run_dir, state)
    if init_from is not None and not state.epoch:
        copy_weights(load_model(init_from), model)
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
        _plan_learning_rate(learning_rate, epochs * len(batches)), use_ema=ema, ema_momentum=0.98
    )
    _write_json(run_dir / "run.json", {**settings, "precision": policy, "versions": _versions()})
    with _compute_in(model, policy):
        heads = len(model.outputs)
        model.compile(optimizer, [loss] * heads, loss_weights=[1 / heads] * heads)
        _seed_dropout(model, seed)
        optimizer.build(model.trainable_variables)
        state.restore(model)
        keeper = _Keeper(model, dataset.val, loss, state, epochs, policy)
        model.fit(
            batches,
            initial_epoch=state.epoch,
            epochs=epochs,
            callbacks=[keeper],
            shuffle=False,
            verbose=0,
        )
    return _finish(model, run_dir, state)


def load_model(path):
    """Load a trained model.

    Args:
        path: str or path of a run's folder, whose best checkpoint is taken, or of a
            `.keras` file.

    Returns:
        keras.Model.

    Raises:
        FileNotFoundError: there is no trained model.
    """
    path = pathlib.Path(path)
    file = path / "best.keras" if path.is_dir() or not path.suffix else path
    if not file.is_file():
        raise FileNotFoundError(
            f"no trained model at {file}: train one with seglib.train(..., run_dir={str(path)!r})"
        )
    return keras.saving.load_model(file, compile=False, safe_mode=True)


def describe_run(run_dir):
    """Print what a run's folder holds, and the scores reached.

    Args:
        run_dir: str or path of a folder that the notebooks wrote to.
    """
    run_dir = pathlib.Path(run_dir)
    holds = {
        "best.keras": "the model",
        "history.csv": "a row for each epoch",
        "summary.csv": "scores with intervals",
        "per_class.csv": "scores of each class",
        "results.csv": "scores of each picture",
        "submission.csv": "run-length encoded predictions",
        "figures": "all figures",
        "*.ipynb": "the executed notebooks",
    }
    for pattern, what in holds.items():
        for path in sorted(run_dir.glob(pattern)):
            print(f"{path!s:55} {what}")
    with contextlib.suppress(OSError), open(run_dir / "summary.csv", newline="") as file:
        for row in csv.DictReader(file):
            print(f"{row['figure'].replace('_', ' '):55} {float(row['value']):.3f}")


def choose_precision():
    """Return the dtype policy in which this machine trains fastest.

    bfloat16 on GPUs of compute capability 8 and above, TPUs, and processors with
    bfloat16 units under TensorFlow; float16 on GPUs from 7 on; else float32.
    """
    if keras.backend.backend() == "jax":
        import jax

        accelerated = jax.default_backend() in ("tpu", "gpu")
        return "mixed_bfloat16" if accelerated else "float32"
    if keras.backend.backend() != "tensorflow":
        return "float32"
    import tensorflow as tf

    if tf.config.list_physical_devices("TPU"):
        return "mixed_bfloat16"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability")
        major = capability[0] if capability else 0
        return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    return "mixed_bfloat16" if _has_bfloat16_units() else "float32"


class Batches(keras.utils.PyDataset):
    """Batches of training pairs; each is a function of (seed, epoch, batch) alone.

    Args:
        split: PreparedSplit.
        batch_size: int.
        seed, epoch: ints, of the order and the augmentation, and the epoch to begin with.
        augment: bool.
        heads: int, how often the labels are given, once for each output of the model.
    """

    def __init__(self, split, *, batch_size, seed, augment, heads, epoch=0):
        super().__init__()
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.augment, self.heads, self.epoch = augment, heads, epoch

    def __len__(self):
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, batch):
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.split))
        chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        pairs = [self.split[i] for i in chosen]
        if self.augment:
            pairs = [
                augment_pair(image, labels, seed=self.seed, epoch=self.epoch, index=int(i))
                for i, (image, labels) in zip(chosen, pairs, strict=True)
            ]
        images, labels = (np.stack(parts) for parts in zip(*pairs, strict=True))
        return images, (labels,) * self.heads if self.heads > 1 else labels

    def on_epoch_end(self):
        self.epoch += 1


class _State:
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
        for variable, value in zip(_variables(model), self.arrays, strict=True):
            variable.assign(value)
        self.arrays = None

    def write(self, model):
        """Write a checkpoint beside and rename it, so that it is whole or absent."""
        file = self.folder / f"epoch_{self.epoch:04d}.npz"
        arrays = {f"{i:05d}": np.asarray(keras.ops.convert_to_numpy(variable))
                  for i, variable in enumerate(_variables(model))}  # fmt: skip
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


class _Keeper(keras.callbacks.Callback):
    """Shows progress, validates, and keeps checkpoints while Keras trains."""

    def __init__(self, model, split, loss, state, epochs, policy):
        super().__init__()
        self.split, self.loss, self.state = split, loss, state
        self.epochs, self.policy = epochs, policy
        config = json.loads(json.dumps(model.get_config()))
        self.snapshot = keras.Model.from_config(config)  # holds the averaged weights
        self.scorer = keras.Model(self.snapshot.inputs, self.snapshot.outputs[-1])
        self.scorer.compile()

    def on_train_begin(self, logs=None):
        steps = self.params["steps"]
        self.bar = show_progress(
            total=steps * self.epochs, initial=steps * self.state.epoch, unit="step", delay=0
        )

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()
        self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()
        if not np.isfinite(logs["loss"]):
            self.bar.close()
            kept = self.state.files()
            raise FloatingPointError(
                f"the loss is {logs['loss']} in epoch {self.state.epoch + 1}, batch {batch + 1} of "
                f"{self.params['steps']}; "
                + (f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint yet")
                + ": lower learning_rate, or check images and class weights"
            )
        self.bar.set_postfix(loss=f"{logs['loss']:.3f}", **self._score_text(), refresh=False)

    def on_epoch_end(self, epoch, logs=None):
        state = self.state
        set_precision(self.snapshot, self.policy)
        _copy_averaged(self.model, self.snapshot)
        scores = validate(self.scorer, self.split, self.loss) if len(self.split) else {}
        seconds = time.perf_counter() - self.start
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "val_loss": scores.get("loss", float("nan")),
            "pixel_accuracy": scores.get("pixel_accuracy", float("nan")),
            "mean_iou": scores.get("mean_iou", float("nan")),
            "seconds": round(seconds, 3),
        }
        state.epoch, state.history = epoch + 1, [*state.history, row]
        if not scores or row["mean_iou"] > state.best_score:
            state.best_score = scores.get("mean_iou", -1.0)
            self._write_best()
        state.write(self.model)
        self.bar.set_postfix(loss=f"{row['loss']:.3f}", **self._score_text())

    def on_train_end(self, logs=None):
        self.bar.close()

    def _score_text(self):
        if not self.state.history:
            return {}
        return {"mean_iou": f"{self.state.history[-1]['mean_iou']:.3f}"}

    def _write_best(self):
        set_precision(self.snapshot, "float32")
        temporary = self.state.run_dir / "best.tmp.keras"
        self.snapshot.save(temporary)
        os.replace(temporary, self.state.run_dir / "best.keras")


def validate(scorer, split, loss, *, batch_size=16):
    """Return loss, pixel accuracy and mean IoU of a model on a prepared split.

    Args:
        scorer: keras.Model with one output, logits.
        split: PreparedSplit.
        loss: keras loss.
        batch_size: int.

    Returns:
        dict of floats.
    """
    ignore_label = split.classes.ignore_label
    num_classes = split.classes.num_classes
    total, matrix = 0.0, 0
    for start in range(0, len(split), batch_size):
        images, labels = split.images[start : start + batch_size], split.labels[start:][:batch_size]
        logits = scorer.predict_on_batch(np.asarray(images))
        total += float(loss(np.asarray(labels), logits)) * len(images)
        logits[..., [i for i in range(num_classes) if i == ignore_label]] = -np.inf
        matrix = matrix + metrics.confusion_matrix(
            labels, logits.argmax(axis=-1), num_classes=num_classes, ignore_label=ignore_label
        )
    return {
        "loss": total / len(split),
        "pixel_accuracy": float(metrics.pixel_accuracy(matrix)),
        "mean_iou": float(metrics.mean_iou(matrix, ignore_label=ignore_label)),
    }


def _plan_learning_rate(learning_rate, steps):
    warmup = max(1, steps // 20)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), warmup_target=learning_rate, warmup_steps=warmup
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


@contextlib.contextmanager
def _compute_in(model, policy):
    """Compute in `policy` inside, and in float32 again afterwards."""
    set_precision(model, policy)
    try:
        yield
    finally:
        set_precision(model, "float32")


def _seed_dropout(model, seed):
    """Set the state of every seed generator from `seed`."""
    for number, variable in enumerate(_seed_states(model)):
        variable.assign(np.array([seed, number], dtype="uint32"))


def _seed_states(model):
    return [variable for variable in model.variables if "seed_generator" in variable.path]


def _variables(model):
    """All that a step changes: weights, seed generators, optimizer."""
    return [*model.weights, *_seed_states(model), *model.optimizer.variables]


def _copy_averaged(model, snapshot):
    """Copy the weights, averaged ones where the optimizer keeps an average."""
    for source, target in zip(model.weights, snapshot.weights, strict=True):
        target.assign(source)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if optimizer.use_ema:
        averages = optimizer._model_variables_moving_average
        for average, target in zip(averages, snapshot.trainable_variables, strict=True):
            target.assign(average)


def _has_bfloat16_units():
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return re.search(r"\b(amx_bf16|avx512_bf16)\b", flags) is not None


def _versions():
    return {"keras": keras.__version__, "backend": keras.backend.backend(), "numpy": np.__version__}


def _write_json(path, content):
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2))
    os.replace(temporary, path)
