"""The pages of docs/ and CONTRIBUTING.md name what there is."""

import ast
import re
from pathlib import Path

import pytest

from docs.generate import ARCHITECTURE, PACKAGE, ROOT, generate
from plantops_cli import PlainOptions
from plantops_cli.stream.handling.bounds import MAX_THREADS, MAX_UNACKNOWLEDGED
from plantops_cli.stream.handling.feeding import DRAIN_SECONDS
from plantops_cli.stream.inbox import MAX_PENDING_BYTES
from plantops_cli.stream.opening import REACH_SECONDS
from plantops_cli.stream.options import CONNECT_SECONDS
from plantops_cli.stream.session import SILENT_SECONDS
from tests.test_architecture import FLOORS, ONLY_IMPORTERS

SECURITY = (ROOT / "SECURITY.md").read_text()
PAGES = {page.name: page.read_text() for page in (ARCHITECTURE, ROOT / "CONTRIBUTING.md")}
# the package and its tests mirror each other, for which a path may stand as an example
_EXAMPLES = {"plantops_cli/a/b/c.py", "tests/a/b/test_c.py"}
HANDLERS = (ROOT / "docs" / "handlers.md").read_text()
PATH = re.compile(r"`([\w./-]+(?:\.py|\.md|/))`")


def paths_in(text: str) -> list[str]:
    """What stands between backticks and looks like a file or a folder."""
    return [path for path in PATH.findall(text) if path not in _EXAMPLES]


def exists(path: str) -> bool:
    """Whether there is such a path, in the package or beside it; a bare file name may stand in any folder."""
    if "/" not in path:
        return any(any(room.rglob(path)) for room in (PACKAGE, ROOT / "tests")) or (ROOT / path).exists()
    return (PACKAGE / path).exists() or (ROOT / path).exists()


def rooms_and_modules() -> list[str]:
    return sorted({path.parent.name if path.stem == "__init__" else path.stem for path in PACKAGE.rglob("*.py")})


def test_the_readme_tells_how_long_a_connection_may_take() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"an attempt to connect may take {CONNECT_SECONDS:g} s" in readme
    assert f"{REACH_SECONDS:g} s of them until CONNECT is sent" in readme
    assert f"does not answer it for {SILENT_SECONDS:g} s" in readme
    assert f"is silent for {SILENT_SECONDS:g} s." in readme  # in the help
    assert f"a BrokerError within {CONNECT_SECONDS:g} s" in readme


def home_of(module: str) -> str:
    """The path of a module or a package, as the page writes it."""
    path = Path(*module.split("."))
    return f"{path}/" if (PACKAGE / path).is_dir() else f"{path}.py"


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_is_named_exists(page: str) -> None:
    named = paths_in(PAGES[page])
    assert named
    assert [path for path in named if not exists(path)] == []


def test_the_tree_is_up_to_date() -> None:
    text = PAGES["architecture.md"]
    assert text == generate(text), "python -m docs.generate writes it anew"


def test_the_tree_names_every_room_and_every_module() -> None:
    _, _, tree = PAGES["architecture.md"].partition("```text")
    words = set(re.findall(r"\w+", tree.partition("```")[0]))
    assert [name for name in rooms_and_modules() if name not in words] == []


def test_the_table_names_the_importers_of_each_library() -> None:
    rows = re.findall(r"^\| ([\w, ]+) \| (`[\w./`, ]+`) \|$", PAGES["architecture.md"], re.MULTILINE)
    named = {
        library: re.findall(r"[\w./]+", homes) for libraries, homes in rows for library in libraries.split(", ")
    }
    assert named == {library: [*map(home_of, modules)] for library, modules in ONLY_IMPORTERS.items()}


def test_the_floors_are_told_for_every_wing() -> None:
    _, _, told = PAGES["architecture.md"].partition("## Who may import whom")
    wings = [room for room in FLOORS if (PACKAGE / room).is_dir()]
    assert [wing for wing in wings if f"`{wing}/`" not in told] == []


def test_contributing_points_to_the_map_and_says_how_to_add() -> None:
    text = PAGES["CONTRIBUTING.md"]
    assert "docs/architecture.md" in text
    for what in ("a command", "a flag", "an output format"):
        assert f"**To add {what}:**" in text


def existing_tests() -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    trees = (ast.parse(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py"))
    return {node.name for tree in trees for node in tree.body if isinstance(node, functions)}


def promises() -> list[str]:
    """The items of what SECURITY.md promises, each with the names of its tests."""
    _, _, promised = SECURITY.partition("\n## What is promised\n")
    return promised.partition("\n## ")[0].split("\n- ")[1:]


def test_every_promise_of_security_names_its_tests() -> None:
    assert len(promises()) > 20
    assert [promise for promise in promises() if not re.search(r"`test_\w+`", promise)] == []


def test_every_test_that_security_names_exists() -> None:
    assert sorted(set(re.findall(r"`(test_\w+)`", SECURITY)) - existing_tests()) == []


def test_security_is_promised_for_secrets_strangers_files_and_rights_and_not_for_all() -> None:
    headings = re.findall(r"^###? (.+)$", SECURITY, re.MULTILINE)
    assert headings == [
        "To report a weakness",
        "What is promised",
        *("Secrets", "Untrusted bytes", "Files", "Rights"),
        "What is not promised",
    ]


def test_a_weakness_is_reported_to_no_address_that_was_made_up() -> None:
    assert re.findall(r"\S+@\S+|https?://\S+", SECURITY) == []


def test_the_page_on_handlers_has_a_row_for_each_option() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", HANDLERS, re.MULTILINE)
    assert sorted(rows) == sorted(PlainOptions.__annotations__)


@pytest.mark.parametrize(
    "bound",
    [
        f"`max_unacknowledged` ({MAX_UNACKNOWLEDGED})",
        f"`max_threads` ({MAX_THREADS})",
        f"`max_pending_bytes` of messages ({MAX_PENDING_BYTES >> 20} MiB",
        f"Handlers get {DRAIN_SECONDS:g} s",
    ],
)
def test_the_page_on_handlers_gives_the_bounds_that_hold(bound: str) -> None:
    assert bound in " ".join(HANDLERS.split())
