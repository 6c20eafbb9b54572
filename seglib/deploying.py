"""A trained model elsewhere: exports for other runtimes, what they cost; videos and cameras.

Another format is a function that writes, one that reads and a line in `FORMATS`; see `Format`.
Reading needs no Keras.
"""

import collections
import contextlib
import dataclasses
import glob
import importlib.util
import io
import itertools
import json
import logging
import os
import pathlib
import queue
import re
import shutil
import socket
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from seglib import predicting, reports, system
from seglib.classes import ClassTable, create_class_table
from seglib.datasets import Split
from seglib.images import RGB, Pixels, fit_image
from seglib.preparing import count_processors

CARD, VERSION, CALIBRATION = "predictor.json", 1, 200  # pictures: more change nothing
# What a file browser or Jupyter leaves in a folder.
_LITTER = re.compile(r"(.*/)?(\.DS_Store|\._[^/]*|\.ipynb_checkpoints/.*)")
CODECS = {".mp4": "mp4v", ".webm": "VP80", ".avi": "MJPG", ".mkv": "FFV1"}
_hiding = threading.RLock()  # what is hidden is the whole process's


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Predictor(predicting.Scorer):
    """An exported model, ready to label pictures, from several threads too.

    All functions that label take it as a model.
    """

    format: str
    precision: str
    path: pathlib.Path

    @property
    def megabytes(self) -> float:
        """The size of its files."""
        return sum((self.path / name).stat().st_size for name in _list_files(self.path)) / 1e6

    def predict(self, images, **options):
        """Label pictures of any size, as `seglib.predict` does."""
        return predicting.predict(self, images, **options)

    def __repr__(self):
        kind, size = f"{self.format} {self.precision}", f"{self.size[0]}×{self.size[1]}"
        files = f"{self.num_classes} classes, {self.megabytes:.1f} MB"
        return f"Predictor({self.path.name}: {kind}, {size}, {files})"


def export(
    model: Any, path: str | os.PathLike, *, format: str, precision="float32", calibration=None
) -> pathlib.Path:
    """Write a model for a runtime, into a folder that says all one needs, and return its path.

    Args:
        model: keras.Model with an input size; of several heads the last one is written.
        path: str or path of the folder. It is made, or replaced if it holds an export.
        format: str of `FORMATS`. "onnx" and "openvino" need the extra `deploy`
            (`pip install 'seglib[deploy]'`), "litert" only to be faster.
        precision: "float32", "float16" (weights of half the size), "bfloat16" (computed in it; by
            OpenVINO only where the processor has units for it) or "int8" (Jacob et al. 2018).
        calibration: Split, PreparedSplit or uint8 pictures `(n, height, width, channels)`, such
            as the model will see, to find the range of each map for int8; at most 200 are used.

    Raises:
        ValueError: the format does not know this precision, int8 has no calibration, the model has
            no input size or simulates int8, or the folder holds something else.
        ModuleNotFoundError: the runtime is not installed; the message names it.
        RuntimeError: any format but "keras" where Keras does not run on TensorFlow.
    """
    _check_export(model, format, precision, calibration)
    scorer = predicting.get_scorer(model)
    pictures = []
    if precision == "int8":
        if isinstance(calibration, Split):
            calibration = predicting.read_as_learned(calibration, scorer)
        chosen = np.linspace(0, len(calibration) - 1, min(CALIBRATION, len(calibration)))
        for picture in (calibration[int(i)] for i in chosen):
            picture = picture[0] if isinstance(picture, tuple) else picture  # of a pair
            predicting.check_picture(picture, scorer.channels)
            pictures.append(fit_image(picture, scorer.size, fit=scorer.fit).astype(np.float32))
    folder = pathlib.Path(path)
    _refuse_others(folder)
    system.make_folder(folder.parent, "the export")
    prefix = f".{folder.name}-{socket.gethostname()}-"
    options = {"dir": folder.parent, "prefix": f"{prefix}{os.getpid()}-"}
    advice = "free some space, then export again"
    with (
        system.explain_full_disk(folder.parent, advice),
        tempfile.TemporaryDirectory(**options) as holder,
    ):
        new = pathlib.Path(holder, "new")
        new.mkdir()
        with _quiet():
            network = predicting.create_probabilities(model)
            FORMATS[format].write(network, new, precision, pictures)
        card = {"version": VERSION, "format": format, "precision": precision}
        card |= {"image_size": scorer.size, "fit": scorer.fit, "num_classes": scorer.num_classes}
        card["classes"] = scorer.classes and dataclasses.asdict(scorer.classes)
        if scorer.channels != 3 or scorer.pixels != RGB:
            card |= {"channels": scorer.channels, "pixels": scorer.pixels.to_dict()}
        card |= {"native": scorer.native} if scorer.native else {}
        card["files"] = {name: system.digest_file(new / name) for name in _list_files(new)}
        text = json.dumps(card, indent=1, default=np.ndarray.tolist)
        (new / CARD).write_text(text, encoding="utf-8")
        for name in _list_files(new):  # else a power cut empties what has its name already
            with open(new / name, "rb") as stream:
                os.fsync(stream)
        with _hiding:  # other threads may export to it as well
            _refuse_others(folder)
            if folder.exists():
                folder.rename(pathlib.Path(holder, "old"))
            new.rename(folder)
        system.flush_folder(folder.parent)
    for left in folder.parent.glob(f"{glob.escape(prefix)}*-*"):  # not earlier: it may hold "old"
        _remove_left(left, left.name.removeprefix(prefix).split("-")[0])
    return folder


def _refuse_others(folder):
    """Raise ValueError where a folder holds anything that no export wrote."""
    with _hiding:
        names, own = _list_files(folder), ()
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            own = {CARD, *json.loads((folder / CARD).read_text(encoding="utf-8"))["files"]}
    others = [name for name in names if name not in own and not _LITTER.fullmatch(name)]
    if folder.is_file() or others:
        words = f"something that is no export ({', '.join(others[:3])})"
        raise ValueError(f"{folder} holds {words}: choose another")


def _list_files(folder):
    """Names of all files in a folder and below it, with slashes."""
    files = (file for file in folder.rglob("*") if not file.is_dir())
    return sorted(file.relative_to(folder).as_posix() for file in files)


def _remove_left(folder, pid):
    """Remove what an export has left whose process was killed."""
    with contextlib.suppress(OSError, ValueError, OverflowError):  # somebody else's
        try:
            os.name == "posix" and os.kill(int(pid), 0)  # on Windows it would end it
        except ProcessLookupError:
            shutil.rmtree(folder)


def load_predictor(path: str | os.PathLike) -> Predictor:
    """Load an export, whatever its format, from the folder that `export` wrote.

    Raises:
        ValueError: the folder holds no export, a damaged one or one of a newer seglib.
        ModuleNotFoundError: the runtime is not installed; the message names it.
    """
    folder = pathlib.Path(path)
    if not (folder / CARD).is_file():
        raise ValueError(f"{folder} is no export, it has no {CARD}: name a folder of seglib.export")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if card["version"] != VERSION:
            raise ValueError("it is of a newer version: update seglib")
        classes = card["classes"] and ClassTable(**card["classes"])
        if classes and classes.num_classes != card["num_classes"]:
            raise ValueError("its card has two numbers of classes")
        known = {field.name for field in dataclasses.fields(Predictor)} & card.keys()
        known = {name: card[name] for name in known}
        known |= {"classes": classes, "pixels": Pixels(**card.get("pixels", {}))}
        for name, digest in card.get("files", {}).items():
            if system.digest_file(folder / name) != digest:
                raise ValueError(f"{name} does not match its checksum")
        format = FORMATS[card["format"]]
        _check_installed(card["format"], format.needs[:1])
        with _quiet():
            score = format.read(folder, card["precision"])
            predictor = Predictor(score=score, path=folder, size=tuple(card["image_size"]), **known)
            found = score(np.zeros((1, *predictor.size, predictor.channels), np.uint8)).shape
        if found != (1, *predictor.size, len(predictor.ids)):
            raise ValueError(f"its card does not fit its network, which answers with {found}")
    except ImportError:
        raise
    except Exception as error:  # each runtime has its own
        raise ValueError(
            f"{folder} cannot be loaded, its files may be damaged: export the model again ({error})"
        ) from error

    lock = threading.Lock()  # runtimes differ in what threads may do at once

    def take_turns(batch):
        with lock:
            return score(batch)

    return dataclasses.replace(predictor, score=take_turns)


def _check_export(model, format, precision, calibration):
    from seglib.compressing import refuse_rounding

    if format not in FORMATS or precision not in FORMATS[format].precisions:
        known = (f"{name} in {', '.join(some.precisions)}" for name, some in FORMATS.items())
        raise ValueError(f"{format} in {precision} is not known: expected {'; '.join(known)}")
    _check_runtime(format)
    refuse_rounding(model)
    if None in model.input_shape[1:3]:
        raise ValueError("an export has one size: create the model with an input_shape")
    if precision == "int8" and (calibration is None or not len(calibration)):
        raise ValueError("int8 needs calibration=, a split such as dataset.train, or pictures")


def _check_runtime(format):
    import keras

    _check_installed(format, FORMATS[format].needs)
    if format != "keras" and keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"{format} is written from TensorFlow, but Keras runs on {keras.backend.backend()}: "
            "set KERAS_BACKEND=tensorflow, or use format='keras'"
        )


def _check_installed(what, packages):
    missing = " ".join(_find_missing(packages)).replace("cv2", "opencv-python-headless")
    if missing:
        raise ModuleNotFoundError(
            f"{what} needs {missing}: pip install {missing}, or pip install 'seglib[deploy]'"
        )


def _find_missing(packages):
    return [name for name in packages if importlib.util.find_spec(name) is None]


@contextlib.contextmanager
def _quiet():
    """Hide what runtimes and converters print; sys.stderr stays, as loggers keep it."""
    level = logging.root.manager.disable
    with (
        _hiding,
        open(os.devnull, "w") as nothing,
        system.redirect((1, 2), nothing),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
    ):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)


class Format(NamedTuple):
    """How a model is written and read, in which precisions, and the packages that this takes.

    `write(network, folder, precision, pictures)` writes `model.*` or `saved_model`; the network is
    a keras.Model from pictures, 0 to 255, to probabilities, `pictures` are float32, for int8.
    `read(folder, precision)` returns that function, of uint8 batches `(n, height, width,
    channels)`; it takes the first package only.
    """

    write: Callable
    read: Callable
    precisions: tuple
    needs: tuple = ()

    @property
    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return _find_missing(self.needs)


def _one_by_one(score):
    """Return a function of uint8 batches from one of single float32 pictures."""
    return lambda batch: np.concatenate([score(image[None]) for image in np.float32(batch)])


def _in_bfloat16(network):
    """Return a copy that computes in bfloat16; its weights stay float32."""
    from seglib.models import copy_model, set_precision

    network = copy_model(network)
    set_precision(network, "mixed_bfloat16")
    return network


def _trace(network, batch_size=None):
    """Return a tf.Module with weights and a function: converters take half as long for it."""
    import tensorflow as tf

    picture = tf.TensorSpec((batch_size, *network.input_shape[1:]), tf.float32, name="image")
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    module.serve = tf.function(lambda image: network(image, training=False), [picture])
    return module


def _write_keras(network, folder, precision, pictures):
    network = _in_bfloat16(network) if precision == "bfloat16" else network
    network.save(folder / "model.keras")


def _read_keras(folder, precision):
    from seglib.losses import choose_jit
    from seglib.runs import load_model

    network = load_model(folder / "model.keras")
    network.compile(jit_compile=choose_jit())
    return network.predict_on_batch


def _write_savedmodel(network, folder, precision, pictures):
    import tensorflow as tf  # Keras 3.15's own `export` writes each weight twice

    module = _trace(_in_bfloat16(network) if precision == "bfloat16" else network)
    tf.saved_model.save(module, str(folder / "saved_model"), signatures=module.serve)


def _read_savedmodel(folder, precision):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / "saved_model"))  # kept alive: it owns the weights
    return lambda batch: np.asarray(loaded.serve(tf.constant(batch, tf.float32)))


def _write_litert(network, folder, precision, pictures):
    """Input and output stay float32 in int8 too."""
    import tensorflow as tf

    module = _trace(network, batch_size=1)
    function = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ([picture[None]] for picture in pictures)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    (folder / "model.tflite").write_bytes(converter.convert())


def _read_litert(folder, precision):
    if importlib.util.find_spec("ai_edge_litert"):
        from ai_edge_litert.interpreter import Interpreter
    else:  # the older one, which TensorFlow brings
        from tensorflow.lite.python.interpreter import Interpreter
    file = str(folder / "model.tflite")
    interpreter = Interpreter(model_path=file, num_threads=count_processors())
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def score(picture):
        interpreter.set_tensor(source["index"], picture)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return _one_by_one(score)


def _write_onnx(network, folder, precision, pictures):
    """Weights of int8 have 7 bits, here and in OpenVINO, for processors without VNNI.

    They add up in 16 bits, which 8 overflow: on CamVid that cost 8 points of mean IoU, there 3.
    """
    import keras

    file, prepared = folder / "model.onnx", folder / "prepared.onnx"
    picture = keras.InputSpec("float32", (1, *network.input_shape[1:]), name="image")
    network.export(file, format="onnx", verbose=False, input_signature=[picture])
    if precision == "int8":
        from onnxruntime import InferenceSession, quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        quant_pre_process(file, prepared, skip_symbolic_shape=True)  # the shapes are fixed
        name = InferenceSession(prepared).get_inputs()[0].name
        inputs = iter([{name: picture[None]} for picture in pictures])
        reader = types.SimpleNamespace(get_next=lambda: next(inputs, None))
        options = {"activation_type": quantization.QuantType.QUInt8, "reduce_range": True}
        quantization.quantize_static(prepared, file, reader, per_channel=True, **options)
        prepared.unlink()


def _read_onnx(folder, precision):
    from onnxruntime import InferenceSession

    session = InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return _one_by_one(lambda picture: session.run(None, {name: picture})[0])


def _write_openvino(network, folder, precision, pictures):
    import openvino
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as holder:  # under Python 3.13 it takes no Keras model
        module = _trace(network, batch_size=1)
        tf.saved_model.save(module, holder, signatures=module.serve)
        converted = openvino.convert_model(holder)
    if precision == "int8":
        import nncf
        import rich

        rich.get_console().is_jupyter = False  # bars of text, which are hidden, not widgets
        batches, fix = nncf.Dataset([picture[None] for picture in pictures]), nncf.OverflowFix
        options = nncf.AdvancedQuantizationParameters(overflow_fix=fix.ENABLE)  # in all layers
        converted = nncf.quantize(
            converted, batches, subset_size=len(pictures), advanced_parameters=options
        )
    half = precision != "float32"
    openvino.save_model(converted, folder / "model.xml", compress_to_fp16=half)


def _read_openvino(folder, precision):
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY"}
    if precision != "int8":  # some processors would rather compute float32 in bfloat16
        settings["INFERENCE_PRECISION_HINT"] = "bf16" if precision == "bfloat16" else "f32"
    compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", settings)
    return _one_by_one(lambda picture: np.array(compiled({0: picture})[0]))


_FLOATS, _FOUR = ("float32", "bfloat16"), ("float32", "float16", "bfloat16", "int8")
_ONNX, _NNCF = ("onnxruntime", "onnx", "tf2onnx"), ("openvino", "nncf")
FORMATS = {
    "keras": Format(_write_keras, _read_keras, _FLOATS),
    "savedmodel": Format(_write_savedmodel, _read_savedmodel, _FLOATS),
    "litert": Format(_write_litert, _read_litert, ("float32", "float16", "int8")),
    "onnx": Format(_write_onnx, _read_onnx, ("float32", "int8"), _ONNX),
    "openvino": Format(_write_openvino, _read_openvino, _FOUR, _NNCF),
}


@dataclasses.dataclass(eq=False, repr=False)
class DeploymentCard:
    """What `compare_exports` measured.

    Args:
        table: DataFrame by (model, format, precision): `megabytes`; `parameters`; `network_ms`, the
            median of the network alone; `p50_ms`, `p95_ms` and `p99_ms`, from picture to label map;
            `agreement`, the share of pixels labelled as by the first model in float32; `mean_iou`;
            `change` from that model's with its 95 % interval, `change_low` and `change_high`.
        missing: dict format -> message, of the formats that cannot be written here.
    """

    table: pd.DataFrame
    missing: dict

    def choose(self, *, within=None, max_size=None) -> dict:
        """Return the row of the most accurate export that is fast and small enough.

        Args:
            within: seconds, or str such as "5ms": what 95 % of the pictures may take.
            max_size: bytes, or str such as "3MB", that the folder may have.

        Raises:
            ValueError: nothing is; the message tells the nearest.
        """
        seconds = np.inf if within is None else system.parse_duration(within)
        size = np.inf if max_size is None else system.parse_size(max_size)
        latency, megabytes = self.table["p95_ms"], self.table["megabytes"]
        fits = (latency <= 1e3 * seconds) & (megabytes <= size / 1e6)
        if not fits.any():
            raise ValueError(
                f"nothing fits within={within}, max_size={max_size}: the fastest is "
                f"{latency.idxmin()} with {latency.min():.1f} ms at p95, the smallest "
                f"{megabytes.idxmin()} with {megabytes.min():.1f} MB"
            )
        best = self.table[fits].sort_values(["mean_iou", "p50_ms"], ascending=[False, True])
        return best.reset_index().iloc[0].to_dict()

    def write(self, folder: str | os.PathLike) -> pathlib.Path:
        """Write `exports.csv` and `exports.png` to a folder, and return its path."""
        from seglib.plots import keep_figure, plot_tradeoff

        folder = system.make_folder(folder, "the deployment card")
        with system.replacing(folder / "exports.csv") as temporary:
            self.table.round(5).to_csv(temporary)
        figure = plot_tradeoff(self.table, ["p50_ms", "megabytes"], "mean_iou")
        keep_figure(figure, folder / "exports.png")
        return folder

    def __repr__(self):
        return "\n".join([self.table.round(3).to_string(), *self.missing.values()])


def compare_exports(
    models: Any, split: Any, *, calibration: Any, variants=None, folder=None
) -> DeploymentCard:
    """Export a model in several ways, and measure size, speed and what is lost.

    Args:
        models: keras.Model, or dict of names and models, such as a model and what `prune_channels`
            made of it. The first in float32 is what the others are compared with.
        split: Split with at least one pair, at the pictures' own sizes.
        calibration: as of `export`: training pictures, not those of `split`.
        variants: pairs of format and precision; None for all whose runtime is installed, without
            bfloat16 where the processor has no units for it.
        folder: str or path, where exports stay, as `model_format_precision`; None throws them away.

    Raises:
        ValueError: the split is empty or of other classes; or as `export`, before the first.
    """
    if not len(split):
        raise ValueError("the split is empty: expected at least one pair to measure on")
    models, missing, possible = models if isinstance(models, dict) else {"model": models}, {}, []
    for name in FORMATS:
        try:
            _check_runtime(name)
            possible += [(name, precision) for precision in FORMATS[name].precisions]
        except (ModuleNotFoundError, RuntimeError) as error:
            missing[name] = str(error)
    if variants is None:
        variants = [x for x in possible if x[1] != "bfloat16" or system.has_bfloat16_units()]
    variants = dict.fromkeys([("keras", "float32"), *map(tuple, variants)])
    jobs = [(name, *variant) for name in models for variant in variants]
    for name, *variant in jobs:  # before the first has taken a minute
        _check_export(models[name], *variant, calibration)
    rows, first = {}, None
    with tempfile.TemporaryDirectory() as temporary:
        for name, format, precision in system.show_progress(jobs, desc="exporting", unit="export"):
            path = pathlib.Path(folder or temporary, f"{name}_{format}_{precision}")
            export(models[name], path, format=format, precision=precision, calibration=calibration)
            predictor = load_predictor(path)
            row = {"megabytes": predictor.megabytes, "parameters": models[name].count_params()}
            measured, first = _measure(predictor, split, first)
            rows[name, format, precision] = row | measured
    table = pd.DataFrame.from_dict(rows, orient="index")
    return DeploymentCard(table.rename_axis(["model", "format", "precision"]), missing)


def _measure(predictor, split, first):
    """Return columns of the card, and labels and matrices of the first predictor."""
    ignored = {"ignore_label": split.classes.ignore_label}
    truths, labels, latencies = zip(*predicting.label_split(predictor, split), strict=True)
    matrices = [
        reports.confusion_matrix(*pair, num_classes=split.classes.num_classes, **ignored)
        for pair in zip(truths, labels, strict=True)
    ]
    shape, ticks = (1, *predictor.size, predictor.channels), []
    small = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for _ in range(22):
        predictor.score(small)
        ticks.append(1e3 * time.perf_counter())
    first = first or (labels, matrices)
    same = np.concatenate([(a == b).ravel() for a, b in zip(labels, first[0], strict=True)])
    both = np.stack([matrices, first[1]], axis=1)  # resampled together

    def change(both):
        scores = reports.mean_iou(both, **ignored)
        return scores[..., 0] - scores[..., 1]

    low, high = reports.bootstrap_interval(both, change)
    return {
        "network_ms": float(np.median(np.diff(ticks))),
        **{f"p{share}_ms": np.percentile(latencies, share) for share in (50, 95, 99)},
        "agreement": same.mean(),
        "mean_iou": reports.mean_iou(np.sum(matrices, axis=0), **ignored),
        "change": change(both.sum(axis=0)),
        "change_low": low,
        "change_high": high,
    }, first


class Frame(NamedTuple):
    """A labelled frame: RGB, ids, RGB with the classes' colours, and frames a second of late."""

    image: np.ndarray
    labels: np.ndarray
    overlay: np.ndarray
    rate: float


def predict_video(model: Any, source: Any, output=None) -> Iterator[Frame] | pathlib.Path:
    """Label a video, a camera or any other stream of frames, and paint the classes over it.

    Reading, labelling and showing overlap. Of a camera only the newest frame is ever labelled.

    Args:
        model: as of `seglib.predict`.
        source: str or path of a video, int number of a camera, or iterable of uint8 RGB frames
            `(height, width, 3)`.
        output: str or path of the video to write: .mp4, .webm (which browsers play), .avi or .mkv
            (lossless), at the source's frames a second; there only when whole. None gives frames.

    Returns:
        Without `output` a generator of Frame, with it the video's path. Closed early, the generator
        ends its threads; Ctrl-C ends the recording of a camera, and the file is kept.

    Raises:
        ModuleNotFoundError: OpenCV is not installed; only iterables without `output` need none.
        ValueError: the source holds no frame or a wrong one, or `output` is of no known kind.
        OSError: the source cannot be read, or the output not be written.
    """
    scorer = predicting.get_scorer(model)
    is_live = isinstance(source, int)
    is_file = isinstance(source, str | os.PathLike)
    if is_live or is_file or output is not None:
        _check_installed("a video", ("cv2",))
    if output is not None:
        output = pathlib.Path(output)
        if output.suffix.lower() not in CODECS:
            raise ValueError(f"{output} is no video to write: expected {', '.join(CODECS)}")
        if output.exists() and is_file and output.samefile(source):
            raise ValueError(f"{output} is the source, which would be lost: choose another output")
        system.make_folder(output.parent, "the video")
    if is_live or is_file:  # last, so that nothing refused keeps a camera
        images, rate = _open_video(source if is_live else os.fspath(source))
    else:  # copies, as some sources fill one buffer again and again
        images, rate = (np.array(frame) for frame in source), 25
    labelled = _label(scorer, _run_ahead(images, newest=is_live))
    frames = _run_ahead(labelled, newest=is_live and output is None)
    return frames if output is None else _write_video(frames, output, rate, is_live)


def _open_video(source):
    """Return a generator of frames and how many there are a second."""
    import cv2

    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        name = f"camera {source}" if isinstance(source, int) else source
        raise OSError(f"{name} is not there, in use, or no video that OpenCV can read")
    rate = capture.get(cv2.CAP_PROP_FPS)

    def read():
        try:
            while (answer := capture.read())[0]:
                yield cv2.cvtColor(answer[1], cv2.COLOR_BGR2RGB)
        finally:
            capture.release()

    return read(), rate if 0 < rate <= 300 else 25  # some tell the unit of their clock instead


def _run_ahead(items, *, newest):
    """Yield what a generator yields, in a thread; `newest` skips what was not taken in time."""
    results, closed = queue.Queue(2), threading.Event()

    def clear():
        with contextlib.suppress(queue.Empty):
            while True:
                results.get_nowait()

    def work():
        try:
            with contextlib.closing(items):
                for item in items:
                    if newest:
                        clear()
                    results.put(item)
                    if closed.is_set():
                        break
            results.put(None)
        except BaseException as error:  # a SystemExit too belongs to who takes the items
            results.put(error)

    thread = threading.Thread(target=work, name="seglib-stream", daemon=True)
    thread.start()
    try:
        while (item := results.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        clear()  # makes room for the item and the end that may still be put
        thread.join(5)  # nothing can wake a thread whose camera hangs


def _label(scorer, images):
    classes = scorer.classes or create_class_table([f"class_{i}" for i in scorer.ids])
    times = collections.deque([time.perf_counter()], 30)
    with contextlib.closing(images):
        for image in images:
            labels = predicting.predict(scorer, image)
            tints = Image.fromarray(classes.colors.take(labels, axis=0))
            overlay = np.array(Image.blend(Image.fromarray(image), tints, 0.5))
            times.append(time.perf_counter())
            rate = (len(times) - 1) / max(times[-1] - times[0], 1e-6)
            yield Frame(image, labels, overlay, rate)
    if len(times) == 1:
        raise ValueError("the source holds no frame that can be read")


def _write_video(frames, path, rate, is_live):
    """Write the overlays of frames to a file that is whole or absent, and return its path."""
    import cv2

    with system.replacing(path) as temporary, contextlib.closing(frames):
        first = next(frames)
        size, codec = first.image.shape[1::-1], cv2.VideoWriter_fourcc(*CODECS[path.suffix.lower()])
        writer, count = cv2.VideoWriter(str(temporary), codec, rate, size), 0
        with contextlib.suppress(KeyboardInterrupt if is_live else ()):
            for frame in itertools.chain([first], frames):
                if frame.image.shape[1::-1] != size:  # OpenCV would leave it out silently
                    raise ValueError(f"a frame is not of size {size}: a video has one size")
                writer.write(cv2.cvtColor(frame.overlay, cv2.COLOR_RGB2BGR))
                count += 1
        writer.release()
        written = cv2.VideoCapture(str(temporary))  # OpenCV does not tell a full disk
        written.set(cv2.CAP_PROP_POS_FRAMES, count - 1)
        is_whole = written.get(cv2.CAP_PROP_FRAME_COUNT) >= count and written.read()[0]
        written.release()
        if not is_whole:
            raise OSError(f"{path} cannot be written: is the disk full? Or try .avi or .webm")
    return path
