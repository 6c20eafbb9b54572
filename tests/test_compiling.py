import keras
import numpy as np
import pytest

from seglib.compiling import CompiledLoss, compile_on_processor
from seglib.losses import CrossEntropyDice, Focal, LovaszSoftmax, Tversky


def test_a_compiled_function_gives_the_same():
    double = compile_on_processor(lambda x: 2 * x + 1)
    np.testing.assert_array_equal(double(keras.ops.arange(3)), [1, 3, 5])


@pytest.mark.parametrize(
    "loss",
    [CrossEntropyDice([1, 2, 0.5, 1], ignore_label=3), Focal(ignore_label=3),
     Tversky(3, gamma=4 / 3), LovaszSoftmax(3)],
    ids=lambda loss: loss.name,
)  # fmt: skip
def test_a_compiled_loss_teaches_the_same(loss):
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 8, 8, 3)).astype(np.float32)
    labels = random.integers(0, 4, (2, 8, 8)).astype(np.uint8)
    weights, values = [], []
    for choice in (loss, CompiledLoss(loss)):
        model = keras.Sequential(
            [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, padding="same")]
        )
        model.set_weights([np.full(w.shape, 0.1) for w in model.weights])
        model.compile(keras.optimizers.SGD(1.0), choice)
        values.append(model.train_on_batch(images, labels))
        weights.append(model.get_weights())
    np.testing.assert_allclose(*values, rtol=1e-5)
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
