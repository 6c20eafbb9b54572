import re

import numpy as np
import pytest
from PIL import Image

import seglib
from seglib import scenes
from seglib.classes import ClassTable, read_class_table, write_class_table
from seglib.datasets import open_dataset
from seglib.encodings import read_labels
from seglib.images import DatasetError


@pytest.fixture
def touch(tmp_path):
    """Function that makes empty files in a data set's folder; returns the folder."""

    def make(*names):
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        return folder

    return make


def test_pairs_splits_and_classes_are_found(city, classes, write_pair, tmp_path):
    dataset = seglib.open_dataset(city)
    assert dataset.classes == classes
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [4, 2, 2]
    assert len(dataset) == 8
    assert dataset.train.names == [f"scene_{i}" for i in range(4)]
    assert dataset.splits == {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    expected = write_pair(tmp_path / "a.png", tmp_path / "b.png", seed=5)
    image, labels = dataset.val[1]
    assert (image.dtype, labels.dtype) == (np.uint8, np.uint8)
    np.testing.assert_array_equal(image, expected[0])
    np.testing.assert_array_equal(labels, expected[1])


def test_a_split_is_a_sequence(city):
    train = open_dataset(city).train
    assert len(list(train)) == 4
    np.testing.assert_array_equal(train[-1][0], train[3][0])
    assert train[1:3].names == ["scene_1", "scene_2"]
    assert len(train[4:]) == 0
    with pytest.raises(IndexError):
        train[4]


def test_representations_count_the_pairs(city):
    dataset = open_dataset(city)
    assert repr(dataset) == "Dataset(city: 4 classes, train 4, val 2, test 2)"
    assert repr(dataset.val) == "Split(2 pairs)"


def test_an_absent_split_has_length_0(touch, classes):
    folder = touch("train/a.png", "train_labels/a_L.png", "val/b.jpg", "val_labels/b_L.png")
    dataset = open_dataset(folder, classes=classes)
    assert [len(dataset.train), len(dataset.val), len(dataset.test)] == [1, 1, 0]
    assert dataset.test.names == []
    assert list(dataset.test) == []


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("train/a.png", "train_labels/a_L.png"),
        ("train/a.jpg", "train_masks/a.png"),
        ("train/images/a.JPG", "train/masks/a_mask.png"),
        ("training/images/a.webp", "training/annotations/a.png"),
        ("images/train/a.png", "labels/train/a_gt.bmp"),
        ("images/training/a.png", "annotations/training/a.png"),
        ("train_images/a.tif", "train_labels/a_label.tiff"),
    ],
)
def test_layouts_with_splits(touch, classes, image, mask):
    validation = [name.replace("training", "validation") for name in (image, mask)]
    validation = [name.replace("train", "valid") for name in validation]
    folder = touch(image, mask, *validation)
    dataset = open_dataset(folder, classes=classes)
    assert dataset.train.pairs == [(folder / image, folder / mask)]
    assert dataset.val.pairs == [(folder / validation[0], folder / validation[1])]
    assert len(dataset.test) == 0


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("images/{}.jpg", "labels/{}_L.png"),
        ("imgs/{}.png", "annotations/{}_labels.png"),
        ("image/{}.jpeg", "mask/{}_mask.png"),
    ],
)
def test_layouts_without_splits(touch, classes, image, mask):
    stems = [f"scene {i:02d}.x" for i in range(20)]
    folder = touch(*(kind.format(stem) for stem in stems for kind in (image, mask)))
    dataset = open_dataset(folder, classes=classes)
    assert [len(split) for split in dataset.splits.values()] == [14, 3, 3]
    for split in dataset.splits.values():
        for image_path, mask_path in split.pairs:
            assert image_path == folder / image.format(image_path.stem)
            assert mask_path == folder / mask.format(image_path.stem)


def test_what_is_no_picture_is_passed_over(touch, classes):
    folder = touch(
        "images/a.png", "masks/a.png", "images/Thumbs.db", "masks/.hidden.png", "readme.txt"
    )
    assert len(open_dataset(folder, classes=classes)) == 1


# Folders without splits


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 20, 101])
@pytest.mark.parametrize("fractions", [(0.7, 0.15, 0.15), (0.5, 0.5, 0), (1, 0, 0), (0, 0.5, 0.5)])
def test_no_pair_is_dropped_or_dealt_out_twice(touch, classes, count, fractions):
    folder = touch(*(f"{kind}/{i:03d}.png" for kind in ("images", "masks") for i in range(count)))
    dataset = open_dataset(folder, classes=classes, fractions=fractions)
    names = [name for split in dataset.splits.values() for name in split.names]
    assert sorted(names) == [f"{i:03d}" for i in range(count)]
    for split, fraction in zip(dataset.splits.values(), fractions, strict=True):
        assert abs(len(split) - fraction * count) < 2
        assert split.names == sorted(split.names)
        assert count < 3 or len(split) > 0 or fraction == 0


def test_the_split_is_that_of_the_seed(touch, classes):
    folder = touch(*(f"{kind}/{i:03d}.png" for kind in ("images", "masks") for i in range(40)))
    first, again = (open_dataset(folder, classes=classes) for _ in range(2))
    other = open_dataset(folder, classes=classes, seed=1)
    assert first.train.pairs == again.train.pairs
    assert first.val.pairs == again.val.pairs
    assert first.val.names != other.val.names
    # The same on every machine.
    assert first.val.names == ["001", "003", "010", "018", "022", "034"]


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.4, 0.4), (1.2, -0.1, -0.1)])
def test_fractions_add_up_to_1(touch, classes, fractions):
    with pytest.raises(ValueError, match="expected three fractions that add up to 1, received"):
        open_dataset(touch("images/a.png", "masks/a.png"), classes=classes, fractions=fractions)


# The embedded data set


@pytest.fixture
def few_scenes(monkeypatch):
    """`write_scenes` with seven small scenes; how often it was called."""
    calls = []

    def write(path, *, original=scenes.write_scenes):
        calls.append(path)
        return original(path, num_scenes=7, size=(48, 64))

    monkeypatch.setattr(scenes, "write_scenes", write)
    return calls


def test_streets_are_drawn_if_they_are_missing(tmp_path, few_scenes):
    path = tmp_path / "data" / "streets"
    dataset = seglib.open_dataset(path)
    assert few_scenes == [path]
    assert dataset.classes == scenes.STREET_CLASSES
    assert [len(split) for split in dataset.splits.values()] == [5, 1, 1]
    image, labels = dataset.test[0]
    assert image.shape == (48, 64, 3)
    np.testing.assert_array_equal(labels, scenes.draw_scene(6, size=(48, 64))[1])
    assert len(seglib.open_dataset(f"{path}/")) == 7
    assert len(few_scenes) == 1


def test_other_missing_folders_are_not_drawn(tmp_path, few_scenes):
    with pytest.raises(FileNotFoundError, match=r"no folder at .*street: expected images and mask"):
        open_dataset(tmp_path / "street")
    assert few_scenes == []


# Class tables


def test_a_class_table_is_taken_from_where_it_is_given(city, tmp_path):
    other = ClassTable(
        ["a", "b", "c", "d"], [(128, 128, 128), (128, 0, 0), (128, 64, 128), (0,) * 3]
    )
    assert open_dataset(city, classes=other).classes == other
    write_class_table(tmp_path / "other.csv", other)
    assert open_dataset(city, classes=tmp_path / "other.csv").classes == other
    assert open_dataset(str(city), classes=str(tmp_path / "other.csv")).train[0][1].max() == 3
    with pytest.raises(
        FileNotFoundError, match=r"no class table at .*gone.csv: expected a CSV file"
    ):
        open_dataset(city, classes=tmp_path / "gone.csv")


def proposal(folder):
    """The lines that are offered where there is no class table."""
    with pytest.raises(DatasetError, match="no class table for") as caught:
        open_dataset(folder)
    first, _, lines = str(caught.value).partition("\n")
    assert first == (
        f"no class table for {folder}: write {folder / 'class_dict.csv'} with the lines below "
        "(or another file, and pass its path as classes), and give each class its name"
    )
    return lines


def test_without_a_class_table_the_colours_found_are_offered(city, classes):
    table = city / "class_dict.csv"
    table.unlink()
    lines = proposal(city)
    assert lines.splitlines()[0] == "name,r,g,b,share"
    table.write_text(lines)
    offered = read_class_table(table)
    assert offered.ignore_label is None
    assert set(offered.mapping) == set(classes.mapping)
    dataset = open_dataset(city)
    _, labels = dataset.train[0]
    expected = read_labels(dataset.train.pairs[0][1], classes)
    np.testing.assert_array_equal(offered.colors[labels], classes.colors[expected])


def test_offered_colours_come_with_their_share_the_most_frequent_first(tmp_path):
    for i in range(120):
        mask = np.zeros((10, 10, 3), np.uint8)
        mask[:3] = (128, 64, 128)
        mask[3, :1] = (1, 2, 3)
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / kind / f"{i}.png")
    assert proposal(tmp_path).splitlines()[1:] == [
        "class_0,0,0,0,69.00 %",
        "class_1,128,64,128,30.00 %",
        "class_2,1,2,3,1.00 %",
    ]


def test_offered_lines_for_shades_of_grey_that_are_no_ids(tmp_path):
    labels = np.zeros((10, 10), np.uint8)
    labels[0], labels[1:8] = 100, 200
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        Image.fromarray(labels).save(tmp_path / kind / "a.png")
    lines = proposal(tmp_path)
    assert lines.splitlines()[1:] == [
        "class_0,200,200,200,70.00 %",
        "class_1,0,0,0,20.00 %",
        "class_2,100,100,100,10.00 %",
    ]
    (tmp_path / "class_dict.csv").write_text(lines)
    dataset = open_dataset(tmp_path, fractions=(1, 0, 0))
    assert dataset.train[0][1][[0, 1, 9], 0].tolist() == [2, 0, 1]


# What users run into


def check_message(folder, message, **settings):
    with pytest.raises(DatasetError, match=message):
        open_dataset(folder, **settings)


def test_an_image_without_mask_is_an_error(city):
    (city / "train_labels/scene_2_L.png").unlink()
    check_message(
        city,
        r"1 images have no mask, first scene_2.png: expected scene_2_L.png in "
        rf"{re.escape(str(city / 'train_labels'))}; add the mask or remove the image",
    )


def test_a_mask_without_image_is_an_error(city):
    (city / "val/scene_5.png").unlink()
    check_message(
        city,
        r"1 masks have no image, first scene_5_L.png: expected scene_5 with a picture's extension "
        rf"in {re.escape(str(city / 'val'))}; add the image or remove the mask",
    )


def test_images_of_one_name_are_an_error(city):
    (city / "train/scene_1.jpg").touch()
    check_message(
        city,
        r"scene_1.jpg and scene_1.png in .*train differ in their extension only: "
        "expected one picture of each name; remove or rename one",
    )


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], "nothing"),
        (["notes.txt", "photos/a.png"], r"notes.txt, photos/"),
        (["train/notes.txt", "train_labels/notes.txt"], r"train/, train_labels/"),
        (["images/notes.txt", "masks/notes.txt"], r"images/, masks/"),
        ([f"{i:02d}.png" for i in range(12)], r"00.png, .*09.png …"),
    ],
)
def test_a_folder_without_pairs_is_an_error(touch, names, found):
    check_message(
        touch(*names),
        r"no pairs of image and mask in .*folder: expected train/ and train_labels/, or images/ "
        rf"and masks/, with \.bmp, .* files, or other folders, passed as .*; found {found}$",
    )


def test_a_file_in_the_place_of_the_folder_is_an_error(city):
    with pytest.raises(FileNotFoundError, match=r"no folder at .*class_dict.csv"):
        open_dataset(city / "class_dict.csv")


def test_faults_of_a_pair_show_when_it_is_read(city):
    Image.new("RGB", (48, 32)).save(city / "train_labels/scene_1_L.png")
    train = open_dataset(city).train
    train[0]
    with pytest.raises(DatasetError, match=r"scene_1_L.png is 32×48 .* is 40×48"):
        train[1]


# CamVid


@pytest.mark.camvid
def test_camvid(camvid):
    dataset = open_dataset(camvid)
    assert [len(split) for split in dataset.splits.values()] == [367, 101, 0]
    assert dataset.classes.num_classes == 12
    assert dataset.classes.ignore_label == 11
    image, labels = dataset.val[0]
    assert image.shape == (*labels.shape, 3)


@pytest.mark.camvid
def test_every_mask_of_camvid_is_read(camvid):
    dataset = open_dataset(camvid)
    masks = [mask for split in dataset.splits.values() for _, mask in split.pairs]
    present = np.zeros(12, int)
    for mask in masks:
        labels = read_labels(mask, dataset.classes)
        present += np.bincount(labels.ravel(), minlength=12) > 0
    assert present.min() > 0.2 * len(masks)


# Dealt out anew


@pytest.fixture
def drives(tmp_path, classes):
    """Six drives of four frames that drift; the class of `rare` is in two of them only."""
    random = np.random.default_rng(0)
    for kind in ("train", "train_labels", "val", "val_labels"):
        (tmp_path / kind).mkdir()
    for drive in range(6):
        view = random.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        for frame in range(4):
            image = np.asarray(Image.fromarray(view).resize((64, 48), Image.Resampling.BICUBIC))
            labels = np.zeros((48, 64), np.uint8)
            labels[:, 20:] = 1
            labels[:5, :5] = 2 if drive in (1, 4) else 0
            split = "train" if frame < 3 else "val"
            name = f"drive{'abcdef'[drive]}_{frame:03d}"
            moved = np.roll(image, frame, axis=1)
            Image.fromarray(moved).save(tmp_path / split / f"{name}.png")
            colors = Image.fromarray(classes.colors[labels])
            colors.save(tmp_path / f"{split}_labels" / f"{name}_L.png")
    write_class_table(tmp_path / "class_dict.csv", classes)
    return open_dataset(tmp_path)


def drives_of(split):
    return {name.split("_")[0] for name in split.names}


def test_frames_of_a_drive_stay_together_and_a_rare_class_is_on_both_sides(drives):
    assert drives_of(drives.train) == drives_of(drives.val)
    dealt = drives.split(by="sequence", fractions=(0.5, 0.5, 0))
    assert sorted(dealt.train.names + dealt.val.names) == sorted(
        drives.train.names + drives.val.names
    )
    assert not drives_of(dealt.train) & drives_of(dealt.val)
    assert len(dealt.train) == len(dealt.val) == 12
    for split in (dealt.train, dealt.val):
        assert any((labels == 2).any() for _, labels in split)
    assert dealt.train.pairs == drives.split(by="sequence", fractions=(0.5, 0.5, 0)).train.pairs


def test_groups_may_be_given_by_a_function_or_a_list(drives):
    by_letter = drives.split(by=lambda name: name[5] in "abc", fractions=(0.5, 0.5, 0))
    assert drives_of(by_letter.train) in ({"drivea", "driveb", "drivec"},
                                          {"drived", "drivee", "drivef"})  # fmt: skip
    names = drives.train.names + drives.val.names
    listed = drives.split(by=[name[5] in "abc" for name in names], fractions=(0.5, 0.5, 0))
    assert listed.train.names == by_letter.train.names
    letters = np.array([name[5] in "abc" for name in names])
    array = drives.split(by=letters, fractions=(0.5, 0.5, 0))
    assert array.train.names == by_letter.train.names
    with pytest.raises(ValueError, match=r'"sequence", a function .*or 24 groups, received'):
        drives.split(by="drive")
    for wrong in ([1, 2], None, 3):
        with pytest.raises(ValueError, match=rf"24 groups, received {re.escape(repr(wrong))}"):
            drives.split(by=wrong)


def test_random_splits_hold_every_class_where_they_can(drives):
    for seed in range(5):
        dealt = drives.split(seed=seed, fractions=(0.6, 0.2, 0.2))
        for split in dealt.splits.values():
            assert any((labels == 2).any() for _, labels in split)
    assert len(drives.split(stratify=False).train) == 16


def test_splits_are_written_and_read_again(drives, tmp_path):
    dealt = drives.split(by="sequence")
    dealt.write_splits(tmp_path / "splits.csv")
    again = open_dataset(drives.path, splits=tmp_path / "splits.csv")
    for name, split in dealt.splits.items():
        assert again.splits[name].pairs == split.pairs
        assert again.splits[name].names == split.names
    with pytest.raises(FileNotFoundError, match=r"no splits at .*gone.csv: Dataset.write_splits"):
        open_dataset(drives.path, splits=tmp_path / "gone.csv")
