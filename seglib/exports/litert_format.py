"""LiteRT, once TensorFlow Lite: small files for phones and small computers."""

import importlib.util
import threading

from seglib.exports.predictor import score_one_by_one
from seglib.exports.quiet import quiet
from seglib.preparing import count_processors

NAME = "model.tflite"


def write(network, folder, *, precision, pictures=None):
    """Convert a network; of int8, input and output stay float32, so that all are fed alike."""
    import tensorflow as tf

    from seglib.exports.tensorflow_graphs import trace

    with quiet():
        module = trace(network, batch_size=1)
        function = module.serve.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            converter.representative_dataset = lambda: ([picture[None]] for picture in pictures)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        content = converter.convert()
    (folder / NAME).write_bytes(content)


def read(folder, card, threads):
    """Return the function of uint8 pictures; callers take turns."""
    threads = threads or count_processors()  # by itself it takes one
    with quiet():
        interpreter = _find_interpreter()(model_path=str(folder / NAME), num_threads=threads)
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    lock = threading.Lock()

    def score(picture):
        with lock:
            interpreter.set_tensor(source, picture)
            interpreter.invoke()
            return interpreter.get_tensor(target)

    return score_one_by_one(score)


def _find_interpreter():
    """LiteRT's own, or the older one that TensorFlow brings."""
    if importlib.util.find_spec("ai_edge_litert"):
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter
    import tensorflow as tf

    return tf.lite.Interpreter
