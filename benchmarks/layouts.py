"""Run notebooks 1 to 4 on two data sets of each kind, with nothing but the path of the data.

The data sets are built from rows of tests/layouts.csv. No class table, mask folder or split is
given.

python benchmarks/layouts.py [NAME …]
"""

import argparse
import csv
import pathlib
import sys
import tempfile
import time

import papermill

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from test_layouts import ROWS, build  # noqa: E402

RESULTS = ROOT / "benchmarks/results/layouts.csv"
COLUMNS = ["kind", "data_set", "notebook", "seconds", "outcome"]
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="data sets; default: two of each kind")
    names = parser.parse_args().names
    rows = {row["data_set"]: row for row in ROWS}
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for kind, pair in KINDS.items():
            for name in pair:
                if names and name not in names:
                    continue
                folder = pathlib.Path(tempfile.mkdtemp())
                (folder / "data").mkdir()
                build(folder / "data", rows[name])
                for notebook in sorted((ROOT / "notebooks").glob("0[1-4]*.ipynb")):
                    start = time.perf_counter()
                    outcome = run_notebook(notebook, folder, folder / "data")
                    seconds = round(time.perf_counter() - start)
                    values = (kind, name, notebook.stem, seconds, outcome)
                    writer.writerow(dict(zip(COLUMNS, values, strict=True)))
                    file.flush()
                    print(*values, sep=", ")


if __name__ == "__main__":
    main()
