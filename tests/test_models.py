import pathlib

import keras
import numpy as np
import pytest
from keras_checks import check_layer
from small_runs import compute

import seglib
from seglib.classes import ClassTable
from seglib.encoders import encoder_layers
from seglib.encoders.lite import find_weights
from seglib.encoders.padding import PadToMultiple
from seglib.encoders.torch_files import read_torch_arrays
from seglib.models import (
    ClassLogits,
    copy_weights,
    create_unet_model,
    create_unetpp_model,
    model_classes,
    model_fit,
    prune,
    reweight_classes,
    set_model_classes,
    set_precision,
)

TABLE = ClassTable(["road", "sky", "void"], [(9, 9, 9), (8, 8, 8), (0, 0, 0)], ignore_label=2)


def images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def count_block(before, filters):
    """Weights of two 3×3 convolutions without bias and their normalizations (4 a channel)."""
    return 9 * before * filters + 9 * filters * filters + 8 * filters


def count_head(before, filters, classes):
    return 9 * before * filters + 4 * filters + filters * classes + classes


def test_unetpp_has_the_parameters_of_its_nested_nodes():
    f, classes = (4, 6, 10), 5
    expected = count_block(3, f[0]) + count_block(f[0], f[1]) + count_block(f[1], f[2])
    for row, column in ((0, 1), (1, 1), (0, 2)):
        expected += 4 * f[row + 1] * f[row]  # the 2×2 transposed convolution
        expected += count_block(f[row] * (column + 1), f[row])
    expected += 2 * count_head(f[0], f[0], classes)
    model = create_unetpp_model((32, 32, 3), num_classes=classes, filters=f)
    assert model.count_params() == expected


def test_unet_has_the_parameters_of_its_blocks():
    f, classes = (4, 6, 10), 5
    expected = count_block(3, f[0]) + count_block(f[0], f[1]) + count_block(f[1], f[2])
    for row in (0, 1):
        expected += 4 * f[row + 1] * f[row] + count_block(2 * f[row], f[row])
    expected += count_head(f[0], f[0], classes)
    model = create_unet_model((32, 32, 3), num_classes=classes, filters=f)
    assert model.count_params() == expected


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_heads_and_nodes_follow_the_number_of_filters(depth):
    filters = [2 + i for i in range(depth)]
    model = create_unetpp_model((64, 96, 3), num_classes=3, filters=filters)
    names = [f"head_{j}" for j in range(1, depth)]
    assert [layer.name for layer in model.layers if isinstance(layer, ClassLogits)] == names
    assert [output.shape for output in model.outputs] == [(None, 64, 96, 3)] * (depth - 1)
    for row in range(depth):
        for column in range(1, depth - row):
            node = model.get_layer(f"x_{row}_{column}_join")
            assert node.output.shape[-1] == filters[row] * (column + 1)
            assert node.output.shape[1:3] == (64 >> row, 96 >> row)
    dropped = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert dropped == [f"x_{i}_0_drop" for i in range(max(1, depth - 2), depth)]


def test_without_deep_supervision_only_the_last_head_is_there():
    model = create_unetpp_model(
        (32, 32, 3), num_classes=3, filters=(2, 3, 4), deep_supervision=False
    )
    assert len(model.outputs) == 1
    assert not any("head_1" in layer.name for layer in model.layers)


def test_at_stride_2_all_rows_have_half_the_size_and_heads_the_whole():
    model = create_unetpp_model(
        (32, 64, 3), num_classes=3, filters=(4, 6, 8), stride=2, detail=5, convolutions=1
    )
    assert [output.shape for output in model.outputs] == [(None, 32, 64, 3)] * 2
    assert model.get_layer("x_0_0_b_relu").output.shape == (None, 16, 32, 4)
    assert model.get_layer("x_2_0_b_relu").output.shape == (None, 4, 8, 8)
    assert model.get_layer("detail_b_relu").output.shape == (None, 16, 32, 5)
    assert model.get_layer("head_2_join").output.shape[-1] == 4 + 5
    names = [layer.name for layer in model.layers]
    assert "x_0_1_a_conv" in names
    assert "x_0_1_b_conv" not in names


def test_detail_shows_each_pixel_to_the_heads():
    model = create_unetpp_model((32, 32, 3), num_classes=3, filters=(4, 6), stride=2, detail=5)
    assert model.get_layer("detail_a_conv").kernel.shape == (6, 6, 3, 5)
    assert model.get_layer("head_1_conv").filters == 5  # more than the row has
    first = model.get_layer("x_0_0_a_conv")
    first.set_weights([np.zeros_like(first.get_weights()[0])])  # all other ways are closed
    x = images(1, 32, 32)
    answer = compute(model, x)
    for row, column in ((8, 8), (8, 9), (9, 8), (9, 9)):  # one square
        changed = x.copy()
        changed[0, row, column] ^= 255
        assert (compute(model, changed) != answer).any()


def test_frozen_depthwise_kernels_are_all_and_nothing_else():
    model = create_with_encoder(filters=(4, 6), frozen_depthwise=True)
    for layer in model.layers:
        assert layer.trainable != isinstance(layer, keras.layers.DepthwiseConv2D)


@pytest.mark.parametrize("frozen", [{"frozen_rows": 1}, {"frozen_depthwise": True}])
def test_random_weights_that_are_frozen_are_told(frozen):
    with pytest.warns(UserWarning, match="keep random weights as they are"):
        create_with_encoder(filters=(4, 6), encoder_weights=None, **frozen)


def test_frozen_rows_are_those_of_freeze_encoder():
    model = create_with_encoder(filters=(4, 6), frozen_rows=1)
    frozen = [layer.name for layer in encoder_layers(model) if not layer.trainable]
    assert 0 < len(frozen) < len(encoder_layers(model))
    other = create_with_encoder(filters=(4, 6))
    seglib.freeze_encoder(other, upto=0)
    assert frozen == [layer.name for layer in encoder_layers(other) if not layer.trainable]


def test_pruned_models_are_smaller_and_agree_exactly():
    model = create_unetpp_model((32, 32, 3), num_classes=4, filters=(4, 6, 8, 10))
    set_model_classes(model, ClassTable(list("abcd"), [(i, i, i) for i in range(4)]))
    x = images(2, 32, 32)
    outputs = compute(model, x)
    sizes = []
    for level, expected in enumerate(outputs, start=1):
        pruned = prune(model, level)
        np.testing.assert_array_equal(compute(pruned, x), expected)
        assert model_classes(pruned) == model_classes(model)
        sizes.append(pruned.count_params())
    assert sizes == sorted(set(sizes))
    assert sizes[-1] < model.count_params()
    pruned.set_weights([weight + 1 for weight in pruned.get_weights()])
    np.testing.assert_array_equal(compute(model, x)[-1], outputs[-1])


@pytest.mark.parametrize(("level", "supervised", "heads"), [(3, True, "1, 2"), (1, False, "2")])
def test_pruning_at_a_head_that_is_not_there_says_which_are(level, supervised, heads):
    model = create_unetpp_model(
        (32, 32, 3), num_classes=3, filters=(2, 3, 4), deep_supervision=supervised
    )
    with pytest.raises(ValueError, match=rf"level of \[{heads}\]"):
        prune(model, level)
    assert prune(model, 2).count_params() <= model.count_params()


def test_pictures_are_scaled_inside():
    model = create_unet_model((32, 32, 3), num_classes=3, filters=(2, 3))
    scaled = keras.Model(model.input, model.get_layer("scale").output)
    answer = compute(scaled, np.full((1, 32, 32, 3), [0, 127.5, 255], np.float32))
    np.testing.assert_allclose(answer[0, 0, 0], [-1, 0, 1], atol=1e-6)


def test_kernels_of_one_shape_are_drawn_apart():
    model = create_unet_model((32, 32, 3), num_classes=3, filters=(4, 4), seed=1)
    first, second = (model.get_layer(f"x_1_0_{x}_conv").get_weights()[0] for x in "ab")
    assert (first != second).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filters": (8,)}, "2 to 6 filter counts"),
        ({"filters": (2,) * 7}, "2 to 6 filter counts"),
        ({"input_shape": (32, 32, 1)}, r"\(height, width, 3\)"),
        ({"input_shape": (16, 32, 3)}, "at least 32 pixels"),
        ({"num_classes": 1}, "at least 2 classes"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\)"),
        ({"convolutions": 3}, r"convolutions to be 1 or 2, received 3"),
        ({"stride": 4}, r"stride to be 1 or 2, received 4"),
        ({"detail": 8}, "detail=8 needs stride=2"),
        ({"detail": -4}, "at least 0 channels, received -4"),
        ({"frozen_rows": 1}, "need an encoder"),
        ({"frozen_depthwise": True}, "need an encoder"),
        ({"encoder": "efficientnet_lite0", "stride": 3}, "stride to be 1 or 2, received 3"),
        ({"encoder": "efficientnet_lite0", "frozen_rows": 9}, "from 0 to 3, .* received 9"),
        ({"encoder": "efficientnet_lite0", "frozen_rows": -1}, "from 0 to 3, .* received -1"),
    ],
)
def test_wrong_arguments_say_what_was_expected(change, message):
    arguments = {"input_shape": (32, 32, 3), "num_classes": 3, "filters": (2, 3), **change}
    with pytest.raises(ValueError, match=message):
        create_unetpp_model(arguments.pop("input_shape"), **arguments)


def test_a_saved_model_knows_its_classes(tmp_path):
    model = create_unetpp_model((32, 32, 3), num_classes=3, filters=(2, 3, 4))
    assert model_classes(model) is None
    set_model_classes(model, TABLE)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert model_classes(loaded) == TABLE
    x = images(1, 32, 32)
    for answer, expected in zip(compute(loaded, x), compute(model, x), strict=True):
        np.testing.assert_array_equal(answer, expected)


def test_a_saved_model_knows_how_pictures_fit_it(tmp_path):
    model = create_unetpp_model((32, 32, 3), num_classes=3, filters=(2, 3, 4))
    assert model_fit(model) == "stretch"
    set_model_classes(model, TABLE, fit="letterbox")
    model.save(tmp_path / "model.keras")
    assert model_fit(keras.saving.load_model(tmp_path / "model.keras")) == "letterbox"
    assert model_fit(prune(model, 1)) == "letterbox"
    set_model_classes(model, TABLE)
    assert model_fit(model) == "stretch"
    with pytest.raises(ValueError, match="fit to be one of stretch, letterbox, received 'crop'"):
        set_model_classes(model, TABLE, fit="crop")


def test_models_saved_before_there_was_a_choice_stretch():
    config = ClassLogits(TABLE).get_config()
    assert config.pop("fit") == "stretch"
    assert ClassLogits.from_config(config).fit == "stretch"


def test_a_model_at_another_size_is_one_that_was_made_so():
    options = {"num_classes": 3, "filters": (4, 6, 8), "seed": 3, "deep_supervision": True}
    model = create_unetpp_model((32, 32, 3), **options)
    table = ClassTable(["a", "b", "c"], [(i, i, i) for i in range(3)])
    set_model_classes(model, table, fit="letterbox")
    other = seglib.resize_model(model, (40, 64))
    assert other.input_shape == (None, 40, 64, 3)
    assert (model_classes(other), model_fit(other), other.name) == (table, "letterbox", "unetpp")
    x = images(2, 40, 64)
    expected = compute(create_unetpp_model((40, 64, 3), **options), x)
    for a, b in zip(
        keras.tree.flatten(compute(other, x)), keras.tree.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for layer in other.layers:
        for weight in layer.trainable_weights[:1]:
            weight.assign(weight + 1)
    assert model.get_weights()[0].max() < 1  # its own are as they were
    for size in (64, (64, None), (64, 0), (64, 64, 3)):
        with pytest.raises(ValueError, match="expected a size of"):
            seglib.resize_model(model, size)


def test_a_model_of_another_number_of_classes_is_refused():
    model = create_unet_model((32, 32, 3), num_classes=4, filters=(2, 3))
    with pytest.raises(ValueError, match="create it with num_classes=3"):
        set_model_classes(model, TABLE)


def test_low_precision_computes_low_and_answers_float32():
    model = create_unet_model((32, 32, 3), num_classes=3, filters=(4, 8))
    x = images(1, 32, 32)
    expected = compute(model, x)
    set_precision(model, "mixed_bfloat16")
    model.compile()
    answer = compute(model, x)
    assert answer.dtype == np.float32
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    assert model.get_layer("x_0_0_a_conv").compute_dtype == "bfloat16"
    assert (answer != expected).any()
    np.testing.assert_allclose(answer, expected, atol=0.1)


def test_copied_weights_leave_heads_of_other_classes_alone():
    create = {"filters": (2, 3), "num_classes": 3}
    source, target = (create_unet_model((32, 32, 3), **create, seed=seed) for seed in (1, 2))
    set_model_classes(source, TABLE)
    fresh = target.get_layer("head_1_classes").get_weights()
    assert copy_weights(source, target) == ["head_1_classes"]
    np.testing.assert_array_equal(target.get_layer("head_1_classes").get_weights()[0], fresh[0])
    np.testing.assert_array_equal(
        *(model.get_layer("x_1_0_a_conv").get_weights()[0] for model in (source, target))
    )
    set_model_classes(target, TABLE)
    assert copy_weights(source, target) == []


def test_layers_keep_the_contract(tmp_path):
    x = images(2, 9, 14).astype(np.float32)
    check_layer(PadToMultiple(8), x, tmp_path=tmp_path)
    check_layer(ClassLogits(TABLE), np.pad(x, [(0, 0), (0, 7), (0, 2), (0, 0)]), x,
                tmp_path=tmp_path)  # fmt: skip


def test_padding_is_zero_at_the_bottom_and_right():
    padded = keras.ops.convert_to_numpy(PadToMultiple(4)(np.ones((1, 3, 4, 1), np.float32)))
    np.testing.assert_array_equal(padded[0, :, :, 0], [[1] * 4] * 3 + [[0] * 4])


def test_models_and_losses_are_free_of_tensorflow():
    folder = pathlib.Path(seglib.__file__).parent
    paths = [*folder.glob("models/*.py"), *folder.glob("losses/*.py"), folder / "metrics.py"]
    assert len(paths) > 10
    for path in paths:
        text = path.read_text()
        assert "tensorflow" not in text
        assert "tf." not in text


def create_with_encoder(size=(64, 64), **options):
    options = {"num_classes": 3, "filters": (4, 6), "encoder": "efficientnet_lite0", **options}
    return create_unetpp_model((*size, 3), **options)


def test_maps_of_an_encoder_are_the_first_nodes():
    f, classes, channels = (8, 10, 12, 14), 5, (16, 24, 40, 112, 320)
    model = create_with_encoder(filters=f, num_classes=classes, encoder_weights=None)
    expected = sum(layer.count_params() for layer in encoder_layers(model))
    assert expected == 2_998_304  # of EfficientNet-Lite0 without its head
    for row in range(4):
        for column in range(1, 5 - row):
            node = model.get_layer(f"x_{row}_{column}_join").output
            assert node.shape == (None, 32 >> row, 32 >> row, channels[row] + column * f[row])
            below = channels[row + 1] if column == 1 else f[row + 1]
            expected += 4 * below * f[row]
            expected += count_block(node.shape[-1], f[row])
    # Each of a head's pixels scores four of the picture's.
    expected += 4 * (count_head(f[0], f[0], classes) + 3 * f[0] * classes)
    assert model.count_params() == expected
    assert [output.shape for output in model.outputs] == [(None, 64, 64, classes)] * 4
    dropped = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert sorted(dropped) == ["x_3_0_drop", "x_4_0_drop"]


def test_a_pretrained_encoder_brings_its_weights_and_the_seed_the_others():
    first, second = (create_with_encoder(seed=seed) for seed in (1, 2))
    kernels = read_torch_arrays(find_weights())["_conv_stem.weight"].transpose(2, 3, 1, 0)
    for model in (first, second):
        np.testing.assert_array_equal(
            model.get_layer("encoder_stem_conv").get_weights()[0], kernels
        )
    pairs = [model.get_layer("x_0_1_a_conv").get_weights()[0] for model in (first, second)]
    assert (pairs[0] != pairs[1]).any()


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize("supervised", [True, False])
def test_an_encoder_takes_one_to_four_rows_and_any_classes(rows, supervised):
    model = create_with_encoder(
        (32, 32),
        num_classes=2 + 40 * rows,
        filters=(4,) * rows,
        deep_supervision=supervised,
        encoder_weights=None,
    )
    heads = [layer.name for layer in model.layers if isinstance(layer, ClassLogits)]
    assert heads == [f"head_{j}" for j in range(1 if supervised else rows, rows + 1)]
    assert model.outputs[-1].shape == (None, 32, 32, 2 + 40 * rows)


def test_decoders_of_encoders_have_widths_of_their_own():
    model = create_with_encoder((32, 32), filters=None, encoder_weights=None)
    widths = [model.get_layer(f"x_{row}_1_a_conv").filters for row in range(4)]
    assert widths == [32, 48, 64, 96]
    with pytest.raises(ValueError, match="1 to 4 filter counts"):
        create_with_encoder(filters=(4,) * 5)


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "MobileNetV2"])
def test_with_an_encoder_sizes_are_padded_heads_pruned_and_models_saved(encoder, tmp_path):
    options = {"encoder": encoder, "encoder_weights": None}
    fixed, free = (create_with_encoder(size, **options) for size in ((33, 47), (None, None)))
    set_model_classes(fixed, TABLE)
    x = images(2, 33, 47)
    outputs = compute(fixed, x)
    assert [output.shape for output in outputs] == [(2, 33, 47, 3)] * 2
    for answer, expected in zip(compute(free, x), outputs, strict=True):
        np.testing.assert_allclose(answer, expected, atol=1e-4)

    pruned = prune(fixed, 1)
    np.testing.assert_array_equal(compute(pruned, x), outputs[0])
    assert model_classes(pruned) == TABLE
    assert len(encoder_layers(pruned)) < len(encoder_layers(fixed))

    fixed.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert model_classes(loaded) == TABLE
    for answer, expected in zip(compute(loaded, x), outputs, strict=True):
        np.testing.assert_array_equal(answer, expected)
    assert copy_weights(loaded, fixed) == []


def test_a_model_with_a_pretrained_encoder_learns():
    model = create_with_encoder((32, 32))
    labels = np.random.default_rng(0).integers(0, 3, (2, 32, 32, 1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), [loss] * 2)
    values = [model.train_on_batch(images(2, 32, 32), [labels] * 2)[0] for _ in range(4)]
    assert np.isfinite(values).all()
    assert values[-1] < values[0]


def test_low_precision_leaves_depthwise_kernels_in_float32():
    model = create_with_encoder()
    x = images(1, 64, 64)
    expected = compute(model, x)[-1]
    set_precision(model, "mixed_bfloat16")
    assert model.get_layer("encoder_block_1_expand_conv").compute_dtype == "bfloat16"
    assert model.get_layer("encoder_block_1_depthwise_conv").compute_dtype == "float32"
    model.compile("sgd", ["mse"] * 2)
    answer = compute(model, x)[-1]
    assert answer.dtype == np.float32
    assert (answer != expected).any()
    np.testing.assert_allclose(answer, expected, atol=0.05 * np.abs(expected).max())
    assert np.isfinite(model.train_on_batch(x, [np.zeros((1, 64, 64, 3))] * 2)).all()
    set_precision(model, "mixed_float16")
    assert model.get_layer("encoder_block_1_depthwise_conv").compute_dtype == "float16"
    set_precision(model, "float32")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_reweighting_weighs_probabilities_and_leaves_the_model_alone():
    model = create_unetpp_model((32, 32, 3), num_classes=3, filters=(4, 6, 8))
    set_model_classes(model, TABLE)
    x, weights = images(2, 32, 32), np.array([0.5, 3, 0.0])
    before = [keras.ops.softmax(head) for head in compute(model, x)]
    weighed = reweight_classes(model, weights)
    assert model_classes(weighed) == TABLE
    for head, probabilities in zip(compute(weighed, x), before, strict=True):
        expected = probabilities * weights
        expected = expected / keras.ops.sum(expected, axis=-1, keepdims=True)
        np.testing.assert_allclose(keras.ops.softmax(head), expected, atol=1e-5)
    after = [keras.ops.softmax(head) for head in compute(model, x)]
    np.testing.assert_array_equal(before[-1], after[-1])


def test_weights_that_cannot_weigh_classes_are_refused():
    model = create_unetpp_model((32, 32, 3), num_classes=3, filters=(4, 6))
    for weights in ([1, 2], [1, np.nan, 1], [1, -1, 1]):
        with pytest.raises(ValueError, match="weight of at least 0 for each of 3 classes"):
            reweight_classes(model, weights)


@pytest.mark.parametrize(
    "use",
    [
        lambda model: seglib.predict(model, images(8, 8)),
        lambda model: seglib.predict_heads(model, images(8, 8)),
        lambda model: seglib.train(model, None, run_dir="run"),
        lambda model: seglib.export(model, "export", format="keras"),
        lambda model: seglib.prune(model, 1),
        lambda model: seglib.prune_channels(model, 0.5),
        lambda model: seglib.prune_magnitudes(model, 0.5),
        lambda model: seglib.simulate_int8(model),
        lambda model: seglib.drop_int8(model),
    ],
)
def test_a_folder_in_place_of_a_model_is_told(use):
    with pytest.raises(TypeError, match=r"received a str: seglib\.load_model\(folder\)"):
        use("outputs/run")
