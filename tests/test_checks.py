import numpy as np
import pandas as pd
import pytest
from PIL import Image

import seglib
from seglib.checks import check_dataset, find_strange_pixels, find_tiny_regions
from seglib.datasets import open_dataset
from seglib.images import DatasetError
from seglib.masks import closest_labels
from seglib.scenes import write_scenes

TURNED = {0x0112: 6}


def find(report, check):
    """The findings of one kind."""
    return [finding for finding in report.findings if finding.check == check]


def find_one(report, check, severity, split="train"):
    (finding,) = find(report, check)
    assert (finding.severity, finding.split) == (severity, split)
    return finding


def photograph(folder, i, split="train"):
    return folder / split / f"scene_{i}.png"


def mask(folder, i, split="train"):
    return folder / f"{split}_labels" / f"scene_{i}_L.png"


def read(path):
    return np.array(Image.open(path).convert("RGB"))


def save(path, pixels, **options):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def paint(path, rows, columns, color):
    pixels = read(path)
    pixels[rows, columns] = color
    save(path, pixels)


def save_turned(path, pixels):
    """Save a photograph lying on its side, with EXIF data that turn it upright."""
    picture = Image.fromarray(np.rot90(pixels).copy())
    exif = picture.getexif()
    exif.update(TURNED)
    picture.save(path, exif=exif)


def smooth(height, width, *, seed=0):
    """A photograph of soft blobs."""
    noise = np.random.default_rng(seed).normal(128, 60, (height // 8, width // 8))
    picture = Image.fromarray(noise.astype(np.float32)).resize((width, height), Image.BICUBIC)
    return np.clip(picture, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def drive(frames, *, step=4):
    """Photographs of a camera that moves along a panorama."""
    panorama = smooth(40, 48 + frames * step)
    return [panorama[:, i * step : i * step + 48] for i in range(frames)]


def test_a_clean_data_set_has_nothing_to_report(city, capsys):
    report = check_dataset(city)
    assert report.findings == ()
    assert report.ok
    assert report.raise_for_errors() is report
    assert report.table.empty
    assert repr(report) == (
        "DatasetReport of city: train 4, val 2, test 2 pairs; 0 errors, 0 warnings, 0 notes"
    )
    assert capsys.readouterr() == ("", "")


def test_the_embedded_scenes_raise_no_false_alarm(tmp_path):
    write_scenes(tmp_path / "streets", num_scenes=60, size=(90, 120))
    report = check_dataset(open_dataset(tmp_path / "streets"))
    assert report.ok
    assert not report.select("warning")
    assert [finding.check for finding in report.select("note")] == ["class imbalance"]


def test_half_of_a_pair_is_missing(city):
    mask(city, 0).unlink()
    photograph(city, 5, "val").unlink()
    finding = find_one(check_dataset(city), "missing half", "error", "")
    assert finding.count == 2
    assert finding.where == "train/scene_0.png, val_labels/scene_5_L.png"
    assert finding.meaning.endswith("masks without a photograph: 2.")
    assert finding.advice == "Add the other half, or remove the file."


def test_files_that_cannot_be_decoded(city):
    path = photograph(city, 1)
    path.write_bytes(path.read_bytes()[:1000])
    mask(city, 2).write_bytes(b"no picture")
    finding = find_one(check_dataset(city), "unreadable file", "error")
    assert finding.count == 2
    assert finding.where == "train/scene_1.png, train_labels/scene_2_L.png"
    assert "the first: train/scene_1.png cannot be read as a picture" in finding.meaning
    assert "copy it again or remove the pair" in finding.meaning


def test_a_mask_of_another_size(city):
    save(mask(city, 0), read(mask(city, 0))[:-8])
    finding = find_one(check_dataset(city), "sizes differ", "error")
    assert (
        "train_labels/scene_0_L.png is 32×48 (height × width) but its image train/scene_0.png is "
        "40×48: export the mask at the image's size" in finding.meaning
    )
    assert finding.examples[0].pairs == ((photograph(city, 0), mask(city, 0)),)


def test_colours_of_no_class_with_the_class_nearest_to_them(city):
    paint(mask(city, 0), slice(0, 8), slice(0, 8), (10, 240, 30))  # 64 of 1920 pixels
    paint(mask(city, 1), slice(0, 2), slice(0, 3), (10, 240, 30))  # 6
    report = check_dataset(city)
    finding = find_one(report, "unknown colours", "error")
    assert (finding.count, finding.where) == (1, "train_labels/scene_0_L.png")
    # Sky is (128, 128, 128): 118, 112 and 98 away in the three channels.
    assert "(10, 240, 30) on 64 px (nearest class Sky, 190 away)" in finding.meaning
    assert finding.advice.startswith("Add the colours to the class table, or correct the masks")
    with pytest.raises(DatasetError, match=r"\(10, 240, 30\)"):
        open_dataset(city).train[0]
    finding = find_one(report, "stray colours", "warning")
    assert (finding.count, finding.where) == (1, "train_labels/scene_1_L.png")
    assert "(10, 240, 30) on 6 px (nearest class Sky, 190 away)" in finding.meaning
    open_dataset(city).train[1]


def test_blends_along_boundaries_are_no_unknown_colours(city):
    for i in range(4):
        picture = Image.open(mask(city, i)).resize((96, 80), Image.Resampling.BILINEAR)
        picture.resize((48, 40), Image.Resampling.BILINEAR).save(mask(city, i))
    report = check_dataset(city)
    finding = find_one(report, "blended boundaries", "warning")
    assert finding.meaning.startswith("4 of 4 masks with blends of two classes' colours")
    assert "Reading gives them the class of a neighbour" in finding.advice
    assert report.findings == (finding,)


def test_an_unknown_region_in_an_antialiased_mask_is_still_found(classes):
    pixels = np.zeros((60, 60, 3), np.uint8)
    pixels[:, :30] = classes.colors[1]
    pixels[:, 30] = classes.colors[1] // 2  # between Building and Void
    pixels[10:13, 10:13] = (10, 240, 30)
    pixels[40, 31] = (90, 60, 0)  # on no line between two classes, but beside a blend
    labels = closest_labels(pixels, classes.mapping)
    unknown, blends = find_strange_pixels(pixels, labels, classes)
    expected = np.zeros((60, 60), bool)
    expected[10:13, 10:13] = True
    np.testing.assert_array_equal(unknown, expected)
    assert np.argwhere(blends).tolist() == sorted([[i, 30] for i in range(60)] + [[40, 31]])


def test_masks_in_a_lossy_format(city):
    Image.open(mask(city, 0)).save(mask(city, 0).with_suffix(".jpg"), quality=80)
    mask(city, 0).unlink()
    report = check_dataset(city)
    finding = find_one(report, "lossy masks", "warning")
    assert finding.where == "train_labels/scene_0_L.jpg"
    assert finding.advice.startswith("Export them as PNG")
    assert not find(report, "blended boundaries")
    assert report.ok


@pytest.fixture(name="with_ids")
def write_ids(tmp_path, classes):
    """Folder whose masks hold ids, and the masks' paths."""
    folder = tmp_path / "ids"
    for split, count in (("train", 4), ("val", 2)):
        for kind in (split, f"{split}_labels"):
            (folder / kind).mkdir(parents=True)
        for i in range(count):
            random = np.random.default_rng([count, i])
            labels = np.kron(random.permutation(20).reshape(4, 5) % 4, np.ones((10, 10)))
            save(folder / split / f"{i}.png", random.integers(0, 256, (40, 50, 3)))
            save(folder / f"{split}_labels" / f"{i}.png", labels)
    seglib.classes.write_class_table(folder / "class_dict.csv", classes)
    return folder


def test_ids_outside_the_table(with_ids):
    path = with_ids / "train_labels/1.png"
    labels = np.array(Image.open(path))
    labels[0, :3], labels[1, 0] = 7, 200
    save(path, labels)
    report = check_dataset(open_dataset(with_ids, encoding="ids"))
    finding = find_one(report, "unknown ids", "error")
    assert finding.where == "train_labels/1.png"
    assert "which ends at 3: 7 on 3 px, 200 on 1 px." in finding.meaning
    assert "ignore_label=255" in finding.advice
    assert len(report.findings) == 1


def repaint(folder, old, new, indices, split):
    for i in indices:
        pixels = read(mask(folder, i, split))
        pixels[(pixels == old).all(axis=-1)] = new
        save(mask(folder, i, split), pixels)


def test_a_class_that_only_val_holds_cannot_be_learned(city, classes):
    repaint(city, classes.colors[2], classes.colors[1], range(4), "train")
    finding = find_one(check_dataset(city), "absent classes", "warning", "train")
    assert (finding.count, finding.where) == (1, "Road")
    assert (
        "1 of 3 classes in other splits but not in train: they cannot be learned" in finding.meaning
    )
    assert "dataset.split()" in finding.advice


def test_a_class_that_no_mask_holds(city):
    table = (city / "class_dict.csv").read_text() + "Boat,9,99,200,0\nBird,240,240,9,0\n"
    (city / "class_dict.csv").write_text(table)
    finding = find_one(check_dataset(city), "absent classes", "warning", "")
    assert (finding.count, finding.where) == (2, "Boat, Bird")
    assert finding.meaning == "2 of 5 classes in no mask at all."


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
    assert across.examples[0].captions == ("train: scene_2", "val: scene_4")
    assert (within.split, within.where) == ("train", "train/scene_0 = train/scene_1")


@pytest.fixture(name="drives")
def write_drives(tmp_path, classes):
    """Folder whose train holds frames of a drive, and val the drive's last ones."""
    folder = tmp_path / "drives"
    random = np.random.default_rng(0)
    frames = drive(12)
    names = {"train": [f"drive_{i:03d}" for i in range(9)] + ["tree", "bridge", "lighthouse"],
             "val": [f"drive_{i:03d}" for i in range(9, 12)] + ["river", "tower"]}  # fmt: skip
    for split, chosen in names.items():
        for kind in (split, f"{split}_labels"):
            (folder / kind).mkdir(parents=True)
        for name in chosen:
            moving = name.startswith("drive")
            image = frames[int(name[-3:])] if moving else smooth(40, 48, seed=sum(name.encode()))
            blocks = np.kron(random.permutation(20).reshape(5, 4) % 4, np.ones((8, 12), int))
            save(folder / split / f"{name}.png", image)
            save(folder / f"{split}_labels" / f"{name}_L.png", classes.colors[blocks])
    seglib.classes.write_class_table(folder / "class_dict.csv", classes)
    return folder


def test_a_drive_in_two_splits_and_its_neighbours_in_time(drives):
    report = check_dataset(drives)
    finding = find_one(report, "shared sequences", "warning", "train, val")
    assert (finding.count, finding.where) == (1, "drive (9 in train, 3 in val)")
    assert "1 of 1 sequences of frames are in train and val" in finding.meaning
    assert finding.advice == 'Deal sequences out as wholes: dataset.split(by="sequence").'
    assert finding.examples[0].captions == ("train: drive_008", "val: drive_009")
    in_train, in_val = find(report, "neighbours in time")
    assert in_train.meaning.startswith("9 of 12 pictures follow one another")
    assert (in_val.severity, in_val.split, in_val.where) == ("note", "val", "drive (3)")
    assert len(report.findings) == 3


def test_blank_masks(city, classes):
    save(mask(city, 0), np.full((40, 48, 3), classes.colors[1]))
    save(mask(city, 6, "test"), np.full((40, 48, 3), classes.colors[3]))
    in_train, in_test = find(check_dataset(city), "blank masks")
    assert (in_train.severity, in_train.where) == ("warning", "train_labels/scene_0_L.png")
    assert (
        in_train.meaning == "1 of 4 masks with a single class or less; 0 with ignored pixels alone."
    )
    assert in_train.advice.startswith("See whether they were left undone")
    assert (
        in_test.meaning == "1 of 2 masks with a single class or less; 1 with ignored pixels alone."
    )


def test_where_most_masks_are_blank_that_is_a_note(city, classes):
    for i in range(3):
        save(mask(city, i), np.full((40, 48, 3), classes.colors[1]))
    finding = find_one(check_dataset(city), "blank masks", "note")
    assert finding.count == 3
    assert finding.advice.endswith("the nature of the data.")


def test_tiny_regions_by_hand():
    labels = np.zeros((64, 64), np.uint8)
    labels[10, 10] = labels[11, 11] = labels[30:33, 30] = 1  # 2 pixels by their corners, 3 pixels
    labels[40:42, 40:42] = 2
    regions, ids, areas, tiny = find_tiny_regions(labels, (32, 32))  # a pixel there covers 4 here
    assert sorted(zip(ids[1:].tolist(), areas[1:].tolist(), tiny[1:].tolist(), strict=True)) == [
        (0, 4087, False), (1, 2, True), (1, 3, True), (2, 4, False),
    ]  # fmt: skip
    assert tiny[regions].sum() == 5


def test_regions_that_vanish_at_the_size_of_the_training(city, classes):
    for path in city.glob("*_labels/*.png"):
        pixels = read(path).repeat(4, axis=0).repeat(4, axis=1)
        pixels[(pixels == classes.colors[0]).all(axis=-1)] = classes.colors[1]
        pixels[::16, ::16] = classes.colors[0]  # 120 single pixels of Sky
        save(path, pixels)
        path = city / path.parent.name.removesuffix("_labels") / path.name.replace("_L", "")
        save(path, read(path).repeat(4, axis=0).repeat(4, axis=1))
    report = check_dataset(city, image_size=(80, 96))
    finding = find_one(report, "tiny regions", "warning", "")
    assert finding.meaning.startswith(
        "8 of 8 masks with regions smaller than a pixel at 80×96: 960 of "
    )
    assert "Sky loses most, 100 % of its pixels." in finding.meaning
    assert "choose a larger image_size" in finding.advice
    assert not find(check_dataset(city, image_size=(160, 192)), "tiny regions")


def test_class_imbalance(city, classes):
    for path in city.glob("*_labels/*.png"):
        pixels = np.full((40, 48, 3), classes.colors[1])
        pixels[:20], pixels[30:32, :20] = classes.colors[0], classes.colors[2]
        save(path, pixels)
    finding = find_one(check_dataset(city), "class imbalance", "note", "")
    assert finding.meaning == "Sky has 24 times as many pixels as Road, the rarest class."
    assert finding.advice.startswith("The default loss hears rare classes")


def test_pictures_of_other_proportions(city):
    for path in (photograph(city, 0), mask(city, 0)):
        save(path, read(path)[:, :32])
    finding = find_one(check_dataset(city), "picture sizes", "note", "")
    assert finding.meaning == ("2 sizes, from 40×32 to 40×48, 0.8 to 1.2 times as wide as high.")
    assert 'prepare(fit="letterbox")' in finding.advice


def test_an_empty_val_split(city):
    for path in [*(city / "val").iterdir(), *(city / "val_labels").iterdir()]:
        path.unlink()
    finding = find_one(check_dataset(city), "empty split", "warning", "val")
    assert finding.meaning.startswith("val holds no pair: nothing tells which epoch is best")
    assert finding.advice == "Deal the pairs out anew with dataset.split()."


@pytest.fixture(name="faulty")
def write_faults(city):
    mask(city, 0).write_bytes(b"no picture")
    paint(mask(city, 1), slice(0, 8), slice(0, 8), (10, 240, 30))
    paint(mask(city, 2), slice(0, 2), slice(0, 3), (10, 240, 30))
    save_turned(photograph(city, 3), read(photograph(city, 3)))
    return check_dataset(city)


def test_errors_come_first_and_are_raised_together(faulty):
    assert [finding.check for finding in faulty.select("error")] == [
        "unreadable file",
        "unknown colours",
    ]
    assert [finding.check for finding in faulty.select("warning")] == ["stray colours"]
    assert [finding.check for finding in faulty.select("note")] == ["turned photographs"]
    assert faulty.findings == (
        *faulty.select("error"),
        *faulty.select("warning"),
        *faulty.select("note"),
    )
    assert not faulty.ok
    with pytest.raises(DatasetError, match="2 errors, 1 warning, 1 note") as raised:
        faulty.raise_for_errors()
    first, second = str(raised.value).splitlines()[1:]
    assert first.startswith("- unreadable file in train: 1 of 4 pairs not decoded")
    assert second.startswith("- unknown colours in train: 1 of 4 masks with over 1 %")


def test_the_report_is_a_table_and_reads_well(faulty, tmp_path):
    table = faulty.table
    assert table.columns.tolist() == [
        "check", "severity", "split", "count", "where", "meaning", "advice",
    ]  # fmt: skip
    assert table["severity"].tolist() == ["error", "error", "warning", "note"]
    assert table["count"].tolist() == [1, 1, 1, 1]
    lines = repr(faulty).splitlines()
    assert lines[0].endswith("2 errors, 1 warning, 1 note")
    assert lines[1].startswith("  error: unreadable file in train: 1 of 4 pairs")
    assert max(map(len, lines)) <= 100
    assert "2 errors, 1 warning, 1 note" in faulty._repr_html_()
    assert "<td>unknown colours</td>" in faulty._repr_html_()
    path = faulty.write(tmp_path / "new" / "report")
    assert path == tmp_path / "new/report/checks.csv"
    pd.testing.assert_frame_equal(pd.read_csv(path), table, check_dtype=False)


def test_an_image_size_that_is_too_small_is_refused(city):
    with pytest.raises(ValueError, match="at least 32 pixels"):
        check_dataset(city, image_size=16)


@pytest.mark.camvid
def test_camvids_drive_is_in_train_and_val_and_its_frames_are_neighbours(camvid):
    report = check_dataset(seglib.open_dataset(camvid))
    assert report.ok
    shared = [
        finding for finding in report.select("warning") if finding.check == "shared sequences"
    ]
    assert any("0016E5 (204 in train, 101 in val)" in finding.where for finding in shared)
    in_train = find(report, "neighbours in time")[0]
    assert in_train.meaning.startswith("367 of 367 pictures follow one another")
    assert {finding.check for finding in report.findings} == {
        "shared sequences", "neighbours in time", "tiny regions", "class imbalance",
    }  # fmt: skip
