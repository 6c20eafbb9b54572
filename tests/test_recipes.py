import dataclasses
import functools

import keras
import numpy as np
import pytest

import seglib
from seglib.recipes import DEFAULTS, PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_name_what_there_is(name):
    recipe = seglib.get_preset(name)
    assert seglib.Recipe.from_json(recipe.to_json()) == recipe
    assert set(recipe.train) <= set(DEFAULTS)
    assert (recipe.epochs is None) != (recipe.time_budget is None)
    for part in (recipe.prepare, recipe.model, recipe.train):
        assert all(key in repr(recipe) for key in part)


def test_a_preset_is_free_to_be_changed():
    recipe = seglib.get_preset("fast")
    recipe.train["ema"] = 0.5
    assert seglib.get_preset("fast").train["ema"] == 0.99
    changed = dataclasses.replace(recipe, train={**recipe.train, "batch_size": 2})
    assert changed != recipe


def test_a_preset_at_another_size_prepares_in_proportion():
    recipe = seglib.get_preset("fast", image_size=(96, 128))
    assert recipe.model["input_shape"] == (96, 128, 3)
    assert recipe.prepare["image_size"] == (216, 288)
    assert recipe.train["augment"].size == (96, 128)
    assert seglib.get_preset("original", image_size=64).prepare["image_size"] == (64, 64)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_works_at_the_pictures_own_scale(name):
    recipe = seglib.get_preset(name, image_size=96, native_size=(512, 400))
    assert recipe.prepare["image_size"] == (512, 400)
    augment = recipe.train["augment"]
    assert (augment.size, augment.native) == ((96, 96), True)
    assert seglib.Recipe.from_json(recipe.to_json()) == recipe


def test_arrays_and_lists_compare_as_numbers():
    weights = np.array([1.0, 2.5])
    recipe = seglib.Recipe(train={"class_weights": weights, "batch_size": [16, np.int64(4)]})
    assert recipe.train == {"class_weights": (1.0, 2.5), "batch_size": (16, 4)}
    assert seglib.Recipe.from_json(recipe.to_json()) == recipe


def test_functions_and_keras_objects_are_written_but_not_read():
    recipe = seglib.Recipe(train={"optimizer": keras.optimizers.SGD(0.5)})
    assert '"class": "SGD"' in recipe.to_json()
    assert '"learning_rate": 0.5' in recipe.to_json()
    with pytest.raises(ValueError, match="what was a SGD: take it out, and give it to train"):
        seglib.Recipe.from_json(recipe.to_json())
    recipe = seglib.Recipe(train={"loss": keras.losses.categorical_crossentropy})
    assert "categorical_crossentropy" in recipe.to_json()
    with pytest.raises(ValueError, match="what was a function"):
        seglib.Recipe.from_json(recipe.to_json())
    function = functools.partial(np.clip, a_min=np.float64.conjugate)  # holds addresses
    text = seglib.Recipe(train={"augment": function}).to_json()
    assert "partial" in text
    assert "0x" not in text


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: seglib.get_preset("fastest"), "a preset of original, fast, default"),
        (lambda: seglib.Recipe(train={"batchsize": 4}), "did you mean batch_size"),
        (lambda: seglib.Recipe(train={"zzz": 4}), "there are batch_size, optimizer"),
    ],
)
def test_what_there_is_not_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
