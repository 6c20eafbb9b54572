import concurrent.futures
import dataclasses
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest

import seglib
from seglib import exports
from seglib.classes import ClassTable
from seglib.exports import litert_format
from seglib.exports.card import read_card
from seglib.exports.comparing import DeploymentCard
from seglib.exports.formats import FORMATS, PRECISIONS
from seglib.exports.quiet import quiet
from seglib.models import copy_model, set_model_classes

CLASSES = ClassTable(
    ["sky", "void", "road", "car"], [(9, 9, 9), (0, 0, 0), (5, 0, 5), (0, 7, 0)], ignore_label=1
)
RUNTIME = {"onnx": "onnxruntime", "openvino": "openvino"}
VARIANTS = [(name, precision) for name, known in PRECISIONS.items() for precision in known]
SAME = {"float32": 0.999, "float16": 0.99, "bfloat16": 0.95, "int8": 0.9}  # share of the pixels


def make_model(classes=CLASSES, fit="stretch", size=(32, 48), **options):
    """A model of random weights whose normalization knows the pictures, so that scores differ."""
    model = seglib.create_unetpp_model(
        (*size, 3), num_classes=4, filters=(8, 12), deep_supervision=False, **options
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.0), loss=lambda truth, logits: 0 * logits[..., 0]
    )
    if None not in size:
        for _ in range(20):
            model.train_on_batch(draw_pictures(4, size), np.zeros((4, *size)))
    if classes is not None:
        set_model_classes(model, classes, fit=fit)
    return model


def draw_pictures(count, size, seed=0):
    """Smooth random pictures, as photographs are."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 5, 6, 3)).astype(np.uint8)
    return np.stack([seglib.resize_image(picture, size) for picture in coarse])


def skip_without(format):
    if format in RUNTIME:
        pytest.importorskip(RUNTIME[format])


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """Return a function that exports the model in a way, once."""
    folder, done = tmp_path_factory.mktemp("exports"), {}

    def write(format, precision="float32"):
        skip_without(format)
        if (format, precision) not in done:
            done[format, precision] = seglib.export(
                model, folder / f"{format}_{precision}", format=format, precision=precision,
                calibration=draw_pictures(8, (40, 50)),
            )  # fmt: skip
        return done[format, precision]

    return write


def read_int8_kernels(format, path):
    if format == "onnx":
        import onnx

        file = onnx.load(path / "model.onnx")
        arrays = [onnx.numpy_helper.to_array(x) for x in file.graph.initializer]
    else:
        import openvino

        operations = openvino.Core().read_model(path / "model.xml").get_ops()
        arrays = [x.data for x in operations if x.get_type_name() == "Constant"]
    return [array for array in arrays if array.dtype == np.int8 and array.ndim >= 4]


@pytest.mark.parametrize("format", RUNTIME)
def test_int8_kernels_leave_room_to_add_up_products_in_16_bits(written, format):
    """Where there is no VNNI, two products with 8 bits each are too large, silently."""
    highest = [
        np.abs(kernel.astype(int)).max()
        for kernel in read_int8_kernels(format, written(format, "int8"))
    ]
    assert len(highest) > 3
    assert 60 <= max(highest) <= 64


@pytest.mark.parametrize(("format", "precision"), VARIANTS)
def test_each_export_answers_as_the_model_does(model, written, format, precision):
    predictor = seglib.load_predictor(written(format, precision))
    pictures = draw_pictures(3, (60, 50), seed=1)
    expected = seglib.predict(model, pictures)
    assert len(np.unique(expected)) > 1
    answer = predictor.predict(pictures)
    assert answer.dtype == np.uint8
    assert (answer == expected).mean() >= SAME[precision]
    assert not (answer == CLASSES.ignore_label).any()
    if precision == "float32":
        np.testing.assert_allclose(
            predictor.predict_probabilities(pictures[0]),
            seglib.predict_probabilities(model, pictures[0]),
            atol=1e-4,
        )


@pytest.mark.parametrize("format", ["litert", "onnx", "openvino", "savedmodel"])
def test_everything_that_predict_knows_an_export_knows(model, written, format):
    predictor = seglib.load_predictor(written(format))
    wide, small = draw_pictures(1, (70, 90))[0], draw_pictures(1, (20, 30))[0]
    for options in ({"flip": True}, {"tile": True}):
        answer, expected = (
            predict(wide, **options)
            for predict in (predictor.predict, lambda *a, **k: seglib.predict(model, *a, **k))
        )
        assert (answer == expected).mean() > 0.999
    answer = predictor.predict([wide, small])
    assert isinstance(answer, list)
    assert [labels.shape for labels in answer] == [(70, 90), (20, 30)]
    with pytest.raises(ValueError, match="uint8 RGB"):
        predictor.predict(wide / 255)


def test_an_export_knows_its_size_fit_and_classes(model, tmp_path):
    model = copy_model(model)
    set_model_classes(model, CLASSES, fit="letterbox")
    path = seglib.export(model, tmp_path / "box", format="keras")
    predictor = seglib.load_predictor(str(path))
    assert predictor.classes == CLASSES
    assert predictor.card.fit == "letterbox"
    assert predictor.card.image_size == (32, 48)
    assert predictor.card.parameters == model.count_params()
    picture = draw_pictures(1, (90, 50))[0]
    np.testing.assert_array_equal(predictor.predict(picture), seglib.predict(model, picture))
    files = [file for file in path.rglob("*") if file.is_file()]
    assert predictor.megabytes == pytest.approx(sum(f.stat().st_size for f in files) / 1e6)
    assert "keras float32, 32×48, 4 classes" in repr(predictor)


def test_a_model_that_knows_no_classes_gets_numbered_ones(tmp_path):
    model = seglib.create_unetpp_model((32, 48, 3), num_classes=4, filters=(8, 12))
    path = seglib.export(model, tmp_path / "export", format="keras")
    predictor = seglib.load_predictor(path)
    assert predictor.classes.names == ("class_0", "class_1", "class_2", "class_3")
    assert predictor.scorer.ids == (0, 1, 2, 3)


@pytest.mark.parametrize("count", [2, 21, 300])
def test_made_up_colours_differ(count):
    assert len(np.unique(seglib.classes.make_up_classes(count).colors, axis=0)) == count


def test_an_evaluation_takes_a_predictor(model, written):
    pairs = make_split()
    predictor = seglib.load_predictor(written("litert"))
    expected = seglib.evaluate(model, pairs)
    assert seglib.evaluate(predictor, pairs).mean_iou == pytest.approx(expected.mean_iou, abs=1e-3)
    other = ClassTable(list("abcd"), CLASSES.colors)
    with pytest.raises(ValueError, match="trained for"):
        seglib.evaluate(predictor, make_split(other))


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_loaded_export_needs_no_keras(written, format):
    code = (
        "import sys, numpy, seglib; p = seglib.load_predictor(sys.argv[1]);"
        "print(p.predict(numpy.zeros((40, 40, 3), 'uint8')).shape);"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(written(format))]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "(40, 40)" in result.stdout


@pytest.mark.parametrize("format", ["keras", "savedmodel", "litert", "onnx", "openvino"])
def test_several_threads_may_ask_at_once(written, format):
    threads = None if format in ("keras", "savedmodel") else 1
    predictor = seglib.load_predictor(written(format), threads=threads)
    pictures = draw_pictures(8, (32, 48), seed=3)
    expected = [predictor.predict(picture) for picture in pictures]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for answer, right in zip(pool.map(predictor.predict, [*pictures] * 5), expected * 5,
                                 strict=True):  # fmt: skip
            np.testing.assert_array_equal(answer, right)


def test_an_export_replaces_an_earlier_one_and_nothing_else(model, tmp_path):
    path = seglib.export(model, tmp_path / "export", format="keras")
    assert seglib.export(model, path, format="keras", precision="bfloat16") == path
    assert read_card(path).precision == "bfloat16"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(b"mine")
    for taken in (tmp_path / "photos", tmp_path / "photos/a.png"):
        with pytest.raises(ValueError, match="holds something that is no export"):
            seglib.export(model, taken, format="keras")
    assert (tmp_path / "photos/a.png").read_bytes() == b"mine"
    (tmp_path / "photos/predictor.json").write_text("{}")  # of another program
    with pytest.raises(ValueError, match=r"is no export \(a.png\)"):
        seglib.export(model, tmp_path / "photos", format="keras")
    (path / ".git").mkdir()
    with pytest.raises(ValueError, match=r"is no export \(.git\)"):
        seglib.export(model, path, format="keras")
    assert (tmp_path / "photos/a.png").read_bytes() == b"mine"


def test_what_a_killed_export_left_is_no_part_of_the_next(model, tmp_path):
    left = tmp_path / f".export.{os.getpid()}"
    left.mkdir()
    (left / "half.bin").write_text("of another format")
    path = seglib.export(model, tmp_path / "export", format="keras")
    assert sorted(file.name for file in path.iterdir()) == ["model.keras", "predictor.json"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_export_that_fails_leaves_the_earlier_one(model, tmp_path, monkeypatch):
    path = seglib.export(model, tmp_path / "export", format="keras")

    def fail(*arguments, **options):
        raise OSError("no space left on device")

    broken = types.SimpleNamespace(write=fail)
    monkeypatch.setattr(exports, "open_format", lambda name: broken)
    with pytest.raises(OSError, match="no space"):
        seglib.export(model, path, format="keras", precision="bfloat16")
    assert read_card(path).precision == "float32"
    assert [file.name for file in tmp_path.iterdir()] == ["export"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "expected a format of keras, savedmodel, litert"),
        ({"format": "onnx", "precision": "bfloat16"}, "onnx does not know 'bfloat16'.*openvino"),
        ({"format": "keras", "precision": "int4"}, "does not know 'int4'"),
        ({"format": "litert", "precision": "int8"}, "int8 needs calibration"),
        *(
            ({"format": "litert", "precision": "int8", "calibration": pictures}, message)
            for pictures, message in (
                ([], "int8 needs calibration"),
                ("train", "int8 needs calibration"),
                (np.zeros((4, 32, 48, 3)), "uint8 RGB picture.*received float64"),
                (np.zeros((32, 48, 3), np.uint8), r"uint8 RGB picture.*received uint8 \(48, 3\)"),
            )
        ),
    ],
)
def test_what_cannot_be_written_is_refused(model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        seglib.export(model, tmp_path / "export", **options)
    assert not list(tmp_path.iterdir())


def test_a_model_of_any_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="create the model with an input_shape"):
        seglib.export(make_model(size=(None, None)), tmp_path / "export", format="keras")


@pytest.mark.parametrize(("format", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_runtime_is_named(model, written, tmp_path, monkeypatch, format, package):
    path, find = written(format), importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    for action in (
        lambda: seglib.export(model, tmp_path / "export", format=format),
        lambda: seglib.load_predictor(path),
    ):
        with pytest.raises(ModuleNotFoundError, match=rf"pip install {package}.*seglib\[deploy\]"):
            action()
    assert not seglib.list_formats().loc[format, "runs_here"]
    assert package in seglib.list_formats().loc[format, "needs"]


def test_litert_files_run_on_what_tensorflow_brings(model, written, monkeypatch):
    path, find = written("litert", "int8"), importlib.util.find_spec
    expected = seglib.load_predictor(path).predict(draw_pictures(1, (32, 48))[0])
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "ai_edge" in name else find(name)
    )
    answer = seglib.load_predictor(path).predict(draw_pictures(1, (32, 48))[0])
    assert (answer == expected).mean() > 0.98


def test_wrong_folders_are_told(model, tmp_path):
    with pytest.raises(ValueError, match=r"no export, it has no predictor\.json"):
        seglib.load_predictor(tmp_path)
    path = seglib.export(model, tmp_path / "export", format="keras")
    card = json.loads((path / "predictor.json").read_text())
    for change, message in (
        ({"version": 99}, "version 99.*update seglib"),
        ({"format": "coreml"}, "format 'coreml'"),
        ({"image_size": [5, 5]}, "damaged"),
        ({"surplus": 1}, "damaged"),
    ):
        (path / "predictor.json").write_text(json.dumps({**card, **change}))
        with pytest.raises(ValueError, match=message):
            seglib.load_predictor(path)
    newer = {"version": 99, "shape": [5, 5]}  # whatever its fields are
    (path / "predictor.json").write_text(json.dumps(newer))
    with pytest.raises(ValueError, match=r"version 99.*update seglib"):
        seglib.load_predictor(path)
    (path / "predictor.json").write_text("{")
    with pytest.raises(ValueError, match=r"damaged.*export the model again"):
        seglib.load_predictor(path)
    seglib.export(model, path, format="keras")
    assert seglib.load_predictor(path).card.format == "keras"


@pytest.mark.parametrize("damage", ["cut", "gone"])
@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_are_told(written, tmp_path, format, damage):
    path = tmp_path / "export"
    shutil.copytree(written(format), path)
    for file in [file for file in path.rglob("*") if file.is_file()]:
        if damage == "gone" and file.name != "predictor.json":
            file.unlink()
        elif file.suffix != ".json":
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"export cannot be loaded.*export the model again"):
        seglib.load_predictor(path)


def test_a_runtime_that_cannot_be_imported_is_no_damage(written, monkeypatch):
    def fail(name):
        raise ImportError("DLL load failed")

    path = written("litert")
    monkeypatch.setattr("seglib.exports.predictor.open_format", fail)
    with pytest.raises(ImportError, match="DLL load failed"):
        seglib.load_predictor(path)


@pytest.mark.parametrize(("threads", "expected"), [(None, 3), (1, 1)])
def test_litert_takes_as_many_threads_as_there_are_cores(written, monkeypatch, threads, expected):
    taken, find = [], litert_format._find_interpreter

    def create(model_path, num_threads):
        taken.append(num_threads)
        return find()(model_path=model_path, num_threads=num_threads)

    monkeypatch.setattr(litert_format, "count_processors", lambda: 3)
    monkeypatch.setattr(litert_format, "_find_interpreter", lambda: create)
    seglib.load_predictor(written("litert"), threads=threads)
    assert taken == [expected]


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_wrong_threads_are_told(written, threads):
    with pytest.raises(ValueError, match="whole number ≥ 1"):
        seglib.load_predictor(written("litert"), threads=threads)


def test_threads_of_tensorflow_are_not_a_models_own(written):
    with pytest.raises(ValueError, match="one pool for the whole process"):
        seglib.load_predictor(written("keras"), threads=1)


def test_converters_are_silent_unless_they_fail(capfd):
    with quiet():
        print("hidden")
        subprocess.run(["echo", "hidden too"], check=True)

    def fail():
        with quiet():
            print("what went wrong")
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError) as caught:
        fail()
    print("seen")
    assert capfd.readouterr().out == "seen\n"
    assert "what went wrong" in caught.value.__notes__[0]


def test_several_threads_may_be_silent_at_once():
    def hide(i):
        with quiet():
            time.sleep(0.02 * (i % 3))

    before = sys.stdout, logging.root.manager.disable, os.fstat(1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(hide, range(8)))
    assert (sys.stdout, logging.root.manager.disable, os.fstat(1)) == before


class Pairs(list):
    """What `seglib.compare_exports` asks of a split."""

    def __init__(self, pairs, classes):
        super().__init__(pairs)
        self.classes, self.names = classes, [f"p{i}" for i in range(len(pairs))]


def make_split(classes=CLASSES, count=6):
    random = np.random.default_rng(5)
    pictures = draw_pictures(count, (50, 60), seed=5)
    return Pairs(
        [(picture, random.choice([0, 1, 2, 3], (50, 60)).astype(np.uint8)) for picture in pictures],
        classes,
    )


@pytest.fixture(scope="module")
def card(model, tmp_path_factory):
    half = copy_model(model)
    half.set_weights([np.where(np.abs(w) < np.median(np.abs(w)), 0, w) for w in half.get_weights()])
    return seglib.compare_exports(
        {"whole": model, "half": half},
        make_split(),
        calibration=draw_pictures(4, (32, 48)),
        variants=[("litert", "int8")],
        folder=tmp_path_factory.mktemp("card"),
    )


def test_the_card_compares_all_with_the_first_in_float32(model, card):
    table = card.table
    assert list(table.index.unique("model")) == ["whole", "half"]
    assert len(table) == 4
    first = table.loc["whole", "keras", "float32"]
    assert first["agreement"] == 1
    assert first["change"] == first["change_low"] == first["change_high"] == 0
    assert first["mean_iou"] == pytest.approx(seglib.evaluate(model, make_split()).mean_iou)
    half = table.loc["half", "litert", "int8"]
    assert half["agreement"] < 0.999
    assert half["change"] == pytest.approx(half["mean_iou"] - first["mean_iou"])
    assert half["change_low"] <= half["change"] <= half["change_high"]
    assert (table["network_ms"] > 0).all()
    assert table.loc["whole", "litert", "int8"]["megabytes"] < first["megabytes"]


def test_zeros_are_counted_and_said_to_be_no_faster(card):
    halves = card.table.xs("half")
    assert halves["zeros"].iloc[0] > 0.4
    assert "none faster" in repr(card)
    whole = card.table.xs("whole")
    name = ("litert", "int8")
    assert halves.loc[name, "zipped_megabytes"] < whole.loc[name, "zipped_megabytes"]
    assert halves.loc[name, "megabytes"] == pytest.approx(whole.loc[name, "megabytes"], rel=0.01)


def test_a_choice_keeps_to_the_budget(card):
    table = card.table
    best = card.choose()
    assert best["mean_iou"] == table["mean_iou"].max()
    limit = table["megabytes"].median()
    chosen = card.choose(max_size=limit * 1e6)
    assert chosen["megabytes"] <= limit
    assert chosen["mean_iou"] == table[table["megabytes"] <= limit]["mean_iou"].max()
    assert card.choose(within="1h") == best
    with pytest.raises(ValueError, match=r"nothing fits.*fastest is .* ms at p95, the smallest"):
        card.choose(within="0.001ms")


def test_the_card_is_kept(card, tmp_path):
    import pandas as pd

    folder = card.write(tmp_path / "kept")
    table = pd.read_csv(folder / "exports.csv")
    assert list(table.columns[:3]) == ["model", "format", "precision"]
    assert len(table) == len(card.table)
    assert (folder / "exports.png").stat().st_size > 10_000


def test_a_wrong_variant_is_told_before_any_is_written(model, tmp_path):
    with pytest.raises(ValueError, match="keras does not know 'int8'"):
        seglib.compare_exports(
            model, make_split(), calibration=None, variants=[("keras", "int8")], folder=tmp_path
        )
    assert not list(tmp_path.iterdir())


def test_a_missing_runtime_is_told_before_any_is_written(model, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name)
    )
    variants = [("litert", "float32"), ("openvino", "float32")]
    with pytest.raises(ModuleNotFoundError, match="openvino"):
        seglib.compare_exports(
            model, make_split(), calibration=None, variants=variants, folder=tmp_path
        )
    assert not list(tmp_path.iterdir())


def test_without_units_for_it_bfloat16_is_not_compared(monkeypatch):
    monkeypatch.setattr("seglib.exports.comparing.has_bfloat16_units", lambda: False)
    asked = []
    monkeypatch.setattr("seglib.exports.comparing.check_export", lambda *job: asked.append(job[2]))
    monkeypatch.setattr("seglib.exports.comparing.export", None)
    with pytest.raises(TypeError):  # which is where writing would begin
        seglib.compare_exports(None, make_split(), calibration=None)
    assert "int8" in asked
    assert "bfloat16" not in asked


def test_data_of_other_classes_are_refused(model):
    others = dataclasses.replace(CLASSES, names=CLASSES.names[::-1])
    with pytest.raises(ValueError, match="evaluate it on data of its own classes"):
        seglib.compare_exports(model, make_split(others), calibration=None, variants=[])


def test_models_may_be_named_by_numbers(card):
    numbered = card.table.rename({"whole": 1, "half": 2}, level="model")
    with pytest.raises(ValueError, match=r"the fastest is [12] "):
        DeploymentCard(numbered, {}).choose(within="0.001ms")


def test_other_backends_write_keras_alone(model, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    formats = seglib.list_formats()
    assert list(formats.query("runs_here").index) == ["keras"]
    assert formats.loc["litert", "needs"] == "KERAS_BACKEND=tensorflow"
    with pytest.raises(RuntimeError, match="litert is written from TensorFlow"):
        seglib.export(model, tmp_path / "export", format="litert")


def test_no_model_to_compare_is_told():
    with pytest.raises(ValueError, match="at least one model"):
        seglib.compare_exports({}, make_split(), calibration=None)


def test_nothing_to_measure_on_is_told(model):
    with pytest.raises(ValueError, match="split is empty"):
        seglib.compare_exports(model, Pairs([], CLASSES), calibration=None)
