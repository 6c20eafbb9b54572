import keras
import numpy as np
import pytest

from seglib.optimizers import AdamW, Muon, muon
from seglib.optimizers.muon import orthogonalize_matrices

KERNEL = (3, 3, 8, 6)


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


IMAGES, MAPS = draw((8, 6, 6, 3)), draw((8, 6, 6, 2), 1)


def create_kernel(shape=KERNEL):
    return keras.Variable(draw(shape), name="kernel")


def train_model(optimizer, steps, batch=4):
    """A convolution, a depthwise one, and one that makes logits, after some steps."""
    model = keras.Sequential([
        keras.Input((6, 6, 3)),
        keras.layers.Conv2D(4, 3, padding="same", name="encoder_a"),
        keras.layers.DepthwiseConv2D(3, padding="same", name="b"),
        keras.layers.Conv2D(2, 1, name="c_classes"),
    ])  # fmt: skip
    model.set_weights([draw(weight.shape, i) for i, weight in enumerate(model.weights)])
    model.compile(optimizer, "mse")
    for step in range(steps):
        rows = slice(step * batch % 8, step * batch % 8 + batch)
        model.train_on_batch(IMAGES[rows], MAPS[rows])
    return model


def multiply_turns(matrix):
    """The iteration as it is published, on the matrix itself, in float64."""
    x = matrix.astype(np.float64) / np.linalg.norm(matrix)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


SHAPES = [(27, 8), (8, 27), (8, 8), (5, 16), (16, 5), (144, 8), (2, 2)]


@pytest.mark.parametrize("accelerated", [False, True])
def test_matrices_are_those_of_the_published_iteration(monkeypatch, accelerated):
    monkeypatch.setattr(muon, "has_accelerator", lambda: accelerated)
    matrices = [draw(shape, i) for i, shape in enumerate(SHAPES)]
    answers = orthogonalize_matrices([keras.ops.convert_to_tensor(x) for x in matrices])
    for matrix, answer in zip(matrices, answers, strict=True):
        np.testing.assert_allclose(answer, multiply_turns(matrix), atol=2e-4)


def test_singular_values_come_close_to_one_and_vectors_stay():
    stretched = draw((27, 8)) * np.float32(2) ** np.arange(8, dtype=np.float32)
    answer = np.array(orthogonalize_matrices([keras.ops.convert_to_tensor(stretched)])[0])
    values = np.linalg.svd(answer, compute_uv=False)
    assert 0.6 < values.min() < values.max() < 1.25
    left, _, right = np.linalg.svd(stretched, full_matrices=False)
    rotated = left.T @ answer @ right.T
    np.testing.assert_allclose(rotated - np.diag(np.diag(rotated)), 0, atol=2e-3)


@pytest.mark.parametrize("size", [0, 1e-3, 1e9])
def test_neither_zeros_nor_sizes_matter(size):
    x = draw((18, 4))
    answers = orthogonalize_matrices([keras.ops.convert_to_tensor(np.float32(size) * x)])
    expected = multiply_turns(x) if size else np.zeros((18, 4))
    np.testing.assert_allclose(answers[0], expected, atol=2e-4)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_are_those_of_keras_muon_on_the_same_matrix(steps):
    kernel, matrix = create_kernel(), keras.Variable(draw(KERNEL).reshape(-1, KERNEL[-1]))
    ours = Muon(0.01, weight_decay=0.1)
    theirs = keras.optimizers.Muon(0.01, weight_decay=0.1)
    for step in range(steps):
        gradient = draw(KERNEL, 10 + step)
        ours.apply([keras.ops.convert_to_tensor(gradient)], [kernel])
        gradient = gradient.reshape(matrix.shape)
        theirs.apply([keras.ops.convert_to_tensor(gradient)], [matrix])
    np.testing.assert_allclose(np.array(kernel).reshape(matrix.shape), matrix, atol=2e-5)
    assert np.abs(np.array(kernel) - draw(KERNEL)).max() > 1e-3 * steps


def test_what_is_no_matrix_and_what_makes_logits_is_left_to_adamw():
    models = [train_model(kind(0.01, weight_decay=0.1), 1) for kind in (AdamW, Muon)]
    for a, b in zip(*(model.weights for model in models), strict=True):
        are_alike = np.allclose(a, b, atol=1e-6)
        assert are_alike != a.path.endswith("encoder_a/kernel"), a.path


def test_grouped_kernels_and_single_maps_are_no_matrices():
    shapes = {(3, 3, 8, 6): True, (7, 7, 1, 16): False, (3, 3, 16, 1): False, (2, 2, 1, 16): False,
              (1, 1, 3, 2): True, (8, 6): False}  # fmt: skip
    for shape, expected in shapes.items():
        assert muon._is_matrix(create_kernel(shape)) == expected, shape


def test_the_encoder_learns_at_its_share_of_the_rate():
    before = train_model(Muon(), 0).get_weights()[0]
    full, part = (
        train_model(Muon(1e-3, encoder_rate=rate), 1).get_weights()[0] for rate in (1, 0.25)
    )
    np.testing.assert_allclose(part - before, 0.25 * (full - before), atol=1e-6)


def test_gradients_add_up_over_batches():
    whole = train_model(Muon(0.01, weight_decay=0.1, use_ema=True), 3, batch=8)
    parts = train_model(
        Muon(0.01, weight_decay=0.1, use_ema=True, gradient_accumulation_steps=2), 6, batch=4
    )
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    averages = (model.optimizer.averages() for model in (whole, parts))
    for a, b in zip(*averages, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_zeros_of_pruned_kernels_stay(kind):
    kernel = create_kernel()
    pruned = np.abs(kernel) < 0.5
    kernel.assign(np.where(pruned, 0, kernel))
    optimizer = kind(0.01, weight_decay=0.1, keep_zeros=True, use_ema=True)
    for step in range(3):
        optimizer.apply([keras.ops.convert_to_tensor(draw(KERNEL, step))], [kernel])
    np.testing.assert_array_equal(np.array(kernel) == 0, pruned)
    np.testing.assert_array_equal(np.array(optimizer.averages()[0]) == 0, pruned)


def test_pruned_weights_turn_no_others_direction():
    pruned = draw(KERNEL) > 0.5
    kernels = []
    for strangers in (0, 100):  # gradients of what is pruned
        kernel = keras.Variable(np.where(pruned, 0, draw(KERNEL)), name="kernel")
        gradient = np.where(pruned, strangers, draw(KERNEL, 1)).astype(np.float32)
        Muon(0.01, keep_zeros=True).apply([keras.ops.convert_to_tensor(gradient)], [kernel])
        kernels.append(np.array(kernel))
    np.testing.assert_array_equal(*kernels)


def test_it_is_saved_with_its_state(tmp_path):
    optimizer = Muon(0.01, momentum=0.9, weight_decay=0.1, encoder_rate=0.5, use_ema=True)
    train_model(optimizer, 3).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert loaded.get_config() == optimizer.get_config()
    assert loaded.momentum == 0.9
    for a, b in zip(loaded.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.array(a), np.array(b))


def test_matrices_need_no_second_moment():
    optimizer = Muon(weight_decay=0.1, use_ema=True)
    train_model(optimizer, 1)
    # Counter and rate; of the matrix momentum and average, of other kernels and of biases a
    # velocity as well.
    assert len(optimizer.variables) == 2 + 2 + 3 * 2


def test_a_wrong_momentum_says_what_was_expected():
    with pytest.raises(ValueError, match=r"momentum in \[0, 1\), received 1"):
        Muon(momentum=1)
