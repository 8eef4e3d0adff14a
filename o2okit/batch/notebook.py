"""One notebook through papermill, with everything checked before its kernel starts."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
from filelock import FileLock, Timeout
from papermill.exceptions import PapermillExecutionError

from o2okit import paths
from o2okit.errors import UserError
from o2okit.papers import study_class
from o2okit.papers.study import Study
from o2okit.profiles import default_profile

COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # IPython's tracebacks are made for terminals


class NotebookFailed(Exception):  # noqa: N818 - a result, reported with its place
    """A cell raised or the kernel died; ``output`` is the notebook as far as it came.

    ``traceback`` is the cell's, empty where the kernel died.
    """

    def __init__(self, key: str, output: Path, error: PapermillExecutionError | str) -> None:
        self.output, self.traceback = output, ""
        if isinstance(error, PapermillExecutionError):
            self.traceback = COLOUR.sub("", "\n".join(error.traceback))
            error = f"cell In [{error.exec_count}] raised {error.ename}: {error.evalue}"
        super().__init__(f"{key}: {error}\nThe notebook as far as it came: {output}")


def notebook_path(key: str) -> Path:
    """The notebook of a section. Raises ``UserError`` where the file is missing."""
    path = paths.home() / "notebooks" / f"{key}.ipynb"
    if not path.is_file():
        raise UserError(f"{path} is missing; it belongs to section {key!r}. Restore it from git.")
    return path


def executed_path(study: Study) -> Path:
    """Where a study's executed notebook lies: ``runs/notebooks/<key>.<profile>.ipynb``."""
    name = ".".join(filter(None, (study.key, study.profile, study.variant)))
    # Absolute: papermill and the kernel work in the notebook's folder.
    return (paths.runs() / "notebooks" / f"{name}.ipynb").resolve()


def declared_parameters(path: Path) -> set[str]:
    """The names that the notebook's parameters cell assigns.

    Raises ``UserError`` where the file is no notebook or has not exactly one cell tagged
    ``parameters``: papermill would run it with the defaults and say nothing.
    """
    try:
        tagged = [
            cell.source
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", [])
        ]
    except (ValueError, TypeError, AttributeError, nbformat.ValidationError) as error:
        raise UserError(f"{path} is not a notebook: {error}. Restore it from git.") from error
    if len(tagged) != 1:
        raise UserError(
            f"{path} has {len(tagged)} cells with the tag 'parameters'; it needs exactly one. In "
            "JupyterLab: select the cell, Property Inspector, Cell Tags."
        )
    try:
        body = ast.parse(tagged[0]).body
    except SyntaxError as error:
        raise UserError(
            f"{path}: the cell tagged 'parameters' is not plain Python ({error.msg}, line "
            f"{error.lineno}). It may hold assignments such as `seeds = None`; no % commands."
        ) from error
    assigned = [
        target
        for node in body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    return {target.id for target in assigned if isinstance(target, ast.Name)}


@contextmanager
def _inherited(**variables: str) -> Iterator[None]:
    """Environment variables for the kernel; this process has its own back afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """One process at a time executes a notebook to ``output``; who has the lock may take it again.

    The lock is dropped with its process, however that ends.
    """
    lock = FileLock(output.with_suffix(".lock"), is_singleton=True)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        print("another process executes this notebook; waiting for it", flush=True)
        lock.acquire()
    except OSError as error:
        raise _unwritable(output, error) from error
    try:
        yield
    finally:
        lock.release()


def _unwritable(output: Path, error: OSError) -> UserError:
    return UserError(
        f"could not write {output}: {error.strerror or error}. Set O2OKIT_RUNS to a folder that can be "
        "written, or free space; finished runs are kept."
    )


def run_notebook(key: str, values: Mapping[str, Any], output: Path | None = None) -> Path:
    """Executes a section's notebook with ``values`` for its parameters.

    Args:
        key: ``paper/section``.
        values: typed parameters; what is left out keeps the notebook's default. The profile's is
            ``O2OKIT_PROFILE`` where that is set.
        output: the executed notebook; default ``executed_path``.

    Returns:
        The executed notebook.

    Raises:
        UserError: section, notebook or a parameter is wrong; nothing was started.
        NotebookFailed: a cell raised or the kernel died.
    """
    cls = study_class(key)
    path = notebook_path(key)
    declared = declared_parameters(path)
    if missing := [name for name in values if name in cls.parameters and name not in declared]:
        raise UserError(f"{path}: the parameters cell does not assign {', '.join(missing)}.")
    # What the notebook's first cell does; here it costs no kernel to be refused.
    study = cls(**{"profile": default_profile(), **values})
    output = executed_path(study) if output is None else output.resolve()
    # Plain progress lines, and the same project and store as this process.
    variables = {
        "O2OKIT_BATCH": "1",
        "O2OKIT_HOME": str(paths.home()),
        "O2OKIT_RUNS": str(paths.runs().resolve()),
    }
    try:
        with alone(output), _inherited(**variables):
            papermill.execute_notebook(
                str(path),
                str(output),
                parameters={name: study.given[name] for name in values},
                kernel_name="python3",
                language="python",
                cwd=str(path.parent),
                progress_bar=False,
                # The kernel's own log, not the notebook's: notices, and tracebacks when it is stopped.
                extra_arguments=["--log-level=CRITICAL"],
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
            )
    except PapermillExecutionError as error:
        raise NotebookFailed(key, output, error) from None
    except (RuntimeError, ConnectionError) as error:  # the kernel did not start or was killed
        text = f"{error}. Was it out of memory? The same command goes on from the last checkpoint."
        raise NotebookFailed(key, output, text) from error
    except OSError as error:  # papermill's own writing, not a cell's
        raise _unwritable(output, error) from error
    return output
