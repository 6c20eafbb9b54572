"""A trained model as a folder that other runtimes read, with all that they need to know."""

import os
import pathlib
import re
import shutil

import numpy as np

from seglib.exports.card import FILE, Card, write_card
from seglib.exports.formats import FORMATS, PRECISIONS, check_precision, check_runtime, open_format
from seglib.exports.predictor import Predictor, load_predictor
from seglib.fitting import fit_image
from seglib.folders import make_folder
from seglib.labelling import check_picture

__all__ = ["Predictor", "export", "list_formats", "load_predictor"]

CALIBRATION = 200  # pictures: more take longer and change nothing
# What is in an export, and what a file browser or Jupyter leaves there.
WRITTEN = rf"{re.escape(FILE)}|model\..*|saved_model|\.DS_Store|\._.*|\.ipynb_checkpoints"


def export(model, path, *, format, precision="float32", calibration=None):
    """Write a model for a runtime, into a folder that says all that one needs to use it.

    Pictures go in as they are, 0 to 255: the model normalizes them inside. The folder also holds
    the model's input size, how pictures are brought to it, and the names and colours of its
    classes, so that `seglib.load_predictor` needs nothing else.

    Args:
        model: keras.Model with an input size; of several heads the last one is written.
        path: str or path of the folder. It is made, or replaced if it holds an export.
        format: "keras", "savedmodel", "litert", "onnx" or "openvino". The last three need the
            extra `deploy` (`pip install 'seglib[deploy]'`, or `.[deploy]` in a clone), LiteRT only
            to be faster.
        precision: "float32", "float16" (weights of half the size, computed in float32),
            "bfloat16" (computed in bfloat16; by OpenVINO only where the processor has units for it)
            or "int8" (after `calibration`: maps in 8 bits and weights in 8; in 7 for ONNX and
            OpenVINO, which processors without VNNI need). See `list_formats`.
        calibration: Split, PreparedSplit or uint8 pictures `(n, height, width, 3)` such as the
            model will see, to find the range of each map for int8; 200 of them at the most.

    Returns:
        pathlib.Path of the folder.

    Raises:
        ValueError: the format does not know this precision, int8 has no calibration, the model has
            no input size or simulates int8, or the folder holds something else.
        ModuleNotFoundError: the runtime is not installed; the message names it.
        RuntimeError: any format but "keras" where Keras does not run on TensorFlow.

    Source: int8 as Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", section 2.
    """
    from seglib.inference import create_probabilities
    from seglib.models import model_classes, model_fit

    check_export(model, format, precision, calibration)
    card = Card(
        format=format,
        precision=precision,
        image_size=model.input_shape[1:3],
        fit=model_fit(model),
        num_classes=model.outputs[-1].shape[-1],
        classes=model_classes(model),
        parameters=model.count_params(),
    )
    pictures = _read_pictures(calibration, card) if precision == "int8" else None
    folder = _clear_folder(path)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)  # a killed process may have had the same number
    make_folder(temporary, "the export")
    try:
        open_format(format).write(
            create_probabilities(model), temporary, precision=precision, pictures=pictures
        )
        write_card(temporary, card)
        _replace_folder(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_export(model, format, precision, calibration):
    """Raise, as `export` does, where a model cannot be exported so."""
    from seglib.compressing import refuse_rounding

    check_precision(format, precision)
    check_runtime(format)
    refuse_rounding(model)
    size = model.input_shape[1:3]
    if None in size:
        raise ValueError(
            f"the model takes pictures of any size {size}, but an export has one: create the model "
            "with an input_shape, such as (128, 128, 3)"
        )
    is_series = hasattr(calibration, "__getitem__") and hasattr(calibration, "__len__")
    if precision == "int8" and (
        not is_series or isinstance(calibration, str) or not len(calibration)
    ):
        raise ValueError(
            "int8 needs calibration=, pictures such as the model will see, from which the range of "
            "each map is measured: a split such as dataset.train, or an array of pictures"
        )


def list_formats():
    """List what can be exported, and whether its runtime is installed here.

    Returns:
        DataFrame by format: `precisions`, list of str; `runs_here`, bool; `needs`, what to install
        for it, or the backend that writes it; empty if nothing is missing.
    """
    import pandas as pd

    rows = {}
    for name, needs in FORMATS.items():
        try:
            check_runtime(name)
            missing = ""
        except ModuleNotFoundError:
            missing = " ".join(needs)
        except RuntimeError:
            missing = "KERAS_BACKEND=tensorflow"
        rows[name] = {
            "precisions": list(PRECISIONS[name]),
            "runs_here": not missing,
            "needs": missing,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("format")


def _read_pictures(calibration, card):
    """Pictures of the model's size, float32 `(n, height, width, 3)`, evenly chosen."""
    chosen = np.linspace(0, len(calibration) - 1, min(CALIBRATION, len(calibration)))
    pictures = [calibration[int(i)] for i in chosen]
    pictures = [pair[0] if isinstance(pair, tuple) else pair for pair in pictures]
    for picture in pictures:
        check_picture(picture)
    return np.stack([
        fit_image(np.asarray(picture), card.image_size, fit=card.fit) for picture in pictures
    ]).astype(np.float32)  # fmt: skip


def _replace_folder(folder, new):
    """Give `new` the place of a folder, which stays whole where the system does not let it go."""
    if folder.exists():
        old = new.with_name(f"{new.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        new.rename(folder)


def _clear_folder(path):
    """Return the folder's path, which does not exist or holds an export that may be replaced."""
    folder = pathlib.Path(path)
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    others = {name for name in names if not re.fullmatch(WRITTEN, name)}
    if folder.is_file() or others or (names and FILE not in names):
        raise ValueError(
            f"{folder} holds something that is no export"
            + f" ({', '.join(sorted(others)[:3])})" * bool(others)
            + ": choose another folder, it would be overwritten"
        )
    return folder
