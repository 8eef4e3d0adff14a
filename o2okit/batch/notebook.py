"""One notebook through papermill, with everything checked before its kernel starts."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from o2okit import paths
from o2okit.errors import UserError
from o2okit.papers import study_class
from o2okit.papers.parameters import check_all


class NotebookFailed(Exception):  # noqa: N818 - a result, reported with its place
    """A cell raised; ``output`` is the notebook as far as it came, with the traceback."""

    def __init__(self, key: str, output: Path, error: PapermillExecutionError) -> None:
        self.output = output
        super().__init__(
            f"{key}: cell {error.cell_index} raised {error.ename}: {error.evalue}\n"
            f"The notebook with the traceback: {output}"
        )


def notebook_path(key: str) -> Path:
    """The notebook of a section. Raises ``UserError`` where the file is missing."""
    path = paths.home() / "notebooks" / f"{key}.ipynb"
    if not path.is_file():
        raise UserError(f"{path} is missing; it belongs to section {key!r}. Restore it from git.")
    return path


def declared_parameters(path: Path) -> dict[str, int]:
    """The names that the notebook's parameters cell assigns, with the index of the cell.

    Raises ``UserError`` where the file is no notebook or has not exactly one cell tagged
    ``parameters``: papermill would run it with the defaults and say nothing.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except (ValueError, nbformat.ValidationError, AttributeError) as error:
        raise UserError(f"{path} is not a notebook: {error}") from error
    tagged = [
        (number, cell.source)
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", [])
    ]
    if len(tagged) != 1:
        raise UserError(
            f"{path} has {len(tagged)} cells with the tag 'parameters'; it needs exactly one. In "
            "JupyterLab: select the cell, Property Inspector, Cell Tags."
        )
    number, source = tagged[0]
    return {
        target.id: number
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def run_notebook(key: str, values: Mapping[str, Any], output: Path | None = None) -> Path:
    """Executes a section's notebook with ``values`` for its parameters.

    Args:
        key: ``paper/section``.
        values: typed parameters; what is left out keeps the notebook's default.
        output: the executed notebook; default ``runs/notebooks/<key>.<profile>.ipynb``.

    Returns:
        The executed notebook.

    Raises:
        UserError: section, notebook or a parameter is wrong; nothing was started.
        NotebookFailed: a cell raised.
    """
    study = study_class(key)
    path = notebook_path(key)
    declared = declared_parameters(path)
    if missing := [name for name in values if name in study.parameters and name not in declared]:
        raise UserError(f"{path}: the parameters cell does not assign {', '.join(missing)}.")
    checked = check_all(study.parameters, values)
    if output is None:
        output = paths.runs() / "notebooks" / f"{key}.{checked['profile']}.ipynb"
    output.parent.mkdir(parents=True, exist_ok=True)
    # The kernel inherits these: plain progress lines, and the same project as this process.
    os.environ["O2OKIT_BATCH"] = "1"
    os.environ["O2OKIT_HOME"] = str(paths.home())
    try:
        papermill.execute_notebook(
            str(path),
            str(output),
            parameters={name: checked[name] for name in values},
            kernel_name="python3",
            cwd=str(path.parent),
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
        )
    except PapermillExecutionError as error:
        raise NotebookFailed(key, output, error) from None
    return output
