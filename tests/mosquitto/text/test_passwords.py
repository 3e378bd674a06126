"""The lines of Mosquitto's password file, and what a real broker makes of them."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plantops_cli.mosquitto.text.lint import Weight
from plantops_cli.mosquitto.text.passwords import (
    FileUser,
    check_password_file,
    count_entries,
    find_entry,
    list_users,
    remove_entry,
    upsert_entry,
    why_no_password_file,
)
from tests.mosquitto.conftest import StartMosquitto
from tests.support.password_entries import ARGON2_ENTRY, ENTRY, LONG_SALT_ENTRY, OTHER_ENTRY, SHA512_ENTRY

ACCEPTED, REFUSED = 0, 5
# %s stands for a valid entry; the names are those that anybody could take the line's user for
ODD_LINES = [
    (b"plain:%s\n", "plain"),
    (b" blanks : %s \n", "blanks"),
    (b"\ttab\t:\t%s\t\n", "tab"),
    (b":colon:%s\n", "colon"),
    (b":::colons:::%s:::\n", "colons"),
    (b"double::%s\n", "double"),
    (b"third:%s:third field\n", "third"),
    (b"third blank: :%s\n", "third blank"),
    (b"crlf:%s\r\n", "crlf"),
    (b"inner blank:%s\n", "inner blank"),
    ("gärtner:%s\n".encode(), "gärtner"),
    (b"#comment:%s\n", "#comment"),
    (b"#comment:%s\n", "comment"),
    (b" #indented:%s\n", "#indented"),
    (b"nothing:\n", "nothing"),
    (b"no colon %s\n", "no colon"),
    (b"zero:$7$0$AAECAwQFBgcICQoL$\n", "zero"),
    (b"plaintext:s3cr3t\n", "plaintext"),
    (b"tail:%sxxxx\n", "tail"),
    (b"again:%s\nagain:plain\n", "again"),
    (b"cut:%s\0cut", "cut"),
]
ODD_USERS = [name for _, name in ODD_LINES]
usernames = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Cs", "Zs"]), min_size=1).filter(
    lambda name: name.strip() == name and not set(name) & set(":#+")
)
foreign_lines = st.one_of(
    st.sampled_from([b"# bob:comment", b"", b"  ", b"junk", b"  # bob:indented", b"alice:plain", b":x", b"a:b:c"]),
    usernames.map(lambda name: f"{name}:{OTHER_ENTRY}".encode()),
    st.binary().map(lambda junk: junk.replace(b"\n", b"")),
)
files = st.builds(
    lambda lines, newline, last: newline.join(lines) + last,
    st.lists(foreign_lines, max_size=8),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"", b"\n", b"\r\n"]),
)
any_files = st.one_of(files, st.binary())


def others(content: bytes, username: str) -> list[tuple[str, str, bool | None]]:
    return [user[1:] for user in list_users(content) if user.username != username]


def foreign_bytes(content: bytes, username: str) -> bytes:
    """The file without the lines of a user, each of which is found by looking at it alone."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+", content)
    return b"".join(line for line in lines if not count_entries(line, username))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (f"bob:{ENTRY}\n", ENTRY),
        (f"bob:{ENTRY}", ENTRY),
        (f"bob:{ENTRY}\r\n", ENTRY),
        (f" bob : {ENTRY} \n", ENTRY),
        (f"bob::{ENTRY}\n", ENTRY),
        (f"bob:{ENTRY}:third\n", ENTRY),
        (f"bob:{OTHER_ENTRY}\nbob:{ENTRY}\n", ENTRY),
        (f"bob:{ENTRY}\nbob:plain\nbob:\n", ENTRY),
        (f"bob:{ENTRY}\nbob:{OTHER_ENTRY.replace('$1000$', '$0$')}\n", ENTRY),
        (f"bob:{ARGON2_ENTRY}\n", ARGON2_ENTRY),
        (f":bob:{ENTRY}\n", ENTRY),
        (f"bob:{ENTRY}\0\n", ENTRY),
        (f"bob\0:{ENTRY}\n", None),
        (f"#bob:{ENTRY}\n", None),
        (f" #bob:{ENTRY}\n", None),
        (f"bobby:{ENTRY}\n", None),
        (f"x\rbob:{ENTRY}\n", None),
        ("bob\n:bob\nbob:\nbob:plain\n", None),
        ("", None),
    ],
)
def test_the_entry_that_counts_is_the_one_that_the_broker_would_take(content: str, found: str | None) -> None:
    assert find_entry(content.encode(), "bob") == found


@given(files, usernames)
def test_after_an_upsert_the_user_has_the_entry(content: bytes, username: str) -> None:
    assert find_entry(upsert_entry(content, username, ENTRY), username) == ENTRY


@given(files, usernames)
@example(b"\r", "0")
def test_an_upsert_repeated_changes_nothing(content: bytes, username: str) -> None:
    once = upsert_entry(content, username, ENTRY)
    assert upsert_entry(once, username, ENTRY) == once


@given(files)
def test_an_upsert_keeps_every_byte_of_the_others(content: bytes) -> None:
    updated = upsert_entry(content, "nobody-else", ENTRY)
    assert updated.startswith(content)
    assert updated[len(content) :].strip() == f"nobody-else:{ENTRY}".encode()


@given(files, files)
def test_an_upsert_replaces_the_line_where_it_stands(before: bytes, after: bytes) -> None:
    before, after = before + b"\n", after + b"\n"
    updated = upsert_entry(before + f"nobody-else:{OTHER_ENTRY}\n".encode() + after, "nobody-else", ENTRY)
    line = updated.removeprefix(before).removesuffix(after)
    assert line.rstrip() == f"nobody-else:{ENTRY}".encode()
    assert updated == before + line + after


def test_an_upsert_collapses_the_users_duplicates_into_the_first() -> None:
    content = f"bob:{OTHER_ENTRY}\n# kept\nbob:plain\nalice:x\n bob :{ENTRY}"
    assert upsert_entry(content.encode(), "bob", ENTRY) == f"bob:{ENTRY}\n# kept\nalice:x\n".encode()


def test_the_final_newline_of_another_line_is_missing_as_before() -> None:
    content = f"bob:{OTHER_ENTRY}\nalice:x".encode()
    assert upsert_entry(content, "bob", ENTRY) == f"bob:{ENTRY}\nalice:x".encode()
    assert remove_entry(content, "bob") == b"alice:x"


@given(any_files, usernames)
def test_an_upsert_gives_the_old_users_and_ours(content: bytes, username: str) -> None:
    updated = upsert_entry(content, username, ENTRY)
    assert others(updated, username) == others(content, username)
    assert [user[1:] for user in list_users(updated) if user.username == username] == [
        (username, "PBKDF2-SHA512, 1,000 iterations", True)
    ]


@given(any_files, usernames)
def test_an_upsert_keeps_the_lines_of_the_others_in_their_order(content: bytes, username: str) -> None:
    updated = upsert_entry(content, username, ENTRY)
    assert foreign_bytes(updated, username).rstrip(b"\r\n") == foreign_bytes(content, username).rstrip(b"\r\n")
    assert count_entries(updated, username) == 1


@given(any_files, usernames)
def test_a_removal_after_an_upsert_leaves_the_others_alone(content: bytes, username: str) -> None:
    removed = remove_entry(upsert_entry(content, username, ENTRY), username)
    assert count_entries(removed, username) == 0
    assert find_entry(removed, username) is None
    assert others(removed, username) == others(content, username)


@given(any_files)
def test_removing_an_unknown_user_changes_nothing(content: bytes) -> None:
    assert remove_entry(content, "nobody-else") == content


@given(any_files, st.text(st.characters()))
def test_no_content_and_no_name_makes_a_reader_raise(content: bytes, username: str) -> None:
    find_entry(content, username)
    why_no_password_file(content)
    check_password_file(content)
    list_users(content)
    assert count_entries(content, username) >= count_entries(remove_entry(content, username), username)


@pytest.mark.parametrize(
    "content",
    [b":a" * 500_000, b"a" * 1_000_000, b"\n" * 500_000, b"aa:" + b" " * 1_000_000, b"x:a\n" * 200_000],
    ids=["colons", "one letter", "empty lines", "blanks", "candidates"],
)
def test_the_cost_grows_with_the_file_and_not_with_its_square(content: bytes) -> None:
    begin = time.process_time()
    upsert_entry(content, "a", ENTRY)
    find_entry(content, "a")
    why_no_password_file(content)
    assert time.process_time() - begin < 5  # the square of any of them would take minutes


@pytest.mark.parametrize(("content", "count"), [(b"", 0), (b"bob:x\n bob :y\n#bob:z\nbobby:x\n:bob:", 3)])
def test_the_lines_of_a_user_are_counted_valid_or_not(content: bytes, count: int) -> None:
    assert count_entries(content, "bob") == count


def test_the_users_are_listed_with_their_lines_and_kinds() -> None:
    content = f"# x:y\nalice:{ENTRY}\n\nbob:plain\nalice:{SHA512_ENTRY}\n:x\nnone\n".encode() + b"\xff:x"
    assert list_users(content) == [
        FileUser(2, "alice", "PBKDF2-SHA512, 1,000 iterations", True),
        FileUser(4, "bob", "malformed", False),
        FileUser(5, "alice", "SHA-512", True),
        FileUser(8, r"\xff", "malformed", False),
    ]


def test_a_kind_that_is_not_known_is_listed_as_that_and_not_as_broken() -> None:
    content = f"alice:{ENTRY.replace('$7$', '$8$')}\nbob:{ARGON2_ENTRY}\n".encode()
    assert list_users(content) == [
        FileUser(1, "alice", "unknown kind ($8$)", None),
        FileUser(2, "bob", "argon2id", True),
    ]


def test_a_missing_final_newline_is_added_before_a_new_line() -> None:
    assert upsert_entry(b"alice:x", "bob", ENTRY) == f"alice:x\nbob:{ENTRY}\n".encode()


def test_a_new_line_ends_as_those_of_the_file() -> None:
    assert upsert_entry(b"alice:x\r\n", "bob", ENTRY) == f"alice:x\r\nbob:{ENTRY}\r\n".encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing yet\n\n",
        f"alice:{ENTRY}\n".encode(),
        f"# x\ntulips\nalice:plain\nbob:{ENTRY}\n".encode(),
        b"carol:$7$10",
        f"dave:{ARGON2_ENTRY}\n".encode(),
        f"erin:{ENTRY.replace('$7$', '$8$')}\n".encode(),
    ],
)
def test_a_file_with_junk_is_still_a_password_file(content: bytes) -> None:
    assert why_no_password_file(content) is None


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (f"\ufeffalice:{ENTRY}\n".encode(), "line 1 "),
        (f"alice:{ENTRY}\n# x\n\0".encode(), "line 3 "),
        (b"# mosquitto.conf\n\nlistener 1883\naddress broker:1883\n", "line 3 "),
        (b"root:x:0:0:root:/root:/bin/bash\n", "line 1 "),
        (b"root:$6$saltsalt$hash:19000:0:99999:7:::\n", "line 1 "),
        (b"root:$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe\n", "line 1 "),
    ],
    ids=["BOM", "NUL", "mosquitto.conf", "passwd", "shadow", "htpasswd"],
)
def test_a_file_that_is_no_password_file_is_refused_by_its_line(content: bytes, line: str) -> None:
    reason = why_no_password_file(content)
    assert reason is not None
    assert reason.startswith(line)


@pytest.mark.parametrize(
    ("line", "weight", "words"),
    [
        (b"bob:", Weight.STOPS_21, "'bob' has no hash"),
        (b"bob", None, ""),
        (b"  ", None, ""),
        (b"#bob:hunter2", None, ""),
        (ENTRY.encode(), None, ""),
        (b":hunter2", Weight.STOPS_21, "no user name"),
        (b"::hunter2:hunter2", Weight.STOPS_21, "no user name"),
        (f" :{ENTRY}".encode(), Weight.STOPS_21, "no user name"),
        (b"  # bob:hunter2", Weight.STOPS_21, "an indented comment"),
        (f" #bob:{ENTRY}".encode(), Weight.NOTE, "an indented comment"),
        (b"bob:hunter2", Weight.STOPS_21, "'bob' has no hash but other text"),
        (f"bob:{ENTRY[:-20]}".encode(), Weight.STOPS_21, "'bob' has a malformed hash"),
        (f"bob:{ENTRY}carol:{ENTRY}".encode(), Weight.STOPS_21, "'bob' has a malformed hash"),
        (f"{ENTRY}:bob".encode(), Weight.STOPS_21, "'(hash)' has no hash but"),
        (f"alice:{ENTRY}".encode(), Weight.STOPS_21, "'alice' again, after line 1"),
        (b"x" * 65_536 + b":hunter2", Weight.STOPS_21, "more than 65,535 bytes"),
        (f"bob:{ARGON2_ENTRY}".encode(), Weight.STOPS_21, "built with argon2"),
        (f"bob:{ENTRY.replace('$7$', '$8$')}".encode(), Weight.STOPS_21, "a hash of an unknown kind"),
        (f"bob:{LONG_SALT_ENTRY}".encode(), Weight.NOTE, "salt of 64 bytes"),
        (f"bob:{ENTRY.replace('$1000$', '$1000001$')}".encode(), Weight.NOTE, "1,000,001 iterations"),
        (f"a+b:{ENTRY}".encode(), Weight.NOTE, r"'a+b' contains '+'"),
        (f"\x1b:{ENTRY}".encode(), Weight.NOTE, r"'\x1b' contains a control character"),
        (b"\xff:" + ENTRY.encode(), Weight.NOTE, r"'\\xff' is not UTF-8"),
        (b"\0", Weight.NOTE, "NUL"),
    ],
)
def test_a_line_is_found_by_its_number_with_what_a_broker_makes_of_it(
    line: bytes, weight: Weight | None, words: str
) -> None:
    findings = check_password_file(f"alice:{ENTRY}\n# ok\n".encode() + line + b"\n")
    assert [(found.line, found.weight) for found in findings] == ([] if weight is None else [(3, weight)])
    assert all(words in found.message for found in findings)
    assert not re.search(r"hunter2|AAECAwQ|[$][67][$]", str(findings))


def test_a_byte_order_mark_is_a_note_on_line_1() -> None:
    findings = check_password_file(f"\ufeffalice:{ENTRY}\n".encode())
    assert [(found.line, found.weight) for found in findings] == [(1, Weight.NOTE)]


def test_a_clean_file_has_no_findings() -> None:
    content = f"# users: all\r\n\r\nalice:{ENTRY}\r\na b:{SHA512_ENTRY}\r\ngärtner:{ENTRY}"
    assert check_password_file(content.encode()) == []


def test_a_long_user_name_is_cut_in_a_finding() -> None:
    (finding,) = check_password_file(b"x" * 1000 + b":hunter2")
    assert len(finding.message) < 200


def test_findings_come_in_the_order_of_the_lines() -> None:
    findings = check_password_file(b"bob:x\nalice:x\nbob:x\n\0")
    assert [found.line for found in findings] == [1, 2, 3, 3, 4]


@given(any_files, st.sampled_from([b"", b":", b" ", b"bob:", b"bob: ", b"a:b:"]))
def test_no_list_and_no_finding_shows_what_follows_a_colon(content: bytes, before: bytes) -> None:
    content += b"\n" + before + b":hunter2\n" + before + b":" + ENTRY.encode() + b"\n"
    shown = str(check_password_file(content)) + str(list_users(content))
    assert "hunter2" not in shown
    assert ENTRY[20:] not in shown


def test_a_real_broker_takes_the_same_lines_for_users(tmp_path: Path, start_mosquitto: StartMosquitto) -> None:
    path = tmp_path / "passwd"
    path.write_bytes(b"".join(line.replace(b"%s", ENTRY.encode()) for line, _ in ODD_LINES))
    broker = start_mosquitto(path)
    names = [name for name in ODD_USERS if broker.connack(name, b"s3cr3t") == ACCEPTED]
    assert names == [name for name in ODD_USERS if find_entry(path.read_bytes(), name) is not None]
    assert names == [user.username for user in list_users(path.read_bytes()) if user.is_valid]


def test_a_real_broker_reads_a_file_with_findings_that_only_2_1_minds(
    tmp_path: Path, start_mosquitto: StartMosquitto
) -> None:
    bad = [b"bob:", b":x", b" :x", b" # a:b", b"carol:plain", f"dave:{ENTRY[:-9]}".encode(), b"x" * 65_536 + b":x"]
    bad += [f"eve:{entry}".encode() for entry in (ARGON2_ENTRY, LONG_SALT_ENTRY)]
    bad += [b"\xff:" + ENTRY.encode(), f"alice:{OTHER_ENTRY}".encode(), f"alice:{ENTRY}".encode(), b"a\0b"]
    path = tmp_path / "passwd"
    path.write_bytes(b"\xef\xbb\xbf# mark\n" + b"\n".join(bad) + b"\n")
    findings = check_password_file(path.read_bytes())
    assert {found.line for found in findings} == {1, *range(2, len(bad) + 2)} - {12}
    assert max(found.weight for found in findings) == Weight.STOPS_21
    broker = start_mosquitto(path)
    assert broker.connack("alice", b"s3cr3t") == ACCEPTED
    assert broker.connack("alice", b"other") == REFUSED
