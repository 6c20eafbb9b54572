"""Which formats there are, what they know, and what they need."""

import importlib
import importlib.util

# What must be installed to write and to read; LiteRT and TensorFlow's own formats need nothing.
FORMATS = {
    "keras": (),
    "savedmodel": (),
    "litert": (),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "openvino": ("openvino", "nncf"),
}
PRECISIONS = {
    "keras": ("float32", "bfloat16"),
    "savedmodel": ("float32", "bfloat16"),
    "litert": ("float32", "float16", "int8"),
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "float16", "bfloat16", "int8"),
}
TO_READ = {"onnx": ("onnxruntime",), "openvino": ("openvino",)}


def open_format(name):
    """Return the module that writes and reads a format.

    It has `write(network, folder, *, precision, pictures)`, the network being a keras.Model from
    pictures to probabilities, and `read(folder, card, threads)`, which returns a function of uint8
    pictures.
    """
    return importlib.import_module(f"seglib.exports.{name}_format")


def check_precision(format, precision):
    """Raise ValueError where there is no such format, or it does not know this precision."""
    if format not in FORMATS:
        raise ValueError(f"expected a format of {', '.join(FORMATS)}, received {format!r}")
    if precision not in PRECISIONS[format]:
        others = [name for name, known in PRECISIONS.items() if precision in known]
        raise ValueError(
            f"{format} does not know {precision!r}: expected one of "
            f"{', '.join(PRECISIONS[format])}"
            + (f"; {precision} is known to {', '.join(others)}" if others else "")
        )


def check_runtime(name, *, to_read=False):
    """Raise where a format cannot be written or read here.

    Raises:
        ModuleNotFoundError: its runtime is missing; the message says what to install.
        RuntimeError: it is written from TensorFlow, but Keras runs on something else.
    """
    needs = TO_READ.get(name, ()) if to_read else FORMATS[name]
    missing = [package for package in needs if importlib.util.find_spec(package) is None]
    if missing:
        raise ModuleNotFoundError(
            f"{name} needs {' and '.join(missing)}, not installed here: pip install "
            f"{' '.join(missing)}, or all runtimes with pip install 'seglib[deploy]'"
        )
    if not to_read and name != "keras":
        _check_backend(name)


def _check_backend(name):
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"{name} is written from TensorFlow, but Keras runs on {keras.backend.backend()}: "
            "save the model and export it with KERAS_BACKEND=tensorflow, or use format='keras'"
        )


def refuse_threads(name, threads):
    """Raise ValueError where a format's runtime has no threads of its own to be counted."""
    if threads is not None:
        raise ValueError(
            f"threads={threads} cannot be set for {name}: TensorFlow has one pool for the whole "
            "process, tf.config.threading.set_intra_op_parallelism_threads before it starts"
        )
