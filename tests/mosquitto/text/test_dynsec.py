"""What to ask of the dynamic security plugin, and what its answers and its file say."""

import json
from collections.abc import Mapping

import pytest

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.mosquitto.text.dynsec import (
    ROLE,
    ROLE_ACLS,
    Acl,
    Command,
    Found,
    Login,
    PluginUser,
    Wanted,
    find_response,
    knows_user,
    parse_defaults,
    parse_role,
    parse_user,
    parse_users,
    plan_provisioning,
    plan_removal,
    request,
)

SECRET = 'hunter2 "is" \\ nicht für Ümit \u2603'


FULL = Found(role=ROLE_ACLS, user=PluginUser("alice", (ROLE,)), login=Login.MATCHES)


def names(commands: tuple[Command, ...]) -> list[str]:
    return [command.name for command in commands]


@pytest.mark.parametrize(
    ("found", "action", "commands", "password_matches"),
    [
        (Found(), Action.CREATED, ["createRole", "createClient"], True),
        (Found(role=ROLE_ACLS), Action.CREATED, ["createClient"], True),
        (Found(role=ROLE_ACLS[:-1]), Action.CREATED, ["addRoleACL", "createClient"], True),
        (FULL, Action.UNCHANGED, [], True),
        (Found(ROLE_ACLS, FULL.user, Login.DIFFERS), Action.UPDATED, ["setClientPassword"], True),
        (Found(ROLE_ACLS, FULL.user, Login.OPEN), Action.UPDATED, ["setClientPassword"], True),
        (Found(ROLE_ACLS, PluginUser("alice"), Login.MATCHES), Action.UPDATED, ["addClientRole"], True),
        (
            Found(None, PluginUser("alice"), Login.DIFFERS),
            Action.UPDATED,
            ["createRole", "addClientRole", "setClientPassword"],
            True,
        ),
    ],
)
def test_no_more_is_done_than_is_missing_and_the_role_comes_first(
    found: Found, action: Action, commands: list[str], password_matches: bool
) -> None:
    plan = plan_provisioning(Wanted("alice", SECRET), found)
    assert (plan.action, names(plan.commands), plan.password_matches) == (action, commands, password_matches)


@pytest.mark.parametrize(
    ("login", "password_matches"),
    [(Login.MATCHES, True), (Login.DIFFERS, False), (Login.OPEN, None), (Login.UNTRIED, None)],
)
@pytest.mark.parametrize("role", [None, (), ROLE_ACLS])
def test_without_overwrite_nothing_is_ever_done_to_a_user_who_is_there(
    role: tuple[Acl, ...] | None, login: Login, password_matches: bool | None
) -> None:
    wanted = Wanted("alice", SECRET, overwrite=False)
    plan = plan_provisioning(wanted, Found(role, PluginUser("alice", (ROLE,)), login))
    assert (plan.action, plan.commands, plan.password_matches) == (Action.UNCHANGED, (), password_matches)
    assert ("the role 'plantops-read' lacks rights to read the devices" in plan.notices) == (role != ROLE_ACLS)


def test_a_right_that_somebody_denied_is_not_fought_over() -> None:
    denied = Acl("subscribePattern", "devices/+/telemetry", is_allowed=False)
    plan = plan_provisioning(Wanted("alice", SECRET), Found((denied, *ROLE_ACLS[1:]), FULL.user, Login.MATCHES))
    assert plan.commands == ()
    assert "deny subscribePattern 'devices/+/telemetry'" in plan.notices[0]


@pytest.mark.parametrize(
    ("found", "notice"),
    [
        (
            Found(ROLE_ACLS, PluginUser("alice", (ROLE, "boss")), Login.MATCHES),
            "'alice' has further rights by its roles 'boss'",
        ),
        (Found(ROLE_ACLS, PluginUser("alice", (ROLE,), ("staff",)), Login.MATCHES), "by its groups 'staff'"),
        (Found(ROLE_ACLS, FULL.user, Login.MATCHES, frozenset({"subscribe"})), "allowed to every user: subscribe"),
        (Found(ROLE_ACLS, FULL.user, Login.OPEN), "accepts 'alice' with a wrong password too"),
        (
            Found((*ROLE_ACLS, Acl("subscribeLiteral", "a\nb")), FULL.user, Login.MATCHES),
            r"subscribeLiteral 'a\nb'",
        ),
    ],
)
def test_whatever_goes_beyond_the_right_to_read_is_noticed(found: Found, notice: str) -> None:
    assert any(notice in line for line in plan_provisioning(Wanted("alice", SECRET), found).notices)


@pytest.mark.parametrize("acl", [Acl("unsubscribePattern", "#"), Acl("publishClientReceive", "#")])
def test_rights_that_do_nothing_by_themselves_are_no_news(acl: Acl) -> None:
    found = Found((*ROLE_ACLS, acl), FULL.user, Login.MATCHES)
    assert plan_provisioning(Wanted("alice", SECRET), found).notices == ()


def test_a_long_list_of_rights_is_cut_short() -> None:
    many = tuple(Acl("publishClientSend", f"t/{number}") for number in range(7))
    (notice,) = plan_provisioning(
        Wanted("alice", SECRET), Found(many + ROLE_ACLS, FULL.user, Login.MATCHES)
    ).notices
    assert notice.endswith("'t/4' and 2 more")


def test_a_removal_deletes_a_user_who_is_there_only() -> None:
    assert names(plan_removal("alice", PluginUser("alice")).commands) == ["deleteClient"]
    assert plan_removal("alice", None).commands == ()


def test_no_repr_shows_a_password() -> None:
    wanted = Wanted("alice", SECRET)
    assert repr(SECRET) not in f"{wanted!r} {plan_provisioning(wanted, Found())!r}"
    assert "password" not in repr(wanted)


# Requests and answers


def test_a_request_carries_one_command_and_its_correlation() -> None:
    payload = request(Command("getClient", {"username": "gärtner"}), correlation="c1")
    assert json.loads(payload) == {
        "commands": [{"command": "getClient", "username": "gärtner", "correlationData": "c1"}]
    }


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"7",
        b"{}",
        b'{"responses": 1}',
        b'{"responses": [1, {"correlationData": "x"}]}',
        b"[" * 100_000,
    ],
)
def test_a_payload_without_our_answer_has_none(payload: bytes) -> None:
    assert find_response(payload, correlation="c1") is None


@pytest.mark.parametrize("parse", [parse_user, parse_users, parse_role, parse_defaults])
@pytest.mark.parametrize(
    "data",
    [
        {},
        {"client": [], "clients": {}, "role": 1, "acls": None},
        {"client": {"username": 1}, "clients": [1], "role": {}, "acls": [1]},
        {"client": {"username": "a", "roles": 1}, "clients": [{}], "role": {"acls": [{}]}, "acls": [{}]},
        {
            "client": {"username": "a", "groups": [{}]},
            "clients": [None],
            "role": {"acls": 1},
            "acls": [{"allow": 1}],
        },
    ],
)
def test_an_answer_of_another_shape_is_refused(parse: object, data: Mapping[str, object]) -> None:
    assert callable(parse)
    with pytest.raises(ValueError, match=r"^no "):
        parse(data)


# The plugin's own file


@pytest.mark.parametrize("content", [b"{}", b'{"clients": []}', b'{"roles": [], "clients": []}'])
def test_a_file_without_users_knows_nobody(content: bytes) -> None:
    assert not knows_user(content, "alice")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no JSON in line 1"),
        (b'{\n"clients": [\n', "no JSON in line 3"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b'{"clients": {}}', "no clients"),
        (b'{"clients": [7]}', "no JSON object"),
        (b'{"clients": [{"password": "a-hash"}]}', "no username"),
    ],
)
def test_another_file_is_refused_without_a_word_of_its_content(content: bytes, fault: str) -> None:
    with pytest.raises(BrokerFileError, match=f"plugin: {fault}$") as caught:
        knows_user(content, "alice")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
