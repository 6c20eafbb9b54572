import itertools
import random
import re

import keras
import numpy as np
import pytest
from keras_checks import assert_same, check_layer, compute, random_images
from scipy.special import expit, softmax

from seglib.classes import ClassTable
from seglib.compressing import prune
from seglib.encoders import encoder_layers, freeze_encoder
from seglib.models import (
    MODELS,
    ClassLogits,
    Enlarge,
    MaxPoolingWithPlaces,
    MaxUnpooling,
    TaskLogits,
    copy_weights,
    create_model,
    known_head,
    resize_model,
    reweight_classes,
    set_model_classes,
    set_precision,
    task_layers,
)

TABLE = ClassTable(["road", "sky", "void"], [(9, 9, 9), (8, 8, 8), (0, 0, 0)], ignore_label=2)
SMALL = {
    "unetpp": {"filters": (4, 6)},
    "unet": {"filters": (4, 6)},
    "deeplabv3plus": {"filters": (4, 4, 6, 6, 8), "aspp_filters": 8},
    "fcn": {"filters": (4, 4, 6, 6, 8), "hidden": 8},
    "segnet": {"filters": (4, 4, 6, 6, 8)},
}
VGG, STAGES = (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)


MAPS = np.random.default_rng(0).uniform(1, 3, (4, 6, 5, 8)).astype(np.float32)
PADDED = np.pad(MAPS[..., :3], [(0, 0), (0, 2), (0, 3), (0, 0)])
PLACES = np.random.default_rng(1).integers(0, 4, MAPS.shape).astype(np.int32)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (ClassLogits(TABLE, "letterbox", [0.5, 1, 2]), [PADDED, MAPS]),
        (TaskLogits("boundary"), [PADDED, MAPS]),
        (Enlarge(3), [MAPS]),
        (MaxUnpooling(), [MAPS, PLACES]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_layers_keep_the_contract(layer, inputs, tmp_path):
    check_layer(layer, *inputs, tmp_path=tmp_path)


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


def create(name="unetpp", shape=(32, 32, 3), num_classes=3, **options):
    return create_model(name, shape, num_classes=num_classes, **{**SMALL[name], **options})


def score(model, x):
    """Logits of the last output."""
    return keras.tree.flatten(compute(model, x))[-1]


def kernels(model):
    return [np.asarray(x.kernel) for x in model.layers if type(x) is keras.layers.Conv2D]


def count_kernels(model):
    return sum(kernel.size for kernel in kernels(model))


def count_block(before, filters):
    """Weights of two 3×3 convolutions without bias and their normalizations (4 a channel)."""
    return 9 * before * filters + 9 * filters * filters + 8 * filters


def count_head(before, filters, classes):
    return 9 * before * filters + 4 * filters + filters * classes + classes


@pytest.fixture(scope="module")
def nested():
    """A U-Net++ of three levels and two heads that knows its classes."""
    model = create(filters=(4, 6, 10), seed=3)
    set_model_classes(model, TABLE, fit="letterbox")
    return model


@pytest.fixture(scope="module")
def pretrained():
    """A U-Net++ on an encoder, with all heads and its first row frozen."""
    return create(
        shape=(64, 64, 3),
        filters=(4, 6),
        encoder="efficientnet_lite0",
        frozen_rows=1,
        heads=("segmentation", "boundary", "presence"),
    )


def test_unetpp_has_the_parameters_of_its_nested_nodes(nested):
    f, classes = (4, 6, 10), 3
    encoder = count_block(3, f[0]) + count_block(f[0], f[1]) + count_block(f[1], f[2])
    expected = encoder + 2 * count_head(f[0], f[0], classes)
    for row, column in ((0, 1), (1, 1), (0, 2)):
        expected += 4 * f[row + 1] * f[row]  # the 2×2 transposed convolution
        expected += count_block(f[row] * (column + 1), f[row])
        node = nested.get_layer(f"x_{row}_{column}_join").output
        assert node.shape == (None, 32 >> row, 32 >> row, f[row] * (column + 1))
    assert nested.count_params() == expected
    heads = [layer.name for layer in nested.layers if isinstance(layer, ClassLogits)]
    assert heads == ["head_1", "head_2"]
    plain = create("unet", filters=f)
    expected = encoder + count_head(f[0], f[0], classes)
    expected += sum(4 * f[i + 1] * f[i] + count_block(2 * f[i], f[i]) for i in (0, 1))
    assert plain.count_params() == expected


def test_the_students_own_unet_has_the_parameters_of_its_blocks():
    """No normalization, and dropout 0.3 in the third and fourth block."""
    f, options = (32, 64, 128, 256, 512), {"normalization": None, "dropout": (0, 0, 0.3, 0.3, 0)}
    model = create("unet", (128, 128, 3), 12, filters=f, **options)
    befores = [(3, f[0]), *itertools.pairwise(f)]
    expected = sum(9 * before * n + 9 * n * n + 2 * n for before, n in befores)
    for n, below in itertools.pairwise(f):
        expected += 4 * below * n + 9 * 2 * n * n + 9 * n * n + 2 * n
    assert model.count_params() == expected + 9 * 32 * 32 + 32 + 32 * 12 + 12
    dropped = {layer.name: layer.rate for layer in model.layers if "drop" in layer.name}
    assert dropped == {"x_2_0_drop": 0.3, "x_3_0_drop": 0.3}
    assert (model.name, model.output_shape) == ("unet", (None, 128, 128, 12))


def test_at_stride_2_rows_have_half_the_size_and_heads_show_the_detail_of_each_pixel():
    model = create(filters=(4, 6, 8), stride=2, detail=5, convolutions=1, dropout=0.5)
    assert [output.shape for output in model.outputs] == [(None, 32, 32, 3)] * 2
    assert model.get_layer("x_2_0_b_relu").output.shape == (None, 4, 4, 8)
    assert model.get_layer("head_2_join").output.shape[-1] == 4 + 5
    names = [layer.name for layer in model.layers if re.search("x_0_1_[ab]_conv|drop", layer.name)]
    assert sorted(names) == ["x_0_1_a_conv", "x_1_0_drop", "x_2_0_drop"]
    first = model.get_layer("x_0_0_a_conv")
    first.set_weights([np.zeros_like(first.get_weights()[0])])  # all other ways are closed
    x = random_images(1, 32, 32)
    answer = score(model, x)
    for row, column in ((8, 8), (9, 9)):  # of one square
        changed = x.copy()
        changed[0, row, column] ^= 255
        assert (score(model, changed) != answer).any()


@pytest.mark.parametrize("name", MODELS)
def test_each_scores_every_pixel_of_any_size(name):
    """Sides that do not divide are padded and cropped inside; weights follow from the seed."""
    options = {"attention": "cbam", "filters": (2, 3, 4)} if "unet" in name else {}
    state = random.getstate()
    fixed, free = (create(name, shape, **options) for shape in ((45, 70, 3), (None, None, 3)))
    assert state == random.getstate()
    assert free.outputs[-1].shape == (None, None, None, 3)
    x = random_images(1, 45, 70)
    np.testing.assert_allclose(score(free, x), score(fixed, x), atol=1e-4)
    assert (fixed.name, type(fixed.layers[-1])) == (name, ClassLogits)
    other = create(name, num_classes=5, seed=2, **options)
    pairs = zip(kernels(fixed), kernels(other), strict=True)
    assert all((a != b).any() for a, b in pairs if a.shape == b.shape)
    skipped = copy_weights(fixed, other)
    assert skipped
    assert all(layer.endswith("_classes") for layer in skipped)
    blocks = {"unetpp": 6, "unet": 5}.get(name, 0)
    names = [layer.name for layer in fixed.layers]
    assert sum(name.endswith("_excite") for name in names) == blocks
    assert sum(name.endswith("_places") for name in names) == blocks
    np.testing.assert_allclose(fixed.get_layer("scale")(np.array([0.0, 127.5, 255])), [-1, 0, 1])


def test_an_encoder_brings_its_weights_and_its_maps_are_the_first_nodes(pretrained):
    channels = (16, 24, 40)
    for row, column in itertools.product(range(2), (1,)):
        node = pretrained.get_layer(f"x_{row}_{column}_join").output
        assert node.shape == (None, 32 >> row, 32 >> row, channels[row] + (4, 6)[row])
    tasks = [layer and layer.task for layer in task_layers(pretrained)]
    assert tasks == ["boundary", "presence", None, "segmentation"]
    outputs = compute(pretrained, random_images(1, 64, 64))
    assert [x.shape for x in outputs] == [(1, 64, 64, 1), (1, 3), *[(1, 64, 64, 3)] * 2]
    options = {"encoder": "efficientnet_lite0", "seed": 1, "frozen_depthwise": True}
    other = create(shape=(64, 64, 3), filters=(4, 6), **options)
    weights = [[layer.get_weights() for layer in encoder_layers(m)] for m in (pretrained, other)]
    assert_same(*(itertools.chain(*arrays) for arrays in weights))
    a, b = (m.get_layer("x_0_1_a_conv").get_weights()[0] for m in (pretrained, other))
    assert (a != b).any()
    for layer in other.layers:
        assert layer.trainable != isinstance(layer, keras.layers.DepthwiseConv2D)
    frozen = [layer.name for layer in encoder_layers(pretrained) if not layer.trainable]
    freeze_encoder(other, upto=0)
    depthwise = [layer.name for layer in other.layers if "depthwise_conv" in layer.name]
    assert {*frozen, *depthwise} == {x.name for x in encoder_layers(other) if not x.trainable}
    assert task_layers(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])) == [None]


@pytest.mark.parametrize(
    ("name", "deepest", "stride"),
    [("deeplabv3plus", "aspp_0_conv", 16), ("fcn", "dense_a_conv", 32)],
)
def test_pretrained_encoders_fit_into_other_networks(name, deepest, stride):
    model = create(name, (64, 64, 3), encoder="efficientnet_lite0", encoder_weights=None)
    assert model.get_layer(deepest).input.shape[1] == 64 // stride
    assert model.output_shape == (None, 64, 64, 3)


def test_deeplab_has_the_papers_rates_and_the_mean_of_the_whole_map():
    model = create("deeplabv3plus", (64, 96, 3))
    found = [model.get_layer(f"aspp_{number}_conv").dilation_rate for number in (1, 2, 3)]
    assert found == [(6, 6), (12, 12), (18, 18)]
    assert model.get_layer("aspp_relu").output.shape[1:3] == (4, 6)
    assert model.get_layer("low_relu").output.shape[1:] == (16, 24, 48)
    parts = [model.get_layer(name).output for name in ("aspp_4", "aspp_join")]
    mean, whole = compute(keras.Model(model.input, parts), random_images(1, 64, 96))
    assert mean.shape == (1, 1, 1, 8)
    np.testing.assert_allclose(whole[..., -8:], np.broadcast_to(mean, (1, 4, 6, 8)), rtol=1e-6)


def count_vgg(filters):
    """Weights of VGG-16's convolutions, biases aside."""
    befores = (3, *filters)
    parts = zip(befores, filters, STAGES, strict=False)
    return sum(9 * n * (before + (count - 1) * n) for before, n, count in parts)


def count_fcn(filters, hidden, classes):
    dense = hidden * (49 * filters[-1] + hidden)
    return count_vgg(filters) + dense + classes * (hidden + filters[3] + filters[2])


def count_segnet(filters, classes):
    ends = 0  # the first convolution of a decoder's stage has as many channels as it gets
    for i, n in enumerate(STAGES):
        ends += 9 * filters[i] * (filters[i] * (n - 1) + filters[max(i - 1, 0)] * (i > 0))
    return count_vgg(filters) + ends + 9 * filters[0] * classes


def test_fcn_and_segnet_have_the_papers_parameters_and_fcn_refines_its_scores():
    model, filters = create("fcn", (64, 64, 3)), SMALL["fcn"]["filters"]
    assert count_kernels(model) == count_fcn(filters, 8, 3)
    assert count_fcn(VGG, 4096, 21) == pytest.approx(134e6, rel=0.01)  # table 1 of its paper
    assert count_kernels(create("segnet")) == count_segnet(filters, 3)
    assert count_segnet(VGG, 11) == pytest.approx(29.45e6, rel=0.01)  # table 6 of its paper
    assert model.get_layer("head_1_up").input.shape[1] == 64 // 8
    up = model.get_layer("skip_3_up_classes")  # starts as bilinear interpolation
    parts = keras.Model(model.input, [up.input, up.output])
    before, after = compute(parts, random_images(1, 64, 64))
    expected = keras.layers.UpSampling2D(2, interpolation="bilinear")(before)
    # Inside: at the border a transposed convolution sees zeros.
    np.testing.assert_allclose(after[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["se", "cbam"])
def test_attention_is_that_of_its_paper(kind):
    """The papers' equations in NumPy."""
    model = create("unet", filters=(70, 4), attention=kind)
    assert model.get_layer("x_0_0_squeeze").units == 4  # 70 / 16
    last = {"se": "x_0_0_weigh", "cbam": "x_0_0_place"}[kind]
    parts = [model.get_layer(name).output for name in ("x_0_0_b_relu", last)]
    x, answer = compute(keras.Model(model.input, parts), random_images(2, 32, 32))
    names = "squeeze", "excite"
    (w1, b1), (w2, b2) = (model.get_layer(f"x_0_0_{n}").get_weights() for n in names)
    summaries = [x.mean(axis=(1, 2)), x.max(axis=(1, 2))][: 2 if kind == "cbam" else 1]
    scores = sum(np.maximum(summary @ w1 + b1, 0) @ w2 + b2 for summary in summaries)
    x = x * expit(scores)[:, None, None]
    if kind == "cbam":
        kernel, bias = model.get_layer("x_0_0_places").get_weights()
        maps = np.pad(np.stack([x.mean(-1), x.max(-1)], -1), [(0, 0), (3, 3), (3, 3), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(maps, (7, 7), axis=(1, 2))
        x = x * expit(np.einsum("nhwcij,ijco->nhwo", windows, kernel) + bias)
    np.testing.assert_allclose(answer, x, rtol=1e-4, atol=1e-5)


def test_pruned_models_are_smaller_and_agree_exactly(nested):
    x = random_images(2, 32, 32)
    sizes = [prune(nested, level).count_params() for level in (1, 2)]
    assert sizes[0] < sizes[1] < nested.count_params()
    pruned = prune(nested, 1)
    np.testing.assert_array_equal(compute(pruned, x), compute(nested, x)[0])
    assert (known_head(pruned).classes, known_head(pruned).fit) == (TABLE, "letterbox")
    before = nested.get_weights()
    pruned.set_weights([weight + 1 for weight in pruned.get_weights()])
    assert_same(nested.get_weights(), before)


def test_a_saved_model_knows_its_classes_and_how_pictures_fit_it(pretrained, tmp_path):
    assert (known_head(pretrained).classes, known_head(pretrained).fit) == (None, "stretch")
    set_model_classes(pretrained, TABLE, fit="letterbox")
    pretrained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert (known_head(loaded).classes, known_head(loaded).fit) == (TABLE, "letterbox")
    x = random_images(1, 64, 64)
    assert_same(compute(loaded, x), compute(pretrained, x))
    assert copy_weights(loaded, pretrained) == []


def test_a_model_at_another_size_is_one_that_was_made_so(nested):
    other = resize_model(nested, (40, 64))
    assert other.input_shape == (None, 40, 64, 3)
    assert (known_head(other).classes, known_head(other).fit) == (TABLE, "letterbox")
    assert other.name == "unetpp"
    x = random_images(2, 40, 64)
    expected = compute(create(shape=(40, 64, 3), filters=(4, 6, 10), seed=3), x)
    assert_same(compute(other, x), expected, atol=1e-6)


def test_reweighting_weighs_probabilities_and_leaves_the_model_alone(nested):
    x, weights = random_images(1, 32, 32), np.array([0.5, 3, 1.5])
    before = compute(nested, x)
    weighed = reweight_classes(nested, weights)
    for head, scores in zip(compute(weighed, x), before, strict=True):
        expected = softmax(scores, -1) * weights
        expected = expected / expected.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(softmax(head, -1), expected, atol=1e-5)
    assert_same(compute(nested, x), before)
    assert_same(compute(reweight_classes(weighed, 1 / weights), x), before, atol=1e-5)


def test_low_precision_computes_low_and_leaves_depthwise_kernels_in_float32(pretrained):
    x = random_images(1, 64, 64)
    expected = score(pretrained, x)
    set_precision(pretrained, "mixed_bfloat16")
    names = [f"encoder_block_3_{name}_conv" for name in ("expand", "depthwise")]
    policies = [pretrained.get_layer(name).compute_dtype for name in names]
    answer = score(pretrained, x)
    set_precision(pretrained, "float32")
    assert policies == ["bfloat16", "float32"]
    assert answer.dtype == np.float32
    assert {weight.dtype for weight in pretrained.trainable_weights} == {"float32"}
    assert 0 < np.abs(answer - expected).max() < 0.1 * np.abs(expected).max()
    assert_same([score(pretrained, x)], [expected])


def test_random_weights_that_are_frozen_are_told():
    with pytest.warns(UserWarning, match="keep random weights"):
        create(encoder="efficientnet_lite0", encoder_weights=None, frozen_rows=1)


OWN = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(3, 1)])
FOUR = ClassTable(list("abcd"), [(i, i, i) for i in range(4)])
WRONG = [
    (lambda m: create_model("unet3", (32, 32, 3), num_classes=3), r"'unetpp', 'unet', .*'unet3'"),
    (lambda m: create(filters=(8,)), "2 to 6 filter counts"),
    (lambda m: create(shape=(32, 32, 9)), r"\(height, width, 3\), or 1 to 8 channels"),
    (lambda m: create(shape=(16, 32, 3)), "at least 32 pixels"),
    (lambda m: create("segnet", num_classes=1), "at least 2 classes"),
    (lambda m: create(stride=4), r"stride to be one of \(1, 2\), received 4"),
    (lambda m: create(detail=8), "detail=8 needs stride=2"),
    (lambda m: create(heads=("edges",)), "expected heads to be"),
    (lambda m: create(frozen_depthwise=True), "need an encoder"),
    (lambda m: create("unet", attention="self"), "attention to be one of .*'cbam'.*'self'"),
    (lambda m: create("fcn", filters=(4, 4)), r"number of filters to be one of \(5,\)"),
    (lambda m: prune(m, 3), "received level 3 of unetpp, which has the heads head_1, head_2"),
    (lambda m: set_model_classes(m, FOUR), "create it with num_classes=4"),
    (lambda m: reweight_classes(m, [1, 2]), "weight ≥ 0 for each of 3 classes"),
    (lambda m: reweight_classes(OWN, [1, 2, 3]), "no model of seglib: train it"),
    (lambda m: resize_model(m, 64), "size of"),
]


@pytest.mark.parametrize(("call", "words"), WRONG)
def test_wrong_arguments_say_what_was_expected(nested, call, words):
    with pytest.raises(ValueError, match=words):
        call(nested)


def test_a_folder_in_place_of_a_model_is_told():
    with pytest.raises(TypeError, match=r"received a str: seglib\.load_model\(folder\)"):
        known_head("outputs/run")


def test_heads_learn_the_same_labels_in_plain_keras(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    labels = random.integers(0, 3, (4, 32, 32))
    model = create_model("unetpp", (32, 32, 3), num_classes=3, filters=(4, 6, 8))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    found = model.evaluate(images, labels, batch_size=4, verbose=0)
    heads = [loss(labels, scores) for scores in model(images, training=False)]
    np.testing.assert_allclose(np.ravel(found)[0], float(sum(heads)), rtol=1e-4)
    model.fit(images, labels, verbose=0)
    smaller = resize_model(model, (16, 16))
    smaller.compile("sgd", loss)
    smaller.fit(images[:, :16, :16], labels[:, :16, :16], verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert_same(again.predict(images, verbose=0), model.predict(images, verbose=0))
