import pytest

from seglib.units import format_duration, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("11h30m", 41400), ("90s", 90), ("1.5h", 5400), ("1d 2H", 93600), (7, 7), (0.5, 0.5),
     ("12", 12), (".5m", 30)],
)  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "h", "-3", 0, "0s", "1h-5m", "inf", None, True])
def test_what_is_no_duration_says_what_one_looks_like(text):
    with pytest.raises(ValueError, match='expected a duration such as "11h30m"'):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("19GB", 19e9), ("1.5 mb", 1.5e6), (2048, 2048), ("3k", 3000), ("7B", 7)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["big", "-1GB", None, "1PBB", ""])
def test_what_is_no_size_says_what_one_looks_like(text):
    with pytest.raises(ValueError, match='expected a size such as "19GB"'):
        parse_size(text)


def test_durations_are_written_for_people():
    texts = [format_duration(seconds) for seconds in (0.123, 59, 59.7, 3599.8, 86400)]
    assert texts == ["0.12 s", "59 s", "60 s", "1 h 0 min", "24 h 0 min"]
