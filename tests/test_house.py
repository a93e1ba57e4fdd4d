"""The rules of the house, held by tests: who imports whom, sizes, names, clocks, and what must not stand in any file."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import brokerkit

ROOT = Path(__file__).parent.parent
CONTRACT = {f"brokerkit.{name}" for name in ("abc", "models", "capabilities", "errors", "options", "tls", "url")}
# What the contract may share in private: leaves, which import nothing of brokerkit but each other.
LEAVES = {"brokerkit._text", "brokerkit._secrets"}
# The only third-party imports of the core: where, and which.
OUTSIDE = {
    "brokerkit.serialization": {"kombu"},
    "brokerkit._compressing": {"kombu"},
    "brokerkit.cli": {"rich", "typer", "click"},
}
FORBIDDEN_WORDS = {"manager", "helper", "utils", "common", "base", "data", "info", "process"}
TOP_LEVEL = {
    "pyproject.toml",
    "brokerkit",
    "plugins",
    "conformance",
    "tests",
    "docs",
    "README.md",
    "LICENSE",
    "Makefile",
}


@cache
def tracked() -> tuple[Path, ...]:
    """All files that are, or are about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return tuple(sorted(path for name in listed.split("\0") if name and (path := ROOT / name).is_file()))


def python(*, shipped: bool) -> list[Path]:
    """The Python files: the shipped ones, or those of the tests and tools."""
    found = [path for path in tracked() if path.suffix == ".py"]
    return [path for path in found if shipped == ((module_of(path) or "tests").partition(".")[0] != "tests")]


def module_of(path: Path) -> str | None:
    """The dotted name of a shipped module; None for tests and scripts."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[{"plugins": 2, "conformance": 1}.get(parts[0], 0) :]
    if not parts or not parts[0].startswith("brokerkit"):
        return None
    return ".".join(parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it; `from a import b` gives a.b where that is a module of ours."""
    ours = {module_of(one) for one in tracked() if one.suffix == ".py"}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in ours else str(node.module)


def shown(path: Path, node: ast.AST | None = None) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


# ------------------------------------------------------------------------------------------------------------- imports


def test_the_contract_imports_only_itself_and_leaves() -> None:
    for path in python(shipped=True):
        module = module_of(path)
        allowed = CONTRACT | LEAVES if module in CONTRACT else LEAVES if module in LEAVES else None
        if allowed is not None:
            ours = {name for name in imports(path) if name.partition(".")[0].startswith("brokerkit")}
            assert ours <= allowed, module
    assert {module_of(path) for path in python(shipped=True)} >= CONTRACT | LEAVES


def test_the_core_imports_no_plugin_and_no_client() -> None:
    for path in python(shipped=True):
        module = module_of(path) or ""
        if module.partition(".")[0] == "brokerkit":
            names = {name.partition(".")[0] for name in imports(path)} - {"brokerkit"}
            allowed = next((names_ for part, names_ in OUTSIDE.items() if f"{module}.".startswith(f"{part}.")), set())
            assert names - set(sys.stdlib_module_names) <= allowed, module


def test_kombu_serves_for_its_registries_alone() -> None:
    used = {
        f"{node.module}.{alias.name}"
        for path in python(shipped=True)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "kombu"
        for alias in node.names
    }
    assert used
    assert [
        name for name in used if not re.match(r"kombu\.(serialization|compression|exceptions|utils\.json)\b", name)
    ] == []


_SUITE = {"brokerkit_conformance", "brokerkit.servers"}
_BENCH = {"brokerkit", "brokerkit.results", "brokerkit.servers"}
_BENCH |= {f"brokerkit.bench.{name}" for name in ("contract", "kombu_peer", "ours", "result_cells")}


def test_a_plugin_imports_only_the_contract() -> None:
    plugins = [path for path in python(shipped=True) if path.is_relative_to(ROOT / "plugins")]
    assert plugins
    for path in plugins:
        own = (module_of(path) or "").partition(".")[0]
        ours = {name for name in imports(path) if name.partition(".")[0].startswith("brokerkit")}
        # the harness is imported by the suite alone, and the benchmark by its command, which measures all of brokerkit
        apart = dict.fromkeys(("conformance", "detours", "foreign", "harness"), _SUITE)
        apart |= dict.fromkeys(("bench", "bench_extras", "bench_rivals"), _BENCH)
        allowed = CONTRACT | apart.get(path.stem, set())
        assert {name for name in ours if name.partition(".")[0] != own} <= allowed, shown(path)


def test_the_suite_imports_only_public_names() -> None:
    # a mutant has to break what is private: the one exception
    mutants = ROOT / "conformance" / "brokerkit_conformance" / "mutants"
    suite = [
        p for p in python(shipped=True) if p.is_relative_to(ROOT / "conformance") and not p.is_relative_to(mutants)
    ]
    assert suite
    for path in suite:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "brokerkit":
                words = [*str(node.module).split("."), *(alias.name for alias in node.names)]
                assert not [word for word in words if word.startswith("_")], shown(path, node)
            if isinstance(node, ast.Import):
                assert not [a.name for a in node.names if a.name.startswith("brokerkit._")], shown(path, node)


def test_no_scheme_is_special_in_the_core() -> None:
    for path in python(shipped=True):
        if path.is_relative_to(ROOT / "brokerkit"):
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.Compare) and any(isinstance(part, ast.Constant) for part in node.comparators):
                    left = ast.unparse(node.left)
                    assert not re.search(r"\b(full_)?scheme$", left), shown(path, node)


# --------------------------------------------------------------------------------------------------------------- sizes


def test_no_shipped_file_is_longer_than_400_lines() -> None:
    lengths = {shown(path): len(path.read_text().splitlines()) for path in python(shipped=True)}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = {}
    for path in python(shipped=True):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                length = (node.end_lineno or 0) - first.lineno + 1
                if length > 50:
                    long[f"{shown(path, node)} {node.name}"] = length
    assert long == {}


# --------------------------------------------------------------------------------------------------------------- names


def words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)}


def test_words_are_split_as_people_read_them() -> None:
    assert words("_SQLAlchemyBase_of2Data") == {"sql", "alchemy", "base", "of", "2", "data"}
    assert words("database_metadata") == {"database", "metadata"}


def test_no_module_class_or_function_has_a_name_that_says_nothing() -> None:
    found = []
    for path in python(shipped=True):
        names = [(shown(path), str(module_of(path)))]
        names += [
            (shown(path, node), node.name)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        found += [f"{where} {name}" for where, name in names if words(name) & FORBIDDEN_WORDS]
    assert found == []


def test_a_public_module_lists_exactly_what_is_public_in_it() -> None:
    wrong = {}
    for path in python(shipped=True):
        module = module_of(path) or ""
        if not any(part.startswith("_") for part in module.split(".")) and path.name != "__main__.py":
            defined, listed = public_names(tree(path))
            imported = {a.asname or a.name for n in tree(path).body if isinstance(n, ast.ImportFrom) for a in n.names}
            lazy = [n for n in tree(path).body if isinstance(n, ast.FunctionDef) and n.name == "__getattr__"]
            imported |= {n.value for f in lazy for n in ast.walk(f) if isinstance(n, ast.Constant)}
            # the suite's cases, commands and hooks are found by their decorators and names, not by import
            found_otherwise = path.is_relative_to(ROOT / "conformance")
            amiss = (listed - defined - imported) | (set() if found_otherwise else defined - listed)
            wrong |= {module: amiss} if amiss else {}
    assert wrong == {}


def public_names(module: ast.Module) -> tuple[set[str], set[str]]:
    """The names defined at the top of a module without an underscore (type variables aside), and its `__all__`."""
    defined: set[str] = set()
    listed: set[str] = set()
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            if names == {"__all__"}:
                listed |= set(ast.literal_eval(node.value))
            elif not ast.unparse(node.value).startswith(("TypeVar(", "ParamSpec(", "logging.getLogger(")):
                defined |= names
    return {name for name in defined if not name.startswith("_")}, listed


def test_every_public_name_of_brokerkit_is_there_and_documented() -> None:
    assert sorted(set(brokerkit.__all__)) == sorted(brokerkit.__all__)
    assert "connect" in brokerkit.__all__
    for name in brokerkit.__all__:
        public = getattr(brokerkit, name)
        if inspect.isclass(public) or inspect.isroutine(public):
            assert public.__doc__, name
            members = vars(public).items() if inspect.isclass(public) else ()
            for member, value in members:
                if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                    assert inspect.getdoc(getattr(public, member)), f"{name}.{member}"


# -------------------------------------------------------------------------------------------------------------- clocks


def test_only_the_clock_looks_at_the_time_and_nobody_sleeps() -> None:
    suite = ROOT / "conformance"  # drives real servers in real time, and reads the time to measure
    for path in [*python(shipped=True), *python(shipped=False)]:
        shipped = module_of(path) is not None and not path.is_relative_to(suite)
        banned = {"time.sleep", "asyncio.sleep"} | ({"time.time", "time.time_ns", "datetime.now"} if shipped else set())
        if path == ROOT / "brokerkit" / "_clock.py":
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert not any(called == name or called.endswith(f".{name}") for name in banned), shown(path, node)
            if isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio"):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                assert names.isdisjoint(banned), shown(path, node)


# --------------------------------------------------------------------------------------------------------------- files

# Put together here, so that this file does not hold them itself.
FORBIDDEN_TEXTS = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "pypi" + ".python.org",
    "npmjs" + ".",
    "/work/" + "main",
    "/work/" + "shared",
    "/tmp/" + "brief",
    "/root/" + ".pyenv",
]
WRONG_INSTALL = re.compile(r"(?:pip3?|uv|uv pip|pipx) (?:install|add) (?:-\S+ )*['\"]?" + "broker" + r"kit(?![-\w])")


def test_no_file_names_a_package_registry_a_workplace_or_the_wrong_package() -> None:
    found = []
    for path in tracked():
        text = path.read_bytes().decode(errors="replace")
        found += [f"{shown(path)} has {forbidden}" for forbidden in FORBIDDEN_TEXTS if forbidden in text]
        found += [f"{shown(path)} has {wrong}" for wrong in WRONG_INSTALL.findall(text)]
    assert found == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("pip install " + "broker" + "kit", True),
        ("uv add '" + "broker" + "kit[redis]'", True),
        ("pip install -U " + "broker" + "kit\n", True),
        ("pip install 'broker" + "kit-messaging[redis]'", False),
        ("pip install broker" + "kit-conformance", False),
    ],
)
def test_the_wrong_package_is_recognised(line: str, *, wrong: bool) -> None:
    assert bool(WRONG_INSTALL.search(line)) is wrong


def test_nothing_unexpected_stands_at_the_top() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL
    assert {name for name in names if name.startswith(".")} <= {".ci", ".gitignore", ".gitattributes", ".editorconfig"}


# ---------------------------------------------------------------------------------------------------------------- pins


def pins() -> dict[str, Requirement]:
    """The pinned versions that hold for this Python, by name."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    parsed = [Requirement(text) for text in tool["constraint-dependencies"]]
    return {canonicalize_name(one.name): one for one in parsed if one.marker is None or one.marker.evaluate()}


def test_every_installed_package_is_pinned_to_its_version() -> None:
    ours = {
        canonicalize_name(tomllib.loads(path.read_text())["project"]["name"])
        for path in tracked()
        if path.name == "pyproject.toml"
    }
    installed = {canonicalize_name(one.name): one.version for one in importlib.metadata.distributions()}
    expected = {
        name: version for name, version in installed.items() if name not in {*ours, "pip", "setuptools", "wheel"}
    }
    pinned = pins()
    assert {name: f"=={version}" for name, version in expected.items()} == {
        name: str(pinned[name].specifier) if name in pinned else "not pinned" for name in expected
    }


def test_every_pin_is_exact() -> None:
    assert [
        str(pin) for pin in pins().values() if not re.fullmatch(r"==[0-9][0-9.]*(post[0-9]+)?", str(pin.specifier))
    ] == []


def test_no_lock_file_is_kept_as_it_names_hosts() -> None:
    assert "uv.lock" in (ROOT / ".gitignore").read_text().split()
    assert not [path for path in tracked() if path.name == "uv.lock"]
