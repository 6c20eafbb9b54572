import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seglib.classes import ClassTable
from seglib.submission import decode_rle, encode_rle, read_submission, write_submission

CLASSES = ClassTable(["void", "road", "sky, blue"], [(0,) * 3, (1,) * 3, (2,) * 3], ignore_label=0)


def test_the_example_of_kaggles_contests():
    # "1 3 10 5" are the pixels 1, 2, 3 and 10 to 14, counted down the columns.
    mask = decode_rle("1 3 10 5", (4, 5))
    assert np.flatnonzero(mask.ravel(order="F")).tolist() == [0, 1, 2, 9, 10, 11, 12, 13]
    assert encode_rle(mask) == "1 3 10 5"


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        ([[0, 0], [0, 0]], ""),
        ([[1, 1], [1, 1]], "1 4"),
        ([[1, 0], [0, 1]], "1 1 4 1"),
        ([[0, 1], [1, 0]], "2 2"),  # a run goes on from the foot of a column to the next one
        ([[1, 1, 0]], "1 2"),
    ],
)
def test_hand_typed_masks(mask, text):
    assert encode_rle(np.array(mask, bool)) == text
    np.testing.assert_array_equal(decode_rle(text, np.shape(mask)), np.array(mask, bool))


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_rle_round_trip(mask):
    decoded = decode_rle(encode_rle(mask), mask.shape)
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, mask)


def test_runs_may_touch_and_come_in_any_order():
    np.testing.assert_array_equal(decode_rle("3 2 1 2", (2, 3)), decode_rle("1 4", (2, 3)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "expected pairs of start and length, received 3 numbers"),
        ("0 2", "out of range: start 0, length 2 in an image of 6 pixels counted from 1"),
        ("6 2", "out of range: start 6, length 2"),
        ("3 0", "out of range: start 3, length 0"),
        ("1 9223372036854775807", "out of range"),
        ("1 3 3 1", "runs overlap: the run that starts at 3 begins inside 1's"),
        ("4 2 1 4", "runs overlap: the run that starts at 4 begins inside 1's"),
        ("1 x", "expected numbers 'start length start length ...', received '1 x'"),
        ("1 99999999999999999999", "expected numbers"),
    ],
)
def test_decode_rle_says_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        decode_rle(text, (2, 3))


@pytest.mark.parametrize("mask", [np.zeros(3, bool), [[0, 2]], [[0.5, 1.0]]])
def test_encode_rle_wants_a_mask(mask):
    with pytest.raises(ValueError, match=r"labels == class_id"):
        encode_rle(mask)


def read_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_a_submission_has_a_row_for_each_image_and_scored_class(tmp_path):
    path = tmp_path / "submission.csv"
    predictions = [("001", [[1, 1], [0, 2]]), ("b", [[1, 1], [1, 1]])]
    write_submission(path, iter(predictions), CLASSES, empty_mask="-1")
    assert read_rows(path) == [
        ["image_id", "class", "rle"],
        ["001", "road", "1 1 3 1"],
        ["001", "sky, blue", "4 1"],
        ["b", "road", "1 4"],
        ["b", "sky, blue", "-1"],
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["submission.csv"]


@pytest.mark.parametrize("empty_mask", ["", "-1", "1 0"])
@pytest.mark.parametrize(
    ("ignore_label", "ids"), [(0, [0, 1, 2]), (None, [0, 1, 2, 255]), (300, [0, 1, 2, 300])]
)
def test_submission_round_trip(tmp_path, empty_mask, ignore_label, ids):
    classes = ClassTable(CLASSES.names, CLASSES.colors, ignore_label=ignore_label)
    rng = np.random.default_rng(0)
    images = {f"0{i}": rng.choice(ids, (5 + i, 7)).astype(np.uint16) for i in range(3)}
    images["NA"] = np.full((4, 4), ids[-1], np.uint16)
    write_submission(tmp_path / "s.csv", images.items(), classes, empty_mask=empty_mask)
    shapes = {name: labels.shape for name, labels in images.items()}
    received = read_submission(tmp_path / "s.csv", classes, shapes, empty_mask=empty_mask)
    assert list(received) == list(images)
    for name, labels in images.items():
        np.testing.assert_array_equal(received[name], labels)
        assert received[name].dtype == (np.uint16 if ignore_label == 300 else np.uint8)


def test_one_shape_may_stand_for_all_images_and_masks_may_be_long(tmp_path):
    labels = np.random.default_rng(0).integers(1, 3, (360, 300))  # more than 128 KiB of text
    write_submission(tmp_path / "s.csv", [("a", labels)], CLASSES)
    received = read_submission(tmp_path / "s.csv", CLASSES, (360, 300))
    np.testing.assert_array_equal(received["a"], labels)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([("a", [[1]]), ("a", [[1]])], "image 'a' occurs twice in the predictions"),
        ([("a", [[1, 7]])], r"image 'a': ids \[7\] are no class; expected ids in \[0, 3\) or 0"),
    ],
)
def test_a_submission_that_fails_leaves_what_was_there(tmp_path, predictions, message):
    path = tmp_path / "s.csv"
    path.write_text("before")
    with pytest.raises(ValueError, match=message):
        write_submission(path, predictions, CLASSES)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["s.csv"]


def test_255_classes_leave_no_id_for_no_class(tmp_path):
    colors = [(i, i // 256, 0) for i in range(256)]
    classes = ClassTable([f"c{i}" for i in range(256)], colors)
    with pytest.raises(ValueError, match="255 is a class of this table: give the table an ignore"):
        write_submission(tmp_path / "s.csv", [("a", [[1]])], classes)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("image,class,rle\n", "expected the columns .*image_id"),
        ("image_id,class,rle\na,tree,1 1\n", "image 'a', class 'tree': no such class is scored"),
        ("image_id,class,rle\na,void,1 1\n", "class 'void': no such class is scored"),
        ("image_id,class,rle\nb,road,1 1\n", "image 'b', .* not in shapes"),
        ("image_id,class,rle\na,road,5 1\n", "image 'a', class 'road': a run is out of range"),
        ('image_id,class,rle\na,road,1 2\na,"sky, blue",2 1\n', "1 pixels are already of another"),
    ],
)
def test_read_submission_says_what_is_wrong(tmp_path, rows, message):
    (tmp_path / "s.csv").write_text(rows)
    with pytest.raises(ValueError, match=message):
        read_submission(tmp_path / "s.csv", CLASSES, {"a": (2, 2)})
