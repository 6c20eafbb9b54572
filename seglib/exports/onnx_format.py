"""ONNX, and ONNX Runtime to run it."""

from seglib.exports.predictor import score_one_by_one
from seglib.exports.quiet import quiet

NAME = "model.onnx"


def write(network, folder, *, precision, pictures=None):
    """Convert a network; int8 as pairs of quantize and dequantize, with a scale a channel.

    Weights have 7 bits, here and in OpenVINO: processors without VNNI add up products of int8
    in 16 bits, which 8 overflow. On CamVid that cost 8 points of mean IoU, and 3 in OpenVINO.
    """
    import keras

    picture = keras.InputSpec("float32", (1, *network.input_shape[1:]), name="image")
    with quiet():
        network.export(folder / NAME, format="onnx", verbose=False, input_signature=[picture])
        if precision == "int8":
            _quantize(folder / NAME, pictures)


def read(folder, card, threads):
    """Return the function of uint8 pictures."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: as many as there are cores
    session = onnxruntime.InferenceSession(
        folder / NAME, options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return score_one_by_one(lambda picture: session.run(None, {name: picture})[0])


def _quantize(file, pictures):
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, name):
            self.pictures = iter([{name: picture[None]} for picture in pictures])

        def get_next(self):
            return next(self.pictures, None)

    import onnx

    prepared = file.with_name("prepared.onnx")
    quant_pre_process(file, prepared, skip_symbolic_shape=True)  # the shapes are fixed
    name = onnx.load(prepared, load_external_data=False).graph.input[0].name
    quantize_static(
        prepared,
        file,
        Reader(name),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        reduce_range=True,
    )
    prepared.unlink()
