"""What the tests of the files may rely on."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def package_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    # the processes started here run in a folder of the test's, and the package need not be installed
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
