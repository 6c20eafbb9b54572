import numpy as np
import pandas as pd
import pytest

from seglib.balance import choose_method, compare_methods, find_rare
from seglib.classes import ClassTable

#            plain        a                 b
SCORES = {
    ("cross-entropy", 0): (0.9, 0.8, 0.1),
    ("cross-entropy", 1): (0.8, 0.8, 0.2),
    ("a", 0): (0.9, 0.7, 0.3),
    ("a", 1): (0.8, 0.7, 0.4),
    ("b", 0): (0.5, 0.7, 0.9),
    ("b", 1): (0.5, 0.7, 0.9),
    ("c", 2): (0.9, 0.9, 0.9),
}
ROWS = pd.DataFrame(
    [
        {"method": method, "seed": seed, "class": name, "iou": iou}
        for (method, seed), ious in SCORES.items()
        for name, iou in zip(("road", "car", "pole"), ious, strict=True)
    ]
)


def test_methods_are_compared_seed_by_seed():
    table = compare_methods(ROWS, rare=["pole"])
    assert list(table.index[:3]) == ["b", "a", "cross-entropy"]
    a = table.loc["a"]
    assert a["seeds"] == 2
    assert a["rare_iou"] == pytest.approx(0.35)
    assert (a["rare_iou_low"], a["rare_iou_high"]) == (0.3, 0.4)
    assert a["common_iou"] == pytest.approx((0.8 + 0.75) / 2)
    assert a["rare_gain"] == pytest.approx(0.2)
    assert a["gain"] == pytest.approx(0.1 / 3)
    assert table.loc["b", "rare_gain"] == pytest.approx((0.8 + 0.7) / 2)
    assert np.isnan(table.loc["c", "rare_gain"])


def test_the_chosen_method_does_not_cost_the_others_much():
    rows = ROWS.copy()
    rows.loc[(rows["method"] == "b") & (rows["class"] != "pole"), "iou"] = 0.3
    assert choose_method(compare_methods(ROWS, rare=["pole"])) == "b"
    assert choose_method(compare_methods(rows, rare=["pole"])) == "a"
    lucky = ROWS[(ROWS["method"] != "b") | (ROWS["seed"] == 0)]
    assert choose_method(compare_methods(lucky, rare=["pole"])) == "a"  # b has one seed alone
    worse = rows[rows["method"].isin(["cross-entropy", "b"])]
    assert choose_method(compare_methods(worse, rare=["pole"])) == "cross-entropy"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rare": ["tram"]}, r"no classes \['tram'\]"),
        ({"rare": ["pole"], "baseline": "nothing"}, "no method 'nothing'"),
    ],
)
def test_what_is_not_there_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        compare_methods(ROWS, **options)


def test_rare_is_what_has_less_than_a_quarter_of_an_equal_share():
    names = ["road", "car", "pole", "sign", "void"]
    table = ClassTable(names, [(i, i, i) for i in range(5)], ignore_label=4)
    # Of 100 scored pixels an equal share is 25, a quarter of it 6.25; sign has none.
    assert find_rare([[44, 7, 3, 0, 900], [43, 0, 3, 0, 0]], table) == {"pole": 0.06}
    assert find_rare([[44, 0, 7, 0, 0], [44, 7, 0, 0, 0]], table) == {}
    with pytest.raises(ValueError, match="no pixel of a scored class"):
        find_rare([[0, 0, 0, 0, 9]], table)
