"""Videos and other streams: their labels, their threads, and what goes wrong with them."""

import os
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

import seglib
from seglib.classes import ClassTable, create_class_table
from seglib.labelling import Scorer
from seglib.streams import writing
from seglib.streams.ahead import NAME
from seglib.streams.painting import blend_classes

COLORS = np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200)], np.uint8)
CLASSES = ClassTable(["red", "green", "blue"], COLORS[::-1])


def make_model(*, delay=0, classes=CLASSES, act=None):
    """An export whose class is the colour, and that may be slow or do something else before."""
    seen = []

    def score(batch):
        seen.append(batch)
        time.sleep(delay)
        if act is not None:
            act(len(seen))
        return batch.astype(np.float32) / 255

    scorer = Scorer(
        score=score, size=(None, None), fit="stretch", num_classes=3, classes=classes
    )  # fmt: skip
    return types.SimpleNamespace(scorer=scorer, seen=seen)


def make_labels(count=7, size=(32, 48)):
    """Label maps that differ, of blocks of 16 pixels."""
    coarse = np.random.default_rng(0).integers(0, 3, (count, size[0] // 16, size[1] // 16))
    return np.kron(coarse, np.ones((1, 16, 16), int))


def find_threads():
    return [thread for thread in threading.enumerate() if thread.name == NAME]


@pytest.fixture
def cv2():
    return pytest.importorskip("cv2")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not find_threads()


@pytest.fixture
def video(cv2, tmp_path):
    """A video without loss of 7 frames, 10 a second."""
    path = tmp_path / "video.mkv"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 10, (48, 32))
    for labels in make_labels():
        writer.write(np.ascontiguousarray(COLORS[labels][..., ::-1]))
    writer.release()
    return path


def read_video(cv2, path):
    """Return the frames as uint8 RGB, and how many there are a second."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (answer := capture.read())[0]:
        frames.append(answer[1][..., ::-1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


# Frames


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_video_is_labelled_frame_by_frame(video, kind):
    frames = list(seglib.predict_video(make_model(), kind(video), show_rate=False))
    labels = make_labels()
    assert len(frames) == 7
    np.testing.assert_array_equal([frame.labels for frame in frames], labels)
    np.testing.assert_array_equal([frame.image for frame in frames], COLORS[labels])
    halves = (COLORS.astype(int) + COLORS[::-1] + 1) // 2
    np.testing.assert_array_equal([frame.overlay for frame in frames], halves[labels])
    assert all(frame.rate > 0 for frame in frames)


@pytest.mark.parametrize("source", [list, iter, np.asarray])
def test_iterables_need_no_opencv(monkeypatch, source):
    monkeypatch.setitem(sys.modules, "cv2", None)
    frames = list(seglib.predict_video(make_model(), source(COLORS[make_labels()])))
    np.testing.assert_array_equal([frame.labels for frame in frames], make_labels())


def test_a_keras_model_labels_alike():
    keras = pytest.importorskip("keras")
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Rescaling(0.1)(image))
    frames = list(seglib.predict_video(model, COLORS[make_labels()], show_rate=False, opacity=1))
    np.testing.assert_array_equal([frame.labels for frame in frames], make_labels())
    colors = create_class_table([str(i) for i in range(3)]).colors
    np.testing.assert_array_equal([frame.overlay for frame in frames], colors[make_labels()])


def test_a_source_may_fill_one_buffer_again_and_again():
    def fill():
        buffer = np.empty((32, 48, 3), np.uint8)
        for labels in make_labels():
            buffer[:] = COLORS[labels]
            yield buffer

    frames = list(seglib.predict_video(make_model(), fill()))
    np.testing.assert_array_equal([frame.labels for frame in frames], make_labels())


def test_frames_between_keep_the_labels():
    model, labels = make_model(), make_labels()
    frames = list(seglib.predict_video(model, COLORS[labels], every=3))
    assert len(model.seen) == 3
    np.testing.assert_array_equal(
        [frame.labels for frame in frames], labels[[0, 0, 0, 3, 3, 3, 6]]
    )  # fmt: skip
    np.testing.assert_array_equal([frame.image for frame in frames], COLORS[labels])


def test_frames_of_another_size_are_labelled_anew():
    pictures = [COLORS[make_labels(1, size)[0]] for size in [(32, 48), (48, 32)]]
    frames = list(seglib.predict_video(make_model(), pictures, every=2))
    assert [frame.labels.shape for frame in frames] == [(32, 48), (48, 32)]


def test_a_limit_ends_endless_sources():
    def repeat():
        while True:
            yield COLORS[make_labels()[0]]

    model = make_model()
    assert len(list(seglib.predict_video(model, repeat(), limit=5))) == 5
    assert len(model.seen) == 5


def test_flip_is_passed_on():
    model = make_model()
    list(seglib.predict_video(model, COLORS[make_labels(1)], flip=True))
    np.testing.assert_array_equal(model.seen[1], model.seen[0][:, :, ::-1])


@pytest.mark.parametrize("size", [(96, 160), (16, 16), (1, 7)])
def test_the_rate_is_drawn_into_the_corner(size):
    picture = np.full((*size, 3), 200, np.uint8)
    plain, drawn = (
        next(seglib.predict_video(make_model(), [picture], show_rate=show)).overlay
        for show in (False, True)
    )
    assert len(np.unique(plain.reshape(-1, 3), axis=0)) == 1
    changed = (plain != drawn).any(axis=-1)
    assert changed[0, 0]
    assert not changed[20:].any()
    if size[1] == 160:
        assert drawn.max() > 230  # white text
        assert (drawn == 24).all(axis=-1).sum() > changed.sum() / 2  # on a dark strip
        assert not changed[:, 110:].any()


@pytest.mark.parametrize("opacity", [0, 0.25, 0.5, 0.9, 1])
def test_colours_are_blended_as_in_figures(opacity):
    from seglib.plots.pictures import overlay

    random = np.random.default_rng(0)
    image, classes = (
        random.integers(0, 256, (60, 80, 3), np.uint8),
        create_class_table([str(i) for i in range(300)]),
    )
    labels = random.integers(0, 300, (60, 80)).astype(np.uint16)
    answer = blend_classes(image, labels, classes.colors, opacity)
    expected = overlay(image, labels, classes, alpha=opacity)
    assert np.abs(answer.astype(int) - expected).max() <= (opacity not in (0, 1))


def test_importing_needs_neither_keras_nor_figures():
    code = (
        "import sys, seglib.streams, seglib.streams.writing; "
        "print({'keras', 'tensorflow', 'matplotlib', 'cv2'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "set()"


# Threads


def read_slowly(count, delay):
    for labels in make_labels(count):
        time.sleep(delay)
        yield COLORS[labels]


def test_reading_labelling_and_showing_overlap():
    start = time.perf_counter()
    for _ in seglib.predict_video(make_model(delay=0.04), read_slowly(12, 0.04)):
        time.sleep(0.04)
    assert time.perf_counter() - start < 0.7 * 3 * 12 * 0.04  # 0.39 of it, were all else free


def test_the_rate_is_that_of_the_last_second():
    *_, last = seglib.predict_video(make_model(), read_slowly(8, 0.05))
    assert 5 < last.rate <= 21


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_who_stops_early_leaves_no_thread(taken):
    frames = seglib.predict_video(make_model(), COLORS[make_labels(100)])
    for _ in range(taken):
        next(frames)
    assert len(find_threads()) == (2 if taken else 0)
    frames.close()
    assert not find_threads()


def test_a_loop_that_breaks_ends_the_threads_and_closes_the_video(video, cv2, monkeypatch):
    captures = watch_captures(cv2, monkeypatch)
    for _ in seglib.predict_video(make_model(), video):
        break
    assert not find_threads()
    assert not captures[0].isOpened()


def watch_captures(cv2, monkeypatch):
    captures, create = [], cv2.VideoCapture
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda path: captures.append(create(path)) or captures[-1]
    )
    return captures


class Oops(Exception):
    pass


def fail(*_):
    raise Oops("by intent")


def read_and_fail(count=3):
    yield from COLORS[make_labels(count)]
    fail()


@pytest.mark.parametrize("with_output", [False, True])
@pytest.mark.parametrize("where", ["source", "scorer"])
def test_errors_arrive_as_they_are(where, with_output, tmp_path):
    if with_output:
        pytest.importorskip("cv2")
    source = read_and_fail() if where == "source" else COLORS[make_labels(100)]
    model = make_model(act=lambda count: where == "scorer" and count == 3 and fail())
    output = tmp_path / "out.mp4" if with_output else None
    seen = []
    with pytest.raises(Oops, match="by intent"):
        seen.extend(seglib.predict_video(model, source, output))
    assert not find_threads()
    assert not list(tmp_path.iterdir())


def test_frames_before_an_error_are_given():
    frames = seglib.predict_video(make_model(), read_and_fail(3))
    assert [next(frames).labels.shape for _ in range(3)] == [(32, 48)] * 3
    with pytest.raises(Oops):
        next(frames)


# Files


@pytest.mark.parametrize("suffix", [".mp4", ".MP4", ".webm", ".avi", ".mkv"])
def test_a_video_is_written(video, cv2, tmp_path, suffix):
    path = tmp_path / "new" / f"out{suffix}"
    answer = seglib.predict_video(make_model(), video, path, opacity=1, show_rate=False)
    assert (answer.path, answer.frames) == (path, 7)
    assert answer.rate == pytest.approx(7 / answer.seconds)
    frames, rate = read_video(cv2, path)
    assert rate == pytest.approx(10)
    assert os.listdir(path.parent) == [path.name]
    expected = COLORS[::-1][make_labels()].astype(int)
    assert np.shape(frames) == expected.shape
    assert np.abs(frames - expected).mean() < (1 if suffix == ".mkv" else 25)


def test_iterables_are_written_at_the_rate_that_is_told(cv2, tmp_path):
    for given, expected in ((None, 25), (12.5, 12.5)):
        path = tmp_path / "out.mp4"
        pictures = np.pad(COLORS[make_labels()], ((0, 0), (0, 1), (0, 1), (0, 0)))
        seglib.predict_video(make_model(), pictures, str(path), frame_rate=given)
        frames, rate = read_video(cv2, path)
        assert rate == expected
        assert np.shape(frames) == (7, 32, 48, 3)  # codecs take even sides


def replace_writer(cv2, monkeypatch, **methods):
    """Each video is written by an object that does nothing, these methods aside."""
    known = {"isOpened": lambda: True, "release": lambda: None, "write": lambda image: None}
    monkeypatch.setattr(
        cv2, "VideoWriter", lambda *_: types.SimpleNamespace(**{**known, **methods})
    )


@pytest.mark.parametrize(
    ("methods", "error", "message"),
    [
        ({"write": fail}, Oops, "by intent"),
        ({"isOpened": lambda: False}, OSError, r"lack the codec mp4v: try \.webm or \.avi"),
        ({}, OSError, "is the disk full"),
    ],
)
def test_errors_of_writing_leave_nothing(cv2, monkeypatch, tmp_path, methods, error, message):
    old = tmp_path / "out.mp4"
    old.write_bytes(b"what was there before")
    replace_writer(cv2, monkeypatch, **methods)
    with pytest.raises(error, match=message):
        seglib.predict_video(make_model(), COLORS[make_labels(50)], old)
    assert not find_threads()
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert old.read_bytes() == b"what was there before"


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi", ".mkv"])
def test_a_full_disk_is_noticed(cv2, tmp_path, suffix):
    """Files may grow to 100 kB only, of which OpenCV says nothing."""
    resource = pytest.importorskip("resource")
    pictures = np.random.default_rng(0).integers(0, 256, (30, 120, 160, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="as a whole: is the disk full"):
            seglib.predict_video(make_model(), pictures, tmp_path / f"out{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_video_has_one_size(cv2, tmp_path):
    pictures = [COLORS[make_labels(1, size)[0]] for size in [(32, 48), (32, 48), (48, 32)]]
    with pytest.raises(ValueError, match=r"frame 2 .* \(48, 32\), but the video of \(32, 48\)"):
        seglib.predict_video(make_model(), pictures, tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("out.gif", ValueError, r"ends in \.mp4, \.webm"),
        ("folder.mp4", IsADirectoryError, "is a folder"),
        ("file/out.mp4", OSError, "the video cannot be written to"),
        ("video.mkv", ValueError, "is the source"),
    ],
)
def test_outputs_that_cannot_be_are_refused_at_once(video, tmp_path, name, error, message):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    model = make_model()
    with pytest.raises(error, match=message):
        seglib.predict_video(model, video, tmp_path / name)
    assert not model.seen


# Cameras


class Camera:
    """A capture of grey frames that count up, one each 20 ms, and then no more."""

    def __init__(self, count):
        self.left, self.times = count, {}

    def isOpened(self):
        return True

    def get(self, _):
        return 50.0

    def read(self):
        time.sleep(0.02)
        self.left -= 1
        self.times[self.left] = time.perf_counter()
        return (True, np.full((32, 48, 3), self.left, np.uint8)) if self.left >= 0 else (False, 0)

    def release(self):
        self.left = -1


def connect(cv2, monkeypatch, camera):
    """Make a camera the one with the number 0."""
    create = cv2.VideoCapture
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda source: camera if source == 0 else create(source)
    )


def test_a_camera_is_never_behind(cv2, monkeypatch):
    connect(cv2, monkeypatch, Camera(30))
    frames = list(seglib.predict_video(make_model(delay=0.1), 0))
    assert 4 <= len(frames) <= 12
    numbers = [int(frame.image[0, 0, 0]) for frame in frames]
    assert numbers == sorted(set(numbers), reverse=True)
    assert numbers[-1] <= 1


def test_what_a_camera_shows_is_never_old(cv2, monkeypatch):
    """Showing takes ten frames' time; what is shown next is not what came in the meantime."""
    camera, ages = Camera(40), []
    connect(cv2, monkeypatch, camera)
    for frame in seglib.predict_video(make_model(), 0):
        ages.append(time.perf_counter() - camera.times[int(frame.image[0, 0, 0])])
        time.sleep(0.2)
    assert len(ages) <= 8
    assert sorted(ages)[len(ages) // 2] < 0.15


def test_a_slow_codec_does_not_write_ever_more_stills(monkeypatch, tmp_path):
    clock, written = [0.0], []

    def write(picture):
        clock[0] += 0.3
        written.append(picture)

    writer = types.SimpleNamespace(write=write, release=lambda: None)
    monkeypatch.setattr(writing, "_open_writer", lambda *arguments: writer)
    monkeypatch.setattr(writing.time, "perf_counter", lambda: clock[0])
    frames = (types.SimpleNamespace(overlay=np.zeros((8, 8, 3), np.uint8)) for _ in range(12))
    assert writing._write_frames(frames, tmp_path / "out.mp4", 10, True)[0] == 12
    assert len(written) <= 12 * 10


def test_a_refused_call_does_not_take_the_camera(cv2, monkeypatch, tmp_path):
    monkeypatch.setattr(cv2, "VideoCapture", None)
    with pytest.raises(ValueError, match="ends in"):
        seglib.predict_video(make_model(), 0, tmp_path / "out.gif")
    with pytest.raises(TypeError, match=r"keras\.Model"):
        seglib.predict_video("outputs/run", 0)


def test_ctrl_c_ends_a_recording_that_lasts_as_long_as_it_did(cv2, monkeypatch, tmp_path):
    def interrupt(count):
        if count == 6:
            raise KeyboardInterrupt

    connect(cv2, monkeypatch, Camera(200))
    model = make_model(delay=0.1, act=interrupt)
    answer = seglib.predict_video(model, 0, tmp_path / "out.mp4")
    assert answer.frames == 5
    frames, rate = read_video(cv2, answer.path)
    assert rate == 50
    assert 15 < len(frames) <= 1 + 50 * answer.seconds  # 0.4 s from the first to the last of 5
    with pytest.raises(KeyboardInterrupt):
        seglib.predict_video(
            make_model(act=interrupt), COLORS[make_labels(9)], tmp_path / "another.mp4"
        )
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_a_camera_that_is_not_there_is_told(cv2, monkeypatch):
    create = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: create())
    with pytest.raises(OSError, match="camera 3 is not there"):
        seglib.predict_video(make_model(), 3)


# What is no stream


@pytest.mark.parametrize("output", [None, "out.mp4"])
@pytest.mark.parametrize("kind", ["path", "camera", "iterable"])
def test_a_missing_opencv_is_named(monkeypatch, tmp_path, kind, output):
    if kind == "iterable" and output is None:
        pytest.skip("needs none")
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "video.mp4").touch()
    source = {"path": tmp_path / "video.mp4", "camera": 0, "iterable": COLORS[make_labels()]}[kind]
    with pytest.raises(ModuleNotFoundError, match=r"opencv-python-headless.*seglib\[deploy\]"):
        seglib.predict_video(make_model(), source, output and tmp_path / output)


def test_a_path_without_a_video_is_refused(cv2, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no video .*none\.mp4"):
        seglib.predict_video(make_model(), tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4 is no video that OpenCV can read"):
        seglib.predict_video(make_model(), tmp_path / "text.mp4")
    with pytest.raises(TypeError, match="received float"):
        seglib.predict_video(make_model(), 1.5)


@pytest.mark.parametrize(
    "frame", [np.zeros((32, 48, 3)), np.zeros((32, 48), np.uint8), np.zeros((0, 48, 3), np.uint8)]
)
def test_a_wrong_frame_is_named(frame):
    pictures = [*COLORS[make_labels(2)], frame]
    with pytest.raises(ValueError, match=r"frame 2 \(the first is 0\): expected uint8 RGB"):
        list(seglib.predict_video(make_model(), pictures))


def test_a_source_without_frames_is_refused(cv2, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="the source holds no frame"):
        list(seglib.predict_video(make_model(), []))
    with pytest.raises(ValueError, match="the source holds no frame"):
        seglib.predict_video(make_model(), iter([]), tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())
    connect(cv2, monkeypatch, Camera(0))
    with pytest.raises(ValueError, match="camera 0 holds no frame"):
        list(seglib.predict_video(make_model(), 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opacity": 1.5}, "opacity from 0 to 1"),
        ({"every": 0}, "every to be a whole number ≥ 1, received 0"),
        ({"every": None}, "every to be a whole number"),
        ({"limit": 2.5}, "limit to be a whole number"),
        ({"frame_rate": 0}, "frame_rate above 0"),
    ],
)
def test_wrong_options_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        seglib.predict_video(make_model(), [], **options)
