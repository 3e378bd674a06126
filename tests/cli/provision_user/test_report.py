"""Who stands in a password file, said to a person and to a program."""

import json
from pathlib import Path

import pytest

from plantops_cli.cli.provision_user.report import Report
from plantops_cli.cli.shared.flags.display import DocumentChoice
from plantops_cli.mosquitto.files.password_file import users, write_user


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """Two logins, and a line that is none."""
    path = tmp_path / "passwords"
    for name in ("alice", "bob"):
        write_user(path, name, b"correct horse battery staple")
    path.write_bytes(path.read_bytes() + b"carol:broken\n")
    return path


def test_a_person_reads_a_line_for_each_and_no_hash(
    password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Report(DocumentChoice.TEXT, is_dry_run=False).users(password_file, users(password_file))
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()] == ["alice", "bob", "carol"]
    assert "$7$" not in said


def test_a_program_reads_which_of_them_can_log_in(password_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Report(DocumentChoice.JSON, is_dry_run=False).users(password_file, users(password_file))
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == str(password_file)
    assert [(row["username"], row["line"], row["valid"]) for row in document["users"]] == [
        ("alice", 1, True),
        ("bob", 2, True),
        ("carol", 3, False),
    ]
