// What the page does by itself, without asking the server: keys, light and dark, folding, following the text.
// Everything is delegated from the document, because Gradio mounts and unmounts its elements as it likes.
(() => {
  const byId = (id) => document.getElementById(id);
  const visible = (element) => element && element.offsetParent !== null;
  const press = (id) => {
    const element = byId(id);
    const button = element?.matches('button') ? element : element?.querySelector('button');
    if (!visible(button) || button.disabled) return false;
    button.click();
    return true;
  };
  const typing = (target) => target instanceof Element && target.closest('input, textarea, select, [contenteditable=true]');
  const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* private mode: not kept */ } };
  const recall = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const tabs = ['Model', 'Chat', 'Backend', 'Hardware', 'Diagnostics'];
  const openTab = (name) => {
    // Tabs that do not fit are in a menu, whose entries have no role; Gradio's own measuring copies are not meant.
    const buttons = [...document.querySelectorAll('#page-tabs > .tab-wrapper button:not([tabindex="-1"])')];
    buttons.find((button) => button.textContent.trim() === name)?.click();
  };
  // Keep something in view while what stands above it is still being drawn, until the reader moves.
  const hold = (found) => {
    const moves = ['wheel', 'touchmove', 'pointerdown', 'keydown'];
    const sizes = new ResizeObserver(() => {
      found.scrollIntoView({ block: found.offsetHeight < innerHeight ? 'center' : 'start' });
    });
    const release = () => {
      sizes.disconnect();
      moves.forEach((move) => removeEventListener(move, release, true));
    };
    moves.forEach((move) => addEventListener(move, release, { capture: true, passive: true }));
    setTimeout(release, 5000);
    sizes.observe(found.closest('[role=tabpanel]') ?? found);
  };
  // Bring what a button speaks of into view, as soon as its tab has drawn it, and give it the focus.
  const point = (id) => {
    const until = performance.now() + 5000;
    const look = () => {
      const found = byId(id);
      if (visible(found)) {
        hold(found);
        const inner = found.querySelector('[data-action=install]') ?? found.querySelector('input, textarea, button, summary');
        (found.matches('button') ? found : inner)?.focus({ preventScroll: true });
      } else if (performance.now() < until) requestAnimationFrame(look);
    };
    look();
  };

  // Light and dark: the system's wish until somebody chooses.
  const setTheme = (theme) => document.body.classList.toggle('dark', theme === 'dark');
  const toggleTheme = () => {
    const theme = document.body.classList.contains('dark') ? 'light' : 'dark';
    setTheme(theme);
    remember('gguf-theme', theme);
  };

  // Folding the sides of the chat. On a narrow page one side lies over the text, and none is open at first.
  const narrow = () => matchMedia('(max-width: 60rem)').matches;
  const fold = (side) => {
    const name = narrow() ? `show-${side}` : `hide-${side}`;
    const on = document.body.classList.toggle(name);
    if (narrow() && on) document.body.classList.remove(side === 'list' ? 'show-panel' : 'show-list');
    if (!narrow()) remember(`gguf-${name}`, on ? '1' : '');
  };
  const unfold = () => document.body.classList.remove('show-list', 'show-panel');

  // The conversation of this window: read before Gradio mounts, since mounting an empty field already tells of a change.
  let atStart = '';
  try { atStart = sessionStorage.getItem('gguf-chat') || ''; } catch { /* private mode: a new conversation */ }
  const keepChat = (id) => { try { sessionStorage.setItem('gguf-chat', id); } catch { /* not kept */ } };
  window.ggufPage = { fold, keepChat, chat: () => atStart };

  document.addEventListener('click', (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const act = target?.closest('[data-act]')?.dataset.act;
    if (act === 'theme') toggleTheme();
    else if (act === 'help') byId('help-sheet').showModal();
    else if (act === 'go-model') openTab('Model');
    else if (act === 'go') {
      const { tab, at } = target.closest('[data-act]').dataset;
      openTab(tab);
      point(at);
    }
    if (narrow() && target?.closest('#chat-list [data-do=open], #chat-new, #chat-scroll')) unfold();
  });

  document.addEventListener('keydown', (event) => {
    // While an input method composes a character, Enter belongs to it.
    if (event.isComposing) { if (event.key === 'Enter') event.stopPropagation(); return; }
    const chord = (event.ctrlKey || event.metaKey) && event.shiftKey;
    let done = false;
    if (event.key === 'Escape' && !byId('help-sheet')?.open) {
      if (document.body.matches('.show-list, .show-panel')) { unfold(); done = true; }
      else done = press('chat-stop');
    } else if (chord && event.key === 'Backspace') done = press('chat-undo');
    else if (chord && event.key === 'Enter') done = press('chat-regenerate');
    else if (event.altKey && event.key === 'Enter') done = press('chat-continue');
    else if (event.altKey && event.code === 'KeyN') done = press('chat-new');
    else if (event.altKey && /^Digit[1-5]$/.test(event.code)) { openTab(tabs[Number(event.code.slice(5)) - 1]); done = true; }
    else if (!typing(event.target) && event.key === '?') { byId('help-sheet')?.showModal(); done = true; }
    else if (!typing(event.target) && event.key === '/') { byId('chat-message')?.querySelector('textarea')?.focus(); done = true; }
    if (done) { event.preventDefault(); event.stopPropagation(); }
  }, true);

  // Gradio's text fields tell of a change on key presses only, not when text is pasted, cut, deleted or composed.
  let pressed = false;
  document.addEventListener('keypress', (event) => {
    if (!event.isTrusted) return;
    pressed = true;
    setTimeout(() => { pressed = false; });
  }, true);
  document.addEventListener('input', ({ target }) => {
    if (!pressed && target.matches?.('[data-testid=textbox]')) target.dispatchEvent(new KeyboardEvent('keypress'));
  });

  // A question is asked in a request of its own, which brings the first words; Gradio's event, some frames slower, joins it.
  const askAhead = async () => {
    const key = byId('chat-key')?.querySelector('input, textarea')?.value;
    const live = byId('chat-live');
    const question = byId('chat-message')?.querySelector('textarea')?.value;
    if (!key || !live || !question?.trim()) return;
    const drawn = () => live.querySelector('.prose')?.textContent.trim() && !live.querySelector('.waiting');
    const answer = await fetch(`page/ask/${key}`, { method: 'POST', body: question });
    const text = answer.ok ? await answer.text() : '';
    if (!text || drawn()) return;
    const first = document.createElement('div');
    first.id = 'chat-first';
    first.className = 'prose';
    first.textContent = text;
    live.after(first);
    const done = () => { observer.disconnect(); first.remove(); };
    const observer = new MutationObserver(() => { if (drawn()) done(); });
    observer.observe(live, { subtree: true, childList: true, characterData: true });
    setTimeout(done, 3000);
  };
  document.addEventListener('click', (event) => { if (event.target.closest?.('#chat-send')) askAhead(); }, true);
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.target.closest?.('#chat-message')) askAhead();
  }, true);

  // The newest text stays in view as long as the reader is at the end.
  // A scroll that comes with a change of height is the text's doing, not the reader's.
  let atEnd = true;
  let lastHeight = 0;
  document.addEventListener('scroll', (event) => {
    const box = event.target;
    if (box.id !== 'chat-scroll') return;
    if (box.scrollHeight === lastHeight) atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 48;
    lastHeight = box.scrollHeight;
  }, true);
  const follow = () => {
    const box = byId('chat-scroll');
    if (box && atEnd) box.scrollTop = box.scrollHeight;
  };
  const sizes = new ResizeObserver(follow);
  const watchChildren = (box) => [...box.children].forEach((child) => sizes.observe(child));

  // The chat fills what the top line and the tabs leave of the window; the top line may wrap.
  const measure = () => {
    const tab = byId('chat-tab');
    if (visible(tab)) document.body.style.setProperty('--head', `${tab.getBoundingClientRect().top + scrollY}px`);
  };
  const heights = new ResizeObserver(measure);

  new MutationObserver(() => {
    const box = byId('chat-scroll');
    if (!box || box.dataset.followed) return;
    box.dataset.followed = '1';
    sizes.observe(box);
    watchChildren(box);
    new MutationObserver(() => watchChildren(box)).observe(box, { childList: true });
    heights.observe(byId('page-head'));
    heights.observe(byId('chat-tab'));
    if (byId('chat-degraded')) heights.observe(byId('chat-degraded'));
    if (recall('gguf-theme')) setTheme(recall('gguf-theme'));
    for (const side of ['list', 'panel']) if (recall(`gguf-hide-${side}`)) document.body.classList.add(`hide-${side}`);
  }).observe(document.documentElement, { childList: true, subtree: true });
  // A new question always brings the reader to the end.
  document.addEventListener('keydown', (event) => { if (event.key === 'Enter' && event.target.closest?.('#chat-message')) atEnd = true; });
  document.addEventListener('click', (event) => { if (event.target.closest?.('#chat-send, #chat-list, #chat-regenerate')) atEnd = true; });
})();
