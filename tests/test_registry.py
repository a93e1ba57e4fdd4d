"""The laws of plugins (LAWS.md, URL-01 to -03): lazily found, conflicts named, a broken one harms only itself.

The distributions are real folders on `sys.path`, as an installer would leave them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from brokerkit import registry
from brokerkit.abc import ResultBackend, Transport
from brokerkit.errors import BrokerkitError, DuplicateScheme, PluginBroken, PluginNotInstalled, UnknownScheme
from brokerkit.url import URL

Install = Callable[..., Path]

PLUGIN = """
from brokerkit.abc import Transport
class Fine(Transport): pass
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that puts a distribution on `sys.path`."""

    def write(
        name: str,
        transports: Mapping[str, str] | str = {},
        *,
        results: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        version: str = "1.0",
        metadata: str | None = None,
    ) -> Path:
        site = tmp_path / f"{name}-{version}"
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        if metadata != "":
            (info / "METADATA").write_text(metadata or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(
            transports
            if isinstance(transports, str)
            else "".join(
                f"[brokerkit.{group}]\n" + "".join(f"{scheme} = {value}\n" for scheme, value in entries.items())
                for group, entries in {"transports": transports, "result_backends": results or {}}.items()
            )
        )
        for module, text in (modules or {}).items():
            (site / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(str(site))
        registry.forget()
        return site

    before = set(sys.modules)
    yield write
    for module in set(sys.modules) - before:
        if module.startswith("plugin_under_test"):
            del sys.modules[module]
    monkeypatch.undo()
    registry.forget()


def find(text: str, kind: registry.Kind = "transport") -> registry.Plugin:
    return registry.find(URL.parse(text), kind)


def refusal(text: str, kind: registry.Kind = "transport") -> str:
    with pytest.raises(UnknownScheme) as caught:
        find(text, kind)
    assert type(caught.value) is UnknownScheme
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------------- finding


def test_memory_and_sqlite_are_installed() -> None:
    assert {"memory", "sqlite", "sqla", "sqlalchemy", "db"} <= set(registry.installed("transport"))
    assert {"memory", "sqlite", "sqla", "sqlalchemy", "db"} <= set(registry.installed("result_backend"))
    assert find("sqlite:///a.db").distribution.startswith("brokerkit-sqlalchemy ")
    assert issubclass(find("memory://").load(), Transport)
    assert issubclass(find("memory://", "result_backend").load(), ResultBackend)


def test_a_plugin_is_found_by_its_scheme_whatever_the_case(install: Install) -> None:
    install("acme-carrier", {"Pigeon": "plugin_under_test_a:Fine"}, modules={"plugin_under_test_a": PLUGIN})
    plugin = find("PIGEON://h")
    assert (plugin.scheme, plugin.kind, plugin.distribution) == ("pigeon", "transport", "acme-carrier 1.0")
    assert plugin.load().__name__ == "Fine"


def test_the_whole_scheme_is_tried_before_the_part_before_the_plus(install: Install) -> None:
    install("acme", {"pigeon": "a:A", "pigeon+socket": "a:B"})
    assert find("pigeon+socket:///x").entry_point.value == "a:B"
    assert find("pigeon://h").entry_point.value == "a:A"


def test_a_plugin_that_lists_no_drivers_gets_any(install: Install) -> None:
    install("acme", {"pigeon": "a:A"})
    assert find("pigeon+grey+fast://h").entry_point.value == "a:A"
    assert find("sqlalchemy+sqlite:///a.db").scheme == "sqlalchemy"


def test_a_misspelt_driver_of_a_plugin_that_lists_its_own_is_refused_with_the_nearest(install: Install) -> None:
    install("acme", {"pigeon": "a:A", "pigeon+socket": "a:B"})
    assert "no transport serves pigeon+socker://; did you mean 'pigeon+socket'?" in refusal("pigeon+socker:///x")


def test_redis_with_a_misspelt_driver_never_becomes_a_connection_to_localhost(install: Install) -> None:
    assert "did you mean 'redis+socket'?" in refusal("redis+socker:///run/r.sock")
    install("acme-redis", {"redis": "a:A", "redis+socket": "a:A"})
    assert "did you mean 'redis+socket'?" in refusal("redis+socker:///run/r.sock")


def test_an_unknown_scheme_lists_what_is_installed_and_suggests_the_nearest(install: Install) -> None:
    install("acme", {"pigeon": "a:A"})
    text = refusal("pigeno://h")
    assert "no transport serves pigeno://; did you mean 'pigeon'?" in text
    assert all(f"{scheme}://" in text for scheme in ("memory", "pigeon", "sqla", "sqlite"))
    assert "did you mean" not in refusal("zzzzzz://h")
    assert "did you mean 'sqlite'?" in refusal("sqlit:///a.db")
    assert "no result backend serves memroy://; did you mean 'memory'?" in refusal("memroy://", "result_backend")


def test_a_scheme_of_ours_that_is_not_installed_names_the_package_to_install(install: Install) -> None:
    install("brokerkit-rabbitmq", {"hides-the-real-one": "a:A"})
    install("brokerkit-sqs", {"hides-the-real-one-too": "a:A"})
    install("brokerkit-memcached", results={"hides-the-real-one": "a:A"})
    for text, kind, extra in (
        ("amqp://h", "transport", "rabbitmq"),
        ("pyamqp://h", "transport", "rabbitmq"),
        ("sqs://", "transport", "sqs"),
        ("memcached://h", "result_backend", "memcached"),
        ("cache+memcached://h", "result_backend", "memcached"),
    ):
        with pytest.raises(
            PluginNotInstalled, match=rf"pip install 'brokerkit-messaging\[{extra}\]'.*installed: .*memory://"
        ):
            find(text, kind)  # type: ignore[arg-type]


def test_a_scheme_of_the_other_kind_says_so(install: Install) -> None:
    assert "no transport serves memcached://; it has a result backend only" in refusal("memcached://h")
    assert "no result backend serves sqs://; it has a transport only" in refusal("sqs://", "result_backend")
    install("acme", {"pigeon": "a:A"})
    assert "it has a transport only" in refusal("pigeon://", "result_backend")


def test_no_refusal_shows_a_secret(install: Install) -> None:
    install("one", {"pigeon": "a:A"})
    install("two", {"pigeon": "a:A"})
    for scheme in ("zzz", "sqs", "redis+socker", "pigeon"):
        with pytest.raises(BrokerkitError) as caught:
            find(f"{scheme}://u:hunter2@h?token=hunter2")
        assert "hunter2" not in repr(caught.value)


# ----------------------------------------------------------------------------------------------------------- conflicts


@pytest.mark.parametrize("order", [("aaa", "bbb"), ("bbb", "aaa")])
def test_two_distributions_of_one_scheme_are_an_error_that_names_both_in_any_order(
    install: Install, order: tuple[str, str]
) -> None:
    for name in order:
        install(f"{name}-pigeon", {"pigeon": "a:A"}, version="2.1")
    with pytest.raises(DuplicateScheme) as caught:
        find("pigeon://h")
    assert str(caught.value) == "pigeon:// is claimed by aaa-pigeon 2.1 and bbb-pigeon 2.1; uninstall one of them"
    assert len(registry.installed("transport")["pigeon"]) == 2
    assert find("memory://").scheme == "memory"


def test_a_claim_on_one_of_our_schemes_is_a_conflict_too(install: Install) -> None:
    install("impostor", {"memory": "a:A"})
    with pytest.raises(DuplicateScheme, match=r"brokerkit-messaging .* and impostor 1\.0"):
        find("memory://")
    assert find("memory://", "result_backend").distribution.startswith("brokerkit-messaging ")


def test_the_same_distribution_seen_twice_is_no_conflict_and_the_first_in_the_path_counts(install: Install) -> None:
    install("Acme_Pigeon", {"pigeon": "old:A", "dove": "old:A"}, version="1.0")
    install("acme-pigeon", {"pigeon": "new:A"}, version="2.0")
    assert find("pigeon://h").distribution == "acme-pigeon 2.0"
    assert "dove" not in registry.installed("transport")


# -------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('half installed')", "RuntimeError: half installed"),
        ("import a_module_that_is_nowhere", "ModuleNotFoundError: No module named 'a_module_that_is_nowhere'"),
        ("def", "SyntaxError"),
        ("", "has no attribute 'Fine'"),
        ("Fine = 5", "is no subclass of brokerkit.abc.Transport"),
        ("class Fine: pass", "is no subclass of brokerkit.abc.Transport"),
        ("from brokerkit.abc import ResultBackend as Fine", "is no subclass of brokerkit.abc.Transport"),
    ],
)
def test_a_broken_plugin_is_named_and_harms_only_itself(install: Install, text: str, reason: str) -> None:
    install("acme", {"pigeon": "plugin_under_test_b:Fine"}, modules={"plugin_under_test_b": text})
    plugin = find("pigeon://h")
    with pytest.raises(PluginBroken) as caught:
        plugin.load()
    assert str(caught.value).startswith("the plugin for pigeon:// (acme 1.0, plugin_under_test_b:Fine) ")
    assert reason in str(caught.value)
    assert issubclass(find("memory://").load(), Transport)


def test_a_missing_module_is_a_broken_plugin_with_its_cause(install: Install) -> None:
    install("acme", {"pigeon": "plugin_under_test_nowhere:Fine"})
    with pytest.raises(PluginBroken) as caught:
        find("pigeon://h").load()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


DAMAGE: list[dict[str, Any]] = [
    {"transports": "[brokerkit.transports]\nthis line is no entry point\n"},
    {"transports": {"pigeon": "a:A"}, "metadata": ""},
    {"transports": {"pigeon": "a:A"}, "metadata": "Metadata-Version: 2.1\n"},
    {"transports": "\x00\x01"},
]


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
def test_damaged_metadata_of_one_distribution_hides_no_other(install: Install, damage: dict[str, Any]) -> None:
    install("damaged", **damage)
    install("sound", {"dove": "a:A"})
    assert find("dove://h").distribution == "sound 1.0"
    assert find("memory://").load() is not None
    for kind in ("transport", "result_backend"):
        assert "zzz" in refusal("zzz://h", kind)  # type: ignore[arg-type]


def test_an_unreadable_distribution_is_named_where_a_scheme_is_not_found(install: Install) -> None:
    install("damaged", "[brokerkit.transports]\nthis line is no entry point\n")
    assert "could not be read: damaged 1.0 (" in refusal("pigeon://h")


# ------------------------------------------------------------------------------------------------------------ laziness

HEAVY = ("kombu", "sqlalchemy", "redis", "typer", "rich", "click", "yaml", "msgpack", "amqp", "boto3", "asyncio")

MEASURE = """
import json, sys
before = set(sys.modules)
{statements}
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""


def imported_by(statements: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE.format(statements=statements)], capture_output=True, text=True, check=True
    )
    return set(json.loads(run.stdout))


def test_importing_brokerkit_imports_no_client_and_no_command_line() -> None:
    loaded = imported_by("import brokerkit")
    assert "brokerkit" in loaded
    assert loaded.isdisjoint(HEAVY)
    third_party = loaded - {"brokerkit"} - set(sys.stdlib_module_names)
    assert {name for name in third_party if not name.startswith("__editable__")} == set()


def test_looking_for_a_plugin_imports_none() -> None:
    loaded = imported_by(
        "from brokerkit import registry, url\n"
        "registry.installed('transport'), registry.installed('result_backend')\n"
        "registry.find(url.URL.parse('sqlite:///a.db'), 'transport')"
    )
    assert loaded.isdisjoint({*HEAVY, "brokerkit_sqlalchemy"})


def test_a_json_message_through_memory_needs_no_kombu() -> None:
    loaded = imported_by(
        "import brokerkit\n"
        "with brokerkit.connect('memory://') as broker:\n"
        "    broker.declare('q')\n"
        "    broker.send('q', {'a': 1})\n"
    )
    assert loaded.isdisjoint(HEAVY)


def test_plugins_installed_later_are_seen_after_forget(install: Install) -> None:
    refusal("pigeon://h")
    site = install("acme", {"pigeon": "a:A"})
    assert find("pigeon://h").entry_point.value == "a:A"
    sys.path.remove(str(site))
    assert find("pigeon://h").entry_point.value == "a:A"  # remembered: looking takes milliseconds, each connect asks
    registry.forget()
    refusal("pigeon://h")
