"""What runs and what is done: a table that is redrawn in a terminal, a line per change elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol, TextIO

from o2okit.batch.notebook import COLOUR

REDRAW = 1.0  # seconds


class Row(Protocol):
    """What the table knows of a section."""

    key: str
    state: str
    note: str
    log: Path | None
    seconds: float


class Table:
    """Shows sections until ``close``.

    Args:
        rows: the sections, which change.
        stream: default: standard output.
    """

    def __init__(self, rows: Sequence[Row], stream: TextIO | None = None) -> None:
        self.rows, self.stream = rows, stream or sys.stdout
        self.live = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self._told: dict[str, str] = {}
        self._lines, self._drawn = 0, -REDRAW

    def update(self) -> None:
        """To be called often; shows what is new."""
        if not self.live:
            for row in self.rows:
                if self._told.setdefault(row.key, "waiting") != row.state:
                    self._told[row.key] = row.state
                    self._print(f"{datetime.now():%H:%M:%S}  {line(row, self._width())}")
        elif time.monotonic() - self._drawn >= REDRAW:
            self._draw([line(row, self._width(), last_line(row)) for row in self.rows])

    def close(self) -> None:
        """The table as it is at the end, with all of its notes."""
        if self.live:
            self._draw([])
        self._print(*(line(row, self._width(), row.note) for row in self.rows))

    def _draw(self, lines: list[str]) -> None:
        """Over what was drawn before. A line that wraps would be two to go back, so that none may."""
        width = shutil.get_terminal_size().columns - 1
        back = f"\x1b[{self._lines}F" if self._lines else ""
        self.stream.write(back + "\x1b[J" + "".join(f"{text[:width]}\n" for text in lines))
        self.stream.flush()
        self._lines, self._drawn = len(lines), time.monotonic()

    def _print(self, *lines: str) -> None:
        print(*lines, sep="\n", file=self.stream, flush=True)

    def _width(self) -> int:
        return max(len(row.key) for row in self.rows)


def line(row: Row, width: int, note: str = "") -> str:
    """A section in words; ``width`` columns for its name."""
    minutes, seconds = divmod(round(row.seconds), 60)
    lasted = f"{minutes}:{seconds:02}" if minutes or seconds else ""
    return f"{row.key:<{width}}  {row.state:<12}  {lasted:>6}  {note}".rstrip()


def last_line(row: Row) -> str:
    """What a running section said last, what another one's note is."""
    if row.state != "running" or row.log is None:
        return row.note.partition("\n")[0]
    return (last_lines(row.log, 1) or [""])[0].removeprefix(row.key).lstrip(": ")


def last_lines(log: Path, count: int) -> list[str]:
    """Of a log, without colours and empty lines; none where it is not there."""
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - 20_000, 0))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [each for each in COLOUR.sub("", text).splitlines() if each.strip()][-count:]
