import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from seglib import sequences
from seglib.images import DatasetError
from seglib.scenes import draw_scene


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


def find(*thumbnails):
    thumbnails = np.concatenate(thumbnails)
    hashes = sequences.hash_thumbnails(thumbnails)
    return sequences.find_near_duplicates(hashes, thumbnails).tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0001TP_006690", ("0001TP", 6690)),
        ("Seq05VD_f00000", ("Seq05VD_f", 0)),
        ("000123", ("", 123)),
        ("img (7)", ("img", 7)),
        ("bear/00012", ("bear", 12)),
        ("take2-0003_left", ("take2", 3)),
        ("sofa", ("sofa", None)),
        ("", ("", None)),
    ],
)
def test_a_name_is_a_prefix_and_its_last_number(name, expected):
    assert sequences.name_sequence(name) == expected


def test_pictures_are_named_by_what_their_paths_do_not_share():
    paths = ["/data/a/train/1.png", "/data/a/val/1.png"]
    assert sequences.name_pictures(paths) == ["train/1", "val/1"]
    assert sequences.name_pictures(["/data/a/train/1.png"]) == ["1"]
    assert sequences.name_pictures([]) == []


def test_the_ending_that_names_share_goes_but_never_a_number():
    assert sequences.drop_shared_ending(["a_10", "a_20"]) == ["a_10", "a_20"]
    assert sequences.drop_shared_ending([]) == []


def test_a_drive_is_a_sequence_and_independent_pictures_are_none():
    names = [f"drive_{i:03d}" for i in range(20)] + [f"scene_{i:03d}" for i in range(20)]
    labels = sequences.find_sequences(names, np.concatenate([drive(20), independent(20)]))
    assert labels == ["drive"] * 20 + names[20:]


def test_two_drives_are_told_apart_in_whatever_order_they_come():
    names = [f"{place}_{i}" for place in ("north", "south") for i in range(15)]
    thumbnails = np.concatenate([drive(15), drive(15, seed=1)])
    order = np.random.default_rng(0).permutation(30)
    labels = sequences.find_sequences([names[i] for i in order], thumbnails[order])
    assert labels == [names[i].split("_")[0] for i in order]


def test_noise_under_one_prefix_is_no_sequence():
    noise = np.random.default_rng(0).integers(0, 256, (60, 32, 32), np.uint8)
    names = [f"noise_{i}" for i in range(60)]
    assert sequences.find_sequences(names, noise) == names


def test_similar_places_under_one_prefix_are_no_sequence():
    # By day and by night, independent of each other.
    day, night = 100 + independent(20) // 2, independent(20, seed=1) // 4
    names = [f"{time}_{i}" for time in ("day", "night") for i in range(20)]
    assert sequences.find_sequences(names, np.concatenate([day, night])) == names


def test_a_drive_whose_numbers_are_shuffled_is_no_sequence():
    names = [f"drive_{i}" for i in np.random.default_rng(0).permutation(40)]
    assert sequences.find_sequences(names, drive(40, step=8)) == names


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_few_frames_are_a_sequence_where_they_are_very_alike(count):
    names = [f"burst_{i}" for i in range(count)] + [f"scene_{i}" for i in range(20)]
    labels = sequences.find_sequences(
        names, np.concatenate([drive(count, step=1), independent(20)])
    )
    assert labels[:count] == ["burst"] * count
    assert labels[count:] == names[count:]


def test_folders_name_sequences_where_files_are_only_numbered():
    names = [f"{place}/{i:05d}" for place in ("bear", "train") for i in range(15)]
    labels = sequences.find_sequences(names, np.concatenate([drive(15), drive(15, seed=1)]))
    assert labels == ["bear"] * 15 + ["train"] * 15


def test_a_drive_goes_on_from_one_folder_to_the_next():
    names = [f"{'train' if i < 15 else 'val'}/{i:05d}" for i in range(20)]
    thumbnails = np.concatenate([drive(20), independent(10)])
    names += [f"train/other {letter}" for letter in "abcdefghij"]
    assert sequences.find_sequences(names, thumbnails) == ["numbers"] * 20 + names[20:]


def test_what_all_names_end_in_is_no_number_of_a_frame():
    names = [f"bonn_{place}_{i:06d}_leftImg8bit" for place in (0, 1) for i in range(12)]
    labels = sequences.find_sequences(names, np.concatenate([drive(12), drive(12, seed=1)]))
    assert labels == ["bonn_0"] * 12 + ["bonn_1"] * 12


def test_pictures_of_one_name_are_groups_of_their_own():
    assert sequences.find_sequences(["a", "a", "b"], independent(3)) == ["a", "a (1)", "b"]
    assert sequences.find_sequences([], np.zeros((0, 32, 32), np.uint8)) == []


def test_a_hash_tells_where_it_gets_lighter():
    ramp = np.tile(np.arange(0, 128, 4, dtype=np.uint8), (1, 32, 1))
    # All cells but those of the last column, whose neighbour is the first one.
    assert np.bitwise_count(sequences.hash_thumbnails(ramp)).sum() == 16 * 15
    assert np.bitwise_count(sequences.hash_thumbnails(ramp[..., ::-1])).sum() == 16
    assert sequences.hash_thumbnails(ramp // 2 + 90).tolist() == (
        sequences.hash_thumbnails(ramp).tolist()
    )


CHANGES = {
    "JPEG of low quality": lambda picture: save_jpeg(picture, 20),
    "half the size": lambda picture: picture.resize((120, 90)),
    "a third of the size as JPEG": lambda picture: save_jpeg(picture.resize((80, 60)), 50),
    "twice the size": lambda picture: picture.resize((480, 360)),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.85),
    "a little lighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.05),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_duplicate(change):
    pictures = [Image.fromarray(draw_scene(i)[0]) for i in range(12)]
    copies = [CHANGES[change](picture) for picture in pictures]
    assert find(*map(shrink, [*pictures, *copies])) == [[i, i + 12] for i in range(12)]


def test_other_scenes_and_frames_of_a_drive_are_no_near_duplicates():
    assert find(*(shrink(Image.fromarray(draw_scene(i)[0])) for i in range(40))) == []
    assert find(drive(40, step=2)) == []
    mirrored = shrink(Image.fromarray(draw_scene(0)[0][:, ::-1]))
    assert find(shrink(Image.fromarray(draw_scene(0)[0])), mirrored) == []


def test_something_small_that_moved_makes_another_picture():
    first, second = independent(1), independent(1)
    first[0, 20:23, 4:7], second[0, 20:23, 9:12] = 255, 255
    assert find(first, second) == []


def test_flat_pictures_are_not_each_others_duplicates():
    noise = np.random.default_rng(0).normal(0, 2, (30, 32, 32))
    assert find((128 + noise).round().astype(np.uint8)) == []
    assert find(np.zeros((30, 32, 32), np.uint8)) == []
    assert find(np.zeros((0, 32, 32), np.uint8)) == []


def test_many_copies_are_each_paired_with_the_first():
    copies = np.repeat(independent(2), 100, axis=0)
    pairs = [[0, j] for j in range(1, 100)] + [[100, j] for j in range(101, 200)]
    assert find(copies) == pairs


@pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.long)])
def test_pictures_whose_hashes_are_all_alike_are_compared_too(count):
    random, rows = np.random.default_rng(0), np.arange(count)
    thumbnails = np.zeros((count, 32, 32), np.uint8)  # dark, with two blobs each
    for _ in range(2):
        row, column = random.integers(0, 28, (2, count))
        for i in range(16):
            thumbnails[rows, row + i // 4, column + i % 4] = random.integers(60, 200, count)
    thumbnails[-1] = thumbnails[0]
    assert [0, count - 1] in find(thumbnails)


@pytest.fixture(name="photographs")
def write_photographs(tmp_path):
    paths = []
    for i, suffix in enumerate(("png", "jpg", "tif", "webp")):
        paths.append(tmp_path / f"photo_{i}.{suffix}")
        Image.fromarray(draw_scene(i, size=(96, 128))[0]).save(paths[-1])
    return paths


def test_photographs_of_any_kind_become_thumbnails(photographs):
    thumbnails = sequences.read_thumbnails(photographs)
    assert (thumbnails.shape, thumbnails.dtype) == ((4, 32, 32), np.uint8)
    for i, thumbnail in enumerate(thumbnails):
        expected = shrink(Image.fromarray(draw_scene(i, size=(96, 128))[0]))[0].astype(int)
        assert np.abs(thumbnail - expected).mean() < 3
    assert sequences.read_thumbnails([]).shape == (0, 32, 32)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_photograph_is_looked_at_upright(tmp_path, suffix):
    image = draw_scene(0, size=(96, 128))[0]
    lying = Image.fromarray(np.rot90(image))
    exif = lying.getexif()
    exif[0x0112] = 6
    lying.save(tmp_path / f"lying.{suffix}", exif=exif)
    Image.fromarray(image).save(tmp_path / f"upright.{suffix}")
    lying, upright = (
        sequences.look_at_photograph(tmp_path / f"{name}.{suffix}") for name in ("lying", "upright")
    )
    assert (upright[1], upright[2]) == ((96, 128), False)
    assert (lying[1], lying[2]) == ((96, 128), True)
    assert np.abs(lying[0].astype(int) - upright[0]).mean() < 3


def test_a_truncated_photograph_is_named(photographs):
    for path in photographs:
        path.write_bytes(path.read_bytes()[:-200])
    for path in photographs[:2]:
        with pytest.raises(DatasetError, match=rf"{path.name} cannot be read.*copy it again"):
            sequences.look_at_photograph(path)


def test_groups_are_sequences_and_near_duplicates(tmp_path):
    paths = []

    def save(name, pixels):
        paths.append(tmp_path / f"{name}.png")
        Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC).save(paths[-1])

    for i, frame in enumerate(drive(12)):
        save(f"drive_{i}", frame)
    for i, picture in enumerate(independent(12, seed=3)):
        save(f"photo_{i}", picture)
    save("copy of photo five", independent(12, seed=3)[5])
    save("copy of a frame", drive(12)[3])
    groups = sequences.find_groups(paths)
    assert groups[:12] == ["drive"] * 12
    assert groups[-1] == "drive"
    assert groups[-2] == groups[17] == "photo_5"
    assert len(set(groups)) == 13


@pytest.mark.camvid
def test_camvids_drives_are_found_and_its_frames_are_no_copies(camvid):
    paths = sorted(camvid.glob("train/*.jpg")) + sorted(camvid.glob("val/*.jpg"))
    thumbnails = sequences.read_thumbnails(paths)
    labels = sequences.find_sequences(sequences.name_pictures(paths), thumbnails)
    drives = {"0001TP": "0001TP", "0006R0": "0006R0_f", "0016E5": "0016E5", "Seq05V": "Seq05VD_f"}
    assert labels == [drives[path.stem[:6]] for path in paths]
    hashes = sequences.hash_thumbnails(thumbnails)
    assert not len(sequences.find_near_duplicates(hashes, thumbnails))


def test_the_embedded_scenes_are_no_sequence(tmp_path):
    thumbnails = np.concatenate([shrink(Image.fromarray(draw_scene(i)[0])) for i in range(60)])
    names = [f"street_{i:04d}" for i in range(60)]
    assert sequences.find_sequences(names, thumbnails) == names


def test_importing_needs_neither_keras_nor_matplotlib():
    code = (
        "import sys, seglib.sequences, seglib.checks;"
        "print({'keras', 'tensorflow', 'pandas', 'scipy', 'skimage', 'matplotlib'}"
        " & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "set()", printed.stderr
