"""Pairs, splits and class tables of data sets in every layout and encoding."""

import dataclasses
import functools
import itertools
import pathlib
import re
import shutil
import subprocess
import sys
from unittest import mock

import folders
import numpy as np
import pytest
from folders import BINARY, CLASSES, save, write_folder, write_texts
from PIL import Image

import seglib
from seglib import scenes
from seglib.classes import ClassTable, read_class_table, write_class_table
from seglib.datasets import open_dataset
from seglib.images import DatasetError
from seglib.masks import propose_class_table


def write_flat(folder, count):
    """`images/` and `masks/` with so many pairs."""
    for i in range(count):
        save(folder / f"images/a{i}.jpg")
        save(folder / f"masks/a{i}.png", np.full((8, 8), i % 4))


def count(dataset):
    return [len(split) for split in dataset.splits.values()]


def names(dataset):
    return [split.names for split in dataset.splits.values()]


def pairs(dataset):
    return [pair for split in dataset.splits.values() for pair in split.pairs]


def assert_read(dataset, expected, *, share=1.0):
    """Every pair is there, in its split, with the labels that were written."""
    assert sorted(itertools.chain(*names(dataset))) == sorted(expected)
    for split_name, split in dataset.splits.items():
        for name, (image, labels) in zip(split.names, split, strict=True):
            own_split, written = expected[name]
            assert own_split in (None, split_name)
            assert image.shape == (*labels.shape, 3)
            assert (labels == written).mean() >= share


CASES = [(layout, "rgb") for layout in folders.LAYOUTS]
CASES += [("camvid", encoding) for encoding in folders.ENCODINGS]
CASES += [("suffix in one folder", encoding) for encoding in ("grey", "palette", "jpeg")]


@pytest.mark.parametrize(("layout", "encoding"), CASES)
def test_every_layout_and_every_encoding(tmp_path, layout, encoding):
    expected = write_folder(tmp_path, layout, encoding)
    dataset = open_dataset(tmp_path)
    assert dataset.classes == CLASSES
    assert_read(dataset, expected, share=0.99 if encoding == "jpeg" else 1)
    assert count(dataset) == ([4, 2, 2] if "{split}" in folders.LAYOUTS[layout][0] else [6, 1, 1])


def test_what_is_there_by_chance_is_passed_over(tmp_path):
    expected = write_folder(tmp_path, "spaces and accents")
    for file in sorted((tmp_path / "my masks").iterdir()):
        file.rename(file.with_name(file.name.replace("\u00e9", "e\u0301")))  # as macOS writes it
    by_chance = ("my images/.b.png", "__MACOSX/train/._aa0.png", "notes.txt", "previews/aa0.png")
    write_texts(tmp_path, dict.fromkeys(by_chance, ""))
    assert_read(open_dataset(tmp_path), expected)


def test_a_split_is_a_sequence_and_a_dataset_counts_its_pairs(city, classes, write_pair, tmp_path):
    dataset = open_dataset(city)
    assert dataset.classes == classes
    assert repr(dataset) == "Dataset(city: 4 classes, train 4, val 2, test 2)"
    assert repr(dataset.val) == "Split(2 pairs)"
    assert list(dataset.splits.values()) == [dataset.train, dataset.val, dataset.test]
    expected = write_pair(tmp_path / "a.png", tmp_path / "b.png", seed=5)
    for found, known in zip(dataset.val[-1], expected, strict=True):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, known)
    assert dataset.train[1:3].names == ["scene_1", "scene_2"]
    assert list(dataset.train[4:]) == []


def test_opening_and_reading_imports_no_keras(city):
    program = "import sys, seglib; seglib.open_dataset(sys.argv[1]).train[0]; print(*sys.modules)"
    command = [sys.executable, "-c", program, str(city)]
    modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert not {"keras", "tensorflow", "torch", "jax", "pandas", "matplotlib"} & set(modules)


# Splits


def test_pascal_voc_with_its_lists(tmp_path):
    write_folder(tmp_path, "voc", "palette", table=False)
    save(tmp_path / "JPEGImages/without_mask.jpg", np.zeros((48, 64, 3)))
    write_texts(tmp_path, {"meta/CLASS_NAMES.TXT": "back\nroad\ncar\ntree\n"})
    write_texts(tmp_path / "ImageSets", {"Segmentation/val.txt": "dd3\nee4\n\n"})
    assert open_dataset(tmp_path).train.names == ["aa0", "bb1", "cc2", "ff5", "gg6", "hh7"]
    both = {"Segmentation/trainval.txt": "aa0\nbb1\ncc2\ndd3\nee4\n", "Main/train.txt": "hh7\n"}
    write_texts(tmp_path / "ImageSets", both | {"Segmentation/train.txt": "aa0\nbb1\ncc2\n"})
    dataset = open_dataset(tmp_path)
    assert names(dataset) == [["aa0", "bb1", "cc2"], ["dd3", "ee4"], []]
    assert dataset.classes == CLASSES


def test_lists_tell_pictures_of_one_name_apart_by_their_folders(tmp_path):
    for place, i in itertools.product("pqr", range(2)):
        save(tmp_path / f"data/images/{place}/a{i}.jpg")
        save(tmp_path / f"data/masks/{place}/a{i}.png")
    lists = {
        "train.txt": "p/a0\n/data/images/p/a1.jpg\nq/a0.jpg,q/a0.png\n",
        "val.txt": "images\\r\\a0.jpg masks/r/a0\np/a1\na1\n",
    }
    write_texts(tmp_path / "data", lists)
    with pytest.warns(UserWarning, match=r"val.txt lists 2 pictures without a pair, or that anoth"):
        dataset = open_dataset(tmp_path / "data", classes=CLASSES)
    assert names(dataset) == [["p/a0", "p/a1", "q/a0"], ["r/a0"], []]


@pytest.mark.parametrize(
    "folders",
    ["traincrop valcrop testcrop", "trainset devset testset", "trainval eval TEST", "tr va te"],
)
def test_folders_of_splits_have_many_names(tmp_path, folders):
    for pairs, folder in zip((3, 2, 1), folders.split(), strict=True):
        write_flat(tmp_path / folder, pairs)
    assert count(open_dataset(tmp_path, classes=CLASSES)) == [3, 2, 1]
    for folder in folders.split():  # traincrop and traincrop_labels
        (tmp_path / folder / "masks").rename(tmp_path / f"{folder}_labels")
        (tmp_path / folder / "images").rename(tmp_path / f"{folder} images")
    assert count(open_dataset(tmp_path, classes=CLASSES)) == [3, 2, 1]


@pytest.mark.parametrize("name", ["{}_list.txt", "{}files.txt", "lists/{}_set.txt"])
def test_lists_of_splits_have_many_names(tmp_path, name):
    write_flat(tmp_path, 6)
    lists = {"train": ["a1", "a3", "a5"], "val": ["a0", "a4"], "test": ["a2"]}
    write_texts(tmp_path, {name.format(split): "\n".join(own) for split, own in lists.items()})
    assert names(open_dataset(tmp_path, classes=CLASSES)) == list(lists.values())


def test_words_that_name_splits_elsewhere_are_but_names(tmp_path):
    for folder in ("VA", "MD", "TX"):  # no training beside it
        write_flat(tmp_path / folder, 2)
    assert count(open_dataset(tmp_path, classes=CLASSES)) == [4, 1, 1]
    for half in ("images/{}.jpg", "masks/{}.png"):
        (tmp_path / "MD" / half.format("a0")).rename(tmp_path / "MD" / half.format("photo"))
    assert count(open_dataset(tmp_path, classes=CLASSES)) == [4, 1, 1]


def test_tables_of_splits_that_are_not_read_are_told(tmp_path):
    write_flat(tmp_path, 6)
    write_texts(tmp_path, {"folds.json": '{"a0": 0, "a1": 1}'})
    with pytest.warns(UserWarning, match="folds.json may say what is in which split, but is not r"):
        dataset = open_dataset(tmp_path, classes=CLASSES)
    dataset.write_splits(tmp_path / "splits.csv")
    assert len(open_dataset(tmp_path, classes=CLASSES, splits=tmp_path / "splits.csv")) == 6


def test_folders_above_the_data_set_name_no_class(tmp_path):
    expected = write_folder(tmp_path / "old town", "no splits", "0 and 255", classes=BINARY)
    shutil.copytree(tmp_path / "old town/annotations", tmp_path / "old town/annotations_old")
    with pytest.warns(UserWarning, match="masks are taken from annotations/.*also possible are"):
        dataset = open_dataset(tmp_path / "old town")
    assert_read(dataset, expected)


@pytest.mark.filterwarnings("ignore:.*3 pairs are in no")
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
    with pytest.warns(UserWarning, match="so val and test are empty: deal its pairs out with"):
        dataset = open_dataset(tmp_path, classes=CLASSES)
    assert (count(dataset), dataset.unpaired) == ([2, 0, 0], ())
    assert [path.name for path, _ in dataset.unlabelled.pairs] == ["a0.jpg", "a1.jpg"]
    assert repr(dataset).endswith("train 2, val 0, test 0, unlabelled 2)")
    dealt = dataset.split(fractions=(0.5, 0.5, 0))
    assert (count(dealt), len(dealt.unlabelled)) == ([1, 1, 0], 2)


@pytest.fixture
def drives(tmp_path, classes):
    """Six drives of four frames that drift; class 2 is in two of them only."""
    random = np.random.default_rng(0)
    for drive in range(6):
        view = Image.fromarray(random.integers(0, 256, (12, 16, 3)).astype(np.uint8))
        image = np.asarray(view.resize((64, 48), Image.Resampling.BICUBIC))
        labels = np.zeros((48, 64), np.uint8)
        labels[:, 20:] = 1
        labels[:5, :5] = 2 * (drive in (1, 4))
        for frame in range(4):
            split, name = "train" if frame < 3 else "val", f"drive{'abcdef'[drive]}_{frame:03d}"
            save(tmp_path / split / f"{name}.png", np.roll(image, frame, axis=1))
            save(tmp_path / f"{split}_labels/{name}_L.png", classes.colors[labels])
    write_class_table(tmp_path / "class_dict.csv", classes)
    return open_dataset(tmp_path)


def drives_of(split):
    return {name.split("_")[0] for name in split.names}


def test_frames_of_a_drive_stay_together_and_rare_classes_are_shared(drives, tmp_path):
    assert drives_of(drives.train) == drives_of(drives.val)
    dealt = drives.split(by="sequence", fractions=(0.5, 0.5, 0))
    assert count(dealt) == [12, 12, 0]
    assert not drives_of(dealt.train) & drives_of(dealt.val)
    for split in (dealt.train, dealt.val, *drives.split().splits.values()):
        assert any((labels == 2).any() for _, labels in split)
    assert count(drives.split(stratify=False)) == [16, 4, 4]
    dealt.write_splits(tmp_path / "splits.csv")
    again = open_dataset(drives.path, splits=tmp_path / "splits.csv")
    assert (names(again), pairs(again)) == (names(dealt), pairs(dealt))
    with pytest.raises(FileNotFoundError, match=r"no splits at .*gone.csv"):
        open_dataset(drives.path, splits=tmp_path / "gone.csv")


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


def test_only_data_streets_as_it_is_written_is_drawn(tmp_path, monkeypatch):
    draw = functools.partial(scenes.write_scenes, num_scenes=7, size=(48, 64))
    write = mock.Mock(side_effect=draw)
    monkeypatch.setattr(scenes, "write_scenes", write)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "data/streets", "streets", "../data/streets"):
        with pytest.raises(FileNotFoundError, match=r"no folder at .*streets: expected images and"):
            open_dataset(path)
    assert list(tmp_path.iterdir()) == []
    dataset = seglib.open_dataset("data/streets")
    assert dataset.classes == scenes.STREET_CLASSES
    assert count(dataset) == [5, 1, 1]
    assert len(open_dataset("data/streets/")) == len(open_dataset(tmp_path / "data/streets")) == 7
    write.assert_called_once_with(pathlib.Path("data/streets"))


# Class tables, and how masks show them


@pytest.mark.filterwarnings("ignore:.*1 and 255 are taken for one class")
@pytest.mark.parametrize("encoding", folders.BINARY_ENCODINGS)
def test_black_and_white_masks_need_no_table_and_take_the_names_of_one(tmp_path, encoding):
    expected = write_folder(tmp_path, "camvid", encoding, classes=BINARY, table=False)
    dataset = open_dataset(tmp_path)
    assert dataset.classes == BINARY
    assert_read(dataset, expected)
    named = {"sky": (9, 9, 9), "kite": (200, 0, 0)}
    assert_read(open_dataset(tmp_path, classes=named), expected)


def test_masks_of_ids_without_a_table_are_named_by_their_ids(tmp_path):
    for encoding in ("grey", "palette"):
        folder = tmp_path / encoding
        expected = write_folder(folder, "camvid", encoding, table=False)
        write_texts(folder, {"labels.txt": "a0.jpg cat\n", "labels.csv": "image,label\na.png,3\n"})
        with pytest.warns(UserWarning, match=r"no class table .* ids from 0 to 3, named class_0"):
            dataset = seglib.open_dataset(folder)
        assert dataset.classes.names == ("class_0", "class_1", "class_2", "class_3")
        assert_read(dataset, expected)
    np.testing.assert_array_equal(dataset.classes.colors, CLASSES.colors)  # the palette's


@pytest.mark.parametrize("encoding", ["grey", "16 bits"])
def test_255_is_ignored_in_masks_of_ids(tmp_path, encoding):
    top = np.arange(48)[:, None] < 5
    expected = write_folder(tmp_path, "camvid", encoding, change=lambda x: np.where(top, 255, x))
    dataset = open_dataset(tmp_path)
    assert (dataset.classes.ignore_label, dataset.classes.num_classes) == (255, 4)
    assert_read(dataset, expected)
    void = ClassTable([*CLASSES.names[:3], "void"], CLASSES.colors, ignore_label=3)
    dataset = open_dataset(tmp_path, classes=void)
    assert dataset.classes == void
    assert_read(dataset, {n: (s, np.where(x == 255, 3, x)) for n, (s, x) in expected.items()})


def test_255_in_the_place_of_the_last_class_is_told(tmp_path):
    expected = write_folder(tmp_path, encoding="grey", change=lambda x: np.where(x == 3, 255, x))
    with pytest.warns(UserWarning, match="255 is ignored, not tree; pass values="):
        assert_read(open_dataset(tmp_path), expected)


def test_ids_or_colours_can_be_chosen(tmp_path):
    """A palette that holds the table's colours in another order: the colours count."""
    turned = ClassTable(CLASSES.names, CLASSES.colors[::-1])
    expected = write_folder(tmp_path, "camvid", "palette")
    dataset = open_dataset(tmp_path, classes=turned)
    assert_read(dataset, {n: (s, 3 - labels) for n, (s, labels) in expected.items()})
    assert_read(open_dataset(tmp_path, classes=turned, encoding="ids"), expected)


def test_colours_are_offered_without_a_class_table_and_a_broken_one_is_named(city, classes):
    table = city / "class_dict.csv"
    table.unlink()
    with pytest.raises(DatasetError, match=r"no class table for .*city: write") as told:
        open_dataset(city)
    table.write_text(str(told.value).partition("\n")[2])
    assert set(read_class_table(table).mapping) == set(classes.mapping)
    assert open_dataset(city).classes == read_class_table(table)
    table.write_text("image,label\na.png,3\n")
    with pytest.raises(ValueError, match=r"class_dict.csv: expected the columns name, r, g, b"):
        open_dataset(city)


# More than one reading


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
    for i, (half, template) in itertools.product("xyz", enumerate(layout.split())):
        save(tmp_path / template.format(i), [np.repeat(255 * (np.arange(4) == half), 2)] * 8)
    with pytest.warns(UserWarning, match="6 mask files of 3 pictures, .* objects of one class"):
        dataset = open_dataset(tmp_path)
    assert (len(dataset), dataset.unpaired) == (3, ())
    assert (dataset.train[0][1][0] == [0, 0, 1, 1, 1, 1, 0, 0]).all()
    for i in "xyz":
        save(tmp_path / template.format(i), np.arange(64).reshape(8, 8) // 8)
    for unpaired in ("error", "skip"):
        with pytest.raises(DatasetError, match=r"differ by a number alone: .* merge"):
            open_dataset(tmp_path, unpaired=unpaired)


@pytest.mark.filterwarnings("ignore:.*count as unlabelled")
def test_mask_files_go_to_the_picture_of_their_number(tmp_path):
    """As in CelebAMask-HQ: 3.jpg, and 1/00003_hair.png, in which folder 1 is not picture 1."""
    for i in (0, 1, 3, 10000):
        save(tmp_path / f"img/{i}.jpg", np.zeros((8, 12)))
        for kind, left in (("hair", 0), ("skin", 4)):
            pixels = np.zeros((8, 12), np.uint8)
            pixels[: i % 7 + 1, left : left + 4] = 255
            save(tmp_path / f"masks/{i // 3 % 4}/{i:05d}_{kind}.png", pixels)
    save(tmp_path / "img/2.jpg", np.zeros((8, 12)))
    save(tmp_path / "masks/3/20000_hair.png", np.zeros((8, 12)))
    with pytest.warns(UserWarning, match="8 mask files of 4 pictures, .* classes, hair, skin"):
        dataset = open_dataset(tmp_path, unpaired="skip")
    assert (len(dataset), dataset.unlabelled.names) == (4, ["2"])
    assert dataset.classes.names == ("background", "hair", "skin")
    for split in dataset.splits.values():
        for name, (_, labels) in zip(split.names, split, strict=True):
            assert (labels[:, 0] > 0).sum() == int(name) % 7 + 1
            assert set(np.unique(labels)) == {0, 1, 2}


@pytest.mark.filterwarnings("ignore:.*also possible are", "ignore:.*only train has masks")
@pytest.mark.parametrize(
    ("image", "mask", "other"),
    [
        ("{i}{side}/image.jpg", "{i}{side}/mask.png", ""),
        ("photos/{side}/{i}.jpg", "masks/{side}/{i:03}.png", ""),
        ("{side}{i}-volume.tif", "{side}{i}-labels.tif", ""),
        ("leftImg8bit/{side}/{i}.jpg", "gtFine/{side}/{i}.png", ""),  # both bear the word left
        ("images/{side}{i}.jpg", "masks/{side}{i}.png", "masks/{side}{i}_inst-v2.png"),
        ("imagesTr/{side}{i}_0000.jpg", "labelsTr/{side}{i}.png", "imagesTs/x{i}.jpg"),  # nnU-Net
    ],
)
def test_names_that_agree_but_for_words_or_zeros(tmp_path, image, mask, other):
    expected, others = [], set()
    for i, side in itertools.product(range(1, 12), ("left", "right")):
        paths = [tmp_path / name.format(i=i, side=side) for name in (image, mask)]
        expected.append((save(paths[0]), save(paths[1], np.eye(8), bool)))
        others |= {save(tmp_path / other.format(i=i, side=side))} if other else set()
    dataset = open_dataset(tmp_path)
    assert sorted(pairs(dataset)) == sorted(expected)
    unlabelled = {path for path, _ in dataset.unlabelled.pairs}
    assert unlabelled == {path for path in others if "imagesTs" in path.parts}
    assert dataset.unpaired == ()


@pytest.mark.parametrize(
    ("layout", "old", "new"),
    [
        ("split in the names of folders", "masks", "labels"),
        ("brackets", "masks", "labels"),
        ("nested", "_seg.png", "_color.png"),
    ],
)
def test_masks_that_a_warning_names_can_be_passed_on(tmp_path, layout, old, new):
    expected = write_folder(tmp_path, layout, "grey")
    for _, mask in pairs(open_dataset(tmp_path)):
        save(tmp_path / str(mask.relative_to(tmp_path)).replace(old, new), np.zeros((48, 64)))
    with pytest.warns(UserWarning, match="also possible are") as told:
        assert_read(open_dataset(tmp_path), expected)
    patterns = set(re.findall(r"masks='([^']+)'", str(told[0].message)))
    found = [open_dataset(tmp_path, masks=pattern) for pattern in patterns]
    named = {mask for dataset in found for _, mask in pairs(dataset)}
    assert (len(patterns), len(named)) == (2, 16)


def test_folders_of_any_name_can_be_named(tmp_path):
    expected = write_folder(tmp_path)
    (tmp_path / "images").rename(tmp_path / "Bilder")
    (tmp_path / "annotations").rename(tmp_path / "Umrisse")
    with pytest.raises(DatasetError, match=r"or other folders, passed as images= and masks="):
        open_dataset(tmp_path)
    for masks in ("Umrisse", "./Umrisse/", tmp_path / "Umrisse", "Umri*/**/*.png"):
        assert_read(open_dataset(tmp_path, images="Bilder", masks=masks), expected)


# What users run into


@pytest.mark.filterwarnings("ignore:.*are left out")
def test_what_has_no_other_half_is_an_error_or_skipped(tmp_path):
    """Nothing pairs in test/: its photograph is one without mask, its mask is left out."""
    expected = write_folder(tmp_path, "camvid")
    for file in ("train_labels/aa0_L", "val/ee4", "test_labels/gg6_L", "test/hh7"):
        (tmp_path / f"{file}.png").unlink()
    words = r"2 pictures have no other half, first .*aa0.png: expected every mask to be named like "
    words += r'\w+_labels/\w+_L.png of .*or pass unpaired="skip"'
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path)
    with pytest.warns(UserWarning, match="masks of test have no .* first test_labels/hh7_L.png"):
        dataset = open_dataset(tmp_path, unpaired="skip")
    assert [file.name for file in dataset.unpaired] == ["aa0.png", "ee4_L.png"]
    assert dataset.unlabelled.names == ["gg6"]
    assert_read(dataset, {name: expected[name] for name in ("bb1", "cc2", "dd3", "ff5")})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no pairs of image and mask in .*: expected train/ .*; found nothing$"),
        (["notes.txt", "photos/a.png"], r"found notes.txt, photos/$"),
        ([f"{i:02d}.png" for i in range(12)], r"found 00.png, .*09.png, …$"),
        (["a/x.png", "a/x.jpg", "a_labels/x.png"], r"x.jpg and .*x.png have the same name"),
    ],
)
def test_folders_that_cannot_be_paired(tmp_path, names, words):
    write_texts(tmp_path, dict.fromkeys(names, ""))
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path, classes=CLASSES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"encoding": "colours"}, "encoding to be auto, ids, colors, binary.*received .colours"),
        ({"unpaired": "drop"}, "unpaired to be error or skip.*drop"),
        ({"masks": "mask"}, r"masks='mask' matches no picture in .*: expected a folder below it"),
        ({"classes": {0: "back", 2: "road"}}, r"no class table fits .* classes= has no row for \("),
        ({"values": {0: "back"}}, "values= is for .* of one channel, but 8 masks are of colours"),
    ],
)
def test_wrong_arguments(city, arguments, words):
    with pytest.raises(ValueError, match=words):
        open_dataset(city, **arguments)


@pytest.mark.camvid
def test_camvid(camvid):
    dataset = open_dataset(camvid)
    assert count(dataset) == [367, 101, 0]
    assert (dataset.classes.num_classes, dataset.classes.ignore_label) == (12, 11)
    present = sum(np.bincount(labels.ravel(), minlength=12) > 0 for _, labels in dataset.val)
    assert present.min() > 0.2 * len(dataset.val)
    proposed = propose_class_table(sorted(camvid.glob("*_labels/*")))
    assert set(proposed.mapping) == set(dataset.classes.mapping)
