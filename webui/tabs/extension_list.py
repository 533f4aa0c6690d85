"""The part of the Diagnostics tab that lists extensions: which were found, and what went wrong in which hook."""

from __future__ import annotations

import gradio as gr

from webui.context import AppContext
from webui.extensions import Extension, ExtensionHost, ExtensionProblem, ExtensionState
from webui.tabs.present import Tone, empty_html, escape, evidence_html, verdict_html
from webui.tabs.visible import when_opened

TONES: dict[ExtensionState, Tone] = {
    ExtensionState.LOADED: "ok",
    ExtensionState.FAILED: "problem",
    ExtensionState.OFF: "plain",
}


def build(context: AppContext) -> None:
    """Draw the list where the caller stands; it is fresh each time the tab is opened."""
    gr.HTML("<h2 class='part'>Extensions</h2>")
    shown = gr.HTML(extensions_html(context.extensions), elem_id="diagnostics-extensions")
    when_opened(lambda: extensions_html(context.extensions), shown)


def extensions_html(host: ExtensionHost) -> str:
    """One line for each extension, with its problems beneath; then what was found and is none."""
    problems = host.problems
    known = {extension.name for extension in host.extensions}
    lines = [
        _extension_html(extension, [problem for problem in problems if problem.extension == extension.name])
        for extension in host.extensions
    ]
    lines += [f"<li>{_problem_html(problem)}</li>" for problem in problems if problem.extension not in known]
    if not lines:
        return empty_html("There are no extensions.")
    return f'<ul class="health">{"".join(lines)}</ul>'


def _extension_html(extension: Extension, problems: list[ExtensionProblem]) -> str:
    summary = f" {extension.summary}" if extension.summary else ""
    line = verdict_html(TONES[extension.state], f"{extension.name}: {extension.state.value}.{summary}")
    return f'<li data-extension="{escape(extension.name)}">{line}{"".join(map(_problem_html, problems))}</li>'


def _problem_html(problem: ExtensionProblem) -> str:
    times = f", {problem.times} times" if problem.times > 1 else ""
    sentence = f"{problem.extension}, {problem.hook}{times}: {problem.message}"
    return f"<div>{verdict_html('warning', sentence)}{evidence_html(problem.evidence, title='Traceback')}</div>"
