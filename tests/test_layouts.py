"""Each layout and each encoding, from the same labels."""

import re
import warnings

import folders
import numpy as np
import pytest
from folders import BINARY, CLASSES, write_folder
from PIL import Image

import seglib
from seglib.classes import ClassTable
from seglib.images import DatasetError


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


@pytest.mark.parametrize("encoding", folders.ENCODINGS)
@pytest.mark.parametrize("layout", folders.LAYOUTS)
def test_every_layout_with_every_encoding(tmp_path, layout, encoding):
    if layout == "another extension in one folder" and encoding == "jpeg":
        pytest.skip("two lossy pictures of one name: nothing tells which is the mask")
    expected = write_folder(tmp_path, layout, encoding)
    has_splits = "{split}" in folders.LAYOUTS[layout][0]
    with warnings.catch_warnings():
        if encoding == "a palette of its own for each":
            warnings.filterwarnings("ignore", "the masks' values could be ids")
            warnings.filterwarnings("ignore", ".*could be ids of the class table, but")
        dataset = seglib.open_dataset(tmp_path)
    assert dataset.classes == CLASSES
    assert_read(dataset, expected, splits=has_splits, share=0.99 if encoding == "jpeg" else 1)
    if has_splits:
        assert [len(split) for split in dataset.splits.values()] == [4, 2, 2]
    else:
        assert [len(split) for split in dataset.splits.values()] == [6, 1, 1]


@pytest.mark.parametrize("encoding", folders.BINARY_ENCODINGS)
def test_black_and_white_masks_need_no_table(tmp_path, encoding):
    expected = write_folder(tmp_path, "camvid", encoding, classes=BINARY, table=False)
    dataset = seglib.open_dataset(tmp_path)
    assert dataset.classes == BINARY
    assert_read(dataset, expected)


def test_black_and_white_masks_take_the_names_of_a_table_of_two(tmp_path):
    expected = write_folder(tmp_path, "camvid", "0 and 255", classes=BINARY, table=False)
    for table in (["sky", "kite"], {"sky": (9, 9, 9), "kite": (200, 0, 0)}):
        dataset = seglib.open_dataset(tmp_path, classes=table)
        assert dataset.classes.names == ("sky", "kite")
        assert_read(dataset, expected)
    white_first = ClassTable(["kite", "sky"], [(255, 255, 255), (0, 0, 0)])
    dataset = seglib.open_dataset(tmp_path, classes=white_first)
    assert_read(dataset, {n: (s, 1 - labels) for n, (s, labels) in expected.items()})


def test_masks_of_ids_without_a_table_are_named_by_their_ids(tmp_path):
    for encoding in ("grey", "palette"):
        folder = tmp_path / encoding
        expected = write_folder(folder, "camvid", encoding, table=False)
        with pytest.warns(UserWarning, match=r"no class table .* ids from 0 to 3, named class_0"):
            dataset = seglib.open_dataset(folder)
        assert dataset.classes.names == ("class_0", "class_1", "class_2", "class_3")
        assert_read(dataset, expected)
    np.testing.assert_array_equal(dataset.classes.colors, CLASSES.colors)  # the palette's


# Tables


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("class_names.txt", "back\nroad\ncar\ntree\n"),
        ("labels.txt", "back\r\nroad\r\ncar\r\ntree"),
        ("classes.json", '{"back": [0, 0, 0], "road": [128, 0, 0], "car": [0, 128, 0],'
                         ' "tree": [128, 128, 0]}'),
        ("classes.json", '["back", "road", "car", "tree"]'),
        ("classes.json", '{"0": "back", "1": "road", "2": "car", "3": "tree"}'),
        ("class_dict.json", '[{"name": "back", "color": [0, 0, 0]}, {"name": "road", "color":'
                            '"#800000"}, {"name": "car", "color": [0, 128, 0]},'
                            '{"name": "tree", "color": [128, 128, 0]}]'),
        ("label_colors.txt", "0 0 0 back\n128 0 0 road\n0 128 0\tcar\n128 128 0 tree\n"),
        ("CLASS_DICT.CSV", "name,r,g,b\nback,0,0,0\nroad,128,0,0\ncar,0,128,0\ntree,128,128,0\n"),
        ("meta/classes.csv", "r,g,b,name\n0,0,0,back\n128,0,0,road\n0,128,0,car\n128,128,0,tree"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["rgb", "palette"])
def test_class_tables_of_every_kind(tmp_path, name, content, encoding):
    expected = write_folder(tmp_path, "camvid", encoding, table=False)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content, newline="")
    dataset = seglib.open_dataset(tmp_path)
    assert dataset.classes == CLASSES
    assert_read(dataset, expected)


def test_a_file_that_is_no_class_table_is_passed_over_but_not_class_dict(tmp_path):
    write_folder(tmp_path, "camvid")
    (tmp_path / "labels.csv").write_text("image,label\na.png,3\n")
    assert seglib.open_dataset(tmp_path).classes == CLASSES
    (tmp_path / "class_dict.csv").write_text("image,label\na.png,3\n")
    with pytest.raises(ValueError, match=r"class_dict.csv: expected the columns name, r, g, b"):
        seglib.open_dataset(tmp_path)


@pytest.mark.parametrize(
    "classes",
    [
        {"back": (0, 0, 0), "road": (128, 0, 0), "car": (0, 128, 0), "tree": (128, 128, 0)},
        {(0, 0, 0): "back", (128, 0, 0): "road", (0, 128, 0): "car", (128, 128, 0): "tree"},
        {0: "back", 1: "road", 2: "car", 3: "tree"},
        ["back", "road", "car", "tree"],
    ],
)
def test_class_tables_as_mappings(tmp_path, classes):
    expected = write_folder(tmp_path, "camvid", table=False)
    dataset = seglib.open_dataset(tmp_path, classes=classes)
    assert dataset.classes == CLASSES
    assert_read(dataset, expected)


def test_wrong_tables_are_told(tmp_path):
    write_folder(tmp_path, "camvid", table=False)
    with pytest.raises(ValueError, match=r"a name for each id from 0 to 2, received none for \[1"):
        seglib.open_dataset(tmp_path, classes={0: "back", 2: "road"})
    with pytest.raises(ValueError, match=r"expected a class table as .*, received int"):
        seglib.open_dataset(tmp_path, classes=3)
    (tmp_path / "classes.json").write_text("{")
    with pytest.raises(ValueError, match=r"classes.json: Expecting property name"):
        seglib.open_dataset(tmp_path, classes=tmp_path / "classes.json")


# 255


@pytest.mark.parametrize("encoding", ["grey", "palette", "16 bits", "tiff"])
def test_255_is_ignored_in_masks_of_ids(tmp_path, encoding):
    expected = write_folder(tmp_path, "camvid", encoding)
    write = folders.ENCODINGS[encoding]
    changed = expected["aa0"][1].copy()
    changed[:5] = 255
    write(tmp_path / "train_labels/aa0_L", changed, CLASSES)
    dataset = seglib.open_dataset(tmp_path)
    assert dataset.classes.ignore_label == 255
    assert dataset.classes.num_classes == 4
    assert_read(dataset, {**expected, "aa0": ("train", changed)})
    void = ClassTable([*CLASSES.names[:3], "void"], CLASSES.colors, ignore_label=3)
    dataset = seglib.open_dataset(tmp_path, classes=void)
    assert dataset.classes == void
    np.testing.assert_array_equal(dataset.train[0][1], np.where(changed == 255, 3, changed))


# Pascal VOC and labelme


def test_pascal_voc_with_its_lists(tmp_path):
    expected = write_folder(tmp_path, "voc", "palette", table=False)
    for name in ("without_mask", "another"):
        Image.new("RGB", (64, 48)).save(tmp_path / f"JPEGImages/{name}.jpg")
    (tmp_path / "SegmentationObject").mkdir()
    for name in expected:
        Image.new("P", (64, 48)).save(tmp_path / f"SegmentationObject/{name}.png")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/aa0.xml").touch()
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("aa0\nbb1\ncc2\n")
    (lists / "val.txt").write_text("dd3\nee4\n\n")
    (lists / "trainval.txt").write_text("aa0\nbb1\ncc2\ndd3\nee4\n")
    (tmp_path / "ImageSets/Main").mkdir()
    (tmp_path / "ImageSets/Main/train.txt").write_text("hh7\n")
    (tmp_path / "class_names.txt").write_text("back\nroad\ncar\ntree\n")
    dataset = seglib.open_dataset(tmp_path)
    assert dataset.train.names == ["aa0", "bb1", "cc2"]
    assert dataset.val.names == ["dd3", "ee4"]
    assert len(dataset.test) == 0
    assert dataset.classes == CLASSES
    (lists / "train.txt").write_text("aa0\nmissing\nalso_missing\n")
    with pytest.warns(UserWarning, match=r"train.txt lists 2 pictures without a pair; they are"):
        assert len(seglib.open_dataset(tmp_path).train) == 1


def test_lists_of_paths(tmp_path):
    write_folder(tmp_path, "spaces and accents")
    (tmp_path / "train.txt").write_text(
        "my images/été aa0.png\n/data/my images/été bb1.png\n", encoding="utf-8"
    )
    (tmp_path / "val.txt").write_text("images\\ee4.png masks\\ee4.png\nété ff5\n", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"val.txt lists 1 pictures without a pair"):
        dataset = seglib.open_dataset(tmp_path)
    assert dataset.train.names == ["été aa0", "été bb1"]
    assert dataset.val.names == ["été ff5"]


def test_what_labelme_exports(tmp_path):
    expected = write_folder(tmp_path, "voc", "palette", table=False)
    expected["bb1"][1][:3] = 255
    folders.write_palette(tmp_path / "SegmentationClass/bb1", expected["bb1"][1], CLASSES)
    (tmp_path / "class_names.txt").write_text("__ignore__\n_background_\nroad\ncar\ntree\n")
    for kind in ("SegmentationClassVisualization", "SegmentationObject", "SegmentationClassNpy"):
        (tmp_path / kind).mkdir()
        for name in expected:
            Image.new("RGB", (64, 48)).save(tmp_path / f"{kind}/{name}.jpg")
    dataset = seglib.open_dataset(tmp_path)
    assert dataset.classes.names == ("_background_", "road", "car", "tree")
    assert dataset.classes.ignore_label == 255
    assert_read(dataset, expected, splits=False)


# More than one reading


def test_of_several_kinds_of_masks_one_is_taken_and_the_others_are_named(tmp_path):
    expected = write_folder(tmp_path, "cityscapes", "grey")
    masks = tmp_path / "gtFine/train/bonn"
    for split in ("train", "val", "test"):
        for file in sorted((tmp_path / f"gtFine/{split}/bonn").glob("*_labelIds.png")):
            base = file.name.removesuffix("_labelIds.png")
            Image.new("RGB", (64, 48)).save(file.with_name(f"{base}_color.png"))
            Image.new("I;16", (64, 48)).save(file.with_name(f"{base}_instanceIds.png"))
            file.with_name(f"{base}_polygons.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"are taken from .*_labelIds\.\*; also possible .*_color"):
        seglib.open_dataset(tmp_path)
    dataset = seglib.open_dataset(tmp_path, masks="gtFine/**/*_labelIds.png")
    assert_read(dataset, expected)
    assert dataset.train.pairs[0][1].parent == masks


def test_of_several_folders_of_masks_one_is_taken_and_the_others_are_named(tmp_path):
    expected = write_folder(tmp_path, "no splits", "grey")
    (tmp_path / "masks").mkdir()
    for name in expected:
        Image.new("L", (64, 48)).save(tmp_path / f"masks/{name}.png")
    with pytest.warns(UserWarning, match=r"taken from annotations; also possible are masks='masks"):
        assert_read(seglib.open_dataset(tmp_path), expected, splits=False)
    assert_read(seglib.open_dataset(tmp_path, masks="annotations"), expected, splits=False)
    chosen = seglib.open_dataset(tmp_path, masks="masks")
    assert not any(labels.any() for split in chosen.splits.values() for _, labels in split)


@pytest.mark.parametrize(
    "layout",
    ["split outside", "split in the names of folders", "split outside, in a folder of its own",
     "split at the end", "annot", "no splits", "brackets"],
)  # fmt: skip
def test_the_folders_that_are_named_can_be_passed_on(tmp_path, layout):
    write_folder(tmp_path, layout, "grey")
    first = seglib.open_dataset(tmp_path)
    masks = [mask for split in first.splits.values() for _, mask in split.pairs]
    for mask in masks:
        name = re.sub("masks|annotations|annot", "labels", mask.parent.name)
        other = mask.parent.parent / name / mask.name
        other.parent.mkdir(exist_ok=True)
        Image.new("L", (64, 48)).save(other)
    with pytest.warns(UserWarning, match="also possible are") as told:
        seglib.open_dataset(tmp_path)
    patterns = re.findall(r"masks='([^']+)'", str(told[0].message))
    assert len(set(patterns)) == 2
    found = [seglib.open_dataset(tmp_path, masks=pattern) for pattern in patterns]
    named = {mask for dataset in found for split in dataset.splits.values()
             for _, mask in split.pairs}  # fmt: skip
    assert len(named) == 2 * len(masks) == 16


def test_a_choice_that_no_pattern_confirms_is_not_offered(tmp_path):
    """Masks without an ending beside others that have one: no pattern takes the first alone."""
    write_folder(tmp_path, "split inside", "grey")
    for mask in sorted((tmp_path / "masks").glob("*/*.png")):
        Image.new("L", (64, 48)).save(mask.with_name(f"{mask.stem}_color.png"))
    with pytest.warns(UserWarning, match="also possible are") as told:
        seglib.open_dataset(tmp_path)
    assert re.findall(r"masks='([^']+)'", str(told[0].message)) == ["*_color.*"]


def test_folders_of_any_name_can_be_named(tmp_path):
    expected = write_folder(tmp_path / "old", "no splits")
    (tmp_path / "new").mkdir()
    (tmp_path / "old/images").rename(tmp_path / "new/Bilder")
    (tmp_path / "old/annotations").rename(tmp_path / "new/Umrisse")
    (tmp_path / "old/class_dict.csv").rename(tmp_path / "new/class_dict.csv")
    with pytest.raises(DatasetError, match=r"or other folders, passed as images= and masks="):
        seglib.open_dataset(tmp_path / "new")
    dataset = seglib.open_dataset(tmp_path / "new", images="Bilder", masks="Umrisse")
    assert_read(dataset, expected, splits=False)


def test_ids_or_colours_can_be_chosen(tmp_path):
    """A palette that holds the table's colours in another order: the colours count."""
    turned = ClassTable(CLASSES.names, CLASSES.colors[::-1])
    expected = write_folder(tmp_path, "camvid", "palette")
    with pytest.warns(UserWarning, match=r'in another order; read as colours: pass encoding="ids"'):
        dataset = seglib.open_dataset(tmp_path, classes=turned)
    assert_read(dataset, {n: (s, 3 - labels) for n, (s, labels) in expected.items()})
    assert_read(seglib.open_dataset(tmp_path, classes=turned, encoding="ids"), expected)
    with pytest.raises(ValueError, match="encoding to be one of auto, ids, colors, binary, receiv"):
        seglib.open_dataset(tmp_path, encoding="colours")


def test_the_encoding_is_decided_by_all_masks_and_not_by_each(tmp_path):
    """A mask that holds only what could be colours is read as the others are."""
    table = ClassTable(["a", "b", "c"], [(2, 2, 2), (1, 1, 1), (0, 0, 0)])
    for i, values in enumerate(([0, 1], [0, 2], [1, 7])):
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
            pixels = np.kron(np.array([values], np.uint8), np.ones((32, 16), np.uint8))
            Image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    dataset = seglib.open_dataset(tmp_path, classes=table, fractions=(1, 0, 0))
    assert dataset.train.encoding == "colors"  # 7 is no id, and most pixels are exact colours
    (tmp_path / "masks/2.png").unlink()
    (tmp_path / "images/2.png").unlink()
    many = ClassTable(["a", "b", "c"], [(2, 2, 2), (1, 1, 1), (9, 0, 0)])
    dataset = seglib.open_dataset(tmp_path, classes=many, fractions=(1, 0, 0))
    assert dataset.train.encoding == "ids"
    assert [np.unique(labels).tolist() for _, labels in dataset.train] == [[0, 1], [0, 2]]


# What is missing, and what is there by chance


def test_hidden_files_and_those_of_other_systems_are_passed_over(tmp_path):
    expected = write_folder(tmp_path, "camvid")
    for name in ("train/Thumbs.db", "train/.DS_Store", "train_labels/.aa0_L.png", "notes.txt",
                 ".ipynb_checkpoints/aa0.png", "__MACOSX/train/._aa0.png", "train/desktop.ini",
                 "preview.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert_read(seglib.open_dataset(tmp_path), expected)


def test_names_are_the_same_in_both_of_unicodes_spellings(tmp_path):
    expected = write_folder(tmp_path, "spaces and accents")
    for file in sorted((tmp_path / "my masks").iterdir()):
        file.rename(file.with_name(file.name.replace("é", "é")))  # as macOS writes it
    assert_read(seglib.open_dataset(tmp_path), expected, splits=False)


def test_pairs_of_one_name_in_several_folders_are_told_apart(tmp_path):
    for place in ("north", "south"):
        for i in range(2):
            image, labels = folders.create_pair(i + 2 * (place == "south"))
            for path in (f"images/{place}", f"masks/{place}"):
                (tmp_path / path).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / f"images/{place}/{i}.png")
            folders.write_rgb(tmp_path / f"masks/{place}/{i}", labels, CLASSES)
    dataset = seglib.open_dataset(tmp_path, classes=CLASSES, fractions=(1, 0, 0))
    assert dataset.train.names == ["north/0", "north/1", "south/0", "south/1"]
    np.testing.assert_array_equal(dataset.train[3][1], folders.create_pair(3)[1])
    assert dataset.train[2:].names == ["south/0", "south/1"]


def test_what_has_no_other_half_is_skipped_where_that_is_asked_for(tmp_path):
    expected = write_folder(tmp_path, "camvid")
    (tmp_path / "train_labels/aa0_L.png").unlink()
    (tmp_path / "val/ee4.png").unlink()
    with pytest.raises(DatasetError, match=r'expected aa0_L.png in .* or pass unpaired="skip"'):
        seglib.open_dataset(tmp_path)
    dataset = seglib.open_dataset(tmp_path, unpaired="skip")
    assert [file.name for file in dataset.unpaired] == ["aa0.png", "ee4_L.png"]
    del expected["aa0"], expected["ee4"]
    assert_read(dataset, expected)


def test_a_split_without_masks_is_left_out(tmp_path):
    expected = write_folder(tmp_path, "camvid")
    for file in (tmp_path / "test_labels").iterdir():
        file.unlink()
    dataset = seglib.open_dataset(tmp_path)
    assert_read(dataset, {n: v for n, v in expected.items() if v[0] != "test"})


# What the masks hold is proposed


def test_a_table_is_proposed_for_colours(tmp_path):
    write_folder(tmp_path, "camvid", table=False)
    with pytest.raises(DatasetError, match="no class table for") as caught:
        seglib.open_dataset(tmp_path)
    lines = str(caught.value).splitlines()[1:]
    assert lines[0] == "name,r,g,b,share"
    masks = sorted(tmp_path.glob("*_labels/*"))
    proposed = seglib.propose_class_table(masks)
    assert {tuple(color) for color in proposed.colors.tolist()} == set(CLASSES.mapping)
    assert proposed.names == ("class_0", "class_1", "class_2", "class_3")


def test_few_colours_are_proposed_for_jpeg_masks(tmp_path):
    write_folder(tmp_path, "camvid", "jpeg", table=False)
    masks = sorted(tmp_path.glob("*_labels/*"))
    pixels = np.asarray(Image.open(masks[0]))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    proposed = seglib.propose_class_table(masks)
    assert proposed.num_classes == 4
    distances = np.abs(proposed.colors[:, None].astype(int) - CLASSES.colors).sum(axis=-1)
    assert (distances.min(axis=1) < 12).all()


@pytest.mark.camvid
def test_the_table_of_camvid_is_proposed_from_its_masks(camvid):
    masks = sorted(camvid.glob("*_labels/*"))
    proposed = seglib.propose_class_table(masks)
    assert set(proposed.mapping) == set(seglib.open_dataset(camvid).classes.mapping)


# What was read wrongly once


def write_flat(folder, masks, *, mode=None):
    """`images/` and `masks/` with these masks as PNG."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i, mask in enumerate(masks):
        picture = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        Image.new("RGB", picture.size).save(folder / f"images/a{i}.jpg")
        picture.save(folder / f"masks/a{i}.png")
    return folder


def draw_ids(count, num_classes):
    return [np.random.default_rng(i).integers(0, num_classes, (40, 48)).astype(np.uint8)
            for i in range(count)]  # fmt: skip


def test_palettes_that_differ_from_mask_to_mask_are_colours(tmp_path):
    pictures = []
    for ids, shift in zip(draw_ids(3, 3), range(3), strict=True):
        picture = Image.fromarray((ids + shift) % 3)
        picture.putpalette(np.roll(CLASSES.colors[:3], shift, axis=0).ravel().tolist())
        pictures.append(picture)
    write_flat(tmp_path, pictures)
    with pytest.raises(DatasetError, match="no class table for"):
        seglib.open_dataset(tmp_path)
    dataset = seglib.open_dataset(tmp_path, classes=CLASSES, fractions=(1, 0, 0))
    for (_, labels), ids in zip(dataset.train, draw_ids(3, 3), strict=True):
        np.testing.assert_array_equal(labels, ids)


@pytest.mark.parametrize("wrong", [3, 12, 254])
def test_an_id_outside_the_table_is_an_error_however_much_background_there_is(tmp_path, wrong):
    mask = np.zeros((40, 48), np.uint8)
    mask[:3], mask[3:5], mask[5, 0] = 1, 2, wrong
    write_flat(tmp_path, [mask] * 3)
    dataset = seglib.open_dataset(tmp_path, classes=CLASSES.names[:3], fractions=(1, 0, 0))
    with pytest.raises(DatasetError, match=rf"label outside the class table \({wrong}\)"):
        dataset.train[0]


@pytest.mark.parametrize("classes", [["back", "road", "car", "tree"], None])
def test_ids_in_three_channels_are_ids(tmp_path, classes):
    ids = draw_ids(4, 4)
    write_flat(tmp_path, [np.dstack([mask] * 3) for mask in ids])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no class table for")
        dataset = seglib.open_dataset(tmp_path, classes=classes, fractions=(1, 0, 0))
    for (_, labels), mask in zip(dataset.train, ids, strict=True):
        np.testing.assert_array_equal(labels, mask)


def test_black_and_white_in_three_channels_needs_no_table(tmp_path):
    ids = draw_ids(4, 2)
    write_flat(tmp_path, [255 * np.dstack([mask] * 3) for mask in ids])
    dataset = seglib.open_dataset(tmp_path, fractions=(1, 0, 0))
    assert dataset.classes == BINARY
    for (_, labels), mask in zip(dataset.train, ids, strict=True):
        np.testing.assert_array_equal(labels, mask)


def test_classes_shown_by_transparency_are_refused(tmp_path):
    ids = draw_ids(1, 4)[0]
    mask = np.dstack([np.zeros((*ids.shape, 3), np.uint8), 60 * ids])
    write_flat(tmp_path, [mask] * 3)
    dataset = seglib.open_dataset(tmp_path, classes=CLASSES)
    with pytest.raises(DatasetError, match="shows its classes by transparency"):
        dataset.train[0]


def test_lists_tell_pictures_of_one_name_apart_by_their_folders(tmp_path):
    for place in "pqr":
        write_flat(tmp_path / "in", draw_ids(2, 4))
        for kind in ("images", "masks"):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / kind).rename(tmp_path / "data" / kind / place)
    (tmp_path / "data/train.txt").write_text("p/a0\np/a1\nq/a0.jpg,q/a0.png\n")
    (tmp_path / "data/val.txt").write_text("images/r/a0.jpg\np/a1\na1\n")
    with pytest.warns(UserWarning, match=r"val.txt lists") as caught:
        dataset = seglib.open_dataset(tmp_path / "data", classes=CLASSES)
    assert dataset.train.names == ["p/a0", "p/a1", "q/a0"]
    assert dataset.val.names == ["r/a0"]
    assert [str(w.message).split("val.txt ")[1] for w in caught] == [
        "lists 1 pictures without a pair; they are left out",
        "lists 1 pictures that another split has; they stay there",
    ]


def test_what_no_list_names_is_for_training_where_there_is_no_list_for_that(tmp_path):
    write_flat(tmp_path, draw_ids(5, 4))
    (tmp_path / "val.txt").write_text("a3\na4\n")
    dataset = seglib.open_dataset(tmp_path, classes=CLASSES)
    assert [len(split) for split in dataset.splits.values()] == [3, 2, 0]
    (tmp_path / "trainval.txt").write_text("a0\na1\n")
    dataset = seglib.open_dataset(tmp_path, classes=CLASSES)
    assert dataset.train.names == ["a0", "a1"]


def test_pairs_without_a_split_are_for_training_or_named(tmp_path):
    write_flat(tmp_path, draw_ids(3, 4))
    write_flat(tmp_path / "test", draw_ids(2, 4))
    dataset = seglib.open_dataset(tmp_path, classes=CLASSES)
    assert [len(split) for split in dataset.splits.values()] == [3, 0, 2]
    write_flat(tmp_path / "train", draw_ids(2, 4))
    with pytest.warns(UserWarning, match="3 pairs are in no folder of a split and left out"):
        dataset = seglib.open_dataset(tmp_path, classes=CLASSES)
    assert [len(split) for split in dataset.splits.values()] == [2, 0, 2]


def test_train_val_is_for_training(tmp_path):
    write_flat(tmp_path / "train_val", draw_ids(3, 4))
    write_flat(tmp_path / "TEST", draw_ids(2, 4))
    dataset = seglib.open_dataset(tmp_path, classes=CLASSES)
    assert [len(split) for split in dataset.splits.values()] == [3, 0, 2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "0 back\n1 road\n2 car\n3: tree\n"),
        ("classes.txt", "back 0 0 0\nroad 128 0 0\ncar 0 128 0\ntree 128 128 0\n"),
        ("_classes.csv", "Pixel Value, Class\n0, back\n1, road\n2, car\n3, tree\n"),
        ("classes.json", '{"back": 0, "road": 1, "car": 2, "tree": 3}'),
        ("classes.json", '{"classes": [{"title": "back", "color": "#000000"}, {"title": "road",'
                         '"color": "#800000"}, {"title": "car", "color": "#008000"}, {"title":'
                         '"tree", "color": "#808000"}], "tags": []}'),
    ],
)  # fmt: skip
def test_more_kinds_of_class_tables(tmp_path, name, content):
    expected = write_folder(tmp_path, "camvid", "palette", table=False)
    (tmp_path / "labels.txt").write_text("a0.jpg cat\na1.jpg dog\n")  # of pictures, not pixels
    (tmp_path / name).write_text(content)
    dataset = seglib.open_dataset(tmp_path)
    assert dataset.classes == CLASSES
    assert_read(dataset, expected)


def test_linked_folders_are_followed_and_links_back_are_not(tmp_path):
    write_flat(tmp_path / "store", draw_ids(3, 4))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/images").symlink_to(tmp_path / "store/images")
    (tmp_path / "data/masks").symlink_to(tmp_path / "store/masks")
    (tmp_path / "store/images/back").symlink_to(tmp_path / "store/images")
    assert len(seglib.open_dataset(tmp_path / "data", classes=CLASSES)) == 3


def test_folders_are_named_in_any_way_that_leads_there(tmp_path):
    write_flat(tmp_path, draw_ids(3, 4))
    for masks in ("masks", "masks/", "./masks", tmp_path / "masks", "masks/*.png"):
        assert len(seglib.open_dataset(tmp_path, classes=CLASSES, masks=masks)) == 3
    with pytest.raises(DatasetError, match=r"masks='mask' matches no picture in .*: expected a"):
        seglib.open_dataset(tmp_path, classes=CLASSES, masks="mask")


@pytest.mark.parametrize(
    ("image", "mask"), [("{}_sat.jpg", "{}_mask.png"), ("image_{}.png", "mask_{}.png")]
)
def test_both_halves_named_in_one_folder(tmp_path, image, mask):
    for i, ids in enumerate(draw_ids(3, 4)):
        Image.new("RGB", (48, 40)).save(tmp_path / image.format(i))
        Image.fromarray(ids).save(tmp_path / mask.format(i))
    dataset = seglib.open_dataset(tmp_path, classes=CLASSES, fractions=(1, 0, 0))
    for (_, labels), ids in zip(dataset.train, draw_ids(3, 4), strict=True):
        np.testing.assert_array_equal(labels, ids)
