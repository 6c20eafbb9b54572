"""Adam with decoupled weight decay, on all weights at once."""

import collections
import collections.abc
import functools
import math
import typing

import keras
from keras import ops

from seglib.losses import compile_on_processor

UNKNOWN = ("clipnorm", "clipvalue", "global_clipnorm", "ema_overwrite_frequency")


@keras.saving.register_keras_serializable(package="seglib")
class AdamW(keras.optimizers.Optimizer):
    """AdamW whose state is a few long vectors, in place of some for each weight.

    Keras' own makes some 15 small operations for each of a network's 200 arrays: tracing them
    takes longer than fifty training steps. Here weights that are treated alike are one vector.

    Args:
        learning_rate: float or schedule.
        weight_decay: float ≥ 0, share of the learning rate by which kernels shrink a step;
            biases and normalization do not.
        beta_1, beta_2, epsilon: as of `keras.optimizers.AdamW`.
        encoder_rate: float in [0, 1], share of the learning rate by which the weights of a
            pretrained encoder move.
        keep_zeros: bool. True leaves kernels' weights that are exactly 0 at 0, such as those of
            `seglib.prune_magnitudes`.
        kwargs: `use_ema`, `ema_momentum`, `gradient_accumulation_steps`, `loss_scale_factor`,
            `name`, as of other optimizers. The average follows closely at first: after t steps
            its momentum is t / (t + 10) at the most.

    Raises:
        ValueError: a number is out of range.

    Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    """

    def __init__(
        self,
        learning_rate=1e-3,
        *,
        weight_decay=0.0,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        encoder_rate=1.0,
        keep_zeros=False,
        **kwargs,
    ):
        if not 0 <= encoder_rate <= 1:
            raise ValueError(f"expected an encoder_rate in [0, 1], received {encoder_rate}")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"expected a weight_decay ≥ 0, received {weight_decay}")
        given = [name for name in UNKNOWN if kwargs.get(name) is not None]
        if given:
            raise ValueError(f"{given[0]} is not known here: use keras.optimizers.AdamW")
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.encoder_rate, self.keep_zeros = encoder_rate, keep_zeros

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
            members[self._treatment(variable)].append(index)
        self._groups = tuple(
            self._create_group(variables, indices, *treatment)
            for treatment, indices in members.items()
        )

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
        for group in self._groups:
            variables = [self._trainable_variables[i] for i in group.indices]
            parts = [grads[i] for i in group.indices]
            gradient = flatten([_fill(*pair) for pair in zip(parts, variables, strict=True)])
            states = [variable.value for variable in group.state]
            weights, *states = group.update(
                gradient, ops.cast(last, "bool"), ops.cast(update, "float32"), group.share * rate,
                group.share * rate * group.decay, flatten(variables), *states,
            )  # fmt: skip
            for variable, value in zip(group.state, states, strict=True):
                variable.assign(value)
            weights = split(weights, [variable.shape for variable in variables])
            for part, variable, value in zip(parts, variables, weights, strict=True):
                if part is not None:
                    variable.assign(value)
                if variable.constraint is not None:
                    variable.assign(variable.constraint(variable))
        self._iterations.assign_add(1)

    def finalize_variable_values(self, var_list):
        """Leave the weights as they are at the end of a `fit`, unlike Keras: it may go on."""

    def averages(self):
        """Return the averaged weights as a list of arrays, in the order of the variables."""
        if not int(ops.convert_to_numpy(self.iterations)):  # no update has been averaged yet
            return [ops.convert_to_tensor(variable) for variable in self._trainable_variables]
        arrays = [None] * len(self._trainable_variables)
        for group in self._groups:
            shapes = [self._trainable_variables[i].shape for i in group.indices]
            average = ops.copy(group.state[group.num_moments])
            for i, array in zip(group.indices, split(average, shapes), strict=True):
                arrays[i] = array
        return arrays

    def get_config(self):
        names = ("beta_1", "beta_2", "epsilon", "encoder_rate", "keep_zeros")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _treatment(self, variable):
        """A variable's share of the learning rate, its decay, and whether its zeros stay."""
        in_encoder = any(part.startswith("encoder_") for part in variable.path.split("/"))
        is_kernel = len(variable.shape) > 1
        share = self.encoder_rate if in_encoder else 1.0
        decays = is_kernel and self._use_weight_decay(variable)
        return share, self.weight_decay * decays, self.keep_zeros and is_kernel

    def _create_group(self, variables, indices, share, decay, keeps_zeros, *kind):
        """The vectors and the rule of variables that are treated alike."""
        names, rule, compiles = self._rule([variables[i].shape for i in indices], *kind)
        count = len(names)
        names += ["average"] * bool(self.use_ema)
        names += ["gradient_sum"] * bool(self.gradient_accumulation_steps)
        size = sum(math.prod(variables[i].shape) for i in indices)
        state = tuple(
            self.add_variable((size,), initializer="zeros", dtype="float32", name=name)
            for name in names
        )
        update = functools.partial(self._update_vectors, rule, keeps_zeros)
        update = compile_on_processor(update) if compiles else update
        return _Group(share, decay, tuple(indices), state, count, update)

    def _rule(self, shapes):
        """Names of the moments, the function that makes a direction of them, and if it compiles."""
        return ["momentum", "velocity"], self._follow_adam, True

    def _follow_adam(self, gradient, update, momentum, velocity):
        momentum = self.beta_1 * momentum + (1 - self.beta_1) * gradient
        velocity = self.beta_2 * velocity + (1 - self.beta_2) * ops.square(gradient)
        unbiased = ops.sqrt(1 - self.beta_2 ** (update + 1)) / (1 - self.beta_1 ** (update + 1))
        return unbiased * momentum / (ops.sqrt(velocity) + self.epsilon), momentum, velocity

    def _update_vectors(self, rule, keeps_zeros, gradient, last, update, rate, decay, *vectors):
        """Return weights and state after a gradient; as they were unless it is the last one."""
        if self.loss_scale_factor is not None:
            gradient = gradient / self.loss_scale_factor
        old = list(vectors)
        if self.gradient_accumulation_steps:
            gradient = old.pop() + gradient / self.gradient_accumulation_steps
        weights, *moments = old
        if keeps_zeros:  # with no gradient, they turn no other weight's direction
            gradient = ops.where(weights == 0, 0.0, gradient)
        average = moments.pop() if self.use_ema else None
        direction, *moments = rule(gradient, update, *moments)
        changed = weights - rate * direction - decay * weights
        if keeps_zeros:
            changed = ops.where(weights == 0, 0.0, changed)
        new = [changed, *moments]
        if self.use_ema:
            share = ops.minimum(self.ema_momentum, update / (update + 10))
            new.append(share * average + (1 - share) * changed)
        if self.gradient_accumulation_steps:
            new = [ops.where(last, now, before) for now, before in zip(new, old, strict=True)]
            new.append(ops.where(last, 0.0, gradient))
        return new


class _Group(typing.NamedTuple):
    """Variables that are treated alike, as vectors."""

    share: float  # of the learning rate
    decay: float
    indices: tuple
    state: tuple  # of variables: moments, average, sum of gradients
    num_moments: int
    update: collections.abc.Callable


def _fill(gradient, variable):
    return ops.zeros(variable.shape) if gradient is None else gradient


def flatten(arrays):
    """Return arrays one after another as a float32 vector."""
    flat = [ops.reshape(ops.cast(array, "float32"), (-1,)) for array in arrays]
    return ops.concatenate(flat) if len(flat) > 1 else flat[0]


def split(vector, shapes):
    """Return the arrays of these shapes that a vector is made of."""
    sizes = [math.prod(shape) for shape in shapes]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    parts = ops.split(vector, ends) if ends else [vector]
    return [ops.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
