"""GDE, Section 3.1 and B.4: a conservative agent keeps to the path it knows (Fig. 2 a-c).

Offline CQL (α = 3) learns the long way to the right goal. Fine-tuned with α = 3 it stays on it; with
α = 0, from the same parameters, it finds the left goal, which is half as far.

Departures from the paper:
    1. The maze's layout is ours (``o2okit.tasks.maze``), and so is the default dataset
       (``o2okit.data.maze``); the paper shows both only as images.
    2. The TD loss is not named there. Default: Huber, because with the squared error α = 3 finds the left
       goal too. ``figure_2_loss`` shows both losses over α.
    3. Curves show the greedy policy, evaluated every 500 steps; the paper does not say what its show.
    4. The final return of a run is the mean of its last ten evaluations.
    5. Fine-tuning continues the whole agent: parameters, target network, Adam's moments. The paper says
       "the same parameter initialization".
    6. Its caption, Section 3.1 and B.4 letter the panels differently: here b shows where the agents go, c the
       curves (specs/gde.md 5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from o2okit.data import Dataset
from o2okit.data.maze import checkpoint_parts, collect, scripted
from o2okit.papers import parameters as p
from o2okit.papers.study import Study
from o2okit.report import maze as draw
from o2okit.report.artefacts import COLOURS, style
from o2okit.report.statistics import bootstrap_interval
from o2okit.tasks import task as find_task
from o2okit.tasks.maze import GEOMETRY
from o2okit.training import RunSpec, RunStore, train
from o2okit.training.obtain import stand_in
from o2okit.training.train import to_train

ALPHAS = (0.0, 0.3, 1.0, 3.0, 6.0)
LOSSES = {
    "Huber": {"huber_delta": 1.0, "td_weight": 1.0},
    "squared": {"huber_delta": math.inf, "td_weight": 2.0},  # error², as mse_loss has it
}
LAST = 10  # evaluations that make the final return
MARGIN = 5.0  # steps: two final returns closer than this count as equal

FULL = {
    "offline_updates": 30_000,
    "online_steps": 20_000,
    "transitions": 50_000,
    "behaviour_steps": 80_000,
    "eval_every": 500,
    "seeds": 5,
    "sweep_seeds": 3,
}
AMOUNTS = {
    "smoke": {
        "offline_updates": 60,
        "online_steps": 400,
        "transitions": 2_000,
        "behaviour_steps": 600,
        "eval_every": 40,
        "seeds": 1,
        "sweep_seeds": 1,
    },
    "laptop": FULL,
    "paper": FULL,  # the paper's own scale fits a laptop
}


class ToyMazeStudy(Study):
    """The study behind ``notebooks/gde/toy_maze.ipynb``."""

    key = "gde/toy_maze"
    title = "3.1 Conservative policy and inefficient exploration: the toy maze"
    artefacts: ClassVar[Mapping[str, str]] = {
        "figure_2a": "Fig. 2a: where the offline dataset has been",
        "figure_2b": "Fig. 2b: where the agents go during fine-tuning",
        "figure_2c": "Fig. 2c: return during fine-tuning with and without the CQL penalty",
        "figure_2_loss": "Ours: the outcome over α and the TD loss",
    }
    parameters: ClassVar[Mapping[str, p.Parameter]] = {
        "profile": p.PROFILE,
        "seeds": p.seeds(doc="seeds of Fig. 2"),
        "sweep_seeds": p.seeds(doc="seeds of the α x loss sweep"),
        "dataset": p.choice(
            "scripted", "scripted", "checkpoints", doc="what the dataset is collected with"
        ),
        "device": p.DEVICE,
    }

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.amounts = AMOUNTS[self.profile]
        self.seeds: list[int] = self.given["seeds"]
        self.sweep_seeds: list[int] = self.given["sweep_seeds"]
        style()

    def defaults(self, profile: str) -> dict[str, Any]:
        """The profile decides the seeds."""
        seeds = {name: list(range(AMOUNTS[profile][name])) for name in ("seeds", "sweep_seeds")}
        return {**super().defaults(profile), **seeds}

    # --- runs -------------------------------------------------------------------------------------
    @cached_property
    def dataset(self) -> Dataset:
        """The offline dataset; with ``checkpoints`` its behaviour agents are trained first."""
        if self.given["dataset"] == "scripted":
            return scripted(self.amounts["transitions"])
        store = RunStore()
        if not self.building and to_train(self.behaviour(), store):
            return stand_in(find_task("toy-maze"), self.amounts["transitions"])
        runs = train(self.behaviour(), store=store, device=self.device, label=self.key)
        every_cell = torch.arange(GEOMETRY.n_cells)[None]
        agents = [run.agent(step) for run in runs for step in run.checkpoints()]
        return collect(
            checkpoint_parts([agent.greedy(every_cell)[0].numpy() for agent in agents]),
            name="kit-toy-maze-checkpoints",
            transitions=self.amounts["transitions"],
            seed=0,
            provenance={
                "recipe": "checkpoints of DQN with and without RND",
                "behaviour_runs": [run.spec.id for run in runs],
            },
        )

    def behaviour(self) -> list[RunSpec]:
        """DQN from scratch with and without RND (B.4), with ten snapshots each."""
        steps = self.amounts["behaviour_steps"]
        return [
            RunSpec(
                "toy-maze",
                "dqn",
                "online",
                steps,
                seed,
                hyper={"epsilon_start": 1.0},
                method=method,
                replay="online",
                learning_starts=min(1_000, steps // 10),
                eval_every=steps // 20,
                snapshot_every=steps // 10,
            )
            for method in ("naive", "rnd")
            for seed in (0, 1)
        ]

    def offline(self, seed: int, loss: str = "Huber") -> RunSpec:
        """Offline CQL with α = 3."""
        return RunSpec(
            "toy-maze",
            "cql-discrete",
            "offline",
            self.amounts["offline_updates"],
            seed,
            hyper={"alpha": 3.0, **LOSSES[loss]},
            dataset=self.dataset,
            eval_every=self.amounts["eval_every"] * 5,
        )

    def online(self, seed: int, alpha: float, loss: str = "Huber") -> RunSpec:
        """Fine-tuning of that agent with another α; the dataset stays in the replay."""
        return RunSpec(
            "toy-maze",
            "cql-discrete",
            "online",
            self.amounts["online_steps"],
            seed,
            hyper={"alpha": alpha, **LOSSES[loss]},
            dataset=self.dataset,
            replay="mixed",
            start=self.offline(seed, loss),
            keep_replay=True,
            eval_every=self.amounts["eval_every"],
        )

    def specs(self) -> list[RunSpec]:
        """Fig. 2's runs and the sweep, after those that collect the data; what they share is trained once."""
        collecting = self.behaviour() if self.given["dataset"] == "checkpoints" else []
        figure_2 = [self.online(seed, alpha) for alpha in (3.0, 0.0) for seed in self.seeds]
        sweep = [
            self.online(seed, alpha, loss)
            for loss in LOSSES
            for alpha in ALPHAS
            for seed in self.sweep_seeds
        ]
        return collecting + figure_2 + sweep

    # --- numbers ----------------------------------------------------------------------------------
    def curve(self, seed: int, alpha: float, loss: str = "Huber") -> pd.DataFrame:
        """Evaluations of one run: step, return, length, shares of the outcomes."""
        return self.result(self.online(seed, alpha, loss)).evaluations()

    def finals(
        self, alpha: float, loss: str = "Huber", seeds: list[int] | None = None
    ) -> np.ndarray:
        """Final return of each seed: the mean of its last ten evaluations."""
        curves = [self.curve(seed, alpha, loss) for seed in seeds or self.seeds]
        return np.array([curve["return"].tail(LAST).mean() for curve in curves])

    def _table(self, artefact: str | None = None) -> pd.DataFrame:
        rows = []
        for loss in LOSSES:
            for alpha in ALPHAS:
                main = loss == "Huber" and alpha in (0.0, 3.0)
                seeds = sorted({*self.sweep_seeds, *(self.seeds if main else ())})
                curves = [self.curve(seed, alpha, loss) for seed in seeds]
                final = bootstrap_interval(self.finals(alpha, loss, seeds))
                last = pd.concat([curve.tail(LAST) for curve in curves])
                rows.append(
                    {
                        "td_loss": loss,
                        "alpha": alpha,
                        "seeds": len(seeds),
                        "offline_return": np.mean([curve["return"].iloc[0] for curve in curves]),
                        "final_return": final.estimate,
                        "low": final.low,
                        "high": final.high,
                        "left_goal": last["left goal"].mean(),
                        "right_goal": last["right goal"].mean(),
                    }
                )
        return pd.DataFrame(rows)

    def provenance(self) -> dict[str, Any]:
        """Dataset and seeds."""
        data = self.dataset
        origin = {"name": data.name, "source": data.source, "sha256": data.hash}
        return {
            "dataset": {**origin, "transitions": len(data), **data.provenance},
            "seeds": self.seeds,
            "sweep_seeds": self.sweep_seeds,
        }

    def seeds_of(self, artefact: str | None = None) -> list[int]:
        """The sweep has seeds of its own."""
        return self.sweep_seeds if artefact == "figure_2_loss" else self.seeds

    def _judge(self) -> list[dict[str, Any]]:
        def swept(alpha: float, loss: str) -> np.ndarray:
            return self.finals(alpha, loss, self.sweep_seeds)

        # Ours are exploratory: their wording follows the first runs. The rules do not. Seeds are paired where
        # both sides start from one offline agent.
        return [
            self.judge("gde-36", self.finals(3.0), self.finals(0.0), paired=True),
            self.judge_own(
                1,
                "Exploratory: α = 3 ends higher with the squared TD loss than with the Huber loss",
                swept(3.0, "squared"),
                ">",
                swept(3.0, "Huber"),
            ),
            self.judge_own(
                2,
                "Exploratory: with the squared TD loss α = 3 and α = 0 end alike",
                swept(3.0, "squared"),
                "~",
                swept(0.0, "squared"),
                equal_margin=MARGIN,
                paired=True,
            ),
            self.judge_own(
                3,
                "Exploratory: with the Huber loss α = 1 and α = 0 end alike",
                swept(1.0, "Huber"),
                "~",
                swept(0.0, "Huber"),
                equal_margin=MARGIN,
                paired=True,
            ),
        ]

    # --- figures ----------------------------------------------------------------------------------
    def _draw(self, artefact: str) -> tuple[Figure, pd.DataFrame]:
        return getattr(self, f"_{artefact}")()

    def _figure_2a(self) -> tuple[Figure, pd.DataFrame]:
        figure, axes = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
        counts = np.bincount(self.dataset.observations, minlength=GEOMETRY.n_cells)
        draw.heat(figure, axes, counts, "visits in the dataset")
        axes.set_title(self.artefacts["figure_2a"])
        return figure, draw.cells(visits=counts)

    def _figure_2b(self) -> tuple[Figure, pd.DataFrame]:
        figure, panels = plt.subplots(
            1, 2, figsize=(10, 4.6), layout="constrained", sharex=True, sharey=True
        )
        counts, limit = {}, 1
        for alpha in (3.0, 0.0):
            runs = [self.result(self.online(seed, alpha)) for seed in self.seeds]
            visited = [run.transitions().obs.numpy() for run in runs]
            counts[alpha] = np.bincount(np.concatenate(visited), minlength=GEOMETRY.n_cells)
            limit = max(limit, counts[alpha].max())
        for axes, (alpha, visits) in zip(panels, counts.items(), strict=True):
            name = "CQL, α = 3" if alpha else "DQN, α = 0"
            draw.heat(figure, axes, visits, "visits while fine-tuning, all seeds", limit)
            run = self.result(self.online(self.seeds[0], alpha))
            draw.paths(axes, run.transitions(), run.episodes())
            axes.set_title(f"{name} (paths: seed {self.seeds[0]}, dark early, bright late)")
        figure.suptitle(self.artefacts["figure_2b"])
        return figure, draw.cells(**{f"visits_alpha_{alpha:g}": c for alpha, c in counts.items()})

    def _figure_2c(self) -> tuple[Figure, pd.DataFrame]:
        figure, axes = plt.subplots(figsize=(6.2, 4.0), layout="constrained")
        frames = []
        for alpha, colour, name in (
            (3.0, COLOURS["orange"], "CQL, α = 3"),
            (0.0, COLOURS["blue"], "DQN, α = 0"),
        ):
            curves = [self.curve(seed, alpha) for seed in self.seeds]
            draw.curves(axes, curves, colour, name)
            frames += [
                curve.assign(seed=s, alpha=alpha)
                for s, curve in zip(self.seeds, curves, strict=True)
            ]
        draw.goals(axes)
        axes.set(
            xlabel="environment steps of fine-tuning",
            ylabel="return of the greedy policy",
            title="Fig. 2c: fine-tuning the same offline CQL agent",
        )
        axes.legend(title="thick: mean, thin: seeds", loc="center right")
        return figure, pd.concat(frames)[["alpha", "seed", "step", "return", "length"]]

    def _figure_2_loss(self) -> tuple[Figure, pd.DataFrame]:
        rows = [
            {
                "td_loss": loss,
                "alpha": alpha,
                "seed": seed,
                "offline_return": self.curve(seed, alpha, loss)["return"].iloc[0],
                "final_return": self.finals(alpha, loss, [seed])[0],
            }
            for loss in LOSSES
            for alpha in ALPHAS
            for seed in self.sweep_seeds
        ]
        numbers = pd.DataFrame(rows)
        figure, panels = plt.subplots(
            1, len(LOSSES), figsize=(10, 4.0), layout="constrained", sharey=True
        )
        shift = np.linspace(-0.15, 0.15, len(self.sweep_seeds))  # seeds side by side
        places = numbers["alpha"].map(ALPHAS.index) + numbers["seed"].map(
            dict(zip(self.sweep_seeds, shift, strict=True))
        )
        for axes, loss in zip(panels, LOSSES, strict=True):
            mine = numbers["td_loss"] == loss
            for column, name, look in (
                ("offline_return", "offline, α = 3", {"marker": "D", "fc": "none", "ec": "0.5"}),
                ("final_return", "after fine-tuning", {"color": COLOURS["blue"], "s": 45}),
            ):
                axes.scatter(places[mine], numbers[column][mine], label=name, zorder=3, **look)
            draw.goals(axes, named=axes is panels[0])
            axes.set(xlabel="α while fine-tuning", title=f"{loss} TD loss")
            axes.set_xticks(range(len(ALPHAS)), [f"{alpha:g}" for alpha in ALPHAS])
        panels[0].set_ylabel("return of the greedy policy")
        handles, labels = panels[0].get_legend_handles_labels()
        title = f"{self.artefacts['figure_2_loss']} (one mark per seed)"
        figure.legend(
            handles, labels, title=title, loc="outside upper center", ncols=2, frameon=False
        )
        return figure, numbers
