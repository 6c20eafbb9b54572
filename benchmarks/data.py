"""Reading CamVid's training pairs into the cache, against a plain loop doing the same work."""

import dataclasses
import os
import tempfile

import numpy as np
from timing import print_ratios, time_alternatives

import seglib

SIZE = (128, 128)


def read_in_a_loop(split):
    pairs = [
        (seglib.resize_image(image, SIZE), seglib.resize_labels(labels, SIZE))
        for image, labels in (split[i] for i in range(len(split)))
    ]
    images, labels = zip(*pairs, strict=True)
    return np.stack(images), np.stack(labels)


def prepare(dataset):
    with tempfile.TemporaryDirectory() as folder:
        return len(dataset.prepare(image_size=SIZE, cache_dir=folder))


def main():
    dataset = seglib.open_dataset(os.environ.get("CAMVID_DIR", "data/camvid"))
    only_train = dataclasses.replace(dataset, val=dataset.val[:0], test=dataset.test[:0])
    with tempfile.TemporaryDirectory() as folder:
        only_train.prepare(image_size=SIZE, cache_dir=folder)
        seconds = time_alternatives(
            {
                "plain loop": lambda: read_in_a_loop(only_train.train),
                "prepare, new cache": lambda: prepare(only_train),
                "prepare, cache there": lambda: only_train.prepare(
                    image_size=SIZE, cache_dir=folder
                ),
            },
            rounds=5,
        )
    print_ratios(f"{len(only_train)} pairs of 480×360 to 128×128", seconds, reference="plain loop")


if __name__ == "__main__":
    main()
