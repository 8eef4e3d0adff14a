import ast
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from o2okit.papers import STUDIES

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = {
    path.relative_to(FOLDER).with_suffix("").as_posix(): path
    for path in sorted(FOLDER.rglob("*.ipynb"))
    if ".ipynb_checkpoints" not in path.parts
}
MOST_LINES = 60  # of code: more than that is an algorithm, and belongs in o2okit


@pytest.fixture(params=NOTEBOOKS)
def key(request):
    return request.param


@pytest.fixture
def notebook(key):
    return nbformat.read(NOTEBOOKS[key], as_version=4)


@pytest.fixture
def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def parameters_cells(code):
    return [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]


def imported(tree):
    """The top-level packages that some code imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else node.module.split(".")[0]


def test_every_study_has_its_notebook_and_every_notebook_its_study():
    assert set(NOTEBOOKS) == set(STUDIES)
    assert {key: cls.key for key, cls in STUDIES.items()} == {key: key for key in STUDIES}


def test_no_two_sections_of_a_paper_write_the_same_file():
    written = [
        (paper, name)
        for key, cls in STUDIES.items()
        for paper, section in [key.split("/")]
        for name in [section, *cls.artefacts]
    ]
    assert [each for each, number in Counter(written).items() if number > 1] == []


def test_notebook_is_stripped_of_outputs_and_counts(notebook, code):
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
    leftovers = {"papermill", "execution", "widgets"}
    assert leftovers.isdisjoint(notebook.metadata)
    assert [cell.id for cell in notebook.cells if leftovers & cell.metadata.keys()] == []


def test_notebook_is_valid_and_its_cells_have_names_that_diffs_can_use(notebook):
    nbformat.validate(notebook)
    names = [cell.id for cell in notebook.cells]
    assert len(set(names)) == len(names)
    assert notebook.metadata.kernelspec.name == "python3"


def test_one_parameters_cell_comes_before_all_other_code(code, parameters_cells):
    assert parameters_cells == code[:1]


def test_parameters_and_their_defaults_are_those_of_the_study(key, parameters_cells, monkeypatch):
    monkeypatch.delenv("O2OKIT_PROFILE", raising=False)
    given = {}
    exec(parameters_cells[0].source, given)
    tree = ast.parse(parameters_cells[0].source)
    assigned = [t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets]
    declared = STUDIES[key].parameters
    assert assigned == list(declared)
    assert {name: given[name] for name in assigned} == {
        name: parameter.default for name, parameter in declared.items()
    }


def test_the_profile_of_the_environment_is_taken(parameters_cells, monkeypatch):
    monkeypatch.setenv("O2OKIT_PROFILE", "smoke")  # nbval can't inject parameters
    given = {}
    exec(parameters_cells[0].source, given)
    assert given["profile"] == "smoke"


def test_every_parameter_reaches_the_study(key, code):
    calls = [
        node
        for cell in code
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "o2okit.study"
    ]
    assert len(calls) == 1
    assert [ast.literal_eval(argument) for argument in calls[0].args] == [key]
    passed = {keyword.arg: ast.unparse(keyword.value) for keyword in calls[0].keywords}
    assert passed == {name: name for name in STUDIES[key].parameters}


def test_code_is_plain_python_that_imports_only_o2okit(code):
    assert {name for cell in code for name in imported(ast.parse(cell.source))} == {"o2okit"}


def test_a_notebook_holds_no_algorithm(code):
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    assert 0 < len(lines) < MOST_LINES
    nodes = [node for cell in code for node in ast.walk(ast.parse(cell.source))]
    kinds = (ast.FunctionDef, ast.ClassDef, ast.While, ast.Lambda)
    assert [ast.unparse(node) for node in nodes if isinstance(node, kinds)] == []


def test_the_last_code_cell_asserts(code):
    tree = ast.parse(code[-1].source)
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def test_every_artefact_of_the_study_is_shown(key, code):
    source = "\n".join(cell.source for cell in code)
    assert [name for name in STUDIES[key].artefacts if f'"{name}"' not in source] == []
    assert "study.claims()" in source


def test_imports_are_found_wherever_they_stand():
    tree = ast.parse("import a.b, c\nif x:\n  def f():\n    from d.e import g\n    from . import h")
    assert sorted(imported(tree)) == [".", "a", "c", "d"]
