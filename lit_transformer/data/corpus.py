"""A corpus is one string: `demo`, `copy`, a folder, or the name of a data set on the Hugging Face Hub.

Whatever it is, `load_pairs` gives a memory-mapped dataset of raw text with the columns `source` and `target`, and
`find_text` the same by its fingerprint, for those who may not have to read it. This module knows nothing about tokens.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Features, Value
from datasets.naming import camelcase_to_snakecase
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

from lit_transformer.data.arrow_file import cached, open_arrow, write_arrow
from lit_transformer.data.copy_task import COPY_SPLITS, copy_pairs
from lit_transformer.data.demo.corpus import DEMO_SPLITS, demo_pairs
from lit_transformer.data.table_folder import is_table_folder, load_tables
from lit_transformer.data.text_folder import PAIR_SCHEMA, Text, find_text_folder, is_text_folder, split_names
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.files import expanded

_BUILT_IN = ("demo", "copy")
_HUB_TIMEOUT_SECONDS = 10.0
_OTHER_WAYS = (
    "without network use `demo` or `copy`, a folder of SPLIT.LANG text files, or a folder with a copy of the data set "
    "(`hf download NAME --repo-type dataset --local-dir FOLDER` where there is network)"
)


def load_pairs(corpus: str, *, split: str, source: str, target: str, cache_dir: Path) -> Dataset:
    """Raw sentence pairs in the order of the corpus.

    Args:
        corpus: `demo` or `demo:50000` (that many training pairs); `copy`, the copy task; a folder of
            `SPLIT.LANG` files, plain or `.gz`; or a Hub data set with its configuration after a colon
            (`wmt/wmt14:de-en`), which may also be a folder that holds a copy of one. `demo` and `copy` are always
            the built-in corpora. Otherwise an existing folder wins, and what begins with `/`, `.` or `~` is always
            a path: `./demo` is the folder of that name.
        split: Name of the split; `valid`, `validation` and `val` are the same.
        source: Code of the source language, as in the file or column names.
        target: Code of the target language.
        cache_dir: Folder for what is computed from the corpus. Data sets of the Hub stay in Hugging Face's
            own cache.

    Returns:
        A dataset with the string columns `source` and `target`.
    """
    return find_text(corpus, split=split, source=source, target=target, cache_dir=cache_dir).load()


def find_text(corpus: str, *, split: str, source: str, target: str, cache_dir: Path) -> Text:
    """What `load_pairs` gives, found but not read: a large text folder takes no time if it was read before."""
    cache_dir = expanded(cache_dir)
    try:
        folder, configuration = as_folder(corpus)
    except OSError as error:
        raise UserError(f"cannot read {corpus[:200]}: {error.strerror}; correct --data.corpus") from error
    if folder is None and corpus.partition(":")[0] in _BUILT_IN:
        pairs = _load_built_in(corpus, split, source, target, cache_dir)
        return Text(pairs._fingerprint, lambda: pairs)
    elif folder is None:
        pairs = _load_hub(corpus, split, source, target)
    elif not is_text_folder(folder, (source, target)) and is_table_folder(folder):
        tables = load_tables(folder, configuration=configuration, split=split, cache_dir=cache_dir)
        pairs = _columns(tables, corpus, source, target)
    elif configuration is not None:
        raise UserError(f"{folder} has no data set with configurations: leave out `:{configuration}`")
    else:
        return find_text_folder(folder, split=split, source=source, target=target, cache_dir=cache_dir)

    def load() -> Dataset:
        with _damage_to_user_error(corpus):
            _validate(pairs.data)
        return pairs

    return Text(pairs._fingerprint, load)


def sentences(pairs: Dataset) -> Iterator[str]:
    """All sentences of a corpus, source and target by turns: the text for a shared vocabulary."""
    for batch in pairs.iter(batch_size=1000):
        for pair in zip(batch["source"], batch["target"], strict=True):
            yield from pair


def as_folder(corpus: str) -> tuple[Path | None, str | None]:
    """The folder and configuration that a corpus string means; (None, None) for a built-in one and one of the Hub."""
    if not corpus:
        raise UserError(
            "--data.corpus is empty: give `demo`, `copy`, a folder, or a Hub data set such as wmt/wmt14:de-en"
        )
    if corpus.partition(":")[0] in _BUILT_IN:
        return None, None
    path = expanded(corpus)
    if path.is_dir():
        return path, None
    name, colon, configuration = corpus.rpartition(":")
    if colon and name and expanded(name).is_dir():
        return expanded(name), configuration
    if path.exists():
        raise UserError(f"{corpus} is a file: --data.corpus takes the folder with the SPLIT.LANG files")
    if corpus[0] in "/.~":
        raise UserError(f"folder {corpus} does not exist: correct --data.corpus (paths are relative to {Path.cwd()})")
    return None, None


def _load_built_in(corpus: str, split: str, source: str, target: str, cache_dir: Path) -> Dataset:
    name, colon, number = corpus.partition(":")
    known = DEMO_SPLITS if name == "demo" else COPY_SPLITS
    split_name = next((alias for alias in split_names(split) if alias in known), None)
    if split_name is None:
        raise UserError(f"the {name} corpus has no split {split!r}: there are {', '.join(known)}")
    if name == "copy":
        if colon:
            raise UserError(f"{corpus!r}: the copy corpus has one size: leave out `:{number}`")
        pairs = copy_pairs(split_name)
    else:
        if colon and not (number.isdecimal() and int(number) > 0):
            raise UserError(f"{corpus!r}: what follows `demo:` is a number of training pairs, as in demo:50000")
        num_pairs = int(number) if colon and split_name == "train" else None
        pairs = _demo_texts(split_name, num_pairs, source, target)
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    digest = hashlib.blake2b("\n".join(["", *sources, "", *targets]).encode(), digest_size=16)
    batch = pa.record_batch([sources, targets], schema=PAIR_SCHEMA)
    file = cached(
        cache_dir / "built_in" / f"{digest.hexdigest()}.arrow",
        lambda unfinished: write_arrow(unfinished, PAIR_SCHEMA, [batch]),
    )
    return open_arrow(file, fingerprint=digest.hexdigest())


def _demo_texts(split: str, num_pairs: int | None, source: str, target: str) -> list[tuple[str, str]]:
    if {source, target} != {"en", "de"}:
        raise UserError(
            "the demo corpus is English-German: --data.source and --data.target must be en and de "
            f"(either way round), not {source} and {target}"
        )
    pairs = demo_pairs(split, num_pairs=num_pairs)
    return [(pair.english, pair.german) if source == "en" else (pair.german, pair.english) for pair in pairs]


def _load_hub(corpus: str, split: str, source: str, target: str) -> Dataset:
    name, _, configuration = corpus.partition(":")
    _check_hub(name)
    try:
        splits = datasets.load_dataset(name, configuration or None)
    except Exception as error:  # network, disk, unknown configuration, broken data: each has kinds of its own
        raise UserError(
            f"cannot load {corpus!r} from the Hugging Face Hub: {innermost_reason(error)}; {_OTHER_WAYS}"
        ) from error
    return _columns(_split(splits, corpus, split), corpus, source, target)


def _check_hub(name: str) -> None:
    """Say within seconds that the Hub cannot be reached or has no such data set.

    `load_dataset` alone would retry for half a minute, and for minutes where a firewall swallows packets. It
    is left to it to find a copy in its own cache, if there is one.
    """
    try:
        if not datasets.config.HF_HUB_OFFLINE:
            HfApi().dataset_info(name, timeout=_HUB_TIMEOUT_SECONDS)
            return
        reason = "offline mode is set in the environment"
    except HFValidationError as error:
        raise UserError(f"{name!r} is neither an existing folder nor the name of a Hub data set") from error
    except GatedRepoError as error:
        raise UserError(
            f"data set {name!r} asks for consent: give it at https://huggingface.co/datasets/{name}, "
            "then run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{name!r} is neither an existing folder nor a data set on the Hugging Face Hub: "
            "correct --data.corpus (or run `hf auth login` if it is private)"
        ) from error
    except Exception as error:  # which ones depends on the HTTP library below huggingface_hub
        reason = innermost_reason(error)
    namespace, _, base = name.rpartition("/")
    folder = "___".join(filter(None, (namespace, camelcase_to_snakecase(base))))
    if not (Path(datasets.config.HF_DATASETS_CACHE) / folder).is_dir():
        raise UserError(f"cannot reach the Hugging Face Hub for corpus {name!r} ({reason}): {_OTHER_WAYS}")


def _split(splits: DatasetDict, corpus: str, split: str) -> Dataset:
    for name in split_names(split):
        if name in splits:
            return splits[name]
    raise UserError(f"corpus {corpus!r} has no split {split!r}: there are {', '.join(splits)}")


def _columns(dataset: Dataset, corpus: str, source: str, target: str) -> Dataset:
    """Bring both layouts of the Hub, a `translation` struct or one column per language, to ours."""
    prefix = ""
    if "translation" in dataset.column_names:
        dataset, prefix = dataset.flatten(), "translation."
    languages = [
        name.removeprefix(prefix)
        for name, feature in dataset.features.items()
        if name.startswith(prefix) and getattr(feature, "dtype", "") in ("string", "large_string")
    ]
    for option, language in (("source", source), ("target", target)):
        if language not in languages:
            raise UserError(
                f"corpus {corpus!r} has no text in {language!r} (--data.{option}): "
                f"there are {', '.join(languages) or 'no text columns'}"
            )
    if source == target:
        raise UserError(f"--data.source and --data.target are both {source!r}: a Hub data set needs two languages")
    columns = {prefix + source: "source", prefix + target: "target"}
    dataset = dataset.select_columns(list(columns)).rename_columns(columns)
    with _damage_to_user_error(corpus):
        return _plain_strings(dataset)


def _validate(table: pa.Table) -> None:
    """Compare offsets with the data: Arrow trusts a file's offsets and would read past its end.

    This reads everything, so it is done where the text is read, not wherever the text is found.
    """
    table.validate(full=True)


@contextmanager
def _damage_to_user_error(corpus: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise UserError(f"corpus {corpus!r} is damaged ({innermost_reason(error)}): copy it again") from error


def _plain_strings(dataset: Dataset) -> Dataset:
    """Make every row a string: a null means the same as an empty line, and preparation counts those."""
    table = dataset.data.table
    if table.schema.types == PAIR_SCHEMA.types and not any(column.null_count for column in table.columns):
        return dataset
    return (
        dataset.with_format("arrow")
        .map(
            _fill_nulls,
            batched=True,
            features=Features({name: Value("string") for name in PAIR_SCHEMA.names}),
            desc="Reading text",
        )
        .with_format(None)
    )


def _fill_nulls(table: pa.Table) -> pa.Table:
    _validate(table)
    return pa.table([pc.fill_null(column.cast(pa.string()), "") for column in table.columns], schema=PAIR_SCHEMA)
