"""The ACL file as text, and the same text given to a real broker."""

import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from plantops_cli.errors import BrokerFileError, ConfigError, PlantopsError
from plantops_cli.mosquitto.text.acl import (
    acl_notices,
    check_acl,
    covers,
    has_block,
    overlaps,
    remove_block,
    upsert_block,
)
from plantops_cli.mosquitto.text.lint import Weight
from plantops_cli.topics import DEVICE_FILTERS, matches
from tests.support.brokers import free_port

USER = "plantops_backend"
OPENING = b"# >>> plantops provision-user: plantops_backend (managed)\n"
BODY = b"user plantops_backend\ntopic read devices/+/telemetry\ntopic read devices/+/heartbeat\n"
CLOSING = b"# <<< plantops provision-user\n"
BLOCK = OPENING + BODY + CLOSING
START_SECONDS = 10.0

GOOD = [
    b"",
    b"\n",
    b"# a comment\n",
    b"#user\n",
    b"topic read a",
    b"topic read a\r\n",
    b"topic  read   a\n",
    b"  topic read a\n",
    b"topic a\n",
    b"topic read\n",
    b"topic read \t\n",
    b"topic deny\n",
    b"topic readwrite a b c\n",
    b"topic read a\rb\n",
    b"topic read  \v\fa\n",
    b"topic read\ta\n",
    b"topic read a\tb\n",
    b"topic \ta\n",
    b"topic read #\n",
    b"topic read +\n",
    b"topic read +/+/#\n",
    b"topic read /\n",
    b"topic read //\n",
    b"topic read $SYS/#\n",
    b"topic read $share/a\n",
    b"topic read \xff\n",
    b"topic read " + b"a/" * 200 + b"\n",
    b"topic read " + b"x" * 65_535 + b"\n",
    b"topic write a\ntopic deny a\n",
    b"pattern a\n",
    b"pattern write %u/%c/#\n",
    b"pattern write a%ub\n",
    b"user be # backend\n",
    b"user \tx\n",
    b"user a b\n",
    b"user a\xa0\n",
    b"user #\n",
    b"user x\nuser y\nuser x\n",
    b"user " + b"x" * 70_000 + b"\n",
    b"\t\n",
    b"\v\n",
    b"   \n",
    b"#" + b"x" * 5000 + b"\n",
    BLOCK,
]
BAD = [
    b"topic\n",
    b"topic \n",
    b"user\n",
    b"user \n",
    b"user \r\n",
    b"user \t\n",
    b"pattern\n",
    b"\ttopic read a\n",
    b"topic\tread a\n",
    b"user\tx\n",
    b" # indented\n",
    b"\t# indented\n",
    b"topic read a # trailing\n",
    b"topic a # trailing\n",
    b"topic a b\n",
    b"topic \tread a\n",
    b"topic read a#\n",
    b"topic read #/a\n",
    b"topic read a/+b\n",
    b"topic read a+\n",
    b"topic read ##\n",
    b"topic a/b+/c\n",
    b"topic deny +a\n",
    b"pattern read %u+/x\n",
    b"topic Read a\n",
    b"TOPIC read a\n",
    b"topics read a\n",
    b"User x\n",
    b"read a\n",
    b"topic read " + b"a/" * 201 + b"\n",
    b"topic read " + b"x" * 65_536 + b"\n",
    b"\xef\xbb\xbf# with a BOM\n",
    b"\xef\xbb\xbftopic read a\n",
    b"topic read a\n bogus",
    b"bogus\r\n",
    b"\xff\n",
    b"listener 1883\n",
    b"alice:$7$101$x$y\n",
    b"user x\ntopic read a\n\n# fine\ntopic rw a\n",
]
# fragments of which a reading that is almost right makes a wrong verdict
FRAGMENTS = [
    *(b"topic", b"pattern", b"user", b"read", b"write", b"readwrite", b"deny", b"x", b"a/b", b"+", b"#", b"a+"),
    *(b"#c", b" ", b"  ", b" ", b" ", b"\t", b"\r", b"\n", b"\n", b"\n#", b"%u", b"\v", b"/", b"\xc3\xa4"),
]


def random_files(count: int) -> list[bytes]:
    dice = random.Random(20261123)
    return [b"".join(dice.choices(FRAGMENTS, k=dice.randint(2, 8))) for _ in range(count)]


def starts_with(acl: bytes, folder: Path) -> bool:
    """Start a broker with an ACL file and tell whether it opened its socket."""
    executable = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/sbin")
    assert executable, "mosquitto is not installed"
    (folder / "acl").write_bytes(acl)
    # relative names: a path of pytest's is longer than a socket's may be
    (folder / "conf").write_text("listener 0 socket\nallow_anonymous true\nacl_file acl\nuser root\n")
    quiet = subprocess.DEVNULL
    broker = subprocess.Popen([executable, "-c", "conf"], cwd=folder, stdout=quiet, stderr=quiet)
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if (folder / "socket").exists():
                return True
            if broker.poll() is not None:
                assert broker.returncode == 3
                return False
            time.sleep(0.001)
        raise AssertionError("mosquitto neither started nor ended")
    finally:
        broker.kill()
        broker.wait(timeout=10)


def is_refused(content: bytes) -> bool:
    return any(finding.weight is Weight.STOPS_ALL for finding in check_acl(content))


@pytest.mark.parametrize("content", GOOD, ids=lambda content: repr(content[:40]))
def test_what_the_broker_reads_is_not_refused(content: bytes, tmp_path: Path) -> None:
    assert starts_with(content, tmp_path)
    assert not is_refused(content)


@pytest.mark.parametrize("content", BAD, ids=lambda content: repr(content[:40]))
def test_what_the_broker_refuses_is_refused(content: bytes, tmp_path: Path) -> None:
    assert not starts_with(content, tmp_path)
    assert is_refused(content)


def test_random_files_are_judged_as_the_broker_judges_them(tmp_path: Path) -> None:
    files = random_files(120)
    for number, content in enumerate(files):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert is_refused(content) is not starts_with(content, folder), content
    assert any(map(is_refused, files[:20]))
    assert not all(map(is_refused, files[:20]))


def test_nul_is_refused_though_the_broker_starts_for_it_hides_what_follows(tmp_path: Path) -> None:
    content = b"user x\ntopic read a\0\nbogus, and unseen\n"
    assert starts_with(content, tmp_path)
    assert [(finding.line, finding.weight) for finding in check_acl(content)] == [
        (2, Weight.STOPS_ALL),
        (3, Weight.STOPS_ALL),
    ]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"user x\n # y\n", 2, "first column"),
        (b"topic read a # y\n", 1, "first column"),
        (b"topic\tread a\n", 1, "not tabs"),
        (b"\xef\xbb\xbf\n", 1, "byte order mark"),
        (b"user \n", 1, "without a name"),
        (b"topic\n", 1, "without a topic"),
        (b"topic rw a\n", 1, "read, write, readwrite, deny"),
        (b"topic a/+b\n", 1, "whole level"),
        (b"\n\nlistener 1883\n", 3, "'listener'"),
        (b"x\x1b[2J\n", 1, r"\\x1b"),
    ],
)
def test_a_bad_line_is_named_with_the_reason(content: bytes, line: int, message: str) -> None:
    (finding,) = check_acl(content)
    assert (finding.line, finding.weight) == (line, Weight.STOPS_ALL)
    assert re.search(message, finding.message)
    assert finding.message.isprintable()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"topic a\n", "readwrite"),
        (b"topic read\n", "the topic itself is missing"),
        (b"topic read\ta\n", "tab"),
        (b"user be # backend\n", "be # backend"),
        (b"pattern read a\n", "every user"),
    ],
)
def test_a_line_that_deceives_its_writer_is_noted(content: bytes, message: str) -> None:
    (finding,) = check_acl(content)
    assert (finding.line, finding.weight) == (1, Weight.NOTE)
    assert message in finding.message


def test_rules_belong_to_the_last_user_line_above_them() -> None:
    content = b"topic read a\nuser x\n\n# y\ntopic b\nuser y\ntopic deny devices/a/telemetry\npattern write %u\n"
    assert acl_notices(content, "x") == [
        "line 2 opens another section of user 'x'; the broker adds it to ours",
        "line 5 gives user 'x' more than is needed: topic readwrite 'b'",
    ]
    assert acl_notices(content, "y") == [
        "line 6 opens another section of user 'y'; the broker adds it to ours",
        "line 7 takes from devices/+/telemetry, wherever it stands: topic deny 'devices/a/telemetry'",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", BLOCK),
        (b"topic read a\n", b"topic read a\n" + BLOCK),
        (b"user x\ntopic read a", b"user x\ntopic read a\n" + BLOCK),
        (b"# c\r\nuser x\r\n", b"# c\r\nuser x\r\n" + BLOCK.replace(b"\n", b"\r\n")),
        (b"# c\r\nuser x", b"# c\r\nuser x\r\n" + BLOCK.replace(b"\n", b"\r\n")),
        (OPENING + b"user plantops_backend\ntopic readwrite #\n" + CLOSING, BLOCK),
        (OPENING + CLOSING, BLOCK),
        (b"user x\n" + BLOCK + b"user y\n" + BLOCK, b"user x\n" + BLOCK + b"user y\n"),
        (BLOCK + BLOCK + b"topic read below\n", BLOCK + b"topic read below\n"),
        (BLOCK + b"user y\n" + BLOCK + b"topic read below\n", b"user y\n" + BLOCK + b"topic read below\n"),
        (BLOCK[:-1], BLOCK),
    ],
    ids=[
        *("empty", "anonymous", "no newline", "CRLF", "CRLF without newline", "edited", "emptied"),
        *("twice", "twice in a row", "the one with lines below stays", "cut newline"),
    ],
)
def test_an_upsert_leaves_exactly_one_block(before: bytes, after: bytes) -> None:
    assert upsert_block(before, USER) == after
    assert upsert_block(after, USER) == after


def test_a_block_of_another_user_stays() -> None:
    other = BLOCK.replace(b"plantops_backend", b"plantops")
    assert upsert_block(other, USER) == other + BLOCK
    assert remove_block(other + BLOCK, USER) == other


def test_lines_below_our_block_stay_as_they_are() -> None:
    below = b"\n# somebody else's\ntopic write b\nuser y\ntopic read c\n"
    edited = OPENING + b"user plantops_backend\n" + CLOSING
    assert upsert_block(edited + below, USER) == BLOCK + below


@pytest.mark.parametrize(
    ("content", "line", "hint"),
    [
        (b"user x\n" + BLOCK + b"topic read mine\n", 7, "user line"),
        (BLOCK + b"# c\n\ntopic read mine\nuser y\n", 8, "user line"),
        (OPENING + BODY + b"topic read mine\n", 1, "below its last line"),
        (OPENING + BODY + b"user x\ntopic read a\n" + CLOSING, 5, "move"),
    ],
    ids=["would become x's", "would become everybody's", "not closed", "another user inside"],
)
def test_a_block_whose_removal_would_shift_rights_is_not_removed(content: bytes, line: int, hint: str) -> None:
    with pytest.raises(BrokerFileError, match=rf"line {line}\b") as refused:
        remove_block(content, USER)
    assert hint in (refused.value.hint or "")


@pytest.mark.parametrize(
    "content",
    [
        b"user x\n" + OPENING + CLOSING + b"topic write x\n",
        BLOCK + b"topic read a\nuser x\n" + BLOCK + b"topic read b\n",
        OPENING + b"user x\n" + CLOSING,
        OPENING + BODY,
    ],
    ids=["x's line would be ours", "either way", "another user inside", "not closed"],
)
def test_an_upsert_that_would_shift_rights_is_refused(content: bytes) -> None:
    with pytest.raises(BrokerFileError, match=r"line [0-9]"):
        upsert_block(content, USER)


def test_patterns_below_our_block_are_everybodys_and_hold_nothing_up() -> None:
    assert remove_block(BLOCK + b"pattern read %u\n", USER) == b"pattern read %u\n"
    assert not acl_notices(BLOCK + b"pattern read %u\n", USER)


def test_a_section_by_hand_stays_when_the_block_goes() -> None:
    section = b"user plantops_backend\ntopic read x\n"
    assert remove_block(section + BLOCK, USER) == section
    assert not has_block(section, USER)
    assert has_block(section + BLOCK, USER)


@pytest.mark.parametrize("username", ["", "x\ntopic readwrite #", " x", "a#", "\udcff"])
def test_a_user_name_that_would_not_stay_one_is_refused(username: str) -> None:
    with pytest.raises(ConfigError):
        upsert_block(b"", username)


def test_a_block_is_read_back_without_a_fault() -> None:
    block = upsert_block(b"", USER)
    assert check_acl(block) == []
    assert all(f"topic read {topic_filter}\n".encode() in block for topic_filter in DEVICE_FILTERS)


@pytest.mark.parametrize(
    ("lines", "notices"),
    [
        (b"", []),
        (b"user other\ntopic #\ntopic deny #\n", []),
        (b"user plantops_backend\ntopic read devices/7/telemetry\n", ["line 6 opens another section"]),
        (b"topic #\n", ["line 6 stands below our block", "line 6 gives user"]),
        (b"user plantops_backend\ntopic #\n", ["line 6 opens", "line 7 gives user"]),
        (b"user plantops_backend\ntopic write devices/+/telemetry\n", ["line 6 opens", "line 7 gives user"]),
        (b"user plantops_backend\ntopic read devices/#\n", ["line 6 opens", "line 7 gives user"]),
        (b"user plantops_backend\ntopic deny devices/7/#\n", ["line 6 opens", r"line 7 takes from .* and "]),
        (b"user plantops_backend\ntopic deny +/+/telemetry\n", ["line 6 opens", "line 7 takes from dev"]),
        (b"user plantops_backend\ntopic deny secret/#\n", ["line 6 opens"]),
        (b"user other\npattern readwrite #\n", ["line 7 gives every user"]),
        (b"user other\npattern write x/%c\n", ["line 7 gives every user"]),
        (b"user other\npattern write x/%u\npattern deny #\npattern read devices/%c/telemetry\n", []),
    ],
)
def test_notices_say_what_else_bears_on_the_user(lines: bytes, notices: list[str]) -> None:
    found = acl_notices(BLOCK + lines, USER)
    assert len(found) == len(notices)
    for text, expected in zip(found, notices, strict=True):
        assert re.match(expected, text)


names = st.sampled_from(["x", "plantops_backend", "plantops", "y z"])
acl_lines = st.one_of(
    names.map(lambda name: f"user {name}".encode()),
    st.sampled_from(
        [b"topic read a", b"topic #", b"topic deny devices/#", b"pattern read %u", b"# c", b"", b"  "]
    ),
    st.sampled_from([OPENING[:-1], CLOSING[:-1], BODY[:-1], BLOCK[:-1], BLOCK.replace(b"_backend", b"")[:-1]]),
    st.binary(max_size=6),
)
acl_files = st.builds(
    lambda lines, newline, last: newline.join(lines) + last,
    st.lists(acl_lines, max_size=10),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"", b"\n"]),
)


def others(content: bytes) -> list[tuple[bytes | None, bytes]]:
    """The rules outside the managed block, each with its user; patterns without, for they are everybody's.

    A reading of its own, just good enough for the lines above.
    """
    is_inside, user = False, None
    found: list[tuple[bytes | None, bytes]] = []
    for line in content.split(b"\n"):
        is_inside = is_inside or line.rstrip() == OPENING.rstrip()
        word, _, rest = line.rstrip().partition(b" ")
        if word == b"user" and rest and b"\0" not in line:
            user = rest.strip()
        elif word in (b"topic", b"pattern") and rest and not is_inside:
            found.append((user if word == b"topic" else None, rest))
        is_inside = is_inside and line.rstrip() != CLOSING.rstrip()
    return found


@given(acl_files)
def test_no_upsert_and_no_removal_gives_a_rule_to_another_user(content: bytes) -> None:
    for change in (upsert_block, remove_block):
        try:
            changed = change(content, USER)
        except BrokerFileError:
            continue
        assert others(changed) == others(content)


@given(acl_files)
def test_an_upsert_repeated_changes_nothing(content: bytes) -> None:
    try:
        once = upsert_block(content, USER)
    except BrokerFileError:
        return
    assert upsert_block(once, USER) == once
    assert once.replace(b"\r", b"").count(OPENING) == 1


@given(acl_files)
def test_a_removal_undoes_an_upsert(content: bytes) -> None:
    if has_block(content, USER):
        return
    with_block = upsert_block(content, USER)
    assert with_block.startswith(content)
    assert remove_block(with_block, USER).rstrip(b"\r\n") == content.rstrip(b"\r\n")


@given(st.binary())
def test_any_bytes_are_judged_without_a_traceback(content: bytes) -> None:
    check_acl(content)
    try:
        acl_notices(upsert_block(content, USER), USER)
    except PlantopsError:
        return


levels = st.sampled_from(["a", "b", "$x", "", "+"])
topic_filters = st.builds(
    lambda first, rest: "/".join([*first, *rest]),
    st.lists(levels, min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
) | st.just("#")
topics = st.lists(st.sampled_from(["a", "b", "$x", ""]), min_size=1, max_size=4).map("/".join)
some_topics = st.lists(topics.filter(bool), min_size=1, max_size=40)


@given(topic_filters, topic_filters, some_topics)
def test_a_filter_covers_only_filters_whose_every_topic_it_matches(
    wide: str, narrow: str, names: list[str]
) -> None:
    if covers(wide, narrow):
        assert all(matches(wide, name) for name in names if matches(narrow, name))


@given(topic_filters, topic_filters, some_topics)
def test_filters_that_match_one_topic_overlap(one: str, other: str, names: list[str]) -> None:
    if any(matches(one, name) and matches(other, name) for name in names):
        assert overlaps(one, other)


@pytest.mark.parametrize(
    ("one", "other", "does_cover", "does_overlap"),
    [
        ("#", "a/b", True, True),
        ("#", "$SYS/a", False, False),
        ("+/a", "$x/a", False, False),
        ("a/#", "a", True, True),
        ("a/#", "a/+/b", True, True),
        ("a/+", "a/b", True, True),
        ("a/+", "a/#", False, True),
        ("a/b", "a/+", False, True),
        ("a/b", "a", False, False),
        ("a", "a/b", False, False),
        ("devices/+/telemetry", "devices/7/telemetry", True, True),
        ("devices/+/telemetry", "devices/7/+", False, True),
        ("devices/+/telemetry", "devices/+/heartbeat", False, False),
    ],
)
def test_filters_cover_and_overlap(one: str, other: str, does_cover: bool, does_overlap: bool) -> None:
    assert covers(one, other) is does_cover
    assert overlaps(one, other) is overlaps(other, one) is does_overlap


RunClient = Callable[[str], "Client"]


class Client:
    """An MQTT 5 client that keeps what it hears and what its publishes are answered with."""

    def __init__(self, port: int, username: str) -> None:
        self.heard: list[str] = []
        self.subscribed = False
        self.answers: list[ReasonCode] = []
        self.paho = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.paho.username_pw_set(username)
        self.paho.on_message = lambda client, data, message: self.heard.append(message.topic)
        self.paho.on_subscribe = lambda *arguments: setattr(self, "subscribed", True)
        self.paho.on_publish = lambda client, data, mid, code, properties: self.answers.append(code)
        self.paho.connect("127.0.0.1", port)

    def until(self, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_done():
            assert time.monotonic() < deadline
            self.paho.loop(0.01)

    def close(self) -> None:
        self.paho.disconnect()
        # without a loop of its own, paho closes its sockets when it is collected only
        self.paho._reset_sockets()
        self.paho._sock_close()


@pytest.fixture
def connect(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunClient]:
    """Clients of a broker with the ACL file that the test's parameter ``lines`` adds to the block."""
    port, clients = free_port(), []
    (tmp_path / "acl").write_bytes(BLOCK + request.getfixturevalue("lines") + b"user device\ntopic write #\n")
    (tmp_path / "conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nacl_file acl\nuser root\npersistence false\n"
    )
    executable = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/sbin")
    quiet = subprocess.DEVNULL
    broker = subprocess.Popen([str(executable), "-c", "conf"], cwd=tmp_path, stdout=quiet, stderr=quiet)

    wait_for(port)

    def run(username: str) -> Client:
        clients.append(Client(port, username))
        return clients[-1]

    yield run
    for client in clients:
        client.close()
    broker.kill()
    broker.wait(timeout=10)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


@pytest.mark.parametrize(
    ("lines", "hears", "may_publish"),
    [
        (b"", True, False),
        (b"pattern deny devices/+/telemetry\n", True, False),
        (b"user plantops_backend\ntopic deny devices/+/telemetry\n", False, False),
        (b"user x\npattern write secret\n", True, True),
        (b"topic write #\n", True, True),
        (b"user plantops_backend\ntopic secret\n", True, True),
    ],
)
def test_the_broker_grants_what_the_notices_say(
    connect: RunClient, lines: bytes, hears: bool, may_publish: bool
) -> None:
    backend, device = connect(USER), connect("device")
    backend.paho.subscribe("#")
    backend.until(lambda: backend.subscribed)
    for topic in ("devices/7/telemetry", "devices/7/heartbeat"):
        device.paho.publish(topic, b"", qos=1)
    device.until(lambda: len(device.answers) == 2)
    backend.until(lambda: "devices/7/heartbeat" in backend.heard)
    backend.paho.publish("secret", b"", qos=1)
    backend.until(lambda: bool(backend.answers))
    refused = ReasonCode(PacketTypes.PUBACK, "Not authorized")
    assert ("devices/7/telemetry" in backend.heard) is hears
    assert (backend.answers[0] != refused) is may_publish
    notices = "\n".join(acl_notices(BLOCK + lines, USER))
    assert ("takes from" in notices) is not hears
    assert bool(re.search("gives (every )?user", notices)) is may_publish
