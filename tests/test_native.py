"""C beside Python: compiled once, called as an operation of PyTorch's, and done without where it can't be."""

import subprocess
from pathlib import Path

import pytest
import torch

from o2okit import native
from o2okit.errors import UserError
from o2okit.methods import neighbours
from o2okit.training.recording import Recorder

TEXT = """#include <stdint.h>
int64_t twice(int64_t size, double more, const float *x, float *y) {
    for (int64_t i = 0; i < size; i++) y[i] = 2 * x[i] + more;
    return size;
}
"""
have_compiler = pytest.mark.skipif(
    native.compiled(neighbours.SOURCE) is None, reason="no compiler here"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("CC", native.FLAG):
        monkeypatch.delenv(name, raising=False)
    native.compiled.cache_clear()
    yield tmp_path / "cache" / "o2okit"
    native.compiled.cache_clear()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "twice.c"
    path.write_text(TEXT)
    return path


@have_compiler
def test_a_file_is_compiled_once_and_anew_when_it_changes(source, cache, monkeypatch):
    x, y = torch.arange(3.0), torch.zeros(3)
    assert native.call(native.compiled(source).twice, 3, 0.5, x, y)() == 3
    assert y.tolist() == [0.5, 2.5, 4.5]
    (made,) = cache.iterdir()
    native.compiled.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
        assert native.compiled(source) is not None
    source.write_text(TEXT.replace("2 * x", "3 * x"))
    native.compiled.cache_clear()
    native.call(native.compiled(source).twice, 3, 0.5, x, y)()
    assert y.tolist() == [0.5, 3.5, 6.5]
    assert len(list(cache.iterdir())) == 2
    assert made in cache.iterdir()


@pytest.mark.parametrize(("name", "value"), [(native.FLAG, "0"), ("CC", "no-such-compiler")])
def test_without_a_compiler_there_is_none(source, monkeypatch, recwarn, name, value):
    monkeypatch.setenv(name, value)
    assert native.compiler() is None
    assert native.compiled(source) is None
    assert len(recwarn) == 0


@have_compiler
@pytest.mark.parametrize("why", ["no C", "no folder", "no library"])
def test_where_it_cannot_be_compiled_there_is_none_and_a_warning(source, cache, monkeypatch, why):
    if why == "no C":
        source.write_text("int twice(")
    elif why == "no folder":
        cache.parent.write_text("a file")
    else:  # what lies there is not what it should be
        monkeypatch.setattr(subprocess, "run", lambda command, **_: Path(command[-2]).touch())
    with pytest.warns(UserWarning, match=r"twice\.c could not be compiled .* O2OKIT_NATIVE=0"):
        assert native.compiled(source) is None
    assert not list(cache.parent.rglob("*.tmp"))


def test_only_0_and_1_are_allowed(source, monkeypatch):
    monkeypatch.setenv(native.FLAG, "no")
    with pytest.raises(UserError, match="O2OKIT_NATIVE must be 0 or 1; got 'no'"):
        native.compiled(source)


@have_compiler
def test_a_replay_calls_c_on_the_same_memory():
    places, there = torch.tensor([[4, 4, 9]]), torch.ones(1, 3, dtype=torch.bool)
    recorder = Recorder("cpu")

    def work():
        counts, first = neighbours.distinct(places, there)
        return counts.clone(), first + 0

    for drawn in ([4, 4, 9], [1, 2, 3], [7, 8, 8], [5, 5, 5], [6, 1, 6], [2, 2, 1]):
        places.copy_(torch.tensor([drawn]))
        counts, first = recorder("bonus", work)
        expected = [drawn.index(place) for place in drawn]
        assert first.tolist() == [expected]
        assert counts.tolist() == [[at == i for i, at in enumerate(expected)]]
    assert recorder.recorded
