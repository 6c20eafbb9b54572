"""Masks that are drawn from tables, JSON files and several mask files a picture."""

import base64
import io
import json
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

SIZE = (12, 16)
SQUARES = np.zeros(SIZE, np.uint8)  # what all but a few sources here show
SQUARES[2:5, 3:8] = 1
SQUARES[6:11, 10:14] = 2
CORNERS = {
    "road": np.array([[3, 2], [7, 2], [7, 4], [3, 4]]),
    "car": np.array([[10, 6], [13, 6], [13, 10], [10, 10]]),
}
ids_of = {"road": 1, "car": 2}
COMPRESSED = "V1390000000n2", "n35700000b0"  # by pycocotools 2.0.11


def write_image(path, *, size=SIZE, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path, mask, suffix=".png"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def write_text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def encode(mask, by_rows=False):
    return seglib.encode_rle(mask if not by_rows else mask.T)


def count(mask):
    """COCO's counts, typed the slow way."""
    counts, last = [0], 0
    for value in mask.T.ravel().tolist():
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return counts


def read_all(dataset):
    splits = dataset.splits.items()
    return {name: split[i][1] for _, split in splits for i, name in enumerate(split.names)}


@pytest.fixture
def photos(tmp_path):
    for i in range(6):
        write_image(tmp_path / f"photos/p{i}.png", seed=i)
    return tmp_path


def named(labels, dataset):
    """Labels whose ids are those of the names road and car."""
    names = list(dataset.classes.names)
    return np.select([labels == names.index(name) for name in ids_of], list(ids_of.values()))


# Each writes annotations of p0 to p5, and returns the options to open them with.


def write_rows(folder, header, row, *, by_rows=False):
    """A table with `row(picture, class, runs)` for each picture and class."""
    rows = [
        row(f"p{i}", name, encode(k == SQUARES, by_rows))
        for i in range(6)
        for name, k in ids_of.items()
    ]
    write_text(folder / "masks.csv", "\n".join([header, *rows]))


def write_runs(folder):
    write_rows(folder, "ImageId,ClassId,EncodedPixels", "{}.png,{},{}".format)


def write_runs_with_class_in_key(folder):
    write_rows(folder, "Image_Label,EncodedPixels", "{}.png_{},{}".format)


def write_runs_of_objects(folder):
    def row(picture, name, runs):
        pairs = np.reshape(runs.split(), (-1, 2))
        return "\n".join(f'{picture},{name},"{start} {length}"' for start, length in pairs)

    write_rows(folder, "id,class,segmentation", row)


def write_runs_along_rows(folder):
    write_rows(folder, "id,annotation,cell_type", "{0},{2},{1}".format, by_rows=True)


def make_coco(segment):
    return {
        "images": [
            {"id": i + 7, "file_name": f"p{i}.png", "height": 12, "width": 16} for i in range(6)
        ],
        "categories": [{"id": 3, "name": "road"}, {"id": 90, "name": "car"}],
        "annotations": [
            {"id": i, "image_id": i + 7, "category_id": id_, "segmentation": segment(name)}
            for i in range(6)
            for id_, name in ((3, "road"), (90, "car"))
        ],
    }


def write_coco(folder):
    coco = make_coco(lambda name: [np.ravel(CORNERS[name]).tolist()])
    write_text(folder / "annotations/instances.json", coco)


def write_coco_runs(folder):
    coco = make_coco(lambda name: {"counts": count(ids_of[name] == SQUARES), "size": [12, 16]})
    write_text(folder / "stuff.json", coco)


def write_coco_text(folder):
    text = {"road": COMPRESSED[0], "car": COMPRESSED[1]}
    write_text(folder / "x.json", make_coco(lambda name: {"counts": text[name], "size": [12, 16]}))


def write_roboflow(folder):
    coco = make_coco(lambda name: [np.ravel(CORNERS[name]).tolist()])
    coco["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})
    for category in coco["categories"][1:]:
        category["supercategory"] = "things"
    write_text(folder / "photos/_annotations.coco.json", coco)


def write_labelme(folder):
    for i in range(6):
        road = {"label": "road", "points": [[7, 4], [3, 2]], "shape_type": "rectangle"}
        car = {"label": "car", "points": CORNERS["car"].tolist(), "shape_type": "polygon"}
        content = {"shapes": [road, car], "imagePath": f"..\\photos\\p{i}.png"}
        content |= {"imageHeight": 12, "imageWidth": 16, "imageData": None}
        write_text(folder / f"json/p{i}.json", content)


def pack(mask):
    """The bytes of a PNG."""
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()


def write_labelme_masks(folder):
    for i in range(6):
        shapes = [
            {
                "label": name,
                "points": points[[0, 2]].tolist(),
                "shape_type": "mask",
                "mask": base64.b64encode(
                    pack(np.full(np.ptp(points, axis=0)[::-1] + 1, True))
                ).decode(),
            }
            for name, points in CORNERS.items()
        ]
        content = {"shapes": shapes, "imagePath": f"p{i}.png", "imageHeight": 12, "imageWidth": 16}
        write_text(folder / f"photos/p{i}.json", content)


def write_supervisely(folder):
    """A bitmap of four channels whose last says where it is, and a polygon with a hole."""
    (folder / "photos").rename(folder / "img")
    road = np.zeros((3, 5, 4), np.uint8)
    road[..., 3] = 255
    bitmap = base64.b64encode(zlib.compress(pack(road))).decode()
    outer, inner = ([[x, y], [15, y], [15, 11], [x, 11]] for x, y in ((10, 6), (14, 5)))
    below = [[9, 11], [15, 11], [15, 11], [9, 11]]
    points = {"exterior": outer, "interior": [inner, below]}
    things = [
        {
            "classTitle": "road",
            "geometryType": "bitmap",
            "bitmap": {"data": bitmap, "origin": [3, 2]},
        },
        {"classTitle": "car", "geometryType": "polygon", "points": points},
    ]
    content = {"tags": [], "size": {"height": 12, "width": 16}, "objects": things}
    for i in range(6):
        write_text(folder / f"ann/p{i}.png.json", content)


def write_yolo(folder):
    (folder / "photos").rename(folder / "images")
    write_text(folder / "data.yaml", "train: images\nnames:\n  0: car  # first\n  1: 'road'\n")
    for i in range(6):
        rows = [
            " ".join([str(k), *(f"{share:.6f}" for share in np.ravel(CORNERS[name] / SIZE[::-1]))])
            for k, name in enumerate(["car", "road"])
        ]
        write_text(folder / f"labels/p{i}.txt", "\n\n".join(rows))


def write_file_a_class(folder):
    for i in range(6):
        for name, k in ids_of.items():
            write_mask(folder / f"masks/p{i}_{name}.png", np.uint8(k == SQUARES) * 255)


def write_folder_a_class(folder):
    for i in range(6):
        for k, name in enumerate(ids_of, 1):
            write_mask(folder / f"truths/labels/{k}. {name}/p{i}_{k}X.tif", k == SQUARES)


SOURCES = [
    write_runs, write_runs_with_class_in_key, write_runs_of_objects, write_runs_along_rows,
    write_coco, write_coco_runs, write_coco_text, write_roboflow, write_labelme,
    write_labelme_masks, write_supervisely, write_yolo, write_file_a_class, write_folder_a_class,
]  # fmt: skip


@pytest.mark.parametrize("write", SOURCES, ids=lambda write: write.__name__[6:])
@pytest.mark.filterwarnings("ignore:.*(are taken for classes|go along rows|are taken from objects)")
def test_sources_show_the_same_classes(photos, write):
    write(photos)
    dataset = open_dataset(photos)
    assert dataset.classes.names[0] == "background"
    assert set(dataset.classes.names) == {"background", "road", "car"}
    labels = read_all(dataset)
    assert sorted(labels) == [f"p{i}" for i in range(6)]
    for found in labels.values():
        np.testing.assert_array_equal(named(found, dataset), SQUARES)


@pytest.mark.parametrize(
    ("file", "text", "names", "ignored"),
    [
        ("labels.txt", "__ignore__\n_background_\nroad\ncar\n", ["_background_", *ids_of], 255),
        ("class_dict.csv", "name,r,g,b\ncar,1,2,3\nroad,9,9,9\nbackground,0,0,0\n",
         ["car", "road", "background"], None),
        ("classes.txt", "sky\nsea\n", ["background", "car", "road"], None),
    ],
)  # fmt: skip
def test_a_class_table_beside_annotations_counts_where_it_has_their_names(
    photos, file, text, names, ignored
):
    write_labelme(photos)
    write_text(photos / file, text)
    dataset = open_dataset(photos)
    assert (list(dataset.classes.names), dataset.classes.ignore_label) == (names, ignored)
    background = next(i for i, name in enumerate(names) if "background" in name)
    assert (dataset.train[0][1][SQUARES == 0] == background).all()


def test_a_table_of_pairs_may_be_a_file_or_a_dataframe(photos, monkeypatch):
    for i in range(6):
        write_mask(photos / f"other/m{i}.png", voc_colors(3)[SQUARES])
    table = pd.DataFrame({"Img": [f"photos/p{i}.png" for i in range(6)]})
    table["truth_file"] = [f"other/m{i}.png" for i in range(6)]
    table["fold"] = [0, 0, 1, 1, 2, 2]
    table.to_csv(photos / "pairs.csv", index=False)
    monkeypatch.chdir(photos)
    for source in (photos, photos / "pairs.csv", table, "pairs.csv"):
        with pytest.warns(UserWarning, match="fold 0 is for validation"):
            dataset = open_dataset(source, classes=["background", *ids_of])
        assert [len(split) for split in dataset.splits.values()] == [4, 2, 0]
        np.testing.assert_array_equal(dataset.val[1][1], SQUARES)


def test_names_without_extension_are_told_apart_by_what_folders_say(tmp_path):
    for i in range(4):
        write_image(tmp_path / f"images/a{i}.jpg")
        write_mask(tmp_path / f"masks/a{i}.png", np.uint8(SQUARES > 0) * 255)
    rows = [f"a{i},a{i},{'train' if i else 'test'}" for i in range(4)]
    write_text(tmp_path / "all.csv", "\n".join(["image;mask;subset", *rows]).replace(",", ";"))
    with pytest.warns(UserWarning, match=r"pairs are taken from all.csv"):
        dataset = open_dataset(tmp_path)
    assert [len(split) for split in dataset.splits.values()] == [3, 0, 1]
    write_text(tmp_path / "all.csv", "image,label\n" + "".join(f"a{i}.jpg,{i}\n" for i in range(4)))
    assert len(open_dataset(tmp_path)) == 4  # a table of something else
    np.testing.assert_array_equal(dataset.test[0][1], SQUARES > 0)


def test_pictures_of_one_name_are_told_apart_by_their_folders(tmp_path):
    """As in UW-Madison: `case1_day2_slice_0001` is case1/case1_day2/scans/slice_0001_12_16.png."""
    rows = ["id,class,segmentation"]
    for day in (1, 2):
        write_image(tmp_path / f"train/case1/case1_day{day}/scans/slice_0001_12_16.png", seed=day)
        rows += [f"case1_day{day}_slice_0001,{n},{encode(day == SQUARES)}" for n in ("a", "b")]
    write_text(tmp_path / "train.csv", "\n".join([*rows[:3], "case1_day2_slice_0001,b,", rows[3]]))
    with pytest.warns(UserWarning, match=r"overlap on 3.9 % of the pixels.*b over a"):
        dataset = open_dataset(tmp_path)
    first, second = (labels for _, labels in dataset.train)
    np.testing.assert_array_equal(first, 2 * (SQUARES == 1))
    np.testing.assert_array_equal(second, SQUARES == 2)


@pytest.mark.parametrize(
    ("image", "masks"),
    [
        ("stage1_train/x{0}/images/x{0}.png", "stage1_train/x{0}/masks/{1}ab{0}.png"),
        ("train/images/x{0}.png", "train/masks/x{0}/{1}.png"),
    ],
    ids=["Data Science Bowl 2018", "numbers in folders of pictures' names"],
)
def test_objects_in_files_of_their_own_are_one_class(tmp_path, image, masks):
    for i in range(4):
        write_image(tmp_path / image.format(i), seed=i)
        for k in (1, 2):
            write_mask(tmp_path / masks.format(i, k), k == SQUARES)
    with pytest.warns(UserWarning, match="8 mask files of 4 pictures.*objects of one class"):
        dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", "foreground")
    for labels in read_all(dataset).values():
        np.testing.assert_array_equal(labels, SQUARES > 0)


def test_a_second_mask_file_is_of_the_same_class(tmp_path):
    """As in BUSI: `benign (1)_mask_1.png` beside `benign (1)_mask.png`."""
    for i in range(4):
        write_image(tmp_path / f"benign/benign ({i}).png", seed=i)
        write_mask(tmp_path / f"benign/benign ({i})_mask.png", np.uint8(SQUARES == 1) * 255)
    write_mask(tmp_path / "benign/benign (2)_mask_1.png", np.uint8(SQUARES == 2) * 255)
    with pytest.warns(UserWarning, match="5 mask files of 4 pictures.*objects of one class"):
        labels = read_all(open_dataset(tmp_path))
    np.testing.assert_array_equal(labels["benign (1)"], SQUARES == 1)
    np.testing.assert_array_equal(labels["benign (2)"], SQUARES > 0)


def test_panoptic_pictures_are_read_by_their_segments(tmp_path):
    ids = np.array([0, 300, 70_000])[SQUARES]
    for split in ("train", "val"):
        segments = [{"id": 300, "category_id": 1}, {"id": 70_000, "category_id": 5}]
        names = [f"{split}{i}" for i in range(3)]
        for name in names:
            write_image(tmp_path / f"{split}2017/{name}.jpg")
            png = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
            write_mask(tmp_path / f"annotations/panoptic_{split}2017/{name}.png", png)
        content = {
            "images": [
                {"id": name, "file_name": f"{name}.jpg", "height": 12, "width": 16}
                for name in names
            ],
            "categories": [{"id": 5, "name": "car"}, {"id": 1, "name": "road"}],
            "annotations": [
                {"image_id": name, "file_name": f"{name}.png", "segments_info": segments}
                for name in names
            ],
        }
        write_text(tmp_path / f"annotations/panoptic_{split}2017.json", content)
    dataset = open_dataset(tmp_path)
    assert (dataset.classes.names, dataset.classes.ignore_label) == (("road", "car"), 255)
    assert [len(split) for split in dataset.splits.values()] == [3, 3, 0]
    labels = dataset.val[0][1]
    np.testing.assert_array_equal(labels, np.array([255, 0, 1])[SQUARES])


def test_polygons_are_drawn_as_elsewhere(photos):
    """As by scikit-image, but for pixels that the outline cuts."""
    corners = np.array([[1.5, 1], [14, 3.5], [9, 10.5], [3, 8]])
    shape = ("figure", "polygon", corners.ravel().tolist())
    labels = Annotation(photos / "photos/p0.png", photos / "x", ((1, shape),)).read()
    inside = draw.polygon2mask(SIZE, corners[:, ::-1])
    assert labels[ndimage.binary_erosion(inside)].all()
    assert not labels[~ndimage.binary_dilation(inside, np.ones((3, 3)))].any()
    assert 60 < inside.sum() <= labels.sum() + 1


@pytest.mark.parametrize("kind", [{}, {"shape_type": None}, {"shape_type": ""}])
def test_shapes_of_no_kind_are_polygons(photos, kind):
    shapes = [{"label": name, "points": CORNERS[name].tolist(), **kind} for name in ids_of]
    for i in range(6):
        write_text(photos / f"photos/p{i}.json", {"imagePath": f"p{i}.png", "shapes": shapes})
    dataset = open_dataset(photos)
    np.testing.assert_array_equal(named(dataset.train[0][1], dataset), SQUARES)


def test_circles_are_filled_around_their_first_point(photos):
    shape = {"label": "disc", "shape_type": "circle", "points": [[6, 5], [6, 8]]}
    content = {"imagePath": "p0.png", "shapes": [shape], "imageHeight": 12, "imageWidth": 16}
    write_text(photos / "photos/p0.json", content)
    with pytest.warns(UserWarning, match="5 pictures beside others are not in"):
        labels = open_dataset(photos, fractions=(1, 0, 0)).train[0][1]
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


def test_annotations_are_prepared_checked_and_written(photos, tmp_path):
    write_runs(photos)
    dataset = open_dataset(photos)
    assert str(dataset.train.pairs[0][1]).endswith("masks.csv/p0.png")
    assert not [f for f in seglib.check_dataset(dataset).findings if f.severity == "error"]
    prepared = dataset.prepare(image_size=32, cache_dir=tmp_path / "cache")
    assert np.unique(prepared.train.labels).tolist() == [0, 1, 2]
    dealt = dataset.split(fractions=(0.5, 0.5, 0))
    dealt.write_splits(tmp_path / "dealt.csv")
    again = open_dataset(photos, splits=tmp_path / "dealt.csv")
    assert [list(map(str, p)) for p in again.val.pairs] == [
        list(map(str, p)) for p in dealt.val.pairs
    ]
    np.testing.assert_array_equal(again.val[0][1], dealt.val[0][1])
    text = (photos / "masks.csv").read_text()
    (photos / "masks.csv").write_text(text.replace("p0.png,road", "p0.png,car"))
    changed = open_dataset(photos).prepare(image_size=32, cache_dir=tmp_path / "cache")
    assert changed.fingerprint != prepared.fingerprint


def test_pictures_that_no_row_names_are_unlabelled_or_background(photos):
    write_text(
        photos / "masks.csv", f"ImageId,EncodedPixels\np0.png,{encode(SQUARES > 0)}\np1.png,"
    )
    with pytest.warns(UserWarning, match=r'4 pictures.*p2.*unpaired="background"'):
        labels = read_all(open_dataset(photos))
    assert {name: ids.any() for name, ids in labels.items()} == {"p0": True, "p1": False}
    assert len(open_dataset(photos, unpaired="background")) == 6


@pytest.mark.filterwarnings("ignore:.*only train has masks")
@pytest.mark.parametrize("names", [("X", "y"), ("train_images", "train_masks"), ("x", "labels")])
def test_stacks_of_arrays_are_pairs(tmp_path, names):
    images = np.random.default_rng(0).integers(0, 256, (6, *SIZE, 3), np.uint8)
    for name, values in zip(names, (images, np.stack([SQUARES] * 6)), strict=True):
        np.save(tmp_path / f"{name}.npy", values)
    np.save(tmp_path / "X_test.npy", images[:2])
    dataset = open_dataset(tmp_path, classes=["background", *ids_of])
    assert len(dataset) == 6
    for (image, none), expected in zip(dataset.unlabelled, images[:2], strict=True):
        np.testing.assert_array_equal(image, expected)
        assert none is None
    image, labels = dataset.train[1]
    assert any(np.array_equal(image, one) for one in images)
    np.testing.assert_array_equal(labels, SQUARES)


def test_stacks_of_one_hot_labels_are_refused(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((6, *SIZE, 3), np.uint8))
    np.save(tmp_path / "masks.npy", np.eye(5)[np.stack([SQUARES] * 6)])
    with pytest.raises(DatasetError, match=r"holds 5 bands: take np.argmax"):
        open_dataset(tmp_path)


def test_the_size_of_any_photograph_is_known(tmp_path):
    """Pillow reads no head of TIFF without decoding it, and none of five bands."""
    (tmp_path / "train").mkdir()
    for i, kind in enumerate(("minisblack", "rgb", "minisblack")):
        pixels = np.full((*SIZE, 3), i, np.uint8) if kind == "rgb" else np.ones((5, *SIZE), "u1")
        options = {} if kind == "rgb" else {"planarconfig": "separate"}
        tifffile.imwrite(tmp_path / f"train/p{i}.tif", pixels, photometric=kind, **options)
    rows = [f"p{i},{encode(SQUARES == 1)}" for i in range(3)]
    write_text(tmp_path / "train.csv", "\n".join(["id,encoding", *rows]))
    with pytest.warns(UserWarning, match="only train has masks|left out"):
        dataset = open_dataset(tmp_path)
    np.testing.assert_array_equal(dataset.train[1][1], SQUARES == 1)


def test_a_column_of_run_lengths_a_class(photos):
    rows = [f"p{i},{encode(SQUARES == 1)},{encode(SQUARES == 2) if i else ''}" for i in range(6)]
    write_text(photos / "masks.csv", "\n".join(["image,road,car", *rows]))
    dataset = open_dataset(photos)
    labels = read_all(dataset)
    assert set(dataset.classes.names) == {"background", *ids_of}
    np.testing.assert_array_equal(named(labels["p1"], dataset), SQUARES)
    np.testing.assert_array_equal(named(labels["p0"], dataset), SQUARES == 1)


def test_columns_that_may_say_the_class_are_read_or_told(photos):
    rows = [
        f"p{i}.png,{k},{name},{encode(k == SQUARES)}"
        for i in range(6)
        for name, k in ids_of.items()
    ]
    write_text(photos / "a.csv", "\n".join(["ImageId,class_id,class_name,EncodedPixels", *rows]))
    assert set(open_dataset(photos).classes.names) == {"background", *ids_of}
    write_text(photos / "a.csv", "\n".join(["ImageId,level,defect,EncodedPixels", *rows]))
    with pytest.warns(UserWarning, match="one class, but defect differs within pictures: name it"):
        open_dataset(photos)
    write_text(photos / "a.csv", "\n".join(rows))
    with pytest.raises(DatasetError, match="expected names of the columns in the first line"):
        open_dataset(photos)


def test_of_annotation_files_the_one_of_more_classes_is_taken(photos):
    """As of COCO, whose keypoints have outlines of persons too."""
    write_coco(photos)
    content = make_coco(lambda name: [np.ravel(CORNERS[name]).tolist()])
    for category in content["categories"]:
        category["name"] = "person"
    write_text(photos / "annotations/person_keypoints.json", content)
    with pytest.warns(UserWarning, match=r"from .*instances.json; also possible .*keypoints.json"):
        dataset = open_dataset(photos)
    assert dataset.classes.names == ("background", *ids_of)


def test_outlines_may_be_lists_of_points(photos):
    for shape in (lambda p: [p.tolist()], lambda p: p.tolist(), lambda p: p.ravel().tolist()):
        coco = make_coco(lambda name, shape=shape: shape(CORNERS[name]))
        write_text(photos / "coco.json", coco)
        dataset = open_dataset(photos)
        np.testing.assert_array_equal(named(dataset.train[0][1], dataset), SQUARES)


def test_run_lengths_of_another_kind_are_told(photos):
    """Two objects that the borders cut off; along rows, several runs follow each other in one."""
    mask = np.zeros(SIZE, bool)
    mask[:4, 2:6], mask[7:, 9:14] = True, True

    def write(change, by_rows=False):
        runs = np.reshape(encode(mask, by_rows).split(), (-1, 2)).astype(int)
        text = " ".join(map(str, np.ravel(change(*runs.T))))
        write_text(photos / "a.csv", "\n".join(["id,rle", *(f"p{i},{text}" for i in range(6))]))

    write(lambda starts, lengths: np.stack([starts - 1, lengths], axis=1))
    with pytest.warns(UserWarning, match="count pixels from 0: add 1 to each start"):
        open_dataset(photos)
    write(lambda starts, lengths: np.stack([np.diff(starts, prepend=0), lengths], axis=1))
    with pytest.raises(DatasetError, match="where each run starts in the picture, not how far"):
        open_dataset(photos)
    write(lambda starts, lengths: np.stack([starts, lengths], axis=1), by_rows=True)
    with pytest.warns(UserWarning, match="go along rows, not down columns"):
        dataset = open_dataset(photos)
    np.testing.assert_array_equal(dataset.train[0][1], mask)


@pytest.mark.filterwarnings("ignore:.*pairs are taken")
def test_columns_of_pairs_say_where_files_are_and_their_split(photos):
    for i in range(6):
        write_mask(photos / f"other/m{i}.png", voc_colors(3)[SQUARES])
    options = {"classes": ["background", *ids_of]}

    def read(header, ends):
        rows = [f"{photos}/photos/p{i}.png;{photos}/other/m{i}.png;{end}" for i, end in ends]
        write_text(photos / "pairs.csv", "\n".join([header, *rows]))
        dataset = open_dataset(photos, **options)
        return [len(split) for split in [*dataset.splits.values(), dataset.unlabelled]]

    assert read("x_path;y_path;is_valid", enumerate([True, *[False] * 5])) == [5, 1, 0, 0]
    assert read("x;y;subset", enumerate(["train", "val", "test"] * 2)) == [2, 2, 2, 0]
    assert read("x;y;is_test", enumerate(["1", "0"] * 3)) == [3, 0, 3, 0]
    assert read("x;y;label", enumerate(["cat", "dog", "cow"] * 2)) == [4, 1, 1, 0]
    rows = [f"photos/p{i}.png,other/m{i}.png,other/m{i}.png" for i in range(6)]
    write_text(photos / "pairs.csv", "\n".join(["image,mask_disc,mask_cup", *rows]))
    with pytest.warns(UserWarning, match="columns .*mask_disc.*mask_cup.* the first has the masks"):
        open_dataset(photos, **options)
    held_out = enumerate(["0;0", "0;1", "1;0", "0;0", "0;0", "0;0"])
    assert read("x;y;is_test;is_val", held_out) == [4, 1, 1, 0]
    assert read("x;y;fold", enumerate([""] * 6)) == [4, 1, 1, 0]
    (photos / "photos/p5.png").unlink()
    assert read("x;y;subset", enumerate(["train", "val", "test"])) == [1, 1, 1, 2]  # p3 and p4
    with pytest.raises(DatasetError, match="train, val or test as the split, received held, train"):
        read("x;y;split", enumerate(["train", "train", "held"] * 2))
    assert read("x;y;split", enumerate(["train", "train", "dev"])) == [2, 1, 0, 2]
    with pytest.warns(UserWarning, match="fold 1 is for validation"):  # an empty cell is no fold
        assert read("x;y;fold", enumerate(["", "1", "2"])) == [2, 1, 0, 2]


def test_the_class_table_decides_which_mask_file_is_on_top(photos):
    for i in range(6):
        write_mask(photos / f"masks/p{i}_cup.png", (SQUARES == 1).astype(np.uint8) * 255)
        write_mask(photos / f"masks/p{i}_disc.png", (SQUARES > 0).astype(np.uint8) * 255)
    (photos / "photos").rename(photos / "images")
    with pytest.warns(UserWarning, match="most often cup over disc"):
        dataset = open_dataset(photos, classes=["background", "disc", "cup"])
    np.testing.assert_array_equal(dataset.train[0][1], np.array([0, 2, 1])[SQUARES])


@pytest.mark.parametrize(
    "names",
    [
        ("p{}.jpg", "p{}_1stHO.png", "p{}_2ndHO.png"),
        ("images/p{}.png", "labels-ah/p{}.ah.png", "labels-vk/p{}.vk.png"),
        ("images/p{}.ppm", "labels-ah/p{}.ah.ppm", "labels-vk/p{}.vk.ppm"),
    ],
    ids=["CHASE_DB1", "STARE", "STARE, PPM"],
)
def test_what_two_people_drew_is_not_two_classes(tmp_path, names):
    for i in range(6):
        write_image(tmp_path / names[0].format(i), seed=i)
        for name, drawn in zip(names[1:], (SQUARES == 1, SQUARES > 0), strict=True):
            write_mask(tmp_path / name.format(i), drawn.astype(np.uint8) * 255)
    with pytest.warns(UserWarning, match="masks are taken from .*; also possible are masks="):
        dataset = open_dataset(tmp_path)
    np.testing.assert_array_equal(dataset.train[0][1], SQUARES == 1)


def test_arrays_in_memory_are_written_once(tmp_path):
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in (SIZE, (20, 9), (40, 40))]
    labels = [random.integers(0, 3, image.shape[:2]) for image in images]
    options = {"classes": ["background", *ids_of], "fractions": (1, 0, 0), "folder": tmp_path / "a"}
    dataset = seglib.open_arrays(images, labels, **options)
    for (image, ids), expected, truth in zip(dataset.train, images, labels, strict=True):
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(ids, truth)
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


LABELME_MASK = {
    "imagePath": "p0.png",
    "shapes": [
        {"label": "a", "shape_type": "mask", "points": [[14, 0], [16, 1]],
         "mask": base64.b64encode(pack(np.ones((2, 3), bool))).decode()},
    ],
}  # fmt: skip
RUNS = "ImageId,ClassId,EncodedPixels\n"


@pytest.mark.filterwarnings("ignore:.*count as unlabelled")
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("p0.png,1,1 5\ngone.png,1,1 5", "1 pictures or masks that masks.csv names.*gone"),
        ("p0.png,1,190 5\np1.png,1,1 5", "p0.png.* within 192 pixels from 1 on"),
        ("p0.png,1,5 5 7 2\np1.png,1,1 5", "no overlap"),
        ("p0.png,1,0 5", "within 192 pixels"),
        ("p0.png,1,3 4 9\np1.png,1,1 5", "p0.png"),
        ("10,1,3 4 9 2", "run lengths that fit no picture.*name each picture by its file"),
    ],
)
def test_wrong_run_lengths_are_refused(photos, rows, words):
    write_text(photos / "masks.csv", RUNS + rows)
    with pytest.raises(DatasetError, match=words):
        open_dataset(photos)


def test_what_is_wrong_in_json_is_refused(photos):
    for change, words in (
        ({"category_id": 4}, "does not list: KeyError 4"),
        ({"image_id": 99}, "does not list: KeyError 99"),
        ({"segmentation": [[[1, 2], [3]]]}, "coco.json is damaged"),
        ({"segmentation": {"counts": [3, 4], "size": [12, 16]}}, "add up to 7, not to 192"),
        ({"segmentation": {"counts": [3, 4], "size": [16, 12]}}, "picture of 16×12"),
        ({}, "polygons between 0 and 1: expected pixels"),
    ):
        scale = 1 if change else 1 / 16
        coco = make_coco(lambda name, by=scale: [np.ravel(CORNERS[name] * by).tolist()])
        coco["annotations"][0] |= change
        write_text(photos / "coco.json", coco)
        with pytest.raises(DatasetError, match=words):
            open_dataset(photos)
    write_coco(photos)
    (photos / "coco.json").unlink()
    for names, words in (
        ("road car", "no background"),
        ("sky sea", "has the classes background, ro"),
        ("background auto road", "has background, auto, road: pass these names"),
        ("Background Car Road", "has Background, Car, Road: pass these names"),
    ):
        with pytest.raises(DatasetError, match=words):
            open_dataset(photos, classes=names.split())
    coco = make_coco(lambda name: [np.ravel(CORNERS[name]).tolist()])
    coco["images"][2]["height"] = 13
    write_text(photos / "annotations/instances.json", coco)
    with pytest.raises(DatasetError, match=r"picture of 13×16.*is 12×16"):
        open_dataset(photos)


def test_shapes_without_area_are_told(photos):
    coco = make_coco(lambda name: [np.ravel(CORNERS[name][: 2 if name == "car" else 4]).tolist()])
    write_text(photos / "coco.json", coco)
    with pytest.warns(UserWarning, match=r"6 of 12 annotations in coco.json have no area"):
        open_dataset(photos)
    (photos / "coco.json").unlink()
    line = {"label": "road", "points": [[0, 0], [9, 9]], "shape_type": "line"}
    shapes = [line, {"label": "car", "points": CORNERS["car"].tolist()}]
    content = {"shapes": shapes, "imagePath": "p0.png"}
    write_text(photos / "photos/p0.json", content)
    with pytest.warns(UserWarning, match="1 of 2 annotations in .* have no area"):
        dataset = open_dataset(photos)
    assert len(dataset) == 1


@pytest.mark.filterwarnings("ignore:.*count as unlabelled")
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("scan.nii.gz", "", "NIfTI.*nibabel"),
        ("a.dcm", "", "DICOM.*pydicom"),
        ("a.h5", "", "HDF5.*h5py.*open_arrays"),
        ("all.zip", "", "archives.*unpack"),
        ("photos/p0.txt", "0 0.4 0.2 0.6 0.3\n", r"in \*.txt have no area, .*expected polygons"),
        ("a.csv", "MaskPath,ImageID,LabelName", "seglib.formats.*format=.open_images"),
        ("mask.json", LABELME_MASK, r"p0.png: .*a bitmap reaches from \(14, 0\) to \(17, 2\)"),
        ("all.npz", "", "arrays that do not pair.*open_arrays"),
        ("export.json", '[{"from_name": "tag"}]', "Label Studio.*COCO JSON"),
        ("a/p0.xml", '<Annotations MicronsPerPixel="0.25">', "Aperio ImageScope.*COCO JSON"),
        ("annotations.xml", "<annotations><version>1.1", "seglib.formats.*format=.cvat"),
    ],
)
def test_what_is_not_read_is_named(photos, name, content, words):
    write_text(photos / name, content)
    with pytest.raises(DatasetError, match=words):
        open_dataset(photos)


def test_yolo_classes_are_named_by_the_nearest_file_or_by_the_user(photos):
    """A picture without objects has an empty file; other text beside the labels is none."""
    write_yolo(photos)
    write_text(photos / "labels/p0.txt", "")
    write_text(photos / "notes.txt", "1 2 3\n")
    own = {
        "data.yaml": "names: [sea]",
        "labels/data.yml": "names: {1: road, 0: car, 5: car}",
        "labels/other.yaml": "names: a text",
    }
    for name, text in own.items():
        write_text(photos / name, text)
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
    write_text(photos / "classes.txt", "car\n\nroad\n")
    assert open_dataset(photos).classes.names == ("background", "car", "road")


def test_yolo_classes_are_named_in_all_folders_or_in_none(tmp_path):
    for name in "ab":
        write_image(tmp_path / name / "photos/p0.png")
        for i in range(1, 6):
            write_image(tmp_path / name / f"photos/p{i}.png", seed=i)
        write_yolo(tmp_path / name)
    (tmp_path / "b/data.yaml").unlink()
    with pytest.raises(DatasetError, match=r"no data.yaml names the classes of .*b/labels/p0.txt"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("labels/p1.txt", "0 0.1 0.1 0.9 0.1 0.9 0.9 0.87", "p1.txt, line 1: expected a class's"),
        ("labels/p1.txt", "2 0.1 0.1 0.9 0.1 0.9 0.9", "has class 2, which is not in .*road"),
        ("labels/p9.txt", "0 0.1 0.1 0.9 0.1 0.9 0.9", r"\*.txt names have no other half.*p9"),
        ("labels/x/p1.txt", "0 0.1 0.1 0.9 0.1 0.9 0.9", r"no other half, first .*labels/x/p1"),
        (
            "data.yaml",
            "names: [car, road]\nkpt_shape: [2, 2]",
            "does not name the classes: the labels are key points",
        ),
        ("data.yaml", "names: [car", "data.yaml does not name the classes: while parsing"),
        ("a.yaml", "names: [road, car]", "a.yaml and .*data.yaml name the classes differently"),
    ],
)
def test_what_is_wrong_in_yolo_files_is_refused(photos, file, text, words):
    write_yolo(photos)
    write_text(photos / file, text)
    with pytest.raises(DatasetError, match=words):
        open_dataset(photos)


def test_lines_that_are_not_those_of_yolo_are_named_at_once(photos):
    """A pattern took seconds for 10 points and minutes for 20."""
    for i in range(6):
        write_text(photos / f"photos/p{i}.txt", "0 " + "0.123 0.456 " * 40 + "0.9")
    with pytest.raises(DatasetError, match=r"labels like those of YOLO.*in shares"):
        open_dataset(photos)


def test_shapes_of_json_that_have_no_area_or_no_class_are_told(photos):
    write_supervisely(photos)
    whole = json.loads((photos / "ann/p0.png.json").read_text())

    def read(**changes):
        write_text(photos / "ann/p0.png.json", whole | changes)
        return open_dataset(photos, fractions=(1, 0, 0)).train

    assert not read(objects=[])[0][1].any()
    graph = {"classTitle": "road", "geometryType": "graph", "nodes": {}}
    with pytest.warns(UserWarning, match="1 of 11 annotations in .* have no area"):
        read(objects=[graph])
    with pytest.raises(DatasetError, match=r"p0.png.json has a shape without a class"):
        read(objects=[whole["objects"][0] | {"classTitle": None}])
    points = {"exterior": [[0, 0], [9, float("nan")], [9, 9]], "interior": []}
    with pytest.raises(DatasetError, match="expected points near the picture"):
        read(objects=[whole["objects"][1] | {"points": points}])
    points = {"exterior": [[0, 0, 0], [9, 0, 0], [9, 9, 0]], "interior": []}
    with pytest.raises(DatasetError, match="expected points x, y, received"):
        read(objects=[whole["objects"][1] | {"points": points}])
    write_text(photos / "ann/p0.png.json", "{")
    with pytest.warns(UserWarning, match=r"p0.png.json is passed over: it is damaged") as told:
        open_dataset(photos)
    assert "1 pictures beside others are not in" in str(told[1].message)
    for i in range(6):
        write_text(photos / f"ann/p{i}.png.json", whole | {"objects": []})
    with pytest.raises(DatasetError, match="no pairs of image and mask"):
        open_dataset(photos)


def test_without_datumaro_the_extra_is_named(photos, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datumaro", None)
    with pytest.raises(ImportError, match=r"pip install 'seglib\[formats\]'"):
        open_dataset(photos, format="cvat")


def test_datumaro_reads_other_formats(photos):
    pytest.importorskip("datumaro", reason="make test-formats installs it")
    polygon = ";".join(f"{x}.0,{y}.0" for x, y in CORNERS["car"])
    names = "".join(f"<label><name>{n}</name><attributes/></label>" for n in ids_of)
    pictures = "".join(
        f'<image id="{i}" name="p{i}.png" width="16" height="12"><polygon label="car" '
        f'occluded="0" points="{polygon}" z_order="0"/></image>'
        for i in range(6)
    )
    (photos / "photos").rename(photos / "images")
    write_text(
        photos / "annotations.xml",
        f"<annotations><version>1.1</version><meta><task><labels>{names}</labels></task></meta>"
        f"{pictures}</annotations>",
    )
    dataset = open_dataset(photos, format="cvat")
    assert dataset.classes.names == ("background", *ids_of)
    np.testing.assert_array_equal(dataset.train[0][1], 2 * (SQUARES == 2))
