"""Engines are asked once: again only when a package or the machine has changed, and a failing one is an answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from webui.errors import BrokenPackage
from webui.loaders import LOADERS
from webui.loaders.contract import Availability, LoaderSpec
from webui.loaders.devices import Ability, EngineDevice
from webui.setup import abilities
from webui.setup.abilities import Abilities

SPECS = {name: LOADERS[name] for name in ("xllamacpp", "ctransformers")}
ANSWER = Ability("xllamacpp", (EngineDevice("cuda", "CUDA0", "Card", 1, 1),))


class Asked:
    """Stands for the child processes and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        monkeypatch.setattr(abilities, "in_child", self.answer)

    async def answer(self, spec: LoaderSpec, module: tuple[str, ...], seconds: float) -> object:
        self.names.append(spec.name)
        await asyncio.sleep(0)
        if spec.name == "ctransformers":
            raise BrokenPackage("It is installed and does not start.", cause="its process ended with status -11")
        return ANSWER.to_dict()


async def test_an_answer_is_kept_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, file = Asked(monkeypatch), tmp_path / "cache" / "abilities.json"
    file.parent.mkdir()
    first = Abilities(SPECS, file, lambda: "machine")
    assert first.known() == ()
    several = await asyncio.gather(first.all(), first.all())
    assert several[0] == several[1]
    assert several[0][0] == ANSWER
    assert (several[0][1].devices, several[0][1].told) == ((), False)
    assert "does not start: its process ended with status -11" in several[0][1].reason
    assert asked.names == ["xllamacpp", "ctransformers"]
    again = Abilities(SPECS, file, lambda: "machine")
    assert await again.all() == again.known() == several[0]
    assert asked.names == ["xllamacpp", "ctransformers"]


async def test_another_machine_or_package_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, machine = Asked(monkeypatch), ["driver 550"]
    one = {"xllamacpp": SPECS["xllamacpp"]}
    them = Abilities(one, None, lambda: machine[0])
    await them.all()
    await them.all()
    machine[0] = "driver 560"
    await them.all()
    assert asked.names == ["xllamacpp"] * 2
    monkeypatch.setattr(abilities, "_changed", lambda library, found: 1)
    await them.all()
    assert asked.names == ["xllamacpp"] * 3


async def test_what_is_not_installed_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    absent = replace(SPECS["xllamacpp"], find=lambda *_: Availability(False, "xllamacpp is not installed"))
    (ability,) = await Abilities({"xllamacpp": absent}, None, lambda: "").all()
    assert (ability.installed, ability.reason, asked.names) == (False, "xllamacpp is not installed", [])


@pytest.mark.parametrize("text", ["", "[]", '{"xllamacpp": 3}', '{"xllamacpp": {"stamp": "", "ability": {}}}'])
async def test_a_damaged_file_costs_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    asked, file = Asked(monkeypatch), tmp_path / "abilities.json"
    file.write_text(text)
    assert await Abilities({"xllamacpp": SPECS["xllamacpp"]}, file, lambda: "").of("xllamacpp") == ANSWER
    assert asked.names == ["xllamacpp"]


async def test_a_real_engine_through_the_real_child(tmp_path: Path) -> None:
    ability = await Abilities(SPECS, tmp_path / "abilities.json", lambda: "").of("xllamacpp")
    assert ability.told and ability.installed
    assert ability.devices or ability.reason
