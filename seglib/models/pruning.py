"""Smaller networks out of trained ones: whole channels removed, or single weights set to 0."""

import collections

import numpy as np
from keras import layers
from scipy.special import ndtr

from seglib.encoders.padding import PadToMultiple
from seglib.models.editing import clone_layers, copy_model, refuse_rounding
from seglib.models.enlarging import Enlarge

# Each channel of what comes out is made of the same channel of what goes in.
PASSING = (
    layers.BatchNormalization,
    layers.ReLU,
    layers.Dropout,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.UpSampling2D,
    layers.Rescaling,
    PadToMultiple,
    Enlarge,
)
MULTIPLE = 8  # channels come in eights, as processors compute them


def prune_channels(model, keep):
    """Remove the channels of a trained network that matter least: a smaller and faster one.

    A channel matters by how strongly it speaks, after its normalization and ReLU, times the weights
    with which it is heard. What must keep its width does: maps that are added up or weighed by
    attention, and the scores of the classes. The answers change: train the result for some epochs,
    `seglib.train(pruned, …)`, at a low learning rate.

    Args:
        model: keras.Model from `create_…_model`, trained.
        keep: float in (0, 1], share of the channels of each convolution that stays, in multiples
            of 8.

    Returns:
        keras.Model of the same name with weights of its own, all of them trainable.

    Raises:
        ValueError: `keep` is out of range, no channel of this model can go, or it simulates int8.

    Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3; the channels'
    strength from their normalization as in Liu et al. 2017, "Learning Efficient Convolutional
    Networks through Network Slimming", section 3.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"expected keep to be in (0, 1], received {keep}")
    refuse_rounding(model)
    channels = _Channels(model)
    kept = channels.choose(keep)
    if keep < 1 and not kept:
        raise ValueError(
            f"no channel of {model.name} can be removed: all its maps are added up, weighed by "
            f"attention, or have {MULTIPLE} channels or fewer"
        )

    def shrink(layer):
        config = layer.get_config()
        if layer.name in kept:
            config["filters"] = len(kept[layer.name])
        if "trainable" in config:
            config["trainable"] = True
        return type(layer).from_config(config)

    pruned = clone_layers(model, shrink)
    for layer in pruned.layers:
        layer.set_weights(channels.cut_weights(model.get_layer(layer.name), kept))
    return pruned


def prune_magnitudes(model, sparsity):
    """Set the smallest weights of each convolution to 0: a file that zips smaller, none faster.

    To train the result on without losing the zeros, give `seglib.train` the optimizer
    `seglib.Muon(learning_rate, keep_zeros=True)`.

    Args:
        model: keras.Model, trained.
        sparsity: float in [0, 1), share of the weights of each kernel that become 0. Those of
            single channels and of the class scores are left as they are: they are few.

    Returns:
        keras.Model with weights of its own.

    Raises:
        ValueError: `sparsity` is out of range, or the model simulates int8.

    Source: Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks",
    section 3.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"expected a sparsity in [0, 1), received {sparsity}")
    refuse_rounding(model)
    pruned = copy_model(model)
    for layer in pruned.layers:
        if isinstance(layer, _CONVOLUTIONS) and not layer.name.endswith("_classes"):
            kernel, *others = layer.get_weights()
            threshold = np.quantile(np.abs(kernel), sparsity)
            layer.set_weights([np.where(np.abs(kernel) < threshold, 0, kernel), *others])
    return pruned


class _Channels:
    """Which convolution made each channel of each map, how strong it is, and how it is heard.

    A map's channels are a list of `(layer, number)`; `pinned` are layers whose width must stay.
    """

    def __init__(self, model):
        self.maps, self.pinned, self.widths = {}, set(), {}
        self.energy, self.heard = {}, collections.defaultdict(float)
        for layer in model.operations:
            self.inputs = [self._channels(tensor) for tensor in _list_inputs(layer)]
            for tensor in _list_outputs(layer):
                self.maps[id(tensor)] = self._follow(layer, tensor.shape[-1])
        for tensor in model.outputs:
            self._pin(self._channels(tensor))

    def choose(self, keep):
        """Return dict of the layers that shrink and the numbers of the channels that stay."""
        kept = {}
        for name, width in self.widths.items():
            count = min(width, MULTIPLE * -(-max(1, round(keep * width)) // MULTIPLE))
            if name not in self.pinned and count < width:
                scores = np.sqrt(self.energy[name]) * self.heard[name]
                kept[name] = np.sort(np.argsort(-scores, kind="stable")[:count])
        return kept

    def cut_weights(self, layer, kept):
        """The weights of a layer, without what was made by, or comes from, removed channels."""
        weights = layer.get_weights()
        is_known = isinstance(layer, (*PASSING, *_CONVOLUTIONS)) or _is_depthwise(layer)
        if not weights or not is_known:
            return weights
        channels = [c for tensor in _list_inputs(layer) for c in self._channels(tensor)]
        stays = {name: set(numbers.tolist()) for name, numbers in kept.items()}
        inside = np.array([n in stays.get(name, {n}) for name, n in channels])
        if isinstance(layer, layers.BatchNormalization):
            return [values[inside] for values in weights]
        if _is_depthwise(layer):
            return [weights[0][:, :, inside], *(bias[inside] for bias in weights[1:])]
        kernel, *biases = weights
        outside = kept.get(layer.name, np.arange(self.widths[layer.name]))
        if isinstance(layer, layers.Conv2DTranspose):  # (height, width, out, in)
            kernel = kernel[:, :, outside][..., inside]
        else:
            kernel = kernel[:, :, inside][..., outside]
        return [kernel, *(bias[outside] for bias in biases)]

    def _follow(self, layer, width):
        """The channels of what a layer gives; what it does with its input is noted."""
        channels = [channel for part in self.inputs for channel in part]
        if isinstance(layer, layers.Concatenate):
            return channels
        if isinstance(layer, PASSING) or _is_depthwise(layer):
            if isinstance(layer, layers.BatchNormalization):
                self._note_energy(layer, channels)
            return channels
        if not isinstance(layer, _CONVOLUTIONS):  # what is not known keeps its width
            self._pin(channels)
            return [(None, n) for n in range(width)]
        self._hear(layer, channels)
        kernel = np.asarray(layer.kernel)
        self.widths[layer.name] = width
        axes = (0, 1, 3) if isinstance(layer, layers.Conv2DTranspose) else (0, 1, 2)
        self.energy[layer.name] = np.square(kernel).sum(axis=axes)
        self.heard[layer.name] = np.zeros(width)
        return [(layer.name, n) for n in range(width)]

    def _note_energy(self, layer, channels):
        """The mean square after normalization and ReLU, of a normal distribution."""
        scale, mean = np.abs(np.asarray(layer.gamma)) + 1e-12, np.asarray(layer.beta)
        z = mean / scale
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        energy = (mean**2 + scale**2) * ndtr(z) + mean * scale * density
        for (name, n), value in zip(channels, energy, strict=True):
            if name is not None:
                self.energy[name][n] = value

    def _hear(self, layer, channels):
        kernel = np.asarray(layer.kernel)
        axes = (0, 1, 2) if isinstance(layer, layers.Conv2DTranspose) else (0, 1, 3)
        for (name, n), value in zip(channels, np.square(kernel).sum(axis=axes), strict=True):
            if name is not None:
                self.heard[name][n] += value

    def _pin(self, channels):
        self.pinned |= {name for name, _ in channels}

    def _channels(self, tensor):
        return self.maps.get(id(tensor), [(None, n) for n in range(tensor.shape[-1])])


_CONVOLUTIONS = (layers.Conv2D, layers.Conv2DTranspose)


def _is_depthwise(layer):
    return isinstance(layer, layers.DepthwiseConv2D) and layer.depth_multiplier == 1


def _list_inputs(layer):
    """The maps that go into a layer, of all its calls."""
    return [
        tensor
        for node in layer._inbound_nodes
        for tensor in node.input_tensors
        if len(tensor.shape) > 1
    ]


def _list_outputs(layer):
    return [tensor for node in layer._inbound_nodes for tensor in node.output_tensors]
