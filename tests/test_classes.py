"""Class tables from every kind of file that comes with masks."""

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seglib
from seglib.classes import ClassTable, create_class_table, read_class_table, write_class_table

TABLE = ClassTable(["back", "road", "car"], [(0, 0, 0), (128, 0, 0), (0, 128, 0)])
GIVEN = np.array([[1, 1, 1], [2, 2, 2], [3, 3, 3]])


@pytest.fixture
def read(tmp_path):
    """Function that reads a class table from text."""

    def read_text(text, name="class_dict.csv", **options):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_class_table(tmp_path / name, **options)

    return read_text


@pytest.mark.parametrize(
    ("row", "ignored"),
    [
        ("Un-labelled,0,0,0", True),
        ("Background_To_Ignore,0,0,0", True),
        ("avoid,0,0,0", False),
        ("other,4,5,6,True", True),
        ("other,4,5,6,", False),
        ("void,4,5,6,0", False),
        ("other,4,5,6,yes", True),
        ("other,4,5,6,1.0", True),
        ("other,4,5,6,no", False),
    ],
)
def test_what_is_ignored(read, row, ignored):
    classes = read(f"name,r,g,b,ignore\nroad,1,2,3\n{row}\n")
    assert classes.ignore_label == (1 if ignored else None)
    assert classes.scored_ids == ((0,) if ignored else (0, 1))


@pytest.mark.parametrize("column", ["Ignored", "ignore_in_eval", "ignoreInEval"])
def test_columns_that_say_what_is_ignored(read, column):
    assert read(f"name,r,g,b,{column}\nroad,1,2,3,0\nother,4,5,6,1\n").ignore_label == 1


def test_two_rows_to_ignore_share_the_first_ones_id(read):
    classes = read("name,r,g,b\nroad,1,2,3\nvoid,0,0,0\nunlabelled,255,255,255\n")
    assert (classes.num_classes, classes.scored_ids) == (3, (0,))
    assert list(classes.mapping.items()) == [((1, 2, 3), 0), ((0,) * 3, 1), ((255,) * 3, 1)]


def test_spreadsheets_write_tables_in_many_ways(read):
    classes = read('\ufeffB , Name,R,G,share\n\n3, road ,1,2,40 %\n,,,,\n6,"car, parked",4,5,6 %\n')
    assert classes == ClassTable(["road", "car, parked"], [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "id,class\n0,back\n2,car\n1,road\n"),
        ("a.csv", "pixel value,name\n1,road\n0,back\n2,car\n"),
        ("a.json", '{"back": [0, 0, 0], "road": [128, 0, 0], "car": [0, 128, 0]}'),
        ("a.json", '["back", "road", "car"]'),
        ("a.json", '{"0": "back", "1": "road", "2": "car"}'),
        (
            "a.json",
            '{"classes": [{"name": "back", "color": "#000000"}, {"title": "road", "color":'
            ' [128, 0, 0]}, {"name": "car", "r": 0, "g": 128, "b": 0}]}',
        ),
        ("a.json", json.dumps(TABLE.to_dict())),
        ("a.txt", "back\r\nroad\ncar"),
        ("a.txt", "0 back\n1 road\n2: car\n"),
        ("a.txt", "0 0 0 back\n128 0 0\troad\n0, 128, 0 car\n"),
        ("a.TXT", "back 0 0 0\nroad: 128,0,0\ncar 0 128 0\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nback:0,0,0::\nroad:128,0,0:a,b:c\n"
         "car:0,128,0::\n"),
        ("a.csv", "id,name,r,g,b\n2,car,0,128,0\n0,back,0,0,0\n1,road,128,0,0\n"),
        ("a.csv", 'label;color\nback;"0,0,0"\nroad;#800000\ncar;(0, 128, 0)\n'),
        ("a.json", '{"label_map": {"0": "back", "1": "road", "2": "car"}, "background_label": "0",'
         ' "segmentation_colors": [[0, 0, 0], [128, 0, 0], [0, 128, 0]]}'),
        ("a.json", '{"back": 0, "car": 2, "road": 1}'),
        ("a.json", '[{"png_index": 1, "class_name": "road", "color": "#800000ff"}, {"png_index": 0,'
         ' "class_name": "back", "color": "#000000ff"}, {"png_index": 2, "class_name": "car",'
         ' "color": "#008000ff"}]'),
    ],
)  # fmt: skip
def test_every_kind_of_file_gives_the_same_table(read, name, text):
    assert read(text, name) == TABLE


def test_ignored_rows_keep_their_ids(read):
    assert read("id,name,ignore\n0,other,1\n1,wall,0\n2,sky,0\n").ignore_label == 0


@pytest.mark.parametrize(
    ("text", "names", "values"),
    [
        ("pixel value,class\n50,b\n0,a\n150,c\n", ("a", "b", "c"), {"0": 0, "50": 1, "150": 2}),
        ("id,name\n0,a\n1,b\n2,a\n", ("a", "b"), {"0": 0, "1": 1, "2": 0}),
        ("name,r,g,b\na,0,0,0\nb,9,9,9\na,0,0,7\n", ("a", "b"),
         {"0": 0, "1": 1, "2": 0, "#000007": 0}),
    ],
)  # fmt: skip
def test_ids_with_gaps_and_rows_of_one_name(read, text, names, values):
    classes = read(text)
    assert (classes.names, classes.values) == (names, values)
    again = ClassTable(**json.loads(json.dumps(classes.to_dict())))
    assert (again, again.values) == (classes, values)
    assert "values" not in ClassTable(classes.names, classes.colors).to_dict()
    assert set(classes.mapping.values()) == set(range(len(names)))


@pytest.mark.parametrize(
    ("text", "colors", "values"),
    [
        ("0 10 20 30 a\n5 0 0 0 b\n", [[10, 20, 30], [0, 0, 0]], {"0": 0, "5": 1}),
        ("0,a,10,20,30\n1,b,0,0,0\n", [[10, 20, 30], [0, 0, 0]], {}),
        ("10 20 30 a\n0 0 0 b\n", [[10, 20, 30], [0, 0, 0]], {}),
        ("1. a\n2. b\n", None, {"1": 0, "2": 1}),
        ("0=a\n1=b\n", None, {}),
    ],
)
def test_lines_of_ids_colours_and_names(read, text, colors, values):
    classes = read(text, "a.txt")
    assert (classes.names, classes.values) == (("a", "b"), values)
    assert classes.colors.tolist() == (colors or [[0, 0, 0], [128, 0, 0]])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"a": 0, "b": 1, "void": 255}, ("a", "b", "void")),
        ({"[0, 0, 0]": "a", "[9, 9, 9]": "b"}, ("a", "b")),
        ({"#000000": "a", "#090909": "b"}, ("a", "b")),
        (
            [{"category_name": "a", "category_id": 1}, {"category_name": "b", "category_id": 2}],
            "ab",
        ),
        ([{"name": "a", "color": "0x090909"}, {"name": "b", "color": "080808"}], "ab"),
    ],
)
def test_mappings_of_ids_and_colours(content, expected):
    assert create_class_table(content).names == tuple(expected)


def test_annotation_tools_leave_the_background_out(read):
    for text in ("id,name\n1,road\n2,car\n", "name,r,g,b\nroad,1,1,1\ncar,2,2,2\n"):
        assert read(text).names == ("road", "car")
        assert read(text, background=True).names == ("background", "road", "car")
    assert read("road\ncar\n", "a.txt", background=True).names == ("road", "car")
    black = read("id,name,r,g,b\n1,ground,0,0,0\n2,car,2,2,2\n", background=True)
    assert (black.names, black.values) == (("ground", "car"), {"1": 0, "2": 1})


def test_names_alone_get_the_colours_that_the_masks_have(read):
    assert read("back\nroad\n", "a.txt", colors=GIVEN).colors.tolist() == [[1] * 3, [2] * 3]
    assert read("back 0 0 0", "a.txt", colors=GIVEN).colors.tolist() == [[0] * 3]
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


@settings(max_examples=40)
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


def test_tables_differ_by_name_colour_and_ignore_label_and_stay_as_they_are():
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
    ("call", "words"),
    [
        (
            "name,r,g\nroad,1,2\n",
            r"class_dict.csv: .* colour r, g, b for 'road', received \['1', '2', None\]",
        ),
        ("name,r,g,b\ncar,1,red,3\n", r"a colour r, g, b for 'car', received \['1', 'red', '3'\]"),
        ("r,g,b,name\n1,2,3\n", "expected a name, or an object with name"),
        ("name,r,g,b\nroad,1,2,256\n", r"an RGB colour in \[0, 255\] for each name"),
        ("name,r,g,b\nroad,1,2,3\ncar,1,2,3\n", r"\(1, 2, 3\) occurs twice"),
        ([{"id": 0, "name": "a"}, {"name": "b"}], "an id or a colour for 'b' as well"),
        ("id,name\n0,road\n0,car\n", "an id for each class, received 0 for 'car'"),
        ([{"name": "a", "color": "#000000"}, "b"], "an id or a colour for 'b' as well"),
        ({"names": ["a"], "colors": [[0] * 3], "values": {"x": 0}}, "received 'x': 0"),
        ("image,label\na.png,3\n", "expected the columns name, r, g, b or id, name, received 'im"),
        ("name,r,g,b\nroad,0.5,0.0,0.0\n", r"a colour r, g, b for 'road', received \['0.5', "),
        ("back,0,0,0\nroad,128,0,0\n", "expected a name, or an object with name and color"),
        ({0: (0, 0, 0), 1: (1, 2, 3)}, "expected a name, or an object with name and color"),
        (3, "expected a class table as .*, received 3"),
        ({"names": [], "colors": []}, "received 0 names"),
        ({**TABLE.to_dict(), "ignore_label": 1.5}, "ignore_label to be a whole number or None"),
    ],
)
def test_wrong_tables(read, call, words):
    with pytest.raises(ValueError, match=words):
        read(call) if isinstance(call, str) else create_class_table(call)


def test_a_missing_table_says_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.csv: expected CSV with name, r, g, b"):
        read_class_table(tmp_path / "gone.csv")


def test_every_public_name_is_listed_and_others_are_attribute_errors():
    some = {"read_class_table", "closest_labels", "open_dataset", "read_labels"}
    assert some <= set(seglib.__all__) <= set(dir(seglib))
    assert all(getattr(seglib, name) for name in seglib.__all__)
    with pytest.raises(AttributeError, match="read_clas_table"):
        seglib.read_clas_table  # noqa: B018


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_a_table_in_another_encoding_is_named(tmp_path, encoding):
    file = tmp_path / "class_dict.csv"
    file.write_text("name,r,g,b\nStraße,1,2,3\nHimmel,4,5,6\n", encoding=encoding)
    with pytest.raises(ValueError, match=r"class_dict\.csv is not in UTF-8: save it again"):
        read_class_table(file)


def test_four_numbers_a_line_are_no_class(read):
    with pytest.raises(
        ValueError, match="expected a name beside id and colour, received '1' alone"
    ):
        read("1 128 0 0\n2 0 128 0\n", "a.txt")
