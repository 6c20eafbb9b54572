"""Smaller and faster networks out of trained ones: cut, thinned, or trained to bear int8."""

import keras
import numpy as np
from keras import layers, ops
from scipy.special import ndtr

from seglib.encoders import PadToMultiple, register
from seglib.models import Enlarge, check_model, class_heads, copy_model, rounds

CONVOLUTIONS = (layers.Conv2D, layers.Conv2DTranspose)
# Each channel of what comes out is made of the same channel of what goes in.
PASSING = (
    layers.BatchNormalization,
    layers.ReLU,
    layers.Dropout,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.UpSampling2D,
    layers.Rescaling,
    layers.DepthwiseConv2D,
    PadToMultiple,
    Enlarge,
)
MULTIPLE = 8  # channels come in eights, as processors compute them
# Which axes of a kernel are its output channels: int8 has a scale for each.
CHANNEL_AXES = {
    layers.DepthwiseConv2D: (2, 3),
    layers.Conv2DTranspose: (2,),
    layers.Conv2D: (3,),
    layers.Dense: (1,),
}


def prune(model: keras.Model, level: int) -> keras.Model:
    """Cut a U-Net++ at one of its heads and return the smaller model that ends there.

    Args:
        model: keras.Model with deep supervision.
        level: int, 1 for X(0, 1) up to the number of heads.

    Returns:
        keras.Model with weights of its own and one output, equal to that head's. Heads of other
        tasks are cut off.

    Raises:
        ValueError: the model is no U-Net++, or has no such head.

    Source: Zhou et al. 2020, section III-C.
    """
    heads = {head.name: head for head in class_heads(model)}
    if model.name != "unetpp" or f"head_{level}" not in heads:
        known = f"{', '.join(heads)}: create_unetpp_model(deep_supervision=True) has several"
        raise ValueError(f"received level {level} of {model.name}, which has the heads {known}")
    return copy_model(keras.Model(model.input, heads[f"head_{level}"].output, name=model.name))


def prune_channels(model: keras.Model, keep: float) -> keras.Model:
    """Remove the least important channels of a trained network, which makes it small and fast.

    Channels are ranked by activation energy times outgoing weight norm. Maps that are added up or
    weighed by attention, and the class scores, keep their width. Predictions change: train the
    result for some epochs, `seglib.train(pruned, …)`, at a low learning rate.

    Args:
        model: keras.Model from `create_…_model`, trained.
        keep: float in (0, 1], share of each convolution's channels that stays, in multiples of 8.

    Returns:
        keras.Model of the same name with weights of its own, all of them trainable.

    Raises:
        ValueError: `keep` is out of range, no channel of this model can go, or it simulates int8.

    Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3; energy from the
    normalization: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network
    Slimming", section 3.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"expected keep to be in (0, 1], received {keep}")
    refuse_rounding(model)
    channels = _Channels(model)
    for made in channels.made.values():
        width = len(made)
        count = min(width, MULTIPLE * -(-max(1, round(keep * width)) // MULTIPLE))
        if not channels.is_pinned[made].any():
            scores = np.sqrt(channels.activation_energy[made]) * channels.outgoing_norm[made]
            channels.stays[made[np.argsort(-scores, kind="stable")[count:]]] = False
    if keep < 1 and channels.stays.all():
        why = f"all maps are added up, weighed by attention, or of at most {MULTIPLE} channels"
        raise ValueError(f"no channel of {model.name} can be removed: {why}")

    def shrink(layer):
        config = layer.get_config()
        if layer.name in channels.made:
            config["filters"] = int(channels.stays[channels.made[layer.name]].sum())
        if "trainable" in config:
            config["trainable"] = True
        return type(layer).from_config(config)

    weights = [array for layer in model.layers for array in channels.cut_weights(layer)]
    return _rebuild(model, shrink, weights)


class _Channels:
    """Which convolution made each channel of each map, how much each matters, and which stay.

    Channels are numbered through the model, by layer in `made`; 0 stands for those that no
    convolution made. `outgoing_norm` sums the squares of the weights that a channel is multiplied
    with; pinned ones keep their layer's width.
    """

    def __init__(self, model):
        convolutions = [layer for layer in model.operations if isinstance(layer, CONVOLUTIONS)]
        count = 1 + sum(layer.filters for layer in convolutions)
        self.maps, self.made = {}, {}
        self.activation_energy, self.outgoing_norm = np.zeros(count, np.float32), np.zeros(count)
        self.is_pinned, self.stays = np.zeros(count, bool), np.ones(count, bool)
        for layer in model.operations:
            made = self._follow(layer, self._incoming(layer))
            for node in layer._inbound_nodes:
                for tensor in node.output_tensors:
                    unknown = np.zeros(tensor.shape[-1], int)
                    self.maps[id(tensor)] = unknown if made is None else made
        for tensor in model.outputs:
            self.is_pinned[self.maps[id(tensor)]] = True

    def _incoming(self, layer):
        """The channels of the maps that go into a layer, of all its calls."""
        tensors = [tensor for node in layer._inbound_nodes for tensor in node.input_tensors]
        return np.array([n for tensor in tensors for n in self.maps[id(tensor)]], int)

    def _follow(self, layer, channels):
        """The channels of what a layer gives; what it does with its input is noted."""
        if isinstance(layer, layers.BatchNormalization):
            # The mean square after normalization and ReLU, of a normal distribution.
            scale, mean = np.abs(np.asarray(layer.gamma)) + 1e-12, np.asarray(layer.beta)
            z = mean / scale
            density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
            energy = (mean**2 + scale**2) * ndtr(z) + mean * scale * density
            self.activation_energy[channels] = energy
        if isinstance(layer, (layers.Concatenate, *PASSING)):
            return channels
        if not isinstance(layer, CONVOLUTIONS):  # what is not known keeps its width
            self.is_pinned[channels] = True
            return None
        kernel = np.square(np.asarray(layer.kernel))
        if isinstance(layer, layers.Conv2DTranspose):  # (height, width, out, in)
            kernel = kernel.swapaxes(2, 3)
        np.add.at(self.outgoing_norm, channels, kernel.sum(axis=(0, 1, 3)))
        made = np.arange(layer.filters) + 1 + sum(map(len, self.made.values()))
        self.activation_energy[made] = kernel.sum(axis=(0, 1, 2))
        self.made[layer.name] = made
        return made

    def cut_weights(self, layer):
        """The weights of a layer, without what was made by, or comes from, removed channels."""
        weights = layer.get_weights()
        if not weights or not isinstance(layer, (*PASSING, *CONVOLUTIONS)):
            return weights
        inside = self.stays[self._incoming(layer)]
        if isinstance(layer, PASSING):
            return [x[:, :, inside] if x.ndim == 4 else x[inside] for x in weights]
        kernel, *biases = weights
        outside = self.stays[self.made[layer.name]]
        axes = inside, outside
        if isinstance(layer, layers.Conv2DTranspose):
            axes = outside, inside
        return [kernel[:, :, axes[0]][..., axes[1]], *(bias[outside] for bias in biases)]


@register
class Rounded(layers.Wrapper):
    """A convolution or dense layer that computes with rounded weights on a rounded map.

    Weights have a scale for each output channel, symmetric around 0, and 7 bits, as exports to ONNX
    and OpenVINO have them; a map has one, from its lowest to its highest value in the batch, 0
    included. Gradients pass as if nothing were rounded.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", sections 2.1 and 3.
    """

    rounds = True

    def __init__(self, layer, bits: int = 8, kernel_bits: int = 7, **kwargs):
        super().__init__(layer, **{**kwargs, "dtype": "float32"})
        self.bits, self.kernel_bits = bits, kernel_bits

    def call(self, x):
        low, high = ops.minimum(ops.min(x), 0), ops.maximum(ops.max(x), 0)
        x = _round(x, (high - low) / (2**self.bits - 1))
        kernel = self.layer.kernel
        kind = next(kind for kind in CHANNEL_AXES if isinstance(self.layer, kind))
        axes = [axis for axis in range(len(kernel.shape)) if axis not in CHANNEL_AXES[kind]]
        highest = ops.max(ops.abs(kernel.value), axis=axes, keepdims=True)
        rounded = _round(kernel.value, highest / (2 ** (self.kernel_bits - 1) - 1))
        values = [(v, rounded if v is kernel else v.value) for v in self.layer.variables]
        with keras.StatelessScope(state_mapping=values):
            return self.layer.call(x)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "bits": self.bits, "kernel_bits": self.kernel_bits}


def simulate_int8(model: keras.Model) -> keras.Model:
    """Copy a model so that training sees the rounding errors of int8.

    Where an int8 export loses too much: `seglib.train(simulate_int8(model), …)` for some epochs
    at a low learning rate, then export what `drop_int8` returns. A map's range is that of the
    batch, where an export has a fixed one from its calibration. The copy computes in float32,
    whatever the precision of `train`, and is slower than the model.
    """
    check_model(model)

    def wrap(layer):
        copy = type(layer).from_config(layer.get_config())
        is_rounded = isinstance(layer, tuple(CHANNEL_AXES))
        return Rounded(copy, name=layer.name) if is_rounded else copy

    return _rebuild(model, wrap)


def drop_int8(model: keras.Model) -> keras.Model:
    """Undo `simulate_int8`: return the plain model with the weights as they were trained."""

    def unwrap(layer):
        layer = layer.layer if isinstance(layer, Rounded) else layer
        return type(layer).from_config(layer.get_config())

    return _rebuild(model, unwrap)


def refuse_rounding(model: keras.Model) -> None:
    """Raise ValueError where a model simulates int8."""
    if rounds(model):
        raise ValueError(f"{model.name} simulates int8: pass seglib.drop_int8(model)")


def _rebuild(model, change, weights=None):
    """A network of what `change` makes of each layer, without loss and optimizer."""
    bare = keras.Model(model.input, model.output, name=model.name)
    copy = keras.models.clone_model(bare, clone_function=change)
    copy.set_weights(model.get_weights() if weights is None else weights)
    return copy


def _round(x, step):
    """Multiples of `step`, with the gradient of x itself."""
    step = ops.maximum(step, keras.config.epsilon())
    return x + ops.stop_gradient(ops.round(x / step) * step - x)
