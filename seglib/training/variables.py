"""All the numbers that a training step changes, wherever Keras and its backends keep them."""

import numpy as np

from seglib.optimizers import AdamW


def training_variables(model):
    """Return the variables that a checkpoint holds, in an order that is always the same.

    Args:
        model: compiled keras.Model whose optimizer is built.

    Returns:
        list of keras.Variable: weights, states of seed generators, the mean loss of the
        epoch so far, the optimizer's variables; a loss scale stands last.
    """
    inner = inner_optimizer(model)
    known = {id(variable) for variable in inner.variables}
    scale = [variable for variable in model.optimizer.variables if id(variable) not in known]
    seeds, loss = _seed_states(model), loss_metric(model).variables
    return [*model.weights, *seeds, *loss, *inner.variables, *scale]


def restore_variables(model, arrays):
    """Give a model and its optimizer the values of a checkpoint.

    Raises:
        ValueError: they are of a model or an optimizer that keeps other ones.
    """
    variables = training_variables(model)
    # Of two precisions, only one may have a loss scale.
    pairs = list(zip(variables, arrays, strict=False))
    is_scale = [not np.shape(rest) for rest in [*variables[len(pairs) :], *arrays[len(pairs) :]]]
    if not all(is_scale) or any(tuple(v.shape) != value.shape for v, value in pairs):
        raise ValueError(
            "a setting was changed by which the optimizer keeps other numbers than the checkpoint "
            "has, such as schedule, ema, weight_decay, encoder_rate or gradient_accumulation: "
            "leave it as it was, or begin a new run from this one's weights, with init_from="
        )
    for variable, value in pairs:
        variable.assign(value)


def seed_dropout(model, seed):
    """Set the state of every seed generator from `seed`."""
    for number, variable in enumerate(_seed_states(model)):
        variable.assign(np.array([seed, number], dtype="uint32"))


def inner_optimizer(model):
    """Return the model's optimizer, out of the wrapper that scales the loss."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def averaged_weights(optimizer):
    """Return the moving averages that an optimizer keeps, one for each variable it trains."""
    if isinstance(optimizer, AdamW):
        return optimizer.averages()
    return optimizer._model_variables_moving_average


def loss_metric(model):
    """Return Keras' running mean of the loss."""
    return next(metric for metric in model.metrics if metric.name == "loss")


def bring_home(model):
    """Let the variables hold the values that JAX keeps outside of them while it trains."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def _seed_states(model):
    return [variable for variable in model.variables if "seed_generator" in variable.path]
