"""GDE, C.5: fine-tuning of discrete CQL on Atari games (Fig. 14).

Numbered departures from the paper (specs/gde.md 2.7):
    1. Its games are not legible in our text. Default: Asterix, Breakout, Pong and Qbert.
    2. How GDE is made discrete is ours (``o2okit.methods.gde_discrete``). F and L keep their share of the
       budget, 1 % and 2 % of T, as on the locomotion tasks.
    3. Scores are human-normalised; the figure of the paper shows points.
    4. The laptop profile shows the comparison in the toy maze, which takes minutes; a game takes hours on a
       processor (``tasks=["atari-pong"]``) and shows little after a hundredth of the paper's amounts.
    5. The number of offline updates is ours, and so is the agent that collects the data
       (``o2okit.training.game_data``).
    6. A stage's score is the mean return of its episodes, not the sum of its rewards: in the maze every step
       costs 1, so that the sum is the same for whoever acts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from o2okit.data import Dataset
from o2okit.data.maze import scripted
from o2okit.papers.grid import Amounts, Entry, GridStudy, Panel
from o2okit.tasks import task as find_task
from o2okit.tasks import tasks_of
from o2okit.training import RunSpec, RunStore, game_data, train
from o2okit.training.obtain import stand_in

MAZE = "toy-maze"
DEFAULT = ("atari-asterix", "atari-breakout", "atari-pong", "atari-qbert")
BEHAVIOUR_STEPS = {"smoke": 50, "laptop": 50_000, "paper": 2_500_000}  # of four frames


def share(hundredths: int) -> Any:
    """A part of the fine-tuning, in steps; at least 5."""
    return lambda amount: max(5, amount.online_steps * hundredths // 100)


GDE = Entry(
    "GDE",
    backbone="cql-discrete",
    method="gde-discrete",
    method_hyper={
        "fine_tune_steps": share(1),
        "scoring_steps": share(2),
        "finished_episodes": True,  # departure 6
    },
)
QDAGGER = Entry(
    "QDagger",
    backbone="cql-discrete",
    method="qdagger",
    online_hyper={"alpha": 0.0},  # TD and KL alone (specs/gde.md 3)
)


class AtariStudy(GridStudy):
    """The study behind ``notebooks/gde/atari.ipynb``."""

    key = "gde/atari"
    title = "C.5 Atari"
    panels: ClassVar[Mapping[str, Panel]] = {
        "figure_14": Panel(
            "Fig. 14: GDE and QDagger on CQL", (QDAGGER, GDE), curves=True, window=3
        ),
        "figure_14_scores": Panel("Ours: final scores behind Fig. 14", (QDAGGER, GDE)),
    }
    amounts: ClassVar[Mapping[str, Amounts]] = {
        "smoke": Amounts(
            tasks=DEFAULT[:1],
            rows=100,
            offline_steps=4,
            online_steps=40,
            offline_evaluations={"atari": (4, 1), "maze": (4, 1)},
            evaluations={"atari": (40, 1), "maze": (20, 1)},
            random_steps=10,
            seeds=1,
        ),
        "laptop": Amounts(
            tasks=(MAZE,),
            rows=50_000,
            offline_steps=30_000,
            online_steps=20_000,
            offline_evaluations={"atari": (5_000, 3), "maze": (5_000, 1)},
            evaluations={"atari": (2_500, 3), "maze": (500, 1)},
            random_steps=1_000,
            seeds=5,
        ),
        "paper": Amounts(
            tasks=DEFAULT,
            rows=500_000,
            offline_steps=500_000,
            online_steps=1_250_000,
            offline_evaluations={"atari": (62_500, 5), "maze": (62_500, 1)},
            evaluations={"atari": (62_500, 5), "maze": (62_500, 1)},
            random_steps=20_000,
            seeds=5,
        ),
    }
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "atari": tuple(task.name for task in tasks_of("atari"))
    }
    statistics: ClassVar[Mapping[str, str]] = {"atari": "last-10", "maze": "last-10"}
    stand_in = MAZE

    # --- data -------------------------------------------------------------------------------------
    def why_not(self, task: str) -> str:
        """As ``GridStudy.why_not``: games need the emulator, and all data here are the kit's."""
        if (source := self.given["source"]) not in ("auto", "kit"):
            return f"{self.key} collects its own data: source is 'auto' or 'kit', not {source!r}."
        if task == MAZE or importlib.util.find_spec("ale_py"):
            return ""
        return f"{task} needs ale-py. Install it with: pip install 'o2okit[atari]'."

    def behaviour(self, task: str) -> RunSpec:
        """The agent that collects a game's data."""
        return game_data.behaviour(task, BEHAVIOUR_STEPS[self.profile])

    def dataset(self, task: str) -> Dataset:
        """The maze's scripted data; those of a game are played by an agent that is trained first."""
        rows = self.amount.rows
        if task == MAZE:
            return scripted(rows)
        spec, store = self.behaviour(task), RunStore()
        played = store.folder(spec).finished and game_data.file(spec, rows).is_file()
        if not self.building and not played:
            return stand_in(find_task(task), rows)
        return game_data.dataset(
            train([spec], store=store, device=self.device, label=self.key)[0], rows
        )

    # --- runs -------------------------------------------------------------------------------------
    def spec(self, task: str, entry: Entry, seed: int) -> RunSpec:
        """As ``GridStudy.spec``; games are learnt from every fourth step."""
        spec = super().spec(task, entry, seed)
        return spec if task == MAZE else replace(spec, update_every=game_data.EVERY)

    def specs(self) -> list[RunSpec]:
        """As ``GridStudy.specs``, after the agents that collect the data."""
        return [self.behaviour(task) for task in self.tasks if task != MAZE] + super().specs()

    def _judge(self) -> list[dict[str, Any]]:
        return [self.judge_tasks("gde-35", "all", DEFAULT, GDE, [QDAGGER])]
