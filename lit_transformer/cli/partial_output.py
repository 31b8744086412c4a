"""A file of results that grows line by line, and that the same command continues after an interruption.

The rows so far are in `FILE.partial`, and `FILE.partial.json` records what they depend on. Rows are only appended, so
after a kill at any moment, all whole rows are right. The finished file becomes `FILE` at once.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from filelock import FileLock, Timeout

from lit_transformer.checkpoints.content import content_digest
from lit_transformer.cli.options import SEARCH_OPTIONS
from lit_transformer.errors import UserError
from lit_transformer.files import is_device, output_file, whole_file, writable
from lit_transformer.notes import counted, print_note
from lit_transformer.search_settings import SearchSettings

if TYPE_CHECKING:
    from lit_transformer.decoding.translator import Translator

PARTIAL = ".partial"

Origin = Mapping[str, str | int | float | None]
"""What rows depend on: names, and values or digests."""


class PartialOutput:
    """The rows of an output.

    Args:
        file: Open for reading and appending.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.num_rows = sum(row.endswith(b"\n") for row in file)

    def keep(self, num_rows: int) -> None:
        """Keep only the first rows."""
        self._file.seek(0)
        size = sum(len(row) for row, _ in zip(self._file, range(num_rows), strict=False))
        self._file.truncate(size)
        self.num_rows = num_rows

    def append(self, rows: Iterable[str]) -> None:
        """Write rows, so that they survive the end of this process."""
        rows = list(rows)
        self._file.write("".join(f"{row}\n" for row in rows).encode())
        self._file.flush()
        self.num_rows += len(rows)

    def rows(self) -> list[str]:
        """All rows so far."""
        self._file.seek(0)
        return self._file.read().decode().split("\n")[:-1]


@contextmanager
def partial_output(path: Path, *, inputs: Iterable[Path], origin: Origin) -> Iterator[PartialOutput]:
    """Give the rows that an earlier start has written to an output, to append the others.

    An output that exists is replaced at the end. A device or a pipe cannot be continued.

    Args:
        path: The output.
        inputs: Files that it must not be (`check_no_input`).
        origin: What the rows depend on.

    Raises:
        UserError: The output cannot be written, another process writes it, or its earlier rows are of another origin.
    """
    if is_device(path):
        with output_file(path, inputs=inputs) as unfinished, unfinished.open("ab+") as file:
            yield PartialOutput(file)
        return
    with writable(path, inputs=inputs) as real_path:
        partial = real_path.with_name(real_path.name + PARTIAL)
        record = partial.with_name(f"{partial.name}.json")
        with _locked(partial):
            if partial.exists():
                _check_origin(record, origin, partial)
            else:
                with whole_file(record) as unfinished:
                    unfinished.write_text(json.dumps(dict(origin), indent=1), encoding="utf-8")
            with partial.open("ab+") as file:
                file.seek(0)
                output = PartialOutput(file)
                try:
                    yield output
                except (KeyboardInterrupt, UserError):
                    if output.num_rows:
                        rows = counted(output.num_rows, "row is", "rows are")
                        print_note(f"{rows} in {partial}: the same command continues from there")
                    else:
                        partial.unlink()
                        record.unlink()
                    raise
            partial.replace(real_path)
            record.unlink()


@contextmanager
def _locked(partial: Path) -> Iterator[None]:
    lock = FileLock(f"{partial}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another process writes {partial}: wait for its end, or choose another output") from error
    try:
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def _check_origin(record: Path, origin: Origin, partial: Path) -> None:
    """Raise UserError if earlier rows are of another origin."""
    try:
        former = json.loads(record.read_text(encoding="utf-8"))
        differing = [name for name in {**former, **origin} if former.get(name) != origin.get(name)]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{partial} cannot be continued, because {record.name} cannot be read: remove both") from error
    if differing:
        names = ", ".join(_difference(name, former.get(name), origin.get(name)) for name in differing)
        raise UserError(
            f"{partial} was begun with another {names}: use the same again, choose another output, or remove that file "
            "to start again"
        )


def _difference(name: str, former: object, now: object) -> str:
    return name if isinstance(now, str) else f"{name} ({former}, now {now})"


def origin_of(translator: "Translator", settings: SearchSettings, *, input_digest: str, n_best: int | None) -> Origin:
    """What translations depend on. The size of batches and the device do not belong to it.

    Nor do the default engine and its type and the defaults of newer settings, so that what an earlier version has begun
    is continued.

    Args:
        translator: The model, known by its weights, so that it may lie at another place.
        settings: The settings of the search.
        input_digest: Identifies the lines.
        n_best: The candidates that are shown per line, or None for the translations alone.
    """
    return {
        "input": input_digest,
        "checkpoint": content_digest(translator.transformer, translator.vocabularies),
        **{name: getattr(settings, name) for name in SEARCH_OPTIONS},
        **{name: value for name, value in settings.changes.items() if name != "sampling"},
        **({} if settings.sampling is None else asdict(settings.sampling)),
        "n_best": n_best,
        **translator.engine_settings.changes,
    }
