import keras
import numpy as np
import pytest

from seglib.optimizers import AdamW, Muon

X, Y = (
    np.random.default_rng(i).normal(size=(16, n)).astype(np.float32) for i, n in ((0, 4), (1, 3))
)


def train_model(optimizer, steps):
    """Two layers, the first an encoder's, after some steps."""
    model = keras.Sequential([
        keras.Input((4,)),
        keras.layers.Dense(8, name="encoder_a"),
        keras.layers.Dense(3, name="b"),
    ])  # fmt: skip
    random = np.random.default_rng(2)
    model.set_weights([random.normal(size=weight.shape) for weight in model.weights])
    model.compile(optimizer, "mse")
    for step in range(steps):
        model.train_on_batch(X[step % 4 :: 4], Y[step % 4 :: 4])
    return model


def create_keras_adamw(**options):
    optimizer = keras.optimizers.AdamW(**options)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@pytest.mark.parametrize("accumulation", [None, 2])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_weights_are_those_of_keras_adamw(accumulation, steps):
    options = {"learning_rate": 0.01, "weight_decay": 0.1,
               "gradient_accumulation_steps": accumulation}  # fmt: skip
    weights = [
        train_model(o, steps).get_weights()
        for o in (create_keras_adamw(**options), AdamW(**options))
    ]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.parametrize("create", [AdamW, Muon])
def test_what_is_excluded_does_not_decay(create):
    weights = []
    for decay, excluded in ((0.0, []), (0.5, ["kernel"]), (0.5, [])):
        optimizer = create(0.01, weight_decay=decay)
        optimizer.exclude_from_weight_decay(var_names=excluded)
        weights.append(train_model(optimizer, 1).get_weights())
    without, spared, decayed = weights
    for a, b, c in zip(without, spared, decayed, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (c != a).all() == (c.ndim > 1)


def test_constraints_hold():
    model = keras.Sequential([
        keras.Input((4,)), keras.layers.Dense(3, kernel_constraint=keras.constraints.MaxNorm(0.1))
    ])  # fmt: skip
    model.compile(AdamW(0.1), "mse")
    model.train_on_batch(X, Y)
    norms = np.linalg.norm(model.get_weights()[0], axis=0)
    np.testing.assert_allclose(norms, 0.1, rtol=1e-3)


def test_the_encoder_learns_at_its_share_of_the_rate():
    before = train_model(AdamW(), 0).get_weights()
    after = train_model(AdamW(1e-3, encoder_rate=0.25), 1).get_weights()
    steps = [np.abs(a - b).max() for a, b in zip(after, before, strict=True)]
    np.testing.assert_allclose(steps, [0.25e-3, 0.25e-3, 1e-3, 1e-3], rtol=2e-3)  # Adam's first


def test_averages_follow_closely_at_first():
    optimizer = AdamW(0.01, use_ema=True, ema_momentum=0.2)
    expected = None
    for steps in range(1, 6):
        weights = train_model(AdamW(0.01), steps).get_weights()
        share = min(0.2, (steps - 1) / (steps + 9))
        expected = [
            share * old + (1 - share) * new
            for old, new in zip(expected or weights, weights, strict=True)
        ]
    train_model(optimizer, 5)
    for a, b in zip(optimizer.averages(), expected, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(a), b, atol=1e-6)


def test_it_is_saved_with_its_state(tmp_path):
    optimizer = AdamW(0.01, weight_decay=0.1, encoder_rate=0.5, use_ema=True)
    model = train_model(optimizer, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert loaded.get_config() == optimizer.get_config()
    for a, b in zip(loaded.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.array(a), np.array(b))


def test_it_has_few_variables_whatever_the_model():
    optimizer = AdamW(weight_decay=0.1, use_ema=True)
    train_model(optimizer, 1)
    # Counter and rate; momentum, velocity and average of kernels and of biases.
    assert len(optimizer.variables) == 2 + 3 * 2


def create_two():
    return [keras.Variable(np.full(shape, 2.0, np.float32)) for shape in ((3,), (3,))]


def test_gradients_go_to_the_variables_they_come_with():
    first, second = create_two()
    optimizer = AdamW(0.1)
    optimizer.build([first, second])
    optimizer.apply_gradients([(keras.ops.ones(3), second)])
    np.testing.assert_array_equal(first, [2, 2, 2])
    np.testing.assert_allclose(second, [1.9, 1.9, 1.9], rtol=1e-5)
    optimizer.apply_gradients([(-keras.ops.ones(3), second), (keras.ops.ones(3), first)])
    assert np.all(np.array(first) < 2)


def test_what_has_no_gradient_does_not_shrink():
    first, second = (keras.Variable(np.full((2, 2), 2.0, np.float32)) for _ in range(2))
    optimizer = AdamW(0.1, weight_decay=0.5)
    optimizer.build([first, second])
    optimizer.apply([None, keras.ops.ones((2, 2))], [first, second])
    np.testing.assert_array_equal(first, np.full((2, 2), 2.0))
    assert np.all(np.array(second) < 1.91)
    with pytest.raises(ValueError, match="no variable has a gradient"):
        optimizer.apply([None, None], [first, second])


def test_a_variable_that_it_was_not_built_for_is_refused():
    first, second = create_two()
    optimizer = AdamW(0.1)
    optimizer.build([first])
    with pytest.raises(KeyError):
        optimizer.apply([keras.ops.ones(3)], [second])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_rate": 2}, r"encoder_rate in \[0, 1\], received 2"),
        ({"weight_decay": -1}, "weight_decay ≥ 0, received -1"),
        ({"clipnorm": 1.0}, "clipnorm is not known here: use keras.optimizers.AdamW"),
    ],
)
def test_wrong_arguments_say_what_was_expected(options, message):
    with pytest.raises(ValueError, match=message):
        AdamW(**options)
