import keras
import numpy as np
import pytest
from scipy import stats
from small_runs import assert_same_weights, make_dataset, make_model
from test_architectures import create, images, score

import seglib
from seglib.models.listing import MODELS
from seglib.models.pruning import _Channels


def create_wide(**options):
    """A U-Net++ whose normalization has something to tell channels apart by."""
    model = seglib.create_unetpp_model((32, 32, 3), num_classes=3, filters=(16, 32, 64), **options)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(random.uniform(-0.5, 0.5, layer.beta.shape))
    return model


def silence(model, name, channels):
    """Let channels of a convolution never be heard: they are 0 after normalization and ReLU."""
    norm = model.get_layer(f"{name}_norm")
    gamma, beta = np.array(norm.gamma), np.array(norm.beta)
    gamma[channels], beta[channels] = 0, -1
    norm.gamma.assign(gamma)
    norm.beta.assign(beta)


def test_all_channels_kept_is_a_copy():
    model = create_wide()
    pruned = seglib.prune_channels(model, 1.0)
    assert_same_weights(model, pruned)
    assert pruned is not model
    assert pruned.name == "unetpp"


def test_silent_channels_go_first_and_change_nothing():
    """Half of each convolution is silent: the half-sized network answers the same."""
    model = create_wide()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            name = layer.name.removesuffix("_norm")
            count = layer.gamma.shape[0]
            chosen = np.random.default_rng(len(name)).permutation(count)[: count // 2]
            silence(model, name, chosen)
    kept = {name: width for name, width in _Channels(model).widths.items() if "_up" in name}
    for name in kept:  # enlarged maps have no normalization: silence them by their kernels
        kernel = np.array(model.get_layer(name).kernel)
        kernel[:, :, ::2] = 0
        model.get_layer(name).kernel.assign(kernel)
    pruned = seglib.prune_channels(model, 0.5)
    assert pruned.count_params() < 0.3 * model.count_params()
    x = images(2, 32, 32)
    np.testing.assert_allclose(score(model, x), score(pruned, x), atol=1e-4)


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.75])
def test_channels_stay_in_eights(keep):
    model = create_wide()
    pruned = seglib.prune_channels(model, keep)
    shrunk = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and not layer.name.endswith("_classes"):
            before, after = layer.filters, pruned.get_layer(layer.name).filters
            assert after % 8 == 0
            assert 0 <= after - keep * before < 8 + 4
            shrunk += after < before
    assert shrunk > 5
    assert pruned.output_shape == model.output_shape
    assert all(layer.trainable for layer in pruned.layers)


def test_the_strength_of_a_channel_is_its_mean_square():
    """After ReLU, of normally distributed values: by drawing them."""
    model = create_wide()
    norm = model.get_layer("x_0_0_a_norm")
    energy = _Channels(model).energy["x_0_0_a_conv"]
    for n in range(4):
        values = stats.norm.rvs(
            np.asarray(norm.beta)[n], np.asarray(norm.gamma)[n], 400_000, random_state=n
        )
        assert energy[n] == pytest.approx(np.mean(np.maximum(values, 0) ** 2), rel=0.02)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("attention", [None, "cbam"])  # which contains "se"
def test_each_network_is_pruned_with_any_attention(name, attention):
    options = {"filters": (16, 32)} if "unet" in name else {"filters": (16, 16, 16, 16, 24)}
    model = create(name, attention=attention, **options)
    pruned = seglib.prune_channels(model, 0.5)
    assert pruned.count_params() < model.count_params()
    assert score(pruned, images(1, 32, 32)).shape == (1, 32, 32, 3)


@pytest.mark.filterwarnings("ignore:.*keep random weights")
def test_a_pretrained_encoder_is_pruned_between_its_sums():
    model = seglib.create_unetpp_model(
        (64, 64, 3), num_classes=3, filters=(16, 16), encoder="efficientnet_lite0",
        encoder_weights=None, frozen_rows=1,
    )  # fmt: skip
    pruned = seglib.prune_channels(model, 0.5)
    for layer in model.layers:
        if layer.name.endswith("_expand_conv"):
            assert pruned.get_layer(layer.name).filters <= layer.filters / 2 + 8
        if layer.name.endswith("_project_conv") and "block_2_" in layer.name:
            assert pruned.get_layer(layer.name).filters == layer.filters  # it is added to
    assert pruned.count_params() < 0.7 * model.count_params()
    assert score(pruned, images(1, 64, 64)).shape == (1, 64, 64, 3)


def test_what_was_pruned_trains_saves_and_loads(tmp_path):
    model = make_model(filters=(16, 24))
    pruned = seglib.prune_channels(model, 0.5)
    run = seglib.train(pruned, make_dataset(), run_dir=tmp_path, epochs=1, precision="float32")
    assert run.history["step"].iloc[-1] == 3
    assert_same_weights(seglib.load_model(tmp_path), pruned)


def test_nothing_to_prune_is_told():
    with pytest.raises(ValueError, match="no channel of unetpp can be removed"):
        seglib.prune_channels(make_model(filters=(4, 8)), 0.9)
    for keep in (0, 1.5, -1):
        with pytest.raises(ValueError, match="keep to be in"):
            seglib.prune_channels(make_model(), keep)


@pytest.mark.parametrize("name", MODELS)
def test_the_smallest_weights_become_zero(name):
    model = create(name, filters=(16, 32) if "unet" in name else (16, 16, 16, 16, 24))
    weights = model.get_weights()
    pruned = seglib.prune_magnitudes(model, 0.75)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose):
            continue
        before, after = (np.asarray(m.get_layer(layer.name).kernel) for m in (model, pruned))
        if layer.name.endswith("_classes"):
            np.testing.assert_array_equal(before, after)
            continue
        gone = after == 0
        assert gone.mean() == pytest.approx(0.75, abs=0.01)
        np.testing.assert_array_equal(before[~gone], after[~gone])
        assert np.abs(before[gone]).max() <= np.abs(before[~gone]).min()


def test_a_sparsity_out_of_range_is_refused():
    model = make_model()
    for sparsity in (-0.1, 1):
        with pytest.raises(ValueError, match="sparsity in"):
            seglib.prune_magnitudes(model, sparsity)


def test_zeros_stay_through_training(tmp_path):
    pruned = seglib.prune_magnitudes(make_model(), 0.6)
    before = [np.asarray(weight) for weight in pruned.trainable_weights]
    optimizer = seglib.Muon(1e-2, keep_zeros=True, weight_decay=0.1, use_ema=True)
    seglib.train(pruned, make_dataset(), run_dir=tmp_path, epochs=2, optimizer=optimizer)
    for old, weight in zip(before, pruned.trainable_weights, strict=True):
        new = np.asarray(weight)
        if old.ndim > 1:
            np.testing.assert_array_equal(new == 0, old == 0)
        assert (new[old != 0] != old[old != 0]).all()
    biases = [w for w in pruned.trainable_weights if w.path.endswith("beta")]
    assert all((np.asarray(bias) != 0).any() for bias in biases)  # which began at 0
