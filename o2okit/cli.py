"""The command ``o2okit``.

Exit status: 0 done, 1 a run failed, 2 a mistake in the command, 130 interrupted, 141 the pipe was
closed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

import o2okit
from o2okit.errors import UserError

EXTRA = ("h5py", "mujoco")  # of the extra ``data``


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. ``UserError`` becomes a message and status 2."""
    args = _parser().parse_args(arguments)
    try:
        status = args.command(args)
        sys.stdout.flush()  # now, not at exit: there a closed pipe could not be caught
        return status
    except UserError as error:
        print(f"o2okit: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        print(
            f"o2okit: datasets need {error.name}. Install the extra: pip install 'o2okit[data]'.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(
            "\no2okit: interrupted; the same command goes on from the last checkpoint.",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone: `o2okit claims | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 141


def _parser() -> argparse.ArgumentParser:
    from o2okit import cli_batch, cli_data, cli_kit

    parser = argparse.ArgumentParser(
        prog="o2okit", description="Replications of offline-to-online RL papers."
    )
    parser.add_argument("--version", action="version", version=f"o2okit {o2okit.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("list", help="papers, sections, artefacts and their status")
    what = command.add_mutually_exclusive_group()
    what.add_argument("--paper", help="only this paper")
    what.add_argument(
        "--methods", action="store_true", help="which method goes with which backbone"
    )
    what.add_argument("--hyper", metavar="NAME", help="what can be set in a backbone or a method")
    command.add_argument("--task", help="with --hyper: also what is taken on this task")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(command=_list)

    cli_batch.add_commands(commands)

    command = commands.add_parser("status", help="what the run store holds")
    command.set_defaults(command=_status)

    command = commands.add_parser(
        "report", help="write figures/REPORT.md and the matrix of the README"
    )
    command.set_defaults(command=_report)

    command = commands.add_parser("claims", help="the claims of the papers and our verdicts")
    command.add_argument("--paper", help="only this paper")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(command=_claims)

    cli_kit.add_data_commands(cli_data.add_commands(commands))
    cli_kit.add_commands(commands)

    command = commands.add_parser("doctor", help="versions, device, folders, what would be slow")
    command.set_defaults(command=_doctor)
    return parser


def _list(args: argparse.Namespace) -> int:
    if args.task is not None and args.hyper is None:
        raise UserError("--task goes with --hyper NAME.")
    if args.methods:
        return _list_methods(args)
    if args.hyper is not None:
        return _list_hyper(args)
    from o2okit.papers import STUDIES, overview, values

    if args.paper is not None:
        values.claims(args.paper)  # refuses a paper that does not exist
    rows, made = overview.artefact_rows(), overview.records()
    papers = {key: title for key, title in values.PAPERS.items() if args.paper in (None, key)}
    if args.json:
        print(json.dumps(_records(rows[rows["paper"].isin(papers)]), indent=2, ensure_ascii=False))
        return 0
    for paper, title in papers.items():
        print(f"{paper}: {title}")
        mine = rows[rows["paper"] == paper]
        ours, left = mine[mine["section"] != ""], mine[mine["section"] == ""]
        wide = max(map(len, ours["artefact"]), default=0) + 2
        for key, group in ours.groupby("section", sort=False):
            print(f"  {key}: {STUDIES[str(key)].title}")
            for row in group.itertuples():
                print(f"    {row.artefact:<{wide}}{row.status:<40}{row.caption}")
            for name in made:
                if name.startswith(f"{key}."):
                    print(f"    variant made: {name}")
            print("    parameters:")
            for name, parameter in STUDIES[str(key)].parameters.items():
                print(f"      {name:<14}{parameter.doc}; default {parameter.default}")
        if len(left):
            print(f"  no notebook yet: {', '.join(left['artefact'])}")
        print()
    return 0


def _list_methods(args: argparse.Namespace) -> int:
    import pandas as pd

    from o2okit.backbones import BACKBONES
    from o2okit.methods import METHODS

    fits = {
        name: [method.fits(backbone) for backbone in BACKBONES] for name, method in METHODS.items()
    }
    if args.json:
        table = {name: dict(zip(BACKBONES, row, strict=True)) for name, row in fits.items()}
        print(json.dumps(table, indent=2))
        return 0
    table = pd.DataFrame.from_dict(fits, orient="index", columns=list(BACKBONES))
    print(table.replace({True: "yes", False: "-"}).to_string())
    return 0


def _list_hyper(args: argparse.Namespace) -> int:
    table = o2okit.hyperparameters(args.hyper, args.task)
    if args.json:
        print(json.dumps(_records(table.reset_index()), indent=2, ensure_ascii=False))
        return 0
    if table.empty:
        print(f"{args.hyper} has no hyper-parameters")
        return 0
    shown = table.replace({"per run": {True: "per run", False: "shared"}})
    print(shown.rename(columns={"per run": "a cohort's runs"}).rename_axis(None).to_string())
    return 0


def _status(args: argparse.Namespace) -> int:
    from o2okit.training.status import summary

    print(summary())
    return 0


def _report(args: argparse.Namespace) -> int:
    from o2okit import paths
    from o2okit.papers import overview, values
    from o2okit.report.markdown import page, with_matrix
    from o2okit.training.store import write_atomically

    path = paths.figures("laptop") / "REPORT.md"
    text = page(values.PAPERS, overview.artefact_rows(), overview.ledger(), overview.records())
    write_atomically(path, text.encode())
    print(f"report: {path}")
    readme = paths.home() / "README.md"
    if readme.is_file():
        old = new = readme.read_text(encoding="utf-8")
        for paper in values.PAPERS:
            new = with_matrix(new, paper, overview.matrix(paper))
        if new != old:
            write_atomically(readme, new.encode())
            print(f"matrix: {readme}")
    return 0


def _claims(args: argparse.Namespace) -> int:
    from o2okit.papers import overview

    ledger = overview.ledger(args.paper)
    if args.json:
        print(json.dumps(_records(ledger), indent=2, ensure_ascii=False))
        return 0
    for row in ledger.itertuples():
        print(f"{row.claim_id:<24}{row.verdict:<16}{row.statement}")
        if row.reason:
            print(f"{'':<24}{'':<16}{row.reason} ({row.profile})")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from o2okit.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{finding.level:<5}{finding.what:<22}{finding.text}")
    return 1 if any(finding.level == "BAD" for finding in findings) else 0


def _records(frame) -> list[dict]:
    return frame.to_dict("records")


if __name__ == "__main__":
    sys.exit(main())
