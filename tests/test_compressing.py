import keras
import numpy as np
import pytest
from keras_checks import assert_same, create_small, random_images, score

from seglib.compressing import Rounded, drop_int8, prune_channels, simulate_int8
from seglib.models import set_precision


@pytest.fixture(scope="module")
def wide():
    """A U-Net++ whose normalization has something to tell channels apart by."""
    model = create_small(filters=(16, 32, 64))
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(random.uniform(-0.5, 0.5, layer.beta.shape))
    return model


def test_channels_stay_in_eights(wide):
    for keep in (0.3, 0.75, 1.0):
        pruned = prune_channels(wide, keep)
        shrunk = 0
        for layer in wide.layers:
            if isinstance(layer, keras.layers.Conv2D) and not layer.name.endswith("_classes"):
                before, after = layer.filters, pruned.get_layer(layer.name).filters
                assert after % 8 == 0
                assert 0 <= after - keep * before < 8 + 4
                shrunk += after < before
        assert (shrunk > 5) == (keep < 1)
        assert (pruned.name, pruned.output_shape) == ("unetpp", wide.output_shape)
    assert_same(pruned.get_weights(), wide.get_weights())


def test_the_channels_of_least_energy_and_outgoing_weight_go(wide):
    """Energy: the mean square after ReLU of normally distributed values, here by drawing them."""
    norm = wide.get_layer("x_2_0_a_norm")
    beta, gamma = np.asarray(norm.beta), np.asarray(norm.gamma)
    values = np.random.default_rng(0).normal(beta, gamma, (100_000, 64))
    energy = np.mean(np.maximum(values, 0) ** 2, axis=0)
    heard = np.square(np.asarray(wide.get_layer("x_2_0_b_conv").kernel)).sum(axis=(0, 1, 3))
    expected = np.argsort(-np.sqrt(energy) * heard)[:32]
    kept = np.asarray(prune_channels(wide, 0.5).get_layer("x_2_0_a_norm").gamma)
    assert np.isin(gamma[expected], kept).sum() >= 31  # where two are all but alike


def test_silent_channels_go_first_and_change_nothing():
    """Half of each convolution is silent: the half-sized network answers the same."""
    model = create_small(filters=(16, 32))
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            random = np.random.default_rng(len(weights[0]))
            silent = random.permutation(len(weights[0]))[::2]
            weights[0][silent], weights[1][silent] = 0, -1  # 0 after normalization and ReLU
        elif "_up" in layer.name:  # it has no normalization: silent by its kernel
            weights[0][:, :, ::2] = 0
        layer.set_weights(weights)
    pruned = prune_channels(model, 0.5)
    assert pruned.count_params() < 0.3 * model.count_params()
    x = random_images(2, 32, 32)
    np.testing.assert_allclose(score(model, x), score(pruned, x), atol=1e-4)


def test_a_pretrained_encoder_is_pruned_between_its_sums():
    model = create_small(shape=(64, 64, 3), width=4, encoder="efficientnet_lite0", frozen_rows=1)
    pruned = prune_channels(model, 0.5)
    for layer in model.layers:
        if layer.name.endswith("_expand_conv"):
            assert pruned.get_layer(layer.name).filters <= layer.filters / 2 + 8
        if layer.name.endswith("_project_conv") and "block_2_" in layer.name:
            assert pruned.get_layer(layer.name).filters == layer.filters  # it is added to
    assert pruned.count_params() < 0.7 * model.count_params()
    assert all(layer.trainable for layer in pruned.layers)
    assert score(pruned, random_images(1, 64, 64)).shape == (1, 64, 64, 3)


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("unet", "fcn", "segnet")]


@pytest.mark.parametrize("name", ["unetpp", "deeplabv3plus", *LONG])
def test_each_network_is_pruned_and_simulated_and_plain_again(name):
    options = {"attention": "cbam"} if "unet" in name else {}
    model, x = create_small(name, width=4, **options), random_images(1, 32, 32)
    pruned = prune_channels(model, 0.5)
    assert pruned.count_params() < model.count_params()
    assert score(pruned, x).shape == (1, 32, 32, 3)
    simulated = simulate_int8(model)
    assert sum(isinstance(layer, Rounded) for layer in simulated.layers) > 5
    set_precision(simulated, "mixed_bfloat16")  # which would round before it does
    assert {layer.compute_dtype for layer in simulated.layers} == {"float32"}
    plain = drop_int8(simulated)
    assert [type(layer) for layer in plain.layers] == [type(layer) for layer in model.layers]
    expected = score(model, x)
    np.testing.assert_array_equal(score(plain, x), expected)
    difference = np.abs(score(simulated, x) - expected)
    assert 0 < difference.mean() < 0.1 * np.abs(expected).mean() + 0.02


DRAW = {"kernel_initializer": keras.initializers.RandomUniform(0.1, 1, seed=0)}
LAYERS = [  # and the axis of their output channels
    (keras.layers.Conv2D(4, 3, padding="same", **DRAW), 3),
    (keras.layers.DepthwiseConv2D(3, padding="same"), 2),
    (keras.layers.Conv2DTranspose(4, 2, 2, use_bias=False, **DRAW), 2),
    (keras.layers.Dense(4, **DRAW), 1),
]


@pytest.mark.parametrize(("plain", "axis"), LAYERS, ids=lambda x: getattr(x, "name", ""))
def test_rounding_puts_weights_and_maps_on_a_grid(plain, axis):
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    layer = Rounded(plain.from_config(plain.get_config()), bits=4, kernel_bits=3)
    layer.build(x.shape)
    plain.build(x.shape)
    kernel, *others = layer.get_weights()
    axes = tuple(set(range(kernel.ndim)) - {axis})
    steps = np.abs(kernel).max(axis=axes, keepdims=True) / (2**2 - 1)
    plain.set_weights([np.round(kernel / steps) * steps, *others])
    step = (max(x.max(), 0) - min(x.min(), 0)) / (2**4 - 1)
    np.testing.assert_allclose(layer(x), plain(np.round(x / step) * step), atol=1e-4)
    assert np.isfinite(np.asarray(layer(0 * x))).all()


def test_what_cannot_be_pruned_is_told(wide):
    for model, keep, words in (
        (create_small(), 0.9, "no channel of unetpp can be"),
        (wide, 1.5, "keep to be in"),
        (simulate_int8(wide), 0.5, "drop_int8"),
    ):
        with pytest.raises(ValueError, match=words):
            prune_channels(model, keep)
