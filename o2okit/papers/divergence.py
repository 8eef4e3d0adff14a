"""Which agents have diverged: |mean Q| > 5 r_max / (1 - γ)   (specs/gde.md 2.9).

r_max is the largest |reward| of the dataset as the agent sees it; mean Q is that of one minibatch at each
evaluation. The paper's authors rejected such offline agents; here they are named.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from o2okit.training import Run, RunSpec


def q_limit(spec: RunSpec) -> float:
    """5 r_max / (1 - γ) of a run on a dataset: no return of that discount comes near it."""
    hyper = spec.hyper
    seen = np.abs(hyper["reward_scale"] * spec.dataset.rewards + hyper["reward_bias"])
    return 5 * float(seen.max()) / (1 - hyper["discount"])


def exceeds(q: ArrayLike, limit: float) -> bool:
    """Whether the size of any mean Q is beyond the limit, or not a number."""
    return not bool((np.abs(np.asarray(q, dtype=float)) <= limit).all())


def has_left(run: Run) -> bool:
    """Whether a pre-trained agent has left the limit in the end; no other run has one."""
    spec = run.spec
    if spec.phase != "offline" or not {"reward_scale", "discount"} <= set(spec.hyper):
        return False
    metrics = run.metrics()
    return "q" in metrics and exceeds(metrics["q"].iloc[-1], q_limit(spec))
