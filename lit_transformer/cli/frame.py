"""The frame of every command: error messages, standard streams and exit statuses."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn, TextIO

from lit_transformer.cli.parser_errors import condensed
from lit_transformer.errors import UserError, underlying
from lit_transformer.notes import printable


@contextmanager
def in_one_line(place: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn an exception of jsonargparse, Lightning or torch about a setting into a `UserError`.

    Args:
        place: The beginning of the line.
        kinds: The exceptions that mean a wrong setting, by default all. Others pass.
    """
    about_settings = kinds or (Exception,)
    try:
        yield
    except (UserError, UnicodeEncodeError):
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"a file of --config is not UTF-8 ({error.reason}): convert it") from error
    except about_settings as error:
        reason = condensed(str(error)) or type(error).__name__
        raise UserError(f"{place}: {reason} (all settings: --print_config)") from error


def end_command(error: OSError) -> NoReturn:
    """End a command because stdout cannot be written. If its reader is gone (`| head`), there is no message."""
    if isinstance(error, BrokenPipeError):
        sys.exit(0)
    raise UserError(f"cannot write to stdout: {error.strerror}; free space there") from error


@contextmanager
def user_errors_to_exit(
    cannot_print: Callable[[OSError], None] = end_command, spell: Callable[[str], str] = str
) -> Iterator[None]:
    """Run a command: turn mistakes into exit statuses, make the standard streams reliable, and keep the environment.

    A `UserError` becomes one line on stderr and status 2. Ctrl-C becomes one line and status 130. Other exceptions are
    defects and pass. stdout is UTF-8 in every locale. Characters without an encoding are written with backslashes.

    Args:
        cannot_print: Called if stdout cannot be written. Output that cannot be written to stderr is lost.
        spell: Puts the command's names of its options into the message of a `UserError`, which names arguments.
    """
    with _environment_kept(), _standard_streams(cannot_print), _quiet_matplotlib():
        try:
            yield
            # Flush here, where an error can be reported, and not when Python ends.
            print(end="", flush=True)
        except (Exception, KeyboardInterrupt) as error:
            sys.exit(_report(error, spell))


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Give back the environment, in which the machine's settings and Lightning's lie."""
    former = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(former)


@contextmanager
def torch_kept() -> Iterator[None]:
    """Give back torch's precision of products and its threads, which commands choose.

    If torch is loaded meanwhile, the precision is afterwards torch's default.
    """
    torch = sys.modules.get("torch")
    precision, threads = (torch.get_float32_matmul_precision(), torch.get_num_threads()) if torch else ("highest", None)
    try:
        yield
    finally:
        if "torch" in sys.modules:
            sys.modules["torch"].set_float32_matmul_precision(precision)
        if torch:
            torch.set_num_threads(threads)


@contextmanager
def _quiet_matplotlib() -> Iterator[None]:
    """Hide that matplotlib, which torchmetrics loads, lists fonts or finds no folder to keep the list in."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _report(error: BaseException, spell: Callable[[str], str]) -> int:
    """Print in one line why a command ends, and return its status. Defects are raised again."""
    if underlying(error, KeyboardInterrupt) is not None:
        print("interrupted", file=sys.stderr)
        return 130  # 128 and the signal's number, as shells count
    # The mistake may be the context of another error: torch raises one in the main thread when a data worker dies.
    if mistake := underlying(error, UserError):
        message = printable(spell(str(mistake)))
    elif isinstance(error, UnicodeEncodeError):
        # Bytes of a file name that are not UTF-8 are surrogates in Python's strings.
        message = f"{error.object!a:.200} is not UTF-8 and cannot be used here: rename it"
    else:
        raise error
    print(f"error: {message}", file=sys.stderr)
    return 2


@contextmanager
def _standard_streams(cannot_print: Callable[[OSError], None]) -> Iterator[None]:
    # The next file that is opened would get the number of a closed descriptor (`2>&-`).
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    with ExitStack() as stack:
        # If sys.stderr is None, `print` writes to stdout.
        stderr = sys.stderr or stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        streams = (sys.stdin, sys.stdout, stderr)
        for stream in streams:
            # If another program has made the pipe non-blocking, Python loses what cannot be written at once.
            with suppress(OSError, AttributeError, ValueError):
                if not os.get_blocking(number := stream.fileno()):
                    os.set_blocking(number, True)
                    stack.callback(os.set_blocking, number, False)
        if sys.stdout is not None:
            stdout = stack.enter_context(_in_utf8(sys.stdout))
            stack.callback(_drop_unwritten, stdout)
            stack.enter_context(redirect_stdout(_Guarded(stdout, cannot_print)))
        stack.callback(_drop_unwritten, stderr)
        stack.enter_context(redirect_stderr(_Guarded(stderr, lambda _: None)))
        yield


@contextmanager
def _in_utf8(stream: TextIO) -> Iterator[TextIO]:
    """Write text in UTF-8 to the bytes of a stream, and leave the stream itself as it is."""
    if not isinstance(stream, TextIOWrapper):
        yield stream
        return
    with suppress(OSError):  # it is reported when the command writes
        stream.flush()
    in_utf8 = TextIOWrapper(
        stream.buffer,
        encoding="utf-8",
        errors="backslashreplace",
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    try:
        yield in_utf8
    finally:
        in_utf8.detach()


class _Guarded:
    """A text stream that passes its write errors to `failed`."""

    def __init__(self, stream: TextIO, failed: Callable[[OSError], None]) -> None:
        self._stream = stream
        self._failed = failed

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _drop_unwritten(stream: TextIO) -> None:
    """Discard what could not be written. Otherwise, Python tries again at exit and reports an error."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
