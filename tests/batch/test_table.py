import io
import re
from types import SimpleNamespace

from o2okit.batch.table import Table, last_lines


def row(key, state="waiting", log=None, seconds=0.0, note=""):
    return SimpleNamespace(key=key, state=state, log=log, seconds=seconds, note=note)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_one_line_per_change_of_state_and_the_table_at_the_end():
    stream, rows = io.StringIO(), [row("gde/a"), row("gde/long")]
    table = Table(rows, stream)
    table.update()
    assert stream.getvalue() == ""
    rows[0].state = "running"
    table.update()
    table.update()
    rows[0].state, rows[0].seconds, rows[0].note = "failed", 83.4, "a.log"
    rows[1].state = "running"
    table.update()
    table.close()
    lines = stream.getvalue().splitlines()
    assert [re.sub(r"^\d\d:\d\d:\d\d  ", "", text) for text in lines] == [
        "gde/a     running",
        "gde/a     failed          1:23",
        "gde/long  running",
        "gde/a     failed          1:23  a.log",
        "gde/long  running",
    ]


def test_a_terminal_sees_the_table_redrawn_with_what_runs_said_last(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("o2okit.batch.table.REDRAW", 0.0)
    log = tmp_path / "a.log"
    log.write_text("gde/a online iql x3: 500/25,000 (2%), \x1b[31m40 steps/s\x1b[0m\n\n")
    stream, rows = Terminal(), [row("gde/a", "running", log, 5.0), row("gde/b")]
    table = Table(rows, stream)
    table.update()
    table.update()
    first, second = stream.getvalue().split("\x1b[2F")
    assert first == second
    lines = first.removeprefix("\x1b[J").splitlines()
    assert lines == [
        "gde/a  running         0:05  online iql x3: 500/25,000 (2%), "[:59].rstrip(),
        "gde/b  waiting",
    ]
    rows[0].note = "the notebook"
    rows[1].state, rows[1].note = "refused", "two\nlines"
    table.update()
    last = stream.getvalue().split("\x1b[J")[-1].splitlines()
    assert [text.split()[:3] for text in last][1] == ["gde/b", "refused", "two"]
    assert len(last) == 2, "a line each"
    table.close()
    assert stream.getvalue().endswith("the notebook\ngde/b  refused               two\nlines\n")


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    Table([row("gde/a", "running")], stream).update()
    assert "\x1b" not in stream.getvalue()


def test_the_end_of_a_log_is_read_without_colours_and_empty_lines(tmp_path):
    log = tmp_path / "log"
    assert last_lines(log, 3) == []
    log.write_bytes(b"x" * 50_000 + b"\n1\n\n\x1b[0;31m2\x1b[0m\n\xff3\n")
    assert last_lines(log, 3) == ["1", "2", "\ufffd3"]
