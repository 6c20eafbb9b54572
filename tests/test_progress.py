from seglib.progress import show_progress


def test_a_bar_goes_through_all_and_can_be_switched_off(monkeypatch, capsys):
    for value, shown in (("0", True), ("1", False)):
        monkeypatch.setenv("TQDM_DISABLE", value)
        assert list(show_progress(range(3), desc="counting", delay=0)) == [0, 1, 2]
        assert ("counting" in capsys.readouterr().err) == shown


def test_quick_work_shows_no_bar(monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert len(list(show_progress(range(3)))) == 3
    assert capsys.readouterr().err.strip() == ""
