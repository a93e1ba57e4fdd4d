"""report.html: one page that needs nothing else, no script and no network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, Final

from brokerkit_conformance.reporting import views
from brokerkit_conformance.reporting.timeline import timeline

__all__ = ["page"]

_TONES: Final[Mapping[str, str]] = {
    "CONFORMANT": "good",
    "CONFORMANT_WITH_WAIVERS": "open",
    "INCOMPLETE": "open",
    "NONCONFORMANT": "bad",
    "INVALID": "bad",
}
_COLOURS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("PASS", "REFUSED_OK", "CONFORMANT"), "g"),
    **dict.fromkeys(("FAIL", "FLAKY", "FIXED_REMOVE_WAIVER", "ERROR", "NONCONFORMANT", "INVALID"), "r"),
    **dict.fromkeys(("WAIVED", "UNCLAIMED", "GRACE", "INCONCLUSIVE", "NOT_RUN"), "a"),
    **dict.fromkeys(("INCOMPLETE", "CONFORMANT_WITH_WAIVERS"), "a"),
}
_MANY: Final = 160
"""Characters of a list of laws; a longer one is folded."""

# nothing from outside may be loaded, and no script can run, whatever a broker put into a text
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def page(report: Mapping[str, Any]) -> str:
    """Return a report as one HTML page."""
    title = f"{report['verdict']}: {views.about(report)}"
    head = (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_style()}</style></head><body><main>"
    )
    return "\n".join([head, *_body(report), "</main></body></html>", ""])


def _body(report: Mapping[str, Any]) -> Iterator[str]:
    yield _verdict(report)
    yield _levels(report)
    yield _facts(report)
    yield "<h2>Not shown to work</h2>"
    yield _not_shown(views.not_shown(report))
    if failed := views.failures(report):
        yield "<h2>Shown not to work</h2>"
        yield from (_failure(report, case) for case in failed)
    yield "<h2>Areas and outcomes</h2>"
    yield _matrix(report)
    yield "<h2>Declared against measured</h2>"
    yield _promises(report)
    yield _every_law(report)
    yield f"<footer>{escape(report['digest'])}<br>Check it: <code>brokerkit-conformance verify report.json</code></footer>"


@cache
def _style() -> str:
    return files("brokerkit_conformance").joinpath("reporting/page.css").read_text(encoding="utf-8")


def _verdict(report: Mapping[str, Any]) -> str:
    flaws = "".join(f"<p><span class='chip r'>invalid</span> {escape(flaw)}</p>" for flaw in report["flaws"])
    return (
        f"<header class='verdict {_TONES[report['verdict']]}'><h1>{escape(report['verdict'])}</h1>"
        f"<p class='about'>{escape(views.about(report))}</p><p class='claim'>{escape(views.claim(report))}</p>"
        f"<p class='totals'>{_totals(report)}</p>{flaws}</header>"
    )


def _totals(report: Mapping[str, Any]) -> str:
    totals = report["totals"]
    order = sorted(totals, key=lambda outcome: ("rag".find(_COLOURS.get(outcome, "g")), outcome))
    return "".join(
        f"<span class='chip {_COLOURS.get(outcome, '')}'>{totals[outcome]} {outcome}</span>" for outcome in order
    )


def _levels(report: Mapping[str, Any]) -> str:
    items = "".join(
        f"<li><b>{escape(name)}</b>{_chip(level['verdict'])}<br><small>{escape(views.level_shown(level))}</small></li>"
        for name, level in report["levels"].items()
    )
    return f"<ul class='levels'>{items}</ul>"


def _facts(report: Mapping[str, Any]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in views.facts(report))
    return f"<dl class='facts'>{rows}</dl>"


def _not_shown(groups: Sequence[views.Group]) -> str:
    if not groups:
        return "<p>Nothing: every law of the catalogue that was asked for was shown.</p>"
    return f"<div class='unshown'>{''.join(_group(group) for group in groups)}</div>"


def _group(group: views.Group) -> str:
    lines = "".join(f"<li>{_ids(ids)} {_prose(text)}</li>" for ids, text in group.lines)
    chip = _chip(group.name) if group.name in _COLOURS else f"<span class='chip'>{escape(group.name)}</span>"
    return f"<div class='group'><p>{chip}<span class='meaning'>{escape(group.meaning)}</span></p><ul>{lines}</ul></div>"


def _ids(ids: str) -> str:
    if len(ids) <= _MANY:
        return f"<span class='id'>{escape(ids)}</span>"
    return f"<details><summary>{ids.count(',') + 1} laws</summary><span class='id'>{escape(ids)}</span></details>"


def _failure(report: Mapping[str, Any], case: views.Case) -> str:
    decides = case["duty"] == "MUST"
    duty = "" if decides else f" <span class='chip'>{case['duty']}, does not decide</span>"
    slices = "".join(timeline(part) for part in case["history"])
    return (
        f"<section class='failure{'' if decides else ' softly'}' id='{escape(case['id'])}'>"
        f"<h3>{_chip(case['outcome'])} <span class='id'>{escape(case['id'])}</span> {_prose(case['title'])}{duty}</h3>"
        f"<p class='must'>Must: {_prose(case['must'])}</p><pre>{escape(case['reason'])}</pre>{slices}"
        f"<pre class='again'>{escape(views.replay(report, case))}</pre></section>"
    )


def _matrix(report: Mapping[str, Any]) -> str:
    columns, rows = views.matrix(report["cases"])
    body = [
        [f"<td>{escape(area)}</td>", *(_count(row[column], column) for column in columns)] for area, row in rows.items()
    ]
    return _table(["area", *columns], body, "matrix", numbers=True)


def _count(count: int, column: str) -> str:
    return f"<td class='n {_COLOURS.get(column, 'soft')}'>{count}</td>" if count else "<td class='n zero'>·</td>"


def _promises(report: Mapping[str, Any]) -> str:
    promises = views.promises_of(report)
    measured = [promise for promise in promises if promise.measured]
    others = [promise for promise in promises if not promise.measured]
    numbers = views.other_numbers(report)
    parts = []
    if measured:
        rows = [_cells(p.name, p.declared, p.measured, number=True) for p in measured]
        parts.append(_table(["promise", "declared", "measured"], rows))
    if numbers:
        parts.append(
            _folded(f"{len(numbers)} more measured", _table(["case", "what", "value"], [_cells(*n) for n in numbers]))
        )
    if others:
        rows = [_cells(p.name, p.declared) for p in others]
        parts.append(_folded(f"{len(others)} more declared", _table(["promise", "declared"], rows)))
    return "".join(parts) or "<p class='soft'>The plugin's declaration could not be read.</p>"


def _every_law(report: Mapping[str, Any]) -> str:
    rows = [
        [
            f"<td class='id'>{escape(case['id'])}</td><td>{_chip(case['outcome'] or case['expected'])}</td>",
            f"<td>{_prose(case['title'])}<br><span class='soft'>{_prose(case['must'])}</span></td>",
            f"<td class='n soft'>{'' if case['seconds'] is None else format(case['seconds'], '.2f')}</td>",
        ]
        for case in report["cases"]
    ]
    return (
        f"<h2>Every law asked for</h2>{_folded(f'{len(rows)} laws', _table(['id', 'outcome', 'law', 'seconds'], rows))}"
    )


def _cells(name: str, *texts: str, number: bool = False) -> list[str]:
    kind = " class='num'" if number else ""
    return [f"<td class='id'>{escape(name)}</td>", *(f"<td{kind}>{escape(text)}</td>" for text in texts)]


def _folded(what: str, content: str) -> str:
    return f"<details><summary>{escape(what)}</summary>{content}</details>"


def _table(head: Sequence[str], rows: Iterable[Iterable[str]], kind: str = "", *, numbers: bool = False) -> str:
    first, *others = (escape(text) for text in head)
    heads = f"<th>{first}</th>" + "".join(f"<th{' class=n' if numbers else ''}>{text}</th>" for text in others)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f"<div class='scroll'><table class='{kind}'><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _prose(text: str) -> str:
    """Show what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _chip(text: str) -> str:
    return f"<span class='chip {_COLOURS.get(text, '')}'>{escape(text)}</span>"
