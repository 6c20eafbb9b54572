"""A training step of `seglib.train`, against a bare Keras `fit` on arrays in memory."""

import statistics
import tempfile
import time

import seglib  # before TensorFlow: it switches oneDNN on

# isort: split
import keras
import numpy as np
from timing import print_ratios

from seglib.learning import choose_precision
from seglib.losses import CrossEntropyDice
from seglib.preparing import PreparedDataset, PreparedSplit

COUNT, BATCH_SIZE, EPOCHS = 96, 8, 4


class EpochClock(keras.callbacks.Callback):
    """Notes the seconds of each epoch."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def create_data():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (COUNT, 128, 128, 3)).astype(np.uint8)
    labels = random.integers(0, 12, (COUNT, 128, 128)).astype(np.uint8)
    names = [str(i) for i in range(COUNT)]
    classes = seglib.scenes.STREET_CLASSES
    train = PreparedSplit(images, labels, names, classes)
    none = PreparedSplit(images[:0], labels[:0], [], classes)
    return PreparedDataset(None, (128, 128), "random", classes, train, none, none)


def create_model():
    return seglib.create_unetpp_model((128, 128, 3), num_classes=12, filters=(8, 16, 32, 64, 128))


def time_bare_fit(data):
    model, clock = create_model(), EpochClock()
    heads = len(model.outputs)
    model.compile(
        keras.optimizers.Adam(1e-3),
        [CrossEntropyDice(np.ones(12), 11)] * heads,
        loss_weights=[1 / heads] * heads,
    )
    model.fit(
        data.train.images,
        (data.train.labels,) * heads,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        callbacks=[clock],
        verbose=0,
    )
    return clock.seconds[1:]


def time_seglib(data, precision):
    with tempfile.TemporaryDirectory() as folder:
        run = seglib.train(
            create_model(),
            data,
            run_dir=folder,
            epochs=EPOCHS,
            batch_size=BATCH_SIZE,
            class_weights=np.ones(12),
            precision=precision,
        )
    return run.history["seconds"].tolist()[1:]


def main():
    data = create_data()
    automatic = choose_precision()
    runs = {"bare Keras fit, float32": [], "seglib.train, float32": []}
    if automatic != "float32":
        runs[f"seglib.train, {automatic}"] = []
    for _ in range(2):  # in turns; the first epoch of each compiles and does not count
        for name, seconds in runs.items():
            precision = name.split(", ")[1]
            bare = name.startswith("bare")
            seconds += time_bare_fit(data) if bare else time_seglib(data, precision)
    steps = COUNT / BATCH_SIZE
    medians = {name: statistics.median(seconds) / steps for name, seconds in runs.items()}
    print_ratios(
        "training step, U-Net++ 8..128, batch 8, augmentation included",
        medians,
        reference="bare Keras fit, float32",
    )
    if automatic == "float32":
        print("  no bfloat16 units here: float32 is what precision='auto' chooses")


if __name__ == "__main__":
    main()
