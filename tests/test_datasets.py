"""Pairs, splits and class tables of data sets in every layout and encoding."""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
import warnings

import folders
import numpy as np
import pytest
from folders import BINARY, CLASSES, write_folder
from PIL import Image

import seglib
from seglib import scenes
from seglib.classes import ClassTable, read_class_table, write_class_table
from seglib.datasets import open_dataset
from seglib.images import DatasetError


def touch(folder, *names):
    """A data set's folder with these empty files."""
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def assert_read(dataset, expected, *, splits=True, share=1.0):
    """Every pair is there, in its split, with the labels that were written."""
    found = {}
    for split_name, split in dataset.splits.items():
        for name, (image, labels) in zip(split.names, split, strict=True):
            found[name] = (split_name, labels)
            assert image.shape == (*labels.shape, 3)
    assert sorted(found) == sorted(expected)
    for name, (split_name, labels) in expected.items():
        assert (found[name][1] == labels).mean() >= share
        assert not splits or found[name][0] == split_name


def write_flat(folder, count):
    """`images/` and `masks/` with so many pairs."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (48, 40)).save(folder / f"images/a{i}.jpg")
        Image.new("L", (48, 40), i % 4).save(folder / f"masks/a{i}.png")
    return folder


def count(dataset):
    return [len(split) for split in dataset.splits.values()]


# Layouts and encodings


CASES = [(layout, "rgb") for layout in folders.LAYOUTS]
CASES += [("camvid", encoding) for encoding in folders.ENCODINGS]
CASES += [("suffix in one folder", encoding) for encoding in ("grey", "palette", "jpeg")]


@pytest.mark.parametrize(("layout", "encoding"), CASES)
def test_every_layout_and_every_encoding(tmp_path, layout, encoding):
    expected = write_folder(tmp_path, layout, encoding)
    has_splits = "{split}" in folders.LAYOUTS[layout][0]
    dataset = open_dataset(tmp_path)
    assert dataset.classes == CLASSES
    assert_read(dataset, expected, splits=has_splits, share=0.99 if encoding == "jpeg" else 1)
    assert count(dataset) == ([4, 2, 2] if has_splits else [6, 1, 1])


def test_folders_that_bear_a_word_of_the_other_half_are_paired(tmp_path):
    for side in ("left", "right"):
        for folder, suffix in (("leftImg8bit", "jpg"), ("gtFine", "png")):
            (tmp_path / folder / side).mkdir(parents=True)
            for name in "abcdef":
                Image.new("L", (8, 8)).save(tmp_path / folder / side / f"{name}.{suffix}")
    dataset = open_dataset(tmp_path, classes=["a", "b"])
    assert len(dataset) == 12
    for split in dataset.splits.values():
        for image, mask in split.pairs:
            assert (image.parent.name, image.stem) == (mask.parent.name, mask.stem)


def test_what_is_there_by_chance_is_passed_over(tmp_path):
    expected = write_folder(tmp_path, "spaces and accents")
    for file in sorted((tmp_path / "my masks").iterdir()):
        file.rename(file.with_name(file.name.replace("\u00e9", "e\u0301")))  # as macOS writes it
    for name in ("my images/.b.png", "__MACOSX/train/._aa0.png", "notes.txt", "previews/aa0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert_read(open_dataset(tmp_path), expected, splits=False)


def test_a_split_is_a_sequence_and_a_dataset_counts_its_pairs(city, classes, write_pair, tmp_path):
    dataset = open_dataset(city)
    assert dataset.classes == classes
    assert repr(dataset) == "Dataset(city: 4 classes, train 4, val 2, test 2)"
    assert repr(dataset.val) == "Split(2 pairs)"
    assert dataset.splits == {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    expected = write_pair(tmp_path / "a.png", tmp_path / "b.png", seed=5)
    for found, known in zip(dataset.val[-1], expected, strict=True):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, known)
    assert dataset.train[1:3].names == ["scene_1", "scene_2"]
    assert list(dataset.train[4:]) == []
    Image.new("RGB", (48, 32)).save(city / "train_labels/scene_1_L.png")
    with pytest.raises(DatasetError, match=r"scene_1_L.png is 32×48 .* is 40×48"):
        dataset.train[1]


def test_opening_and_reading_imports_no_keras(city):
    program = """
import sys
from seglib.datasets import open_dataset
open_dataset(sys.argv[1]).train[0]
print(*{name.partition(".")[0] for name in sys.modules})
"""
    command = [sys.executable, "-c", program, str(city)]
    modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert not {"keras", "tensorflow", "torch", "jax", "pandas", "matplotlib"} & set(modules)


# Splits


def test_pascal_voc_with_its_lists(tmp_path):
    write_folder(tmp_path, "voc", "palette", table=False)
    Image.new("RGB", (64, 48)).save(tmp_path / "JPEGImages/without_mask.jpg")
    lists = tmp_path / "ImageSets/Segmentation"
    for folder in (lists, tmp_path / "ImageSets/Main"):
        folder.mkdir(parents=True)
    (lists / "train.txt").write_text("aa0\nbb1\ncc2\n")
    (lists / "val.txt").write_text("dd3\nee4\n\n")
    (lists / "trainval.txt").write_text("aa0\nbb1\ncc2\ndd3\nee4\n")
    (tmp_path / "ImageSets/Main/train.txt").write_text("hh7\n")
    (tmp_path / "class_names.txt").write_text("back\nroad\ncar\ntree\n")
    dataset = open_dataset(tmp_path)
    assert dataset.train.names == ["aa0", "bb1", "cc2"]
    assert (dataset.val.names, len(dataset.test)) == (["dd3", "ee4"], 0)
    assert dataset.classes == CLASSES
    (lists / "train.txt").unlink()
    (lists / "trainval.txt").unlink()
    (tmp_path / "ImageSets/Main/train.txt").unlink()
    assert open_dataset(tmp_path).train.names == ["aa0", "bb1", "cc2", "ff5", "gg6", "hh7"]


def test_what_labelme_exports(tmp_path):
    expected = write_folder(tmp_path, "voc", "palette", table=False)
    expected["bb1"][1][:3] = 255
    folders.ENCODINGS["palette"](tmp_path / "SegmentationClass/bb1", expected["bb1"][1], CLASSES)
    (tmp_path / "class_names.txt").write_text("__ignore__\n_background_\nroad\ncar\ntree\n")
    for kind in ("SegmentationClassVisualization", "SegmentationObject", "SegmentationClassNpy"):
        (tmp_path / kind).mkdir()
        for name in expected:
            Image.new("RGB", (64, 48)).save(tmp_path / f"{kind}/{name}.jpg")
    dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("_background_", "road", "car", "tree")
    assert dataset.classes.ignore_label == 255
    assert_read(dataset, expected, splits=False)


def test_lists_tell_pictures_of_one_name_apart_by_their_folders(tmp_path):
    for place in "pqr":
        write_flat(tmp_path / "in", 2)
        for kind in ("images", "masks"):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / kind).rename(tmp_path / "data" / kind / place)
    (tmp_path / "data/train.txt").write_text("p/a0\n/data/images/p/a1.jpg\nq/a0.jpg,q/a0.png\n")
    (tmp_path / "data/val.txt").write_text("images\\r\\a0.jpg masks/r/a0\np/a1\na1\n")
    words = r"val.txt lists 2 pictures without a pair, or that another split has"
    with pytest.warns(UserWarning, match=words):
        dataset = open_dataset(tmp_path / "data", classes=CLASSES)
    assert dataset.train.names == ["p/a0", "p/a1", "q/a0"]
    assert dataset.val.names == ["r/a0"]


@pytest.mark.parametrize(
    "folders",
    [
        ("traincrop", "valcrop", "testcrop"),
        ("train", "dev", "test"),
        ("trainval", "eval", "TEST"),
        ("trainset", "valset", "testset"),
        ("tr", "va", "te"),
    ],
)
def test_folders_of_splits_have_many_names(tmp_path, folders):
    for pairs, folder in zip((3, 2, 1), folders, strict=True):
        write_flat(tmp_path / folder, pairs)
    assert count(open_dataset(tmp_path, classes=CLASSES)) == [3, 2, 1]
    for folder in folders:  # traincrop and traincrop_labels
        (tmp_path / folder / "masks").rename(tmp_path / f"{folder}_labels")
        (tmp_path / folder / "images").rename(tmp_path / f"{folder} images")
    assert count(open_dataset(tmp_path, classes=CLASSES)) == [3, 2, 1]


@pytest.mark.parametrize("name", ["{}_list.txt", "{}files.txt", "lists/{}_set.txt"])
def test_lists_of_splits_have_many_names(tmp_path, name):
    write_flat(tmp_path, 6)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    for split, numbers in (("train", (1, 3, 5)), ("val", (0, 4)), ("test", (2,))):
        (tmp_path / name.format(split)).write_text("\n".join(f"a{i}" for i in numbers))
    dataset = open_dataset(tmp_path, classes=CLASSES)
    names = [split.names for split in dataset.splits.values()]
    assert names == [["a1", "a3", "a5"], ["a0", "a4"], ["a2"]]


def test_words_that_name_splits_elsewhere_are_but_names(tmp_path):
    for folder in ("VA", "MD", "TX"):  # no training beside it
        write_flat(tmp_path / folder, 2)
    assert count(open_dataset(tmp_path, classes=CLASSES)) == [4, 1, 1]
    (tmp_path / "MD/images/a0.jpg").rename(tmp_path / "MD/images/photo.jpg")
    (tmp_path / "MD/masks/a0.png").rename(tmp_path / "MD/masks/photo.png")
    assert count(open_dataset(tmp_path, classes=CLASSES)) == [4, 1, 1]


def test_training_and_test_of_nnunet(tmp_path):
    write_flat(tmp_path, 4)
    (tmp_path / "imagesTs").mkdir()
    for i in range(4):
        folder = tmp_path / ("imagesTs" if i == 3 else "imagesTr")
        folder.mkdir(exist_ok=True)
        (tmp_path / f"images/a{i}.jpg").rename(folder / f"a{i}_0000.jpg")
    (tmp_path / "masks/a3.png").unlink()
    (tmp_path / "masks").rename(tmp_path / "labelsTr")
    (tmp_path / "images").rmdir()
    with pytest.warns(UserWarning, match="only train has masks"):
        dataset = open_dataset(tmp_path, classes=CLASSES)
    assert (count(dataset), dataset.unlabelled.names) == ([3, 0, 0], ["a3_0000"])


def test_tables_of_splits_that_are_not_read_are_told(tmp_path):
    write_flat(tmp_path, 6)
    (tmp_path / "folds.json").write_text('{"a0": 0, "a1": 1}')
    with pytest.warns(
        UserWarning, match=r"folds.json may say what is in which split, but is not r"
    ):
        dataset = open_dataset(tmp_path, classes=CLASSES)
    dataset.write_splits(tmp_path / "splits.csv")
    (tmp_path / "folds.json").unlink()
    assert len(open_dataset(tmp_path, classes=CLASSES, splits=tmp_path / "splits.csv")) == 6


def test_masks_in_arrays_beside_photographs(tmp_path):
    expected = write_folder(tmp_path, "no splits", "grey")
    for file in (tmp_path / "annotations").iterdir():
        np.save(file.with_suffix(".npy"), np.asarray(Image.open(file)))
        file.unlink()
    assert_read(open_dataset(tmp_path), expected, splits=False)


def test_folders_above_the_data_set_name_no_class(tmp_path):
    expected = write_folder(tmp_path / "old town", "no splits", "0 and 255", classes=BINARY)
    shutil.copytree(tmp_path / "old town/annotations", tmp_path / "old town/annotations_old")
    with pytest.warns(UserWarning, match="masks are taken from annotations/.*also possible are"):
        dataset = open_dataset(tmp_path / "old town")
    assert_read(dataset, expected, splits=False)


def test_pairs_without_a_split_are_for_training_or_named(tmp_path):
    write_flat(tmp_path, 3)
    write_flat(tmp_path / "TEST", 2)
    assert count(open_dataset(tmp_path, classes=CLASSES)) == [3, 0, 2]
    write_flat(tmp_path / "train_val", 2)
    with pytest.warns(UserWarning, match="3 pairs are in no folder of a split and left out"):
        dataset = open_dataset(tmp_path, classes=CLASSES)
    assert count(dataset) == [2, 0, 2]
    for file in (tmp_path / "TEST/masks").iterdir():  # a split without any mask is left out
        file.unlink()
    with (
        pytest.warns(UserWarning, match="3 pairs are in no"),
        pytest.warns(UserWarning, match="so val and test are empty: deal its pairs out with"),
    ):
        dataset = open_dataset(tmp_path, classes=CLASSES)
    assert (count(dataset), dataset.unpaired) == ([2, 0, 0], ())
    assert [path.name for path, _ in dataset.unlabelled.pairs] == ["a0.jpg", "a1.jpg"]
    image, labels = dataset.unlabelled[1]
    assert (image.shape, labels) == ((40, 48, 3), None)
    assert repr(dataset).endswith("train 2, val 0, test 0, unlabelled 2)")
    dealt = dataset.split(fractions=(0.5, 0.5, 0))
    assert (count(dealt), len(dealt.unlabelled)) == ([1, 1, 0], 2)


@pytest.fixture
def drives(tmp_path, classes):
    """Six drives of four frames that drift; the class of `rare` is in two of them only."""
    random = np.random.default_rng(0)
    for kind in ("train", "train_labels", "val", "val_labels"):
        (tmp_path / kind).mkdir()
    for drive in range(6):
        view = Image.fromarray(random.integers(0, 256, (12, 16, 3)).astype(np.uint8))
        image = np.asarray(view.resize((64, 48), Image.Resampling.BICUBIC))
        labels = np.zeros((48, 64), np.uint8)
        labels[:, 20:] = 1
        labels[:5, :5] = 2 if drive in (1, 4) else 0
        for frame in range(4):
            split, name = "train" if frame < 3 else "val", f"drive{'abcdef'[drive]}_{frame:03d}"
            moved = np.roll(image, frame, axis=1)
            Image.fromarray(moved).save(tmp_path / split / f"{name}.png")
            colors = Image.fromarray(classes.colors[labels])
            colors.save(tmp_path / f"{split}_labels" / f"{name}_L.png")
    write_class_table(tmp_path / "class_dict.csv", classes)
    return open_dataset(tmp_path)


def drives_of(split):
    return {name.split("_")[0] for name in split.names}


def test_frames_of_a_drive_stay_together_and_a_rare_class_is_on_both_sides(drives, tmp_path):
    assert drives_of(drives.train) == drives_of(drives.val)
    dealt = drives.split(by="sequence", fractions=(0.5, 0.5, 0))
    assert count(dealt) == [12, 12, 0]
    assert not drives_of(dealt.train) & drives_of(dealt.val)
    for split in (dealt.train, dealt.val, *drives.split().splits.values()):
        assert any((labels == 2).any() for _, labels in split)
    assert count(drives.split(stratify=False)) == [16, 4, 4]
    dealt.write_splits(tmp_path / "splits.csv")
    again = open_dataset(drives.path, splits=tmp_path / "splits.csv")
    assert [split.pairs for split in again.splits.values()] == [
        split.pairs for split in dealt.splits.values()
    ]
    assert again.train.names == dealt.train.names


def test_groups_may_be_given_by_a_function_or_a_list(drives):
    groups = [name[5] in "abc" for name in drives.train.names + drives.val.names]
    dealt = drives.split(by=lambda name: name[5] in "abc", fractions=(0.5, 0.5, 0))
    assert dealt.train.names == drives.split(by=groups, fractions=(0.5, 0.5, 0)).train.names
    assert len(drives_of(dealt.train)) == 3
    for wrong in ("drive", [1, 2], None):
        with pytest.raises(ValueError, match=rf"24 groups, received {re.escape(repr(wrong))}"):
            drives.split(by=wrong)


def test_folds_are_val_once_each_and_keep_drives_whole(drives):
    drives = dataclasses.replace(drives, test=drives.val[:2], val=drives.val[2:])
    for folds in (drives.folds(3), drives.folds(3, by=lambda name: name[5], stratify=False)):
        assert [drives_of(fold.train) & drives_of(fold.val) for fold in folds] == [set()] * 3
        names = sorted(name for fold in folds for name in fold.val.names)
        assert names == sorted(drives.train.names + drives.val.names)
        assert all(fold.test is drives.test for fold in folds)
        assert [len(fold.train) + len(fold.val) for fold in folds] == [22] * 3
        assert max(len(fold.val) for fold in folds) <= 8
    first, again = (drives.folds(2, by="random", seed=seed)[0].val.names for seed in (1, 1))
    assert first == again != drives.folds(2, by="random", seed=2)[0].val.names
    with pytest.raises(ValueError, match="6 groups cannot be dealt out to 7 folds"):
        drives.folds(7)


# The embedded data set


def test_only_data_streets_as_it_is_written_is_drawn(tmp_path, monkeypatch):
    calls = []

    def write(path, *, original=scenes.write_scenes):
        calls.append(path)
        return original(path, num_scenes=7, size=(48, 64))

    monkeypatch.setattr(scenes, "write_scenes", write)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "data/streets", "streets", "../data/streets"):
        with pytest.raises(FileNotFoundError, match=r"no folder at .*streets: expected images and"):
            open_dataset(path)
    assert (calls, list(tmp_path.iterdir())) == ([], [])
    dataset = seglib.open_dataset("data/streets")
    assert dataset.classes == scenes.STREET_CLASSES
    assert count(dataset) == [5, 1, 1]
    assert len(open_dataset("data/streets/")) == len(open_dataset(tmp_path / "data/streets")) == 7
    assert calls == [pathlib.Path("data/streets")]


# Class tables, and how masks show them


@pytest.mark.filterwarnings("ignore:.*1 and 255 are taken for one class")
@pytest.mark.parametrize("encoding", folders.BINARY_ENCODINGS)
def test_black_and_white_masks_need_no_table_and_take_the_names_of_one(tmp_path, encoding):
    expected = write_folder(tmp_path, "camvid", encoding, classes=BINARY, table=False)
    dataset = open_dataset(tmp_path)
    assert dataset.classes == BINARY
    assert_read(dataset, expected)
    named = open_dataset(tmp_path, classes={"sky": (9, 9, 9), "kite": (200, 0, 0)})
    assert_read(named, expected)


def test_masks_of_ids_without_a_table_are_named_by_their_ids(tmp_path):
    for encoding in ("grey", "palette"):
        folder = tmp_path / encoding
        expected = write_folder(folder, "camvid", encoding, table=False)
        with pytest.warns(UserWarning, match=r"no class table .* ids from 0 to 3, named class_0"):
            dataset = seglib.open_dataset(folder)
        assert dataset.classes.names == ("class_0", "class_1", "class_2", "class_3")
        assert_read(dataset, expected)
    np.testing.assert_array_equal(dataset.classes.colors, CLASSES.colors)  # the palette's


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("class_names.txt", "back\nroad\ncar\ntree\n"),
        ("label_colors.txt", "0 0 0 back\n128 0 0 road\n0 128 0\tcar\n128 128 0 tree\n"),
        ("CLASS_DICT.CSV", "name,r,g,b\nback,0,0,0\nroad,128,0,0\ncar,0,128,0\ntree,128,128,0\n"),
        ("meta/_classes.csv", "Pixel Value, Class\n0, back\n1, road\n2, car\n3, tree\n"),
    ],
)
def test_class_tables_of_every_kind_are_found(tmp_path, name, content):
    expected = write_folder(tmp_path, "camvid", "palette", table=False)
    (tmp_path / "labels.txt").write_text("a0.jpg cat\na1.jpg dog\n")  # of pictures, not pixels
    (tmp_path / "labels.csv").write_text("image,label\na.png,3\n")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    dataset = open_dataset(tmp_path)
    assert dataset.classes == CLASSES
    assert_read(dataset, expected)


@pytest.mark.parametrize("encoding", ["grey", "16 bits"])
def test_255_is_ignored_in_masks_of_ids(tmp_path, encoding):
    expected = write_folder(tmp_path, "camvid", encoding)
    changed = expected["aa0"][1].copy()
    changed[:5] = 255
    folders.ENCODINGS[encoding](tmp_path / "train_labels/aa0_L", changed, CLASSES)
    dataset = open_dataset(tmp_path)
    assert (dataset.classes.ignore_label, dataset.classes.num_classes) == (255, 4)
    assert_read(dataset, {**expected, "aa0": ("train", changed)})
    void = ClassTable([*CLASSES.names[:3], "void"], CLASSES.colors, ignore_label=3)
    dataset = open_dataset(tmp_path, classes=void)
    assert dataset.classes == void
    np.testing.assert_array_equal(dataset.train[0][1], np.where(changed == 255, 3, changed))


def test_255_in_the_place_of_the_last_class_is_told(tmp_path):
    expected = write_folder(tmp_path, "no splits", "grey")
    for file in (tmp_path / "annotations").iterdir():
        labels = np.asarray(Image.open(file))
        Image.fromarray(np.where(labels == 3, 255, labels).astype(np.uint8)).save(file)
    with pytest.warns(UserWarning, match="255 is ignored, not tree; pass values="):
        dataset = open_dataset(tmp_path)
    changed = {k: (split, np.where(x == 3, 255, x)) for k, (split, x) in expected.items()}
    assert_read(dataset, changed, splits=False)


def test_ids_or_colours_can_be_chosen(tmp_path):
    """A palette that holds the table's colours in another order: the colours count."""
    turned = ClassTable(CLASSES.names, CLASSES.colors[::-1])
    expected = write_folder(tmp_path, "camvid", "palette")
    dataset = open_dataset(tmp_path, classes=turned)
    assert_read(dataset, {n: (s, 3 - labels) for n, (s, labels) in expected.items()})
    assert_read(open_dataset(tmp_path, classes=turned, encoding="ids"), expected)


def test_without_a_class_table_the_colours_found_are_offered(city, classes):
    table = city / "class_dict.csv"
    table.unlink()
    with pytest.raises(DatasetError, match=r"no class table for .*city: write") as told:
        open_dataset(city)
    table.write_text(str(told.value).partition("\n")[2])
    offered = read_class_table(table)
    assert set(offered.mapping) == set(classes.mapping)
    assert open_dataset(city).classes == offered


# More than one reading


def test_of_several_kinds_of_masks_one_is_taken_and_the_others_are_named(tmp_path):
    expected = write_folder(tmp_path, "cityscapes", "grey")
    for file in sorted(tmp_path.glob("gtFine/*/bonn/*_labelIds.png")):
        base = file.name.removesuffix("_labelIds.png")
        Image.new("RGB", (64, 48)).save(file.with_name(f"{base}_color.png"))
        Image.new("I;16", (64, 48)).save(file.with_name(f"{base}_instanceIds.png"))
        file.with_name(f"{base}_polygons.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"are taken from .*_labelIds.png; also possible .*_color"):
        dataset = open_dataset(tmp_path)
    assert (dataset.unpaired, len(dataset)) == ((), 8)
    assert_read(open_dataset(tmp_path, masks="gtFine/**/*_labelIds.png"), expected)


def test_masks_of_another_kind_beside_the_first_are_not_missed(tmp_path):
    folder = write_flat(tmp_path, 3)
    for mask in sorted((folder / "masks").iterdir()):
        Image.new("RGB", (48, 40)).save(mask.with_stem(f"{mask.stem}_inst-v2"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*also possible are")
        dataset = open_dataset(folder, classes=CLASSES)
    assert (dataset.unpaired, len(dataset)) == ((), 3)
    masks = [mask.stem for split in dataset.splits.values() for _, mask in split.pairs]
    assert sorted(masks) == ["a0", "a1", "a2"]


@pytest.mark.parametrize("vessels", ["1st_manual", "manual1", "vessels"])
def test_masks_that_are_all_alike_give_way_to_others(tmp_path, vessels):
    """The camera's field of view lies in a folder that is called mask."""
    rows, columns = np.indices((48, 64))
    for i in range(6):
        image, labels = folders.create_pair(i)
        disc = (rows - 24 - i % 2) ** 2 + (columns - 32) ** 2 < 500
        for name, picture in (
            (f"images/{i}_training.tif", image),
            (f"mask/{i}_training_mask.gif", 255 * disc.astype(np.uint8)),
            (f"{vessels}/{i}_manual1.gif", 255 * (labels > 1).astype(np.uint8)),
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / name)
    words = rf"are taken from {vessels}/\*_manual1.gif; also possible are masks='mask/\*_training_"
    with pytest.warns(UserWarning, match=words):
        dataset = open_dataset(tmp_path)
    assert {mask.parent.name for _, mask in dataset.train.pairs} == {vessels}
    assert dataset.unpaired == ()
    chosen = open_dataset(tmp_path, masks="mask/*_training_mask.gif")
    assert {mask.parent.name for _, mask in chosen.train.pairs} == {"mask"}


@pytest.mark.parametrize(
    "layout",
    [
        "{}.png {}_mask.png {}_mask_1.png",
        "a/{}.png masks/{}_L_1.png masks/{}_L_2.png",
        "a/{}.png masks/{}_mask.png masks/{}_mask-01.png",
    ],
)
def test_a_second_mask_file_is_neither_a_photograph_nor_passed_over(tmp_path, layout):
    """Black and white ones are one mask; others are told."""
    image, *masks = layout.split()
    for i in "xyz":
        for half, template in enumerate((image, *masks)):
            (tmp_path / template.format(i)).parent.mkdir(exist_ok=True)
            pixels = np.zeros((8, 8), np.uint8)
            pixels[:, 2 * half : 2 * half + 2] = 255
            Image.fromarray(pixels).save(tmp_path / template.format(i))
    with pytest.warns(UserWarning, match="6 mask files of 3 pictures, .* objects of one class"):
        dataset = open_dataset(tmp_path)
    assert (len(dataset), dataset.unpaired) == (3, ())
    assert (dataset.train[0][1][0] == [0, 0, 1, 1, 1, 1, 0, 0]).all()
    ids = np.arange(64, dtype=np.uint8).reshape(8, 8) // 8
    for i in "xyz":
        Image.fromarray(ids).save(tmp_path / masks[1].format(i))
    for unpaired in ("error", "skip"):
        with pytest.raises(DatasetError, match=r"differ by a number alone: .* merge"):
            open_dataset(tmp_path, unpaired=unpaired)


def test_mask_files_go_to_the_picture_of_their_number(tmp_path):
    """As in CelebAMask-HQ: 3.jpg, and 1/00003_hair.png, in which folder 1 is not picture 1."""
    for i in (0, 1, 3, 10000):
        (tmp_path / "img").mkdir(exist_ok=True)
        Image.new("RGB", (12, 8)).save(tmp_path / f"img/{i}.jpg")
        (tmp_path / f"masks/{i // 3 % 4}").mkdir(parents=True, exist_ok=True)
        for kind, left in (("hair", 0), ("skin", 4)):
            pixels = np.zeros((8, 12), np.uint8)
            pixels[: i % 7 + 1, left : left + 4] = 255
            Image.fromarray(pixels).save(tmp_path / f"masks/{i // 3 % 4}/{i:05d}_{kind}.png")
    with pytest.warns(UserWarning, match="8 mask files of 4 pictures, .* classes, hair, skin"):
        dataset = open_dataset(tmp_path)
    for split in dataset.splits.values():
        for name, (_, labels) in zip(split.names, split, strict=True):
            assert (labels[:, 0] > 0).sum() == int(name) % 7 + 1
            assert set(np.unique(labels)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("image", "mask"),
    [("{}/image.jpg", "{}/mask.png"), ("photos/{}.jpg", "masks/{:03}.png"),
     ("t{}-volume.tif", "t{}-labels.tif")],
)  # fmt: skip
def test_names_that_agree_but_for_words_or_zeros(tmp_path, image, mask):
    for i in range(1, 12):
        for name, pixels in ((image, np.zeros((8, 9), np.uint8)), (mask, np.eye(8, 9, dtype=bool))):
            (tmp_path / name.format(i)).parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name.format(i))
    dataset = open_dataset(tmp_path)
    pairs = [pair for split in dataset.splits.values() for pair in split.pairs]
    for i in range(1, 12):
        assert (tmp_path / image.format(i), tmp_path / mask.format(i)) in pairs


def test_a_number_is_not_the_ending_of_another(tmp_path):
    names = ["images/1.jpg", "images/2.jpg", "images/10000.jpg", "masks/10000_hair.png"]
    names += ["masks/20000_hair.png", "masks/10000_skin.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = open_dataset(tmp_path, unpaired="skip")
    assert [split.names for split in dataset.splits.values()] == [["10000"], [], []]
    assert dataset.classes.names == ("background", "hair", "skin")
    assert dataset.unlabelled.names == ["1", "2"]


@pytest.mark.parametrize("layout", ["split in the names of folders", "brackets"])
def test_the_folders_that_are_named_can_be_passed_on(tmp_path, layout):
    write_folder(tmp_path, layout, "grey")
    first = open_dataset(tmp_path)
    masks = [mask for split in first.splits.values() for _, mask in split.pairs]
    for mask in masks:
        name = re.sub("masks|annotations|annot", "labels", mask.parent.name)
        other = mask.parent.parent / name / mask.name
        other.parent.mkdir(exist_ok=True)
        Image.new("L", (64, 48)).save(other)
    with pytest.warns(UserWarning, match="also possible are") as told:
        open_dataset(tmp_path)
    patterns = re.findall(r"masks='([^']+)'", str(told[0].message))
    assert len(set(patterns)) == 2
    found = [open_dataset(tmp_path, masks=pattern) for pattern in patterns]
    named = {
        mask for dataset in found for split in dataset.splits.values() for _, mask in split.pairs
    }
    assert len(named) == 2 * len(masks) == 16


def test_folders_of_any_name_can_be_named(tmp_path):
    expected = write_folder(tmp_path / "old", "no splits")
    (tmp_path / "new").mkdir()
    for old, new in (("images", "Bilder"), ("annotations", "Umrisse"), ("class_dict.csv",) * 2):
        (tmp_path / "old" / old).rename(tmp_path / "new" / new)
    folder = tmp_path / "new"
    with pytest.raises(DatasetError, match=r"or other folders, passed as images= and masks="):
        open_dataset(folder)
    for masks in ("Umrisse", "./Umrisse/", folder / "Umrisse", "Umrisse/*.png"):
        assert_read(open_dataset(folder, images="Bilder", masks=masks), expected, splits=False)


# What users run into


def test_what_has_no_other_half_is_an_error_or_skipped(tmp_path):
    expected = write_folder(tmp_path, "camvid")
    (tmp_path / "train_labels/aa0_L.png").unlink()
    (tmp_path / "val/ee4.png").unlink()
    with pytest.raises(
        DatasetError,
        match=r"2 pictures have no other half, first .*train.aa0.png: expected every mask to be "
        r'named like \w+_labels/\w+_L.png of .*or pass unpaired="skip"',
    ):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, unpaired="skip")
    assert [file.name for file in dataset.unpaired] == ["aa0.png", "ee4_L.png"]
    del expected["aa0"], expected["ee4"]
    assert_read(dataset, expected)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no pairs of image and mask in .*folder: expected train/ .*; found nothing$"),
        (["notes.txt", "photos/a.png"], r"found notes.txt, photos/$"),
        ([f"{i:02d}.png" for i in range(12)], r"found 00.png, .*09.png, …$"),
        (["a/x.png", "a/x.jpg", "a_labels/x.png"], r"x.jpg and .*x.png have the same name"),
    ],
)
def test_folders_that_cannot_be_paired(tmp_path, names, words):
    with pytest.raises(DatasetError, match=words):
        open_dataset(touch(tmp_path / "folder", *names), classes=CLASSES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"encoding": "colours"}, "encoding to be auto, ids, colors, binary.*received .colours"),
        ({"unpaired": "drop"}, "unpaired to be error or skip.*drop"),
        ({"masks": "mask"}, r"masks='mask' matches no picture in .*: expected a folder below it"),
        ({"classes": {0: "back", 2: "road"}}, r"no class table fits .* classes= has no row for \("),
        (
            {"values": {0: "back"}},
            "values= is for masks of one channel, but 8 masks are of colours",
        ),
    ],
)
def test_wrong_arguments(city, arguments, words):
    with pytest.raises(ValueError, match=words):
        open_dataset(city, **arguments)


def test_missing_files_are_told(city):
    for path, arguments in (
        (city / "gone", {}),
        (city, {"classes": city / "gone.csv"}),
        (city, {"splits": city / "gone.csv"}),
    ):
        with pytest.raises(FileNotFoundError, match=r"no (folder|class table|splits) at"):
            open_dataset(path, **arguments)
    (city / "class_dict.csv").write_text("image,label\na.png,3\n")
    with pytest.raises(ValueError, match=r"class_dict.csv: expected the columns name, r, g, b"):
        open_dataset(city)


@pytest.mark.camvid
def test_camvid(camvid):
    dataset = open_dataset(camvid)
    assert count(dataset) == [367, 101, 0]
    assert (dataset.classes.num_classes, dataset.classes.ignore_label) == (12, 11)
    present = np.zeros(12, int)
    for _, labels in dataset.val:
        present += np.bincount(labels.ravel(), minlength=12) > 0
    assert present.min() > 0.2 * len(dataset.val)
