"""Where things lie, however someone says it."""

from pathlib import Path

import pytest

from o2okit import UserError, paths
from o2okit.data import sources

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


@pytest.mark.parametrize("source", ["~nosuchuser/x", "x" * 5_000])
def test_a_source_that_cannot_be_is_refused(project, source):
    with pytest.raises(UserError):
        sources.find("hopper-medium-v2", source)
