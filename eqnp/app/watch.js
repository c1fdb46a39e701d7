// Draws what eqnp recorded of a text that settles. Every number comes from the page; nothing is settled here.
(() => {
  "use strict";
  const STEP = 700; // milliseconds between two sweeps while it plays
  const SVG = "http://www.w3.org/2000/svg";

  const floats = (packed) => {
    const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  };
  const unpack = (thing) => {
    if (thing && thing.data !== undefined && thing.shape) return { shape: thing.shape, at: floats(thing) };
    if (Array.isArray(thing)) return thing.map(unpack);
    if (thing && typeof thing === "object") {
      return Object.fromEntries(Object.entries(thing).map(([key, value]) => [key, unpack(value)]));
    }
    return thing;
  };
  const number = (value, digits = 6) => value.toFixed(digits).replace("-", "\u2212");
  const brief = (value) => number(value, 4).replace(/\.?0+$/, "");
  const make = (name, attributes, parent, text) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const draw = (name, attributes, parent, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const short = (text, room) => (text.length * 7.4 > room ? text.slice(0, Math.max(1, Math.floor(room / 7.4) - 1)) + "…" : text);

  function start(root) {
    const data = unpack(JSON.parse(root.querySelector("script[type='application/json']").textContent));
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    const slider = part("slider"), play = part("play"), choice = part("class");
    const state = { frame: 0, cls: 0, timer: null, query: {}, bundle: 0, post: 0, pre: 0 };
    let frames = [];

    data.classes.forEach((name, i) => make("option", { value: i }, choice, name));
    data.synapses.forEach((each, i) => make("option", { value: i }, part("bundle"), each.parameter));

    // ---- one frame for each sweep: the free phase, then those under the nudges towards the chosen class ----
    const phases = () => [data.free, ...data.nudged[state.cls]];
    const name = (phase, long) => {
      if (!phase.beta) return "free";
      const way = phase.beta > 0 ? "towards" : "away from";
      const size = `β = ${brief(phase.beta)}`;
      return long ? `nudged ${way} ${data.classes[state.cls]} (${size})` : `${way === "towards" ? way : "away"}, ${size}`;
    };
    const arrange = () => {
      frames = phases().flatMap((phase) => Array.from(phase.sweeps, (_, i) => ({ phase, i })));
      slider.max = frames.length - 1;
      state.frame = Math.min(state.frame, frames.length - 1);
      const jumps = part("jumps");
      jumps.replaceChildren();
      phases().forEach((phase) => {
        const button = make("button", { type: "button" }, jumps, name(phase));
        button.addEventListener("click", () => show(frames.findIndex((each) => each.phase === phase)));
      });
    };

    // ---- the parts of the picture ----
    const where = ({ phase, i }) => {
      const last = phase.sweeps[phase.sweeps.length - 1];
      const parts = [
        [`${name(phase, true)}, sweep ${phase.sweeps[i]} of ${last}. `, "phase"],
        ["energy F = ", ""], [number(phase.energy[i]), "energy"], [", largest change of a unit ", ""],
        [number(phase.residual[i]), "residual"],
      ];
      const line = part("where");
      line.replaceChildren();
      parts.forEach(([text, what]) => make(what ? "b" : "span", what ? { "data-value": what } : {}, line, text));
      slider.setAttribute("aria-valuetext", line.textContent);
      [...part("jumps").children].forEach((button, n) => {
        button.setAttribute("aria-current", phases()[n] === phase ? "true" : "false");
      });
    };

    const energy = ({ phase, i }) => {
      const box = part("energy"), width = Math.max(240, box.clientWidth), height = 170, gap = 14;
      box.replaceChildren();
      const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label":
        `Energy by sweep. Now ${number(phase.energy[i])}` }, box);
      const all = phases(), total = all.reduce((sum, each) => sum + Math.max(2, each.sweeps.length), 0);
      const above = all.map((each) => {
        const least = Math.min(...each.energy);
        return Array.from(each.energy, (value) => Math.log10(Math.max(value - least, 1e-10)));
      });
      const high = Math.max(...above.flat(), -9), low = Math.max(-10, Math.min(...above.flat().filter((v) => v > -10), high - 1) - 1);
      const y = (value) => 34 + (height - 62) * (high - Math.max(value, low)) / (high - low);
      let left = 44;
      const room = width - left - 6 - gap * (all.length - 1);
      for (const power of [Math.floor(high), Math.ceil((high + low) / 2), Math.ceil(low)].filter((v, n, a) => a.indexOf(v) === n)) {
        draw("line", { x1: left - 4, x2: width, y1: y(power), y2: y(power), class: "grid" }, svg);
        draw("text", { x: left - 8, y: y(power) + 4, "text-anchor": "end" }, svg, power === 0 ? "1" : `10${[...String(power)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] || "⁻").join("")}`);
      }
      all.forEach((each, n) => {
        const wide = room * Math.max(2, each.sweeps.length) / total;
        const x = (k) => left + wide * (k + 0.5) / each.sweeps.length;
        draw("line", { x1: left, x2: left + wide, y1: height - 22, y2: height - 22, class: "axis" }, svg);
        draw("text", { x: left, y: 14, class: each === phase ? "strong" : "" }, svg, short(each.beta ? name(each).split(", ")[1] : "free", wide + gap));
        draw("polyline", { points: above[n].map((v, k) => `${x(k)},${y(v)}`).join(" "), class: "curve" }, svg);
        above[n].forEach((v, k) => {
          const now = each === phase && k === i;
          draw("circle", { cx: x(k), cy: y(v), r: now ? 5.5 : Math.min(3, Math.max(1.5, wide / each.sweeps.length / 3)), class: now ? "now" : "dot" }, svg);
        });
        draw("text", { x: x(0), y: height - 7, "text-anchor": "middle" }, svg, "1");
        if (each.sweeps.length > 1) {
          draw("text", { x: x(each.sweeps.length - 1), y: height - 7, "text-anchor": "middle" }, svg, each.sweeps[each.sweeps.length - 1]);
        }
        left += wide + gap;
      });
    };

    const attention = ({ phase, i }) => {
      const box = part("attention");
      if (!box.children.length) {
        Object.entries(data.queries).forEach(([layer, rows]) => {
          state.query[layer] = 0;
          const panel = make("div", { "data-layer": layer }, box);
          const label = make("label", {}, panel, `${layer}: attention of`);
          const select = make("select", { "data-query": layer }, label);
          rows.forEach((row, r) => make("option", { value: r }, select, r ? `${r}: ${row}` : row));
          select.addEventListener("change", () => { state.query[layer] = +select.value; redraw(); });
          make("div", { class: "words" }, panel);
          make("div", { class: "matrix" }, panel);
        });
      }
      for (const panel of box.children) {
        const layer = panel.dataset.layer, { shape: [, rows, slots], at } = phase.attention[layer];
        const words = panel.querySelector(".words"), row = state.query[layer], from = (i * rows + row) * slots;
        const weights = Array.from(at.subarray(from, from + slots)), most = Math.max(...weights);
        const [peakOfMean, peak] = data.peaks[layer], shadeOf = (weight, of) => weight / Math.max(of, 1e-12);
        words.replaceChildren();
        weights.forEach((weight, m) => {
          const shade = shadeOf(weight, row ? peak : peakOfMean);
          const marks = [shade > 0.56 ? "deep" : "", weight === most ? "most" : ""].join(" ").trim();
          const word = make("span", { style: `--a:${shade.toFixed(3)}`, title: `${number(weight)} of the attention` }, words, data.slots[layer][m]);
          if (marks) word.className = marks;
          words.append(" ");
        });
        const matrix = panel.querySelector(".matrix"), width = Math.max(240, matrix.clientWidth), names = data.slots[layer];
        const tall = Math.max(5, Math.min(14, 360 / rows)), queries = data.queries[layer];
        const side = tall < 11 ? 0 : Math.min(72, 8 + 6.5 * Math.max(...queries.slice(1).map((n) => n.length)));
        const cell = Math.min(64, (width - side) / slots);
        const longest = 7 * Math.max(...names.map((n) => n.length)) + 6, level = longest <= cell;
        const top = cell < 11 ? 0 : level ? 16 : Math.min(84, longest); // narrow columns have names that stand, or none
        matrix.replaceChildren();
        const height = top + tall * (rows - 1) + 2;
        const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img",
          "aria-label": `Attention: ${rows - 1} queries down, ${slots} words across; all numbers are in the table below` }, matrix);
        names.forEach((n, m) => {
          const x = side + cell * (m + 0.5), place = level ? { "text-anchor": "middle" } : { transform: `rotate(-90 ${x + 4} ${top - 5})` };
          if (top) draw("text", { x: level ? x : x + 4, y: top - 5, ...place }, svg, level ? n : short(n, top));
        });
        for (let r = 1; r < rows; r += 1) {
          const strong = r === row ? "strong small" : "small";
          if (side) draw("text", { x: side - 6, y: top + r * tall - 3, "text-anchor": "end", class: strong }, svg, short(queries[r], side));
          for (let m = 0; m < slots; m += 1) {
            const weight = at[(i * rows + r) * slots + m];
            draw("rect", { x: side + m * cell + 1, y: top + (r - 1) * tall + 1, width: cell - 1.5, height: tall - 1.5, class: "fill",
              "fill-opacity": Math.max(0.04, shadeOf(weight, peak)).toFixed(3) }, svg);
          }
          const hit = draw("rect", { x: side, y: top + (r - 1) * tall, width: cell * slots, height: tall,
            class: r === row ? "hit chosen" : "hit" }, svg);
          hit.addEventListener("click", () => { state.query[layer] = r; panel.querySelector("select").value = r; redraw(); });
        }
      }
    };

    const units = ({ phase, i }) => {
      const box = part("units");
      box.replaceChildren();
      Object.entries(data.units).reverse().forEach(([layer, names]) => {
        const { shape: [, count], at } = phase.states[layer], ends = data.free.states[layer];
        const free = ends.at.subarray((ends.shape[0] - 1) * count), now = at.subarray(i * count, (i + 1) * count);
        make("h3", {}, box, layer === data.output ? "Output" : layer);
        const width = Math.max(240, box.clientWidth), bars = layer === data.output && count <= 12;
        const [least, most] = data.range[layer], size = Math.max(-least, most, 1e-6);
        if (bars) {
          const label = Math.min(140, 16 + 7.4 * Math.max(...names.map((n) => n.length))), room = width - label - 76;
          const svg = draw("svg", { viewBox: `0 0 ${width} ${24 * count}`, height: 24 * count, role: "img", "aria-label":
            names.map((n, u) => `${n} ${number(now[u])}`).join(", ") }, box);
          const unit = room / Math.max(1e-6, most - least), zero = label - least * unit;
          names.forEach((n, u) => {
            const y = 24 * u, long = now[u] * unit;
            draw("text", { x: label - 8, y: y + 16, "text-anchor": "end", class: "strong" }, svg, short(n, label - 8));
            draw("line", { x1: zero, x2: zero, y1: y + 2, y2: y + 22, class: "axis" }, svg);
            draw("rect", { x: Math.min(zero, zero + long), y: y + 5, width: Math.abs(long), height: 14, class: "fill" }, svg);
            draw("line", { x1: zero + free[u] * unit, x2: zero + free[u] * unit, y1: y + 1, y2: y + 23, class: "free" }, svg);
            draw("text", { x: width, y: y + 16, "text-anchor": "end", "data-value": `output ${u}` }, svg, number(now[u]));
          });
          return;
        }
        const across = Math.min(count, Math.floor(width / 18)), down = Math.ceil(count / across);
        const svg = draw("svg", { viewBox: `0 0 ${width} ${18 * down}`, height: 18 * down, role: "img",
          "aria-label": `${count} units of ${layer}; all numbers are in the table below` }, box);
        Array.from(now).forEach((value, u) => square(svg, 18 * (u % across) + 9, 18 * Math.floor(u / across) + 9, 16, value / size, `${names[u]}: ${number(value)}`));
        if (data.sizes[layer] > count) make("p", {}, box, `${count} of ${data.sizes[layer].toLocaleString("en")} units: those that move most.`);
      });
    };

    // A square's area is a number's size; it is full where the number is positive, hollow where it is negative.
    const square = (svg, x, y, room, value, title) => {
      const side = Math.max(1, room * Math.sqrt(Math.min(1, Math.abs(value))) - 1);
      const box = draw("rect", { x: x - side / 2, y: y - side / 2, width: side, height: side, class: value < 0 ? "hollow" : "fill" }, svg);
      if (title) draw("title", {}, box, title);
    };

    const numbers = ({ phase, i }) => {
      const box = part("numbers");
      box.replaceChildren();
      if (!part("details").open) return;
      const table = (caption, head, rows) => {
        const element = make("table", {}, make("div", { class: "scroll" }, box));
        make("caption", {}, element, caption);
        const line = make("tr", {}, make("thead", {}, element));
        ["", ...head].forEach((text) => make("th", { scope: "col" }, line, text));
        const body = make("tbody", {}, element);
        rows.forEach(([first, values]) => {
          const row = make("tr", {}, body);
          make("th", { scope: "row" }, row, first);
          values.forEach((value) => make("td", {}, row, number(value)));
        });
        element.dataset.table = caption;
      };
      Object.entries(data.queries).forEach(([layer, queries]) => {
        const { shape: [, rows, slots], at } = phase.attention[layer];
        const from = (r) => Array.from(at.subarray((i * rows + r) * slots, (i * rows + r + 1) * slots));
        table(`${layer}: attention`, data.slots[layer], queries.map((query, r) => [query, from(r)]));
      });
      Object.entries(data.units).forEach(([layer, names]) => {
        const { shape: [, count], at } = phase.states[layer];
        table(`${layer}: states`, ["state"], names.map((n, u) => [n, [at[i * count + u]]]));
      });
    };

    // ---- the update ----
    const pick = () => {
      const bundle = data.synapses[state.bundle];
      for (const end of ["post", "pre"]) {
        const select = part(end);
        select.replaceChildren();
        bundle[end].forEach((text, n) => make("option", { value: n }, select, text));
      }
      const update = bundle.ends[state.cls].update;
      const best = update.at.reduce((most, value, n) => (Math.abs(value) > Math.abs(update.at[most]) ? n : most), 0);
      choose(Math.floor(best / update.shape[1]), best % update.shape[1]);
    };
    const choose = (post, pre) => {
      const bundle = data.synapses[state.bundle];
      state.post = Math.max(0, Math.min(bundle.post.length - 1, post));
      state.pre = Math.max(0, Math.min(bundle.pre.length - 1, pre));
      part("post").value = state.post;
      part("pre").value = state.pre;
      update();
    };
    const update = () => {
      const bundle = data.synapses[state.bundle], ends = bundle.ends[state.cls], [down, across] = ends.update.shape;
      const box = part("update"), label = Math.min(160, 16 + 7.4 * Math.max(...bundle.post.map((n) => n.length)));
      const cell = Math.max(13, Math.min(26, (box.clientWidth - label) / across)), tall = Math.max(16, cell);
      const width = Math.max(box.clientWidth, label + cell * across);
      const largest = Math.max(...Array.from(ends.update.at, Math.abs), 1e-30), focused = box.contains(document.activeElement);
      box.replaceChildren();
      const svg = draw("svg", { viewBox: `0 0 ${width} ${tall * down + 2}`, height: tall * down + 2, style: `width: ${width}px`, tabindex: 0, role: "application",
        "aria-label": "Updates: arrow keys choose a synapse; its two ends are read out below" }, box);
      for (let h = 0; h < down; h += 1) {
        const look = { "text-anchor": "end", class: h === state.post ? "strong" : "" };
        draw("text", { x: label - 8, y: tall * h + tall / 2 + 4, ...look }, svg, short(bundle.post[h], label - 8));
        for (let k = 0; k < across; k += 1) {
          const value = ends.update.at[h * across + k];
          square(svg, label + cell * (k + 0.5), tall * (h + 0.5), Math.min(cell, tall), value / largest);
          const hit = draw("rect", { x: label + cell * k, y: tall * h, width: cell, height: tall, class: "hit", "data-cell": `${h} ${k}` }, svg);
          draw("title", {}, hit, `${bundle.post[h]} ← ${bundle.pre[k]}: ${number(value)}`);
          hit.addEventListener("click", () => choose(h, k));
        }
      }
      draw("rect", { x: label + cell * state.pre, y: tall * state.post, width: cell, height: tall, class: "chosen" }, svg);
      svg.addEventListener("keydown", (event) => {
        const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (!move) return;
        event.preventDefault();
        choose(state.post + move[0], state.pre + move[1]);
      });
      if (focused) svg.focus();
      part("size").textContent = bundle.size[0] * bundle.size[1] > down * across
        ? `${down} × ${across} of ${bundle.size.map((n) => n.toLocaleString("en")).join(" × ")} synapses: those that learn most.` : "";
      product(bundle, ends, across);
    };
    const product = (bundle, ends, across) => {
      const { post: h, pre: k } = state, box = part("product"), [, , wide] = ends.products.shape;
      const post = (p, r) => ends.post.at[(p * ends.post.shape[1] + r) * ends.post.shape[2] + h];
      const pre = (p, r) => ends.pre.at[(p * ends.pre.shape[1] + r) * ends.pre.shape[2] + k];
      box.replaceChildren();
      const table = make("table", {}, make("div", { class: "scroll" }, box));
      const head = make("tr", {}, make("thead", {}, table));
      ["phase", `post: ${bundle.post[h]}`, `pre: ${bundle.pre[k]}`, "product", "times c"].forEach((text) => make("th", { scope: "col" }, head, text));
      const body = make("tbody", {}, table), shared = ends.post.shape[1] > 1;
      data.plan.forEach(([beta, c], p) => {
        if (shared) {
          for (let r = 0; r < ends.post.shape[1]; r += 1) {
            const row = make("tr", {}, body);
            make("th", { scope: "row" }, row, `β = ${brief(beta)}, ${bundle.rows[r] || r + 1}`);
            [number(post(p, r)), number(pre(p, r)), "", ""].forEach((text) => make("td", {}, row, text));
          }
        }
        const row = make("tr", {}, body), total = ends.products.at[(p * ends.products.shape[1] + h) * wide + k];
        make("th", { scope: "row" }, row, shared ? `β = ${brief(beta)}, all added up` : beta ? `β = ${brief(beta)}` : "free");
        (shared ? ["", ""] : [number(post(p, 0)), number(pre(p, 0))]).forEach((text) => make("td", {}, row, text));
        make("td", {}, row, number(total));
        make("td", {}, row, brief(c));
      });
      const foot = make("tr", {}, make("tfoot", {}, table));
      make("th", { scope: "row", colspan: 3 }, foot, "update: the products times c, added up");
      make("td", { colspan: 2, "data-value": "update" }, foot, number(ends.update.at[h * across + k]));
    };

    // ---- moving ----
    const redraw = () => {
      const frame = frames[state.frame];
      [where, energy, attention, units, numbers].forEach((each) => each(frame));
    };
    const show = (n) => { state.frame = n; slider.value = n; redraw(); };
    const stop = () => {
      clearInterval(state.timer);
      state.timer = null;
      play.textContent = "▶ Play";
    };
    play.addEventListener("click", () => {
      if (state.timer) return stop();
      if (state.frame === frames.length - 1) show(0);
      play.textContent = "❚❚ Pause";
      state.timer = setInterval(() => {
        show(state.frame + 1);
        if (state.frame === frames.length - 1) stop();
      }, STEP);
    });
    slider.addEventListener("input", () => { stop(); show(+slider.value); });
    choice.addEventListener("change", () => { stop(); state.cls = +choice.value; arrange(); show(state.frame); pick(); });
    part("bundle").addEventListener("change", (event) => { state.bundle = +event.target.value; pick(); });
    for (const end of ["post", "pre"]) {
      part(end).addEventListener("change", () => choose(+part("post").value, +part("pre").value));
    }
    part("details").addEventListener("toggle", redraw);
    window.addEventListener("resize", () => { redraw(); update(); });
    stop();
    arrange();
    show(0);
    pick();
  }
  document.querySelectorAll(".watch").forEach(start);
})();
