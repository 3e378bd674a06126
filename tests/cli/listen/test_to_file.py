"""From the flags of ``--to`` to its file."""

from pathlib import Path

import pytest

from plantops_cli.cli.listen.listen_flags import ListenFlags
from plantops_cli.cli.listen.to_file import file_destination
from plantops_cli.cli.shared.flags.display import FileFlags
from plantops_cli.errors import ConfigError
from plantops_cli.formats.registry import Format
from tests.support.command_line import read


def test_without_to_there_is_no_file() -> None:
    assert file_destination(FileFlags()) is None


@pytest.mark.parametrize("rotation", [("--rotate-size", "1M"), ("--rotate-every", "1h")], ids=["size", "time"])
def test_a_rotation_is_for_to(rotation: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="are for --to"):
        read(ListenFlags, *rotation)


def test_only_json_lines_go_to_a_file(tmp_path: Path) -> None:
    for chosen in set(Format) - {Format.JSONL}:
        with pytest.raises(ConfigError, match=f"not --output {chosen}"):
            read(ListenFlags, "--to", str(tmp_path / "file"), "-o", chosen)
    assert list(tmp_path.iterdir()) == []


async def test_what_a_person_should_know_of_the_file_is_said_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b'{"tst":"2026-11-23T20:15:02.123456+00:00","topic":"devi')
    destination = file_destination(FileFlags(to=tmp_path / "file"))
    assert destination is not None
    destination.close()
    assert "ended in a cut line" in capsys.readouterr().err
