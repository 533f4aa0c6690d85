// The settings: asked for when they come into sight, searched in the browser, saved one by one. Runs for the element of
// the section alone, and asks the server only for what somebody does or when the section is looked at again.
const frame = element.querySelector('[data-settings]');
const find = (id) => frame.querySelector(`#settings-${id}`);
const list = find('list');
let mark = '';

// Asking. Questions go one after the other, so that their answers are shown in the order they were asked in.
let turn = Promise.resolve();
const ask = (question) => (turn = turn.then(async () => {
  let answer;
  try {
    const response = await fetch(`page/answer/settings/${frame.dataset.settings}`, { method: 'POST', body: JSON.stringify(question) });
    answer = await response.json();
    if (!response.ok) answer = { failed: '', text: answer.error?.message };
  } catch {
    answer = { failed: '', text: 'The app does not answer.' };
  }
  show(answer, question);
}));

const show = (answer, question) => {
  if (answer.failed !== undefined) {
    const row = answer.key && rowOf(answer.key);
    const place = row ? row.querySelector('.setting-failed') : find('said');
    if (answer.failed) place.innerHTML = answer.failed; else place.textContent = answer.text;
    return;
  }
  mark = answer.mark;
  if (answer.html !== undefined) {
    const open = new Set([...list.children].filter((section) => section.open).map((section) => section.dataset.section));
    list.innerHTML = answer.html;
    for (const section of list.children) section.open = open.has(section.dataset.section);
  }
  for (const [key, html] of Object.entries(answer.rows || {})) replace(key, html);
  if (question.do !== 'list') find('said').innerHTML = answer.said;
  // The cards and the choice above show some of the settings too.
  if (Object.keys(answer.rows || {}).some((key) => key.startsWith('backends.'))) document.getElementById('backend-again')?.click();
  find('notes').innerHTML = answer.notes;
  find('all').querySelector('[data-do="undo"]').hidden = !answer.undo;
  filter();
};

const rowOf = (key) => [...list.querySelectorAll('.setting')].find((row) => row.dataset.key === key);
const replace = (key, html) => {
  const row = rowOf(key);
  if (!row) return;
  const held = row.contains(document.activeElement);
  row.outerHTML = html;
  if (held) rowOf(key).querySelector('[data-field]').focus();
};

// Searching: every word must occur somewhere in what a row says. Sections with a hit open, the others go.
const filter = () => {
  const words = find('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  const changed = find('changed').checked;
  const searching = words.length > 0 || changed;
  let hits = 0;
  let all = 0;
  for (const section of list.children) {
    let here = 0;
    for (const row of section.querySelectorAll('.setting')) {
      all += 1;
      const hit = (!changed || 'changed' in row.dataset) && words.every((word) => row.dataset.words.includes(word));
      row.hidden = !hit;
      here += hit;
    }
    section.hidden = !here;
    if (searching) section.open = true;
    else if (list.dataset.searching) section.open = false;
    hits += here;
  }
  list.dataset.searching = searching ? 'yes' : '';
  find('count').textContent = searching ? `${hits} of ${all} settings` : `${all} settings`;
};
frame.addEventListener('input', ({ target }) => { if (target.id === 'settings-search') filter(); });

// Changing.
frame.addEventListener('change', ({ target }) => {
  if (target.id === 'settings-changed') filter();
  if (target.id === 'settings-import-file' && target.files[0]) plan(target.files[0]);
  if (target.id === 'settings-import-protected' && file) plan(file);
  const row = target.matches('[data-field]') && target.closest('.setting');
  if (row) {
    row.querySelector('.setting-failed').replaceChildren();
    ask({ do: 'set', key: row.dataset.key, value: target.type === 'checkbox' ? target.checked : target.value });
  }
});
frame.addEventListener('click', ({ target }) => {
  const button = target.closest('button[data-do]');
  if (!button) return;
  const asking = (yes) => {
    frame.querySelector('.settings-ask').hidden = !yes;
    frame.querySelector('[data-do="ask"]').hidden = yes;
    frame.querySelector(yes ? '[data-do="reset all"]' : '[data-do="ask"]').focus();
  };
  switch (button.dataset.do) {
    case 'ask': asking(true); break;
    case 'keep': asking(false); break;
    case 'reset all': asking(false); ask({ do: 'reset all' }); break;
    case 'undo': ask({ do: 'undo' }); break;
    case 'reset': ask({ do: 'reset', key: button.closest('.setting').dataset.key }); break;
    case 'export': download(); break;
    case 'choose': find('import-file').click(); break;
    case 'import': bring(); break;
    case 'leave': file = null; find('import').replaceChildren(); break;
  }
});

// Looking again: when the section comes into sight, and when the pointer comes back to it while nothing is typed.
const look = () => ask({ do: 'list', mark });
new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) look(); }).observe(frame);
frame.addEventListener('pointerenter', () => { if (mark && !list.contains(document.activeElement)) look(); });

// Everything in one file.
const AT_THE_MACHINE = 'If it is an export, use python3 app.py config import at the machine itself.';
const answered = async (asked) => {
  const response = await asked.catch(() => null);
  if (response?.ok) return response;
  const { error } = (await response?.json().catch(() => null)) ?? {};
  throw new Error(error ? words(error) : 'The app does not answer.');
};
const checked = (id) => (find(id)?.checked ? '1' : '0');
const download = async () => {
  const query = `chats=${checked('export-chats')}&secrets=${checked('export-secrets')}`;
  try {
    const response = await answered(fetch(`page/export/${frame.dataset.settings}?${query}`));
    const link = make('a', '', { href: URL.createObjectURL(await response.blob()) });
    link.download = /filename="([^"]+)"/.exec(response.headers.get('content-disposition'))[1];
    link.click();
    URL.revokeObjectURL(link.href);
  } catch (error) { failed(error); }
};

let file = null;
const send = async (doing) => {
  const query = `do=${doing ? 1 : 0}&protected=${checked('import-protected')}`;
  if (file.size > frame.dataset.most) throw new Error(`${file.name} is larger than a page may send. ${AT_THE_MACHINE}`);
  const response = await answered(fetch(`page/import/${frame.dataset.settings}?${query}`, { method: 'POST', body: file }));
  const answer = await response.json();
  if (answer.error) throw new Error(words(answer.error));
  return answer;
};
const words = ({ message, cause, hint }) => [message, cause && `(${cause})`, hint].filter(Boolean).join(' ');
const changes = (count) => `${count} change${count === 1 ? '' : 's'}`;
const tell = (...nodes) => find('import').replaceChildren(...nodes);
const make = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text, ...more });
const table = (head, rows) => {
  const made = make('table', '', { className: 'workers' });
  made.append(make('tr', ''));
  made.rows[0].append(...head.map((text) => make('th', text)));
  for (const row of rows) {
    const line = make('tr', '');
    line.append(...row.map((text) => make('td', text)));
    made.append(line);
  }
  const box = make('div', '', { className: 'scroll' });
  box.append(made);
  return box;
};
const left = (rows) => (rows.length ? [make('p', `Not carried (${rows.length}):`), table(['what', 'name', 'why not'], rows)] : []);
const failed = (error) => tell(make('p', `✗ ${error.message}`, { className: 'verdict problem' }));
const press = (text, act) => {
  const button = make('button', text, { type: 'button' });
  button.dataset.do = act;
  return button;
};

const plan = async (chosen) => {
  file = chosen;
  find('import-file').value = '';
  try {
    const told = await send(false);
    const count = told.changes.length;
    const buttons = make('div', '', { className: 'card-actions' });
    buttons.append(...(count ? [press(`Make ${changes(count)}`, 'import')] : []), press('Leave it', 'leave'));
    tell(
      make('p', count ? `${file.name} would change:` : `${file.name} would change nothing.`),
      ...(count ? [table(['what', 'name', 'here', 'becomes'], told.changes)] : []),
      ...left(told.left),
      buttons,
    );
  } catch (error) { failed(error); }
};
const bring = async () => {
  try {
    const told = await send(true);
    file = null;
    tell(make('p', `✓ ${changes(told.changes.length)} made. What there was is kept in ${told.backup}.`, { className: 'verdict ok' }));
    look();
  } catch (error) { failed(error); }
};
