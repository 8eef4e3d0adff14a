"""A grid study as small as can be, for the tests of what grids do, and a dataset for every task."""

import numpy as np

from o2okit.data import Dataset
from o2okit.papers.gde import entries as e
from o2okit.papers.grid import Amounts, GridStudy, Panel
from o2okit.tasks import task as find_task

HOPPER, WALKER, MEDIUM = "hopper-random-v2", "walker2d-random-v2", "hopper-medium-v2"
MAZE = "antmaze-umaze-v0"
ONLINE_STEPS = 8
TINY = Amounts(
    tasks=(HOPPER, WALKER),  # random data: episodes are short, and need no policies
    rows=1_000,
    offline_steps=2,
    online_steps=ONLINE_STEPS,
    offline_evaluations={"locomotion": (1, 1), "antmaze": (1, 1)},
    evaluations={"locomotion": (2, 1), "antmaze": (2, 1)},
    random_steps=2,
    seeds=2,
    method_hyper={"gde": {"scoring_steps": 2, "fine_tune_steps": 2}},
)
LONGER = e.renamed(e.ON_IQL, "longer", "", length=2)


class Tiny(GridStudy):
    key = "gde/tiny"
    title = "A grid as small as can be"
    panels = {  # noqa: RUF012
        "table_8": Panel("scores", (e.OFFLINE, e.SCRATCH, e.GDE, e.NO_N_STEP)),
        "over_all": Panel("aggregate", (e.SCRATCH, e.GDE), aggregate="iqm"),
        "smooth": Panel("smoothed", (e.GDE, LONGER), curves=True, window=3),
        "seeds": Panel("seeds", (e.OFF2ON, e.GDE), curves=True, tasks=(HOPPER,), per_seed=True),
        "share": Panel("metric", (e.OFF2ON,), curves=True, metric="online_share"),
        "maze": Panel("elsewhere", (e.GDE,), tasks=(MAZE,)),
    }
    amounts = {"smoke": TINY, "laptop": TINY, "paper": TINY}  # noqa: RUF012
    groups = e.GROUPS
    statistics = e.STATISTICS
    stand_in = MEDIUM

    def _judge(self):
        return [
            self.judge_total("gde-05", "locomotion", e.GDE, e.OFFLINE),
            self.judge_tasks("gde-02", "all", "antmaze", e.GDE, [e.OFFLINE]),
        ]


def fake(task, **_) -> Dataset:
    """A few rows of the task's sizes, in two episodes of different return."""
    seen, rng = find_task(task), np.random.default_rng(0)
    obs = rng.standard_normal((40, seen.obs_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (40, seen.act_size)).astype(np.float32)
    reward = np.linspace(-4, 2, 40).astype(np.float32)
    ends = np.arange(40) % 20 == 19
    return Dataset(seen.environment, task, "kit", obs, action, reward, obs, ends & False, ends)
