import ast
import importlib.util
import warnings
import xml.etree.ElementTree as ET
from itertools import product
from pathlib import Path

import mujoco
import numpy as np
import pytest

from o2okit.tasks import Key, task
from o2okit.tasks.antmaze import MAZES, OUTCOMES, AntMaze, ant_model

UMAZE, MEDIUM, LARGE = MAZES.values()
TABLE = {  # specs/tasks.md 2: free, walls, goal cell, its centre, cells S->G, farthest, geoms
    "antmaze-umaze": (7, 18, (3, 1), (0, 8), 6, 6, 32),
    "antmaze-medium": (26, 38, (6, 6), (20, 20), 10, 11, 52),
    "antmaze-large": (46, 62, (7, 9), (32, 24), 14, 15, 76),
}
D4RL = {
    "antmaze-umaze": ("U_MAZE_TEST", "U_MAZE"),
    "antmaze-medium": ("BIG_MAZE_TEST", "BIG_MAZE"),
    "antmaze-large": ("HARDEST_MAZE_TEST", "HARDEST_MAZE"),
}
mazes = pytest.mark.parametrize("maze", MAZES.values(), ids=MAZES)


@pytest.fixture(scope="module")
def d4rl():
    """D4RL's folder and its maze maps, which are read without running its code."""
    package = Path(importlib.util.find_spec("d4rl").origin).parent / "locomotion"
    maps, names = {}, {"R": "r", "G": "g"}
    for node in ast.parse((package / "maze_env.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            maps[node.targets[0].id] = [
                [names[cell.id] if isinstance(cell, ast.Name) else cell.value for cell in row.elts]
                for row in node.value.elts
            ]
    return package, maps


def walls_of(rows):
    return np.array([[cell == 1 for cell in row] for row in rows])


def goals_of(rows):
    return [[i, j] for i, row in enumerate(rows) for j, cell in enumerate(row) if cell == "g"]


def make(maze=UMAZE, n=1, stream="a", **kwargs):
    return AntMaze([Key(seed, stream) for seed in range(n)], maze, **kwargs)


# --- maps -----------------------------------------------------------------------------------------
@mazes
def test_maps_have_the_specs_sizes(maze):
    free, walls, goal, centre, steps, farthest, geoms = TABLE[maze.name]
    assert (len(maze.free), maze.walls.sum(), len(maze.wall_centres)) == (free, walls, walls)
    assert (tuple(maze.goal), tuple(maze.centre(maze.goal))) == (goal, centre)
    assert (tuple(maze.start), tuple(maze.centre(maze.start))) == ((1, 1), (0, 0))
    assert maze.distances(maze.goal)[tuple(maze.start)] == steps
    far = maze.distances(maze.start)[~maze.walls]
    assert far.max() == farthest
    assert make(maze).model.ngeom == geoms
    assert maze.horizon == (700 if maze is UMAZE else 1000)


@mazes
def test_maps_are_d4rls(maze, d4rl):
    evaluation, generation = (d4rl[1][name] for name in D4RL[maze.name])
    np.testing.assert_array_equal(maze.walls, walls_of(evaluation))
    np.testing.assert_array_equal(maze.walls, walls_of(generation))
    assert goals_of(evaluation) == [maze.goal.tolist()]
    assert goals_of(generation) == maze.generation_goals.tolist()


def test_generation_goals_are_the_specs():
    assert MEDIUM.centre(MEDIUM.generation_goals).tolist() == [[20, 4], [0, 16], [16, 20]]
    large = [[20, 0], [16, 8], [36, 8], [4, 16], [12, 24], [20, 24], [32, 24]]
    assert LARGE.centre(LARGE.generation_goals).tolist() == large


@mazes
def test_cells_of_points(maze):
    centres = maze.centre(maze.free)
    for shift in product((-1.9, 0, 1.9), repeat=2):
        np.testing.assert_array_equal(maze.cell(centres + shift), maze.free)
    # D4RL's planner has no shift by half a cell.
    assert maze.cell([2.1, 0.0]).tolist() == [1, 2]
    assert maze.cell([2.1, 0.0], legacy=True).tolist() == [1, 1]
    assert maze.cell([4.1, -3.0], legacy=True).tolist() == [1, 2]
    assert maze.cell([-99.0, 99.0]).tolist() == [maze.walls.shape[0] - 1, 0]


@mazes
def test_shortest_paths_agree_with_a_search_by_hand(maze):
    for goal in maze.free:
        steps, front = {tuple(goal): 0}, [tuple(goal)]
        while front:
            front = [
                cell
                for i, j in front
                for cell in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1))
                if not maze.walls[cell]
                and steps.setdefault(cell, steps[i, j] + 1) == steps[i, j] + 1
                if cell not in front
            ]
            front = [cell for cell in dict.fromkeys(front) if steps[cell] > 0]
        distances = maze.distances(goal)
        assert {tuple(cell): distances[tuple(cell)] for cell in maze.free} == steps
        assert np.isinf(distances[maze.walls]).all()
        after = maze.next_cell(maze.free, goal)
        here, there = distances[tuple(maze.free.T)], distances[tuple(after.T)]
        np.testing.assert_array_equal(there, np.maximum(here - 1, 0))
        assert (np.abs(after - maze.free).sum(1) == (here > 0)).all()


def test_a_path_leads_from_cell_to_cell():
    path = MEDIUM.path(MEDIUM.start, MEDIUM.goal)
    assert (path[0].tolist(), path[-1].tolist(), len(path)) == ([1, 1], [6, 6], 11)
    assert (np.abs(np.diff(path, axis=0)).sum(1) == 1).all()
    assert not MEDIUM.walls[tuple(path.T)].any()


def test_out_of_a_wall_there_is_a_way_as_the_legacy_index_needs_it():
    # The point lies in cell (3, 3), which is free; D4RL's index says (2, 2), a wall.
    point = [6.1, 6.5]
    assert UMAZE.cell(point).tolist() == [3, 3]
    wall = UMAZE.cell(point, legacy=True)
    assert UMAZE.walls[tuple(wall)]
    following = UMAZE.next_cell(wall, UMAZE.goal)
    assert not UMAZE.walls[tuple(following)]
    assert np.abs(following - wall).sum() == 1


# --- model ----------------------------------------------------------------------------------------
def d4rls_model(maze, package, rows, folder):
    """D4RL's own ant, with walls as its maze_env.py adds them."""
    tree = ET.parse(package / "assets" / "ant.xml")
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            if cell == 1:
                ET.SubElement(
                    tree.find(".//worldbody"),
                    "geom",
                    pos=f"{4 * (j - 1)} {4 * (i - 1)} 1",
                    size="2 2 1",
                    type="box",
                    contype="1",
                    conaffinity="1",
                )
    tree.write(folder / "ant.xml")
    return mujoco.MjModel.from_xml_path(str(folder / "ant.xml"))


PHYSICAL = ("body_", "jnt_", "dof_", "geom_", "actuator_", "qpos")
OTHERWISE = ("rgba", "matid", "adr", "_user", "actuator_ctrlrange", "actuator_gear", "acc0")


@mazes
def test_the_model_is_d4rls_but_for_the_scale_of_actions(maze, d4rl, tmp_path):
    package, maps = d4rl
    theirs = d4rls_model(maze, package, maps[D4RL[maze.name][0]], tmp_path)
    ours = make(maze).model
    assert theirs.opt.timestep == ours.opt.timestep == 0.02
    assert theirs.opt.integrator == ours.opt.integrator
    # D4RL: actions of ±30 on gear 1. Here: ±1 on gear 30.
    assert (theirs.actuator_ctrlrange == 30 * ours.actuator_ctrlrange).all()
    assert (30 * theirs.actuator_gear == ours.actuator_gear).all()
    names = [n for n in dir(ours) if n.startswith(PHYSICAL) and not n.endswith(OTHERWISE)]
    assert len(names) > 80
    for name in names:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)

    data = mujoco.MjData(theirs)
    env = make(maze)
    env.place(0, env.init_qpos, np.zeros(14))
    for step in range(200):
        action = np.sin(0.3 * step + np.arange(8))
        data.ctrl[:] = 30 * action
        mujoco.mj_step(theirs, data, 5)
        env.step(action[None])
        np.testing.assert_array_equal(env.qpos[0], data.qpos)


@mazes
def test_check_values_of_the_spec(maze):
    env = make(maze)
    env.place(0, env.init_qpos, np.zeros(14))
    env.step(np.sin(np.arange(8.0))[None])
    np.testing.assert_allclose(env.qpos[0, :3], (0.002173, -0.008394, 0.736731), atol=1e-6)
    qvel = (0.045012, -0.143486, -0.591198, 0.106536, -0.130187, 0.048789, 2.543596)
    qvel += (4.793452, -2.117835, -6.301660, -0.787206, -3.483970, -0.000043, 6.086163)
    np.testing.assert_allclose(env.qvel[0], qvel, atol=1e-6)
    for step in range(1, 10):
        obs, *_ = env.step(np.sin(0.3 * step + np.arange(8.0))[None])
    np.testing.assert_allclose(obs[0, :3], (-0.387995, -0.120072, 0.451520), atol=1e-5)
    np.testing.assert_allclose(obs[0, 3:7], (0.983549, -0.018773, -0.087032, -0.157175), atol=1e-5)
    for step in range(10, 200):
        obs, *_ = env.step(np.sin(0.3 * step + np.arange(8.0))[None])
    np.testing.assert_allclose(obs[0, :3], (-0.940247, -0.619450, 0.417852), atol=1e-2)


def test_the_ant_is_d4rls_light_one_and_compiled_once():
    model = ant_model()
    assert model.body_mass.sum() == pytest.approx(0.910880, abs=1e-6)
    assert model.ngeom == 14
    assert make(LARGE).model is make(LARGE, 3).model


def test_walls_are_where_gymnasium_robotics_puts_them():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from gymnasium_robotics.envs.maze.ant_maze_v5 import AntMazeEnv

        for maze, origin in ((UMAZE, (-4, -4)), (MEDIUM, (-10, -10)), (LARGE, (-18, -12))):
            rows = np.where(maze.walls, "1", "0").astype(object)
            rows[tuple(maze.start)], rows[tuple(maze.goal)] = "r", "g"
            # Its +y goes up the text.
            flipped = [[{"1": 1, "0": 0}.get(c, c) for c in row] for row in rows[::-1]]
            other = AntMazeEnv(maze_map=flipped)
            boxes = other.model.geom_type == mujoco.mjtGeom.mjGEOM_BOX
            theirs = other.model.geom_pos[boxes][:, :2] - origin
            other.close()
            assert {tuple(xy) for xy in theirs} == {tuple(xy) for xy in maze.wall_centres}
            assert len(theirs) == len(maze.wall_centres)


# --- episodes -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("xy", "reached"),
    [((0.75, 8.30), True), ((1.24, 8.75), True), ((0.75, 8.20), False), ((1.26, 8.75), False)],
)
def test_success_is_being_within_half_a_metre(xy, reached):
    env = make()
    env.reset(options={"start_xy": xy, "goal_xy": (0.75, 8.75)})
    assert env.success().tolist() == [reached]


def test_the_goal_terminates_with_a_reward_of_one():
    env = make(MEDIUM, n=2, horizon=3)
    obs, _ = env.reset(options={"start_xy": [(0, 0), (20, 20)], "goal_xy": (20, 20)})
    np.testing.assert_array_equal(obs[:, :2], [(0, 0), (20, 20)])
    obs, reward, terminated, truncated, info = env.step(np.zeros((2, 8)))
    assert (reward.tolist(), terminated.tolist()) == ([0.0, 1.0], [False, True])
    assert not truncated.any()
    assert [OUTCOMES[i] for i in info["outcome"]] == ["none", "goal"]
    np.testing.assert_allclose(info["final_obs"][1, :2], 20, atol=0.5)
    np.testing.assert_allclose(obs[1, :2], 0, atol=0.1)
    assert task("antmaze-medium-play-v2").outcomes == OUTCOMES


def test_a_goal_reached_with_the_last_step_is_no_timeout():
    env = make(n=2, horizon=1)
    env.reset(options={"start_xy": [(0, 8), (0, 0)], "goal_xy": (0, 8)})
    _, _, terminated, truncated, _ = env.step(np.zeros((2, 8)))
    assert (terminated.tolist(), truncated.tolist()) == ([True, False], [False, True])


def test_nothing_terminates_while_data_are_collected():
    env = make(horizon=4, continuing=True)
    env.reset(options={"start_xy": (0, 8), "goal_xy": (0, 8)})
    rewards, ends = [], []
    for _ in range(4):
        _, reward, terminated, truncated, _ = env.step(np.zeros((1, 8)))
        rewards.append(reward[0])
        ends.append((terminated[0], truncated[0]))
    assert (rewards, ends) == ([1.0] * 4, [(False, False)] * 3 + [(False, True)])


def test_who_rests_at_the_goal_neither_earns_nor_ends():
    env = make(n=2)
    env.reset(options={"start_xy": (0, 8), "goal_xy": (0, 8)})
    _, reward, terminated, _, _ = env.step(np.zeros((2, 8)), np.array([True, False]))
    assert (reward.tolist(), terminated.tolist()) == ([1.0, 0.0], [True, False])
    assert env.episode.tolist() == [2, 1]


def test_falling_over_ends_nothing():
    env = make()
    env.reset()
    upside_down = env.init_qpos.copy()
    upside_down[2:7] = 0.15, 0, 1, 0, 0
    env.place(0, upside_down, np.zeros(14))
    for _ in range(5):
        assert not env.step(np.zeros((1, 8)))[2].any()


def test_starts_have_noise_everywhere_and_stay_near_the_origin():
    env = make(LARGE, n=400)
    obs, _ = env.reset()
    assert obs.shape == (400, 29)
    assert obs.dtype == np.float32
    offset = obs[:, :15] - env.init_qpos
    assert env.init_qpos.tolist() == [0, 0, 0.75, 1] + [0] * 11
    assert (np.abs(offset) <= 0.1).all()
    np.testing.assert_allclose(offset.std(0), 0.1 / np.sqrt(3), rtol=0.15)
    np.testing.assert_allclose(obs[:, 15:].std(0), 0.1, rtol=0.15)
    # The quaternion is not made a unit one.
    assert np.abs(np.linalg.norm(obs[:, 3:7], axis=1) - 1).max() > 0.05


@mazes
def test_goals_lie_beyond_the_centre_of_their_cell(maze):
    env = make(maze, n=500)
    env.reset()
    offset = env.goals - maze.centre(maze.goal)
    assert ((offset >= 0) & (offset <= 1.5)).all()
    np.testing.assert_allclose(offset.mean(0), 0.75, atol=0.06)
    np.testing.assert_allclose(offset.std(0), np.sqrt(1 / 12 + 0.25 / 12), atol=0.03)


def test_v2_draws_a_goal_per_episode_and_v0_one_per_seed():
    def goals(name, keys):
        env = task(name).vector(keys)
        env.reset()
        env.elapsed[:] = env.horizon - 1
        first = env.goals.copy()
        env.step(np.zeros((len(keys), 8)))
        return first, env.goals.copy()

    keys = [Key(0, "a"), Key(0, "b"), Key(1, "a")]
    first, second = goals("antmaze-umaze-v2", keys)
    assert len({tuple(goal) for goal in [*first, *second]}) == 6
    first, second = goals("antmaze-umaze-v0", keys)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[0], first[1])
    assert (first[0] != first[2]).all()


def test_starts_and_goals_of_generated_data():
    cells = np.array([cell for cell in MEDIUM.free if (cell != MEDIUM.goal).any()])
    env = make(MEDIUM, 600, start_cells=cells, goal_cells=MEDIUM.generation_goals)
    obs, _ = env.reset()
    starts = MEDIUM.cell(obs[:, :2])
    assert {tuple(cell) for cell in starts} == {tuple(cell) for cell in cells}
    offset = obs[:, :2] - MEDIUM.centre(starts)
    assert (offset.min() >= 0, offset.max() <= 1) == (True, True)
    assert {tuple(cell) for cell in MEDIUM.cell(env.goals)} == {
        tuple(cell) for cell in MEDIUM.generation_goals
    }


def test_goals_are_part_of_the_state():
    env, other = make(n=2), make(n=2, stream="b")
    env.reset(), other.reset()
    env.set_goals([(1, 2), (3, 4)])
    other.load_state(env.state())
    assert other.goals.tolist() == [[1, 2], [3, 4]]
