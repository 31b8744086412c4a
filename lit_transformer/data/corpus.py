"""A corpus is one string: a built-in corpus, a folder, a file, a pair of files, or a data set of the Hugging Face Hub.

`find_text` turns the string into the sentence pairs of one split. It finds them without reading them, so a large text
folder takes no time if it was read before. A new corpus source is one module that returns a `Text`, and one branch of
`find_text`. This module knows nothing about tokens.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from datasets import Dataset

from lit_transformer.data.built_in import find_built_in, is_built_in
from lit_transformer.data.cache import CacheNotWritable
from lit_transformer.data.hub import find_on_hub
from lit_transformer.data.places import find_places
from lit_transformer.data.table_folder import find_table_folder, is_table_folder
from lit_transformer.data.tables import find_tables, table_suffix
from lit_transformer.data.text import Text
from lit_transformer.data.text_folder import find_text_files, find_text_folder, is_text_folder
from lit_transformer.errors import UserError
from lit_transformer.files import expanded
from lit_transformer.notes import print_note


def find_text(corpus: str, *, split: str, source: str, target: str, cache_dir: Path) -> Text:
    """Find the sentence pairs of one split, in the order of the corpus.

    docs/corpora.md lists all forms of a corpus. `demo` and `copy` always mean the built-in corpora. Otherwise what is
    on this disk wins, and a string that begins with `/`, `.` or `~` is always a path: `./demo` is the folder of that
    name.

    Args:
        corpus: The corpus string.
        split: Name of the split. `valid`, `validation`, `val` and `dev` mean the same. A corpus without splits
            (`has_splits`) is read whole.
        source: Code of the source language, as in the file or column names.
        target: Code of the target language.
        cache_dir: Folder for what is computed from the corpus. Data sets of the Hub stay in Hugging Face's cache.

    Raises:
        UserError: There is no such corpus, split or language, or it cannot be read.
    """
    cache_dir = expanded(cache_dir)
    if is_built_in(corpus):
        return find_built_in(corpus, split=split, source=source, target=target, cache_dir=cache_dir)
    places, configuration = find_places(corpus, source=source, target=target)
    if source == target:
        raise UserError(f"source and target are both {source}: give two languages of {corpus}")
    if not places:
        return find_on_hub(corpus, split=split, source=source, target=target)
    if len(places) == 2:
        return find_text_files(*places, cache_dir=cache_dir)
    [folder] = places
    if folder.is_file():
        return _find_table(corpus, folder, source, target, cache_dir)
    if not is_text_folder(folder, source, target) and is_table_folder(folder):
        return find_table_folder(folder, configuration, split=split, source=source, target=target, cache_dir=cache_dir)
    if configuration is not None:
        raise UserError(f"corpus {corpus}: a folder of text files has no configurations; leave out `:{configuration}`")
    return find_text_folder(folder, split=split, source=source, target=target, cache_dir=cache_dir)


def load_pairs(corpus: str, *, split: str, source: str, target: str, cache_dir: Path) -> Dataset:
    """Load the sentence pairs of one split, into memory if the cache cannot be written.

    Args:
        corpus: As in `find_text`, like all arguments.
        split: Name of the split.
        source: Code of the source language.
        target: Code of the target language.
        cache_dir: Folder for what is computed from the corpus.

    Returns:
        A dataset with the string columns `source` and `target`.

    Raises:
        UserError: As in `find_text`.
    """
    find = partial(find_text, corpus, split=split, source=source, target=target)
    try:
        return find(cache_dir=cache_dir).load()
    except CacheNotWritable as error:
        print_note(f"{error}. This time the corpus is kept in memory")
        with TemporaryDirectory() as temporary:
            return Dataset.from_dict(find(cache_dir=Path(temporary)).load()[:])


def has_splits(corpus: str, *, source: str, target: str) -> bool:
    """Whether a corpus has splits. A file and a pair of files have none.

    Raises:
        UserError: The string means files that are not there.
    """
    places = corpus_places(corpus, source=source, target=target)
    return not places or places[0].is_dir()


def corpus_places(corpus: str, *, source: str, target: str) -> list[Path]:
    """Return the folder or the files that a corpus string means, none for a built-in corpus and for one of the Hub.

    Raises:
        UserError: The string means files that are not there.
    """
    return [] if is_built_in(corpus) else find_places(corpus, source=source, target=target)[0]


def _find_table(corpus: str, file: Path, source: str, target: str, cache_dir: Path) -> Text:
    if table_suffix(file.name) is None:
        raise UserError(
            f"corpus {corpus} is a single file, but not a table (.tsv, .csv, .jsonl, .parquet): give both files of a "
            f"pair ({corpus},TARGET_FILE), or a folder of SPLIT.LANG files; unpack an archive first"
        )
    return find_tables([file], source=source, target=target, cache_dir=cache_dir)
