"""What the distribution promises: its types, its dependencies, its pins."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def requirements(texts: list[str]) -> list[Requirement]:
    """The requirements on others: an extra that names this distribution's own extras adds none."""
    return [req for req in map(Requirement, texts) if req.name != PROJECT["name"]]


EXTRAS = chain.from_iterable(PROJECT["optional-dependencies"].values())
INSTALLED = requirements([*PROJECT["dependencies"], *EXTRAS])
BUILD = requirements(PYPROJECT["build-system"]["requires"])


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_the_package_is_marked_as_typed() -> None:
    assert (ROOT / "plantops_cli" / "py.typed").is_file()


def test_pytest_finds_a_plugin_and_no_program_needs_pytest() -> None:
    (module,) = PROJECT["entry-points"]["pytest11"].values()
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    assert "pytest" not in {req.name for req in requirements(PROJECT["dependencies"])}


@pytest.mark.parametrize("requirement", INSTALLED, ids=str)
def test_a_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("requirement", INSTALLED + BUILD, ids=str)
def test_contributing_says_why_a_dependency_is_there(requirement: Requirement) -> None:
    assert f"\n| `{requirement.name}` |" in (ROOT / "CONTRIBUTING.md").read_text()


def test_constraints_hold_plain_pins_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
