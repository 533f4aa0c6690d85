// What keeps the page true between two words from the server: seconds that count on, what somebody has unfolded, and
// whether the app is there at all.
(() => {
  const POLL_MILLISECONDS = 3000;
  const ANSWER_MILLISECONDS = 5000;

  // Seconds of what is going on. Worded like `whole_seconds` in present.py.
  const words = (seconds) => {
    const minutes = Math.floor(seconds / 60);
    return minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
  };
  const begun = new WeakMap();
  const beginning = (shown) => {
    // Gradio changes elements in place where it can: the same one may count something else now.
    const given = shown.dataset.running;
    if (begun.get(shown)?.given !== given) begun.set(shown, { given, at: performance.now() - 1000 * Number(given) });
    return begun.get(shown).at;
  };
  const count = () => {
    for (const shown of document.querySelectorAll('[data-running]')) {
      const text = words((performance.now() - beginning(shown)) / 1000);
      if (shown.textContent !== text) shown.textContent = text;
    }
  };
  setInterval(count, 250);

  // What somebody has unfolded or folded stays so when the server draws its surroundings anew.
  const folds = new Map();
  // By the part of the page it is in; ids that Gradio makes up change when a tab is drawn again.
  const keyOf = (fold) => `${fold.parentElement?.closest('[id]:not([id^=html-])')?.id} ${fold.dataset.fold}`;
  document.addEventListener('click', (event) => {
    const fold = event.target.closest?.('summary')?.closest('details[data-fold]');
    if (fold) folds.set(keyOf(fold), !fold.open);
  }, true);
  const refold = (node) => {
    const found = [...node.querySelectorAll('details[data-fold]')];
    if (node.matches('details[data-fold]')) found.push(node);
    for (const fold of found) {
      const wanted = folds.get(keyOf(fold));
      if (wanted !== undefined && fold.open !== wanted) fold.open = wanted;
    }
  };
  new MutationObserver((changes) => {
    if (!folds.size) return;
    for (const { target, addedNodes } of changes) {
      if (!addedNodes.length) refold(target);
      for (const node of addedNodes) if (node instanceof Element) refold(node);
    }
  }).observe(document.documentElement, { childList: true, subtree: true, attributeFilter: ['data-fold', 'open'] });
  // What hangs from the top line closes with a click beside it, and when one of its buttons is pressed.
  document.addEventListener('click', (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (target?.closest('#status-line details') && !target.closest('[data-act], [data-offer]')) return;
    for (const fold of document.querySelectorAll('#status-line details.why')) { folds.delete(keyOf(fold)); fold.open = false; }
  });

  // While the app does not answer, the page says so instead of what was true last. Any answer means that it is there.
  const ask = async () => {
    if (document.hidden) return;
    let answered = true;
    try { await fetch('health', { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MILLISECONDS) }); }
    catch { answered = false; }
    document.body?.classList.toggle('app-lost', !answered);
  };
  const keepAsking = async () => {
    await ask();
    setTimeout(keepAsking, POLL_MILLISECONDS);
  };
  setTimeout(keepAsking, POLL_MILLISECONDS);
  document.addEventListener('visibilitychange', ask);
})();
