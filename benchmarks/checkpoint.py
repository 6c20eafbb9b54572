"""What checkpoints cost: their seconds and bytes, their share of an epoch, a resumed start."""

import pathlib
import tempfile
import time

import seglib  # before TensorFlow: it switches oneDNN on

# isort: split
import numpy as np
from timing import describe_machine

from seglib.learning import Learner
from seglib.preparing import PreparedDataset, PreparedSplit
from seglib.runs import RunFolder

WIDTHS = {"8..128": (8, 16, 32, 64, 128), "16..256": (16, 32, 64, 128, 256),
          "32..512": (32, 64, 128, 256, 512)}  # fmt: skip
CAMVID_PAIRS, BATCH_SIZE, EPOCHS = 367, 4, 3


def create_data(pairs):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (pairs, 128, 128, 3)).astype(np.uint8)
    labels = random.integers(0, 12, (pairs, 128, 128)).astype(np.uint8)
    train = PreparedSplit(
        images, labels, [str(i) for i in range(pairs)], seglib.scenes.STREET_CLASSES
    )
    none = train[:0]
    return PreparedDataset(
        None, (128, 128), "random", seglib.scenes.STREET_CLASSES, train, none, none
    )


class FirstStep(Exception):
    """Raised where training would begin."""


def seconds_to_first_step(model, data, run_dir):
    """Seconds of `train` on a run that exists, before its first step."""
    step = Learner.step

    def stop(*args, **options):
        raise FirstStep

    Learner.step = stop
    start = time.perf_counter()
    try:
        seglib.train(model, data, run_dir=run_dir, epochs=EPOCHS + 1, class_weights=np.ones(12))
    except FirstStep:
        return time.perf_counter() - start
    finally:
        Learner.step = step


def measure(filters, folder):
    data = create_data(5 * BATCH_SIZE)
    start = time.perf_counter()
    model = seglib.create_unetpp_model((128, 128, 3), num_classes=12, filters=filters)
    building = time.perf_counter() - start
    written = []
    save = RunFolder.save

    def timed_save(self, state, variables):
        start = time.perf_counter()
        save(self, state, variables)
        written.append(time.perf_counter() - start)

    RunFolder.save = timed_save
    run = seglib.train(model, data, run_dir=folder, epochs=EPOCHS, class_weights=np.ones(12))
    RunFolder.save = save
    checkpoints = RunFolder(pathlib.Path(folder))
    start = time.perf_counter()
    checkpoints.read()
    reading = time.perf_counter() - start
    again = seglib.create_unetpp_model((128, 128, 3), num_classes=12, filters=filters)
    return {
        "megabytes": checkpoints.newest.stat().st_size / 1e6,
        "writing": float(np.median(written)),
        "step": float(run.history["seconds"].iloc[1:].median()) / 5,
        "reading": reading,
        "building": building,
        "resuming": seconds_to_first_step(again, data, folder),
    }


def main():
    print(f"checkpoints of U-Net++ with Adam, 128×128, batch {BATCH_SIZE} ({describe_machine()})")
    print("  filters        MB  write s  read s  step s  share of an epoch  build s  resume s")
    for name, filters in WIDTHS.items():
        with tempfile.TemporaryDirectory() as folder:
            row = measure(filters, folder)
        epoch = row["step"] * -(-CAMVID_PAIRS // BATCH_SIZE)
        print(
            f"  {name:10} {row['megabytes']:7.1f} {row['writing']:8.3f} {row['reading']:7.3f} "
            f"{row['step']:7.3f} {row['writing'] / epoch:18.3%} {row['building']:8.2f} "
            f"{row['resuming']:9.2f}"
        )


if __name__ == "__main__":
    main()
