"""A question and its reply, whichever models write it.

A prompt is good for one model only: its template, its tokenizer, its stop strings. An exchange keeps the question, and
makes the request anew when another model takes the job than the one it was made for: because it was swapped while the
question waited, because it came back with a smaller context, or in the middle of the reply.
"""

from __future__ import annotations

import time

from webui.chat.prompting import Prepared, Prompter, Question
from webui.loaders.contract import GenerationRequest, LoadedModel
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.pool import Job

THEN = ", then "
"""Stands between the names of models that wrote one reply."""


class Exchange:
    """See the module. Submit it once; `job` is there from then on.

    `opening` is what the prompt wrote of the reply, `models` are those that wrote the rest, in order. `prepared` is the
    last request that was made, the first of which took `seconds`.
    """

    def __init__(self, prompter: Prompter, question: Question, prepared: Prepared, seconds: float) -> None:
        self.prepared = prepared
        self._seconds = seconds
        self.opening = prepared.opening
        self.models = [model_id(prepared.facts)]
        self._prompter = prompter
        self._question = question
        self._job: Job | None = None
        self._in_prompt = 0

    @classmethod
    async def begin(cls, prompter: Prompter, question: Question) -> Exchange:
        """Make the request for the model that is there. Raises as `Prompter.prepare`."""
        began = time.monotonic()
        prepared = await prompter.prepare(question)
        return cls(prompter, question, prepared, time.monotonic() - began)

    @property
    def job(self) -> Job:
        if self._job is None:
            raise AssertionError("asked for before it was submitted")
        return self._job

    def submit(self, owner: str) -> Job:
        """Queue it. Raises `NotLoaded` or `Busy`."""
        prepared = self.prepared
        fitted = prepared.facts if prepared.model is not None else None
        self._job = self._prompter.pool.submit(prepared.request, owner=owner, made_for=fitted, remake=self._make_for)
        self._job.prepared_seconds = self._seconds
        return self._job

    def remember(self) -> None:
        """Let the next turn of the conversation use the engine's count of this one; to be called when it has ended."""
        if self.job.used_tokens is not None:
            self._prompter.remember(self.prepared, self.job.text[self._in_prompt :], self.job.used_tokens)

    async def _make_for(self, facts: ModelFacts, model: LoadedModel, text: str) -> GenerationRequest:
        """The request for the model that takes the job; `text` is what others have written of the reply so far.

        Raises `TemplateFailed` and `ContextTooLong`.
        """
        question = self._question.going_on(self.opening + text, self.job.tokens) if text else self._question
        self.prepared = await self._prompter.prepare_for(facts, model, question)
        self._in_prompt = len(text)
        if not text:
            self.opening, self.models = self.prepared.opening, [model_id(facts)]
        elif self.models[-1] != model_id(facts):
            self.models.append(model_id(facts))
        return self.prepared.request
