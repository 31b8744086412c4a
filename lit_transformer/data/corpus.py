"""A corpus is one string: `demo`, `copy`, a folder, or the name of a data set on the Hugging Face Hub.

`find_text` turns the string into the sentence pairs of one split. It finds them without reading them, so a large text
folder takes no time if it was read before. A new corpus source is one module that returns a `Text`, and one branch of
`find_text`. This module knows nothing about tokens.
"""

from pathlib import Path

from datasets import Dataset

from lit_transformer.data.built_in import find_built_in, is_built_in
from lit_transformer.data.hub import find_on_hub
from lit_transformer.data.table_folder import find_table_folder, is_table_folder
from lit_transformer.data.text import Text
from lit_transformer.data.text_folder import find_text_folder, is_text_folder
from lit_transformer.errors import UserError
from lit_transformer.files import expanded


def find_text(corpus: str, *, split: str, source: str, target: str, cache_dir: Path) -> Text:
    """Find the sentence pairs of one split, in the order of the corpus.

    Args:
        corpus: `demo` or `demo:50000` (this many training pairs); `copy`, the copy task; a folder of
            `SPLIT.LANG` files, plain or `.gz`; or a Hub data set with its configuration after a colon
            (`wmt/wmt14:de-en`), which may also be a folder that holds a copy of one. `demo` and `copy` always mean
            the built-in corpora. Otherwise an existing folder wins, and a string that begins with `/`, `.` or `~` is
            always a path: `./demo` is the folder of that name.
        split: Name of the split. `valid`, `validation` and `val` mean the same.
        source: Code of the source language, as in the file or column names.
        target: Code of the target language.
        cache_dir: Folder for what is computed from the corpus. Data sets of the Hub stay in Hugging Face's cache.

    Raises:
        UserError: There is no such corpus, split or language, or it cannot be read.
    """
    cache_dir = expanded(cache_dir)
    if is_built_in(corpus):
        return find_built_in(corpus, split=split, source=source, target=target, cache_dir=cache_dir)
    folder, configuration = as_folder(corpus)
    if source == target:
        raise UserError(f"source and target are both {source}: give two languages of {corpus}")
    if folder is None:
        return find_on_hub(corpus, split=split, source=source, target=target)
    if not is_text_folder(folder, (source, target)) and is_table_folder(folder):
        return find_table_folder(folder, configuration, split=split, source=source, target=target, cache_dir=cache_dir)
    if configuration is not None:
        raise UserError(f"corpus {corpus}: a folder of text files has no configurations; leave out `:{configuration}`")
    return find_text_folder(folder, split=split, source=source, target=target, cache_dir=cache_dir)


def load_pairs(corpus: str, *, split: str, source: str, target: str, cache_dir: Path) -> Dataset:
    """Load the sentence pairs of one split.

    Args:
        corpus: As in `find_text`, like all arguments.
        split: Name of the split.
        source: Code of the source language.
        target: Code of the target language.
        cache_dir: Folder for what is computed from the corpus.

    Returns:
        A memory-mapped dataset with the string columns `source` and `target`.
    """
    return find_text(corpus, split=split, source=source, target=target, cache_dir=cache_dir).load()


def as_folder(corpus: str) -> tuple[Path | None, str | None]:
    """Return the folder and the configuration that a corpus string means.

    Both are None for a built-in corpus and for one of the Hub.

    Raises:
        UserError: The string is empty, or it means a path that is no folder.
    """
    if not corpus:
        raise UserError("corpus is empty: give `demo`, `copy`, a folder, or a Hub data set such as wmt/wmt14:de-en")
    if is_built_in(corpus):
        return None, None
    name, colon, configuration = corpus.rpartition(":")
    try:
        if expanded(corpus).is_dir():
            return expanded(corpus), None
        if colon and name and expanded(name).is_dir():
            return expanded(name), configuration
        exists = expanded(corpus).exists()
    except OSError as error:  # such as a name that is too long
        raise UserError(f"cannot read corpus {corpus[:200]}: {error.strerror}; correct it") from error
    if exists:
        raise UserError(f"corpus {corpus} is a file: give the folder that holds the SPLIT.LANG files")
    if corpus[0] in "/.~":
        raise UserError(f"corpus {corpus}: there is no such folder; correct it (paths are relative to {Path.cwd()})")
    return None, None
