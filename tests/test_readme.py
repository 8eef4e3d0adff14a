"""What the README says of the code is true of the code."""

import re
from pathlib import Path

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
