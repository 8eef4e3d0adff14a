"""Ours: what the bonus really is. Its scale, its saturation, the effect of k, and a constant in its place.

Numbered decisions of ours:
    1. The transitions are the last ones of fine-tuned TD3+BC agents, whose critics are the condition: a
       reference set of 128, drawn anew for each seed.
    2. Scales: what the paper writes (raw states, raw Q), each of the two mended alone, both (the default),
       and VCSE's code.
    3. ``laptop`` has twice the updates and two and a half times the environment steps of the other sections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from o2okit.errors import UserError
from o2okit.methods.neighbours import (
    conditional_bonus,
    neighbours,
    standardised,
    up_to_kth,
)
from o2okit.papers.grid import GridStudy, Panel
from o2okit.papers.qcse import entries as e
from o2okit.report import bonus
from o2okit.streams import generator
from o2okit.training import MissingAgentError

SIZE, RECENT = 128, 5_000  # of the reference set; the last own transitions that it is drawn from
K = (1, 2, 3, 5, 10, 15, 20, 25, 35, 50, 65, 85, 100, 110)
SCALES: dict[str, dict[str, bool]] = {
    "raw, as written": {"by_size": False, "q_norm": False},
    "Q standardised": {"by_size": False, "q_norm": True},
    "states / d": {"by_size": True, "q_norm": False},
    "both (default)": {"by_size": True, "q_norm": True},
    "VCSE's code": {"by_size": True, "q_norm": True, "code": True},
}
QCSE = replace(e.TD3_BC_QCSE, keep_replay=True)
LINES = (
    e.TD3_BC,
    e.on("td3+bc", "TD3+BC + constant", "", "const"),
    e.on("td3+bc", "TD3+BC + SE", "", "se"),
    e.on("td3+bc", "TD3+BC + VCSE", "", "vcse"),
    QCSE,
)


class Recorded(NamedTuple):
    """Observations ``[1, M, d]`` as the networks see them, and min_j Q_j ``[1, M]`` of their actions."""

    obs: Tensor
    q: Tensor


def bonuses(
    record: Recorded, k: int, *, by_size: bool, q_norm: bool, code: bool = False
) -> tuple[np.ndarray, float]:
    """tanh(b) ``[M]`` of a reference set's own rows, and the share of them whose ε is a distance in Q."""
    obs, q = record
    rows, size = obs.shape[1:]
    everyone = torch.ones_like(q, dtype=torch.bool)
    if q_norm:
        q = standardised(q, everyone)
    found = neighbours(
        *(obs, q, everyone, torch.arange(rows)[None], up_to_kth(torch.tensor([k]))),
        unit=size if by_size else 1.0,
        self_inclusive=code,
    )
    raw = conditional_bonus(found, size, count_self=code)
    return torch.tanh(raw)[0].numpy(), found.by_condition.float().mean().item()


class BonusStudy(GridStudy):
    """The study behind ``notebooks/qcse/what_the_bonus_is.ipynb``."""

    key = "qcse/what_the_bonus_is"
    title = "Ours: what the bonus really is"
    panels: ClassVar[Mapping[str, Panel]] = {
        "controls": Panel("TD3+BC with a bonus, and with a constant in its place", LINES),
        "controls_curves": Panel("Learning curves of TD3+BC with bonuses", LINES, curves=True),
    }
    drawings: ClassVar[Mapping[str, str]] = {
        "scales": "What transitions earn, by the scale of states and Q",
        "by_k": "What k does, by the scale of states and Q",
    }
    amounts = e.amounts(
        laptop={"offline_steps": 100_000, "online_steps": 25_000},  # decision 3
        paper={"tasks": e.GYM},
    )
    groups = e.GYM_GROUPS
    statistics = e.STATISTICS

    @cached_property
    def recorded(self) -> dict[int, Recorded]:
        """The first task's reference set of each seed: others differ in numbers, not in kind.

        Raises ``UserError`` before ``run()``.
        """
        found = {}
        for seed in self.seeds:
            run = self.result(self.spec(self.tasks[0], QCSE, seed))
            own, agent = run.transitions(), run.agent()
            first = max(len(own.obs) - RECENT, 0)
            rng, most = generator(seed, "reference set"), len(own.obs) - first
            rows = first + rng.choice(most, min(SIZE, most), replace=False)
            batch = type(own)(*(x if x is None else x[None, rows] for x in own))
            batch = agent.prepare(batch)
            with torch.no_grad():
                q = agent.q(agent.critic, batch.obs, batch.action).amin(1)
            found[seed] = Recorded(batch.obs, q)
        return found

    def _draw_own(self, artefact: str) -> tuple[Figure, pd.DataFrame]:
        task, caption = self.tasks[0], self.drawings[artefact]
        title, rows = f"{caption}\n{task}", []
        for seed, record in self.recorded.items():
            most = record.q.shape[1] - 1
            k = min(self.spec(task, QCSE, seed).method_hyper["k"], most)
            for name, scales in SCALES.items():
                if artefact == "scales":
                    values, _ = bonuses(record, k, **scales)
                    rows += [{"seed": seed, "k": k, "scales": name, "bonus": v} for v in values]
                    continue
                for each in (k for k in K if k <= most):
                    values, share = bonuses(record, each, **scales)
                    about = {"seed": seed, "scales": name, "k": each}
                    spread = {"mean": values.mean(), "std": values.std(), "by_condition": share}
                    rows.append(about | spread)
        frame = pd.DataFrame(rows)
        draw = bonus.distributions if artefact == "scales" else bonus.by_neighbour
        return draw(frame, title), frame

    def explore(self) -> Any:
        """Sliders and switches on the first task's recorded transitions; ``None`` without agents.

        Raises ``UserError``.
        """
        try:
            import ipywidgets as widgets
        except ModuleNotFoundError as error:
            raise UserError(
                "the controls need ipywidgets. Install the extra: pip install 'o2okit[notebook]'."
            ) from error
        try:
            records = {f"seed {seed}": record for seed, record in self.recorded.items()}
        except MissingAgentError as why:
            print(f"{self.key}: nothing to explore: {why}")
            return None
        most = min(record.q.shape[1] for record in records.values()) - 1

        def show(seed: str, k: int, by_size: bool, q_norm: bool, code: bool) -> None:
            values, share = bonuses(records[seed], k, by_size=by_size, q_norm=q_norm, code=code)
            _, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
            title = f"ε is a distance in Q for {share:.0%} of {len(values)} transitions"
            bonus.distribution({seed: [values]}, ax, title)
            plt.show()

        return widgets.interactive(
            show,
            seed=list(records),
            k=widgets.IntSlider(min(15, most), 1, most, continuous_update=False),
            by_size=widgets.Checkbox(True, description="states / d"),
            q_norm=widgets.Checkbox(True, description="standardise Q"),
            code=widgets.Checkbox(False, description="VCSE's code"),
        )

    def _judge(self) -> list[dict[str, Any]]:
        plain, constant, _, _, ours = (self.total(line, "") for line in LINES)
        sides = (
            ("TD3+BC with QCSE ends above TD3+BC with a constant bonus", ours, constant),
            ("TD3+BC with a constant bonus ends above TD3+BC", constant, plain),
        )
        return [
            self.judge_own(number, f"{statement} (sum over tasks)", lhs, ">", rhs, paired=True)
            for number, (statement, lhs, rhs) in enumerate(sides, start=1)
        ]
