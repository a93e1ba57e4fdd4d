"""What a report says, sorted for readers: the same for the terminal, Markdown, HTML and JUnit."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from brokerkit_conformance.model import Outcome

__all__ = [
    "Group",
    "Promise",
    "about",
    "by_area",
    "claim",
    "facts",
    "failures",
    "first_line",
    "level_shown",
    "matrix",
    "not_shown",
    "other_numbers",
    "promises_of",
    "replay",
]

Case = Mapping[str, Any]
Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """Laws that were not shown to work, for one reason.

    Attributes:
        name: the outcome, or what stands for it.
        meaning: in words.
        lines: (ids, what is to be said of them) each.
        blocks: whether it keeps a level from being reached.
    """

    name: str
    meaning: str
    lines: Sequence[tuple[str, str]]
    blocks: bool = True


@dataclass(frozen=True, slots=True)
class Promise:
    """One declared promise, and what was measured of it: "VIS-01: 0.31 s"."""

    name: str
    declared: str
    measured: str = ""


_MEANINGS: Final[Mapping[str, str]] = {
    "NOT_RUN": "no evidence at all",
    "ERROR": "the suite or the harness failed, or somebody tried to skip",
    "INCONCLUSIVE": "the test itself could not be made",
    "WAIVED": "fails; somebody answers for it until a day",
    "UNCLAIMED": "works, but the plugin does not claim it",
    "GRACE": "hangs on a new question that the plugin has not answered yet",
}

# which case measures which promise
_MEASURES: Final[Mapping[tuple[str, str], str]] = {
    ("VIS-01", "back after the end of the lease"): "transport.redelivery.lease_end",
    ("VIS-08", "back after the kill"): "transport.redelivery.kill",
    ("ACK-02", "release took"): "transport.redelivery.release",
    ("ACK-17", "all back after"): "transport.redelivery.close",
    ("FAN-16", "gone after the kill"): "transport.fanout.vanish",
    ("RES-05", "late"): "results.ttl_late",
}


def about(report: Report) -> str:
    """Return what was tested: the plugins' distributions with their versions."""
    return ", ".join(dict.fromkeys(plugin["distribution"] for plugin in report["plugins"].values())) or "no plugin"


def claim(report: Report) -> str:
    """Return what the verdict is worth, in a sentence."""
    scope, verdict = report["scope"], report["verdict"]
    if scope["areas"] or scope["cases"]:
        what = f"the cases {', '.join(scope['cases'])}" if scope["cases"] else f"the areas {', '.join(scope['areas'])}"
        return f"on {what}. No level is claimed: the other cases did not run, so every level is INCOMPLETE."
    held = ", ".join(name for name, level in report["levels"].items() if level["verdict"].startswith("CONFORMANT"))
    version = report["suite"]["version"]
    if verdict == "CONFORMANT":
        return f"({held}), as far as suite {version} goes"
    if verdict == "CONFORMANT_WITH_WAIVERS":
        n = report["totals"].get("WAIVED", 0)
        return f"({held}), as far as suite {version} goes, but for {n} known failure{'s' * (n != 1)} under waiver"
    return f"though CONFORMANT in {held}" if held else ""


def facts(report: Report) -> list[tuple[str, str]]:
    """Return what was tested by what, as (name, text)."""
    server, suite = report["server"], report["suite"]
    emulator = {True: "an emulator", False: "the real product", None: "real or emulator: not told"}[server["emulator"]]
    rows = [
        (f"Plugin, {side}", f"{plugin['distribution']} · {plugin['class']} · {_short(plugin['files'])}")
        for side, plugin in report["plugins"].items()
    ]
    rows += [
        (
            "Server",
            " · ".join(filter(None, [server["claimed"] or "unknown", server["told"], _place(server, emulator)])),
        ),
        (
            "Suite",
            f"brokerkit-conformance {suite['version']} · catalogue {_short(suite['catalogue'])} · {_short(suite['files'])}",
        ),
        ("Harness", report["harness"]["name"]),
        ("Asked for", _scope(report["scope"])),
        ("Run", f"{report['made']} · Python {report['python']} · {report['system']} · brokerkit {report['brokerkit']}"),
    ]
    return rows


def not_shown(report: Report) -> list[Group]:
    """Return what was not shown to work, the worst first."""
    cases = report["cases"]
    groups = [
        Group(name, meaning, _lines(c for c in cases if c["outcome"] == name), name != "GRACE")
        for name, meaning in _MEANINGS.items()
        if any(c["outcome"] == name for c in cases)
    ]
    if lines := _lines(c for c in cases if c["expected"] == "impossible"):
        groups.append(Group("does not apply", "cannot be asked of this engine", lines, blocks=False))
    if later := [c for c in cases if c["expected"] == "not yet"]:
        line = (by_area(later), f"{len(later)} laws in all")
        groups.append(Group("not yet in this suite", "no case is written yet", [line], blocks=False))
    return groups


def failures(report: Report) -> list[Case]:
    """Return the cases that decide against the plugin, MUSTs first."""
    red = [c for c in report["cases"] if c["outcome"] and Outcome(c["outcome"]).red]
    return sorted(red, key=lambda case: case["duty"] != "MUST")


def matrix(cases: Iterable[Case]) -> tuple[list[str], dict[str, Counter[str]]]:
    """Return the columns that are used, and for each area how many laws are in each."""
    counts: dict[str, Counter[str]] = {}
    for case in cases:
        column = case["outcome"] or {"impossible": "does not apply", "not yet": "not yet"}[case["expected"]]
        counts.setdefault(case["area"], Counter())[column] += 1
    order = [str(outcome) for outcome in Outcome] + ["does not apply", "not yet"]
    return [column for column in order if any(row[column] for row in counts.values())], counts


def promises_of(report: Report) -> list[Promise]:
    """Return every declared promise, with what was measured of it."""
    measured: dict[str, list[str]] = {}
    for case in report["cases"]:
        for name, value in case["measured"].items():
            if promise := _MEASURES.get((case["id"], name)):
                measured.setdefault(promise, []).append(f"{case['id']}: {_number(value)}")
    return [
        Promise(f"{side}.{name}", text, ", ".join(measured.get(f"{side}.{name}", ())))
        for side in ("transport", "results")
        for name, text in (report["capabilities"][side] or {}).items()
    ]


def other_numbers(report: Report) -> list[tuple[str, str, str]]:
    """Return what cases measured beside the promises: (id, name, value)."""
    return [
        (case["id"], name, _number(value))
        for case in report["cases"]
        for name, value in case["measured"].items()
        if (case["id"], name) not in _MEASURES
    ]


def level_shown(level: Mapping[str, Any]) -> str:
    """Return on what a level's verdict rests: "15 of its 20 laws were shown, 4 cannot be asked of this engine"."""
    if level["verdict"] == "DOES_NOT_APPLY":
        return f"no law of this level applies to this engine ({level['impossible']} of its {level['laws']} are in this suite)"
    text = f"{level['shown']} of its {level['laws']} laws were shown"
    return f"{text}, {level['impossible']} cannot be asked of this engine" if level["impossible"] else text


def replay(report: Report, case: Case) -> str:
    """Return the command that runs one case again."""
    return f"brokerkit-conformance run {shlex.quote(report['harness']['name'])} --case {case['id']}"


def by_area(cases: Iterable[Case]) -> str:
    """Return how many laws of each area there are: "PUB 2, ACK 1"."""
    return ", ".join(f"{area} {n}" for area, n in Counter(case["area"] for case in cases).items())


def first_line(text: str) -> str:
    """Return a text's first line."""
    return text.split("\n", 1)[0]


def _lines(cases: Iterable[Case]) -> list[tuple[str, str]]:
    """Put cases with the same reason into one line."""
    by_reason: dict[str, list[Case]] = {}
    for case in cases:
        by_reason.setdefault(first_line(case["reason"]), []).append(case)
    return [
        (", ".join(case["id"] for case in found), (f"{found[0]['title']}: " if len(found) == 1 else "") + reason)
        for reason, found in by_reason.items()
    ]


def _place(server: Mapping[str, Any], emulator: str) -> str:
    return "embedded, no server" if server["embedded"] else emulator


def _scope(scope: Mapping[str, Sequence[str]]) -> str:
    parts = [f"{name} {', '.join(scope[name])}" for name in ("levels", "areas", "cases") if scope[name]]
    return "; ".join(parts)


def _short(digest: str) -> str:
    return digest[:19]


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
