"""Recipes by the time that one has: named sets of arguments, and nothing else.

`prepare`, `model` and `train` are arguments of `Dataset.prepare`, `create_unetpp_model` and
`train`. What each choice is worth was measured on CamVid: `benchmarks/RESULTS.md`.
"""

import copy
import dataclasses

import numpy as np

from seglib.augment import Augmentation

# A window shows a part of a picture that is kept larger than the model is, or a bit of what is
# around: so the model sees things at other sizes and at full sharpness, and no window twice.
WINDOWS = Augmentation(
    size=(128, 128), scale=(0.75, 2.0), aspect=1.4, flip=0.5, brightness=0.15, contrast=0.25,
    saturation=0.3, hue=10,
)  # fmt: skip
CALM_WINDOWS = dataclasses.replace(WINDOWS, scale=(0.9, 1.6), aspect=1.2)  # for few epochs

# The encoder's first rows and all its depthwise kernels stay as ImageNet left them, which saves
# the dearest gradients; one convolution a node, one head.
LITE = {
    "input_shape": (128, 128, 3),
    "encoder": "efficientnet_lite0",
    "filters": (32, 48, 64, 96),
    "convolutions": 1,
    "detail": 64,
    "deep_supervision": False,
    "frozen_rows": 2,
    "frozen_depthwise": True,
}
RECIPE = {
    "batch_size": (16, 4),  # halved where few steps fit, as on processors with AVX2 alone
    "optimizer": "muon",
    "learning_rate": 8e-3,
    "schedule": "cosine",
    "weight_decay": 0.02,
    "encoder_rate": 0.5,
    "ema": 0.998,
    "validate_every": 8,
    "augment": WINDOWS,
}
LONG_RECIPE = {**RECIPE, "schedule": "constant", "learning_rate": 4e-3, "weight_decay": 0.1}

PRESETS = {
    # Five minutes on two cores: few epochs, weights averaged over few steps.
    "fast": {
        "time_budget": "5m",
        "prepare": {"image_size": (288, 288)},
        "model": LITE,
        "train": {**RECIPE, "ema": 0.99, "validate_every": 4, "augment": CALM_WINDOWS},
    },
    # Fifteen minutes on two cores: the average of weights at a held learning rate is better on
    # new pictures than what a falling one ends with, and so many epochs bear more weight decay.
    "default": {
        "time_budget": "15m",
        "prepare": {"image_size": (288, 288)},
        "model": LITE,
        "train": LONG_RECIPE,
    },
    # Fifteen minutes without pretrained weights: all rows at half the resolution.
    "scratch": {
        "time_budget": "15m",
        "prepare": {"image_size": (288, 288)},
        "model": {
            "input_shape": (128, 128, 3),
            "filters": (32, 64, 128, 256),
            "stride": 2,
            "convolutions": 1,
            "detail": 64,
            "deep_supervision": False,
        },
        "train": LONG_RECIPE,
    },
    # Hours, or a GPU: pictures at about their own size, nothing frozen, a wider decoder; learned as
    # `default`, which is what was best for long. This one has not been trained to its end yet.
    "best": {
        "time_budget": "2h",
        "prepare": {"image_size": (360, 480)},
        "model": {
            "input_shape": (360, 480, 3),
            "encoder": "efficientnet_lite0",
            "filters": (48, 64, 96, 128),
            "convolutions": 2,
            "detail": 64,
            "deep_supervision": False,
        },
        "train": {
            **LONG_RECIPE,
            "batch_size": (8, 4),
            "validate_every": 2,
            "augment": dataclasses.replace(WINDOWS, size=(360, 480)),
        },
    },
}


def get_preset(name, *, image_size=None):
    """Return a preset, free to be changed.

    Args:
        name: "fast", "default", "scratch" or "best".
        image_size: `(height, width)`, or an int for a square: of the model in place of the
            preset's own. What is prepared grows in proportion.

    Returns:
        dict of `time_budget`, str, and `prepare`, `model` and `train`, dicts of arguments.

    Raises:
        ValueError: there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"expected a preset of {', '.join(PRESETS)}, received {name!r}")
    preset = copy.deepcopy(PRESETS[name])
    if image_size is not None:
        height, width = np.broadcast_to(image_size, 2).tolist()
        own, stored = preset["model"]["input_shape"], preset["prepare"]["image_size"]
        growth = stored[0] / own[0], stored[1] / own[1]
        preset["prepare"]["image_size"] = round(height * growth[0]), round(width * growth[1])
        preset["model"]["input_shape"] = (height, width, 3)
        augmentation = dataclasses.replace(preset["train"]["augment"], size=(height, width))
        preset["train"]["augment"] = augmentation
    return preset
