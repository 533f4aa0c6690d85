"""What a stored conversation becomes on the page."""

from __future__ import annotations

import pytest

from webui.chat.conversations import Message
from webui.errors import EngineCrashed
from webui.tabs.chat_transcript import (
    live_markdown,
    note_html,
    question_html,
    read_literally,
    rows_of,
    show_literally,
    split_reasoning,
)


def said(role: str, content: str, **more: object) -> Message:
    return Message(f"{role}-{content[:5]}", role, content, 0.0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "thought", "answer", "complete"),
    [
        ("plain", "", "plain", True),
        ("<think>a</think>b", "a", "b", True),
        ("  <think>\na\n</think>\n\nb", "a", "b", True),
        ("<think>still at it", "still at it", "", False),
        ("opened in the prompt</think>b", "opened in the prompt", "b", True),
        ("<think></think>b", "", "b", True),
        ("text with <think> in the middle", "", "text with <think> in the middle", True),
    ],
)
def test_reasoning_is_told_from_the_answer(text: str, thought: str, answer: str, complete: bool) -> None:
    assert split_reasoning(text) == (thought, answer, complete)


def test_a_live_thought_is_open_until_it_is_complete() -> None:
    assert "<details" in live_markdown("<think>hm") and " open" in live_markdown("<think>hm")
    done = live_markdown("<think>hm</think>so")
    assert " open" not in done
    assert done.endswith("so")
    assert live_markdown("just text") == "just text"


def test_rows_remember_their_message_and_part() -> None:
    error = EngineCrashed("It died.", cause="signal 9").to_dict()
    messages = [said("user", "hi"), said("assistant", "<think>hm</think>hello", partial=True, error=error)]
    rows, hidden = rows_of(messages, 10)
    assert hidden == 0
    assert [(row.message_id, row.part) for row in rows] == [
        ("user-hi", "text"),
        ("assistant-<thin", "reasoning"),
        ("assistant-<thin", "text"),
        ("assistant-<thin", "note"),
    ]
    assert rows[1].shown["metadata"]["title"] == "Reasoning"
    assert "signal 9" in rows[3].shown["content"]


def test_only_the_last_messages_are_shown() -> None:
    rows, hidden = rows_of([said("user", str(number)) for number in range(5)], 2)
    assert hidden == 3
    assert [row.shown["content"] for row in rows] == ["3", "4"]


def test_a_failure_without_text_has_a_note_and_no_empty_row() -> None:
    rows, _ = rows_of([said("assistant", "", error=EngineCrashed("It died.").to_dict())], 10)
    assert [row.part for row in rows] == ["note"]
    assert "There is no reply" in rows[0].shown["content"]


def test_only_the_last_reply_that_failed_has_buttons() -> None:
    error = EngineCrashed("It died.", signal="SIGSEGV").to_dict()
    failed = said("assistant", "half", partial=True, error=error)
    rows, _ = rows_of([said("user", "hi"), failed], 10)
    assert rows[-1].shown["options"] == [{"value": "Continue"}, {"value": "Retry"}]
    assert "Continue goes on from here, Retry asks again. If it happens again" in rows[-1].shown["content"]
    rows, _ = rows_of([failed, said("user", "and?")], 10)
    assert not any("options" in row.shown for row in rows)
    rows, _ = rows_of([said("assistant", "", error=error)], 10)
    assert rows[-1].shown["options"] == [{"value": "Retry"}]
    assert not any("options" in row.shown for row in rows_of([said("assistant", "x", partial=True)], 10)[0])


def test_a_stopped_reply_says_so_and_a_finished_one_says_nothing() -> None:
    assert "Stopped here" in note_html(said("assistant", "x", partial=True))
    assert note_html(said("assistant", "x")) == ""
    assert "left out" in note_html(said("assistant", "x", notes=("Two turns were left out.",)))


@pytest.mark.parametrize("text", ["a < b", "<script>alert(1)</script>", "`<b>`", "no angle", "<<<"])
def test_the_users_text_never_becomes_html_and_can_be_read_back(text: str) -> None:
    shown = show_literally(text)
    assert "<s" not in shown and "<b" not in shown
    assert read_literally(shown) == text


def test_pictures_of_other_hosts_become_links() -> None:
    text = "see ![a cat](https://example.org/cat.png) and ![local](/file=x.png)"
    for shown in (
        live_markdown(text),
        show_literally(text),
        rows_of([said("assistant", text)], 1)[0][0].shown["content"],
    ):
        assert "![a cat]" not in shown
        assert "[a cat](https://example.org/cat.png)" in shown
        assert "![local](/file=x.png)" in shown
        assert read_literally(shown) == text


def test_a_question_is_escaped() -> None:
    assert "<img" not in question_html('<img src=x onerror="1">')
