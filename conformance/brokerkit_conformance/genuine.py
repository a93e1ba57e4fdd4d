"""Whether the plugin that runs is the one that is installed, and whether its code is what its files say."""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from brokerkit_conformance.identity import modified_files

__all__ = ["not_as_installed", "not_as_written"]


def not_as_installed(kind: type[Any], distribution: str) -> list[str]:
    """Return what is not as the distribution that brings a plugin was installed.

    Of a source tree that is installed in place there is nothing to compare with; then its class must lie in a package that
    the distribution says is its own.
    """
    try:
        installed = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return [f"{distribution} is not installed"]
    changed = modified_files(installed)
    where = Path(sys.modules[kind.__module__].__file__ or "").resolve()
    own = {Path(str(file.locate())).resolve() for file in installed.files or () if file.suffix == ".py"}
    if own and any(file.hash for file in installed.files or ()) and not _in_place(installed) and where not in own:
        changed.append(f"{where} is no file of it")
    return changed


def not_as_written(kind: type[Any]) -> list[str]:
    """Return the functions of a plugin's package that are not what its files say.

    Only functions that stand in their class or module without a decorator are looked at: what a decorator makes of the
    others is the plugin's own business. Where an import hook compiled a module, as pytest does with its plugins, functions
    with an assert are not looked at: those are what such hooks rewrite.
    """
    package = kind.__module__.partition(".")[0]
    modules = [m for name, m in sorted(sys.modules.items()) if name.partition(".")[0] == package]
    return [name for module in modules for name in _replaced(module)]


def _in_place(installed: metadata.Distribution) -> bool:
    return any(file.suffix == ".pth" or "__editable__" in file.name for file in installed.files or ())


def _replaced(module: ModuleType) -> Iterator[str]:
    path = Path(module.__file__ or "")
    if path.suffix != ".py" or not path.is_file():
        return
    source = path.read_bytes()
    written = _codes(compile(source, str(path), "exec", dont_inherit=True, optimize=sys.flags.optimize))
    hooked = type(getattr(module.__spec__, "loader", None)) is not SourceFileLoader
    for owner, body in _bodies(ast.parse(source), module):
        for name in _plain(body) - (_asserting(body) if hooked else set()):
            found = vars(owner).get(name)
            if isinstance(found, FunctionType) and found.__code__ in written:
                continue
            yield f"{module.__name__}:{getattr(owner, '__qualname__', '')}.{name}".replace(":.", ":")


def _codes(code: CodeType) -> set[CodeType]:
    """Return the code of every function that stands in a module."""
    found = {code}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found |= _codes(const)
    return found


def _bodies(tree: ast.Module, module: ModuleType) -> Iterator[tuple[Any, list[ast.stmt]]]:
    """Yield the module and its classes, each with what stands in it."""
    yield module, tree.body
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.keywords:
            with contextlib.suppress(AttributeError):
                owner = getattr(module, node.name)
                if isinstance(owner, type) and owner.__module__ == module.__name__:
                    yield owner, node.body


def _asserting(body: list[ast.stmt]) -> set[str]:
    functions = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {f.name for f in functions if any(isinstance(inner, ast.Assert) for inner in ast.walk(f))}


def _plain(body: list[ast.stmt]) -> set[str]:
    """Return the names of the functions that stand there just so, and once."""
    defined = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    names = [node.name for node in defined]
    bound = {
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    kept = {n.name for n in defined if not n.decorator_list and names.count(n.name) == 1 and n.name not in bound}
    # these the interpreter wraps in something else, or takes away
    return kept - {"__init_subclass__", "__class_getitem__", "__new__", "__getattr__", "__dir__"}
