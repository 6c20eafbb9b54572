import functools

import keras
import numpy as np
import pytest

import seglib
from seglib.recipes import DEFAULTS, PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_name_what_there_is(name):
    recipe = seglib.get_preset(name)
    native = seglib.get_preset(name, image_size=96, native_size=(512, 400))
    for each in (recipe, native):
        assert seglib.Recipe.from_json(each.to_json()) == each
    assert set(recipe.train) <= set(DEFAULTS)
    assert (recipe.epochs is None) != (recipe.time_budget is None)
    for key in (*recipe.prepare, *recipe.model, *recipe.train):
        assert key in repr(recipe)
    augment = native.train["augment"]
    assert native.prepare["image_size"] == (512, 400)
    assert (augment.size, augment.native) == ((96, 96), True)
    recipe.train["ema"] = 0.5  # a preset is free to be changed
    assert recipe != seglib.get_preset(name)


def test_a_preset_at_another_size_prepares_in_proportion():
    recipe = seglib.get_preset("fast", image_size=(96, 128))
    assert recipe.model["input_shape"] == (96, 128, 3)
    assert recipe.prepare["image_size"] == (216, 288)
    assert recipe.train["augment"].size == (96, 128)
    assert seglib.get_preset("original", image_size=64).prepare["image_size"] == (64, 64)


def test_arrays_and_lists_compare_as_numbers():
    weights = np.array([1.0, 2.5])
    recipe = seglib.Recipe(train={"class_weights": weights, "batch_size": [16, np.int64(4)]})
    assert recipe.train == {"class_weights": (1.0, 2.5), "batch_size": (16, 4)}
    assert seglib.Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("optimizer", keras.optimizers.SGD(0.5), ['"class": "SGD"', '"learning_rate": 0.5']),
        ("loss", keras.losses.categorical_crossentropy, ["function", "categorical_crossentropy"]),
        ("augment", functools.partial(np.clip, a_min=np.float64.conjugate), ["partial"]),
    ],
)
def test_functions_and_keras_objects_are_written_but_not_read(option, value, words):
    text = seglib.Recipe(train={option: value}).to_json()
    assert all(each in text for each in words)
    assert "0x" not in text  # an address, which each process has anew
    with pytest.raises(ValueError, match=f"what was a {type(value).__name__}: take it out, and gi"):
        seglib.Recipe.from_json(text)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: seglib.get_preset("fastest"), "a preset of original, fast, default"),
        (lambda: seglib.Recipe(train={"batchsize": 4}), "did you mean batch_size"),
        (lambda: seglib.Recipe(train={"zzz": 4}), "there are batch_size, optimizer"),
    ],
)
def test_wrong_arguments(call, words):
    with pytest.raises(ValueError, match=words):
        call()
