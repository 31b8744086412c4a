"""Beam search on a GPU over 3,003 sentences of newstest2014's lengths: as it is, and one step as a CUDA graph.

The weights are random, so EOS is never chosen and every output has 1.1 times its source's length.

Legend: B sentences, K beams per sentence, N rows (B x K), S source positions, T output positions, D d_model,
V vocabulary.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.measure.gpu import timing
from experiments.measure.gpu.batches import CONFIGS, VOCAB_SIZE
from experiments.measure.gpu.static_decoder import ALPHA, BEAM_SIZE, StaticDecoder
from experiments.measure.gpu.timing import DEVICE, SMALL, report
from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.data.batching import batches_by_length
from lit_transformer.decoding.scoring import SpecialIds
from lit_transformer.decoding.search import beam_search
from lit_transformer.decoding.settings import SearchSettings
from lit_transformer.model.transformer import Transformer

SENTENCES = 40 if SMALL else 3003
GROWTH = 1.1
SETTINGS = SearchSettings(beam_size=BEAM_SIZE, length_penalty=ALPHA)
IDS = SpecialIds(bos=BOS_ID, eos=EOS_ID, banned=(PAD_ID, UNK_ID, BOS_ID, EOS_ID))


def model_of(dtype: torch.dtype) -> Transformer:
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # as the commands do
    return Transformer(CONFIGS["base"], vocab_size=VOCAB_SIZE, pad_id=PAD_ID).to(DEVICE, dtype).eval()


def sources(batch_tokens: int) -> list[Tensor]:
    """Padded batches on the host, the longest first."""
    lengths = timing.lengths(SENTENCES + SENTENCES // 20, seed=2)[0][:SENTENCES].tolist()
    batches = []
    for picked in batches_by_length(lengths, batch_tokens):
        ids = torch.randint(EOS_ID + 1, VOCAB_SIZE, (len(picked), lengths[picked[0]]))
        for row, index in enumerate(picked):
            ids[row, lengths[index] - 1] = EOS_ID
            ids[row, lengths[index] :] = PAD_ID
        batches.append(ids)
    return batches


def prepare(way: str) -> Callable[[], None]:
    if way == "graph":
        return graphed
    if way == "compiled":
        decoder = compiled_decoder()
        return partial(one_shape, decoder)
    return partial(eager, torch.float32 if way == "float32" else torch.bfloat16)


@torch.inference_mode()
def eager(dtype: torch.dtype) -> None:
    """The search as `translate` runs it, without text."""
    model = model_of(dtype)
    for batch_tokens in (300,) if SMALL else (32768, 8192, 2048):
        batches = sources(batch_tokens)
        for batch in batches[-1:]:
            _search(model, batch)
        timing.reset_peak()
        timing.synchronize()
        begin = time.perf_counter()
        outputs = sum(_search(model, batch) for batch in batches)
        timing.synchronize()
        seconds = time.perf_counter() - begin
        report(
            f"decode {dtype} batch_tokens {batch_tokens}".replace("torch.", ""),
            seconds=seconds,
            output_tokens_per_second=outputs / seconds,
            batches=float(len(batches)),
            peak_gb=timing.peak_gigabytes(),
        )
    if DEVICE == "cuda":
        batch = sources(8192)[len(sources(8192)) // 2]
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            timing.synchronize()
            begin = time.perf_counter()
            _search(model, batch)
            timing.synchronize()
            seconds = time.perf_counter() - begin
        events = profile.key_averages()
        busy = sum(event.self_device_time_total for event in events) / 1e6
        launches = sum(event.count for event in events)
        report("    one batch of 8192", seconds=seconds, device_busy_s=busy, kernels=float(launches))
        for event in sorted(events, key=lambda event: -event.self_device_time_total)[:12]:
            print(f"      {event.self_device_time_total / 1e3:8.2f} ms {event.count:6}x {event.key[:90]}")


def _search(model: Transformer, source: Tensor) -> int:
    source_BS = source.to(DEVICE)
    limit_B = ((source_BS != PAD_ID).sum(dim=1) * GROWTH).long()
    state = model.start(model.encode(source_BS), beam_size=BEAM_SIZE)
    found = beam_search(model.step, state, settings=SETTINGS, max_length_B=limit_B, ids=IDS)
    return sum(len(candidates[0].tokens) for candidates in found)


def capture(decoder: StaticDecoder, step: Callable[[], object], pool: Any = None) -> Any:
    """The graph of one step; it is tried first, because libraries set themselves up at their first call."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            decoder.now_1.zero_()
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, pool=pool):
        step()
    return graph


@torch.inference_mode()
def graphed() -> None:
    """All sentences in a few shapes, each captured once. The outputs equal those of the search where it is checked."""
    model = model_of(torch.bfloat16)
    if SMALL:
        report("decode, static equals search", sentences=f"{num_equal_to_search(model)} of 5")
        return
    budgets = (8192, 16384, 32768)
    for budget in budgets:
        groups: dict[int, list[Tensor]] = {}
        lengths = timing.lengths(SENTENCES + SENTENCES // 20, seed=2)[0][:SENTENCES]
        for low, high in zip((0, 16, 24, 32, 48, 64, 96, 128), (16, 24, 32, 48, 64, 96, 128, 256), strict=True):
            inside = sorted(lengths[(lengths > low) & (lengths <= high)].tolist())
            size = min(budget // high, len(inside))
            for first in range(0, len(inside), size or 1):
                picked = inside[first : first + size]
                ids = torch.randint(EOS_ID + 1, VOCAB_SIZE, (size, high))
                for row in range(size):
                    ids[row, (picked[row] if row < len(picked) else 2) :] = PAD_ID
                groups.setdefault(high, []).append(ids)
        begin = time.perf_counter()
        graphs, pool = {}, torch.cuda.graph_pool_handle()
        for high, batches in groups.items():
            decoder = StaticDecoder(model, len(batches[0]), high, int(high * GROWTH))
            decoder.load(batches[0].to(DEVICE))
            graphs[high] = decoder, capture(decoder, decoder.step, pool)
        timing.synchronize()
        capture_seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        steps = 0
        for high, batches in groups.items():
            decoder, graph = graphs[high]
            for ids in batches:
                decoder.load(ids.to(DEVICE, non_blocking=True))
                longest = int((ids != PAD_ID).sum(dim=1).max() * GROWTH)
                for _ in range(longest):
                    graph.replay()
                steps += longest
                decoder.tokens_BKT.cpu()
        timing.synchronize()
        seconds = time.perf_counter() - begin
        outputs = int(sum(int(length * GROWTH) for length in lengths))
        report(
            f"decode graphs batch_tokens {budget}",
            seconds=seconds,
            output_tokens_per_second=outputs / seconds,
            ms_per_step=seconds / steps * 1e3,
            capture_s=capture_seconds,
            shapes=float(len(groups)),
            peak_gb=timing.peak_gigabytes(),
        )
        del graphs
    report("decode, static equals search", sentences=f"{num_equal_to_search(model)} of 5")


@torch.inference_mode()
def num_equal_to_search(model: Transformer) -> int:
    """For how many of 5 sentences the static step finds what the search finds, in float32."""
    torch.set_float32_matmul_precision("highest")
    model = model.float()
    ids = torch.randint(EOS_ID + 1, VOCAB_SIZE, (5, 9))
    ids[2:, 6:] = PAD_ID
    source_BS = ids.to(DEVICE)
    limit_B = torch.full((5,), 12, device=DEVICE)
    state = model.start(model.encode(source_BS), beam_size=BEAM_SIZE)
    found = beam_search(model.step, state, settings=SETTINGS, max_length_B=limit_B, ids=IDS)
    decoder = StaticDecoder(model, 5, 9, 12)
    decoder.load(source_BS)
    for _ in range(12):
        decoder.step()
    mine = decoder.tokens_BKT[:, 0].tolist()
    return sum(row == candidates[0].tokens for row, candidates in zip(mine, found, strict=True))


def compiled_decoder() -> tuple[StaticDecoder, Callable[[], None]]:
    with torch.inference_mode():
        decoder = StaticDecoder(model_of(torch.bfloat16), 8 if SMALL else 512, 32, 36)
        ids = torch.randint(EOS_ID + 1, VOCAB_SIZE, (decoder.sentences, 32))
        decoder.load(ids.to(DEVICE))
        step = torch.compile(decoder.step, dynamic=False)
        step()
    return decoder, step


@torch.inference_mode()
def one_shape(prepared: tuple[StaticDecoder, Callable[[], None]]) -> None:
    """One step of 512 sentences x 4 beams in the middle of the output, launched, as a graph, compiled, and both."""
    decoder, compiled = prepared

    def from_middle(work: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            decoder.now_1.fill_(decoder.steps // 2)
            work()

        return run

    ways: dict[str, Callable[[], object]] = {"eager": decoder.step, "compiled": compiled}
    if not SMALL:
        ways |= {
            "eager, graph": capture(decoder, decoder.step).replay,
            "compiled, graph": capture(decoder, compiled).replay,
            "model alone, eager, graph": capture(decoder, decoder.logits).replay,
        }
    for name, work in ways.items():
        report(f"decode step 512 x 4, {name}", ms=timing.milliseconds(from_middle(work)))
