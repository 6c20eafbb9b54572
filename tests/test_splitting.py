import io
import itertools
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from seglib import splitting
from seglib.annotations import read_size
from seglib.images import DatasetError, read_image
from seglib.scenes import draw_scene
from seglib.splitting import deal_out, find_near_duplicates, read_splits, write_splits

FRACTIONS = (0.7, 0.15, 0.15)
some_fractions = st.sampled_from([FRACTIONS, (0.6, 0.2, 0.2), (0.5, 0.5, 0), (1, 0, 0), (0, 1, 0)])


def split_of_each(dealt, count):
    """Split of each item; an item that is in no split, or in two, fails."""
    items = [(item, name) for name, chosen in dealt.items() for item in chosen]
    assert sorted(item for item, _ in items) == list(range(count))
    return np.array([name for _, name in sorted(items)])


def shares(dealt, amounts):
    """Array (splits, classes): share of each class that each split holds."""
    return np.stack([amounts[chosen].sum(axis=0) for chosen in dealt.values()]) / amounts.sum(0)


def draw_presence(count, num_classes, seed=0):
    """Pixels of classes from rare to common."""
    random = np.random.default_rng(seed)
    chance = np.geomspace(20 / count, 0.9, num_classes)
    pixels = random.lognormal(6, 1.5, (count, num_classes)).astype(int) + 1
    return (random.random((count, num_classes)) < chance) * pixels


def test_the_seed_gives_the_same_split_on_every_machine():
    dealt = deal_out(40)
    assert dealt["val"] == [1, 3, 10, 18, 22, 34]
    assert dealt["test"] == [2, 4, 11, 23, 24, 27]
    assert [len(chosen) for chosen in dealt.values()] == [28, 6, 6]
    assert deal_out(40, seed=1) != dealt
    assert list(dealt) == ["train", "val", "test"]


@settings(deadline=None, max_examples=8)
@given(
    groups=st.lists(st.integers(0, 30), min_size=3, max_size=120),
    fractions=some_fractions,
    num_classes=st.integers(0, 5),
    seed=st.integers(0, 3),
)
def test_no_group_is_on_both_sides(groups, fractions, num_classes, seed):
    if len(set(groups)) < 3:
        groups = [*groups, 31, 32, 33]
    presence = draw_presence(len(groups), num_classes, seed) if num_classes else None
    dealt = deal_out(groups, fractions=fractions, seed=seed, presence=presence)
    split = split_of_each(dealt, len(groups))
    for group in set(groups):
        assert len(set(split[np.array(groups) == group])) == 1
    for fraction, chosen in zip(fractions, dealt.values(), strict=True):
        assert (len(chosen) > 0) == (fraction > 0)
    assert deal_out(groups, fractions=fractions, seed=seed, presence=presence) == dealt


@pytest.mark.parametrize("seed", range(4))
def test_a_deal_of_few_groups_is_near_the_best_of_all(seed):
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(6), random.integers(1, 15, 6))
    presence = (random.random((6, 3)) < 0.7)[groups] * random.integers(1, 900, (len(groups), 3))
    amounts = np.column_stack([np.ones(len(groups)), presence[:, presence.any(axis=0)]])
    ways = {way: [np.flatnonzero(np.array(way)[groups] == k) for k in range(3)]
            for way in itertools.product(range(3), repeat=6) if len(set(way)) == 3}  # fmt: skip
    found = shares(deal_out(groups.tolist(), presence=presence), amounts)
    best = [shares(dict(enumerate(parts)), amounts) for parts in ways.values()]
    fewest = min((way == 0).sum() for way in best)
    assert (found == 0).sum() == fewest
    least = min(np.abs(way.T - FRACTIONS).sum() for way in best if (way == 0).sum() == fewest)
    assert np.abs(found.T - FRACTIONS).sum() < 1.3 * least


def test_class_shares_are_near_the_fractions_with_many_items_and_huge_counts():
    presence = draw_presence(2000, 12) * 2**30
    dealt = deal_out(2000, presence=presence)
    assert [len(chosen) for chosen in dealt.values()] == [1400, 300, 300]
    off = np.abs(shares(dealt, presence).T - FRACTIONS).max(axis=1)
    at_random = np.abs(shares(deal_out(2000), presence).T - FRACTIONS).max(axis=1)
    assert off.max() < 0.15
    assert off.mean() < 0.5 * at_random.mean()


@pytest.mark.parametrize(
    ("groups", "options", "words"),
    [
        (9, {"fractions": (0.5, 0.5)}, "expected three fractions that add up to 1, received"),
        (9, {"fractions": (1.2, -0.1, -0.1)}, "expected three fractions that add up to 1"),
        (["a", "b", "a"], {}, "2 groups cannot be dealt out to 3 splits: make finer groups"),
    ],
)
def test_wrong_arguments(groups, options, words):
    with pytest.raises(ValueError, match=words):
        deal_out(groups, **options)


def test_each_of_as_many_groups_as_folds_is_a_fold():
    groups = list("aaaaaabcd")  # a quarter of the items is more than two of them
    folds = splitting.deal_folds(groups, 4, seed=0)
    assert sorted("".join(groups[i] for i in fold) for fold in folds) == ["aaaaaa", "b", "c", "d"]


# Kept in a file


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def make_pairs(root, *names):
    """Three splits of a pair for each name."""
    return {
        split: [
            tuple(touch(root / split / kind / name) for kind in ("image", "mask")) for name in names
        ]
        for split in splitting.NAMES
    }


def test_splits_that_were_written_are_read_again(tmp_path):
    root = tmp_path / "données"
    pairs = make_pairs(root, "Straße, 1.png", 'a "quoted" name.png', " 写真 2.png")
    write_splits(tmp_path / "splits.csv", pairs, root)
    assert read_splits(tmp_path / "splits.csv", root) == pairs
    text = (tmp_path / "splits.csv").read_text(encoding="utf-8")
    first = '"train/image/Straße, 1.png","train/mask/Straße, 1.png"'
    assert text.startswith(f"split,image,mask\ntrain,{first}\n")
    by_a_spreadsheet = text.replace("\ntrain", "\r\n\r\ntrain").encode("utf-8-sig")
    (tmp_path / "splits.csv").write_bytes(by_a_spreadsheet)
    assert read_splits(tmp_path / "splits.csv", root) == pairs
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["splits.csv"]


@pytest.mark.skipif(os.name != "posix", reason="no such names there")
@pytest.mark.parametrize("name", [b"a\nb.png", b"a\rb.png", b'"a",\r\n.png', b"caf\xe9.png"])
def test_splits_are_read_back_whatever_the_names(tmp_path, name):
    pairs = make_pairs(tmp_path, os.fsdecode(name))
    write_splits(tmp_path / "splits.csv", pairs, tmp_path)
    assert read_splits(tmp_path / "splits.csv", tmp_path) == pairs


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("image,mask\na,b", "line 1: expected split,image,mask with one of train, val, test"),
        ("split,image,mask\ntrain,a,b\ndev,c,d", "line 3: expected .*received dev"),
        ("split,image,mask\ntrain,a", "line 2: expected split,image,mask"),
        ("split,image,mask\ntrain,a,e", r"line 2: there is no file .*e: copy it there"),
        ("split,image,mask\ntrain,a,b\n\nval,a,c", "line 4: .*a is in line 2 already: remove one"),
    ],
)  # fmt: skip
def test_wrong_tables_name_the_line(tmp_path, lines, message):
    for name in "abcd":
        touch(tmp_path / name)
    (tmp_path / "splits.csv").write_text(lines)
    with pytest.raises(DatasetError, match=rf"splits.csv, {message}"):
        read_splits(tmp_path / "splits.csv", tmp_path)


# Sequences


def smooth(height, width, *, seed=0, cell=8):
    """A picture of soft blobs, uint8."""
    random = np.random.default_rng(seed)
    noise = random.normal(128, 50, (height // cell, width // cell)).astype(np.float32)
    picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(picture, 0, 255).astype(np.uint8)


def drive(frames, *, seed=0, step=3):
    """Thumbnails of a camera that moves along a panorama."""
    panorama = smooth(32, 32 + step * frames, seed=seed)
    return np.stack([panorama[:, step * i : step * i + 32] for i in range(frames)])


def independent(count, *, seed=0):
    return np.stack([smooth(32, 32, seed=1000 * seed + i) for i in range(count)])


def shrink(picture):
    small = picture.convert("L").resize((32, 32), Image.Resampling.BILINEAR)
    return np.asarray(small)[None]


def save_jpeg(picture, quality):
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=quality)
    return Image.open(file).convert("RGB")


def test_a_name_is_a_prefix_and_its_last_number():
    expected = {"000123": ("", 123), "img (7)": ("img", 7), "Seq05VD_f00000": ("Seq05VD_f", 0),
                "take2-0003_left": ("take2", 3), "sofa": ("sofa", None)}  # fmt: skip
    assert {name: splitting.name_sequence(name) for name in expected} == expected


def test_a_drive_is_a_sequence_and_independent_pictures_are_none():
    names = [f"drive_{i:03d}" for i in range(20)] + [f"scene_{i:03d}" for i in range(20)]
    labels = splitting.find_sequences(names, np.concatenate([drive(20), independent(20)]))
    assert labels[:20] == ["drive"] * 20
    assert len(set(labels)) == 21


def test_a_drive_goes_on_from_one_folder_to_the_next():
    names = [f"{'train' if i < 15 else 'val'}/{i:05d}" for i in range(20)]
    thumbnails = np.concatenate([drive(20), independent(10)])
    names += [f"train/other {letter}" for letter in "abcdefghij"]
    assert splitting.find_sequences(names, thumbnails)[:20] == ["numbers"] * 20


# Near-duplicates


CHANGES = {
    "JPEG of low quality": lambda picture: save_jpeg(picture, 20),
    "a third of the size as JPEG": lambda picture: save_jpeg(picture.resize((80, 60)), 50),
    "twice the size": lambda picture: picture.resize((480, 360)),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.85),
}


def find(*thumbnails):
    return find_near_duplicates(np.concatenate(thumbnails)).tolist()


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_duplicate(change):
    pictures = [Image.fromarray(draw_scene(i)[0]) for i in range(3)]
    copies = [CHANGES[change](picture) for picture in pictures]
    assert find(*map(shrink, [*pictures, *copies])) == [[i, i + 3] for i in range(3)]


def test_scenes_mirrored_ones_frames_of_a_drive_and_flat_pictures_are_no_near_duplicates():
    scenes = [draw_scene(i)[0] for i in range(6)]
    assert find(*(shrink(Image.fromarray(scene)) for scene in [*scenes, scenes[0][:, ::-1]])) == []
    assert find(drive(40, step=2)) == []
    noise = np.random.default_rng(0).normal(0, 2, (30, 32, 32))
    assert find((128 + noise).round().astype(np.uint8)) == []
    assert find(np.zeros((0, 32, 32), np.uint8)) == []


def test_many_copies_are_each_paired_with_the_first():
    copies = np.repeat(independent(2), 100, axis=0)
    pairs = [[0, j] for j in range(1, 100)] + [[100, j] for j in range(101, 200)]
    assert find(copies) == pairs


# Photographs from files


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_photograph_is_looked_at_upright(tmp_path, suffix):
    image = draw_scene(0, size=(96, 128))[0]
    lying = Image.fromarray(np.rot90(image))
    exif = lying.getexif()
    exif[0x0112] = 6
    lying.save(tmp_path / f"lying.{suffix}", exif=exif)
    Image.fromarray(image).save(tmp_path / f"upright.{suffix}")
    lying, upright = (
        splitting.look_at_photograph(tmp_path / f"{name}.{suffix}") for name in ("lying", "upright")
    )
    assert (upright[1], upright[2]) == ((96, 128), False)
    assert (lying[1], lying[2]) == ((96, 128), True)
    assert np.abs(lying[0].astype(int) - upright[0]).mean() < 3


@pytest.mark.parametrize("suffix", ["jpg", "tif", "webp"])
@pytest.mark.parametrize(("kind", "value"), [(2, ord("6")), (7, 6), (3, 0), (3, 9), (3, 1000)])
def test_an_odd_orientation_means_upright(tmp_path, suffix, kind, value):
    """Text (kind 2), bytes (7) or a number (3) that is none of 1 to 8."""
    exif, path = Image.Exif(), tmp_path / f"odd.{suffix}"
    exif[0x0112] = 6
    Image.fromarray(draw_scene(0, size=(96, 128))[0]).save(path, exif=exif)
    content, form = path.read_bytes(), "<HHIHH" if suffix == "tif" else ">HHIHH"
    if kind != 3 and suffix != "tif":
        value <<= 8
    entry, odd = (struct.pack(form, 0x0112, *tag, 0) for tag in ((3, 1, 6), (kind, 1, value)))
    assert content.count(entry) == 1
    path.write_bytes(content.replace(entry, odd))
    assert splitting.look_at_photograph(path)[1:] == ((96, 128), False)
    assert read_size(path) == read_image(path).shape[:2] == (96, 128)


def test_a_truncated_photograph_is_named(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(draw_scene(0, size=(96, 128))[0]).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetError, match=r"photo.jpg cannot be read.*copy it again"):
        splitting.look_at_photograph(path)


def test_groups_are_sequences_and_near_duplicates(tmp_path):
    paths = []

    def save(name, pixels):  # their names all end alike, in a number
        paths.append(tmp_path / f"{name}_left8.png")
        Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC).save(paths[-1])

    for i, frame in enumerate(drive(12)):
        save(f"drive_{i}", frame)
    for i, picture in enumerate(independent(12, seed=3)):
        save(f"photo_{i}", picture)
    save("copy of photo five", independent(12, seed=3)[5])
    save("copy of a frame", drive(12)[3])
    groups = splitting.find_groups(paths)
    assert groups[:12] == ["drive"] * 12
    assert groups[-1] == "drive"
    assert groups[-2] == groups[17]
    assert len(set(groups)) == 13


@pytest.mark.camvid
def test_camvids_drives_are_found_and_its_frames_are_no_copies(camvid):
    paths = sorted(camvid.glob("train/*.jpg")) + sorted(camvid.glob("val/*.jpg"))
    drives = {"0001TP": "0001TP", "0006R0": "0006R0_f", "0016E5": "0016E5", "Seq05V": "Seq05VD_f"}
    assert splitting.find_groups(paths) == [drives[path.stem[:6]] for path in paths]
