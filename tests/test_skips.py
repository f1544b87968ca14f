"""A test that is skipped says why, however the tests are run."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def test_why_a_test_is_skipped_is_told(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("import pytest\n\ndef test_one():\n    pytest.skip('no browser is here')\n")
    command = [sys.executable, "-m", "pytest", "-c", str(REPOSITORY / "pyproject.toml"), "-p", "no:cacheprovider"]
    done = subprocess.run([*command, str(tmp_path / "test_one.py")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "1 skipped" in done.stdout
    assert "SKIPPED [1]" in done.stdout and "no browser is here" in done.stdout
