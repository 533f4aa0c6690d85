// What the machine is doing: plots of the last minutes on the Hardware tab, and one line beside the chat.
// Only what is new is asked for, only while it can be seen, and no more than the plots show is kept.
(() => {
  const SHOWN = 300;               // seconds on the time axis, and rows kept
  const GAP = 3;                   // seconds without a row that break the line
  const FAST = 1000, SLOW = 3000;  // milliseconds between questions: for the plots, for the line
  const WIDTH = 300, HEIGHT = 64;
  const SVG = 'http://www.w3.org/2000/svg';
  const [AT, CPU, MEMORY, WORKER_CPU, WORKER_MEMORY, SPEED, GPUS] = [0, 1, 2, 3, 4, 5, 6];
  const [USE, HELD, DEGREES, WATTS, OWN] = [0, 1, 2, 3, 4];

  const byId = (id) => document.getElementById(id);
  const seen = (element) => element && element.offsetParent !== null;
  const three = (value) => value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
  const size = (bytes) => bytes >= 2 ** 30 ? `${three(bytes / 2 ** 30)} GiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  const units = {
    percent: (value) => `${value.toFixed(0)} %`, bytes: size, degrees: (value) => `${value.toFixed(0)} °C`,
    watts: (value) => `${value.toFixed(0)} W`, speed: (value) => `${three(value)} tokens/s`,
  };

  let rows = [], epoch = '', next = 0;
  let facts = null;  // names and sizes of what is measured; told with an answer from the beginning on
  let plots = null;  // those drawn into the box that is there now

  const ask = async (key, since) => {
    const answer = await fetch(`page/monitor/${key}?since=${since}`, { cache: 'no-store' });
    return answer.ok ? answer.json() : null;
  };
  const take = (told) => {
    if (told.epoch !== epoch || told.first > next) rows = [];
    epoch = told.epoch;
    facts = told.facts ?? facts;
    rows.push(...told.rows.slice(Math.max(0, rows.length ? next - told.first : 0)));
    next = told.first + told.rows.length;
    if (rows.length > SHOWN) rows.splice(0, rows.length - SHOWN);
  };

  // Plots: one line for the machine and one for the app's own share of it.
  const gpu = (index, field) => (row) => row[GPUS][index]?.[field] ?? null;
  const wanted = (facts) => [
    { title: 'Processor', unit: 'percent', most: 100, lines: [(row) => row[CPU], (row) => row[WORKER_CPU]] },
    { title: 'Memory', unit: 'bytes', most: facts.memory, lines: [(row) => row[MEMORY], (row) => row[WORKER_MEMORY]] },
    ...facts.gpus.flatMap((one, index) => [
      { title: `${one.name}: use`, unit: 'percent', most: 100, lines: [gpu(index, USE)] },
      { title: `${one.name}: memory`, unit: 'bytes', most: one.memory, lines: [gpu(index, HELD), gpu(index, OWN)] },
      { title: `${one.name}: temperature`, unit: 'degrees', most: 100, lines: [gpu(index, DEGREES)] },
      { title: `${one.name}: power`, unit: 'watts', most: 0, lines: [gpu(index, WATTS)] },
    ]),
    { title: 'Speed of replies', unit: 'speed', most: 0, lines: [(row) => row[SPEED]] },
  ];
  const element = (name, attributes, parent, space) => {
    const made = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent?.append(made);
    return made;
  };
  const build = (box) => {
    box.replaceChildren();
    return wanted(facts).map((plot) => {
      const figure = element('figure', { class: 'plot' }, box);
      const caption = element('figcaption', {}, figure);
      element('span', {}, caption).textContent = plot.title;
      const value = element('output', { 'aria-live': 'off' }, caption);
      const view = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': plot.title };
      const svg = element('svg', view, figure, SVG);
      const paths = plot.lines.map((_, index) => element('path', { class: index ? 'own' : 'all' }, svg, SVG));
      const mark = element('line', { class: 'mark', y1: 0, y2: HEIGHT, visibility: 'hidden' }, svg, SVG);
      return { ...plot, figure, value, paths, mark };
    });
  };
  const place = (row, now) => WIDTH - (now - row[AT]) * WIDTH / SHOWN;
  const path = (line, most, now) => {
    let text = '', before = -Infinity;
    for (const row of rows) {
      const value = line(row);
      if (value === null || now - row[AT] > SHOWN) { before = -Infinity; continue; }
      const y = HEIGHT - 1 - Math.min(1, value / most) * (HEIGHT - 2);
      text += `${row[AT] - before > GAP ? 'M' : 'L'}${place(row, now).toFixed(1)} ${y.toFixed(1)}`;
      before = row[AT];
    }
    return text;
  };
  const words = (plot, row, alone) => {
    const [all, own] = plot.lines.map((line) => row ? line(row) : null);
    if (all === null) return alone ? 'unknown' : '–';
    const total = plot.unit === 'bytes' && plot.most ? ` of ${size(plot.most)}` : '';
    return units[plot.unit](all) + total + (own === null || own === undefined ? '' : ` · app ${units[plot.unit](own)}`);
  };
  let pointed = null;  // seconds before now that somebody points at
  const draw = () => {
    const last = rows.at(-1);
    if (!last) return;
    const now = last[AT];
    const row = pointed === null ? last
      : rows.reduce((best, one) => Math.abs(now - one[AT] - pointed) < Math.abs(now - best[AT] - pointed) ? one : best, last);
    for (const plot of plots) {
      const known = rows.some((one) => plot.lines[0](one) !== null);
      plot.figure.classList.toggle('unknown', !known);
      const highest = Math.max(...rows.map((one) => plot.lines[0](one) ?? 0));
      const most = plot.most || Math.max(1, highest * 1.1);
      plot.lines.forEach((line, index) => plot.paths[index].setAttribute('d', path(line, most, now)));
      const text = words(plot, row, true);
      if (plot.value.textContent !== text) plot.value.textContent = text;
      const x = place(row, now).toFixed(1);
      plot.mark.setAttribute('x1', x);
      plot.mark.setAttribute('x2', x);
      plot.mark.setAttribute('visibility', pointed === null ? 'hidden' : 'visible');
    }
  };
  document.addEventListener('pointermove', ({ target, clientX }) => {
    const svg = target instanceof Element ? target.closest('#hardware-plots svg') : null;
    const before = pointed;
    if (svg) {
      const { left, width } = svg.getBoundingClientRect();
      pointed = (1 - (clientX - left) / width) * SHOWN;
    } else pointed = null;
    if (plots && (before !== null || pointed !== null)) draw();
  }, { passive: true });

  // The line beside the chat.
  const line = ({ facts, rows }) => {
    const row = rows.at(-1);
    if (!row) return '';
    const parts = [];
    if (row[CPU] !== null) parts.push(`CPU ${units.percent(row[CPU])}`);
    parts.push(`RAM ${size(row[MEMORY])} of ${size(facts.memory)}`);
    facts.gpus.forEach((one, index) => {
      const name = facts.gpus.length > 1 ? `GPU ${index}` : 'GPU';
      const [use, held] = [row[GPUS][index]?.[USE] ?? null, row[GPUS][index]?.[HELD] ?? null];
      if (use !== null) parts.push(`${name} ${units.percent(use)}`);
      if (held !== null) parts.push(`${use === null ? `${name} ` : ''}VRAM ${size(held)}${one.memory ? ` of ${size(one.memory)}` : ''}`);
    });
    return parts.join(' · ');
  };

  const tick = async () => {
    const box = document.querySelector('#hardware-plots [data-monitor]');
    const beside = document.querySelector('#chat-load [data-monitor]');
    let pause = SLOW;
    if (!document.hidden) {
      try {
        if (seen(box)) {
          pause = FAST;
          const told = await ask(box.dataset.monitor, facts ? next : 0);
          if (told) {
            take(told);
            if (plots?.box !== box) { plots = build(box); plots.box = box; }
            draw();
          }
        } else if (seen(beside)) {
          const told = await ask(beside.dataset.monitor, -1);
          const text = told ? line(told) : '';
          if (text && beside.textContent !== text) beside.textContent = text;
        }
      } catch { /* the app does not answer: live.js says so */ }
    }
    setTimeout(tick, pause);
  };
  setTimeout(tick, FAST);
})();
