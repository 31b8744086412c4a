"use strict";
(() => {
  const WORD_BEGIN = "\u2581";
  const UNKNOWN = /^<unk:(.+)>$/su;
  const CONTROL = /[\p{Cc}\p{Zl}\p{Zp}]/gu;
  const SVG = "http://www.w3.org/2000/svg";
  // Fainter lines are not drawn: there are many, they hardly show, and they slow the page down.
  const FAINTEST = 0.02;
  const NAMED = 5;
  const MEAN = "mean";

  const get = (id) => document.getElementById(id);
  const sentences = JSON.parse(get("data").textContent);
  const [sentence, kind, layer, head] = ["sentence", "kind", "layer", "head"].map(get);
  let shown; // the chosen map: {queries, keys, weights}
  let pinned = null; // {side, index} of the token that was clicked
  let active = null; // {side, index} of the token that is pointed at, has the focus or is pinned

  // Text is inserted as text everywhere. None of it is ever parsed as HTML.
  const element = (name, text = "", properties = {}) => {
    const made = Object.assign(document.createElement(name), properties);
    made.textContent = text;
    return made;
  };
  const option = (value, text) => element("option", text, { value, dir: "auto" });
  const maps = () => sentences[sentence.value][kind.value];

  const mean = (heads) =>
    heads[0].map((row, i) => row.map((_, j) => heads.reduce((sum, map) => sum + map[i][j], 0) / heads.length));

  const selected = () => {
    const heads = maps().weights[layer.value];
    const chosen = head.value === MEAN ? mean(heads) : heads[head.value];
    return { queries: maps().queries, keys: maps().keys, weights: chosen };
  };

  // The weights of a token: of the keys that a query attends to, or of the queries that attend to a key.
  const weightsOf = ({ side, index }) =>
    side === "queries" ? shown.weights[index] : shown.weights.map((row) => row[index]);

  const label = (token) => {
    // A dot alone would be taken for a full stop.
    if (token === WORD_BEGIN) return element("bdi", "\u2423");
    const begins = token.startsWith(WORD_BEGIN);
    const text = begins ? token.slice(1) : token;
    const unknown = UNKNOWN.exec(text);
    // Its letters decide its direction. The mark inside is where they begin: on the right in Arabic and Hebrew.
    const whole = element("bdi", "", unknown ? { className: "unknown", title: "not in the vocabulary" } : {});
    whole.append(
      begins ? element("span", "\u00b7", { className: "mark" }) : "",
      (unknown ? unknown[1] : text).replace(CONTROL, "\u25a1"),
    );
    return whole;
  };

  const quoted = (token) => {
    const parts = document.createDocumentFragment();
    parts.append("\u201c", label(token), "\u201d");
    return parts;
  };

  const fill = (side) => {
    get(side).replaceChildren(
      ...shown[side].map((token, index) => {
        const item = element("li");
        const button = element("button", "", { type: "button" });
        button.append(label(token));
        button.setAttribute("aria-pressed", "false");
        const here = { side, index };
        button.addEventListener("pointerenter", () => point(here));
        button.addEventListener("focus", () => point(here));
        button.addEventListener("pointerleave", () => point(pinned));
        button.addEventListener("blur", () => point(pinned));
        button.addEventListener("click", () => {
          pinned = same(pinned, here) ? null : here;
          point(here);
        });
        item.append(button, element("span", "", { className: "weight" }));
        return item;
      }),
    );
  };

  const same = (one, other) => one?.side === other?.side && one?.index === other?.index;

  const point = (token) => {
    active = token;
    const values = token && weightsOf(token);
    for (const side of ["queries", "keys"]) {
      [...get(side).children].forEach((item, index) => {
        const [button, weight] = item.children;
        const here = { side, index };
        const value = token && side !== token.side ? values[index] : null;
        weight.textContent = value === null ? "" : value.toFixed(3);
        button.style.setProperty("--weight", value ?? 0);
        button.classList.toggle("active", same(token, here));
        button.setAttribute("aria-pressed", String(same(pinned, here)));
      });
    }
    draw();
    summarize();
  };

  const draw = () => {
    const middle = (side, index) => {
      const box = get(side).children[index].getBoundingClientRect();
      return box.top + box.height / 2 - get("lines").getBoundingClientRect().top;
    };
    const [left, right] = ["queries", "keys"].map((side) => shown[side].map((_, index) => middle(side, index)));
    const lines = [];
    shown.weights.forEach((row, i) =>
      row.forEach((weight, j) => {
        if (weight < FAINTEST || (active && active.index !== (active.side === "queries" ? i : j))) return;
        const line = document.createElementNS(SVG, "line");
        const ends = { x1: "0%", y1: left[i], x2: "100%", y2: right[j], "stroke-opacity": weight };
        for (const [name, value] of Object.entries(ends)) line.setAttribute(name, value);
        lines.push(line);
      }),
    );
    get("lines").replaceChildren(...lines);
  };

  const summarize = () => {
    const where = `${kind.value}, layer ${layer.selectedOptions[0].text}, ${head.selectedOptions[0].text}`;
    const line = [`${where}: `];
    if (active === null) {
      line.push("point at a token to see what it attends to, or what attends to it. Click to keep it selected.");
    } else {
      const attends = active.side === "queries";
      const others = shown[attends ? "keys" : "queries"];
      const ranked = weightsOf(active).map((weight, index) => [weight, index]);
      ranked.sort(([one], [other]) => other - one);
      line.push(quoted(shown[active.side][active.index]), attends ? " attends to " : " is attended to by ");
      ranked.slice(0, NAMED).forEach(([weight, index], place) => {
        line.push(place ? ", " : "", quoted(others[index]), ` ${weight.toFixed(3)}`);
      });
    }
    get("summary").replaceChildren(...line);
  };

  const thumbnail = (weights) => {
    const canvas = element("canvas", "", { width: weights[0].length, height: weights.length });
    const color = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim().split(" ");
    const image = new ImageData(canvas.width, canvas.height);
    image.data.set(weights.flat().flatMap((weight) => [...color, 255 * weight]));
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  };

  const overview = () => {
    const { layers, weights } = maps();
    const cells = [element("span"), ...weights[0].map((_, index) => element("span", `${index + 1}`))];
    weights.forEach((heads, row) => {
      cells.push(element("span", `${layers[row]}`));
      heads.forEach((map, index) => {
        const name = `layer ${layers[row]}, head ${index + 1}`;
        const button = element("button", "", { type: "button", title: name, ariaLabel: name });
        button.dataset.layer = row;
        button.dataset.head = index;
        button.append(thumbnail(map));
        button.addEventListener("click", () => {
          layer.value = row;
          head.value = index;
          choose();
        });
        cells.push(button);
      });
    });
    get("overview").style.gridTemplateColumns = `repeat(${weights[0].length + 1}, auto)`;
    get("overview").replaceChildren(...cells);
  };

  // Another layer or head has the same tokens: the pinned one stays.
  const choose = () => {
    shown = selected();
    for (const button of get("overview").querySelectorAll("button")) {
      const { layer: row, head: index } = button.dataset;
      button.setAttribute("aria-pressed", String(row === layer.value && index === head.value));
    }
    point(pinned);
  };

  // Another sentence or kind has other tokens.
  const restart = () => {
    shown = selected();
    pinned = null;
    for (const name of ["text", "source", "target"]) {
      const text = get(`${name}-text`);
      text.parentElement.hidden = !(name in sentences[sentence.value]);
      text.textContent = sentences[sentence.value][name] ?? "";
    }
    ["queries", "keys"].forEach(fill);
    overview();
    get("lines").style.height = `${Math.max(get("queries").offsetHeight, get("keys").offsetHeight) + 24}px`;
    choose();
  };

  const start = () => {
    sentence.append(...sentences.map(({ text, source }, index) => option(index, text || source || "(empty)")));
    sentence.parentElement.hidden = sentences.length < 2;
    // A model of one stack has one kind of attention.
    for (const { value } of [...kind.options]) {
      if (!(value in sentences[0])) kind.querySelector(`[value="${value}"]`).remove();
    }
    kind.selectedIndex = kind.options.length - 1;
    kind.parentElement.hidden = kind.options.length < 2;
    const { layers, weights } = maps();
    layer.append(...layers.map((number, index) => option(index, number)));
    head.append(option(MEAN, "mean of the heads"), ...weights[0].map((_, index) => option(index, `head ${index + 1}`)));
    for (const choice of [sentence, kind]) choice.addEventListener("change", restart);
    for (const choice of [layer, head]) choice.addEventListener("change", choose);
    layer.value = layers.length - 1;
    get("choices").addEventListener("submit", (event) => event.preventDefault());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      overview();
      choose();
    });
    addEventListener("resize", draw);
    restart();
  };

  start();
})();
