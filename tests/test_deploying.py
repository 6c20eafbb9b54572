"""Exports, what they cost, and videos: answers, threads, and what goes wrong."""

import concurrent.futures
import errno
import functools
import itertools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

import seglib
from seglib import compare_exports, export, load_predictor, predict_video
from seglib.classes import ClassTable
from seglib.deploying import CODECS, FORMATS
from seglib.models import set_model_classes
from seglib.predicting import Scorer
from seglib.preparing import PreparedSplit

CLASSES = ClassTable(
    ["sky", "void", "road", "car"], [(9, 9, 9), (0, 0, 0), (5, 0, 5), (0, 7, 0)], ignore_label=1
)
VARIANTS = [(name, precision) for name in FORMATS for precision in FORMATS[name].precisions]
VARIANTS.remove(("openvino", "float16"))  # the file of bfloat16, read like float32
SAME = {"float32": 0.999, "float16": 0.99, "bfloat16": 0.95, "int8": 0.9}  # share of the pixels


def draw_pictures(count, size, seed=0):
    """Smooth random pictures, as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 5, 6, 3)).astype(np.uint8)
    return np.stack([seglib.resize_image(picture, size) for picture in coarse])


def raise_at(number, error):
    """Return a function that gives back what it gets, and raises at one of its calls."""
    calls = itertools.count(1)

    def act(value, *others):
        if next(calls) == number:
            raise error
        return value

    return act


@pytest.fixture(scope="module")
def model():
    """A model of random weights whose normalization knows the pictures, so that scores differ."""
    model = seglib.create_unet_model((32, 48, 3), num_classes=4, filters=(8, 12))
    model.compile(keras.optimizers.SGD(0.0), loss=lambda truth, logits: 0 * logits[..., 0])
    for _ in range(20):
        model.train_on_batch(draw_pictures(4, (32, 48)), np.zeros((4, 32, 48)))
    set_model_classes(model, CLASSES, fit="letterbox")
    return model


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """Return a function that exports the model in a way, once."""
    folder = tmp_path_factory.mktemp("exports")

    @functools.cache
    def write(format, precision="float32"):
        for package in FORMATS[format].needs:
            pytest.importorskip(package)
        path, options = folder / f"{format}_{precision}", {"format": format, "precision": precision}
        return export(model, path, calibration=draw_pictures(8, (40, 50)), **options)

    return write


def make_split(classes=CLASSES, count=6):
    labels = np.random.default_rng(5).integers(0, 4, (count, 50, 60)).astype(np.uint8)
    pictures = draw_pictures(6, (50, 60), seed=5)[:count]
    return PreparedSplit(pictures, labels, [f"p{i}" for i in range(count)], classes)


@pytest.mark.parametrize(("format", "precision"), VARIANTS)
def test_each_export_answers_as_the_model_does(model, written, format, precision):
    predictor = load_predictor(str(written(format, precision)))
    pictures = draw_pictures(3, (60, 50), seed=1)
    expected = seglib.predict(model, pictures)
    assert len(np.unique(expected)) > 1
    labels = predictor.predict(pictures)
    assert predictor.classes == CLASSES
    assert f"{format} {precision}, 32×48, 4 classes" in repr(predictor)
    assert labels.dtype == np.uint8
    assert (labels == expected).mean() >= SAME[precision]
    assert not (labels == CLASSES.ignore_label).any()
    if precision == "float32":
        exact = seglib.predict_probabilities(model, pictures[0])
        close = seglib.predict_probabilities(predictor, pictures[0])
        np.testing.assert_allclose(close, exact, atol=1e-4)
        mixed = [pictures[0], pictures[1][:20, :30]]
        options = {"flip": True, "tile": True}
        answers = predictor.predict(mixed, **options), seglib.predict(model, mixed, **options)
        assert all((one == same).mean() > 0.99 for one, same in zip(*answers, strict=True))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(list(pool.map(predictor.predict, pictures)), labels)


def test_loaded_exports_need_no_keras_and_leave_loggers_their_stream(written):
    """TensorFlow's logger begins while the last one is loaded, when output is hidden."""
    pytest.importorskip("ai_edge_litert")
    code = (
        "import sys; sys.modules['keras'] = None; import numpy, seglib\n"
        "for path in sys.argv[1:]:\n"
        "    assert 'tensorflow' not in sys.modules, path\n"
        "    p = seglib.load_predictor(path)\n"
        "    assert p.predict(numpy.zeros((40, 40, 3), 'uint8')).shape == (40, 40)\n"
        "import tensorflow; tensorflow.get_logger().warning('look here')\n"
    )
    paths = [written(format) for format in ("onnx", "openvino", "litert", "savedmodel")]
    result = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == "WARNING:tensorflow:look here"
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_int8_kernels_leave_room_to_add_up_products_in_16_bits(written, format):
    """Where there is no VNNI, two products with 8 bits each are too large, silently."""
    path = written(format, "int8")
    if format == "onnx":
        import onnx

        tensors = onnx.load(path / "model.onnx").graph.initializer
        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in tensors]
    else:
        import openvino

        operations = openvino.Core().read_model(path / "model.xml").get_ops()
        arrays = [x.data for x in operations if x.get_type_name() == "Constant"]
    kernels = [array for array in arrays if array.dtype == np.int8 and array.ndim >= 4]
    assert len(kernels) > 3
    assert 60 <= max(np.abs(kernel.astype(int)).max() for kernel in kernels) <= 64


def test_a_card_of_the_first_versions_is_read(written, tmp_path):
    """As 58640cd wrote it, of a model that knew no classes."""
    card = {"version": 1, "seglib": "0.1.0", "format": "keras", "precision": "float32"}
    card |= {"image_size": [32, 48], "fit": "stretch", "num_classes": 3, "parameters": 7}
    (tmp_path / "predictor.json").write_text(json.dumps(card | {"classes": None}))
    (tmp_path / "model.keras").write_bytes((written("keras") / "model.keras").read_bytes())
    predictor = load_predictor(tmp_path)
    assert predictor.predict(draw_pictures(1, (40, 50))[0]).shape == (40, 50)
    (frame,) = predict_video(predictor, draw_pictures(1, (40, 50)))  # in colours of its own
    assert frame.overlay.shape == (40, 50, 3)


def test_an_export_replaces_an_earlier_one_and_nothing_else(model, tmp_path):
    path = export(model, tmp_path / "new/export", format="keras")
    assert export(model, path, format="keras", precision="bfloat16") == path
    assert load_predictor(path).precision == "bfloat16"
    assert [entry.name for entry in path.parent.iterdir()] == ["export"]
    for folder, name in (
        ("new/export", "model.onnx"),
        ("new/export", "saved_model/notes.txt"),
        ("new", "export/notes.txt"),
        ("foreign", "predictor.json"),
        ("file", ""),
    ):
        mine = tmp_path / folder / name
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("{}")
        with pytest.raises(ValueError, match=rf"{folder} holds .* no export .*{name}"):
            export(model, tmp_path / folder, format="keras")
        assert mine.read_text() == "{}"
        mine.unlink()


def test_threads_leave_a_whole_export_and_killed_ones_are_tidied_away(model, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    prefix = f".export-{socket.gethostname()}"
    left = {f"{prefix}-{os.getpid()}-x2", ".export-elsewhere-1-x3"}  # of the living, of another
    for name in (f"{prefix}-{ended.pid}-x1", *left):
        (tmp_path / name / "new").mkdir(parents=True)
    path = tmp_path / "export"
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(export, model, path, format="keras") for _ in range(4)]
    assert [job.result() for job in jobs] == 4 * [path]
    assert load_predictor(path).num_classes == 4
    assert {folder.name for folder in tmp_path.iterdir()} == {"export", *left}


@pytest.mark.parametrize("format", ["keras", "savedmodel", "litert", "onnx", "openvino"])
def test_a_flipped_bit_in_an_export_is_noticed(written, tmp_path, format):
    folder, random = shutil.copytree(written(format), tmp_path / "export"), np.random.default_rng(0)
    for file in sorted(folder.rglob("*")):
        content = file.read_bytes() if file.is_file() and file.name != "predictor.json" else b""
        for _ in range(5 if content else 0):
            changed = bytearray(content)
            changed[random.integers(len(changed))] ^= 1 << int(random.integers(8))
            file.write_bytes(changed)
            with pytest.raises(ValueError, match=rf"{file.name} does not match its checksum"):
                load_predictor(folder)
            file.write_bytes(content)
    assert load_predictor(folder).format == format


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 99}, "newer version: update seglib"),
        ({"format": "coreml"}, "coreml"),
        ({"files": {"model.keras": "0"}}, "No such file"),
        ({"num_classes": 5, "classes": None}, "does not fit its network"),
        ({"num_classes": 5}, "two numbers of classes"),
        ({"image_size": [48, 32]}, "mismatch"),
        ({"channels": 4}, "mismatch"),
    ],
)
def test_a_card_must_be_known_and_fit_its_network(written, tmp_path, change, words):
    folder = shutil.copytree(written("litert"), tmp_path / "export")
    card = json.loads((folder / "predictor.json").read_text())
    (folder / "predictor.json").write_text(json.dumps(card | change))
    message = rf"cannot be loaded, its files may be damaged: export the model again \(.*{words}"
    with pytest.raises(ValueError, match=message):
        load_predictor(folder)


def test_a_new_format_is_one_line_and_a_full_disk_keeps_exports(model, tmp_path, monkeypatch):
    def write(network, folder, precision, pictures):
        (folder / "model.txt").write_text(f"{len(pictures)} {pictures[0].dtype}")

    def read(folder, precision):
        assert (folder / "model.txt").read_text() == "3 float32"
        return lambda batch: np.eye(3, dtype=np.float32)[batch[..., 0] // 100]

    monkeypatch.setitem(FORMATS, "text", type(FORMATS["keras"])(write, read, ("int8",)))
    options = {"format": "text", "precision": "int8"}
    pairs = [(picture, None) for picture in draw_pictures(3, (40, 50))]
    path = export(model, tmp_path / "export", calibration=pairs, **options)
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(pathlib.Path, "write_text", raise_at(1, full))
    with pytest.raises(OSError, match=r"the disk of .* is full .*: free some space, then"):
        export(model, path, calibration=pairs[:1], **options)
    picture = np.full((32, 48, 3), 150, np.uint8)
    assert np.unique(load_predictor(path).predict(picture)) == [2]  # ids are 0, 2, 3
    assert [file.name for file in tmp_path.iterdir()] == ["export"]


def test_the_card_compares_with_the_first_in_float32_and_chooses(model, tmp_path):
    options = {"calibration": draw_pictures(4, (32, 48)), "variants": [("litert", "int8")]}
    card = compare_exports(model, make_split(), folder=tmp_path, **options)
    table = card.table
    assert list(table.index) == [("model", "keras", "float32"), ("model", "litert", "int8")]
    assert {path.name for path in tmp_path.iterdir()} == {"_".join(row) for row in table.index}
    first, small = table.iloc[0], table.iloc[1]
    assert first[["agreement", "change", "change_low", "change_high"]].tolist() == [1, 0, 0, 0]
    assert first["mean_iou"] == pytest.approx(seglib.evaluate(model, make_split()).mean_iou)
    assert 0.9 < small["agreement"] < 1
    assert small["change"] == pytest.approx(small["mean_iou"] - first["mean_iou"])
    assert small["change_low"] <= small["change"] <= small["change_high"]
    assert small["parameters"] == model.count_params()
    assert small["megabytes"] < first["megabytes"]
    assert (table[["network_ms", "p50_ms", "p95_ms", "p99_ms"]] > 0).all(axis=None)

    lines = (card.write(tmp_path / "kept") / "exports.csv").read_text().splitlines()
    assert lines[0].startswith("model,format,precision,megabytes")
    assert len(lines) == 3
    assert (tmp_path / "kept/exports.png").stat().st_size > 10_000
    assert "megabytes" in repr(card)

    best = card.choose(within="1h")
    assert best == card.choose()
    assert best["mean_iou"] == table["mean_iou"].max()
    assert {"model", "format", "precision"} < set(best)
    assert card.choose(max_size=small["megabytes"] * 1e6 + 1)["format"] == "litert"
    with pytest.raises(ValueError, match=r"nothing fits.*fastest is .* ms at p95, the smallest"):
        card.choose(within="0.001ms")


# Videos

COLORS = np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200)], np.uint8)
LABELS = np.kron(np.random.default_rng(0).integers(0, 3, (7, 2, 3)), np.ones((1, 16, 16), int))
FRAMES, HALVES = COLORS[LABELS], (COLORS.astype(int) + COLORS[::-1]) // 2


def make_labeller(act=np.asarray):
    """An export whose class is the colour; `act` sees each batch before."""
    classes = ClassTable(["red", "green", "blue"], COLORS[::-1])
    options = {"size": (None, None), "fit": "stretch", "num_classes": 3, "classes": classes}
    return Scorer(score=lambda batch: act(batch).astype(np.float32) / 255, **options)


@pytest.fixture
def cv2():
    yield pytest.importorskip("cv2")
    assert "seglib-stream" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def video(cv2, tmp_path):
    """A video without loss of 7 frames, 10 a second."""
    path = tmp_path / "video.mkv"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 10, (48, 32))
    for frame in FRAMES:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def test_videos_are_labelled_and_iterables_without_opencv(video, monkeypatch):
    buffer = np.empty_like(FRAMES[0])  # which the source fills again and again
    for source in (str(video), (np.copyto(buffer, frame) or buffer for frame in FRAMES)):
        frames = predict_video(make_labeller(), source)
        images, labels, overlays, rates = zip(*frames, strict=True)
        np.testing.assert_array_equal(images, FRAMES)
        np.testing.assert_array_equal(labels, LABELS)
        np.testing.assert_array_equal(overlays, HALVES[LABELS])
        assert min(rates) > 0
        monkeypatch.setitem(sys.modules, "cv2", None)
    frames = predict_video(make_labeller(), FRAMES)
    next(frames)
    frames.close()


def test_reading_labelling_and_showing_overlap():
    def take_time(value):
        time.sleep(0.04)
        return value

    start = time.perf_counter()
    source = map(take_time, [*FRAMES, *FRAMES])
    rates = [take_time(x.rate) for x in predict_video(make_labeller(take_time), source)]
    assert time.perf_counter() - start < 0.75 * 3 * 14 * 0.04  # 0.38 of it, were all else free
    assert 5 < rates[-1] <= 30


def test_errors_of_source_and_model_arrive_as_they_are(cv2, tmp_path):
    fail = [raise_at(3, LookupError("by intent")) for _ in range(2)]
    source = (fail[0](frame) for frame in FRAMES)
    with pytest.raises(LookupError, match="by intent"):
        predict_video(make_labeller(), source, tmp_path / "out.mp4")
    with pytest.raises(LookupError, match="by intent"):
        list(predict_video(make_labeller(fail[1]), FRAMES))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", CODECS)
def test_a_video_is_written(video, cv2, tmp_path, suffix):
    path = tmp_path / "new" / f"out{suffix}"
    assert predict_video(make_labeller(), video, path) == path
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    frames = [frame.image for frame in predict_video(make_labeller(), path)]
    expected = HALVES[LABELS].astype(int)
    assert np.abs(frames - expected).mean() < (1 if suffix == ".mkv" else 25)


def test_a_full_disk_is_noticed(cv2, tmp_path):
    """Files may grow to 100 kB only, of which OpenCV says nothing."""
    resource = pytest.importorskip("resource")
    pictures = np.random.default_rng(0).integers(0, 256, (30, 120, 160, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        for suffix in CODECS:
            with pytest.raises(OSError, match="is the disk full"):
                predict_video(make_labeller(), pictures, tmp_path / f"out{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


class Camera:
    """A capture of grey frames that count down, one each 20 ms, and then no more."""

    def __init__(self, count):
        self.left, self.times = count, {}
        self.isOpened, self.get, self.release = lambda: True, lambda what: 50.0, lambda: None

    def read(self):
        time.sleep(0.02)
        self.left -= 1
        self.times[self.left] = time.perf_counter()
        return self.left >= 0, np.full((32, 48, 3), max(self.left, 0), np.uint8)


def test_what_a_camera_shows_is_never_old(cv2, monkeypatch):
    camera, ages, numbers = Camera(40), [], []
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: camera)
    for frame in predict_video(make_labeller(), 0):
        numbers.append(int(frame.image[0, 0, 0]))
        ages.append(time.perf_counter() - camera.times[numbers[-1]])
        time.sleep(0.2)  # ten frames' time
    assert len(ages) <= 8
    assert numbers == sorted(set(numbers), reverse=True)
    assert sorted(ages)[len(ages) // 2] < 0.15


def test_ctrl_c_ends_the_recording_of_a_camera_alone(cv2, monkeypatch, tmp_path):
    kinds = {int: lambda number: Camera(200), str: cv2.VideoCapture}
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: kinds[type(source)](source))
    models = [make_labeller(raise_at(6, KeyboardInterrupt)) for _ in range(2)]
    path = predict_video(models[0], 0, tmp_path / "out.mp4")
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 5
    with pytest.raises(KeyboardInterrupt):
        predict_video(models[1], FRAMES, tmp_path / "another.mp4")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


INT8 = {"format": "litert", "precision": "int8"}
SIZELESS = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 1)])
OTHERS = ClassTable(list("abcd"), CLASSES.colors, ignore_label=1)
SIZES = {"source": [FRAMES[0], FRAMES[0][:16]], "output": "out.mp4"}
ONNX, OPENVINO, OPENCV = (
    rf"pip install {package}, .*seglib\[deploy\]"
    for package in ("onnxruntime", "openvino", "opencv-python-headless")
)
WRONG = [
    (export, {"format": "tflite"}, ValueError, "tflite in float32 is not known: expected keras in"),
    (export, {"format": "onnx", "precision": "bfloat16"}, ValueError, "in float32, int8; openvino"),
    (export, INT8, ValueError, "int8 needs calibration"),
    (export, {**INT8, "calibration": np.zeros((4, 32, 48, 3))}, ValueError, "received float64"),
    (export, {"format": "keras", "model": SIZELESS}, ValueError, "model with an input_shape"),
    (load_predictor, {"path": "new"}, ValueError, r"is no export, it has no predictor\.json"),
    (compare_exports, {"variants": [("keras", "int8")]}, ValueError, "keras in int8 is not known"),
    (compare_exports, {}, ValueError, "int8 needs calibration"),
    (compare_exports, {"split": make_split(count=0)}, ValueError, "split is empty"),
    (compare_exports, {"split": make_split(OTHERS), "variants": []}, ValueError, "trained for"),
    (predict_video, {"source": []}, ValueError, "the source holds no frame"),
    (predict_video, {"source": FRAMES / 255}, ValueError, "uint8 RGB picture"),
    (predict_video, SIZES, ValueError, "a video has one size"),
    (predict_video, {"source": FRAMES, "output": "a.gif"}, ValueError, "expected .mp4, .webm"),
    (predict_video, {"source": "text.mp4", "output": "text.mp4"}, ValueError, "is the source"),
    (predict_video, {"source": "none.mp4"}, OSError, "none.mp4 is not there"),
    (predict_video, {"source": "text.mp4"}, OSError, "no video that OpenCV can read"),
    (export, {"format": "litert"}, RuntimeError, "litert is written from TensorFlow"),
    (export, {"format": "onnx"}, ModuleNotFoundError, ONNX),
    (export, {"format": "openvino"}, ModuleNotFoundError, OPENVINO),
    (load_predictor, {}, ModuleNotFoundError, OPENVINO),
    (compare_exports, {"variants": [("onnx", "int8")]}, ModuleNotFoundError, ONNX),
    (predict_video, {"source": "film.mp4"}, ModuleNotFoundError, OPENCV),
    (predict_video, {"source": 0}, ModuleNotFoundError, OPENCV),
    (predict_video, SIZES, ModuleNotFoundError, OPENCV),
]


@pytest.mark.parametrize(("call", "options", "error", "words"), WRONG)
def test_what_cannot_be_done_is_told(
    model, written, cv2, tmp_path, monkeypatch, call, options, error, words
):
    known = {
        export: {"model": model, "path": "export"},
        load_predictor: {"path": written("openvino")},
        compare_exports: {"models": model, "split": make_split(), "calibration": None},
        predict_video: {"model": make_labeller()},
    }
    if error is RuntimeError:
        monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    if error is ModuleNotFoundError:
        for package in ("onnxruntime", "openvino", "cv2"):
            monkeypatch.setitem(sys.modules, package, None)
        assert FORMATS["onnx"].missing == ["onnxruntime"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(error, match=words):
        list(call(**{**known[call], **options}))
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]
