"""Start a server for a person: `python -m brokerkit.servers redis tls aof=always` prints its URL and runs until Ctrl-C.

The words after the server's name are arguments of its class: a name alone is a switch. Exit codes: 0 after Ctrl-C or
SIGTERM, 1 if the server failed, 2 for words that make no sense, 3 if it is missing.
"""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from brokerkit._clock import SYSTEM_CLOCK, sleep
from brokerkit.errors import nearest
from brokerkit.servers import PRODUCTS, Server, ServerFailed, ServerMissing


def main(words: Sequence[str]) -> int:
    """Run one server until a signal comes, and return the exit code."""
    try:
        server = _server(words)
    except ValueError as mistake:
        print(mistake, file=sys.stderr)  # noqa: T201 - this is a command
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with server:
            facts = server.facts
            print(server.url(), flush=True)  # noqa: T201
            print(f"{facts.product} {facts.version}, process {facts.pid}; Ctrl-C ends it", file=sys.stderr)  # noqa: T201
            while server.facts.pid == facts.pid:
                sleep(SYSTEM_CLOCK, 0.2)
            print(f"{facts.product} ended. Its log:\n{server.logs()}", file=sys.stderr)  # noqa: T201
            return 1
    except KeyboardInterrupt:
        return 0
    except ServerMissing as missing:
        print(missing, file=sys.stderr)  # noqa: T201
        return 3
    except ServerFailed as failed:
        print(failed, file=sys.stderr)  # noqa: T201
        return 1


def _server(words: Sequence[str]) -> Server:
    if not words or words[0] not in PRODUCTS:
        named = nearest(words[0], PRODUCTS) if words else ""
        raise ValueError(
            f"name one of {', '.join(PRODUCTS)}{named}; such as: python -m brokerkit.servers redis aof=always"
        )
    product = PRODUCTS[words[0]]
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(product).parameters.items()
        if isinstance(parameter.default, bool | int | str)
    }
    chosen: dict[str, Any] = {}
    for word in words[1:]:
        name, given, text = word.partition("=")
        if name not in known:
            raise ValueError(
                f"{product.product} has no {name!r}{nearest(name, known)}; it has: {', '.join(known) or 'none'}"
            )
        chosen[name] = _value(name, text if given else None, type(known[name]))
    return product(**chosen)


def _value(name: str, text: str | None, kind: type) -> bool | int | str:
    if kind is bool:
        if text not in (None, "true", "false"):
            raise ValueError(f"{name} is true or false, not {text!r}")
        return text != "false"
    if not text:
        raise ValueError(f"{name} needs a value: {name}=…")
    return int(text) if kind is int else text


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - as Python calls it
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
