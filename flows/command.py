"""Runs a Typer function as a command: errors of the user are one line, SIGTERM is the same as Ctrl-C."""

import functools
import logging
import signal
import sys
from collections.abc import Callable, Sequence

import typer

from editgan.errors import UserError

RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


def run(
    command: Callable[..., None],
    arguments: Sequence[str] | None,
    *,
    lists: Sequence[str] = (),
    failures: tuple[type[Exception], ...] = (),
    stopped: int = 130,
    last_words: str | None = None,
) -> int:
    """Run a Typer function as the command; returns the exit status, 1 after a UserError.

    Args:
        arguments: the command line; None: that of this process.
        lists: options that take several values: `--stages A B`.
        failures: other errors that are printed as a message, with status 1.
        stopped, last_words: exit status and message after Ctrl-C or SIGTERM.
    """

    @functools.wraps(command)
    def wrapped(**options) -> None:
        try:
            command(**options)
        except (UserError, *failures) as error:
            print(error, file=sys.stderr, flush=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            if last_words:
                print(last_words, file=sys.stderr, flush=True)
            raise typer.Exit(stopped) from None

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in RUN_LOGGERS:
        logging.getLogger(name).addFilter(functools.partial(without_traceback, failures=(UserError, *failures)))
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(wrapped)
    try:
        app(one_each(sys.argv[1:] if arguments is None else arguments, lists))
    except SystemExit as ended:
        return ended.code or 0


def without_traceback(record: logging.LogRecord, failures: tuple[type[Exception], ...]) -> bool:
    """A logging filter that lets Prefect log these errors as one line, without the traceback."""
    if record.exc_info and isinstance(record.exc_info[1], failures):
        record.exc_info = None
    return True


def one_each(arguments: Sequence[str], lists: Sequence[str]) -> list[str]:
    """Repeat the options in `lists` before each of their values: `--stages A` -> `--stages "" --stages A`."""
    words, option = [], None
    for word in arguments:
        if word.startswith("-"):
            option = word if word in lists else None
            words += [word, ""] if option else [word]
        else:
            words += [option, word] if option else [word]
    return words
