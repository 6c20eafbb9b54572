import numpy as np
import pandas as pd
import pytest
from PIL import Image

import seglib
from seglib.checks import check_dataset, find_strange_pixels
from seglib.datasets import open_dataset
from seglib.images import DatasetError
from seglib.masks import closest_labels
from seglib.scenes import write_scenes

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


def save(path, pixels, **options):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def paint(path, rows, columns, color=GREEN):
    pixels = read(path)
    pixels[:rows, :columns] = color
    save(path, pixels)


def repaint(path, old, new):
    pixels = read(path)
    pixels[(pixels == old).all(axis=-1)] = new
    save(path, pixels)


def smooth(height, width, *, seed=0):
    """A photograph of soft blobs."""
    noise = np.random.default_rng(seed).normal(128, 60, (height // 8, width // 8))
    picture = Image.fromarray(noise.astype(np.float32)).resize((width, height), Image.BICUBIC)
    return np.clip(picture, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def test_a_clean_data_set_has_nothing_to_report(city, capsys):
    report = check_dataset(city)
    assert report.findings == ()
    assert report.raise_for_errors() is report
    assert report.table.empty
    assert repr(report) == (
        "DatasetReport of city: train 4, val 2, test 2 pairs; 0 errors, 0 warnings, 0 notes"
    )
    assert capsys.readouterr() == ("", "")


def test_the_embedded_scenes_raise_no_false_alarm(tmp_path):
    write_scenes(tmp_path / "streets", num_scenes=20, size=(90, 120))
    report = check_dataset(open_dataset(tmp_path / "streets"))
    assert [finding.check for finding in report.findings] == ["class imbalance"]


# A fault, and what is said of it


def remove_halves(city, classes):
    mask(city, 0).unlink()
    photograph(city, 5, "val").unlink()


def damage(city, classes):
    photograph(city, 1).write_bytes(photograph(city, 1).read_bytes()[:1000])
    mask(city, 2).write_bytes(b"no picture")


def cut_a_mask(city, classes):
    save(mask(city, 0), read(mask(city, 0))[:-8])


def paint_much(city, classes):
    paint(mask(city, 0), 8, 8)  # 64 of 1920 pixels


def paint_little(city, classes):
    paint(mask(city, 1), 2, 3)


def blend(city, classes):
    for i in range(4):
        picture = Image.open(mask(city, i)).resize((96, 80), Image.Resampling.BILINEAR)
        picture.resize((48, 40), Image.Resampling.BILINEAR).save(mask(city, i))


def write_jpeg(city, classes):
    Image.open(mask(city, 0)).save(mask(city, 0).with_suffix(".jpg"), quality=80)
    mask(city, 0).unlink()


def turn(city, classes):
    """Lay a photograph on its side, with EXIF data that turn it upright."""
    picture = Image.fromarray(np.rot90(read(photograph(city, 3))).copy())
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(photograph(city, 3), exif=exif)


def remove_road(city, classes):
    for i in range(4):
        repaint(mask(city, i), classes.colors[2], classes.colors[1])


def add_classes(city, classes):
    table = (city / "class_dict.csv").read_text() + "Boat,9,99,200,0\nBird,240,240,9,0\n"
    (city / "class_dict.csv").write_text(table)


def blank_one(city, classes):
    save(mask(city, 0), np.full((40, 48, 3), classes.colors[1]))


def blank_most(city, classes):
    for i in range(3):
        save(mask(city, i), np.full((40, 48, 3), classes.colors[3]))


def draw_little_road(city, classes):
    for path in city.glob("*_labels/*.png"):
        pixels = np.full((40, 48, 3), classes.colors[1])
        pixels[:20], pixels[30:32, :20] = classes.colors[0], classes.colors[2]
        save(path, pixels)


def enlarge_a_pair(city, classes):
    for path in (photograph(city, 0), mask(city, 0)):
        save(path, read(path).repeat(10, axis=0).repeat(10, axis=1))


def empty_val(city, classes):
    for path in [*(city / "val").iterdir(), *(city / "val_labels").iterdir()]:
        path.unlink()


@pytest.mark.parametrize(
    ("fault", "check", "severity", "split", "count", "where", "words"),
    [
        (remove_halves, "missing half", "error", "", 2,
         "train/scene_0.png, val_labels/scene_5_L.png", "without a photograph: 2. Add the other"),
        (damage, "unreadable file", "error", "train", 2,
         "train/scene_1.png, train_labels/scene_2_L.png",
         "2 of 4 pairs not decoded; the first: train/scene_1.png cannot be read as a picture"),
        (cut_a_mask, "sizes differ", "error", "train", 1, "train_labels/scene_0_L.png",
         "train_labels/scene_0_L.png is 32×48 (height × width) but its image train/scene_0.png is "
         "40×48: export the mask at the image's size"),
        (paint_much, "unknown colours", "error", "train", 1, "train_labels/scene_0_L.png",
         "1 of 4 masks with over 1 % of pixels in colours of no class, at worst (10, 240, 30) on "
         "64 px (nearest class Sky, 190 away). Reading fails: correct the masks, or add"),
        (paint_little, "stray colours", "warning", "train", 1, "train_labels/scene_1_L.png",
         "(10, 240, 30) on 6 px (nearest class Sky, 190 away). They are read as a class nearby"),
        (blend, "blended boundaries", "warning", "train", 4,
         "train_labels/scene_1_L.png, train_labels/scene_2_L.png, train_labels/scene_0_L.png and 1 "
         "more", "4 of 4 masks with blends of two colours, at worst on 28 % of the pixels."),
        (write_jpeg, "lossy masks", "warning", "train", 1, "train_labels/scene_0_L.jpg",
         "1 of 4 masks in JPEG or WebP, which change colours where classes meet. Export them as"),
        (turn, "turned photographs", "note", "train", 1, "train/scene_3.png", "stand upright too"),
        (remove_road, "absent classes", "warning", "train", 1, "Road",
         "1 of 3 classes in other splits but not in train. Is the table right? dataset.split()"),
        (add_classes, "absent classes", "warning", "", 2, "Boat, Bird",
         "2 of 5 classes in no mask at all."),
        (blank_one, "blank masks", "warning", "train", 1, "train_labels/scene_0_L.png",
         "1 of 4 masks with a single class or less. See whether they were left undone"),
        (blank_most, "blank masks", "note", "train", 3,
         "train_labels/scene_0_L.png, train_labels/scene_1_L.png, train_labels/scene_2_L.png",
         "the nature of the data."),
        (draw_little_road, "class imbalance", "note", "", 1, "Road",
         "Sky has 24 times as many pixels as Road, the rarest class. Dice, half of"),
        (enlarge_a_pair, "large pictures", "note", "", 1, "train/scene_0.png",
         "1 of 8 pictures, at worst 400×480 shrunk to 128×128: what is thinner than 4 pixels is "
         "lost. For their own scale: notebook 3 with SCALE = "),
        (empty_val, "empty split", "warning", "val", 0, "", "There is no pair to choose the best"),
    ],
)  # fmt: skip
def test_a_fault_is_found(city, classes, fault, check, severity, split, count, where, words):
    fault(city, classes)
    report = check_dataset(city)
    (finding,) = find(report, check)
    assert (finding.severity, finding.split, finding.count) == (severity, split, count)
    assert finding.where == where
    assert words in f"{finding.meaning} {finding.advice}"
    if check in ("sizes differ", "unknown colours", "stray colours", "blended boundaries"):
        assert report.findings == (finding,)
        i = int(where.split("_")[2])
        assert finding.examples.pairs == [(photograph(city, i), mask(city, i))]
    if check in ("sizes differ", "unknown colours"):
        with pytest.raises(DatasetError):
            open_dataset(city).train[0]


def test_an_unknown_region_in_an_antialiased_mask_is_still_found(classes):
    pixels = np.zeros((60, 60, 3), np.uint8)
    pixels[:, :30] = classes.colors[1]
    pixels[:, 30] = classes.colors[1] // 2  # between Building and Void
    pixels[10:13, 10:13] = GREEN
    pixels[40, 31] = (90, 60, 0)  # on no line between two classes, but beside a blend
    labels = closest_labels(pixels, classes.mapping)
    unknown, blends = find_strange_pixels(pixels, labels, classes)
    expected = np.zeros((60, 60), bool)
    expected[10:13, 10:13] = True
    np.testing.assert_array_equal(unknown, expected)
    assert np.argwhere(blends).tolist() == sorted([[i, 30] for i in range(60)] + [[40, 31]])


def test_ids_outside_the_table(tmp_path, classes):
    for i in range(4):
        random = np.random.default_rng(i)
        labels = np.kron(random.permutation(20).reshape(4, 5) % 4, np.ones((10, 10)))
        if i == 1:
            labels[0, :3], labels[1, 0] = 7, 200
        for kind, pixels in (("images", random.integers(0, 256, (40, 50, 3))), ("masks", labels)):
            (tmp_path / kind).mkdir(exist_ok=True)
            save(tmp_path / kind / f"{i}.png", pixels)
    seglib.classes.write_class_table(tmp_path / "class_dict.csv", classes)
    dataset = open_dataset(tmp_path, encoding="ids")
    report = check_dataset(dataset)
    (finding,) = find(report, "unknown ids")
    assert finding.where == "masks/1.png"
    assert "which ends at 3: 7 on 3 px, 200 on 1 px." in finding.meaning
    assert "ignore_label=255" in finding.advice
    assert finding.severity == "error"


def test_copies_within_a_split_and_across(city):
    for i, target, split in ((0, 1, "train"), (2, 4, "val")):
        save(photograph(city, i), smooth(40, 48, seed=i))
        picture = Image.open(photograph(city, i)).resize((96, 80), Image.Resampling.BICUBIC)
        picture.save(photograph(city, target, split))
        save(mask(city, target, split), read(mask(city, i)).repeat(2, axis=0).repeat(2, axis=1))
    across, within = find(check_dataset(city), "near-duplicates")
    assert (across.severity, across.split, across.count) == ("warning", "train, val", 1)
    assert across.where == "train/scene_2 = val/scene_4"
    assert "one in train and one in val: 1 pairs." in across.meaning
    assert 'dataset.split(by="sequence")' in across.advice
    assert across.examples.names == ["train: scene_2", "val: scene_4"]
    assert (within.split, within.where) == ("train", "train/scene_0 = train/scene_1")


def test_a_drive_in_two_splits(tmp_path, classes):
    """Val holds the last frames of a drive whose first ones are in train."""
    panorama = smooth(40, 96)
    names = {"train": [f"drive_{i:03d}" for i in range(9)] + ["tree", "bridge", "lighthouse"],
             "val": [f"drive_{i:03d}" for i in range(9, 12)] + ["river", "tower"]}  # fmt: skip
    for split, name in ((split, name) for split, chosen in names.items() for name in chosen):
        image = smooth(40, 48, seed=sum(name.encode()))
        if name.startswith("drive"):
            image = panorama[:, 4 * int(name[-3:]) :][:, :48]
        blocks = np.random.default_rng(sum(name.encode())).permutation(20).reshape(5, 4) % 4
        for kind in (split, f"{split}_labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
        save(tmp_path / split / f"{name}.png", image)
        colors = classes.colors[np.kron(blocks, np.ones((8, 12), int))]
        save(tmp_path / f"{split}_labels" / f"{name}_L.png", colors)
    seglib.classes.write_class_table(tmp_path / "class_dict.csv", classes)
    (shared,) = check_dataset(tmp_path).findings
    assert (shared.severity, shared.split, shared.count) == ("warning", "train, val", 1)
    assert shared.where == "drive (9 in train, 3 in val)"
    assert shared.meaning == "1 of 1 sequences are in train and in val."
    assert 'dataset.split(by="sequence")' in shared.advice
    assert shared.examples.names == ["train: drive_008", "val: drive_009"]


def test_regions_that_vanish_at_the_size_of_the_training(city, classes):
    """Single pixels of Sky, and 2 that touch by their corners: one there covers 4 here."""
    for path in city.glob("*_labels/*.png"):
        repaint(path, classes.colors[0], classes.colors[1])
        pixels = read(path).repeat(2, axis=0).repeat(2, axis=1)
        pixels[::16, ::16] = pixels[1, 1] = classes.colors[0]
        save(path, pixels)
        path = city / path.parent.name.removesuffix("_labels") / path.name.replace("_L", "")
        save(path, read(path).repeat(2, axis=0).repeat(2, axis=1))
    (finding,) = find(check_dataset(city, image_size=(40, 48)), "tiny regions")
    assert (finding.severity, finding.split) == ("warning", "")
    assert finding.meaning == (
        "8 of 8 masks with regions smaller than a pixel at 40×48. "
        "Sky loses most, 100 % of its pixels."
    )
    assert "choose a larger image_size" in finding.advice
    assert not find(check_dataset(city, image_size=(80, 96)), "tiny regions")


def test_the_report_is_a_table_reads_well_and_raises_its_errors(city, classes, tmp_path):
    mask(city, 2).write_bytes(b"no picture")
    for fault in (paint_much, paint_little, turn):
        fault(city, classes)
    report = check_dataset(city)
    table = report.table
    checks = ["unreadable file", "unknown colours", "stray colours", "turned photographs"]
    assert table["check"].tolist() == checks
    assert table["severity"].tolist() == ["error", "error", "warning", "note"]
    assert table["count"].tolist() == [1, 1, 1, 1]
    lines = repr(report).splitlines()
    assert lines[0].endswith("2 errors, 1 warning, 1 note")
    assert lines[1].startswith("  error: unreadable file in train: 1 of 4 pairs")
    assert max(map(len, lines)) <= 100
    assert "2 errors, 1 warning, 1 note" in report._repr_html_()
    assert "<td>unknown colours</td>" in report._repr_html_()
    path = report.write(tmp_path / "new" / "report")
    assert path == tmp_path / "new/report/checks.csv"
    pd.testing.assert_frame_equal(pd.read_csv(path), table, check_dtype=False)
    with pytest.raises(DatasetError, match="2 errors, 1 warning, 1 note") as raised:
        report.raise_for_errors()
    first, second = str(raised.value).splitlines()[1:]
    assert first.startswith("- unreadable file in train: 1 of 4 pairs not decoded")
    assert second.startswith("- unknown colours in train: 1 of 4 masks with over 1 %")


def test_masks_that_are_all_alike_or_show_one_class(city):
    for path in city.glob("*_labels/*.png"):
        pixels = read(mask(city, 0))
        pixels[:2] = pixels[2]
        save(path, pixels)
    (finding,) = find(check_dataset(city), "masks alike")
    assert (finding.severity, finding.count) == ("warning", 8)
    (city / "class_dict.csv").write_text("name,r,g,b\nunlabeled,0,0,0\nroad,255,255,255\n")
    for path in city.glob("*_labels/*.png"):
        save(path, 255 * (read(path).sum(axis=-1) > 300))
    (finding,) = find(check_dataset(city), "one class")
    assert (finding.severity, finding.where) == ("warning", "unlabeled")
    assert "1 class is left to tell apart" in finding.meaning


@pytest.mark.camvid
def test_camvids_drive_is_in_train_and_val(camvid):
    report = check_dataset(seglib.open_dataset(camvid))
    assert report.raise_for_errors() is report
    shared = find(report, "shared sequences")
    assert any("0016E5 (204 in train, 101 in val)" in finding.where for finding in shared)
    checks = {"shared sequences", "tiny regions", "large pictures", "class imbalance"}
    assert {finding.check for finding in report.findings} == checks
