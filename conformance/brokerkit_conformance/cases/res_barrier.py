"""RES, sixth part: a barrier made of final records, which are stored once."""

from __future__ import annotations

from typing import Final

from brokerkit.results import ResultStore, State
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case

_PARTS: Final = 12
_THREADS: Final = 6


@case("RES-24")
def barrier(bench: Bench) -> None:
    """Twelve parts end in six threads, each of them twice: whoever sees all ended fires, and one does, after the last part.

    No store has counters by the contract. What takes their place: each part is a record, and so is the barrier; a final
    one is stored once, and who stored it is told so.
    """
    for round_ in range(5):
        parts = [bench.key(f"{round_}-{i}") for i in range(_PARTS)]
        fired = bench.key(f"{round_}-fired")
        stores = [bench.results, *(bench.store() for _ in range(2))]
        ended: list[str] = []
        firings: list[int] = []

        def work(n: int, store: ResultStore, parts: list[str] = parts, fired: str = fired) -> None:
            first = n * _PARTS // _THREADS
            for key in [*parts[first:], *parts[:first]][: 2 * _PARTS // _THREADS]:
                if store.set_result(key, n):
                    ended.append(key)  # noqa: B023 - the threads end within the round
                if _whole(bench.results, parts) and store.set_result(fired, n):
                    firings.append(n)  # noqa: B023
                    early = [key for key in parts if store.get(key).state is not State.SUCCESS]
                    check(not early, f"it fired when {len(early)} parts had not ended")

        for n in range(_THREADS):
            bench.thread(lambda n=n, work=work, stores=stores: work(n, stores[n % len(stores)]))  # type: ignore[misc]
        bench.join()
        check(sorted(ended) == sorted(parts), f"{len(ended)} times a part was stored first, of {_PARTS} parts")
        check(len(firings) == 1, f"it fired {len(firings)} times")
        check(bench.results.get(fired).value == firings[0], "who fired is another than who was told so")


def _whole(store: ResultStore, parts: list[str]) -> bool:
    return all(result.state is State.SUCCESS for result in store.get_many(parts))
