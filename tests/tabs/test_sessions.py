"""What is remembered of an open page does not grow with what happens on it."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest
from gradio.routes import App
from gradio.state_holder import SessionState

from webui.tabs.sessions import MOST_SESSIONS, Page

ROUNDS = 10


class Drawn:
    """A page with a field and a choice that are inputs of one event and its outputs as well. Needs an event loop."""

    def __init__(self, answer: Any) -> None:
        with Page(analytics_enabled=False) as self.page:
            self.field, self.choice, self.html = gr.Textbox(), gr.Dropdown(["a"]), gr.HTML()
            both = [self.field, self.choice]
            self.field.change(lambda *_: answer(self), both, [*both, self.html])
        self.session = SessionState(self.page)

    async def fire(self, *inputs: Any) -> list[Any]:
        (function,) = self.page.fns.values()
        done = await self.page.process_api(function, list(inputs), state=self.session)
        return list(done["data"])

    def kept(self) -> tuple[int, int]:
        return len(self.session.blocks_config.blocks), len(self.session.config_values)


@pytest.mark.parametrize(
    "answer",
    [
        lambda drawn: [gr.skip(), gr.skip(), gr.skip()],
        lambda drawn: gr.skip(),
        lambda drawn: {drawn.html: gr.skip()},
        lambda drawn: {drawn.field: gr.skip(), drawn.html: "new"},
        lambda drawn: [gr.update(visible=True), gr.update(choices=["a", "b"]), "new"],
    ],
    ids=["list of skips", "one skip", "dict of skips", "a skip among others", "updates"],
)
async def test_a_session_does_not_grow(answer: Any) -> None:
    drawn = Drawn(answer)
    await drawn.fire("text", "a")
    before = drawn.kept()
    for _ in range(ROUNDS):
        await drawn.fire("text", "a")
    assert drawn.kept() == before


async def test_what_is_skipped_is_left_as_it_is() -> None:
    drawn = Drawn(lambda drawn: {drawn.html: gr.skip()})
    assert await drawn.fire("text", "a") == [gr.skip()] * 3


async def test_an_update_holds_for_what_comes_after() -> None:
    drawn = Drawn(lambda drawn: [gr.skip(), gr.update(choices=["a", "b"]), "new"])
    with pytest.raises(gr.Error, match="not in the list of choices"):
        await drawn.fire("text", "b")
    await drawn.fire("text", "a")
    assert (await drawn.fire("text", "b"))[2] == "new"


async def test_pages_that_were_left_give_way() -> None:
    with Page(analytics_enabled=False) as page:
        gr.Textbox()
    holder = App.create_app(page).state_holder
    for number in range(MOST_SESSIONS + 5):
        assert holder[str(number)] is holder[str(number)]
    assert list(holder.session_data) == [str(number) for number in range(5, MOST_SESSIONS + 5)]
