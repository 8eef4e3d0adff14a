"""What the README says of the code is true of the code."""

import re
from pathlib import Path

import nbclient
from nbformat.v4 import new_code_cell, new_notebook

from o2okit.backbones import BACKBONES
from o2okit.report.markdown import anchor

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_backbones_has_every_backbone_with_its_length():
    rows = re.findall(r"^\| `([a-z0-9+-]+)` \| (\[.*?) \| ([\d+ ]+) \|", README, re.MULTILINE)
    assert {name for name, _, _ in rows} == set(BACKBONES)
    for name, files, lines in rows:
        paths = re.findall(r"\((o2okit/backbones/\w+\.py)\)", files)
        counted = [len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in paths]
        assert [int(number) for number in lines.split("+")] == counted, name


def test_every_link_into_the_project_leads_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_link_to_a_heading_leads_to_one():
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", README)
    assert any(file == "figures/REPORT.md" for file, _ in links)
    for file, target in links:
        text = (ROOT / file).read_text(encoding="utf-8") if file else README
        assert target in map(anchor, re.findall(r"^#+ (.+)$", text, re.MULTILINE)), target


def test_the_method_of_ones_own_is_trained_in_a_notebook_and_trained_anew_once_it_is_edited(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("O2OKIT_PROFILE", "smoke")
    monkeypatch.setenv("O2OKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(tmp_path / "data"))
    section = README.partition("## A method of your own")[2]
    source = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    again = source.replace("  # [runs, rows]", "").replace('o2okit.check("capped", "td3+bc")\n', "")
    edited = again.replace("batch.reward.minimum", "batch.reward.maximum")
    assert edited != again != source
    shown = "\nprint(sorted({run.spec.id for run in result.runs if run.spec.method == 'capped'}))"
    cells = [new_code_cell(text + shown) for text in (source, edited, again)]
    notebook = new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=300).execute()
    printed = [
        "".join(
            out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout"
        )
        for cell in notebook.cells
    ]
    ids = [text.splitlines()[-1] for text in printed]
    assert ids[0] == ids[2] != ids[1]
    assert len(ids[0].split(",")) == 3
    assert "capped with td3+bc: 3 runs of 60 steps are the same" in printed[0]
    trained = ["td3+bc x" in text for text in printed]
    assert trained == [True, True, False], printed
