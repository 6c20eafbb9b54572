"""How fast a picture is labelled: every export, against `model.predict` and other software.

    python benchmarks/inference.py
    python benchmarks/inference.py --others --run outputs/camvid --tuned outputs/tuned

Without `--run` it times the preset `default` with random weights, whose answers say nothing but
take as long. With it, the model of that run, trained on CamVid (CAMVID_DIR), is pruned as well,
trained on in `--tuned`, and the deployment card of all is written to `--card`. Times
are of one picture after another; ratios are within this run. What others take is measured in an
environment of its own, see `yardstick.py`, with `--others`.
"""

import argparse
import hashlib
import io
import json
import pathlib
import subprocess
import tempfile

import numpy as np
from camvid import CAMVID, ROOT, install_yardstick, yardstick_python
from PIL import Image
from timing import print_ratios, time_alternatives

import seglib
from seglib.deploying import FORMATS
from seglib.images import read_image
from seglib.recipes import get_preset

OTHERS = ("onnx", "onnxruntime")
RESULTS = ROOT / "benchmarks/results"
KEEP, EPOCHS = 0.65, 30
SIZE = (360, 480)


def create_model(run):
    if run:
        return seglib.load_model(run)
    model = seglib.create_unetpp_model(num_classes=12, **get_preset("default").model)
    return model


def draw_pictures(count):
    """Pictures that are smooth, as photographs are, so that files and calibration are usual."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 12, 16, 3)).astype(np.uint8)
    return [seglib.resize_image(picture, SIZE) for picture in coarse]


def encode(picture, format):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format, quality=90)
    return file.getvalue()


def time_exports(model, pictures, calibration, folder):
    """Print what each export takes for a picture of the model's size, and for a file."""
    small = seglib.resize_image(pictures[0], model.input_shape[1:3])[None]
    files = {name: encode(pictures[0], name) for name in ("PNG", "JPEG")}
    networks = {"model.predict": lambda: model.predict(small, verbose=0)}
    whole = {}
    installed = [name for name, known in FORMATS.items() if not known.missing]
    for format in installed:
        for precision in FORMATS[format].precisions:
            name = f"{format} {precision}"
            path = seglib.export(model, folder / name.replace(" ", "_"), format=format,
                                 precision=precision, calibration=calibration)  # fmt: skip
            predictor = seglib.load_predictor(path)
            # One after the other: threads that one runtime keeps spinning slow the next one down.
            networks[name] = lambda p=predictor: p.score(small)
            for kind, content in files.items():
                whole[f"{name}, from a {kind} of 480×360"] = lambda p=predictor, c=content: (
                    p.predict(read_image(io.BytesIO(c)))
                )
    seconds = {}
    for name, function in networks.items():
        seconds |= time_alternatives({name: function}, rounds=61)
    size = "×".join(map(str, small.shape[1:3]))
    print_ratios(f"one picture of {size}, the network alone", seconds, reference="model.predict")
    print("\nfrom the bytes of a file to a label map, ms at the median and at p95")
    for name, function in whole.items():
        times = 1e3 * np.array(time_each(function, rounds=101))
        print(f"  {name:45} {np.median(times):8.1f} {np.percentile(times, 95):8.1f}")
    return seconds


def time_each(function, rounds):
    """Seconds of each call, after three that do not count."""
    return [time_alternatives({"": function}, rounds=1)[""] for _ in range(rounds + 3)][3:]


def count_multiplications(model):
    """Multiply-adds of all convolutions, of one picture."""
    total = 0
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None and len(kernel.shape) == 4:
            places = (
                layer.input.shape if "Transpose" in type(layer).__name__ else layer.output.shape
            )
            total += int(np.prod(kernel.shape)) * int(np.prod(places[1:3]))
    return total


def compare_with_others(model, seconds):
    """Print what the yardstick takes, and how near exports come to the processor's limit."""
    install_yardstick()
    pip = [yardstick_python(), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, *OTHERS], check=True)
    script = ROOT / "benchmarks/inference_yardstick.py"
    output = subprocess.run([yardstick_python(), script], check=True, stdout=subprocess.PIPE).stdout
    figures = json.loads(output.splitlines()[-1])
    best = min(seconds, key=seconds.get)
    table = {f"best export: {best}": seconds[best], "model.predict": seconds["model.predict"]}
    for name in ("eager torch", "ONNX Runtime"):
        table[f"U-Net++ on ResNet-34 of smp, {name}"] = figures[name]
    table["float32 export: openvino float32"] = seconds["openvino float32"]
    print_ratios("against others of 128×128", table, reference=f"best export: {best}")
    count = count_multiplications(model)
    print(
        f"\nthe network has {count / 1e9:.2f} G multiply-adds a picture, smp's "
        f"{figures['network'] / 1e9:.2f}; a large product does"
    )
    for precision in ("int8", "bfloat16", "float32"):
        rate = figures["multiplications"] / figures[f"{precision} product"]
        limit, name = count / rate, f"openvino {precision}"
        print(
            f"  {rate / 1e9:7.0f} G a second in {precision}: {1e3 * limit:.2f} ms a picture", end=""
        )
        print(f"; {name} takes {seconds[name] / limit:.1f} times that" if name in seconds else "")


def digest_weights(model):
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()[:12]


def tune_pruned(model, dataset, folder):
    """Return the model and one that was pruned and trained on, by name; finished runs are read."""
    preset = get_preset("default")
    data = dataset.prepare(cache_dir=ROOT / "outputs/cache", **preset.prepare)
    recipe = {**preset.train, "schedule": "cosine", "learning_rate": 2e-3, "ema": 0.99}
    folder = folder / digest_weights(model)  # what was tuned of another model is no part of this
    pruned = seglib.prune_channels(model, KEEP)
    seglib.train(pruned, data, run_dir=folder / "channels", epochs=EPOCHS, **recipe)
    return {"whole": model, "channels": pruned}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", help="folder of a run of the preset default on CamVid")
    parser.add_argument("--tuned", type=pathlib.Path, help="folder for the pruned models")
    parser.add_argument("--card", default=RESULTS / "exports.csv", help="file of the table")
    parser.add_argument("--others", action="store_true", help="installs PyTorch, 1.1 GB")
    options = parser.parse_args()
    if options.tuned and not options.run:
        parser.error("--tuned needs --run, the model that is pruned")
    model = create_model(options.run)
    with tempfile.TemporaryDirectory() as folder:
        pictures = draw_pictures(20)
        seconds = time_exports(model, pictures, pictures, pathlib.Path(folder))
    if options.others:
        compare_with_others(model, seconds)
    if options.run and options.tuned:
        dataset = seglib.open_dataset(CAMVID)
        models = tune_pruned(model, dataset, options.tuned)
        card = seglib.compare_exports(models, dataset.val, calibration=dataset.train)
        print(card)
        card.table.round(5).to_csv(options.card)


if __name__ == "__main__":
    main()
