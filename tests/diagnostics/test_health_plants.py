"""Planted problems: each is named alone, with a remedy, and following the remedy mends it.

A plant is put into a machine that is in order in every respect. Most remedies are actions, which the test carries out
as the page and `doctor --fix` do; where only a person can do something, the test does that.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.builders.gguf import split_llama, tiny_llama_bpe
from tests.diagnostics.health_stage import (
    ENGINE,
    GIB,
    HELPER,
    Stage,
    damage_database,
    free_port,
    make_environment,
    make_old,
)
from tests.models.test_soundness import spoil
from webui.chat.conversations import ConversationStore
from webui.diagnostics.health import Check, CheckState, backends, drivers
from webui.diagnostics.health.examination import examine, try_backend
from webui.errors import BrokenPackage
from webui.hardware.facts import DiskFacts, GpuFacts, MemoryFacts, VulkanFacts
from webui.planning.recovery import Attempt, StepKind
from webui.pool.history import History
from webui.pool.status import LoadStory, Rung
from webui.settings import Settings, SettingsStore
from webui.setup.kept import keep

Follow = Callable[[Stage, Check], None]


@dataclass(frozen=True)
class Plant:
    """`follow` is what a person does; without one the check's action is carried out."""

    named: str
    plant: Callable[[Stage], None]
    state: CheckState = CheckState.WARNING
    follow: Follow | None = None


# --- the Python environment ------------------------------------------------------------------------------------------


def other_version(stage: Stage) -> None:
    stage.own_environment()
    stage.pip("install", "--no-deps", f"{HELPER}==1.0")


def missing_package(stage: Stage) -> None:
    stage.own_environment()
    stage.pip("uninstall", "--yes", HELPER)


def cut_off_installation(stage: Stage) -> None:
    stage.own_environment()
    (stage.library / "~tage_helper").mkdir()


def record_without_content(stage: Stage) -> None:
    stage.own_environment()
    (stage.library / "gone-1.0.dist-info").mkdir()


def two_records(stage: Stage) -> None:
    stage.own_environment()
    current = next(stage.library.glob("stage_helper-*.dist-info"))
    older = shutil.copytree(current, stage.library / "stage_helper-1.0.dist-info")
    make_old(older / "METADATA")


def stranger(stage: Stage) -> None:
    stage.own_environment()
    folder = stage.library / "stranger-3.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: stranger\nVersion: 3.0\nRequires-Dist: {HELPER}<2\n"
    )
    (folder / "RECORD").write_text("".join(f"{folder.name}/{file},,\n" for file in ("METADATA", "RECORD", "INSTALLER")))
    (folder / "INSTALLER").write_text("pip\n")


# --- backends --------------------------------------------------------------------------------------------------------


def cut_short_library(stage: Stage) -> None:
    stage.own_environment()
    (stage.library / "tiny_engine/core.so").write_bytes(b"1234")


def missing_file(stage: Stage) -> None:
    stage.own_environment()
    (stage.library / "tiny_engine/core.so").unlink()


def cut_off_engine(stage: Stage) -> None:
    """Begun, and not come to its end."""
    stage.own_environment()
    keep("toy", [ENGINE])


def older_engine(stage: Stage) -> None:
    stage.own_environment()
    stage.pip("install", "--no-deps", f"{ENGINE}==0.9")


def no_backend(stage: Stage) -> None:
    stage.own_environment()
    stage.pip("uninstall", "--yes", ENGINE)
    stage.monkeypatch.setattr(backends, "FIRST_CHOICE", "toy")


def failed_trial(stage: Stage) -> None:
    stage.own_environment()
    facts = stage.facts()
    found = {"at": facts.now, "seconds": 1.0, "error": BrokenPackage("It does not start.").to_dict()}
    stage.evidence.put(backends.KIND, "toy", backends.stamp(facts.loaders["toy"], facts), found)


def preferred_and_absent(stage: Stage) -> None:
    stage.paths.backend_config.write_text('{"preferred_backend": "other"}')
    absent = replace(stage.loaders["toy"], name="other", distributions=("no-such-engine",), requirements="")
    stage.loaders["other"] = absent


def failing_loads(stage: Stage) -> None:
    history = History(stage.paths.history)
    for number in range(4):
        rung = Rung(Attempt(StepKind.ASKED, "toy", {}), "failed", 1.0, 1.0, BrokenPackage("It does not start."))
        at = stage.facts().now - 100 + number
        history.add_load(LoadStory("tiny", "/tiny.gguf", "auto", "load", at, 1.0, (rung,), "failed"))
    history.close()


def working_loads(stage: Stage, check: Check) -> None:
    """What the repair leads to: loads that work again."""
    history = History(stage.paths.history)
    for _ in range(3):
        rung = Rung(Attempt(StepKind.ASKED, "toy", {}), "worked", 1.0, 1.0, None)
        history.add_load(LoadStory("tiny", "/tiny.gguf", "auto", "load", stage.facts().now, 1.0, (rung,), "worked"))
    history.close()


# --- the machine -----------------------------------------------------------------------------------------------------

CARD = GpuFacts("nvidia", 0, "GeForce RTX 3060", 12 * GIB, 12 * GIB, "470.57", "8.6")


def cuda_build(stage: Stage) -> None:
    stage.monkeypatch.setattr("webui.setup.backends.built_devices", lambda name: ("cpu", "cuda"))
    stage.monkeypatch.setattr(drivers, "cuda_of", lambda name: 12)


def old_driver(stage: Stage) -> None:
    cuda_build(stage)
    stage.gpus = (CARD,)


def new_driver(stage: Stage, check: Check) -> None:
    assert "525.60 or newer" in check.sentence
    stage.gpus = (replace(CARD, driver="535.54"),)


def old_card(stage: Stage) -> None:
    cuda_build(stage)
    stage.monkeypatch.setattr(drivers, "cuda_of", lambda name: 13)
    stage.gpus = (replace(CARD, driver="580.88", compute_capability="6.1"),)


def build_for_old_card(stage: Stage, check: Check) -> None:
    assert check.action == "repair toy"
    stage.monkeypatch.setattr(drivers, "cuda_of", lambda name: 12)


def vulkan_without_driver(stage: Stage) -> None:
    stage.monkeypatch.setattr("webui.setup.backends.built_devices", lambda name: ("cpu", "vulkan"))
    stage.gpus = (GpuFacts("amd", 0, "Radeon RX 6600", 8 * GIB, 8 * GIB, "6.5", vulkan=False),)
    stage.vulkan = VulkanFacts(True, ())


def vulkan_driver(stage: Stage, check: Check) -> None:
    stage.gpus = (replace(stage.gpus[0], vulkan=True),)
    stage.vulkan = VulkanFacts(True, ("amd",))


def unused_card(stage: Stage) -> None:
    stage.gpus = (CARD,)


def gpu_build(stage: Stage, check: Check) -> None:
    cuda_build(stage)
    stage.gpus = (replace(CARD, driver="535.54"),)


def little_memory(stage: Stage) -> None:
    stage.memory = MemoryFacts(16 * GIB, GIB // 2)


def small_container(stage: Stage) -> None:
    stage.memory = MemoryFacts(GIB // 2, GIB // 4, limited=True)


def enough_memory(stage: Stage, check: Check) -> None:
    stage.memory = MemoryFacts(16 * GIB, 8 * GIB)


def thrashing(stage: Stage) -> None:
    pressure = stage.system / "proc/pressure/memory"
    pressure.write_text(
        "some avg10=60.00 avg60=55.00 avg300=20.00 total=1\nfull avg10=50.0 avg60=40.0 avg300=9.0 total=1\n"
    )


def calm(stage: Stage, check: Check) -> None:
    pressure = stage.system / "proc/pressure/memory"
    pressure.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.0 avg60=0.0 avg300=0.0 total=1\n")


def full_disk(stage: Stage) -> None:
    stage.disks["models"] = DiskFacts(stage.root, 1 << 40, 100 << 20)


def full_temporary(stage: Stage) -> None:
    stage.disks["temporary files"] = DiskFacts(stage.root, 1 << 40, 500 << 20)


def freed(stage: Stage, check: Check) -> None:
    stage.disks = {place: DiskFacts(stage.root, 1 << 40, 1 << 39) for place in stage.disks}


def clock_in_the_past(stage: Stage) -> None:
    stage.clock_ahead = -20 * 365 * 86_400.0


def clock_set(stage: Stage, check: Check) -> None:
    stage.clock_ahead = 0.0


def files_of_tomorrow(stage: Stage) -> None:
    make_old(stage.paths.history, -3 * 86_400.0)


def clock_jump(stage: Stage) -> None:
    stage.look()
    stage.clock_ahead = 3600.0


# --- files -----------------------------------------------------------------------------------------------------------


def closed_home(stage: Stage) -> None:
    stage.paths.logs.chmod(0o400)


def closed_file(stage: Stage) -> None:
    stage.write_settings("chat:\n  shown_messages: 50\n")
    stage.paths.settings_file.chmod(0o400)


def shown_key(stage: Stage) -> None:
    stage.write_settings("server:\n  api_key: abcdefgh\n")
    stage.paths.settings_file.chmod(0o644)


def damaged_chats(stage: Stage) -> None:
    store = ConversationStore(stage.paths.chats / "chats.sqlite3")
    for number in range(30):
        chat = store.create()
        store.append(chat.id, "user", f"question {number} " + "word " * 200)
    store.close()
    damage_database(stage.paths.chats / "chats.sqlite3")


def garbage_history(stage: Stage) -> None:
    stage.paths.history.write_bytes(b"no database at all" * 1000)


def half_written(stage: Stage) -> None:
    make_old_file(stage.paths.home / ".settings.yaml.x1y2.tmp")


def abandoned_download(stage: Stage) -> None:
    make_old_file(stage.paths.models / "big.gguf.part")


def abandoned_workshop(stage: Stage) -> None:
    (stage.paths.models / ".starter").mkdir()
    make_old_file(stage.paths.models / ".starter" / "half.whl")
    make_old(stage.paths.models / ".starter")


def make_old_file(path: Path) -> None:
    path.write_bytes(b"x" * 1000)
    make_old(path)


def large_logs(stage: Stage) -> None:
    with (stage.paths.logs / "install.log").open("wb") as file:
        file.truncate(300 << 20)  # takes no room on the disk


# --- models ----------------------------------------------------------------------------------------------------------


def truncated_model(stage: Stage) -> None:
    file = tiny_llama_bpe(stage.paths.models / "short.gguf")
    os.truncate(file, file.stat().st_size - 1000)


def web_page(stage: Stage) -> None:
    (stage.paths.models / "page.gguf").write_text("<!DOCTYPE html><html>Sign in</html>")


def part_missing(stage: Stage) -> None:
    split_llama(stage.paths.models)[1].unlink()


def no_model(stage: Stage) -> None:
    (stage.paths.models / "good.gguf").unlink()


def put_model(stage: Stage, check: Check) -> None:
    assert "Put a GGUF file there" in check.fix
    tiny_llama_bpe(stage.paths.models / "mine.gguf")


def no_models_folder(stage: Stage) -> None:
    stage.write_settings(f"models:\n  directory: {stage.root / 'elsewhere'}\n")


# --- configuration ---------------------------------------------------------------------------------------------------


def broken_settings(stage: Stage) -> None:
    stage.write_settings("server:\n  - nonsense\n  port: {")


def wrong_value(stage: Stage) -> None:
    stage.write_settings("limits:\n  queue_length: many\n")


def unknown_key(stage: Stage) -> None:
    stage.write_settings("chat:\n  shown_mesages: 10\n")


def broken_backend_config(stage: Stage) -> None:
    stage.paths.backend_config.write_text('{"gpu_enabled": tru')


def broken_after_a_good_one(stage: Stage) -> None:
    """Saving keeps a good copy."""
    SettingsStore(stage.paths).save({"backends.gpu_enabled": False})
    stage.paths.backend_config.write_text('{"gpu_enabled": fal')


def unknown_in_backend_config(stage: Stage) -> None:
    stage.paths.backend_config.write_text('{"gpu_enbled": true, "version": "1.1.0"}')


def unknown_parameter(stage: Stage) -> None:
    stage.paths.backend_config.write_text('{"backends": {"toy": {"parameters": {"slts": 2}, "slots": 2}}}')


def unknown_backend(stage: Stage) -> None:
    stage.paths.backend_config.write_text('{"backends": {"gone": {"threads": 2}}}')


def parameter_in_settings(stage: Stage) -> None:
    stage.write_settings("# mine\nloaders:\n  toy:\n    slots: many\n")


def wrong_backend_value(stage: Stage) -> None:
    stage.paths.backend_config.write_text('{"gpu_enabled": "perhaps"}')


def wrong_parameter(stage: Stage) -> None:
    stage.paths.backend_config.write_text('{"backends": {"toy": {"slots": 99}}}')


def no_backend_on(stage: Stage) -> None:
    stage.write_settings("backends:\n  disabled: [toy]\n")


def lost_first_model(stage: Stage) -> None:
    stage.write_settings("models:\n  default_model: gone.gguf\n")


def lost_wheels(stage: Stage) -> None:
    stage.write_settings(f"setup:\n  wheels: {stage.root / 'unplugged'}\n")


def open_without_login(stage: Stage) -> None:
    stage.write_settings("server:\n  host: 0.0.0.0\n")


def lost_gpu(stage: Stage) -> None:
    stage.write_settings("hardware:\n  gpus: ['nvidia:7']\n")


def lost_preset(stage: Stage) -> None:
    stage.write_settings("chat:\n  default_preset: mine\n")


def broken_preset(stage: Stage) -> None:
    stage.paths.presets.mkdir(exist_ok=True)
    stage.paths.presets.joinpath("mine.yaml").write_text("temperature: [1\n")


def broken_model_settings(stage: Stage) -> None:
    stage.paths.model_settings.write_text("[1, 2")


def saved_for_no_backend(stage: Stage) -> None:
    path = str(stage.paths.models / "good.gguf")
    stage.paths.model_settings.write_text(json.dumps({path: {"loader": "gone", "parameters": {}}}))


def saved_wrong_parameter(stage: Stage) -> None:
    path = str(stage.paths.models / "good.gguf")
    stage.paths.model_settings.write_text(json.dumps({path: {"loader": "toy", "parameters": {"slots": 99}}}))


PROBLEM = CheckState.PROBLEM
PLANTS = {
    "other_version": Plant("Packages", other_version),
    "missing_package": Plant("Packages", missing_package, PROBLEM),
    "cut_off_installation": Plant("Package files", cut_off_installation),
    "record_without_content": Plant("Package files", record_without_content),
    "two_records": Plant("Package files", two_records),
    "stranger": Plant("Package conflicts", stranger),
    "cut_short_library": Plant("Backend toy", cut_short_library, PROBLEM),
    "missing_file": Plant("Backend toy", missing_file, PROBLEM),
    "cut_off_engine": Plant("Backend toy", cut_off_engine, PROBLEM),
    "older_engine": Plant("Backend toy", older_engine),
    "no_backend": Plant("Backends", no_backend, PROBLEM),
    "failed_trial": Plant("Backend toy", failed_trial, PROBLEM),
    "preferred_and_absent": Plant("Backend other", preferred_and_absent, PROBLEM),
    "failing_loads": Plant("Loads with toy", failing_loads, follow=working_loads),
    "old_driver": Plant("GPU driver", old_driver, PROBLEM, new_driver),
    "old_card": Plant("GPU driver", old_card, PROBLEM, build_for_old_card),
    "vulkan_without_driver": Plant("GPU driver", vulkan_without_driver, PROBLEM, vulkan_driver),
    "unused_card": Plant("GPU", unused_card, follow=gpu_build),
    "little_memory": Plant("Memory", little_memory, follow=enough_memory),
    "small_container": Plant("Memory", small_container, PROBLEM, enough_memory),
    "thrashing": Plant("Swap", thrashing, follow=calm),
    "full_disk": Plant("Disk", full_disk, PROBLEM, freed),
    "full_temporary": Plant("Disk for temporary files", full_temporary, follow=freed),
    "clock_in_the_past": Plant("Clock", clock_in_the_past, PROBLEM, clock_set),
    "files_of_tomorrow": Plant("Clock", files_of_tomorrow),
    "clock_jump": Plant("Clock", clock_jump),
    "closed_folder": Plant("Permissions", closed_home, PROBLEM),
    "closed_file": Plant("Permissions", closed_file, PROBLEM),
    "shown_key": Plant("Permissions", shown_key),
    "damaged_chats": Plant("Databases", damaged_chats, PROBLEM),
    "garbage_history": Plant("Databases", garbage_history, PROBLEM),
    "half_written": Plant("Leftovers", half_written),
    "abandoned_download": Plant("Leftovers", abandoned_download),
    "abandoned_workshop": Plant("Leftovers", abandoned_workshop),
    "large_logs": Plant("Logs", large_logs),
    "truncated_model": Plant("Models", truncated_model),
    "web_page": Plant("Models", web_page),
    "part_missing": Plant("Models", part_missing),
    "no_model": Plant("Models", no_model, follow=put_model),
    "no_models_folder": Plant("Models", no_models_folder, PROBLEM),
    "broken_settings": Plant("Configuration", broken_settings, PROBLEM),
    "wrong_value": Plant("Configuration", wrong_value),
    "unknown_key": Plant("Configuration", unknown_key),
    "broken_backend_config": Plant("Configuration", broken_backend_config),
    "broken_after_a_good_one": Plant("Configuration", broken_after_a_good_one),
    "unknown_in_backend_config": Plant("Configuration", unknown_in_backend_config),
    "unknown_parameter": Plant("Configuration", unknown_parameter),
    "unknown_backend": Plant("Configuration", unknown_backend),
    "parameter_in_settings": Plant("Configuration", parameter_in_settings),
    "wrong_backend_value": Plant("Configuration", wrong_backend_value),
    "wrong_parameter": Plant("Configuration", wrong_parameter),
    "no_backend_on": Plant("Configuration", no_backend_on, PROBLEM),
    "lost_first_model": Plant("Configuration", lost_first_model),
    "lost_wheels": Plant("Configuration", lost_wheels),
    "open_without_login": Plant("Configuration", open_without_login, PROBLEM),
    "lost_gpu": Plant("Configuration", lost_gpu),
    "lost_preset": Plant("Configuration", lost_preset),
    "broken_preset": Plant("Configuration", broken_preset),
    "broken_model_settings": Plant("Saved model settings", broken_model_settings, PROBLEM),
    "saved_for_no_backend": Plant("Saved model settings", saved_for_no_backend),
    "saved_wrong_parameter": Plant("Saved model settings", saved_wrong_parameter),
}
MODES = {"closed_folder", "closed_file", "shown_key"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture
def stage(tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    found = Stage(tmp_path, environment, monkeypatch)
    yield found
    for folder in (found.paths.home, found.paths.logs):
        folder.chmod(stat.S_IRWXU)


def test_a_machine_in_order_has_nothing_to_complain_of(stage: Stage) -> None:
    assert stage.complaints() == []
    assert stage.complaints() == [], "and looking changed nothing"


@pytest.mark.parametrize("name", PLANTS)
async def test_a_planted_problem_is_named_alone_and_its_remedy_works(name: str, stage: Stage) -> None:
    if name in MODES and sys.platform == "win32":
        pytest.skip("POSIX permissions")
    planted = PLANTS[name]
    planted.plant(stage)
    found = stage.complaints()
    assert [(check.name, check.state) for check in found] == [(planted.named, planted.state)], found
    (check,) = found
    assert check.fix and check.sentence.endswith((".", "?")), check
    if planted.follow is not None:
        planted.follow(stage, check)
    else:
        await stage.mend(check)
    if name == "no_models_folder":  # it is empty, and now that is told
        tiny_llama_bpe(stage.root / "elsewhere" / "good.gguf")
    assert stage.complaints() == []


async def test_what_is_taken_out_leaves_the_rest_of_the_file(stage: Stage) -> None:
    parameter_in_settings(stage)
    (check,) = stage.complaints()
    await stage.mend(check)
    assert stage.paths.settings_file.read_text().startswith("# mine\n")
    broken_after_a_good_one(stage)
    (check,) = stage.complaints()
    assert check.action == "restore backend_config.json"
    await stage.mend(check)
    assert Settings.load(stage.paths).backends.gpu_enabled is False


def test_a_port_in_use_names_its_holder_and_another_one(stage: Stage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        stage.settings = {}
        stage.write_settings(f"server:\n  port: {taken.getsockname()[1]}\n")
        (check,) = stage.complaints()
        assert check.name == "Port"
        assert f"(process {os.getpid()})" in check.sentence
        asyncio.run(stage.mend(check))
        assert stage.complaints() == []
        stage.settings = {"server.port": taken.getsockname()[1]}
        (given,) = stage.complaints()
        assert given.action is None, "what the command line says is not for the settings to change"
        stage.settings = {"server.port": free_port()}
        assert stage.complaints() == []


async def test_damaged_weights_are_found_by_the_long_checks_and_remembered(stage: Stage) -> None:
    """The header is in order, so that the quick checks alone see nothing."""
    spoil(stage.paths.models / "good.gguf")
    tiny_llama_bpe(stage.paths.models / "other.gguf")
    assert stage.complaints() == []
    said: list[tuple[str, float | None]] = []
    await examine(stage.facts(), lambda step, share: said.append((step, share)))
    shares = [share or 0.0 for _, share in said]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert any("Toy" in step for step, _ in said)
    (check,) = stage.complaints()
    assert (check.name, check.state, check.action) == ("Model files", CheckState.PROBLEM, "set-aside good.gguf")
    await stage.mend(check)
    assert stage.complaints() == []
    assert (stage.paths.models / "good.gguf.damaged").exists()


async def test_a_trial_is_kept_until_the_packages_change(stage: Stage) -> None:
    stage.own_environment()
    assert await try_backend(stage.loaders["toy"], stage.facts()) is None
    told = next(check for check in stage.look() if check.name == "Backend toy")
    assert "ran a test model today" in told.sentence
    stage.pip("install", "--no-deps", "--force-reinstall", f"{ENGINE}==1.0")
    told = next(check for check in stage.look() if check.name == "Backend toy")
    assert "not tried yet" in told.sentence


async def test_conversations_are_saved_as_far_as_they_can_be_read(stage: Stage) -> None:
    damaged_chats(stage)
    (check,) = stage.complaints()
    await stage.mend(check)
    with closing(sqlite3.connect(stage.paths.chats / "chats.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM conversations").fetchone()[0] > 0
        assert 0 < database.execute("SELECT count(*) FROM messages").fetchone()[0] <= 30
    store = ConversationStore(stage.paths.chats / "chats.sqlite3")
    assert store.list("question")
    store.append(store.list()[0].id, "user", "and it goes on")
    store.close()
