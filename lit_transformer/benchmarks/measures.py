"""The contests: who takes part in training and in decoding, on what, and what comes out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lit_transformer.batch import PAD_ID
from lit_transformer.benchmarks.contest import Contestant, Entry, Local, Remote, compete, wait_until_ready
from lit_transformer.benchmarks.decoding import DecodingJob, count_equal, prepare_decoding
from lit_transformer.benchmarks.intervals import Rounds
from lit_transformer.benchmarks.peers import PEERS, peer_module
from lit_transformer.benchmarks.results import Result, results_of
from lit_transformer.benchmarks.training import TrainingJob, prepare_training
from lit_transformer.decoding.settings import EngineSettings
from lit_transformer.errors import UserError
from lit_transformer.notes import print_warning
from lit_transformer.training.flops import encoder_decoder_flops

OURS = "ours"
BATCHES_PER_WORKER = 4
"""With fewer, a worker would often wait for the last one."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Contestants of one measure.

    Args:
        measure: `train` or `decode`.
        entries: The contestants by name, ours first.
        title: What is measured, for people.
        described: The same for programs.
        num_batches: The batches of all of them.
        seconds: How long each measures, about.
        fewest_batches: The least number of batches of an interval.
        flops_per_token: FLOPs of training per target token.
        peak_flops: FLOPs per second of a large product on this device, or 0 if they are not known.
    """

    measure: str
    entries: dict[str, Entry]
    title: str
    described: dict[str, Any]
    num_batches: int
    seconds: float
    fewest_batches: int = 1
    flops_per_token: float = 0.0
    peak_flops: float = 0.0


def training_contest(
    title: str,
    job: TrainingJob,
    peers: Sequence[str],
    settings: Sequence[tuple[str, ...]],
    *,
    seconds: float,
    plain_peers: bool = False,
    peak_flops: float = 0.0,
) -> Contest:
    """Ours as `job` describes it and with other settings, and the peers that train."""
    entries: dict[str, Entry] = {OURS: (prepare_training, job)}
    for names in settings:
        entries[f"{OURS}, {'+'.join(names)}"] = prepare_training, replace(job, settings=names)
    for peer in _taking_part(peers, "train", job.device):
        entries |= peer_module(peer).training_entries(replace(job, is_plain=plain_peers))
    return Contest(
        measure="train",
        title=title,
        described=job.describe(),
        entries=entries,
        num_batches=len(job.batches),
        seconds=seconds,
        flops_per_token=flops_per_token(job),
        peak_flops=peak_flops,
    )


def decoding_contest(
    title: str,
    job: DecodingJob,
    peers: Sequence[str],
    engines: Mapping[str, EngineSettings],
    *,
    seconds: float,
    plain_peers: bool = False,
) -> Contest:
    """Ours as `job` describes it and with other engines, which have names, and the peers that decode."""
    entries: dict[str, Entry] = {OURS: (prepare_decoding, job)}
    for name, engine in engines.items():
        entries[f"{OURS}, {name}"] = prepare_decoding, replace(job, engine=engine)
    for peer in _taking_part(peers, "decode", job.device):
        try:
            entries |= peer_module(peer).decoding_entries(replace(job, is_plain=plain_peers))
        except UserError as error:  # known before its process starts
            print_warning(f"{peer} is left out: {error}")
    return Contest(
        measure="decode",
        title=title,
        described=job.describe(),
        entries=entries,
        num_batches=len(job.sources),
        seconds=seconds,
        fewest_batches=1 if job.in_batches or job.device != "cpu" else BATCHES_PER_WORKER * job.threads,
    )


def _taking_part(peers: Sequence[str], measure: str, device: str) -> list[str]:
    kind = torch.device(device).type
    return [peer for peer in peers if measure in PEERS[peer].measures and kind in PEERS[peer].devices]


def hold(
    contests: Sequence[Contest], failed: Callable[[str, str], None], *, in_process: bool = False
) -> Iterator[tuple[Contest, list[Result]]]:
    """Prepare all contestants of all contests at the same time, then measure contest after contest.

    Args:
        contests: Who takes part in what.
        failed: Called with the name of a contestant that failed, and the reason.
        in_process: Whether all share this process, for tests.

    Yields:
        Each contest with its results. One without ours has none.
    """
    with ExitStack() as stack:
        entries = {
            (number, name): entry for number, contest in enumerate(contests) for name, entry in contest.entries.items()
        }
        ready: dict[tuple[int, str], Contestant] = {}
        if in_process:
            ready = {place: Local(prepare(job)) for place, (prepare, job) in entries.items()}
        else:
            remotes = {place: Remote(*entry) for place, entry in entries.items()}
            for remote in remotes.values():
                stack.callback(remote.end)
            ready.update(wait_until_ready(remotes, lambda place, reason: failed(place[1], reason)))
        for number, contest in enumerate(contests):
            contestants = {name: ready[number, name] for name in contest.entries if (number, name) in ready}
            if OURS in contestants:
                rounds = compete(
                    contestants,
                    num_batches=contest.num_batches,
                    seconds=contest.seconds,
                    fewest_batches=contest.fewest_batches,
                )
                facts = {name: contestant.facts() for name, contestant in contestants.items()}
                yield contest, _compared(contest, rounds, facts)
            else:
                yield contest, []


def _compared(contest: Contest, rounds: Rounds, facts: dict[str, dict[str, Any]]) -> list[Result]:
    """The results, with what contestants have in common and the share of the device's FLOPs."""
    outputs = {name: own.pop("outputs") for name, own in facts.items() if "outputs" in own}
    for name, found in outputs.items():
        if name != OURS:
            facts[name]["equal"] = count_equal(outputs[OURS], found)
    results = results_of(contest.measure, rounds, facts)
    if contest.peak_flops:
        for result in results:
            result.facts["mfu"] = result.per_second.median * contest.flops_per_token / contest.peak_flops
    return results


def flops_per_token(job: TrainingJob) -> float:
    """FLOPs of training per target token. Padding needs none."""
    real = [[np.count_nonzero(side != PAD_ID) for side in sides] for sides in job.batches]
    source, target = (float(sum(side)) for side in zip(*real, strict=True))
    sentences = sum(len(sides[0]) for sides in job.batches)
    total = encoder_decoder_flops(
        job.size.config,
        vocab_size=job.size.vocab_size,
        source_tokens=source,
        target_tokens=target,
        lengths=(source / sentences, target / sentences),
    )
    return total / target
