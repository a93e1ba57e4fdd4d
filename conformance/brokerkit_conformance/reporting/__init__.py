"""The report in its four forms: report.json, junit.xml, report.md, report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brokerkit_conformance.reporting.junit import junit
from brokerkit_conformance.reporting.markdown import markdown
from brokerkit_conformance.reporting.page import page

__all__ = ["write"]


def write(report: Mapping[str, Any], folder: Path) -> Path:
    """Write all forms of a report into a folder, which is made; returns the path of report.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    for name, text in (("junit.xml", junit), ("report.md", markdown), ("report.html", page)):
        (folder / name).write_text(text(report), encoding="utf-8")
    return path
