"""Write the generated parts of docs/*.md and of the plugins' pages anew, from the code and the installed plugins: `make docs`.

A generated part stands between two comments, and the first says what belongs there:

    <!-- generated: options brokerkit.options:BrokerOptions -->  a table of the options of a class
    <!-- generated: capabilities memory:// sqlite:///x.db -->    a table of what these engines promise, options in URLs included
    <!-- generated: absence memory:// redis://h -->              a table of what result stores can tell about a missing result
    <!-- generated: schemes -->                                  a table of the installed plugins
    <!-- generated: source brokerkit/abc.py Receiver.ack -->     an excerpt: a class without its methods, a function, a name
    <!-- generated: outline brokerkit/abc.py Receiver -->        the methods of a class, each with its first sentence
    <!-- generated: docstring brokerkit/abc.py -->               the docstring of a module
    <!-- generated: tree brokerkit/errors.py -->                 the drawing in a module's docstring
    <!-- generated: files plugins/sqlalchemy -->                 the files of a folder, each with the first line of its docstring
    <!-- end -->

With `--check` nothing is written, and the exit code is 1 if a file would change.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import brokerkit
from brokerkit import registry
from brokerkit.capabilities import promises
from brokerkit.options import describe

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PART = re.compile(r"(<!-- generated: (\w+)((?: \S+)*) -->\n).*?(<!-- end -->)", re.DOTALL)


def options(name: str) -> Iterator[str]:
    """A table of the options of a class, `module:Class`."""
    module, _, attribute = name.partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    yield from _table(
        ("option", "type", "default", "what it does"),
        ((f"`{name}`", type_, f"`{default}`", doc) for name, type_, default, doc in describe(kind)),
    )


def capabilities(*urls: str) -> Iterator[str]:
    """A table of the promises of some engines, one column for each URL; results with `results=` before it."""
    columns = {text.removeprefix("results="): dict(_promises(text)) for text in urls}
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    yield from _table(
        ("promise", *(f"`{_short(url)}`" for url in columns)),
        ((f"`{name}`", *(column.get(name, "") for column in columns.values())) for name in names),
    )


TOLD = {
    ("expired", "exact"): "that it expired, as long as the store remembers it",
    ("expired", "unknown"): "to who knew it: that it expired; to others: nothing",
    ("forgotten", "exact"): "that it was forgotten",
    ("forgotten", "unknown"): "to who forgot it: that it was; to others: as if it had never been",
    ("evicted", "exact"): "that it was evicted",
    ("evicted", "unknown"): "to who knew it: that it is gone, not why; to others: as if it had never been",
}


def absence(*urls: str) -> Iterator[str]:
    """A table of what result stores can tell about a missing result, one column for each URL, by their promises."""
    columns = {url: dict(_promises(f"results={url}")) for url in urls}
    rows = [("never stored", *("nothing: it is UNKNOWN" for _ in columns))]
    rows += [
        (reason, *(TOLD[reason, each[f"absence.{reason}"]] for each in columns.values()))
        for reason in ("expired", "forgotten", "evicted")
    ]
    may = {"yes": "yes: its server drops what it needs room for", "no": "only by a person, or with its server"}
    rows.append(("can be evicted", *(may[each["evictable"]] for each in columns.values())))
    kept = {("yes", "yes"): "yes", ("yes", "no"): "a restart, not a kill", ("no", "no"): "no", ("no", "yes"): "a kill"}
    rows.append(
        ("outlives its server", *(kept[p["durability.restart"], p["durability.kill"]] for p in columns.values()))
    )
    rows.append(("reserved and gone", *("who waits is told at once: ResultLost" for _ in columns)))
    yield from _table(("the result is", *(f"`{_short(url)}`" for url in columns)), rows)


def _short(url: str) -> str:
    """Return what tells a URL from others of an example: the scheme, and options."""
    query = url.partition("?")[2]
    return url.partition("://")[0] + (f"://…?{query}" if query else "")


def _promises(text: str) -> Iterator[tuple[str, str]]:
    url = text.removeprefix("results=")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what an engine may drop stands in the table
        opened = (brokerkit.results if url != text else brokerkit.connect)(url.replace(":///", f":///{folder}/"))
        with opened:
            yield from promises(opened.capabilities)


def schemes() -> Iterator[str]:
    """A table of the installed plugins."""
    kinds: tuple[registry.Kind, ...] = ("transport", "result_backend")
    found = {kind: registry.installed(kind) for kind in kinds}
    yield from _table(
        ("scheme", "transport", "result backend", "package"),
        (
            (
                f"`{scheme}://`",
                *("yes" if scheme in found[kind] else "" for kind in kinds),
                f"`{next(found[kind][scheme][0] for kind in kinds if scheme in found[kind]).distribution.split()[0]}`",
            )
            for scheme in sorted({scheme for one in found.values() for scheme in one})
        ),
    )


def source(path: str, name: str) -> Iterator[str]:
    """An excerpt of a source file: a function or a name as it is, a class without its methods."""
    lines = (ROOT / path).read_text().splitlines()
    node = _find(path, name)
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
    last = node.end_lineno or first
    if isinstance(node, ast.ClassDef):
        methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
        last = min([last, *(min([m.lineno, *(d.lineno for d in m.decorator_list)]) - 1 for m in methods)])
    yield "```python"
    yield textwrap.dedent("\n".join(lines[first - 1 : last])).rstrip()
    yield "```"


def outline(path: str, name: str) -> Iterator[str]:
    """The methods of a class, each with its first sentence."""
    for method in getattr(_find(path, name), "body", ()):
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
            summary = (ast.get_docstring(method) or "").split("\n\n", 1)[0].replace("\n", " ")
            arguments = re.sub(r"^(self|cls)(, )?", "", ast.unparse(method.args))
            returns = f" -> {ast.unparse(method.returns)}" if method.returns else ""
            yield f"* `{method.name}({arguments}){returns}`"
            yield textwrap.fill(summary, 118, initial_indent="  ", subsequent_indent="  ")


def docstring(path: str) -> Iterator[str]:
    """The docstring of a module."""
    yield ast.get_docstring(ast.parse((ROOT / path).read_text())) or ""


def tree(path: str) -> Iterator[str]:
    """The drawing in a module's docstring: its indented lines."""
    text = ast.get_docstring(ast.parse((ROOT / path).read_text()), clean=False) or ""
    yield "```text"
    yield from (line[4:] for line in text.splitlines() if line.startswith("    "))
    yield "```"


def files(folder: str) -> Iterator[str]:
    """The files of a folder, each with the first line of its docstring."""
    yield "```text"
    listed = [path for path in sorted((ROOT / folder).rglob("*")) if path.is_file() and _is_source(path)]
    width = max(len(str(path.relative_to(ROOT / folder))) for path in listed)
    for path in listed:
        yield f"{path.relative_to(ROOT / folder)!s:<{width}}  {_first_line(path)}".rstrip()
    yield "```"


def _is_source(path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts[len(ROOT.parts) :])
    return not hidden and path.suffix in {".py", ".toml", ".md", ".lua", ".sql", ".typed"}


def _first_line(path: Path) -> str:
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
    known = {".toml": "the distribution and its entry points", ".md": "its page", ".typed": "says that it has types"}
    return known.get(path.suffix, "")


def _find(path: str, name: str) -> ast.stmt:
    scope: list[ast.stmt] = ast.parse((ROOT / path).read_text()).body
    node: ast.stmt | None = None
    for word in name.split("."):
        node = next((one for one in scope if word in _names(one)), None)
        if node is None:
            raise LookupError(f"{path} has no {name}")
        scope = getattr(node, "body", [])
    assert node is not None  # noqa: S101 - a name has a word
    return node


def _names(node: ast.stmt) -> Iterable[str]:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return [getattr(node, "name", "")]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


KINDS: dict[str, Callable[..., Iterator[str]]] = {
    one.__name__: one for one in (options, capabilities, absence, schemes, source, outline, docstring, tree, files)
}


def rendered(text: str) -> str:
    """The text of a page with its generated parts made anew."""

    def part(match: re.Match[str]) -> str:
        made = "\n".join(KINDS[match[2]](*match[3].split()))
        return f"{match[1]}{made}\n{match[4]}"

    return PART.sub(part, text)


def main() -> int:
    """Write or check all pages."""
    stale = []
    for path in sorted([*DOCS.glob("*.md"), *ROOT.glob("plugins/*/README.md")]):
        before = path.read_text()
        after = rendered(before)
        if before != after:
            stale.append(path)
            if "--check" not in sys.argv:
                path.write_text(after)
    for path in stale:
        sys.stdout.write(f"{'out of date' if '--check' in sys.argv else 'written'}: {path.relative_to(ROOT)}\n")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
