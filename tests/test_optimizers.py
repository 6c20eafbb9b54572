import keras
import numpy as np
import pytest
from keras_checks import assert_same

from seglib.optimizers import AdamW, Muon, orthogonalize_matrices, turn_matrices

KERNEL = (3, 3, 8, 6)
# A convolution of an encoder, its bias, and what Muon leaves to AdamW: depthwise, dense, logits.
SHAPES = {
    "encoder_a/kernel": KERNEL,
    "encoder_a/bias": (6,),
    "b/depthwise": (3, 3, 6, 1),
    "c/grouped": (7, 7, 1, 16),
    "d/kernel": (8, 6),
    "e_classes/kernel": (1, 1, 6, 3),
    "f/kernel": (1, 1, 3, 2),
}


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def create_variables(shapes):
    variables = []
    for i, (path, shape) in enumerate(shapes.items()):
        scope, name = path.split("/")
        with keras.name_scope(scope):
            variables.append(keras.Variable(draw(shape, i), name=name))
    return variables


def walk(optimizer, steps, shapes=SHAPES):
    """Yield weights after each step along random gradients, the same for every optimizer."""
    variables = create_variables(shapes)
    optimizer.build(variables)
    for step in range(steps):
        gradients = [draw(v.shape, 100 * step + i) for i, v in enumerate(variables, 10)]
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
        yield [np.array(variable) for variable in variables]


def take_steps(optimizer, steps, shapes=SHAPES):
    return list(walk(optimizer, steps, shapes))[-1]


def multiply_turns(matrix):
    """The iteration as it is published, on the matrix itself, in float64."""
    if len(matrix) > len(matrix.T):
        return multiply_turns(matrix.T).T
    x = matrix.astype(np.float64) / np.linalg.norm(matrix)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


def test_matrices_are_those_of_the_published_iteration():
    shapes = [(27, 8), (8, 27), (8, 8), (5, 16), (16, 5), (144, 8), (2, 2), (27, 8)]
    matrices = [draw(shape, i) for i, shape in enumerate(shapes)]
    matrices += [1e-3 * matrices[0], 1e9 * matrices[0]]
    answers = orthogonalize_matrices([keras.ops.convert_to_tensor(x) for x in matrices])
    expected = [multiply_turns(matrix) for matrix in matrices]
    assert_same(answers, expected, atol=2e-4)
    for stack in (np.stack([matrices[1], matrices[0].T]), matrices[0][None]):  # as on GPUs
        turned = turn_matrices(keras.ops.convert_to_tensor(stack))
        assert_same(turned, [multiply_turns(matrix) for matrix in stack], atol=2e-4)
    zeros = keras.ops.zeros((18, 4))
    assert_same(orthogonalize_matrices([zeros]), [zeros])


@pytest.mark.parametrize("excluded", ["bias", "kernel"])
def test_weights_are_those_of_keras_adamw(excluded):
    ours, theirs = (kind(0.01, weight_decay=0.1) for kind in (AdamW, keras.optimizers.AdamW))
    ours.exclude_from_weight_decay(var_names=[excluded])
    theirs.exclude_from_weight_decay(var_names=[excluded, "bias"])
    assert_same(take_steps(ours, 5), take_steps(theirs, 5), atol=2e-6)


@pytest.mark.skipif(not hasattr(keras.optimizers, "Muon"), reason="Keras has it from 3.10 on")
def test_steps_are_those_of_keras_muon_on_the_same_matrix():
    ours = take_steps(Muon(0.01, weight_decay=0.1), 3, {"a/kernel": KERNEL})
    matrix = keras.Variable(draw(KERNEL).reshape(-1, KERNEL[-1]))
    theirs = keras.optimizers.Muon(0.01, weight_decay=0.1)
    for step in range(3):
        gradient = draw(KERNEL, 100 * step + 10).reshape(matrix.shape)
        theirs.apply([keras.ops.convert_to_tensor(gradient)], [matrix])
    assert_same([ours[0].reshape(matrix.shape)], [matrix], atol=2e-5)


def test_muon_leaves_to_adamw_what_is_no_matrix_or_makes_logits():
    steps = [take_steps(kind(0.01, weight_decay=0.1), 1) for kind in (AdamW, Muon)]
    unlike = [
        path for path, a, b in zip(SHAPES, *steps, strict=True) if not np.allclose(a, b, atol=1e-6)
    ]
    assert unlike == ["encoder_a/kernel", "f/kernel"]


def test_the_encoder_learns_at_its_share_of_the_rate():
    before = create_variables(SHAPES)
    full, part = (take_steps(Muon(1e-3, encoder_rate=rate), 1) for rate in (1, 0.25))
    for path, start, a, b in zip(SHAPES, before, full, part, strict=True):
        share = 0.25 if path.startswith("encoder_") else 1
        np.testing.assert_allclose(b - start, share * (a - start), atol=1e-6)


def test_averages_follow_closely_at_first():
    optimizer, expected = Muon(0.01, use_ema=True, ema_momentum=0.2), None
    for step, weights in enumerate(walk(optimizer, 4)):
        share = min(0.2, step / (step + 10))
        expected = [
            share * old + (1 - share) * new
            for old, new in zip(expected or weights, weights, strict=True)
        ]
    assert_same(optimizer.averages(), expected, atol=1e-6)
    # Counter and rate; momentum and average of matrices; a velocity as well of all others.
    assert len(optimizer.variables) == 2 + 2 + 3
    fresh = AdamW(use_ema=True)
    fresh.build(create_variables(SHAPES))
    assert_same(fresh.averages(), create_variables(SHAPES))


def test_gradients_add_up_over_batches():
    options = {"weight_decay": 0.1, "use_ema": True}
    whole, parts = Muon(0.01, **options), Muon(0.01, gradient_accumulation_steps=2, **options)
    variables = create_variables(SHAPES), create_variables(SHAPES)
    for step in range(3):
        first, second = ([draw(s, 10 * step + i) for s in SHAPES.values()] for i in (0, 1))
        whole.apply([(a + b) / 2 for a, b in zip(first, second, strict=True)], variables[0])
        before = [np.array(variable) for variable in variables[1]]
        parts.apply([keras.ops.convert_to_tensor(gradient) for gradient in first], variables[1])
        assert_same(variables[1], before)
        parts.apply([keras.ops.convert_to_tensor(gradient) for gradient in second], variables[1])
    assert_same(*variables, atol=2e-5)
    assert_same(whole.averages(), parts.averages(), atol=2e-5)


def create_model(optimizer):
    """Convolutions whose steps are compiled as those of a training loop."""
    constraint = keras.constraints.MaxNorm(0.5)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(4, 3, padding="same", name="encoder_a"),
            keras.layers.Conv2D(2, 1, kernel_constraint=constraint, name="c_classes"),
        ]
    )
    model.set_weights([draw(weight.shape, i) for i, weight in enumerate(model.weights)])
    model.compile(optimizer, "mse", jit_compile=False)
    return model


class Table(keras.optimizers.schedules.LearningRateSchedule):
    rates = np.array([1e-3, 4e-3, 1 / 300], np.float32)

    def __call__(self, step):
        return keras.ops.take(keras.ops.convert_to_tensor(self.rates), step)


def test_a_rate_that_is_set_before_each_step_is_a_schedule(tmp_path):
    options = {"weight_decay": 0.1, "encoder_rate": 0.5, "use_ema": True}
    scheduled, model = (create_model(Muon(rate, **options)) for rate in (Table(), 1.0))
    model.optimizer.build(model.trainable_variables)
    for rate in Table.rates:
        model.optimizer.learning_rate = rate
        for each in (model, scheduled):
            each.train_on_batch(draw((4, 6, 6, 3)), draw((4, 6, 6, 2), 1))
    assert_same(model.get_weights(), scheduled.get_weights())
    assert_same(model.optimizer.averages(), scheduled.optimizer.averages())
    kernel = model.get_layer("c_classes").get_weights()[0]  # its constraint holds
    assert np.abs(kernel).max() < 0.5001 < np.abs(draw(kernel.shape, 2)).max()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert loaded.get_config() == model.optimizer.get_config()
    assert_same(loaded.variables, model.optimizer.variables)


def test_gradients_go_to_the_variables_they_come_with():
    variables = create_variables({"a/kernel": (2, 2), "b/kernel": (2, 2)})
    first, second = (np.array(variable) for variable in variables)
    optimizer, ones = AdamW(0.1, weight_decay=0.5), keras.ops.ones((2, 2))
    optimizer.build(variables)
    optimizer.apply_gradients([(ones, variables[1])])
    optimizer.apply([ones, None], [variables[1], variables[0]])
    np.testing.assert_array_equal(variables[0], first)  # without a gradient it does not shrink
    assert (np.array(variables[1]) != second).all()
    with pytest.raises(ValueError, match="no variable has a gradient"):
        optimizer.apply([None, None], variables)


def test_settings_of_version_0_1_are_read_and_those_of_keras_refused():
    saved = {**Muon(1e-3).get_config(), "keep_zeros": False}
    assert Muon.from_config(saved).momentum == 0.95
    with pytest.raises(ValueError, match="clipnorm is not known here"):
        AdamW(clipnorm=1.0)
