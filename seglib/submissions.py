"""Labels that are handed on: masks of whole folders, run lengths, the CSV files of contests."""

import glob
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from PIL import Image
from skimage import measure

from seglib.annotations import decode_rle
from seglib.classes import ClassTable
from seglib.images import SUFFIXES, fit_classes
from seglib.masks import label_colors, resize_labels
from seglib.predicting import get_scorer, predict, predict_probabilities, read_as_learned
from seglib.system import replacing, show_progress

COLUMNS = {  # what a column of a sample holds, after that of the images, by words in its name
    "height": "height",
    "width": "width",
    "rle": "rle|pixels|predict|mask|segment|annotation",
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
    out_dir, known = pathlib.Path(out_dir), getattr(pictures, "classes", None)
    scorer = get_scorer(model, classes=known, flip=flip, tile=tile)
    if isinstance(pictures, str | os.PathLike):
        images = sources = _list_pictures(pathlib.Path(pictures), out_dir)
        names = [path.relative_to(pictures).with_suffix("") for path in sources]
    else:
        halves = itertools.chain(*pictures.pairs)
        sources = [half for half in halves if isinstance(half, os.PathLike)]
        split, names = read_as_learned(pictures, scorer), pictures.names
        images = (split[i][0] for i in range(len(split)))
    if masks not in ("colors", "ids") or (masks == "colors" and scorer.classes is None):
        wanted = 'masks="ids", or "colors" of a model that knows its classes'
        raise ValueError(f"expected {wanted}, received {masks!r}")
    targets = [out_dir / f"{name}.png" for name in names]
    if {path.parent.resolve() for path in sources} & {path.parent.resolve() for path in targets}:
        raise ValueError(f"masks in {out_dir} would lie among the pictures: choose another out_dir")
    if len(set(targets)) < len(targets):
        raise ValueError("two pictures that differ in their ending alone have one mask: rename one")
    every = show_progress(images, total=len(targets), desc="predicting", unit="image")
    for target, image in zip(targets, every, strict=True):
        labels = predict(scorer, image, thresholds=thresholds)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            pixels = labels if masks == "ids" else label_colors(labels, scorer.classes)
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
        scorer = get_scorer(model, classes=fold.classes, flip=flip, tile=tile)
        split = read_as_learned(fold.val, scorer)
        for i in show_progress(range(len(split)), desc="predicting", unit="image"):
            image, labels = split[i]
            planes = predict_probabilities(scorer, image)
            found.append((split.names[i], planes.astype(np.float16), labels))
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
        predictions: iterable of (image id, labels), consumed one at a time, or dict; labels int
            `(height, width)`. Pixels of the ignored class, or 255 where there is none, get no row.
        empty_mask: str, what a contest wants for a class that has no pixel, such as "-1".
        like: path of a contest's sample_submission.csv, or None. The file takes its columns, its
            order, the form of its keys (with or without extension, or `id_class`) and its classes;
            where it names fewer than two, these are all but the background. Labels are resized to
            its columns of height and width, where it has such.
        objects: bool, a row for each region of a class in place of one for all of them. None does
            as `like`, where rows that repeat an image and a class are regions.

    Raises:
        ValueError: an image id occurs twice, an id in labels is no class, or `like` has other
            images than the predictions, a class that is not known, or none where there are several.
    """
    rows, columns, tokens = _read_sample(like, classes)
    objects = rows.duplicated(["image", "class"]).any() if objects is None else objects
    rows = rows.drop_duplicates(["image", "class"])
    keys = {_bare(key): key for key in rows["image"]} | {key: key for key in rows["image"]}
    known, answers, sizes = [*classes.scored_ids, _no_class_id(classes)], {}, {}
    if {"height", "width"} <= set(rows):
        sides = rows[["height", "width"]].astype(int).itertuples(index=False)
        sizes = dict(zip(rows["image"], sides, strict=True))
    is_dict = isinstance(predictions, dict)
    for image_id, labels in predictions.items() if is_dict else predictions:
        key = keys.get(image_id) or keys.get(_bare(image_id), image_id)
        strange = np.setdiff1d(labels, known)[:5].tolist()
        if strange or key in answers:
            problem = f"ids {strange} are no class of {known}" if strange else "it occurs twice"
            raise ValueError(f"image {image_id!r}: {problem}")
        labels = resize_labels(labels, sizes[key]) if key in sizes else np.asarray(labels)
        for i, token in tokens.items():
            regions = measure.label(labels == i, connectivity=2) if objects else labels == i
            found = [encode_rle(regions == n) for n in range(1, regions.max() + 1)]
            answers.setdefault(key, {})[token] = found or [empty_mask]
    if rows.empty:  # no sample, or its head alone
        pairs = itertools.product(answers, tokens.values())
        rows = pd.DataFrame(pairs, columns=["image", "class"])
    unlike = sorted(set(rows["image"]) ^ set(answers))
    if unlike:
        raise ValueError(f"images {unlike[:5]} are in {like} or in the predictions alone")
    pairs = zip(rows["image"], rows["class"], strict=True)
    rows = rows.assign(rle=[answers[key][token] for key, token in pairs]).explode("rle")
    rows["key"] = rows["image"].astype(str) + "_" + rows["class"]
    with replacing(path) as partial:
        table = rows[list(columns.values())].set_axis(list(columns), axis=1)
        table.to_csv(partial, index=False, lineterminator="\n", errors="surrogateescape")


def read_submission(path, classes: ClassTable, shapes: dict | tuple, *, empty_mask="") -> dict:
    """Read run lengths from a CSV file, such as one of `write_submission`, into label maps.

    The images are in the first column, the others are told by their names. The class, by name or
    id, is in one of them or at the end of the image's key (`id_class`); else it is the only one
    beside the background.

    Args:
        shapes: dict `{image id: (height, width)}`, or one `(height, width)` for all images.

    Returns:
        dict `{image id: labels (height, width)}`; pixels of no class are background where the
        file has no row of it, else they have the table's ignore label, 255 where it has none.

    Raises:
        ValueError: a row names an unknown class or image, a run is wrong, or two classes hold the
            same pixel; the image and the class are named.
    """
    rows, _, ids, front = _read_rows(path, classes)
    covered, images = {*front, *rows["class"].map(ids)}, {}
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
    """`(rows, {column: what it holds}, {id: the class as the file writes it})` of a sample."""
    if path is None:
        columns = {"image_id": "image", "class": "class", "rle": "rle"}
        names = {i: classes.names[i] for i in classes.scored_ids}
        return pd.DataFrame(columns=["image", "class"], dtype=str), columns, names
    rows, columns, ids, front = _read_rows(path, classes)
    listed = rows["class"].unique().tolist()
    strange = [token for token in listed if token not in ids]
    if strange:
        raise ValueError(f"{path}: class {strange[0]!r} is none of {', '.join(classes.names)}")
    tokens = {ids[token]: token for token in listed}
    left = [name for i, name in front.items() if i not in tokens]
    # Numbered from 0, without the background.
    if left and len(listed) > 1 and not tokens.keys() <= front.keys():
        raise ValueError(
            f"{path} has the classes {', '.join(listed)}, the background among them, but none for "
            f"{', '.join(left)}: write class names in its class column"
        )
    if len(listed) < 2:  # one class is an example, or there is no other
        by_id = bool(listed) and listed[0] not in classes.names
        tokens = {i: str(i) if by_id else name for i, name in front.items()}
    if list(tokens.values()) != listed:
        images = rows.drop_duplicates("image").drop(columns="class")
        rows = images.merge(pd.DataFrame({"class": tokens.values()}), "cross")
    return rows, columns, tokens


def _read_rows(path, classes):
    """`(rows, {column: what it holds}, {class as written: id}, {id: name of the foreground})`."""
    names = {i: classes.names[i] for i in classes.scored_ids}
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas' own kinds among them
        raise ValueError(f"{path} is no CSV file in UTF-8 with columns: {error}") from error
    first = rows.columns[0]
    columns = {name: name for name in rows} | {first: "image"}
    for what, words in COLUMNS.items():
        found = [n for n in rows if n == columns[n] and re.search(words, n, re.IGNORECASE)]
        columns |= dict.fromkeys(found[:1], what)
    if "rle" not in columns.values():
        raise ValueError(f"{path}: no column is named like rle, found {', '.join(columns)}")
    rows = rows.rename(columns=columns)
    ids = {str(i): i for i in names} | {name: i for i, name in names.items()}
    front = {i: name for i, name in names.items() if not BACKGROUND.fullmatch(name)}
    if "class" not in rows and re.search(COLUMNS["class"], first, re.IGNORECASE):
        columns[first] = "key"
        ends = "|".join(map(re.escape, ids))
        rows[["image", "class"]] = rows["image"].str.extract(f"^(.+?)_({ends}|[^_]*)$")
    elif "class" not in rows and len(front) == 1:
        rows["class"] = front[min(front)]
    elif "class" not in rows:
        known = f"classes where one of {', '.join(classes.names)} alone is not named background"
        raise ValueError(f"{path} has no column that names the class: pass {known}")
    return rows, columns, ids, front


def _no_class_id(classes):
    """The id of pixels without a class, as letterboxing chooses it."""
    return fit_classes(classes, fit="letterbox").ignore_label


def _bare(key):
    """An image's key without folders and extension."""
    path = pathlib.PurePosixPath(str(key))
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
