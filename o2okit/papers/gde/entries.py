"""GDE's tasks, amounts and columns, shared by its sections: equal entries are equal runs (specs/gde.md 3, 4).

Numbered departures from the paper:
    1. ``laptop`` scales the budget down to a tenth, and with it BpIQL's epochs. How stages and warm-ups
       become shorter with the budget, their methods say.
    2. One offline agent per seed; the paper may have shared one.
    3. Offline is the last evaluation of the pre-training: that agent is what is fine-tuned.
    4. One run of SAC from scratch serves all datasets of a robot, as its equal cells in Table 2 say.
    5. ``laptop`` has fewer updates, steps and tasks in the sections with CQL or Cal-QL.
    6. Offline agents whose Q diverged (spec 2.9) are named in the notebook and the record, not rejected.
    7. IQL's log σ is kept in [-20, 2] (specs/qcse.md 3), not in [-5, 2]; it comes near neither.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from o2okit.papers.declarations import Amounts, Entry, changed

LOCOMOTION = tuple(
    f"{robot}-{quality}-v2"
    for robot in ("halfcheetah", "hopper", "walker2d")
    for quality in ("random", "medium", "medium-replay")
)
ANTMAZE = tuple(
    f"antmaze-{maze}-v0"
    for maze in (
        "umaze",
        "umaze-diverse",
        "medium-play",
        "medium-diverse",
        "large-play",
        "large-diverse",
    )
)
RANDOM = tuple(name for name in LOCOMOTION if "-random-" in name)
GROUPS = {"locomotion": LOCOMOTION, "antmaze": ANTMAZE}
STATISTICS = {"locomotion": "last-10", "antmaze": "final"}  # spec 4

FAMILIES = ("locomotion", "antmaze", "adroit", "atari")
TWO_LAYERS = {"hidden": (256, 256), "critic_hidden": (256, 256)}  # spec 2.4: everywhere
NETWORKS = {
    "awac": TWO_LAYERS,
    "cql": {**TWO_LAYERS, "actor_lr": 3e-4, "alpha_lr": 3e-4},
    "cal-ql": {**TWO_LAYERS, "actor_lr": 3e-4, "alpha_lr": 3e-4},
}

AMOUNTS = {
    "smoke": Amounts(
        tasks=("hopper-medium-v2",),
        rows=20_000,
        offline_steps=20,
        online_steps=50,
        offline_evaluations=dict.fromkeys(FAMILIES, (20, 1)),
        evaluations=dict.fromkeys(FAMILIES, (25, 1)),
        random_steps=20,
        seeds=1,
        method_hyper={"bp-iql": {"epochs": 1, "prior_batch": 4_000}},
        hyper={
            **NETWORKS,
            "cql": {**NETWORKS["cql"], "n_actions": 2},  # 7 critic values, not 31
            "cal-ql": {**NETWORKS["cal-ql"], "n_actions": 2},
        },
    ),
    "laptop": Amounts(
        tasks=("hopper-medium-v2", "halfcheetah-medium-v2"),
        rows=200_000,
        offline_steps=100_000,
        online_steps=25_000,
        offline_evaluations={**dict.fromkeys(FAMILIES, (10_000, 10)), "antmaze": (10_000, 20)},
        evaluations={**dict.fromkeys(FAMILIES, (500, 5)), "antmaze": (2_500, 20)},
        random_steps=5_000,
        seeds=3,
        method_hyper={"bp-iql": {"epochs": 10}},  # departure 1
        hyper=NETWORKS,
    ),
    "paper": Amounts(
        tasks=LOCOMOTION + ANTMAZE,
        rows=1_000_000,
        offline_steps=1_000_000,
        online_steps=250_000,
        offline_evaluations={**dict.fromkeys(FAMILIES, (5_000, 10)), "antmaze": (50_000, 100)},
        evaluations={**dict.fromkeys(FAMILIES, (2_500, 10)), "antmaze": (12_500, 100)},
        random_steps=5_000,
        seeds=5,
        hyper=NETWORKS,
    ),
}
amounts = partial(changed, AMOUNTS)
# On a CPU an update of CQL takes about 12 times as long as one of IQL (departure 5).
SHORT = {
    "offline_steps": 20_000,
    "online_steps": 10_000,
    "offline_evaluations": {"locomotion": (2_000, 10), "antmaze": (2_000, 20)},
}
STAND_IN = "hopper-medium-v2"


def iql(label: str, published: str, method: str | None = "naive", **changes: object) -> Entry:
    """An entry on IQL."""
    return Entry(label, published, "iql", method, **changes)


OFFLINE = Entry("Offline", "iql (offline)", method=None)
SCRATCH = Entry("FromScratch", "sac (from_scratch)", "sac", pretrained=False)
PRELOADED = Entry(
    "SAC + buffer",
    "sac (preload_buffer)",
    "sac",
    pretrained=False,
    preloaded=True,
    online_hyper={"normalise": False},  # as without the buffer: there is nothing to do it by
)
AWAC = Entry("AWAC", "awac", "awac", replay="mixed")
IQL = iql("IQL", "iql", replay="mixed")
ON_IQL = iql("OnIQL", "on_iql", replay="online")
RE_IQL = iql("ReIQL", "re_iql", "reiql")
RND = iql("RND", "iql+rnd", "rnd", replay="online")
BP_IQL = iql("BpIQL", "bp_iql", "bp-iql")
FILTER = iql("Filter", "iql+filter", "filter")
PER = iql("PER", "iql+per", "per")
OFF2ON = iql("Off2OnRL", "iql+off2onrl", "balanced-replay")
JSRL = iql("JSRL", "iql+jsrl", "jsrl")
QDAGGER = iql("QDagger", "iql+qdagger", "qdagger")
PEX = iql("PEX", "iql+pex", "pex")
GDE = iql("GDE", "iql+gde", "gde")
NO_EXPLOIT = iql("w/o exploit", "iql+gde (no_exploit)", "gde", method_hyper={"exploit": False})
NO_EXPLORE = iql("w/o explore", "iql+gde (no_explore)", "gde", method_hyper={"explore": False})
NO_TEACHER = iql("w/o teacher", "iql+gde (no_teacher)", "gde", method_hyper={"rho": 0.0})
NO_N_STEP = iql("w/o n-step", "iql+gde (no_nstep)", "gde", method_hyper={"n": 1}, family="antmaze")
BASELINES = (OFFLINE, SCRATCH, AWAC, IQL, OFF2ON, JSRL, QDAGGER, PEX)  # of Table 2


def others(backbone: str, prefix: str, published: str) -> tuple[Entry, Entry, Entry, Entry]:
    """Offline, Naive, QDagger and GDE on another backbone (Table 3).

    Args:
        backbone: its name.
        prefix: of the labels, as the paper has it.
        published: the backbone's name among the published cells.
    """
    return (
        Entry(f"{prefix}Offline", f"{published} (offline)", backbone, None),
        Entry(f"{prefix}Naive", f"{published} (naive)", backbone, replay="mixed"),  # spec 2.5
        Entry(f"{prefix}QDagger", f"{published}+qdagger", backbone, "qdagger"),
        Entry(f"{prefix}GDE", f"{published}+gde", backbone, "gde"),
    )


def renamed(entry: Entry, label: str, published: str, **changes: object) -> Entry:
    """The same way under another name, as another artefact has it; or a variant of it."""
    return replace(entry, label=label, published=published, **changes)
