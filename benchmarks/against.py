"""Runs the code of another commit beside this one, each in processes of their own.

    python benchmarks/against.py 58640cd --equal        # are weights after 20 steps the same?
    python benchmarks/against.py 58640cd --step         # is a training step as fast?
    python benchmarks/against.py 58640cd --scripts masks data augment

`--equal` trains each preset for 20 steps on CamVid from one seed. `--step` trains `fast` for 200
steps, the two commits by turns, five rounds.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRESETS = ("fast", "default", "scratch", "best")
LINE = re.compile(r"^ +(\S.*?) +([\d.]+) ms", re.MULTILINE)

CHILD = """
import hashlib, json, sys, tempfile, time, dataclasses
import numpy as np
import seglib

name, steps, batch_size, data, cache = sys.argv[1:6]
steps, batch_size = int(steps), int(batch_size)
preset = seglib.get_preset(name)
part = lambda which: preset[which] if isinstance(preset, dict) else getattr(preset, which)
prepared = seglib.open_dataset(data).prepare(cache_dir=cache, **part("prepare"))
count = min(len(prepared.train), steps * batch_size) // batch_size * batch_size
epochs = -(-steps * batch_size // count)
prepared = dataclasses.replace(prepared, train=prepared.train[:count], val=prepared.val[:0])
classes = prepared.classes.num_classes
model = seglib.create_unetpp_model(num_classes=classes, seed=0, **part("model"))
train = {**part("train"), "batch_size": batch_size, "validate_every": 1000}
with tempfile.TemporaryDirectory() as folder:
    start = time.perf_counter()
    run = seglib.train(model, prepared, run_dir=folder, epochs=epochs, seed=0, **train)
    seconds = time.perf_counter() - start
digest = hashlib.blake2b(digest_size=8)
for weights in run.model.get_weights():
    digest.update(np.ascontiguousarray(weights).tobytes())
steps_made = int(run.history["step"].iloc[-1])
later = run.history["seconds"].iloc[1:].median() if len(run.history) > 1 else float("nan")
print(json.dumps({"digest": digest.hexdigest(), "steps": steps_made,
    "ms_step": 1e3 * later * len(run.history) / steps_made, "seconds": seconds,
    "loss": float(run.history["loss"].iloc[-1])}))
"""


@contextlib.contextmanager
def check_out(commit):
    """Yield a folder with the files of a commit."""
    archive = subprocess.run(
        ["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        yield pathlib.Path(folder)


def run_child(tree, code, *arguments):
    """Run Python code with the seglib of a folder; return what it prints last, as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "TQDM_DISABLE": "1"}
    output = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        cwd=tree,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return json.loads(output.splitlines()[-1])


def compare_weights(trees, data, cache, presets):
    for preset in presets:
        size = 8 if preset == "best" else 16
        results = [
            run_child(tree, CHILD, preset, 20, size, data, f"{cache}/{i}")
            for i, tree in enumerate(trees)
        ]
        same = results[0]["digest"] == results[1]["digest"]
        print(preset, "the same bits" if same else f"DIFFERENT: {results}", flush=True)


def compare_steps(trees, data, cache, *, rounds=5):
    milliseconds = [[], []]
    for number in range(rounds):
        for i in (0, 1) if number % 2 else (1, 0):
            result = run_child(trees[i], CHILD, "fast", 200, 4, data, f"{cache}/{i}")
            milliseconds[i].append(result["ms_step"])
            print(number, ("before", "now")[i], round(result["ms_step"], 1), flush=True)
    before, now = map(statistics.median, milliseconds)
    print(f"a step takes {before:.1f} ms before, {now:.1f} ms now: {now / before:.3f} ×")


def compare_scripts(trees, names, *, rounds=3):
    """Run the benchmark scripts of both commits by turns; compare the lines that give ms."""
    for name in names:
        seconds = [collections.defaultdict(list), collections.defaultdict(list)]
        for _ in range(rounds):
            for times, tree in zip(seconds, trees, strict=True):
                environment = {**os.environ, "PYTHONPATH": str(tree), "TQDM_DISABLE": "1"}
                script = [sys.executable, f"benchmarks/{name}.py"]
                done = subprocess.run(
                    script, cwd=tree, env=environment, check=True, capture_output=True, text=True
                )
                for what, value in LINE.findall(done.stdout):
                    times[what].append(float(value))
        print(name)
        for what in seconds[0].keys() & seconds[1].keys():
            before, now = (statistics.median(times[what]) for times in seconds)
            print(f"  {what:45} {before:9.2f} ms {now:9.2f} ms {now / before:6.2f} ×", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit")
    parser.add_argument("--equal", action="store_true")
    parser.add_argument("--step", action="store_true")
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--scripts", nargs="+", default=(), help="such as masks data augment")
    options = parser.parse_args()
    data = os.path.abspath(os.environ.get("CAMVID_DIR", "data/camvid"))
    with check_out(options.commit) as before, tempfile.TemporaryDirectory() as cache:
        trees = [before, ROOT]
        if options.equal:
            compare_weights(trees, data, cache, options.presets)
        if options.step:
            compare_steps(trees, data, cache)
        compare_scripts(trees, options.scripts)


if __name__ == "__main__":
    main()
