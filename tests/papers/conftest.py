import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A home of its own: figures, runs, data."""
    patch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("grid")
    patch.setenv("O2OKIT_HOME", str(folder))
    patch.setenv("O2OKIT_RUNS", str(folder / "runs"))
    patch.setenv("O2OKIT_DATA_DIR", str(folder / "data"))
    yield folder
    patch.undo()
