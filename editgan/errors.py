"""The one error class for what a user can get wrong."""


class UserError(Exception):
    """Bad input: the message names the file or key, the value given, and what would be right.

    `python -m editgan` prints the message alone, without a traceback, and exits with status 1.
    """
