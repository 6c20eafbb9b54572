"""Several tasks in one run: the loss of each output, and how much it counts."""

import numpy as np

from seglib.losses import BoundaryLoss, CompiledLoss, PresenceLoss, UncertainLoss
from seglib.models import task_layers

LOSSES = {"boundary": BoundaryLoss, "presence": PresenceLoss}


def describe_tasks(model, task_weights):
    """Check how tasks are to be weighed, and let the model learn what is not given.

    Args:
        model: keras.Model.
        task_weights: dict `task -> number`, or None to learn them.

    Returns:
        dict of what the run's settings say about it; empty for a model of one task.

    Raises:
        ValueError: the model has no such tasks, or a weight is no finite number ≥ 0.
    """
    layers = [layer for layer in task_layers(model) if layer is not None]
    tasks = [layer.task for layer in layers]
    if task_weights is not None:
        _check_weights(task_weights, tasks)
    for layer in layers:
        layer.trainable = task_weights is None
    given = "learned" if task_weights is None else task_weights
    return {"task_weights": given} if tasks else {}


def create_losses(model, loss, task_weights, ignore_label):
    """Return a loss for each output of a model, and the weights by which they add up.

    Args:
        model: keras.Model.
        loss: keras loss of segmentation, for each of its heads alike.
        task_weights: as in `describe_tasks`.
        ignore_label: int or None.

    Returns:
        list of keras losses, list of floats.
    """
    layers = task_layers(model)
    tasks = ["segmentation" if layer is None else layer.task for layer in layers]
    own = {"segmentation": _compile(loss)}
    own |= {task: _compile(LOSSES[task](ignore_label)) for task in tasks if task in LOSSES}
    shares = [1 / tasks.count(task) for task in tasks]
    known = {layer.task: layer for layer in layers if layer is not None}
    if task_weights is None and known:
        own = {task: UncertainLoss(loss, known[task].log_variance) for task, loss in own.items()}
    given = task_weights or {}
    weights = [given.get(task, 1) * share for task, share in zip(tasks, shares, strict=True)]
    return [own[task] for task in tasks], weights


def _check_weights(task_weights, tasks):
    if not tasks:
        raise ValueError(
            f"the model has one task, received task_weights={task_weights}: leave them away, or "
            'create it with heads=("segmentation", "boundary")'
        )
    expected = f"expected task_weights to be a dict of some of {', '.join(tasks)} and numbers ≥ 0"
    if (
        not isinstance(task_weights, dict)
        or set(task_weights) - set(tasks)
        or not all(_is_weight(value) for value in task_weights.values())
    ):
        raise ValueError(f"{expected}, received {task_weights!r}")


def _is_weight(value):
    return isinstance(value, int | float | np.number) and np.isfinite(value) and value >= 0


def _compile(loss):
    return CompiledLoss(loss) if type(loss).__module__.startswith("seglib.") else loss
