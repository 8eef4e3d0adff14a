"""AntMaze data of the kit: D4RL's recipe in the real environment, with a controller written for the test."""

import itertools

import numpy as np
import pytest
import torch

from o2okit.data import d4rl, kit, kit_antmaze, policies
from o2okit.data.hdf5 import read_rows
from o2okit.data.kit_antmaze import cells, first_of_each, goal_rows
from o2okit.data.policies import Snapshot, ladder, write_ladder
from o2okit.errors import UserError
from o2okit.tasks import task, tasks_of
from o2okit.tasks.antmaze import AntMaze
from o2okit.tasks.antmaze_maps import MAZES

UMAZE, MEDIUM, LARGE = MAZES.values()
INFOS = ("qpos", "qvel", "goal")


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A controller that moves its legs at random."""
    monkeypatch.setattr(policies, "FOLDER", tmp_path)
    rng = torch.Generator().manual_seed(0)
    layers = tuple(
        (torch.randn(b, a, generator=rng) / a**0.5, torch.zeros(b))
        for a, b in itertools.pairwise((29, 8, 16))
    )
    record = {"roles": {"controller": [{"step": 5, "share": 1.0}]}, "measure": "hops"}
    write_ladder("ant-controller", [Snapshot(5, layers, {"hops": 0.1})], record, tmp_path)


def slide(monkeypatch):
    """Ants move 0.4 m per step in the direction that the controller is told, and 0.01 by its actions."""
    act = kit_antmaze.Controller.act

    def remember(self, posture, directions):
        AntMaze.sent = directions
        return act(self, posture, directions)

    def simulate(self, model, envs, control):
        for env in envs:
            self.data[env].qpos[:2] += 0.4 * AntMaze.sent[env] + 0.01 * control[env, :2]
            np.concatenate(self._seen[env], out=self._rows[env])

    monkeypatch.setattr(kit_antmaze.Controller, "act", remember)
    monkeypatch.setattr(AntMaze, "sent", None, raising=False)
    monkeypatch.setattr(AntMaze, "_simulate", simulate)


def build(tmp_path, name, rows=2_000, file="a", **kwargs):
    path = kit.build(name, rows, tmp_path / f"{file}.hdf5", **kwargs)
    return path, read_rows(path, task(name), infos=INFOS)


# --- relabelling ----------------------------------------------------------------------------------
GOAL = np.array([1.0, 8.0])
AT, FAR = (1.0, 8.3), (5.0, 5.0)


def reached(*places, ends=()):
    timeouts = np.isin(np.arange(len(places)), ends)
    return goal_rows(np.array(places, dtype=np.float32), timeouts, GOAL).tolist()


def test_a_row_is_a_goal_row_if_the_next_one_is_at_the_goal():
    assert reached(FAR, AT, AT, FAR, FAR) == [True, True, False, False, False]
    assert reached(AT, FAR, FAR) == [False, False, False]
    assert reached((1.0, 8.0), (1.49, 8.0), (1.51, 8.0)) == [True, False, False]


def test_the_last_row_of_a_file_and_of_an_episode_leads_nowhere():
    assert reached(FAR, AT, AT) == [True, True, False]
    # Row 1 ends an episode; the next one happens to begin at the goal.
    assert reached(FAR, FAR, AT, AT, FAR, ends=[1]) == [False, False, True, False, False]
    assert reached(FAR, AT, AT, AT, ends=[1, 3]) == [True, False, True, False]


def test_of_each_success_the_first_row():
    rows = np.array([1, 1, 1, 0, 0, 1, 0, 1, 1, 0], dtype=bool)
    assert np.flatnonzero(first_of_each(rows)).tolist() == [0, 5, 7]
    assert first_of_each(np.zeros(3, dtype=bool)).tolist() == [False] * 3


# --- who starts where -----------------------------------------------------------------------------
def as_set(found):
    return {tuple(cell) for cell in np.asarray(found).tolist()}


def test_starts_and_goals_of_each_quality():
    assert cells(UMAZE, "fixed")[0] is None
    assert as_set(cells(UMAZE, "fixed")[1]) == {(3, 1)}
    for maze in (UMAZE, MEDIUM, LARGE):
        starts, goals = cells(maze, "diverse")
        assert as_set(starts) == as_set(goals) == as_set(maze.free)
    starts, goals = cells(MEDIUM, "play")
    assert as_set(goals) == {(2, 6), (5, 1), (6, 5), (6, 6)}, "D4RL's three and the evaluation goal"
    assert as_set(starts) == as_set(MEDIUM.free) - as_set(goals)
    starts, goals = cells(LARGE, "play")
    assert len(goals) == 7
    assert len(starts) == 46 - 7


# --- files ----------------------------------------------------------------------------------------
def test_a_small_file_is_sound(shipped, tmp_path):
    path, rows = build(tmp_path, "antmaze-umaze-v2")
    assert len(rows) == 2_000
    assert rows.observations.shape == (2_000, 29)
    # 700 steps and the row of the state after them; the last episode is cut off, without a mark.
    assert np.flatnonzero(rows.timeouts).tolist() == [700, 1401]
    np.testing.assert_array_equal(rows.infos["qpos"], rows.observations[:, :15])
    np.testing.assert_array_equal(rows.infos["qvel"], rows.observations[:, 15:])
    assert np.abs(rows.actions).max() <= 1
    goals = rows.infos["goal"]
    for episode in (goals[:701], goals[701:1402], goals[1402:]):
        assert (episode == episode[0]).all()
        assert UMAZE.cell(episode[0]).tolist() == [3, 1]
    assert len(np.unique(goals, axis=0)) == 3
    starts = rows.observations[[0, 701, 1402], :2]
    assert (np.abs(starts) <= 0.1).all()
    assert (np.abs(rows.observations[1402] - rows.observations[1401]) > 0.01).any()
    made = rows.provenance
    assert made["name"] == "kit-antmaze-umaze-v2"
    assert made["policies_sha256"] == ladder("ant-controller").hash
    assert made["controller"] == "SAC at 5 steps"
    assert made["goal_rows"] == int(rows.terminals.sum()) == int(rows.rewards.sum())
    assert (made["start_cells"], made["goal_cells"]) == (None, [[3, 1]])
    assert kit.outdated("antmaze-umaze-v2", made) == ""
    data = d4rl.read(path, task("antmaze-umaze-v2"), source="kit")
    assert len(data) == 2_000 - 1 - 2


def test_each_environment_has_whole_episodes(shipped, tmp_path, monkeypatch):
    slide(monkeypatch)
    _, rows = build(tmp_path, "antmaze-medium-play-v2", 4_100)
    assert np.flatnonzero(rows.timeouts).tolist() == [1000, 2001, 3002, 4003]
    starts = MEDIUM.cell(rows.observations[[0, 1001, 2002, 3003], :2])
    assert as_set(starts) <= as_set(cells(MEDIUM, "play")[0])
    assert as_set(MEDIUM.cell(rows.infos["goal"])) <= as_set(cells(MEDIUM, "play")[1])


def test_the_controller_is_steered_towards_the_planners_waypoint(shipped, tmp_path, monkeypatch):
    """At the start of the umaze the way is along x; what the controller is told is recorded."""
    told = []
    act = kit_antmaze.Controller.act

    def record(self, posture, directions):
        told.append((posture.copy(), directions.copy()))
        return act(self, posture, directions)

    monkeypatch.setattr(kit_antmaze.Controller, "act", record)
    _, rows = build(tmp_path, "antmaze-umaze-v2", 700)
    posture, direction = told[0]
    np.testing.assert_array_equal(posture, rows.observations[:1, 2:])
    np.testing.assert_allclose(np.linalg.norm(direction, axis=1), 1)
    assert direction[0, 0] > 0.9


def test_equal_seeds_give_equal_files_and_v0_has_v2s_rows(shipped, tmp_path):
    first, rows = build(tmp_path, "antmaze-umaze-diverse-v2", 700, "a")
    again, _ = build(tmp_path, "antmaze-umaze-diverse-v2", 700, "b")
    assert first.read_bytes() == again.read_bytes()
    _, other = build(tmp_path, "antmaze-umaze-diverse-v2", 700, "c", seed=1)
    assert (other.observations[:50] != rows.observations[:50]).any()
    _, old = build(tmp_path, "antmaze-umaze-diverse-v0", 700, "d")
    for name in ("observations", "actions", "rewards", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(old, name), getattr(rows, name))
    assert old.provenance["name"] == "kit-antmaze-umaze-diverse-v0"


@pytest.mark.parametrize("switch", ["sampled", "legacy_cell", "legacy_noise", "stay"])
def test_switches_change_the_data_and_are_recorded(shipped, tmp_path, monkeypatch, switch):
    slide(monkeypatch)
    _, ours = build(tmp_path, "antmaze-medium-diverse-v2", 1_000, "a")
    _, theirs = build(tmp_path, "antmaze-medium-diverse-v2", 1_000, "b", **{switch: True})
    assert (ours.observations[:, :2] != theirs.observations[:, :2]).any()
    assert not any(ours.provenance["switches"].values())
    switched = {name for name, value in theirs.provenance["switches"].items() if value}
    assert switched == {switch}
    name = "antmaze-medium-diverse-v2"
    assert f"with the switches {switch}" in kit.outdated(name, theirs.provenance)
    assert kit.outdated(name, theirs.provenance, **{switch: True}) == ""
    assert "with no switches" in kit.outdated(name, ours.provenance, **{switch: True})


def test_a_switch_that_the_recipe_has_not_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"unknown switch .*'stai'\. Did you mean 'stay'"):
        build(tmp_path, "antmaze-umaze-v2", stai=True)
    with pytest.raises(UserError, match="unknown switch for the locomotion tasks 'stay'"):
        build(tmp_path, "hopper-random-v2", stay=True)


def expected_rows(rows, goal):
    """Row by row, as the spec words it."""
    found = []
    for i in range(len(rows)):
        inside = i + 1 < len(rows) and not rows.timeouts[i]
        near = inside and np.linalg.norm(rows.observations[i + 1, :2] - np.array(goal)) <= 0.5
        found.append(bool(near))
    return np.array(found)


def test_rewards_are_those_of_one_evaluation_goal(shipped, tmp_path, monkeypatch):
    slide(monkeypatch)
    _, rows = build(tmp_path, "antmaze-umaze-v2", 8_000)
    goal = rows.provenance["evaluation_goal"]
    assert UMAZE.cell(goal).tolist() == [3, 1]
    np.testing.assert_array_equal(rows.terminals, expected_rows(rows, goal))
    np.testing.assert_array_equal(rows.rewards, rows.terminals)
    # They slide to goals of their own: some of those lie within 0.5 m of the evaluation's.
    assert 0 < rows.terminals.mean() < 1
    runs = rows.terminals[1:] & rows.terminals[:-1]
    assert runs.any(), "several rows in succession"
    assert goal == (UMAZE.centre(np.array([3, 1])) + 0.75).tolist(), "the middle of all draws"
    rate = rows.provenance["goal_rows_per_million"]
    assert rate == pytest.approx(1e6 * rows.terminals.mean(), abs=1)


@pytest.mark.parametrize(("name", "maze"), [("umaze", UMAZE), ("medium-play", MEDIUM)])
def test_who_has_reached_a_goal_is_sent_on(shipped, tmp_path, monkeypatch, name, maze):
    slide(monkeypatch)
    _, rows = build(tmp_path, f"antmaze-{name}-v2", 1_000)
    goals, xy = rows.infos["goal"], rows.infos["qpos"][:, :2]
    changes = np.flatnonzero((goals[1:] != goals[:-1]).any(axis=1) & ~rows.timeouts[:-1])
    assert len(changes) > 3
    # A row has the goal that its action leads to: a new one already where the old one is reached.
    assert (np.linalg.norm(xy[changes + 1] - goals[changes], axis=1) <= 0.5).all()
    if name == "umaze":  # afterwards anywhere but to the evaluation goal's cell
        later = changes[changes < np.flatnonzero(rows.timeouts)[0]] + 1
        assert (maze.cell(goals[later]) != maze.goal).any(axis=1).all()
    _, stays = build(tmp_path, f"antmaze-{name}-v2", 1_000, "stays", stay=True)
    again = (stays.infos["goal"][1:] != stays.infos["goal"][:-1]).any(axis=1)
    assert not (again & ~stays.timeouts[:-1]).any()


def test_umaze_diverse_marks_a_success_once(shipped, tmp_path, monkeypatch):
    slide(monkeypatch)
    _, rows = build(tmp_path, "antmaze-umaze-diverse-v2", 20_000, seed=2)
    every = expected_rows(rows, rows.provenance["evaluation_goal"])
    assert every.sum() > rows.terminals.sum() > 0
    np.testing.assert_array_equal(rows.terminals, first_of_each(every))
    assert not (rows.terminals[1:] & rows.terminals[:-1]).any()
    assert len(as_set(UMAZE.cell(rows.infos["goal"]))) > 3


def test_without_a_controller_every_maze_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(policies, "FOLDER", tmp_path)
    for where in tasks_of("antmaze"):
        with pytest.raises(UserError, match=r"'ant-controller'.*o2okit data train ant-controller"):
            kit.build(where.name, 2_000, tmp_path / "x.hdf5")
    assert list(tmp_path.iterdir()) == []
