import random

import keras
import numpy as np
import pytest
from keras_checks import check_layer
from scipy.special import expit, softmax
from small_runs import assert_same_run, compute, make_dataset

import seglib
from seglib.encoders.lite import find_weights
from seglib.encoders.torch_files import read_torch_arrays
from seglib.models import ClassLogits, attention, copy_weights, prune, set_precision
from seglib.models.enlarging import Enlarge
from seglib.models.fcn import STAGES
from seglib.models.listing import MODELS
from seglib.models.segnet import MaxPoolingWithPlaces, MaxUnpooling
from seglib.training import Batches

SMALL = {
    "unetpp": {"filters": (4, 6)},
    "unet": {"filters": (4, 6)},
    "deeplabv3plus": {"filters": (4, 4, 6, 6, 8), "aspp_filters": 8, "low_filters": 4},
    "fcn": {"filters": (4, 4, 6, 6, 8), "hidden": 8},
    "segnet": {"filters": (4, 4, 6, 6, 8)},
}
VGG = (64, 128, 256, 512, 512)


def create(name, shape=(32, 32, 3), num_classes=3, **options):
    return MODELS[name][0](shape, num_classes=num_classes, **{**SMALL[name], **options})


def images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def score(model, x):
    """Logits of the last output."""
    return keras.tree.flatten(compute(model, x))[-1]


def kernels(model, kind=keras.layers.Conv2D):
    return [np.asarray(layer.kernel) for layer in model.layers if type(layer) is kind]


def count_kernels(model):
    return sum(int(np.prod(kernel.shape)) for kernel in kernels(model))


def count_vgg(filters):
    """Weights of VGG-16's convolutions, biases aside."""
    total, before = 0, 3
    for channels, count in zip(filters, STAGES, strict=True):
        total += 9 * channels * (before + (count - 1) * channels)
        before = channels
    return total


@pytest.mark.parametrize("name", MODELS)
def test_each_scores_every_pixel_of_any_size(name):
    """Sides that do not divide are padded and cropped inside."""
    options = {"attention": "cbam", **({"filters": (2, 3, 4)} if "unet" in name else {})}
    fixed, free = (create(name, shape, **options) for shape in ((45, 70, 3), (None, None, 3)))
    assert fixed.outputs[-1].shape == (None, 45, 70, 3)
    assert free.outputs[-1].shape == (None, None, None, 3)
    x = images(2, 45, 70)
    np.testing.assert_allclose(score(free, x), score(fixed, x), atol=1e-4)
    assert score(free, images(1, 32, 32)).shape == (1, 32, 32, 3)
    assert fixed.name == name
    assert isinstance(fixed.layers[-1], ClassLogits)
    if name != "unetpp":
        with pytest.raises(ValueError, match=f"{name} has no smaller models inside"):
            prune(fixed, 1)


@pytest.mark.parametrize("name", MODELS)
def test_weights_follow_from_the_seed_and_go_to_a_model_of_other_classes(name):
    """All but those of its heads; and nothing is drawn from what others draw from."""
    state = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    first, again = (create(name, seed=1, attention="cbam") for _ in range(2))
    other = create(name, num_classes=5, seed=2, attention="cbam")
    assert np.array_equal(state[0], np.random.get_state()[1])  # noqa: NPY002
    assert state[1] == random.getstate()
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    pairs = list(zip(kernels(first), kernels(other), strict=True))
    assert all((a != b).any() for a, b in pairs if a.shape == b.shape)
    skipped = copy_weights(first, other)
    assert skipped
    assert all(layer.endswith("_classes") for layer in skipped)


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
def test_each_trains_goes_on_after_a_stop_and_is_loaded(tmp_path, monkeypatch, name):
    data, options = make_dataset(), {"epochs": 2, "batch_size": 4, "learning_rate": 3e-3}
    whole = seglib.train(create(name), data, run_dir=tmp_path / "whole", **options)
    read = Batches.__getitem__

    def stop(batches, index):
        if batches.start + index > 4:
            raise RuntimeError("lost power")
        return read(batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__getitem__", stop)
        with pytest.raises(Exception, match="lost power"):  # TensorFlow wraps it
            seglib.train(create(name), data, run_dir=tmp_path / "parts", **options)
    parts = seglib.train(create(name), data, run_dir=tmp_path / "parts", **options)
    assert_same_run(whole, parts)
    losses = whole.history["loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert np.isfinite(losses).all()


def test_the_list_tells_what_each_takes():
    table = seglib.list_models()
    assert list(table.index) == ["unetpp", "unet", "deeplabv3plus", "fcn", "segnet"]
    assert table.loc["fcn", "options"]["stride"] == 8
    assert table["encoder"].to_dict() == {
        "unetpp": True, "unet": False, "deeplabv3plus": True, "fcn": True, "segnet": False,
    }  # fmt: skip
    assert list(table.index[table["prunes"]]) == ["unetpp"]
    for name in table["create"]:
        assert callable(getattr(seglib, name))
    assert all("attention" in options for options in table["options"])


@pytest.mark.parametrize("name", ["unetpp", "deeplabv3plus", "fcn"])
def test_pretrained_encoders_fit_in(name):
    rows = {} if name != "unetpp" else {"filters": (4, 6, 8, 8)}
    model = create(name, (64, 64, 3), encoder="efficientnet_lite0", attention="se", **rows)
    assert score(model, images(1, 64, 64)).shape == (1, 64, 64, 3)
    kernel = read_torch_arrays(find_weights())["_conv_stem.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("encoder_stem_conv").kernel, kernel)
    if name == "deeplabv3plus":
        assert model.get_layer("aspp_relu").output.shape[1:3] == (4, 4)  # of stride 16


@pytest.mark.parametrize("name", ["unetpp", "fcn"])
def test_reweighting_weighs_the_probabilities_of_each(tmp_path, name):
    model, weights = create(name, (64, 64, 3)), np.array([0.5, 3, 1.5])
    x = images(2, 64, 64)
    expected = softmax(score(model, x), -1) * weights
    expected = expected / expected.sum(axis=-1, keepdims=True)
    weighed = seglib.reweight_classes(model, weights)
    np.testing.assert_allclose(softmax(score(weighed, x), -1), expected, atol=1e-5)
    weighed.save(tmp_path / "weighed.keras")
    loaded = keras.saving.load_model(tmp_path / "weighed.keras", safe_mode=True)
    np.testing.assert_array_equal(score(loaded, x), score(weighed, x))
    twice = seglib.reweight_classes(weighed, 1 / weights)
    np.testing.assert_allclose(score(twice, x), score(model, x), atol=1e-5)


def test_a_network_learns_in_bfloat16_with_attention():
    model = create("segnet", attention="cbam")
    set_precision(model, "mixed_bfloat16")
    model.compile(keras.optimizers.Adam(3e-3), seglib.CrossEntropy())
    x = images(4, 32, 32)
    labels = (x[..., 0] > 127).astype(np.uint8)
    truth = [labels] * len(model.outputs) if len(model.outputs) > 1 else labels
    losses = [float(np.ravel(model.train_on_batch(x, truth))[0]) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert model.outputs[-1].dtype == "float32"


# DeepLabV3+


@pytest.mark.parametrize(
    ("stride", "rates", "encoder"),
    [(8, (12, 24, 36), "efficientnet_lite0"), (16, (6, 12, 18), None)],
)
def test_deeplab_has_the_papers_rates_by_output_stride(stride, rates, encoder):
    model = create("deeplabv3plus", (64, 96, 3), output_stride=stride, encoder=encoder,
                   encoder_weights=None)  # fmt: skip
    for number, rate in enumerate(rates, 1):
        layer = model.get_layer(f"aspp_{number}_conv")
        assert layer.dilation_rate == (rate, rate)
        assert layer.kernel.shape[:2] == (3, 3)
    assert model.get_layer("aspp_relu").output.shape[1:3] == (64 // stride, 96 // stride)
    assert model.get_layer("low_relu").output.shape[1:] == (16, 24, 4)
    assert model.get_layer("decoder_join").output.shape[-1] == 8 + 4
    assert [model.get_layer(f"decoder_{x}_conv").kernel.shape[:2] for x in "ab"] == [(3, 3)] * 2
    assert model.get_layer("head_1_up").factor == 4


def test_the_pyramids_mean_is_of_the_whole_map():
    model = create("deeplabv3plus", (64, 64, 3))
    pooled = keras.Model(model.input, model.get_layer("aspp_4").output)
    joined = keras.Model(model.input, model.get_layer("aspp_join").output)
    x = images(1, 64, 64)
    mean, whole = compute(pooled, x), compute(joined, x)
    assert mean.shape == (1, 1, 1, 8)
    np.testing.assert_allclose(whole[..., -8:], np.broadcast_to(mean, (1, 4, 4, 8)), rtol=1e-6)


# FCN


def test_fcn_has_the_papers_layers_and_parameters():
    def count(filters, hidden, classes):
        dense = hidden * (49 * filters[-1] + hidden)
        scores = classes * (hidden + filters[3] + filters[2])
        return count_vgg(filters) + dense + scores

    model = create("fcn")
    assert len(kernels(model)) == 13 + 2 + 3
    assert count_kernels(model) == count(SMALL["fcn"]["filters"], 8, 3)
    assert count(VGG, 4096, 21) == pytest.approx(134e6, rel=0.01)  # table 1 of the paper


@pytest.mark.parametrize(("stride", "skips"), [(32, 0), (16, 1), (8, 2)])
def test_fcn_refines_scores_down_to_its_stride(stride, skips):
    model = create("fcn", (64, 64, 3), stride=stride)
    assert len(kernels(model, keras.layers.Conv2DTranspose)) == skips
    assert model.get_layer("head_1_up").factor == stride
    assert model.get_layer("head_1_up").input.shape[1] == 64 // stride


def test_doubling_starts_as_bilinear_interpolation():
    model = create("fcn", (64, 64, 3), stride=16)
    x = images(1, 64, 64)
    up = model.get_layer("skip_4_up_classes")
    before, after = compute(keras.Model(model.input, [up.input, up.output]), x)
    expected = keras.layers.UpSampling2D(2, interpolation="bilinear")(before)
    assert up.input.shape[1:3] == (2, 2)
    # Inside: at the border a transposed convolution sees zeros.
    np.testing.assert_allclose(after[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], rtol=1e-5)


# SegNet


def test_segnet_has_the_papers_layers_and_parameters():
    def count(filters, classes):
        ends = 0  # the first convolution of a decoder's stage has as many channels as it gets
        for i, n in enumerate(STAGES):
            last = filters[i] * filters[max(i - 1, 0)] * (i > 0)
            ends += 9 * (filters[i] ** 2 * (n - 1) + last)
        return count_vgg(filters) + ends + 9 * filters[0] * classes

    model = create("segnet")
    assert len(kernels(model)) == 26
    assert count_kernels(model) == count(SMALL["segnet"]["filters"], 3)
    assert count(VGG, 11) == pytest.approx(29.45e6, rel=0.01)  # table 6 of the paper


def test_pooling_keeps_the_largest_and_unpooling_puts_it_back():
    x = np.array([[1, 5, 0, -1], [2, 3, -2, -3]], np.float32)[None, ..., None]
    values, places = MaxPoolingWithPlaces()(x)
    assert np.squeeze(values).tolist() == [5, 0]
    assert np.squeeze(places).tolist() == [1, 0]
    back = MaxUnpooling()(values, places)
    assert np.squeeze(back).tolist() == [[0, 5, 0, 0], [0, 0, 0, 0]]


def test_pooling_and_unpooling_are_those_of_plain_loops():
    x = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype(np.float32)
    values, places = (np.asarray(part) for part in MaxPoolingWithPlaces()(x))
    back, expected = np.asarray(MaxUnpooling()(values, places)), np.zeros_like(x)
    np.testing.assert_array_equal(values, keras.layers.MaxPooling2D()(x))
    for n, i, j, c in np.ndindex(values.shape):
        square = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        row, column = divmod(int(square.argmax()), 2)
        expected[n, 2 * i + row, 2 * j + column, c] = square.max()
    np.testing.assert_array_equal(back, expected)


def test_unpooling_keeps_the_contract_of_layers(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 4, 6, 3)).astype(np.float32)
    places = random.integers(0, 4, x.shape).astype(np.int32)
    check_layer(MaxUnpooling(), x, places, tmp_path=tmp_path)


def test_pooling_with_places_keeps_shapes_and_config():
    layer = MaxPoolingWithPlaces.from_config(MaxPoolingWithPlaces(name="pool").get_config())
    values, places = layer(keras.Input((None, 8, 3)))
    assert values.shape == places.shape == (None, None, 4, 3)
    assert (layer.name, places.dtype) == ("pool", "int32")


# Enlarging


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 4)])
def test_enlarging_is_that_of_keras(size, factor):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    expected = keras.layers.UpSampling2D(factor, interpolation="bilinear")(x)
    np.testing.assert_allclose(Enlarge(factor)(x), expected, rtol=1e-5, atol=1e-5)


def test_enlarging_keeps_the_contract_of_layers(tmp_path):
    x = np.random.default_rng(0).uniform(1, 3, (2, 5, 4, 3)).astype(np.float32)
    check_layer(Enlarge(3), x, tmp_path=tmp_path)  # bfloat16 is coarse at 0


# Attention


def make_attention(kind, x):
    inputs = keras.Input(x.shape[1:])
    initializer = keras.initializers.RandomNormal(stddev=0.5, seed=3)
    return keras.Model(inputs, attention.attend(inputs, kind, name="a", draw=lambda: initializer))


def reference_attention(kind, x, model):
    """The papers' equations in NumPy."""
    names = ("a_squeeze", "a_excite", "a_places")
    known = [layer.name for layer in model.layers]
    (w1, b1), (w2, b2), *places = (model.get_layer(n).get_weights() for n in names if n in known)

    def excite(summary):
        return np.maximum(summary @ w1 + b1, 0) @ w2 + b2

    scores = excite(x.mean(axis=(1, 2)))
    if kind == "cbam":
        scores = scores + excite(x.max(axis=(1, 2)))
    x = x * expit(scores)[:, None, None]
    if kind == "cbam":
        ((kernel, bias),) = places
        maps = np.pad(np.stack([x.mean(-1), x.max(-1)], -1), [(0, 0), (3, 3), (3, 3), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(maps, (7, 7), axis=(1, 2))
        x = x * expit(np.einsum("nhwcij,ijco->nhwo", windows, kernel) + bias)
    return x


@pytest.mark.parametrize("kind", ["se", "cbam"])
def test_attention_is_that_of_its_paper(kind):
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 70)).astype(np.float32)
    model = make_attention(kind, x)
    assert model.get_layer("a_squeeze").units == 4  # 70 / 16
    expected = reference_attention(kind, x, model)
    np.testing.assert_allclose(score(model, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("kind", "places"), [("se", 0), ("cbam", 1)])
def test_attention_follows_the_blocks(name, kind, places):
    layers = [layer.name for layer in create(name, attention=kind).layers]
    blocks = {
        "unetpp": 3, "unet": 3, "deeplabv3plus": 5 + 1, "fcn": 5 + 1, "segnet": 10,
    }[name]  # fmt: skip
    assert sum(name.endswith("_excite") for name in layers) == blocks
    assert sum(name.endswith("_places") for name in layers) == blocks * places


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {"attention": "self"}, "expected attention to be None, 'se' or 'cbam'"),
        ("deeplabv3plus", {"output_stride": 32}, "output_stride of 8 or 16, received 32"),
        ("deeplabv3plus", {"rates": (0, 1, 2)}, "3 rates of at least 1"),
        ("deeplabv3plus", {"filters": (4, 4)}, "expected 5 filter counts"),
        ("deeplabv3plus", {"dropout": 1.0}, r"dropout in \[0, 1\)"),
        ("fcn", {"dropout": 1.0}, r"dropout in \[0, 1\)"),
        ("fcn", {"stride": 4}, "expected a stride of 8, 16 or 32, received 4"),
        ("fcn", {"filters": (4, 4)}, "expected 5 filter counts"),
        ("segnet", {"num_classes": 1}, "at least 2 classes"),
    ],
)
def test_wrong_arguments_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        create(name, **options)
