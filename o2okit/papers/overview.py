"""What exists, what was made, what it says: the tables behind ``list``, ``claims`` and ``report``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from o2okit import paths
from o2okit.errors import UserError
from o2okit.papers import STUDIES, values
from o2okit.report.artefacts import ranges
from o2okit.report.markdown import anchor

NOT_RUN = "not run"  # an artefact of whose tasks a made section ran none


def records() -> dict[str, dict[str, Any]]:
    """The provenance records below ``figures/``; smoke records are never among them.

    Keys are ``paper/section`` and, for results with parameters of their own or of the profile ``paper``,
    ``paper/section.variant``, ``paper/section.paper``.
    Raises ``UserError`` for a file that is not a whole record.
    """
    found = {}
    folder = paths.figures("laptop")
    for key in STUDIES:
        for file in [folder / f"{key}.json", *sorted(folder.glob(f"{key}.*.json"))]:
            if file.is_file():
                found[f"{key.split('/')[0]}/{file.stem}"] = _record(file, key)
    return found


def _record(file: Path, key: str) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        missing = {"study", "profile", "artefacts", "claims", "runs", "dataset"} - set(record)
    except (ValueError, TypeError) as error:
        missing = {str(error)}
    if missing:
        raise UserError(
            f"{file} is damaged (missing: {', '.join(sorted(missing))}). Delete it and write it anew: "
            f"`o2okit run {key}`; finished runs are not trained again."
        )
    return record


def standing() -> dict[str, dict[str, Any]]:
    """Section -> the record of its own parameters: the profile ``paper``'s where there is one."""
    made = records()
    found = {key: made.get(f"{key}.paper") or made.get(key) for key in STUDIES}
    return {key: record for key, record in found.items() if record}


def artefact_rows() -> pd.DataFrame:
    """One row per artefact of the four papers: paper, section, artefact, caption, status, files."""
    made = standing()
    rows = []
    for paper in values.PAPERS:
        ours = {key: cls for key, cls in STUDIES.items() if key.startswith(f"{paper}/")}
        covered = tuple(name for cls in ours.values() for name in cls.artefacts)
        for key, cls in ours.items():
            record = made.get(key, {"artefacts": {}})
            for name, caption in cls.artefacts.items():
                done = record["artefacts"].get(name)
                status = "not made yet"
                if done and done["seeds"]:
                    status = f"made: {record['profile']}, seeds {ranges(done['seeds'])}"
                elif done:  # its figure says why
                    status = f"{NOT_RUN} at profile {record['profile']}"
                rows.append((paper, key, name, caption, status, done["files"] if done else []))
        for name in values.artefacts(paper):
            # figure_2a and figure_2_loss belong to figure_2, figure_20 does not. A passage is no artefact.
            if not name.startswith("text:") and not any(
                re.match(rf"{re.escape(name)}(?!\d)", ours_name) for ours_name in covered
            ):
                rows.append((paper, "", name, "", "no notebook yet", []))
    return pd.DataFrame(
        rows, columns=["paper", "section", "artefact", "caption", "status", "files"]
    )


def matrix(paper: str) -> pd.DataFrame:
    """One row per section of a paper: section, artefacts, status, verdicts; for the README.

    A section links to its notebook, a status to what was made.
    """
    artefacts, made = artefact_rows(), standing()
    rows = []
    for key, cls in STUDIES.items():
        mine = artefacts[artefacts["section"] == key]
        if not key.startswith(f"{paper}/"):
            continue
        record = made.get(key)
        ran = mine[~mine["status"].str.startswith(NOT_RUN)]
        status = str((ran if len(ran) else mine)["status"].iloc[0])
        if record and "tasks" in record:
            status += f"; {_coverage(record['tasks'], cls)}"
        if record:
            status = f"[{status}](figures/REPORT.md#{anchor(record['title'])})"
        rows.append(
            {
                "section": f"[{cls.title}](notebooks/{key}.ipynb)",
                "artefacts": ", ".join(_numbers(mine)),
                "status": status,
                "verdicts": _verdicts(record),
            }
        )
    return pd.DataFrame(rows)


def _coverage(tasks: Iterable[str], cls: Any) -> str:
    """How many of a section's tasks were run, or what stands in for them."""
    named = {name for group in cls.groups.values() for name in group}
    others = [name for name in tasks if name not in named]
    if others:
        return f"{', '.join(others)} stands in"
    return f"{len(set(tasks))} of {len(named)} tasks"


def _numbers(artefacts: pd.DataFrame) -> list[str]:
    """``Fig. 2a``, ``Table 1``: what the paper calls its artefacts; those of ours have no number."""
    names = artefacts["caption"].str.extract(r"^((?:Fig|Table)s?\.? \w+)", expand=False)
    left = artefacts["status"].str.startswith(NOT_RUN)
    names = names.where(~left, names + f" ({NOT_RUN})")
    return list(dict.fromkeys(names.dropna()))


def _verdicts(record: Mapping[str, Any] | None) -> str:
    """Of the paper's claims that a section judges; findings of ours are in the report."""
    if record is None:
        return NOT_RUN
    judged = {row["claim_id"]: row["verdict"] for row in record["claims"]}
    papers = {key: verdict for key, verdict in judged.items() if not key.startswith("o2okit:")}
    return ", ".join(f"{key} {verdict}" for key, verdict in papers.items()) or "only ours"


def ledger(paper: str | None = None) -> pd.DataFrame:
    """Every published claim and every finding of ours with its verdict.

    Columns: paper, claim_id, artefact, statement, verdict, reason, profile. What was not run says so.
    """
    published = values.claims(paper)
    rows = {
        claim.claim_id: {
            "paper": claim.paper,
            "claim_id": claim.claim_id,
            "artefact": claim.artefact,
            "statement": claim.statement,
            "verdict": "not run",
            "reason": "",
            "profile": "",
        }
        for claim in published.itertuples()
    }
    for key, record in standing().items():  # a variant answers another question than the paper's
        if paper is not None and not key.startswith(f"{paper}/"):
            continue
        for claim in record["claims"]:
            row = rows.setdefault(
                claim["claim_id"],
                {"paper": key.split("/")[0], "artefact": key, "profile": record["profile"]},
            )
            row |= {**claim, "profile": record["profile"]}
    return pd.DataFrame(list(rows.values()))
