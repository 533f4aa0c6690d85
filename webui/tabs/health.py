"""The health list of the Diagnostics tab: every check with its mark and sentence, and a button where one can mend it.

The quick checks run when the tab is first opened. What was found belongs to the app, as what a button starts does: it
goes on when the page is closed, and every page shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.diagnostics.health import Check, CheckState, Evidence, HealthFacts, gather, run_checks
from webui.diagnostics.health.actions import Surgery, label_of, mend, possible
from webui.diagnostics.health.examination import examine
from webui.errors import AppError, Busy, Cancelled, InvalidRequest
from webui.settings import Settings
from webui.tabs.present import Tone, empty_html, escape, failure_html, percent, verdict_html
from webui.tabs.visible import SILENT, mark_of, seen_mark, when_opened

TONES: dict[CheckState, Tone] = {CheckState.OK: "ok", CheckState.WARNING: "warning", CheckState.PROBLEM: "problem"}
LINES = 8
"""How many of the last lines of what is being done are shown."""
PRESS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-fix]');
  if (button) trigger('select', {fix: button.dataset.fix});
});
"""
"""Runs in the browser: reports which button was pressed."""


@dataclass
class Doing:
    """One thing that takes a while: a long look, or a fix."""

    title: str
    lines: list[str] = field(default_factory=list)
    share: float | None = None
    error: AppError | None = None
    over: bool = False
    task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        if self.task is not None and not self.over:
            self.task.cancel()

    def say(self, line: str, share: float | None = None) -> None:
        self.lines = [*self.lines[-LINES + 1 :], line]
        self.share = share


class Health:
    """What the app knows of its health, and what it is doing about it. One for all pages."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.checks: list[Check] = []
        self.doing: Doing | None = None
        self._evidence = Evidence(context.paths.cache / "health.json")
        self._looking = asyncio.Lock()

    async def look(self, *, again: bool = True) -> list[Check]:
        """The quick checks; without `again` those of the last time, if there was one."""
        async with self._looking:
            if again or not self.checks:
                self.checks = await asyncio.to_thread(lambda: run_checks(self._facts()))
            return self.checks

    def examine(self) -> Doing:
        """Begin the long checks. Raises `Busy`."""
        loop = asyncio.get_running_loop()

        async def work(doing: Doing) -> None:
            def report(step: str, share: float | None) -> None:
                loop.call_soon_threadsafe(doing.say, step, share)

            await examine(await asyncio.to_thread(self._facts), report)

        return self._begin("Looking at everything", work)

    def mend(self, mark: str) -> Doing:
        """Begin what the button with this mark stands for. Raises `Busy` and `InvalidRequest`."""
        asked = next((check.action for check in self.checks if check.action and mark_of(check.action) == mark), None)
        if asked is None:
            raise InvalidRequest("That is no longer offered.", hint="Run the checks again.")

        async def work(doing: Doing, action: str = asked) -> None:
            surgery = Surgery(
                await asyncio.to_thread(self._facts),
                self.context.save_settings,
                self._take_out,
                self._reload,
                running=True,
            )
            async with aclosing(mend(action, surgery, self.checks)) as lines:
                async for line in lines:
                    doing.say(line)
            await asyncio.to_thread(self.context.catalogue.refresh)

        return self._begin(label_of(asked), work)

    def _begin(self, title: str, work: Callable[[Doing], Awaitable[None]]) -> Doing:
        if self.doing is not None and not self.doing.over:
            raise Busy(f"{self.doing.title} is under way.", hint="Wait until it is done.")
        doing = self.doing = Doing(title)

        async def run() -> None:
            try:
                await work(doing)
            except AppError as error:
                doing.error = error
            except asyncio.CancelledError:
                doing.error = Cancelled(f"{title} was cancelled.", hint="What was found until then is kept.")
            finally:
                try:
                    await self.look()
                finally:
                    doing.over = True

        doing.task = asyncio.create_task(run(), name=title)
        return doing

    def _facts(self) -> HealthFacts:
        """With the settings as their files stand now: somebody may have broken one since the start."""
        context = self.context
        settings: Settings | AppError
        try:
            settings = context.settings_store.load()
        except AppError as error:
            settings = error
        return gather(
            context.paths,
            context.loaders,
            settings=settings,
            evidence=self._evidence,
            loads=context.pool.loads(),
            serving=True,
        )

    def _take_out(self, key: str, source: str) -> None:
        self.context.use_settings(self.context.settings_store.take_out(key, source))

    def _reload(self) -> None:
        self.context.use_settings(self.context.settings_store.load())


def build(context: AppContext, timer: gr.Timer) -> None:
    """Draw the part where the caller stands. `timer` ticks while the tab is looked at."""
    health = Health(context)
    with gr.Row(elem_classes="tab-head"):
        gr.HTML("<h2 class='part'>Health</h2>")
        check = gr.Button("Run the checks", size="sm", scale=0, min_width=140, elem_id="diagnostics-check")
        full = gr.Button("Look at everything", size="sm", scale=0, min_width=140, elem_id="diagnostics-check-full")
        cancel = gr.Button(
            "Cancel", size="sm", scale=0, min_width=96, visible=False, elem_id="diagnostics-check-cancel"
        )
    progress = gr.HTML(elem_id="diagnostics-doing", elem_classes="may-be-empty")
    found = gr.HTML(empty_html("Looking …"), elem_id="diagnostics-health", js_on_load=PRESS)
    seen = seen_mark("diagnostics-health")
    outputs = [found, progress, cancel, seen]

    def shown(message: str = "") -> tuple[Any, ...]:
        """What stands now, or a message in place of what is being done until something new happens."""
        doing = health.doing
        html, under_way = health_html(health.checks), doing_html(doing)
        running = doing is not None and not doing.over
        return html, message or under_way, gr.update(visible=running), mark_of(html, under_way)

    async def first() -> tuple[Any, ...]:
        await health.look(again=False)
        return shown()

    async def look() -> tuple[Any, ...]:
        await health.look()
        return shown()

    def begin(work: Callable[[], Doing]) -> tuple[Any, ...]:
        try:
            work()
        except AppError as error:
            return shown(failure_html(error))
        return shown()

    async def examine_all() -> tuple[Any, ...]:
        return begin(health.examine)

    async def press(event: gr.EventData) -> tuple[Any, ...]:
        return begin(lambda: health.mend(str(getattr(event, "fix", ""))))

    async def stop() -> tuple[Any, ...]:
        if health.doing is not None:
            health.doing.cancel()
        return shown()

    def tick(mark: str) -> tuple[Any, ...]:
        """What has changed since this page was last told, by whichever page."""
        now = shown()
        return now if health.checks and now[-1] != mark else (gr.skip(),) * len(outputs)

    quiet: dict[str, Any] = {"queue": False, **SILENT}
    when_opened(first, outputs)
    check.click(look, None, outputs, **quiet)
    full.click(examine_all, None, outputs, **quiet)
    found.select(press, None, outputs, **quiet)
    cancel.click(stop, None, outputs, **quiet)
    timer.tick(tick, seen, outputs, **quiet)


def health_html(checks: Sequence[Check]) -> str:
    """One line for each check, with what to do where it is not in order, and a button where the page can do it."""
    more = '<p class="hint">“Look at everything” tries and looks into what was not yet.</p>'
    untried = any(check.untried for check in checks)
    return f'<ul class="health">{"".join(map(_line, checks))}</ul>{more if untried else ""}'


def _line(check: Check) -> str:
    wrong = check.state is not CheckState.OK
    button = check.action is not None and possible(check.action, running=True)
    words = f"{check.fix}:" if button else check.remedy
    fix = f'<span class="fix">{escape(words)}</span>' if check.fix and wrong else ""
    if wrong and check.action and button:
        label = escape(label_of(check.action))
        fix += (
            f'<div class="offers fix"><button type="button" data-fix="{mark_of(check.action)}">{label}</button></div>'
        )
    verdict = verdict_html(TONES[check.state], check.sentence)
    return f'<li data-check="{escape(check.name)}" data-state="{check.state}">{escape(check.name)} {verdict}{fix}</li>'


def doing_html(doing: Doing | None) -> str:
    """What is being done, or how it ended; nothing where nothing was ever asked for."""
    if doing is None:
        return ""
    if doing.error is not None:
        return failure_html(doing.error, title=f"{doing.title}: not done")
    share = f" {percent(doing.share)}" if doing.share is not None and not doing.over else ""
    state = "done" if doing.over else f"under way …{share}"
    lines = "".join(f"<li>{escape(line)}</li>" for line in doing.lines)
    return (
        f'<div class="doing" data-over="{str(doing.over).lower()}"><strong>{escape(doing.title)}: {state}</strong>'
        f"<ul>{lines}</ul></div>"
    )
