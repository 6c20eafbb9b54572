import keras
import numpy as np
import pytest
from keras_checks import check_layer

from seglib import normalization
from seglib.normalization import BatchNormalization

MAPS = np.random.default_rng(0).normal(3, 2, (4, 6, 5, 8)).astype(np.float32)


def create_pair(**options):
    """The layer and Keras' own, with the same random numbers in it."""
    pair = [
        cls(momentum=0.8, **options)
        for cls in (BatchNormalization, keras.layers.BatchNormalization)
    ]
    random = np.random.default_rng(1)
    for layer in pair:
        layer.build(MAPS.shape)
    numbers = [random.uniform(0.5, 2, weight.shape) for weight in pair[0].weights]
    for layer in pair:
        layer.set_weights(numbers)
    return pair


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("is_fused_badly", [True, False])
def test_values_and_averages_are_those_of_keras(training, trainable, is_fused_badly, monkeypatch):
    monkeypatch.setattr(normalization, "_is_fused_badly", lambda: is_fused_badly)
    pair = create_pair(epsilon=1e-3)
    answers = []
    for layer in pair:
        layer.trainable = trainable
        answers.append(keras.ops.convert_to_numpy(layer(MAPS, training=training)))
    np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-5)
    mean, variance = (layer.get_weights()[2:] for layer in pair)
    np.testing.assert_allclose(mean[0], variance[0], rtol=1e-5)
    # The fused operation averages the unbiased variance, over n - 1 of the n pixels.
    np.testing.assert_allclose(mean[1], variance[1], rtol=1 / (MAPS[..., 0].size - 1))


def test_gradients_are_those_of_keras():
    weights = []
    for layer in create_pair():
        model = keras.Sequential([keras.Input(MAPS.shape[1:]), keras.layers.Conv2D(8, 1), layer])
        model.layers[0].set_weights([np.eye(8)[None, None], np.zeros(8)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(MAPS, np.flip(MAPS, axis=0))
        weights.append(model.get_weights()[:4])
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_it_keeps_the_contract(tmp_path):
    check_layer(BatchNormalization(), MAPS, tmp_path=tmp_path)


@pytest.mark.parametrize(
    "options",
    [{"scale": False}, {"center": False}, {"axis": 1}, {"dtype": "float16"}, {"dtype": "float64"}],
)
def test_options_that_the_operation_does_not_know_are_those_of_keras(options):
    if keras.backend.backend() == "jax" and options.get("dtype") == "float64":
        pytest.skip("JAX has no float64 unless it is told to")
    layers = BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    answers = [keras.ops.convert_to_numpy(layer(MAPS, training=True)) for layer in layers]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("is_fused_badly", [True, False])
def test_low_precision_stays_low_without_learning(is_fused_badly, monkeypatch):
    monkeypatch.setattr(normalization, "_is_fused_badly", lambda: is_fused_badly)
    layers = create_pair()[0], BatchNormalization(dtype="mixed_bfloat16")
    layers[1].build(MAPS.shape)
    layers[1].set_weights(layers[0].get_weights())
    answers = [layer(MAPS, training=False) for layer in layers]
    assert keras.backend.standardize_dtype(answers[1].dtype) == "bfloat16"
    answers = [keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in answers]
    np.testing.assert_allclose(*answers, rtol=0.02, atol=0.05)


def test_low_precision_stays_low_on_the_way_and_keeps_its_averages_in_float32():
    layer = BatchNormalization(dtype="mixed_bfloat16")
    answer = layer(MAPS, training=True)
    assert keras.backend.standardize_dtype(answer.dtype) == "bfloat16"
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    expected = (MAPS - MAPS.mean((0, 1, 2))) / np.sqrt(MAPS.var((0, 1, 2)) + layer.epsilon)
    answer = keras.ops.convert_to_numpy(keras.ops.cast(answer, "float32"))
    np.testing.assert_allclose(answer, expected, atol=0.03)
