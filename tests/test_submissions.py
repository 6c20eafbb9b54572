"""Whole folders, run lengths, and the CSV files of contests; NumPy in place of networks."""

import dataclasses
import itertools
import os
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_predicting import COLORS, TABLE, blocks, paint, see_colors

import seglib
from seglib import decode_rle, predict_folder, read_submission, write_submission
from seglib.classes import ClassTable, create_class_table
from seglib.datasets import Dataset, Split
from seglib.images import Pixels
from seglib.predicting import Scorer, Thresholds, apply_thresholds, fit_thresholds
from seglib.reports import class_dice, confusion_matrix

# Whole folders


@pytest.fixture
def photos(tmp_path):
    """Three photographs of blocks of the classes' colours, one in a subfolder."""
    for number, name in enumerate(("a.png", "b.v2.bmp", "sub/a.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(paint(blocks(40, 48, number))).save(path)
    (tmp_path / "photos/notes.txt").write_text("no picture")
    (tmp_path / "photos/.hidden.png").write_text("no picture")
    return tmp_path / "photos"


def test_a_folder_is_labelled_with_names_and_subfolders_kept(photos, tmp_path):
    for out, masks in ((tmp_path / "new/colours", "colors"), (photos / "masks", "ids")):
        for _ in range(2):  # masks within the folder are no pictures of the second call
            paths = predict_folder(see_colors(), photos, str(out), masks=masks)
            names = [path.relative_to(out).as_posix() for path in paths]
            assert names == ["a.png", "b.v2.png", "sub/a.png"]
        for number, path in enumerate(paths):
            truth = seglib.predict(see_colors(), paint(blocks(40, 48, number)))
            expected = truth if masks == "ids" else TABLE.colors[truth]
            np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)


def test_a_split_without_masks_is_labelled_under_its_names(photos, tmp_path):
    pairs = [(path, None) for path in sorted(photos.rglob("*.png")) if path.name == "a.png"]
    split = Split(pairs, TABLE)
    paths = predict_folder(see_colors(), split, tmp_path / "out", thresholds={0: 0.5})
    assert paths == [tmp_path / "out" / f"{name}.png" for name in split.names]
    assert predict_folder(see_colors(), split[:0], tmp_path / "none") == []


def test_what_cannot_be_written_is_refused_and_no_picture_touched(photos, tmp_path):
    split, other = Split([(photos / "a.png", None)], TABLE), create_class_table(["a"])
    (tmp_path / "twins").mkdir()
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (40, 48)).save(tmp_path / "twins" / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    for pictures, out, options, words in (
        (photos, photos, {}, "would lie among the pictures: choose another out_dir"),
        (photos / "sub", photos / "../photos/sub", {}, "would lie among"),
        (split, photos, {}, "would lie among"),
        (photos / "none", tmp_path, {}, "no picture in"),
        (photos, tmp_path, {"masks": "id"}, "received 'id'"),
        (Split(split.pairs, other), tmp_path, {}, "the model was trained for"),
        (tmp_path / "twins", tmp_path, {}, "two pictures that differ in their ending alone"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            predict_folder(see_colors(), pictures, out, **options)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}


# Several models


def answer(share, **options):
    """A Scorer that gives class 0 this share everywhere."""
    table = ClassTable(list("ab"), COLORS[:2])

    def score(batch):
        return np.full((*batch.shape[:3], 2), (share, 1 - share), np.float32)

    known = {"size": (32, 32), "fit": "stretch", "num_classes": 2, "classes": table}
    return Scorer(score=score, **known | options)


def test_probabilities_of_several_models_are_averaged():
    picture = paint(blocks(50, 70))
    for options in ({}, {"flip": True}, {"tile": True}):
        models = [see_colors(), see_colors((64, 48), fit="letterbox"), see_colors((None, None))]
        single = [seglib.predict_probabilities(m, picture, **options) for m in models]
        mean = np.mean(single, axis=0)
        planes = seglib.predict_probabilities(models, picture, **options)
        np.testing.assert_allclose(planes, mean, atol=1e-6)
        labels = seglib.predict(models, [picture, picture[:40]], **options)
        np.testing.assert_array_equal(labels[0], mean.argmax(axis=-1))
        assert labels[1].shape == (40, 70)
    both = [answer(0.9), answer(0.3, fit="letterbox", size=(48, 64))]
    assert (seglib.predict(both, np.stack([picture, picture])) == 0).all()
    assert (seglib.predict([*both, answer(0.1)], picture) == 1).all()
    assert (seglib.predict(both, picture, thresholds={0: 0.7}) == 1).all()


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([see_colors(), answer(0.1)], r"same classes and .* \(\('r', .* and \(\('a', 'b'\)"),
        ([see_colors(), see_colors(ignore_label=1)], r"\(0, 1, 2, 3\), .* and .* \(0, 2, 3\)"),
        ([answer(0.2), answer(0.1, classes=None)], r"received \(\('a', 'b'\), .* and \(None"),
        ([answer(0.2), answer(0.1, pixels=Pixels(bands=(3, 0, 1)))], r"and .*bands=\(3, 0, 1\)"),
        ([], "an empty list"),
    ],
)
def test_models_of_other_classes_are_refused(models, words):
    with pytest.raises(ValueError, match=words):
        seglib.predict(models, np.zeros((32, 32, 3), np.uint8))


# Out-of-fold predictions, and what is fitted to them


def dataset_of(pairs, folder):
    """A Dataset of pairs of labels and of what a model of colours sees in their place."""
    folder.mkdir()
    for number, (truth, seen) in enumerate(pairs):
        Image.fromarray(paint(seen)).save(folder / f"p{number}.png")
        Image.fromarray(truth).save(folder / f"p{number}_mask.png")
    paths = [(folder / f"p{i}.png", folder / f"p{i}_mask.png") for i in range(len(pairs))]
    return Dataset(folder, TABLE, Split(paths, TABLE, "ids"), *[Split([], TABLE)] * 2)


def test_each_picture_is_predicted_by_the_model_of_its_fold(tmp_path):
    pairs = [(blocks(40, 48, seed), blocks(40, 48, seed)) for seed in range(4)]
    folds = dataset_of(pairs, tmp_path / "data").folds(2, by="random")
    turned = Pixels(bands=(2, 1, 0))
    models = [see_colors(), dataclasses.replace(see_colors((40, 48)), pixels=turned)]
    names, probabilities, labels = seglib.predict_out_of_fold(models, folds)
    assert sorted(names) == ["p0", "p1", "p2", "p3"]
    assert names == [*folds[0].val.names, *folds[1].val.names]
    for number, (name, planes, truth) in enumerate(zip(names, probabilities, labels, strict=True)):
        np.testing.assert_array_equal(truth, pairs[int(name[1])][0])
        read = paint(truth)[..., :: -1 if number // 2 else 1]  # as its model learned
        expected = seglib.predict_probabilities(models[number // 2], read)
        np.testing.assert_allclose(planes, expected, atol=1e-3)
        assert planes.dtype == np.float16
    with pytest.raises(ValueError, match="a model for each of 2 folds, received 1"):
        seglib.predict_out_of_fold(models[:1], folds)


def contest_score(probabilities, labels, fitted):
    """Mean Dice a picture and class, pixels of the id 9 left out."""
    predicted = [apply_thresholds(planes, fitted) for planes in probabilities]
    pairs = zip(labels, predicted, strict=True)
    matrices = [confusion_matrix(*pair, num_classes=2, ignore_label=9) for pair in pairs]
    return class_dice(matrices).mean()


@pytest.mark.parametrize("seed", range(3))
def test_fitted_thresholds_and_regions_are_nearly_the_best_of_all(seed):
    """Objects that are seen weakly, and specks in pictures that show none."""
    random, probabilities, labels = np.random.default_rng(seed), [], []
    for number in range(6):
        truth, likely = np.zeros((24, 30), np.uint8), np.full((24, 30), 0.1)
        for row, column in random.integers(0, 20, (4, 2)):
            likely[row : row + 2, column : column + 3] = random.uniform(0.3, 0.8)
        if number % 2:
            truth[4:14, 5:15], likely[4:14, 5:15] = 1, random.uniform(0.35, 0.6)
        truth[:, -2:] = 9
        probabilities.append(np.stack([1 - likely, likely], axis=-1).astype(np.float16))
        labels.append(truth)
    fitted = fit_thresholds(probabilities, labels, ignore_label=9, regions=True)
    steps, sizes = np.arange(10) / 10, (0, 4, 8, 16, 32, 64, 128)
    every = itertools.product(itertools.product(steps, steps), sizes)
    best = max(contest_score(probabilities, labels, Thresholds(t, (0, n))) for t, n in every)
    received = contest_score(probabilities, labels, fitted)
    assert received == pytest.approx(best, abs=0.01)
    assert received > contest_score(probabilities, labels, {}) + 0.1


# Contests

LABELS = np.array([[1, 0, 0, 0, 0], [0] * 5, [0, 0, 1, 0, 0], [0, 0, 0, 2, 2]], np.uint8)
ONE, TWO = "1 1 11 1", "16 1 20 1"  # the run lengths of its classes, counted down the columns
FISH = create_class_table(["background", "Fish", "sea_weed"])
NUMBERS = create_class_table(["background", "1", "2"])
SHIP = create_class_table(["background", "ship"])
# A contest, its sample, and what is to be handed in; A and B stand for the runs of both classes.
SAMPLES = """
Severstal
ImageId,EncodedPixels,ClassId|t1.jpg,1 5,0|t0.jpg,,0
ImageId,EncodedPixels,ClassId|t1.jpg,A,1|t1.jpg,B,2|t0.jpg,A,1|t0.jpg,B,2
Severstal at first
ImageId_ClassId,EncodedPixels|t1.jpg_1,|t1.jpg_2,|t0.jpg_1,|t0.jpg_2,
ImageId_ClassId,EncodedPixels|t1.jpg_1,A|t1.jpg_2,B|t0.jpg_1,A|t0.jpg_2,B
Clouds
Image_Label,EncodedPixels|t0_sea_weed,1 1|t1_sea_weed,
Image_Label,EncodedPixels|t0_Fish,A|t0_sea_weed,B|t1_Fish,A|t1_sea_weed,B
UW-Madison
id,class,predicted|t1,sea_weed,|t0,sea_weed,|t1,Fish,|t0,Fish,
id,class,predicted|t1,sea_weed,B|t0,sea_weed,B|t1,Fish,A|t0,Fish,A
the head alone
id,class,predicted
id,class,predicted|t0.png,Fish,A|t0.png,sea_weed,B|x/t1,Fish,A|x/t1,sea_weed,B
TGS, of one class
id,rle_mask|t1,1 1|t0,1 1
id,rle_mask|t1,A|t0,A
Airbus, of one class, a row a ship
ImageId,EncodedPixels|t1.jpg,1 1|t1.jpg,3 1|t0.jpg,
ImageId,EncodedPixels|t1.jpg,1 1|t1.jpg,11 1|t0.jpg,1 1|t0.jpg,11 1
Human Protein Atlas, of one class, with sizes
ID,ImageWidth,ImageHeight,PredictionString,Usage|t1,10,8,,X|t0,5,4,,Y
ID,ImageWidth,ImageHeight,PredictionString,Usage|t1,10,8,1 2 9 2 37 2 45 2,X|t0,5,4,A,Y
""".strip().splitlines()


@pytest.mark.parametrize(
    ("contest", "sample", "expected"),
    [*zip(SAMPLES[::3], SAMPLES[1::3], SAMPLES[2::3], strict=True)],
)
def test_a_submission_is_like_its_sample(tmp_path, contest, sample, expected):
    classes = SHIP if "of one class" in contest else FISH
    (tmp_path / "sample.csv").write_text(sample.replace("|", "\n"))
    labels = LABELS * (classes.num_classes > LABELS)
    predictions = {"t0.png": labels, "x/t1": labels}.items()
    write_submission(tmp_path / "s.csv", predictions, classes, like=tmp_path / "sample.csv")
    expected = re.sub(r"\b[AB]\b", lambda letter: {"A": ONE, "B": TWO}[letter[0]], expected)
    assert (tmp_path / "s.csv").read_text().splitlines() == expected.split("|")
    if "ship" not in contest and "sizes" not in contest:
        read = read_submission(tmp_path / "s.csv", classes, labels.shape)
        np.testing.assert_array_equal(list(read.values()), [labels, labels])


def test_objects_and_empty_masks_are_written_as_asked(tmp_path):
    (tmp_path / "sample.csv").write_text("ImageId,EncodedPixels\na.jpg,1 1\nb.jpg,1 1\n")
    predictions = [("b", 0 * LABELS), ("a", LABELS % 2)]
    options = {"like": tmp_path / "sample.csv", "objects": True, "empty_mask": "-1"}
    write_submission(tmp_path / "s.csv", predictions, SHIP, **options)
    written = (tmp_path / "s.csv").read_text().splitlines()
    assert written[1:] == ["a.jpg,1 1", "a.jpg,11 1", "b.jpg,-1"]
    read = read_submission(tmp_path / "s.csv", SHIP, (4, 5), empty_mask="-1")
    np.testing.assert_array_equal(list(read.values()), [LABELS % 2, 0 * LABELS])


def test_names_that_are_not_utf_8_are_written(tmp_path):
    write_submission(tmp_path / "s.csv", [(os.fsdecode(b"caf\xe9"), LABELS % 2)], SHIP)
    assert b"\ncaf\xe9," in (tmp_path / "s.csv").read_bytes()


def test_an_empty_field_is_an_empty_mask(tmp_path):
    for text in (np.nan, None, pd.NA, ""):
        assert (decode_rle(text, (4, 5)).shape, decode_rle(text, (4, 5)).sum()) == ((4, 5), 0)
    (tmp_path / "train.csv").write_text(
        f"ImageId,ClassId,EncodedPixels\na.jpg,2,{TWO}\na.jpg,1,{ONE}\nb.jpg,1,\n"
    )
    read = read_submission(tmp_path / "train.csv", NUMBERS, (4, 5))
    np.testing.assert_array_equal(read["a.jpg"], LABELS)
    assert not read["b.jpg"].any()


@pytest.mark.parametrize(
    ("text", "classes", "words"),
    [
        ("id,rle\na,\n", FISH, "no column that names the class"),
        ("id,class,rle\na,Bird,\n", FISH, "class 'Bird' is none of background, Fish, sea_weed"),
        ("id_class,rle\na_Bird,\n", FISH, "class 'Bird' is none of"),
        ("id,class,rle\na,Fish,\nb,Fish,\n", FISH, r"images \['b'\] are in .* predictions alone"),
        ("id,class,rle\nb,Fish,\nb,sea_weed,\n", FISH, r"\['a', 'b'\] are in"),
        ("a,b\n1,2\n", FISH, "no column is named like rle, found a, b"),
        ("", FISH, "is no CSV file in UTF-8 with columns"),
        ("id,class,rle\na,0,\na,1,\n", FISH, "classes 0, 1, the background .* none for sea_weed"),
    ],
)
def test_samples_that_do_not_fit_are_refused(tmp_path, text, classes, words):
    (tmp_path / "sample.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        write_submission(tmp_path / "s.csv", [("a", LABELS)], classes, like=tmp_path / "sample.csv")
    assert not (tmp_path / "s.csv").exists()
