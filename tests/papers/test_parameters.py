import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import o2okit
from o2okit import UserError
from o2okit.papers.parameters import SOURCE, check_all, choice, names, parse, seeds
from o2okit.report.artefacts import _short, variant

SECTION = "gde/toy_maze"
PROFILES = ("smoke", "laptop", "paper")
SEEDS = ("1 to 1000", "different whole numbers >= 0", "None", "[0, 3, 4]")
DATASETS = ("scripted", "checkpoints")
DEVICES = ("auto", "cpu", "cuda")
NAMES = ("profile", "seeds", "sweep_seeds", "dataset", "device")

MALFORMED = [
    # --- names ---
    ({"profil": "smoke"}, ("'profil'", "Did you mean 'profile'?", *NAMES)),
    ({"seed": 3}, ("'seed'", "Did you mean 'seeds'", *NAMES)),
    ({"Seeds": 3}, ("'Seeds'", "Did you mean 'seeds'", *NAMES)),
    ({"sweep-seeds": 3}, ("'sweep-seeds'", "Did you mean 'sweep_seeds'", *NAMES)),
    ({"learning_rate": 1e-4}, ("'learning_rate'", *NAMES)),
    ({"": 1}, ("''", *NAMES)),
    # --- profile ---
    ({"profile": "Smoke"}, ("profile 'Smoke'", "Did you mean 'smoke'?", *PROFILES)),
    ({"profile": "labtop"}, ("profile 'labtop'", "Did you mean 'laptop'?", *PROFILES)),
    ({"profile": "paper "}, ("profile 'paper '", *PROFILES)),
    ({"profile": ""}, ("profile ''", *PROFILES)),
    ({"profile": None}, ("profile None", *PROFILES)),
    ({"profile": 0}, ("profile 0", *PROFILES)),
    ({"profile": True}, ("profile True", *PROFILES)),
    ({"profile": ["smoke"]}, ("profile ['smoke']", *PROFILES)),
    ({"profile": np.array(["smoke", "paper"])}, ("profile array", *PROFILES)),
    # --- seeds ---
    ({"seeds": "5"}, ("seeds", "'5'", *SEEDS)),
    ({"seeds": "[0, 1]"}, ("seeds", "'[0, 1]'", *SEEDS)),
    ({"seeds": "[0,"}, ("seeds", "'[0,'", *SEEDS)),
    ({"seeds": "all"}, ("seeds", "'all'", *SEEDS)),
    ({"seeds": 0}, ("seeds", "0", *SEEDS)),
    ({"seeds": -1}, ("seeds", "-1", *SEEDS)),
    ({"seeds": 1001}, ("seeds", "1001", *SEEDS)),
    ({"seeds": 5.0}, ("seeds", "5.0", *SEEDS)),
    ({"seeds": math.nan}, ("seeds", "nan", *SEEDS)),
    ({"seeds": True}, ("seeds", "True", *SEEDS)),
    ({"seeds": False}, ("seeds", "False", *SEEDS)),
    ({"seeds": []}, ("seeds", "[]", *SEEDS)),
    ({"seeds": [-1]}, ("seeds", "[-1]", *SEEDS)),
    ({"seeds": [0, 0]}, ("seeds", "[0, 0]", *SEEDS)),
    ({"seeds": [0, 1.0]}, ("seeds", "[0, 1.0]", *SEEDS)),
    ({"seeds": [True, 2]}, ("seeds", "[True, 2]", *SEEDS)),
    ({"seeds": ["0", "1"]}, ("seeds", "['0', '1']", *SEEDS)),
    ({"seeds": [[0, 1]]}, ("seeds", "[[0, 1]]", *SEEDS)),
    ({"seeds": [0, None]}, ("seeds", "[0, None]", *SEEDS)),
    ({"seeds": {0, 1}}, ("seeds", "{0, 1}", *SEEDS)),
    ({"seeds": {"seeds": 3}}, ("seeds", "{'seeds': 3}", *SEEDS)),
    ({"sweep_seeds": 0}, ("sweep_seeds", "0", *SEEDS)),
    ({"sweep_seeds": [2, 2]}, ("sweep_seeds", "[2, 2]", *SEEDS)),
    # --- dataset, device ---
    ({"dataset": "hopper-medium-v2"}, ("dataset 'hopper-medium-v2'", *DATASETS)),
    ({"dataset": "script"}, ("dataset 'script'", "Did you mean 'scripted'?", *DATASETS)),
    ({"dataset": None}, ("dataset None", *DATASETS)),
    ({"dataset": ("scripted", "checkpoints")}, ("dataset ('scripted'", *DATASETS)),
    ({"device": "gpu"}, ("device 'gpu'", *DEVICES)),
    ({"device": "cuda:0"}, ("device 'cuda:0'", "Did you mean 'cuda'?", *DEVICES)),
    ({"device": torch.device("cpu")}, ("device device(type='cpu')", *DEVICES)),
    # --- one good and one bad ---
    ({"profile": "smoke", "seeds": 2, "divice": "cpu"}, ("Did you mean 'device'?", *NAMES)),
]


@pytest.mark.parametrize("source", ["d4lr", "", None, 3, ["kit"], np.array(["kit"]), "gone.hdf5"])
def test_a_source_is_a_place_or_a_file_that_is_there(source):
    with pytest.raises(UserError, match="auto, d4rl, minari, kit or the path of a file") as error:
        SOURCE.check("source", source)
    assert repr(source) in str(error.value)


def test_numbers_and_ranges_of_numpys_and_pythons_are_seeds():
    check = seeds().check
    assert check("seeds", np.int64(2)) == check("seeds", range(2)) == [0, 1]
    found = check("seeds", np.array([3, 0]))
    assert found == [3, 0]
    assert {type(seed) for seed in found} == {int}
    for wrong in (np.array([[0, 1]]), np.array([0.5]), np.array([]), range(0), np.True_):
        with pytest.raises(UserError, match="seeds must be how many"):
            check("seeds", wrong)


def test_a_misspelt_task_among_others_is_named():
    check = names(["hopper-medium-v2", "hopper-random-v2"], doc="tasks").check
    assert check("tasks", "hopper-medium-v2") == ["hopper-medium-v2"]
    with pytest.raises(UserError, match=r"unknown task 'hoper-r.*Did you mean 'hopper-random"):
        check("tasks", ["hopper-medium-v2", "hoper-random-v2"])
    with pytest.raises(UserError, match="tasks must be None or a list of these: hopper-medium-v2"):
        check("tasks", 3)


def test_a_path_is_made_absolute_and_its_folders_are_no_part_of_file_names(tmp_path, monkeypatch):
    (tmp_path / "my data.hdf5").touch()
    monkeypatch.chdir(tmp_path)
    path = SOURCE.check("source", "my data.hdf5")
    assert path == str(tmp_path / "my data.hdf5") == SOURCE.check("source", Path("my data.hdf5"))
    assert re.fullmatch(r"my_data-[0-9a-f]{8}", _short(path))
    assert _short(path) != _short(str(tmp_path / "other" / "my data.hdf5"))
    assert SOURCE.check("source", "kit") == _short("kit") == "kit"


def test_what_differs_is_part_of_file_names():
    own = {"steps": 10, "hyper": {}, "device": "auto"}
    assert variant(own, own) == variant(own | {"device": "cpu"}, own) == ""
    assert variant({"steps": 5, "hyper": {"beta": "3"}}, own) == "steps-5_hyper-beta=3"
    name = variant({"hyper": {"hidden": "(256, 256)"}}, own)
    assert re.fullmatch(r"hyper-1-[0-9a-f]{8}", name)


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """An empty run store, which a refusal must leave empty."""
    monkeypatch.setenv("O2OKIT_HOME", str(tmp_path))
    monkeypatch.setenv("O2OKIT_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.mark.parametrize(("given", "said"), MALFORMED, ids=lambda value: str(value)[:40])
def test_a_malformed_parameter_is_refused_with_its_name_and_what_is_allowed(store, given, said):
    with pytest.raises(UserError) as refused:
        o2okit.study(SECTION, **given)
    assert [part for part in said if part not in str(refused.value)] == []
    assert list(store.iterdir()) == []


def test_a_device_that_this_machine_lacks_is_refused_at_once(store, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"device 'cuda'.*no GPU.*'auto' or 'cpu'"):
        o2okit.study(SECTION, device="cuda")
    assert list(store.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("gde/toy_mace", "Did you mean 'gde/toy_maze'"),
        ("toy_maze", "Did you mean 'gde/toy_maze'?"),
        ("GDE/TOY_MAZE", "Allowed: gde/toy_maze"),
        ("../../etc/passwd", "Allowed: gde/toy_maze"),
        ("", "Allowed: gde/toy_maze"),
        (None, "Allowed: gde/toy_maze"),
    ],
)
def test_an_unknown_section_is_refused_with_those_that_exist(store, key, said):
    with pytest.raises(UserError, match="unknown section") as refused:
        o2okit.study(key, profile="smoke")
    assert said in str(refused.value)
    assert "o2okit list" in str(refused.value)
    assert list(store.iterdir()) == []


# --- what is accepted -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "typed"),
    [
        (None, [0]),
        (1, [0]),
        (3, [0, 1, 2]),
        ([3], [3]),
        ([7, 0], [7, 0]),
        ((0, 3), [0, 3]),
        ([2**40], [2**40]),
    ],
)
def test_seeds_are_a_count_a_list_or_left_to_the_profile(given, typed):
    maze = o2okit.study(SECTION, profile="smoke", seeds=given, sweep_seeds=given)
    assert (maze.given["seeds"], maze.given["sweep_seeds"]) == (typed, typed)
    assert maze.seeds == maze.sweep_seeds == typed


def test_a_count_of_seeds_may_be_a_thousand():
    assert o2okit.study(SECTION, seeds=1000).seeds == list(range(1000))


def test_a_study_keeps_its_seeds_when_the_callers_list_changes():
    mine = [0, 1]
    maze = o2okit.study(SECTION, seeds=mine)
    mine.append(1)
    assert maze.seeds == [0, 1]


def test_what_is_left_out_takes_its_default():
    maze = o2okit.study(SECTION)
    assert maze.given == {
        "profile": "laptop",
        "seeds": [0, 1, 2, 3, 4],
        "sweep_seeds": [0, 1, 2],
        "dataset": "scripted",
        "device": "auto",
    }
    assert (maze.seeds, maze.sweep_seeds) == ([0, 1, 2, 3, 4], [0, 1, 2])


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_allowed_choice_is_accepted_as_it_is(profile, dataset):
    maze = o2okit.study(SECTION, profile=profile, dataset=dataset, device="cpu")
    given = (maze.given["profile"], maze.given["dataset"], maze.given["device"])
    assert given == (profile, dataset, "cpu")


def test_a_default_is_checked_like_a_given_value():
    broken = {"mode": choice("fast", "slow", "slower", doc="how")}
    with pytest.raises(UserError, match="unknown mode 'fast'"):
        check_all(broken, {})
    assert check_all({"seeds": seeds(2)}, {}) == {"seeds": [0, 1]}


# --- text typed at the command line ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        (" 5 ", 5),
        ("-1", -1),
        ("1e-4", 1e-4),
        ("1_000", 1000),
        ("True", True),
        ("None", None),
        ("[0, 3]", [0, 3]),
        ("0,3", (0, 3)),
        ("'5'", "5"),
        ("smoke", "smoke"),
        ("true", True),
        ("False", False),
        ("cuda:0", "cuda:0"),
        ("", ""),
        ("[0,", "[0,"),
        ("007", "007"),
    ],
)
def test_typed_text_becomes_a_python_value_or_stays_text(text, value):
    parsed = parse(text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getcwd()",
        "2**10",
        "{[1]: 2}",
        "1or",
        r"'\d",
        "-" * 5000 + "1",
        "[" * 5000,
        "9" * 5000,
        "\0",
    ],
    ids=lambda text: text[:12],
)
def test_odd_text_is_neither_run_nor_an_error_nor_a_warning(text):
    with warnings.catch_warnings(action="error"):
        assert parse(text) == text
