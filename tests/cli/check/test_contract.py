"""Payloads held against a pydantic model of the user's."""

import os
import sys
from pathlib import Path

import pytest

from plantops_cli.cli.check.contract import load_contract
from plantops_cli.errors import ConfigError

MODULE = """
from pydantic import BaseModel, Field, model_validator

class Telemetry(BaseModel):
    soil_moisture: float = Field(ge=0, le=100)

class Picky(BaseModel):
    @model_validator(mode="after")
    def divide(self):
        return 1 // 0

NUMBER = 1
"""


@pytest.fixture
def module(tmp_path: Path) -> str:
    # the working directory; a name of its own, for modules are imported once
    name = f"plants_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_broken.py").write_text("raise RuntimeError('not today')")
    return name


def test_a_payload_fits_or_the_fault_is_said_with_its_place(module: str) -> None:
    find_fault = load_contract(f"{module}:Telemetry")
    assert find_fault(b'{"soil_moisture": 41.5, "more": 1}') is None
    assert find_fault(b'{"soil_moisture": 101}') == "soil_moisture: Input should be less than or equal to 100"
    assert find_fault(b"{}") == "soil_moisture: Field required"
    assert "Invalid JSON" in str(find_fault(b"nonsense"))
    assert load_contract(f"{module}:Picky")(b"{}") == "Picky failed: ZeroDivisionError"


def test_nothing_in_the_working_directory_takes_the_place_of_an_installed_module(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, needed = f"garden_{os.getpid()}", f"soil_{os.getpid()}"
    installed = tmp_path_factory.mktemp("installed")
    (installed / f"{name}.py").write_text(f"import {needed}\n{MODULE}")
    (installed / f"{needed}.py").touch()
    for planted in (name, needed):
        (tmp_path / f"{planted}.py").write_text("raise RuntimeError('planted')")
    monkeypatch.setattr(sys, "path", [*sys.path, str(installed)])
    assert load_contract(f"{name}:Telemetry")(b'{"soil_moisture": 41.5}') is None
    assert sys.path[-1] == str(installed)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Telemetry", "not MODULE:MODEL"),
        (":Telemetry", "not MODULE:MODEL"),
        ("no_such_module:Telemetry", "does not import"),
        ("{module}:Nothing", "no pydantic model Nothing"),
        ("{module}:NUMBER", "no pydantic model NUMBER"),
        ("{module}_broken:Telemetry", "not today"),
    ],
)
def test_what_is_no_model_is_refused(module: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_contract(name.format(module=module))
