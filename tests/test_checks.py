import numpy as np
import pandas as pd
import pytest
from folders import save
from PIL import Image

from seglib.checks import check_dataset, find_strange_pixels
from seglib.datasets import open_dataset
from seglib.images import DatasetError
from seglib.masks import closest_labels
from seglib.scenes import draw_scene, write_scenes

GREEN = (10, 240, 30)  # of no class: 118, 112 and 98 from Sky's (128, 128, 128)


def find(report, check):
    """The findings of one kind."""
    return [finding for finding in report.findings if finding.check == check]


def photograph(folder, i, split="train"):
    return folder / split / f"scene_{i}.png"


def mask(folder, i, split="train"):
    return folder / f"{split}_labels" / f"scene_{i}_L.png"


def read(path):
    return np.array(Image.open(path).convert("RGB"))


def enlarge(path, factor):
    save(path, read(path).repeat(factor, axis=0).repeat(factor, axis=1))


def test_a_clean_data_set_has_nothing_to_report(city, capsys):
    report = check_dataset(city)
    assert report.findings == ()
    assert report.raise_for_errors() is report
    assert report.table.empty
    sizes = "train 4, val 2, test 2 pairs"
    assert repr(report) == f"DatasetReport of city: {sizes}; 0 errors, 0 warnings, 0 notes"
    assert capsys.readouterr() == ("", "")


def test_the_embedded_scenes_raise_no_false_alarm(tmp_path):
    write_scenes(tmp_path / "streets", num_scenes=20, size=(90, 120))
    report = check_dataset(open_dataset(tmp_path / "streets"))
    assert [finding.check for finding in report.findings] == ["class imbalance"]


BROKEN_PICTURES = """\
DatasetReport of city: train 4, val 2, test 1 pairs; 4 errors, 2 warnings, 1 note
  error: missing half: Photographs without a mask, or masks without a photograph: 2. Add the other
    half, or remove the file. [test/scene_6.png, val_labels/scene_8_L.png]
  error: unreadable file in train: 2 of 4 pairs not decoded; the first: train/scene_1.png cannot be
    read as a picture (image file is truncated): it is missing, truncated or of another format; copy
    it again or remove the pair. Reading such pairs fails. [train/scene_1.png,
    train_labels/scene_2_L.png]
  error: sizes differ in train: 1 of 4 masks of another size than the photograph;
    train_labels/scene_0_L.png is 32×48 (height × width) but its image train/scene_0.png is 40×48:
    export the mask at the image's size and the same way up, or pass resize_masks=True to
    open_dataset. Reading such pairs fails. [train_labels/scene_0_L.png]
  error: unknown colours in train: 1 of 4 masks with over 1 % of pixels in colours of no class, at
    worst (10, 240, 30) on 64 px (nearest class Sky, 190 away). Reading fails: correct the masks, or
    add the colours to the class table. [train_labels/scene_3_L.png]
  warning: stray colours in val: 1 of 2 masks with a few pixels in colours of no class, at worst
    (10, 240, 30) on 4 px (nearest class Sky, 190 away). They are read as a class nearby: correct
    the masks or the class table. [val_labels/scene_4_L.png]
  warning: lossy masks in val: 1 of 2 masks in JPEG or WebP, which change colours where classes
    meet. Export them as PNG, or trust boundaries less. [val_labels/scene_5_L.jpg]
  note: turned photographs in train: 1 of 4 photographs that EXIF data turn or mirror: read upright.
    See to it that the masks stand upright too. [train/scene_3.png]"""


def test_broken_pictures_as_text_table_and_error(city, tmp_path):
    mask(city, 6, "test").unlink()
    save(mask(city, 8, "val"), read(mask(city, 5, "val")))
    photograph(city, 1).write_bytes(photograph(city, 1).read_bytes()[:1000])
    mask(city, 2).write_bytes(b"no picture")
    save(mask(city, 0), read(mask(city, 0))[:-8])
    for path, side in ((mask(city, 3), 8), (mask(city, 4, "val"), 2)):
        pixels = read(path)
        pixels[:side, :side] = GREEN  # 64 and 4 of 1920 pixels
        save(path, pixels)
    jpeg = mask(city, 5, "val").with_suffix(".jpg")
    Image.open(mask(city, 5, "val")).save(jpeg, quality=80)
    mask(city, 5, "val").unlink()
    turned = Image.fromarray(np.rot90(read(photograph(city, 3))).copy())
    turned.getexif()[0x0112] = 6  # upright again for those who read EXIF data
    turned.save(photograph(city, 3), exif=turned.getexif())
    report = check_dataset(city)
    assert repr(report) == BROKEN_PICTURES
    assert report.table["count"].tolist() == [2, 2, 1, 1, 1, 1, 1]
    pairs = {f.check: f.examples.pairs for f in report.findings if len(f.examples)}
    shown = [(photograph(city, 0), mask(city, 0)), (photograph(city, 3), mask(city, 3))]
    assert [*pairs["sizes differ"], *pairs["unknown colours"]] == shown
    assert pairs["stray colours"] == [(photograph(city, 4, "val"), mask(city, 4, "val"))]
    for html in ("4 errors, 2 warnings, 1 note", "<td>unknown colours</td>"):
        assert html in report._repr_html_()
    path = report.write(tmp_path / "new" / "report")
    assert path == tmp_path / "new/report/checks.csv"
    pd.testing.assert_frame_equal(pd.read_csv(path, keep_default_na=False), report.table)
    with pytest.raises(DatasetError, match="4 errors, 2 warnings, 1 note") as raised:
        report.raise_for_errors()
    listed = str(raised.value).splitlines()[1:]
    assert listed == [f"- {finding}" for finding in report.findings[:4]]
    for i in (0, 3):
        with pytest.raises(DatasetError):
            open_dataset(city, unpaired="skip").train[i]


STRANGE_CLASSES = """\
DatasetReport of city: train 4, val 0, test 2 pairs; 0 errors, 6 warnings, 2 notes
  warning: blended boundaries in train: 3 of 4 masks with blends of two colours, at worst on 28 % of
    the pixels. They become a class nearby; better export without antialiasing.
    [train_labels/scene_1_L.png, train_labels/scene_3_L.png, train_labels/scene_2_L.png]
  warning: blank masks in train: 1 of 4 masks with a single class or less. See whether they were
    left undone, or whether it is the nature of the data. [train_labels/scene_0_L.png]
  warning: absent classes: 2 of 5 classes in no mask at all. Is the table right? dataset.split()
    spreads classes over the splits. [Boat, Bird]
  warning: absent classes in train: 1 of 5 classes in other splits but not in train. Is the table
    right? dataset.split() spreads classes over the splits. [Sky]
  warning: absent classes in test: 2 of 5 classes in other splits but not in test. Is the table
    right? dataset.split() spreads classes over the splits. [Building, Road]
  warning: empty split in val: There is no pair to choose the best epoch with. Deal the pairs out
    anew with dataset.split().
  note: blank masks in test: 2 of 2 masks with a single class or less. See whether they were left
    undone, or whether it is the nature of the data. [test_labels/scene_6_L.png,
    test_labels/scene_7_L.png]
  note: large pictures: 1 of 6 pictures, at worst 400×480 shrunk to 128×128: what is thinner than 4
    pixels is lost. For their own scale: notebook 3 with SCALE = "native", or get_preset(name,
    native_size=(height, width) of the pictures). [test/scene_6.png]"""


def test_strange_classes_and_splits(city, classes):
    with (city / "class_dict.csv").open("a") as table:
        table.write("Boat,9,99,200,0\nBird,240,240,9,0\n")
    for i in range(4):
        labels = closest_labels(read(mask(city, i)), classes.mapping).clip(1)  # no Sky
        picture = Image.fromarray(classes.colors[labels].astype(np.uint8))
        picture = picture.resize((96, 80), Image.Resampling.BILINEAR)
        picture.resize((48, 40), Image.Resampling.BILINEAR).save(mask(city, i))
    for i, split, color in ((0, "train", 1), (6, "test", 0), (7, "test", 3)):
        save(mask(city, i, split), np.full((40, 48, 3), classes.colors[color]))
    for path in (photograph(city, 6, "test"), mask(city, 6, "test")):
        enlarge(path, 10)
    for path in [*(city / "val").iterdir(), *(city / "val_labels").iterdir()]:
        path.unlink()
    report = check_dataset(city)
    assert repr(report) == STRANGE_CLASSES
    assert report.table["count"].tolist() == [3, 1, 2, 1, 2, 0, 2, 1]


def test_an_unknown_region_in_an_antialiased_mask_is_still_found(classes):
    pixels = np.zeros((60, 60, 3), np.uint8)
    pixels[:, :30] = classes.colors[1]
    pixels[:, 30] = classes.colors[1] // 2  # between Building and Void
    pixels[10:13, 10:13] = GREEN
    pixels[40, 31] = (90, 60, 0)  # on no line between two classes, but beside a blend
    labels = closest_labels(pixels, classes.mapping)
    unknown, blends = find_strange_pixels(pixels, labels, classes)
    np.testing.assert_array_equal(unknown, (pixels == GREEN).all(axis=-1))
    assert np.argwhere(blends).tolist() == sorted([[i, 30] for i in range(60)] + [[40, 31]])


def test_ids_outside_the_table(city, classes):
    for path in city.glob("*_labels/*.png"):
        labels = closest_labels(read(path), classes.mapping)
        if path == mask(city, 1):
            labels[0, :3], labels[1, 0] = 7, 200
        save(path, labels)
    (finding,) = find(check_dataset(open_dataset(city, encoding="ids")), "unknown ids")
    assert (finding.severity, finding.where) == ("error", "train_labels/scene_1_L.png")
    assert finding.meaning.endswith("which ends at 3: 7 on 3 px, 200 on 1 px.")
    assert "ignore_label=255" in finding.advice


def test_copies_and_drives_in_two_splits(city, write_pair):
    for i, target, split in ((0, 1, "train"), (2, 4, "val")):
        save(photograph(city, i), draw_scene(i, size=(40, 48))[0])
        picture = Image.open(photograph(city, i)).resize((96, 80), Image.Resampling.BICUBIC)
        picture.save(photograph(city, target, split))
        save(mask(city, target, split), read(mask(city, i)).repeat(2, axis=0).repeat(2, axis=1))
    panorama = draw_scene(9, size=(40, 96))[0]
    for i, split in enumerate(["train"] * 9 + ["val"] * 3):
        image = city / split / f"drive_{i:03d}.png"
        write_pair(image, city / f"{split}_labels/drive_{i:03d}_L.png", seed=100 + i)
        save(image, panorama[:, 4 * i :][:, :48])
    across, within, shared = check_dataset(city).findings
    assert (within.check, within.split) == ("near-duplicates", "train")
    assert within.where == "train/scene_0 = train/scene_1"
    for finding in (across, shared):
        assert (finding.severity, finding.split, finding.count) == ("warning", "train, val", 1)
        assert 'dataset.split(by="sequence")' in finding.advice
    assert across.where == "train/scene_2 = val/scene_4"
    assert "one in train and one in val: 1 pairs." in across.meaning
    assert across.examples.names == ["train: scene_2", "val: scene_4"]
    assert shared.where == "drive (9 in train, 3 in val)"
    assert shared.meaning == "1 of 1 sequences are in train and in val."
    assert shared.examples.names == ["train: drive_008", "val: drive_009"]


def test_regions_that_vanish_at_the_size_of_the_training(city, classes):
    """Single pixels of Sky, and 2 that touch by their corners: one there covers 4 here."""
    for path in city.rglob("*.png"):
        enlarge(path, 2)
    for path in city.glob("*_labels/*.png"):
        labels = closest_labels(read(path), classes.mapping).clip(1)
        labels[::16, ::16] = labels[1, 1] = 0
        save(path, classes.colors[labels])
    (finding,) = find(check_dataset(city, image_size=(40, 48)), "tiny regions")
    assert (finding.severity, finding.split) == ("warning", "")
    first, second = finding.meaning.split(". ")
    assert first == "8 of 8 masks with regions smaller than a pixel at 40×48"
    assert second == "Sky loses most, 100 % of its pixels."
    assert "choose a larger image_size" in finding.advice
    assert not find(check_dataset(city, image_size=(80, 96)), "tiny regions")


def test_masks_that_are_all_alike_or_show_one_class(city, classes):
    pixels = np.full((40, 48, 3), classes.colors[1])
    pixels[:20], pixels[30:32, :20] = classes.colors[0], classes.colors[2]
    for path in city.glob("*_labels/*.png"):
        save(path, pixels)
    alike, imbalance = check_dataset(city).findings
    assert (alike.check, alike.severity, alike.count) == ("masks alike", "warning", 8)
    assert alike.where.endswith(" and 5 more")
    assert (imbalance.severity, imbalance.where) == ("note", "Road")
    assert imbalance.meaning == "Sky has 24 times as many pixels as Road, the rarest class."
    (city / "class_dict.csv").write_text("name,r,g,b\nunlabeled,0,0,0\nroad,255,255,255\n")
    for path in city.glob("*_labels/*.png"):
        save(path, 255 * (read(path)[..., 1] > 0))
    (finding,) = find(check_dataset(city), "one class")
    assert (finding.severity, finding.where) == ("warning", "unlabeled")
    assert "1 class is left to tell apart" in finding.meaning


@pytest.mark.camvid
def test_camvids_drive_is_in_train_and_val(camvid):
    report = check_dataset(open_dataset(camvid))
    assert report.raise_for_errors() is report
    checks = {"shared sequences", "tiny regions", "large pictures", "class imbalance"}
    assert {finding.check for finding in report.findings} == checks
    places = [finding.where for finding in find(report, "shared sequences")]
    assert any("0016E5 (204 in train, 101 in val)" in where for where in places)
