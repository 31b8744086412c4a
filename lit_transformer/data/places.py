"""What a corpus string means on this disk: a folder, a file, or a pair of files."""

from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from lit_transformer.data.compression import plain_or_compressed, uncompressed
from lit_transformer.errors import UserError
from lit_transformer.files import expanded, is_address


def find_places(corpus: str, *, source: str, target: str) -> tuple[list[Path], str | None]:
    """Find the folder or the files that a corpus string means.

    Args:
        corpus: The string.
        source: Code of the source language. A pair of files may be named after the languages.
        target: Code of the target language.

    Returns:
        A folder, a file, a pair of files, or nothing, and the configuration after the colon behind a folder.

    Raises:
        UserError: The string is empty, or it can only mean a path that is not there.
    """
    if not corpus:
        raise UserError("corpus is empty: give `demo`, `copy`, a folder, a file, or a Hub data set (wmt/wmt14:de-en)")
    if is_address(corpus):  # the Hub's, or an error there
        return [], None
    name, colon, configuration = corpus.rpartition(":")
    try:
        if expanded(corpus).exists():
            return [expanded(corpus)], None
        if colon and name and expanded(name).is_dir():
            return [expanded(name)], configuration
        pair = _named_by_language(corpus, source, target) or _named_by_comma(corpus, source, target)
        if not pair and corpus[0] in "/.~":
            raise UserError(f"corpus {corpus}: {not_on_disk(corpus)}")
    except OSError as error:  # such as a name that is too long
        raise UserError(f"cannot read corpus {corpus[:200]}: {error.strerror}; correct it") from error
    return pair, None


def not_on_disk(corpus: str) -> str:
    """Say which part of a path is not there, and which name there is similar."""
    path = expanded(corpus)
    while not path.parent.is_dir():
        path = path.parent
    if path.is_symlink():
        return f"the link {path} leads to nothing; correct it"
    names: list[str] = []
    with suppress(OSError):  # a folder that cannot be listed
        names = [each.name for each in path.parent.iterdir()]
    similar = get_close_matches(path.name, names, n=1)
    hint = f"did you mean {path.parent / similar[0]}?" if similar else f"paths are relative to {Path.cwd()}"
    return f"there is no file or folder {path} ({hint})"


def files_by_language(stem: Path, source: str, target: str) -> tuple[Path | None, Path | None]:
    """Return the files `STEM.LANG` of two languages, plain or compressed, and None for one that is not there."""
    source_path, target_path = (plain_or_compressed(Path(f"{stem}.{language}")) for language in (source, target))
    return source_path, target_path


def _named_by_language(corpus: str, source: str, target: str) -> list[Path]:
    """Find a pair by what its names have in common: `europarl-v7.de-en` for `europarl-v7.de-en.de` and `.en`."""
    found = files_by_language(expanded(corpus), source, target)
    paths = [path for path in found if path is not None]
    if len(paths) == 1:
        missing = target if found[0] else source
        raise UserError(f"corpus {corpus}: {paths[0]} is there, but {corpus}.{missing} is not; add it")
    return paths


def _named_by_comma(corpus: str, source: str, target: str) -> list[Path]:
    """Find a pair by both names: `train.src,train.tgt`. A name may have commas of its own."""
    commas = [position for position, character in enumerate(corpus) if character == ","]
    names = [(corpus[:comma], corpus[comma + 1 :]) for comma in commas]
    found = next((pair for pair in names if all(expanded(name).exists() for name in pair)), None)
    if found is None:
        if names:
            missing = next((name for name in names[0] if not expanded(name).exists()), corpus)
            raise UserError(f"corpus {corpus}: {not_on_disk(missing)}")
        return []
    if [uncompressed(name).rpartition(".")[2] for name in found] == [target, source]:
        raise UserError(f"corpus {corpus}: the source file must be first: give {found[1]},{found[0]}")
    return [expanded(name) for name in found]
