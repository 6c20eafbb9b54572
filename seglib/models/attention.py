"""Attention that weighs channels, and places, of a map by what the whole map shows."""

from keras import layers, ops

KINDS = (None, "se", "cbam")
REDUCTION = 16


def check_attention(attention):
    """Raise ValueError where this is none of `KINDS`."""
    if attention not in KINDS:
        raise ValueError(f"expected attention to be None, 'se' or 'cbam', received {attention!r}")


def attend(x, attention, *, name, draw):
    """Weigh a map's channels ("se"), or its channels and then its places ("cbam").

    Args:
        x: tensor `(batch, height, width, channels)`.
        attention: None for `x` as it is, "se" or "cbam".
        name: str that the names of the layers begin with.
        draw: function without arguments that returns a weight initializer.

    Returns:
        tensor like `x`.

    Source: Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3; Woo et al. 2018,
    "CBAM: Convolutional Block Attention Module", sections 3.1 and 3.2; both with a reduction of
    16, at least 4 channels.
    """
    if attention is None:
        return x
    hidden = max(x.shape[-1] // REDUCTION, 4)
    squeeze = layers.Dense(hidden, "relu", kernel_initializer=draw(), name=f"{name}_squeeze")
    excite = layers.Dense(x.shape[-1], kernel_initializer=draw(), name=f"{name}_excite")
    summary = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    scores = excite(squeeze(summary))
    if attention == "cbam":
        peak = layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_peak")(x)
        scores = layers.Add(name=f"{name}_sum")([scores, excite(squeeze(peak))])
    weights = layers.Activation("sigmoid", name=f"{name}_channels")(scores)
    x = layers.Multiply(name=f"{name}_weigh")([x, weights])
    return _attend_places(x, name, draw) if attention == "cbam" else x


def _attend_places(x, name, draw):
    maps = [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)]
    maps = layers.Concatenate(name=f"{name}_maps")(maps)  # (batch, height, width, 2)
    weights = layers.Conv2D(1, 7, padding="same", activation="sigmoid", kernel_initializer=draw(),
                            name=f"{name}_places")(maps)  # fmt: skip
    return layers.Multiply(name=f"{name}_place")([x, weights])
