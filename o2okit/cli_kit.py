"""What computes: ``data build | compare | train | ladder``, ``pretrain``, ``finetune``, ``scratch``."""

from __future__ import annotations

import argparse
import math
import shlex
from typing import TYPE_CHECKING, Any

from o2okit.errors import UserError
from o2okit.profiles import PROFILES, check_profile, default_profile

if TYPE_CHECKING:
    import pandas as pd

    from o2okit.result import Result


PAIRS = ("hyper", "online_hyper", "method_hyper")
OWN = {  # what a cell's options are where nobody says otherwise
    "eval_every": None,
    "replay": None,
    "updates_per_step": 1,
    "ant_obs": 111,
    "source": "auto",
    **{name: {} for name in PAIRS},
}


def add_data_commands(actions: argparse._SubParsersAction) -> None:
    """Adds what makes data to ``o2okit data``."""
    command = actions.add_parser("build", help="roll a kit dataset out")
    command.add_argument("task")
    command.add_argument("--rows", type=int, help="transitions; default: the profile's")
    command.add_argument("--profile", help=f"how many rows: {', '.join(PROFILES)}")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--switch", nargs="+", default=(), metavar="NAME", help="of AntMaze's recipe: stay, ..."
    )
    command.set_defaults(command=_build)

    command = actions.add_parser(
        "compare", help="all datasets beside D4RL's published statistics: table and figure"
    )
    command.add_argument("--profile", help=f"how much is built: {', '.join(PROFILES)}")
    command.add_argument("--rows", type=int, metavar="N", help="of each; default: the profile's")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(command=_compare)

    command = actions.add_parser("train", help="train the policies that collect kit datasets")
    command.add_argument("environment", help="hopper, walker2d-expert, ant-controller, ...")
    command.add_argument("--steps", type=int, help="default: the environment's, up to 1,000,000")
    command.add_argument("--device", default="auto", help="auto, cpu or cuda")
    command.set_defaults(command=_train)

    command = actions.add_parser(
        "ladder", help="score a training's snapshots and ship some of them"
    )
    command.add_argument("environment")
    command.add_argument("--steps", type=int, help="of the training, where it was not the default")
    command.add_argument("--run", help="folder of the training, where it is not in the run store")
    command.set_defaults(command=_ladder)


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds ``pretrain``, ``finetune`` and ``scratch``."""
    command = commands.add_parser("pretrain", help="backbones compared on a task's dataset")
    _add_cell(command)
    command.add_argument("backbone", nargs="+", help="for instance td3+bc iql")
    command.add_argument("--steps", type=int, help="updates; default: the profile's")
    command.set_defaults(command=_pretrain)

    command = commands.add_parser("finetune", help="pre-train, fine-tune, draw the curves")
    _add_cell(command)
    command.add_argument("backbone", nargs="+", help="for instance iql")
    command.add_argument(
        "--method",
        action="append",
        help="default: naive; may be given again, to compare; `o2okit list --methods` shows them",
    )
    command.add_argument(
        "--replay", help="online, mixed, half or part; default: the method's, else the backbone's"
    )
    _add_pairs(
        command, "--online-hyper", "a hyper-parameter of the backbone, when it is fine-tuned,"
    )
    _add_pairs(command, "--method-hyper", "a hyper-parameter of the method")
    command.add_argument("--offline-steps", type=int, help="updates; default: the profile's")
    _add_online(command)
    command.set_defaults(command=_finetune)

    command = commands.add_parser("scratch", help="train online without data")
    _add_cell(command, data=False)
    command.add_argument("backbone", nargs="*", default=["sac"], help="default: sac")
    _add_online(command)
    command.set_defaults(command=_scratch)


def _add_cell(command: argparse.ArgumentParser, *, data: bool = True) -> None:
    command.add_argument(
        "task", help="for instance hopper-medium-v2; `o2okit data list` shows them"
    )
    command.add_argument("--profile", help=f"how much is run: {', '.join(PROFILES)}")
    command.add_argument(
        "--seeds", type=_seeds, help="how many, or which: 3 or 0,4,7; default: the profile's"
    )
    command.add_argument("--eval-every", type=int, help="steps; default: the profile's")
    command.add_argument(
        "--ant-obs", type=int, default=OWN["ant_obs"], help="27: ant without its 84 zeros"
    )
    if data:
        command.add_argument(
            "--source", default=OWN["source"], help="auto, d4rl, minari, kit or a path"
        )
    command.add_argument("--device", default="auto", help="auto, cpu or cuda")
    _add_pairs(command, "--hyper", "a hyper-parameter of the backbone")


def _add_online(command: argparse.ArgumentParser) -> None:
    command.add_argument("--steps", type=int, help="environment steps; default: the profile's")
    command.add_argument(
        "--updates-per-step", type=int, default=OWN["updates_per_step"], help="default: 1"
    )


def _add_pairs(command: argparse.ArgumentParser, flag: str, what: str) -> None:
    command.add_argument(
        flag,
        nargs=2,
        metavar=("NAME", "VALUE"),
        action="append",
        default=[],
        help=f"{what} that differs from its own; may be given again",
    )


def _build(args: argparse.Namespace) -> int:
    from o2okit.data.kit import ROWS
    from o2okit.training.obtain import build_kit

    profile = default_profile() if args.profile is None else check_profile(args.profile)
    rows = ROWS[profile] if args.rows is None else args.rows
    if rows < 2:
        raise UserError(f"--rows needs at least 2, the rows of one transition; got {rows}.")
    path = build_kit(args.task, rows, seed=args.seed, switches=args.switch)
    source = shlex.join(["--source", str(path)])
    print(f"{path}\n`o2okit data show {args.task} {source}` compares it with D4RL's.")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from o2okit import comparison, paths

    found = comparison.compare_datasets(rows=args.rows, seed=args.seed, profile=args.profile)
    files = found.save(paths.figures(found.profile) / "data")
    print(found.markdown())
    print("\n".join(str(file) for file in files))
    return 0


def _train(args: argparse.Namespace) -> int:
    from o2okit.training import behaviour, train

    spec = behaviour.training(args.environment, args.steps)
    (run,) = train([spec], device=args.device, checkpoint_seconds=120, label=args.environment)
    steps = "" if args.steps is None else f" --steps {args.steps}"
    print(f"{run.folder.path}\nNow: o2okit data ladder {args.environment}{steps}")
    return 0


def _ladder(args: argparse.Namespace) -> int:
    from o2okit.training import behaviour

    run = behaviour.training_run(args.environment, args.steps, args.run)
    targets = behaviour.targets(args.environment)
    behaviour.make_ladder(run, targets, name=args.environment)
    return 0


def _pretrain(args: argparse.Namespace) -> int:
    from o2okit import experiment

    result = experiment.pretrain(args.task, args.backbone, steps=args.steps, **_common(args))
    return _write(result, args, args.task, "-".join(args.backbone), "offline")


def _finetune(args: argparse.Namespace) -> int:
    from o2okit import experiment
    from o2okit.papers.parameters import typed

    methods = args.method or ["naive"]
    result = experiment.finetune(
        args.task,
        args.backbone,
        methods,
        steps=args.steps,
        offline_steps=args.offline_steps,
        replay=args.replay,
        online_hyper=typed(args.online_hyper, "--online-hyper"),
        method_hyper=typed(args.method_hyper, "--method-hyper"),
        updates_per_step=args.updates_per_step,
        **_common(args),
    )
    baseline = None
    if len(methods) > 1:
        baseline = "naive" if "naive" in methods else methods[0]
    names = (args.task, "-".join(args.backbone), "-".join(methods))
    return _write(result, args, *names, baseline=baseline)


def _scratch(args: argparse.Namespace) -> int:
    from o2okit import experiment

    result = experiment.scratch(
        args.task,
        args.backbone,
        steps=args.steps,
        updates_per_step=args.updates_per_step,
        **_common(args),
    )
    return _write(result, args, result.task, "-".join(args.backbone), "scratch")


def _common(args: argparse.Namespace) -> dict[str, Any]:
    from o2okit.papers.parameters import typed

    names = ("seeds", "profile", "eval_every", "ant_obs", "source", "device")
    given = {name: getattr(args, name) for name in names if hasattr(args, name)}
    return given | {"hyper": typed(args.hyper, "--hyper")}


def _seeds(typed: str) -> Any:
    """How many or which: ``3``, ``0,4,7`` or ``[0, 4, 7]``."""
    from o2okit.papers.parameters import parse

    found = parse(typed)
    return list(found) if isinstance(found, tuple) else found


def _write(
    result: Result, args: argparse.Namespace, *names: str, baseline: str | None = None
) -> int:
    """Draws cells, and compares methods with the ``baseline``.

    What differs from the profile's own amounts is part of the files' names.
    """
    from o2okit import paths
    from o2okit.papers.gde.entries import AMOUNTS
    from o2okit.report.artefacts import variant
    from o2okit.tasks import task as find_task

    amounts = AMOUNTS[result.profile]
    family = find_task(result.task).family
    steps, every = amounts.online_steps, amounts.evaluations[family][0]
    if names[-1] == "offline":
        steps, every = amounts.offline_steps, amounts.offline_evaluations[family][0]
    own = {"offline_steps": amounts.offline_steps, "steps": steps, "seeds": amounts.seeds, **OWN}
    if not hasattr(args, "offline_steps"):  # of a fine-tuning it is also the pre-training's
        own["eval_every"] = every
    given = {name: getattr(args, name, None) or value for name, value in own.items()}
    given |= {name: dict(given[name]) for name in PAIRS}
    profile = result.profile if result.profile == "paper" else ""
    name = ".".join(part for part in (*names, variant(given, own), profile) if part)
    files = result.save(paths.figures(result.profile) / "cells", name)
    print(result.label())
    _show(result.summary("final", "last-10"))
    if baseline is not None:
        print(f"better than {baseline}?")
        _show(result.compare(baseline))
    if result.diverged:
        print(f"diverged, look before you trust: {', '.join(result.diverged)}")
    print("\n".join(str(file) for file in files))
    return 0


def _show(table: pd.DataFrame) -> None:
    """Prints a table; a single seed has no interval."""
    rounded = table.replace([math.inf, -math.inf], math.nan).round(1)
    print(rounded.to_string(index=False, na_rep="-"))
