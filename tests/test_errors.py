import inspect

import pytest

from plantops_cli import errors
from plantops_cli.errors import (
    BrokerError,
    ConfigError,
    PayloadError,
    PlantopsError,
    StateError,
    SubscriptionRefusedError,
    TopicError,
)

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, PlantopsError)]


def drawn_parents() -> dict[str, str]:
    """Parent of each class, by its depth in the tree of the module docstring."""
    above: list[str] = []
    parents = {}
    for line in (errors.__doc__ or "").splitlines():
        branch, name = line[: len(line) - len(line.lstrip(" │├└─"))], line.lstrip(" │├└─").split(" ")[0]
        if name.endswith("Error"):
            above = [*above[: len(branch) // 4], name]
            parents[name] = above[-2] if branch else ""
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    parents = {cls.__name__: "" if cls is PlantopsError else cls.__bases__[0].__name__ for cls in CLASSES}
    assert drawn_parents() == parents


def test_exactly_what_can_heal_is_retryable() -> None:
    retryable = {cls.__name__ for cls in CLASSES if issubclass(cls, BrokerError) and cls.retryable}
    assert retryable == {"BrokerUnreachableError", "ConnectionLostError"}


def test_topic_payload_and_state_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(TopicError, ValueError)
    assert issubclass(PayloadError, ValueError)
    assert issubclass(StateError, RuntimeError)


@pytest.mark.parametrize("hint", [None, "set MQTT_HOST"])
def test_an_error_says_its_message_and_keeps_the_hint_apart(hint: str | None) -> None:
    error = ConfigError("no host", hint=hint)
    assert (str(error), error.hint) == ("no host", hint)


def test_a_refused_payload_keeps_its_own_copy_of_what_is_wrong_with_it() -> None:
    errors = [{"loc": ("light",), "msg": "Field required", "type": "missing"}]
    error = PayloadError("light: Field required", topic="devices/a/telemetry", errors=errors, handler="store")
    errors[0].clear()
    assert error.errors == [{"loc": ("light",), "msg": "Field required", "type": "missing"}]
    assert (error.topic, error.handler, error.hint) == ("devices/a/telemetry", "store", None)


def test_a_refused_subscription_keeps_its_own_copy_of_the_codes() -> None:
    codes = {"a/#": 0x80}
    error = SubscriptionRefusedError("refused", endpoint="localhost:1883", filters=codes)
    codes.clear()
    assert (error.endpoint, error.filters) == ("localhost:1883", {"a/#": 0x80})


@pytest.mark.parametrize(
    ("username", "shown"),
    [("alice", "alice"), ("alice:tulip", "alice:..."), ("alice:", "alice:"), (":tulip:x", ":..."), ("", "")],
)
def test_what_follows_the_colon_of_a_user_name_is_not_shown(username: str, shown: str) -> None:
    assert errors.shown_username(username) == shown
