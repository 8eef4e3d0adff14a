import pytest

from o2okit.files import replacing


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "new" / "x"
    with replacing(path) as beside:
        beside.write_text("first")
        assert not path.exists()
    with replacing(path) as beside:
        beside.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


def test_whatever_goes_wrong_the_old_file_stays_and_nothing_else(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")

    def interrupted():
        with replacing(path) as beside:
            beside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(FileNotFoundError), replacing(path):
        """Nothing is written."""
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
