import itertools
import random
import re

import keras
import numpy as np
import pytest
from keras_checks import assert_same, check_layer, compute, create_small, random_images, score
from scipy.special import expit, softmax

from seglib import encoders, models
from seglib.classes import ClassTable
from seglib.compressing import Rounded, prune
from seglib.encoders import encoder_layers, freeze_encoder
from seglib.models import known_head

TABLE = ClassTable(["road", "sky", "void"], [(9, 9, 9), (8, 8, 8), (0, 0, 0)], ignore_label=2)
OWN = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(3, 1)])
NESTED = {"filters": (4, 6, 10), "seed": 3}
VGG, STAGES = (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)

MAPS = np.random.default_rng(0).uniform(1, 3, (4, 6, 5, 8)).astype(np.float32)
PADDED = np.pad(MAPS[..., :3], [(0, 0), (0, 2), (0, 3), (0, 0)])
POSITIVE = keras.initializers.RandomUniform(0.1, 1, seed=0)
LAYERS = [
    (models.ClassLogits(TABLE, "letterbox", [0.5, 1, 2]), PADDED, MAPS),
    (models.TaskLogits("boundary"), PADDED, MAPS),
    (models.Enlarge(3), MAPS),
    (encoders.BatchNormalization(), MAPS),
    (encoders.PadToMultiple(8), MAPS),
    (Rounded(keras.layers.Conv2D(4, 3, kernel_initializer=POSITIVE), name="rounded"), MAPS),
    (models.MaxUnpooling(), MAPS, np.arange(MAPS.size, dtype=np.int32).reshape(MAPS.shape) % 4),
]


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case[0].name)
def test_layers_keep_the_contract(case, tmp_path):
    check_layer(*case, tmp_path=tmp_path)


def test_pooling_keeps_the_largest_and_unpooling_puts_it_back():
    x = np.array([[1, 5, 0, -1], [2, 3, -2, -3]], np.float32)[None, ..., None]
    layer = models.MaxPoolingWithPlaces(name="pool")
    values, places = layer(x)
    assert np.squeeze(values).tolist() == [5, 0]
    assert np.squeeze(places).tolist() == [1, 0]
    back = np.squeeze(models.MaxUnpooling()(values, places))
    assert back.tolist() == [[0, 5, 0, 0], [0, 0, 0, 0]]
    layer = layer.from_config(layer.get_config())
    values, places = layer(keras.Input((None, 8, 3)))
    assert values.shape == places.shape == (None, None, 4, 3)
    assert (layer.name, places.dtype) == ("pool", "int32")


@pytest.mark.parametrize("factor", [1, 3, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 4)])
def test_enlarging_is_that_of_keras(size, factor):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    expected = keras.layers.UpSampling2D(factor, interpolation="bilinear")(x)
    np.testing.assert_allclose(models.Enlarge(factor)(x), expected, rtol=1e-5, atol=1e-5)


def kernels(model):
    return [np.asarray(x.kernel) for x in model.layers if type(x) is keras.layers.Conv2D]


@pytest.fixture(scope="module")
def nested():
    """A U-Net++ of three levels and two heads that knows its classes."""
    model = create_small(**NESTED)
    models.set_model_classes(model, TABLE, fit="letterbox")
    return model


@pytest.fixture(scope="module")
def pretrained():
    """A U-Net++ on an encoder, with all heads and its first row frozen."""
    options = {"encoder": "efficientnet_lite0", "frozen_rows": 1, "heads": models.TASKS}
    return create_small(shape=(64, 64, 3), **options)


def count_convolutions(*channels):
    """Weights of 3×3 convolutions one after another, without biases."""
    return 9 * sum(before * after for before, after in itertools.pairwise(channels))


def count_unetpp(f, classes, *, nested=True, extra=4):
    """Each channel of a convolution has `extra`: 4 numbers of a normalization, or a bias."""
    depth = len(f) - 1
    heads = depth if nested else 1
    total = heads * (count_convolutions(f[0], f[0]) + extra * f[0] + (f[0] + 1) * classes)
    blocks = list(zip((3, *f), f, strict=False))  # channels before, channels
    for row in range(depth):
        for maps in range(2, depth - row + 2) if nested else (2,):  # that a node joins
            total += 4 * f[row + 1] * f[row]  # the 2×2 transposed convolution
            blocks.append((maps * f[row], f[row]))
    return total + sum(count_convolutions(n, m, m) + 2 * extra * m for n, m in blocks)


def test_unets_have_the_parameters_of_their_blocks(nested):
    f = (4, 6, 10)
    assert nested.count_params() == count_unetpp(f, 3)
    assert create_small("unet", filters=f).count_params() == count_unetpp(f, 3, nested=False)
    for row, column in ((0, 1), (1, 1), (0, 2)):
        node = nested.get_layer(f"x_{row}_{column}_join").output
        assert node.shape == (None, 32 >> row, 32 >> row, f[row] * (column + 1))
    heads = [layer.name for layer in nested.layers if isinstance(layer, models.ClassLogits)]
    assert heads == ["head_1", "head_2"]


def test_the_students_own_unet_has_no_normalization_and_dropout_in_two_blocks():
    f, options = (32, 64, 128, 256, 512), {"normalization": None, "dropout": (0, 0, 0.3, 0.3, 0)}
    model = create_small("unet", (128, 128, 3), 12, filters=f, **options)
    assert model.count_params() == count_unetpp(f, 12, nested=False, extra=1)
    dropped = {layer.name: layer.rate for layer in model.layers if "drop" in layer.name}
    assert dropped == {"x_2_0_drop": 0.3, "x_3_0_drop": 0.3}
    assert (model.name, model.output_shape) == ("unet", (None, 128, 128, 12))


def test_at_stride_2_rows_have_half_the_size_and_heads_show_the_detail_of_each_pixel():
    model = create_small(filters=(4, 6, 8), stride=2, detail=5, convolutions=1, dropout=0.5)
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


@pytest.mark.parametrize("name", models.MODELS)
def test_each_scores_every_pixel_of_any_size(name):
    """Sides that do not divide are padded and cropped inside; weights follow from the seed."""
    options = {"attention": "cbam", "filters": (2, 3, 4)} if "unet" in name else {}
    state = random.getstate()
    fixed, free = (create_small(name, shape, **options) for shape in ((45, 70, 3), (None, None, 3)))
    assert state == random.getstate()
    assert free.outputs[-1].shape == (None, None, None, 3)
    x = random_images(1, 45, 70)
    np.testing.assert_allclose(score(free, x), score(fixed, x), atol=1e-4)
    assert (fixed.name, type(fixed.layers[-1])) == (name, models.ClassLogits)
    other = create_small(name, num_classes=5, seed=2, **options)
    pairs = zip(kernels(fixed), kernels(other), strict=True)
    assert all((a != b).any() for a, b in pairs if a.shape == b.shape)
    heads = [layer.name for layer in other.layers if layer.name.endswith("_classes")]
    assert models.copy_weights(fixed, other) == heads
    blocks = {"unetpp": 6, "unet": 5}.get(name, 0)
    ends = [layer.name.split("_")[-1] for layer in fixed.layers]
    assert ends.count("excite") == ends.count("places") == blocks
    np.testing.assert_allclose(fixed.get_layer("scale")(np.array([0.0, 127.5, 255])), [-1, 0, 1])


def test_an_encoder_brings_its_weights_and_its_maps_are_the_first_nodes(pretrained):
    for row, channels in enumerate((16 + 4, 24 + 6)):
        node = pretrained.get_layer(f"x_{row}_1_join").output
        assert node.shape == (None, 32 >> row, 32 >> row, channels)
    tasks = [layer and layer.task for layer in models.task_layers(pretrained)]
    assert tasks == ["boundary", "presence", None, "segmentation"]
    outputs = compute(pretrained, random_images(1, 64, 64))
    assert [x.shape for x in outputs] == [(1, 64, 64, 1), (1, 3), *[(1, 64, 64, 3)] * 2]
    assert models.task_layers(OWN) == [None]

    options = {"encoder": "efficientnet_lite0", "seed": 1, "frozen_depthwise": True}
    other = create_small(shape=(64, 64, 3), **options)
    weights = [[x.get_weights() for x in encoder_layers(model)] for model in (pretrained, other)]
    assert_same(*(itertools.chain(*arrays) for arrays in weights))
    for layer in other.layers:
        assert layer.trainable != isinstance(layer, keras.layers.DepthwiseConv2D)
    freeze_encoder(other, upto=0)
    for layer, twin in zip(encoder_layers(pretrained), encoder_layers(other), strict=True):
        assert twin.trainable == (layer.trainable and "depthwise_conv" not in layer.name)


@pytest.mark.parametrize("encoder", [None, "efficientnet_lite0"])
def test_deeplab_has_the_papers_rates_and_the_mean_of_the_whole_map(encoder):
    model = create_small("deeplabv3plus", (64, 96, 3), encoder=encoder, encoder_weights=None)
    found = [model.get_layer(f"aspp_{number}_conv").dilation_rate for number in (1, 2, 3)]
    assert found == [(6, 6), (12, 12), (18, 18)]
    assert model.get_layer("aspp_relu").output.shape[1:3] == (4, 6)
    assert model.get_layer("low_relu").output.shape[1:] == (16, 24, 48)
    parts = [model.get_layer(name).output for name in ("aspp_4", "aspp_join")]
    mean, whole = compute(keras.Model(model.input, parts), random_images(1, 64, 96))
    assert mean.shape == (1, 1, 1, 8)
    np.testing.assert_allclose(whole[..., -8:], np.broadcast_to(mean, (1, 4, 6, 8)), rtol=1e-6)


def count_fcn(filters, hidden, classes):
    vgg = count_convolutions(3, *np.repeat(filters, STAGES))
    return vgg + hidden * (49 * filters[4] + hidden) + classes * (hidden + filters[3] + filters[2])


def count_segnet(filters, classes):
    channels = [3, *np.repeat(filters, STAGES)]
    return count_convolutions(*channels, *channels[-2:0:-1], classes)


def test_fcn_and_segnet_have_the_papers_parameters():
    f, fcn, segnet = (4, 4, 6, 6, 8), create_small("fcn"), create_small("segnet")
    assert sum(kernel.size for kernel in kernels(fcn)) == count_fcn(f, 8, 3)
    assert sum(kernel.size for kernel in kernels(segnet)) == count_segnet(f, 3)
    assert count_fcn(VGG, 4096, 21) == pytest.approx(134e6, rel=0.01)  # table 1 of its paper
    assert count_segnet(VGG, 11) == pytest.approx(29.45e6, rel=0.01)  # table 6 of its paper


@pytest.mark.parametrize("encoder", [None, "efficientnet_lite0"])
def test_fcn_refines_its_scores_at_first_by_bilinear_interpolation(encoder):
    model = create_small("fcn", (64, 64, 3), encoder=encoder, encoder_weights=None)
    assert model.get_layer("dense_a_conv").input.shape[1] == 64 // 32
    assert model.get_layer("head_1_up").input.shape[1] == 64 // 8
    up = model.get_layer("skip_3_up_classes")
    ends = keras.Model(model.input, [up.input, up.output])
    before, after = compute(ends, random_images(1, 64, 64))
    expected = keras.layers.UpSampling2D(2, interpolation="bilinear")(before)
    # Inside: at the border a transposed convolution sees zeros.
    np.testing.assert_allclose(after[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["se", "cbam"])
def test_attention_is_that_of_its_paper(kind):
    """The papers' equations in NumPy."""
    model = create_small("unet", filters=(70, 4), attention=kind)
    assert model.get_layer("x_0_0_squeeze").units == 4  # 70 / 16
    last = {"se": "x_0_0_weigh", "cbam": "x_0_0_place"}[kind]
    parts = [model.get_layer(name).output for name in ("x_0_0_b_relu", last)]
    x, answer = compute(keras.Model(model.input, parts), random_images(2, 32, 32))
    w1, b1 = model.get_layer("x_0_0_squeeze").get_weights()
    w2, b2 = model.get_layer("x_0_0_excite").get_weights()
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
    x, before = random_images(2, 32, 32), nested.get_weights()
    small, large = (prune(nested, level) for level in (1, 2))
    assert small.count_params() < large.count_params() < nested.count_params()
    assert_same([compute(small, x), compute(large, x)], compute(nested, x))
    assert (known_head(small).classes, known_head(small).fit) == (TABLE, "letterbox")
    small.set_weights([weight + 1 for weight in small.get_weights()])
    assert_same(nested.get_weights(), before)


def test_a_saved_model_knows_its_classes_and_how_pictures_fit_it(pretrained, tmp_path):
    assert (known_head(pretrained).classes, known_head(pretrained).fit) == (None, "stretch")
    models.set_model_classes(pretrained, TABLE, fit="letterbox")
    pretrained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert (known_head(loaded).classes, known_head(loaded).fit) == (TABLE, "letterbox")
    x = random_images(1, 64, 64)
    assert_same(compute(loaded, x), compute(pretrained, x))
    assert models.copy_weights(loaded, pretrained) == []


def test_a_model_at_another_size_is_one_that_was_made_so(nested):
    other = models.resize_model(nested, (40, 64))
    assert (other.name, other.input_shape) == ("unetpp", (None, 40, 64, 3))
    assert (known_head(other).classes, known_head(other).fit) == (TABLE, "letterbox")
    x, made_so = random_images(2, 40, 64), create_small(shape=(40, 64, 3), **NESTED)
    assert_same(compute(other, x), compute(made_so, x), atol=1e-6)


def test_reweighting_weighs_probabilities_and_leaves_the_model_alone(nested):
    x, weights = random_images(1, 32, 32), np.array([0.5, 3, 1.5])
    before = compute(nested, x)
    weighed = models.reweight_classes(nested, weights)
    for head, scores in zip(compute(weighed, x), before, strict=True):
        expected = softmax(scores, -1) * weights
        expected = expected / expected.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(softmax(head, -1), expected, atol=1e-5)
    assert_same(compute(nested, x), before)
    assert_same(compute(models.reweight_classes(weighed, 1 / weights), x), before, atol=1e-5)


def test_low_precision_computes_low_and_leaves_depthwise_kernels_in_float32(pretrained):
    x, kernels = random_images(1, 64, 64), ("expand", "depthwise")
    expected = score(pretrained, x)
    models.set_precision(pretrained, "mixed_bfloat16")
    layers = [pretrained.get_layer(f"encoder_block_3_{name}_conv") for name in kernels]
    policies, answer = [layer.compute_dtype for layer in layers], score(pretrained, x)
    models.set_precision(pretrained, "float32")
    assert policies == ["bfloat16", "float32"]
    assert {str(x.dtype) for x in (answer, *pretrained.trainable_weights)} == {"float32"}
    assert 0 < np.abs(answer - expected).max() < 0.1 * np.abs(expected).max()
    assert_same([score(pretrained, x)], [expected])


FOUR = ClassTable(list("abcd"), [(i, i, i) for i in range(4)])
WRONG = [
    (lambda m: create_small("unet3"), r"'unetpp', 'unet', .*'unet3'"),
    (lambda m: create_small(filters=(8,)), "2 to 6 filter counts"),
    (lambda m: create_small(shape=(16, 32, 3)), "at least 32 pixels"),
    (lambda m: create_small("segnet", num_classes=1), "at least 2 classes"),
    (lambda m: create_small(stride=4), r"stride to be one of \(1, 2\), received 4"),
    (lambda m: create_small(detail=8), "detail=8 needs stride=2"),
    (lambda m: create_small(heads=("edges",)), "expected heads to be"),
    (lambda m: create_small(frozen_depthwise=True), "need an encoder"),
    (lambda m: create_small("unet", attention="self"), "attention to be one of .*'cbam'.*'self'"),
    (lambda m: create_small("fcn", filters=(4, 4)), r"number of filters to be one of \(5,\)"),
    (lambda m: prune(m, 3), "received level 3 of unetpp, which has the heads head_1, head_2"),
    (lambda m: models.set_model_classes(m, FOUR), "create it with num_classes=4"),
    (lambda m: models.reweight_classes(m, [1, 2]), "weight ≥ 0 for each of 3 classes"),
    (lambda m: models.reweight_classes(OWN, [1, 2, 3]), "no model of seglib: train it"),
    (lambda m: models.resize_model(m, 64), "size of"),
]


@pytest.mark.parametrize(("call", "words"), WRONG)
def test_wrong_arguments_say_what_was_expected(nested, call, words):
    with pytest.raises(ValueError, match=words):
        call(nested)


def test_a_folder_in_place_of_a_model_is_told():
    with pytest.raises(TypeError, match=r"received a str: seglib\.load_model\(folder\)"):
        known_head("outputs/run")


def test_heads_learn_the_same_labels_in_plain_keras_as_loaded_and_resized(tmp_path):
    model, loss = create_small(filters=(4, 6, 8)), keras.losses.SparseCategoricalCrossentropy(True)
    model.compile("sgd", loss)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded, models.resize_model(loaded, (48, 32))):
        images = random_images(4, *each.input_shape[1:3]).astype(np.float32)
        labels = np.random.default_rng(0).integers(0, 3, images.shape[:3])
        expected = sum(float(loss(labels, scores)) for scores in compute(each, images))
        each.compile("sgd", loss, run_eagerly=True)
        found = each.evaluate(images, labels, batch_size=4, verbose=0)
        np.testing.assert_allclose(np.ravel(found)[0], expected, rtol=1e-4)
        each.fit(images, labels, batch_size=4, verbose=0)
        assert sum(float(loss(labels, scores)) for scores in compute(each, images)) != expected
