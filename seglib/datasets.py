"""Finding pairs of image and mask in a folder, and splitting them."""

import collections
import dataclasses
import pathlib

import numpy as np

from seglib import scenes
from seglib.classes import ClassTable, read_class_table
from seglib.images import DatasetError, count_colors, read_pair

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
IMAGE_FOLDERS = ("images", "image", "imgs", "photos")
MASK_FOLDERS = ("labels", "masks", "annotations", "label", "mask", "labelled", "segmentation")
MASK_ENDINGS = ("", "_L", "_mask", "_masks", "_label", "_labels", "_gt", "_labelIds", "_seg")
EMBEDDED = "streets"


class Split:
    """Pairs of image and mask that are read when they are asked for.

    `split[i]` is `(image, labels)`: uint8 `(height, width, 3)` and uint8
    `(height, width)`. `split[2:5]` is a split again.

    Args:
        pairs: sequence of `(image path, mask path)`.
        classes: ClassTable.
    """

    def __init__(self, pairs, classes):
        self.pairs = [(pathlib.Path(image), pathlib.Path(mask)) for image, mask in pairs]
        self.classes = classes

    @property
    def names(self):
        """list of str, the images' file names without extension."""
        return [image.stem for image, _ in self.pairs]

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Split(self.pairs[index], self.classes)
        return read_pair(*self.pairs[index], self.classes)

    def __repr__(self):
        return f"Split({len(self)} pairs)"


@dataclasses.dataclass(frozen=True, repr=False)
class Dataset:
    """Three splits that share a class table. An absent split has length 0.

    Args:
        path: path of the folder.
        classes: ClassTable.
        train, val, test: Split.
    """

    path: pathlib.Path
    classes: ClassTable
    train: Split
    val: Split
    test: Split

    @property
    def splits(self):
        """dict of the three splits by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def __len__(self):
        return sum(len(split) for split in self.splits.values())

    def prepare(self, *, image_size=(128, 128), cache_dir="outputs/cache", workers=None):
        """Decode and resize all pairs once; see `seglib.prepare_dataset`."""
        from seglib.caching import prepare_dataset

        return prepare_dataset(self, image_size=image_size, cache_dir=cache_dir, workers=workers)

    def __repr__(self):
        counts = ", ".join(f"{name} {len(split)}" for name, split in self.splits.items())
        return f"Dataset({self.path.name}: {self.classes.num_classes} classes, {counts})"


def open_dataset(path, *, classes=None, fractions=(0.7, 0.15, 0.15), seed=0):
    """Find the pairs of image and mask in a folder.

    Understood are `train/` + `train_labels/` (and val, test), `images/` + `masks/`
    (or labels, annotations), and both with a folder a split inside or outside. A
    mask is named like its image, with an ending such as `_L` or `_mask` if any.

    Args:
        path: str or path of the folder. `data/streets`, the embedded data set, is
            drawn if it is missing.
        classes: ClassTable, path of a CSV file, or None for `class_dict.csv` in `path`.
        fractions: shares of train, val and test where the folder has no splits.
        seed: int, which pairs go where then; the same on every machine.

    Returns:
        Dataset.

    Raises:
        FileNotFoundError: there is no such folder.
        DatasetError: nothing to pair, an image without mask or a mask without image,
            or no class table; then the colours found are offered.
    """
    path = pathlib.Path(path)
    if path.name == EMBEDDED and not path.exists():
        scenes.write_scenes(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder at {path}: expected images and masks in it")
    pairs = _find_splits(path) or _split_pairs(_find_unsplit(path), fractions, seed)
    classes = _find_classes(path, classes, [pair for split in pairs.values() for pair in split])
    splits = {name: Split(pairs.get(name, []), classes) for name in SPLIT_NAMES}
    return Dataset(path=path, classes=classes, **splits)


def _find_splits(path):
    """Pairs by split name, for folders that have splits; else an empty dict."""
    found = {}
    for split, names in SPLIT_NAMES.items():
        for name in names:
            folders = _find_folders(path, _split_layouts(name))
            if folders:
                found[split] = _pair_files(*folders)
                break
    return {split: pairs for split, pairs in found.items() if pairs}


def _split_layouts(name):
    for masks in MASK_FOLDERS:
        yield name, f"{name}_{masks}"
        for images in IMAGE_FOLDERS:
            yield f"{name}/{images}", f"{name}/{masks}"
            yield f"{images}/{name}", f"{masks}/{name}"
            yield f"{name}_{images}", f"{name}_{masks}"


def _find_unsplit(path):
    layouts = [(images, masks) for images in IMAGE_FOLDERS for masks in MASK_FOLDERS]
    folders = _find_folders(path, layouts)
    pairs = _pair_files(*folders) if folders else []
    if not pairs:
        raise DatasetError(
            f"no pairs of image and mask in {path}: expected train/ and train_labels/, or "
            f"images/ and masks/, with {', '.join(sorted(SUFFIXES))} files; "
            f"found {_list_folder(path)}"
        )
    return pairs


def _find_folders(path, layouts):
    for images, masks in layouts:
        if (path / images).is_dir() and (path / masks).is_dir():
            return path / images, path / masks
    return None


def _list_folder(path):
    names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "") if names else "nothing"


def _pair_files(image_folder, mask_folder):
    """Pair files by stem; the ending of masks is the one that pairs most of them."""
    images, masks = _pictures_by_stem(image_folder), _pictures_by_stem(mask_folder)
    ending = max(MASK_ENDINGS, key=lambda ending: sum(stem + ending in masks for stem in images))
    without_mask = [images[stem] for stem in images if stem + ending not in masks]
    if without_mask:
        raise DatasetError(
            f"{len(without_mask)} images have no mask, first {without_mask[0].name}: expected "
            f"{without_mask[0].stem}{ending}.png in {mask_folder}; add the mask or remove the image"
        )
    without_image = [masks[stem] for stem in masks if stem.removesuffix(ending) not in images]
    if without_image:
        raise DatasetError(
            f"{len(without_image)} masks have no image, first {without_image[0].name}: expected "
            f"{without_image[0].stem.removesuffix(ending)} with a picture's extension in "
            f"{image_folder}; add the image or remove the mask"
        )
    return [(images[stem], masks[stem + ending]) for stem in sorted(images)]


def _pictures_by_stem(folder):
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )
    by_stem = {}
    for file in files:
        first = by_stem.setdefault(file.stem, file)
        if first is not file:
            raise DatasetError(
                f"{first.name} and {file.name} in {folder} differ in their extension only: "
                "expected one picture of each name; remove or rename one"
            )
    return by_stem


def _split_pairs(pairs, fractions, seed):
    """Deal pairs out at random; rounding favours train, and no pair is dropped."""
    fractions = np.asarray(fractions, float)
    if fractions.shape != (3,) or (fractions < 0).any() or not np.isclose(fractions.sum(), 1):
        raise ValueError(f"expected three fractions that add up to 1, received {fractions}")
    order = np.random.default_rng(seed).permutation(len(pairs))
    held_out = [
        max(round(fraction * len(pairs)), int(fraction > 0 and len(pairs) >= 3))
        for fraction in fractions[1:]
    ]
    test, val, train = np.split(order, np.cumsum(held_out[::-1]))
    return {
        name: [pairs[i] for i in sorted(chosen)]
        for name, chosen in (("train", train), ("val", val), ("test", test))
    }


def _find_classes(path, classes, pairs):
    if isinstance(classes, ClassTable):
        return classes
    table = pathlib.Path(classes) if classes is not None else path / "class_dict.csv"
    if classes is not None or table.exists():
        return read_class_table(table)
    lines = _propose_class_lines([mask for _, mask in pairs])
    raise DatasetError(
        f"no class table for {path}: write {table} with the lines below (or another file, and "
        f"pass its path as classes), and give each class its name\n{lines}"
    )


def _propose_class_lines(mask_paths, *, max_masks=50, max_classes=64):
    """Lines of a class table, from the values that a sample of the masks holds.

    Colours come by their share of the pixels; ids keep their order, as rows are ids.
    """
    totals = collections.Counter()
    for mask in mask_paths[:: -(-len(mask_paths) // max_masks)]:
        values, counts = count_colors(mask)
        keys = values.tolist() if values.ndim == 1 else map(tuple, values.tolist())
        totals.update(dict(zip(keys, counts.tolist(), strict=True)))
    colors = [value for value, _ in totals.most_common() if isinstance(value, tuple)]
    rows = [(color, color) for color in colors[:max_classes]]
    if not colors:
        ids = sorted(value for value in totals if value != 255)
        if len(ids) < 2 or ids[-1] >= max_classes:  # such as 0 and 255: grey values, not ids
            rows = [(value, (value,) * 3) for value in sorted(totals)[:max_classes]]
        else:
            rows = [(i, (255 * i // ids[-1],) * 3) for i in range(ids[-1] + 1)]
    share = 100 / totals.total()
    lines = [
        f"class_{i},{r},{g},{b},{share * totals[value]:.2f} %"
        for i, (value, (r, g, b)) in enumerate(rows)
    ]
    return "\n".join(["name,r,g,b,share", *lines])
