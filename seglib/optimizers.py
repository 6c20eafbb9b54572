"""What changes the weights: AdamW, and Muon, which learns more from each step."""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable

import keras
from keras import ops

from seglib.losses import compile_on_processor, has_accelerator

# Jordan 2024: a polynomial that brings singular values to about 0.7 to 1.2 in 5 turns, but for
# those below some 0.002.
COEFFICIENTS = 3.4445, -4.7750, 2.0315
TURNS = 5
SMALLEST = 1e-7  # what has a smaller norm makes smaller steps
# Liu et al. 2025, section 2.2: with it a step is as large as AdamW's, at the same learning rate.
SIZE = 0.2


@keras.saving.register_keras_serializable(package="seglib")
class AdamW(keras.optimizers.Optimizer):
    """AdamW whose state is a few long vectors, in place of some for each weight.

    Keras' own makes some 15 small operations for each of a network's 200 arrays: tracing them
    takes longer than fifty training steps. Here weights that are treated alike are one vector.

    Args:
        learning_rate: float or schedule. `optimizer.learning_rate = 1e-3` acts from the next step.
        weight_decay: float ≥ 0, share of the learning rate by which kernels shrink a step;
            biases and normalization do not.
        beta_1, beta_2, epsilon: as of `keras.optimizers.AdamW`.
        encoder_rate: float in [0, 1], share of the learning rate by which the weights of a
            pretrained encoder move.
        kwargs: `use_ema`, `ema_momentum`, `gradient_accumulation_steps`, `loss_scale_factor`,
            `name`, as of other optimizers. The average follows closely at first: after t steps
            its momentum is t / (t + 10) at the most.

    Raises:
        ValueError: a number is out of range, or an option is not known here.

    Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    """

    def __init__(
        self,
        learning_rate=1e-3,
        *,
        weight_decay: float = 0.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        encoder_rate: float = 1.0,
        **kwargs,
    ):
        if not 0 <= encoder_rate <= 1:
            raise ValueError(f"expected an encoder_rate in [0, 1], received {encoder_rate}")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"expected a weight_decay ≥ 0, received {weight_decay}")
        for name in ("clipnorm", "clipvalue", "global_clipnorm", "ema_overwrite_frequency"):
            if kwargs.get(name) is not None:
                raise ValueError(f"{name} is not known here: use keras.optimizers.AdamW")
        kwargs.pop("keep_zeros", None)  # of models that an earlier version saved
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.encoder_rate = encoder_rate

    def build(self, variables):
        """Create the state for these variables."""
        if self.built:
            return
        # Keras would make an average and a sum of gradients for each variable.
        hidden = self.use_ema, self.gradient_accumulation_steps
        self.use_ema = self.gradient_accumulation_steps = None
        super().build(variables)
        self.use_ema, self.gradient_accumulation_steps = hidden
        members = collections.defaultdict(list)
        for index, variable in enumerate(variables):
            members[self.treatment(variable)].append(index)
        self._groups = []
        for (share, decay, *kind), indices in members.items():
            names, rule, compiles = self.rule([variables[i].shape for i in indices], *kind)
            names += ["average"] * bool(self.use_ema)
            names += ["gradient_sum"] * bool(self.gradient_accumulation_steps)
            size = sum(math.prod(variables[i].shape) for i in indices)
            state = {
                name: self.add_variable((size,), initializer="zeros", dtype="float32", name=name)
                for name in names
            }
            update = functools.partial(self._update_vectors, rule)
            update = compile_on_processor(update) if compiles else update
            self._groups.append(_Group(share, decay, indices, state, update))

    def apply(self, grads, trainable_variables=None):
        """Change the variables by their gradients."""
        if not self.built:
            self.build(list(trainable_variables))
        if trainable_variables is not None:  # in another order, or only some of them
            indices = [self._get_variable_index(variable) for variable in trainable_variables]
            given = dict(zip(indices, grads, strict=True))
            grads = [given.get(i) for i in range(len(self._trainable_variables))]
        if all(gradient is None for gradient in grads):
            raise ValueError("no variable has a gradient: is the loss computed from the outputs?")
        rate = ops.cast(self._get_current_learning_rate(), "float32")
        update, last = self._iterations, True
        if self.gradient_accumulation_steps:
            count = self.gradient_accumulation_steps
            update, last = update // count, (update + 1) % count == 0
        update, last = ops.cast(update, "float32"), ops.cast(last, "bool")
        for group in self._groups:
            variables = [self._trainable_variables[i] for i in group.indices]
            gradients = [
                ops.zeros(variable.shape) if grads[i] is None else grads[i]
                for i, variable in zip(group.indices, variables, strict=True)
            ]
            state = {name: variable.value for name, variable in group.state.items()}
            rates = group.share * rate, group.share * rate * group.decay
            weights, state = group.update(
                flatten(gradients), last, update, *rates, flatten(variables), state
            )
            for name, variable in group.state.items():
                variable.assign(state[name])
            weights = split(weights, [variable.shape for variable in variables])
            for i, variable, value in zip(group.indices, variables, weights, strict=True):
                if grads[i] is not None:
                    variable.assign(value)
                if variable.constraint is not None:
                    variable.assign(variable.constraint(variable))
        self._iterations.assign_add(1)

    def finalize_variable_values(self, var_list):
        """Leave the weights as they are at the end of a `fit`, unlike Keras: it may go on."""

    def averages(self) -> list:
        """Return the averaged weights as a list of arrays, in the order of the variables."""
        arrays = [ops.convert_to_tensor(variable) for variable in self._trainable_variables]
        if not int(ops.convert_to_numpy(self.iterations)):  # no update has been averaged yet
            return arrays
        for group in self._groups:
            shapes = [arrays[i].shape for i in group.indices]
            average = split(ops.copy(group.state["average"]), shapes)
            for i, array in zip(group.indices, average, strict=True):
                arrays[i] = array
        return arrays

    def get_config(self):
        names = ("beta_1", "beta_2", "epsilon", "encoder_rate")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def treatment(self, variable) -> tuple:
        """Return a variable's share of the learning rate and its decay: alike in a group."""
        in_encoder = any(part.startswith("encoder_") for part in variable.path.split("/"))
        decays = len(variable.shape) > 1 and self._use_weight_decay(variable)
        return self.encoder_rate if in_encoder else 1.0, self.weight_decay * decays

    def rule(self, shapes) -> tuple[list, Callable, bool]:
        """Return names of moments, the function that updates them, and whether it is compiled.

        The function takes the gradient, the number of the update and the state; it returns the
        direction of the step and the new moments.
        """
        return ["momentum", "velocity"], self._follow_adam, True

    def _follow_adam(self, gradient, update, state):
        momentum = self.beta_1 * state["momentum"] + (1 - self.beta_1) * gradient
        velocity = self.beta_2 * state["velocity"] + (1 - self.beta_2) * ops.square(gradient)
        unbiased = ops.sqrt(1 - self.beta_2 ** (update + 1)) / (1 - self.beta_1 ** (update + 1))
        direction = unbiased * momentum / (ops.sqrt(velocity) + self.epsilon)
        return direction, {"momentum": momentum, "velocity": velocity}

    def _update_vectors(self, rule, gradient, last, update, rate, decay, weights, state):
        """Return weights and state after a gradient; as they were unless it is the last one."""
        if self.loss_scale_factor is not None:
            gradient = gradient / self.loss_scale_factor
        if self.gradient_accumulation_steps:
            gradient = state["gradient_sum"] + gradient / self.gradient_accumulation_steps
        direction, new = rule(gradient, update, state)
        changed = weights - rate * direction - decay * weights
        if self.use_ema:
            share = ops.minimum(self.ema_momentum, update / (update + 10))
            new["average"] = share * state["average"] + (1 - share) * changed
        if self.gradient_accumulation_steps:
            changed = ops.where(last, changed, weights)
            new = {name: ops.where(last, value, state[name]) for name, value in new.items()}
            new["gradient_sum"] = ops.where(last, 0.0, gradient)
        return changed, new


@dataclasses.dataclass
class _Group:
    """Variables that are treated alike, as vectors."""

    share: float  # of the learning rate
    decay: float
    indices: list
    state: dict  # of variables: moments, average, sum of gradients
    update: Callable


@keras.saving.register_keras_serializable(package="seglib")
class Muon(AdamW):
    """Muon for the kernels of convolutions, `AdamW` for all other weights.

    The gradient of a convolution is a matrix of few large singular values: a step along it
    learns what the network half knows already. Muon makes all singular values of the momentum
    alike, so that what is rarely seen is learned as well. Depthwise kernels, and those of the
    layers whose names end in `_classes`, which make logits, are AdamW's.

    Args:
        learning_rate: float or schedule, for both.
        momentum: float in [0, 1), of the gradients of convolutions.
        weight_decay, encoder_rate, kwargs: as of `AdamW`, for both.

    Raises:
        ValueError: a number is out of range.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks";
    Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2.
    """

    def __init__(self, learning_rate=1e-3, *, momentum: float = 0.95, **kwargs):
        if not 0 <= momentum < 1:
            raise ValueError(f"expected a momentum in [0, 1), received {momentum}")
        super().__init__(learning_rate, **kwargs)
        self.momentum = momentum

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}

    def treatment(self, variable) -> tuple:
        """Return as `AdamW`, and whether it is a convolution that mixes channels into no logits."""
        mixes = len(variable.shape) == 4 and min(variable.shape[-2:]) > 1
        is_matrix = mixes and not variable.path.split("/")[-2:][0].endswith("_classes")
        return *super().treatment(variable), is_matrix

    def rule(self, shapes, is_matrix) -> tuple[list, Callable, bool]:
        """Return as `AdamW`."""
        if not is_matrix:
            return super().rule(shapes)
        # Its products are fastest as they are, not compiled.
        return ["momentum"], functools.partial(self._follow_muon, shapes), False

    def _follow_muon(self, shapes, gradient, update, state):
        momentum = self.momentum * state["momentum"] + (1 - self.momentum) * gradient
        ahead = self.momentum * momentum + (1 - self.momentum) * gradient  # Nesterov's
        matrices = [ops.reshape(x, (-1, x.shape[-1])) for x in split(ahead, shapes)]
        directions = [SIZE * math.sqrt(max(x.shape)) * x for x in orthogonalize_matrices(matrices)]
        return flatten(directions), {"momentum": momentum}


def create_optimizer(name: str, learning_rate: float, **options) -> keras.optimizers.Optimizer:
    """Create an optimizer by its name.

    Args:
        name: "adamw" or "muon", or a name of keras.optimizers, such as "adam", which know no
            `encoder_rate`.
        learning_rate, options: of the optimizer.

    Raises:
        ValueError: there is no such optimizer.
    """
    own = {"adamw": AdamW, "muon": Muon}
    if name not in own:
        options.pop("encoder_rate", None)
    kinds = {**{key.lower(): kind for key, kind in vars(keras.optimizers).items()}, **own}
    if not isinstance(kinds.get(name), type):
        raise ValueError(
            'expected an optimizer of "muon", "adamw", a name of keras.optimizers such as "adam", '
            f"or a keras optimizer, received {name!r}"
        )
    return kinds[name](learning_rate, **options)


def flatten(arrays: list):
    """Return arrays one after another as a float32 vector."""
    flat = [ops.reshape(ops.cast(array, "float32"), (-1,)) for array in arrays]
    return ops.concatenate(flat) if len(flat) > 1 else flat[0]


def split(vector, shapes: list) -> list:
    """Return the arrays of these shapes that a vector is made of."""
    sizes = [math.prod(shape) for shape in shapes]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    parts = ops.split(vector, ends) if ends else [vector]
    return [ops.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def orthogonalize_matrices(matrices: list) -> list:
    """Bring the larger singular values of each matrix to about 1, singular vectors as they are.

    On a processor, all that is iterated are products of a matrix with itself: for kernels of
    convolutions, far smaller than the matrices. GPUs and TPUs round such products to fewer digits
    than that bears, and iterate on the matrices.

    Args:
        matrices: list of float32 tensors `(rows, columns)`.

    Returns:
        list of float32 tensors of the same shapes; zeros stay zeros.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
    section "Newton-Schulz"; Bernstein & Newhouse 2024, "Old Optimizer, New Norm".
    """
    are_tall = [x.shape[0] > x.shape[1] for x in matrices]
    if has_accelerator():
        wide = [ops.transpose(x) if tall else x for x, tall in zip(matrices, are_tall, strict=True)]
        turned = _map_stacks(turn_matrices, wide)
        return [ops.transpose(x) if tall else x for x, tall in zip(turned, are_tall, strict=True)]
    squares = [
        ops.matmul(ops.transpose(x), x) if tall else ops.matmul(x, ops.transpose(x))
        for x, tall in zip(matrices, are_tall, strict=True)
    ]
    factors = _map_stacks(_find_factors, squares)
    return [
        ops.matmul(x, factor) if tall else ops.matmul(factor, x)
        for x, factor, tall in zip(matrices, factors, are_tall, strict=True)
    ]


def turn_matrices(x):
    """Iterate on wide matrices `(n, rows, columns)` as published: X ← (a + b S + c S²) X, S = X Xᵀ.

    `orthogonalize_matrices` uses it on GPUs and TPUs.
    """
    sizes = ops.sum(ops.square(x), axis=(1, 2), keepdims=True)
    x = x / ops.sqrt(ops.maximum(sizes, SMALLEST**2))
    for _ in range(TURNS):
        x = ops.matmul(_polynomial(ops.matmul(x, ops.transpose(x, (0, 2, 1)))), x)
    return x


def _find_factors(squares):
    """Return what matrices are multiplied by, (n, side, side), from their products with themselves.

    The polynomials P of all turns commute, so that S ← P S P follows without X.
    """
    sizes = ops.maximum(ops.trace(squares, axis1=1, axis2=2), SMALLEST**2)[:, None, None]
    squares, factors = squares / sizes, None
    for _ in range(TURNS):
        turn = _polynomial(squares)
        factors = turn if factors is None else ops.matmul(turn, factors)
        squares = ops.matmul(turn, ops.matmul(squares, turn))
    return factors / ops.sqrt(sizes)


def _polynomial(square):
    a, b, c = COEFFICIENTS
    return a * ops.eye(square.shape[-1]) + b * square + c * ops.matmul(square, square)


def _map_stacks(function, matrices):
    """Apply a function of stacks to matrices, stacked by shape: fewer operations to compile."""
    members = collections.defaultdict(list)
    for i, x in enumerate(matrices):
        members[tuple(x.shape)].append(i)
    results = list(matrices)
    for indices in members.values():
        stacked = function(ops.stack([matrices[i] for i in indices]))
        for k, i in enumerate(indices):
            results[i] = stacked[k]
    return results
