"""From a folder of photographs and a folder of colour masks to a trained U-Net++.

Names load on first use, so that `import seglib` stays instant.
"""

import importlib
import os
import sys
import warnings

from seglib.processors import has_only_avx2
from seglib.startup import hide_startup

# TensorFlow reports its start-up on standard error; who wants that sets another level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Off by default on processors without AVX-512, where it halves the time of a step all the same.
if "TF_ENABLE_ONEDNN_OPTS" not in os.environ:
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    if "tensorflow" in sys.modules and has_only_avx2():
        warnings.warn(
            "TensorFlow was imported before seglib: on this processor a step takes twice as long. "
            "Restart, and import seglib first",
            stacklevel=2,
        )

__version__ = "0.1.0"

_NAMES = {
    "augment": ("Augmentation", "augment_pair"),
    "balance": ("class_weights", "image_weights", "oversample_patches", "weight_table"),
    "balance.methods": ("apply_method",),
    "balance.recommending": ("recommend_balance",),
    "baselines": ("score_colors",),
    "caching": ("PreparedDataset", "PreparedSplit", "prepare_dataset"),
    "checks": ("DatasetReport", "check_dataset"),
    "classes": ("ClassTable", "create_class_table", "read_class_table", "write_class_table"),
    "datasets": ("Dataset", "Split", "open_dataset"),
    "encoders": ("freeze_encoder",),
    "optimizers": ("AdamW", "Muon"),
    "presets": ("get_preset",),
    "encodings": ("read_labels",),
    "exports": ("Predictor", "export", "list_formats", "load_predictor"),
    "exports.comparing": ("DeploymentCard", "compare_exports"),
    "images": ("DatasetError", "read_image", "resize_image"),
    "inference": ("combine_scales", "evaluate", "predict", "predict_probabilities"),
    "instances": ("separate_instances",),
    "losses": (
        "BoundaryLoss",
        "CrossEntropy",
        "CrossEntropyDice",
        "Dice",
        "Focal",
        "LovaszSoftmax",
        "OneHotLoss",
        "PresenceLoss",
        "Tversky",
    ),
    "masks": (
        "closest_labels",
        "find_invented",
        "find_unknown_colors",
        "label_colors",
        "resize_labels",
        "sharpen_boundaries",
    ),
    "metrics": ("boundary_f1", "bootstrap_interval", "confusion_matrix"),
    "models": (
        "create_deeplabv3plus_model",
        "create_fcn_model",
        "create_model",
        "create_segnet_model",
        "create_unet_model",
        "create_unetpp_model",
        "model_classes",
        "prune",
        "resize_model",
        "reweight_classes",
        "set_model_classes",
    ),
    "compressing": ("drop_int8", "prune_channels", "simulate_int8"),
    "panoptic": ("count_matches", "panoptic_quality"),
    "postprocess": (
        "apply_thresholds",
        "fill_holes",
        "fit_thresholds",
        "morph_labels",
        "remove_small_regions",
    ),
    "proposals": ("propose_class_table",),
    "reports": ("Report", "create_report", "describe_run"),
    "scenes": ("STREET_CLASSES", "draw_scene", "write_scenes"),
    "sequences": (
        "find_groups",
        "find_near_duplicates",
        "find_sequences",
        "hash_thumbnails",
        "name_sequence",
        "read_thumbnails",
    ),
    "splitting": ("deal_out", "read_splits", "write_splits"),
    "statistics": ("count_pixels", "measure_split"),
    "streams": ("Frame", "WrittenVideo", "predict_video"),
    "submission": ("decode_rle", "encode_rle", "read_submission", "write_submission"),
    "tasks": ("predict_heads",),
    "training": ("Run", "list_runs", "load_model", "train"),
    "training.rehearsal": ("rehearse_kill",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULES)


def __getattr__(name):
    if name in _MODULES:
        return getattr(_import(_MODULES[name]), name)
    if name in (*_NAMES, "plots"):
        return _import(name)
    raise AttributeError(f"module 'seglib' has no attribute {name!r}")


def _import(name):
    with hide_startup():
        return importlib.import_module(f"seglib.{name}")


def __dir__():
    return [*globals(), *_MODULES, *_NAMES, "plots"]
