"""Entries and text of Mosquitto's password file."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plantops_cli.errors import ConfigError
from plantops_cli.mosquitto.passwords import (
    check_password,
    check_username,
    find_entry,
    hash_password,
    upsert_entry,
    verify_password,
    why_no_password_file,
)

# made by mosquitto_passwd 2.0.11 and 2.1.2; a broker accepted each of them
TOOL_ENTRIES = {
    "2.0.11 default": (
        b"correct horse battery staple",
        "$7$101$4sX3VvhsgO4/d2L9$pr7QEle7QBgabcEHAF4o1dHzFXJepSw85iaD4qwiOhY63evJKGlafkARRoNNenkGSaKHHoLdYx3kEx82"
        "eF/uiA==",
    ),
    "2.0.11 -I 210000": (
        b"s3cr3t",
        "$7$210000$EOsS616ky7NVLGqZ$Xku7Nd7x1dMxCWrSU422YvKBTPhh35/l3VFUqbns5OrbF6OPNKsOD33LiiHD95yJwQmmFlMdqlP9A"
        "dCM0ctO2A==",
    ),
    "2.0.11 -H sha512": (
        b"s3cr3t",
        "$6$J7sbDMZgHws2e//e$DPuDtLsCvQYkGLMB7i9ZbDn4LXY0PqMbdiE5Mf4GBfUE27ljxVyGOeblampreQnZ+bq0jiHfeIBgfA1iJE+Y"
        "ew==",
    ),
    "UTF-8": (
        "pä$$wörd-☃".encode(),
        "$7$101$sEejhHS3LZIV2sIv$I9an7YpwSsHdSpmBEjXvta9Uiu9yaQ157t6DGxswMG/vbjKf0HarhXWR7+EZLwiIueb00MHC0vrC8R6a"
        "RRJRqg==",
    ),
    "blanks": (
        b"  lead and trail  ",
        "$7$101$nfJWbMWZRqEr/6Dx$yTaCOSEZj8z9XOwTL7D8EoSaXDUG5eeoswf1nuuXweQnt1q6tz34GgONyeBfYVgBRsYPA7+F7Y8G/PXW"
        "5aiX2g==",
    ),
    "2.1.2 default": (
        b"s3cr3t",
        "$7$1000$qhsR/6fHbxQTRb8kmeJmYTxbOdP+MVeuL0CseSb/esBSSFI0yQuhsrIN+gLNk8aSAgBlF32NmtWjXz1vLQ9OyQ==$XBFafC4h"
        "jLUZTmxgZDx8hgQhqIHhYFc+L1gTI1gmLW9n4RzTQkPrLSMys95m4zLGQF3NkTDLSIpt4fc8tWPZRw==",
    ),
    "2.1.2 -H sha512": (
        b"s3cr3t",
        "$6$JjZMw/M0g+XV1yTDk2rKdyelhJkKdL+w2l4BgnK5LwBw6Sucx7IkJ9yV9P0GwRE2pBV8tLD1S66gQYbJWDJ63Q==$rLP0eulRHK42"
        "9jypJTIc95ulIgJOOhFWmHn6v0GZ9yI9ctko86PawNZoGHnWIZEKwnHyWq6LBZafkMv7dXjqZQ==",
    ),
}
SALT = bytes(range(12))
# keys of the password s3cr3t under that salt; a broker accepted each of them
REFERENCE_ENTRIES = {
    1: "tFKR17I4CSVtEvw6MIIrRBvn58OVjtd2AOyjQ1wVJuG4fI8F+ZeWSAgdI/Uh8tihhiqa6ukxnrG2Fl7NLfe2rw==",
    101: "/eaZjL3zkIx6G4FVj+mC6Snhs6H38Jbl780Hb87go/NTOA6QOSVoz8zcYCTV57afVJ6HW4iygHTbOoFn6h/s7g==",
    10_000: "uuALhHY3YGOreNZQR1X6/XW/Jh4Cojhjbdbkp5mtcmOvHiYeieHcDEUbHqHAtl2wzNfK61sHQhdvurtza28c2w==",
}
ENTRY = hash_password(b"s3cr3t", iterations=1, salt=SALT)
OTHER_ENTRY = hash_password(b"other", iterations=1, salt=SALT)
ARGON2_ENTRY = "$argon2id$v=19$m=47104,t=1,p=1$jVox559G6LHm$R2mkKMQ0DxUyPV+raT70fod7e5TO46YfSF9Sc+YXlkxc"

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


@pytest.mark.parametrize(("password", "entry"), TOOL_ENTRIES.values(), ids=TOOL_ENTRIES)
def test_an_entry_of_mosquitto_passwd_verifies_its_own_password_only(password: bytes, entry: str) -> None:
    assert verify_password(password, entry)
    assert not verify_password(password + b"x", entry)


@pytest.mark.parametrize("iterations", REFERENCE_ENTRIES)
def test_an_entry_is_pbkdf2_hmac_sha512_with_a_padded_64_byte_key(iterations: int) -> None:
    entry = hash_password(b"s3cr3t", iterations=iterations, salt=SALT)
    assert entry == f"$7${iterations}$AAECAwQFBgcICQoL${REFERENCE_ENTRIES[iterations]}"


def test_each_entry_has_a_salt_of_its_own() -> None:
    assert len({hash_password(b"x", iterations=1) for _ in range(50)}) == 50


@given(st.binary(max_size=200))
def test_every_password_verifies_against_its_own_hash(password: bytes) -> None:
    assert verify_password(password, hash_password(password, iterations=1))


@given(st.text())
def test_text_that_is_no_entry_never_verifies_and_never_raises(junk: str) -> None:
    assert not verify_password(b"s3cr3t", junk)


@pytest.mark.parametrize("iterations", ["0", "-1", "10000001", "2147483647", "9" * 10, "9" * 5000, "1_0", "", "x"])
def test_an_entry_with_absurd_iterations_is_refused_without_hashing(iterations: str) -> None:
    assert not verify_password(b"s3cr3t", ENTRY.replace("$7$1$", f"$7${iterations}$"))


@pytest.mark.parametrize("broken", [ENTRY[1:], ENTRY[:-2], ENTRY + "\n", ENTRY + "$", ENTRY.replace("$7$", "$8$")])
def test_a_malformed_entry_does_not_verify(broken: str) -> None:
    assert not verify_password(b"s3cr3t", broken)


@pytest.mark.parametrize("iterations", [0, -1, 10_000_001])
def test_iterations_out_of_range_are_refused(iterations: int) -> None:
    with pytest.raises(ConfigError, match="iterations"):
        hash_password(b"x", iterations=iterations)


def test_a_salt_that_mosquitto_2_0_does_not_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="64 bytes"):
        hash_password(b"x", salt=bytes(64))


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
        (f"bob:{ARGON2_ENTRY}\n", ARGON2_ENTRY),
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
        f"# x\nTODO\nalice:plain\nbob:{ENTRY}\n".encode(),
        b"carol:$7$10",
        f"dave:{ARGON2_ENTRY}\n".encode(),
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
    ],
    ids=["BOM", "NUL", "mosquitto.conf", "passwd", "shadow"],
)
def test_a_file_that_is_no_password_file_is_refused_by_its_line(content: bytes, line: str) -> None:
    reason = why_no_password_file(content)
    assert reason is not None
    assert reason.startswith(line)


@pytest.mark.parametrize("username", ["plantops_backend", "gärtner", "a b", "o'neil/x", "名前", "x" * 65_535])
def test_a_name_that_can_log_in_is_allowed(username: str) -> None:
    check_username(username)


@pytest.mark.parametrize(
    ("username", "reason"),
    [
        ("", "empty"),
        (" x", "blank"),
        ("x\u00a0", "blank"),
        ("#x", "comment"),
        ("a:b", "':'"),
        ("a\tb", "control"),
        ("a\n", "control"),
        ("a\0", "control"),
        ("a\x85b", "control"),
        ("\udcff", "UTF-8"),
        ("a\ufffe", "noncharacter"),
        ("a\U0010ffff", "noncharacter"),
        ("a+", r"'\+'"),
        ("a#b", "'#'"),
        ("ä" * 32_768, "65,535"),
    ],
)
def test_a_name_that_cannot_log_in_is_refused_with_the_reason(username: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        check_username(username)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()


@given(st.text(st.characters()))
def test_any_name_is_allowed_or_refused(username: str) -> None:
    try:
        check_username(username)
    except ConfigError:
        return
    assert find_entry(upsert_entry(b"", username, ENTRY), username) == ENTRY


@pytest.mark.parametrize("password", [b"x", b"  blanks  ", b"a:b:c$d #e", b"\xff\xfe\x80", b"x" * 65_535])
def test_a_password_that_can_log_in_is_allowed(password: bytes) -> None:
    check_password(password)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        (b"", "empty"),
        (b"abc\0def", "NUL"),
        (b"abc\n", "line break"),
        (b"abc\r", "line break"),
        (b"a\x1bbc", "control"),
        (b"abc\x7f", "control"),
        (b"x" * 65_536, "65,535"),
    ],
)
def test_a_password_that_cannot_log_in_is_refused_without_being_shown(password: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        check_password(password)
    assert "abc" not in f"{refused.value} {refused.value.hint}"
