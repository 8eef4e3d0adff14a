"""What a bonus costs: milliseconds per update with and without it, in one process, in turns.

    python benchmarks/bonus.py [--json] [--threads 1 2] [--runs 1 5] [--methods const se vcse qcse]

17 observations, 6 actions, batch 256, the networks of each backbone's defaults; a replay that draws half of
a minibatch from the run's own transitions, as QCSE's paper does, or all of both together (``mixed``), where
few are the run's own and the reference set is drawn beside them. Medians over rounds, in each of which every
method is timed once: a busy machine slows them alike. Only the ratios mean anything elsewhere.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time

import numpy as np
import torch

from o2okit.data import Dataset
from o2okit.training import RunSpec
from o2okit.training.cohort import Cohort

CASES = [("td3+bc", "half"), ("td3+bc", "mixed"), ("cql", "half")]
ROWS, STEPS, ROUNDS = 50_000, 2_000, 24


def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    obs, following = rng.standard_normal((2, ROWS, 17)).astype(np.float32)
    action = np.tanh(rng.standard_normal((ROWS, 6))).astype(np.float32)
    reward = rng.standard_normal(ROWS).astype(np.float32)
    ends = np.zeros(ROWS, dtype=bool)
    return Dataset("halfcheetah", "noise", "kit", obs, action, reward, following, ends, ends)


def cohort(runs: int, backbone: str, replay: str, method: str, data: Dataset) -> Cohort:
    """Two thousand own transitions, no update as yet."""
    specs = [
        RunSpec(
            *("halfcheetah", backbone, "online", ROWS, seed),
            method=method,
            dataset=data,
            replay=replay,
            learning_starts=STEPS,
        )
        for seed in range(runs)
    ]
    made = Cohort(specs)
    made.begin()
    while made.step < STEPS:
        made.advance()
    return made


def learn(made: Cohort) -> None:
    made.learn(made.streams.at(made.step))
    made.step += 1


def milliseconds(made: Cohort, seconds: float) -> float:
    learn(made)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        learn(made)
        count += 1
    return 1e3 * (time.perf_counter() - began) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 5], help="of a cohort")
    parser.add_argument("--methods", nargs="+", default=["const", "se", "vcse", "qcse"])
    parser.add_argument("--seconds", type=float, default=0.3)
    args = parser.parse_args()
    data, rows = dataset(), []
    for threads in args.threads:
        torch.set_num_threads(threads)
        for runs, (backbone, replay) in itertools.product(args.runs, CASES):
            names = ["naive", *args.methods]
            made = {name: cohort(runs, backbone, replay, name, data) for name in names}
            rounds = [
                {name: milliseconds(each, args.seconds) for name, each in made.items()}
                for _ in range(ROUNDS)
            ]
            about = {"threads": threads, "runs": runs, "backbone": backbone, "replay": replay}
            found = [
                {
                    **about,
                    "method": name,
                    "ms": float(np.median([each[name] for each in rounds])),
                    "ratio": float(np.median([each[name] / each["naive"] for each in rounds])),
                }
                for name in names
            ]
            rows += found
            if not args.json:
                shown = "  ".join(f"{r['method']} {r['ms']:.2f} ({r['ratio']:.2f}x)" for r in found)
                print(f"{threads} threads  R={runs}  {backbone}, {replay}: {shown}", flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
