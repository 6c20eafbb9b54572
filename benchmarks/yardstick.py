"""The yardstick: U-Net++ with a ResNet-34 of segmentation_models_pytorch, from random weights.

Dice + cross-entropy, Adam at 1e-3, mirrored pictures. It runs in an environment of
its own, started by `camvid.py`, which wrote the arrays that are read here and scores what is
written. The weights that score best on the validation pairs, at an epoch's end, are kept.
"""

import argparse
import copy
import json
import os
import pathlib
import time

import numpy as np
import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    # A torch without CUDA beside a torchvision with it: two operators are declared, none is used.
    for name in ("nms", "qnms"):
        arguments = "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor"
        torch.library.define(f"torchvision::{name}", arguments)
import segmentation_models_pytorch as smp

BATCH_SIZE, LEARNING_RATE = 16, 1e-3
CLOSING = 4.0  # seconds for taking up and writing the best weights, as `seglib.train` keeps


def create_model(num_classes):
    model = smp.UnetPlusPlus("resnet34", encoder_weights=None, classes=num_classes)
    return model.to(memory_format=torch.channels_last)


def autocast():
    """bfloat16 where the processor has units for it.

    A step of 16 at 128×128 took 2.4 s in float32, 1.1 s in bfloat16, 0.8 s with the channels last
    as well, on two cores with AMX.
    """
    units = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=units)


def read_pairs(folder, name):
    """Return uint8 images `(n, 3, height, width)`, the channels last in memory, and labels."""
    images = torch.from_numpy(np.load(folder / f"{name}_images.npy")).permute(0, 3, 1, 2)
    return images, torch.from_numpy(np.load(folder / f"{name}_labels.npy").astype(np.int64))


def scale(images):
    return (images / 255).contiguous(memory_format=torch.channels_last)


def create_step(model, ignore_label):
    """Return a function that does one step on images and labels, some of them mirrored."""
    dice = smp.losses.DiceLoss("multiclass", ignore_index=ignore_label)
    cross_entropy = torch.nn.CrossEntropyLoss(ignore_index=ignore_label)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)

    def step(images, labels):
        mirrored = torch.rand(len(images)) < 0.5
        images[mirrored], labels[mirrored] = images[mirrored].flip(-1), labels[mirrored].flip(-1)
        with autocast():
            logits = model(scale(images)).float()
        loss = dice(logits, labels) + cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


@torch.no_grad()
def validate(model, images, labels, *, num_classes, ignore_label):
    """Return the mean IoU at the size of the arrays."""
    model.eval()
    matrix = np.zeros((num_classes, num_classes))
    for part, truth in zip(images.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True):
        with autocast():
            logits = model(scale(part)).float()
        logits[:, ignore_label] = -torch.inf
        counted = truth != ignore_label
        pairs = truth[counted] * num_classes + logits.argmax(dim=1)[counted]
        matrix += np.bincount(pairs, minlength=num_classes**2).reshape(matrix.shape)
    model.train()
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - matrix.diagonal()
    return (matrix.diagonal()[union > 0] / union[union > 0]).mean()


def train(model, images, labels, *, score, ignore_label, deadline):
    """Train until the deadline; the model has the best weights afterwards."""
    step = create_step(model, ignore_label)
    steps_per_epoch = -(-len(images) // BATCH_SIZE)
    durations, validations, scores = [], [], []

    def has_time():
        slowest = max(durations[-20:], default=0.0)
        validation = max(validations[-20:], default=4 * slowest)
        return time.time() + slowest + validation + CLOSING < deadline

    while has_time():
        for chosen in torch.randperm(len(images)).split(BATCH_SIZE):
            if has_time():
                start = time.time()
                step(images[chosen], labels[chosen])
                durations.append(time.time() - start)
        start = time.time()
        scores.append(score(model))
        if scores[-1] == max(scores):
            best = copy.deepcopy(model.state_dict())
        validations.append(time.time() - start)
    model.load_state_dict(best)
    return {
        "steps": len(durations),
        "epochs": round(len(durations) / steps_per_epoch, 3),
        "best_epoch": 1 + int(np.argmax(scores)),
        "ms_step": round(1e3 * float(np.mean(durations[-100:])), 1),
    }


def describe_weights(model, file):
    return {
        "parameters_m": round(sum(p.numel() for p in model.parameters()) / 1e6, 3),
        "megabytes": round(file.stat().st_size / 1e6, 2),
    }


@torch.no_grad()
def predict(model, images, *, flip, ignore_label):
    """Return probabilities `(n, height, width, classes)` in float32, and milliseconds of each."""

    def score(image):
        with autocast():
            logits = model(scale(image)).float()
        logits[:, ignore_label] = -torch.inf
        return logits.softmax(dim=1)

    model.eval()
    score(images[:1])  # the first call takes longer
    probabilities, milliseconds = [], []
    for image in images.split(1):
        start = time.perf_counter()
        scores = score(image)
        if flip:
            scores = (scores + score(image.flip(-1)).flip(-1)) / 2
        milliseconds.append(1e3 * (time.perf_counter() - start))
        probabilities.append(scores[0].permute(1, 2, 0).numpy())
    return np.stack(probabilities), np.array(milliseconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="of the arrays, and of what is written")
    parser.add_argument("--num-classes", type=int, required=True)
    parser.add_argument("--ignore-label", type=int, required=True)
    parser.add_argument("--deadline", type=float, required=True, help="seconds since 1970")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    ignored, folder = {"ignore_label": options.ignore_label}, options.folder
    torch.manual_seed(options.seed)
    torch.set_num_threads(os.cpu_count())
    model, val = create_model(options.num_classes), read_pairs(folder, "val")

    def score(model):
        return validate(model, *val, num_classes=options.num_classes, **ignored)

    figures = train(
        model, *read_pairs(folder, "train"), score=score, deadline=options.deadline, **ignored
    )
    torch.save(model.state_dict(), folder / "best.pt")
    figures = {**figures, "finished": time.time(), **describe_weights(model, folder / "best.pt")}
    for name, flip in (("straight", False), ("flipped", True)):
        probabilities, milliseconds = predict(model, val[0], flip=flip, **ignored)
        np.save(folder / f"{name}.npy", probabilities)
        np.save(folder / f"{name}_ms.npy", milliseconds)
    (folder / "figures.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
