"""Goodeye: judge what image models make, keep what is good, teach them to do better, and prove it."""

__version__ = "0.1.0"
