import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seglib
from seglib.classes import ClassTable, read_class_table, write_class_table

CAMVID = """name,r,g,b
Sky,128,128,128
Building,128,0,0
Column_Pole,192,192,128
Road,128,64,128
Sidewalk,0,0,192
Tree,128,128,0
SignSymbol,192,128,128
Fence,64,64,128
Car,64,0,128
Pedestrian,64,64,0
Bicyclist,0,128,192
Void,0,0,0
"""


@pytest.fixture
def read(tmp_path):
    """Function that reads a class table from text."""

    def read_text(text):
        path = tmp_path / "class_dict.csv"
        path.write_text(text, encoding="utf-8")
        return read_class_table(path)

    return read_text


def test_camvid_has_twelve_classes_and_void_keeps_its_row(read):
    classes = read(CAMVID)
    assert classes.num_classes == 12
    assert classes.ignore_label == 11
    assert classes.names[:2] == ("Sky", "Building")
    assert classes.names[11] == "Void"
    assert classes.colors.dtype == np.uint8
    assert classes.colors.shape == (12, 3)
    assert classes.colors[3].tolist() == [128, 64, 128]
    assert list(classes.mapping.items())[:2] == [((128, 128, 128), 0), ((128, 0, 0), 1)]
    assert classes.mapping[(0, 0, 0)] == 11
    assert classes.scored_ids == tuple(range(11))


@pytest.mark.camvid
def test_table_of_camvid_itself(camvid, read):
    assert seglib.read_class_table(camvid / "class_dict.csv") == read(CAMVID)


@pytest.mark.parametrize(
    "name",
    ["void", "VOID", "Void", "unlabelled", "Un-labelled", "unlabeled", "Ignore", "ignored",
     "background to ignore", "Background_To_Ignore", "BackgroundToIgnore"],
)  # fmt: skip
def test_names_that_are_ignored(read, name):
    classes = read(f"name,r,g,b\nroad,1,2,3\n{name},0,0,0\ncar,9,9,9\n")
    assert classes.ignore_label == 1
    assert classes.num_classes == 3


@pytest.mark.parametrize("name", ["avoid", "background", "voids", "road", "other"])
def test_names_that_are_not(read, name):
    assert read(f"name,r,g,b\n{name},0,0,0\n").ignore_label is None


@pytest.mark.parametrize(
    ("cell", "ignored"),
    [("1", True), ("true", True), ("YES", True), ("x", True), ("0", False), ("", False),
     ("no", False), ("False", False)],
)  # fmt: skip
def test_ignore_column(read, cell, ignored):
    classes = read(f"name,r,g,b,ignore\nroad,1,2,3,\nother,4,5,6,{cell}\n")
    assert classes.ignore_label == (1 if ignored else None)


def test_no_row_to_ignore(read):
    classes = read("name,r,g,b\nroad,1,2,3\n")
    assert classes.ignore_label is None
    assert classes.scored_ids == (0,)


def test_two_rows_to_ignore_share_the_first_ones_id(read):
    classes = read("name,r,g,b\nroad,1,2,3\nvoid,0,0,0\nunlabelled,255,255,255\n")
    assert classes.num_classes == 3
    assert classes.ignore_label == 1
    assert classes.mapping == {(1, 2, 3): 0, (0, 0, 0): 1, (255, 255, 255): 1}


def test_ignore_label_outside_the_table_is_not_counted():
    classes = ClassTable(["road", "car"], [(1, 2, 3), (4, 5, 6)], ignore_label=255)
    assert classes.num_classes == 2
    assert classes.ignore_label == 255
    assert classes.scored_ids == (0, 1)
    assert 255 not in classes.mapping.values()


def test_spreadsheets_write_tables_in_many_ways(read):
    text = '\ufeffB , Name,R,G,share\n\n3, road ,1,2,40 %\n,,,,\n6,"car, parked",4,5,60 %\n'
    classes = read(text)
    assert classes.names == ("road", "car, parked")
    assert classes.colors.tolist() == [[1, 2, 3], [4, 5, 6]]


NAMES = st.text("abcXYZ ,\"'é_-019", min_size=1).map(str.strip).filter(bool)
COLORS = st.tuples(*[st.integers(0, 255)] * 3)


@st.composite
def class_tables(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=20, unique=True))
    colors = draw(st.lists(COLORS, min_size=len(names), max_size=len(names), unique=True))
    ignore_label = draw(st.none() | st.integers(0, len(names) - 1))
    return ClassTable(names, colors, ignore_label)


@given(classes=class_tables())
def test_written_tables_are_read_back(tmp_path_factory, classes):
    path = tmp_path_factory.getbasetemp() / "written.csv"
    write_class_table(path, classes)
    assert read_class_table(path) == classes


@given(classes=class_tables())
def test_tables_survive_json_pickle_and_copy(classes):
    for again in (
        ClassTable(**json.loads(json.dumps(classes.to_dict()))),
        pickle.loads(pickle.dumps(classes)),
        copy.deepcopy(classes),
    ):
        assert again == classes
        assert hash(again) == hash(classes)
        assert again.mapping == classes.mapping


def test_tables_differ_by_name_colour_and_ignore_label():
    table = ClassTable(["a", "b"], [(0, 0, 0), (1, 1, 1)])
    assert table != ClassTable(["a", "c"], [(0, 0, 0), (1, 1, 1)])
    assert table != ClassTable(["a", "b"], [(0, 0, 0), (1, 1, 2)])
    assert table != ClassTable(["a", "b"], [(0, 0, 0), (1, 1, 1)], ignore_label=1)


def test_colours_cannot_be_changed():
    colors = np.array([[1, 2, 3]], np.uint8)
    table = ClassTable(["road"], colors)
    with pytest.raises(ValueError, match="read-only"):
        table.colors[0] = 0
    colors[0] = 9
    assert table.colors.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected the columns name, r, g, b in the first line"),
        ("name,r,g\nroad,1,2\n", r"received \['name', 'r', 'g'\]; missing: b"),
        ("name,r,g,b\n", "received 0 names"),
        ("name,r,g,b\nroad,1,2,3\n\ncar,1,red,3\n", r"line 4: expected .*received \['car', '1', "),
        ("r,g,b,name\n1,2,3\n", r"line 2: expected name, r, g, b"),
        ("name,r,g,b\nroad,1,2,256\n", r"class_dict.csv: class colours must be in \[0, 255\]"),
        ("name,r,g,b\nroad,1,2,3\nroad,4,5,6\n", "the name 'road' occurs twice"),
        ("name,r,g,b\nroad,1,2,3\ncar,1,2,3\n", r"the colour \(1, 2, 3\) occurs twice"),
    ],
)
def test_errors_say_where_the_table_is_wrong(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


def test_a_negative_ignore_label_is_refused():
    with pytest.raises(ValueError, match="an ignore label of 0 or more, or None, received -1"):
        ClassTable(["road"], [(0, 0, 0)], ignore_label=-1)


def test_a_missing_table_says_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"class_dict.csv: expected a CSV file with the"):
        read_class_table(tmp_path / "class_dict.csv")


def run_python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAVY = {"keras", "tensorflow", "torch", "jax", "pandas", "matplotlib"}
SCIENTIFIC = {"scipy", "skimage", "sklearn", "numpy", "PIL"}


def test_import_takes_under_0_3_s_and_loads_nothing_heavy():
    code = (
        "import sys, time; start = time.perf_counter(); import seglib;"
        "print(time.perf_counter() - start, *{n.split('.')[0] for n in sys.modules})"
    )
    printed = [run_python(code).split() for _ in range(3)]
    assert min(float(seconds) for seconds, *_ in printed) < 0.3
    assert not (HEAVY | SCIENTIFIC) & set(printed[0])


def test_reading_a_class_table_and_masks_loads_nothing_heavy(city):
    code = (
        "import sys, seglib; dataset = seglib.open_dataset(sys.argv[1]); dataset.train[0];"
        "classes = seglib.read_class_table(sys.argv[1] + '/class_dict.csv');"
        "seglib.read_labels(sys.argv[1] + '/val_labels/scene_4_L.png', classes);"
        "print(*{n.split('.')[0] for n in sys.modules})"
    )
    assert not HEAVY & set(run_python(code, city).split())


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'seglib' has no attribute 'read_clas_table'"):
        seglib.read_clas_table  # noqa: B018


def test_every_public_name_is_listed_and_there():
    light = {"read_class_table", "closest_labels", "open_dataset", "read_labels", "augment_pair"}
    assert light <= set(seglib.__all__) <= set(dir(seglib))
    assert all(callable(getattr(seglib, name)) for name in light)
