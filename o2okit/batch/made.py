"""Whether a section has to be executed: what it makes is there and stands, or why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat

from o2okit.batch.notebook import executed_path, notebook_path
from o2okit.papers.study import Study
from o2okit.training import RunStore


def why_not_made(study: Study) -> str:
    """Why a study's notebook has to be executed; empty where it need not be.

    It need not be where

    1. the notebook as it is now was executed to its end with this profile and these parameters,
    2. the record of its results holds every artefact, and all their files are there,
    3. its runs are those that the study would ask for now, and the store has all of them finished. A run's id
       changes with its settings, its dataset and the version of every algorithm in it.

    What only draws or judges has no version: where that has changed, execute the notebook again.
    """
    if not _executed(executed_path(study), notebook_path(study.key)):
        return "its notebook has not been executed to its end yet"
    file = study.record_file()
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        parameters, made, runs = record["parameters"], record["artefacts"], record["runs"]
        names = [name for artefact in made.values() for name in artefact["files"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{file} is missing or damaged"
    if _deciding(parameters) != _deciding(json.loads(json.dumps(study.given))):
        return "its results were made with other parameters"
    lost = [name for name in study.artefacts if name not in made]
    lost += [name for name in names if not (file.parent / name).is_file()]
    if lost:
        return f"not all of its results are there: {lost[0]} is missing"
    store = RunStore()
    if not all((store.root / run / "result.json").is_file() for run in runs):
        return "the run store does not hold all of its runs"
    if {spec.id for spec in study.specs()} != set(runs):
        return "settings, data or algorithms have changed since"
    return ""


def _executed(output: Path, source: Path) -> bool:
    """Whether ``output`` is ``source``, executed without an error from the first cell to the last."""
    try:
        done, now = (nbformat.read(path, as_version=4) for path in (output, source))
        about = done.metadata["papermill"]
        whole = about["end_time"] is not None and not about["exception"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError):
        return False
    return whole and _code(done) == _code(now)


def _code(notebook: Any) -> list[str]:
    return [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", ())
    ]


def _deciding(parameters: dict[str, Any]) -> dict[str, Any]:
    """The device decides how fast results come, not what they are."""
    return {name: value for name, value in parameters.items() if name != "device"}
