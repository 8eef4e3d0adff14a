"""Environment steps per second: our vectors with one thread and with all, and gymnasium's.

    python benchmarks/stepping.py [--json] [--steps N] [--robots hopper ant ...]

Uniform actions, resets included, the best of three turns in which the contestants take part one after
the other. Read the ratios: machines are noisy.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable

import gymnasium as gym
import numpy as np

from o2okit.tasks import Key, task

GYMNASIUM = {
    "halfcheetah": "HalfCheetah-v4",
    "hopper": "Hopper-v4",
    "walker2d": "Walker2d-v4",
    "ant": "Ant-v4",
    "antmaze-medium-play-v2": None,  # gymnasium has no such environments
    "pen-cloned-v1": None,
}


def ours(name: str, n: int):
    return task(name).vector([Key(seed, "benchmark") for seed in range(n)])


def gymnasiums(name: str, n: int):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*out of date")
        make = [lambda: gym.make(GYMNASIUM[name])] * n
        mode = gym.vector.AutoresetMode.SAME_STEP
        return gym.vector.SyncVectorEnv(make, autoreset_mode=mode)


def rate(step: Callable, actions: np.ndarray) -> float:
    began = time.perf_counter()
    for action in actions:
        step(action)
    return actions.shape[0] * actions.shape[1] / (time.perf_counter() - began)


def measure(name: str, n: int, steps: int) -> dict:
    contestants = {"one_thread": ours(name, n), "all_threads": ours(name, n)}
    contestants["one_thread"].threads = 1
    if GYMNASIUM[name]:
        contestants["gymnasium"] = gymnasiums(name, n)
    for env in contestants.values():
        env.reset(seed=0)
    shape = (max(steps // n, 20), n, task(name).act_size)
    actions = np.random.default_rng(0).uniform(-1, 1, shape)
    turns = [{key: rate(env.step, actions) for key, env in contestants.items()} for _ in range(3)]
    best = {key: max(turn[key] for turn in turns) for key in contestants}
    return {"robot": name, "n": n, "threads": contestants["all_threads"].threads, **best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=2000, help="environment steps per turn")
    parser.add_argument("--robots", nargs="+", choices=GYMNASIUM, default=list(GYMNASIUM))
    args = parser.parse_args()
    cores, rows = len(os.sched_getaffinity(0)), []
    for name in args.robots:
        for n in (1, 10, 50):
            rows.append(measure(name, n, args.steps))
            row = rows[-1]
            if "gymnasium" in row:
                row["times_gymnasium"] = max(row["one_thread"], row["all_threads"])
                row["times_gymnasium"] /= row["gymnasium"]
    if args.json:
        print(json.dumps({"cores": cores, "load": os.getloadavg(), "rows": rows}, indent=2))
        return
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}; environment steps per second")
    for row in rows:
        line = "{robot:<22} n = {n:<3} one thread {one_thread:6.0f}  all {all_threads:6.0f}"
        if "gymnasium" in row:
            line += "  gymnasium {gymnasium:6.0f}  {times_gymnasium:4.2f}x"
        print(line.format(**row))


if __name__ == "__main__":
    main()
