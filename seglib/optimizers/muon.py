"""Muon: steps of the same size in every direction of a convolution's weights."""

import collections
import math

import keras
from keras import ops

from seglib.optimizers.adamw import AdamW, flatten, split

# Jordan 2024: a polynomial that takes singular values from (0, 1] to about 0.7 to 1.2 in 5 turns.
COEFFICIENTS = 3.4445, -4.7750, 2.0315
TURNS = 5
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

        return ["momentum"], follow_muon


def orthogonalize_matrices(matrices):
    """Bring the singular values of each matrix close to 1, its singular vectors as they are.

    All that is iterated are products of a matrix with itself, stacked where they are of one
    size: for kernels of convolutions, far smaller than the matrices.

    Args:
        matrices: list of float32 tensors `(rows, columns)`.

    Returns:
        list of float32 tensors of the same shapes; zeros stay zeros.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
    section "Newton-Schulz"; Bernstein & Newhouse 2024, "Old Optimizer, New Norm".
    """
    squares = [_square(x) for x in matrices]
    members = collections.defaultdict(list)
    for i, square in enumerate(squares):
        members[square.shape[0]].append(i)
    roots = {}
    for indices in members.values():
        factors = _find_factors(ops.stack([squares[i] for i in indices]))
        roots |= {i: factors[k] for k, i in enumerate(indices)}
    return [
        ops.matmul(x, roots[i]) if _is_tall(x) else ops.matmul(roots[i], x)
        for i, x in enumerate(matrices)
    ]


def _find_factors(squares):
    """Return what matrices are multiplied by, (n, side, side), from their products with themselves.

    A turn is X ← (a + b S + c S²) X with S = X Xᵀ. The factors are polynomials of S and commute,
    so that S ← P S P follows without X.
    """
    a, b, c = COEFFICIENTS
    sizes = ops.maximum(ops.trace(squares, axis1=1, axis2=2), 1e-30)[:, None, None]
    squares = squares / sizes
    unit, factors = ops.eye(squares.shape[-1]), None
    for _ in range(TURNS):
        turn = a * unit + b * squares + c * ops.matmul(squares, squares)
        factors = turn if factors is None else ops.matmul(turn, factors)
        squares = ops.matmul(turn, ops.matmul(squares, turn))
    return factors / ops.sqrt(sizes)


def _square(x):
    return ops.matmul(ops.transpose(x), x) if _is_tall(x) else ops.matmul(x, ops.transpose(x))


def _is_tall(x):
    return x.shape[0] > x.shape[1]


def _is_matrix(variable):
    """Whether a variable is the kernel of a convolution that mixes channels, but makes no logits."""
    layer = variable.path.split("/")[-2:][0]
    rows, columns = math.prod(variable.shape[:-1]), (variable.shape or (1,))[-1]
    is_convolution = len(variable.shape) == 4 and min(rows, columns) > 1
    return is_convolution and not layer.endswith("_classes")
