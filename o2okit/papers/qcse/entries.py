"""QCSE's tasks, amounts and columns, shared by its sections: equal entries are equal runs (specs/qcse.md 4).

Numbered departures from the paper:
    1. Everything is run, also what the paper quotes (spec E18); tasks are D4RL's v2 (spec 3).
    2. A score is the mean of the last tenth of the evaluations in every family (spec E4).
    3. ``laptop`` has a twentieth of the paper's updates and a hundredth of its online steps. CQL and Cal-QL,
       whose update would take ten to fifteen times as long as IQL's, have a fiftieth and a two-hundredth, two
       hidden layers everywhere, and four actions of each kind, not ten: a sixth of an update. With fewer
       updates Cal-QL on dense rewards is an agent without constraint: until Q has climbed to the returns,
       for some 10,000 updates, its penalty is a constant in the policy's actions. With both the bonus
       begins after 250 own rows, not 1,000. SUNG's VAE has a fortieth of its updates.
    4. One environment step and one update in turns, where Cal-QL's code collects whole episodes first.
    5. IQL, AWAC and TD3+BC have the same hyper-parameters on every task, raw rewards among them: those of
       CORL's fine-tuning code, with which the paper's agree (spec 3). IQL's cosine goes on online and climbs
       (E19).
    6. Networks are those of the released codes; "4 hidden layers for both" is ``hidden`` and
       ``critic_hidden`` (spec 3). Cal-QL on Gym tasks, which nobody describes, is CQL with calibration (E16).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from o2okit.papers.declarations import Amounts, Entry, changed
from o2okit.papers.gde.entries import AMOUNTS as GDE_AMOUNTS

ROBOTS = ("halfcheetah", "walker2d", "hopper", "ant")
MEDIUM = tuple(f"{robot}-medium-v2" for robot in ROBOTS)
REPLAY = tuple(f"{robot}-medium-replay-v2" for robot in ROBOTS)
EXPERT = tuple(f"{robot}-medium-expert-v2" for robot in ROBOTS)
ANTMAZE = tuple(
    f"antmaze-{maze}-v2"
    for maze in ("large-diverse", "large-play", "medium-diverse", "medium-play")
)
GYM = MEDIUM + REPLAY
GROUPS = {"antmaze": ANTMAZE, "medium": MEDIUM, "medium-replay": REPLAY}
GYM_GROUPS = {"medium": MEDIUM, "medium-replay": REPLAY}
STATISTICS = dict.fromkeys(("locomotion", "antmaze", "adroit"), "late")  # departure 2
STAND_IN = "hopper-medium-v2"

HYPER = {  # departure 5: what differs from the backbones' own settings by task
    "iql": {"reward_scale": 1.0, "reward_bias": 0.0, "expectile": 0.7, "beta": 3.0},
    "awac": {"temperature": 1.0},
    "td3+bc": {"actor_lr": 1e-4, "reward_bias": 0.0},
}
BONUSES = ("const", "qcse", "rnd-bonus", "se", "vae-bonus", "vcse")
FEW = {"n_actions": 2, "hidden": (32, 32), "critic_hidden": (32, 32)}  # of smoke's CQL
SMOKE = replace(
    GDE_AMOUNTS["smoke"],
    hyper={**HYPER, "cql": FEW, "cal-ql": FEW},
    method_hyper={
        **{name: {"start": 20} for name in BONUSES},
        "sung": {"vae_updates": 20, "vae_hidden": (32, 32)},
    },
)
PAPER = Amounts(
    tasks=GYM + ANTMAZE,
    rows=1_000_000,
    offline_steps=1_000_000,
    online_steps=1_000_000,
    offline_evaluations={
        "locomotion": (50_000, 10),
        "antmaze": (50_000, 50),
        "adroit": (50_000, 50),
    },
    evaluations={"locomotion": (5_000, 10), "antmaze": (10_000, 50), "adroit": (10_000, 50)},
    random_steps=5_000,
    seeds=5,
    hyper=HYPER,
)
LAPTOP_SUNG = {"vae_updates": 2_500}  # departure 3
AMOUNTS = {
    "smoke": SMOKE,
    "laptop": replace(
        GDE_AMOUNTS["laptop"],
        tasks=("hopper-medium-v2",),
        offline_steps=50_000,
        online_steps=10_000,
        evaluations={**GDE_AMOUNTS["laptop"].evaluations, "antmaze": (1_000, 20)},
        hyper=HYPER,
        method_hyper={"sung": LAPTOP_SUNG},
    ),
    "paper": PAPER,
}
SMALL = {"hidden": (256, 256), "critic_hidden": (256, 256), "n_actions": 4}
# With CQL or Cal-QL: departure 3.
SHORT = {
    "hyper": {**HYPER, "cql": SMALL, "cal-ql": SMALL},
    "method_hyper": {**{name: {"start": 250} for name in BONUSES}, "sung": LAPTOP_SUNG},
    "offline_steps": 20_000,
    "online_steps": 5_000,
    "offline_evaluations": {
        "locomotion": (2_500, 10),
        "antmaze": (2_500, 20),
        "adroit": (2_500, 20),
    },
    "evaluations": {"locomotion": (250, 5), "antmaze": (500, 20), "adroit": (500, 20)},
}
amounts = partial(changed, AMOUNTS)


def on(backbone: str, label: str, published: str, method: str = "naive", **hyper: Any) -> Entry:
    """Fine-tuning of a backbone; CQL and Cal-QL draw half of a minibatch from the dataset (spec 3)."""
    half = "half" if backbone in ("cql", "cal-ql") else "mixed"
    return Entry(label, published, backbone, method, replay=half, method_hyper=hyper)


CQL, CQL_QCSE = on("cql", "CQL", "cql"), on("cql", "CQL + QCSE", "cql+qcse", "qcse")
CAL_QL = on("cal-ql", "Cal-QL", "cal_ql")
CAL_QL_QCSE = on("cal-ql", "Cal-QL + QCSE", "cal_ql+qcse", "qcse")
IQL, IQL_QCSE = (
    replace(entry, online_hyper={"cosine_steps": lambda amount: amount.offline_steps})
    for entry in (on("iql", "IQL", "iql"), on("iql", "IQL + QCSE", "iql+qcse", "qcse"))
)
AWAC, AWAC_QCSE = (  # their transitions are looked at in Fig. 9: one run serves all sections
    replace(entry, keep_replay=True)
    for entry in (on("awac", "AWAC", "awac"), on("awac", "AWAC + QCSE", "awac+qcse", "qcse"))
)
TD3_BC = on("td3+bc", "TD3+BC", "td3bc")
TD3_BC_QCSE = on("td3+bc", "TD3+BC + QCSE", "td3bc+qcse", "qcse")
CONSERVATIVE = ((CQL, CQL_QCSE), (CAL_QL, CAL_QL_QCSE))


def both(pairs: tuple[tuple[Entry, Entry], ...]) -> tuple[Entry, ...]:
    """Pairs of entries in a row."""
    return tuple(entry for pair in pairs for entry in pair)
