"""The lines that a person types on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING

from lit_transformer.notes import print_note

if TYPE_CHECKING:
    from lit_transformer.data.tokenizer import Tokenizer


def typed_lines(tokenizer: "Tokenizer | None") -> Iterator[str]:
    """Ask for sentences on the terminal, and yield each when it is typed.

    Args:
        tokenizer: The vocabulary of a translator. If it is the demo's, a note names the words that the demo corpus does
            not have.
    """
    from lit_transformer.data.demo.known_words import unknown_words

    tokens = [] if tokenizer is None else tokenizer.tokens(list(range(tokenizer.vocab_size)))
    print("Type a sentence and press Enter. Ctrl-D ends.", file=sys.stderr)
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    with suppress(ImportError):  # on Windows, whose terminals edit lines themselves
        # Imported here, because it may write to the terminal. From now on, `input` edits lines and keeps a history.
        import readline

        # Several lines that are pasted are several sentences.
        readline.parse_and_bind("set enable-bracketed-paste off")
    while True:
        try:
            line = _ask("> ")
        except (EOFError, KeyboardInterrupt) as error:
            print(file=sys.stderr)
            if isinstance(error, EOFError):
                return
            raise
        if unknown := unknown_words(line, tokens):
            print_note(f"the demo corpus does not have {', '.join(unknown)}, so this translation is a guess")
        yield line


def _ask(prompt: str) -> str:
    if sys.stdout.isatty() and sys.stderr.isatty():
        return input(prompt)  # `readline` must know the prompt, because it draws the line again
    # `input` would write the prompt to stdout, which may be a file.
    print(prompt, end="", file=sys.stderr, flush=True)
    return input()
