"""Waypoints against paths found by hand in the spec's maps (specs/tasks.md 2)."""

import numpy as np
import pytest

from o2okit.data.planner import Planner, towards
from o2okit.tasks.antmaze_maps import MAZES

UMAZE, MEDIUM, LARGE = MAZES.values()
PATHS = {  # start to evaluation goal; where several are shortest, up to the first fork and after the last
    "antmaze-umaze": [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)],
    "antmaze-medium": [(1, 1), (2, 1), (2, 2), (3, 2)],
    "antmaze-large": [(1, 1)],
}
LAST = {
    "antmaze-umaze": [(3, 2), (3, 1)],
    "antmaze-medium": [(5, 6), (6, 6)],
    "antmaze-large": [(7, 9)],
}
mazes = pytest.mark.parametrize("maze", MAZES.values(), ids=MAZES)


def planner(maze=UMAZE, n=1, seed=0, **switches):
    return Planner(maze, n, np.random.default_rng(seed), **switches)


def walk(maze, goal, step=0.5, **switches):
    """The cells that a point visits which walks straight to its waypoint, ``step`` metres at a time."""
    plan, xy, goals = planner(maze, **switches), np.zeros((1, 2)), np.array([goal], dtype=float)
    visited = [tuple(maze.start.tolist())]
    for _ in range(1000):
        xy = xy + step * plan.directions(xy, goals)
        cell = tuple(maze.cell(xy)[0].tolist())
        if cell != visited[-1]:
            visited.append(cell)
        if np.linalg.norm(xy - goals) <= step:
            return visited
    raise AssertionError(f"the goal is not reached: {visited}")


@mazes
def test_a_point_that_follows_the_waypoints_takes_a_shortest_path(maze):
    visited = walk(maze, maze.centre(maze.goal) + 0.75)
    assert visited[: len(PATHS[maze.name])] == PATHS[maze.name]
    assert visited[-len(LAST[maze.name]) :] == LAST[maze.name]
    assert len(visited) - 1 == {5: 6, 8: 10, 12: 14}[maze.walls.shape[1]], "the spec's lengths"
    assert not maze.walls[tuple(np.transpose(visited))].any()


def test_the_way_from_every_cell_is_the_one_found_by_hand():
    """In the umaze there is one path: what is ahead of each cell, and of the goal the goal itself."""
    path = np.array(PATHS["antmaze-umaze"])
    goal = np.array([0.3, 8.9])
    ahead = planner(n=7).waypoints(UMAZE.centre(path), np.tile(goal, (7, 1)))
    np.testing.assert_array_equal(UMAZE.cell(ahead)[:-1], path[1:])
    # The cell before the last heads for the goal, too, not for the centre.
    np.testing.assert_array_equal(ahead[-2:], [goal, goal])
    offset = ahead[:-2] - UMAZE.centre(path[1:-1])
    assert ((offset >= 0) & (offset <= 1)).all()
    assert len(np.unique(offset)) == offset.size


def test_goals_differ_between_ants():
    """From (3, 2) of the medium maze: to the start, to the goal (2, 6), to the evaluation goal."""
    xy = np.tile(MEDIUM.centre([3, 2]), (3, 1))
    goals = MEDIUM.centre([[1, 1], [2, 6], [6, 6]]) + 0.4
    ahead = MEDIUM.cell(planner(MEDIUM, 3).waypoints(xy, goals))
    assert ahead[0].tolist() == [2, 2]
    assert ahead[1].tolist() == ahead[2].tolist() == [3, 3]


def test_the_correct_index_and_d4rls():
    """x = 2.1 lies in column 2; D4RL's planner takes it for column 1 and walks on to column 2."""
    xy, goals = np.array([[2.1, 0.0]]), np.array([[0.5, 8.5]])
    assert UMAZE.cell(planner().waypoints(xy, goals)).tolist() == [[1, 3]]
    assert UMAZE.cell(planner(legacy_cell=True).waypoints(xy, goals)).tolist() == [[1, 2]]
    beyond = np.array([[4.1, 0.0]])
    assert UMAZE.cell(planner(legacy_cell=True).waypoints(beyond, goals)).tolist() == [[1, 3]]


def test_noise_stays_until_there_is_another_waypoint():
    goals = np.array([[0.5, 8.5]] * 2)
    plan = planner(n=2)
    first = plan.waypoints(np.array([[0.0, 0.0], [0.0, 0.0]]), goals)
    assert (first[0] != first[1]).all(), "every ant has its own"
    again = plan.waypoints(np.array([[1.0, 0.2], [-0.5, 0.1]]), goals)
    np.testing.assert_array_equal(again, first)
    # The first ant enters the next cell; the second one's waypoint stays.
    moved = plan.waypoints(np.array([[2.5, 0.0], [0.0, 0.0]]), goals)
    assert UMAZE.cell(moved).tolist() == [[1, 3], [1, 2]]
    assert (moved[0] - UMAZE.centre([1, 3]) != first[0] - UMAZE.centre([1, 2])).all()
    np.testing.assert_array_equal(moved[1], first[1])


def test_legacy_noise_is_redrawn_in_every_step():
    plan, xy, goals = planner(legacy_noise=True), np.zeros((1, 2)), np.array([[0.5, 8.5]])
    points = np.concatenate([plan.waypoints(xy, goals) for _ in range(200)])
    assert len(np.unique(points, axis=0)) == 200
    offset = points - UMAZE.centre([1, 2])
    assert (offset.min() >= 0, offset.max() <= 1) == (True, True)
    np.testing.assert_allclose(offset.mean(0), 0.5, atol=0.07)


def test_an_ants_path_does_not_change_anothers_noise():
    goals, here, there = np.array([[0.5, 8.5]] * 2), np.zeros(2), np.array([2.5, 0.0])
    one, two = planner(n=2), planner(n=2)
    for first in (here, there, here, there):
        moved = one.waypoints(np.array([first, here]), goals)
        still = two.waypoints(np.array([here, here]), goals)
        np.testing.assert_array_equal(moved[1], still[1])


def test_directions_have_length_one():
    xy, target = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), np.array([[3.0, 4.0]] * 3)
    target[2] = xy[2]
    np.testing.assert_allclose(towards(xy, target)[0], [0.6, 0.8])
    assert np.linalg.norm(towards(xy, target), axis=1) == pytest.approx([1, 1, 0])
    assert planner().directions(np.zeros((1, 2)), np.array([[0.5, 8.5]]))[0, 0] > 0.9
