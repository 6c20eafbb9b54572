"""Run notebooks 1 to 4 on two data sets of each kind, with nothing but the path of the data.

    python benchmarks/layouts.py            # all: a row a notebook in results/layouts.csv
    python benchmarks/layouts.py Severstal  # one data set

The data sets are built from rows of tests/layouts.csv. No class table, mask folder or split is
given. Rows that are there are skipped, so that the campaign may be stopped and carried on.
"""

import argparse
import csv
import datetime
import pathlib
import sys
import tempfile
import time

import papermill
from kill import describe_code

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from test_layouts import ROWS, build  # noqa: E402

RESULTS = ROOT / "benchmarks/results/layouts.csv"
COLUMNS = ["date", "code", "kind", "data_set", "notebook", "seconds", "outcome"]
KINDS = {
    "known, colours": ("CamVid", "UAVid"),
    "known, ids": ("Cityscapes, ids", "ADE20K, scene parsing"),
    "known, palette": ("Pascal VOC", "Mapillary Vistas 1.2"),
    "objects": ("Cityscapes, objects", "KITTI semantic, objects"),
    "a test without masks": ("TGS", "Carvana"),
    "several readings": ("DRIVE", "HRF"),
    "tables of tools": ("CVAT, segmentation mask", "datumaro, dataset_meta.json"),
    "run lengths": ("Severstal", "Airbus"),
    "COCO": ("COCO, instances", "Roboflow, COCO"),
    "polygons": ("labelme, JSON", "COCO, instances"),
    "polygons of other tools": ("YOLO, polygons", "Supervisely, JSON"),
    "several mask files": ("DSB 2018", "IDRiD"),
}


def run_notebook(notebook, folder, data):
    """Return in words how a notebook ended."""
    settings = {
        "DATA_DIR": str(data),
        "OUTPUT_DIR": str(folder / "output"),
        "CACHE_DIR": str(folder / "cache"),
        "EPOCHS": 1,
        "IMAGE_SIZE": 64,
    }
    known = papermill.inspect_notebook(notebook)
    settings = {name: value for name, value in settings.items() if name in known}
    try:
        papermill.execute_notebook(
            notebook, folder / notebook.name, settings, cwd=ROOT, progress_bar=False
        )
    except papermill.PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}".partition("\n")[0]
    return "done"


def run_all(row):
    """Yield how each of the four notebooks ended on the data set of a row of layouts.csv."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "data").mkdir()
        build(folder / "data", row)
        for notebook in sorted((ROOT / "notebooks").glob("0[1-4]*.ipynb")):
            start = time.perf_counter()
            outcome = run_notebook(notebook, folder, folder / "data")
            yield notebook.stem, round(time.perf_counter() - start), outcome


def read_done():
    """Names of the data sets that have their rows already."""
    if not RESULTS.is_file():
        return set()
    with open(RESULTS, newline="", encoding="utf-8") as file:
        return {row["data_set"] for row in csv.DictReader(file)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="data sets; default: two of each kind")
    names, done = parser.parse_args().names, read_done()
    rows = {row["data_set"]: row for row in ROWS}
    is_new, start = not RESULTS.is_file(), [datetime.date.today().isoformat(), describe_code()]
    with open(RESULTS, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        for kind, pair in KINDS.items():
            for name in pair:
                if name in done or (names and name not in names):
                    continue
                for values in run_all(rows[name]):
                    writer.writerow([*start, kind, name, *values])
                    file.flush()
                    print(kind, name, *values, sep=", ", flush=True)


if __name__ == "__main__":
    main()
