"""``o2okit data``: list, where, check, fetch, show, fidelity (``cli_kit`` has the commands that compute)."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from o2okit.errors import UserError

if TYPE_CHECKING:
    from o2okit.data.sources import Place

SOURCE = "auto (the first place that has it), d4rl, minari, kit or a path"


def add_commands(commands: argparse._SubParsersAction) -> argparse._SubParsersAction:
    """Adds ``data`` and its sub-commands, and returns where further ones go. Imports nothing slow."""
    data = commands.add_parser("data", help="datasets: what is there, fetch, check, show")
    actions = data.add_subparsers(metavar="ACTION", required=True)

    command = actions.add_parser("list", help="the tasks with data and what is on this machine")
    command.set_defaults(command=_list)

    command = actions.add_parser("where", help="where a task's dataset is looked for")
    command.add_argument("task")
    command.set_defaults(command=_where)

    command = actions.add_parser("check", help="is a D4RL HDF5 file fit for use?")
    command.add_argument("file")
    command.add_argument("--task", help="otherwise taken from the file's name, if that is D4RL's")
    command.set_defaults(command=_check)

    command = actions.add_parser("fetch", help="download D4RL's files, checked and resumable")
    command.add_argument("task", nargs="+")
    command.set_defaults(command=_fetch)

    command = actions.add_parser("show", help="statistics of a dataset beside the published ones")
    command.add_argument("task")
    command.add_argument("--source", default="auto", help=SOURCE)
    command.add_argument("--rows", type=int, metavar="N", help="only the first N rows")
    command.add_argument("--figure", metavar="FILE", help="a picture, too: .png, .pdf or .svg")
    command.set_defaults(command=_show)

    command = actions.add_parser(
        "fidelity", help="how far the environment here is from the one that recorded a dataset"
    )
    command.add_argument("task")
    command.add_argument("--source", default="auto", help=SOURCE)
    command.add_argument("--steps", type=int, default=10_000, help="default: 10,000")
    command.add_argument(
        "--episodes", type=int, default=20, help="of the file's policy; default: 20"
    )
    command.set_defaults(command=_fidelity)

    return actions


def _list(args: argparse.Namespace) -> int:
    from o2okit.data.sources import FILES, where
    from o2okit.tasks import TASKS
    from o2okit.training.obtain import why_not

    print(f"{'task':<28}{'D4RL file':>12}  {'kit':<6}here")
    for name, task in TASKS.items():
        if not task.has_data:
            continue
        size = FILES[name].bytes if name in FILES else 0
        here = next((place for place in where(name) if place.found), None)
        shown = "none" if task.kit_only else f"{size / 1e6:,.0f} MB" if size else "?"
        kit = "-" if why_not(name, "kit") else "yes"
        print(f"{name:<28}{shown:>12}  {kit:<6}{_line(here) if here else '-'}")
    print(
        "\nkit: whether `o2okit data build TASK` can collect the kit's own. `o2okit data fetch TASK` gets\n"
        "D4RL's file; `o2okit data where TASK` lists all places."
    )
    return 0


def _line(place: Place) -> str:
    note = f" ({place.note})" if place.note else ""
    return f"{place.source}: {place.path}{note}"


def _where(args: argparse.Namespace) -> int:
    from o2okit.data.kit import ROWS
    from o2okit.data.sources import where
    from o2okit.paths import MEND

    places = where(args.task)
    used = next((place for place in places if place.found and place.source != "kit"), None)
    refused = [place for place in places if place.found and not place.usable]
    profiles = {f"kit-{args.task}-{rows}.hdf5": profile for profile, rows in ROWS.items()}
    for place in places:
        state = "used" if place is used else "found" if place.found else "-"
        if place in refused:
            state = "CLOSED" if place.mend == MEND else "WRONG"
        profile = profiles.get(place.path.name) if place.found else None
        print(f"{state:<7}{_line(place)}{f': profile {profile}' if profile else ''}")
    if refused and used in (None, refused[0]):
        print(f"a run is refused. {refused[0].mend}")
    else:
        print(_what_a_run_does(args.task, used))
    return 0


def _what_a_run_does(task: str, used: Place | None) -> str:
    from o2okit.data.kit import ROWS
    from o2okit.data.sources import FILES
    from o2okit.training.obtain import why_not

    if used is not None:
        return "a run takes the used one, whatever its profile"
    fetch = f"; `o2okit data fetch {task}` downloads D4RL's" if task in FILES else ""
    if why := why_not(task, "kit"):
        return f"a run finds nothing{fetch}. The kit's own: {why}"
    sizes = ", ".join(f"{profile} {rows:,}" for profile, rows in ROWS.items())
    return f"a run takes the kit's of its profile ({sizes} rows), built if it is missing{fetch}"


def _check(args: argparse.Namespace) -> int:
    from o2okit.data.check import check

    verdict = check(args.file, args.task)
    if verdict.error:
        print(f"BAD   {verdict.error}")
        return 1
    task = f", as {verdict.task}" if verdict.task else ""
    print(f"ok    {verdict.path}: {verdict.rows:,} rows{task}")
    for note in verdict.notes:
        print(f"note  {note}")
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from o2okit.data.fetch import fetch, file_of

    for task in args.task:
        file_of(task)  # a typo is told before anything is downloaded
    last = [0.0]

    def progress(root: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - last[0] < 5 and done != total:
            return
        last[0] = now
        share = f" of {total / 1e6:,.0f} MB ({done / total:.0%})" if total else " MB"
        print(f"  {done / 1e6:,.0f}{share} from {root}", file=sys.stderr, flush=True)

    failed = 0
    for task in args.task:
        try:
            print(f"{task}: {fetch(task, progress=progress)}")
        except UserError as error:
            if len(args.task) == 1:
                raise
            print(f"o2okit: {error}", file=sys.stderr)  # the others may still come
            failed += 1
    return 1 if failed else 0


def _show(args: argparse.Namespace) -> int:
    from o2okit.data import sources, statistics

    if args.rows is not None and args.rows < 2:
        raise UserError(f"--rows needs at least 2, the rows of one transition; got {args.rows}.")
    place, rows = sources.load_rows(args.task, args.source, first=args.rows)
    found = statistics.describe(rows, args.task)
    first = f", first {len(rows):,} rows" if args.rows is not None else ""
    print(f"{args.task}\nsource      {_line(place)}{first}")
    for label, value in (
        (
            "episodes",
            f"{found.episodes:,}, {found.lengths.min():,} to {found.lengths.max():,} steps",
        ),
        ("ends", f"{found.terminals:,} terminals, {found.timeouts:,} time-outs"),
        ("unfinished", f"{found.unfinished:,} rows at the end"),
        ("rewards", f"{found.reward_min:.4g} to {found.reward_max:.4g} a step"),
    ):
        print(f"{label:<12}{value}")
    table = statistics.compare(found)
    print("\n" + table.to_string(float_format=lambda x: f"{x:,.4f}", na_rep="-"))
    distance = statistics.state_distance(found)
    if distance is None:
        print("\nstates: no published moments to compare with")
    else:
        worst, shift = distance.largest_shift
        print(
            f"\nstates: means off by {distance.mean_shift:.3f} published standard deviations on average, "
            f"at most {shift:.3f} (dimension {worst}); spread {distance.spread:.3f} of the published; "
            f"Fréchet distance {distance.frechet:.3f}"
        )
        if (other := statistics.nearest_published(args.task)) is not None:
            print(f"D4RL's nearest other dataset of the robot, {other[0]}, lies {other[1]:.3f} off")
    if args.figure is not None:
        from o2okit.data.figure import draw

        caption = f"source: {_line(place)}{first}"
        print(f"\nfigure: {draw(rows, found, caption, args.figure)}")
    return 0


def _fidelity(args: argparse.Namespace) -> int:
    import numpy as np

    from o2okit.data import fidelity, sources, statistics
    from o2okit.errors import whole
    from o2okit.tasks import task as find_task

    steps, episodes = whole("--steps", args.steps, 1), whole("--episodes", args.episodes, 2)
    task = find_task(args.task)
    place = sources.find(args.task, args.source)
    rows = fidelity.read(place, task)
    found = fidelity.one_step(rows, task, steps)
    print(f"{args.task}\nsource      {_line(place)}")
    print(f"\none step, from {len(found.observations):,} stored states      median        99 %")
    scaled = found.observations / found.spread
    for label, away in (
        ("|Δ observation|", found.observations),
        ("in standard deviations", scaled),
        ("|Δ reward|", found.rewards),
    ):
        if away is not None:
            print(f"  {label:<36}{np.median(away):>12.3g}{np.quantile(away, 0.99):>12.3g}")
    if found.ends is not None:
        print(f"  ends as in the file: {found.ends:.2%}")
    if found.left_out:
        print(f"  left out: {found.left_out:.0%} of the states, whose velocities are clipped")
    returns = fidelity.policy_returns(place.path, task, episodes) if place.path.is_file() else None
    if returns is None:
        print("\nthe file holds no policy; D4RL's medium and expert files of the robots do")
        return 0
    theirs = statistics.describe(rows, args.task).returns
    error = returns.std(ddof=1) / len(returns) ** 0.5
    print(
        f"\nthe policy that collected it returns {returns.mean():,.1f} ± {error:,.1f} here (standard error "
        f"of {len(returns)} episodes); the file's episodes {theirs.mean():,.1f}"
    )
    return 0
