"""What the run axis and the recording of updates are worth on this machine, in the toy maze.

    python benchmarks/toy_maze.py [--json] [--threads N]

Milliseconds per step of a whole cohort, with its update, offline and online, recorded and eager. Medians over
rounds, in each of which all are timed in turns; only the ratios mean anything on another machine.
"""

import argparse
import itertools
import json
import operator
import os
import time
from statistics import median

import torch

from o2okit.data.maze import scripted
from o2okit.training import RunSpec
from o2okit.training.cohort import Cohort
from o2okit.training.recording import FLAG

RUNS = (1, 2, 5, 10, 40)
WARM_UP, STEPS, ROUNDS = 50, 40, 15
REPLAY = {"offline": "offline", "online": "mixed"}


def cohort(runs: int, phase: str, way: str) -> Cohort:
    os.environ[FLAG] = str(int(way == "recorded"))
    task = ("toy-maze", "cql-discrete", phase, 20_000)
    data, replay = scripted(), REPLAY[phase]
    made = Cohort([RunSpec(*task, seed, dataset=data, replay=replay) for seed in range(runs)])
    for _ in range(WARM_UP):
        made.advance()
    return made


def milliseconds(made: Cohort) -> float:
    began = time.perf_counter()
    for _ in range(STEPS):
        made.advance()
    return 1e3 * (time.perf_counter() - began) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kinds = list(itertools.product(REPLAY, ("recorded", "eager")))
    made = {(runs, *kind): cohort(runs, *kind) for runs in RUNS for kind in kinds}
    rounds = [{key: milliseconds(each) for key, each in made.items()} for _ in range(ROUNDS)]
    rows = []
    for runs, phase in itertools.product(RUNS, REPLAY):
        ours = [each[runs, phase, "recorded"] for each in rounds]
        eager = [each[runs, phase, "eager"] for each in rounds]
        alone = [runs * each[1, phase, "recorded"] for each in rounds]
        row = {"runs": runs, "phase": phase, "ms": median(ours)}
        for name, other in {"than_eager": eager, "than_alone": alone}.items():
            row[name] = median(map(operator.truediv, other, ours))
        rows.append(row)
    if args.json:
        print(json.dumps({"threads": args.threads, "rows": rows}, indent=2))
        return
    print(f"{args.threads} threads; per step of the cohort, and how many times as fast")
    for row in rows:
        print(
            "R = {runs:<3} {phase:8s} {ms:6.2f} ms  {than_eager:.2f}x eager  {than_alone:4.1f}x per run "
            "alone".format(**row)
        )


if __name__ == "__main__":
    main()
