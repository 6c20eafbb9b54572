import numpy as np
import pandas as pd
import pytest
from small_runs import make_dataset
from test_balance_patches import make_rare_dataset

import seglib
from seglib.balance import BlendedSplit, recommending
from seglib.balance.recommending import recommend_balance

DATASET = make_rare_dataset(count=40, share=0.05)  # 7 % of the pixels; an equal share is 50 %


def make_table(**gains):
    """Methods with `(rare_gain, gain)`; names with _ for a blank."""
    rows = {"cross-entropy": (0.0, 0.0), **gains}
    return pd.DataFrame(
        [{"seeds": 3, "rare_gain": rare, "gain": gain} for rare, gain in rows.values()],
        index=pd.Index(list(rows), name="method"),
    )


TABLE = make_table(
    **{
        "cross-entropy + Dice": (0.08, 0.03),
        "weights: inverse frequency": (0.12, -0.05),  # costs the others too much
        "sampling: images": (0.02, 0.0),
        "patches: smote": (0.03, 0.005),
    }
)


def test_the_best_that_costs_little_is_recommended_with_its_reasons():
    advice = recommend_balance(DATASET, table=TABLE)
    assert (advice.loss, advice.sampling) == ("cross-entropy + Dice", None)
    assert advice.rare == ["car"]
    text = repr(advice)
    share = np.mean(DATASET.train.labels[DATASET.train.labels != 2] == 1)
    assert f"car has {share:.2%} of the pixels" in text
    assert "cross-entropy + Dice: +8.0 points of mean IoU for rare classes, +3.0 for all" in text
    assert "3 seeds" in text
    assert "patches: smote: +3.0 points" in text
    assert "both at once were not measured" in text
    data, options = advice.apply(DATASET)
    assert data is DATASET
    assert set(options) == {"loss", "augment"}


def test_advice_is_what_train_takes(tmp_path):
    advice = recommend_balance(DATASET, table=make_table(**{"sampling: images": (0.02, 0.0)}))
    data, options = advice.apply(DATASET)
    assert type(options["loss"]).__name__ == "CrossEntropy"
    assert len(options["sampling"]) == len(data.train)
    model = seglib.create_unetpp_model((32, 32, 3), num_classes=3, filters=(4, 6))
    run = seglib.train(model, data, run_dir=tmp_path, epochs=1, **options)
    assert run.finished


def test_patches_come_with_the_data():
    table = make_table(**{"patches: smote": (0.09, 0.01), "focal": (0.08, 0.03)})
    advice = recommend_balance(DATASET, table=table)
    assert (advice.loss, advice.sampling) == ("cross-entropy", "patches: smote")
    balanced, options = advice.apply(DATASET)
    assert isinstance(balanced.train, BlendedSplit)
    assert type(options["loss"]).__name__ == "CrossEntropy"
    assert "sampling" not in options


def test_where_nothing_gains_cross_entropy_stays():
    worse = make_table(**{"focal": (-0.01, 0.0), "sampling: images": (0.05, -0.1)})
    advice = recommend_balance(DATASET, table=worse)
    assert (advice.loss, advice.sampling) == ("cross-entropy", None)
    assert "no other loss gained" in repr(advice)


def test_without_a_rare_class_nothing_is_made_up_for():
    advice = recommend_balance(make_dataset(), table=TABLE)
    assert (advice.loss, advice.sampling, advice.rare) == ("cross-entropy", None, [])
    assert "no class is rare" in repr(advice)


def test_a_class_without_a_pixel_is_named():
    data = make_rare_dataset()
    data.train.labels[data.train.labels == 1] = 0
    assert recommend_balance(data, table=TABLE).reasons == [
        "car has no training pixel: nothing helps",
        "no class is rare: nothing has to be made up for",
    ]


def test_data_without_any_pixel_are_refused():
    data = make_rare_dataset()
    data.train.labels[:] = 2
    with pytest.raises(ValueError, match="no pixel of a scored class"):
        recommend_balance(data, table=TABLE)


def test_without_a_table_what_was_measured_is_read_or_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(recommending, "MEASURED", tmp_path / "measured.csv")
    with pytest.raises(FileNotFoundError, match=r"nothing was measured yet.*or give table="):
        recommend_balance(DATASET)
    TABLE.to_csv(tmp_path / "measured.csv")
    assert repr(recommend_balance(DATASET)) == repr(recommend_balance(DATASET, table=TABLE))
