"""Prompts against transformers' own renderer, and templates that mean harm."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from webui.chat import sandbox
from webui.chat.fallbacks import FALLBACKS, choose_fallback
from webui.chat.templates import choose_template, render, stop_strings
from webui.errors import TemplateFailed
from webui.models.facts import ModelFacts, ModelFormat

CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}
{{- '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\n' }}
{%- endif %}"""

LLAMA3 = """{{- bos_token }}
{%- if tools is not none %}
{%- set intro = 'You may call: ' + (tools | tojson) %}{% else %}{% set intro = '' %}{% endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- intro }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant'] %}{% continue %}{% endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

MISTRAL = """{{ bos_token }}{% for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Roles must alternate user and assistant') }}
{%- endif %}
{%- if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}{{ ' ' ~ message['content'] ~ eos_token }}
{%- else %}{{ raise_exception('Only user and assistant are known') }}{% endif %}
{%- endfor %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}
{{- raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""

GENERATION = """{% set ns = namespace(n=0, last='') %}{% for m in messages %}
{%- if m.role == 'assistant' %}{% generation %}{{ m.content.split('</think>')[-1].lstrip('\n') }}{% endgeneration %}
{%- else %}{% set ns.n = ns.n + 1 %}{{ ns.n ~ '. ' ~ m.content }}{% endif %}{{ '\n' }}
{%- endfor %}{{ messages[::-1][0].role | upper }} {{ {'a': [1, 'ä<>']} | tojson(indent=2) }}"""

BOS, EOS = "<s>", "</s>"
SYSTEM = {"role": "system", "content": "Answer briefly."}
USER = {"role": "user", "content": " What is a mänü? <b>\n"}
REPLY = {"role": "assistant", "content": "A list of dishes."}
AGAIN = {"role": "user", "content": "And {{ 7 * 7 }}?"}

CASES = {
    "chatml": (CHATML, [SYSTEM, USER, REPLY, AGAIN]),
    "chatml without system": (CHATML, [USER]),
    "llama3": (LLAMA3, [SYSTEM, USER, REPLY, AGAIN]),
    "llama3 without system": (LLAMA3, [USER, REPLY, AGAIN]),
    "mistral": (MISTRAL, [USER, REPLY, AGAIN]),
    "gemma": (GEMMA, [USER, REPLY, AGAIN]),
    "generation": (GENERATION, [USER, {**REPLY, "content": "<think>hm</think>\nYes."}, AGAIN]),
}


def facts(template: str | None = None, **changes: Any) -> ModelFacts:
    values: dict[str, Any] = {
        "path": Path("model.gguf"),
        "format": ModelFormat.GGUF,
        "files": (),
        "file_bytes": 0,
        "name": "model",
        "chat_template": template,
        "bos_token": BOS,
        "eos_token": EOS,
    }
    return ModelFacts(**{**values, **changes})


def oracle(template: str, messages: list[dict[str, str]], **options: Any) -> str:
    """What transformers renders."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template([messages], chat_template=template, bos_token=BOS, eos_token=EOS, **options)
    return str(rendered[0])


@pytest.mark.parametrize("generation_prompt", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_renders_as_transformers_does(case: str, generation_prompt: bool) -> None:
    template, messages = CASES[case]
    expected = oracle(template, messages, add_generation_prompt=generation_prompt)
    got = render(messages, facts(template), add_generation_prompt=generation_prompt)
    assert got == expected.removeprefix(BOS)


@pytest.mark.parametrize("case", ["chatml", "llama3", "gemma"])
def test_a_reply_is_continued_as_transformers_does(case: str) -> None:
    template, messages = CASES[case]
    begun = [*messages, {"role": "assistant", "content": "Sure: 4"}]
    expected = oracle(template, begun, continue_final_message=True)
    assert render(begun, facts(template), continue_final=True) == expected.removeprefix(BOS)


def test_tools_reach_the_template() -> None:
    tools = [{"type": "function", "function": {"name": "wetter", "description": "für heute"}}]
    expected = oracle(LLAMA3, [USER], tools=tools, add_generation_prompt=True)
    assert render([USER], facts(LLAMA3), tools=tools) == expected.removeprefix(BOS)
    assert "für heute" in expected


def test_text_parts_are_joined() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert "user\nab<|im_end|>" in render(parts, facts(CHATML))


def test_the_bos_text_stays_where_the_tokenizer_adds_none() -> None:
    assert render([USER], facts(GEMMA)).startswith("<start_of_turn>")
    assert render([USER], facts(GEMMA, add_bos_token=False)).startswith(BOS)
    assert render([USER], facts(GEMMA, tokenizer="gpt2")).startswith(BOS)
    llama3 = facts(GEMMA, tokenizer="gpt2", metadata={"tokenizer.ggml.pre": "llama-bpe"})
    assert render([USER], llama3).startswith("<start_of_turn>")


@pytest.mark.parametrize("template", [MISTRAL, GEMMA])
def test_a_system_prompt_that_a_template_refuses_opens_the_first_user_message(template: str) -> None:
    merged = {"role": "user", "content": "Answer briefly.\n\n" + AGAIN["content"]}
    assert render([SYSTEM, AGAIN], facts(template)) == render([merged], facts(template))


def test_a_system_prompt_that_a_template_drops_is_not_lost() -> None:
    silent = "{% for m in messages if m.role != 'system' %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert render([SYSTEM, AGAIN], facts(silent)).startswith("user: Answer briefly.\n\nAnd")


def test_turns_of_one_role_are_joined_where_the_template_insists() -> None:
    prompt = render([AGAIN, AGAIN], facts(MISTRAL))
    assert prompt == f"[INST] {AGAIN['content']}\n\n{AGAIN['content']} [/INST]"


def test_a_refusal_names_the_template_s_reason() -> None:
    with pytest.raises(TemplateFailed, match="no tools today"):
        render([USER], facts("{{ raise_exception('no tools today') }}"))
    with pytest.raises(TemplateFailed, match="line 2"):
        try:
            render([USER], facts("{{ 1 }}\n{% if %}"))
        except TemplateFailed as error:
            raise TemplateFailed(error.cause) from error
    with pytest.raises(TemplateFailed):
        render([USER], facts("{{ messages[0]['content'] + 1 }}"))
    with pytest.raises(TemplateFailed):
        render([], facts(CHATML))


HOSTILE = {
    "endless loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "doubling": "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "adding": "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "nesting": "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
    "product": "{{ 'a' * 10 ** 10 }}",
    "power": "{{ 10 ** 10 ** 10 }}",
    "padding": "{{ 'a'.center(10 ** 9) }}",
    "padding filter": "{{ 'a' | center(1000000000) }}",
    "indent": "{{ 1 | tojson(indent=1000000000) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "star": "{{ '%*d' % (1000000000, 1) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "nested format": "{{ '{:{}}'.format(1, 1000000000) }}",
    "replace": "{% set x = 'a' * 1000000 %}{{ x.replace('a', x) }}",
    "join": "{{ ('a,' * 1000000).split(',') | join('b' * 100000) }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "constant text": "{% for i in range(99999) %}" + "x" * 100_000 + "{% endfor %}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "private namespace": "{{ namespace(__class__=1) }}",
    "files": "{% include '/etc/passwd' %}",
    "change": "{% set _ = messages.append(1) %}",
    "parentheses": "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}",
    "size": "x" * (sandbox.MAX_SOURCE + 1),
    "words": "{{ bos_token }}" * 50_000,
    "nested loops": "{% for m in messages %}" * 200 + "{% endfor %}" * 200,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.3)
    started = time.monotonic()
    with pytest.raises(TemplateFailed):
        render([USER], facts(HOSTILE[name]))
    # Not a measure of speed: without the bounds these run for minutes or take all memory.
    assert time.monotonic() - started < 30


def test_the_bound_on_time_holds_for_all_attempts_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system message makes for several forms of the conversation; a template that loops gets its time once."""
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 1.0)
    used = time.process_time()
    with pytest.raises(TemplateFailed, match="more than 1 s"):
        render([SYSTEM, AGAIN, AGAIN], facts(HOSTILE["endless loops"]))
    assert time.process_time() - used < 2.0


def test_a_template_that_does_not_compile_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[str] = []
    compile_metered = sandbox.TemplateEnvironment.compile_metered

    def counted(self: sandbox.TemplateEnvironment, source: str) -> Any:
        sources.append(source)
        return compile_metered(self, source)

    monkeypatch.setattr(sandbox.TemplateEnvironment, "compile_metered", counted)
    for _ in range(2):
        with pytest.raises(TemplateFailed, match="Expected an expression"):
            render([SYSTEM, AGAIN], facts("{% if %} only here"))
    assert sources == ["{% if %} only here"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"eos_token": "<|im_end|>"}, "chatml"),
        ({"eos_token": "<|eot_id|>"}, "llama3"),
        ({"architecture": "gemma2"}, "gemma"),
        ({"name": "Mistral 7B Instruct v0.2"}, "mistral"),
        ({"path": Path("llama-2-7b-chat.Q4_0.gguf")}, "llama2"),
        ({"path": Path("vicuna-13b.ggmlv3.bin")}, "vicuna"),
        ({"path": Path("TinyLlama-1.1B-Chat.gguf")}, "zephyr"),
        ({"architecture": "gpt2"}, "plain"),
    ],
)
def test_a_model_without_a_template_gets_a_fitting_one(changes: dict[str, Any], expected: str) -> None:
    assert choose_fallback(facts(**changes)).name == expected


@pytest.mark.parametrize("name", FALLBACKS)
def test_every_fallback_renders_a_whole_conversation(name: str) -> None:
    prompt = render([SYSTEM, USER, REPLY, AGAIN], facts(), override=name)
    places = [prompt.index(part) for part in ("Answer briefly.", "mänü", "A list of dishes.", "And {{ 7 * 7 }}?")]
    assert places == sorted(places)
    assert not prompt.startswith(BOS)
    begun = render([AGAIN, {"role": "assistant", "content": "Fort"}], facts(), override=name, continue_final=True)
    assert begun == render([AGAIN], facts(), override=name) + "Fort"
    assert FALLBACKS[name].stop


def test_stop_strings_are_those_the_end_token_does_not_cover() -> None:
    assert stop_strings(facts(CHATML, eos_token="<|im_end|>")) == ()
    assert stop_strings(facts(CHATML, eos_token="<|endoftext|>")) == ("<|im_end|>",)
    assert stop_strings(facts(), "plain") == ("\nUser:",)


def test_an_override_may_be_a_template_of_one_s_own() -> None:
    assert render([AGAIN], facts(CHATML), override="<{{ messages[0].content }}>") == f"<{AGAIN['content']}>"
    assert choose_template(facts(CHATML), "x").origin == "chosen"


def test_legitimate_formatting_passes_the_bounds() -> None:
    template = "{{ 'Date 20240101, **{}** 100%'.format('x') }} {{ '%05.1f' % 2.25 }} {{ strftime_now('%Y') | length }}"
    assert render([USER], facts(template)) == "Date 20240101, **x** 100% 002.2 4"
