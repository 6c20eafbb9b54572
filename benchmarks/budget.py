"""Time budgets on CamVid: how much of each is used, overrun, and what the model reaches in it."""

import json
import os
import pathlib
import sys
import tempfile

from timing import describe_machine

import seglib

BUDGETS = ("1m", "3m", "8m")
FILTERS, BATCH_SIZE, SIZE = (8, 16, 32, 64, 128), 2, (128, 128)


def train(dataset, budget, run_dir):
    model = seglib.create_unetpp_model(
        (*SIZE, 3), num_classes=dataset.classes.num_classes, filters=FILTERS
    )
    run = seglib.train(model, dataset, run_dir=run_dir, time_budget=budget, batch_size=BATCH_SIZE)
    return run, json.loads((run.run_dir / "run.json").read_text())


def main():
    dataset = seglib.open_dataset(os.environ.get("CAMVID_DIR", "data/camvid"))
    print(f"time budgets on CamVid, U-Net++ 8..128, 128×128, batch 2 ({describe_machine()})")
    with tempfile.TemporaryDirectory() as folder:
        prepared = dataset.prepare(image_size=SIZE, cache_dir=f"{folder}/cache")
        for budget in sys.argv[1:] or BUDGETS:
            run, story = train(prepared, budget, pathlib.Path(folder) / budget)
            seconds = story["plan"]["time_budget_seconds"]
            elapsed = story["sessions"][-1]["elapsed_seconds"]
            print(
                f"  {budget:>4}: {elapsed:6.1f} s, {elapsed - seconds:+5.1f} s "
                f"({elapsed / seconds:.1%}), {story['plan']['epochs']} epochs, last learning rate "
                f"{run.history['learning_rate'].iloc[-1]:.1e}, mean IoU {run.best['mean_iou']:.3f}"
            )


if __name__ == "__main__":
    main()
