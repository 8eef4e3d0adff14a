import json

import h5py
import numpy as np
import pytest

from o2okit.data import minari
from o2okit.errors import UserError
from o2okit.tasks import task

TASK = "pen-cloned-v1"


@pytest.fixture
def folder(tmp_path):
    """Three episodes of 4, 1 and 3 steps: terminated, truncated, unmarked."""
    draw = np.random.default_rng(0)
    root = tmp_path / "D4RL" / "pen" / "cloned-v2"
    (root / "data").mkdir(parents=True)
    with h5py.File(root / minari.MAIN, "w", track_order=True) as file:
        for number, (steps, terminated, truncated) in enumerate([(4, 1, 0), (1, 0, 1), (3, 0, 0)]):
            group = file.create_group(f"episode_{number}")
            group.attrs["total_steps"] = steps
            group["observations"] = draw.normal(size=(steps + 1, 45))
            group["actions"] = draw.uniform(-1, 1, size=(steps, 24)).astype(np.float32)
            group["rewards"] = np.arange(steps) + 10.0 * number
            last = np.arange(steps) == steps - 1
            group["terminations"] = last & bool(terminated)
            group["truncations"] = last & bool(truncated)
    metadata = {"dataset_id": "D4RL/pen/cloned-v2", "data_format": "hdf5", "minari_version": "0.5"}
    (root / "data" / "metadata.json").write_text(json.dumps(metadata))
    return root


def edit(folder):
    return h5py.File(folder / minari.MAIN, "r+")


def test_every_step_is_a_transition_with_its_true_successor(folder):
    data = minari.read(folder, TASK)
    assert len(data) == 8
    assert data.rewards.tolist() == [0, 1, 2, 3, 10, 20, 21, 22]
    assert np.flatnonzero(data.terminals).tolist() == [3]
    assert np.flatnonzero(data.timeouts).tolist() == [4, 7], "the unmarked end, too"
    with h5py.File(folder / minari.MAIN) as file:
        for rows, group in zip(data.episodes(), file.values(), strict=True):
            states = group["observations"][()].astype(np.float32)
            assert (data.observations[rows] == states[:-1]).all()
            assert (data.next_observations[rows] == states[1:]).all()


def test_the_dataset_does_not_bear_d4rls_name_and_says_how_it_differs(folder):
    data = minari.read(folder, TASK)
    assert (data.source, data.name) == ("minari", "minari-D4RL-pen-cloned-v2")
    assert data.provenance["minari"] == "D4RL/pen/cloned-v2"
    assert data.provenance["minari_version"] == "0.5"
    assert "can differ from D4RL's" in data.provenance["note"]


def test_episodes_come_in_the_order_of_their_numbers(folder):
    with edit(folder) as file:
        for number in range(3, 12):
            file.copy("episode_1", f"episode_{number}")
            file[f"episode_{number}/rewards"][...] = number
    assert minari.read(folder, TASK).rewards[-4:].tolist() == [8, 9, 10, 11]


def test_the_first_rows_are_whole_episodes(folder):
    assert len(minari.read_rows(folder, rows=2)) == 4
    assert len(minari.read_rows(folder, rows=5)) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.pop("episode_1"), "holds 2 of 3 episodes"),
        (lambda f: [f.pop(name) for name in list(f)], "holds no episode"),
        (lambda f: f.create_group(f"episode_{'9' * 5_000}"), "main_data.hdf5 is damaged"),
        (lambda f: f["episode_1"].pop("truncations"), "truncations missing in episode_1"),
        (lambda f: (f["episode_1"].pop("observations"),
                    f["episode_1"].create_dataset("observations", data=np.zeros((1, 45)))),
         r"needs T \+ 1 observations"),
        (lambda f: (f["episode_1"].pop("observations"),
                    f["episode_1"].create_group("observations")), r"dictionaries.*Minari#296"),
        (lambda f: (f["episode_1"].pop("rewards"),
                    f["episode_1"].create_dataset("rewards", data=1.0)),
         r"one of the rest; got .*rewards \(\)"),
        (lambda f: (f["episode_1"].pop("actions"),
                    f["episode_1"].create_dataset("actions", data=np.zeros((1, 7)))),
         "actions of 7 and 24 numbers in one dataset"),
        (lambda f: f["episode_0/rewards"].write_direct(np.full(4, np.nan)), "rewards are not finite"),
    ],
)  # fmt: skip
def test_damaged_data_are_refused(folder, change, said):
    with edit(folder) as file:
        change(file)
    with pytest.raises(UserError, match=said):
        minari.read(folder, TASK)


def test_whatever_is_flipped_is_read_or_refused(folder):
    """Some bytes of the file; any other exception fails."""
    path, draw = folder / minari.MAIN, np.random.default_rng(0)
    whole, said = path.read_bytes(), set()
    for _ in range(60):
        data = bytearray(whole)
        for place in draw.integers(len(data), size=5):
            data[place] = draw.integers(256)
        path.write_bytes(data)
        try:
            minari.read(folder, TASK)
        except UserError as error:
            said.add(str(error))
    assert len(said) > 5


def test_another_tasks_data_are_refused(folder):
    with pytest.raises(UserError, match="size 45 and actions of size 24 are not those of door"):
        minari.read(folder, task("door-cloned-v1"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", r"metadata\.json is damaged"),
        ("[" * 50_000, r"metadata\.json is damaged"),
        ("[]", r"metadata\.json is damaged \(not a JSON object\)"),
        ('{"data_format": "arrow"}', "its format is 'arrow'"),
        (None, r"no Minari dataset, because .*metadata\.json is missing"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(folder, text, said):
    path = folder / "data" / "metadata.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=said):
        minari.read(folder, TASK)


def test_counterparts_have_the_sizes_of_their_tasks_and_no_maze():
    assert len(minari.counterparts()) == 15
    assert not [name for name in minari.counterparts() if name.startswith(("ant", "toy"))]
    assert all(known.note for known in minari.counterparts().values())
