"""What commands set for the machine: decided by facts, exact, and given back."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lit_transformer import machine
from lit_transformer.machine import (
    SWITCH,
    Processor,
    describe,
    limit_threads,
    prepare_process,
    prepare_products,
    usable_cores,
)

AVX512 = ("avx2", "avx512f", "avx512bw", "avx512_bf16")
WANTS_ONEDNN = Processor("AuthenticAMD", 26, frozenset(AVX512))


@pytest.fixture
def on_amd(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give back what a command would give back."""
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(machine, "processor", lambda: WANTS_ONEDNN)
    former = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(former)


@pytest.mark.parametrize(
    ("vendor", "family", "features", "wanted"),
    [
        ("AuthenticAMD", 26, AVX512, True),
        ("AuthenticAMD", 25, AVX512, False),
        ("AuthenticAMD", 26, ("avx2",), False),
        ("AuthenticAMD", 26, (*AVX512, "amx_tile"), False),
        ("GenuineIntel", 26, AVX512, False),
        ("GenuineIntel", 6, (*AVX512, "amx_tile", "amx_bf16"), False),
        ("", 0, (), False),
    ],
)
def test_onednn_is_for_zen_5_and_later_with_avx512_and_without_amx(
    vendor: str, family: int, features: tuple[str, ...], wanted: bool
) -> None:
    assert Processor(vendor, family, frozenset(features)).wants_onednn == wanted


def test_the_processor_is_read_from_the_system(tmp_path: Path) -> None:
    stanza = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nflags\t\t: fpu avx512bw\n\n"
    (tmp_path / "cpuinfo").write_text(stanza + stanza.replace("AuthenticAMD", "Other"))
    assert machine.processor(tmp_path / "cpuinfo") == Processor("AuthenticAMD", 26, frozenset({"fpu", "avx512bw"}))
    assert machine.processor(tmp_path / "missing") == Processor("", 0, frozenset())


@pytest.mark.parametrize("shape", [(2, 300, 700), (61, 256, 1024), (997, 128, 37)])
@pytest.mark.usefixtures("on_amd")
def test_products_are_exact_to_the_rounding_of_float32(shape: tuple[int, int, int]) -> None:
    """On every processor: if oneDNN rounded to bfloat16 there, the products would stay as they were."""
    rows, inner, columns = shape
    torch.manual_seed(97)
    left, right = torch.randn(rows, inner), torch.randn(columns, inner)
    exact = left.double() @ right.double().T
    prepare_products()
    error = (torch.nn.functional.linear(left, right) - exact).abs().max() / exact.abs().max()
    assert error < 1e-5  # bfloat16's would be above 1e-3


@pytest.mark.usefixtures("on_amd")
def test_products_stay_as_they_are_if_they_would_be_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "onednn_is_exact", lambda: False)
    prepare_products()
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.usefixtures("on_amd")
def test_products_stay_as_a_program_has_set_them() -> None:
    torch.set_float32_matmul_precision("high")
    prepare_products()
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.usefixtures("on_amd")
def test_onednn_is_named_only_if_a_run_multiplies_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "uses_onednn", lambda: True)
    assert ["oneDNN" in describe(multiplies_in_float32=each)[0] for each in (True, False)] == [True, False]


@pytest.mark.usefixtures("on_amd")
def test_the_switch_leaves_everything_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "plain")
    monkeypatch.setattr("ctypes.CDLL", None)  # calling it would fail
    prepare_process()
    prepare_products()
    assert torch.get_float32_matmul_precision() == "highest"
    assert SWITCH in " ".join(describe())


def test_threads_spin_for_a_short_time_unless_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")  # this process stays as it is
    monkeypatch.delenv(SWITCH, raising=False)
    for variable in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(variable, raising=False)
    with monkeypatch.context() as user:
        user.setenv("OMP_WAIT_POLICY", "ACTIVE")
        prepare_process()
        assert "GOMP_SPINCOUNT" not in os.environ
    prepare_process()
    assert os.environ.pop("GOMP_SPINCOUNT").isdecimal()


def test_threads_are_no_more_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    former = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        limit_threads()
        assert torch.get_num_threads() == 2
        monkeypatch.delenv("OMP_NUM_THREADS")
        limit_threads()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(former)


def test_a_users_own_malloc_settings_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    monkeypatch.setattr("ctypes.CDLL", None)
    prepare_process()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_cores_are_those_of_the_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores(tmp_path) == 8  # there are no control groups
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path / "sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    assert usable_cores(tmp_path) == 8
    write(tmp_path / "sys/fs/cgroup/a/cpu.max", "250000 100000\n")
    assert usable_cores(tmp_path) == 3
    write(tmp_path / "sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert usable_cores(tmp_path) == 1


def test_cores_are_those_of_the_older_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    write(tmp_path / "proc/self/cgroup", "3:cpuset:/\n2:cpu,cpuacct:/docker/x\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert usable_cores(tmp_path) == 4
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    assert usable_cores(tmp_path) == 8
