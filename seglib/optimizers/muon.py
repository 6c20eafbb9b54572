"""Muon: steps of the same size in every direction of a convolution's weights."""

import collections
import math

import keras
from keras import ops

from seglib.losses import has_accelerator
from seglib.optimizers.adamw import AdamW, flatten, split

# Jordan 2024: a polynomial that brings singular values to about 0.7 to 1.2 in 5 turns, but for
# those below some 0.002.
COEFFICIENTS = 3.4445, -4.7750, 2.0315
TURNS = 5
SMALLEST = 1e-7  # what has a smaller norm makes smaller steps
# Liu et al. 2025, section 2.2: with it a step is as large as AdamW's, at the same learning rate.
SIZE = 0.2


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
        weight_decay, encoder_rate, keep_zeros, kwargs: as of `AdamW`, for both.

    Raises:
        ValueError: a number is out of range.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks";
    Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2.
    """

    def __init__(self, learning_rate=1e-3, *, momentum=0.95, **kwargs):
        if not 0 <= momentum < 1:
            raise ValueError(f"expected a momentum in [0, 1), received {momentum}")
        super().__init__(learning_rate, **kwargs)
        self.momentum = momentum

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}

    def _treatment(self, variable):
        return *super()._treatment(variable), _is_matrix(variable)

    def _rule(self, shapes, is_matrix):
        if not is_matrix:
            return super()._rule(shapes)

        def follow_muon(gradient, update, momentum):
            momentum = self.momentum * momentum + (1 - self.momentum) * gradient
            ahead = self.momentum * momentum + (1 - self.momentum) * gradient  # Nesterov's
            matrices = [ops.reshape(x, (-1, x.shape[-1])) for x in split(ahead, shapes)]
            directions = [
                SIZE * math.sqrt(max(x.shape)) * x for x in orthogonalize_matrices(matrices)
            ]
            return flatten(directions), momentum

        return ["momentum"], follow_muon, False  # its products are fastest as they are


def orthogonalize_matrices(matrices):
    """Bring the larger singular values of each matrix to about 1, singular vectors as they are.

    On a processor, all that is iterated are products of a matrix with itself, stacked where they
    are of one size: for kernels of convolutions, far smaller than the matrices. GPUs and TPUs
    round such products to fewer digits than that bears, and iterate on the matrices, stacked too.

    Args:
        matrices: list of float32 tensors `(rows, columns)`.

    Returns:
        list of float32 tensors of the same shapes; zeros stay zeros.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
    section "Newton-Schulz"; Bernstein & Newhouse 2024, "Old Optimizer, New Norm".
    """
    if has_accelerator():
        return _turn_matrices(matrices)
    squares = [_square(x) for x in matrices]
    members = collections.defaultdict(list)
    for i, square in enumerate(squares):
        members[square.shape[0]].append(i)
    factors = {}
    for indices in members.values():
        stacked = _find_factors(ops.stack([squares[i] for i in indices]))
        factors |= {i: stacked[k] for k, i in enumerate(indices)}
    return [_multiply(factors[i], x) for i, x in enumerate(matrices)]


def _turn_matrices(matrices):
    """The iteration on wide matrices, stacked by size; zeros fill them up, and stay zeros.

    One by one, a network's are some thousand small products, which XLA compiles for minutes.
    """
    wide = [ops.transpose(x) if _is_tall(x) else x for x in matrices]
    members = collections.defaultdict(list)
    for i, x in enumerate(wide):
        members[tuple(1 << (side - 1).bit_length() for side in x.shape)].append(i)
    turned = {}
    for (rows, columns), indices in members.items():
        gaps = [((0, rows - wide[i].shape[0]), (0, columns - wide[i].shape[1])) for i in indices]
        filled = [ops.pad(wide[i], gap) for i, gap in zip(indices, gaps, strict=True)]
        stacked = _turn_stacked(ops.stack(filled))
        for k, i in enumerate(indices):
            x = stacked[k, : wide[i].shape[0], : wide[i].shape[1]]
            turned[i] = ops.transpose(x) if _is_tall(matrices[i]) else x
    return [turned[i] for i in range(len(matrices))]


def _turn_stacked(x):
    """The iteration as published: X ← (a + b S + c S²) X with S = X Xᵀ."""
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


def _square(x):
    return ops.matmul(ops.transpose(x), x) if _is_tall(x) else ops.matmul(x, ops.transpose(x))


def _multiply(factor, x):
    return ops.matmul(x, factor) if _is_tall(x) else ops.matmul(factor, x)


def _is_tall(x):
    return x.shape[0] > x.shape[1]


def _is_matrix(variable):
    """Whether it is the kernel of a convolution that mixes channels, but makes no logits."""
    mixes = len(variable.shape) == 4 and min(variable.shape[-2:]) > 1
    return mixes and not variable.path.split("/")[-2:][0].endswith("_classes")
