"""Health checks: what is well, what is not, and that each complaint comes with a way out."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import socket
import sys
from pathlib import Path

import pytest

from tests.builders.gguf import tiny_llama_bpe
from tests.hardware import machines
from webui.cli import main
from webui.diagnostics import commands
from webui.diagnostics.commands import run_doctor
from webui.diagnostics.health import Check, CheckState, HealthFacts, checks, gather, run_checks, worst
from webui.diagnostics.health.actions import VERBS
from webui.diagnostics.health.check import warning
from webui.diagnostics.health.examination import try_backend
from webui.errors import AppError, BrokenPackage, CorruptFile, EngineCrashed
from webui.hardware.facts import DiskFacts, GpuFacts, HardwareFacts, MemoryFacts
from webui.loaders import LOADERS
from webui.paths import PROJECT_ROOT, Paths
from webui.planning.recovery import Attempt, StepKind
from webui.pool.history import History
from webui.pool.status import LoadStory, Rung
from webui.settings import Settings

ONE = {"xllamacpp": LOADERS["xllamacpp"]}


@pytest.fixture
def facts(isolation: Path) -> HealthFacts:
    """With one backend only: to look at torch's thousands of files takes most of the time."""
    found = gather(Paths(isolation).ensure(), ONE)
    assert isinstance(found.settings, Settings)
    return found


def check(facts: HealthFacts, name: str) -> Check:
    return next(found for found in run_checks(facts) if found.name == name)


def with_hardware(facts: HealthFacts, **changes: object) -> HealthFacts:
    hardware: HardwareFacts = dataclasses.replace(facts.hardware, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(facts, hardware=hardware)


def test_every_complaint_says_what_to_do(facts: HealthFacts) -> None:
    found_all = run_checks(dataclasses.replace(facts, loaders=LOADERS))
    assert {
        "Python",
        "Packages",
        "GPU",
        "Memory",
        "Disk",
        "Clock",
        "Permissions",
        "Models",
        "Configuration",
        "Port",
    } <= {found.name for found in found_all}
    assert {f"Backend {name}" for name in LOADERS} <= {found.name for found in found_all}
    for found in found_all:
        assert found.sentence.endswith((".", "!")), found
        assert found.fix or found.state is not CheckState.PROBLEM, found
        assert found.action is None or found.fix[-1].isalnum(), "the button or the command follows"


def test_the_worst_counts() -> None:
    found = [Check("a", CheckState.WARNING, ""), Check("b", CheckState.PROBLEM, ""), Check("c", CheckState.OK, "")]
    assert worst(found) is CheckState.PROBLEM
    assert worst(found[:1]) is CheckState.WARNING
    assert worst([]) is CheckState.OK


def test_memory_and_disk(facts: HealthFacts) -> None:
    disks = {"models": DiskFacts(Path("/"), 1 << 40, 50 << 20)}
    short = dataclasses.replace(with_hardware(facts, memory=MemoryFacts(8 << 30, 500 << 20)), disks=disks)
    assert check(short, "Memory").state is CheckState.WARNING
    assert check(short, "Disk").state is CheckState.PROBLEM
    disks = {"models": DiskFacts(Path("/"), 1 << 40, 1 << 39)}
    ample = dataclasses.replace(with_hardware(facts, memory=MemoryFacts(8 << 30, 4 << 30)), disks=disks)
    assert check(ample, "Memory").sentence == "4.0 GiB of 8.0 GiB are free."
    assert check(ample, "Disk").state is CheckState.OK


def test_a_gpu_that_no_backend_uses(facts: HealthFacts) -> None:
    alone = check(with_hardware(facts, gpus=(GpuFacts("intel", 0, "Arc A770", driver="31.0"),)), "GPU")
    assert alone.state is CheckState.WARNING
    assert "Arc A770, driver 31.0 is there, and no installed backend is built for it" in alone.sentence
    assert check(with_hardware(facts, gpus=()), "GPU").sentence == "No GPU was found; models run on the CPU."


def load(number: int, *errors: AppError | None) -> LoadStory:
    rungs = tuple(
        Rung(Attempt(StepKind.ASKED, "xllamacpp", {}), "failed" if error else "worked", 1.0, 1.0, error)
        for error in errors
    )
    return LoadStory("tiny", "/tiny.gguf", "auto", "load", 1.8e9 + number, 1.0, rungs, "failed")


BROKEN = BrokenPackage("xllamacpp is installed and does not import.")


@pytest.mark.parametrize(
    ("stories", "told"),
    [
        ([(BROKEN,), (BROKEN,), (None,), (BROKEN,)], "3 of the last 4 failed, mostly with broken_package."),
        ([(EngineCrashed("x"), BROKEN, BROKEN)], "3 of the last 3 failed, mostly with broken_package."),
        ([(None,), (None,), (BROKEN,), (BROKEN,), (BROKEN,), (BROKEN,)], ""),
        ([(CorruptFile("x"),)] * 4, ""),
        ([(BROKEN,), (BROKEN,)], ""),
        ([], ""),
    ],
)
def test_a_loader_that_fails_again_and_again(
    facts: HealthFacts, stories: list[tuple[AppError | None, ...]], told: str
) -> None:
    """Stories newest first; the steps within one in their order."""
    assert not facts.paths.history.exists(), "looking makes no file"
    history = History(facts.paths.history)
    for number, errors in enumerate(reversed(stories)):
        history.add_load(load(number, *errors))
    history.close()
    found = [one for one in run_checks(gather(facts.paths, ONE)) if one.name == "Loads with xllamacpp"]
    assert [one.sentence for one in found] == ([told] if told else [])
    for one in found:
        assert (one.state, one.fix, one.action) == (CheckState.WARNING, "Repair it", "repair xllamacpp")
        assert one.remedy == "Repair it: python3 app.py doctor --fix 'repair xllamacpp'"


def test_a_probe_that_failed_is_told(facts: HealthFacts) -> None:
    found = check(with_hardware(facts, problems=("Could not read NVIDIA GPUs: driver too old.",)), "Hardware")
    assert found.state is CheckState.WARNING


def test_models_are_counted_and_broken_ones_named(facts: HealthFacts) -> None:
    assert "There is no model" in check(facts, "Models").sentence
    (facts.paths.models / "broken.gguf").write_bytes(b"GGUF\x03\0\0\0")
    found = check(facts, "Models")
    assert found.state is CheckState.WARNING
    assert "broken.gguf" in found.sentence
    tiny_llama_bpe(facts.paths.models / "good.gguf")
    assert any(item.sentence.startswith("1 in ") for item in run_checks(facts) if item.name == "Models")


def test_settings_that_cannot_be_read(facts: HealthFacts) -> None:
    facts.paths.settings_file.write_text("server:\n  - nonsense\n  port: {")
    found = [item for item in run_checks(gather(facts.paths, ONE)) if item.name == "Configuration"]
    assert found
    assert all(item.state is not CheckState.OK for item in found)


def test_a_port_in_use(facts: HealthFacts) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings.load(facts.paths, environment={}, command_line={"server.port": port})
        facts = dataclasses.replace(facts, settings=settings)
        assert check(facts, "Port").state is CheckState.WARNING
        assert check(dataclasses.replace(facts, serving=True), "Port").state is CheckState.OK
    assert check(facts, "Port").sentence == f"127.0.0.1:{port} is free."


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_home_that_cannot_be_made(facts: HealthFacts, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = check(dataclasses.replace(facts, paths=Paths(tmp_path / "file" / "home")), "Permissions")
    assert found.state is CheckState.PROBLEM


def test_doctor_reports_the_same_as_json(facts: HealthFacts, capsys: pytest.CaptureFixture[str]) -> None:
    status = run_doctor(facts.paths, LOADERS, as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert status == (1 if report["state"] == "problem" else 0)
    assert {"name", "state", "sentence", "fix", "action", "untried"} == set(report["checks"][0])
    assert report["recommendation"]["device"] and report["recommendation"]["order"]
    assert run_doctor(facts.paths, LOADERS, as_json=False) == status
    words = capsys.readouterr().out
    assert "Python" in words and report["recommendation"]["device"] in words


def test_doctor_advises_for_the_gpus_that_models_may_use(
    facts: HealthFacts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    hardware = machines.facts("nvidia-two-unequal", tmp_path)

    def kind(settings: dict[str, object]) -> str:
        chosen = Settings.load(facts.paths, environment={}, command_line=settings)
        found = dataclasses.replace(facts, settings=chosen, hardware=hardware)
        monkeypatch.setattr(commands, "gather", lambda paths, loaders: found)
        run_doctor(facts.paths, ONE, as_json=True)
        return str(json.loads(capsys.readouterr().out)["recommendation"]["kind"])

    assert kind({}) != kind({"backends.gpu_enabled": False}) == "cpu"


def test_doctor_starts_no_engine(facts: HealthFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick checks go by what is known: an engine takes seconds to import."""
    monkeypatch.setattr("asyncio.create_subprocess_exec", None)
    assert run_doctor(facts.paths, LOADERS, as_json=True) in (0, 1)


def test_a_fix_is_carried_out_by_the_command(facts: HealthFacts, capsys: pytest.CaptureFixture[str]) -> None:
    facts.paths.settings_file.write_text("limits:\n  queue_length: many\n")
    assert main(["doctor", "--fix", "reset limits.queue_length"]) == 0
    assert "Nothing asks for that any more" in capsys.readouterr().out
    assert "many" not in facts.paths.settings_file.read_text()
    assert main(["doctor", "--fix", "reset limits.queue_length"]) == 1
    assert "Nothing asks for 'reset limits.queue_length'" in capsys.readouterr().err


def test_an_older_apps_backends_are_offered_to_be_carried_over_and_not_to_be_taken_out(facts: HealthFacts) -> None:
    older = {"version": "1.1.0", "preferences": {}, "backend_configs": {}, "custom_fallback_order": []}
    facts.paths.backend_config.write_text(json.dumps(older))
    found = [one for one in run_checks(gather(facts.paths, ONE)) if one.name == "Configuration"]
    assert [(one.state, one.action) for one in found] == [(CheckState.WARNING, None)], found
    assert "python3 app.py migrate" in found[0].remedy


def test_a_preferred_backend_that_cannot_be_installed_says_how_to_get_it(facts: HealthFacts) -> None:
    facts.paths.settings_file.write_text("backends:\n  preferred_backend: llamafile\n")
    found = gather(facts.paths, {**ONE, "llamafile": LOADERS["llamafile"]})
    assert check(found, "Backend llamafile").remedy == (
        f"Put one into {facts.paths.bin}, or name it with GGUF_LLAMAFILE. Or let the app choose: "
        "python3 app.py doctor --fix 'reset backends.preferred_backend'"
    )


def test_every_action_that_is_proposed_is_known() -> None:
    """The words stand in the checks' files and in the table of verbs."""
    folder = PROJECT_ROOT / "webui" / "diagnostics" / "health"
    text = "".join(file.read_text("utf-8") for file in folder.glob("*.py") if file.name != "actions.py")
    for verb in VERBS:
        assert re.search(rf'f?"{verb}[" ]', text), f"{verb} is proposed by no check"
    assert text.count("app.py doctor") == 1, "a check says what to do; how it is started here is said by what shows it"


@pytest.mark.parametrize("name", ["it's mine.gguf", "two  words.gguf", 'a"b$(x).gguf'])
def test_a_proposed_command_holds_the_action_whatever_the_file_is_called(name: str) -> None:
    check = warning("Models", f"{name}: broken.", "Or move it aside", f"set-aside {name}")
    assert shlex.split(check.remedy.partition(": ")[2]) == ["python3", "app.py", "doctor", "--fix", f"set-aside {name}"]


@pytest.mark.engine
@pytest.mark.parametrize("name", ["ctransformers", "xllamacpp", "llama-cpp-python"])
async def test_an_engine_runs_the_test_model(facts: HealthFacts, name: str) -> None:
    facts = dataclasses.replace(facts, loaders={name: LOADERS[name]})
    assert "not tried yet" in check(facts, f"Backend {name}").sentence
    assert await try_backend(LOADERS[name], facts) is None
    assert "it ran a test model today" in check(facts, f"Backend {name}").sentence


def test_a_check_that_fails_costs_its_own_answer_only(facts: HealthFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(facts: HealthFacts) -> list[Check]:
        raise ValueError("the disk is on fire")

    before = [one.name for one in run_checks(facts)]
    looks = tuple((name, broken if name == "Swap" else look) for name, look in checks.LOOKS)
    monkeypatch.setattr(checks, "LOOKS", looks)
    found = run_checks(facts)
    assert [one.name for one in found] == before
    assert "could not be checked: the disk is on fire" in next(one.sentence for one in found if one.name == "Swap")
