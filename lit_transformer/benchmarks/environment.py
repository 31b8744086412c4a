"""The machine and the versions that a result depends on, as plain data."""

import os
import platform
from datetime import UTC, datetime
from typing import Any

import torch

import lit_transformer
from lit_transformer.benchmarks.peers import versions
from lit_transformer.machine import describe, processor, processor_facts, usable_cores
from lit_transformer.runs.provenance import commit

FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")
"""Instruction sets that decide how fast products are."""
CPU_FACTS = {"model name": "model", "cpu family": "family", "model": "model_number", "cpu MHz": "mhz"}


def describe_environment(device: str) -> dict[str, Any]:
    """Everything that is needed to compare a result on a device with one of another machine."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "version": lit_transformer.__version__,
        "cpu": _cpu(),
        "gpu": _gpu(torch.device(device)),
        "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions(),
        "machine": describe(),
    }


def _cpu() -> dict[str, Any]:
    reported = processor_facts()
    facts = {ours: reported[theirs] for theirs, ours in CPU_FACTS.items() if theirs in reported}
    facts = facts or {"model": platform.processor()}
    features = [name for name in FEATURES if name in processor().features]
    cores = {"cores": os.cpu_count(), "usable": usable_cores()}
    return {**facts, "vendor": processor().vendor, "features": features, **cores}


def _gpu(device: torch.device) -> dict[str, Any] | None:
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "gigabytes": round(properties.total_memory / 1e9, 1),
        "count": torch.cuda.device_count(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def title(environment: dict[str, Any]) -> str:
    """The machine in one line, for people."""
    cpu, gpu = environment["cpu"], environment["gpu"]
    family = f" (family {cpu['family']}, model {cpu['model_number']})" if "family" in cpu else ""
    features = ", ".join(cpu["features"])
    load = "" if environment["load"] is None else f"; load {environment['load'][0]}"
    name = f"{gpu['name']}; " if gpu else ""
    model = cpu.get("model", "unknown processor")
    return f"{name}{model}{family}, {cpu['usable']} of {cpu['cores']} cores, {features}{load}"
