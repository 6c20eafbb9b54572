"""`predict` on one picture, against the bare compiled model and `model.predict`."""

import numpy as np
import tensorflow as tf
from timing import print_ratios, time_alternatives

import seglib


def main():
    model = seglib.create_unetpp_model(
        (128, 128, 3), num_classes=12, filters=(16, 32, 64, 128, 256)
    )
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    large = np.random.default_rng(0).integers(0, 256, (360, 480, 3)).astype(np.uint8)
    batch = tf.constant(picture[None])
    compiled = tf.function(lambda x: model(x, training=False)[-1])
    seconds = time_alternatives(
        {
            "model inside a compiled function": lambda: compiled(batch).numpy(),
            "seglib.predict, 128×128": lambda: seglib.predict(model, picture),
            "seglib.predict, 480×360": lambda: seglib.predict(model, large),
            "model.predict": lambda: model.predict(picture[None], verbose=0),
        },
        rounds=41,
    )
    print_ratios(
        "one picture, U-Net++ 16..256 at 128×128",
        seconds,
        reference="model inside a compiled function",
    )


if __name__ == "__main__":
    main()
