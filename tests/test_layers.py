import keras
import numpy as np
import pytest
from keras_checks import assert_same, check_layer, compute, random_images

from seglib.classes import ClassTable
from seglib.layers import (
    BatchNormalization,
    ClassLogits,
    DepthwiseConv2D,
    Enlarge,
    MaxPoolingWithPlaces,
    MaxUnpooling,
    PadToMultiple,
    TaskLogits,
)

TABLE = ClassTable(["road", "sky", "void"], [(9, 9, 9), (8, 8, 8), (0, 0, 0)], ignore_label=2)
MAPS = np.random.default_rng(0).normal(3, 2, (4, 6, 5, 8)).astype(np.float32)
IMAGES = random_images(2, 9, 14).astype(np.float32)
PADDED = np.pad(IMAGES, [(0, 0), (0, 7), (0, 2), (0, 0)])
PLACES = np.random.default_rng(1).integers(0, 4, MAPS.shape).astype(np.int32)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (BatchNormalization(), [MAPS]),
        (PadToMultiple(8), [IMAGES]),
        (ClassLogits(TABLE, "letterbox", [0.5, 1, 2]), [PADDED, IMAGES]),
        (TaskLogits("boundary"), [PADDED, IMAGES]),
        (Enlarge(3), [np.abs(MAPS) + 1]),
        (MaxUnpooling(), [MAPS, PLACES]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_layers_keep_the_contract(layer, inputs, tmp_path):
    check_layer(layer, *inputs, tmp_path=tmp_path)


def test_padding_is_zero_at_the_bottom_and_right():
    padded = compute(PadToMultiple(4), np.ones((1, 3, 4, 1), np.float32))
    np.testing.assert_array_equal(padded[0, :, :, 0], [[1] * 4] * 3 + [[0] * 4])


def test_models_saved_before_there_was_a_choice_stretch():
    config = ClassLogits(TABLE).get_config()
    assert config.pop("fit") == "stretch"
    assert ClassLogits.from_config(config).fit == "stretch"


def create_two(**options):
    """The layer and Keras' own, with the same random numbers in it."""
    pair = [kind(**options) for kind in (BatchNormalization, keras.layers.BatchNormalization)]
    for layer in pair:
        layer.build(MAPS.shape)
        random = np.random.default_rng(1)
        layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return pair


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
def test_normalization_is_that_of_keras(training, trainable):
    pair = create_two(momentum=0.8, trainable=trainable)
    answers = [keras.ops.convert_to_numpy(layer(MAPS, training=training)) for layer in pair]
    np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-5)
    mean, variance = zip(*(layer.get_weights()[2:] for layer in pair), strict=True)
    np.testing.assert_allclose(*mean, rtol=1e-5)
    # The fused operation averages the unbiased variance, over n - 1 of the n pixels.
    np.testing.assert_allclose(*variance, rtol=1 / (MAPS[..., 0].size - 1))


@pytest.mark.parametrize("training", [True, False])
def test_normalization_stays_in_low_precision_and_keeps_its_averages_in_float32(training):
    low, layer = create_two(dtype="mixed_bfloat16")[0], create_two()[0]
    answer = low(MAPS, training=training)
    assert keras.backend.standardize_dtype(answer.dtype) == "bfloat16"
    assert {weight.dtype for weight in low.weights} == {"float32"}
    answer = keras.ops.convert_to_numpy(keras.ops.cast(answer, "float32"))
    expected = keras.ops.convert_to_numpy(layer(MAPS, training=training))
    np.testing.assert_allclose(answer, expected, rtol=0.02, atol=0.05)
    vectors = MAPS[:, 0, 0]  # which the fused operation does not know
    np.testing.assert_array_equal(
        *(
            compute(kind(), vectors)
            for kind in (BatchNormalization, keras.layers.BatchNormalization)
        )
    )


def teach(layer, x):
    """What a convolution before a layer learns in one step, and what the layer then answers."""
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Conv2D(x.shape[-1], 1), layer])
    model.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in model.weights])
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    model.train_on_batch(x, np.flip(compute(model, x)))
    return [*model.get_weights(), compute(model, x)]


@pytest.mark.parametrize("options", [{}, {"kernel_size": 5}, {"trainable": True}, {"strides": 2}])
def test_the_gradient_of_a_frozen_depthwise_convolution_is_a_convolution(options):
    options = {
        "kernel_size": 3,
        "padding": "same",
        "use_bias": False,
        "trainable": False,
        **options,
    }
    fast, own = DepthwiseConv2D(**options), keras.layers.DepthwiseConv2D(**options)
    assert fast.is_fast == (not options["trainable"] and "strides" not in options)
    assert_same(teach(fast, MAPS / 8), teach(own, MAPS / 8), rtol=1e-5, atol=1e-5)


def test_pooling_keeps_the_largest_and_unpooling_puts_it_back():
    x = np.array([[1, 5, 0, -1], [2, 3, -2, -3]], np.float32)[None, ..., None]
    values, places = MaxPoolingWithPlaces()(x)
    assert np.squeeze(values).tolist() == [5, 0]
    assert np.squeeze(places).tolist() == [1, 0]
    assert np.squeeze(MaxUnpooling()(values, places)).tolist() == [[0, 5, 0, 0], [0, 0, 0, 0]]
    layer = MaxPoolingWithPlaces.from_config(MaxPoolingWithPlaces(name="pool").get_config())
    values, places = layer(keras.Input((None, 8, 3)))
    assert values.shape == places.shape == (None, None, 4, 3)
    assert (layer.name, places.dtype) == ("pool", "int32")


@pytest.mark.parametrize("factor", [1, 3, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 4)])
def test_enlarging_is_that_of_keras(size, factor):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    expected = keras.layers.UpSampling2D(factor, interpolation="bilinear")(x)
    np.testing.assert_allclose(Enlarge(factor)(x), expected, rtol=1e-5, atol=1e-5)
