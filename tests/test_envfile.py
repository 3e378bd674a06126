"""The .env: whose counts, what of it is taken, and what is said of the rest."""

import grp
import logging
import os
import pwd
import stat
from pathlib import Path

import pytest

from plantops_cli.config import load_settings
from plantops_cli.envfile import EnvFile, find_env_file, find_fault, read_env_file, take, trusted_users
from plantops_cli.errors import ConfigError

ME, STRANGER = 4242, 6666  # ids that no account has
FIELDS = (
    "mqtt_host",
    "mqtt_port",
    "mqtt_tls",
    "mqtt_reload",
    "mqtt_client_id",
    "mqtt_backend_username",
    "mqtt_backend_password",
    "mqtt_backend_password_file",
    "mqtt_admin_password_file",
)


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    """A .env of the current folder, the caller's own."""
    path = tmp_path / ".env"
    path.touch(mode=0o600)
    return path


def seen(mode: int, *, uid: int = ME, gid: int = STRANGER, links: int = 1) -> os.stat_result:
    """What the system tells of a file or folder."""
    return os.stat_result((mode, 1, 1, links, uid, gid, 0, 0, 0, 0))


FILE = seen(stat.S_IFREG | 0o644)
FOLDER = seen(stat.S_IFDIR | 0o755)
TMP = seen(stat.S_IFDIR | 0o1777, uid=0)
OPEN = seen(stat.S_IFDIR | 0o777)


def fault(
    file: os.stat_result, *, link: os.stat_result | None = None, folders: tuple[os.stat_result, ...] = (FOLDER,)
) -> str | None:
    return find_fault(file, link=link or file, folders=folders, users=frozenset({ME, 0}))


def private_groups() -> list[pwd.struct_passwd]:
    """The accounts, but for root's, that have a group of their own name to themselves."""
    accounts = pwd.getpwall()
    gids = [account.pw_gid for account in accounts]
    groups = {group.gr_name: group for group in grp.getgrall()}
    return [
        account
        for account in accounts
        if account.pw_uid
        and (group := groups.get(account.pw_name))
        and group.gr_gid == account.pw_gid
        and not group.gr_mem
        and gids.count(account.pw_gid) == 1
    ]


# Whose counts


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o400])
@pytest.mark.parametrize("owner", [ME, 0])
def test_one_of_ours_or_of_roots_that_nobody_else_may_write_counts(mode: int, owner: int) -> None:
    assert fault(seen(stat.S_IFREG | mode, uid=owner)) is None


def test_one_of_ours_counts_in_a_sticky_folder() -> None:
    assert fault(FILE, folders=(TMP,)) is None


@pytest.mark.parametrize(
    ("file", "link", "folders", "words"),
    [
        (seen(stat.S_IFREG | 0o600, uid=STRANGER), None, (FOLDER,), f"it belongs to uid {STRANGER}"),
        (seen(stat.S_IFREG | 0o666), None, (FOLDER,), "others may write it"),
        (seen(stat.S_IFREG | 0o664), None, (FOLDER,), "others may write it"),
        (seen(stat.S_IFIFO | 0o600), None, (FOLDER,), "it is not a regular file"),
        (
            FILE,
            seen(stat.S_IFLNK | 0o777, uid=STRANGER),
            (FOLDER,),
            f"it is a link that belongs to uid {STRANGER}",
        ),
        (FILE, None, (seen(stat.S_IFDIR | 0o755, uid=STRANGER),), f"its folder belongs to uid {STRANGER}"),
        (FILE, None, (seen(stat.S_IFDIR | 0o1777, uid=STRANGER),), f"its folder belongs to uid {STRANGER}"),
        (FILE, None, (OPEN,), "others may write in its folder"),
        (FILE, None, (seen(stat.S_IFDIR | 0o775),), "others may write in its folder"),
        (FILE, seen(stat.S_IFLNK | 0o777), (FOLDER, OPEN), "others may write in its folder"),
        (seen(stat.S_IFREG | 0o600, links=2), None, (TMP,), "others may write in its folder"),
    ],
)
def test_one_that_others_had_a_hand_in_does_not_count(
    file: os.stat_result, link: os.stat_result | None, folders: tuple[os.stat_result, ...], words: str
) -> None:
    assert (fault(file, link=link, folders=folders) or "").startswith(words)


@pytest.mark.skipif(not private_groups(), reason="this machine has no account with a group of its own")
def test_the_write_bit_of_a_private_group_is_no_fault() -> None:
    account = private_groups()[0]
    file = seen(stat.S_IFREG | 0o664, uid=account.pw_uid, gid=account.pw_gid)
    folder = seen(stat.S_IFDIR | 0o775, uid=account.pw_uid, gid=account.pw_gid)
    ours, others = frozenset({account.pw_uid, 0}), frozenset({0})
    assert find_fault(file, link=file, folders=(folder,), users=ours) is None
    roots = seen(stat.S_IFREG | 0o664, uid=0, gid=account.pw_gid)
    assert (
        find_fault(roots, link=roots, folders=(FOLDER,), users=others)
        == "others may write it, which chmod go-w would end"
    )


def test_the_caller_of_sudo_counts_for_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    before = trusted_users()
    assert before == {os.geteuid(), 0}
    for nonsense in ("", "-1", "1x", "\u0663", "9" * 5_000):
        monkeypatch.setenv("SUDO_UID", nonsense)
        assert trusted_users() == before
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    assert (STRANGER in trusted_users()) == (os.geteuid() == 0)


def test_a_link_of_ours_to_a_file_of_ours_is_followed(dotenv: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir(mode=0o700)
    real = dotenv.rename(tmp_path / "dotfiles" / "env")
    real.write_text("MQTT_HOST=broker.example\n")
    dotenv.symlink_to(real)
    assert load_settings().mqtt_host == "broker.example"
    real.parent.chmod(0o777)
    assert load_settings().mqtt_host == "localhost"


def test_one_that_does_not_count_is_said_in_one_line_with_the_cure(
    dotenv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dotenv.write_text("MQTT_HOST=broker.example\n")
    dotenv.chmod(0o666)
    assert load_settings().mqtt_host == "localhost"
    assert [(record.levelno, record.name) for record in caplog.records] == [(logging.WARNING, "plantops.envfile")]
    assert caplog.messages[0].startswith(".env is ignored: others may write it, which chmod go-w would end (")
    assert "load_settings(env_file=...)" in caplog.messages[0]
    assert "env_file=" in caplog.messages[0]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_regular_file_is_ignored_without_waiting(
    make: object, dotenv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dotenv.unlink()
    assert callable(make)
    make(dotenv)
    assert load_settings().mqtt_host == "localhost"
    assert ".env is ignored: it is not a regular file" in caplog.text


def test_where_there_is_none_nothing_is_said(dotenv: Path, caplog: pytest.LogCaptureFixture) -> None:
    dotenv.unlink()
    assert find_env_file() is None
    dotenv.symlink_to("nowhere")
    assert find_env_file() is None
    assert not caplog.records


def test_one_that_counts_and_is_too_long_is_refused(dotenv: Path) -> None:
    dotenv.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match=r"\.env has more than 1,048,576 bytes"):
        load_settings()


# One that is named


def test_one_that_is_named_is_read_instead_whoever_may_write_it(
    dotenv: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dotenv.write_text("MQTT_HOST=here.example\nMQTT_PORT=1\n")
    named = tmp_path / "named"
    named.write_text("MQTT_HOST=named.example\n")
    named.chmod(0o666)
    for way in (named, str(named), "named"):
        settings = load_settings(env_file=way)
        assert (settings.mqtt_host, settings.port) == ("named.example", 1883)
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "reason"), [("missing", "No such file"), ("folder", "not a regular"), ("pipe", "not a regular")]
)
def test_one_that_is_named_and_cannot_be_read_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=f"cannot read settings from '{name}': .*{reason}") as refused:
        read_env_file(Path(name))
    assert refused.value.hint


# What of it is taken


def taken(values: dict[str, str]) -> list[str]:
    """The settings that are not taken from a .env of the current folder, each warned of with its cure."""
    chosen = take(EnvFile(Path(".env"), values), FIELDS)
    missing = sorted(values.keys() - chosen.values.keys())
    for name, warning in zip(missing, chosen.warnings, strict=True):
        assert warning.startswith(f"{name.upper()} of .env is not taken: ")
        assert f"set {name.upper()} in the environment" in warning
    return missing


@pytest.mark.parametrize("value", ["command:/bin/true", " command:x", "Command:x", "command:"])
def test_a_program_to_run_is_never_taken(value: str, dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken({"mqtt_reload": value}) == ["mqtt_reload"]
    dotenv.write_text(f"MQTT_RELOAD='{value}'\n")
    assert load_settings().mqtt_reload is None
    assert load_settings(env_file=dotenv).mqtt_reload is None
    monkeypatch.setenv("MQTT_RELOAD", "command:/bin/true")
    assert load_settings().mqtt_reload == "command:/bin/true"


@pytest.mark.parametrize("value", ["pid:/run/mosquitto.pid", "systemd", "docker:broker", "none"])
def test_other_ways_to_tell_the_broker_are_taken(value: str) -> None:
    assert taken({"mqtt_reload": value}) == []


@pytest.mark.parametrize("where", ["mqtt_host", "mqtt_port", "mqtt_tls"])
@pytest.mark.parametrize("secret", ["mqtt_backend_password_file", "mqtt_admin_password_file"])
def test_a_secret_file_from_elsewhere_is_not_taken_beside_an_address(
    where: str, secret: str, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    for path in ("/etc/passwd", "../secret", "link", f"{tmp_path}/../secret"):
        assert taken({where: "1", secret: path}) == [secret]
        assert taken({secret: path}) == []
    for path in ("secret", "secrets/mqtt", f"{tmp_path}/secret"):
        assert taken({where: "1", secret: path}) == []


def test_an_address_that_something_else_overrules_is_none(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv.write_text("MQTT_HOST=broker.example\nMQTT_BACKEND_PASSWORD_FILE=/run/secrets/mqtt\n")
    assert load_settings().mqtt_backend_password_file is None
    assert load_settings(mqtt_host="a.example").mqtt_backend_password_file == Path("/run/secrets/mqtt")
    monkeypatch.setenv("MQTT_HOST", "b.example")
    assert load_settings().mqtt_backend_password_file == Path("/run/secrets/mqtt")


def test_a_secret_file_that_the_environment_names_is_taken(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv.write_text("MQTT_HOST=broker.example\nMQTT_BACKEND_PASSWORD_FILE=/etc/passwd\n")
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD_FILE", "/run/secrets/mqtt")
    assert load_settings().mqtt_backend_password_file == Path("/run/secrets/mqtt")


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("MQTT_BACKEND_PASSWORD=se${CANARY}cret", "mqtt_backend_password", b"se${CANARY}cret"),
        ("MQTT_BACKEND_PASSWORD=se${NOBODY}cret", "mqtt_backend_password", b"se${NOBODY}cret"),
        ("MQTT_BACKEND_PASSWORD='se${CANARY:-x}cret'", "mqtt_backend_password", b"se${CANARY:-x}cret"),
        ('MQTT_BACKEND_PASSWORD="se$CANARY${}cret"', "mqtt_backend_password", b"se$CANARY${}cret"),
        ("X=y\nMQTT_ADMIN_PASSWORD=${X}", "mqtt_admin_password", b"${X}"),
        ("MQTT_ADMIN_PASSWORD=a#b=c'd\"e\\f", "mqtt_admin_password", b"a#b=c'd\"e\\f"),
        ("MQTT_ADMIN_PASSWORD='a\\\\'\nX='b'", "mqtt_admin_password", b"a\\"),
        ("MQTT_BACKEND_PASSWORD=pä植", "mqtt_backend_password", "pä植".encode()),
        ("MQTT_CLIENT_ID=${CANARY}", "mqtt_client_id", "${CANARY}"),
        ("MQTT_HOST=${CANARY}.example", "mqtt_host", "${CANARY}.example"),
    ],
)
def test_a_value_is_taken_as_it_is_written(
    line: str, name: str, value: object, dotenv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "do-not-sing")
    dotenv.write_text(f"{line}\n")
    found = getattr(load_settings(), name)
    assert (found.get_secret_value() if isinstance(value, bytes) else found) == value


def test_what_looks_as_if_it_should_be_filled_in_is_remarked_on_but_in_a_password(
    dotenv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dotenv.write_text("MQTT_CLIENT_ID=${ROOM}-1\nMQTT_BACKEND_PASSWORD=a${b\nWORKERS=${X}\n")
    load_settings()
    assert caplog.messages == ["MQTT_CLIENT_ID of .env is taken as it is written: ${...} is not filled in"]


def test_a_byte_order_mark_is_no_part_of_the_first_name(dotenv: Path, tmp_path: Path) -> None:
    dotenv.write_bytes(b"\xef\xbb\xbfMQTT_HOST=broker.example\r\nMQTT_BACKEND_PASSWORD=tulip\r\n")
    for settings in (load_settings(), load_settings(env_file=dotenv)):
        assert (settings.mqtt_host, settings.password()) == ("broker.example", b"tulip")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('MQTT_BACKEND_PASSWORD="tu"lip', "line 1"),
        ("# x\n\n\nMQTT_BACKEND_PASSWORD='tulip\n", "line 4"),
        ("\r\n\r\nset X=tulip\r\nexport MQTT_BACKEND_PASSWORD: tulip\r\n", "lines 3, 4"),
        ("\n".join(["set X=tulip"] * 1000), "lines 1, 2, 3 and 997 more"),
    ],
)
def test_lines_that_are_not_understood_are_named_in_one(
    text: str, lines: str, dotenv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dotenv.write_bytes(text.encode() + b"\nMQTT_HOST=broker.example\n")
    assert load_settings().mqtt_host == "broker.example"
    assert load_settings().mqtt_backend_password is None
    assert caplog.messages[0].startswith(f".env, {lines}: not understood, and left out (write NAME=VALUE")
    assert len(caplog.messages) == 2  # one for each time that it was read
    assert "tulip" not in caplog.text


@pytest.mark.parametrize(
    ("value", "password", "is_remarked"),
    [
        ("tulip #1", b"tulip", True),
        ("tulip\t# the old one", b"tulip", True),
        ("tulip#1", b"tulip#1", False),
        ("'tulip #1'", b"tulip #1", False),
        ('"tulip" # the old one', b"tulip", False),
        (" tulip ", b"tulip", False),
    ],
)
def test_a_password_before_a_comment_is_remarked_on(
    value: str, password: bytes, dotenv: Path, caplog: pytest.LogCaptureFixture, *, is_remarked: bool
) -> None:
    dotenv.write_text(f"MQTT_BACKEND_PASSWORD={value}\nMQTT_CLIENT_ID=me # and no password\n")
    assert load_settings().password() == password
    assert [text.startswith("MQTT_BACKEND_PASSWORD of .env ends before a #") for text in caplog.messages] == (
        [True] if is_remarked else []
    )
    assert "tulip" not in caplog.text


# What is said of it


@pytest.mark.parametrize(
    ("line", "mode", "warnings"),
    [
        ("MQTT_BACKEND_PASSWORD=tulip", 0o644, 1),
        ("MQTT_ADMIN_PASSWORD=tulip", 0o604, 1),
        ("MQTT_BACKEND_PASSWORD=tulip", 0o640, 0),
        ("MQTT_BACKEND_PASSWORD=tulip", 0o600, 0),
        ("MQTT_BACKEND_PASSWORD=", 0o644, 0),
        ("MQTT_HOST=broker.example", 0o644, 0),
    ],
)
def test_one_that_holds_a_password_and_that_everybody_may_read_is_warned_of_once(
    line: str, mode: int, warnings: int, dotenv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dotenv.write_text(f"{line}\n")
    dotenv.chmod(mode)
    load_settings()
    assert len(caplog.records) == warnings
    assert all(".env holds a password and is readable by every user" in text for text in caplog.messages)
    assert "tulip" not in caplog.text


def test_settings_know_which_file_says_where_to_connect(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv.write_text("MQTT_CLIENT_ID=me\n")
    assert load_settings().address_source is None
    dotenv.write_text("MQTT_TLS=false\nMQTT_HOST=broker.example\n")
    assert load_settings().address_source == "MQTT_HOST, MQTT_TLS from .env"
    assert load_settings(env_file=dotenv).address_source == f"MQTT_HOST, MQTT_TLS from {dotenv}"
    assert load_settings(mqtt_tls=True).address_source == "MQTT_HOST from .env"
    monkeypatch.setenv("MQTT_TLS", "true")
    assert load_settings(mqtt_host="a.example").address_source is None


def test_no_secret_shows_in_what_was_read(dotenv: Path) -> None:
    dotenv.write_text("MQTT_BACKEND_PASSWORD=tulip\n")
    file = find_env_file()
    assert file is not None
    assert "tulip" not in f"{file!r} {take(file, FIELDS)!r}"
