"""A training step of a preset against its convolutions alone, and where the rest goes.

The convolutions run with the same sizes, precision and gradients, one after the other, in one
compiled function. `--profile` prints the operations of a step (TensorFlow's profiler).
"""

import argparse
import collections
import pathlib
import tempfile
import time

import seglib  # before TensorFlow: it switches oneDNN on

# isort: split
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from timing import print_ratios, time_alternatives

from seglib.learning import choose_precision
from seglib.losses import CrossEntropyDice, choose_jit, compile_loss
from seglib.models import set_precision

CLASSES = 12
CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose)


def create_model(preset):
    model = seglib.create_unetpp_model(num_classes=CLASSES, **preset.model)
    set_precision(model, choose_precision())
    return model


def create_step(model, batch_size, *, optimizer, compiled):
    """Return a function that does one training step."""
    loss = CrossEntropyDice(np.ones(CLASSES), CLASSES - 1)
    heads, random = len(model.outputs), np.random.default_rng(0)
    losses = [compile_loss(loss) if compiled else loss] * heads
    model.compile(optimizer, losses, jit_compile=choose_jit())
    images = random.integers(0, 256, (batch_size, *model.input_shape[1:]), np.uint8)
    labels = random.integers(0, CLASSES, images.shape[:3], np.uint8)
    data = tf.data.Dataset.from_tensors((images, (labels,) * heads if heads > 1 else labels))
    batches = iter(data.repeat())
    model.make_train_function()
    return lambda: float(model.train_function(batches)["loss"])


def create_convolutions(model, batch_size):
    """Return a function that does all convolutions of a step, and their gradients."""
    learning, jobs = find_learning(model), []
    for layer in model.layers:
        if isinstance(layer, CONVOLUTIONS):
            shape = (batch_size, *layer.input.shape[1:])
            x = tf.cast(tf.random.stateless_normal(shape, (0, 1)), layer.compute_dtype)
            before = layer.input._keras_history.operation
            jobs.append((layer, x, before in learning))

    def compute(layer, x, needs_input):
        wanted = [x] * needs_input + [weight.value for weight in layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch(wanted)
            y = layer(x)
        return tape.gradient(y, wanted, output_gradients=y) if wanted else y

    return tf.function(lambda: [compute(*job) for job in jobs])


def find_learning(model):
    """Return the layers whose outputs depend on weights that learn."""
    learning = set()
    for layer in model.layers:  # in the order of the data
        inputs = [] if isinstance(layer, layers.InputLayer) else keras.tree.flatten(layer.input)
        before = {tensor._keras_history.operation for tensor in inputs}
        if layer.trainable_weights or before & learning:
            learning.add(layer)
    return learning


def print_profile(step, *, steps=3, rows=20):
    """Print processor time of a step by kind of operation, over all threads."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    totals, counts = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(steps):
                step()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(pathlib.Path(folder).rglob("*.xplane.pb")).read_bytes())
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name, colon, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            if colon and "CPU" in plane.name and not name.startswith(("Thread", "Iterator")):
                totals[kind] += event.duration_ps / 1e9 / steps
                counts[kind] += 1 / steps
    outer = ("Process", "Run", "Start", "Execute", "ExecuteAsyncOnStream")
    for kind, milliseconds in totals.most_common(rows + len(outer)):
        if kind not in outer and not kind.startswith(" "):
            print(f"  {kind:50} {milliseconds:8.1f} ms  {counts[kind]:5.0f} times")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    preset = seglib.get_preset(options.preset)
    batch_size = int(np.ravel(preset.train["batch_size"])[0])
    common = {"weight_decay": 0.02, "use_ema": True}
    own = {**common, "encoder_rate": preset.train["encoder_rate"]}
    choices = {
        "step of the preset": lambda: seglib.Muon(1e-3, **own),
        "step with AdamW": lambda: seglib.AdamW(1e-3, **own),
        "Keras' AdamW, loss not compiled": lambda: keras.optimizers.AdamW(1e-3, **common),
    }
    steps, first = {}, {}
    for name, create_optimizer in choices.items():
        model, start = create_model(preset), time.perf_counter()
        steps[name] = create_step(
            model, batch_size, optimizer=create_optimizer(), compiled=name.startswith("step")
        )
        steps[name]()
        first[name] = time.perf_counter() - start
    alone = create_convolutions(model, batch_size)
    steps["its convolutions alone"] = lambda: [np.asarray(g) for g in tf.nest.flatten(alone())][:1]
    print_ratios(
        f"training step of {options.preset}, batch {batch_size}",
        time_alternatives(steps, rounds=15),
        reference="its convolutions alone",
    )
    print("  first step: " + ", ".join(f"{name} {value:.1f} s" for name, value in first.items()))
    if options.profile:
        print_profile(steps["step of the preset"])


if __name__ == "__main__":
    main()
