"""Data sets as people have them: the same photographs and labels in every layout and encoding."""

import numpy as np
import tifffile
from PIL import Image

from seglib.classes import ClassTable, voc_colors, write_class_table

CLASSES = ClassTable(["back", "road", "car", "tree"], voc_colors(4))
BINARY = ClassTable(["background", "foreground"], [(0, 0, 0), (255, 255, 255)])
SPLIT_OF = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
BLANK = np.zeros((8, 8), np.uint8)


def save(path, values=BLANK, dtype=np.uint8, **options):
    """Write a picture, or an array as one, and the folders that it lies in."""
    is_picture = isinstance(values, Image.Image)
    drawn = values if is_picture else Image.fromarray(np.asarray(values, dtype))
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(path, **options)
    return path


def draw_palette(values, colors):
    """A picture of numbers, and of their colours."""
    picture = Image.fromarray(np.asarray(values, np.uint8))
    picture.putpalette(np.asarray(colors, np.uint8).ravel().tolist())
    return picture


def write_texts(folder, texts):
    """Write `{name: text}` below a folder."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


# Where photographs and masks lie: templates of {name}, {split} and the extensions.
LAYOUTS = {
    "camvid": ("{split}/{name}.png", "{split}_labels/{name}_L"),
    "brackets": ("{split}/images [v1]/{name}.png", "{split}/masks [v1]/{name}"),
    "split at the end": ("images_{split}/{name}.png", "masks_{split}/{name}"),
    "split in the names of folders": ("{split}_images/{name}.png", "{split}_masks/{name}_mask"),
    "no splits": ("images/{name}.png", "annotations/{name}"),
    "capitals, photographs in the root": ("{name}.JPG", "LABELS/{name}"),
    "suffix in one folder": ("{name}.png", "{name}_mask"),
    "prefix in one folder": ("{name}.jpg", "mask_{name}"),
    "another extension in one folder": ("data/{name}.jpg", "data/{name}"),
    "voc": ("JPEGImages/{name}.jpg", "SegmentationClass/{name}"),
    "nested": ("photos/north/{name}.png", "masks/north/{name}_seg"),
    "spaces and accents": ("my images/été {name}.png", "my masks/été {name} label"),
    "wrapped": ("in/mask set/{split}/{name}.png", "in/mask set/{split}_labels/{name}"),
    "an ending that nobody knows": ("images/{name}.png", "masks/{name}_fine-v2"),
    "masks without splits": ("images/{split}/{name}.png", "masks/{name}"),
}


def paint(labels, classes):
    return Image.fromarray(classes.colors[labels])


def paint_by_palette(labels, classes):
    return draw_palette(labels, [*classes.colors, *voc_colors(256)[classes.num_classes :]])


def paint_by_own_palette(labels, classes):
    """Colours in the order that an image editor gives them, another one in each file."""
    order = np.random.default_rng(labels.sum()).permutation(classes.num_classes)
    return draw_palette(np.argsort(order)[labels], classes.colors[order])


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
    "arrays": lambda path, labels, _: np.save(path.with_suffix(".npy"), labels),
}
BINARY_ENCODINGS = {
    "0 and 255": writer(as_ids(np.uint8, 255)),
    "bits": writer(as_ids(bool)),
    "grey jpeg": writer(as_ids(np.uint8, 255), ".jpg"),
    "0 and 1 in some": writer(lambda x, _: Image.fromarray(x * np.uint8(255 if x[0, -1] else 1))),
    "bits by tifffile": lambda path, x, _: tifffile.imwrite(path.with_suffix(".tif"), x > 0),
}


def write_folder(
    folder, layout="no splits", encoding="rgb", *, classes=CLASSES, table=True, change=None
):
    """Write eight pairs, with labels that `change` may change; returns {name: (split, labels)}."""
    image_path, mask_path = LAYOUTS[layout]
    write_mask = {**ENCODINGS, **BINARY_ENCODINGS}[encoding]
    expected = {}
    for i, split in enumerate(SPLIT_OF):
        random = np.random.default_rng(i)
        blocks = random.integers(0, classes.num_classes, (3, 4), np.uint8)
        blocks.flat[: classes.num_classes] = range(classes.num_classes)
        labels = np.kron(blocks, np.ones((16, 16), np.uint8))
        labels = change(labels) if change else labels
        words = {"name": "abcdefgh"[i] * 2 + str(i), "split": split}
        photograph, mask = (folder / path.format(**words) for path in (image_path, mask_path))
        save(photograph, 50 * labels[..., None] + random.integers(0, 50, (48, 64, 3)))
        mask.parent.mkdir(parents=True, exist_ok=True)
        write_mask(mask, labels, classes)
        expected[photograph.stem] = (split if "{split}" in image_path else None, labels)
    if table:
        write_class_table(folder / "class_dict.csv", classes)
    return expected
