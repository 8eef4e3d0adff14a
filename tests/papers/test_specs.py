"""What the code cites of the specifications exists (that they are whole: ``test_values``)."""

import re
from pathlib import Path

import o2okit

PACKAGE = Path(o2okit.__file__).parent


def test_every_section_that_the_code_cites_exists():
    headings = {
        spec.name: set(re.findall(r"^#+ (\d+(?:\.\d+)?)", spec.read_text(), re.MULTILINE))
        for spec in (PACKAGE / "papers" / "specs").iterdir()
    }
    cited = {
        (file.name, name, section.rstrip("."))
        for file in PACKAGE.rglob("*.py")
        for name, section in re.findall(r"specs/(\w+\.md) ([\d.]+)", file.read_text())
    }
    assert len(cited) > 50
    missing = [each for each in cited if each[2] not in headings[each[1]]]
    assert not missing
