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


def create_variables(shapes=SHAPES):
    variables = []
    for i, (path, shape) in enumerate(shapes.items()):
        scope, name = path.split("/")
        with keras.name_scope(scope):
            variables.append(keras.Variable(draw(shape, i), name=name))
    return variables


def walk(optimizer, steps, shapes=SHAPES):
    """Return weights after each step along random gradients, the same for every optimizer."""
    variables, weights = create_variables(shapes), []
    optimizer.build(variables)
    for step in range(steps):
        gradients = [draw(v.shape, 100 * step + i) for i, v in enumerate(variables, 10)]
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
        weights.append([np.array(variable) for variable in variables])
    return weights


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
    expected = [multiply_turns(matrix) for matrix in matrices]
    answers = orthogonalize_matrices([keras.ops.convert_to_tensor(x) for x in matrices])
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
    assert_same(walk(ours, 5)[-1], walk(theirs, 5)[-1], atol=2e-6)


@pytest.mark.skipif(not hasattr(keras.optimizers, "Muon"), reason="Keras has it from 3.10 on")
def test_steps_are_those_of_keras_muon_on_the_same_matrix():
    ours = walk(Muon(0.01, weight_decay=0.1), 3, {"a/kernel": KERNEL})[-1][0]
    theirs = walk(keras.optimizers.Muon(0.01, weight_decay=0.1), 3, {"a/kernel": (72, 6)})[-1]
    assert_same([ours.reshape(72, 6)], theirs, atol=2e-5)


def test_muon_leaves_to_adamw_what_is_no_matrix_or_makes_logits():
    steps = [walk(kind(0.01, weight_decay=0.1), 1)[0] for kind in (AdamW, Muon)]
    unlike = [x for x, a, b in zip(SHAPES, *steps, strict=True) if not np.allclose(a, b, atol=1e-6)]
    assert unlike == ["encoder_a/kernel", "f/kernel"]


def test_the_encoder_learns_at_its_share_of_the_rate():
    full, part = (walk(Muon(1e-3, encoder_rate=rate), 1)[0] for rate in (1, 0.25))
    for path, start, a, b in zip(SHAPES, create_variables(), full, part, strict=True):
        share = 0.25 if path.startswith("encoder_") else 1
        np.testing.assert_allclose(b - start, share * (a - start), atol=1e-6)


def test_averages_follow_closely_at_first():
    optimizer = Muon(0.01, use_ema=True, ema_momentum=0.2)
    expected, *later = walk(optimizer, 4)
    for step, weights in enumerate(later, 1):
        share = min(0.2, step / (step + 10))
        pairs = zip(expected, weights, strict=True)
        expected = [share * old + (1 - share) * new for old, new in pairs]
    assert_same(optimizer.averages(), expected, atol=1e-6)
    # Counter and rate; momentum and average of matrices; a velocity as well of all others.
    assert len(optimizer.variables) == 2 + 2 + 3
    fresh = AdamW(use_ema=True)
    fresh.build(create_variables())
    assert_same(fresh.averages(), create_variables())


def test_gradients_add_up_over_batches():
    options = {"weight_decay": 0.1, "use_ema": True}
    whole, parts = Muon(0.01, **options), Muon(0.01, gradient_accumulation_steps=2, **options)
    of_whole, of_parts = create_variables(), create_variables()
    for step in range(3):
        first, second = ([draw(s, 10 * step + i) for s in SHAPES.values()] for i in (0, 1))
        whole.apply([(a + b) / 2 for a, b in zip(first, second, strict=True)], of_whole)
        before = [np.array(variable) for variable in of_parts]
        parts.apply(first, of_parts)
        assert_same(of_parts, before)
        parts.apply(second, of_parts)
    assert_same(of_whole, of_parts, atol=2e-5)
    assert_same(whole.averages(), parts.averages(), atol=2e-5)


def create_model(optimizer):
    """Convolutions whose steps are compiled as those of a training loop."""
    image, norm = keras.Input((6, 6, 3)), keras.constraints.MaxNorm(0.5)
    x = keras.layers.Conv2D(4, 3, padding="same", name="encoder_a")(image)
    x = keras.layers.Conv2D(2, 1, kernel_constraint=norm, name="c_classes")(x)
    model = keras.Model(image, x)
    model.set_weights([draw(weight.shape, i) for i, weight in enumerate(model.weights)])
    model.compile(optimizer, "mse", jit_compile=False)
    return model


def test_a_rate_that_is_set_before_each_step_is_a_schedule(tmp_path):
    options = {"weight_decay": 0.1, "encoder_rate": 0.5, "use_ema": True}
    rates = np.array([1e-3, 4e-3, 1 / 300], np.float32).tolist()
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], rates)
    scheduled, model = (create_model(Muon(rate, **options)) for rate in (schedule, 1.0))
    model.optimizer.build(model.trainable_variables)
    for rate in rates:
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
