"""The error classes for what a user can get wrong."""


class UserError(Exception):
    """Bad input: the message names the file or key, the value given, and what would be right.

    `python -m editgan` prints the message alone, without a traceback, and exits with status 1.
    """


class Unusable(Exception):
    """The reason why one file cannot be used, without its name, for lists of rejected files."""
