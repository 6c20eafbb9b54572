"""The contract that every Keras layer and loss of seglib keeps, checked in one call."""

import keras
import numpy as np

from seglib.models import create_model


def compute(model, x):
    """What a model or layer answers, as NumPy arrays; eagerly: tracing takes longer than a call."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))


def score(model, x):
    """Logits of the last output."""
    return keras.tree.flatten(compute(model, x))[-1]


def create_small(name="unetpp", shape=(32, 32, 3), num_classes=3, *, width=1, **options):
    """A network with a few channels, times `width`."""
    few = {"filters": np.multiply(width, (4, 6) if "unet" in name else (4, 4, 6, 6, 8)).tolist()}
    few |= {"deeplabv3plus": {"aspp_filters": 8 * width}, "fcn": {"hidden": 8 * width}}.get(
        name, {}
    )
    return create_model(name, shape, num_classes=num_classes, **{**few, **options})


def random_images(*shape, seed=0):
    """uint8 pictures of noise."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def assert_same(first, second, **tolerance):
    """Compare lists of arrays, bit for bit where there is no tolerance."""
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), **{"rtol": 0, **tolerance})


def check_layer(layer, *inputs, tmp_path):
    """Config round trip, save and load, symbolic and eager shapes, a training step, precision."""
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    expected = keras.ops.convert_to_numpy(layer(*inputs))
    assert tuple(layer.compute_output_shape(*[array.shape for array in inputs])) == expected.shape

    symbolic = [keras.Input(array.shape[1:]) for array in inputs]
    scaled = keras.layers.Conv2D(inputs[0].shape[-1], 1)(symbolic[0])
    model = keras.Model(symbolic, copy(scaled, *symbolic[1:]))
    assert model.output_shape[1:] == expected.shape[1:]
    model.compile("sgd", "mse", run_eagerly=True)
    before = model.get_weights()
    model.train_on_batch(list(inputs), np.ones_like(expected))
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))

    model.save(tmp_path / "layer.keras")
    loaded = keras.saving.load_model(tmp_path / "layer.keras", safe_mode=True)
    np.testing.assert_array_equal(*(compute(m, list(inputs)) for m in (model, loaded)))
    mixed = type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})
    answer = keras.ops.cast(mixed(*inputs), "float32")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(answer), expected, rtol=0.02)


def check_loss(loss, y_true, logits):
    """Config round trip, the shapes of truth, low precision, extreme logits, gradient steps."""
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert copy.get_config() == loss.get_config()
    value = float(loss(y_true, logits))
    assert float(copy(y_true, logits)) == float(loss(y_true[..., None], logits)) == value
    for dtype in ("bfloat16", "float16"):
        low = float(loss(y_true, keras.ops.cast(logits, dtype)))
        np.testing.assert_allclose(low, value, rtol=0.02, atol=0.02)
    assert np.isfinite(float(loss(y_true, 1e4 * logits)))

    inputs = keras.Input(logits.shape[1:])
    dense = keras.layers.Dense(logits.shape[-1], kernel_initializer="identity")
    model = keras.Model(inputs, dense(inputs))
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    losses = [float(model.train_on_batch(logits, y_true)) for _ in range(3)]
    assert losses[-1] < losses[0] < np.inf
