"""Tiny data sets on disk, and CamVid where it is at hand."""

import gc
import os
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from seglib.classes import ClassTable, write_class_table


@pytest.fixture(scope="module", autouse=True)
def forget_models():
    """Let go of a module's models: with hundreds alive, later ones take several times as long."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()
    gc.collect()


@pytest.fixture
def camvid():
    """Path of CamVid's folder."""
    path = pathlib.Path(os.environ.get("CAMVID_DIR", "data/camvid"))
    if not path.is_dir():
        pytest.skip(f"no CamVid in {path}; CAMVID_DIR names another folder")
    return path


@pytest.fixture
def classes():
    """Four classes of CamVid; the last, Void, is ignored."""
    return ClassTable(
        ["Sky", "Building", "Road", "Void"],
        [(128, 128, 128), (128, 0, 0), (128, 64, 128), (0, 0, 0)],
        ignore_label=3,
    )


@pytest.fixture
def write_pair(classes):
    """Function that writes one image and one colour mask of random blocks, both lossless."""

    def write(image_path, mask_path, *, seed=0, size=(40, 48)):
        random = np.random.default_rng(seed)
        blocks = random.integers(0, classes.num_classes, (size[0] // 8, size[1] // 8), np.uint8)
        labels = np.kron(blocks, np.ones((8, 8), np.uint8))
        image = random.integers(0, 256, (*labels.shape, 3), np.uint8)
        for path, pixels in ((image_path, image), (mask_path, classes.colors[labels])):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        return image, labels

    return write


@pytest.fixture
def city(tmp_path, classes, write_pair):
    """Folder with 4 train, 2 val and 2 test pairs in CamVid's layout, and its class table."""
    folder = tmp_path / "city"
    for i, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2):
        image, mask = folder / split / f"scene_{i}.png", folder / f"{split}_labels/scene_{i}_L.png"
        write_pair(image, mask, seed=i)
    write_class_table(folder / "class_dict.csv", classes)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A small run of three epochs that nobody disturbed."""
    from small_runs import make_dataset, make_model

    import seglib

    options = {"run_dir": tmp_path_factory.mktemp("run"), "epochs": 3, "precision": "float32"}
    return seglib.train(make_model(), make_dataset(), **options)
