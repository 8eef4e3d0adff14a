"""What one policy does in several environments, as rows."""

import tracemalloc

import numpy as np
import pytest

from o2okit.data import kit
from o2okit.data.rollout import roll_out
from o2okit.errors import UserError
from o2okit.tasks import task


class Count:
    """``n`` environments that count their steps; an episode of environment i has 4 + i of them."""

    def __init__(self, n, size=1):
        self.num_envs, self.size, self.at = n, size, np.zeros(n, dtype=int)

    def seen(self):
        return np.repeat(self.at[:, None], self.size, axis=1).astype(np.float32)

    def reset(self):
        return self.seen(), {}

    def step(self, actions, active):
        self.at = self.at + 1
        final, ended = self.seen(), self.at == 4 + np.arange(self.num_envs)
        self.at[ended] = 0
        reward, never = np.ones(self.num_envs), np.zeros(self.num_envs, dtype=bool)
        return self.seen(), reward, never, ended, {"final_obs": final}


def still(obs):
    return np.zeros((len(obs), 1), dtype=np.float32)


def test_rows_are_one_environments_whole_episodes_after_the_others():
    fields = roll_out(Count(2), still, 10)
    first, second = [0, 1, 2, 3] * 2, [0, 1, 2, 3, 4]
    assert fields["observations"][:, 0].tolist() == first + second
    assert fields["next_observations"][:, 0].tolist() == [i + 1 for i in first + second]
    assert np.flatnonzero(fields["timeouts"]).tolist() == [3, 7, 12]


def test_infos_show_what_acting_has_changed():
    goal = np.zeros(1)

    def act(obs):
        goal[0] += 10
        return still(obs)

    fields = roll_out(Count(1), act, 3, infos=lambda: {"infos/goal": goal})
    assert fields["infos/goal"].tolist() == [10, 20, 30, 40]


def test_rows_are_held_little_more_than_once():
    tracemalloc.start()
    fields = roll_out(Count(20, size=250), still, 20_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * sum(column.nbytes for column in fields.values())


def test_parts_are_joined_without_a_copy_of_all(monkeypatch):
    def collect(where, snapshot, rows, **_):
        fields = {name: np.ones((rows, 500)) for name in "abcd"}
        return fields | {name: np.zeros(rows, dtype=bool) for name in ("terminals", "timeouts")}

    monkeypatch.setattr(kit, "collect", collect)
    parts = [kit.Part(str(i), 0.5, None) for i in range(2)]
    tracemalloc.start()
    fields, _ = kit.collect_parts(task("hopper-random-v2"), parts, 1_000, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * sum(column.nbytes for column in fields.values())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_policy_that_has_diverged_is_refused(value):
    with pytest.raises(UserError, match="not all finite: it has diverged"):
        roll_out(Count(2), lambda obs: still(obs) + value, 10)
