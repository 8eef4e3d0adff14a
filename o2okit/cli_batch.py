"""Sections and whole papers: ``run``, ``plan``, and their runs in one file: ``archive``, ``restore``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from o2okit.errors import UserError
from o2okit.profiles import PROFILES, check_profile, default_profile


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds ``run``, ``plan``, ``archive`` and ``restore``."""
    command = commands.add_parser(
        "run",
        help="run a section's notebook, several, or a paper's",
        description="One section is executed here and now. Of several, those whose results stand are left "
        "alone, and each of the others has a process of its own.",
    )
    _add_sections(command)
    _add_parameters(command)
    command.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="of several, how many at once; default: one per core, up to four, and one on a GPU",
    )
    command.add_argument("--again", action="store_true", help="also those whose results stand")
    command.set_defaults(command=_run)

    command = commands.add_parser(
        "plan",
        help="how many runs, updates and steps are still to do, and about how long they take",
    )
    _add_sections(command)
    _add_parameters(command)
    command.set_defaults(command=_plan)

    command = commands.add_parser(
        "archive",
        help="pack finished runs, to draw their figures elsewhere",
        description="Packs the finished runs of sections, or of the whole run store, into a zip file: what "
        "they were, what they measured and with what. `o2okit restore` puts them into another run store, and "
        "the sections' tables, verdicts and figures are made from there; a few figures look into agents.",
    )
    command.add_argument("file", type=Path, help="the zip file to write")
    _add_sections(command)
    _add_parameters(command)
    command.add_argument(
        "--agents",
        action="store_true",
        help="also what each run has learnt, megabytes per run: others can look at it and continue with it",
    )
    command.set_defaults(command=_archive)

    command = commands.add_parser("restore", help="take over the runs of an archive")
    command.add_argument("file", type=Path, help="what `o2okit archive` wrote")
    command.set_defaults(command=_restore)


def _add_parameters(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        metavar=("NAME", "VALUE"),
        action="append",
        default=[],
        help="a parameter of the notebooks; may be given again",
    )


def _add_sections(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "section", nargs="*", help="for instance gde/toy_maze; `o2okit list` shows them"
    )
    command.add_argument("--paper", help="all sections of a paper")
    command.add_argument("--profile", help=f"how much is run: {', '.join(PROFILES)}")


def _sections(args: argparse.Namespace) -> list[str]:
    """The sections that are named. Raises ``UserError`` for one that does not exist."""
    from o2okit.papers import STUDIES, study_class, values

    if bool(args.section) == (args.paper is not None):
        raise UserError("name sections, or a paper with --paper; `o2okit list` shows both.")
    for key in args.section:
        study_class(key)
    if args.paper is None:
        return list(dict.fromkeys(args.section))
    values.claims(args.paper)  # refuses a paper that does not exist
    if found := [key for key in STUDIES if key.startswith(f"{args.paper}/")]:
        return found
    others = ", ".join(dict.fromkeys(key.split("/")[0] for key in STUDIES))
    raise UserError(f"paper {args.paper!r} has no sections yet. Those that have: {others}.")


def _run(args: argparse.Namespace) -> int:
    keys = _sections(args)  # before the slow imports: a misspelt section is refused at once
    values = _values(args)
    try:
        from o2okit.batch.notebook import NotebookFailed, run_notebook
        from o2okit.batch.sections import run_sections, summary
    except ModuleNotFoundError as error:
        raise UserError(
            f"running notebooks needs {error.name}. Install the extra: pip install 'o2okit[notebook]'."
        ) from error
    if args.paper is None and len(keys) == 1:
        if args.workers is not None:
            raise UserError("--workers is for several sections, or --paper.")
        try:
            output = run_notebook(keys[0], values)
        except NotebookFailed as failure:
            print(f"o2okit: {failure}", file=sys.stderr)
            return 1
        print(f"executed notebook: {output}")
        return 0
    values = {"profile": default_profile(), **values}
    done = run_sections(keys, values, workers=args.workers, again=args.again)
    print(summary(done))
    states = {section.state for section in done}
    return 130 if "interrupted" in states else 1 if "failed" in states else 0


def _values(args: argparse.Namespace) -> dict[str, Any]:
    """The notebooks' parameters as they were typed."""
    from o2okit.papers.parameters import typed

    values = typed(args.parameter, "parameter")
    if args.profile is not None:
        if "profile" in values:
            raise UserError("profile is given twice: with --profile and with -p.")
        values["profile"] = args.profile
    return values


def _plan(args: argparse.Namespace) -> int:
    keys = _sections(args)
    values = {"profile": default_profile(), **_values(args)}
    check_profile(values["profile"])
    from o2okit.batch.plan import plan, text

    def tell(what: str) -> None:
        if sys.stderr.isatty():
            print(what, file=sys.stderr)

    print(text(plan(keys, values, tell=tell), values["profile"]))
    return 0


def _archive(args: argparse.Namespace) -> int:
    from o2okit.papers import study_class
    from o2okit.training import RunStore
    from o2okit.training.archive import write_archive

    store, values = RunStore(), _values(args)
    if args.section or args.paper is not None:
        ids = set[str]()
        for key in _sections(args):
            study = study_class(key)(**values)
            study.building = False
            ids |= {spec.id for run in study.specs() for spec in run.lineage()}
        runs = [folder for folder in store.folders() if folder.path.name in ids]
    elif values:
        raise UserError("parameters are of sections: name these, or a paper with --paper.")
    else:
        runs = list(store.folders())
    count = write_archive(args.file, runs, agents=args.agents)
    print(f"{args.file}: {count} finished runs of {len(runs)}, {args.file.stat().st_size:,} bytes")
    return 0


def _restore(args: argparse.Namespace) -> int:
    from o2okit.training.archive import restore

    found = restore(args.file)
    print(
        f"{args.file}: {found.taken} runs taken over; {found.there} are finished here and "
        f"{found.begun} begun, and stay as they are"
    )
    return 0
