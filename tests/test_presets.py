import inspect

import pytest

import seglib
from seglib.datasets import Dataset
from seglib.presets import PRESETS, get_preset
from seglib.system import parse_duration

CALLS = {"prepare": Dataset.prepare, "model": seglib.create_unetpp_model, "train": seglib.train}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_arguments_of_what_they_are_for(name):
    preset = get_preset(name)
    assert set(preset) == {"time_budget", *CALLS}
    assert parse_duration(preset["time_budget"]) >= 300
    for section, function in CALLS.items():
        assert set(preset[section]) <= set(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_had_for_another_size(name):
    preset = get_preset(name, image_size=96)
    assert preset["model"]["input_shape"] == (96, 96, 3)
    assert preset["train"]["augment"].size == (96, 96)
    own = get_preset(name)
    for stored, before, side in zip(
        preset["prepare"]["image_size"], own["prepare"]["image_size"],
        own["model"]["input_shape"], strict=False,
    ):  # fmt: skip
        assert stored / 96 == pytest.approx(before / side, rel=0.02)


def test_a_preset_is_free_to_be_changed():
    get_preset("fast")["train"]["batch_size"] = 999
    assert get_preset("fast")["train"]["batch_size"] != 999


def test_an_unknown_preset_is_named_with_those_there_are():
    with pytest.raises(
        ValueError, match="a preset of fast, default, scratch, best, received 'slow'"
    ):
        get_preset("slow")


def test_the_default_model_is_small():
    model = seglib.create_unetpp_model(num_classes=12, **get_preset("default")["model"])
    assert model.count_params() * 4 <= 25e6
