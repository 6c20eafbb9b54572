"""Class tables from every kind of file, which one counts, and masks whose values are no ids."""

import copy
import json
import pickle

import numpy as np
import pytest
from folders import CLASSES, save, write_folder, write_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import seglib
from seglib.classes import ClassTable, create_class_table, read_class_table, write_class_table
from seglib.datasets import open_dataset
from seglib.images import DatasetError

TABLE = ClassTable(["back", "road", "car"], [(0, 0, 0), (128, 0, 0), (0, 128, 0)])


@pytest.fixture
def read(tmp_path):
    """Function that reads a class table from text."""

    def read_text(text, name="class_dict.csv", **options):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_class_table(tmp_path / name, **options)

    return read_text


@pytest.mark.parametrize(
    ("column", "row", "ignored"),
    [
        ("ignore", "Un-labelled,0,0,0", True),
        ("ignore", "Background_To_Ignore,0,0,0", True),
        ("ignore", "avoid,0,0,0", False),
        ("ignore", "other,4,5,6,1", True),
        ("ignore", "other,4,5,6,", False),
        ("ignore", "void,4,5,6,0", False),
        ("ignore", "other,4,5,6,no", False),
        ("Ignored", "other,4,5,6,True", True),
        ("ignore_in_eval", "other,4,5,6,1.0", True),
        ("ignoreInEval", "other,4,5,6,yes", True),
    ],
)
def test_what_is_ignored(read, column, row, ignored):
    classes = read(f"name,r,g,b,{column}\nroad,1,2,3\n{row}\n")
    assert classes.ignore_label == (1 if ignored else None)
    assert classes.scored_ids == ((0,) if ignored else (0, 1))


def test_ignored_rows_keep_their_ids_and_two_share_the_first_ones(read):
    assert read("id,name,ignore\n0,other,1\n1,wall,0\n2,sky,0\n").ignore_label == 0
    classes = read("name,r,g,b\nroad,1,2,3\nvoid,0,0,0\nunlabelled,255,255,255\n")
    assert (classes.num_classes, classes.scored_ids) == (3, (0,))
    assert list(classes.mapping.items()) == [((1, 2, 3), 0), ((0,) * 3, 1), ((255,) * 3, 1)]


IDS = {"0": "back", "1": "road", "2": "car"}
CODES = {"back": "000000", "road": "800000", "car": "008000"}
HASTY = [{"png_index": i, "class_name": n, "color": f"#{CODES[n]}ff"} for i, n in enumerate(CODES)]
MIXED = [{"name": "back", "color": "0x000000"}, {"title": "road", "color": [128, 0, 0]}]
MIXED += [{"name": "car", "r": 0, "g": 128, "b": 0}]
META = {"label_map": IDS, "background_label": "0", "segmentation_colors": TABLE.colors.tolist()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,class\n0,back\n2,car\n1,road\n"),
        ("a.csv", '\ufeffB , Name,R,G,%\n\n0, back ,0,0,4 %\n,,,,\n0,"road",128,0,9\n0,car,0,128,'),
        ("a.csv", "id,name,r,g,b\n2,car,0,128,0\n0,back,0,0,0\n1,road,128,0,0\n"),
        ("a.csv", 'label;color\nback;"0,0,0"\nroad;#800000\ncar;(0, 128, 0)\n'),
        ("a.json", {"back": [0, 0, 0], "road": [128, 0, 0], "car": [0, 128, 0]}),
        ("a.json", ["back", "road", "car"]),
        ("a.json", IDS),
        ("a.json", {"classes": MIXED}),
        ("a.json", TABLE.to_dict()),
        ("a.json", META),
        ("a.json", [{"category_name": name, "category_id": i} for i, name in IDS.items()]),
        ("a.json", HASTY[::-1]),
        ("a.json", [{"name": name, "color": code} for name, code in CODES.items()]),
        ("a.json", {f"#{code}": name for name, code in CODES.items()}),
        ("a.json", {"[0, 0, 0]": "back", "[128, 0, 0]": "road", "[0, 128, 0]": "car"}),
        ("a.txt", "back\r\nroad\ncar"),
        ("a.txt", "0 back\n1 road\n2: car\n"),
        ("a.txt", "0 0 0 back\n128 0 0\troad\n0, 128, 0 car\n"),
        ("a.TXT", "back 0 0 0\nroad: 128,0,0\ncar 0 128 0\n"),
        ("labelmap.txt", "# label:color_rgb\nback:0,0,0::\nroad:128,0,0:a,b:c\ncar:0,128,0::\n"),
    ],
)
def test_every_kind_of_file_gives_the_same_table(read, name, content):
    assert read(content if isinstance(content, str) else json.dumps(content), name) == TABLE


BLACK_SECOND = [[10, 20, 30], [0, 0, 0]]
AGAIN = {"0": 0, "1": 1, "2": 0}  # a third row of the first name
VOC = [[0, 0, 0], [128, 0, 0], [0, 128, 0]]


@pytest.mark.parametrize(
    ("name", "text", "colors", "values"),
    [
        ("a.csv", "pixel value,class\n50,b\n0,a\n150,c\n", VOC, {"0": 0, "50": 1, "150": 2}),
        ("a.csv", "id,name\n0,a\n1,b\n2,a\n", VOC[:2], AGAIN),
        ("a.csv", "name,r,g,b\na,0,0,0\nb,128,0,0\na,0,0,7\n", VOC[:2], AGAIN | {"#000007": 0}),
        ("a.json", '{"a": 0, "b": 1, "c": 255}', VOC, {"0": 0, "1": 1, "255": 2}),
        ("a.txt", "0 10 20 30 a\n5 0 0 0 b\n", BLACK_SECOND, {"0": 0, "5": 1}),
        ("a.txt", "0,a,10,20,30\n1,b,0,0,0\n", BLACK_SECOND, {}),
        ("a.txt", "10 20 30 a\n0 0 0 b\n", BLACK_SECOND, {}),
        ("a.txt", "1. a\n2=b\n", VOC[:2], {"1": 0, "2": 1}),
    ],
)
def test_ids_with_gaps_and_rows_of_one_name(read, name, text, colors, values):
    classes = read(text, name)
    assert (classes.names, classes.values) == (tuple("abc")[: len(colors)], values)
    assert classes.colors.tolist() == colors
    again = ClassTable(**json.loads(json.dumps(classes.to_dict())))
    assert (again, again.values) == (classes, values)
    assert "values" not in ClassTable(classes.names, classes.colors).to_dict()
    assert set(classes.mapping.values()) == set(range(len(colors)))


def test_annotation_tools_leave_the_background_out(read):
    for text in ("id,name\n1,road\n2,car\n", "name,r,g,b\nroad,1,1,1\ncar,2,2,2\n"):
        assert read(text).names == ("road", "car")
        assert read(text, background=True).names == ("background", "road", "car")
    assert read("road\ncar\n", "a.txt", background=True).names == ("road", "car")
    black = read("id,name,r,g,b\n1,ground,0,0,0\n2,car,2,2,2\n", background=True)
    assert (black.names, black.values) == (("ground", "car"), {"1": 0, "2": 1})


def test_names_alone_get_the_colours_that_the_masks_have(read):
    colors = [[1] * 3, [2] * 3, [3] * 3]
    assert read("back\nroad\n", "a.txt", colors=colors).colors.tolist() == colors[:2]
    assert read("back 0 0 0", "a.txt", colors=colors).colors.tolist() == [[0] * 3]
    assert create_class_table(TABLE) is TABLE
    outside = read("__ignore__\nback\nroad\n", "a.txt")
    assert (outside.names, outside.ignore_label) == (("back", "road"), 255)
    assert outside.scored_ids == (0, 1)


NAMES = st.text("abcXYZ ,\"'é_-019", min_size=1).map(str.strip).filter(bool)
COLORS = st.tuples(*[st.integers(0, 255)] * 3)


@st.composite
def class_tables(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=20, unique=True))
    colors = draw(st.lists(COLORS, min_size=len(names), max_size=len(names), unique=True))
    return ClassTable(names, colors, draw(st.none() | st.integers(0, len(names) - 1)))


@settings(max_examples=40, deadline=None)
@given(classes=class_tables())
def test_tables_survive_files_json_pickle_and_copy(tmp_path_factory, classes):
    path = tmp_path_factory.getbasetemp() / "written.csv"
    write_class_table(path, classes)
    for again in (
        read_class_table(path),
        ClassTable(**json.loads(json.dumps(classes.to_dict()))),
        pickle.loads(pickle.dumps(classes)),
        copy.deepcopy(classes),
    ):
        assert again == classes
        assert hash(again) == hash(classes)
        assert again.mapping == classes.mapping


def test_tables_differ_by_name_colour_and_ignore_label():
    for other in (
        ClassTable(["back", "road", "bus"], TABLE.colors),
        ClassTable(TABLE.names, TABLE.colors + 1),
        ClassTable(TABLE.names, TABLE.colors, ignore_label=1),
        ClassTable(TABLE.names, TABLE.colors, ignore_label=1, also_ignored=[2]),
    ):
        assert other != TABLE
    with pytest.raises(ValueError, match="read-only"):
        TABLE.colors[0] = 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name,r,g\ncar,red,2\n", r"t.csv: .* colour r, g, b for 'car', .* \['red', '2', None\]"),
        ("name,r,g,b\nroad,0.5,0.0,0.0\n", r"a colour r, g, b for 'road', received \['0.5', "),
        ("name,r,g,b\nroad,1,2,256\n", r"an RGB colour in \[0, 255\] for each name"),
        ("name,r,g,b\nroad,1,2,3\ncar,1,2,3\n", r"\(1, 2, 3\) occurs twice"),
        ("back,0,0,0\nroad,128,0,0\n", "expected a name, or an object with name and color"),
        ("image,label\na.png,3\n", "expected the columns name, r, g, b or id, name, received 'im"),
        ("id,name\n0,road\n0,car\n", "an id for each class, received 0 for 'car'"),
        ([{"id": 0, "name": "a"}, {"name": "b"}], "an id or a colour for 'b' as well"),
        ([{"name": "a", "color": "#000000"}, "b"], "an id or a colour for 'b' as well"),
        ({"names": ["a"], "colors": [[0] * 3], "values": {"x": 0}}, "received 'x': 0"),
        ({"names": [], "colors": []}, "received 0 names"),
        ({**TABLE.to_dict(), "ignore_label": 1.5}, "ignore_label to be a whole number or None"),
        ({0: (0, 0, 0), 1: (1, 2, 3)}, "expected a name, or an object with name and color"),
        (3, "expected a class table as .*, received 3"),
    ],
)
def test_wrong_tables(read, content, words):
    with pytest.raises(ValueError, match=words):
        read(content, "t.csv") if isinstance(content, str) else create_class_table(content)


def test_wrong_files(read, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.csv: expected CSV with name, r, g, b"):
        read_class_table(tmp_path / "gone.csv")
    with pytest.raises(ValueError, match="expected a name beside id and colour, received '1' al"):
        read("1 128 0 0\n2 0 128 0\n", "a.txt")
    file = tmp_path / "class_dict.csv"
    for encoding in ("utf-16", "cp1252"):
        file.write_text("name,r,g,b\nStraße,1,2,3\nHimmel,4,5,6\n", encoding=encoding)
        with pytest.raises(ValueError, match=r"class_dict\.csv is not in UTF-8: save it again"):
            read_class_table(file)


def test_every_public_name_is_listed_and_others_are_attribute_errors():
    some = {"read_class_table", "closest_labels", "open_dataset", "read_labels"}
    assert some <= set(seglib.__all__) <= set(dir(seglib))
    assert all(getattr(seglib, name) for name in seglib.__all__)
    with pytest.raises(AttributeError, match="read_clas_table"):
        seglib.read_clas_table  # noqa: B018


# Class tables beside masks

LABELS = np.kron(np.arange(12).reshape(3, 4) % 4, np.ones((16, 16), int))  # of classes 0 to 3


def turn(i):
    """The labels of a pair."""
    return np.roll(LABELS, 16 * int(i), axis=1)


def write(folder, draw, suffix=None, **tables):
    """Six pairs and class tables; `draw` makes a mask's array of its labels."""
    for i in range(6):
        save(folder / f"images/{i}.png", np.random.default_rng(i).integers(0, 256, (48, 64, 3)))
        mask = draw(turn(i))
        kind = suffix or (".png" if mask.dtype in (np.uint8, np.uint16) else ".tif")
        save(folder / f"masks/{i}{kind}", mask, mask.dtype)
    write_texts(folder, {f"{name}.txt": "\n".join(text) for name, text in tables.items()})
    return folder


def as_type(dtype, scale=1, classes=4):
    return lambda labels: (scale * (labels % classes)).astype(dtype)


BYTES = as_type(np.uint8)
WHITE = as_type(np.uint8, 255, classes=2)


ROWS = list(zip(CLASSES.names, CLASSES.colors.tolist(), strict=True))
NUMBERED = [{"png_index": i, "class_name": n, "color": c} for i, (n, c) in enumerate(ROWS)]
TITLED = [{"title": name, "color": color} for name, color in ROWS]


@pytest.mark.parametrize("encoding", ["rgb", "grey"])
@pytest.mark.parametrize(
    ("name", "rows"),
    [("label_classes.json", NUMBERED[1:]), ("meta.json", {"classes": TITLED[1:], "tags": []})],
)
@pytest.mark.filterwarnings("ignore:.*taken for a class named background")
def test_tables_of_annotation_tools_are_found(tmp_path, name, rows, encoding):
    (tmp_path / name).write_text(json.dumps(rows))
    expected = write_folder(tmp_path, "no splits", encoding, table=False)
    dataset = open_dataset(tmp_path)
    assert np.array_equal(dataset.classes.colors, CLASSES.colors)
    assert dataset.classes.names[1:] == CLASSES.names[1:]
    for (_, labels), title in zip(dataset.train, dataset.train.names, strict=True):
        np.testing.assert_array_equal(labels, expected[title][1])


def test_grey_colours_of_machines_beside_colours_for_people(tmp_path):
    """As Supervisely exports masks: row 0 of the one table is not id 0."""
    write(tmp_path, as_type(np.uint8, classes=2))
    (tmp_path / "meta.json").write_text('{"classes": [{"title": "road", "color": "#D0021B"}]}')
    (tmp_path / "obj_class_to_machine_color.json").write_text('{"road": [1, 1, 1]}')
    with pytest.warns(UserWarning, match=r"color.json has no row for the masks' value 0, or black"):
        dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", "road")
    assert set(dataset.train[0][1].flat) == {0, 1}


def test_of_several_tables_the_one_that_fits_counts(tmp_path):
    write(tmp_path, BYTES, classes="abcd", labels="xy", class_names="ABCD")
    (tmp_path / "meta.json").write_text('{"width": 64, "height": 48}')
    assert open_dataset(tmp_path).classes.names == ("A", "B", "C", "D")
    (tmp_path / "_classes.csv").write_text("class\nroad\n")
    with pytest.warns(UserWarning, match=r"no class table is read from .*_classes.csv: expected"):
        open_dataset(tmp_path)


# Masks whose values are no ids of classes

SHADES = {(0, 0, 0): "a", (60, 60, 60): "b", (120, 120, 120): "b", (180, 180, 180): "a"}


@pytest.mark.parametrize(
    ("draw", "options", "expected"),
    [
        (BYTES, {"values": {0: "a", 1: "b", 2: "b", 3: None}}, [0, 1, 1, 255]),
        (BYTES, {"values": {0: "a", "rest": "b"}}, [0, 1, 1, 1]),
        (as_type(np.int32, 70), {"values": {"0-69": "a", "70-140": "b", 210: "a"}}, [0, 1, 1, 0]),
        (BYTES, {"classes": ["c", "b"], "values": {0: "b", "rest": "c"}}, [1, 0, 0, 0]),
        (as_type(np.uint8, 50), {"classes": {0: "a", 50: "b", 100: "c", 150: "d"}}, [0, 1, 2, 3]),
        (as_type(np.uint16, 65535, classes=2), {}, [0, 1, 0, 1]),
        (as_type(np.float32, 255, classes=2), {}, [0, 1, 0, 1]),
        (WHITE, {"classes": ["void", "a"]}, [0, 1, 0, 1]),
        (as_type(np.uint16, 90), {"encoding": "binary"}, [0, 1, 1, 1]),
        (as_type(np.uint8, 60), {"classes": SHADES}, [0, 1, 1, 0]),
    ],
)
def test_values_of_masks_become_ids(tmp_path, draw, options, expected):
    dataset = open_dataset(write(tmp_path, draw), **options)
    for split in dataset.splits.values():
        for name, (_, labels) in zip(split.names, split, strict=True):
            np.testing.assert_array_equal(labels, np.array(expected)[turn(name)])


@pytest.mark.parametrize(("none", "dtype"), [(-9999, "i4"), (-1, "f4"), (np.nan, "f4")])
def test_no_data_is_ignored_with_a_warning(tmp_path, none, dtype):
    write(tmp_path, lambda labels: np.where(labels == 3, none, labels).astype(dtype))
    with pytest.warns(UserWarning, match=rf"\(25.0% .* ignored; pass values={{…, '{none}': name}}"):
        dataset = open_dataset(tmp_path, classes=["a", "b", "c"])
    assert (dataset.classes.ignore_label, dataset.classes.values[str(none)]) == (255, 255)
    assert set(dataset.train[0][1].flat) == {0, 1, 2, 255}


JPEG = {"suffix": ".jpg"}
LOSSY = "JPEG or WebP and hold ids .*: export them as PNG"
TWO = r"classes.txt and .*labels.txt both fit .* [12] is '[bc]' in the one .* as classes= to"
EIGHTIES = {0: "a", 80: "b", 160: "c", 240: "d"}


@pytest.mark.parametrize(
    ("draw", "files", "options", "words"),
    [
        (BYTES, JPEG, {}, LOSSY),
        (as_type(np.uint8, 80), JPEG, {"classes": EIGHTIES}, LOSSY),
        (BYTES, JPEG, {"encoding": "binary"}, LOSSY),
        (as_type(np.uint16, 900), {}, {}, r"values 0, 900, 1800, 2700: pass values={0: "),
        (as_type(np.float32, 0.3), {}, {}, "masks/.*tif holds fractions"),
        (WHITE, {}, {"classes": list("abc")}, "classes= has no row for 255"),
        (WHITE, {}, {"classes": ["a", "Background"]}, "Background second, which white would show"),
        (BYTES, {}, {"values": {0: "a"}, "classes": ["b"]}, r"values= .*\['a'\]"),
        (BYTES, {"classes": "abcd", "labels": "acbd"}, {}, TWO),
        (BYTES, {"classes": "abc"}, {}, r"s.txt has no row for 3 \(25.0% of the pixels\)"),
        (BYTES, {"classes": "abc", "labels": "xy"}, {}, "labels.txt has no row .*: correct"),
        (BYTES, {}, {"values": {0: "a", 1: "b"}}, r'no class \(2, 3\).* values=, "rest" for all'),
    ],
)
def test_masks_and_tables_that_are_refused(tmp_path, draw, files, options, words):
    write(tmp_path, draw, **files)
    with pytest.raises(ValueError, match=words):
        open_dataset(tmp_path, **options).train[0]


def draw_blended(labels):
    mask = Image.fromarray(WHITE(labels))
    return np.asarray(mask.rotate(4, Image.BILINEAR).rotate(-4, Image.BILINEAR))


def draw_ramp(labels):
    return np.tile(np.clip(np.linspace(-100, 355, 64), 0, 255), (48, 1)).astype(np.uint8)


@pytest.mark.parametrize("draw", [draw_blended, draw_ramp])
def test_blended_black_and_white_is_told_and_cut_at_half(tmp_path, draw):
    write(tmp_path, draw)
    with pytest.warns(UserWarning, match="black and white are blended: values from 128 on are wh"):
        dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", "foreground")
    expected = draw(turn(dataset.train.names[0])) > 127
    np.testing.assert_array_equal(dataset.train[0][1], expected)


def test_255_is_ignored_beside_masks_of_0_and_1_where_a_table_says_so(tmp_path):
    parts = iter([1, 255] * 3)
    write(tmp_path, lambda labels: (labels % 2 * next(parts)).astype(np.uint8))
    classes = ClassTable(["a", "b", "c"], [(0, 0, 0), (1, 1, 1), (2, 2, 2)], ignore_label=255)
    dataset = open_dataset(tmp_path, classes=classes)
    assert {*np.unique([labels for _, labels in dataset.train])} == {0, 1, 255}


def number_objects(labels, gaps=False):
    """Stripes with numbers from 1 on, or 12 of 17 numbers, others in each mask."""
    first = np.flatnonzero(labels[0] == 0)[0] // 16
    random, objects = np.random.default_rng(first), np.zeros((48, 64), np.uint16)
    numbers = random.choice(17, 12, replace=False) if gaps else np.arange(1 + 2 * first)
    for place, number in enumerate(numbers, 1):
        objects[3 * place : 3 * place + 2, 8:40] = 1 + number
    return objects


def test_numbers_of_objects_are_not_taken_for_classes_in_silence(tmp_path):
    write(tmp_path, number_objects)
    call = r'pass values={0: "background", "rest": "object"} to open_dataset for one class'
    with pytest.warns(UserWarning, match=f"{call}, .* number objects, up to 7 in a picture"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=f"no row for .*{call}"):
        open_dataset(tmp_path, classes=["background", "nucleus"])
    dataset = open_dataset(tmp_path, values={0: "background", "rest": "nucleus"})
    assert set(dataset.train[0][1].flat) == {0, 1}
    assert dataset.classes == ClassTable(["background", "nucleus"], dataset.classes.colors)
    write(tmp_path / "gaps", lambda labels: number_objects(labels, gaps=True))
    with pytest.warns(UserWarning, match="they seem to number objects"):
        open_dataset(tmp_path / "gaps")


def test_masks_of_another_size_are_resized_on_request(tmp_path):
    write(tmp_path, lambda labels: labels[::2, ::2].astype(np.uint8))
    with pytest.raises(DatasetError, match="or pass resize_masks=True to open_dataset"):
        open_dataset(tmp_path, classes=CLASSES).train[0]
    dataset = open_dataset(tmp_path, classes=CLASSES, resize_masks=True)
    np.testing.assert_array_equal(dataset.train[:2][0][1], turn(dataset.train.names[0]))
