"""Where things lie, however someone says it."""

from pathlib import Path

import pytest

from o2okit import UserError, paths
from o2okit.cli import main
from o2okit.data import sources
from o2okit.training import RunStore
from o2okit.training.obtain import dataset

VARIABLES = {
    "O2OKIT_RUNS": paths.runs,
    "O2OKIT_DATA_DIR": sources.kit_folder,
    "D4RL_DATASET_DIR": sources.d4rl_folder,
    "MINARI_DATASETS_PATH": sources.minari_folder,
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("O2OKIT_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "someone"))
    return tmp_path


@pytest.mark.parametrize(("variable", "folder"), VARIABLES.items(), ids=VARIABLES)
def test_a_relative_folder_is_the_same_from_wherever_it_is_asked(
    project, monkeypatch, variable, folder
):
    """A notebook's kernel starts in the notebook's folder."""
    monkeypatch.setenv(variable, "elsewhere/x")
    (project / "notebooks").mkdir()
    for start in (project, project / "notebooks"):
        monkeypatch.chdir(start)
        assert folder() == project / "elsewhere" / "x"
    monkeypatch.setenv(variable, "~/x")
    assert folder() == project / "someone" / "x"
    monkeypatch.setenv(variable, str(project / "whole"))
    assert folder() == project / "whole"


def test_without_a_variable_data_lie_where_their_libraries_put_them(project):
    assert paths.runs() == project / "runs"
    assert sources.kit_folder() == project / "data"
    assert sources.d4rl_folder() == Path.home() / ".d4rl" / "datasets"
    assert sources.minari_folder() == Path.home() / ".minari" / "datasets"


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_unknown_users_folder_is_refused(project, monkeypatch, variable):
    monkeypatch.setenv(variable, "~nosuchuser/x")
    with pytest.raises(UserError, match="'~nosuchuser/x': there is no such user"):
        VARIABLES[variable]()


@pytest.mark.parametrize("folder", [sources.d4rl_folder, sources.minari_folder])
def test_without_a_home_the_whole_path_is_asked_for(project, monkeypatch, folder):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it gives then
    with pytest.raises(UserError, match="no home is known"):
        folder()


def test_where_the_working_directory_was_deleted_the_package_says_where_it_is(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("O2OKIT_HOME", raising=False)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert paths.home() == Path(paths.__file__).parents[1]


@pytest.mark.parametrize(
    "variable", ["O2OKIT_DATA_DIR", "D4RL_DATASET_DIR", "MINARI_DATASETS_PATH"]
)
def test_a_folder_that_may_not_be_searched_is_named(project, monkeypatch, variable):
    """``chmod`` does not stop root, as whom tests may run."""
    stat, closed = Path.stat, project / "closed"

    def refuse(path, **options):
        if closed in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setenv(variable, str(closed))
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(UserError, match=rf"closed/.*can't be looked at: Permission.*{variable}"):
        sources.find("pen-cloned-v1")


def test_a_closed_folder_does_not_hide_a_file_in_an_earlier_place(project, monkeypatch):
    name, stat = sources.FILES["pen-cloned-v1"].name, Path.stat
    (project / "mine").mkdir()
    (project / "mine" / name).write_bytes(b"x")
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(project / "mine"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(project / "closed"))
    monkeypatch.setattr(sources, "size_differs", lambda path, file: "")

    def refuse(path, **options):
        if project / "closed" in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    assert sources.find("pen-cloned-v1").path == project / "mine" / name
    notes = {place.path.parent.name: place.note for place in sources.where("pen-cloned-v1")}
    assert notes["closed"] == "can't be looked at: Permission denied"


@pytest.mark.parametrize(
    ("variable", "look"),
    [
        ("O2OKIT_DATA_DIR", lambda: sources.find("pen-mixed", "kit")),
        ("O2OKIT_DATA_DIR", lambda: sources.find("pen-mixed", "kit", rows=100)),
        ("O2OKIT_RUNS", RunStore),
    ],
)
def test_a_folder_that_may_not_be_listed_is_not_empty(project, monkeypatch, variable, look):
    (project / "closed").mkdir()
    monkeypatch.setenv(variable, str(project / "closed"))
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "closed")
    with pytest.raises(UserError, match=r"closed'?:? can't be looked at: Permission denied\."):
        look()


def test_a_kit_file_that_may_not_be_looked_at_is_named(project, monkeypatch, capsys):
    name, stat = "kit-pen-mixed-100.hdf5", Path.stat
    (project / "data").mkdir()
    for each in (name, "kit-pen-mixed-200.hdf5", "kit-hopper-random-v2-100.hdf5"):
        (project / "data" / each).touch()
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(project / "data"))
    refuse_to = {"kit-hopper-random-v2-100.hdf5"}

    def refuse(path, **options):
        if path.name in refuse_to:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    kit = [place for place in sources.where("pen-mixed") if place.source == "kit"]
    assert [place.path.name for place in kit] == ["kit-pen-mixed-200.hdf5", name], "another task's"
    refuse_to.add(name)
    for build in (False, True):
        with pytest.raises(UserError, match="can't be looked at: Permission denied"):
            dataset("pen-mixed", rows=100, build=build)
    assert main(["data", "where", "pen-mixed"]) == 0
    said = capsys.readouterr().out
    assert "CLOSED" in said
    assert "a run is refused. Mend its permissions" in said
    assert "Delete" not in said


@pytest.mark.parametrize("source", ["~nosuchuser/x", "x" * 5_000])
def test_a_source_that_cannot_be_is_refused(project, source):
    with pytest.raises(UserError):
        sources.find("hopper-medium-v2", source)
