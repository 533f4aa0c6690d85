"""From messages to the prompt: the model's own chat template, or one that suits it.

Renders as transformers does (same sandbox, same whitespace rules, same helpers), so that a model sees what it was tuned
on. What goes beyond that is for people's sake: a system prompt reaches a model whose template has no place for one, and
turns of the same role in a row are joined when the template insists on alternation. Bounds on what a template may use
are in `webui.chat.sandbox`; templates for models without one in `webui.chat.fallbacks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from webui.chat import sandbox
from webui.chat.fallbacks import FALLBACKS, choose_fallback, turn_ends
from webui.errors import TemplateFailed
from webui.models.facts import ModelFacts

Message = Mapping[str, Any]

REASONING = "<think>"
"""Some templates open the model's reasoning themselves, so that its text begins in the middle of it."""

_BPE_WITH_BOS = frozenset({"llama-bpe", "llama3", "llama-v3"})


@dataclass(frozen=True, slots=True)
class ChosenTemplate:
    """The template in use: `origin` is "model", "fallback" or "chosen" (by the user); `stop` the strings it implies."""

    name: str
    source: str
    origin: str
    stop: tuple[str, ...]


def choose_template(facts: ModelFacts, override: str | None = None) -> ChosenTemplate:
    """The user's `override` (a fallback's name or Jinja text), else the model's own, else a fallback."""
    if override and override in FALLBACKS:
        chosen = FALLBACKS[override]
        return ChosenTemplate(chosen.name, chosen.source, "chosen", chosen.stop)
    if override:
        return ChosenTemplate("custom", override, "chosen", turn_ends(override, facts.eos_token))
    if facts.chat_template:
        return ChosenTemplate("model", facts.chat_template, "model", turn_ends(facts.chat_template, facts.eos_token))
    fallback = choose_fallback(facts)
    return ChosenTemplate(fallback.name, fallback.source, "fallback", fallback.stop)


def stop_strings(facts: ModelFacts, override: str | None = None) -> tuple[str, ...]:
    """Strings that end a reply under the template in use, beside the model's own end token."""
    return choose_template(facts, override).stop


def render(
    messages: Sequence[Message],
    facts: ModelFacts,
    *,
    override: str | None = None,
    add_generation_prompt: bool = True,
    continue_final: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """The prompt for `messages` (each with `role` and `content`, a string or a list of text parts).

    `continue_final` takes the last message, the assistant's, as the beginning of the reply: the prompt is what the
    model saw when it wrote that reply, followed by its text as it stands. The prompt never begins with
    the BOS token's text where the tokenizer adds it. Raises `TemplateFailed`.
    """
    if not messages:
        raise TemplateFailed("There is no message to answer.", hint="Write a message first.")
    chosen = choose_template(facts, override)
    begun = ""
    if continue_final:
        if messages[-1].get("role") != "assistant":
            raise TemplateFailed("Only a reply of the assistant can be continued.", hint="Send a message instead.")
        begun = plain_text(messages[-1].get("content"))
        messages, add_generation_prompt = messages[:-1], True
    variables: dict[str, Any] = {
        "add_generation_prompt": add_generation_prompt,
        "tools": None if tools is None else [dict(tool) for tool in tools],
        "documents": None,
        "bos_token": facts.bos_token or "",
        "eos_token": facts.eos_token or "",
    }
    with sandbox.metered():
        prompt = _render_leniently(chosen, [_plain(message) for message in messages], variables)
    prompt, opening = _without_bos(prompt, facts), reasoning_opening(prompt)
    if begun and not begun.startswith(opening):
        # A reply that another model or a client began outside the reasoning goes on outside of it.
        return prompt.removesuffix(opening) + begun
    return prompt + begun.removeprefix(opening)


def reasoning_opening(prompt: str) -> str:
    """The end of `prompt` that belongs to the reply, which then begins inside the reasoning; usually empty."""
    return prompt[prompt.rindex(REASONING) :] if prompt.rstrip().endswith(REASONING) else ""


def _render_leniently(chosen: ChosenTemplate, messages: list[dict[str, Any]], variables: dict[str, Any]) -> str:
    """Render as asked; where the template refuses or drops the system message, or refuses the order of roles, render an
    equivalent conversation it does accept. The first refusal is the one reported.
    """
    system = plain_text(messages[0]["content"]).strip() if messages and messages[0]["role"] == "system" else ""
    refusal: TemplateFailed | None = None
    try:
        prompt = _render_strictly(chosen, messages, variables)
        if not system or system in prompt:
            return prompt
    except TemplateFailed as error:
        refusal = error
    for form in (_merge_system(messages), _alternate(messages), _alternate(_merge_system(messages))):
        if form == messages:
            continue
        try:
            prompt = _render_strictly(chosen, form, variables)
        except TemplateFailed as error:
            refusal = refusal or error
        else:
            if not system or system in prompt:
                return prompt
    if refusal is not None:
        raise refusal
    return _render_strictly(chosen, messages, variables)


def _render_strictly(chosen: ChosenTemplate, messages: list[dict[str, Any]], variables: dict[str, Any]) -> str:
    origin = {"model": "The model's chat template", "fallback": f"The {chosen.name} chat template"}.get(
        chosen.origin, "The chosen chat template"
    )
    try:
        return sandbox.render(chosen.source, {**variables, "messages": messages})
    except sandbox.TemplateTooExpensive as error:
        raise TemplateFailed(f"{origin} was stopped: {error.message}.") from error
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        by_itself = "the template refuses it by itself" if type(error) is TemplateError else type(error).__name__
        cause = f"{by_itself}{f', in line {line}' if line else ''}"
        raise TemplateFailed(f"{origin} does not render this conversation: {error.message}", cause=cause) from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        # What a wrong template provokes in the operations it is made of.
        raise TemplateFailed(
            f"{origin} does not render this conversation: {error}", cause=type(error).__name__
        ) from error


def _without_bos(prompt: str, facts: ModelFacts) -> str:
    # Where the tokenizer adds no BOS, the one the template wrote is the only one there is.
    if facts.bos_token and _tokenizer_adds_bos(facts):
        return prompt.removeprefix(facts.bos_token)
    return prompt


def _tokenizer_adds_bos(facts: ModelFacts) -> bool:
    """What the file says; where it is silent, llama.cpp's rule: not for BPE vocabularies other than Llama 3's."""
    if facts.add_bos_token is not None:
        return facts.add_bos_token
    return facts.tokenizer != "gpt2" or facts.metadata.get("tokenizer.ggml.pre") in _BPE_WITH_BOS


def _plain(message: Message) -> dict[str, Any]:
    """The message as plain JSON types, text parts joined: templates for text models expect a string."""
    return {**message, "role": str(message.get("role", "user")), "content": plain_text(message.get("content"))}


def plain_text(content: Any) -> str:
    """A message's content, a string or a list of text parts, as one string."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))


def _merge_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every system message becomes the beginning of the user message after it (or of a user message of its own)."""
    merged: list[dict[str, Any]] = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(message["content"])
            continue
        if waiting and message["role"] == "user":
            message = {**message, "content": "\n\n".join([*waiting, message["content"]])}
            waiting = []
        merged.append(message)
    if waiting:
        merged.append({"role": "user", "content": "\n\n".join(waiting)})
    return merged


def _alternate(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbours of the same role joined; an assistant's message before any of the user's is dropped."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        if joined and joined[-1]["role"] == message["role"] and message["role"] in ("user", "assistant", "system"):
            joined[-1] = {**joined[-1], "content": joined[-1]["content"] + "\n\n" + message["content"]}
        elif message["role"] == "assistant" and not any(item["role"] == "user" for item in joined):
            continue
        else:
            joined.append(message)
    return joined
