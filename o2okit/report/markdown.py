"""The report as one Markdown page beside the figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

MATRIX = "<!-- matrix {paper} -->", "<!-- end of matrix {paper} -->"  # around it in the README


def with_matrix(text: str, paper: str, matrix: pd.DataFrame) -> str:
    """``text`` with the paper's matrix between its marks; as it is where it has none."""
    first, last = (mark.format(paper=paper) for mark in MATRIX)
    if first not in text or last not in text:
        return text
    before, rest = text.split(first, 1)
    after = rest.split(last, 1)[1]
    return f"{before}{first}\n{matrix.to_markdown(index=False)}\n{last}{after}"


def anchor(title: str) -> str:
    """What a link to a heading ends with, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def page(
    papers: Mapping[str, str],
    artefacts: pd.DataFrame,
    claims: pd.DataFrame,
    records: Mapping[str, Mapping[str, Any]],
) -> str:
    """The whole report.

    Args:
        papers: key -> title.
        artefacts, claims: the tables of ``o2okit.papers.overview``.
        records: study -> provenance record.
    """
    ours = claims["claim_id"].str.startswith("o2okit:")
    lines = [
        "# o2okit: report",
        "",
        "Made by `o2okit report` from the records beside the figures. "
        f"Claims of the papers: {_counted(claims[~ours])}. Findings of ours: {_counted(claims[ours])}.",
        "",
    ]
    for paper, title in papers.items():
        lines += [f"## {title}", ""]
        mine = artefacts[(artefacts["paper"] == paper) & (artefacts["section"] != "")]
        for section, group in mine.groupby("section", sort=False):
            stands = f"{section}.paper" if f"{section}.paper" in records else str(section)
            record = records.get(stands)
            if record is None:
                lines += [f"`{section}` was not run yet: `o2okit run {section}`.", ""]
                continue
            lines += [f"### {record['title']}", "", _origin(record), ""]
            for row in group.itertuples():
                lines += [f"**{row.caption}** ({row.status})", ""]
                lines += [*_pictures(paper, row.files), ""]
            lines += _verdicts(record)
            for key, variant in records.items():
                if key != stands and f"{key}.".startswith(f"{section}."):
                    lines += _variant(paper, key, variant)
        open_ = claims[(claims["paper"] == paper) & (claims["verdict"] == "not run")]
        left = artefacts[(artefacts["paper"] == paper) & (artefacts["section"] == "")]["artefact"]
        if len(left):
            lines += [f"No notebook yet: {', '.join(left)}. Claims not judged: {len(open_)}.", ""]
    return "\n".join(lines)


def _variant(paper: str, key: str, record: Mapping[str, Any]) -> list[str]:
    """Results of the same section with other parameters or amounts: figures and verdicts of their own."""
    lines = [f"### Variant `{key}`", "", _origin(record), ""]
    for artefact in record["artefacts"].values():
        if pictures := _pictures(paper, artefact["files"]):
            lines += [f"**{artefact['caption']}**", "", *pictures, ""]
    return [*lines, *_verdicts(record)]


def _verdicts(record: Mapping[str, Any]) -> list[str]:
    """The claims that the record's results decide, or leave undecided."""
    judged = [claim for claim in record["claims"] if claim["verdict"] != "not run"]
    if not judged:
        return []
    columns = ["claim_id", "statement", "verdict", "reason"]
    return [pd.DataFrame(judged, columns=columns).to_markdown(index=False), ""]


def _counted(claims: pd.DataFrame) -> str:
    counts = claims["verdict"].value_counts()
    return ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) or "none"


def _pictures(paper: str, files: list[str]) -> list[str]:
    names = [file.removesuffix(".png") for file in files if file.endswith(".png")]
    return [f"![{name}]({paper}/{name}.png)" for name in names]


def _origin(record: Mapping[str, Any]) -> str:
    data, env, trained = record["dataset"], record["environment"], record.get("trained", {})

    def listed(before: str, name: str) -> str:
        found = ", ".join(trained.get(name, ()))  # older records lack some
        return found and f" {before} {found}"

    hashes = data["sha256"]  # of a grid one per dataset
    hashes = list(hashes.values()) if isinstance(hashes, Mapping) else [hashes]
    digests = ", ".join(each[:12] for each in hashes)
    other = record.get("stand_in")  # a task that the section is not about
    return (
        (f"**{other} stands in** for the section's own tasks. " if other else "")
        + f"Profile {record['profile']}; dataset {data['name']} (source: {data['source']}, "
        f"sha256 {digests}); {len(record['runs'])} runs, trained{listed('at', 'commit')}"
        f"{listed('with torch', 'torch')}{listed('on', 'device')}; drawn and judged at {env['commit']}, "
        f"{record['written']}."
    )
