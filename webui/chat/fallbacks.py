"""Chat templates for models that carry none, and the strings that end a turn.

Older files and conversions often lack `tokenizer.chat_template`. What such a model was tuned on is recognised by its
special tokens, its architecture or its name; a model nobody recognises gets a plain transcript, which base models
continue well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from webui.models.facts import ModelFacts


@dataclass(frozen=True, slots=True)
class FallbackTemplate:
    """`source` is Jinja as models ship it; `stop` ends the reply where the model's own end token may not."""

    name: str
    title: str
    source: str
    stop: tuple[str, ...] = ()


_CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

_LLAMA3 = """\
{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

_LLAMA2 = """\
{%- set system = '' %}
{%- if messages and messages[0]['role'] == 'system' %}
{%- set system = '<<SYS>>\\n' + messages[0]['content'] | trim + '\\n<</SYS>>\\n\\n' %}
{%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}
{%- else %}
{{- ('' if loop.first else bos_token) + '[INST] ' }}
{{- (system if loop.first else '') + message['content'] | trim + ' [/INST]' }}
{%- endif %}
{%- endfor %}"""

_MISTRAL = """\
{%- set system = '' %}
{%- if messages and messages[0]['role'] == 'system' %}
{%- set system = messages[0]['content'] | trim + '\\n\\n' %}
{%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + eos_token }}
{%- else %}{{ '[INST] ' + (system if loop.first else '') + message['content'] | trim + ' [/INST]' }}
{%- endif %}
{%- endfor %}"""

_GEMMA = """\
{%- set system = '' %}
{%- if messages and messages[0]['role'] == 'system' %}
{%- set system = messages[0]['content'] | trim + '\\n\\n' %}
{%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
{{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' }}
{{- (system if loop.first else '') + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

_PHI3 = """\
{%- for message in messages %}
{{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""

_ZEPHYR = """\
{%- for message in messages %}
{{- '<|' + message['role'] + '|>\\n' + message['content'] + (eos_token or '</s>') + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""

_VICUNA = """\
{%- for message in messages %}
{%- if message['role'] == 'system' %}{{ message['content'] | trim + '\\n\\n' }}
{%- elif message['role'] == 'assistant' %}
{{- 'ASSISTANT: ' + message['content'] | trim + (eos_token or '</s>') + '\\n' }}
{%- else %}{{ 'USER: ' + message['content'] | trim + '\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""

_ALPACA = """\
{%- for message in messages %}
{%- if message['role'] == 'system' %}{{ message['content'] | trim + '\\n\\n' }}
{%- elif message['role'] == 'assistant' %}{{ '### Response:\\n' + message['content'] | trim + '\\n\\n' }}
{%- else %}{{ '### Instruction:\\n' + message['content'] | trim + '\\n\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"""

_PLAIN = """\
{%- for message in messages %}
{%- if message['role'] == 'system' %}{{ message['content'] | trim + '\\n\\n' }}
{%- elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] | trim + '\\n' }}
{%- else %}{{ 'User: ' + message['content'] | trim + '\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""

FALLBACKS: dict[str, FallbackTemplate] = {
    template.name: template
    for template in (
        FallbackTemplate("chatml", "ChatML", _CHATML, ("<|im_end|>", "<|im_start|>")),
        FallbackTemplate("llama3", "Llama 3", _LLAMA3, ("<|eot_id|>",)),
        FallbackTemplate("llama2", "Llama 2", _LLAMA2, ("[INST]",)),
        FallbackTemplate("mistral", "Mistral", _MISTRAL, ("[INST]",)),
        FallbackTemplate("gemma", "Gemma", _GEMMA, ("<end_of_turn>", "<start_of_turn>")),
        FallbackTemplate("phi3", "Phi 3", _PHI3, ("<|end|>", "<|user|>")),
        FallbackTemplate("zephyr", "Zephyr", _ZEPHYR, ("<|user|>", "<|system|>")),
        FallbackTemplate("vicuna", "Vicuna", _VICUNA, ("\nUSER:",)),
        FallbackTemplate("alpaca", "Alpaca", _ALPACA, ("\n### Instruction:", "\n### Response:")),
        FallbackTemplate("plain", "Plain transcript", _PLAIN, ("\nUser:",)),
    )
}

# The first line that fits decides. What the vocabulary says comes before what the name says.
_BY_END_TOKEN = {
    "<|im_end|>": "chatml",
    "<|eot_id|>": "llama3",
    "<end_of_turn>": "gemma",
    "<|end|>": "phi3",
}
_BY_ARCHITECTURE = {
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3": "gemma",
    "phi3": "phi3",
    "qwen2": "chatml",
    "qwen2moe": "chatml",
    "qwen3": "chatml",
    "qwen3moe": "chatml",
}
_BY_NAME = (
    (r"llama[-_ ]?3.*(instruct|chat)", "llama3"),
    (r"llama[-_ ]?2.*chat", "llama2"),
    (r"(mistral|mixtral).*instruct", "mistral"),
    (r"zephyr|tinyllama.*chat", "zephyr"),
    (r"vicuna|wizardlm|wizard-vicuna", "vicuna"),
    (r"alpaca|airoboros|nous-hermes(?!.*2)", "alpaca"),
    (r"chatml|hermes|dolphin|openhermes|smollm.*instruct|orca", "chatml"),
    (r"gemma.*it", "gemma"),
    (r"phi-?3", "phi3"),
)

_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|end_of_turn|>", "<|eom_id|>", "<|endoftext|>")


def choose_fallback(facts: ModelFacts) -> FallbackTemplate:
    """The template for a model that brings none."""
    if name := _BY_END_TOKEN.get(facts.eos_token or ""):
        return FALLBACKS[name]
    if name := _BY_ARCHITECTURE.get(facts.architecture or ""):
        return FALLBACKS[name]
    names = f"{facts.name} {facts.path.name}".lower()
    for pattern, name in _BY_NAME:
        if re.search(pattern, names):
            return FALLBACKS[name]
    return FALLBACKS["plain"]


def turn_ends(source: str, eos_token: str | None) -> tuple[str, ...]:
    """End-of-turn marks that `source` writes and that are not the model's end token, where the engine stops by itself.

    Many conversions name `<|endoftext|>` as the end while the template closes turns with `<|im_end|>`.
    """
    return tuple(mark for mark in _TURN_ENDS if mark in source and mark != eos_token)
