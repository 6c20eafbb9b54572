"""Exports, what they cost, and videos: answers, threads, and what goes wrong."""

import concurrent.futures
import dataclasses
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
from seglib.classes import ClassTable
from seglib.deploying import CODECS, FORMATS
from seglib.models import set_model_classes
from seglib.predicting import Scorer

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
        return seglib.export(model, path, calibration=draw_pictures(8, (40, 50)), **options)

    return write


def make_split(classes=CLASSES, count=6):
    """What `compare_exports` asks of a split."""
    random = np.random.default_rng(5)
    pictures = draw_pictures(6, (50, 60), seed=5)[:count]
    labels = random.integers(0, 4, (count, 50, 60)).astype(np.uint8)
    split = type("Pairs", (list,), {})(zip(pictures, labels, strict=True))
    split.classes, split.names = classes, [f"p{i}" for i in range(count)]
    return split


@pytest.mark.parametrize(("format", "precision"), VARIANTS)
def test_each_export_answers_as_the_model_does(model, written, format, precision):
    predictor = seglib.load_predictor(str(written(format, precision)))
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
        for options in ({"flip": True}, {"tile": True}):
            answers = predictor.predict(mixed, **options), seglib.predict(model, mixed, **options)
            assert all((one == same).mean() > 0.99 for one, same in zip(*answers, strict=True))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(list(pool.map(predictor.predict, pictures)), labels)


def test_a_loaded_export_needs_no_keras(written):
    for package in ("ai_edge_litert", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    code = (
        "import sys; sys.modules['keras'] = None; import numpy, seglib\n"
        "for path in sys.argv[1:]:\n"
        "    p = seglib.load_predictor(path)\n"
        "    assert p.predict(numpy.zeros((40, 40, 3), 'uint8')).shape == (40, 40)\n"
        "    assert 'tensorflow' not in sys.modules, path\n"
    )
    paths = [written(format) for format in ("onnx", "openvino", "litert")]
    result = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


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
    predictor = seglib.load_predictor(tmp_path)
    assert predictor.predict(draw_pictures(1, (40, 50))[0]).shape == (40, 50)
    (frame,) = seglib.predict_video(predictor, draw_pictures(1, (40, 50)))  # in colours of its own
    assert frame.overlay.shape == (40, 50, 3)


def test_an_export_replaces_an_earlier_one_and_nothing_else(model, tmp_path):
    path = seglib.export(model, tmp_path / "new/export", format="keras")
    assert seglib.export(model, path, format="keras", precision="bfloat16") == path
    assert seglib.load_predictor(path).precision == "bfloat16"
    assert [entry.name for entry in path.parent.iterdir()] == ["export"]
    for name in ("model.onnx", "saved_model/notes.txt", "photo.png"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"mine")
        with pytest.raises(ValueError, match=f"holds something that is no export .{name}"):
            seglib.export(model, path, format="keras")
        if name != "photo.png":
            (path / name).unlink()
    (tmp_path / "foreign").mkdir()
    for name in ("predictor.json", "model.keras"):
        (tmp_path / "foreign" / name).write_text("{}")
    (tmp_path / "file").touch()
    for taken in (path, path.parent, tmp_path / "file", tmp_path / "foreign"):
        with pytest.raises(ValueError, match="holds something that is no export"):
            seglib.export(model, taken, format="keras")
    assert (path / "photo.png").read_bytes() == b"mine"


def test_threads_leave_a_whole_export_and_killed_ones_are_tidied_away(model, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / f".export-{socket.gethostname()}-{ended.pid}-x1"
    alive = tmp_path / f".export-{socket.gethostname()}-{os.getpid()}-x2"
    for folder in (dead, alive, tmp_path / ".export-elsewhere-1-x3"):
        (folder / "new").mkdir(parents=True)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        path = tmp_path / "export"
        jobs = [pool.submit(seglib.export, model, path, format="keras") for _ in range(4)]
        assert {job.result() for job in jobs} == {tmp_path / "export"}
    assert seglib.load_predictor(tmp_path / "export").num_classes == 4
    names = {folder.name for folder in tmp_path.iterdir()}
    assert names == {"export", alive.name, ".export-elsewhere-1-x3"}


@pytest.mark.parametrize("format", ["keras", "savedmodel", "litert", "onnx", "openvino"])
def test_a_flipped_bit_in_an_export_is_noticed(written, tmp_path, format):
    shutil.copytree(written(format), tmp_path / "export")
    random = np.random.default_rng(0)
    files = [file for file in (tmp_path / "export").rglob("*") if file.is_file()]
    for file in files:
        content = file.read_bytes()
        for _ in range(5 * bool(content) * (file.suffix != ".json")):
            changed = bytearray(content)
            changed[random.integers(len(changed))] ^= 1 << int(random.integers(8))
            file.write_bytes(changed)
            with pytest.raises(ValueError, match=rf"{file.name} does not match its checksum"):
                seglib.load_predictor(tmp_path / "export")
        file.write_bytes(content)
    assert seglib.load_predictor(tmp_path / "export").format == format


def test_loggers_that_begin_while_an_export_is_loaded_are_heard(written):
    code = (
        "import sys, seglib; seglib.load_predictor(sys.argv[1])\n"
        "import tensorflow; tensorflow.get_logger().warning('look here')\n"
    )
    command = [sys.executable, "-c", code, written("savedmodel")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == "WARNING:tensorflow:look here"
    assert "Traceback" not in result.stderr


DAMAGED = "cannot be loaded, its files may be damaged: export the model again"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, r"is no export, it has no predictor\.json"),
        ({"version": 99}, "newer version: update seglib"),
        ({"format": "coreml"}, DAMAGED),
        ({"files": {"model.keras": "0"}}, DAMAGED),  # which is not there
        ({"num_classes": 5, "classes": None}, DAMAGED),
        ({"num_classes": 5}, DAMAGED),
        ({"image_size": [48, 32]}, DAMAGED),
        ({"channels": 4}, DAMAGED),
    ],
)
def test_a_card_must_be_there_be_known_and_fit_its_network(written, tmp_path, change, words):
    shutil.copytree(written("litert"), tmp_path / "export")
    path = tmp_path / "export/predictor.json"
    card = json.loads(path.read_text())
    path.unlink()
    if change is not None:
        path.write_text(json.dumps(card | change))
    with pytest.raises(ValueError, match=words):
        seglib.load_predictor(tmp_path / "export")


def test_a_new_format_is_one_line_and_what_fails_leaves_the_earlier_export(
    model, tmp_path, monkeypatch
):
    def write(network, folder, precision, pictures):
        (folder / "model.txt").write_text(f"{len(pictures)} {pictures[0].dtype}")

    def read(folder, precision):
        assert (folder / "model.txt").read_text() == "3 float32"
        return lambda batch: np.eye(3, dtype=np.float32)[batch[..., 0] // 100]

    monkeypatch.setitem(FORMATS, "text", type(FORMATS["keras"])(write, read, ("int8",)))
    options = {"format": "text", "precision": "int8"}
    pairs = [(picture, None) for picture in draw_pictures(3, (40, 50))]
    path = seglib.export(model, tmp_path / "export", calibration=pairs, **options)
    monkeypatch.setattr(pathlib.Path, "write_text", lambda *text, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        seglib.export(model, path, calibration=pairs[:1], **options)
    picture = np.full((32, 48, 3), 150, np.uint8)
    assert np.unique(seglib.load_predictor(path).predict(picture)) == [2]  # ids are 0, 2, 3
    assert [file.name for file in tmp_path.iterdir()] == ["export"]


def test_what_cannot_be_written_is_refused(model, tmp_path, monkeypatch):
    image, int8 = keras.Input((None, None, 3)), {"format": "litert", "precision": "int8"}
    sizeless = keras.Model(image, keras.layers.Conv2D(4, 1)(image))
    for some, options, words in (
        (model, {"format": "tflite"}, "tflite in float32 is not known: expected keras in float32"),
        (model, {"format": "onnx", "precision": "bfloat16"}, "onnx in float32, int8; openvino in"),
        (model, int8, "int8 needs calibration"),
        (model, {**int8, "calibration": np.zeros((4, 32, 48, 3))}, "received float64"),
        (sizeless, {"format": "keras"}, "create the model with an input_shape"),
    ):
        with pytest.raises(ValueError, match=words):
            seglib.export(some, tmp_path / "export", **options)

    def save(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save", save)
        with pytest.raises(OSError, match=r"the disk of .* is full .*: free some space, then"):
            seglib.export(model, tmp_path / "export", format="keras")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="litert is written from TensorFlow"):
        seglib.export(model, tmp_path / "export", format="litert")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("format", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_runtime_is_named(model, written, tmp_path, monkeypatch, format, package):
    path, options = written(format), {"calibration": None, "variants": [(format, "float32")]}
    monkeypatch.setitem(sys.modules, package, None)
    for action in (
        lambda: seglib.export(model, tmp_path / "export", format=format),
        lambda: seglib.load_predictor(path),
        lambda: seglib.compare_exports(model, make_split(), folder=tmp_path, **options),
    ):
        with pytest.raises(ModuleNotFoundError, match=rf"pip install {package}.*seglib\[deploy\]"):
            action()
    assert FORMATS[format].missing == [package]
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def card(model, tmp_path_factory):
    options = {"variants": [("litert", "int8")], "folder": tmp_path_factory.mktemp("card")}
    calibration = draw_pictures(4, (32, 48))
    return seglib.compare_exports(model, make_split(), calibration=calibration, **options)


def test_the_card_compares_all_with_the_first_in_float32(model, card, tmp_path):
    table = card.table
    assert list(table.index) == [("model", "keras", "float32"), ("model", "litert", "int8")]
    first, small = table.iloc[0], table.iloc[1]
    assert first["agreement"] == 1
    assert first["change"] == first["change_low"] == first["change_high"] == 0
    assert first["mean_iou"] == pytest.approx(seglib.evaluate(model, make_split()).mean_iou)
    assert 0.9 < small["agreement"] < 1
    assert small["change"] == pytest.approx(small["mean_iou"] - first["mean_iou"])
    assert small["change_low"] <= small["change"] <= small["change_high"]
    assert small["parameters"] == model.count_params()
    assert small["megabytes"] < first["megabytes"]
    assert (table["network_ms"] > 0).all()
    assert (table["p50_ms"] <= table["p99_ms"]).all()
    assert "megabytes" in repr(card)
    lines = (card.write(tmp_path / "kept") / "exports.csv").read_text().splitlines()
    assert lines[0].startswith("model,format,precision,megabytes")
    assert len(lines) == 3
    assert (tmp_path / "kept/exports.png").stat().st_size > 10_000


def test_a_choice_keeps_to_the_budget(card):
    table = card.table
    best = card.choose()
    assert best["mean_iou"] == table["mean_iou"].max()
    assert {"model", "format", "precision"} < set(best)
    limit = table["megabytes"].min()
    assert card.choose(max_size=limit * 1e6 + 1)["format"] == "litert"
    assert card.choose(within="1h") == best
    with pytest.raises(ValueError, match=r"nothing fits.*fastest is .* ms at p95, the smallest"):
        card.choose(within="0.001ms")


RENAMED = dataclasses.replace(CLASSES, names=CLASSES.names[::-1])


@pytest.mark.parametrize(
    ("split", "variants", "words"),
    [
        (make_split(), [("keras", "int8")], "keras in int8 is not known"),
        (make_split(), None, "int8 needs calibration"),
        (make_split(count=0), [], "split is empty"),
        (make_split(RENAMED), [], "the model was trained for"),
    ],
)
def test_what_cannot_be_compared_is_told(model, split, variants, words):
    with pytest.raises(ValueError, match=words):
        seglib.compare_exports(model, split, calibration=None, variants=variants)


# Videos

COLORS = np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200)], np.uint8)
LABELS = np.kron(np.random.default_rng(0).integers(0, 3, (7, 2, 3)), np.ones((1, 16, 16), int))
FRAMES, HALVES = COLORS[LABELS], (COLORS.astype(int) + COLORS[::-1]) // 2


def make_labeller(*, delay=0, act=lambda count: None):
    """An export whose class is the colour, and that may be slow or do something else before."""
    calls = itertools.count(1)

    def score(batch):
        time.sleep(delay)
        act(next(calls))
        return batch.astype(np.float32) / 255

    classes = ClassTable(["red", "green", "blue"], COLORS[::-1])
    options = {"size": (None, None), "fit": "stretch", "num_classes": 3, "classes": classes}
    return Scorer(score=score, **options)


def find_threads():
    return [thread for thread in threading.enumerate() if thread.name == "seglib-stream"]


@pytest.fixture
def cv2():
    yield pytest.importorskip("cv2")
    assert not find_threads()


@pytest.fixture
def video(cv2, tmp_path):
    """A video without loss of 7 frames, 10 a second."""
    path = tmp_path / "video.mkv"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 10, (48, 32))
    for frame in FRAMES:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def test_a_video_is_labelled_frame_by_frame(video):
    frames = list(seglib.predict_video(make_labeller(), str(video)))
    np.testing.assert_array_equal([frame.labels for frame in frames], LABELS)
    np.testing.assert_array_equal([frame.image for frame in frames], FRAMES)
    np.testing.assert_array_equal([frame.overlay for frame in frames], HALVES[LABELS])
    assert all(frame.rate > 0 for frame in frames)


def test_iterables_need_no_opencv_may_fill_one_buffer_and_be_left_early(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)

    def fill():
        buffer = np.empty((32, 48, 3), np.uint8)
        for frame in FRAMES:
            buffer[:] = frame
            yield buffer

    frames = list(seglib.predict_video(make_labeller(), fill()))
    np.testing.assert_array_equal([frame.labels for frame in frames], LABELS)
    frames = seglib.predict_video(make_labeller(), FRAMES)
    next(frames)
    frames.close()
    assert not find_threads()


def test_reading_labelling_and_showing_overlap():
    def read_slowly():
        for frame in np.concatenate([FRAMES, FRAMES]):
            time.sleep(0.04)
            yield frame

    start = time.perf_counter()
    rates = []
    for frame in seglib.predict_video(make_labeller(delay=0.04), read_slowly()):
        time.sleep(0.04)
        rates.append(frame.rate)
    assert time.perf_counter() - start < 0.75 * 3 * 14 * 0.04  # 0.38 of it, were all else free
    assert 5 < rates[-1] <= 30


@pytest.mark.parametrize(("where", "output"), [("source", "out.mp4"), ("scorer", None)])
def test_errors_arrive_as_they_are(cv2, where, output, tmp_path):
    def fail(count):
        if count == 3:
            raise LookupError("by intent")

    def read():
        for count, frame in enumerate(FRAMES):
            if where == "source":
                fail(count)
            yield frame

    model = make_labeller(act=fail if where == "scorer" else lambda count: None)
    with pytest.raises(LookupError, match="by intent"):
        list(seglib.predict_video(model, read(), output and tmp_path / output))
    assert not find_threads()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", CODECS)
def test_a_video_is_written(video, cv2, tmp_path, suffix):
    path = tmp_path / "new" / f"out{suffix}"
    assert seglib.predict_video(make_labeller(), video, path) == path
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    capture, frames = cv2.VideoCapture(str(path)), []
    while (answer := capture.read())[0]:
        frames.append(answer[1][..., ::-1])
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
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
                seglib.predict_video(make_labeller(), pictures, tmp_path / f"out{suffix}")
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
    for frame in seglib.predict_video(make_labeller(), 0):
        numbers.append(int(frame.image[0, 0, 0]))
        ages.append(time.perf_counter() - camera.times[numbers[-1]])
        time.sleep(0.2)  # ten frames' time
    assert len(ages) <= 8
    assert numbers == sorted(set(numbers), reverse=True)
    assert sorted(ages)[len(ages) // 2] < 0.15


def test_ctrl_c_ends_the_recording_of_a_camera_alone(cv2, monkeypatch, tmp_path):
    def interrupt(count):
        if count == 6:
            raise KeyboardInterrupt

    kinds = {int: lambda number: Camera(200), str: cv2.VideoCapture}
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: kinds[type(source)](source))
    path = seglib.predict_video(make_labeller(act=interrupt), 0, tmp_path / "out.mp4")
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 5
    with pytest.raises(KeyboardInterrupt):
        seglib.predict_video(make_labeller(act=interrupt), FRAMES, tmp_path / "another.mp4")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(
    ("source", "output", "error", "words"),
    [
        ([], None, ValueError, "the source holds no frame"),
        ([FRAMES[0], FRAMES[0] / 255], None, ValueError, "uint8 RGB picture"),
        ([FRAMES[0], FRAMES[0][:16]], "out.mp4", ValueError, "a video has one size"),
        (FRAMES, "out.gif", ValueError, "expected .mp4, .webm"),
        ("video.mkv", "video.mkv", ValueError, "is the source"),
        ("none.mp4", None, OSError, "none.mp4 is not there"),
        ("text.mp4", None, OSError, "no video that OpenCV can read"),
    ],
)
def test_wrong_videos_are_told(video, monkeypatch, source, output, error, words):
    monkeypatch.chdir(video.parent)
    (video.parent / "text.mp4").write_text("no video")
    before = sorted(video.parent.iterdir())
    with pytest.raises(error, match=words):
        list(seglib.predict_video(make_labeller(), source, output))
    assert sorted(video.parent.iterdir()) == before


@pytest.mark.parametrize("source", ["film.mp4", 0, FRAMES])
def test_a_missing_opencv_is_named(monkeypatch, tmp_path, source):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ModuleNotFoundError, match=r"opencv-python-headless.*seglib\[deploy\]"):
        seglib.predict_video(make_labeller(), source, tmp_path / "out.mp4")
