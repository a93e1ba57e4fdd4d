"""URL, third part: no secret in any text while things go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from brokerkit import URL, Event
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._through import through_proxy, with_password
from brokerkit_conformance.cases.url_secrets import CANARY, SPELLINGS, error_texts, listening
from brokerkit_conformance.faults import Blackhole, Cut, Ending, Fault, Garble, HalfOpen, KillConnections, Refuse, Way

_FAULTS: Final[tuple[Fault, ...]] = (
    Refuse(),
    KillConnections(),
    Blackhole(way=Way.BOTH),
    HalfOpen(),
    Cut(way=Way.UP, after=2),
    Cut(way=Way.DOWN, after=3, ending=Ending.FIN),
    Garble(),
)
_FEW: Final[tuple[Fault, ...]] = (Refuse(), Cut(way=Way.DOWN, after=3), Garble())
_SHORT: Final = 6
_QUICK: Final[dict[str, Any]] = {"timeout": 0.3, "retry_policy": {"max_retries": 1, "interval_start": 0.0}}
_Use: TypeAlias = Callable[[str, list[str]], Callable[[], object]]


@case("URL-11", alone=True, cap=60.0)
def secret_sweep_under_faults(bench: Bench) -> None:
    """Lines that are cut, silent or full of garbage, with a right password and a wrong one: no error, event or log shows it."""
    looked_at = errors = 0
    for text, use in _sides(bench):
        own = URL.parse(text).password or ""
        secrets = {*SPELLINGS, *((own, quote(own, safe="")) if len(own) >= _SHORT else ())}
        with through_proxy(bench, text) as (proxy, url), listening() as heard:
            tries = [(url, fault) for fault in _FAULTS] + [(with_password(url, CANARY), fault) for fault in _FEW]
            for given, fault in tries:
                stood = use(given, heard)
                _called(stood, heard)  # so that there is a connection, if it lets us in
                with proxy.inject(fault):
                    if isinstance(fault, Refuse):
                        proxy.kill_connections()
                    errors += sum(_called(call, heard) for call in (stood, use(given, heard)))
        shown = [line for line in heard if any(secret in line for secret in secrets)]
        check(not shown, f"{len(shown)} of {len(heard)} texts show the secret while the line fails")
        looked_at += len(heard)
    check(errors, "no call failed: the faults did not bite")
    bench.measured["texts looked at, and errors among them"] = [looked_at, errors]


def _sides(bench: Bench) -> Iterator[tuple[str, _Use]]:
    """Yield the URL of a broker and of a result store, each with what opens one, and returns a call to it."""
    if bench.urls:
        queue = bench.queue()
        yield bench.urls[0], lambda url, heard: _sending(bench, url, queue, heard)
    if bench.results_urls:
        yield bench.results_urls[0], lambda url, heard: _reading(bench, url, heard)


def _sending(bench: Bench, url: str, queue: str, heard: list[str]) -> Callable[[], object]:
    def told(event: Event) -> None:
        heard.append(f"{event!r} {event.reason}")
        heard.extend(error_texts(event.error))

    broker = bench.connect(url=url, on_event=told, **_QUICK)
    heard.append(repr(broker))
    return lambda: broker.send(queue, b"x")


def _reading(bench: Bench, url: str, heard: list[str]) -> Callable[[], object]:
    store, key = bench.store(url=url, **_QUICK), bench.name("r")
    heard.append(repr(store))
    return lambda: store.get(store.own_id(key))


def _called(call: Callable[[], object], heard: list[str]) -> bool:
    """Make a call, and tell whether it failed; its error's texts are heard."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is, its texts are looked at
        heard.extend(error_texts(error))
        return True
    return False
