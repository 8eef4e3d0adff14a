import dataclasses

import h5py
import numpy as np
import pytest

from o2okit.cli import main
from o2okit.data import fidelity, hdf5, kit
from o2okit.data.policies import ladder
from o2okit.data.sources import Place
from o2okit.errors import UserError
from o2okit.tasks import Key, task

ROWS = 1_500


@pytest.fixture(scope="module", params=["hopper-random-v2", "ant-random-v2", "antmaze-umaze-v2"])
def built(request, tmp_path_factory):
    name = request.param
    path = kit.build(name, ROWS, tmp_path_factory.mktemp("kit") / "x.hdf5")
    return task(name), hdf5.read_rows(path, task(name))


def test_what_was_collected_here_is_repeated_here(built):
    where, rows = built
    found = fidelity.one_step(rows, where, 400)
    size = where.obs_size - where.padding
    assert found.observations.shape[1] == len(found.spread) == size
    assert 300 < len(found.observations) <= 400
    assert np.quantile(found.observations, 0.99) < 1e-4
    if where.family == "antmaze":  # the goal is not observed
        assert (found.rewards, found.ends) == (None, None)
    else:
        assert np.median(found.rewards) < 1e-3
        assert found.ends == 1.0


def test_another_action_is_seen(built):
    where, rows = built
    others = dataclasses.replace(rows, actions=-rows.actions)
    found = fidelity.one_step(others, where, 400)
    assert np.median(np.abs(found.observations) / found.spread) > 1e-3


def test_clipped_velocities_and_last_rows_are_left_out():
    where, n = task("hopper-medium-v2"), 5
    obs = np.zeros((n, 11), dtype=np.float32)
    obs[:, 0], obs[1, 5:] = 1.25, 10.0
    flags = np.zeros(n, dtype=bool)
    fields = {"observations": obs, "actions": np.zeros((n, 3)), "rewards": np.zeros(n)}
    timeouts = np.array([False, False, True, False, False])
    rows = hdf5.checked_rows("x", {**fields, "terminals": flags, "timeouts": timeouts}, where)
    assert len(fidelity.one_step(rows, where, 100).observations) == 2  # rows 0 and 3
    rows = hdf5.checked_rows("x", {**fields, "terminals": flags, "timeouts": ~flags}, where)
    with pytest.raises(UserError, match="none is followed"):
        fidelity.one_step(rows, where, 100)
    with pytest.raises(UserError, match="ask for more steps"):
        fidelity.one_step(
            hdf5.checked_rows("x", {**fields, "terminals": ~flags}, where), where, 100
        )
    with pytest.raises(UserError, match="does not tell the whole state"):
        fidelity.one_step(rows, task("pen-cloned-v1"), 100)


def test_states_that_the_file_holds_are_taken_clipped_or_not(tmp_path):
    where = task("walker2d-random-v2")
    env = where.vector([Key(0, "x")])
    obs, _ = env.reset()
    fields, infos = {"observations": [], "actions": []}, {"qpos": [], "qvel": []}
    rng = np.random.default_rng(0)
    for step in range(30):
        infos["qpos"].append(env.qpos[0].copy())
        infos["qvel"].append(env.qvel[0].copy())
        fields["observations"].append(obs[0])
        fields["actions"].append(rng.uniform(-1, 1, 6))
        obs = env.step(fields["actions"][-1][None])[-1]["final_obs"]
        env.place(0, env.qpos[0].copy(), env.qvel[0] * 3 if step == 10 else env.qvel[0].copy())
        obs = env.observe().astype(np.float32)
    fields = {name: np.array(values) for name, values in fields.items()}
    fields |= {"rewards": np.zeros(30), "terminals": np.zeros(30), "timeouts": np.zeros(30)}
    infos = {f"infos/{name}": np.array(values) for name, values in infos.items()}
    path = hdf5.write_hdf5(tmp_path / "x.hdf5", {**fields, **infos}, {})
    place = Place("kit", path, True, True, "")
    with_states = fidelity.one_step(fidelity.read(place, where), where, 100)
    assert with_states.left_out == 0
    assert len(with_states.observations) == 29
    path = hdf5.write_hdf5(tmp_path / "y.hdf5", fields, {})
    without = fidelity.one_step(fidelity.read(place._replace(path=path), where), where, 100)
    assert 0 < without.left_out < 1
    assert len(without.observations) < 29


@pytest.fixture
def with_policy(tmp_path):
    """A file with a policy in it, as rlkit writes one into D4RL's."""
    path = kit.build("hopper-random-v2", 500, tmp_path / "hopper_medium-v2.hdf5")
    snapshot = ladder("hopper").snapshots[-1]
    *hidden, (weight, bias) = snapshot.layers
    layers = dict(zip(("fc0", "fc1"), hidden, strict=True))
    layers["last_fc"] = weight[:3], bias[:3]
    layers["last_fc_log_std"] = weight[3:], bias[3:]
    with h5py.File(path, "a") as file:
        for name, (w, b) in layers.items():
            file[f"{fidelity.POLICY}/{name}/weight"] = w.numpy()
            file[f"{fidelity.POLICY}/{name}/bias"] = b.numpy()
    return path, snapshot


def test_a_stored_policy_acts_as_it_did(with_policy):
    path, snapshot = with_policy
    where = task("hopper-medium-v2")
    found = fidelity.policy_returns(path, where, 3)
    stream = "fidelity/policy"
    expected, _ = kit.episode_returns(where, snapshot, 3, seed=0, stream=stream)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(UserError, match="takes 11 observations and gives 3 actions"):
        fidelity.policy_returns(path, task("walker2d-medium-v2"), 3)
    with h5py.File(path, "a") as file:
        file[f"{fidelity.POLICY}/nonlinearity"] = "tanh"
    with pytest.raises(UserError, match="nonlinearity of its policy is 'tanh'"):
        fidelity.stored_policy(path)
    with h5py.File(path, "a") as file:
        del file[f"{fidelity.POLICY}/nonlinearity"], file[f"{fidelity.POLICY}/last_fc"]
        file[f"{fidelity.POLICY}/nonlinearity"] = np.bytes_(b"relu")
    with pytest.raises(UserError, match="has no last_fc:"):
        fidelity.stored_policy(path)


def test_the_command_says_what_it_measured(with_policy, capsys):
    path, _ = with_policy
    arguments = ["--source", str(path), "--steps", "200", "--episodes", "2"]
    assert main(["data", "fidelity", "hopper-medium-v2", *arguments]) == 0
    said = capsys.readouterr().out
    assert "ends as in the file: 100.00%" in said
    assert "the policy that collected it returns" in said
    assert main(["data", "fidelity", "hopper-medium-v2", *arguments[:2], "--steps", "0"]) == 2
