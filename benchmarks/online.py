"""Environment steps per second of the whole online loop, and the share of evaluation.

    python benchmarks/online.py [--json] [--task hopper-medium-v2] [--backbone td3+bc] [--runs 1 5]

The share is of the time between two evaluations at the profile laptop's rhythm (``o2okit.experiment``),
with as many episodes: what a user waits for.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from o2okit.backbones import BACKBONES
from o2okit.experiment import AMOUNTS
from o2okit.training import RunSpec
from o2okit.training.cohort import Cohort
from o2okit.training.obtain import dataset
from o2okit.training.threads import Threads


def measure(task: str, backbone: str, runs: int, steps: int) -> dict[str, float]:
    amounts = AMOUNTS["laptop"]
    specs = [
        RunSpec(
            task,
            backbone,
            "online",
            100_000,
            seed,
            dataset=dataset(task, rows=AMOUNTS["smoke"].rows),
            replay=BACKBONES[backbone].replay,
            eval_episodes=amounts.evaluations["locomotion"][1],
        )
        for seed in range(runs)
    ]
    cohort = Cohort(specs)
    with Threads(torch.device(cohort.device)) as threads:
        for _ in range(50):
            threads.tick()
            cohort.advance()
        began = time.perf_counter()
        for _ in range(steps):
            cohort.advance()
        step = (time.perf_counter() - began) / steps
    began = time.perf_counter()
    cohort.evaluate()
    evaluation = time.perf_counter() - began
    length = sum(rows["evaluations"][-1]["length"] for rows in cohort.rows) / runs
    between = step * amounts.evaluations["locomotion"][0]
    return {
        "runs": runs,
        "steps_per_second": runs / step,
        "ms_per_step": 1e3 * step,
        "evaluation_seconds": evaluation,
        "episode_length": length,
        "evaluation_share": evaluation / (evaluation + between),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--task", default="halfcheetah-random-v2")
    parser.add_argument("--backbone", default="td3+bc")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    rows = [measure(args.task, args.backbone, runs, args.steps) for runs in args.runs]
    if args.json:
        print(json.dumps({"task": args.task, "backbone": args.backbone, "rows": rows}, indent=1))
        return
    for row in rows:
        print(
            "{runs} runs: {steps_per_second:.0f} environment steps/s, {ms_per_step:.1f} ms per step of the "
            "cohort; an evaluation {evaluation_seconds:.1f} s (episodes of {episode_length:.0f} steps), "
            "{evaluation_share:.0%} of the time".format(**row)
        )


if __name__ == "__main__":
    main()
