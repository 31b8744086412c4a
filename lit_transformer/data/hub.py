"""Data sets of the Hugging Face Hub, by name and configuration: `wmt/wmt14:de-en`."""

import re
from pathlib import Path

import datasets
from datasets import Dataset
from datasets.naming import camelcase_to_snakecase
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

from lit_transformer.data.columns import language_columns
from lit_transformer.data.places import not_on_disk
from lit_transformer.data.text import MissingSplit, Text, bars_on_terminals, split_names
from lit_transformer.errors import UserError, innermost_reason

_ADDRESS = re.compile(r"hf://datasets/|hf:(?!//)|https://huggingface\.co/datasets/")
"""What may stand before the name."""
_TIMEOUT_SECONDS = 10.0
_OTHER_WAYS = (
    "without network use `demo` or `copy`, a folder of SPLIT.LANG text files, or a folder with a copy of the data set "
    "(`hf download NAME --repo-type dataset --local-dir FOLDER` where there is network)"
)


def find_on_hub(corpus: str, *, split: str, source: str, target: str) -> Text:
    """Find the sentence pairs of one split of a data set.

    Args:
        corpus: As in `load_split`, like the next argument.
        split: Name of the split.
        source: Name of the source language's field or column.
        target: Name of the target language's.

    Raises:
        UserError: As in `load_split`, or it has no such languages.
    """
    return language_columns(load_split(corpus, split=split), corpus, source=source, target=target)


def load_split(corpus: str, *, split: str) -> Dataset:
    """Download one split of a data set, or find it in the cache of `datasets`.

    Args:
        corpus: Name and configuration, which may begin with `hf://datasets/`, `hf:` or the Hub's address.
        split: Name of the split.

    Raises:
        UserError: The Hub cannot be reached, or it has no such data set or split.
    """
    address = _ADDRESS.match(corpus)
    name, _, configuration = corpus[address.end() if address else 0 :].partition(":")
    if configuration.startswith("//"):
        raise UserError(f"corpus {corpus} is an address: download it, and give the file or the folder on this disk")
    _check_reachable(name)
    try:
        with bars_on_terminals():
            splits = datasets.load_dataset(name, configuration or None)
    except Exception as error:  # network, disk, unknown configuration, broken data: each has its own exceptions
        raise UserError(
            f"cannot load {corpus} from the Hugging Face Hub: {innermost_reason(error)}; {_OTHER_WAYS}"
        ) from error
    found = next((alias for alias in split_names(split) if alias in splits), None)
    if found is None:
        raise MissingSplit(f"corpus {corpus} has no split {split!r}: it has {', '.join(splits)}")
    return splits[found]


def _check_reachable(name: str) -> None:
    """Report within seconds that the Hub cannot be reached or has no such data set.

    `load_dataset` alone retries for half a minute, and for minutes behind a firewall that drops packets. If
    `datasets` has the data set in its cache, `load_dataset` finds it there.
    """
    try:
        if not datasets.config.HF_HUB_OFFLINE:
            HfApi().dataset_info(name, timeout=_TIMEOUT_SECONDS)
            return
        reason = "offline mode is set in the environment"
    except HFValidationError as error:
        raise UserError(f"corpus {name}: {not_on_disk(name)}, and no data set of the Hub has such a name") from error
    except GatedRepoError as error:
        raise UserError(
            f"data set {name} requires consent: accept its terms at https://huggingface.co/datasets/{name}, "
            "then run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"corpus {name}: {not_on_disk(name)}, and no such data set on the Hugging Face Hub: correct the name (or "
            "run `hf auth login` if the data set is private)"
        ) from error
    except Exception as error:  # depends on the HTTP library below huggingface_hub
        reason = innermost_reason(error)
    namespace, _, base = name.rpartition("/")
    folder = "___".join(filter(None, (namespace, camelcase_to_snakecase(base))))
    if not (Path(datasets.config.HF_DATASETS_CACHE) / folder).is_dir():
        raise UserError(
            f"corpus {name}: {not_on_disk(name)}, and the Hugging Face Hub cannot be reached ({reason}): {_OTHER_WAYS}"
        )
