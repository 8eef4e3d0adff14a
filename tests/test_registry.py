"""Methods and backbones of one's own: what is refused, and whose source stands in a run's id."""

import dataclasses
import importlib.util
import itertools
import sys
import textwrap
from dataclasses import dataclass

import pytest

import o2okit
from o2okit import registry, source
from o2okit.backbones import BACKBONES, IQL, Agent, kin
from o2okit.backbones.settings import settings
from o2okit.backbones.td3_bc import TD3BC
from o2okit.errors import UserError
from o2okit.hyper import choice, per_run, static
from o2okit.methods import METHODS, Naive
from o2okit.methods.filter import Filter
from o2okit.source import is_own, version
from o2okit.tasks import task
from o2okit.training import RunSpec, capture

NUMBER = itertools.count()


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What a test registers is gone after it."""
    for table in (METHODS, BACKBONES):
        monkeypatch.setitem(table, "mine", None)
        del table["mine"]
    yield
    for name in ("own_module", "base_module"):
        sys.modules.pop(name, None)


def online(**changes) -> RunSpec:
    values = {"replay": "online", "method": "mine", **changes}
    return RunSpec("hopper", values.pop("backbone", "sac"), "online", 10, 0, **values)


@dataclass(frozen=True)
class Good:
    weight: float = per_run(1.0, "w", "test")
    layers: int = static(2, "", "test")
    kind: str = choice("a", "b", source="test")


@dataclass(frozen=True)
class Plain:
    weight: float = 1.0


class Undecorated:
    weight: float = per_run(1.0, "w", "test")


class Mine(Naive):
    Hyperparameters = Good

    def reward(self, batch):
        return batch.reward * self.hyper.weight[:, None]


def test_a_registered_method_is_one_as_any_other():
    assert o2okit.register("mine", Mine) is Mine
    spec = online(method_hyper={"weight": 2})
    assert spec.method_hyper == {"weight": 2.0, "layers": 2, "kind": "a"}
    assert spec.cohort == online(method_hyper={"weight": 3}).cohort
    with pytest.raises(UserError, match="Did you mean 'weight'"):
        online(method_hyper={"wait": 1})
    assert o2okit.register("mine", type("Again", (Mine,), {})) is METHODS["mine"], "again, replaced"


def test_a_registered_backbone_is_one_as_any_other():
    class Own(TD3BC):
        pass

    o2okit.register("mine", Own)
    assert BACKBONES["mine"] is Own
    spec = online(backbone="mine", method="qdagger", replay="online")
    assert spec.describe()["versions"]["backbone"] == version(Own) != TD3BC.version


def test_a_backbone_has_the_methods_and_settings_of_what_it_derives_from():
    class Own(IQL):
        pass

    o2okit.register("mine", Own)
    assert [kin(name) for name in ("mine", "iql", "cal-ql")] == ["iql", "iql", "cal-ql"]
    fit = {name for name, method in METHODS.items() if method.fits("mine")}
    assert fit == {name for name, method in METHODS.items() if method.fits("iql")} != set(METHODS)
    maze = task("antmaze-umaze-v2")
    assert settings("mine", maze, None) == settings("iql", maze, None)
    assert settings("mine", maze, None)["beta"] == 10.0


@dataclass(frozen=True)
class Outside:
    weight: float = per_run(-1.0, "w", "mine")


def _method(**members):
    return type("Odd", (Naive,), {"__module__": __name__, **members})


@pytest.mark.parametrize(
    ("name", "cls", "message"),
    [
        ("qcse", Mine, "the name 'qcse' is taken by QCSE"),
        ("iql", Mine, "the name 'iql' is taken by IQL"),
        ("My method", Mine, "small letters, digits, .* got 'My method'"),
        (7, Mine, "small letters"),
        ("mine", dict, "derived from o2okit.methods.Naive .* got <class 'dict'>"),
        ("mine", "Mine", "got 'Mine'"),
        ("mine", Filter, "Filter is the kit's. Derive a class of your own"),
        ("mine", _method(Hyperparameters=Plain), r"Plain\.weight must say .* per_run\(1\.0"),
        ("mine", _method(Hyperparameters=Undecorated), r"under @dataclass\(frozen=True\)"),
        ("mine", _method(Hyperparameters=None), "got None"),
        ("mine", _method(rewards=lambda self, batch: 0), "did you mean 'reward'"),
        ("mine", _method(backbone=("iql",)), "did you mean 'backbones'"),
        ("mine", type("Odd", (TD3BC,), {"actor_los": len}), "did you mean 'actor_loss'"),
        (
            "mine",
            type("Odd", (TD3BC,), {"target": lambda self, batch: 0}),
            "with self, batch, noise",
        ),
        ("mine", _method(reward=lambda self: 0), "Odd.reward is called with self, batch: too many"),
        ("mine", _method(reward=3), "3 is not a callable"),
        (
            "mine",
            _method(__init__=lambda self, agent: None),
            r"Odd\.__init__ is called with self, agent, hypers, seeds: too many",
        ),
        ("mine", _method(n_step=0), r"Odd\.n_step must be a whole number >= 1; got 0"),
        ("mine", _method(n_step=lambda self: 3), r"Odd\.n_step must be a whole number"),
        ("mine", _method(replay="onlin"), r"unknown Odd\.replay 'onlin'. Did you mean 'online'"),
        ("mine", _method(Hyperparameters=Outside), r"Outside\.weight must lie in \[0"),
        ("mine", _method(backbones="iql"), "backbones must be a tuple of names; got 'iql'"),
        ("mine", _method(backbones=("iqll",)), "Did you mean 'iql'"),
        ("mine", type("Bare", (Agent,), {"Hyperparameters": Good}), "no learn, act, greedy"),
        ("mine", type("Unset", (Agent,), {}), r"Unset\.Hyperparameters must be"),
    ],
)
def test_what_could_not_be_trained_is_refused(name, cls, message):
    before = dict(METHODS), dict(BACKBONES)
    with pytest.raises(UserError, match=message):
        o2okit.register(name, cls)
    assert before == (METHODS, BACKBONES)


def test_all_that_is_here_would_be_accepted(monkeypatch):
    """The rules above are what this package keeps to."""
    for table in (METHODS, BACKBONES):
        for cls in dict(table).values():
            own = type(cls.__name__, (cls,), {"__module__": __name__})
            assert o2okit.register("mine", own) is own
        del table["mine"]


def test_no_name_here_is_taken_for_another_misspelt():
    for cls in (*METHODS.values(), *BACKBONES.values()):
        for each, parent in itertools.pairwise(cls.__mro__[:-1]):
            known = [name for name in dir(parent) if not name.startswith("_")]
            for name in vars(each):
                if not name.startswith("_") and name not in known:
                    registry._check_name(each, name, known)


# --- source ---------------------------------------------------------------------------------------
CODE = """
    from o2okit.methods import Naive

    SCALE, TABLE = 2.0, {"a": (1, 2)}

    def helper(reward):
        return [SCALE * each for each in reward]

    def unused():
        return 1

    class Base(Naive):
        def _half(self, x):
            return x / 2

    class Mine(Base):
        \"\"\"Mine.\"\"\"
        power = 3

        def reward(self, batch):
            return helper(self._half(batch.reward))

        @property
        def n_step(self):
            return TABLE["a"][0]
"""


def written(folder, code=CODE, name="own_module") -> type:
    """The class ``Mine`` of a module with some code."""
    path = folder / f"own_{next(NUMBER)}.py"
    path.write_text(textwrap.dedent(code))
    found = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.Mine


@pytest.mark.parametrize(
    "change",
    [
        ("SCALE, TABLE = 2.0", "SCALE, TABLE = 2.5"),
        ('{"a": (1, 2)}', '{"a": (2, 2)}'),
        ("SCALE * each", "each * SCALE"),
        ("return x / 2", "return x / 3"),
        ("power = 3", "power = 4"),
        ("helper(self._half(batch.reward))", "helper(batch.reward)"),
        ("class Mine(Base)", "class Mine(Naive)"),
    ],
)
def test_what_a_method_does_is_part_of_what_a_run_is(change, tmp_path):
    before, after = written(tmp_path), written(tmp_path, CODE.replace(*change))
    assert CODE.replace(*change) != CODE
    assert version(before) != version(after)
    ids = []
    for cls in (before, after, written(tmp_path)):
        o2okit.register("mine", cls)
        ids.append(online().id)
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize(
    "change",
    [
        ("return 1", "return 7"),
        ("power = 3", "power = 3  # why"),
        ("SCALE * each for", "(SCALE  *  each) for"),
        ('"""Mine."""\n', '"""Mine."""\n\n        # a remark\n'),
    ],
)
def test_what_does_not_matter_is_not(change, tmp_path):
    assert CODE.replace(*change) != CODE
    assert version(written(tmp_path)) == version(written(tmp_path, CODE.replace(*change)))


def test_a_value_from_around_counts_and_so_does_one_changed_later(tmp_path):
    def made(scale):
        class Scaled(Naive):
            def reward(self, batch):
                return super().reward(batch) * scale

        return Scaled

    assert version(made(2.0)) == version(made(2.0)) != version(made(3.0))
    cls = written(tmp_path)
    before = version(cls)
    cls.reward.__globals__["SCALE"] = 9.0
    assert version(cls) != before


def test_what_it_takes_from_other_files_counts_and_installed_packages_do_not(tmp_path, monkeypatch):
    own = """
        from base_module import Mine as Base

        class Mine(Base):
            pass
    """

    def made(code):
        written(tmp_path, code, "base_module")
        return version(written(tmp_path, own))

    first = made(CODE)
    assert made(CODE.replace("x / 2", "x / 3")) != first == made(CODE)
    monkeypatch.setattr(source, "INSTALLED", (str(tmp_path),))
    assert made(CODE) == made(CODE.replace("x / 2", "x / 3"))


READING = """
    import enum, functools

    import numpy as np
    import torch
    import helping

    from o2okit.methods import Naive

    class Kind(enum.Enum):
        ONE = 1

    class Config:
        def __init__(self):
            self.most = 2.0

    def scaled(by):
        def decorator(function):
            @functools.wraps(function)
            def wrapper(self, batch):
                return by * function(self, batch)
            return wrapper
        return decorator

    def power(x, n):
        return x**n

    LIMIT, CONFIG, NAMES = torch.tensor([1.0, 2.0]), Config(), {"a", "b"}
    ROWS = np.arange(3)
    square = functools.partial(power, n=2)

    class Mine(Naive):
        table = {"double": lambda x: 2 * x}

        @scaled(by=3)
        def reward(self, batch):
            return helping.shape(batch.reward) + LIMIT.sum() + CONFIG.most + len(NAMES)

        def note(self, name, values, kind=Kind.ONE, *, rows=ROWS):
            import other
            return square(other.shape(self.table["double"](values)))
"""
HELPING = """
    FACTOR = 2.0

    def shape(reward):
        return FACTOR * reward
"""


@pytest.mark.parametrize(
    "change",
    [
        ("[1.0, 2.0]", "[1.0, 3.0]"),
        ("self.most = 2.0", "self.most = 3.0"),
        ('{"a", "b"}', '{"a", "c"}'),
        ("np.arange(3)", "np.arange(4)"),
        ("n=2", "n=3"),
        ("lambda x: 2 * x", "lambda x: 3 * x"),
        ("by=3", "by=4"),
        ("return by * function", "return by + function"),
        ("ONE = 1", "ONE = 2"),
        ("return x**n", "return x * n"),
        ("helping: FACTOR * reward", "FACTOR + reward"),
        ("helping: FACTOR = 2.0", "FACTOR = 3.0"),
        ("other: FACTOR * reward", "FACTOR + reward"),
    ],
)
def test_whatever_a_method_reads_counts(change, tmp_path):
    file, _, old = change[0].rpartition(": ") if ": FACTOR" in change[0] else ("", "", change[0])

    def made(new):
        for name in ("helping", "other"):
            text = HELPING.replace(old, new) if name == file else HELPING
            written(tmp_path, text + "\n    Mine = None\n", name)
        return version(written(tmp_path, READING if file else READING.replace(old, new)))

    assert old in (HELPING if file else READING)
    assert made(old) == made(old) != made(change[1])


def test_an_edited_file_does_not_change_what_runs(tmp_path):
    cls = written(tmp_path)
    o2okit.register("mine", cls)
    before = online().id
    (path,) = tmp_path.glob("own_*.py")
    path.write_text(path.read_text().replace("x / 2", "x / 4"))
    assert online().id == before


def test_what_has_no_source_is_refused():
    space = {"Naive": Naive, "__name__": "__main__"}
    exec("class Mine(Naive):\n    def reward(self, batch):\n        return batch.reward\n", space)
    with pytest.raises(UserError, match=r"source of .*reward can't be read.*in a notebook or in a"):
        o2okit.register("mine", space["Mine"])
    assert "mine" not in METHODS


def test_what_is_here_keeps_its_plain_version():
    for cls in (*METHODS.values(), *BACKBONES.values()):
        assert version(cls) == cls.version
        assert not is_own(cls)


# --- recorded --------------------------------------------------------------------------------------
def test_an_update_of_ones_own_is_not_recorded_unasked():
    class Loss(Naive):
        def critic_loss(self, batch, target, own):
            return own()

    class Own(TD3BC):
        pass

    assert capture.compared(TD3BC, Mine, "cuda")
    assert capture.compared(TD3BC, METHODS["gde"], "cuda")
    for name in ("gde", "qcse"):  # what they change may call what a derived class overrides
        assert not capture.compared(TD3BC, type("Derived", (METHODS[name],), {}), "cpu")
    assert not capture.compared(TD3BC, Loss, "cuda")
    assert not capture.compared(TD3BC, type("Later", (Loss,), {}), "cuda")
    assert not capture.compared(Own, Naive, "cuda")
    assert not capture.compared(BACKBONES["dqn"], Naive, "cuda")
    assert capture.compared(BACKBONES["dqn"], Naive, "cpu")
    assert not capture.compared(Own, Naive, "cpu")
    assert dataclasses.is_dataclass(Good)
