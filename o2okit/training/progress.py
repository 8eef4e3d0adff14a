"""Progress for a person: a bar in a terminal or JupyterLab, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time

from tqdm.auto import tqdm as notebook_tqdm
from tqdm.std import tqdm

SECONDS = 5.0  # between two lines


class Progress:
    """Shows how far a cohort is.

    Under papermill, nbval and in a pipe (``O2OKIT_BATCH`` is set, or the error stream is no terminal)
    it prints one line every few seconds, which reads well in a log.
    """

    def __init__(self, label: str, total: int, start: int = 0) -> None:
        self.label, self.total, self.start = label, total, start
        self.began = self.shown = time.monotonic()
        if _in_notebook() and not os.environ.get("O2OKIT_BATCH"):
            self.bar = notebook_tqdm(total=total, initial=start, desc=label, unit="step")
        elif sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=start, desc=label, unit="step")
        else:
            self.bar = None

    def update(self, step: int, note: str = "") -> None:
        """``step`` of ``total`` are done."""
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(step - self.bar.n)
        elif time.monotonic() - self.shown >= SECONDS or step == self.total:
            self.shown = time.monotonic()
            rate = (step - self.start) / max(self.shown - self.began, 1e-9)
            left = (self.total - step) / max(rate, 1e-9)
            print(
                f"{self.label}: {step:,}/{self.total:,} ({step / self.total:.0%}), "
                f"{rate:,.0f} steps/s, {left:.0f} s left{note and ', ' + note}",
                flush=True,
            )

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None
