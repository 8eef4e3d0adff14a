"""One section's notebook in a process of its own.

``o2okit.batch.sections`` forks it and holds the other end of a pipe. That end closes when the batch is
interrupted, killed or crashes: the worker then stops, and its kernel with it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from o2okit.batch.made import why_not_made
from o2okit.batch.notebook import NotebookFailed, alone, executed_path, run_notebook
from o2okit.errors import UserError
from o2okit.papers import study

DONE, FAILED, REFUSED, MADE, INTERRUPTED = 0, 1, 2, 3, 130


def main(
    key: str,
    values: Mapping[str, Any],
    again: bool,
    log: Path,
    batch: Connection,
    environment: Mapping[str, str],
) -> NoReturn:
    """Executes a notebook unless what it makes is there, and exits with one of the statuses above.

    Args:
        key: ``paper/section``.
        values: parameters of the notebook.
        again: also where what it makes is there.
        log: what this process and the notebook's cells print goes there.
        batch: closes with the batch.
        environment: the batch's variables; those of the process that this one was forked from may be older.
    """
    os.setsid()  # a terminal's Ctrl-C is for the batch alone
    _print_to(log)
    os.environ.clear()
    os.environ.update(environment)
    # In a background job of a shell script SIGINT is ignored, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_stop_with, args=(batch,), daemon=True).start()
    try:
        sys.exit(_execute(key, values, again=again))
    except NotebookFailed as failure:
        print(f"{failure.traceback}\n{failure}")
        sys.exit(FAILED)
    except UserError as error:
        print(error)
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        print("interrupted")
        sys.exit(INTERRUPTED)


def _print_to(log: Path) -> None:
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
            stream.reconfigure(line_buffering=True)


def _execute(key: str, values: Mapping[str, Any], *, again: bool) -> int:
    output = executed_path(study(key, **values))
    output.parent.mkdir(parents=True, exist_ok=True)
    with alone(output):
        # A study of its own: its datasets are gone when the kernel loads them.
        reason = "asked for again" if again else why_not_made(study(key, **values))
        if not reason:
            return MADE
        print(f"{key}: {reason}")
        run_notebook(key, values)
    return DONE


def _stop_with(batch: Connection) -> None:
    """Waits for the pipe's end; nothing is ever sent."""
    batch.poll(None)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
