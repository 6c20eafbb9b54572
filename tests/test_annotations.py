"""Masks that are drawn from tables, JSON files and several mask files a picture."""

import base64
import io
import itertools
import json
import re
import zlib

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from skimage import draw

import seglib
from seglib.annotations import Annotation
from seglib.classes import voc_colors
from seglib.datasets import open_dataset
from seglib.images import DatasetError
from seglib.submissions import encode_rle

SIZE = (12, 16)
SQUARES = np.zeros(SIZE, np.uint8)  # what all but a few sources here show
SQUARES[2:5, 3:8] = 1
SQUARES[6:11, 10:14] = 2
IDS = {"road": 1, "car": 2}
CLASSES = ["background", *IDS]
CORNERS = {
    "road": np.array([[3, 2], [7, 2], [7, 4], [3, 4]]),
    "car": np.array([[10, 6], [13, 6], [13, 10], [10, 10]]),
}
COMPRESSED = {"road": "V1390000000n2", "car": "n35700000b0"}  # by pycocotools 2.0.11


def write(path, content):
    """Write text, a picture, or anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        Image.fromarray(content).save(path)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def photo(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def write_six(folder, file, content, photos="photos"):
    """Write a file a picture, with a content or with what a function makes of a number."""
    for i in range(6):
        write(folder / file.format(i), content(i) if callable(content) else content)
    if photos != "photos":
        (folder / "photos").rename(folder / photos)


@pytest.fixture
def photos(tmp_path):
    write_six(tmp_path, "photos/p{}.png", photo)
    return tmp_path


def read_all(dataset):
    splits = dataset.splits.items()
    return {name: split[i][1] for _, split in splits for i, name in enumerate(split.names)}


def named(labels, dataset):
    """Labels whose ids are those of the names road and car."""
    names = list(dataset.classes.names)
    return np.select([labels == names.index(name) for name in IDS], list(IDS.values()))


# Each source writes annotations of p0 to p5.


def table(header, row, turn=np.asarray):
    """Source of a table with `row(picture, class, runs)` for each picture and class."""

    def write_table(folder):
        runs = {name: encode_rle(turn(k == SQUARES)) for name, k in IDS.items()}
        rows = [row(f"p{i}", name, runs[name]) for i in range(6) for name in IDS]
        write(folder / "masks.csv", "\n".join([header, *rows]))

    return write_table


def write_object_rows(picture, name, runs):
    return "\n".join(f"{picture},{name},{pair}" for pair in re.findall(r"\d+ \d+", runs))


def write_id_and_name(picture, name, runs):
    return f"{picture}.png,{IDS[name]},{name},{runs}"


def write_columns(picture, name, runs):
    """A column of run lengths a class, each with cells that are empty."""
    return f"{picture},{runs}," if name == "road" else f"{picture},,{runs}"


def outline(name):
    return CORNERS[name].ravel().tolist()


def make_coco(segment=lambda name: [outline(name)], *, height=12, **change):
    """COCO's instances; `change` is of the first one."""
    annotations = [
        {"id": i, "image_id": i + 7, "category_id": id_, "segmentation": segment(name)}
        for i in range(6)
        for id_, name in ((3, "road"), (90, "car"))
    ]
    annotations[0] |= change
    sides = {"height": height, "width": 16}
    return {
        "images": [{"id": i + 7, "file_name": f"p{i}.png", **sides} for i in range(6)],
        "categories": [{"id": 3, "name": "road"}, {"id": 90, "name": "car"}],
        "annotations": annotations,
    }


def coco(segment, file="coco.json"):
    """Source of COCO's instances."""
    return lambda folder: write(folder / file, make_coco(segment))


def count(mask):
    """COCO's counts of a mask that begins with 0, the slow way."""
    return [len(list(run)) for _, run in itertools.groupby(mask.T.ravel().tolist())]


def write_roboflow(folder):
    content = make_coco()
    for category in content["categories"]:
        category["supercategory"] = "things"
    content["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})
    write(folder / "photos/_annotations.coco.json", content)


def pack(mask, compress=bytes):
    """A PNG in base64."""
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return base64.b64encode(compress(stream.getvalue())).decode()


def labelme(i, *shapes, folder="", **others):
    """A file of labelme; each shape is `(label, points, other fields)`."""
    sides = {"imageHeight": 12, "imageWidth": 16}
    shapes = [{"label": label, "points": points, **rest} for label, points, rest in shapes]
    return {"imagePath": f"{folder}p{i}.png", "shapes": shapes} | sides | others


def polygon(exterior, *interior):
    points = {"exterior": exterior, "interior": interior}
    return {"classTitle": "car", "geometryType": "polygon", "points": points}


def supervisely(*things):
    return {"tags": [], "size": {"height": 12, "width": 16}, "objects": things}


def write_yolo(folder):
    shares = [np.ravel(CORNERS[name] / SIZE[::-1]) for name in ("car", "road")]
    rows = [" ".join([str(k), *map("{:.6f}".format, row)]) for k, row in enumerate(shares)]
    write_six(folder, "labels/p{}.txt", "\n\n".join(rows), "images")
    write(folder / "data.yaml", "train: images\nnames:\n  0: car  # first\n  1: 'road'\n")


def six(*arguments):
    """Source of a file a picture."""
    return lambda folder: write_six(folder, *arguments)


def files(name):
    """Source of a mask file a class."""

    def write_files(folder):
        for i, (class_, k) in itertools.product(range(6), IDS.items()):
            write(folder / name.format(i=i, k=k, name=class_), k == SQUARES)

    return write_files


# labelme
ROAD = ("road", [[7, 4], [3, 2]], {"shape_type": "rectangle"})
CAR = ("car", CORNERS["car"].tolist(), {"shape_type": "polygon"})
KINDS = [{}, {"shape_type": None}, {"shape_type": ""}]
MASKS = [
    (name, points[[0, 2]].tolist(), {"mask": pack(np.full(np.ptp(points, axis=0)[::-1] + 1, True))})
    for name, points in CORNERS.items()
]
# Supervisely: a bitmap of four channels whose last says where it is, and a polygon with a hole
RGBA = np.full((3, 5, 4), (0, 0, 0, 255), np.uint8)
BITMAP = {"classTitle": "road", "geometryType": "bitmap"}
BITMAP |= {"bitmap": {"data": pack(RGBA, zlib.compress), "origin": [3, 2]}}
OUTER, INNER = ([[x, y], [15, y], [15, 11], [x, 11]] for x, y in ((10, 6), (14, 5)))
HOLED = polygon(OUTER, INNER, [[9, 11], [15, 11], [15, 11], [9, 11]])

SOURCES = {
    "runs": table("ImageId,ClassId,EncodedPixels", "{}.png,{},{}".format),
    "runs, class in key": table("Image_Label,EncodedPixels", "{}.png_{},{}".format),
    "runs, id and name": table("ImageId,class_id,class_name,EncodedPixels", write_id_and_name),
    "runs of objects": table("id,class,segmentation", write_object_rows),
    "runs along rows": table("id,annotation,cell_type", "{0},{2},{1}".format, np.transpose),
    "runs, column a class": table("image,road,car", write_columns),
    "COCO": coco(lambda name: [outline(name)], "annotations/instances.json"),
    "COCO, one outline": coco(outline),
    "COCO, points": coco(lambda name: CORNERS[name].tolist()),
    "COCO, outlines of points": coco(lambda name: [CORNERS[name].tolist()]),
    "COCO, runs": coco(lambda name: {"counts": count(IDS[name] == SQUARES), "size": SIZE}),
    "COCO, text": coco(lambda name: {"counts": COMPRESSED[name], "size": SIZE}),
    "Roboflow": write_roboflow,
    "labelme": six("json/p{}.json", lambda i: labelme(i, ROAD, CAR, folder="..\\photos\\")),
    "labelme, without kinds": six(
        "photos/p{}.json",
        lambda i: labelme(i, *((n, p.tolist(), KINDS[i % 3]) for n, p in CORNERS.items())),
    ),
    "labelme, masks": six("photos/p{}.json", lambda i: labelme(i, *MASKS)),
    "Supervisely": six("ann/p{}.png.json", supervisely(BITMAP, HOLED), "img"),
    "YOLO": write_yolo,
    "file a class": files("masks/p{i}_{name}.png"),
    "folder a class": files("truths/labels/{k}. {name}/p{i}_{k}X.tif"),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.filterwarnings("ignore:.*(are taken for classes|go along rows|are taken from objects)")
def test_sources_show_the_same_classes(photos, source):
    SOURCES[source](photos)
    dataset = open_dataset(photos)
    assert dataset.classes.names[0] == "background"
    assert sorted(dataset.classes.names) == sorted(CLASSES)
    found = {name: named(labels, dataset) for name, labels in read_all(dataset).items()}
    np.testing.assert_equal(found, {f"p{i}": SQUARES for i in range(6)})


@pytest.mark.parametrize(
    ("file", "text", "names", "ignored"),
    [
        ("labels.txt", "__ignore__\n_background_\nroad\ncar\n", ["_background_", *IDS], 255),
        ("classes.json", '["car", "road", "background"]', ["car", "road", "background"], None),
        ("classes.txt", "sky\nsea\n", ["background", "car", "road"], None),
    ],
)
def test_a_class_table_beside_annotations_counts_if_it_has_their_names(
    photos, file, text, names, ignored
):
    SOURCES["labelme"](photos)
    write(photos / file, text)
    dataset = open_dataset(photos)
    assert (list(dataset.classes.names), dataset.classes.ignore_label) == (names, ignored)
    background = next(i for i, name in enumerate(names) if "background" in name)
    assert (dataset.train[0][1][SQUARES == 0] == background).all()


def test_of_annotation_files_the_one_of_more_classes_is_taken(photos):
    """As of COCO, whose keypoints have outlines of persons too."""
    SOURCES["COCO"](photos)
    persons = json.dumps(make_coco()).replace('"road"', '"person"').replace('"car"', '"person"')
    write(photos / "annotations/person_keypoints.json", persons)
    with pytest.warns(UserWarning, match=r"from .*instances.json; also possible .*keypoints.json"):
        dataset = open_dataset(photos)
    assert dataset.classes.names == tuple(CLASSES)


def test_panoptic_pictures_are_read_by_their_segments(tmp_path):
    ids = np.array([0, 300, 70_000])[SQUARES]
    png = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    segments = [{"id": 300, "category_id": 1}, {"id": 70_000, "category_id": 5}]
    for split in ("train", "val"):
        folder = tmp_path / f"annotations/panoptic_{split}2017"
        content = {"categories": [{"id": 5, "name": "car"}, {"id": 1, "name": "road"}]}
        content |= {"images": [], "annotations": []}
        for name in (f"{split}{i}" for i in range(3)):
            write(tmp_path / f"{split}2017/{name}.jpg", photo())
            write(folder / f"{name}.png", png)
            drawn = {"image_id": name, "file_name": f"{name}.png", "segments_info": segments}
            content["images"].append({"id": name, "file_name": f"{name}.jpg"})
            content["annotations"].append(drawn)
        write(folder.with_suffix(".json"), content)
    dataset = open_dataset(tmp_path)
    assert (dataset.classes.names, dataset.classes.ignore_label) == (("road", "car"), 255)
    assert [len(split) for split in dataset.splits.values()] == [3, 3, 0]
    np.testing.assert_array_equal(dataset.val[0][1], np.array([255, 0, 1])[SQUARES])


def test_polygons_are_drawn_as_elsewhere(photos):
    """As by scikit-image, but for pixels that the outline cuts."""
    corners = np.array([[1.5, 1], [14, 3.5], [9, 10.5], [3, 8]])
    shape = ("figure", "polygon", corners.ravel().tolist())
    labels = Annotation(photos / "photos/p0.png", photos / "x", ((1, shape),)).read()
    inside = draw.polygon2mask(SIZE, corners[:, ::-1])
    assert labels[ndimage.binary_erosion(inside)].all()
    assert not labels[~ndimage.binary_dilation(inside, np.ones((3, 3)))].any()
    assert 60 < inside.sum() <= labels.sum() + 1


def test_circles_are_filled_around_their_first_point(photos):
    disc = ("disc", [[6, 5], [6, 8]], {"shape_type": "circle"})
    write_six(photos, "photos/p{}.json", lambda i: labelme(i, disc))
    labels = open_dataset(photos).train[0][1]
    rows, columns = np.indices(SIZE)
    distance = np.hypot(rows - 5, columns - 6)
    assert labels[distance <= 3].all()
    assert not labels[distance >= 4].any()


def test_labels_stand_upright_as_the_photograph(tmp_path):
    picture, exif = Image.new("RGB", (16, 12)), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    annotation = Annotation(tmp_path / "a.jpg", tmp_path / "x.csv", ((1, ("runs", "1 16")),))
    assert annotation.read().shape == (16, 12)
    assert annotation.read()[:, 0].all()


def test_the_size_of_any_photograph_is_known(tmp_path):
    """Pillow reads no head of TIFF without decoding it, and none of five bands."""
    bands = {"photometric": "minisblack", "planarconfig": "separate"}
    (tmp_path / "train").mkdir()
    for name in ("p0", "p2"):
        tifffile.imwrite(tmp_path / f"train/{name}.tif", np.ones((5, *SIZE), np.uint8), **bands)
    tifffile.imwrite(tmp_path / "train/p1.tif", photo(), photometric="rgb")
    rows = [f"p{i},{encode_rle(SQUARES == 1)}" for i in range(3)]
    write(tmp_path / "train.csv", "\n".join(["id,encoding", *rows]))
    with pytest.warns(UserWarning, match="only train has masks|left out"):
        dataset = open_dataset(tmp_path)
    np.testing.assert_array_equal(dataset.train[1][1], SQUARES == 1)


def test_annotations_are_prepared_checked_and_written(photos, tmp_path):
    SOURCES["runs"](photos)
    dataset = open_dataset(photos)
    assert str(dataset.train.pairs[0][1]).endswith("masks.csv/p0.png")
    assert not [f for f in seglib.check_dataset(dataset).findings if f.severity == "error"]
    prepared = dataset.prepare(image_size=32, cache_dir=tmp_path / "cache")
    assert np.unique(prepared.train.labels).tolist() == [0, 1, 2]
    dealt = dataset.split(fractions=(0.5, 0.5, 0))
    dealt.write_splits(tmp_path / "dealt.csv")
    again = open_dataset(photos, splits=tmp_path / "dealt.csv")
    assert list(map(str, np.ravel(again.val.pairs))) == list(map(str, np.ravel(dealt.val.pairs)))
    np.testing.assert_equal(read_all(again), read_all(dealt))
    text = (photos / "masks.csv").read_text()
    (photos / "masks.csv").write_text(text.replace("p0.png,road", "p0.png,car"))
    changed = open_dataset(photos).prepare(image_size=32, cache_dir=tmp_path / "cache")
    assert changed.fingerprint != prepared.fingerprint


def test_a_table_of_pairs_may_be_a_file_or_a_dataframe(photos, monkeypatch):
    write_six(photos, "other/m{}.png", voc_colors(3)[SQUARES])
    frame = pd.DataFrame({"Img": [f"photos/p{i}.png" for i in range(6)]})
    frame["truth_file"] = [f"other/m{i}.png" for i in range(6)]
    frame["fold"] = [0, 0, 1, 1, 2, 2]
    frame.to_csv(photos / "pairs.csv", index=False)
    monkeypatch.chdir(photos)
    for source in (photos, photos / "pairs.csv", frame, "pairs.csv"):
        with pytest.warns(UserWarning, match="fold 0 is for validation"):
            dataset = open_dataset(source, classes=CLASSES)
        assert [len(split) for split in dataset.splits.values()] == [4, 2, 0]
        np.testing.assert_array_equal(dataset.val[1][1], SQUARES)


def test_names_without_extension_are_told_apart_by_what_folders_say(tmp_path):
    for i in range(4):
        write(tmp_path / f"images/a{i}.jpg", photo())
        write(tmp_path / f"masks/a{i}.png", np.uint8(SQUARES > 0) * 255)
    rows = [f"a{i};a{i};{'train' if i else 'test'}" for i in range(4)]
    write(tmp_path / "all.csv", "\n".join(["image;mask;subset", *rows]))
    with pytest.warns(UserWarning, match=r"pairs are taken from all.csv"):
        dataset = open_dataset(tmp_path)
    assert [len(split) for split in dataset.splits.values()] == [3, 0, 1]
    write(tmp_path / "all.csv", "image,label\n" + "".join(f"a{i}.jpg,{i}\n" for i in range(4)))
    assert len(open_dataset(tmp_path)) == 4  # a table of something else
    np.testing.assert_array_equal(dataset.test[0][1], SQUARES > 0)


def test_pictures_of_one_name_are_told_apart_by_their_folders(tmp_path):
    """As in UW-Madison: `case1_day2_slice_0001` is case1/case1_day2/scans/slice_0001_12_16.png."""
    rows = ["id,class,segmentation"]
    for day in (1, 2):
        name = f"train/case1/case1_day{day}/scans/slice_0001_12_16.png"
        write(tmp_path / name, photo(day))
        runs = encode_rle(day == SQUARES)
        rows += [f"case1_day{day}_slice_0001,{letter},{runs}" for letter in "ab"]
    write(tmp_path / "train.csv", "\n".join([*rows[:3], "case1_day2_slice_0001,b,", rows[3]]))
    with pytest.warns(UserWarning, match=r"overlap on 3.9 % of the pixels.*b over a"):
        dataset = open_dataset(tmp_path)
    first, second = (labels for _, labels in dataset.train)
    np.testing.assert_array_equal(first, 2 * (SQUARES == 1))
    np.testing.assert_array_equal(second, SQUARES == 2)


def test_pictures_that_no_row_names_are_unlabelled_or_background(photos):
    runs = encode_rle(SQUARES > 0)
    write(photos / "masks.csv", f"ImageId,EncodedPixels\np0.png,{runs}\np1.png,")
    with pytest.warns(UserWarning, match=r'4 pictures.*p2.*unpaired="background"'):
        labels = read_all(open_dataset(photos))
    assert {name: ids.any() for name, ids in labels.items()} == {"p0": True, "p1": False}
    assert len(open_dataset(photos, unpaired="background")) == 6


def test_run_lengths_of_another_kind_are_told(photos):
    """Two objects that the borders cut off; along rows, several runs follow each other in one."""
    mask = np.zeros(SIZE, bool)
    mask[:4, 2:6], mask[7:, 9:14] = True, True
    runs = np.reshape(encode_rle(mask).split(), (-1, 2)).astype(int)

    def write_runs(runs):
        text = " ".join(map(str, np.ravel(runs)))
        write(photos / "a.csv", "\n".join(["id,rle", *(f"p{i},{text}" for i in range(6))]))

    write_runs(runs - [1, 0])
    with pytest.warns(UserWarning, match="count pixels from 0: add 1 to each start"):
        open_dataset(photos)
    runs[1:, 0] = np.diff(runs[:, 0])
    write_runs(runs)
    with pytest.raises(DatasetError, match="where each run starts in the picture, not how far"):
        open_dataset(photos)
    write_runs(encode_rle(mask.T).split())
    with pytest.warns(UserWarning, match="go along rows, not down columns"):
        dataset = open_dataset(photos)
    np.testing.assert_array_equal(dataset.train[0][1], mask)


@pytest.mark.filterwarnings("ignore:.*pairs are taken")
def test_columns_of_pairs_say_where_files_are_and_their_split(photos):
    write_six(photos, "other/m{}.png", voc_colors(3)[SQUARES])

    def read(header, ends):
        row = f"{photos}/photos/p{{0}}.png;{photos}/other/m{{0}}.png;{{1}}".format
        write(photos / "pairs.csv", "\n".join([header, *map(row, range(6), ends)]))
        dataset = open_dataset(photos, classes=CLASSES)
        return [len(split) for split in [*dataset.splits.values(), dataset.unlabelled]]

    assert read("x_path;y_path;is_valid", [True, *[False] * 5]) == [5, 1, 0, 0]
    assert read("x;y;subset", ["train", "val", "test"] * 2) == [2, 2, 2, 0]
    assert read("x;y;label", ["cat", "dog", "cow"] * 2) == [4, 1, 1, 0]
    masks = [f"photos/p{i}.png,other/m{i}.png,other/m{i}.png" for i in range(6)]
    write(photos / "pairs.csv", "\n".join(["image,mask_disc,mask_cup", *masks]))
    with pytest.warns(UserWarning, match="columns .*mask_disc.*mask_cup.* the first has the masks"):
        open_dataset(photos, classes=CLASSES)
    assert read("x;y;is_test;is_val", ["0;0", "0;1", "1;0", *["0;0"] * 3]) == [4, 1, 1, 0]
    assert read("x;y;fold", [""] * 6) == [4, 1, 1, 0]
    (photos / "photos/p5.png").unlink()
    assert read("x;y;subset", ["train", "val", "test"]) == [1, 1, 1, 2]  # p3 and p4
    with pytest.raises(DatasetError, match="train, val or test as the split, received held, train"):
        read("x;y;split", ["train", "train", "held"] * 2)
    assert read("x;y;split", ["train", "train", "dev"]) == [2, 1, 0, 2]
    with pytest.warns(UserWarning, match="fold 1 is for validation"):  # an empty cell is no fold
        assert read("x;y;fold", ["", "1", "2"]) == [2, 1, 0, 2]


@pytest.mark.parametrize(
    ("image", "masks"),
    [
        ("stage1_train/x{0}/images/x{0}.png", "stage1_train/x{0}/masks/{1}ab{0}.png"),
        ("train/images/x{0}.png", "train/masks/x{0}/{1}.png"),
        ("benign/benign ({0}).png", "benign/benign ({0})_mask{2}.png"),
    ],
    ids=["Data Science Bowl 2018", "numbers in folders of pictures' names", "BUSI"],
)
def test_objects_in_files_of_their_own_are_one_class(tmp_path, image, masks):
    for i in range(4):
        write(tmp_path / image.format(i), photo(i))
        write(tmp_path / masks.format(i, 1, ""), SQUARES == 1)
        if i > 0:
            write(tmp_path / masks.format(i, 2, "_1"), SQUARES == 2)
    with pytest.warns(UserWarning, match="7 mask files of 4 pictures.*objects of one class"):
        dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", "foreground")
    for name, labels in read_all(dataset).items():
        np.testing.assert_array_equal(labels, SQUARES == 1 if "0" in name else SQUARES > 0)


def test_the_class_table_decides_which_mask_file_is_on_top(photos):
    write_six(photos, "masks/p{}_cup.png", SQUARES == 1)
    write_six(photos, "masks/p{}_disc.png", SQUARES > 0, "images")
    with pytest.warns(UserWarning, match="most often cup over disc"):
        dataset = open_dataset(photos, classes=["background", "disc", "cup"])
    np.testing.assert_array_equal(dataset.train[0][1], np.array([0, 2, 1])[SQUARES])


@pytest.mark.parametrize(
    ("image", "first", "second"),
    [
        ("p{}.jpg", "p{}_1stHO.png", "p{}_2ndHO.png"),
        ("images/p{}.ppm", "labels-ah/p{}.ah.ppm", "labels-vk/p{}.vk.ppm"),
    ],
    ids=["CHASE_DB1", "STARE"],
)
def test_what_two_people_drew_is_not_two_classes(tmp_path, image, first, second):
    write_six(tmp_path, image, photo)
    write_six(tmp_path, first, np.uint8(SQUARES == 1) * 255)
    write_six(tmp_path, second, np.uint8(SQUARES > 0) * 255)
    with pytest.warns(UserWarning, match="masks are taken from .*; also possible are masks="):
        dataset = open_dataset(tmp_path)
    np.testing.assert_array_equal(dataset.train[0][1], SQUARES == 1)


@pytest.mark.filterwarnings("ignore:.*only train has masks")
@pytest.mark.parametrize("names", [("X", "y"), ("train_images", "train_masks"), ("x", "labels")])
def test_stacks_of_arrays_are_pairs(tmp_path, names):
    images = np.stack([photo(i) for i in range(6)])
    np.save(tmp_path / f"{names[0]}.npy", images)
    np.save(tmp_path / f"{names[1]}.npy", np.stack([SQUARES] * 6))
    np.save(tmp_path / "X_test.npy", images[:2])
    dataset = open_dataset(tmp_path, classes=CLASSES)
    assert len(dataset) == 6
    np.testing.assert_equal(list(dataset.unlabelled), [(image, None) for image in images[:2]])
    image, labels = dataset.train[1]
    assert any(np.array_equal(image, one) for one in images)
    np.testing.assert_array_equal(labels, SQUARES)
    np.save(tmp_path / f"{names[1]}.npy", np.eye(5)[np.stack([SQUARES] * 6)])
    with pytest.raises(DatasetError, match=r"holds 5 bands: take np.argmax"):
        open_dataset(tmp_path)


def test_arrays_in_memory_are_written_once(tmp_path):
    images = [photo(size=size) for size in (SIZE, (20, 9), (40, 40))]
    labels = [image[..., 0] % 3 for image in images]
    options = {"classes": CLASSES, "fractions": (1, 0, 0), "folder": tmp_path / "a"}
    dataset = seglib.open_arrays(images, labels, **options)
    np.testing.assert_equal(list(dataset.train), list(zip(images, labels, strict=True)))
    findings = seglib.check_dataset(dataset, image_size=32).findings
    assert not [finding for finding in findings if finding.severity == "error"]
    assert sorted(len(fold.val) for fold in dataset.folds(2)) == [1, 2]
    again = seglib.open_arrays(np.stack(images[:1] * 2), np.stack(labels[:1] * 2), **options)
    assert [len(again), len(seglib.open_arrays(images, labels, **options))] == [2, 3]
    assert len(list((tmp_path / "a").iterdir())) == 2
    with pytest.raises(ValueError, match="as many images as labels, received 3 and 2"):
        seglib.open_arrays(images, labels[1:], **options)
    with pytest.raises(ValueError, match=r"ids, not \(12, 16, 3\): take np.argmax"):
        seglib.open_arrays(images[:1], [np.eye(3)[labels[0]]], **options)


def test_files_without_objects_show_background(photos):
    SOURCES["Supervisely"](photos)
    write(photos / "ann/p0.png.json", supervisely())
    assert not open_dataset(photos, fractions=(1, 0, 0)).train[0][1].any()
    write_six(photos, "ann/p{}.png.json", supervisely())
    with pytest.raises(DatasetError, match="no pairs of image and mask"):
        open_dataset(photos)


def test_yolo_classes_are_named_by_the_nearest_file_or_by_the_user(photos):
    """A picture without objects has an empty file; other text beside the labels is none."""
    write_yolo(photos)
    write(photos / "labels/p0.txt", "")
    write(photos / "notes.txt", "1 2 3\n")
    own = {"data.yaml": "[sea]", "labels/a.yml": "{1: road, 0: car, 5: car}", "labels/b.yml": "a"}
    for name, text in own.items():
        write(photos / name, f"names: {text}")
    labels = open_dataset(photos, fractions=(1, 0, 0)).train
    assert labels.classes.names == ("background", "road", "car")
    assert not labels[0][1].any()
    np.testing.assert_array_equal(named(labels[1][1], labels), SQUARES)
    for name in own:
        (photos / name).unlink()
    with pytest.warns(UserWarning, match="names the classes of .*named class_0 to class_1"):
        names = open_dataset(photos).classes.names
    assert names == ("background", "class_0", "class_1")
    options = {"classes": ["car", "background", "road", "sky"], "fractions": (1, 0, 0)}
    labels = open_dataset(photos, **options).train
    np.testing.assert_array_equal(named(labels[1][1], labels), SQUARES)
    with pytest.raises(DatasetError, match="but classes= has no background"):
        open_dataset(photos, classes=["car", "road", "sky"])
    write(photos / "classes.txt", "car\n\nroad\n")
    assert open_dataset(photos).classes.names == ("background", "car", "road")


def test_yolo_classes_are_named_in_all_folders_or_in_none(tmp_path):
    for name in "ab":
        write_six(tmp_path / name, "photos/p{}.png", photo)
        write_yolo(tmp_path / name)
    (tmp_path / "b/data.yaml").unlink()
    with pytest.raises(DatasetError, match=r"no data.yaml names the classes of .*b/labels/p0.txt"):
        open_dataset(tmp_path)


# What is refused or told

ANN = "ann/p0.png.json"
HEAD = "ImageId,ClassId,EncodedPixels\n"
LINE = ("road", [[0, 0], [9, 9]], {"shape_type": "line"})
OUTSIDE = ("road", [[14, 0], [16, 1]], {"shape_type": "mask", "mask": pack(np.ones((2, 3), bool))})
THREE = {"counts": [3], "size": SIZE}
TURNED = {"counts": [192], "size": [16, 12]}


@pytest.mark.filterwarnings("ignore:.*count as unlabelled")
@pytest.mark.parametrize(
    ("source", "file", "content", "words"),
    [
        (None, "scan.nii.gz", "", "NIfTI.*nibabel"),
        (None, "a.dcm", "", "DICOM.*pydicom"),
        (None, "a.h5", "", "HDF5.*h5py.*open_arrays"),
        (None, "all.zip", "", "archives.*unpack"),
        (None, "all.npz", "", "arrays that do not pair.*open_arrays"),
        (None, "export.json", '[{"from_name": "tag"}]', "Label Studio.*COCO JSON"),
        (None, "p.xml", '<Annotations MicronsPerPixel="0.25">', "Aperio ImageScope.*COCO JSON"),
        (None, "a.xml", "<annotations><version>1.1", "seglib.formats.*format=.cvat"),
        (None, "a.csv", "MaskPath,ImageID,LabelName", "seglib.formats.*format=.open_images"),
        # tables
        (None, "a.csv", HEAD + "p0.png,1,1 5\ngone,1,1 5", "1 pictures or masks that a.csv .*gone"),
        (None, "a.csv", HEAD + "p0.png,1,190 5", "p0.png.* within 192 pixels from 1 on"),
        (None, "a.csv", HEAD + "10,1,3 4 9 2", "run lengths that fit no picture.*by its file"),
        (None, "a.csv", HEAD + "p0.png,1,1 5\np1.png,,1 5", "a.csv, row 3: expected a class, as"),
        (None, "a.csv", "p0.png,1 5\np1.png,1 5", "names of the columns in the first line"),
        (None, "a.csv", "p0.png,gt/p1.png\np2.png,gt/p3.png", "names of the columns in the fir"),
        # YOLO; a pattern took seconds for 10 points and minutes for 20
        (None, "a.txt", "0 " + "0.123 0.456 " * 40 + "0.9", "labels like those of YOLO.*in shares"),
        (None, "photos/p0.txt", "0 .4 .2 .6 .3", r"in \*.txt have no area, .*expected polygons"),
        ("YOLO", "labels/p1.txt", "0 .1 .1 .9 .1 .9 .9 .8", "p1.txt, line 1: expected a class's"),
        ("YOLO", "labels/p1.txt", "2 .1 .1 .9 .1 .9 .9", "has class 2, which is not in .*road"),
        ("YOLO", "labels/p9.txt", "0 .1 .1 .9 .1 .9 .9", r"\*.txt names have no other half.*p9"),
        ("YOLO", "labels/x/p1.txt", "0 .1 .1 .9 .1 .9 .9", "no other half, first .*labels/x/p1"),
        ("YOLO", "data.yaml", "names: [a]\nkpt_shape: [2, 2]", "classes: .* labels are key points"),
        ("YOLO", "data.yaml", "names: [car", "data.yaml does not name the classes: while parsing"),
        ("YOLO", "a.yaml", "names: [road, car]", "a.yaml and .*data.yaml .* classes differently"),
        # JSON
        (None, "a.json", make_coco(category_id=4), "does not list: KeyError 4"),
        (None, "a.json", make_coco(segmentation=[[[1, 2], [3]]]), "a.json is damaged"),
        (None, "a.json", make_coco(segmentation=THREE), "add up to 3, not to 192"),
        (None, "a.json", make_coco(segmentation=TURNED), "picture of 16×12"),
        (None, "a.json", make_coco(lambda _: [[0.1] * 6]), "polygons between 0 and 1: expected p"),
        (None, "a.json", make_coco(height=13), "picture of 13×16.*is 12×16"),
        ("labelme", "x/p0.json", labelme(0, CAR), "two entries for .*p0.png: expected one a pict"),
        (None, "p0.json", labelme(0, OUTSIDE), r"p0.png.* from \(14, 0\) to \(17, 2\)"),
        ("Supervisely", ANN, supervisely({"classTitle": None}), "json has a shape without a class"),
        ("Supervisely", ANN, supervisely(polygon([[0, np.nan]] * 3)), "near the picture"),
        ("Supervisely", ANN, supervisely(polygon([[0, 0, 0]] * 3)), "expected points x, y, rec"),
    ],
)
def test_what_is_wrong_or_not_read_is_named(photos, source, file, content, words):
    if source:
        SOURCES[source](photos)
    write(photos / file, content)
    with pytest.raises(DatasetError, match=words):
        open_dataset(photos)


def test_classes_that_annotations_do_not_have_are_refused(photos):
    SOURCES["COCO"](photos)
    for names, words in (
        ("road car", "no background"),
        ("sky sea", "has the classes background, ro"),
        ("Background auto Road", "has Background, auto, Road: pass these names"),
    ):
        with pytest.raises(DatasetError, match=words):
            open_dataset(photos, classes=names.split())


def test_what_is_passed_over_is_told(photos):
    def tell(words, file, content):
        write(photos / file, content)
        with pytest.warns(UserWarning, match=words):
            open_dataset(photos)
        (photos / file).unlink()

    lines = make_coco(lambda name: [outline(name) if name == "road" else [0, 0, 9, 9]])
    tell("6 of 12 annotations in coco.json have no area", "coco.json", lines)
    tell("1 of 2 annotations in .* have no area", "p0.json", labelme(0, LINE, CAR))
    SOURCES["Supervisely"](photos)
    graph = supervisely({"classTitle": "road", "geometryType": "graph", "nodes": {}})
    tell("1 of 11 annotations in .* have no area", ANN, graph)
    tell("p0.png.json is passed over: it is damaged", ANN, "{")


def test_a_column_that_may_say_the_class_is_told(photos):
    table("ImageId,level,defect,EncodedPixels", write_id_and_name)(photos)
    with pytest.warns(UserWarning, match="one class, but defect differs within pictures: name it"):
        open_dataset(photos)


def test_without_datumaro_the_extra_is_named(photos, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datumaro", None)
    with pytest.raises(ImportError, match=r"pip install 'seglib\[formats\]'"):
        open_dataset(photos, format="cvat")


def test_datumaro_reads_other_formats(photos):
    pytest.importorskip("datumaro", reason="make test-formats installs it")
    polygon = ";".join(f"{x}.0,{y}.0" for x, y in CORNERS["car"])
    names = "".join(f"<label><name>{n}</name><attributes/></label>" for n in IDS)
    pictures = "".join(
        f'<image id="{i}" name="p{i}.png" width="16" height="12"><polygon label="car" '
        f'occluded="0" points="{polygon}" z_order="0"/></image>'
        for i in range(6)
    )
    (photos / "photos").rename(photos / "images")
    head = f"<annotations><version>1.1</version><meta><task><labels>{names}</labels></task></meta>"
    write(photos / "annotations.xml", f"{head}{pictures}</annotations>")
    dataset = open_dataset(photos, format="cvat")
    assert dataset.classes.names == tuple(CLASSES)
    np.testing.assert_array_equal(dataset.train[0][1], 2 * (SQUARES == 2))
