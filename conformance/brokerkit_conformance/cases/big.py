"""BIG: limits. What is too large is refused before it is sent, and the limit that is declared is the usable one."""

from __future__ import annotations

from brokerkit.errors import ConfigurationError, MessageTooLarge, TransportError
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused


def _limit(bench: Bench) -> int:
    limit = bench.capabilities.max_message
    if limit is None:
        raise AssertionError("no limit is declared")
    return limit


@case("BIG-02")
def too_large(bench: Bench) -> None:
    """One byte more than the limit is refused with the limit in the text, before any I/O, alone and in a batch."""
    queue, limit = bench.queue(), _limit(bench)
    body = bytes(limit + 1)  # untouched zeros: the machine gives no memory for them
    error = refused(lambda: bench.broker.send(queue, body), MessageTooLarge, "a message over the limit")
    check(str(limit) in str(error).replace(",", ""), f"the error does not name the limit of {limit}: {error}")
    refused(lambda: bench.broker.send_many(queue, [b"fits", body]), MessageTooLarge, "a batch with one over the limit")
    bench.silent(queue, why="nothing was to be sent")


@case("BIG-03")
def headers_count(bench: Bench) -> None:
    """The limit is on body and headers together, as the engine stores them: headers can take a message over it."""
    queue, limit = bench.queue(), _limit(bench)
    body = bytes(limit - 100)
    headers = {"name": "v" * 200}
    refused(lambda: bench.broker.send(queue, body, headers=headers), MessageTooLarge, "headers over the limit")
    bench.silent(queue, why="nothing was to be sent")


@case("BIG-04")
def many_headers(bench: Bench) -> None:
    """A thousand headers, and one of 100,000 characters, come back exactly or are refused before they are sent."""
    queue = bench.queue()
    for headers in ({f"name-{i}": f"value {i}" for i in range(1000)}, {"long": "ü" * 100_000}, {"n" * 5_000: "x"}):
        try:
            bench.broker.send(queue, b"x", headers=headers)
        except (ConfigurationError, MessageTooLarge) as error:
            check(not isinstance(error, TransportError) or "bytes" in str(error), f"it names no limit: {error}")
            bench.silent(queue, why="it was refused")
            continue
        (delivery,) = bench.collect(queue)
        check(dict(delivery.headers) == headers, f"of {len(headers)} headers came back {len(delivery.headers)}")
