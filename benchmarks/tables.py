"""The tables in RESULTS.md, made from the rows in results/*.csv.

    python benchmarks/tables.py            # writes each between its markers in RESULTS.md
    python benchmarks/tables.py --check    # exits with 1 where a table is not up to date

Where a run has several rows, the last one counts. `KNOWN` has date, processor, commit and seed for
files that have no columns for them.
"""

import argparse
import pathlib
import re
import sys

import pandas as pd

HERE = pathlib.Path(__file__).parent
PAGE = HERE / "RESULTS.md"
MARKERS = r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)"

XEON = "Intel(R) Xeon(R) Processor, 2 cores, avx2 avx512f avx512_bf16 amx_bf16"
KNOWN = {
    "exports": {"date": "2026-11-24", "machine": XEON, "code": "46d6436", "seed": 0},
    "exports_avx2": {
        "date": "2026-11-27",
        "machine": "AMD EPYC, 2 cores, avx2",
        "code": "a0c045a",
        "seed": 2,
    },
    "imbalance": {"date": "2026-11-24", "machine": XEON, "code": "863f722"},
    "layouts": {"machine": "AMD EPYC, 2 cores, avx2", "seed": 0},
}
TRAINING_PAIRS = 367  # of CamVid
UNITS = {  # what a processor's fastest unit is called, the fastest first
    "amx_bf16": "AMX with bfloat16",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512f": "AVX-512",
    "avx2": "AVX2 alone",
}
PRESETS = ["original", "fast", "default", "scratch", "best", "smp"]
# Notes of the runs of presets that are shown. LOG.md has the others, which are trials.
BATCHES_OF_4 = "train.batch_size=4"
TWO_HOURS = (
    "prepare.image_size=(360,480) model.input_shape=(240,320,3) augment.size=(240,320) "
    "train.batch_size=8 train.validate_every=4"
)
NOTES = {
    "": "",
    "train.batch_size=8": " in batches of 8",
    TWO_HOURS: " at 240×320 in batches of 8",
}
VARIANTS = {
    "deeplabv3plus": "DeepLabV3+",
    "fcn": "FCN-8s",
    "unet": "U-Net",
    "unetpp": "U-Net++",
    "segnet": "SegNet",
    "unetpp pretrained": "U-Net++ of `fast` (EfficientNet-Lite0 from ImageNet)",
    "unetpp scratch": "U-Net++ of `scratch` (half the resolution)",
    "unetpp se": "`scratch` with SE",
    "unetpp + heads": "`scratch` with boundary and presence heads",
    "unetpp cbam": "`scratch` with CBAM",
}
RARE = ("Bicyclist", "Pedestrian", "Column_Pole", "SignSymbol", "Fence")


def read(name):
    """Read the rows of a file; those without a commit only where none has one."""
    texts = dict.fromkeys(("date", "machine", "code", "note"), str)
    rows = pd.read_csv(HERE / f"results/{name}.csv", dtype=texts)
    known = KNOWN.get(name, {}).items()
    rows = rows.assign(**{column: value for column, value in known if column not in rows})
    rows = rows[rows["code"].notna()] if rows["code"].notna().any() else rows.fillna({"code": "?"})
    rows["bf16"] = rows["machine"].str.contains("bf16")
    rows["processor"] = rows["bf16"].map({True: "bfloat16", False: "AVX2 alone"})
    return rows.fillna({"note": ""}) if "note" in rows else rows


def keep_last(rows, *key):
    return rows.drop_duplicates([*key, "bf16"], keep="last")


def name_machine(machine):
    """`AMD EPYC, 2 cores, AVX2 alone` for what `timing.describe_machine` says."""
    name, *cores, units = machine.split(", ")
    unit = next((text for unit, text in UNITS.items() if unit in units.split()), units)
    return ", ".join([re.sub(r"\(R\)|Processor", "", name).strip(), *cores, unit])


def join(values):
    return ", ".join(dict.fromkeys(map(str, values)))


def signed(value):
    return f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0.0"


def percent(shares, text="{:.1f}".format):
    """The mean in percent, with the lowest and the highest where there are several."""
    values = [100 * share for share in shares]
    mean = round(sum(values) / len(values), 6)  # versions of pandas differ in the last bits
    spread = f" ({text(min(values))} to {text(max(values))})" if len(values) > 1 else ""
    return text(mean) + spread


def count_steps(runs):
    """`470 to 535 × 4`: steps and the pairs of each."""
    pairs = (runs["epochs"] * TRAINING_PAIRS / runs["steps"]).round().astype(int)
    steps = dict.fromkeys([runs["steps"].min(), runs["steps"].max()])
    return f"{' to '.join(map(str, steps))} × {join(pairs)}"


# Each returns the rows of a table, the command that made them, and the lines that are shown.


def make_presets():
    rows = read("camvid")
    rows = keep_last(rows[rows["note"].isin(NOTES)], "preset", "budget_s", "seed", "note")
    rows["faster"] = ~rows["bf16"]
    rows["order"] = rows["preset"].map(PRESETS.index)
    lines = [
        {
            "processor": runs["processor"].iloc[0],
            "preset": f"`{PRESETS[order]}`, {budget / 60:g} minutes{NOTES[note]}",
            "seeds": len(runs),
            "steps × pairs": count_steps(runs),
            "pixel accuracy, %": percent(runs["pixel_accuracy"]),
            "mean IoU, %": percent(runs["mean_iou"]),
            "mirrored too": percent([runs["mean_iou_flip"].mean()]),
            "commit": join(runs["code"]),
        }
        for (_, order, budget, note), runs in rows.groupby(["faster", "order", "budget_s", "note"])
    ]
    return rows, "`python benchmarks/camvid.py fast default scratch smp --seeds 0 1 2`", lines


def make_ablation():
    rows = keep_last(read("ablation"), "preset", "budget_s", "seed", "note")
    names = rows["note"].str.replace(BATCHES_OF_4, "").str.strip()
    rows = rows.assign(changed=names, small=rows["note"].str.contains(BATCHES_OF_4))
    same = ["bf16", "small", "seed"]
    whole = rows[rows["changed"] == "nothing"].set_index(same)["mean_iou"].rename("whole")
    rows = rows.join(whole, on=same)
    rows["change"] = rows["mean_iou"] - rows["whole"]
    kinds = [runs for _, runs in rows.groupby(["bf16", "small", "changed"])]
    kinds.sort(key=lambda runs: (runs["bf16"].iloc[0], -runs["change"].mean()))
    lines = [
        {
            "processor": runs["processor"].iloc[0],
            "changed": runs["changed"].iloc[0],
            "seeds": len(runs),
            "steps × pairs": count_steps(runs),
            "mean IoU, %": percent(runs["mean_iou"]),
            "difference, seed by seed": percent(runs["change"], signed),
        }
        for runs in kinds
    ]
    command = "`python benchmarks/ablation.py`, on AVX2 with `--set train.batch_size=4`"
    return rows, command, lines


def make_architectures():
    rows = keep_last(read("architectures"), "variant", "budget_s", "optimizer", "seed")
    rows["order"] = rows["variant"].map(list(VARIANTS).index)
    lines = [
        {
            "network": list(VARIANTS.values())[order],
            "optimizer": optimizer,
            "seeds": len(runs),
            "million parameters": f"{runs['parameters'].mean() / 1e6:.2f}",
            "steps of 16": round(runs["steps"].mean()),
            "ms an image": f"{runs['ms'].mean():.1f}",
            "mean IoU, %": percent(runs["mean_iou"]),
        }
        for (optimizer, order), runs in rows.groupby(["optimizer", "order"])
    ]
    return rows, "`python benchmarks/architectures.py --seeds 0 1 2`", lines


def make_imbalance():
    rows, lines = read("imbalance"), []
    for method, part in rows.groupby("method"):
        groups = {"rare": part["class"].isin(RARE), "common": ~part["class"].isin(RARE)}
        iou = {name: part[chosen].groupby("seed")["iou"].mean() for name, chosen in groups.items()}
        every = part.groupby("seed")["iou"].mean()
        lines.append(
            {
                "method": method,
                "seeds": len(every),
                "rare classes, %": percent(iou["rare"]),
                "common ones, %": percent([iou["common"].mean()]),
                "all, %": percent([every.mean()]),
            }
        )
    lines.sort(key=lambda line: -float(line["rare classes, %"].split()[0]))
    return rows, "`python benchmarks/imbalance.py --seeds 0 1 2`", lines


def make_exports():
    files, lines = {"AMX": read("exports"), "AVX2": read("exports_avx2")}, {}
    for unit, rows in files.items():
        for row in rows[rows["model"] != "zeros"].to_dict("records"):
            key = row["model"] != "whole", row["format"], row["precision"]
            line = lines.setdefault(key, {"model": row["model"], "export": " ".join(key[1:])})
            low, high = signed(100 * row["change_low"]), signed(100 * row["change_high"])
            line |= {
                "MB": f"{row['megabytes']:.1f}",
                f"{unit}: network, ms": f"{row['network_ms']:.1f}",
                f"{unit}: `predict` p50, p95, ms": f"{row['p50_ms']:.1f}, {row['p95_ms']:.1f}",
                f"{unit}: mean IoU, %": percent([row["mean_iou"]]),
                f"{unit}: change": f"{signed(100 * row['change'])} ({low} to {high})",
            }
    width = max(map(len, lines.values()))  # of what was measured on both
    shown = [line for _, line in sorted(lines.items()) if len(line) == width]
    command = "`python benchmarks/inference.py --run RUN --tuned outputs/tuned`"
    return pd.concat(files.values()), command, shown


def make_instances():
    rows = keep_last(read("instances"), "trained", "separated_by", "seed")
    rows = rows[rows["separated_by"] != "boundary 0.7"]
    rows["trained"] = rows["trained"].replace({"truth": "true label maps"})
    lines = [
        {
            "trained": trained,
            "separated by": separated,
            "seeds": len(runs),
            "panoptic quality, %": percent(runs["pq"]),
            "of cars": percent(runs["pq_Car"]),
            "of bicycles": percent(runs["pq_Bicyclist"]),
        }
        for (trained, separated), runs in rows.groupby(["trained", "separated_by"], sort=False)
    ]
    return rows, "`python benchmarks/instances.py --seeds 0 1 2`", lines


KILLED = {
    "tensorflow": "runs killed, TensorFlow",
    "jax": "runs killed, JAX",
    "pipelines": "pipelines killed",
    "power cuts": "pipelines after a power cut",
}


def make_kills():
    rows = read("kill")
    newest = rows.groupby("backend")["code"].transform("last")
    rows = rows[rows["code"] == newest]
    lines = [
        {
            "tried": KILLED.get(backend, backend),
            "Keras": join(runs["keras"]),
            "times": runs["kills"].sum(),
            "arrays or files that differ": runs["differences"].sum(),
            "commit": join(runs["code"]),
        }
        for backend, runs in rows.groupby("backend", sort=False)
    ]
    return rows, "`python benchmarks/kill.py`", lines


def make_layouts():
    rows = read("layouts")
    lines = [
        {
            "kind of data": kind,
            "data sets": "; ".join(own["data_set"].unique()),
            "notebooks": len(own),
            "that ran to their end": (own["outcome"] == "done").sum(),
            "seconds": own["seconds"].sum(),
        }
        for kind, own in rows.groupby("kind", sort=False)
    ]
    return rows, "`python benchmarks/layouts.py`", lines


TABLES = {
    "presets": make_presets,
    "ablation": make_ablation,
    "architectures": make_architectures,
    "imbalance": make_imbalance,
    "exports": make_exports,
    "instances": make_instances,
    "layouts": make_layouts,
    "kills": make_kills,
}


def make_table(name):
    """Return a table as Markdown, with a line below that says where its rows come from."""
    rows, command, lines = TABLES[name]()
    columns = list(lines[0])
    cells = [columns, ["---"] * len(columns), *([str(line[c]) for c in columns] for line in lines)]
    text = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    about = [
        command,
        "; ".join(dict.fromkeys(map(name_machine, rows["machine"]))),
        f"commit {join(rows['code'])}",
        f"seed {join(sorted(rows['seed']))}",
        " to ".join(dict.fromkeys([rows["date"].min(), rows["date"].max()])),
    ]
    return f"{text}\n\n{' · '.join(about)}\n"


def fill(page):
    """Return a page with a new table between each pair of markers."""
    return re.sub(MARKERS, lambda m: f"{m[1]}{make_table(m[2])}{m[3]}", page, flags=re.DOTALL)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    old = PAGE.read_text(encoding="utf-8")
    new = fill(old)
    if options.check and new != old:
        sys.exit(f"{PAGE} is not up to date: run python benchmarks/tables.py")
    if not options.check:
        PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
