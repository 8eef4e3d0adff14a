"""What the run axis is worth on this machine: milliseconds per update and run, for growing cohorts.

    python benchmarks/toy_maze.py [--json] [--threads N]

Also the share of an online step that is not the update. Ratios within one call; machines are noisy.
"""

import argparse
import json
import time

import torch

from o2okit.data.maze import scripted
from o2okit.training import RunSpec
from o2okit.training.cohort import Cohort


def milliseconds(runs: int, phase: str, steps: int = 400) -> float:
    data = scripted()
    specs = [
        RunSpec(
            "toy-maze",
            "cql-discrete",
            phase,
            20_000,
            seed,
            dataset=data,
            replay="mixed" if phase == "online" else "offline",
        )
        for seed in range(runs)
    ]
    cohort = Cohort(specs)
    for _ in range(50):
        cohort.advance()
    began = time.perf_counter()
    for _ in range(steps):
        cohort.advance()
    return (time.perf_counter() - began) / steps * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for runs in (1, 2, 5, 10, 40):
        offline, online = (
            min(milliseconds(runs, phase) for _ in range(3)) for phase in ("offline", "online")
        )
        rows.append(
            {"runs": runs, "offline_ms": offline, "online_ms": online, "per_run_ms": offline / runs}
        )
    for row in rows:
        row["times_faster_per_run"] = rows[0]["per_run_ms"] / row["per_run_ms"]
    if args.json:
        print(json.dumps({"threads": args.threads, "rows": rows}, indent=2))
        return
    print(f"{args.threads} threads; ms per step of the whole cohort, then per run")
    for row in rows:
        print(
            "R = {runs:<3} offline {offline_ms:6.2f}  online {online_ms:6.2f}  per run "
            "{per_run_ms:5.2f}  {times_faster_per_run:4.1f}x".format(**row)
        )


if __name__ == "__main__":
    main()
