"""Peak memory of a cohort: the dataset is held once, however many runs learn from it.

    python benchmarks/memory.py [--json] [--task halfcheetah-random-v2] [--rows 1000000] [--runs 5]

Of a process that loads the dataset, trains a few steps offline and then online, and evaluates. The kit's
dataset is built first, by a process of its own, where it is missing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

from o2okit.backbones import BACKBONES
from o2okit.experiment import AMOUNTS
from o2okit.training import RunSpec
from o2okit.training.cohort import Cohort
from o2okit.training.obtain import dataset


def peak() -> float:
    """GiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(task: str, backbone: str, rows: int, runs: int) -> dict[str, float]:
    """Peak memory in GiB after each stage."""
    stages = {"start": peak()}
    data = dataset(task, rows=rows)
    stages["dataset"] = peak()
    for phase in ("offline", "online"):
        specs = [
            RunSpec(
                task,
                backbone,
                phase,
                AMOUNTS["paper"].online_steps,
                seed,
                dataset=data,
                replay="offline" if phase == "offline" else BACKBONES[backbone].replay,
                eval_episodes=AMOUNTS["paper"].evaluations["locomotion"][1],
            )
            for seed in range(runs)
        ]
        cohort = Cohort(specs)
        for _ in range(20):
            cohort.advance()
        cohort.evaluate()
        stages[phase] = peak()
        del cohort
    return stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--task", default="halfcheetah-random-v2")
    parser.add_argument("--backbone", default="iql")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    build = ["data", "build", args.task, "--rows", str(args.rows)]
    subprocess.run([sys.executable, "-m", "o2okit.cli", *build], check=True)
    stages = measure(args.task, args.backbone, args.rows, args.runs)
    if args.json:
        print(json.dumps({**vars(args), "gib": stages}, indent=1))
        return
    print(f"{args.runs} runs of {args.backbone} on {args.rows:,} rows of {args.task}, peak memory:")
    for stage, gib in stages.items():
        print(f"{stage:>8}  {gib:5.2f} GiB")


if __name__ == "__main__":
    main()
