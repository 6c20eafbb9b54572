"""An optimizer that changes a pretrained encoder with care."""

import keras


@keras.saving.register_keras_serializable(package="seglib")
class EncoderAdamW(keras.optimizers.AdamW):
    """AdamW under which an encoder's weights learn more slowly than the rest.

    Its variables are those of AdamW, in the same order.

    Args:
        learning_rate: float or schedule, of all but the encoder.
        encoder_rate: float in [0, 1], share of it by which the encoder's weights move.
        kwargs: as of `keras.optimizers.AdamW`; with `weight_decay=0` it is Adam.
    """

    def __init__(self, learning_rate=1e-3, *, encoder_rate=0.2, **kwargs):
        if not 0 <= encoder_rate <= 1:
            raise ValueError(f"expected an encoder_rate in [0, 1], received {encoder_rate}")
        super().__init__(learning_rate, **kwargs)
        self.encoder_rate = encoder_rate

    def update_step(self, gradient, variable, learning_rate):
        # TensorFlow's own variables, which come here, have lost the path.
        path = self._trainable_variables[self._get_variable_index(variable)].path
        in_encoder = any(part.startswith("encoder_") for part in path.split("/"))
        factor = self.encoder_rate if in_encoder else 1.0
        super().update_step(gradient, variable, factor * learning_rate)

    def get_config(self):
        return {**super().get_config(), "encoder_rate": self.encoder_rate}
