"""The specifications are shipped whole, and what the code cites of them exists."""

import re
from pathlib import Path

import pytest

import o2okit

PACKAGE = Path(o2okit.__file__).parent
SPECS = PACKAGE / "papers" / "specs"
ORIGINAL = PACKAGE.parents[1] / "shared" / "specs"
NAMES = ["gde.md", "ocr_cft.md", "qcse.md", "samg.md", "tasks.md"]


def test_all_are_shipped():
    assert sorted(path.name for path in SPECS.iterdir()) == NAMES


@pytest.mark.skipif(not ORIGINAL.is_dir(), reason="no folder with the originals beside this one")
@pytest.mark.parametrize("name", NAMES)
def test_they_are_the_originals(name):
    assert (SPECS / name).read_bytes() == (ORIGINAL / name).read_bytes()


def test_every_section_that_the_code_cites_exists():
    headings = {
        name: set(re.findall(r"^#+ (\d+(?:\.\d+)?)", (SPECS / name).read_text(), re.MULTILINE))
        for name in NAMES
    }
    cited = {
        (file.name, name, section.rstrip("."))
        for file in PACKAGE.rglob("*.py")
        for name, section in re.findall(r"specs/(\w+\.md) ([\d.]+)", file.read_text())
    }
    assert len(cited) > 50
    missing = [each for each in cited if each[2] not in headings[each[1]]]
    assert not missing
