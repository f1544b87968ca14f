"""Lets the tests of this folder import `tiny_editor`, what they share, and the fake server of tests/judging."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "judging")]
