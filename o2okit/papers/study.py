"""A study: the runs that a section's artefacts need, and how they become figures, tables, verdicts."""

from __future__ import annotations

import json
import textwrap
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from o2okit import paths
from o2okit.errors import UserError, unknown
from o2okit.papers import parameters as p
from o2okit.papers import values
from o2okit.report import artefacts, panels, verdicts
from o2okit.training import MissingAgentError, Run, RunSpec, RunStore, train
from o2okit.training.run import environment, mixed_starts, trained_with
from o2okit.training.train import resolve_device

NOT_RUN = str(verdicts.ClaimOutcome.NOT_RUN)


class Study(ABC):
    """Base class; a section's study is a subclass that fills in the class attributes and ``_``-methods.

    Class attributes:
        key: ``paper/section``, also the path of the notebook below ``notebooks/``.
        title: the section's title in the paper.
        artefacts: name -> caption of every figure and table the study makes.
        parameters: what the notebook's parameters cell holds.
        building: an instance with ``False`` counts its runs without building a dataset for it: those of a
            dataset that is missing are specs on a stand-in.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    artefacts: ClassVar[Mapping[str, str]]
    parameters: ClassVar[Mapping[str, p.Parameter]] = {"profile": p.PROFILE, "device": p.DEVICE}
    building: bool = True

    def __init__(self, **parameters: Any) -> None:
        given = p.check_all(self.parameters, parameters)
        own = self.defaults(given["profile"])
        self.given = {name: own[name] if value is None else value for name, value in given.items()}
        self.profile: str = self.given["profile"]
        self.device: str = self.given["device"]
        resolve_device(self.device)  # refuse a missing GPU now, not after the dataset is built
        self.paper, self.section = self.key.split("/")
        # What sets these results apart from the section's own; part of every file's name.
        self.variant = artefacts.variant(self.given, own)
        self._runs: dict[str, Run] | None = None
        self._written: dict[str, list[str]] = {}

    def defaults(self, profile: str) -> dict[str, Any]:
        """The section's own value of each parameter; a subclass puts in those a profile decides."""
        return {name: parameter.default for name, parameter in self.parameters.items()}

    # --- what a subclass provides -----------------------------------------------------------------
    @abstractmethod
    def specs(self) -> list[RunSpec]:
        """Every run that the artefacts need."""

    @abstractmethod
    def _draw(self, artefact: str) -> tuple[Figure, pd.DataFrame]:
        """The figure of an artefact and the numbers in it."""

    @abstractmethod
    def _table(self, artefact: str | None = None) -> pd.DataFrame:
        """Of an artefact, or of the whole section: one row per setting; plain column names."""

    @abstractmethod
    def _judge(self) -> list[dict[str, Any]]:
        """One row per claim: claim_id, statement, verdict, reason."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from; at least ``dataset`` (name, source, sha256) and ``seeds``."""

    def __repr__(self) -> str:
        given = ", ".join(f"{name} {value}" for name, value in self.given.items())
        return f"study {self.key}: {given}"

    # --- what a notebook calls --------------------------------------------------------------------
    def run(self) -> Study:
        """Trains what is missing. Finished runs are found again, interrupted ones go on."""
        began = time.monotonic()
        specs = self.specs()
        runs = train(specs, store=RunStore(), device=self.device, label=self.key)
        self._runs = {run.spec.id: run for run in runs}
        seconds = time.monotonic() - began
        print(
            f"{self.key}: {len(self._runs)} runs ready ({self.label()}), {seconds:.0f} s",
            flush=True,
        )
        if diverged := self.diverged():
            print(f"{self.key}: diverged, look before you trust: {', '.join(diverged)}", flush=True)
        if mixed := mixed_starts(runs):
            print(
                f"{self.key}: some runs started from an agent, others from the same one trained anew with "
                f"other rounding, so that they are not quite paired: {', '.join(mixed)}",
                flush=True,
            )
        return self

    def diverged(self) -> list[str]:
        """The runs whose losses were not finite at some evaluation."""
        runs = (self._runs or {}).items()
        return [run_id for run_id, run in runs if run.folder.result()["diverged"]]

    def result(self, spec: RunSpec) -> Run:
        """The finished run of a spec. Raises ``UserError`` where ``run()`` has not trained it."""
        if self._runs is None:
            raise UserError(f"study {self.key!r}: call run() before asking for results.")
        if spec.id not in self._runs:
            raise UserError(
                f"study {self.key!r} has no run with seed {spec.seed} and {dict(spec.hyper)}. Its runs "
                "are those of specs(); give other seeds when you make the study."
            )
        return self._runs[spec.id]

    def figure(self, artefact: str) -> Figure:
        """Draws an artefact, writes it as PDF, PNG and CSV, and returns the figure.

        What looks at agents that did not come along with an archive's runs says so; files that were drawn
        from the same runs stay as they are.
        """
        if artefact not in self.artefacts:
            raise unknown("artefact", artefact, self.artefacts)
        try:
            figure, numbers = self._draw(artefact)
        except MissingAgentError as why:
            figure = panels.empty(self.artefacts[artefact], textwrap.fill(f"not drawn anew: {why}"))
            numbers = pd.DataFrame({"not_drawn": [str(why)]})
            if before := self._before()["artefacts"].get(artefact):
                self._written[artefact] = before["files"]
                plt.close(figure)
                return figure
        artefacts.stamp(figure, self.label(artefact))
        written = artefacts.save(self._folder(), self._stem(artefact), figure, numbers)
        self._written[artefact] = [path.name for path in written]
        plt.close(figure)  # the caller shows it; pyplot must not show it a second time
        return figure

    def table(self, artefact: str | None = None) -> pd.DataFrame:
        """The numbers of an artefact, or of the section, one row per setting; also written as CSV."""
        if artefact is not None and artefact not in self.artefacts:
            raise unknown("artefact", artefact, self.artefacts)
        table, name = self._table(artefact), f"{artefact or self.section}_table"
        path = artefacts.save_table(self._folder(), self._stem(name), table)
        self._written[name] = [path.name]
        return table

    def claims(self) -> pd.DataFrame:
        """The verdicts, one row per claim; also written beside the figures with the provenance.

        Where the agents that one looks at did not come along with an archive's runs, the verdict that the
        same runs had before stands.
        """
        before = {row["claim_id"]: row for row in self._before()["claims"]}
        rows = [
            before.get(row["claim_id"], row) if row["verdict"] == NOT_RUN else row
            for row in self._judge()
        ]
        self._record(rows)
        return pd.DataFrame(rows, columns=["claim_id", "statement", "verdict", "reason"])

    def files(self) -> list[Path]:
        """What was written so far."""
        files = [self._folder() / name for names in self._written.values() for name in names]
        return [*files, self.record_file()] if self.record_file().is_file() else files

    def label(self, artefact: str | None = None) -> str:
        """One line for every figure: dataset and source, profile, seeds."""
        data, seeds = self.provenance()["dataset"], artefacts.ranges(self.seeds_of(artefact))
        return f"data {data['name']} (source: {data['source']}) · profile {self.profile} · seeds {seeds}"

    def seeds_of(self, artefact: str | None = None) -> list[int]:
        """The seeds behind an artefact; without one, behind the study's main result."""
        return self.provenance()["seeds"]

    # --- helpers for subclasses -------------------------------------------------------------------
    def judge(self, claim_id: str, lhs: Any, rhs: Any, **options: Any) -> dict[str, Any]:
        """The row of a published claim, judged by the fixed rules."""
        claim = values.claim(claim_id)
        verdict = verdicts.claim_verdict(lhs, rhs, claim.direction, profile=self.profile, **options)
        return self.row(claim_id, claim.statement, verdict)

    def not_observed(self, claim_id: str, why: str) -> dict[str, Any]:
        """The row of a published claim about something that did not occur in our runs."""
        outcome = verdicts.ClaimOutcome.NOT_OBSERVED
        verdict = verdicts.ClaimVerdict(outcome, None, None, why)
        return self.row(claim_id, values.claim(claim_id).statement, verdict)

    def judge_own(
        self, number: int, statement: str, lhs: Any, direction: str, rhs: Any, **options: Any
    ) -> dict[str, Any]:
        """The row of a finding of ours, judged by the same rules."""
        verdict = verdicts.claim_verdict(lhs, rhs, direction, profile=self.profile, **options)
        return self.row(f"o2okit:{self.key}-{number}", statement, verdict)

    @staticmethod
    def row(claim_id: str, statement: str, verdict: verdicts.ClaimVerdict) -> dict[str, Any]:
        """A verdict as a row of ``claims()``."""
        return {
            "claim_id": claim_id,
            "statement": statement,
            "verdict": str(verdict.verdict),
            "reason": verdict.reason,
        }

    def _folder(self) -> Path:
        return paths.figures(self.profile) / self.paper

    def _stem(self, name: str) -> str:
        # What the repository holds is the laptop's; it must not be replaced by another profile's.
        own = self.profile if self.profile == "paper" else ""
        return ".".join(part for part in (name, self.variant, own) if part)

    def record_file(self) -> Path:
        """Where ``claims()`` writes what the results are and where they come from."""
        return self._folder() / f"{self._stem(self.section)}.json"

    def _record(self, claims: list[dict[str, Any]]) -> None:
        made = {
            name: {
                "caption": self.artefacts.get(name, "Table"),
                "seeds": self.seeds_of(name),
                "files": files,
            }
            for name, files in self._written.items()
        }
        runs = sorted(self._runs or ())
        record = {
            "study": self.key,
            "title": self.title,
            "profile": self.profile,
            "parameters": self.given,
            **self.provenance(),
            "artefacts": self._before()["artefacts"] | made,
            "claims": claims,
            "runs": runs,
            "diverged": self.diverged(),
            "trained": trained_with((self._runs or {}).values()),
            "environment": environment(resolve_device(self.device)),
        }
        artefacts.write_record(self.record_file(), record)

    def _before(self) -> dict[str, Any]:
        """What the record says was drawn and judged of the same runs before, in another kernel.

        ``artefacts``, as far as their files lie there, and ``claims``.
        """
        try:
            old = json.loads(self.record_file().read_text(encoding="utf-8"))
            if old["runs"] == sorted(self._runs or ()):
                there = {
                    name: each
                    for name, each in old["artefacts"].items()
                    if all((self._folder() / file).is_file() for file in each["files"])
                }
                return {"artefacts": there, "claims": [dict(row) for row in old["claims"]]}
        except (OSError, ValueError, TypeError, KeyError):  # none, or none that can be read
            pass
        return {"artefacts": {}, "claims": []}
