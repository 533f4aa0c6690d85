"""What older values become: those that matter most, said outright."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.migration.conftest import Laid_
from tests.migration.corpus.backend_sets import SET_100, SET_110
from tests.migration.corpus.layout import Case
from webui.chat.conversations import ConversationStore
from webui.chat.presets import PresetStore
from webui.loaders import LOADERS
from webui.migration.forms import Form, form_of, is_older
from webui.migration.plan import Line, Outcome, shown_value

Lay = Callable[[Case], Laid_]


def line(laid: Laid_, key: str) -> Line:
    return next(one for one in laid.survey().plan.lines if one.name == key)


@pytest.mark.parametrize("older", [SET_110, SET_100], ids=["1.1.0", "1.0.0"])
def test_a_set_of_backends_keeps_its_gpu_and_context_settings(laid: Lay, older: Case) -> None:
    home = laid({"home/backend_config.json": older})
    home.carry()
    expected = {
        "backends.preferred_backend": "llamafile",
        "backends.fallback_enabled": False,
        "backends.fallback_order": ["llamafile", "llama-cpp-python", "ctransformers", "transformers", "xllamacpp"],
        "backends.disabled": ["transformers"],
        "limits.load_timeout_seconds": 300,
        "loaders.llamafile.gpu_layers": 24,
        "loaders.llamafile.context_size": 8192,
        "loaders.ctransformers.context_size": 2048,
        "loaders.ctransformers.threads": 6,
        "loaders.llama-cpp-python.gpu_layers": 33,
        "loaders.llama-cpp-python.batch_size": 1024,
        "loaders.llama-cpp-python.flash_attention": "on",
        "loaders.transformers.dtype": "float16",
    }
    assert {key: home.value(key) for key in expected} == expected
    assert home.settings().problems == ()
    written = json.loads(home.paths.backend_config.read_text())
    assert not {"preferences", "backend_configs", "version"} & set(written)


def test_flat_settings_go_to_every_backend_that_has_them(laid: Lay) -> None:
    home = laid({"home/config.json": {"n_ctx": 8192, "n_gpu_layers": 20, "n_batch": 256, "use_gpu": False}})
    home.carry()
    for name, spec in LOADERS.items():
        assert home.value(f"loaders.{name}.context_size") == 8192
        if "gpu_layers" in spec.parameters.model_fields:
            assert home.value(f"loaders.{name}.gpu_layers") == 20
        assert home.value(f"loaders.{name}.batch_size") == 256
    assert home.value("backends.gpu_enabled") is False


def test_a_file_named_after_a_backend_speaks_of_that_one(laid: Lay) -> None:
    home = laid({"home/llamafile.config.json": {"n_ctx": 16384}})
    assert dict(home.survey().plan.effects.settings) == {"loaders.llamafile.context_size": 16384}


def test_sampling_becomes_a_preset_that_new_chats_use(laid: Lay) -> None:
    home = laid({"home/config.json": {"ai_settings": {"temperature": 0.3, "top_k": 12, "system_prompt": "Kurz."}}})
    home.carry()
    preset = PresetStore(home.paths).get("older app")
    assert (preset.temperature, preset.top_k) == (0.3, 12)
    assert preset.top_p == PresetStore(home.paths).get("balanced").top_p
    assert (home.value("chat.default_preset"), home.value("chat.system_prompt")) == ("older app", "Kurz.")


def test_the_model_used_last_is_loaded_at_start_and_the_others_stay_listed(laid: Lay) -> None:
    home = laid({"home/config.json": {"recent_models": ["@ROOT@/elsewhere/phi.gguf", "@ROOT@/library/mistral.gguf"]}})
    home.carry()
    files = [str(home.root / "elsewhere/phi.gguf"), str(home.root / "library/mistral.gguf")]
    assert (home.value("models.default_model"), home.value("models.files")) == (files[0], files)


def test_chats_come_along_with_their_times(laid: Lay) -> None:
    turns = [{"role": "user", "content": "Why?", "timestamp": 1738576800}, {"role": "assistant", "content": "Because."}]
    home = laid({"home/chats/a.json": {"title": "Questions", "messages": turns, "system_prompt": "Be kind."}})
    home.carry()
    store = ConversationStore(home.paths.conversations)
    try:
        (listed,) = store.list("because")
        chat = store.get(listed.id)
    finally:
        store.close()
    assert (chat.title, chat.system_prompt, chat.created_at) == ("Questions", "Be kind.", 1738576800)
    assert [(message.role, message.content) for message in chat.messages] == [
        ("user", "Why?"),
        ("assistant", "Because."),
    ]


def test_what_was_set_here_stays(laid: Lay) -> None:
    home = laid(
        {
            "home/settings.yaml": "chat:\n  system_prompt: Mine.\n",
            "home/config.json": {"ai_settings": {"system_prompt": "Theirs.", "top_k": 3}},
        }
    )
    assert line(home, "ai_settings.system_prompt").outcome is Outcome.LEFT
    assert line(home, "ai_settings.system_prompt").reason == "what was set here stays"
    home.carry()
    assert home.value("chat.system_prompt") == "Mine."


def test_what_the_app_wrote_into_an_older_file_stays(laid: Lay) -> None:
    home = laid({"home/backend_config.json": {**SET_110, "preferred_backend": "ctransformers"}})
    assert "what was set here stays" in line(home, "preferences.preferred_backend").reason
    home.carry()
    assert home.value("backends.preferred_backend") == "ctransformers"


@pytest.mark.parametrize(
    "content",
    [
        {"gpu_enabled": False, "backends": {"llamafile": {"enabled": True, "priority": 1, "context_size": 2048}}},
        {"version": "2", "preferred_backend": "auto", "somebody": {"elses": 1}},
        {},
        [],
    ],
)
def test_the_apps_own_file_is_not_taken_for_an_older_one(laid: Lay, content: Case) -> None:
    assert not is_older(content)
    home = laid({"home/backend_config.json": content})
    assert home.survey().plan.sources == ()


def test_a_broken_file_of_the_apps_own_is_left_to_the_app(laid: Lay) -> None:
    home = laid({"home/backend_config.json": '{"gpu_enabled": fal', "home/config.json": {"n_ctx": 8192}})
    plan = home.survey().plan
    assert [source.file.name for source in plan.sources] == ["config.json"]


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ({"theme": "dark"}, Form.APP),
        ({"preferences": {}}, Form.BACKEND_SET),
        ({"backends": {"llamafile": {"name": "llamafile"}}}, Form.BACKEND_SET),
        ({"n_ctx": 1}, Form.FLAT),
        ({"backends": {"llamafile": {"context_size": 1}}}, Form.PRESENT),
        ({"colour": 1}, Form.UNKNOWN),
    ],
)
def test_forms_are_told_by_their_keys(content: Case, form: Form) -> None:
    assert form_of(content) is form


def test_secrets_are_not_shown() -> None:
    for name in ("api_key", "server.password", "hf_token", "auth"):
        assert "s3cret" not in shown_value(name, "s3cret")
    assert "s3cret" not in shown_value("server", {"api_key": "s3cret"})
    assert shown_value("max_tokens", 512) == "512"


def test_arguments_with_a_secret_do_not_show_it(laid: Lay) -> None:
    home = laid({"home/config.json": {"n_ctx": 2048, "args": "--api-key s3cret --mlock"}})
    home.carry()
    shown = json.dumps(line(home, "args").to_dict())
    assert "s3cret" not in shown
    assert "s3cret" not in home.paths.migration_log.read_text()
