"""Mosquitto's dynamic security plugin as data: its commands, its answers, and what to ask of it for a user.

Pure. The plugin takes JSON on ``$CONTROL/dynamic-security/v1`` and answers on ``.../response``; no ``error`` in an
answer means success. Several commands in one request are no transaction, so that each travels alone, in an order
in which a run that is cut off leaves nothing wider than before.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.topics import DEVICE_FILTERS

CONTROL_TOPIC = "$CONTROL/dynamic-security/v1"
RESPONSE_TOPIC = f"{CONTROL_TOPIC}/response"

ROLE = "plantops-read"
"""The role that carries the right to read; shared by all users that are provisioned."""

# the plugin has no codes, only texts (clients.c and roles.c in plugins/dynamic-security of Mosquitto)
CLIENT_NOT_FOUND = "Client not found"
ROLE_NOT_FOUND = "Role not found"

_SHOWN = 5
# the plugin's own defaults allow these two, so that they say nothing about rights
_HARMLESS = frozenset({"publishClientReceive", "unsubscribe"})

_T = TypeVar("_T")


class Acl(NamedTuple):
    """One right of a role, as the plugin names it; of one type and topic a role has one at most."""

    type: str
    topic: str
    is_allowed: bool = True

    def __str__(self) -> str:
        return f"{'allow' if self.is_allowed else 'deny'} {self.type} {self.topic!r}"


ROLE_ACLS = (
    *(Acl("subscribePattern", name) for name in DEVICE_FILTERS),
    # the plugin compares a shared subscription as it stands, $share and group included
    *(Acl("subscribePattern", f"$share/+/{name}") for name in DEVICE_FILTERS),
    *(Acl("publishClientReceive", name) for name in DEVICE_FILTERS),
)


@dataclass(frozen=True, slots=True)
class Command:
    """One command to the plugin.

    Args:
        name: its name in the plugin's protocol.
        arguments: its further fields, a password among them.
    """

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to one command; ``error`` is the broker's text, None after a success."""

    error: str | None
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PluginUser:
    """A client of the plugin, which is a login.

    Attributes:
        username: its MQTT user name.
        roles: the roles given to it directly.
        groups: the groups that it belongs to, whose roles it has too.
        is_disabled: whether the broker refuses it whatever its password.
        client_id: the one client id with which it may connect, or None for any.
    """

    username: str
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    is_disabled: bool = False
    client_id: str | None = None


class Login(Enum):
    """What trying to log in has shown."""

    MATCHES = "the password is accepted, a wrong one refused"
    DIFFERS = "the password is refused"
    OPEN = "any password is accepted"
    UNTRIED = "nothing, for it would prove nothing or take a session over"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The user that is to be there.

    Attributes:
        username: its user name.
        password: its password.
        overwrite: False to leave a user alone who is there already.
    """

    username: str
    password: str = field(repr=False)
    overwrite: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """What the plugin knows before anything is done.

    Attributes:
        role: the rights of ``ROLE``, or None when there is no such role.
        user: the user, or None.
        login: what trying the password has shown.
        defaults: the kinds of access that are allowed where no role says anything.
    """

    role: tuple[Acl, ...] | None = None
    user: PluginUser | None = None
    login: Login = Login.UNTRIED
    defaults: frozenset[str] = _HARMLESS


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do.

    Attributes:
        action: what then has become of the user.
        commands: the commands to give, in this order.
        password_matches: whether the user then has the wanted password, or None when that cannot be told.
        notices: what whoever runs it should know, a line each; holds text of the broker.
        is_provable: whether trying to log in would tell something, and disturb nobody.
    """

    action: Action
    commands: tuple[Command, ...]
    password_matches: bool | None
    notices: tuple[str, ...]
    is_provable: bool = True


def get_user(username: str) -> Command:
    """Ask for one user."""
    return Command("getClient", {"username": username})


def get_role() -> Command:
    """Ask for the rights of ``ROLE``."""
    return Command("getRole", {"rolename": ROLE})


def get_defaults() -> Command:
    """Ask what is allowed where no role says anything."""
    return Command("getDefaultACLAccess")


def list_all_users() -> Command:
    """Ask for all users."""
    return Command("listClients", {"verbose": True})


def request(command: Command, *, correlation: str) -> bytes:
    """Write the request that carries one command.

    Args:
        command: the command.
        correlation: what the answer will repeat.
    """
    body = {"command": command.name, **command.arguments, "correlationData": correlation}
    return json.dumps({"commands": [body]}).encode()


def find_response(payload: bytes, *, correlation: str) -> Response | None:
    """Return the answer to one command, or None when there is none in this payload.

    Args:
        payload: a message of ``RESPONSE_TOPIC``; it may belong to somebody else.
        correlation: what the command carried.
    """
    try:
        responses = _field(_object(_loads(payload)), "responses", list)
    except ValueError:
        return None
    for response in responses:
        if isinstance(response, dict) and response.get("correlationData") == correlation:
            error, data = response.get("error"), response.get("data")
            return Response(None if error is None else str(error), data if isinstance(data, dict) else {})
    return None


def parse_user(data: Mapping[str, object]) -> PluginUser:
    """Read the answer to ``get_user``.

    Raises:
        ValueError: it is not one.
    """
    return _user(_field(data, "client", dict))


def parse_users(data: Mapping[str, object]) -> tuple[PluginUser, ...]:
    """Read the answer to ``list_all_users``.

    Raises:
        ValueError: it is not one.
    """
    return tuple(_user(_object(client)) for client in _field(data, "clients", list))


def parse_role(data: Mapping[str, object]) -> tuple[Acl, ...]:
    """Read the answer to ``get_role``.

    Raises:
        ValueError: it is not one.
    """
    return tuple(
        Acl(_field(acl, "acltype", str), _field(acl, "topic", str), _field(acl, "allow", bool))
        for acl in map(_object, _field(_field(data, "role", dict), "acls", list))
    )


def parse_defaults(data: Mapping[str, object]) -> frozenset[str]:
    """Read the answer to ``get_defaults``: the kinds of access that are allowed.

    Raises:
        ValueError: it is not one.
    """
    kinds = map(_object, _field(data, "acls", list))
    return frozenset(_field(kind, "acltype", str) for kind in kinds if _field(kind, "allow", bool))


def plan_provisioning(wanted: Wanted, found: Found) -> Plan:
    """Decide what makes sure that a user can log in and read the device topics.

    A user who is there, and is not to be overwritten, is left alone with its role, for repairing either would
    close its connections.

    Args:
        wanted: the user that is to be there.
        found: what the plugin knows.
    """
    if found.user is None:
        return Plan(
            Action.CREATED,
            (*_role_commands(found.role), _create_user(wanted)),
            password_matches=True,
            notices=_notices_of_rights(found),
        )
    # of an open broker, which takes any password, and of a login that was not tried nothing is known
    is_right = {Login.MATCHES: True, Login.DIFFERS: False}.get(found.login)
    notices = (*_notices_of_login(found.user, found.login), *_notices_of_rights(found))
    if not wanted.overwrite:
        return Plan(Action.UNCHANGED, (), is_right, (*notices, *_notices_of_gaps(found)))
    on_user = _user_commands(wanted, found.user, found.login)
    commands = (*_role_commands(found.role), *on_user)
    if not commands:
        return Plan(Action.UNCHANGED, (), is_right, notices)
    if on_user and not found.user.is_disabled:
        notices = (f"a change of password or role closes the open connections of {wanted.username!r}", *notices)
    # a login that was not tried before cannot be tried afterwards either
    is_provable = found.login is not Login.UNTRIED
    return Plan(Action.UPDATED, commands, password_matches=True, notices=notices, is_provable=is_provable)


def plan_removal(username: str, user: PluginUser | None) -> Plan:
    """Decide what makes sure that a user is gone; the role stays, for other users may have it.

    Args:
        username: the user.
        user: what the plugin knows of it, or None.
    """
    if user is None:
        return Plan(Action.UNCHANGED, (), None, ())
    kick = f"the removal closes the open connections of {username!r}"
    return Plan(Action.REMOVED, (Command("deleteClient", {"username": username}),), None, (kick,))


def knows_user(content: bytes, username: str) -> bool:
    """Tell whether the plugin decides about a user's login, so that a password file would not be asked.

    Args:
        content: the plugin's own file (``plugin_opt_config_file``).
        username: the user.

    Raises:
        BrokerFileError: it is not that file; the message says neither which file nor what is in it.
    """
    try:
        document = _object(_loads(content))
        clients = _field(document, "clients", list) if "clients" in document else []
        return any(_field(_object(client), "username", str) == username for client in clients)
    except ValueError as exc:
        # from None: a JSON error of the library carries the whole document, hashes and all
        raise BrokerFileError(
            f"not a file of the dynamic security plugin: {exc}",
            hint="plugin_opt_config_file names it; mosquitto_ctrl dynsec init makes one",
        ) from None


def _role_commands(role: tuple[Acl, ...] | None) -> tuple[Command, ...]:
    if role is None:
        acls = [_acl_fields(acl) for acl in ROLE_ACLS]
        return (Command("createRole", {"rolename": ROLE, "acls": acls}),)
    # one that denies the same is somebody's decision, and the plugin takes no second one
    there = {(acl.type, acl.topic) for acl in role}
    missing = [acl for acl in ROLE_ACLS if (acl.type, acl.topic) not in there]
    return tuple(Command("addRoleACL", {"rolename": ROLE, **_acl_fields(acl)}) for acl in missing)


def _acl_fields(acl: Acl) -> dict[str, object]:
    return {"acltype": acl.type, "topic": acl.topic, "priority": 0, "allow": acl.is_allowed}


def _create_user(wanted: Wanted) -> Command:
    roles = [{"rolename": ROLE, "priority": 0}]
    return Command("createClient", {"username": wanted.username, "password": wanted.password, "roles": roles})


def _user_commands(wanted: Wanted, user: PluginUser, login: Login) -> tuple[Command, ...]:
    who = {"username": wanted.username}
    commands = []
    # the right before the login, or who comes back after the kick finds its subscriptions refused
    if ROLE not in user.roles:
        commands.append(Command("addClientRole", {**who, "rolename": ROLE, "priority": 0}))
    if login is not Login.MATCHES:
        commands.append(Command("setClientPassword", {**who, "password": wanted.password}))
    return tuple(commands)


def _notices_of_login(user: PluginUser, login: Login) -> tuple[str, ...]:
    who = repr(user.username)
    if user.is_disabled:
        return (
            f"{who} is disabled and stays so, so that its password cannot be tried: "
            "mosquitto_ctrl dynsec enableClient would let it in",
        )
    if user.client_id is not None:
        return (
            f"{who} may connect with the client id {user.client_id!r} only, so that its password cannot be "
            "tried without taking that session over",
        )
    if login is Login.OPEN:
        return (f"the broker accepts {who} with a wrong password too, so that its password cannot be proven",)
    return ()


def _notices_of_rights(found: Found) -> tuple[str, ...]:
    notices = []
    surplus = [acl for acl in found.role or () if acl not in ROLE_ACLS and not _is_moot(acl)]
    if surplus:
        notices.append(f"the role {ROLE!r} is wider than needed, or denies: {_some(map(str, surplus))}")
    user = found.user or PluginUser("")
    others = [role for role in user.roles if role != ROLE]
    if others:
        notices.append(f"{user.username!r} has further rights by its roles {_some(map(repr, others))}")
    if user.groups:
        notices.append(f"{user.username!r} has further rights by its groups {_some(map(repr, user.groups))}")
    defaults = found.defaults - _HARMLESS
    if defaults:
        notices.append(f"whatever no role denies is allowed to every user: {_some(sorted(defaults))}")
    return tuple(notices)


def _notices_of_gaps(found: Found) -> tuple[str, ...]:
    if found.user is None:
        return ()
    if ROLE not in found.user.roles:
        return (f"{found.user.username!r} has not the role {ROLE!r}, and may not be able to read the devices",)
    if _role_commands(found.role):
        return (f"the role {ROLE!r} lacks rights to read the devices",)
    return ()


def _is_moot(acl: Acl) -> bool:
    """Tell whether an ACL allows only what does nothing without a right to subscribe."""
    return acl.is_allowed and acl.type.startswith(tuple(_HARMLESS))


def _some(texts: Iterable[str]) -> str:
    shown = list(texts)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _user(client: Mapping[str, object]) -> PluginUser:
    client_id = client.get("clientid")
    return PluginUser(
        _field(client, "username", str),
        roles=_names(client.get("roles", []), "rolename"),
        groups=_names(client.get("groups", []), "groupname"),
        is_disabled=client.get("disabled") is True,
        client_id=client_id if isinstance(client_id, str) else None,
    )


def _names(items: object, key: str) -> tuple[str, ...]:
    if not isinstance(items, Collection):
        raise ValueError(f"no list of {key}")
    return tuple(_field(_object(item), key, str) for item in items)


def _object(value: Any) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def _field(value: Mapping[str, object], key: str, kind: type[_T]) -> _T:
    found = value.get(key)
    if not isinstance(found, kind):
        raise ValueError(f"no {key}")
    return found


def _loads(content: bytes) -> object:
    try:
        return json.loads(content)
    except json.JSONDecodeError as exc:
        raise ValueError(f"no JSON in line {exc.lineno}") from None
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None
