"""The tables of benchmarks/RESULTS.md say what the rows in benchmarks/results say."""

import pathlib
import subprocess
import sys

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import tables  # noqa: E402


def test_results_are_up_to_date_short_and_hold_every_table_once():
    check = [sys.executable, BENCHMARKS / "tables.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    page = tables.PAGE.read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 190
    counts = {name: page.count(f"<!-- table: {name} -->") for name in tables.TABLES}
    assert counts == dict.fromkeys(tables.TABLES, 1)


def test_a_stale_table_is_made_anew_and_nothing_else_is_changed():
    filled = tables.fill("before\n<!-- table: kills -->\nstale\n<!-- end -->\nafter\n")
    assert filled.startswith("before\n<!-- table: kills -->\n")
    assert filled.endswith("<!-- end -->\nafter\n")
    assert ("stale" in filled, "| tried |" in filled) == (False, True)
    assert tables.fill(filled) == filled


def test_shares_become_percent_with_their_spread():
    assert tables.percent([0.5]) == "50.0"
    assert tables.percent([0.5, 0.6]) == "55.0 (50.0 to 60.0)"
    assert tables.percent([-0.1, 0.0], tables.signed) == "−5.0 (−10.0 to 0.0)"
