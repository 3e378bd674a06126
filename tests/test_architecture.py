"""The layers of the house: who may import whom, and what a start-up may load."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "plantops_cli"

# A room may import itself and lower floors; cli is above demo because a command runs the wing that it names.
FLOORS = {
    "errors": 0,
    "topics": 1,
    "quantities": 1,
    "addresses": 1,
    "messages": 2,
    "credentials": 3,
    "envfile": 3,
    "config": 4,
    "stream": 5,
    "mosquitto": 6,
    "fleet": 7,
    "doctor": 7,
    "formats": 6,
    "outputs": 7,
    "demo": 8,
    "fastapi": 8,
    "metrics": 8,
    "testing": 8,
    "pytest_plugin": 9,
    "cli": 9,
    "__main__": 10,
}
ONLY_IMPORTERS = {
    "aiohappyeyeballs": ("stream.staggering",),
    "aiomqtt": ("stream.client",),
    "amqtt": ("demo",),
    "dotenv": ("envfile",),
    "fastapi": ("fastapi",),
    "paho": ("stream.client",),
    "prometheus_client": ("metrics",),
    "pydantic": ("config", "stream.handling.binding", "cli.check.contract"),
    "pydantic_settings": ("config",),
    "pytest": ("pytest_plugin",),
}
# The trial writes too, but only into a folder of its own
ONLY_WRITERS = {
    "mosquitto.files.rewrite",
    "mosquitto.files.in_place",
    "mosquitto.files.lock",
    "mosquitto.broker.trial",
}
# A room that is pure is pure as a whole: what is added to it is, too
PURE = {
    "addresses",
    "errors",
    "topics",
    "quantities",
    "messages",
    "formats.keyvalue",
    "formats.markdown",
    "formats.spreadsheet",
    "formats.terminal",
    "stream.asking",
    "stream.backoff",
    "stream.batch",
    "stream.exactly_once",
    "stream.failures",
    "stream.framing",
    "stream.greeting",
    "stream.handling.binding",
    "stream.handling.handlers",
    "stream.handling.lane",
    "stream.handling.ledger",
    "stream.handling.parameters",
    "stream.handling.policy",
    "stream.handling.registration",
    "stream.inbox",
    "stream.packets",
    "stream.publishing",
    "stream.reconnection",
    "stream.unconnected",
    "stream.words",
    "mosquitto.text",
    "demo.plants",
    "fleet.device",
    "fleet.judging",
    "fleet.snapshot",
    "fleet.sequence",
    "fleet.presence",
    "fleet.roster",
    "fleet.rhythm",
    "fleet.verdict",
    "testing.encoding",
}
FLAG = re.compile(r"(?<![\w-])--[a-z]")
# What they name belongs to other programs
FOREIGN_FLAGS = {"--config-file": "mosquitto", "--property": "systemctl", "--format": "docker inspect"}
IO_MODULES = {
    "asyncio",
    "fcntl",
    "getpass",
    "io",
    "os",
    "pathlib",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
}
# Not to open anything, but to know the classes of their errors
FOR_ERRORS_ONLY = {("stream.unconnected", "socket"), ("stream.unconnected", "ssl")}
# Within mosquitto/ a room knows those below it: grammar < files < broker < the order of events
MOSQUITTO_FLOORS = {
    "mosquitto.text": 0,
    "mosquitto.files": 1,
    "mosquitto.broker": 2,
    "mosquitto.provisioning": 3,
    "mosquitto.startup": 4,
}
# What stands behind the doors of a wing: nobody outside of it imports these
BEHIND_DOORS = {
    "demo.auth",
    "demo.embedded",
    "mosquitto.broker.preflight",
    "mosquitto.broker.process",
    "mosquitto.broker.trial",
    "mosquitto.files.in_place",
    "mosquitto.files.lock",
    "mosquitto.files.rewrite",
    "mosquitto.files.traits",
    "mosquitto.text.lines",
}
# A command is at home in a folder of its own, and runs no other; demo is listen on a broker of its own
RUNS_ANOTHER = {"cli.demo": "cli.listen"}
MOST_LINES = 600
# Each command has these, in a folder of its own; any other name says what is in the file
NAMES_OF_COMMANDS = {"command.py", "run.py"}

OS_WRITERS = {
    "chmod",
    "chown",
    "link",
    "open",
    "remove",
    "rename",
    "replace",
    "symlink",
    "truncate",
    "unlink",
}
PATH_WRITERS = {"chmod", "rename", "touch", "unlink", "write_bytes", "write_text"}


def is_within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def is_pure(module: str) -> bool:
    return any(is_within(module, room) for room in PURE)


def imports(module: str, tree: ast.AST) -> Iterator[str]:
    """Every imported name, absolute, also those inside functions and TYPE_CHECKING blocks."""
    package = f"plantops_cli.{module}".rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{home}.{alias.name}" for alias in node.names)


def imports_when_run(module: str, tree: ast.AST) -> Iterator[str]:
    """Every imported name but those of TYPE_CHECKING blocks, which only a type checker follows."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    yield from imports(module, tree)


def opens_to_write(call: ast.Call) -> bool:
    """A literal among the arguments of ``open`` is a mode when it is made of the letters of modes only."""
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    literals = [str(value.value) for value in values if isinstance(value, ast.Constant)]
    return any(set(text) <= set("rwaxbt+") and set(text) & set("wax+") for text in literals)


def is_write(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Name("os"), attr=name):
            return name in OS_WRITERS
        case ast.Attribute(attr="open") | ast.Name("open"):
            return opens_to_write(call)
        case ast.Attribute(attr=name):
            return name in PATH_WRITERS
    return False


def breaches(module: str, source: str) -> list[str]:
    """What a module does against the rules, in words; empty when nothing.

    Args:
        module: its dotted name below ``plantops_cli``.
        source: its text.
    """
    tree = ast.parse(source)
    found = [f"{module} {why}" for name in imports(module, tree) if (why := import_breach(module, name))]
    if is_pure(module):
        names = imports_when_run(module, ast.parse(source))
        found += [f"{module} {why}" for name in names if (why := purity_breach(module, name))]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    if is_within(module, "mosquitto") and module not in ONLY_WRITERS:
        found += [f"{module} writes a file in line {call.lineno}" for call in calls if is_write(call)]
    return found


def import_breach(module: str, name: str) -> str | None:
    top, _, rest = name.partition(".")
    if top == "plantops_cli":
        room, target = module.split(".")[0], rest.split(".")[0]
        if room != target and FLOORS[room] <= FLOORS.get(target, 99):
            return f"imports {name}, which is not below it"
        if room != target and any(is_within(rest, hidden) for hidden in BEHIND_DOORS):
            return f"imports {name}, which stands behind the doors of {target}"
        if room == target and mosquitto_floor(module) < mosquitto_floor(rest):
            return f"imports {name}, which is not below it"
        if room == target == "cli" and (command := command_of(rest)) and not knows_command(module, command):
            return f"imports {name}, which belongs to another command"
    importers = ONLY_IMPORTERS.get(top, (module,))
    if not any(is_within(module, importer) for importer in importers):
        return f"imports {top}, which only {' and '.join(importers)} may"
    return None


def command_of(module: str) -> str | None:
    """The folder of the command that a module belongs to, or None."""
    folder = ".".join(module.split(".")[:2])
    is_command = folder != "cli.shared" and (PACKAGE.joinpath(*folder.split(".")) / "run.py").exists()
    return folder if is_command else None


def knows_command(module: str, command: str) -> bool:
    own = command_of(module)
    return module == "cli.app" or own == command or RUNS_ANOTHER.get(own or "") == command


def mosquitto_floor(module: str) -> int:
    return next((floor for room, floor in MOSQUITTO_FLOORS.items() if is_within(module, room)), 0)


def purity_breach(module: str, name: str) -> str | None:
    """Say why a pure module may not import this, or None.

    It imports pure modules only, and so do they: hence nothing that it leads to does any I/O.
    """
    top, _, rest = name.partition(".")
    if top in IO_MODULES and (module, top) not in FOR_ERRORS_ONLY:
        return f"is pure, yet imports {top}"
    if top == "plantops_cli" and not is_pure(rest):
        return f"is pure, yet imports {name}, which is not"
    return None


def texts(source: str) -> Iterator[str]:
    """Every literal text, also the pieces of an f-string, and the documentation."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def modules() -> list[str]:
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    dotted = (".".join(path.parts).removesuffix(".__init__") for path in paths)
    return sorted(set(dotted) - {"__init__"})  # the front door hands on names from everywhere, lazily


def files() -> list[Path]:
    """The files that hold code, from the package's folder: all but the doors."""
    paths = (path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")))
    return [path for path in paths if path.name not in ("__init__.py", "__main__.py")]


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def mirror_of(path: Path) -> Path:
    """Where the tests of a module stand: ``a/b/c.py`` in ``tests/a/b/test_c.py``."""
    return ROOT / "tests" / path.parent / f"test_{path.name}"


def shared_names(paths: Iterable[Path]) -> set[str]:
    """The names that several files have, but for those that every command has."""
    counted = Counter(path.name for path in paths)
    return {name for name, count in counted.items() if count > 1} - NAMES_OF_COMMANDS


def things(source: str) -> Iterator[str]:
    """The public classes, aliases and constants of a module: what begins with a capital at its top level."""
    for node in ast.parse(source).body:
        match node:
            case ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case ast.Assign(targets=targets):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            case _:
                names = []
        yield from (name for name in names if name[0].isupper())


def doubles(sources: Iterable[str]) -> set[str]:
    """The names that several modules have for a thing of their own."""
    counted = Counter(name for source in sources for name in things(source))
    return {name for name, count in counted.items() if count > 1}


def source_of(module: str) -> str:
    path = PACKAGE.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


def loaded_by(*arguments: str) -> set[str]:
    """The top-level and dotted names of all modules that a fresh interpreter imports while it runs."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    timed = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 0, "\n".join(said)
    return {line.rpartition("|")[2].strip() for line in timed}


@pytest.mark.parametrize("module", modules())
def test_a_module_keeps_to_its_floor_and_its_trade(module: str) -> None:
    assert breaches(module, source_of(module)) == []


@pytest.mark.parametrize("module", modules())
def test_whoever_calls_itself_pure_is_held_to_it(module: str) -> None:
    says_so = re.search(r"\bpure\b", ast.get_docstring(ast.parse(source_of(module))) or "", re.IGNORECASE)
    assert is_pure(module) or not says_so


@pytest.mark.parametrize("path", files(), ids=dotted)
def test_every_module_has_its_test_file(path: Path) -> None:
    file = mirror_of(path)
    assert "def test_" in (file.read_text() if file.exists() else "")


@pytest.mark.parametrize("path", files(), ids=dotted)
def test_no_module_is_too_long_to_be_one_thing(path: Path) -> None:
    lines = len((PACKAGE / path).read_text().splitlines())
    assert lines <= MOST_LINES


def test_no_two_modules_share_a_name() -> None:
    assert shared_names(files()) == set()


def test_the_checker_sees_a_shared_name() -> None:
    paths = [
        Path("demo/broker.py"),
        Path("mosquitto/broker/broker.py"),
        Path("cli/a/run.py"),
        Path("cli/b/run.py"),
    ]
    assert shared_names(paths) == {"broker.py"}


def test_no_two_modules_have_things_of_one_name() -> None:
    assert doubles(source_of(module) for module in modules()) == set()


@pytest.mark.parametrize(
    "source",
    [
        "class Port: ...",
        "Port = Annotated[int, option('--port')]",
        "Port: TypeAlias = int",
        "import typer\n\nPort = 1883",
    ],
)
def test_the_checker_sees_two_things_of_one_name(source: str) -> None:
    assert doubles(["class Port: ...", source]) == {"Port"}


@pytest.mark.parametrize(
    "source",
    [
        "from plantops_cli.config import Port",
        "_Port = int",
        "port = 1883",
        "def serve() -> None:\n    Port = int",
        "class Listener:\n    Port = int",
    ],
)
def test_a_name_that_others_have_may_be_imported_or_kept_private(source: str) -> None:
    assert doubles(["class Port: ...", source]) == set()


def test_a_test_file_stands_where_its_module_does() -> None:
    assert mirror_of(Path("mosquitto/text/acl.py")) == ROOT / "tests" / "mosquitto" / "text" / "test_acl.py"
    assert mirror_of(Path("topics.py")) == ROOT / "tests" / "test_topics.py"


@pytest.mark.parametrize("module", modules())
def test_every_room_has_a_floor(module: str) -> None:
    assert module.split(".")[0] in FLOORS


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("topics", "from plantops_cli.messages import Message"),
        ("topics", "from . import messages"),
        ("formats.pretty", "def late():\n    import plantops_cli.fleet.roster"),
        ("stream.session", "from plantops_cli import MQTTSubscriber"),
        ("cli.listen.command", "import aiomqtt"),
        ("stream.session", "from aiomqtt import Client"),
        ("stream.reading", "from paho.mqtt import client"),
        ("formats.jsonl", "from paho.mqtt import client"),
        ("cli.shared.command", "from pydantic_settings import BaseSettings"),
        ("fleet.device", "from pydantic import BaseModel"),
        ("stream.handling.parameters", "def late():\n    from pydantic import TypeAdapter"),
        ("cli.shared.run", "from plantops_cli.cli.listen.summary import Summary"),
        ("cli.fleet.run", "from plantops_cli.cli.listen.run import Listening"),
        ("stream.backoff", "import asyncio"),
        ("mosquitto.text.passwords", "from os import path"),
        ("mosquitto.text.of_tomorrow", "import subprocess"),
        ("mosquitto.text.dynsec", "def late():\n    import shutil"),
        ("mosquitto.text.logins", "from plantops_cli.credentials import shown_username"),
        ("fleet.presence", "from plantops_cli.stream.status import Health"),
        ("mosquitto.files.rewrite", "from plantops_cli.mosquitto.broker.broker import find_broker"),
        ("mosquitto.broker.proof", "from plantops_cli.mosquitto.provisioning import Request"),
        ("cli.provision_user.run", "from plantops_cli.mosquitto.files.rewrite import rewrite"),
        ("fastapi", "from plantops_cli.mosquitto.files import lock"),
        ("mosquitto.broker.broker", "open(pid_file, 'w')"),
        ("mosquitto.broker.broker", "pid_file.open(mode='ab')"),
        ("mosquitto.broker.broker", "os.replace(new, old)"),
        ("mosquitto.broker.broker", "path.write_bytes(b'')"),
    ],
)
def test_the_checker_sees_a_breach(module: str, source: str) -> None:
    assert len(breaches(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("topics", "from plantops_cli.errors import TopicError"),
        ("stream.subscriber", "from plantops_cli.stream.session import Session"),
        ("stream.client", "import aiomqtt, paho.mqtt.client"),
        ("stream.handling.binding", "def late():\n    from pydantic import TypeAdapter"),
        ("cli.demo.command", "from plantops_cli.demo.brokers import embedded_broker"),
        ("cli.demo.run", "from plantops_cli.cli.listen.run import Listening"),
        ("cli.app", "from plantops_cli.cli.listen.command import listen"),
        ("cli.fleet.run", "from plantops_cli.cli.shared.run import StreamRun"),
        ("mosquitto.files.rewrite", "os.replace(new, old)"),
        ("mosquitto.text.passwords", "line.replace('a', 'w')"),
        ("mosquitto.text.dynsec", "from plantops_cli.mosquitto.text.actions import Action"),
        ("mosquitto.text.acl", "from plantops_cli.topics import check_filter"),
        ("messages", "if TYPE_CHECKING:\n    from pathlib import Path"),
        ("mosquitto.broker.broker", "from plantops_cli.mosquitto.files.conf_file import read_config"),
        ("cli.provision_user.run", "from plantops_cli.mosquitto.text import hashing"),
        ("mosquitto.broker.broker", "open(pid_file)"),
    ],
)
def test_the_checker_lets_good_code_pass(module: str, source: str) -> None:
    assert breaches(module, source) == []


@pytest.mark.parametrize(
    "module",
    [name for name in modules() if not is_within(name, "cli")],
)
def test_no_library_text_names_a_flag(module: str) -> None:
    assert [text for text in texts(source_of(module)) if FLAG.search(text) and text not in FOREIGN_FLAGS] == []


@pytest.mark.parametrize("text", ["leave --qos out", "--url: no host", "(--tls)", "``--file``", "check -h/--host"])
def test_a_flag_is_seen_in_a_text(text: str) -> None:
    assert FLAG.search(text)


@pytest.mark.parametrize("text", ["a -- b", "-----BEGIN CERTIFICATE-----", "qos=0", "well--known", "mosquitto -c"])
def test_what_is_no_flag_is_not_seen_as_one(text: str) -> None:
    assert not FLAG.search(text)


def test_importing_the_package_loads_no_library() -> None:
    loaded = loaded_by("-c", "import plantops_cli")
    assert "plantops_cli" in loaded
    assert not loaded & {
        "typer",
        "rich",
        "pydantic_settings",
        "pydantic",
        "aiomqtt",
        "paho",
        "orjson",
        "asyncio",
    }


def test_parse_topic_loads_neither_client_nor_settings() -> None:
    loaded = loaded_by("-m", "plantops_cli", "parse-topic", "devices/abc/telemetry")
    assert "plantops_cli.topics" in loaded
    assert not loaded & {"aiomqtt", "paho", "pydantic_settings"}


def test_who_only_listens_keeps_no_account_of_a_fleet() -> None:
    loaded = loaded_by("-c", "import plantops_cli.cli.listen.run")
    assert "plantops_cli.stream.subscriber" in loaded
    assert not {name for name in loaded if name.startswith("plantops_cli.fleet")}


def test_check_says_why_flags_are_refused_without_the_client() -> None:
    loaded = loaded_by("-c", "import plantops_cli.cli.check.failure, plantops_cli.cli.check.answer")
    assert not loaded & {"aiomqtt", "paho", "pydantic_settings"}


def test_only_a_handler_with_types_loads_pydantic() -> None:
    bind = (
        "from plantops_cli import MQTTSubscriber; from plantops_cli.topics import parse_pattern\n"
        "from plantops_cli.stream.handling.binding import bind\n"
        "for handler in (lambda message: None, lambda device_id: None):\n"
        "    bind(handler, parse_pattern('devices/{device_id}/telemetry'))\n"
    )
    assert "pydantic" not in loaded_by("-c", bind)
    typed = "def handle(reading: dict[str, float]): ...\nbind(handle, parse_pattern('#'))"
    assert "pydantic" in loaded_by("-c", bind + typed)


def test_who_has_no_handlers_loads_nothing_that_calls_them() -> None:
    loaded = loaded_by("-c", "from plantops_cli import MQTTSubscriber; MQTTSubscriber('localhost')")
    assert "plantops_cli.stream.handling.feeding" in loaded
    assert not loaded & {f"plantops_cli.stream.handling.{name}" for name in ("dispatcher", "worker", "threads")}
