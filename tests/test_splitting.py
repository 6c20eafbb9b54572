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
from seglib.splitting import deal_out, read_splits, write_splits

FRACTIONS = (0.7, 0.15, 0.15)
BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


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
    assert [*dealt, len(dealt["train"])] == ["train", "val", "test", 28]
    assert dealt["val"] == [1, 3, 10, 18, 22, 34]
    assert dealt["test"] == [2, 4, 11, 23, 24, 27]
    assert deal_out(40, seed=1) != dealt


@settings(deadline=None, max_examples=8)
@given(
    groups=st.lists(st.integers(0, 30), min_size=3, max_size=120),
    fractions=st.sampled_from([FRACTIONS, (0.6, 0.2, 0.2), (0.5, 0.5, 0), (1, 0, 0), (0, 1, 0)]),
    num_classes=st.integers(0, 5),
    seed=st.integers(0, 3),
)
def test_no_group_is_on_both_sides(groups, fractions, num_classes, seed):
    if len(set(groups)) < 3:
        groups = [*groups, 31, 32, 33]
    presence = draw_presence(len(groups), num_classes, seed) if num_classes else None
    dealt = deal_out(groups, fractions=fractions, seed=seed, presence=presence)
    assert sorted(itertools.chain(*dealt.values())) == list(range(len(groups)))
    assert sum(len({groups[i] for i in part}) for part in dealt.values()) == len(set(groups))
    assert [len(part) > 0 for part in dealt.values()] == [fraction > 0 for fraction in fractions]
    assert deal_out(groups, fractions=fractions, seed=seed, presence=presence) == dealt


@pytest.mark.parametrize("seed", range(4))
def test_a_deal_of_few_groups_is_near_the_best_of_all(seed):
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(6), random.integers(1, 15, 6))
    presence = (random.random((6, 3)) < 0.7)[groups] * random.integers(1, 900, (len(groups), 3))
    amounts = np.column_stack([np.ones(len(groups)), presence[:, presence.any(axis=0)]])
    found = shares(deal_out(groups.tolist(), presence=presence), amounts)
    ways = [np.array(way) for way in itertools.product(range(3), repeat=6) if len(set(way)) == 3]
    best = [shares({k: way[groups] == k for k in range(3)}, amounts) for way in ways]
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


@pytest.mark.parametrize(
    "name",
    [
        b'Stra\xc3\x9fe, "1".png',
        b" a.png",
        b"a\nb.png",
        b"a\rb.png",
        b'"a",\r\n.png',
        b"caf\xe9.png",
    ],
)
def test_splits_that_were_written_are_read_again(tmp_path, name):
    root, path, pairs = tmp_path / "données", tmp_path / "splits.csv", {}
    for split in splitting.NAMES:
        folders = [root / split / kind for kind in ("image", "mask")]
        pairs[split] = [tuple(folder / os.fsdecode(name) for folder in folders)]
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / os.fsdecode(name)).touch()
    write_splits(path, pairs, root)
    assert read_splits(path, root) == pairs
    by_a_spreadsheet = path.read_bytes().replace(b"\ntrain", b"\r\n\r\ntrain")
    path.write_bytes(b"\xef\xbb\xbf" + by_a_spreadsheet)
    assert read_splits(path, root) == pairs
    assert sorted(tmp_path.iterdir()) == [root, path]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("image,mask\na,b", "line 1: expected split,image,mask with one of train, val, test"),
        ("split,image,mask\ntrain,a,b\ndev,c,d", "line 3: expected .*received dev"),
        ("split,image,mask\ntrain,a", "line 2: expected split,image,mask"),
        ("split,image,mask\ntrain,a,e", r"line 2: there is no file .*e: copy it there"),
        ("split,image,mask\ntrain,a,b\n\nval,a,c", "line 4: .*a is in line 2 already: remove one"),
    ],
)
def test_wrong_tables_name_the_line(tmp_path, lines, message):
    for name in "abcd":
        (tmp_path / name).touch()
    (tmp_path / "splits.csv").write_text(lines)
    with pytest.raises(DatasetError, match=rf"splits.csv, {message}"):
        read_splits(tmp_path / "splits.csv", tmp_path)


def smooth(width, seed=0):
    """A picture of soft blobs, 32 pixels high."""
    noise = np.random.default_rng(seed).normal(128, 50, (4, width // 8)).astype(np.float32)
    picture = Image.fromarray(noise).resize((width, 32), BICUBIC)
    return np.clip(picture, 0, 255).astype(np.uint8)


def drive(frames, step=3):
    """Thumbnails of a camera that moves along a panorama."""
    panorama = smooth(32 + step * frames)
    return np.stack([panorama[:, step * i : step * i + 32] for i in range(frames)])


def independent(count):
    return np.stack([smooth(32, seed) for seed in range(count)])


def save_jpeg(picture, quality):
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=quality)
    return Image.open(file).convert("RGB")


def test_a_name_is_a_prefix_and_its_last_number():
    names = ("000123", "img (7)", "Seq05VD_f00000", "take2-0003_left", "sofa")
    expected = [("", 123), ("img", 7), ("Seq05VD_f", 0), ("take2", 3), ("sofa", None)]
    assert list(map(splitting.name_sequence, names)) == expected


def test_a_drive_goes_on_from_one_folder_to_the_next():
    names = [f"{'train' if i < 15 else 'val'}/{i:05d}" for i in range(20)]
    thumbnails = np.concatenate([drive(20), independent(10)])
    names += [f"train/other {letter}" for letter in "abcdefghij"]
    assert splitting.find_sequences(names, thumbnails)[:20] == ["numbers"] * 20


CHANGES = {
    "JPEG of low quality": lambda picture: save_jpeg(picture, 20),
    "a third of the size as JPEG": lambda picture: save_jpeg(picture.resize((80, 60)), 50),
    "twice the size": lambda picture: picture.resize((480, 360)),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.85),
}


def find(pictures):
    small = [picture.convert("L").resize((32, 32), BILINEAR) for picture in pictures]
    thumbnails = np.array([*map(np.asarray, small)], np.uint8).reshape(-1, 32, 32)
    return splitting.find_near_duplicates(thumbnails).tolist()


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_duplicate(change):
    pictures = [Image.fromarray(draw_scene(i)[0]) for i in range(3)]
    copies = [CHANGES[change](picture) for picture in pictures]
    assert find([*pictures, *copies]) == [[i, i + 3] for i in range(3)]


def test_what_is_no_near_duplicate():
    scenes = [draw_scene(i)[0] for i in range(6)]
    noise = np.random.default_rng(0).normal(128, 2, (30, 32, 32)).round().astype(np.uint8)
    for pictures in ([*scenes, scenes[0][:, ::-1]], drive(40, step=2), noise, []):
        assert find(map(Image.fromarray, pictures)) == []


def test_many_copies_are_each_paired_with_the_first():
    copies = map(Image.fromarray, np.repeat(independent(2), 100, axis=0))
    pairs = [[0, j] for j in range(1, 100)] + [[100, j] for j in range(101, 200)]
    assert find(copies) == pairs


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_photograph_is_looked_at_upright_and_named_if_damaged(tmp_path, suffix):
    image, path, looks = draw_scene(0, size=(96, 128))[0], tmp_path / f"photo.{suffix}", []
    exif = Image.Exif()
    exif[0x0112] = 6
    for pixels, options in ((image, {}), (np.rot90(image), {"exif": exif})):
        Image.fromarray(pixels).save(path, **options)
        looks.append(splitting.look_at_photograph(path))
    (upright, *first), (lying, *second) = looks
    assert (first, second) == ([(96, 128), False], [(96, 128), True])
    assert np.abs(lying.astype(int) - upright).mean() < 3
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetError, match=rf"photo.{suffix} cannot be read.*copy it again"):
        splitting.look_at_photograph(path)


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


def test_groups_are_sequences_and_near_duplicates(tmp_path):
    frames, photos = drive(12), independent(12)
    pictures = {f"drive_{i}": frame for i, frame in enumerate(frames)}
    pictures |= {f"photo_{i}": photo for i, photo in enumerate(photos)}
    pictures |= {"copy of photo five": photos[5], "copy of a frame": frames[3]}
    paths = [tmp_path / f"{name}_left8.png" for name in pictures]  # all end alike, in a number
    for path, pixels in zip(paths, pictures.values(), strict=True):
        Image.fromarray(pixels).resize((96, 96), BICUBIC).save(path)
    groups = splitting.find_groups(paths)
    assert [*groups[:12], groups[-1]] == ["drive"] * 13
    assert groups[-2] == groups[17]
    assert len(set(groups)) == 13


@pytest.mark.camvid
def test_camvids_drives_are_found_and_its_frames_are_no_copies(camvid):
    paths = sorted(camvid.glob("train/*.jpg")) + sorted(camvid.glob("val/*.jpg"))
    drives = {"0001TP": "0001TP", "0006R0": "0006R0_f", "0016E5": "0016E5", "Seq05V": "Seq05VD_f"}
    assert splitting.find_groups(paths) == [drives[path.stem[:6]] for path in paths]
