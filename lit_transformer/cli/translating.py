"""What `translate` and `test` write: the translations of chunks of lines, as rows of text, with progress on stderr."""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lit_transformer.cli.input_lines import chunk_sizes, chunks_of, count_and_digest, file_lines
from lit_transformer.cli.partial_output import PartialOutput, origin_of, partial_output
from lit_transformer.machine import processor
from lit_transformer.notes import counted, print_note
from lit_transformer.progress import progress
from lit_transformer.search_settings import SearchSettings

LONG_SECONDS = 60.0
"""If a translation takes longer, a note names a faster way."""

if TYPE_CHECKING:
    from lit_transformer.decoding.translations import Translation
    from lit_transformer.decoding.translator import Translator


def translate_file(
    translator: "Translator", settings: SearchSettings, n_best: int | None, *, source: Path, output: Path
) -> None:
    """Translate the lines of a file, plain or compressed, to another one, or continue that one.

    Args:
        translator: The model.
        settings: How to search.
        n_best: As in `translated_rows`.
        source: The file.
        output: The file for the translations, which is replaced if it exists.
    """
    from lit_transformer.data.compression import open_text

    with open_text(source) as file:
        total, digest = count_and_digest(file)
    origin = origin_of(translator, settings, input_digest=digest, n_best=n_best)
    with open_text(source) as file, partial_output(output, inputs=[source], origin=origin) as rows:
        append_translations(rows, translator, file_lines(file, str(source)), settings, n_best, total=total)


def append_translations(
    output: PartialOutput,
    translator: "Translator",
    lines: Iterable[str],
    settings: SearchSettings,
    n_best: int | None = None,
    *,
    total: int,
) -> None:
    """Translate lines, except for those whose translations an output has already.

    Args:
        output: Where the translations go.
        translator: The model.
        lines: All lines.
        settings: How to search.
        n_best: As in `translated_rows`.
        total: The number of all lines.
    """
    rows_per_line = n_best or 1
    done, sizes = chunk_sizes(translator, output.num_rows // rows_per_line)
    output.keep(done * rows_per_line)
    if done:
        print_note(f"{counted(done, 'line is', 'lines are')} translated already: line {done + 1:,} is next")
    chunks = chunks_of(islice(lines, done, None), sizes)
    for rows in translated_rows(translator, chunks, settings, n_best, total=total, done=done):
        output.append(rows)


def translated_rows(
    translator: "Translator",
    chunks: Iterable[list[str]],
    settings: SearchSettings,
    n_best: int | None,
    *,
    total: int | None,
    done: int = 0,
    is_shown: bool = True,
) -> Iterator[list[str]]:
    """Translate chunks of lines.

    Args:
        translator: The model.
        chunks: The lines that are not translated yet.
        settings: How to search.
        n_best: How many candidates per line are shown with their scores, or None for the best translations alone.
        total: The number of all lines, if it is known.
        done: The number of lines that are translated.
        is_shown: Whether the progress is shown.

    Yields:
        The rows of each chunk.
    """
    num_few, number = 0, done
    begin, is_named = time.monotonic(), False
    with (
        progress("translating", total, "line", done=done, is_shown=is_shown) as advance,
        closing(translator.stream(chunks, settings, first_line=done + 1, advance=advance)) as stream,
    ):
        for found in stream:
            if n_best is None:
                yield [best[0].text for best in found]
            else:
                yield [row for line, best in enumerate(found, number + 1) for row in _rows(line, best, n_best)]
            number += len(found)
            num_few += sum(len(best) < settings.num_returned for best in found)
            if not is_named and number != total and time.monotonic() - begin >= LONG_SECONDS:
                is_named = True
                _name_faster_way(translator, settings)
    if num_few:
        print_note(
            f"{num_few:,} of {number - done:,} lines have fewer than {n_best} different translations: their other rows "
            "have no text and the score -inf"
        )


def _name_faster_way(translator: "Translator", settings: SearchSettings) -> None:
    """Print a note if something that is no default, because it changes some translations, is faster on this CPU."""
    from lit_transformer.checkpoints.ctranslate2_folder import is_usable

    if translator.device.type != "cpu" or translator.engine_settings.changes:
        return
    searches = settings.sampling is None and is_usable(translator.transformer.config)
    faster = ["--engine ctranslate2"] if searches else []
    faster += ["--compute_type bfloat16"] if processor().has_bfloat16 else []
    if faster:
        names = " or ".join(f"`{option}`" for option in faster)
        print_note(f"{names} is faster here, and changes some translations (docs/speed.md)")


def _rows(number: int, candidates: "list[Translation]", n_best: int) -> list[str]:
    """The candidates of a line as `n_best` rows. If there are fewer, the other rows have no text and the score -inf."""
    found = [f"{number}\t{candidate.score:.4f}\t{candidate.text}" for candidate in candidates]
    return [*found, *[f"{number}\t-inf\t"] * (n_best - len(found))]
