import io
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import o2okit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(pin.name): pin
    for pin in (
        Requirement(line.partition("#")[0])
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line.partition("#")[0].strip()
    )
}
LIBRARIES = [
    Requirement(text)
    for text in [*PROJECT["dependencies"], *(text for texts in EXTRAS.values() for text in texts)]
    if Requirement(text).name != "o2okit"
]
TESTED_ON = ("3.11", "3.12")


def pinned(requirement):
    (pin,) = requirement.specifier
    return Version(pin.version)


def installed(name):
    try:
        return Version(Version(metadata.version(name)).public)  # torch 2.13.0+cpu is 2.13.0
    except metadata.PackageNotFoundError:
        return None


# --- constraints ----------------------------------------------------------------------------------
def test_a_constraint_pins_one_version_of_a_library_that_something_may_install():
    assert [
        str(pin) for pin in PINS.values() if [s.operator for s in pin.specifier] != ["=="]
    ] == []
    # nbclient comes with papermill and decides how cells fail.
    assert set(PINS) - {canonicalize_name(r.name) for r in LIBRARIES} == {"nbclient"}


@pytest.mark.parametrize("requirement", LIBRARIES, ids=str)
def test_every_range_allows_the_tested_pin(requirement):
    assert requirement.specifier, "a range with a lower end, so that pip can't take anything"
    pin = PINS.get(canonicalize_name(requirement.name))
    version = pinned(pin) if pin else installed(requirement.name)
    assert version is None or version in requirement.specifier


@pytest.mark.parametrize("name", PINS)
def test_what_is_installed_here_is_what_is_pinned(name):
    core = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert installed(name) in (
        (pinned(PINS[name]),) if name in core else (pinned(PINS[name]), None)
    )


def test_core_dependencies_that_decide_numbers_are_pinned():
    assert {"torch", "numpy", "scipy", "pandas", "gymnasium"} <= set(PINS)


def test_the_extra_all_holds_every_other_extra():
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.name == PROJECT["name"]
    assert everything.extras == EXTRAS.keys() - {"all"}


# --- conda ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def conda():
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pip_lines(conda):
    """The pip section: conda writes it to a requirements file beside environment.yml."""
    (section,) = (entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    return section


def test_condas_python_is_one_that_the_package_allows_and_is_tested_on(conda):
    entries = [entry for entry in conda["dependencies"] if isinstance(entry, str)]
    versions = dict(entry.partition("=")[::2] for entry in entries)
    assert versions.keys() == {"python", "pip"}  # all else comes from pyproject.toml
    assert versions["python"] in TESTED_ON
    assert versions["python"] in SpecifierSet(PROJECT["requires-python"])
    classified = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c]
    assert tuple(classified) == TESTED_ON
    assert conda["name"] == PROJECT["name"]


def test_conda_installs_this_package_with_existing_extras_and_the_pins(pip_lines):
    options = dict(line.split(maxsplit=1) for line in pip_lines)
    assert options.keys() == {"--constraint", "--editable"}
    assert (ROOT / options["--constraint"]).samefile(ROOT / "constraints.txt")
    place, extras = re.fullmatch(r"(\S+)\[(.+)\]", options["--editable"]).groups()
    assert (ROOT / place).samefile(ROOT)
    assert set(extras.split(",")) == {"notebook", "dev", "data", "atari"} <= EXTRAS.keys()


def test_pip_reads_condas_lines_as_the_package_and_its_pins(pip_lines, tmp_path):
    pytest.importorskip("pip")
    # As conda does it: the lines as they are in a file beside environment.yml, and `pip install -r`.
    (tmp_path / "constraints.txt").symlink_to(ROOT / "constraints.txt")
    (tmp_path / "condaenv.requirements.txt").write_text("\n".join(pip_lines))
    program = """
from pip._internal.network.session import PipSession
from pip._internal.req.req_file import parse_requirements
for parsed in parse_requirements("condaenv.requirements.txt", session=PipSession()):
    print("pin" if parsed.constraint else "install", parsed.is_editable, parsed.requirement)
"""
    pip = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(pip, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parsed = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert [line for line in parsed if line[0] == "install"] == [
        ["install", "True", ".[notebook,dev,data,atari]"]
    ]
    assert {Requirement(line[2]) for line in parsed if line[0] == "pin"} == set(PINS.values())


# --- what is said about the package ---------------------------------------------------------------
def test_the_citation_names_this_version_and_the_four_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == o2okit.__version__
    assert citation["license"] == PROJECT["license"]
    assert len(citation["references"]) == 4
    assert [r["title"] for r in citation["references"] if not r["authors"]] == []


def make_targets(makefile):
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, flags=re.MULTILINE))


def made(markdown):
    """The targets of every ``make ...`` that stands in a code block or between backticks."""
    fence = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in fence.findall(markdown) for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", fence.sub("", markdown))
    commands = [re.search(r"(?:^|[;&$]\s*)make\s+([^#;&|]+)", line.strip()) for line in lines]
    words = [word for found in commands if found for word in found[1].split()]
    return {word for word in words if "=" not in word and not word.startswith("-")}


def test_the_readme_names_the_two_commands_and_no_target_that_is_missing():
    readme = made((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"replicate", "test"} <= readme
    assert readme <= make_targets((ROOT / "Makefile").read_text(encoding="utf-8"))


def test_make_targets_are_read_as_they_are_meant():
    text = "Then make sure of `make test`.\n```sh\nmake replicate  # all\nmake PYTHON=x lint\n```"
    assert made(text) == {"test", "replicate", "lint"}
    assert made("a `$ make help` and `cd x && make clean`, not `remake this`") == {"help", "clean"}
    assert make_targets("BIN := x\na-b: c\n\tmake d\n$(X): y\nhelp:  ## text") == {"a-b", "help"}


def test_every_make_target_is_phony():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)[1].split())
    assert phony == make_targets(makefile)


# --- the wheel ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.iterdir()
    assert file.name == f"o2okit-{o2okit.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    ("folder", "ending", "files"), [("published", ".csv", 5), ("specs", ".md", 5)]
)
def test_the_wheel_holds_values_and_specifications_byte_for_byte(wheel, folder, ending, files):
    here = {path.name: path.read_bytes() for path in (ROOT / "o2okit/papers" / folder).iterdir()}
    assert sum(name.endswith(ending) for name in here) == files
    for name, content in here.items():
        assert wheel[f"o2okit/papers/{folder}/{name}"] == content


def test_the_wheel_holds_every_module_and_nothing_but_the_package(wheel):
    parts = {name.split("/")[0] for name in wheel}
    assert parts == {"o2okit", f"o2okit-{o2okit.__version__}.dist-info"}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "o2okit").rglob("*.py")}
    assert {name for name in wheel if name.endswith(".py")} == modules
    in_c = {str(path.relative_to(ROOT)) for path in (ROOT / "o2okit").rglob("*.c")}
    assert {name for name in wheel if name.endswith(".c")} == in_c != set()
    assert [name for name in wheel if "test" in name or name.endswith((".pyc", ".ipynb"))] == []


def test_the_wheel_says_what_it_needs_and_brings_the_command_and_the_licence(wheel):
    info = f"o2okit-{o2okit.__version__}.dist-info"
    headers = Parser().parsestr(wheel[f"{info}/METADATA"].decode())
    assert SpecifierSet(headers["Requires-Python"]) == SpecifierSet(PROJECT["requires-python"])
    assert set(headers.get_all("Provides-Extra")) == EXTRAS.keys()
    needed = [Requirement(text) for text in headers.get_all("Requires-Dist")]
    core = {requirement for requirement in needed if requirement.marker is None}
    assert core == {Requirement(text) for text in PROJECT["dependencies"]}
    assert b"o2okit = o2okit.cli:main" in wheel[f"{info}/entry_points.txt"]
    assert wheel[f"{info}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
