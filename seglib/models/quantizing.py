"""Training that feels int8: convolutions whose weights and maps are rounded to 7 and 8 bits."""

import keras
from keras import layers, ops

from seglib.models.editing import check_model, clone_layers, rounds

# Which axes of a kernel are its output channels: these have a scale each.
CHANNEL_AXES = {
    layers.DepthwiseConv2D: (2, 3),
    layers.Conv2DTranspose: (2,),
    layers.Conv2D: (3,),
    layers.Dense: (1,),
}
QUANTIZED = tuple(CHANNEL_AXES)


@keras.saving.register_keras_serializable(package="seglib")
class Rounded(layers.Wrapper):
    """A convolution or dense layer that computes with rounded weights on a rounded map.

    Weights have a scale for each output channel, symmetric around 0; a map has one, from its lowest
    to its highest value in the batch, 0 included. Gradients pass as if nothing were rounded.

    Args:
        layer: Conv2D, DepthwiseConv2D, Conv2DTranspose or Dense.
        bits: int, of maps.
        kernel_bits: int, of weights: 7, as exports to ONNX and OpenVINO have them.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", sections 2.1 and 3.
    """

    rounds = True

    def __init__(self, layer, bits=8, kernel_bits=7, **kwargs):
        super().__init__(layer, **{**kwargs, "dtype": "float32"})
        self.bits, self.kernel_bits = bits, kernel_bits

    def call(self, x):
        rounded = self._round_map(x)
        kernel = self.layer.kernel
        values = [
            (v, self._round_kernel(v.value) if v is kernel else v.value)
            for v in self.layer.variables
        ]
        with keras.StatelessScope(state_mapping=values):
            return self.layer.call(rounded)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "bits": self.bits, "kernel_bits": self.kernel_bits}

    def _round_kernel(self, kernel):
        kind = next(kind for kind in CHANNEL_AXES if isinstance(self.layer, kind))
        axes = [axis for axis in range(len(kernel.shape)) if axis not in CHANNEL_AXES[kind]]
        highest = ops.max(ops.abs(kernel), axis=axes, keepdims=True)
        return _round(kernel, highest / (2 ** (self.kernel_bits - 1) - 1))

    def _round_map(self, x):
        low, high = ops.minimum(ops.min(x), 0), ops.maximum(ops.max(x), 0)
        return _round(x, (high - low) / (2**self.bits - 1))


def simulate_int8(model):
    """Copy a model so that it computes as in int8, and can be trained to bear it.

    Where an int8 export loses too much: `seglib.train(simulate_int8(model), …)` for some epochs
    at a low learning rate, then export what `drop_int8` gives. It comes near to what an export
    computes: a map's range is that of the batch, where an export has one from its calibration.

    Args:
        model: keras.Model from `create_…_model`, trained.

    Returns:
        keras.Model of the same name with weights of its own. It computes in float32, whatever the
        precision of `train`: slower, not faster.
    """

    check_model(model)

    def wrap(layer):
        copy = type(layer).from_config(layer.get_config())
        return Rounded(copy, name=layer.name) if isinstance(layer, QUANTIZED) else copy

    return _copy(model, wrap)


def drop_int8(model):
    """Undo `simulate_int8`: the plain model with the weights as they were trained.

    Args:
        model: keras.Model from `simulate_int8`.

    Returns:
        keras.Model with weights of its own.

    Raises:
        ValueError: the model computes with nothing rounded.
    """
    if not rounds(model):
        raise ValueError(f"{model.name} is plain already: it is not from simulate_int8")

    def unwrap(layer):
        layer = layer.layer if isinstance(layer, Rounded) else layer
        return type(layer).from_config(layer.get_config())

    return _copy(model, unwrap)


def _copy(model, change):
    copy = clone_layers(model, change)
    copy.set_weights(model.get_weights())
    return copy


def _round(x, step):
    """Multiples of `step`, with the gradient of x itself."""
    step = ops.maximum(step, keras.config.epsilon())
    return x + ops.stop_gradient(ops.round(x / step) * step - x)
