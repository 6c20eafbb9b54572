"""Labels that are handed on: masks of whole folders, run lengths, the CSV files of contests."""

import glob
import itertools
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from PIL import Image
from skimage import measure

from seglib.annotations import decode_rle
from seglib.classes import ClassTable
from seglib.images import SUFFIXES, fit_classes, read_image
from seglib.masks import label_colors, resize_labels
from seglib.predicting import (
    fit_scorer,
    get_scorer,
    predict,
    predict_probabilities,
    read_as_learned,
)
from seglib.system import replacing, show_progress

COLUMNS = {  # what a column holds whose name has one of these words, looked for in this order
    "height": "height",
    "width": "width",
    "rle": "rle|pixels|predict|mask|segment|annotation",
    "image": "image|img|file|picture|^(id|f?name|key)",
    "class": "class|label|categor",
}
BACKGROUND = re.compile("_*(back|background|bg|none|nothing|class_0|0)_*", re.IGNORECASE)


def predict_folder(
    model, pictures, out_dir, *, masks="colors", flip=False, tile=None, thresholds=None
) -> list[pathlib.Path]:
    """Label the pictures of a folder or split, and write a mask for each as a PNG file.

    Args:
        model, flip, tile, thresholds: as in `predict`.
        pictures: path of a folder, whose subfolders are kept: `sub/a.jpg` becomes `sub/a.png`; or
            Split, with masks or without, of whose names the files get theirs.
        out_dir: path of the folder of the masks, which is made. Masks in it are replaced.
        masks: "colors" of the class table, or "ids".

    Returns:
        list of the masks' paths, in the order of the pictures.

    Raises:
        ValueError: a mask would lie among the pictures or be that of two, or the model knows other
            classes than the split, or none.
        FileNotFoundError: there is no such folder, or no picture in it.
    """
    scorer, out_dir = get_scorer(model, flip=flip), pathlib.Path(out_dir)
    if isinstance(pictures, str | os.PathLike):
        classes, sources = scorer.classes, _list_pictures(pathlib.Path(pictures), out_dir)
        names = [path.relative_to(pictures).with_suffix("") for path in sources]
        images = (read_image(path, scorer.pixels) for path in sources)
    else:
        classes, names = pictures.classes, pictures.names
        scorer = fit_scorer(scorer, classes)
        halves = itertools.chain(*pictures.pairs)
        sources = [half for half in halves if isinstance(half, os.PathLike)]
        split = read_as_learned(pictures, scorer)
        images = (split[i][0] for i in range(len(split)))
    if masks not in ("colors", "ids") or (masks == "colors" and classes is None):
        wanted = 'masks="ids", or "colors" of a model that knows its classes'
        raise ValueError(f"expected {wanted}, received {masks!r}")
    targets = [out_dir / f"{name}.png" for name in names]
    if {path.parent.resolve() for path in sources} & {path.parent.resolve() for path in targets}:
        raise ValueError(f"masks in {out_dir} would lie among the pictures: choose another out_dir")
    twice = [path for path, count in Counter(targets).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} would be the mask of two pictures: rename one of them")
    every = show_progress(images, total=len(targets), desc="predicting", unit="image")
    for target, image in zip(targets, every, strict=True):
        labels = predict(scorer, image, tile=tile, thresholds=thresholds)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            pixels = labels if masks == "ids" else label_colors(labels, classes)
            Image.fromarray(pixels).save(partial)
    return targets


def _list_pictures(folder, out_dir):
    """The pictures in a folder and its subfolders, without the masks of an earlier call."""
    names = sorted(glob.glob("**", root_dir=folder, recursive=True))
    paths = [folder / name for name in names if pathlib.Path(name).suffix.lower() in SUFFIXES]
    if not paths:
        raise FileNotFoundError(f"no picture in {folder}: expected {', '.join(sorted(SUFFIXES))}")
    return [path for path in paths if out_dir.resolve() not in path.resolve().parents] or paths


def predict_out_of_fold(models: Sequence, folds: Sequence, *, flip=False, tile=None) -> tuple:
    """Predict each picture with the model that was not trained on it.

    Args:
        models: a model for each fold, trained on its `train`.
        folds: Datasets as of `Dataset.folds`; the pairs of each one's `val` are predicted.
        flip, tile: as in `predict`.

    Returns:
        `(names, probabilities, labels)`, lists with an entry for each picture: its name, float16
        `(height, width, num_classes)` and the true labels, for `fit_thresholds`. All are kept in
        memory.
    """
    if len(models) != len(folds):
        raise ValueError(f"expected a model for each of {len(folds)} folds, received {len(models)}")
    found = []
    for model, fold in zip(models, folds, strict=True):
        scorer = fit_scorer(get_scorer(model, flip=flip), fold.classes)
        for i in show_progress(range(len(fold.val)), desc="predicting", unit="image"):
            image, labels = fold.val[i]
            planes = predict_probabilities(scorer, image, tile=tile)
            found.append((fold.val.names[i], planes.astype(np.float16), labels))
    return tuple(map(list, zip(*found, strict=True)))


def encode_rle(mask: ArrayLike) -> str:
    """Encode a mask as `start length start length ...`, as Kaggle's segmentation contests do.

    Pixels are counted from 1, down the first column, then down the second.

    Args:
        mask: bool or 0/1 array `(height, width)`. An empty one gives an empty str.

    Example:
        >>> encode_rle([[0, 1], [1, 1], [0, 0]])
        '2 1 4 2'
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.isin(mask, (0, 1)).all():
        raise ValueError("a mask is 2D and of 0 and 1: encode labels as labels == class_id, each")
    flat = np.pad(mask.T.ravel().astype(np.int8), 1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts, ends = edges[::2], edges[1::2]
    return " ".join(map(str, np.column_stack([starts, ends - starts]).ravel().tolist()))


def write_submission(
    path, predictions: Iterable, classes: ClassTable, *, empty_mask="", like=None, objects=None
) -> None:
    """Write a CSV file with a run-length encoded mask for each image and each scored class.

    Args:
        path: str or path of the CSV file, columns `image_id, class, rle` unless `like` is given.
        predictions: iterable of (image id, labels), labels int `(height, width)`; consumed one
            at a time. Pixels of the ignored class, or 255 where there is none, get no row.
        empty_mask: str, what a contest wants for a class that has no pixel, such as "-1".
        like: path of a contest's sample_submission.csv, or None. The file takes its columns, its
            order, the form of its keys (with or without extension, or `id_class`) and its classes;
            where it names fewer than two, these are all but the background. Labels are resized to
            its columns of height and width, where it has such.
        objects: bool, a row for each region of a class in place of one for all of them. None does
            as `like`, where rows that repeat an image and a class are regions.

    Raises:
        ValueError: an image id occurs twice, an id in labels is no class, or `like` has an image
            without prediction, a class that is not known, or no class where there are several.
    """
    rows, names, tokens = _read_sample(like, classes)
    objects = rows.duplicated(["image", "class"]).any() if objects is None else objects
    rows = rows.drop_duplicates(["image", "class"])
    keys = {_bare(key): key for key in rows["image"]} | {key: key for key in rows["image"]}
    ending = pathlib.PurePath(next(iter(rows["image"]), "")).suffix
    known, answers, sizes = [*classes.scored_ids, _no_class_id(classes)], {}, {}
    if {"height", "width"} <= set(rows):
        sides = rows[["height", "width"]].astype(int).itertuples(index=False)
        sizes = dict(zip(rows["image"], sides, strict=True))
    for image_id, labels in predictions:
        new = _bare(image_id) + ending if keys else image_id
        key = keys.get(image_id) or keys.get(_bare(image_id), new)
        strange = np.setdiff1d(labels, known)[:5].tolist()
        if strange or key in answers:
            problem = f"ids {strange} are no class of {known}" if strange else "it occurs twice"
            raise ValueError(f"image {image_id!r}: {problem}")
        labels = resize_labels(labels, sizes[key]) if key in sizes else np.asarray(labels)
        answers[key] = {}
        for i, token in tokens.items():
            regions = measure.label(labels == i, connectivity=2) if objects else labels == i
            found = [encode_rle(regions == n) for n in range(1, regions.max() + 1)]
            answers[key][token] = found or [empty_mask]
    missing = sorted(set(rows["image"]).difference(answers))
    if missing:
        raise ValueError(f"{like}: images {missing[:5]} have no prediction: predict them too")
    # Images that the sample does not list come last.
    more = itertools.product([key for key in answers if key not in keys], tokens.values())
    rows = pd.concat([rows, pd.DataFrame(more, columns=["image", "class"])], ignore_index=True)
    pairs = zip(rows["image"], rows["class"], strict=True)
    rows = rows.assign(rle=[answers[key][token] for key, token in pairs]).explode("rle")
    rows["key"] = rows["image"].astype(str) + "_" + rows["class"]
    with replacing(path) as partial:
        table = rows[list(names.values())].set_axis(list(names), axis=1)
        table.to_csv(partial, index=False, lineterminator="\n")


def read_submission(path, classes: ClassTable, shapes: dict | tuple, *, empty_mask="") -> dict:
    """Read run lengths from a CSV file, such as one of `write_submission`, into label maps.

    The columns are told by their names. The class, by name or id, is in one of them or at the end
    of the image's key (`id_class`); else it is the only one beside the background.

    Args:
        shapes: dict `{image id: (height, width)}`, or one `(height, width)` for all images.

    Returns:
        dict `{image id: labels (height, width)}`; pixels of no class are background where the
        file has no row of it, else they have the table's ignore label, 255 where it has none.

    Raises:
        ValueError: a row names an unknown class or image, a run is wrong, or two classes hold the
            same pixel; the image and the class are named.
    """
    rows, ids, images = _read_rows(path, classes)[0], _list_tokens(classes), {}
    covered = {*_find_foreground(classes), *rows["class"].map(ids)}
    nothing = min(set(classes.scored_ids) - covered, default=_no_class_id(classes))
    dtype = np.min_scalar_type(max(nothing, classes.num_classes - 1))
    for image_id, name, text in rows[["image", "class", "rle"]].itertuples(index=False):
        try:
            shape = shapes[image_id] if isinstance(shapes, dict) else shapes
            labels = images.setdefault(image_id, np.full(shape, nothing, dtype))
            mask = decode_rle("" if text == empty_mask else text, shape)
            if (labels[mask] != nothing).any():
                raise ValueError("some of its pixels are already of another class")
            labels[mask] = ids[name]
        except (KeyError, ValueError) as error:
            problem = f"{error} is not known" if isinstance(error, KeyError) else error
            raise ValueError(f"{path}: image {image_id!r}, class {name!r}: {problem}") from None
    return images


def _read_sample(path, classes):
    """`(rows, names, {id: the class as the file writes it})` of a sample, or of none."""
    if path is None:
        names = {"image_id": "image", "class": "class", "rle": "rle"}
        tokens = {i: classes.names[i] for i in classes.scored_ids}
        return pd.DataFrame(columns=["image", "class"], dtype=str), names, tokens
    rows, names = _read_rows(path, classes)
    ids, listed = _list_tokens(classes), rows["class"].unique().tolist()
    strange = [token for token in listed if token not in ids]
    if strange:
        raise ValueError(f"{path}: class {strange[0]!r} is none of {', '.join(classes.names)}")
    tokens = {ids[token]: token for token in listed}
    if len(listed) < 2:  # one class is an example, or there is no other
        by_id = len(listed) and listed[0] not in classes.names
        tokens = {i: str(i) if by_id else classes.names[i] for i in _find_foreground(classes)}
    if list(tokens.values()) != listed:
        images = rows.drop_duplicates("image").drop(columns="class")
        rows = images.merge(pd.DataFrame({"class": tokens.values()}), "cross")
    return rows, names, tokens


def _read_rows(path, classes):
    """`(rows, names)` of a CSV file: its columns as named in `COLUMNS`, and `{old name: new}`.

    Where no column holds the class, it is the end of the image's key, or the only class.
    """
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    names = {name: name for name in rows}
    for what, words in COLUMNS.items():
        found = [n for n in rows if n == names[n] and re.search(words, n, re.IGNORECASE)]
        names |= dict.fromkeys(found[:1], what)
    rows = rows.rename(columns=names)
    if not {"image", "rle"} <= set(rows):
        wanted = "columns of images and of run lengths, named like image_id and rle"
        raise ValueError(f"{path}: expected {wanted}, found {', '.join(names)}")
    if "class" in rows:
        return rows, names
    only = [classes.names[i] for i in _find_foreground(classes)]
    key = next(name for name in names if names[name] == "image")
    said = re.search(COLUMNS["class"], key, re.IGNORECASE)
    ends = sorted(map(re.escape, _list_tokens(classes)), key=len, reverse=True)
    ends += ["[^_]*"] if said else []
    parts = rows["image"].str.extract(f"^(.+?)_({'|'.join(ends)})$")
    if said or (parts.notna().all(axis=None) and parts[0].duplicated().any()):
        return rows.assign(image=parts[0], **{"class": parts[1]}), names | {key: "key"}
    if len(only) != 1:
        known = f"classes where one of {', '.join(classes.names)} alone is not named background"
        raise ValueError(f"{path} has no column that names the class: pass {known}")
    return rows.assign(**{"class": only[0]}), names


def _list_tokens(classes):
    """`{name: id}` of the scored classes; an id's digits stand for it too."""
    by_id = {str(i): i for i in classes.scored_ids}
    return by_id | {classes.names[i]: i for i in classes.scored_ids}


def _find_foreground(classes):
    """The ids of the scored classes that are not named background."""
    return [i for i in classes.scored_ids if not BACKGROUND.fullmatch(classes.names[i])]


def _no_class_id(classes):
    """The id of pixels without a class, as letterboxing chooses it."""
    return fit_classes(classes, fit="letterbox").ignore_label


def _bare(key):
    """An image's key without folders and extension."""
    path = pathlib.PurePosixPath(str(key))
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
