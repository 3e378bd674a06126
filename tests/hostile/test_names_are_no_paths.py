"""What a device calls itself is neither the name of a file nor a word of a shell."""

import json
from pathlib import Path

import pytest

from tests.support.brokers import Mosquitto
from tests.support.plantops import run
from tests.support.publishing import publish

NAMES = ("..", ".hidden", "~root", "-rf", "$(touch made)", "`touch made`", "; touch made", "%s%n", "..\\..\\made")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    return tmp_path / "a" / "b"


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (("listen", "--to", "lines", "-C", str(len(NAMES))), ["lines"]),
        (("listen", "-C", str(len(NAMES))), []),
        (("fleet", "--once", "--within", "1", "--save-roster", "roster"), ["roster"]),
        (("check", "--within", "1"), []),
    ],
    ids=lambda value: value[0] if value else "nothing",
)
def test_the_id_of_a_device_makes_no_file_and_runs_nothing(
    own_mosquitto: Mosquitto, folder: Path, arguments: tuple[str, ...], made: list[str]
) -> None:
    for name in NAMES:
        publish(own_mosquitto, f"devices/{name}/telemetry", b"{}", retain=True)
    done = run(*arguments, env=own_mosquitto.environment)
    assert not done.errors
    assert [path.name for path in sorted(folder.iterdir()) if path.name != f".{path.name}.lock"] == made
    assert [path.name for path in folder.parent.iterdir()] == ["b"]


def test_every_one_of_these_names_is_heard_as_it_is(own_mosquitto: Mosquitto) -> None:
    for name in NAMES:
        publish(own_mosquitto, f"devices/{name}/telemetry", b"{}", retain=True)
    done = run("listen", "-C", str(len(NAMES)), env=own_mosquitto.environment)
    assert sorted(json.loads(line)["device_id"] for line in done.lines) == sorted(NAMES)
