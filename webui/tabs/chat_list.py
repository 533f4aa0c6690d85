"""The list of conversations beside the chat, as HTML: grouped by day, each with rename and delete.

The small script that turns clicks into events is `LIST_SCRIPT`; renaming and the question before deleting happen in the
row itself and reach the server only when they are decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from webui.tabs.present import escape


class Entry(Protocol):
    """What the list needs to know of a conversation. `updated_at` is Unix time in seconds."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def updated_at(self) -> float: ...


LIST_SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]');
  if (!button) return;
  const row = button.closest('[data-chat]');
  const id = row.dataset.chat;
  switch (button.dataset.do) {
    case 'open': trigger('click', {do: 'open', id}); break;
    case 'ask': row.classList.add('asking'); row.querySelector('[data-do=delete]').focus(); break;
    case 'keep': row.classList.remove('asking'); row.querySelector('[data-do=open]').focus(); break;
    case 'delete': trigger('click', {do: 'delete', id}); break;
    case 'rename': {
      row.classList.add('renaming');
      const field = row.querySelector('input');
      field.value = row.querySelector('[data-do=open]').textContent.trim();
      field.focus(); field.select();
    }
  }
});
element.addEventListener('keydown', (event) => {
  const row = event.target.closest('[data-chat]');
  if (event.target.tagName !== 'INPUT' || !row) return;
  if (event.key === 'Enter' && !event.isComposing) {
    row.classList.remove('renaming');
    const title = event.target.value.trim();
    if (title) trigger('click', {do: 'rename', id: row.dataset.chat, title});
  } else if (event.key === 'Escape') {
    event.stopPropagation();
    row.classList.remove('renaming');
    row.querySelector('[data-do=open]').focus();
  }
});
element.addEventListener('focusout', (event) => {
  if (event.target.tagName === 'INPUT') event.target.closest('[data-chat]').classList.remove('renaming');
});
"""


def list_html(conversations: Sequence[Entry], current: str, *, searched: str = "", now: datetime | None = None) -> str:
    """The conversations, newest first as given, under headings for their day; `current` is the open one."""
    if not conversations:
        text = f"Nothing found for “{searched}”." if searched else "Conversations will be listed here."
        return f'<p class="empty">{escape(text)}</p>'
    today = (now or datetime.now()).date()
    parts: list[str] = []
    heading = ""
    for conversation in conversations:
        day = datetime.fromtimestamp(conversation.updated_at).date()
        name = _day_name((today - day) // timedelta(days=1))
        if name != heading:
            parts.append(("</ul>" if parts else "") + f'<h3>{name}</h3><ul class="chats">')
            heading = name
        parts.append(_row(conversation, is_current=conversation.id == current))
    return "".join(parts) + "</ul>"


def _day_name(days_ago: int) -> str:
    if days_ago <= 0:
        return "Today"
    if days_ago == 1:
        return "Yesterday"
    return "Last seven days" if days_ago <= 7 else "Earlier"


def _row(conversation: Entry, *, is_current: bool) -> str:
    title = escape(conversation.title or "Untitled")
    here = ' aria-current="true"' if is_current else ""
    return (
        f'<li data-chat="{escape(conversation.id)}">'
        f'<button type="button" class="open" data-do="open"{here} title="{title}">{title}</button>'
        f'<input type="text" aria-label="New name of {title}" maxlength="200">'
        f'<button type="button" class="icon" data-do="rename" aria-label="Rename {title}" title="Rename">✎</button>'
        f'<button type="button" class="icon" data-do="ask" aria-label="Delete {title}" title="Delete">✕</button>'
        '<span class="ask"><button type="button" data-do="delete">Delete</button>'
        '<button type="button" data-do="keep">Keep</button></span></li>'
    )
