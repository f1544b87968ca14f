"""The one error a user is meant to read."""


class BadInput(ValueError):
    """Something the user gave cannot be used. Its message is one plain line: which file, what was wrong, what to do.

    The command line prints the message alone and exits with status 2.
    """
