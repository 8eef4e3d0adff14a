"""One section's notebook in a process of its own: ``python -m o2okit.batch.worker KEY VALUES [--again]``.

Started by ``o2okit.batch.sections``, which holds the other end of standard input. That end closes when the
batch is interrupted, killed or crashes: the worker then stops, and its kernel with it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

from o2okit.batch.made import why_not_made
from o2okit.batch.notebook import NotebookFailed, alone, executed_path, run_notebook
from o2okit.errors import UserError
from o2okit.papers import study

DONE, FAILED, REFUSED, MADE, INTERRUPTED = 0, 1, 2, 3, 130


def main(key: str, values: str, *options: str) -> int:
    """Executes a notebook unless what it makes is there. Returns one of the statuses above."""
    # In a background job of a shell script SIGINT is ignored, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_stop_with_the_batch, daemon=True).start()
    try:
        return _execute(key, json.loads(values), again="--again" in options)
    except NotebookFailed as failure:
        print(f"{failure.traceback}\n{failure}", flush=True)
        return FAILED
    except UserError as error:
        print(error, flush=True)
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        return INTERRUPTED


def _execute(key: str, values: Mapping[str, Any], *, again: bool) -> int:
    output = executed_path(study(key, **values))
    output.parent.mkdir(parents=True, exist_ok=True)
    with alone(output):
        # A study of its own: its datasets are gone when the kernel loads them.
        reason = "asked for again" if again else why_not_made(study(key, **values))
        if not reason:
            return MADE
        print(f"{key}: {reason}", flush=True)
        run_notebook(key, values)
    return DONE


def _stop_with_the_batch() -> None:
    """Waits for the end of standard input."""
    # Without sys.stdin's buffer: its lock, held here, would be missed when the interpreter ends.
    while os.read(0, 1):
        pass
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
