"""What the README shows in Python runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_readme_shows_a_program():
    assert PROGRAMS


@pytest.mark.parametrize("text", PROGRAMS)
def test_a_program_of_the_readme_runs(text: str, tmp_path: Path):
    path = tmp_path / "shown.py"
    path.write_text(text)
    done = subprocess.run([sys.executable, path], check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000
