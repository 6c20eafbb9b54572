"""Augmented pairs a second, against what the model takes, a plain loop, and tf.data.

Pairs of 256×320 become windows of 128×128.
"""

import seglib  # before TensorFlow: it switches oneDNN on

# isort: split
import keras
import numpy as np
import tensorflow as tf
from scipy import ndimage
from timing import print_ratios, time_alternatives

from seglib.augment import draw_window
from seglib.learning import Batches, choose_precision
from seglib.losses import CrossEntropyDice
from seglib.preparing import PreparedSplit

COUNT, STORED, SIZE, BATCH_SIZE, CLASSES = 48, (256, 320), (128, 128), 8, 12
CROPS = {"size": SIZE, "scale": (0.75, 2.0), "aspect": 1.2}
COLORS = {"brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 15}
GEOMETRY = {**CROPS, "rotation": 10}
UNMIXED = {**GEOMETRY, **COLORS, "blur": 1.5, "noise": 10}
AUGMENTATIONS = {
    "seglib, defaults on 128×128": {},
    "seglib, crop and colours": {**CROPS, **COLORS},
    "seglib, all but focus and mixing": UNMIXED,
    "seglib, all with CutMix": {**UNMIXED, "focus": 0.5, "cutmix": 0.5},
    "seglib, all with mixup": {**UNMIXED, "focus": 0.5, "cutmix": 0.25, "mixup": 0.25},
}


def create_split(size):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (COUNT, *size, 3)).astype(np.uint8)
    blocks = random.integers(0, CLASSES, (COUNT, size[0] // 16, size[1] // 16))
    labels = blocks.repeat(16, axis=1).repeat(16, axis=2).astype(np.uint8)
    return PreparedSplit(
        images, labels, [str(i) for i in range(COUNT)], seglib.scenes.STREET_CLASSES
    )


def read_batches(split, augmentation):
    """One epoch of what `seglib.train` reads."""
    batches = Batches(split, batch_size=BATCH_SIZE, seed=0, augment=augmentation)
    for i in range(batches.steps_per_epoch):
        batches[i]


def read_in_a_loop(split, augmentation):
    """The same changes in NumPy and SciPy, a pair at a time."""
    random = np.random.default_rng(0)
    for start in range(0, COUNT, BATCH_SIZE):
        pairs = [
            change_pair(*split[i], random, augmentation) for i in range(COUNT)[start:][:BATCH_SIZE]
        ]
        [np.stack(parts) for parts in zip(*pairs, strict=True)]


def change_pair(image, labels, random, augmentation):
    matrix = draw_window(random, labels, augmentation, 11)
    offset = matrix @ (0.5, 0.5, 1) - 0.5  # SciPy counts from the centre of the first pixel
    options = {"offset": offset, "output_shape": SIZE, "mode": "constant"}
    image = image.astype(np.float32)
    channels = [
        ndimage.affine_transform(image[..., i], matrix[:, :2], order=1, cval=128, **options)
        for i in range(3)
    ]
    labels = ndimage.affine_transform(labels, matrix[:, :2], order=0, cval=11, **options)
    colors = seglib.augment.color_matrix(0.05, 0.1, 0.1, 5)
    image = np.stack(channels, axis=-1) @ colors[:, :3].T + colors[:, 3]
    if random.random() < 0.5:
        deviation = random.uniform(0, augmentation.blur)
        image = ndimage.gaussian_filter(image, (deviation, deviation, 0))
    if random.random() < 0.5:
        image = image + random.normal(0, random.uniform(0, augmentation.noise), image.shape)
    return image.round().clip(0, 255).astype(np.uint8), labels


def create_dataset(split):
    """Mirror, scale and crop, change colours, in tf.data on all processors."""

    def change(image, labels):
        image, labels = tf.cast(image, tf.float32), labels[..., None]
        scale = 0.75 * (2 / 0.75) ** tf.random.uniform([])
        size = tf.cast(scale * tf.constant(SIZE, tf.float32), tf.int32)
        image = tf.image.resize(image, size, antialias=True)
        labels = tf.image.resize(labels, size, method="nearest")
        larger = tf.maximum(size, SIZE)
        image = tf.image.pad_to_bounding_box(image, 0, 0, larger[0], larger[1])
        labels = tf.image.pad_to_bounding_box(labels, 0, 0, larger[0], larger[1])
        both = tf.concat([image, tf.cast(labels, tf.float32)], axis=-1)
        both = tf.image.random_flip_left_right(tf.image.random_crop(both, (*SIZE, 4)))
        image, labels = both[..., :3] / 255, tf.cast(both[..., 3], tf.uint8)
        image = tf.image.random_brightness(image, 0.1)
        image = tf.image.random_contrast(image, 0.8, 1.2)
        image = tf.image.random_saturation(image, 0.7, 1.3)
        image = tf.image.random_hue(image, 0.04)
        return tf.image.convert_image_dtype(image, tf.uint8, saturate=True), labels

    pairs = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
    changed = pairs.map(change, num_parallel_calls=tf.data.AUTOTUNE)
    return changed.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)


def create_step(split):
    """A training step of a small U-Net++ on one batch."""
    model = seglib.create_unetpp_model(
        (*SIZE, 3), num_classes=CLASSES, filters=(8, 16, 32, 64, 128)
    )
    seglib.models.set_precision(model, choose_precision())
    heads = len(model.outputs)
    model.compile("adam", [CrossEntropyDice(np.ones(CLASSES), 11)] * heads)
    images, labels = (
        keras.ops.convert_to_tensor(part[:8]) for part in (split.images, split.labels)
    )
    return lambda: model.train_on_batch(images, (labels,) * heads)


def main():
    stored, small = create_split(STORED), create_split(SIZE)
    dataset = create_dataset(stored)
    alternatives = {"training step, U-Net++ 8..128": create_step(small)}
    for name, options in AUGMENTATIONS.items():
        split = stored if options else small
        augmentation = seglib.Augmentation(**options)
        alternatives[name] = lambda split=split, a=augmentation: read_batches(split, a)
    unmixed = seglib.Augmentation(**UNMIXED)
    alternatives["NumPy and SciPy, all but focus and mixing"] = lambda: read_in_a_loop(
        stored, unmixed
    )
    alternatives["tf.data, crop and colours, all processors"] = lambda: list(dataset)
    seconds = time_alternatives(alternatives)
    counts = dict.fromkeys(seconds, COUNT) | {next(iter(seconds)): BATCH_SIZE}
    each = {name: seconds[name] / counts[name] for name in seconds}
    print_ratios("one pair", each, reference=next(iter(each)))
    print()
    for name, value in each.items():
        rate = f"{1 / value:8.0f} pairs/s"
        print(f"  {name:45} {rate}  {each[next(iter(each))] / value:8.1f} × the model's")


if __name__ == "__main__":
    main()
