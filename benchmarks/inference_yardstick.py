"""How fast others label a picture, and how fast this processor multiplies; run by `inference.py`.

In the environment of `yardstick.py`: U-Net++ with a ResNet-34 of segmentation_models_pytorch in
eager PyTorch and in ONNX Runtime, and large matrix products. Prints JSON, in seconds.
"""

import json
import os
import statistics
import tempfile
import time

import numpy as np
import onnxruntime
import torch
from yardstick import smp

SIZE, SIDE = (128, 128), 2048


LONGEST = 20  # seconds for one measurement: some processors multiply bfloat16 one by one


def measure(function, rounds):
    function()
    begin, seconds = time.perf_counter(), []
    while len(seconds) < rounds and (not seconds or time.perf_counter() - begin < LONGEST):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:] or seconds)  # the first one warms up


def count_multiplications(model, picture):
    """Multiply-adds of all convolutions, of one picture."""
    counts = []

    def note(layer, _, maps):
        counts.append(layer.weight.numel() * maps.shape[2] * maps.shape[3])

    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    model(picture)
    for hook in hooks:
        hook.remove()
    return sum(counts)


@torch.no_grad()
def main():
    torch.set_num_threads(os.cpu_count())
    model = smp.UnetPlusPlus("resnet34", encoder_weights=None, classes=12).eval()
    picture = torch.rand(1, 3, *SIZE)
    figures = {"network": count_multiplications(model, picture)}
    figures["eager torch"] = measure(lambda: model(picture), 41)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        torch.onnx.export(model, (picture,), file.name, dynamo=False)
        session = onnxruntime.InferenceSession(file.name, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        array = picture.numpy()
        figures["ONNX Runtime"] = measure(lambda: session.run(None, {name: array}), 41)
    words = torch.rand(SIDE, SIDE)
    figures["float32 product"] = measure(lambda: words @ words, 21)
    words = words.bfloat16()
    numbers = torch.from_numpy(np.random.default_rng(0).integers(-9, 9, (SIDE, SIDE))).to(
        torch.int8
    )
    figures["bfloat16 product"] = measure(lambda: words @ words, 21)
    figures["int8 product"] = measure(lambda: torch._int_mm(numbers, numbers), 21)
    print(json.dumps({**figures, "multiplications": SIDE**3}))


if __name__ == "__main__":
    main()
