"""Training steps on a GPU, in a plain loop and through Lightning."""

import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from experiments.measure.gpu import timing
from experiments.measure.gpu.batches import CONFIGS, STEPS, VOCAB_SIZE, batch_of, batches, training_flops
from experiments.measure.gpu.models import Step
from experiments.measure.gpu.timing import DEVICE, SMALL, report
from lit_transformer.batch import Batch
from lit_transformer.model.config import TransformerConfig
from lit_transformer.training.translation import LitTransformer


def prepare(size: str, path: str) -> Callable[[], None]:
    """Build and compile; what comes back measures."""
    config = CONFIGS[size]
    if path == "lightning":
        return partial(through_lightning, config)
    torch._dynamo.config.recompile_limit = 32
    step = Step(config, path)
    if step.static:
        length, sentences = (16, 8) if SMALL else (32, 784)
        whole = np.full(sentences, length)
        timed = [batch_of(whole, whole, 1, np.random.default_rng(0))] * STEPS
        small = timed[:1]
    else:
        timed = batches(step.multiple)
        small = batches(step.multiple, part=8)[:6]
        if path == "packedgraphs":
            timed = [batch for batch in timed if len(batch.source_BS) < 1800]
            small = timed[:1]
        elif path == "packed":
            small = timed[:2]
    begin = time.perf_counter()
    for batch in small if step.compiles else []:
        step(step.inputs(batch), batch.num_target_tokens)
        step.model.zero_grad()
    timing.synchronize()
    compile_seconds = time.perf_counter() - begin
    compiled_before = _graphs()
    return partial(_measure, f"train {size} {path}", config, step, timed, compile_seconds, compiled_before)


def _graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _measure(
    name: str, config: TransformerConfig, step: Step, timed: list[Batch], compile_seconds: float, graphs: int
) -> None:
    inputs = [step.inputs(batch) for batch in timed]
    tokens = [batch.num_target_tokens for batch in timed]

    def seconds_of_all_steps() -> float:
        timing.synchronize()
        begin = time.perf_counter()
        for pair in zip(inputs, tokens, strict=True):
            step(*pair)
        timing.synchronize()
        return time.perf_counter() - begin

    for _ in range(2 if SMALL else 4):
        step(inputs[-1], tokens[-1])
    # The first step of a shape may choose or build kernels: what an epoch of new shapes costs.
    first = seconds_of_all_steps()
    timing.reset_peak()
    seconds = seconds_of_all_steps()
    host = []
    for pair in list(zip(inputs, tokens, strict=True))[:5]:
        timing.synchronize()
        begin = time.perf_counter()
        step(*pair)
        host.append(time.perf_counter() - begin)
    flops = sum(training_flops(config, batch) for batch in timed)
    positions = sum(batch.source_BS.numel() + batch.target_output_BT.numel() for batch in timed)
    real = sum(batch.num_source_tokens + batch.num_target_tokens for batch in timed)
    report(
        name,
        target_tokens_per_second=sum(tokens) / seconds,
        first_pass=sum(tokens) / first,
        ms_per_step=seconds / len(timed) * 1e3,
        host_ms=float(np.median(host)) * 1e3,
        mfu_percent=100 * flops / seconds / 989e12,
        padding_percent=0.0 if step.packs else 100.0 * (1 - real / positions),
        peak_gb=timing.peak_gigabytes(),
        compile_s=compile_seconds,
        graphs_compiled=f"{graphs}+{_graphs() - graphs}",
    )


def through_lightning(config: TransformerConfig) -> None:
    """The module under Lightning's trainer as `fit` sets it up, and the synchronizations of a step."""
    module = LitTransformer(config, vocab_size=VOCAB_SIZE, bleu_tokenize="13a")
    timed = batches()
    steps = 2 * len(timed)
    spans: list[float] = []

    class Endless(IterableDataset[Batch]):
        def __iter__(self) -> Iterator[Batch]:
            for step in range(10 * steps):
                yield timed[step % len(timed)]._replace(step=step)

    class Clock(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step in (len(timed), 2 * len(timed)):
                timing.synchronize()
                spans.append(time.perf_counter())
            if trainer.global_step == 2 * len(timed) and DEVICE == "cuda":
                torch.cuda.set_sync_debug_mode("warn")

        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step == trainer.max_steps and DEVICE == "cuda":
                torch.cuda.set_sync_debug_mode("default")  # what follows moves the weights back to the host

    trainer = L.Trainer(
        max_steps=steps + 5,
        max_epochs=-1,
        precision="bf16-mixed",
        accelerator="auto",
        devices=1,
        logger=False,
        callbacks=[Clock()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=50,
    )
    loader = DataLoader(Endless(), batch_size=None, num_workers=0 if SMALL else 1, pin_memory=DEVICE == "cuda")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, loader)
    places = [f"{warning.filename}:{warning.lineno}" for warning in caught if "synchroniz" in str(warning.message)]
    seconds = spans[1] - spans[0]
    tokens = sum(batch.num_target_tokens for batch in timed)
    report(
        "train base lightning",
        target_tokens_per_second=tokens / seconds,
        ms_per_step=seconds / len(timed) * 1e3,
        peak_gb=timing.peak_gigabytes(),
        synchronizations_in_5_steps=str(len(places)),
    )
    for place in sorted(set(places)):
        print(f"    waits for the device {places.count(place)} times: {place}")
