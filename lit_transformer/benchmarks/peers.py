"""The peers that a user might take instead, by name. Only those that are installed compete."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from lit_transformer.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another implementation of the same model.

    Args:
        package: What it is imported as.
        requirement: What pip installs.
        measures: The measures that it takes part in.
        devices: Where it computes.
    """

    package: str
    requirement: str
    measures: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu", "cuda")


PEERS = {
    "torch": Peer(package="torch", requirement="torch", measures=("train",)),
    "marian": Peer(package="transformers", requirement="lit-transformer[benchmark]", measures=("train", "decode")),
    "ctranslate2": Peer(package="ctranslate2", requirement="lit-transformer[benchmark]", measures=("decode",)),
}
"""What there is to compare with."""


def installed_peers() -> list[str]:
    """The names of the peers that are installed."""
    return [name for name, peer in PEERS.items() if find_spec(peer.package)]


def check_peers(names: Sequence[str]) -> None:
    """Raise UserError unless these are peers that are installed."""
    for name in names:
        if name not in PEERS:
            raise UserError(f"there is no peer {name!r}: choose from {', '.join(PEERS)}")
        if name not in installed_peers():
            raise UserError(missing_line(name))


def missing_line(name: str) -> str:
    """What to do about a peer that is not installed."""
    peer = PEERS[name]
    return f'{name} needs {peer.package}, which is not installed: pip install "{peer.requirement}"'


def peer_module(name: str) -> Any:
    """The module of a peer, which is imported here because it needs the package.

    It has `training_entries`, `decoding_entries` or both: from a job of ours to the peer's contestants.
    """
    return import_module(f"lit_transformer.benchmarks.{name}_peer")


def versions() -> dict[str, str]:
    """The versions of the packages that results depend on, as far as they are installed."""
    found = {}
    for package in ("torch", "lightning", "numpy", "sentencepiece", "transformers", "ctranslate2", "triton"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
