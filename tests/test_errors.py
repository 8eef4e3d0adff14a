"""What a person sees of a mistake in a notebook."""

import nbclient
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import o2okit
from o2okit.errors import UserError, unknown
from o2okit.training import StoreError


def test_a_notebook_shows_the_line_and_the_message_and_nothing_from_the_depths():
    cells = [
        "import o2okit\n\no2okit.pretrain('hoper-medium-v2', 'iql')",
        "def mine():\n    return 1 / 0\n\nmine()",
    ]
    notebook = new_notebook(cells=[new_code_cell(text) for text in cells])
    nbclient.NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    ours, theirs = (cell.outputs[0] for cell in notebook.cells)
    line, message = ours.traceback[0].splitlines() if len(ours.traceback) == 1 else ours.traceback
    assert line == "line 3: o2okit.pretrain('hoper-medium-v2', 'iql')"
    assert message.startswith(
        "UserError: unknown task 'hoper-medium-v2'. Did you mean 'hopper-medium-v2'"
    )
    assert ours.ename == "UserError"
    assert len(theirs.traceback) > 2, "other errors are shown in full"


def test_it_is_the_line_of_the_caller():
    with pytest.raises(UserError) as found:
        o2okit.pretrain("hoper-medium-v2", "iql")
    line, message = found.value._render_traceback_()
    assert line.endswith('o2okit.pretrain("hoper-medium-v2", "iql")')
    assert message == f"UserError: {found.value}"
    with pytest.raises(StoreError) as found:
        raise StoreError("no room")
    line, message = found.value._render_traceback_()
    assert line.endswith('raise StoreError("no room")')
    assert message == "StoreError: no room"


def test_a_name_with_a_comma_is_told_apart_in_the_list():
    message = str(unknown("result", "td3", ["iql", "iql + qcse, k 5", "bc"]))
    assert "Allowed: iql, 'iql + qcse, k 5', bc." in message
