"""The catalogue of laws: data that ships with the suite, with a digest over all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, get_args

__all__ = ["LEVELS", "Catalogue", "Duty", "Law", "catalogue"]

LEVELS: Final = ("core", "lease", "fanout", "eviction", "faults", "clock", "scale")

Duty = Literal["MUST", "SHOULD", "INFO"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """One law.

    Attributes:
        id: stable, "PUB-01".
        version: of its case; rises when the case asks for something else.
        area: "PUB".
        title: the situation.
        must: what the plugin has to do in it.
        gate: whom it concerns: T every transport, R every result backend, S the portable layer, H the harness,
            C:x whoever claims x, !x whoever does not.
        tools: what the full case needs: P a proxy, K kills, A foreign access, C skewed clocks, L a leak probe, M processes.
        needs: what the engine must have besides the gate: "processes", more than one of them can use it.
        duty: MUST decides the verdict; SHOULD and INFO are reported.
        level: the level of conformance that it belongs to.
        since: the suite's version that brought its case; None, not yet in this suite.
        waivable: whether a known failure may be waived: not where messages or secrets are lost, where what is apart is
            mixed, or where it is the harness that is proved.
    """

    id: str
    version: int
    area: str
    title: str
    must: str
    gate: str
    tools: tuple[str, ...]
    needs: tuple[str, ...]
    duty: Duty
    level: str
    since: str | None
    waivable: bool


class Catalogue:
    """All laws, by id, in order. Immutable."""

    def __init__(self, laws: Iterable[Law], areas: Mapping[str, str], digest: str) -> None:
        self._laws = {law.id: law for law in laws}
        self.areas = dict(areas)
        self.digest = digest

    def __iter__(self) -> Iterator[Law]:
        return iter(self._laws.values())

    def __len__(self) -> int:
        return len(self._laws)

    def __contains__(self, law_id: object) -> bool:
        return law_id in self._laws

    def __getitem__(self, law_id: str) -> Law:
        return self._laws[law_id]


@cache
def catalogue() -> Catalogue:
    """Return the catalogue that this suite ships."""
    text = files("brokerkit_conformance").joinpath("catalogue.json").read_text(encoding="utf-8")
    return read(text)


def read(text: str) -> Catalogue:
    """Build a catalogue from JSON. Its digest is over the canonical form, so that layout does not matter.

    Raises:
        ValueError: a law is not written as laws are; the text says which, and what is wrong with it.
    """
    content = json.loads(text)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if wrong := [f"{raw.get('id')}: {what}" for raw in content["cases"] for what in _misfits(raw, content["areas"])]:
        raise ValueError(f"the catalogue cannot be read: {'; '.join(wrong)}")
    laws = [Law(**{**raw, "tools": tuple(raw["tools"]), "needs": tuple(raw["needs"])}) for raw in content["cases"]]
    return Catalogue(laws, content["areas"], f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}")


def _misfits(raw: Mapping[str, Any], areas: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with one law as it is written."""
    keys = {field.name for field in fields(Law)}
    if strange := sorted(keys ^ raw.keys()):
        yield f"it lacks or does not know {', '.join(strange)}"
        return
    if raw["area"] not in areas or not raw["id"].startswith(f"{raw['area']}-"):
        yield f"its area is {raw['area']!r}"
    if raw["level"] not in LEVELS:
        yield f"its level is {raw['level']!r}"
    if raw["duty"] not in get_args(Duty):
        yield f"its duty is {raw['duty']!r}"
    if not isinstance(raw["waivable"], bool):
        yield f"waivable is {raw['waivable']!r}, neither true nor false"
    elif raw["waivable"] and raw["gate"] == "H":
        yield "a proof of the harness cannot be waived"
