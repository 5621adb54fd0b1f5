import subprocess
import sys
from pathlib import Path

from spoold.lifecycle import TABLE

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "lifecycle.md"


def test_the_page_in_the_docs_is_what_the_table_draws() -> None:
    tool = ROOT / "tools" / "lifecycle_diagram.py"
    drawn = subprocess.run([sys.executable, tool], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert PAGE.read_text() == drawn, "run: python tools/lifecycle_diagram.py > docs/lifecycle.md"


def test_every_row_of_the_table_stands_on_the_page() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")][2:]
    assert [(row[0].removeprefix("| "), row[1], row[3]) for row in rows] == [(r.state, r.event, r.to) for r in TABLE]
