"""Images are stored once and come back as the stacks that the environment showed."""

import dataclasses

import numpy as np
import pytest
import torch

from o2okit.data import Batch, Dataset, Replay
from o2okit.data.frames import Frames
from o2okit.errors import UserError
from o2okit.tasks import TASKS

STACK, SIDE = 4, 2
TASK = dataclasses.replace(TASKS["atari-pong"], image=(STACK, SIDE, SIDE), obs_size=STACK * 4)


class Episodes:
    """Runs whose images are all different: [run, count, 0, 0], and which end now and then."""

    def __init__(self, runs, seed=0):
        self.runs, self.rng = runs, np.random.default_rng(seed)
        self.count = torch.zeros(runs, dtype=torch.long)
        self.stack = torch.zeros(runs, STACK, SIDE, SIDE, dtype=torch.uint8)
        self.seen = []
        for run in range(runs):
            self._begin(run)

    def _image(self, run):
        self.count[run] += 1
        image = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
        image[0, 0], image[0, 1], image[1, 0] = run, self.count[run] % 256, self.count[run] // 256
        return image

    def _begin(self, run):
        self.stack[run] = self._image(run)

    def step(self):
        obs, ended = self.stack.clone(), torch.from_numpy(self.rng.random(self.runs) < 0.15)
        for run in range(self.runs):
            self.stack[run] = torch.cat([self.stack[run, 1:], self._image(run)[None]])
        following = self.stack.clone()
        for run in torch.nonzero(ended).flatten().tolist():
            self._begin(run)
        self.seen.append((obs, following))
        nothing = torch.zeros(self.runs)
        return Batch(obs, nothing.long(), nothing, following, nothing), ended


def replay(runs, capacity, dataset=None, **options):
    kind = "mixed" if dataset else "online"
    return Replay(kind, TASK, dataset, runs=runs, capacity=capacity, **options)


def rows_of(store, steps, runs):
    """The rows of the last steps, ``[R, n]``."""
    return torch.stack([store.episode_rows(run, steps) for run in range(runs)])


@pytest.mark.parametrize("steps", [1, 7, 20, 21, 95])
def test_rows_show_what_the_environment_showed(steps):
    episodes, store = Episodes(3), replay(3, 20)
    for _ in range(steps):
        store.add(*episodes.step())
    held = min(steps, 20)
    batch = store.take(rows_of(store, held, 3))
    obs, following = (torch.stack(each, dim=1) for each in zip(*episodes.seen[-held:], strict=True))
    assert batch.obs.dtype == torch.uint8
    assert (batch.obs == obs).all()
    assert (batch.next_obs == following).all()


def test_an_image_is_stored_once():
    episodes, store = Episodes(1), replay(1, 200)
    for _ in range(200):
        store.add(*episodes.step())
    assert int(store.frames.pushed) == int(episodes.count) - int(store.frames.age < 0)


def test_images_are_saved_and_restored(tmp_path):
    episodes, store, again = Episodes(2), replay(2, 30), replay(2, 30)
    for _ in range(13):
        store.add(*episodes.step())
    again.load_state({key: value.clone() for key, value in store.state().items()})
    for _ in range(30):
        transition = episodes.step()
        store.add(*transition)
        again.add(*transition)
        places = rows_of(store, len(store), 2)
        pair = store.take(places), again.take(places)
        assert all((pair[0][k] == pair[1][k]).all() for k in (0, 3))


def test_the_images_of_a_dataset_come_before_the_runs_own():
    frames = torch.arange(6, dtype=torch.uint8)[:, None, None].expand(-1, SIDE, SIDE).numpy()
    number, following = np.array([0, 5, 8 + 2, 16]), np.array([5, 10, 15, 20])
    zeros = np.zeros(4, dtype=bool)
    data = Dataset(
        *("atari-pong", "made up", "kit"),
        *(number, zeros.astype(int), zeros.astype(np.float32), following, zeros, zeros),
        frames=frames,
    )
    episodes, store = Episodes(2), replay(2, 10, data)
    for _ in range(3):
        store.add(*episodes.step())
    batch = store.take(torch.tensor([[0, 1, 2, 3, 4], [3, 2, 1, 0, 14]]))
    shown = batch.obs[..., 0, 0]
    assert shown[0, :4].tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 2], [4, 4, 4, 4]]
    assert batch.next_obs[1, :4, :, 0, 0].tolist()[0] == [5, 5, 5, 5]
    assert (batch.obs[0, 4] == episodes.seen[0][0][0]).all()
    assert (batch.obs[1, 4] == episodes.seen[0][0][1]).all()
    changed = dataclasses.replace(data, frames=frames + 1)
    assert data.hash != changed.hash, "the images are part of the data"


def test_more_images_than_can_be_numbered_are_refused():
    with pytest.raises(UserError, match=r"4,194,303 can be numbered.*capacity"):
        Frames((4, 1, 1), None, runs=1, capacity=2_100_000)
