"""What a run was asked to be, in a form that can be kept and compared."""

import hashlib
import json
import reprlib

import keras
import numpy as np

SHORT = reprlib.Repr()
SHORT.maxstring, SHORT.maxother, SHORT.maxlist = 60, 60, 4


def describe_settings(model, dataset, **settings):
    """Return what a run must keep to when it is resumed, as JSON holds it.

    Args:
        model: keras.Model.
        dataset: PreparedDataset.
        settings: arguments of `train`; Keras objects among them are described by their
            configuration.

    Returns:
        dict.
    """
    settings = {
        "model": {
            "name": model.name,
            "parameters": model.count_params(),
            "layers": _digest_layers(model),
        },
        "image_size": dataset.image_size,
        "classes": dataset.classes.to_dict(),
        "data": dataset.fingerprint,
        **settings,
    }
    return json.loads(json.dumps(_simplify(settings)))


def find_differences(before, now, *, allowed=()):
    """Return the differences between two settings in words.

    Args:
        before, now: dicts, as `describe_settings` returns them.
        allowed: names of settings that may differ.

    Returns:
        list of str.
    """
    sizes = now.get("batch_size")
    if isinstance(sizes, list) and before.get("batch_size") == sizes[0]:
        allowed = (*allowed, "batch_size")  # which may become smaller
    names = [name for name in {**before, **now} if name not in allowed]
    return [line for name in names for line in _compare(name, before.get(name), now.get(name))]


def _digest_layers(model):
    """Digest of what the layers are, their names and seeds aside, which Keras counts up."""
    layers = [[type(layer).__name__, layer.get_config()] for layer in model.layers]
    content = json.dumps(_without_names(layers), sort_keys=True, default=str)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def _without_names(value):
    if isinstance(value, dict):
        kept = {key: content for key, content in value.items() if key not in ("name", "seed")}
        return {key: _without_names(content) for key, content in kept.items()}
    return [_without_names(part) for part in value] if isinstance(value, list) else value


def _compare(name, before, now):
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _compare(f"{name}.{key}", before.get(key), now.get(key))
    elif before != now:
        yield f"{name}: {SHORT.repr(before)} before, {SHORT.repr(now)} now"


def _simplify(value):
    """Lists, dicts, strings and numbers alone; Keras objects by class and configuration."""
    if isinstance(value, dict):
        return {str(key): _simplify(content) for key, content in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_simplify(content) for content in value]
    if isinstance(value, bool | str | None):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}")  # what a float32 keeps of it
    if hasattr(value, "to_dict"):
        return _simplify(value.to_dict())
    return {"class": type(value).__name__, **_read_config(value)}


def _read_config(value):
    try:
        return _simplify(_without_names(keras.saving.serialize_keras_object(value)["config"]))
    except (NotImplementedError, TypeError, KeyError, ValueError):
        return {}
