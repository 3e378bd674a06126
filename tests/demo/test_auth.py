"""The logins of the embedded broker: those of a password file, as it is at the moment."""

from pathlib import Path

import pytest

from plantops_cli.demo.brokers import embedded_broker
from plantops_cli.mosquitto.text.hashing import hash_password
from tests.support import wire


async def test_a_login_made_while_the_embedded_broker_runs_counts_at_once(password_file: Path) -> None:
    async with embedded_broker(password_file) as broker:
        password_file.write_text(f"late:{hash_password(b'comer', iterations=1000)}\n")
        assert await wire.connack_code(broker.port, b"late", b"comer") == 0


async def test_an_unreadable_password_file_refuses_everybody(password_file: Path) -> None:
    async with embedded_broker(password_file) as broker:
        password_file.unlink()
        assert await wire.connack_code(broker.port, b"plantops_backend", b"right") == 5


async def test_a_user_name_that_no_line_has_is_refused_as_a_wrong_password_is(password_file: Path) -> None:
    async with embedded_broker(password_file) as broker:
        unknown = await wire.connack_code(broker.port, b"nobody", b"right")
        assert unknown == await wire.connack_code(broker.port, b"plantops_backend", b"wrong")


async def test_an_unreadable_password_file_is_told_by_its_reason_alone(
    password_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with embedded_broker(password_file) as broker:
        password_file.unlink()
        await wire.connack_code(broker.port, b"plantops_backend", b"right")
    assert "the password file cannot be read: No such file or directory" in caplog.text
    assert "plantops_backend" not in caplog.text
