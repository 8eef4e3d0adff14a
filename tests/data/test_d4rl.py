import dataclasses
import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from o2okit.data import d4rl
from o2okit.data.hdf5 import read_rows, write_hdf5
from o2okit.data.rows import checked_rows, counted_timeouts
from o2okit.data.sources import FILES
from o2okit.errors import UserError
from o2okit.tasks import task

ORACLE = """
import sys, types, h5py
from d4rl import qlearning_dataset
env = types.SimpleNamespace(_max_episode_steps=int(sys.argv[3]))
with h5py.File(sys.argv[1]) as source, h5py.File(sys.argv[2], "w") as target:
    for name, case in source.items():
        data = {key: values[()] for key, values in case.items()}
        for end in (False, True):
            found = qlearning_dataset(env, data, terminate_on_end=end)
            for key, values in found.items():
                target[f"{name}/{end}/{key}"] = values
"""


def without(example, *names):
    return {name: values for name, values in example.items() if name not in names}


def read(example, tiny, mode="faithful"):
    rows = checked_rows("example", example, tiny)
    return d4rl.transitions(rows, "tiny", name="x", source="d4rl", mode=mode)


# --- the values of specs/tasks.md 8 ---------------------------------------------------------------
def test_faithful_keeps_nine_rows_and_one_terminal(example, tiny):
    data = read(example, tiny)
    assert data.rewards.tolist() == [0, 1, 2, 3, 4, 5, 7, 9, 10]
    assert (data.observations == data.rewards[:, None]).all()
    assert (data.next_observations == data.rewards[:, None] + 1).all()
    assert data.rewards[data.terminals].tolist() == [3]


def test_terminate_on_end_keeps_all_but_the_last(example, tiny):
    data = read(example, tiny, "terminate_on_end")
    assert data.rewards.tolist() == list(range(11))
    assert data.rewards[data.terminals].tolist() == [3, 8]
    assert data.rewards[data.timeouts].tolist() == [6]


def test_without_timeouts_the_horizon_counts_and_restarts_at_one_after_a_terminal(example, tiny):
    data = read(without(example, "timeouts"), tiny)
    assert data.rewards.tolist() == [0, 1, 3, 4, 6, 7, 9, 10]
    assert data.rewards[data.terminals].tolist() == [3]


def test_rows_are_n_minus_one_minus_the_timeouts(example, tiny):
    assert len(read(example, tiny)) == 12 - 1 - example["timeouts"][:-1].sum()


# --- D4RL's own function --------------------------------------------------------------------------
@pytest.mark.parametrize("horizon", [1, 2, 3, 7])
def test_random_files_give_what_d4rl_gives(tmp_path, horizon):
    draw = np.random.default_rng(horizon)
    cases = {}
    for number in range(40):
        n = int(draw.integers(3, 60))
        cases[str(number)] = {
            "observations": draw.normal(size=(n, 2)),
            "actions": draw.uniform(-1, 1, size=(n, 1)),
            "rewards": draw.normal(size=n),
            "terminals": draw.random(n) < draw.choice([0, 0.1, 0.5]),
        }
        if number % 2:
            cases[str(number)]["timeouts"] = draw.random(n) < draw.choice([0, 0.1, 0.5])
    source, target = tmp_path / "source.hdf5", tmp_path / "target.hdf5"
    with h5py.File(source, "w") as file:
        for name, case in cases.items():
            for key, values in case.items():
                file[f"{name}/{key}"] = values
    environment = {"D4RL_SUPPRESS_IMPORT_ERROR": "1", "D4RL_DATASET_DIR": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ORACLE, source, target, str(horizon)],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    tiny = dataclasses.replace(task("hopper"), obs_size=2, act_size=1, horizon=horizon)
    compared = 0
    with h5py.File(target) as file:
        for name, case in cases.items():
            rows = checked_rows(name, case, tiny)
            for mode, end in (("faithful", False), ("terminate_on_end", True)):
                theirs = {key: values[()] for key, values in file[f"{name}/{end}"].items()}
                if not len(theirs["rewards"]):
                    with pytest.raises(UserError, match="none of its"):
                        d4rl.transitions(rows, "t", name="x", source="d4rl", mode=mode)
                    continue
                ours = d4rl.transitions(rows, "t", name="x", source="d4rl", mode=mode)
                for key, values in theirs.items():
                    assert np.array_equal(getattr(ours, key), values), (name, mode, key)
                compared += 1
    assert compared > 40 or horizon == 1


def test_file_names_and_tasks_are_those_of_d4rl(tmp_path):
    code = "import d4rl.infos as i, json; print(json.dumps(i.DATASET_URLS))"
    environment = {"D4RL_SUPPRESS_IMPORT_ERROR": "1", "D4RL_DATASET_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )

    urls = json.loads(done.stdout.splitlines()[-1])
    wrong = {
        name for name, file in FILES.items() if not urls[name].endswith(f"offline_rl/{file.path}")
    }
    assert wrong == set()
    assert len(FILES) == 38


# --- what we add ----------------------------------------------------------------------------------
def test_the_last_kept_row_of_an_episode_that_was_cut_off_is_marked(example, tiny):
    data = read(example, tiny)
    # Row 6 is a time-out: 5 is marked. Row 8 has both flags and goes: 7 is marked. Row 11 is the last.
    assert data.rewards[data.timeouts].tolist() == [5, 7, 10]
    assert [data.rewards[rows].tolist() for rows in data.episodes()] == [
        [0, 1, 2, 3],
        [4, 5],
        [7],
        [9, 10],
    ]


def test_no_episode_but_one_with_an_unmarked_end_holds_a_jump(fields):
    values = fields(n=60, horizon=10)
    values["terminals"][[14, 33]] = True
    data = d4rl.transitions(checked_rows("x", values), "hopper-medium-v2", name="x", source="d4rl")
    for rows in data.episodes():
        inside = slice(rows.start, rows.stop - 1)
        following = data.observations[rows.start + 1 : rows.stop]
        assert (data.next_observations[inside] == following).all()


def test_a_timeout_right_after_a_terminal_marks_nothing(example, tiny):
    values = {**example, "timeouts": np.isin(np.arange(12), [4])}
    data = read(values, tiny)
    assert data.rewards[data.timeouts].tolist() == [10]
    assert not (data.terminals & data.timeouts).any()


def test_the_counter_is_the_loop_of_d4rl():
    draw = np.random.default_rng(0)
    for horizon in (1, 2, 5):
        terminals = draw.random(300) < 0.2
        count, expected = 0, []
        for terminal in terminals:
            final = count == horizon - 1
            expected.append(final)
            count = 0 if final else 1 if terminal else count + 1
        assert counted_timeouts(terminals, horizon).tolist() == expected


# --- the file -------------------------------------------------------------------------------------
def test_float64_and_columns_are_cast_and_squeezed(tmp_path, write, example, tiny):
    values = {name: array.astype(np.float64) for name, array in example.items()}
    for name in ("rewards", "terminals", "timeouts"):
        values[name] = values[name][:, None]
    data = d4rl.read(write(tmp_path / "x.hdf5", values), tiny)
    assert data.hash == read(example, tiny).hash
    assert data.observations.dtype == data.rewards.dtype == np.float32
    assert data.terminals.dtype == data.timeouts.dtype == bool


def test_next_observations_of_the_file_are_ignored(tmp_path, write, example, tiny):
    values = {**example, "next_observations": np.full((12, 2), 99, dtype=np.float32)}
    assert d4rl.read(write(tmp_path / "x.hdf5", values), tiny).hash == read(example, tiny).hash


def test_a_dataset_says_where_it_comes_from(tmp_path, write, example, tiny):
    path = write(tmp_path / "walk.hdf5", example)
    data = d4rl.read(path, tiny, provenance={"note": "n"})
    assert (data.name, data.source, data.task) == ("walk", "d4rl", "tiny")
    assert data.provenance == {
        "file": path.name,
        "note": "n",
        "reader": "qlearning_dataset, faithful",
        "rows": 12,
        "unfinished": False,
    }


def test_an_unknown_mode_is_refused(example, tiny):
    with pytest.raises(UserError, match=r"unknown mode 'exact'\. Allowed: faithful"):
        read(example, tiny, "exact")


def test_trajectories_hold_the_last_state_where_the_file_does(tmp_path, write, example):
    following = example["observations"] + 1
    path = write(tmp_path / "x.hdf5", {**example, "next_observations": following})
    known = read_rows(path, next_observations=True).trajectories()
    assert [len(t.rewards) for t in known] == [4, 3, 2, 3]
    assert [len(t.observations) for t in known] == [5, 4, 3, 4]
    assert known[1].observations[:, 0].tolist() == [4, 5, 6, 7]
    assert [(t.terminal, t.timeout) for t in known] == [
        (True, False),
        (False, True),
        (True, True),
        (False, True),
    ]
    assert [len(t.observations) for t in read_rows(path).trajectories()] == [4, 3, 2, 3]


def test_infos_and_the_first_rows_are_read_on_request(tmp_path, write, example, tiny):
    path = write(tmp_path / "x.hdf5", {**example, "infos/qpos": np.arange(36.0).reshape(12, 3)})
    rows = read_rows(path, tiny, rows=5, infos=["qpos"])
    assert len(rows) == 5
    assert rows.infos["qpos"].tolist() == np.arange(15.0).reshape(5, 3).tolist()
    with pytest.raises(UserError, match=r"infos/qvel is missing. The file's infos: qpos"):
        read_rows(path, infos=["qvel"])


# --- writing --------------------------------------------------------------------------------------
def test_what_is_written_is_read_back(tmp_path, example, tiny):
    values = {
        **example,
        "next_observations": example["observations"] + 1,
        "infos/qpos": np.arange(24.0).reshape(12, 2),
    }
    path = write_hdf5(tmp_path / "new" / "x.hdf5", values, {"seed": 3, "note": "Übung"})
    rows = read_rows(path, tiny, next_observations=True, infos=["qpos"])
    for name in (*example, "next_observations"):
        assert (getattr(rows, name) == values[name]).all()
    assert (rows.infos["qpos"] == values["infos/qpos"]).all()
    assert rows.provenance == {"seed": 3, "note": "Übung"}
    assert d4rl.read(path, tiny, source="kit").provenance["seed"] == 3
    assert list(tmp_path.rglob("*.tmp")) == []


def test_equal_fields_give_equal_bytes(tmp_path, example):
    a, b = (write_hdf5(tmp_path / name, example, {}).read_bytes() for name in "ab")
    assert a == b


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reward": np.zeros(12)}, r"unknown fields \['reward'\]"),
        ({"timeouts": None}, "timeouts missing"),
        ({"rewards": np.full(12, np.nan)}, "rewards are not finite"),
        ({"infos/qpos": np.zeros((11, 2))}, "infos/qpos 11"),
    ],
)
def test_malformed_fields_are_not_written(tmp_path, example, changes, said):
    values = {k: v for k, v in {**example, **changes}.items() if v is not None}
    path = write_hdf5(tmp_path / "x.hdf5", example, {})
    before = path.read_bytes()
    with pytest.raises(UserError, match=said):
        write_hdf5(path, values, {})
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path, example):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"could not write .*O2OKIT_DATA_DIR"):
        write_hdf5(tmp_path / "file" / "x.hdf5", example, {})
