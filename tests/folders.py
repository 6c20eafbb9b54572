"""Data sets as people have them: the same photographs and labels in every layout and encoding."""

import numpy as np
import tifffile
from PIL import Image

from seglib.classes import ClassTable, voc_colors, write_class_table

CLASSES = ClassTable(["back", "road", "car", "tree"], voc_colors(4))
BINARY = ClassTable(["background", "foreground"], [(0, 0, 0), (255, 255, 255)])
SPLITS = {"train": range(4), "val": range(4, 6), "test": range(6, 8)}
SPLIT_OF = {i: split for split, indices in SPLITS.items() for i in indices}


def create_pair(index, *, num_classes=4, size=(48, 64)):
    """A photograph and its labels, a pattern of blocks."""
    random = np.random.default_rng(index)
    blocks = random.integers(0, num_classes, (size[0] // 16, size[1] // 16), np.uint8)
    blocks.flat[:num_classes] = range(num_classes)
    labels = np.kron(blocks, np.ones((16, 16), np.uint8))
    image = (50 * labels[..., None] + random.integers(0, 50, (*labels.shape, 3))).astype(np.uint8)
    return image, labels


# Where photographs and masks lie: templates of {name}, {split} and the extensions.

LAYOUTS = {
    "camvid": ("{split}/{name}.png", "{split}_labels/{name}_L"),
    "split inside": ("images/{split}/{name}.png", "masks/{split}/{name}"),
    "split outside": ("{split}/images/{name}.jpg", "{split}/masks/{name}"),
    "split outside, in a folder of its own": ("town/{split}/images/{name}.jpg",
                                              "town/{split}/masks/{name}"),
    "brackets": ("{split}/images [v1]/{name}.png", "{split}/masks [v1]/{name}"),
    "split at the end": ("images_{split}/{name}.png", "masks_{split}/{name}"),
    "split in the names of folders": ("{split}_images/{name}.png", "{split}_masks/{name}_mask"),
    "annot": ("{split}/{name}.png", "{split}annot/{name}"),
    "no splits": ("images/{name}.png", "annotations/{name}"),
    "capitals": ("Images/{name}.JPG", "LABELS/{name}"),
    "photographs in the root": ("{name}.jpg", "labels/{name}"),
    "suffix in one folder": ("{name}.png", "{name}_mask"),
    "ends in one folder": ("{name}_sat.jpg", "{name}_mask"),
    "prefix in one folder": ("{name}.jpg", "mask_{name}"),
    "a prefix on each side": ("images/img_{name}.jpg", "masks/mask_{name}"),
    "another extension in one folder": ("data/{name}.jpg", "data/{name}"),
    "cityscapes": (
        "leftImg8bit/{split}/bonn/bonn_{name}_leftImg8bit.png",
        "gtFine/{split}/bonn/bonn_{name}_gtFine_labelIds",
    ),
    "voc": ("JPEGImages/{name}.jpg", "SegmentationClass/{name}"),
    "nested": ("photos/north/{name}.png", "masks/north/{name}_seg"),
    "spaces and accents": ("my images/été {name}.png", "my masks/été {name} label"),
    "in a folder of its own": ("wrapped/segmentation set/{split}/{name}.png",
                               "wrapped/segmentation set/{split}_labels/{name}"),
    "an ending that nobody knows": ("images/{name}.png", "masks/{name}_fine-v2"),
    "masks without splits": ("images/{split}/{name}.png", "masks/{name}"),
}  # fmt: skip


def paint(labels, classes):
    return Image.fromarray(classes.colors[labels])


def paint_by_palette(labels, classes):
    picture = Image.fromarray(labels.astype(np.uint8))
    palette = np.concatenate([classes.colors, voc_colors(256)[classes.num_classes :]])
    picture.putpalette(palette.ravel().tolist())
    return picture


def paint_by_own_palette(labels, classes):
    """Colours in the order that an image editor gives them, another one in each file."""
    order = np.random.default_rng(labels.sum()).permutation(classes.num_classes)
    picture = Image.fromarray(np.argsort(order).astype(np.uint8)[labels])
    picture.putpalette(classes.colors[order].ravel().tolist())
    return picture


def as_ids(dtype, scale=1):
    return lambda labels, classes: Image.fromarray((scale * labels).astype(dtype))


def writer(draw, suffix=".png", **options):
    """Function that writes a mask."""
    return lambda path, *mask: draw(*mask).save(path.with_suffix(suffix), **options)


ENCODINGS = {
    "rgb": writer(paint),
    "rgba": writer(lambda *mask: paint(*mask).convert("RGBA")),
    "palette": writer(paint_by_palette),
    "a palette of its own for each": writer(paint_by_own_palette),
    "grey": writer(as_ids(np.uint8)),
    "16 bits": writer(as_ids(np.uint16), ".PNG"),
    "tiff": writer(as_ids(np.uint8), ".tif", compression="tiff_lzw"),
    "tiff of 32 bits": writer(as_ids(np.int32), ".tiff"),
    "jpeg": writer(paint, ".jpeg", quality=90),
    "bmp": writer(paint, ".bmp"),
}
BINARY_ENCODINGS = {
    "0 and 255": writer(as_ids(np.uint8, 255)),
    "bits": writer(as_ids(bool)),
    "grey jpeg": writer(as_ids(np.uint8, 255), ".jpg"),
    "0 and 1 in some": writer(lambda x, _: Image.fromarray(x * np.uint8(255 if x[0, -1] else 1))),
    "bits by tifffile": lambda path, x, _: tifffile.imwrite(path.with_suffix(".tif"), x > 0),
}


def write_folder(folder, layout="no splits", encoding="rgb", *, classes=CLASSES, table=True):
    """Write eight pairs; returns {name: (split, labels)}."""
    image_path, mask_path = LAYOUTS[layout]
    write_mask = {**ENCODINGS, **BINARY_ENCODINGS}[encoding]
    expected = {}
    for i, split in SPLIT_OF.items():
        image, labels = create_pair(i, num_classes=classes.num_classes)
        words = {"name": "abcdefgh"[i] * 2 + str(i), "split": split}
        photograph, mask = (folder / path.format(**words) for path in (image_path, mask_path))
        for path in (photograph, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(photograph)
        write_mask(mask, labels, classes)
        expected[photograph.stem] = (split, labels)
    if table:
        write_class_table(folder / "class_dict.csv", classes)
    return expected
