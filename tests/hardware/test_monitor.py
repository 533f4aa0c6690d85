"""The live monitor: what it reads of a machine, that it sleeps when nobody looks, and that it never grows."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hardware import machines, trees
from webui.hardware import detect, this_host
from webui.hardware.facts import HardwareFacts
from webui.hardware.family import Family
from webui.hardware.monitor import Monitor
from webui.hardware.sampling import GpuSample, Sample, Sampler

GIB = 1 << 30


class Counting(Sampler):
    """A sampler that reads nothing and counts what is asked of it."""

    def __init__(self) -> None:
        self.opened = self.closed = self.taken = 0

    def open(self) -> None:
        self.opened += 1

    def close(self) -> None:
        self.closed += 1

    def sample(self, workers: Collection[int]) -> Sample:
        self.taken += 1
        return Sample(float(self.taken), 1.0, 2, 3.0, 4)


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.005)


async def test_it_samples_while_somebody_watches_and_not_otherwise() -> None:
    sampler = Counting()
    monitor = Monitor(lambda: sampler, seconds=0.01)
    assert (monitor.running, sampler.opened) == (False, 0)
    with monitor.watching():
        with monitor.watching():
            await until(lambda: sampler.taken > 2)
        assert monitor.running
        await until(lambda: sampler.taken > 5)
    await until(lambda: not monitor.running)
    taken = sampler.taken
    assert (sampler.opened, sampler.closed) == (1, 1)
    await asyncio.sleep(0.05)
    assert sampler.taken == taken
    monitor.stay_awake(0.05)
    await until(lambda: sampler.taken > taken)
    await until(lambda: not monitor.running)
    assert (sampler.opened, sampler.closed) == (2, 2)


async def test_a_ring_of_fixed_length_with_numbers_that_go_on() -> None:
    sampler = Counting()
    monitor = Monitor(lambda: sampler, seconds=0.0, kept=10, speed=lambda: 41.5)
    with monitor.watching():
        await until(lambda: sampler.taken > 50)
    await until(lambda: not monitor.running)
    everything = monitor.since()
    assert len(everything.samples) == 10
    assert everything.first == sampler.taken - 10
    assert [one.at for one in everything.samples] == [float(everything.first + place + 1) for place in range(10)]
    assert everything.samples[0].speed == 41.5
    assert monitor.since(sampler.taken - 3).samples == everything.samples[-3:]
    assert monitor.since(-1).samples == everything.samples[-1:]
    assert monitor.since(sampler.taken + 100).samples == ()
    assert monitor.since(-100).samples == everything.samples
    assert Monitor(lambda: sampler).since().samples == ()


async def test_a_machine_that_cannot_be_read_costs_the_picture_only(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Sampler:
        raise RuntimeError("the driver lost its mind")

    monitor = Monitor(broken)
    monitor.stay_awake(5)
    await until(lambda: not monitor.running)
    assert "The monitor ended" in caplog.text and "lost its mind" in caplog.text
    await monitor.close()


async def test_it_is_ended_with_the_app() -> None:
    sampler = Counting()
    monitor = Monitor(lambda: sampler, seconds=60.0)
    with monitor.watching():
        await until(lambda: sampler.taken == 1)
        await monitor.close()
    assert (monitor.running, sampler.closed) == (False, 1)


async def test_a_fault_while_it_watches_gives_back_what_is_open() -> None:
    class Failing(Counting):
        def sample(self, workers: Collection[int]) -> Sample:
            if self.taken == 3:
                raise OSError("the device is gone")
            return super().sample(workers)

    sampler = Failing()
    monitor = Monitor(lambda: sampler, seconds=0.0)
    with monitor.watching():
        await until(lambda: not monitor.running)
    assert (sampler.taken, sampler.opened, sampler.closed) == (3, 1, 1)
    assert len(monitor.since().samples) == 3


def this_machine(tmp_path: Path) -> HardwareFacts:
    return detect(tmp_path)


def test_this_machine_and_a_worker_that_is_busy(tmp_path: Path) -> None:
    """A child that computes for all it is worth, started by a shell: descendants count."""
    sampler = Sampler(this_host(), this_machine(tmp_path))
    sampler.open()
    script = f"{sys.executable} -c 'block = bytearray(80_000_000)\nwhile True: block[0] ^= 1' & wait"
    shell = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        found = sampler.sample([shell.pid])
        assert found.cpu is None
        while found.worker_memory < 80_000_000 or not found.worker_cpu:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
            found = sampler.sample([shell.pid])
        assert found.cpu is not None and 0 < found.worker_cpu <= 100
        assert found.memory_used > 0
        without = sampler.sample([])
        assert (without.worker_memory, without.worker_cpu) == (0, 0.0)
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        sampler.close()


def test_gpus_of_all_vendors_in_the_order_of_the_facts(tmp_path: Path) -> None:
    host = machines.host("two-vendors", tmp_path)
    facts = machines.facts("two-vendors", tmp_path / "again")
    nvml = host.nvml()
    sampler = Sampler(replace(host, nvml=lambda: nvml), facts)
    sampler.open()
    nvidia, amd = sampler.sample([]).gpus
    assert nvidia == GpuSample(0.0, 200 << 20, 33.0, 12.0, 0)
    assert amd == GpuSample(1.0, 800000000, None, None, 0)
    assert nvml.open == 1
    sampler.close()
    assert nvml.open == 0


@pytest.mark.parametrize("name", machines.NAMES)
def test_every_recorded_machine_has_a_row_for_each_gpu(name: str, tmp_path: Path) -> None:
    facts = machines.facts(name, tmp_path)
    sampler = Sampler(machines.host(name, tmp_path / "host"), facts)
    sampler.open()
    assert len(sampler.sample([]).gpus) == len(facts.gpus)
    sampler.close()


def test_a_container_s_share_is_of_what_it_is_granted(tmp_path: Path) -> None:
    host = machines.host("container-2-of-64", tmp_path / "root")
    facts = machines.facts("container-2-of-64", tmp_path / "again")
    stat = tmp_path / "root/sys/fs/cgroup/cpu.stat"
    stat.write_text("usage_usec 1000000\nuser_usec 1\n")
    sampler = Sampler(host, facts)
    sampler.open()
    sampler.sample([])
    stat.write_text("usage_usec 900000000\nuser_usec 1\n")
    assert sampler.sample([]).cpu == 100.0
    assert sampler.sample([]).cpu == 0.0
    assert sampler.sample([]).memory_used == 943718400 - 314572800


def test_the_gpu_memory_of_a_worker_from_its_open_files(tmp_path: Path) -> None:
    """amdgpu's and xe's words; one client under two numbers counts once, another card's not at all."""
    words = "drm-driver:\tamdgpu\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t7\ndrm-memory-vram:\t2048 KiB\n"
    other = "drm-driver:\txe\ndrm-pdev:\t0000:04:00.0\ndrm-client-id:\t8\ndrm-resident-vram0:\t3 MiB\n"
    files = {f"proc/50/fdinfo/{number}": text for number, text in ((4, words), (5, words), (6, other))}
    root = trees.write(tmp_path, files)
    (root / "proc/50/fd").mkdir()
    for number in (4, 5, 6):
        (root / f"proc/50/fd/{number}").symlink_to("/dev/dri/renderD128")
    (root / "proc/50/fd/0").symlink_to("/dev/null")
    family = Family(root)
    family.follow([50])
    assert family.graphics_memory("0000:03:00.0") == 2 << 20
    assert family.graphics_memory("0000:04:00.0") == 3 << 20
    assert family.graphics_memory("0000:05:00.0") is None
