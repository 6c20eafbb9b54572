"""Batches, and a Keras model that learns from them: all that knows devices and backends."""

import contextlib
import json
import math
import platform
import re
import sys

import keras
import numpy as np
from keras import ops

from seglib import losses, models, predicting, reports
from seglib.augment import augment_pair, blend_pairs, soften
from seglib.images import resize_image
from seglib.losses import find_device
from seglib.masks import resize_labels
from seglib.models import set_precision, task_layers
from seglib.optimizers import AdamW, Muon
from seglib.preparing import PreparedSplit
from seglib.system import has_bfloat16_units, replacing

# How TensorFlow, JAX and PyTorch say that memory is full, each with an error of its own.
FULL = re.compile(r"ResourceExhausted|RESOURCE_EXHAUSTED|\bOOM\b|out of memory", re.IGNORECASE)
TASK_LOSSES = {"boundary": losses.BoundaryLoss, "presence": losses.PresenceLoss}
OF_OPTIMIZER = ("learning_rate", "weight_decay", "encoder_rate", "ema", "gradient_accumulation")
SCHEDULES = ("trapezoid", "cosine", "constant")


class Batches:
    """Training pairs in batches; each batch is a function of (seed, step) alone.

    All batches have one size: a last one of one picture would change the weights as much as a full
    one, so it is filled up with other pairs of the epoch, augmented differently.
    """

    def __init__(self, split, batch_size, seed, *, augment=None, sampling=None):
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.augment, self.sampling = augment, sampling
        if sampling is not None:
            losses.check_weights(sampling, len(split), "training pairs")
            weights = np.asarray(sampling, float)
            self.sampling = weights / weights.sum()

    @property
    def steps_per_epoch(self):
        """int, the last step, which is filled up, included."""
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, step):
        """Return uint8 images `(batch, height, width, channels)` and labels, ids or shares."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        order, start = self._draw_order(epoch), batch * self.batch_size
        places = range(start, start + min(self.batch_size, len(order)))
        pairs = [self._read_pair(int(order[p % len(order)]), epoch, p) for p in places]
        images, labels = zip(*pairs, strict=True)
        return np.stack(images), np.stack(labels)

    def _draw_order(self, epoch):
        random = np.random.default_rng([self.seed, epoch])
        if self.sampling is None:
            return random.permutation(len(self.split))
        return random.choice(len(self.split), len(self.split), p=self.sampling)

    def _read_pair(self, index, epoch, place):
        pair = self._change_pair(self.split[index], epoch, place)
        classes, labels = self.split.classes, pair[1]
        known = (labels >= 0) & (labels < classes.num_classes) | (labels == classes.ignore_label)
        if labels.ndim == 2 and not known.all():  # else they are shares of classes
            raise ValueError(
                f"training pair {index} has the ids {np.unique(labels[~known])[:5].tolist()}: "
                f"expected 0 to {classes.num_classes - 1}, or the ignored {classes.ignore_label}"
            )
        if not getattr(self.split, "is_soft", False):
            return pair
        share = float(self.split.share[index])
        options = {"num_classes": classes.num_classes, "ignore_label": classes.ignore_label}
        if share == 1:
            return pair[0], soften([(pair[1], 1.0)], **options)
        # Both are changed alike, so that the patch stays where it is.
        other = self._change_pair(self.split.partner(index), epoch, place)
        return blend_pairs(pair, other, share=share, **options)

    def _change_pair(self, pair, epoch, place):
        if self.augment is None:
            return pair
        return augment_pair(
            *pair,
            seed=self.seed,
            epoch=epoch,
            # Not the pair's own: one drawn twice is changed twice. 0 drew the order.
            index=place + 1,
            augmentation=self.augment,
            ignore_label=self.split.classes.ignore_label,
            partners=self.split,
        )


class Learner:
    """A model that learns one batch at a time, and a copy with the weights that are kept.

    Of the `options` of training, `task_weights` and `precision` are used.
    """

    def __init__(self, model, optimizer, loss, options, classes, metrics=(), seed=0):
        self.model, self.loss, self.metrics = model, loss, list(metrics)
        self.precision, task_weights = options["precision"], options["task_weights"]
        if self.precision == "auto":
            self.precision = choose_precision()
        set_precision(model, self.precision)
        every, weights = create_task_losses(model, loss, task_weights, classes.ignore_label)
        watched = self.metrics or None  # Keras before 3.15 takes no list of lists for one output
        if self.metrics and len(every) > 1:
            watched = [[]] * (len(every) - 1) + [self.metrics]
        jit = losses.choose_jit()
        model.compile(optimizer, every, loss_weights=weights, metrics=watched, jit_compile=jit)
        for metric in self.metrics:
            metric.reset_state()  # of an earlier run; Keras does so only after the first step
        for number, state in enumerate(self._dropout_states()):
            state.assign(np.array([seed, number], dtype="uint32"))
        model.optimizer.build(model.trainable_variables)
        self.optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        self.rate = None  # what `step` set last
        # Averaged weights are validated and kept, while the others go on learning.
        self.kept = type(model).from_config(json.loads(json.dumps(model.get_config())))
        set_precision(self.kept, self.precision)
        self.scorer = keras.Model(self.kept.inputs, self.kept.outputs[-1])
        self.scorer.compile(jit_compile=jit)

    @property
    def variables(self):
        """All that a step changes: weights, dropout's states, optimizer, and last a loss scale."""
        known = {id(variable) for variable in self.optimizer.variables}
        scale = [v for v in self.model.optimizer.variables if id(v) not in known]
        return [*self.model.weights, *self._dropout_states(), *self.optimizer.variables, *scale]

    def restore(self, arrays):
        """Take over the values of a checkpoint; refuse those of another optimizer or model."""
        variables = self.variables
        pairs = list(zip(variables, arrays, strict=False))
        # Of two precisions, only one may have a loss scale.
        rest = [*variables[len(pairs) :], *arrays[len(pairs) :]]
        if any(np.shape(r) for r in rest) or any(tuple(v.shape) != a.shape for v, a in pairs):
            raise ValueError(
                "with ema, weight_decay, encoder_rate or gradient_accumulation changed, the "
                "optimizer keeps other numbers than the checkpoint has: leave them as they were, "
                "or begin a new run from this one's weights, with init_from="
            )
        for variable, value in pairs:
            variable.assign(value)

    def step(self, images, labels, *, rate=None):
        """Learn from one batch; return the loss, and each metric by its name, as floats.

        Labels are ids `(batch, height, width)`, or have a share for each class. Without a `rate`
        the optimizer has its own.
        """
        if rate is not None and rate != self.rate:  # else a callback may have changed it
            self.optimizer.learning_rate = self.rate = rate
        outputs = len(self.model.outputs)
        try:
            self.model.reset_metrics()
            logs = self.model.train_on_batch(
                images, (labels,) * outputs if outputs > 1 else labels, return_dict=True
            )
        except Exception as error:
            if not FULL.search(f"{type(error).__name__} {error}"):
                raise
            raise MemoryError(
                f"a training step of {len(images)} pairs does not fit into the memory of "
                f"{find_device()[1]}: halve batch_size and double gradient_accumulation, which "
                "learns about the same (a run that goes on needs both in allow_changes); or "
                "prepare smaller images, or use fewer filters"
            ) from error
        values = {metric.name: float(metric.result()) for metric in self.metrics}
        return {"loss": float(logs["loss"]), **values}

    def learning_rate(self):
        """Return the learning rate of the last step, float."""
        return float(ops.convert_to_numpy(self.optimizer.learning_rate))

    def update_kept(self):
        """Give the kept copy the present weights: the averaged ones, where there are averages."""
        for source, target in zip(self.model.weights, self.kept.weights, strict=True):
            target.assign(ops.copy(source))  # JAX gives away the memory of what it shares
        if self.optimizer.use_ema:
            if isinstance(self.optimizer, AdamW):
                averages = self.optimizer.averages()
            else:
                averages = self.optimizer._model_variables_moving_average
            for average, target in zip(averages, self.kept.trainable_variables, strict=True):
                target.assign(ops.copy(average))

    def validate(self, split, batch_size, request):
        """Return the kept copy's scores on a prepared split; None if it was told to stop."""
        ignore_label, num_classes = split.classes.ignore_label, split.classes.num_classes
        not_scored = np.setdiff1d(range(num_classes), split.classes.scored_ids)
        metrics = [type(metric).from_config(metric.get_config()) for metric in self.metrics]
        total, matrix = 0.0, 0
        for start in range(0, len(split), batch_size):
            if request.name:
                return None
            images = split.images[start : start + batch_size]
            labels = np.asarray(split.labels[start : start + batch_size])
            logits = self.predict_batch(images, batch_size)
            total += float(self.loss(labels, logits)) * len(images)
            for metric in metrics:
                metric.update_state(labels, logits)
            logits[..., not_scored] = -np.inf
            matrix = matrix + reports.confusion_matrix(
                labels, logits.argmax(axis=-1), num_classes=num_classes, ignore_label=ignore_label
            )
        return {
            "val_loss": total / len(split),
            "pixel_accuracy": float(reports.pixel_accuracy(matrix)),
            "mean_iou": float(reports.mean_iou(matrix, ignore_label=ignore_label)),
            **{f"val_{metric.name}": float(metric.result()) for metric in metrics},
        }

    def predict_batch(self, images, batch_size):
        """Return the kept copy's logits of up to `batch_size` images.

        They are computed in a batch of always that size: another one would be compiled anew. Of a
        model that learns at the pictures' own scale, they are what its blended tiles amount to.
        """
        if models.known_head(self.kept).native:
            planes = [predicting.predict_probabilities(self.kept, image) for image in images]
            return np.log(np.maximum(planes, np.float32(1e-7)))
        padding = np.zeros((batch_size - len(images), *images.shape[1:]), images.dtype)
        filled = np.concatenate([images, padding])
        return np.array(self.scorer.predict_on_batch(filled))[: len(images)]

    def save(self, file):
        """Write the kept copy, in float32, beside and rename it."""
        set_precision(self.kept, "float32")
        with replacing(file) as temporary:
            self.kept.save(temporary)
        set_precision(self.kept, self.precision)

    def _dropout_states(self):
        return [variable for variable in self.model.variables if "seed_generator" in variable.path]


def adopt_model(model, size, num_classes):
    """Return a user's own model with ClassLogits at its ends; one of seglib's as it is.

    It shares the layers of the given one, and its file knows the classes. `size` is that of the
    pictures that it will get.
    """
    model = models.adopted.get(model, model)
    if any(isinstance(layer, models.Logits) for layer in model.layers):
        return model
    if getattr(model, "preprocessor", None) is not None:
        raise ValueError(
            f"{model.name!r} has a preprocessor, which training would pass by: put what it does "
            "into layers, and preprocessor=None"
        )
    answers, expected = predicting.answer_noise(model, size), (*size, num_classes)
    shapes = [scores.shape[1:] for scores in answers]
    if set(shapes) != {expected} or any(map(predicting.are_probabilities, answers)):
        raise ValueError(
            f"{model.name!r} answers a picture with scores of {shapes}: expected logits of "
            f"{expected}, a channel for each class, without softmax or sigmoid at the end; "
            "keras.layers.Resizing gives them the picture's size"
        )
    image, logits = model.inputs[0], models.ClassLogits
    heads = [logits(name=f"class_logits_{i}")(x, image) for i, x in enumerate(model.outputs)]
    name = re.sub(r"_\d+$", "", model.name)  # Keras counts models, and a resumed run is the same
    own = keras.Model(image, heads[0] if len(heads) == 1 else heads, name=name)
    try:
        models.copy_model(own)
    except Exception as error:  # Keras raises many kinds
        raise ValueError(
            f"{model.name!r} has a layer that no file can keep: use no Lambda; give your classes a "
            "get_config, and decorate them with @keras.saving.register_keras_serializable()"
        ) from error
    models.adopted[model] = own
    return own


class Callbacks:
    """Tells keras callbacks what happens, and remembers which of them stopped training."""

    def __init__(self, callbacks, model):
        self.callbacks, self.model, self.stopped_by = list(callbacks), model, None
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params({"verbose": 0})

    def tell(self, event, *arguments):
        """Call a method of all callbacks, such as `tell("on_epoch_begin", 0)`."""
        for callback in self.callbacks:
            self.model.stop_training = False
            getattr(callback, event)(*arguments)
            if self.model.stop_training and self.stopped_by is None:
                self.stopped_by = type(callback).__name__


def learning_rate_at(step: int, steps: int, schedule: str = "trapezoid") -> float:
    """Return the share of the highest learning rate that a step has.

    It rises over the first 5 % of the steps. Then "trapezoid" holds it, and lets it fall to 0
    over the last 40 % (Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed
    Training Durations", section 3); "cosine" lets it fall as half a cosine over all steps
    (Loshchilov & Hutter 2017, "SGDR", equation 5, without restarts); "constant" is 1 throughout.

    Args:
        step: int, from 0.
        steps: int, of the whole run.
        schedule: "trapezoid", "cosine" or "constant".

    Example:
        >>> [round(learning_rate_at(step, 100), 2) for step in (0, 4, 59, 80, 90)]
        [0.2, 1.0, 1.0, 0.5, 0.25]
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"expected a schedule of {', '.join(SCHEDULES)}, received {schedule!r}")
    if schedule == "constant":
        return 1.0
    f = np.float32
    rise = f(step + 1) / max(f(1), f(0.05) * f(steps))
    if schedule == "cosine":
        angle = f(3.14159265) * min(f(step) / f(steps), f(1))
        fall = f(0.5) * (f(1) + f(math.cos(angle)))
    else:
        fall = f(steps - step) / max(f(1), f(0.4) * f(steps))
    return float(min(max(min(rise, fall), f(0)), f(1)))


def take_optimizer(options, changes):
    """Return the optimizer that training options describe, and the options without what it has.

    A keras optimizer replaces a recipe's learning rate, but not one of `changes`, the options that
    the caller gave by name.
    """
    optimizer = options["optimizer"]
    if isinstance(optimizer, keras.optimizers.Optimizer):
        given = [name for name in OF_OPTIMIZER if name in changes]
        if given:
            raise ValueError(
                f"an optimizer has its own {', '.join(given)}, which would be ignored here: give "
                'them to it, or name it, such as optimizer="muon"'
            )
        if optimizer.built:
            raise ValueError("this optimizer has trained before: give train a new one each time")
        rate = optimizer.get_config()["learning_rate"]
        own = {"learning_rate": rate} if isinstance(rate, float) else {"schedule": None}
        return optimizer, {**options, **dict.fromkeys(OF_OPTIMIZER), **own}
    kinds = {name.lower(): kind for name, kind in vars(keras.optimizers).items()}
    kind = {**kinds, "adamw": AdamW, "muon": Muon}.get(optimizer)
    if not isinstance(kind, type):
        raise ValueError(
            'expected "muon", "adamw", a name of keras.optimizers such as "adam", or a keras '
            f"optimizer, received {optimizer!r}"
        )
    ema, accumulation = options["ema"], options["gradient_accumulation"]
    settings = {
        "weight_decay": options["weight_decay"],
        "use_ema": bool(ema),
        "ema_momentum": 0.98 if ema is True else float(ema),
        "gradient_accumulation_steps": accumulation if accumulation > 1 else None,
    }
    if issubclass(kind, AdamW):
        settings["encoder_rate"] = options["encoder_rate"]
    return kind(float(options["learning_rate"]), **settings), options


def create_task_losses(model, loss, task_weights, ignore_label):
    """Return a loss for each output of a model, and the weights by which they add up."""
    layers = task_layers(model)
    known = {layer.task: layer for layer in layers if layer is not None}
    tasks = ["segmentation" if layer is None else layer.task for layer in layers]
    own = {task: TASK_LOSSES[task](ignore_label) for task in tasks if task != "segmentation"}
    own["segmentation"] = loss
    for task, each in own.items():
        if type(each).__module__.startswith("seglib.") and type(each) is not losses.WrappedLoss:
            own[task] = losses.compile_loss(each)
        if task_weights is None and known:
            own[task] = losses.UncertainLoss(own[task], known[task].log_variance)
    given = task_weights or {}
    weights = [given.get(task, 1) / tasks.count(task) for task in tasks]
    return [own[task] for task in tasks], weights


def weigh_tasks(model, task_weights):
    """Let a model learn how much each of its tasks counts, unless that is given."""
    layers = {layer.task: layer for layer in task_layers(model) if layer is not None}
    for layer in layers.values():
        layer.trainable = task_weights is None
    if task_weights is None:
        return
    is_known = isinstance(task_weights, dict) and set(task_weights) <= set(layers)
    if not is_known or not all(0 <= value < np.inf for value in task_weights.values()):
        names = ", ".join(layers) or "none, since it has one head"
        raise ValueError(
            "expected task_weights to be a dict of tasks and finite numbers ≥ 0, received "
            f"{task_weights!r}; the model's tasks are {names}"
        )


def resize_split(split, size):
    """Return a prepared split at the size of a model, as if it had been prepared at it.

    A side of `size` that is None stays as it is.
    """
    stored = split.images.shape[1:3]
    size = tuple(side or own for side, own in zip(size, stored, strict=True))
    if size == stored or not len(split):
        return split
    images = np.stack([resize_image(image, size) for image in split.images])
    labels = np.stack([resize_labels(each, size) for each in split.labels])
    return PreparedSplit(images, labels, split.names, split.classes)


def choose_precision() -> str:
    """Return the dtype policy in which this machine trains fastest.

    bfloat16 on GPUs of compute capability 8 and above, TPUs, and processors with bfloat16 units
    under TensorFlow; float16 on GPUs of 7, such as Kaggle's T4; else, or if unknown, float32.
    """
    kind, _, capability = find_device()
    if kind == "gpu":
        major = int(capability[0]) if capability and str(capability[0]).isdecimal() else 0
        return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    is_fast = keras.backend.backend() == "tensorflow" and has_bfloat16_units()
    return "mixed_bfloat16" if kind == "tpu" or is_fast else "float32"


def peak_memory():
    """Return the most bytes that this process, or its accelerator, held; NaN if unknown."""
    backend = keras.backend.backend()
    with contextlib.suppress(Exception):  # no GPU, or no statistics
        if backend == "tensorflow":
            return sys.modules[backend].config.experimental.get_memory_info("GPU:0")["peak"]
        if backend == "jax":
            return sys.modules[backend].local_devices()[0].memory_stats()["peak_bytes_in_use"]
    with contextlib.suppress(ImportError):  # Windows
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return float("nan")


def describe_versions():
    """Return the versions and the device that a run is trained with, for `run.json`."""
    backend = keras.backend.backend()
    return {
        "seglib": sys.modules["seglib"].__version__,
        "keras": keras.__version__,
        "backend": backend,
        backend: getattr(sys.modules.get(backend), "__version__", "unknown"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": find_device()[1],
    }
