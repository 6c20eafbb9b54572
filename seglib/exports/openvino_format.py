"""OpenVINO: the fastest on processors of today's servers and laptops."""

import threading

import numpy as np

from seglib.exports.predictor import score_one_by_one
from seglib.exports.quiet import quiet

NAME = "model.xml"
# float32 is float32 also on processors that would rather compute in bfloat16.
HINTS = {"float32": "f32", "float16": "f32", "bfloat16": "bf16"}


def write(network, folder, *, precision, pictures=None):
    """Convert a network; int8 by NNCF after training, see `onnx_format.write`."""
    import openvino

    from seglib.exports.tensorflow_graphs import fix_batch

    with quiet():
        converted = openvino.convert_model(fix_batch(network))
        if precision == "int8":
            import nncf

            batches = nncf.Dataset([picture[None] for picture in pictures])
            # All weights in 7 bits; by itself NNCF does so in the first layer alone.
            options = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
            converted = nncf.quantize(
                converted, batches, subset_size=len(pictures), advanced_parameters=options
            )
        openvino.save_model(converted, folder / NAME, compress_to_fp16=precision != "float32")


def read(folder, card, threads):
    """Return the function of uint8 pictures; each thread that calls has a request of its own."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY"}
    if card.precision in HINTS:
        settings["INFERENCE_PRECISION_HINT"] = HINTS[card.precision]
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(folder / NAME, "CPU", settings)
    local = threading.local()

    def score(picture):
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()
        return np.array(local.request.infer({0: picture})[0])

    return score_one_by_one(score)
