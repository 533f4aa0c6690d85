"""What clients of the OpenAI protocol send, as pydantic models, and how it becomes our sampling."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from webui.errors import InvalidRequest
from webui.loaders.sampling import SamplingParameters

_MIROSTAT = {0: "off", 1: "v1", 2: "v2"}
# Under the protocol's names; the rest of our fields go by their own.
_RENAMED = {"max_completion_tokens": "max_tokens", "repetition_penalty": "repeat_penalty"}
MAX_STOPS = 16


class ContentPart(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str = "text"
    text: str | None = None


class ChatMessage(BaseModel):
    """`developer` is a newer name of `system`. Keys beyond these reach the chat template."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None

    def plain(self, position: int) -> dict[str, Any]:
        """The message for the chat template; raises `InvalidRequest` for parts that are not text."""
        parts = self.content if isinstance(self.content, list) else []
        for number, part in enumerate(parts):
            if part.type not in ("text", "input_text", "output_text") or part.text is None:
                raise InvalidRequest(
                    f"A part of type {part.type!r} cannot be read; only text can.",
                    param=f"messages.{position}.content.{number}",
                )
        text = "".join(part.text or "" for part in parts) if isinstance(self.content, list) else self.content or ""
        role = "system" if self.role == "developer" else self.role
        return {**(self.model_extra or {}), "role": role, "content": text}


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A chat completion request. Fields of `SamplingParameters` come beside these, by their names."""

    model_config = ConfigDict(extra="allow")

    messages: list[ChatMessage] = Field(min_length=1)
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_text(cls, data: Any) -> Any:
        """Half a surrogate pair can be written in JSON and is no text: no engine, log or answer could hold it."""
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a text holds half a surrogate pair, which is no character") from None
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        return data

    def refuse_unsupported(self) -> None:
        """What would change the form of the answer and is not there is refused, not left out. `InvalidRequest`."""
        kind = (self.response_format or {}).get("type", "text")
        unsupported = {
            "n": (self.n not in (None, 1), "Only one answer per request is made (n = 1)."),
            "tools": (bool(self.tools) and self.tool_choice != "none", "Tool calls are not supported."),
            "response_format": (kind != "text", f"The response format {kind!r} is not supported; only text is."),
            "logprobs": (bool(self.logprobs), "Log probabilities are not supported."),
        }
        for name, (asked, message) in unsupported.items():
            if asked:
                raise InvalidRequest(message, hint="Leave the field out.", param=name)

    def chat(self) -> list[dict[str, Any]]:
        """The messages for the chat template."""
        return [message.plain(position) for position, message in enumerate(self.messages)]

    def stops(self) -> tuple[str, ...]:
        """The stop strings; raises `InvalidRequest`."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(stops) > MAX_STOPS:
            raise InvalidRequest(f"More than {MAX_STOPS} stop strings.", param="stop")
        return tuple(stop for stop in stops if stop)

    def sampling(self) -> tuple[SamplingParameters, tuple[str, ...]]:
        """How to choose tokens, and the names of fields that mean nothing here.

        A length that is not given is without limit, as the protocol has it; other values are our defaults. Raises
        `InvalidSetting` for a value out of bounds.
        """
        values: dict[str, Any] = {"max_tokens": -1}
        ignored: list[str] = []
        for name, value in (self.model_extra or {}).items():
            ours = _RENAMED.get(name, name)
            if ours not in SamplingParameters.model_fields:
                ignored.append(name)
            elif value is not None:
                values[ours] = value
        if isinstance(values.get("mirostat"), int):
            values["mirostat"] = _MIROSTAT.get(values["mirostat"], values["mirostat"])
        return SamplingParameters.parse(values, where="the request"), tuple(ignored)
