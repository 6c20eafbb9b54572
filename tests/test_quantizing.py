"""Convolutions that round their weights and maps, and models that are trained with them."""

import keras
import numpy as np
import pytest
from keras_checks import check_layer
from small_runs import assert_same_weights, make_dataset, make_model
from test_architectures import create, images, score

import seglib
from seglib.models import Rounded, set_precision
from seglib.models.listing import MODELS

DRAW = {"kernel_initializer": keras.initializers.RandomUniform(0.1, 1, seed=0)}
LAYERS = {
    "conv": lambda: keras.layers.Conv2D(4, 3, padding="same", **DRAW),
    "depthwise": lambda: keras.layers.DepthwiseConv2D(
        3, padding="same", depthwise_initializer=DRAW["kernel_initializer"]
    ),
    "transpose": lambda: keras.layers.Conv2DTranspose(4, 2, strides=2, use_bias=False, **DRAW),
    "dense": lambda: keras.layers.Dense(4, **DRAW),
}


def round_like_int8(kernel, channel_axis, bits):
    """Each channel by itself, in a loop."""
    rounded = np.empty_like(kernel)
    for n in range(kernel.shape[channel_axis]):
        place = [slice(None)] * kernel.ndim
        place[channel_axis] = n
        step = np.abs(kernel[tuple(place)]).max() / (2 ** (bits - 1) - 1)
        rounded[tuple(place)] = np.round(kernel[tuple(place)] / step) * step
    return rounded


@pytest.mark.parametrize("kind", LAYERS)
def test_keeps_the_contract_of_layers(kind, tmp_path):
    x = np.random.default_rng(0).uniform(0.1, 1, (2, 8, 8, 4)).astype("float32")
    check_layer(Rounded(LAYERS[kind]()), x, tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("kind", "axis"), [("conv", 3), ("depthwise", 2), ("transpose", 2), ("dense", 1)]
)
@pytest.mark.parametrize("bits", [3, 7])
def test_computes_with_weights_and_maps_on_a_grid(kind, axis, bits):
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    layer = Rounded(LAYERS[kind](), bits=bits + 1, kernel_bits=bits)
    layer.build(x.shape)
    plain = LAYERS[kind]()
    plain.build(x.shape)
    kernel, *others = layer.get_weights()
    plain.set_weights([round_like_int8(kernel, axis, bits), *others])
    step = (max(x.max(), 0) - min(x.min(), 0)) / (2 ** (bits + 1) - 1)
    expected = keras.ops.convert_to_numpy(plain(np.round(x / step) * step))
    np.testing.assert_allclose(layer(x), expected, atol=1e-4)


def test_zero_stays_zero_and_an_empty_map_is_no_matter():
    layer = Rounded(keras.layers.Conv2D(2, 1, use_bias=False))
    assert (keras.ops.convert_to_numpy(layer(np.zeros((1, 4, 4, 3), "float32"))) == 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_any_model_is_simulated_and_plain_again(name):
    model = create(name, attention="cbam")
    simulated = seglib.simulate_int8(model)
    assert sum(isinstance(layer, Rounded) for layer in simulated.layers) > 5
    assert_same_weights(model, simulated)
    plain = seglib.drop_int8(simulated)
    assert [type(layer) for layer in plain.layers] == [type(layer) for layer in model.layers]
    x = images(2, 32, 32)
    expected = score(model, x)
    np.testing.assert_array_equal(score(plain, x), expected)
    difference = np.abs(score(simulated, x) - expected)
    assert 0 < difference.mean() < 0.1 * np.abs(expected).mean() + 0.02


def test_a_plain_model_is_refused():
    with pytest.raises(ValueError, match="simulate_int8"):
        seglib.drop_int8(make_model())


def test_what_rounds_is_neither_pruned_nor_exported(tmp_path):
    model = seglib.simulate_int8(make_model())
    for use in (
        lambda: seglib.prune_channels(model, 0.5),
        lambda: seglib.prune_magnitudes(model, 0.5),
        lambda: seglib.export(model, tmp_path / "export", format="keras"),
    ):
        with pytest.raises(ValueError, match="drop_int8"):
            use()


def test_it_stays_in_float32():
    model = seglib.simulate_int8(make_model())
    set_precision(model, "mixed_bfloat16")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


@pytest.mark.long
def test_training_learns_to_bear_the_rounding(tmp_path):
    """With so few bits of the kernels that it shows: it spoils a model, and training mends it."""
    data = make_dataset()
    model = make_model()
    seglib.train(model, data, run_dir=tmp_path / "plain", epochs=30, learning_rate=2e-2)
    rounded = seglib.simulate_int8(model)
    for layer in rounded.layers:
        if isinstance(layer, Rounded):
            layer.kernel_bits = 2

    def measure(tested):
        y_true, logits = data.train.labels[:], tested(data.train.images[:])
        return float(
            seglib.CrossEntropyDice(ignore_label=data.classes.ignore_label)(y_true, logits)
        )

    plain, before = measure(model), measure(rounded)
    assert before > 1.2 * plain
    run = seglib.train(rounded, data, run_dir=tmp_path / "rounded", epochs=20, learning_rate=2e-3)
    assert measure(rounded) < plain + (before - plain) / 10
    loaded = seglib.load_model(run.run_dir)  # in safe mode, with the layers in it
    assert any(isinstance(layer, Rounded) for layer in loaded.layers)
    assert not any(isinstance(layer, Rounded) for layer in seglib.drop_int8(loaded).layers)
