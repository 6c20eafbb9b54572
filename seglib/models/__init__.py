"""Networks for segmentation: raw 0–255 RGB in, logits out."""

from seglib.models.blocks import ClassLogits
from seglib.models.deeplab import create_deeplabv3plus_model
from seglib.models.editing import (
    copy_weights,
    model_classes,
    model_fit,
    prune,
    resize_model,
    reweight_classes,
    set_model_classes,
    set_precision,
)
from seglib.models.fcn import create_fcn_model
from seglib.models.heads import TaskLogits, task_layers
from seglib.models.listing import list_models
from seglib.models.quantizing import Rounded, drop_int8, simulate_int8
from seglib.models.segnet import create_segnet_model
from seglib.models.unetpp import create_unet_model, create_unetpp_model

__all__ = [
    "ClassLogits",
    "Rounded",
    "TaskLogits",
    "copy_weights",
    "create_deeplabv3plus_model",
    "create_fcn_model",
    "create_segnet_model",
    "create_unet_model",
    "create_unetpp_model",
    "drop_int8",
    "list_models",
    "model_classes",
    "model_fit",
    "prune",
    "resize_model",
    "reweight_classes",
    "set_model_classes",
    "set_precision",
    "simulate_int8",
    "task_layers",
]
