"""What changes the weights: AdamW, and Muon, which learns more from each step."""

import collections
import functools
import itertools
import math

import keras
from keras import ops

from seglib.losses import compile_on_processor, find_device

# Jordan et al. 2024: a polynomial that brings singular values to about 0.7 to 1.2 in 5 turns, but
# for those below some 0.002.
COEFFICIENTS = 3.4445, -4.7750, 2.0315
TURNS = 5
SMALLEST = 1e-7  # what has a smaller norm makes smaller steps
# Liu et al. 2025, section 2.2: with it a step is as large as AdamW's, at the same learning rate.
SIZE = 0.2


@keras.saving.register_keras_serializable(package="seglib")
class AdamW(keras.optimizers.Optimizer):
    """AdamW whose state is a few long vectors, one for all weights that are treated alike.

    Keras' own makes some 15 small operations for each of a network's 200 arrays: tracing them
    takes longer than fifty training steps.

    Args:
        learning_rate: float or schedule.
        weight_decay: float ≥ 0, share of the learning rate by which kernels shrink a step;
            biases and normalization do not.
        beta_1, beta_2, epsilon: as of `keras.optimizers.AdamW`.
        encoder_rate: float in [0, 1], share of the learning rate by which the weights of a
            pretrained encoder move.
        kwargs: `use_ema`, `ema_momentum`, `gradient_accumulation_steps`, `loss_scale_factor`,
            `name`, as of other optimizers. The average follows closely at first: after t steps
            its momentum is t / (t + 10) at the most.

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
        members = collections.defaultdict(list)  # by how variables are treated
        for index, variable in enumerate(variables):
            in_encoder = any(part.startswith("encoder_") for part in variable.path.split("/"))
            decays = len(variable.shape) > 1 and self._use_weight_decay(variable)
            share, decay = self.encoder_rate if in_encoder else 1.0, self.weight_decay * decays
            members[share, decay, self.is_matrix(variable)].append(index)
        self._groups = []
        for (share, decay, is_matrix), indices in members.items():
            shapes = [variables[i].shape for i in indices]
            names = {"momentum": True, "velocity": not is_matrix}
            names |= {"average": self.use_ema, "gradient_sum": self.gradient_accumulation_steps}
            size = sum(map(math.prod, shapes))
            state = {
                name: self.add_variable((size,), initializer="zeros", dtype="float32", name=name)
                for name, is_used in names.items()
                if is_used
            }
            follow = functools.partial(self.follow_muon, shapes) if is_matrix else self.follow_adam
            update = functools.partial(self._update_vectors, follow, share, decay)
            if not is_matrix:  # Muon's products are fastest as they are, not compiled
                update = compile_on_processor(update)
            self._groups.append((indices, state, update))

    def apply(self, grads, trainable_variables=None):
        """Change the variables by their gradients."""
        if not self.built:
            self.build(list(trainable_variables))
        places = map(self._get_variable_index, trainable_variables or self._trainable_variables)
        known = {i: x for i, x in zip(places, grads, strict=True) if x is not None}
        if not known:
            raise ValueError("no variable has a gradient: is the loss computed from the outputs?")
        rate = ops.cast(self._get_current_learning_rate(), "float32")
        count = self.gradient_accumulation_steps or 1
        step = ops.cast(self._iterations // count, "float32")
        last = ops.equal((self._iterations + 1) % count, 0)
        for indices, state, update in self._groups:
            members = [(i, self._trainable_variables[i]) for i in indices]
            variables = [variable for _, variable in members]
            shapes = [variable.shape for variable in variables]
            gradients = [known[i] if i in known else ops.zeros_like(v) for i, v in members]
            values = {name: variable.value for name, variable in state.items()}
            vectors = flatten(gradients), flatten(variables)
            weights, values = update(*vectors, values, rate, step, last)
            for name, variable in state.items():
                variable.assign(values[name])
            for (i, variable), value in zip(members, split(weights, shapes), strict=True):
                if i in known:
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
        for indices, state, _ in self._groups:
            averages = split(ops.copy(state["average"]), [arrays[i].shape for i in indices])
            for i, average in zip(indices, averages, strict=True):
                arrays[i] = average
        return arrays

    def get_config(self):
        names = ("beta_1", "beta_2", "epsilon", "encoder_rate")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def is_matrix(self, variable) -> bool:
        """Return whether `follow_muon` changes a variable, not `follow_adam`."""
        return False

    def follow_adam(self, gradient, step, state):
        """Return the direction of a step, and the new moments."""
        momentum = self.beta_1 * state["momentum"] + (1 - self.beta_1) * gradient
        velocity = self.beta_2 * state["velocity"] + (1 - self.beta_2) * ops.square(gradient)
        unbiased = ops.sqrt(1 - self.beta_2 ** (step + 1)) / (1 - self.beta_1 ** (step + 1))
        direction = unbiased * momentum / (ops.sqrt(velocity) + self.epsilon)
        return direction, {"momentum": momentum, "velocity": velocity}

    def _update_vectors(self, follow, share, decay, gradient, weights, state, rate, step, last):
        """Return weights and state after a gradient; as they were unless it is the last one."""
        rate = share * rate
        if self.loss_scale_factor is not None:
            gradient = gradient / self.loss_scale_factor
        if self.gradient_accumulation_steps:
            gradient = state["gradient_sum"] + gradient / self.gradient_accumulation_steps
        direction, new = follow(gradient, step, state)
        changed = weights - rate * direction - rate * decay * weights
        if self.use_ema:
            momentum = ops.minimum(self.ema_momentum, step / (step + 10))
            new["average"] = momentum * state["average"] + (1 - momentum) * changed
        if self.gradient_accumulation_steps:
            changed = ops.where(last, changed, weights)
            new = {name: ops.where(last, value, state[name]) for name, value in new.items()}
            new["gradient_sum"] = ops.where(last, 0.0, gradient)
        return changed, new


@keras.saving.register_keras_serializable(package="seglib")
class Muon(AdamW):
    """Muon for the kernels of convolutions, `AdamW` for all other weights.

    The gradient of a convolution has few large singular values. Muon makes all singular values
    of its momentum alike, so that rare features are learned as well. `AdamW` updates depthwise
    kernels and those of layers whose names end in `_classes`, which make logits.

    Args:
        learning_rate: float or schedule, for both.
        momentum: float in [0, 1), of the gradients of convolutions.
        weight_decay, encoder_rate, kwargs: as of `AdamW`, for both.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks";
    Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2.
    """

    def __init__(self, learning_rate=1e-3, *, momentum: float = 0.95, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.momentum = momentum

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}

    def is_matrix(self, variable) -> bool:
        """Return whether a variable is a convolution that mixes channels into no logits."""
        mixes = len(variable.shape) == 4 and min(variable.shape[-2:]) > 1
        return mixes and not variable.path.split("/")[-2:][0].endswith("_classes")

    def follow_muon(self, shapes, gradient, step, state):
        """Return the direction of a step for matrices of these shapes, and the new momentum."""
        momentum = self.momentum * state["momentum"] + (1 - self.momentum) * gradient
        ahead = self.momentum * momentum + (1 - self.momentum) * gradient  # Nesterov's
        matrices = [ops.reshape(x, (-1, x.shape[-1])) for x in split(ahead, shapes)]
        directions = [SIZE * math.sqrt(max(x.shape)) * x for x in orthogonalize_matrices(matrices)]
        return flatten(directions), {"momentum": momentum}


def flatten(arrays: list):
    """Return arrays one after another as a float32 vector."""
    flat = [ops.reshape(ops.cast(array, "float32"), (-1,)) for array in arrays]
    return ops.concatenate(flat) if len(flat) > 1 else flat[0]


def split(vector, shapes: list) -> list:
    """Return the arrays of these shapes that a vector is made of."""
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    parts = ops.split(vector, ends[:-1]) if len(shapes) > 1 else [vector]
    return [ops.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def orthogonalize_matrices(matrices: list) -> list:
    """Bring the larger singular values of each matrix to about 1, singular vectors as they are.

    On a processor, only products of a matrix with itself are iterated: for kernels of convolutions
    they are far smaller than the matrix. GPUs and TPUs round products to too few digits for that.
    Matrices of one shape are stacked: fewer operations to compile.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
    section "Newton-Schulz"; Bernstein & Newhouse 2024, "Old Optimizer, New Norm".
    """
    if find_device()[0] != "cpu":
        return _map_stacks(turn_matrices, matrices)
    are_tall = [x.shape[0] > x.shape[1] for x in matrices]
    squares = [
        ops.matmul(ops.transpose(x), x) if is_tall else ops.matmul(x, ops.transpose(x))
        for x, is_tall in zip(matrices, are_tall, strict=True)
    ]
    factors = _map_stacks(_find_factors, squares)
    return [
        ops.matmul(x, factor) if is_tall else ops.matmul(factor, x)
        for x, factor, is_tall in zip(matrices, factors, are_tall, strict=True)
    ]


def turn_matrices(x):
    """Iterate on matrices `(n, rows, columns)` as published: X ← (a + b S + c S²) X, S = X Xᵀ."""
    if x.shape[1] > x.shape[2]:
        return ops.swapaxes(turn_matrices(ops.swapaxes(x, 1, 2)), 1, 2)
    sizes = ops.sum(ops.square(x), axis=(1, 2), keepdims=True)
    x = x / ops.sqrt(ops.maximum(sizes, SMALLEST**2))
    for _ in range(TURNS):
        x = ops.matmul(_polynomial(ops.matmul(x, ops.swapaxes(x, 1, 2))), x)
    return x


def _find_factors(squares):
    """Return the Newton-Schulz factor (n, side, side) of each matrix X, given S = X Xᵀ.

    All polynomials P of S commute, so S is updated as P S P, and X is not needed.
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
    """Apply a function of stacks to matrices, stacked by shape."""
    members, results = collections.defaultdict(list), list(matrices)
    for i, x in enumerate(matrices):
        members[tuple(x.shape)].append(i)
    for indices in members.values():
        stacked = function(ops.stack([matrices[i] for i in indices]))
        for k, i in enumerate(indices):
            results[i] = stacked[k]
    return results
