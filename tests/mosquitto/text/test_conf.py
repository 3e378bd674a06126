"""mosquitto.conf as text, and what a real broker opens for it."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.text.conf import BrokerConfig, Listener, included_names, interpret, parse_directives
from tests.support.brokers import free_port

DEBIAN = b"""# Place your local configuration in /etc/mosquitto/conf.d/
#
# A full description of the configuration file is at
# /usr/share/doc/mosquitto/examples/mosquitto.conf.example

pid_file /run/mosquitto/mosquitto.pid

persistence true
persistence_location /var/lib/mosquitto/

log_dest file /var/log/mosquitto/mosquitto.log

include_dir /etc/mosquitto/conf.d
"""
DYNSEC = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so"
START_SECONDS = 10.0


def config(text: str | bytes) -> BrokerConfig:
    content = text.encode() if isinstance(text, str) else text
    return interpret("conf", parse_directives(content, "conf"))


def opened_by_broker(text: str, folder: Path) -> set[str]:
    """Start a broker and return the ports and Unix sockets that it opened; empty when it refused the file."""
    executable = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/sbin")
    assert executable, "mosquitto is not installed"
    (folder / "conf").write_text(f"user root\npersistence false\n{text}")
    with (folder / "log").open("wb") as log:
        broker = subprocess.Popen([executable, "-v", "-c", "conf"], cwd=folder, stdout=log, stderr=log)
    deadline = time.monotonic() + START_SECONDS
    try:
        while broker.poll() is None and "running" not in (folder / "log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        found = re.findall(r"Opening .* socket on (?:port|path) (\S+)\.", (folder / "log").read_text())
        return set(found) if broker.poll() is None else set()
    finally:
        broker.kill()
        broker.wait(timeout=10)


def test_debians_configuration_is_a_broker_on_the_loopback_that_anybody_may_use() -> None:
    broker = config(DEBIAN)
    assert (broker.user, broker.pid_file) == ("mosquitto", "/run/mosquitto/mosquitto.pid")
    assert broker.listeners == (Listener(port=1883, address="127.0.0.1", allow_anonymous=True),)
    assert broker.allow_anonymous
    assert [(item.name, item.line) for item in broker.directives][-1] == ("include_dir", 13)
    assert (broker.password_files, broker.acl_files, broker.plugins, broker.has_dynsec) == ((), (), (), False)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (b"user a", "user", "a"),
        (b"user a\r\n", "user", "a"),
        (b"  user   a b \t\n", "user", "a b"),
        (b"user \ta\n", "user", "a"),
        (b"user\n", "user", ""),
        (b" # x\n", "#", "x"),
        (b"user\ta\n", "user\ta", ""),
        (b"include_dir  a \n", "include_dir", " a "),
        (b"user \xff\n", "user", "\udcff"),
    ],
)
def test_a_line_is_a_name_a_space_and_a_value(line: bytes, name: str, value: str) -> None:
    (directive,) = parse_directives(b"\n# c\n\n" + line, "f")
    assert tuple(directive) == (name, value, "f", 4)


def test_values_of_options_are_in_no_repr() -> None:
    broker = config("remote_password s3cr3t\nlistener 1883\nplugin /x.so\nplugin_opt_password s3cr3t\n")
    assert broker.plugins[0].options["password"] == "s3cr3t"
    assert "s3cr3t" not in repr(broker) + repr(broker.directives)


@pytest.mark.parametrize(
    ("text", "listeners"),
    [
        ("", [(1883, "127.0.0.1", None, True)]),
        ("allow_anonymous false\n", [(1883, "127.0.0.1", None, False)]),
        ("listener 1884\n", [(1884, None, None, False)]),
        ("listener 1884 ::\nallow_anonymous true\n", [(1884, "::", None, True)]),
        ("listener 1884x  10.0.0.1  # x\n", [(1884, "10.0.0.1", None, False)]),
        ("listener 1884 # x\n", [(1884, None, None, False)]),
        ("listener 0 /run/m.sock\n", [(0, None, "/run/m.sock", False)]),
        ("listener 1\nlistener 2\n", [(1, None, None, False), (2, None, None, False)]),
        ("port 1884\n", [(1884, None, None, False)]),
        ("bind_address 10.0.0.1\n", [(1883, "10.0.0.1", None, False)]),
        ("listener 1\nport 2\nbind_address a\n", [(1, None, None, False), (2, "a", None, False)]),
        (
            "listener 1\nlistener_allow_anonymous true\nlistener 2\n",
            [(1, None, None, True), (2, None, None, False)],
        ),
    ],
)
def test_listeners_are_those_that_the_broker_opens(
    text: str, listeners: list[tuple[int, str | None, str | None, bool]]
) -> None:
    found = config(text).listeners
    assert [(item.port, item.address, item.unix_socket, item.allow_anonymous) for item in found] == listeners


@pytest.mark.parametrize(
    "text",
    [
        "listener {one} 127.0.0.1\nlistener {two} 127.0.0.1\nlistener 0 sock et\n",
        "listener  {one}x   127.0.0.1 # x\n",
        "  listener {one} 127.0.0.1  \r\nallow_anonymous 1 # x\r\n",
        "port {one}\nbind_address 127.0.0.1\n",
        "listener {one} 127.0.0.1\nport {two}\nbind_address 127.0.0.1\n",
        "per_listener_settings true\nallow_anonymous true\nlistener {one} 127.0.0.1\n",
        "per_listener_settings true\nacl_file empty\nlistener {one} 127.0.0.1\n",
        "per_listener_settings true\nport {two}\npassword_file empty\nlistener {one} 127.0.0.1\n",
        "listener {one} 127.0.0.1\npassword_file empty\t\n",
    ],
)
def test_the_broker_opens_those_listeners(text: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch(mode=0o600)
    text = text.format(one=free_port(), two=free_port())
    expected = {item.unix_socket or str(item.port) for item in config(text).listeners}
    assert opened_by_broker(text, tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listener abc\n", "line 1: listener has no port from 0"),
        ("\nlistener\n", "line 2: listener has"),
        ("listener 0\n", "line 1: listener has neither"),
        ("listener 65536\n", "no port from 0 to 65535"),
        ("listener -1 a\n", "no port from 0"),
        ("listener 99999999999999999999\n", "no port from 0"),
        ("port 0\n", "no port from 1"),
        ("per_listener_settings maybe\n", "line 1: per_listener_settings is 'maybe', not true or false"),
        ("listener 1883\nallow_anonymous True\n", "line 2: allow_anonymous is 'True'"),
        ("listener 1883\nrequire_certificate\n", "line 2: require_certificate has no value"),
        ("listener 1883\npassword_file\n", "line 2: password_file has no value"),
        ("plugin_opt_x y\n", "line 1: plugin_opt_x stands before any plugin"),
        ("plugin\n", "line 1: plugin has no value"),
        ("listener 1883\nplugin_use x\n", "line 2: plugin_use names a plugin"),
    ],
)
def test_a_value_that_the_broker_does_not_take_is_named_by_file_and_line(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(BrokerFileError, match=re.escape(message)) as refused:
        config(text)
    assert "'conf', line" in str(refused.value)
    assert opened_by_broker(text, tmp_path) == set()


def test_options_that_nobody_needs_here_are_passed_over() -> None:
    assert config("listener 1883\nbogus x\nmax_keepalive 10\n# user x\n").user == "mosquitto"


def test_a_files_name_counts_for_all_listeners_unless_settings_are_their_own() -> None:
    broker = config("listener 1\nlistener 2\npassword_file p\nacl_file a\npsk_file k\n")
    assert [(item.password_file, item.acl_file, item.psk_file) for item in broker.listeners] == [
        ("p", "a", "k")
    ] * 2
    assert (broker.password_files, broker.acl_files) == (("p",), ("a",))
    assert [file.path for file in broker.reload_files if file.kind == "psk"] == ["k"]


def test_with_settings_of_their_own_listeners_have_files_of_their_own() -> None:
    broker = config(
        "per_listener_settings true\nlistener 1\npassword_file p1\nallow_anonymous true\nlistener 2\n"
        "password_file p2\nacl_file a\nlistener 3\nplugin /x.so\nglobal_plugin /y.so\n"
    )
    assert broker.per_listener_settings
    assert broker.password_files == ("p1", "p2")
    assert [item.acl_file for item in broker.listeners] == [None, "a", None]
    assert [item.allow_anonymous for item in broker.listeners] == [True, False, False]
    assert [[plugin.path for plugin in item.plugins] for item in broker.listeners] == [
        *(["/y.so"], ["/y.so"]),
        ["/y.so", "/x.so"],
    ]


def test_the_last_of_two_counts_as_in_2_1_which_alone_allows_two() -> None:
    assert config("listener 1\npassword_file a\npassword_file b\n").password_files == ("b",)


def test_every_file_that_a_reload_reads_is_named_with_its_line() -> None:
    broker = config(
        "listener 8883\ncafile ca\ncapath cas\ncertfile c\nkeyfile k\ncrlfile l\n"
        "listener 8884\ncafile ca\npassword_file p\nacl_file a\npsk_file s\n"
    )
    found = [(file.path, file.kind, file.directive.line) for file in broker.reload_files]
    assert found == [
        *(("p", "password", 9), ("a", "acl", 10), ("s", "psk", 11)),
        *(("ca", "cafile", 2), ("cas", "capath", 3), ("c", "certfile", 4), ("k", "keyfile", 5)),
        *(("l", "crlfile", 6), ("ca", "cafile", 8)),
    ]


def test_the_key_of_an_engine_is_no_file() -> None:
    text = "listener 8883\ncertfile c\ntls_keyform {}\nkeyfile pkcs11:token=broker\n"
    assert [file.kind for file in config(text.format("engine")).reload_files] == ["certfile"]
    assert [file.kind for file in config(text.format("pem")).reload_files] == ["certfile", "keyfile"]


def test_the_file_plugins_of_2_1_name_files_too() -> None:
    broker = config(
        "listener 1883\nplugin /usr/lib/mosquitto_password_file.so\nplugin_opt_password_file p\n"
        "plugin_load acl /usr/lib/mosquitto_acl_file.so\nplugin_opt_acl_file a\nplugin_use acl\n"
    )
    assert (broker.password_files, broker.acl_files, broker.unknown_plugins) == (("p",), ("a",), ())
    assert [(file.kind, file.directive and file.directive.line) for file in broker.reload_files] == [
        ("password", 2),
        ("acl", 4),
    ]


def test_the_dynamic_security_plugin_is_found_with_its_file() -> None:
    broker = config(f"listener 1883\nplugin {DYNSEC}\nplugin_opt_config_file /var/lib/m/d.json\n")
    assert broker.has_dynsec
    assert (broker.dynsec_file, broker.unknown_plugins) == ("/var/lib/m/d.json", ())


@pytest.mark.parametrize("option", ["plugin", "auth_plugin", "global_plugin"])
def test_a_plugin_that_may_decide_about_logins_is_named(option: str) -> None:
    broker = config(f"listener 1883\n{option} /x/go-auth.so\nauth_opt_backends redis\n")
    (plugin,) = broker.unknown_plugins
    assert (plugin.path, plugin.options) == ("/x/go-auth.so", {"backends": "redis"})
    assert (broker.has_dynsec, broker.dynsec_file) == (False, None)


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("", "127.0.0.1:1883"),
        ("0.0.0.0", "127.0.0.1:1883"),
        ("::", "[::1]:1883"),
        ("10.0.0.1", "10.0.0.1:1883"),
        ("localhost", "localhost:1883"),
        ("fe80::1", "[fe80::1]:1883"),
    ],
)
def test_a_listener_on_every_address_is_reached_over_the_loopback(address: str, endpoint: str) -> None:
    assert config(f"listener 1883 {address}\n").listeners[0].endpoint == endpoint


TLS = "certfile c\nkeyfile k\n"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("", None),
        (TLS, None),
        (TLS + "require_certificate true\n", None),
        ("use_identity_as_username true\n", None),
        (TLS + "use_identity_as_username true\n", "looks at no password"),
        (TLS + "use_subject_as_username true\n", "looks at no password"),
        ("protocol websockets\n", "speaks websockets"),
        ("psk_hint x\n", "pre-shared key"),
    ],
)
def test_where_no_password_is_looked_at_no_login_can_be_tried(options: str, why: str | None) -> None:
    (listener,) = config(f"listener 1883\n{options}").listeners
    if why is None:
        assert listener.why_no_login is None
    else:
        assert why in (listener.why_no_login or "")
        assert config(f"listener 1883\n{options}").login_listeners == ()


def test_a_certificate_without_a_key_is_no_tls() -> None:
    assert not config("listener 1883\ncertfile c\n").listeners[0].is_tls
    assert config(f"listener 1883\n{TLS}").listeners[0].is_tls


def test_logins_are_tried_on_the_plain_loopback_first_and_over_tls_last() -> None:
    broker = config(
        f"listener 1\n{TLS}require_certificate true\nlistener 2\n{TLS}listener 3 10.0.0.1\n"
        "listener 0 /s\nlistener 5\nprotocol websockets\nlistener 6 127.0.0.1\n"
    )
    assert [listener.port for listener in broker.login_listeners] == [6, 0, 3, 2, 1]


def test_included_names_are_sorted_as_if_all_were_capitals_and_then_capitals_first() -> None:
    names = [b"b.conf", b"_.conf", b"B.conf", b"a.b.conf", b"A1.conf", b".conf", b"x.CONF", b"\xff.conf", b"1"]
    assert included_names(names) == [b"A1.conf", b"a.b.conf", b"B.conf", b"b.conf", b"_.conf", b"\xff.conf"]


options = st.sampled_from(
    b"listener port user plugin plugin_opt_x plugin_load plugin_use password_file per_listener_settings "
    b"allow_anonymous protocol certfile include_dir bind_address".split()
)
conf_lines = st.one_of(
    st.binary(max_size=20),
    st.builds(
        lambda name, value: name + b" " + value, options, st.sampled_from([b"1", b"0", b"a b", b"true", b""])
    ),
)


@given(st.lists(conf_lines, max_size=12).map(b"\n".join))
@example(b"listener 1\0")
@example(b"listener " + b"9" * 5000)
def test_any_bytes_are_a_configuration_or_refused(content: bytes) -> None:
    try:
        broker = config(content)
    except BrokerFileError as exc:
        message = str(exc)
    else:
        message = repr(broker)
        assert broker.listeners
        assert all(file.path for file in broker.reload_files)
    assert message.isprintable()
