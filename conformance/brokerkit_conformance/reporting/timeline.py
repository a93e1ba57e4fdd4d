"""A slice of history as a table: time runs down, each actor has a lane, a fault crosses all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

__all__ = ["timeline"]

_COLOURS: Final[Mapping[str, str]] = {"ok": "g", "fail": "r", "fault": "r", "unknown": "a", "note": "b"}


def timeline(part: Mapping[str, Any]) -> str:
    """Return a finding's slice as HTML."""
    rows: Sequence[Mapping[str, Any]] = part["rows"]
    lanes = list(dict.fromkeys(row["actor"] for row in rows if row["phase"] != "fault"))
    head = "".join(f"<th>{escape(lane)}</th>" for lane in lanes)
    body = "".join(_row(row, lanes) for row in rows)
    said = f"<p><b>{escape(part['kind'])}</b> · <span class='id'>{escape(part['message'])}</span> in {escape(part['queue'])}: "
    table = f"<table><thead><tr><th class='n'>seconds</th>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class='timeline'>{said}{escape(part['text'])}</p><div class='scroll'>{table}</div></div>"


def _row(row: Mapping[str, Any], lanes: Sequence[str]) -> str:
    at = f"<td class='at num'>{row['at']:.3f}</td>"
    if row["phase"] == "fault":
        target = "everybody" if row["actor"] == "*" else row["actor"]
        what = f"{_chip(row, row['what'])} of {escape(target)} {_detail(row)}"
        text = f"<td class='lane' colspan='{max(len(lanes), 1)}'>{what}</td>"
        return f"<tr class='fault'>{at}{text}</tr>"
    cells = "".join(
        f"<td class='lane'>{_chip(row, row['what'] + ' ' + row['phase'])} {_detail(row)}</td>"
        if lane == row["actor"]
        else "<td class='lane'></td>"
        for lane in lanes
    )
    return f"<tr>{at}{cells}</tr>"


def _chip(row: Mapping[str, Any], text: str) -> str:
    return f"<span class='chip {_COLOURS.get(row['phase'], '')}'>{escape(text)}</span>"


def _detail(row: Mapping[str, Any]) -> str:
    return f"<span class='soft'>{escape(row['detail'])}</span>"
