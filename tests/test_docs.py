"""The documentation is true: its generated parts are up to date, its examples run, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SHOWN = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)


def test_the_generated_parts_are_up_to_date() -> None:
    run = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", ""), "type: make docs"


@pytest.mark.parametrize("page", ["index.md", "getting-started.md"])
def test_the_examples_of_a_page_run_in_their_order_and_print_what_they_say(page: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall((DOCS / page).read_text())
    program = tmp_path / "page.py"
    program.write_text("import brokerkit.errors\n" + "".join(blocks))
    run = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    expected = [text for block in blocks for text in SHOWN.findall(block)]
    printed = run.stdout.splitlines()
    for said in expected:
        start = said.removesuffix("…")
        assert any(line == said or (start != said and line.startswith(start)) for line in printed), (said, printed)
    assert len(printed) >= len(expected)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(DOCS)) for page in PAGES])
def test_every_link_leads_to_a_page_and_a_heading_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        assert not target.startswith("http"), "a link that no test can follow"
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert other.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target
