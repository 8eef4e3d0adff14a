"""GDE, Sections 3.1 to 3.3: careful acting, offline samples, critics that diverged (Figs. 2d, 3).

    diverged:  |mean Q| > 5 r_max / (1 - γ)   at some evaluation            (specs/gde.md 2.9)

Numbered departures from the paper, which shows curves alone:
    1. Fig. 2d: t in 0, .25, .5 and 1, and a deviation of t σ; the agent is OnIQL (specs/gde.md 2.9).
    2. "SAC" goes on with an offline CQL agent by SAC's losses and SAC's learning rates. What stays CQL's:
       the networks with their initialisation, Adam's moments, the temperature α that it begins with,
       observations as they are.
    3. Mean Q is that of one minibatch per evaluation, offline or online (``o2okit.papers.divergence``). A
       value that is not a number counts as diverged.
    4. "Cannot be fine-tuned": the seeds that diverged end less than five points above their start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from o2okit.papers import histories
from o2okit.papers.divergence import exceeds, q_limit
from o2okit.papers.gde import entries as e
from o2okit.papers.grid import Entry, GridStudy, Panel
from o2okit.report.verdicts import MARGIN_POINTS

HALFCHEETAH, WALKER = "halfcheetah-medium-v2", "walker2d-medium-v2"

# t = 1 is OnIQL itself, which other figures have as well.
NARROW = tuple(
    e.iql(f"t = {t:g}", "", "temperature", replay="online", method_hyper={"temperature": t})
    for t in (0.0, 0.25, 0.5)
)
PLAIN = replace(e.ON_IQL, label="t = 1")

SAC_RATES = {"actor_lr": 3e-4, "alpha_lr": 3e-4}  # departure 2
AGENTS = (
    replace(e.IQL, published=""),
    Entry("TD3+BC", backbone="td3+bc", replay="mixed"),
    Entry("SAC", backbone="cql", online_backbone="sac", online_hyper=SAC_RATES, replay="mixed"),
)
WITH = tuple(replace(agent, label=f"{agent.label} with") for agent in AGENTS)
WITHOUT = tuple(replace(a, label=f"{a.label} without", replay="online") for a in AGENTS)


class ChallengesStudy(GridStudy):
    """The study behind ``notebooks/gde/challenges.ipynb``."""

    key = "gde/challenges"
    title = "3.1-3.3 Challenges: careful acting, offline samples, distorted values"
    panels: ClassVar[Mapping[str, Panel]] = {
        "figure_2d": Panel(
            "Fig. 2d: fine-tuning IQL with samples of N(μ, (tσ)²)",
            (*NARROW, PLAIN),
            curves=True,
            tasks=(HALFCHEETAH,),
        ),
        "figure_3a": Panel(
            "Fig. 3a: fine-tuning with and without the dataset in the buffer",
            tuple(each for pair in zip(WITH, WITHOUT, strict=True) for each in pair),
            curves=True,
            tasks=(HALFCHEETAH,),
        ),
        "figure_3b": Panel(
            "Fig. 3b: AWAC's mean Q; dashed: beyond it an agent counts as diverged",
            (e.AWAC,),
            curves=True,
            tasks=(WALKER,),
            before=True,
            metric="q",
        ),
        "figure_3c": Panel(
            "Fig. 3c: AWAC's score", (e.AWAC,), curves=True, tasks=(WALKER,), before=True
        ),
    }
    amounts = e.amounts(
        laptop={"tasks": (HALFCHEETAH, WALKER)}, paper={"tasks": (HALFCHEETAH, WALKER)}
    )
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "halfcheetah": (HALFCHEETAH,),
        "walker2d": (WALKER,),
    }
    statistics = e.STATISTICS
    stand_in = e.STAND_IN

    def limit(self, artefact: str, task: str) -> float | None:
        """As ``GridStudy.limit``: of Fig. 3b, where the largest of the seeds' stands for all."""
        if artefact != "figure_3b":
            return None
        return max(q_limit(self.offline(task, e.AWAC, seed)) for seed in self.seeds)

    def diverges(self, task: str, seed: int) -> bool:
        """Whether AWAC's mean Q leaves the limit, before or while it is fine-tuned."""
        spec = self.spec(task, e.AWAC, seed)
        q = histories.history(self, spec, metric="q", before=True)["q"]
        return exceeds(q, q_limit(spec.start))

    # --- claims -----------------------------------------------------------------------------------
    def _judge(self) -> list[dict[str, Any]]:
        return [
            self.judge_pairs("gde-37", "all", "halfcheetah", [(t, "<", PLAIN) for t in NARROW]),
            self.judge_pairs(
                "gde-38",
                "all",
                "halfcheetah",
                [(mine, ">", other) for mine, other in zip(WITHOUT, WITH, strict=True)],
            ),
            self.judge_diverged(),
        ]

    def judge_diverged(self) -> dict[str, Any]:
        """Fig. 3b, c: the seeds that diverged do not improve; not observed where none did."""
        end, start, run = [], [], 0
        for task in self.run_of("walker2d"):
            scores = self.scores(task, e.AWAC)
            for seed, score in zip(self.seeds, scores, strict=True):
                run += 1
                if self.diverges(task, seed):
                    end.append(score)
                    start.append(self.curve(task, e.AWAC, seed)["score"].iloc[0] + MARGIN_POINTS)
        if run and not end and self.profile != "smoke":
            why = f"the mean Q of none of {run} seeds leaves the limit of 5 r_max / (1 - γ)"
            return self.not_observed("gde-39", why)
        row = self.judge("gde-39", end, start, paired=True)
        counted = f"{len(end)} of {run} seeds diverged; end against start + {MARGIN_POINTS:g}: "
        return row | {"reason": counted + row["reason"]} if run else row
