"""Reading pairs: how many a second, and what memory it takes as a set grows.

`--sizes 1000 5000` measures memory for these numbers of pairs; without a number, for none.
50,000 pairs take 13 GB of disk in `--folder`, and half an hour.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
from timing import describe_machine, time_alternatives

import seglib

CAMVID = os.environ.get("CAMVID_DIR", "data/camvid")
SIZE, LARGE = (128, 128), (256, 256)
SIZES, ORIGINALS = (1_000, 5_000), 300
STEPS, BATCH_SIZE, FILTERS = 24, 4, (8, 16, 32, 64)
LIMIT = 2000  # MB of anonymous memory while 50,000 pairs train


# Pairs a second


def read_in_a_loop(split):
    for image, labels in (split[i] for i in range(len(split))):
        seglib.resize_image(image, SIZE), seglib.resize_labels(labels, SIZE)


def create_pipeline(split):
    """What one would write with tf.data: nearest labels, colours by an exact table."""
    import tensorflow as tf

    table = np.zeros(1 << 24, np.uint8)
    for (red, green, blue), label in split.classes.mapping.items():
        table[red << 16 | green << 8 | blue] = label
    table = tf.constant(table)

    def read_pair(image_path, mask_path):
        image, mask = (
            tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
            for path in (image_path, mask_path)
        )
        image = tf.cast(tf.round(tf.image.resize(image, SIZE, antialias=True)), tf.uint8)
        mask = tf.cast(tf.image.resize(mask, SIZE, "nearest"), tf.int32)
        keys = mask[..., 0] * (1 << 16) + mask[..., 1] * (1 << 8) + mask[..., 2]
        return image, tf.gather(table, keys)

    paths = [[str(file) for file in files] for files in zip(*split.pairs, strict=True)]
    pairs = tf.data.Dataset.from_tensor_slices(tuple(paths))
    return pairs.map(read_pair, num_parallel_calls=tf.data.AUTOTUNE).batch(16).prefetch(2)


def prepare_and_read(dataset, folder):
    for image, labels in dataset.prepare(image_size=SIZE, cache_dir=folder).train:
        image.copy(), labels.copy()


def measure_checksums(dataset, folder):
    """Seconds a pair that its first reading takes more than its second, as epochs of 288×288."""
    split = dataset.prepare(image_size=(288, 288), cache_dir=folder).train
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for image, labels in split:
            image.copy(), labels.copy()
        times.append(time.perf_counter() - start)
    return (times[0] - min(times[1:])) / len(split)


def measure_speed():
    dataset = seglib.open_dataset(CAMVID)
    dataset = dataclasses.replace(dataset, val=dataset.val[:0], test=dataset.test[:0])
    pipeline = create_pipeline(dataset.train)
    with tempfile.TemporaryDirectory() as folder:

        def prepare_anew():
            shutil.rmtree(folder)
            prepare_and_read(dataset, folder)

        seconds = time_alternatives(
            {
                "plain loop": lambda: read_in_a_loop(dataset.train),
                "tf.data": lambda: [None for _ in pipeline],
                "prepare, new cache": prepare_anew,
                "prepare, cache there": lambda: prepare_and_read(dataset, folder),
            },
            rounds=5,
        )
        checks = [measure_checksums(dataset, folder) for _ in range(5)]
    print(f"{len(dataset)} pairs of 480×360 read at 128×128 ({describe_machine()})")
    print(f"  checksums take {1e3 * np.median(checks):.2f} ms a pair, once a process")
    for name, value in seconds.items():
        print(
            f"  {name:25} {len(dataset) / value:9.0f} pairs a second  "
            f"{seconds['plain loop'] / value:7.2f} × plain loop  "
            f"{seconds['tf.data'] / value:7.2f} × tf.data"
        )


# Memory


@contextlib.contextmanager
def note_peak(peaks, name):
    """Note the highest anonymous memory of this process, in MB, meanwhile; and the seconds."""
    ended, samples, start = threading.Event(), [anonymous_memory()], time.perf_counter()

    def sample():
        while not ended.wait(0.02):
            samples.append(anonymous_memory())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        peaks[name] = max(*samples, anonymous_memory())
        peaks[f"{name} seconds"] = time.perf_counter() - start


def anonymous_memory():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1e3


def create_large_set(folder, count):
    """Copies of a few CamVid pairs, and names that are linked to them."""
    pairs = seglib.open_dataset(CAMVID).train.pairs[:ORIGINALS]
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    shutil.copy(pathlib.Path(CAMVID, "class_dict.csv"), folder)
    for i in range(count):
        for kind, file in zip(("images", "masks"), pairs[i % len(pairs)], strict=True):
            path = folder / kind / f"{i:06d}{file.suffix}"
            if i < len(pairs):
                shutil.copyfile(file, path)
            else:
                os.link(folder / kind / f"{i % len(pairs):06d}{file.suffix}", path)


def measure_memory(folder):
    """Open, prepare and train in this process; print the peaks as JSON."""
    peaks = {"start": anonymous_memory()}
    with note_peak(peaks, "opening"):
        dataset = seglib.open_dataset(folder, fractions=(1, 0, 0))
    with note_peak(peaks, "preparing"):
        prepared = dataset.prepare(image_size=LARGE, cache_dir=folder / "cache")
    with note_peak(peaks, "training"):
        train_a_little(prepared, folder / "run")
    print(json.dumps({"pairs": len(dataset), **peaks}))


def train_a_little(prepared, run_dir):
    from seglib.training import Batches

    fetch, fetched = Batches.__getitem__, itertools.count()

    def fetch_some(batches, index):
        if next(fetched) == STEPS + 1:  # Keras fetches two batches ahead
            signal.raise_signal(signal.SIGINT)  # as Ctrl-C: the run ends after this step
        return fetch(batches, index)

    Batches.__getitem__ = fetch_some
    model = seglib.create_unetpp_model(
        (*LARGE, 3), num_classes=prepared.classes.num_classes, filters=FILTERS
    )
    run = seglib.train(model, prepared, run_dir=run_dir, epochs=1, batch_size=BATCH_SIZE)
    assert run.ended_by == "Ctrl-C"


def measure_in_a_process(folder):
    process = subprocess.run(
        [sys.executable, __file__, "--measure", folder],
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise RuntimeError(process.stderr)
    return json.loads(process.stdout.splitlines()[-1])


def print_memory(sizes, folder):
    print(f"\nanonymous memory at 256×256, highest while each is done ({describe_machine()})")
    print("    pairs  opening MB  preparing MB  pairs a second  training MB")
    for count in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            create_large_set(pathlib.Path(place), count)
            row = measure_in_a_process(place)
        print(
            f"  {count:7} {row['opening']:11.0f} {row['preparing']:13.0f} "
            f"{count / row['preparing seconds']:15.0f} {row['training']:12.0f}"
            + f"  more than {LIMIT} MB"
            * (row["training"] > LIMIT),
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, help="numbers of pairs")
    parser.add_argument("--folder", help="where the large sets are written and removed again")
    parser.add_argument("--no-speed", action="store_true", help="memory only")
    parser.add_argument("--measure", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure_memory(options.measure)
    os.environ["TQDM_DISABLE"] = "1"
    if not options.no_speed:
        measure_speed()
    if options.sizes:
        print_memory(options.sizes, options.folder)


if __name__ == "__main__":
    main()
