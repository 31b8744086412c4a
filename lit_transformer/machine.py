"""What commands set for the machine they run on: float32 products, freed memory, and how threads wait.

Every choice follows from facts of the machine and never from a timing, so ranks and resumed runs choose alike. The
environment variable `LIT_TRANSFORMER_MACHINE=plain` switches all of it off. Only commands and the worker processes of
engines call this. In a program that imports the package, the process is its own.
"""

import ctypes
import math
import os
from collections.abc import Mapping
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

SWITCH = "LIT_TRANSFORMER_MACHINE"
"""The variable that leaves the machine's own settings in place if it is `plain`."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""The numbers of glibc's settings in malloc.h."""
KEPT_BYTES = {M_TRIM_THRESHOLD: 64 * 2**20, M_MMAP_THRESHOLD: 32 * 2**20}
"""Free memory that the process keeps, and the size from which a block is returned to the system when it is freed.

glibc accepts no more than 32 MiB for the second. One setting without the other makes decoding slower.
"""
WAITING = {"GOMP_SPINCOUNT": "1000"}
"""How long a thread of GNU's OpenMP spins before it sleeps: 20 microseconds, and not milliseconds.

A thread that spins keeps a core from other programs, and the system lets its own partner wait for that core.
"""
WAITING_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""A user's own settings of how threads wait. OpenMP reads them when torch is loaded."""
MALLOC_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
"""A user's own settings of glibc's malloc."""


class Processor(NamedTuple):
    """What the system reports about the processor, or nothing."""

    vendor: str
    family: int
    """AMD's Zen 3 and 4 are 25, and Zen 5 is 26."""
    features: frozenset[str]
    """Its instruction sets, as Linux names them."""

    @property
    def wants_onednn(self) -> bool:
        """Whether oneDNN multiplies in float32 faster than MKL and without rounding.

        On AMD's processors MKL takes its path for AVX2, and oneDNN takes AVX-512, which has its full width since Zen 5.
        On Zen 4 both multiply equally fast. oneDNN also makes a kernel for each new shape, so real text was translated
        more slowly there (docs/speed.md). With AMX it would round to bfloat16.
        """
        has_amx = any(feature.startswith("amx") for feature in self.features)
        is_zen_5 = self.vendor == "AuthenticAMD" and self.family >= 26
        return is_zen_5 and "avx512bw" in self.features and not has_amx

    @property
    def has_bfloat16(self) -> bool:
        """Whether it has instructions for products of bfloat16 (x86)."""
        return not self.features.isdisjoint({"avx512_bf16", "amx_bf16"})


def is_plain() -> bool:
    """Whether the user has switched this module off."""
    return os.environ.get(SWITCH) == "plain"


@cache
def processor_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> Mapping[str, str]:
    """What the system reports about the first core, by Linux's names. Only Linux reports it in a file."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as file:
            first = [line.partition(":") for line in takewhile(str.strip, file)]  # one paragraph per core
    except OSError:
        first = []
    return {name.strip(): value.strip() for name, _, value in first}


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """The processor of this machine."""
    facts = processor_facts(cpuinfo)
    return Processor(
        facts.get("vendor_id", ""), int(facts.get("cpu family", 0)), frozenset(facts.get("flags", "").split())
    )


def usable_cores(root: Path = Path("/")) -> int:
    """The cores that this process may use, by its affinity and by the time that its control group has.

    Args:
        root: The root of the file system.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _cores_of_control_group(root))))


def _cores_of_control_group(root: Path) -> float:
    """The processor time per second that the control groups of this process allow."""
    quota = math.inf
    groups = root / "sys/fs/cgroup"
    lines = _read(root / "proc/self/cgroup").splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        own = Path(path.lstrip("/"))
        for group in (own, *own.parents):
            if controllers == "":  # version 2
                limit, _, period = _read(groups / group / "cpu.max").strip().partition(" ")
            elif "cpu" in controllers.split(","):
                limit = _read(groups / "cpu" / group / "cpu.cfs_quota_us").strip()
                period = _read(groups / "cpu" / group / "cpu.cfs_period_us").strip()
            else:
                break
            if limit.isdecimal() and period.isdecimal():
                quota = min(quota, int(limit) / int(period))
    return quota


def _read(path: Path) -> str:
    """The text of a file of the system, or nothing if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def prepare_process() -> None:
    """Set what does not need torch: glibc keeps freed memory, and threads sleep soon. Call it before torch is loaded.

    Whoever calls it gives the environment back.
    """
    if not is_plain() and not any(name in os.environ for name in WAITING_VARIABLES):
        os.environ |= WAITING
    if keeps_memory():
        # glibc cannot report its former settings, so they are not given back.
        for name, value in KEPT_BYTES.items():
            ctypes.CDLL(None).mallopt(name, value)


def keeps_memory() -> bool:
    """Whether freed memory is kept: if the C library is glibc, and the user has not set it up otherwise."""
    if is_plain() or any(name in os.environ for name in MALLOC_VARIABLES):
        return False
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # not glibc, or not Unix
        return False


def prepare_products() -> None:
    """Let oneDNN multiply in float32 on the CPU where `uses_onednn`. It holds for the process until it is given back.

    Call it for work on the CPU only: the same setting would let a GPU round to TF32.
    """
    import torch  # after `prepare_process`

    if uses_onednn() and torch.get_float32_matmul_precision() == "highest":
        torch.set_float32_matmul_precision("medium")


@cache
def onednn_is_exact() -> bool:
    """Whether oneDNN multiplies in float32 under the setting that allows it to round.

    The product is exact in float32. Rounded to bfloat16, its factors would lose their last bit.
    """
    import torch

    former = torch.get_float32_matmul_precision()
    factor, ones = torch.full((64, 64), 4097.0), torch.ones(64, 64)
    try:
        torch.set_float32_matmul_precision("medium")
        return bool((factor @ ones == 64 * 4097.0).all())
    finally:
        torch.set_float32_matmul_precision(former)


def uses_onednn() -> bool:
    """Whether commands let oneDNN multiply in float32 on this machine's CPU."""
    import torch

    return (
        not is_plain()
        and processor().wants_onednn
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and onednn_is_exact()
    )


def limit_threads() -> None:
    """Let torch take no more threads than there are cores, if `OMP_NUM_THREADS` does not give their number.

    torch does not know the limits of control groups.
    """
    import torch

    if not is_plain() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))


def describe(*, multiplies_in_float32: bool = True) -> list[str]:
    """What commands set on this machine, and why, one line each.

    Args:
        multiplies_in_float32: Whether the command does so on the CPU. In bfloat16 and on a GPU, it does not.
    """
    import torch

    if is_plain():
        return [f"nothing is set, because {SWITCH} is plain"]
    products = "PyTorch's choice"
    if not multiplies_in_float32:
        products = "no large ones on the CPU"
    elif uses_onednn():
        products = "oneDNN, because MKL is slow on this processor"
    memory = "kept (glibc)" if keeps_memory() else "left to the C library"
    waiting = ", ".join(f"{name}={os.environ[name]}" for name in WAITING_VARIABLES if name in os.environ)
    return [
        f"float32 products: {products}",
        f"freed memory: {memory}",
        f"threads: {torch.get_num_threads()}, usable cores: {usable_cores()}{waiting and ', ' + waiting}",
    ]
