import itertools
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib import splitting
from seglib.images import DatasetError
from seglib.splitting import deal_out, read_splits, write_splits

FRACTIONS = (0.7, 0.15, 0.15)
some_fractions = st.sampled_from([FRACTIONS, (0.6, 0.2, 0.2), (0.5, 0.5, 0), (1, 0, 0), (0, 1, 0)])


def split_of_each(dealt, count):
    """Split of each item; an item that is in no split, or in two, fails."""
    items = [(item, name) for name, chosen in dealt.items() for item in chosen]
    assert sorted(item for item, _ in items) == list(range(count))
    return np.array([name for _, name in sorted(items)])


def shares(dealt, amounts):
    """Array (splits, classes): share of each class that each split holds."""
    return np.stack([amounts[chosen].sum(axis=0) for chosen in dealt.values()]) / amounts.sum(0)


def draw_presence(count, num_classes, seed=0):
    """Pixels of classes from rare to common."""
    random = np.random.default_rng(seed)
    chance = np.geomspace(20 / count, 0.9, num_classes)
    pixels = random.lognormal(6, 1.5, (count, num_classes)).astype(int) + 1
    return (random.random((count, num_classes)) < chance) * pixels


# Items that stand alone


def test_the_seed_gives_the_same_split_on_every_machine():
    dealt = deal_out(40)
    assert dealt["val"] == [1, 3, 10, 18, 22, 34]
    assert dealt["test"] == [2, 4, 11, 23, 24, 27]
    assert [len(chosen) for chosen in dealt.values()] == [28, 6, 6]
    assert deal_out(40, seed=1) != dealt
    assert list(dealt) == ["train", "val", "test"]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 20, 101])
@pytest.mark.parametrize("fractions", [FRACTIONS, (0.5, 0.5, 0), (1, 0, 0), (0, 0.5, 0.5)])
def test_rounding_favours_train_and_no_item_is_dropped(count, fractions):
    dealt = deal_out(count, fractions=fractions)
    split_of_each(dealt, count)
    for fraction, chosen in zip(fractions, dealt.values(), strict=True):
        assert abs(len(chosen) - fraction * count) < 2
        assert count < 3 or len(chosen) > 0 or fraction == 0
        assert chosen == sorted(chosen)


def test_train_gets_an_item_even_where_the_others_round_up():
    dealt = deal_out(3, fractions=(0.01, 0.98, 0.01))
    assert [len(chosen) for chosen in dealt.values()] == [1, 1, 1]


def test_groups_of_one_are_items():
    assert deal_out([f"picture {i}" for i in range(40)]) == deal_out(40)


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.4, 0.4), (1.2, -0.1, -0.1)])
def test_fractions_add_up_to_1(fractions):
    with pytest.raises(ValueError, match="expected three fractions that add up to 1, received"):
        deal_out(9, fractions=fractions)


# Groups


@settings(deadline=None, max_examples=60)
@given(
    groups=st.lists(st.integers(0, 30), min_size=3, max_size=120),
    fractions=some_fractions,
    num_classes=st.integers(0, 5),
    seed=st.integers(0, 3),
)
def test_no_group_is_on_both_sides(groups, fractions, num_classes, seed):
    if len(set(groups)) < 3:
        groups = [*groups, 31, 32, 33]
    presence = draw_presence(len(groups), num_classes, seed) if num_classes else None
    dealt = deal_out(groups, fractions=fractions, seed=seed, presence=presence)
    split = split_of_each(dealt, len(groups))
    for group in set(groups):
        assert len(set(split[np.array(groups) == group])) == 1
    for fraction, chosen in zip(fractions, dealt.values(), strict=True):
        assert (len(chosen) > 0) == (fraction > 0)
    assert deal_out(groups, fractions=fractions, seed=seed, presence=presence) == dealt


def all_ways(groups):
    """Every assignment of up to 7 groups to three splits that leaves none empty."""
    for way in itertools.product(range(3), repeat=max(groups) + 1):
        if set(way) == {0, 1, 2}:
            yield np.array(way)[groups]


def count_missing(split, presence):
    return sum(not presence[split == k, c].any() for c in range(presence.shape[1]) for k in range(3)
               if presence[:, c].any())  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 40), min_size=3, max_size=7))
def test_sizes_are_as_near_as_any_assignment_of_the_groups(sizes):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    wanted = np.array(FRACTIONS) * len(groups)

    def off(split):
        return np.abs(np.bincount(split, minlength=3) - wanted).sum()

    dealt = deal_out(groups.tolist())
    found = np.abs([len(chosen) for chosen in dealt.values()] - wanted).sum()
    # Deviations are compared in parts of a million of all items.
    assert found <= min(map(off, all_ways(groups))) + 1e-5 * len(groups)


@settings(deadline=None, max_examples=40)
@given(num_groups=st.integers(3, 7), num_classes=st.integers(1, 4), seed=st.integers(0, 999))
def test_all_classes_are_covered_where_any_assignment_covers_them(num_groups, num_classes, seed):
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_groups), random.integers(1, 9, num_groups))
    there = random.random((num_groups, num_classes)) < 0.7
    presence = there[groups] & (random.random((len(groups), num_classes)) < 0.6)
    split = split_of_each(deal_out(groups.tolist(), presence=presence), len(groups))
    found = count_missing(np.searchsorted(["test", "train", "val"], split), presence)
    assert (found == 0) == any(count_missing(way, presence) == 0 for way in all_ways(groups))


@pytest.mark.parametrize("seed", range(30))
def test_the_search_for_many_groups_is_near_the_best_of_few(monkeypatch, seed):
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(8), random.integers(5, 15, 8)).tolist()
    presence = draw_presence(len(groups), 3, seed)
    best = deal_out(groups, presence=presence)
    monkeypatch.setattr(splitting, "ALL_ASSIGNMENTS", 0)
    found = deal_out(groups, presence=presence)
    off, least = (
        np.abs(shares(dealt, np.column_stack([np.ones(len(groups)), presence])).T - FRACTIONS).sum()
        for dealt in (found, best)
    )
    assert off < 1.5 * least + 0.2
    assert (shares(found, presence) > 0).sum() >= (shares(best, presence) > 0).sum() - 1


def test_a_class_of_too_few_groups_is_in_train():
    """Classes 0 and 1 are in one and two of twelve groups."""
    groups = np.repeat(np.arange(12), 4)
    presence = np.stack([groups == 3, (groups == 5) | (groups == 8)], axis=1)
    for seed in range(5):
        found = shares(deal_out(groups.tolist(), presence=presence, seed=seed), presence)
        assert found[0].tolist() == [1, 0.5]
        assert (found[:, 1] > 0).sum() == 2


def test_a_rare_class_is_in_every_split():
    """A random deal puts three of three hundred into all splits once in ten times."""
    for seed in range(10):
        presence = np.zeros((300, 2), bool)
        presence[np.random.default_rng(seed).permutation(300)[:3], 0] = True
        presence[:, 1] = True
        dealt = deal_out(300, presence=presence, seed=seed)
        assert [presence[chosen, 0].sum() for chosen in dealt.values()] == [1, 1, 1]
        assert [len(chosen) for chosen in dealt.values()] == [210, 45, 45]


def test_class_shares_are_near_the_fractions():
    presence = draw_presence(2000, 12)
    dealt = deal_out(2000, presence=presence)
    assert [len(chosen) for chosen in dealt.values()] == [1400, 300, 300]
    off = np.abs(shares(dealt, presence).T - FRACTIONS).max(axis=1)
    at_random = np.abs(shares(deal_out(2000), presence).T - FRACTIONS).max(axis=1)
    assert off.max() < 0.1
    assert off.mean() < 0.5 * at_random.mean()


def test_names_of_groups_need_no_order():
    """Strings, whose hash differs in every process, numbers and tuples."""
    for number, held_out in ((6, [[5], [4]]), (20, [[1, 5, 10], [12, 15, 17]])):
        groups = np.arange(100) % number
        presence = np.arange(300).reshape(100, 3) ** 2 % 7
        names = np.array([f"scene {group}" for group in groups])
        by_name = deal_out(names, presence=presence)
        assert by_name == deal_out(groups.tolist(), presence=presence)
        assert by_name == deal_out([(name, 1) for name in names], presence=presence)
        found = [sorted(set(groups[by_name[split]].tolist())) for split in ("val", "test")]
        assert found == held_out  # the same on every machine


def test_fifty_thousand_items_take_seconds():
    presence = draw_presence(50_000, 32)
    start = time.perf_counter()
    dealt = deal_out(50_000, presence=presence)
    assert time.perf_counter() - start < 20  # 1.4 s on two quiet cores
    assert (shares(dealt, presence) > 0).all()
    assert [len(chosen) for chosen in dealt.values()] == [35_000, 7_500, 7_500]


def test_pixels_of_a_million_large_pictures_do_not_overflow():
    presence = np.array([[2**52, 1], [2**51, 0], [2**51, 1], [2**51, 1]] * 4)
    found = shares(deal_out(16, fractions=(0.5, 0.25, 0.25), presence=presence), presence)
    np.testing.assert_allclose(found.T, [[0.5, 0.25, 0.25]] * 2, atol=0.1)


def test_too_few_groups_are_refused():
    with pytest.raises(ValueError, match="2 groups cannot be dealt out to 3 splits: make"):
        deal_out(["a", "b", "a"])
    assert deal_out(["a", "b", "a"], fractions=(0.6, 0.4, 0))["train"] == [0, 2]


@pytest.mark.parametrize("presence", [np.ones((3, 2)), np.ones((4, 2), int), np.ones(3, int)])
def test_presence_of_other_items_is_refused(presence):
    with pytest.raises(ValueError, match=r"expected presence as whole numbers \(3 items, classes"):
        deal_out(3, presence=presence)


# Kept in a file


@pytest.fixture
def pairs(tmp_path):
    """Three splits of pairs with names that are hard to keep."""
    names = {"train": ["Straße, 1", 'a "quoted" name'], "val": ["写真 2"], "test": [" été\n2"]}
    return {
        split: [
            tuple(touch(tmp_path / "données" / kind / f"{stem}.png") for kind in ("image", "mask"))
            for stem in stems
        ]
        for split, stems in names.items()
    }


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_splits_that_were_written_are_read_again(tmp_path, pairs):
    root = tmp_path / "données"
    write_splits(tmp_path / "splits.csv", pairs, root)
    assert read_splits(tmp_path / "splits.csv", root) == pairs
    text = (tmp_path / "splits.csv").read_text(encoding="utf-8")
    assert text.startswith('split,image,mask\ntrain,"image/Straße, 1.png","mask/Straße, 1.png"\n')
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["splits.csv"]


def test_splits_move_with_their_folder(tmp_path, pairs):
    write_splits(tmp_path / "splits.csv", pairs, tmp_path / "données")
    (tmp_path / "données").rename(tmp_path / "elsewhere")
    moved = read_splits(tmp_path / "splits.csv", tmp_path / "elsewhere")
    assert moved["val"][0][1] == tmp_path / "elsewhere/mask/写真 2.png"


def test_masks_may_lie_outside_the_root(tmp_path, pairs):
    write_splits(tmp_path / "splits.csv", pairs, tmp_path / "données/image")
    assert "../mask/写真 2.png" in (tmp_path / "splits.csv").read_text(encoding="utf-8")
    read = read_splits(tmp_path / "splits.csv", tmp_path / "données/image")
    assert read["val"][0][1].samefile(pairs["val"][0][1])


@pytest.mark.skipif(os.name == "nt", reason="names there are Unicode")
def test_names_in_no_encoding_are_kept(tmp_path):
    file = touch(tmp_path / os.fsdecode(b"caf\xe9.png"))
    write_splits(tmp_path / "splits.csv", {"train": [(file, file)]}, tmp_path)
    assert read_splits(tmp_path / "splits.csv", tmp_path)["train"] == [(file, file)]


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path):
    touch(tmp_path / "a.png")
    text = "\ufeffsplit,image,mask\r\n\r\ntest,a.png,a.png\r\n"
    (tmp_path / "splits.csv").write_bytes(text.encode())
    assert read_splits(tmp_path / "splits.csv", tmp_path)["test"] == [(tmp_path / "a.png",) * 2]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("image,mask", "line 1: expected the columns split,image,mask, received image,mask"),
        ("", "line 1: expected the columns split,image,mask, received"),
        ("split,image,mask\ntrain,a,b\ndev,c,d", r"line 3: expected one of train, val, .*dev"),
        ("split,image,mask\ntrain,a", "line 2: expected one of train, val, test, an image and"),
        ("split,image,mask\ntrain,a,e", r"line 2: there is no file .*e: copy it there"),
        ("split,image,mask\ntrain,a,b\n\nval,a,b",
         r"line 4: .*a is in val, and already in train in line 2: remove one of the lines"),
        ("split,image,mask\ntrain,a,b\nval,c,b", r"line 3: .*b is in val, and already in train in"),
        ("split,image,mask\nval,a,b\nval,a,b", r"line 3: .*a is in val, and already in val in"),
    ],
)  # fmt: skip
def test_wrong_tables_name_the_line(tmp_path, lines, message):
    for name in "abcd":
        touch(tmp_path / name)
    (tmp_path / "splits.csv").write_text(lines)
    with pytest.raises(DatasetError, match=rf"splits.csv, {message}"):
        read_splits(tmp_path / "splits.csv", tmp_path)
