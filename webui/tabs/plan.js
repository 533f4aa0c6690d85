// The memory plan follows the controls: after each edit the values of the loader that is shown are read from Gradio and
// sent in a request of its own, whose answer is drawn here. Gradio's way to the server and back takes a page with this
// many controls some tenths of a second. One question is under way at most; of those that come meanwhile, the last is asked.
(() => {
  const PAUSE = 2000;  // milliseconds between looks at a page nobody touches: other programs come and go

  const byId = (id) => document.getElementById(id);
  const seen = (element) => element && element.offsetParent !== null;
  const place = () => document.querySelector('#model-plan [data-plan]');

  // Reading the values: a press of an unseen button, whose script hands them to `ask`.
  let due = false;
  const look = () => {
    if (due) return;
    due = true;
    // A frame later Gradio knows what was typed.
    requestAnimationFrame(() => setTimeout(() => {
      due = false;
      byId('model-plan-read')?.click();
    }));
  };

  let asking = false;
  let next = null;
  let last = '{}';
  const send = (question) => fetch(`page/answer/plan/${place().dataset.plan}`, { method: 'POST', body: question });
  const ask = async (question) => {
    last = question;
    if (asking) { next = question; return; }
    asking = true;
    try {
      const answer = await send(question);
      if (answer.ok) draw(await answer.json());
    } catch { /* the app does not answer: live.js says so */ }
    asking = false;
    const waiting = next;
    next = null;
    if (waiting !== null) ask(waiting);
  };

  // Drawing: nothing where it says the same; whoever stands on a button of it stays there.
  const draw = ({ mark, html }) => {
    const box = place();
    if (!box || box.dataset.mark === mark) return;
    const held = box.contains(document.activeElement) ? document.activeElement.dataset.set : undefined;
    box.dataset.mark = mark;
    box.innerHTML = html;
    if (held) [...box.querySelectorAll('[data-set]')].find((button) => button.dataset.set === held)?.focus();
  };

  // At the top of a small page the plan is shown in short. A margin keeps what is below it where it is.
  const stick = () => {
    const box = byId('model-plan');
    if (!seen(box)) return;
    const stuck = scrollY > 0 && box.getBoundingClientRect().top <= 0;
    if (stuck === box.hasAttribute('data-stuck')) return;
    const before = box.offsetHeight;
    box.toggleAttribute('data-stuck', stuck);
    box.style.marginBottom = stuck ? `${before - box.offsetHeight}px` : '';
  };
  document.addEventListener('scroll', stick, { passive: true });

  // The engine's own figures take it a moment. They are asked for beside the plans, and the next plan has them.
  const askEngine = async (button) => {
    button.disabled = true;
    button.textContent = 'asking the engine …';
    try { await send(JSON.stringify({ ...JSON.parse(last), exact: true })); } catch { /* as above */ }
    place().dataset.mark = '';
    look();
  };
  document.addEventListener('click', ({ target }) => {
    const button = target.closest?.('#model-plan [data-exact]');
    if (button) askEngine(button);
  });

  const edited = ({ target }) => { if (target.closest?.('#model-controls')) look(); };
  // Choosing from a list is a press of the mouse or a key, and no input.
  for (const kind of ['input', 'change', 'click', 'mousedown', 'keydown', 'focusout']) document.addEventListener(kind, edited);
  setInterval(() => { if (!document.hidden && seen(byId('model-detail'))) look(); }, PAUSE);
  window.ggufPlan = { look, ask };
})();
