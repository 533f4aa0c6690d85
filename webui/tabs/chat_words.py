"""What the chat says while somebody waits, and when nothing can be asked, with the way out."""

from __future__ import annotations

from collections.abc import AsyncIterator

from webui.errors import AppError, NotLoaded
from webui.models.inspect import model_id
from webui.planning.recovery import StepKind
from webui.pool import Job, JobState, Pool, PoolState, PoolStatus
from webui.tabs.present import escape, failure_html, verdict_html

ACTIONS_SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]');
  if (button) trigger('click', {do: button.dataset.do});
});
"""
_CHOOSE = '<button type="button" data-act="go-model">Choose a model</button>'
_LOAD = '<button type="button" data-do="load">Load again</button>'


def waiting_html(status: PoolStatus, job: Job | None = None) -> str:
    """What is happening before the first word of a reply; without a job, before there is one."""
    return f'<span class="waiting">{escape(_waiting(status, job))} …</span>'


def _waiting(status: PoolStatus, job: Job | None) -> str:
    if job is not None and job.state is not JobState.QUEUED:
        return "Reading the prompt"
    if status.state is PoolState.LOADING and status.incoming is not None:
        swap = any(rung.attempt.kind is StepKind.PREVIOUS_MODEL for rung in status.ladder)
        if swap:
            return f"The model is being swapped; your message is answered by the new one, {model_id(status.incoming)}"
        if status.model is None:
            return f"{model_id(status.incoming)} is loading; your message is answered as soon as it is there"
    elif status.state is PoolState.LOADING and status.facts is not None:
        return "The model is starting again; your message is answered as soon as it is there"
    elif status.state is PoolState.LOADING:
        return "Waiting for the model to load"
    if job is None:
        return "Preparing the prompt"
    return f"Waiting, place {job.place}" if job.place else "Waiting"


def refusal_html(status: PoolStatus, error: AppError) -> str:
    """Why nothing was asked, and the way out: the model's own failure where it is lost, with buttons."""
    if not isinstance(error, NotLoaded):
        return failure_html(error, title="Not asked")
    if status.failure is None:
        return failure_html(error, title="Not asked") + _actions(_CHOOSE)
    again = _LOAD if status.asked is not None else ""
    return failure_html(status.failure, title="The model is not running") + _actions(again + _CHOOSE)


async def load_again(pool: Pool) -> AsyncIterator[str]:
    """Load what was asked for last, and say how it goes, for the place where the refusal stood."""
    if (asked := pool.status.asked) is None:
        return
    yield verdict_html("plain", "The model is being loaded …")
    try:
        await pool.load(asked)
    except AppError as error:
        yield refusal_html(pool.status, NotLoaded(error.message))
    else:
        yield verdict_html("ok", "The model is loaded. Ask again.")


def _actions(buttons: str) -> str:
    return f'<div class="failure-actions">{buttons}</div>'
