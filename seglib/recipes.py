"""Recipes: named sets of arguments for preparing data, making a model and training it."""

import copy
import dataclasses
import difflib
import json
import os
import re

import numpy as np

from seglib.augment import Augmentation

# What `train` does where neither a recipe nor an argument says something else.
DEFAULTS = {
    "batch_size": 4,
    "optimizer": "muon",
    "learning_rate": 4e-3,
    "schedule": "trapezoid",
    "weight_decay": 0.0,
    "encoder_rate": 0.2,
    "gradient_accumulation": 1,
    "loss": None,
    "class_weights": None,
    "task_weights": None,
    "sampling": None,
    "augment": True,
    "ema": False,
    "precision": "auto",
    "validate_every": 1,
    "patience": None,
    "init_from": None,
}


@dataclasses.dataclass(frozen=True, repr=False)
class Recipe:
    """Arguments that belong together: of the data, the model and its training.

    Change one with `dataclasses.replace(recipe, train={**recipe.train, "ema": 0.99})`, or give
    `seglib.train` the argument itself: it replaces the recipe's.

    Args:
        prepare: dict, arguments of `Dataset.prepare`.
        model: dict, arguments of `create_unetpp_model` but `num_classes`.
        train: dict, some of the names in `seglib.recipes.DEFAULTS`; `seglib.train` explains them.
        epochs, time_budget: what the recipe is made for; `train` uses them where it is given
            neither.

    Raises:
        ValueError: `train` has an unknown name.

    Example:
        >>> recipe = Recipe(train={"batch_size": 8}, epochs=10)
        >>> Recipe.from_json(recipe.to_json()) == recipe
        True
    """

    prepare: dict = dataclasses.field(default_factory=dict)
    model: dict = dataclasses.field(default_factory=dict)
    train: dict = dataclasses.field(default_factory=dict)
    epochs: int | None = None
    time_budget: str | float | None = None

    def __post_init__(self):
        for name in ("prepare", "model", "train"):  # lists and arrays become tuples, to compare
            object.__setattr__(self, name, _to_tuples(getattr(self, name)))
        check_names(self.train)

    def __repr__(self):
        made_for = {"epochs": self.epochs, "time_budget": self.time_budget}
        lines = [f"{name}={value!r}" for name, value in made_for.items() if value is not None]
        for name in ("prepare", "model", "train"):
            options = getattr(self, name).items()
            inside = "".join(f"\n        {key!r}: {value!r}," for key, value in options)
            lines.append(f"{name}={{{inside}\n    }}" if inside else f"{name}={{}}")
        return "Recipe(\n    " + ",\n    ".join(lines) + ",\n)"

    def to_json(self) -> str:
        """Return the recipe as JSON. Functions and Keras objects become class and settings."""
        return json.dumps(simplify(vars(self)), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what `to_json` returned.

        Raises:
            ValueError: it holds a function or a Keras object, which JSON only describes.
        """
        return cls(**json.loads(text, object_hook=_restore))


def check_names(options):
    """Raise ValueError for an unknown training option, naming the nearest one."""
    for name in options:
        if name not in DEFAULTS:
            near = difflib.get_close_matches(name, DEFAULTS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(DEFAULTS)}"
            raise ValueError(f"train has no option {name!r}: {hint}")


def simplify(value, *, without=()):
    """Return a value as JSON holds it; functions and Keras objects as class and settings.

    What dicts have under the keys `without` is left out.
    """
    if isinstance(value, dict):
        items = [(str(key), content) for key, content in value.items() if key not in without]
        return {key: simplify(content, without=without) for key, content in items}
    if isinstance(value, list | tuple | np.ndarray):
        return [simplify(content, without=without) for content in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bool | str | int | float | None):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    name = type(value).__name__
    if hasattr(value, "to_dict"):
        return {"class": name, **simplify(value.to_dict())}
    if hasattr(value, "get_config"):  # Keras counts up names and seeds
        return {"class": name, **simplify(value.get_config(), without=("name", "seed"))}
    settings = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))  # which each process has anew
    return {"class": name, "name": getattr(value, "__qualname__", settings)}


def _to_tuples(value):
    if isinstance(value, dict):
        return {key: _to_tuples(content) for key, content in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(_to_tuples(content) for content in value)
    return value.item() if isinstance(value, np.generic) else value


def _restore(value):
    kind = value.pop("class", None)
    if kind not in (None, "Augmentation"):
        raise ValueError(
            f"JSON only describes what was a {kind}: take it out, and give it to train itself"
        )
    return Augmentation(**value) if kind else value


# A window shows part of a picture that is kept larger than the model's input, so that the model
# sees objects at several sizes, at full sharpness, and no window twice.
COLORS = {"brightness": 0.15, "contrast": 0.25, "saturation": 0.3, "hue": 10}
WINDOWS = Augmentation(size=(128, 128), scale=(0.75, 2.0), aspect=1.4, **COLORS)
CALM_WINDOWS = dataclasses.replace(WINDOWS, scale=(0.9, 1.6), aspect=1.2)  # for few epochs

SQUARE, LARGER = {"input_shape": (128, 128, 3)}, {"image_size": (288, 288)}
# One convolution a node, one head.
LEAN = {"convolutions": 1, "detail": 64, "deep_supervision": False}
# The encoder's first rows and all its depthwise kernels stay as ImageNet left them, which saves
# the slowest gradients.
LITE = {
    **SQUARE,
    "encoder": "efficientnet_lite0",
    "filters": (32, 48, 64, 96),
    **LEAN,
    "frozen_rows": 2,
    "frozen_depthwise": True,
}
SHORT = {
    "batch_size": (16, 4),  # halved where few steps fit, as on processors with AVX2 alone
    "optimizer": "muon",
    "learning_rate": 8e-3,
    "schedule": "cosine",
    "weight_decay": 0.02,
    "encoder_rate": 0.5,
    "ema": 0.99,
    "validate_every": 4,
    "augment": CALM_WINDOWS,
}
# Averaged over many steps at a held rate, weights are better on new pictures than what a falling
# rate ends with, and so many epochs bear more weight decay.
LONG = {
    **SHORT,
    "schedule": "constant",
    "learning_rate": 4e-3,
    "weight_decay": 0.1,
    "ema": 0.998,
    "validate_every": 8,
    "augment": WINDOWS,
}
PRESETS = {
    # The starting point of this project: a student's report, as it was.
    "original": Recipe(
        epochs=10,
        prepare={"image_size": (128, 128)},
        model={
            **SQUARE,
            "nested": False,
            "normalization": None,
            "filters": (32, 64, 128, 256, 512),
            "dropout": (0.0, 0.0, 0.3, 0.3, 0.0),
            "deep_supervision": False,
        },
        train={
            "batch_size": 16,
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "schedule": "constant",
            "augment": False,
            "precision": "float32",
        },
    ),
    # Five minutes on two cores: few epochs, weights averaged over few steps.
    "fast": Recipe(time_budget="5m", prepare=LARGER, model=LITE, train=SHORT),
    # Fifteen minutes on two cores.
    "default": Recipe(time_budget="15m", prepare=LARGER, model=LITE, train=LONG),
    # Fifteen minutes without pretrained weights: all rows at half the resolution.
    "scratch": Recipe(
        time_budget="15m",
        prepare=LARGER,
        model={**SQUARE, "filters": (32, 64, 128, 256), "stride": 2, **LEAN},
        train=LONG,
    ),
    # Hours, or a GPU: pictures at about their own size, nothing frozen, a wider decoder.
    "best": Recipe(
        time_budget="2h",
        prepare={"image_size": (360, 480)},
        model={
            "input_shape": (360, 480, 3),
            "encoder": "efficientnet_lite0",
            "filters": (48, 64, 96, 128),
            **LEAN,
            "convolutions": 2,
        },
        train={
            **LONG,
            "batch_size": (8, 4),
            "validate_every": 2,
            "augment": dataclasses.replace(WINDOWS, size=(360, 480)),
        },
    ),
}


def get_preset(
    name: str, *, image_size: int | tuple | None = None, native_size: tuple | None = None
) -> Recipe:
    """Return a preset. What each choice is worth was measured on CamVid: `docs/results.md`.

    Args:
        name: "fast", "default", "scratch", "best", or "original", the recipe that this project
            began with.
        image_size: `(height, width)`, or an int for a square: of the model, in place of the
            preset's own. What is prepared grows in proportion.
        native_size: `(height, width)` of the pictures, to work at their own scale: they are
            prepared at it, and what is learned from are windows that keep it.

    Returns:
        Recipe.

    Raises:
        ValueError: there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"expected a preset of {', '.join(PRESETS)}, received {name!r}")
    preset = copy.deepcopy(PRESETS[name])
    own, stored = preset.model["input_shape"], preset.prepare["image_size"]
    height, width = np.broadcast_to(own[:2] if image_size is None else image_size, 2).tolist()
    prepared, augment = np.array(stored) * (height, width) / own[:2], preset.train["augment"]
    if native_size is not None:
        prepared = native_size
        augment = augment or Augmentation(flip=0, brightness=0, contrast=0)  # of "original"
    if augment:
        windows = {"size": (height, width), "native": native_size is not None}
        augment = dataclasses.replace(augment, **windows)
    preset.prepare["image_size"] = tuple(np.round(prepared).astype(int).tolist())
    preset.model["input_shape"] = height, width, 3
    preset.train["augment"] = augment
    return preset
