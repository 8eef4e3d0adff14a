"""Several notebooks, each in a process of its own: one that fails or is killed stops no other.

Their processes are forked from one that has imported everything: imports take seconds, most notebooks of the
profile ``smoke`` not much longer.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from o2okit.batch import worker
from o2okit.batch.notebook import executed_path
from o2okit.batch.table import Table, last_lines
from o2okit.errors import UserError
from o2okit.papers import parameters_of, study_class
from o2okit.training import StoreError
from o2okit.training.train import resolve_device

MOST = 4  # sections at once, unless more are asked for: each has its own datasets in memory
LOOK_EVERY = 0.2  # seconds
GRACE = 20.0  # seconds that an interrupted worker has for ending its kernel
SHOWN = 12  # lines of what a failed notebook said last
STATES = {worker.DONE: "done", worker.MADE: "done already"}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([worker.__name__])


class Section:
    """A section of the batch.

    Attributes:
        key: ``paper/section``.
        state: ``waiting``, ``running``, ``done``, ``done already``, ``failed`` or ``interrupted``.
        note: where its notebook or its log is, or why it was not started.
        output: the executed notebook; ``None`` where the study refused its parameters.
    """

    def __init__(self, key: str, values: Mapping[str, Any]) -> None:
        self.key, self.values = key, values
        self.state, self.note = "waiting", ""
        self.output: Path | None = None
        self.process: multiprocessing.process.BaseProcess | None = None
        self._began = self._ended = 0.0
        try:
            self.output = executed_path(study_class(key)(**values))
        except UserError as error:  # for instance no data for any of its tasks
            self.state, self.note = "failed", str(error)

    @property
    def log(self) -> Path | None:
        """What the worker and the notebook's cells printed."""
        return self.output and self.output.with_suffix(".log")

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return (self._ended or time.monotonic()) - self._began if self._began else 0.0

    def start(self, again: bool) -> None:
        """Starts its worker. Raises ``StoreError`` where the log can't be written."""
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.unlink(missing_ok=True)  # a worker that is still ending keeps its own
            self.log.touch()
        except OSError as error:
            raise StoreError(
                f"{self.log} can't be written: {error.strerror}. Free space or mend the permissions; "
                "O2OKIT_RUNS moves the run store."
            ) from error
        theirs, self._batch = FORKS.Pipe(duplex=False)
        arguments = (self.key, self.values, again, self.log, theirs, dict(os.environ))
        self.process = FORKS.Process(target=worker.main, args=arguments)
        self.process.start()
        theirs.close()
        self.state, self._began = "running", time.monotonic()

    def look(self) -> None:
        """Takes note of a worker that has ended."""
        status = self.process.exitcode
        if status is None:
            return
        self._ended = time.monotonic()
        self.let_go()
        self.state = STATES.get(status, "failed")
        self.note = str(self.log if self.state == "failed" else self.output)
        if status < 0:
            name = signal.Signals(-status).name
            self.note += f" (killed by {name}; was it out of memory?)"

    def let_go(self) -> None:
        """Tells its worker, if it is still there, that the batch is over."""
        self._batch.close()

    def stop(self, until: float) -> None:
        """Ends a worker that has been let go; one that takes too long is killed."""
        self.process.join(max(until - time.monotonic(), 0.1))
        if self.process.is_alive():
            self.process.kill()  # its kernel sees that within a second
            self.process.join()
        self.look()
        if self.state == "failed":
            self.state = "interrupted"


def default_workers(device: str = "auto") -> int:
    """How many sections run at once: as many as there are cores, up to ``MOST``; on a GPU one.

    Two trainings with a thread each get more done than one with two, and a notebook's other work fills gaps.
    Raises ``UserError`` for a device that is not here.
    """
    cores = len(os.sched_getaffinity(0))
    return 1 if resolve_device(device).type == "cuda" else min(cores, MOST)


def run_sections(
    keys: Sequence[str],
    values: Mapping[str, Any],
    *,
    workers: int | None = None,
    again: bool = False,
) -> list[Section]:
    """Executes notebooks and shows a table of them; those whose results stand are left alone.

    Ctrl-C stops those that run and returns; so does, without the return, the end of this process by
    whatever means. The same call then runs what is missing, from the last checkpoints.

    Args:
        keys: ``paper/section``.
        values: parameters of all of them.
        workers: how many run at once; default: ``default_workers``.
        again: also those whose results stand.

    Returns:
        The sections with their states.

    Raises:
        UserError: a parameter does not exist or is not allowed, no section can be run, or the logs can't be
            written.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers must be at least 1; got {workers}.")
    given = parameters_of(keys, values)
    sections = [Section(key, given[key]) for key in keys]
    if all(section.state == "failed" for section in sections):
        raise UserError("\n".join(f"{section.key}: {section.note}" for section in sections))
    if workers is None:
        workers = default_workers(values.get("device", "auto"))
    table = Table(sections)
    try:
        _work(sections, table, workers, again)
    except KeyboardInterrupt:
        pass
    finally:
        _stop(sections)
        table.close()
    return sections


def _work(sections: Sequence[Section], table: Table, workers: int, again: bool) -> None:
    while True:
        running = [section for section in sections if section.state == "running"]
        for section in running:
            section.look()
        running = [section for section in running if section.state == "running"]
        waiting = [section for section in sections if section.state == "waiting"]
        for section in waiting[: workers - len(running)]:
            section.start(again)
        table.update()
        if not running and not waiting:
            return
        time.sleep(LOOK_EVERY)


def _stop(sections: Sequence[Section]) -> None:
    """Stops what still runs; nothing does after an undisturbed batch."""
    running = [section for section in sections if section.state == "running"]
    for section in running:
        section.let_go()
    until = time.monotonic() + GRACE
    for section in running:
        section.stop(until)
    for section in sections:
        if section.state == "waiting":
            section.state = "interrupted"


def summary(sections: Sequence[Section]) -> str:
    """What failed notebooks said last, and how many are in which state."""
    lines = []
    for section in sections:
        if section.state == "failed" and section.log is not None:
            lines += ["", f"{section.key} failed. The end of {section.log}:"]
            lines += [f"    {each}" for each in last_lines(section.log, SHOWN)]
    states = [section.state for section in sections]
    order = ("done", "done already", "failed", "interrupted")
    lines += ["", ", ".join(f"{states.count(each)} {each}" for each in order if each in states)]
    if {"failed", "interrupted"} & set(states):
        lines.append(
            "The same command runs what is missing, and goes on from the last checkpoints."
        )
    return "\n".join(lines)
