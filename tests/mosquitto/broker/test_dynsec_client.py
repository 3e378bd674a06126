"""Users of the dynamic security plugin, made on real brokers and on brokers that answer strangely."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from plantops_cli.errors import (
    BrokerError,
    CommandRefusedError,
    ConfigError,
    ConnectionLostError,
    CredentialsRefusedError,
    SubscriptionRefusedError,
)
from plantops_cli.mosquitto.broker.dynsec_client import (
    DynsecOutcome,
    delete_client,
    list_clients,
    make_client,
    refuse_plain_text,
)
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.mosquitto.text.dynsec import (
    CONTROL_TOPIC,
    ROLE,
    ROLE_ACLS,
    PluginUser,
    knows_user,
)
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.session import Session, open_session
from plantops_cli.stream.tls import TLSOptions
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.dynsec_broker import (
    ADMIN,
    ADMIN_PASSWORD,
    DEFAULTS,
    NO_ROLE,
    NO_USER,
    PUBLISH,
    answer,
    ctrl,
    start,
)
from tests.support.scripted_broker import ScriptedBroker, serving

SECRET = 'hunter2 "is" \\ nicht für Ümit \u2603'
OTHER = "another-secret"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A Mosquitto with the plugin and one administrator; USERNAME is a user of its password file only."""
    broker = start(tmp_path)
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def greenhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A Mosquitto with the user alice, provisioned, and plant, who may publish what devices do; left as it is."""
    broker = start(tmp_path_factory.mktemp("greenhouse"))
    asyncio.run(create(broker))
    ctrl(broker, "createRole", "device")
    ctrl(broker, "addRoleACL", "device", "publishClientSend", "devices/#", "allow", "0")
    asyncio.run(create(broker, "plant", OTHER))
    ctrl(broker, "addClientRole", "plant", "device", "0")
    yield broker
    broker.stop()


def login(
    broker: Mosquitto | ScriptedBroker,
    username: str = ADMIN,
    password: str = ADMIN_PASSWORD,
    *,
    version: str = "auto",
) -> ConnectOptions:
    return ConnectOptions(
        host="127.0.0.1",
        port=broker.port,
        username=username,
        password=password,
        mqtt_version=MQTTVersion(version),
    )


@asynccontextmanager
async def logged_in(options: ConnectOptions) -> AsyncIterator[Session]:
    session = await open_session(options, lambda status: None)
    try:
        yield session
    finally:
        await session.close()


async def may_log_in(broker: Mosquitto, username: str, password: str) -> bool:
    try:
        async with logged_in(login(broker, username, password)):
            return True
    except CredentialsRefusedError:
        return False


async def is_connected(session: Session) -> bool:
    """Whether the broker still answers on a session."""
    try:
        await session.subscribe({"devices/+/telemetry": 0})
    except BrokerError:
        return False
    return True


async def create(broker: Mosquitto, username: str = "alice", password: str = SECRET) -> DynsecOutcome:
    return await make_client(login(broker), username, password.encode())


def state(broker: Mosquitto) -> str:
    return (broker.folder / "dynamic-security.json").read_text()


# Provisioning, on a real broker


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_new_user_can_log_in_with_the_password_and_no_other(broker: Mosquitto, version: str) -> None:
    outcome = await make_client(login(broker, version=version), "alice", SECRET.encode())
    assert outcome == DynsecOutcome(Action.CREATED, "alice", True)
    assert await may_log_in(broker, "alice", SECRET)
    assert not await may_log_in(broker, "alice", OTHER)


@pytest.mark.parametrize("kind", ["telemetry", "heartbeat"])
@pytest.mark.parametrize("share", ["", "$share/workers/"])
async def test_a_new_user_reads_the_devices_alone_and_in_a_group(
    greenhouse: Mosquitto, kind: str, share: str
) -> None:
    async with (
        logged_in(login(greenhouse, "alice", SECRET)) as reader,
        logged_in(login(greenhouse, "plant", OTHER)) as plant,
    ):
        await reader.subscribe({f"{share}devices/+/{kind}": 1})
        await plant.publish(f"devices/abc/{kind}", b"1", qos=1, retain=False)
        async with asyncio.timeout(5):
            received = await anext(reader.batches())
    assert [(message.topic, message.payload) for message in received] == [(f"devices/abc/{kind}", b"1")]


@pytest.mark.parametrize(
    "topic_filter", ["secret/#", "#", "devices/#", "$share/g/secret", "$CONTROL/#", "devices/abc/telemetry/x"]
)
async def test_a_new_user_may_subscribe_to_nothing_else(greenhouse: Mosquitto, topic_filter: str) -> None:
    async with logged_in(login(greenhouse, "alice", SECRET)) as session:
        with pytest.raises(SubscriptionRefusedError):
            await session.subscribe({topic_filter: 0})


@pytest.mark.parametrize("topic", ["devices/abc/telemetry", "secret", CONTROL_TOPIC])
async def test_a_new_user_may_publish_nothing(greenhouse: Mosquitto, topic: str) -> None:
    async with logged_in(login(greenhouse, "alice", SECRET, version="5")) as session:
        assert await session.publish(topic, b"{}", qos=1, retain=False) == 0x87


async def test_a_second_run_changes_nothing_and_keeps_connections_open(broker: Mosquitto) -> None:
    await create(broker)
    before = state(broker)
    async with logged_in(login(broker, "alice", SECRET)) as session:
        assert await create(broker) == DynsecOutcome(Action.UNCHANGED, "alice", True)
        assert await is_connected(session)
    assert state(broker) == before


async def test_another_password_replaces_the_old_one_and_says_whom_that_throws_out(broker: Mosquitto) -> None:
    await create(broker)
    async with logged_in(login(broker, "alice", SECRET)) as session:
        outcome = await create(broker, "alice", OTHER)
        assert not await is_connected(session)
    assert (outcome.action, outcome.password_matches) == (Action.UPDATED, True)
    assert "closes the open connections of 'alice'" in outcome.notices[0]
    assert await may_log_in(broker, "alice", OTHER)
    assert not await may_log_in(broker, "alice", SECRET)


async def test_without_overwrite_another_password_is_reported_and_left(broker: Mosquitto) -> None:
    await create(broker)
    before = state(broker)
    outcome = await make_client(login(broker), "alice", OTHER.encode(), overwrite=False)
    assert outcome == DynsecOutcome(Action.UNCHANGED, "alice", False)
    assert state(broker) == before


async def test_without_overwrite_a_missing_user_is_created(broker: Mosquitto) -> None:
    outcome = await make_client(login(broker), "alice", SECRET.encode(), overwrite=False)
    assert outcome.action is Action.CREATED
    assert await may_log_in(broker, "alice", SECRET)


async def test_a_user_of_the_plugin_without_the_role_gets_it_and_keeps_the_password(broker: Mosquitto) -> None:
    await create(broker)
    ctrl(broker, "removeClientRole", "alice", ROLE)
    outcome = await create(broker)
    assert (outcome.action, outcome.password_matches) == (Action.UPDATED, True)
    async with logged_in(login(broker, "alice", SECRET)) as session:
        assert await is_connected(session)


async def test_without_overwrite_a_missing_role_is_reported_only(broker: Mosquitto) -> None:
    await create(broker)
    ctrl(broker, "removeClientRole", "alice", ROLE)
    outcome = await make_client(login(broker), "alice", SECRET.encode(), overwrite=False)
    assert (outcome.action, outcome.password_matches) == (Action.UNCHANGED, True)
    assert "has not the role 'plantops-read'" in outcome.notices[0]


async def test_a_role_that_lost_a_right_gets_it_back_and_nobody_is_thrown_out(broker: Mosquitto) -> None:
    await create(broker)
    ctrl(broker, "removeRoleACL", ROLE, "subscribePattern", "devices/+/heartbeat")
    async with logged_in(login(broker, "alice", SECRET)) as session:
        assert await create(broker) == DynsecOutcome(Action.UPDATED, "alice", True)
        assert await session.subscribe({"devices/+/heartbeat": 0}) == {"devices/+/heartbeat": 0}


async def test_a_widened_role_is_reported_and_stays(broker: Mosquitto) -> None:
    await create(broker)
    ctrl(broker, "addRoleACL", ROLE, "publishClientSend", "#", "allow", "0")
    outcome = await create(broker)
    assert outcome.action is Action.UNCHANGED
    assert outcome.notices == (
        "the role 'plantops-read' is wider than needed, or denies: allow publishClientSend '#'",
    )


async def test_a_disabled_user_stays_disabled_and_is_reported(broker: Mosquitto) -> None:
    await create(broker)
    ctrl(broker, "disableClient", "alice")
    outcome = await create(broker, "alice", OTHER)
    assert outcome.action is Action.UPDATED
    assert [notice for notice in outcome.notices if "disabled" in notice] == list(outcome.notices)
    assert not await may_log_in(broker, "alice", OTHER)
    ctrl(broker, "enableClient", "alice")
    assert await may_log_in(broker, "alice", OTHER)


async def test_a_user_bound_to_a_client_id_is_not_thrown_out_by_trying(broker: Mosquitto) -> None:
    await create(broker)
    ctrl(broker, "setClientId", "alice", "backend-1")
    options = ConnectOptions(
        host="127.0.0.1", port=broker.port, username="alice", password=SECRET, client_id="backend-1"
    )
    async with logged_in(options) as session:
        outcome = await make_client(login(broker), "alice", SECRET.encode(), overwrite=False)
        assert await is_connected(session)
    assert (outcome.action, outcome.password_matches) == (Action.UNCHANGED, None)
    assert "with the client id 'backend-1' only" in outcome.notices[0]


@pytest.mark.parametrize("password", [SECRET, OTHER])
async def test_a_dry_run_says_what_would_be_done_and_does_nothing(broker: Mosquitto, password: str) -> None:
    wanted = {SECRET: Action.UNCHANGED, OTHER: Action.UPDATED}[password]
    await create(broker)
    before = state(broker)
    created = await make_client(login(broker), "bob", SECRET.encode(), dry_run=True)
    again = await make_client(login(broker), "alice", password.encode(), dry_run=True)
    removed = await delete_client(login(broker), "alice", dry_run=True)
    assert [created.action, again.action, removed.action] == [Action.CREATED, wanted, Action.REMOVED]
    assert state(broker) == before


async def test_a_removed_user_is_out_at_once_and_the_role_stays(broker: Mosquitto) -> None:
    await create(broker)
    async with logged_in(login(broker, "alice", SECRET)) as session:
        outcome = await delete_client(login(broker), "alice")
        assert not await is_connected(session)
    assert (outcome.action, outcome.password_matches) == (Action.REMOVED, None)
    assert not await may_log_in(broker, "alice", SECRET)
    assert ROLE in ctrl(broker, "listRoles")


async def test_removing_a_user_who_is_not_there_changes_nothing(broker: Mosquitto) -> None:
    assert await delete_client(login(broker), "alice") == DynsecOutcome(Action.UNCHANGED, "alice", None)


async def test_the_list_has_each_user_with_its_roles(broker: Mosquitto) -> None:
    await create(broker)
    await create(broker, "gärtner")
    ctrl(broker, "disableClient", "gärtner")
    assert await list_clients(login(broker)) == (
        PluginUser("admin", ("admin",)),
        PluginUser("alice", (ROLE,)),
        PluginUser("gärtner", (ROLE,), is_disabled=True),
    )


async def test_runs_at_once_leave_every_user_able_to_log_in(broker: Mosquitto) -> None:
    users = ["alice", "alice", "bob", "carol", "carol"]
    outcomes = await asyncio.gather(*(create(broker, user) for user in users))
    assert all(outcome.password_matches for outcome in outcomes)
    for user in users:
        assert await may_log_in(broker, user, SECRET)


async def test_removals_at_once_do_not_trip_over_each_other(broker: Mosquitto) -> None:
    await create(broker)
    outcomes = await asyncio.gather(*(delete_client(login(broker), "alice") for _ in range(4)))
    assert {outcome.action for outcome in outcomes} <= {Action.REMOVED, Action.UNCHANGED}
    assert not await may_log_in(broker, "alice", SECRET)


# Refusals, on a real broker


@pytest.mark.parametrize(("version", "code"), [("5", "SUBACK 0x87"), ("3.1.1", "SUBACK 0x80")])
async def test_a_user_who_is_no_administrator_is_refused(broker: Mosquitto, version: str, code: str) -> None:
    await create(broker)
    before = state(broker)
    with pytest.raises(
        CommandRefusedError,
        match=re.escape(f"user 'alice' may not administer the dynamic security plugin ({code})"),
    ):
        await make_client(login(broker, "alice", SECRET, version=version), "bob", OTHER.encode())
    assert state(broker) == before


async def test_a_user_who_may_only_read_the_answers_is_refused(broker: Mosquitto) -> None:
    await create(broker)
    ctrl(broker, "addRoleACL", ROLE, "subscribePattern", "$CONTROL/#", "allow", "0")
    with pytest.raises(CommandRefusedError, match="PUBACK 0x87"):
        await delete_client(login(broker, "alice", SECRET, version="5"), "bob")
    with pytest.raises(CommandRefusedError, match=r"no answer to getClient within 0\.3 s"):
        await delete_client(login(broker, "alice", SECRET, version="3.1.1"), "bob", timeout_seconds=0.3)


async def test_a_wrong_password_of_the_administrator_is_refused(broker: Mosquitto) -> None:
    with pytest.raises(CredentialsRefusedError):
        await list_clients(login(broker, ADMIN, OTHER))


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_broker_without_the_plugin_is_told_from_one_that_refuses(
    mosquitto: Mosquitto, version: str
) -> None:
    options = login(mosquitto, USERNAME, PASSWORD, version=version)
    with pytest.raises(CommandRefusedError, match=r"no answer to getDefaultACLAccess within 0\.3 s") as caught:
        await make_client(options, "alice", SECRET.encode(), timeout_seconds=0.3)
    assert "has the broker the dynamic security plugin" in str(caught.value.hint)


async def test_the_administrator_itself_is_not_touched(broker: Mosquitto) -> None:
    with pytest.raises(ConfigError, match="'admin' is the administrator"):
        await make_client(login(broker), ADMIN, SECRET.encode())
    with pytest.raises(ConfigError, match="'admin' is the administrator"):
        await delete_client(login(broker), ADMIN)
    assert await may_log_in(broker, ADMIN, ADMIN_PASSWORD)


async def test_no_password_appears_in_logs_errors_or_results(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    created = await create(broker, password="correct-horse")
    updated = await create(broker, password="battery-staple")
    said = f"{caplog.text} {created} {updated}"
    assert "publish" in said.lower()
    for secret in ("correct-horse", "battery-staple", ADMIN_PASSWORD):
        assert secret not in said


# Refusals before any connection


@pytest.mark.parametrize(
    ("username", "password", "fault"),
    [
        ("", b"secret", "is empty"),
        ("a:b", b"secret", "contains ':'"),
        ("a+", b"secret", "contains '\\+' or '#'"),
        ("alice", b"", "the password is empty"),
        ("alice", b"a\0b", "contains NUL"),
        ("alice", b"\xff\xfe", "the password is not UTF-8"),
        ("alice", b"x" * 65_536, "more than 65,535 bytes"),
    ],
)
async def test_what_cannot_log_in_is_refused_before_anything_is_sent(
    username: str, password: bytes, fault: str
) -> None:
    async with serving(ScriptedBroker()) as broker:
        with pytest.raises(ConfigError, match=fault) as caught:
            await make_client(login(broker), username, password)
        assert broker.connection_count == 0
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "options", [{"host": "192.0.2.1"}, {"host": "broker.example"}, {"host": "::ffff:192.0.2.1"}]
)
@pytest.mark.parametrize("password", ["any", None])
async def test_plain_text_off_this_machine_is_refused_before_anything_is_sent(
    options: Mapping[str, str], password: str | None
) -> None:
    admin = ConnectOptions(host=options["host"], username=ADMIN, password=password, timeout_seconds=0.1)
    for attempt in (make_client(admin, "alice", b"secret"), delete_client(admin, "alice"), list_clients(admin)):
        with pytest.raises(ConfigError, match="would cross the network unencrypted"):
            await attempt


@pytest.mark.parametrize(
    "options",
    [
        ConnectOptions(host="127.0.0.1"),
        ConnectOptions(host="::1"),
        ConnectOptions(host="localhost"),
        ConnectOptions(host="broker.example", tls=TLSOptions()),
        ConnectOptions(host="broker.example", tls=TLSOptions(insecure=True)),
        ConnectOptions(host="broker.example", unix_socket="/run/mosquitto.sock"),
    ],
)
def test_tls_loopback_and_unix_sockets_are_let_through(options: ConnectOptions) -> None:
    refuse_plain_text(options)


# Brokers that answer strangely


@pytest.mark.parametrize(
    ("answers", "action"),
    [
        ([{"error": "Role already exists"}], Action.UNCHANGED),
        ([{}, {"error": "Client already exists"}], Action.UPDATED),
    ],
)
async def test_what_another_run_did_meanwhile_is_looked_at_and_not_done_again(
    answers: list[object], action: Action
) -> None:
    acls = [{"acltype": acl.type, "topic": acl.topic, "allow": True} for acl in ROLE_ACLS]
    role = {"data": {"role": {"rolename": ROLE, "acls": acls}}}
    user = {"data": {"client": {"username": "alice", "roles": [{"rolename": ROLE}]}}}
    # logins: the administrator, the right password, a wrong one
    async with serving(ScriptedBroker(answers=[0, 0, 0x87])) as broker:
        playing = asyncio.create_task(answer(broker, DEFAULTS, NO_ROLE, NO_USER, *answers, DEFAULTS, role, user))
        outcome = await make_client(login(broker, version="5"), "alice", b"hunter2")
        await playing
    assert outcome == DynsecOutcome(action, "alice", True)


async def failure(*answers: object) -> BrokerError:
    async with serving(ScriptedBroker()) as broker:
        playing = asyncio.create_task(answer(broker, *answers))
        with pytest.raises(BrokerError) as caught:
            await make_client(login(broker, version="5"), "alice", b"hunter2", timeout_seconds=0.3)
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
    return caught.value


async def test_answers_to_others_and_rubbish_are_passed_over() -> None:
    async with serving(ScriptedBroker()) as broker:
        playing = asyncio.create_task(answer(broker, DEFAULTS, NO_ROLE, NO_USER, {}, {}))
        outcome = await make_client(login(broker, version="5"), "alice", b"hunter2")
        await playing
    assert outcome.action is Action.CREATED


async def test_whoever_asks_is_told_before_the_first_change_and_once() -> None:
    told: list[int] = []
    async with serving(ScriptedBroker()) as broker:
        playing = asyncio.create_task(answer(broker, DEFAULTS, NO_ROLE, NO_USER, {}, {}))
        await make_client(
            login(broker, version="5"),
            "alice",
            b"hunter2",
            on_ready=lambda: told.append(len(broker.of_kind(PUBLISH))),
        )
        await playing
    assert told == [3]


@pytest.mark.parametrize("mode", ["dry run", "nothing to do"])
async def test_nobody_is_told_where_nothing_is_changed(broker: Mosquitto, mode: str) -> None:
    if mode == "nothing to do":
        await create(broker)
    told: list[str] = []
    await make_client(
        login(broker), "alice", SECRET.encode(), dry_run=mode == "dry run", on_ready=lambda: told.append(mode)
    )
    assert told == []


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([{"error": "Access denied"}], "getDefaultACLAccess failed: Access denied"),
        ([{"data": {"acls": 7}}], "getDefaultACLAccess failed: an answer that makes no sense: no acls"),
        ([{"data": []}], "getDefaultACLAccess failed: an answer that makes no sense: no acls"),
        ([DEFAULTS, {"data": {"role": {"acls": [1]}}}], "getRole failed: an answer that makes no sense"),
        (
            [DEFAULTS, NO_ROLE, {"data": {"client": {}}}],
            "getClient failed: an answer that makes no sense: no username",
        ),
        ([DEFAULTS, NO_ROLE, {"error": 5}], "getClient failed: 5"),
        ([DEFAULTS, NO_ROLE, NO_USER, None], "no answer to createRole within 0.3 s"),
    ],
)
async def test_a_failed_command_is_named_with_the_text_of_the_broker(answers: list[object], message: str) -> None:
    error = await failure(*answers)
    assert isinstance(error, CommandRefusedError)
    assert message in str(error)


async def test_a_refusal_that_stays_is_an_error_that_does_not_repeat_the_password() -> None:
    attempt = [DEFAULTS, {"data": {"role": {"acls": []}}}, NO_USER, {"error": "no room"}]
    adding: list[object] = [{} for _ in ROLE_ACLS]
    full = [DEFAULTS, {"data": {"role": {"acls": []}}}, NO_USER, *adding, {"error": "bad password hunter2"}]
    error = await failure(*attempt, *attempt, *full)
    assert str(error).endswith("createClient failed: bad password ...")
    assert "hunter2" not in f"{error!r} {error.hint} {error.__cause__!r} {error.__context__!r}"


async def test_no_password_is_sent_to_a_broker_that_has_not_answered() -> None:
    async with serving(ScriptedBroker()) as broker:
        with pytest.raises(CommandRefusedError, match="no answer"):
            await make_client(login(broker, version="3.1.1"), "alice", b"hunter2", timeout_seconds=0.3)
        assert [b"hunter2" in packet.body for packet in broker.of_kind(PUBLISH)] == [False]


async def test_a_connection_that_ends_meanwhile_is_told_as_such() -> None:
    async with serving(ScriptedBroker()) as broker:
        working = asyncio.create_task(make_client(login(broker, version="5"), "alice", b"hunter2"))
        await broker.wait_for(PUBLISH)
        broker.hang_up()
        with pytest.raises(ConnectionLostError):
            await working


# The plugin's own file, as a real broker writes it


@pytest.mark.parametrize(("username", "is_known"), [(ADMIN, True), ("alice", True), ("bob", False), ("", False)])
def test_the_file_of_the_plugin_tells_whom_it_decides_about(
    greenhouse: Mosquitto, username: str, is_known: bool
) -> None:
    assert knows_user(state(greenhouse).encode(), username) is is_known
