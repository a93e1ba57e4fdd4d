"""Known failures: `brokerkit-waivers.toml`. A waived case still runs; the waiver says who repairs it, where, and until when."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from brokerkit_conformance.catalogue import Catalogue, catalogue

__all__ = ["LONGEST", "Waiver", "WaiverError", "faults", "for_config", "from_plain", "plain", "read"]

LONGEST: Final = 90
"""Days that a waiver may have before it."""

_MOST_OF_ONE_ISSUE: Final = 3
_KINDS: Final = ("bug", "wontfix")


class WaiverError(ValueError):
    """The file cannot be used; `faults` says everything that is wrong with it."""

    def __init__(self, found: Sequence[str]) -> None:
        self.faults = list(found)
        super().__init__("; ".join(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One known failure.

    Attributes:
        case: the law's id; no wildcard.
        kind: "bug", it will be repaired; "wontfix", the engine will stay so.
        text: what fails.
        issue: where it is followed: an https or http URL of its own.
        owner: who answers for it.
        expires: the last day on which it counts; not more than `LONGEST` days ahead.
        config: name of the harness that it is for; any if empty.
    """

    case: str
    kind: str
    text: str
    issue: str
    owner: str
    expires: date
    config: str = ""


def read(path: Path, *, laws: Catalogue | None = None, today: date | None = None) -> list[Waiver]:
    """Read a file of `[[waiver]]` tables.

    Raises:
        WaiverError: anything in it is wrong: no waiver of such a file counts.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WaiverError([f"{path} cannot be read: {error}"]) from None
    strange = sorted(content.keys() - {"waiver"})
    tables = content.get("waiver", [])
    if strange or not isinstance(tables, list):
        raise WaiverError([f"{path} may hold [[waiver]] tables alone, not {', '.join(strange) or 'a single [waiver]'}"])
    return from_plain(tables, laws=laws, today=today)


def from_plain(
    tables: Sequence[Mapping[str, Any]], *, laws: Catalogue | None = None, today: date | None = None
) -> list[Waiver]:
    """Build waivers from plain data, as of a day.

    Raises:
        WaiverError: anything is wrong with any of them.
    """
    wrong = [fault for n, table in enumerate(tables, 1) for fault in _shape(n, table)]
    if wrong:
        raise WaiverError(wrong)
    made = [Waiver(**{**table, "expires": _day(table["expires"])}) for table in tables]
    if found := list(faults(made, laws or catalogue(), today or datetime.now(UTC).date())):
        raise WaiverError(found)
    return made


def plain(waiver: Waiver) -> dict[str, Any]:
    """Return it as plain data."""
    return asdict(waiver) | {"expires": waiver.expires.isoformat()}


def faults(waivers: Sequence[Waiver], laws: Catalogue, today: date) -> Iterator[str]:
    """Yield what is wrong with waivers, as of a day."""
    for waiver in waivers:
        yield from _faults_of(waiver, laws, today)
    for (case, config), n in Counter((w.case, w.config) for w in waivers).items():
        if n > 1:
            yield f"{case} is waived {n} times" + (f" for {config}" if config else "")
    cases_of: dict[str, set[str]] = {}
    for waiver in waivers:
        cases_of.setdefault(waiver.issue.rstrip("/"), set()).add(waiver.case)
    for issue, cases in cases_of.items():
        if len(cases) > _MOST_OF_ONE_ISSUE:
            yield f"{issue} is an umbrella for {len(cases)} cases; at most {_MOST_OF_ONE_ISSUE} may share one issue"


def _faults_of(waiver: Waiver, laws: Catalogue, today: date) -> Iterator[str]:
    case = waiver.case
    if any(sign in case for sign in "*?[,") or case in laws.areas:
        yield f"{case} is a wildcard: each waiver names one case"
    elif case not in laws:
        yield f"{case} is unknown to this suite"
    elif not laws[case].waivable:
        yield f"{case} cannot be waived: nobody may excuse loss, mixed-up tenants, told secrets, or an unproved harness"
    if waiver.kind not in _KINDS:
        yield f"{case}: kind is {waiver.kind!r}; it must be one of {', '.join(_KINDS)}"
    address = urlsplit(waiver.issue)
    if address.scheme not in ("https", "http") or not address.netloc or address.path in ("", "/"):
        yield f"{case}: issue is {waiver.issue!r}; it must be the URL of one issue"
    if waiver.expires < today:
        yield f"{case}: the waiver expired on {waiver.expires}"
    elif (ahead := (waiver.expires - today).days) > LONGEST:
        yield f"{case}: the waiver expires in {ahead} days; {LONGEST} is the most"


def _shape(number: int, table: Any) -> Iterator[str]:
    if not isinstance(table, Mapping):
        yield f"waiver {number} is no table"
        return
    name = table.get("case") or f"waiver {number}"
    known = {f.name for f in fields(Waiver)}
    if strange := sorted(table.keys() - known):
        yield f"{name}: unknown key {', '.join(strange)}"
    for key in ("case", "kind", "text", "issue", "owner"):
        if not (isinstance(table.get(key), str) and table[key].strip()):
            yield f"{name}: {key} is missing"
    if _day(table.get("expires")) is None:
        yield f"{name}: expires is missing, or no date such as 2027-01-31"
    if not isinstance(table.get("config", ""), str):
        yield f"{name}: config is no text"


def _day(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def for_config(waivers: Iterable[Waiver], *names: str) -> list[Waiver]:
    """Return those that are for a harness of one of these names."""
    return [waiver for waiver in waivers if not waiver.config or waiver.config in names]
