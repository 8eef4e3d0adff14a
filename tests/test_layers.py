import ast
from importlib.util import resolve_name
from pathlib import Path

import pytest

import o2okit

PACKAGE = Path(o2okit.__file__).parent
RANKS = {
    "errors": 0,
    "profiles": 0,
    "streams": 0,
    "hyper": 0,
    "paths": 0,
    "revision": 0,
    "files": 0,
    "native": 1,
    "source": 1,
    "tasks": 1,
    "data": 1,
    "nn": 1,
    "backbones": 2,
    "methods": 3,
    "training": 4,
    "registry": 4,
    "report": 5,
    "result": 6,
    "papers": 6,
    "experiment": 7,
    "batch": 7,
    "comparison": 8,
    "cli_kit": 9,
    "cli": 9,
    "cli_batch": 9,
    "cli_data": 9,
    "doctor": 9,
}
BESIDE = {("data", "tasks")}  # of equal rank, and still allowed
FACADES = ("o2okit", "o2okit.cli")  # their imports inside functions reach up, to start quickly
MODULES = {
    ".".join(("o2okit", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
UNSAFE = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNPICKLING = {"torch.load", "pandas.read_pickle", "numpy.load"}


def layer(module):
    """``o2okit.nn.stacked`` -> ``nn``; the package itself -> ``""``."""
    return module.partition(".")[2].partition(".")[0]


def is_package(module):
    return module in MODULES and MODULES[module].name == "__init__.py"


def imports(tree, module="", lazy=True):
    """The full names that some code imports; without ``lazy`` not those inside functions."""
    nodes = ast.walk(tree) if lazy else eager(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if is_package(module) else module.rpartition(".")[0]
                base = resolve_name("." * node.level + base, package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def eager(node):
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from eager(child)


def wrong_imports(module, tree):
    """What a module imports from a layer that it must not know."""
    mine = layer(module)
    for name in imports(tree, module, lazy=module not in FACADES):
        theirs = layer(name)
        if name.split(".")[0] != "o2okit" or theirs == mine or theirs not in RANKS:
            continue  # a library, the own layer, or `import o2okit` for its version
        down = bool(mine) and RANKS[theirs] < RANKS[mine]
        if not down and RANKS[theirs] > 0 and (mine, theirs) not in BESIDE:
            yield name


def unpickling(tree):
    """Imports and calls that can execute what a file says."""
    names = set(imports(tree))
    yield from (name for name in names if name.split(".")[0] in UNSAFE or name in UNPICKLING)
    short = {"torch": "torch", "pd": "pandas", "np": "numpy", "pandas": "pandas", "numpy": "numpy"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{short.get(node.value.id, node.value.id)}.{node.attr}"
            if name in UNPICKLING:
                yield name
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            yield node.arg


@pytest.fixture(params=MODULES)
def module(request):
    return request.param


@pytest.fixture
def tree(module):
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def test_every_part_of_the_package_has_its_rank():
    parts = {layer(module) for module in MODULES} - {""}
    assert parts == set(RANKS)


def test_imports_point_one_way(module, tree):
    assert list(wrong_imports(module, tree)) == []


def test_a_backbone_knows_no_method():
    backbones = [module for module in MODULES if layer(module) == "backbones"]
    trees = {module: ast.parse(MODULES[module].read_text(encoding="utf-8")) for module in backbones}
    known = {(m, name) for m, tree in trees.items() for name in imports(tree, m)}
    assert {(m, name) for m, name in known if layer(name) == "methods"} == set()
    assert any(layer(name) == "nn" for _, name in known)


def test_what_is_imported_from_the_package_exists(module, tree):
    ours = {name for name in imports(tree, module) if name.startswith("o2okit.")}
    assert {n for n in ours if n not in MODULES and n.rpartition(".")[0] not in MODULES} == set()


def test_nothing_is_ever_unpickled(module, tree):
    assert list(unpickling(tree)) == []


# --- the rules above can fail ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("o2okit.nn.stacked", "from o2okit.training import train", ["o2okit.training.train"]),
        ("o2okit.nn.stacked", "def f():\n  import o2okit.cli", ["o2okit.cli"]),
        ("o2okit.nn.stacked", "from o2okit import papers", ["o2okit.papers"]),
        ("o2okit.nn.stacked", "from ..data import Batch", ["o2okit.data.Batch"]),
        ("o2okit.nn", "from . import x\nfrom .. import cli", ["o2okit.cli"]),
        ("o2okit.nn.stacked", "from .other import x\nfrom o2okit import streams", []),
        ("o2okit.backbones.iql", "from o2okit.methods.base import M", ["o2okit.methods.base.M"]),
        ("o2okit.data.maze", "from o2okit.tasks import task", []),
        ("o2okit.tasks.maze", "from o2okit.data import Batch", ["o2okit.data.Batch"]),
        ("o2okit.errors", "from o2okit.nn import Adam", ["o2okit.nn.Adam"]),
        ("o2okit.papers.gde.x", "import o2okit.training.train, torch, o2okit", []),
        ("o2okit.cli", "def f():\n  from o2okit.papers import study", []),
        ("o2okit", "from o2okit.papers import study", ["o2okit.papers.study"]),
        ("o2okit", "def f():\n  from o2okit.papers import study", []),
    ],
)
def test_an_import_that_points_up_is_seen(module, source, found):
    assert list(wrong_imports(module, ast.parse(source))) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", ["pickle"]),
        ("def f():\n  from pickle import loads", ["pickle.loads"]),
        ("from torch import load", ["torch.load"]),
        ("import torch\ntorch.load('x')", ["torch.load"]),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", ["allow_pickle", "numpy.load"]),
        ("pd.read_pickle('x')", ["pandas.read_pickle"]),
        ("from safetensors.torch import load", []),
        ("json.load(file)", []),
    ],
)
def test_unpickling_is_seen(source, found):
    assert sorted(unpickling(ast.parse(source))) == found
