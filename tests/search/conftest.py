"""Lets the tests of this folder import `tiny_clip`, what they share, and the fake server."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "judging"))  # for `fake_server`
