'use strict';
(() => {
  const trajectories = new Map();
  const trajectory = id => {
    if (!trajectories.has(id)) trajectories.set(id, JSON.parse(document.getElementById(id).textContent));
    return trajectories.get(id);
  };
  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // The segments that the briefing was cut from, each with its source and its tokens.
  const segments = figure => {
    const { head, segments } = trajectory(figure.dataset.trajectory);
    const gone = figure.dataset.without.split(' ').filter(Boolean).map(range => range.split('-').map(Number));
    const known = number => number < Number(figure.dataset.upto) && !gone.some(([from, to]) => from <= number && number < to);
    return [['template', head], ...segments.filter((_, number) => known(number))].filter(([, pieces]) => pieces.length);
  };

  const segment = (source, pieces, from, keptBy, heat) => {
    const box = element('div', 'seg none');
    const label = element('div', 'label');
    label.append(element('i', 's-' + source), source);
    const text = element('pre');
    let run = null;
    pieces.forEach((piece, at) => {
      const position = from + at;
      const token = element('span', '', piece);
      token.title = `position ${position} · kept by ${keptBy[position]} % of the heads · score ${heat[position]} of 100`;
      if (keptBy[position] > 0) {
        token.className = 'k';
        token.style.setProperty('--h', heat[position] / 100);
        token.style.setProperty('--a', 0.25 + 0.75 * keptBy[position] / 100);
        box.classList.remove('none');
        run = null;
        text.append(token);
      } else {
        if (!run) text.append(run = element('span', 'run'));
        run.append(token);
      }
    });
    box.append(label, text);
    return box;
  };

  const draw = figure => {
    const map = Uint8Array.from(atob(figure.dataset.map), c => c.charCodeAt(0));
    const positions = map.length / 2;
    const keptBy = map.subarray(0, positions), heat = map.subarray(positions);
    const tokens = element('div', 'tokens');
    tokens.tabIndex = 0;
    tokens.setAttribute('role', 'region');
    tokens.setAttribute('aria-label', 'The trajectory, kept tokens coloured');
    let from = 0;
    for (const [source, pieces] of segments(figure)) {
      tokens.append(segment(source, pieces, from, keptBy, heat));
      from += pieces.length;
    }
    if (from !== positions) return;
    figure.querySelector('.excerpt')?.remove();
    figure.append(tokens);
    const label = figure.querySelector('label');
    label.hidden = false;
    const only = label.firstElementChild;
    only.addEventListener('change', () => tokens.classList.toggle('only', only.checked));
    // Of a long trajectory the reader first sees what the worker saw.
    if (positions > 600) only.click();
    const strip = figure.querySelector('.strip');
    strip.dataset.live = '';
    strip.addEventListener('click', e => {
      const box = strip.getBoundingClientRect();
      const position = Math.min(positions - 1, Math.floor(positions * (e.clientX - box.left) / box.width));
      const found = tokens.querySelectorAll('pre > span:not(.run), .run > span')[position];
      if (!found) return;
      if (!found.getClientRects().length) only.click();
      tokens.querySelector('.found')?.classList.remove('found');
      found.classList.add('found');
      const shift = found.getBoundingClientRect().top - tokens.getBoundingClientRect().top;
      tokens.scrollTop += shift - tokens.clientHeight / 2;
    });
  };

  const open = call => {
    const figure = call.querySelector(':scope > .body > figure[data-map]');
    if (figure && !figure.dataset.drawn) {
      figure.dataset.drawn = 'yes';
      draw(figure);
    }
  };
  for (const call of document.querySelectorAll('details.call')) {
    if (call.open) open(call);
    call.addEventListener('toggle', () => { if (call.open) open(call); });
  }

  // A link into the page opens what it leads to.
  const follow = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.localName === 'details') at.open = true;
    target.scrollIntoView();
  };
  addEventListener('hashchange', follow);
  follow();
})();
