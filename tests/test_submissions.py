"""Whole folders, run lengths, and the CSV files of contests; NumPy in place of networks."""

import dataclasses
import os

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from test_predicting import COLORS, TABLE, blocks, see_colors

import seglib
from seglib import decode_rle, encode_rle, predict_folder, read_submission, write_submission
from seglib.classes import ClassTable, create_class_table
from seglib.datasets import Split
from seglib.images import Pixels


@pytest.fixture
def photos(tmp_path):
    """Three photographs of blocks of the classes' colours, one in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.v2.bmp", "sub/a.png")):
        Image.fromarray(COLORS[blocks(40, 48, number)]).save(folder / name)
    for name in ("notes.txt", ".hidden.png"):
        (folder / name).write_text("no picture")
    return folder


def test_a_folder_or_split_is_labelled_and_names_are_kept(photos, tmp_path):
    for out, masks in ((tmp_path / "new/colours", "colors"), (photos / "masks", "ids")):
        for _ in range(2):  # masks within the folder are no pictures of the second call
            paths = predict_folder(see_colors(), photos, str(out), masks=masks)
            assert paths == [out / name for name in ("a.png", "b.v2.png", "sub/a.png")]
        for number, path in enumerate(paths):
            truth = seglib.predict(see_colors(), COLORS[blocks(40, 48, number)])
            expected = truth if masks == "ids" else TABLE.colors[truth]
            assert_array_equal(np.asarray(Image.open(path)), expected)
    split = Split([(photos / "a.png", None), (photos / "sub/a.png", None)], TABLE)
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
        (
            photos / "sub",
            photos / "../photos/sub",
            {},
            "would lie among .*: choose another out_dir",
        ),
        (split, photos, {}, "would lie among"),
        (photos / "none", tmp_path, {}, "no picture in"),
        (photos, tmp_path, {"masks": "id"}, "received 'id'"),
        (Split(split.pairs, other), tmp_path, {}, "the model was trained for"),
        (tmp_path / "twins", tmp_path, {}, "two pictures that differ in their ending alone"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            predict_folder(see_colors(), pictures, out, **options)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}


def test_each_picture_is_predicted_by_the_model_of_its_fold(tmp_path):
    for number in range(4):
        labels = blocks(40, 48, number)
        Image.fromarray(COLORS[labels]).save(tmp_path / f"p{number}.png")
        Image.fromarray(labels).save(tmp_path / f"p{number}_mask.png")
    folds = seglib.open_dataset(tmp_path, classes=TABLE, fractions=(1, 0, 0)).folds(2, by="random")
    turned = Pixels(bands=(2, 1, 0))
    models = [see_colors(), dataclasses.replace(see_colors((40, 48)), pixels=turned)]
    names, probabilities, labels = seglib.predict_out_of_fold(models, folds)
    assert sorted(names) == ["p0", "p1", "p2", "p3"]
    assert names == [*folds[0].val.names, *folds[1].val.names]
    for number, (name, planes, truth) in enumerate(zip(names, probabilities, labels, strict=True)):
        assert_array_equal(truth, blocks(40, 48, int(name[1])))
        read = COLORS[truth][..., :: -1 if number // 2 else 1]  # as its model learned
        expected = seglib.predict_probabilities(models[number // 2], read)
        assert_allclose(planes, expected, atol=1e-3)
        assert planes.dtype == np.float16
    with pytest.raises(ValueError, match="a model for each of 2 folds, received 1"):
        seglib.predict_out_of_fold(models[:1], folds)


def test_run_lengths_of_kaggles_example():
    # "1 3 10 5" are the pixels 1, 2, 3 and 10 to 14, counted down the columns.
    mask = decode_rle("1 3 10 5", (4, 5))
    assert np.flatnonzero(mask.ravel(order="F")).tolist() == [0, 1, 2, 9, 10, 11, 12, 13]
    assert (encode_rle(mask), mask.dtype) == ("1 3 10 5", bool)
    # Runs may touch and come in any order.
    assert_array_equal(decode_rle("3 2 1 2", (2, 3)), decode_rle("1 4", (2, 3)))
    for text in (np.nan, None, pd.NA, ""):
        assert_array_equal(decode_rle(text, (4, 5)), np.zeros((4, 5), bool))


STREET = ClassTable(["void", "road", "sky, blue"], COLORS[:3], ignore_label=0)


def test_a_submission_has_a_row_for_each_image_and_scored_class(tmp_path):
    name = os.fsdecode(b"caf\xe9")  # not UTF-8
    predictions = [("001", [[1, 1], [0, 2]]), (name, [[1, 1], [1, 1]])]
    write_submission(tmp_path / "s.csv", iter(predictions), STREET, empty_mask="-1")
    rows = ["image_id,class,rle", "001,road,1 1 3 1", '001,"sky, blue",4 1']
    rows += [f"{name},road,1 4", f'{name},"sky, blue",-1']
    assert (tmp_path / "s.csv").read_bytes().splitlines() == [os.fsencode(row) for row in rows]
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]


@pytest.mark.parametrize(
    ("ignore_label", "ids", "empty_mask"),
    [(0, [0, 1, 2], ""), (None, [0, 1, 2, 255], "-1"), (300, [0, 1, 2, 300], "1 0")],
)
def test_submission_round_trip(tmp_path, empty_mask, ignore_label, ids):
    classes, rng = dataclasses.replace(STREET, ignore_label=ignore_label), np.random.default_rng(0)
    sizes = {"00": (5, 7), "01": (6, 7), "long": (360, 300)}  # which is more than 128 KiB of text
    images = {name: rng.choice(ids, size).astype(np.uint16) for name, size in sizes.items()}
    images["NA"] = np.full((4, 4), ids[-1], np.uint16)
    write_submission(tmp_path / "s.csv", images, classes, empty_mask=empty_mask)
    shapes = {name: labels.shape for name, labels in images.items()}
    received = read_submission(tmp_path / "s.csv", classes, shapes, empty_mask=empty_mask)
    assert list(received) == list(images)
    for name, labels in images.items():
        assert_array_equal(received[name], labels)
        assert received[name].dtype == (np.uint16 if ignore_label == 300 else np.uint8)


LABELS = np.array([[1, 0, 0, 0, 0], [0] * 5, [0, 0, 1, 0, 0], [0, 0, 0, 2, 2]], np.uint8)
ONE, TWO = "1 1 11 1", "16 1 20 1"  # the run lengths of its classes, counted down the columns
FISH = create_class_table(["background", "Fish", "sea_weed"])
SHIP = create_class_table(["background", "ship"])


def write_like(folder, sample, predictions=(("a", LABELS),), classes=FISH, **options):
    (folder / "sample.csv").write_text(sample)
    write_submission(folder / "s.csv", predictions, classes, like=folder / "sample.csv", **options)
    return (folder / "s.csv").read_text().splitlines()


# A contest, its sample, and what is to be handed in; {A} and {B} are the runs of both classes.
SAMPLES = """
Severstal
ImageId,EncodedPixels,ClassId|t1.jpg,1 5,0|t0.jpg,,0
ImageId,EncodedPixels,ClassId|t1.jpg,{A},1|t1.jpg,{B},2|t0.jpg,{A},1|t0.jpg,{B},2
Severstal at first
ImageId_ClassId,EncodedPixels|t1.jpg_1,|t1.jpg_2,|t0.jpg_1,|t0.jpg_2,
ImageId_ClassId,EncodedPixels|t1.jpg_1,{A}|t1.jpg_2,{B}|t0.jpg_1,{A}|t0.jpg_2,{B}
Clouds
Image_Label,EncodedPixels|t0_sea_weed,1 1|t1_sea_weed,
Image_Label,EncodedPixels|t0_Fish,{A}|t0_sea_weed,{B}|t1_Fish,{A}|t1_sea_weed,{B}
UW-Madison
id,class,predicted|t1,sea_weed,|t0,sea_weed,|t1,Fish,|t0,Fish,
id,class,predicted|t1,sea_weed,{B}|t0,sea_weed,{B}|t1,Fish,{A}|t0,Fish,{A}
the head alone
id,class,predicted
id,class,predicted|t0.png,Fish,{A}|t0.png,sea_weed,{B}|x/t1,Fish,{A}|x/t1,sea_weed,{B}
TGS, of one class
id,rle_mask|t1,1 1|t0,1 1
id,rle_mask|t1,{A}|t0,{A}
Airbus, of one class, a row a ship
ImageId,EncodedPixels|t1.jpg,1 1|t1.jpg,3 1|t0.jpg,
ImageId,EncodedPixels|t1.jpg,1 1|t1.jpg,11 1|t0.jpg,1 1|t0.jpg,11 1
Human Protein Atlas, of one class, with sizes
ID,ImageWidth,ImageHeight,PredictionString,Usage|t1,10,8,,X|t0,5,4,,Y
ID,ImageWidth,ImageHeight,PredictionString,Usage|t1,10,8,1 2 9 2 37 2 45 2,X|t0,5,4,{A},Y
""".strip().splitlines()


@pytest.mark.parametrize(("contest", "sample", "expected"), np.reshape(SAMPLES, (-1, 3)).tolist())
def test_a_submission_is_like_its_sample(tmp_path, contest, sample, expected):
    classes = SHIP if "of one class" in contest else FISH
    labels = LABELS * (classes.num_classes > LABELS)
    predictions = {"t0.png": labels, "x/t1": labels}.items()
    written = write_like(tmp_path, sample.replace("|", "\n"), predictions, classes)
    assert written == expected.format(A=ONE, B=TWO).split("|")
    if "ship" not in contest and "sizes" not in contest:
        read = read_submission(tmp_path / "s.csv", classes, labels.shape)
        assert_array_equal(list(read.values()), [labels, labels])


def test_objects_and_empty_masks_are_written_as_asked(tmp_path):
    sample, labels = "ImageId,EncodedPixels\na.jpg,1 1\nb.jpg,1 1\n", [0 * LABELS, LABELS % 2]
    predictions = zip("ba", labels, strict=True)
    written = write_like(tmp_path, sample, predictions, SHIP, objects=True, empty_mask="-1")
    assert written[1:] == ["a.jpg,1 1", "a.jpg,11 1", "b.jpg,-1"]
    read = read_submission(tmp_path / "s.csv", SHIP, (4, 5), empty_mask="-1")
    assert_array_equal(list(read.values()), labels[::-1])


def read_rows(folder, rows):
    (folder / "read.csv").write_text(f"image_id,class,rle\n{rows}\n")
    return read_submission(folder / "read.csv", STREET, {"a": (2, 2)})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda _: encode_rle([[0, 2]]), "labels == class_id"),
        (lambda _: decode_rle("1 2 3", (2, 3)), "expected 'start length start length ...'"),
        (lambda _: decode_rle("0 2", (2, 3)), "within 6 pixels from 1 on"),
        (lambda _: decode_rle("1 9223372036854775807", (2, 3)), "expected 'start length"),
        (lambda _: decode_rle("4 2 1 4", (2, 3)), "no overlap"),
        (lambda _: decode_rle("1 x", (2, 3)), "received '1 x'"),
        (lambda p: read_rows(p, "a,tree,1 1"), "image 'a', class 'tree': 'tree' is not known"),
        (lambda p: read_rows(p, "b,road,1 1"), "'b' is not known"),
        (lambda p: read_rows(p, "a,road,5 1"), "image 'a', class 'road': expected 'start length"),
        (lambda p: read_rows(p, 'a,road,1 2\na,"sky, blue",2 1'), "already of another class"),
        (lambda p: write_submission(p / "s.csv", [("a", [[1]])] * 2, STREET), "'a': it occurs twi"),
        (lambda p: write_submission(p / "s.csv", [("a", [[7]])], STREET), r"ids \[7\] are no clas"),
        (lambda p: write_like(p, "id,rle\na,\n"), "no column that names the class"),
        (lambda p: write_like(p, "id_class,rle\na_Bird,\n"), "'Bird' is none of background, Fish"),
        (lambda p: write_like(p, "id,class,rle\nb,Fish,\n"), r"\['a', 'b'\] .*predictions alone"),
        (lambda p: write_like(p, "a,b\n1,2\n"), "no column is named like rle, found a, b"),
        (lambda p: write_like(p, ""), "is no CSV file in UTF-8 with columns"),
        (lambda p: write_like(p, "id,class,rle\na,0,\na,1,\n"), "0, 1, the .* none for sea_weed"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(tmp_path, call, words):
    with pytest.raises(ValueError, match=words):
        call(tmp_path)
    assert not (tmp_path / "s.csv").exists()
