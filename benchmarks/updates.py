"""Milliseconds per update of each backbone: batch 256, 17 observations, 6 actions, the networks of each
backbone's defaults (2x256; AWAC and, for the comparison, CQL 3x256).

    python benchmarks/updates.py [--json] [--threads 1 2] [--runs 1 5] [--seconds 3] [--device cuda] [--eager]

The baseline is ``plain.py``: the same update as single-run PyTorch code is commonly written, in the same
process. ``products`` is what one run's update needs at least: its matrix products, of the same shapes, with
nothing between them; on a GPU they are not timed. Medians over rounds, in each of which all are timed in
turns; only the ratios, medians of the rounds' own, mean anything on another machine. Our updates are recorded
once and replayed, as in training; ``--eager`` times them as they are, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from plain import PLAIN
from torch.utils._python_dispatch import TorchDispatchMode

from o2okit.backbones import BACKBONES
from o2okit.data import Batch
from o2okit.hyper import complete
from o2okit.streams import Streams
from o2okit.tasks import task
from o2okit.training.capture import CapturedUpdate
from o2okit.training.train import resolve_device

TASK = task("halfcheetah")
THREE = {"hidden": (256,) * 3, "critic_hidden": (256,) * 3}
SETTINGS = {"cql": THREE, "cal-ql": THREE}
ROUNDS = 9
WARM_UP = 10  # updates; the first ones are not recorded
PERIOD = 2  # updates after which TD3's begin anew


def minibatch(runs: int, rows: int = 256) -> Batch:
    obs, next_obs = torch.randn(2, runs, rows, TASK.obs_size)
    action = torch.rand(runs, rows, TASK.act_size) * 2 - 1
    reward, returns = torch.randn(2, runs, rows)
    return Batch(obs, action, reward, next_obs, torch.zeros(runs, rows), returns)


def ours(name: str, runs: int, eager: bool = False) -> Callable[[], None]:
    """An update with its random numbers and its preparation of the minibatch."""
    device, cls, seeds = torch.get_default_device(), BACKBONES[name], tuple(range(runs))
    hyper = complete(cls.Hyperparameters, SETTINGS.get(name, {}))
    batch = minibatch(runs, hyper["batch_size"])
    agent, streams = cls(TASK, [hyper] * runs, seeds, device), Streams(seeds, "offline", device)
    learn = agent.update if eager else CapturedUpdate(agent)

    def update() -> None:
        learn(agent.prepare(batch), streams.at(agent.updates))

    return update


def plain(name: str) -> Callable[[], None]:
    agent, batch = PLAIN[name](TASK.obs_size, TASK.act_size), minibatch(1)
    fields = [field[0] for field in batch[:5]]
    return lambda: agent.update(*fields)


class Products(TorchDispatchMode):
    """Notes the matrix products that are computed under it: operation, arguments, result."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten.baddbmm):
            own, into = [like(x) for x in args], {k: like(x) for k, x in kwargs.items()}
            self.calls.append(lambda: func(*own, **into))
        return func(*args, **kwargs)


def like(x: Any) -> Any:
    """Another tensor of the same shape and strides."""
    if not isinstance(x, torch.Tensor):
        return x
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return torch.randn(last + 1).to(x.dtype).as_strided(x.shape, x.stride())


def products(name: str) -> Callable[[], None]:
    """The matrix products of one run's update and nothing else."""
    update = ours(name, 1, eager=True)
    update()
    with Products() as noted:
        for _ in range(PERIOD):
            update()
    turns = [noted.calls[turn::PERIOD] for turn in range(PERIOD)]  # halves of two updates' products
    turn = itertools.cycle(turns)

    def run() -> None:
        for call in next(turn):
            call()

    return run


def now() -> float:
    if torch.cuda.is_available():  # what was launched is not yet done
        torch.cuda.synchronize()
    return time.perf_counter()


def milliseconds(update: Callable[[], None], seconds: float) -> float:
    began, count = now(), 0
    while now() - began < seconds:
        for _ in range(PERIOD):
            update()
        count += PERIOD
    return 1e3 * (now() - began) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--eager", action="store_true", help="time updates without a recording, too"
    )
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1 2; on a GPU 1")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    parser.add_argument(
        "--backbones", nargs="+", default=[n for n in BACKBONES if not BACKBONES[n].discrete]
    )
    args = parser.parse_args()
    rows, gpu = [], args.device == "cuda"
    threads_of_each = args.threads or ([1] if gpu else [1, 2])
    torch.set_default_device(resolve_device(args.device))
    for threads in threads_of_each:
        torch.set_num_threads(threads)
        for name in args.backbones:
            updates = {f"R={runs}": ours(name, runs) for runs in args.runs}
            if args.eager:
                updates |= {f"eager R={runs}": ours(name, runs, eager=True) for runs in args.runs}
            if name in PLAIN:
                updates["plain"] = plain(name)
            if 1 in args.runs and not gpu:
                updates["products"] = products(name)
            for update in updates.values():
                for _ in range(WARM_UP):
                    update()
            rounds = [  # in turns: what disturbs the machine disturbs all of them
                {
                    label: milliseconds(each, args.seconds / ROUNDS)
                    for label, each in updates.items()
                }
                for _ in range(ROUNDS)
            ]
            ms = {label: median(each[label] for each in rounds) for label in updates}
            gains = {
                label: median(
                    each["plain"] * int(label.split("=")[1]) / each[label] for each in rounds
                )
                for label in updates
                if "plain" in updates and "R=" in label
            }
            rows.append({"threads": threads, "backbone": name, **ms, "gains": gains})
            if not args.json:
                text = "  ".join(f"{label} {value:7.2f} ms" for label, value in ms.items())
                text += "".join(f"  {gain:.2f}x at {label}" for label, gain in gains.items())
                where = torch.cuda.get_device_name() if gpu else f"{threads} threads"
                print(f"{where}  {name:7s} {text}", flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
