import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import VectorEnv

from o2okit.errors import UserError
from o2okit.tasks import Key, task
from o2okit.tasks.maze import GEOMETRY, HORIZON, ToyMazeVector

UP, DOWN, LEFT, RIGHT = range(4)


def test_layout_has_the_specs_sizes():
    # specs/gde.md 2.8: 291 free cells, all reachable; shortest paths S->L 34, S->R 70.
    assert GEOMETRY.n_cells == 291
    assert GEOMETRY.distances[1][GEOMETRY.start] == 34
    assert GEOMETRY.distances[2][GEOMETRY.start] == 70
    assert np.isfinite(GEOMETRY.distances[1:]).all()
    assert GEOMETRY.walls.shape == (21, 21)


def test_moves_are_up_down_left_right_and_walls_hold():
    row, column = GEOMETRY.cells[GEOMETRY.start]
    assert (row, column) == (19, 1)
    after = {
        move: tuple(GEOMETRY.cells[GEOMETRY.successor[GEOMETRY.start, move]]) for move in range(4)
    }
    assert after == {UP: (18, 1), DOWN: (19, 1), LEFT: (19, 1), RIGHT: (19, 2)}


def test_environment_passes_gymnasiums_checker():
    env = gym.make("o2okit/ToyMaze-v0", render_mode="rgb_array")
    check_env(env.unwrapped)
    assert env.spec.max_episode_steps == HORIZON == 200


def test_every_step_costs_one_and_a_goal_terminates():
    env = gym.make("o2okit/ToyMaze-v0")
    for outcome in (1, 2):
        cell, _ = env.reset()
        best = GEOMETRY.optimal_actions(outcome)
        total, terminated = 0.0, False
        while not terminated:
            cell, reward, terminated, truncated, info = env.step(best[cell].argmax())
            total += reward
            assert not truncated
        assert total == -GEOMETRY.distances[outcome][GEOMETRY.start]
        assert info["outcome"] == outcome
        assert cell == GEOMETRY.goal(outcome)


def test_the_limit_is_a_truncation_and_bumping_costs_a_step():
    env = gym.make("o2okit/ToyMaze-v0")
    env.reset()
    for step in range(1, HORIZON + 1):
        cell, reward, terminated, truncated, _ = env.step(LEFT)  # into the wall
        assert (cell, reward, terminated) == (GEOMETRY.start, -1.0, False)
        assert truncated == (step == HORIZON)


def test_vector_agrees_with_single_environments():
    n, rng = 4, np.random.default_rng(0)
    singles = [gym.make("o2okit/ToyMaze-v0") for _ in range(n)]
    vector = gym.make_vec("o2okit/ToyMaze-v0", num_envs=n)
    assert isinstance(vector.unwrapped, ToyMazeVector)
    cells = [env.reset()[0] for env in singles]
    assert list(vector.reset()[0]) == cells
    ended = 0
    for _ in range(1500):
        # Mostly right and up: episodes end at goals as well as at the limit.
        actions = rng.choice(4, size=n, p=[0.3, 0.2, 0.1, 0.4])
        obs, reward, terminated, truncated, info = vector.step(actions)
        for i, env in enumerate(singles):
            cell, r, term, trunc, single = env.step(actions[i])
            assert (info["final_obs"][i], reward[i]) == (cell, r)
            assert (terminated[i], truncated[i]) == (term, trunc)
            assert info["outcome"][i] == single["outcome"]
            if term or trunc:
                cell, ended = env.reset()[0], ended + 1
            assert obs[i] == cell
    assert ended > 10


def test_vector_state_resumes_in_the_middle_of_an_episode():
    rng = np.random.default_rng(1)
    first, second = ToyMazeVector(3), ToyMazeVector(3)
    for actions in rng.integers(0, 4, (150, 3)):
        first.step(actions)
    obs = second.load_state({key: value.copy() for key, value in first.state().items()})
    assert (obs == first.cell).all()
    for actions in rng.integers(0, 4, (100, 3)):
        for a, b in zip(first.step(actions)[:4], second.step(actions)[:4], strict=True):
            assert (a == b).all()


def test_a_state_stays_as_it_was_when_steps_follow():
    maze = ToyMazeVector(1)
    state = maze.state()
    maze.step(np.array([UP]))
    assert (state["cell"].tolist(), state["elapsed"].tolist()) == ([GEOMETRY.start], [0])


def test_a_goal_reached_with_the_last_step_is_no_timeout():
    vector = ToyMazeVector(2)
    beside = int(np.flatnonzero(GEOMETRY.successor[:, UP] == GEOMETRY.goal(1))[-1])
    vector.load_state({"cell": [beside, GEOMETRY.start], "elapsed": [HORIZON - 1, HORIZON - 1]})
    obs, _, terminated, truncated, info = vector.step(np.array([UP, UP]))
    assert terminated.tolist() == [True, False]
    assert truncated.tolist() == [False, True]
    assert info["final_obs"][0] == GEOMETRY.goal(1)
    assert obs.tolist() == [GEOMETRY.start] * 2


def test_optimal_actions_shorten_the_way_everywhere():
    for outcome in (1, 2):
        policy, steps = GEOMETRY.optimal_actions(outcome), GEOMETRY.distances[outcome]
        elsewhere = np.arange(GEOMETRY.n_cells) != GEOMETRY.goal(outcome)
        assert np.allclose(policy.sum(1)[elsewhere], 1)
        ahead = np.where(policy > 0, steps[GEOMETRY.successor], np.nan)
        assert np.nanmax(np.abs(ahead - (steps[:, None] - 1))[elsewhere]) == 0


def test_render_shows_the_agent_and_the_goals():
    env = gym.make("o2okit/ToyMaze-v0", render_mode="rgb_array")
    env.reset()
    before = env.render()
    env.step(RIGHT)
    after = env.render()
    assert before.shape == (21 * 16, 21 * 16, 3)
    changed = (before != after).any(-1)
    blocks = changed.reshape(21, 16, 21, 16).any((1, 3))
    assert {tuple(cell) for cell in np.argwhere(blocks)} == {(19, 1), (19, 2)}


def test_the_task_table_makes_the_vector_environment():
    maze = task("toy-maze")
    env = maze.vector([Key(seed, "a") for seed in range(7)])
    assert isinstance(env, VectorEnv)
    assert env.num_envs == 7
    assert (maze.obs_size, maze.act_size, maze.horizon) == (291, 4, 200)
    with pytest.raises(UserError, match=r"unknown task 'toy-mase'.*Did you mean 'toy-maze'"):
        task("toy-mase")
