// Elements and numbers. Texts enter the page as text nodes only: candidates are not to be trusted.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `on` holds listeners, `style` goes through the CSSOM (the policy refuses style="..."). */
function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svgEl(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "on") for (const [event, listen] of Object.entries(value)) node.addEventListener(event, listen);
    else if (key === "style") for (const [name, set] of Object.entries(value)) node.style.setProperty(name, set);
    else if (key === "dataset") Object.assign(node.dataset, value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const MINUS = "\u2212";

/** A number for people: `digits` after the point, a real minus sign. */
function fmt(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}

function signed(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return value > 0 && Number(value.toFixed(digits)) !== 0 ? "+" + fmt(value, digits) : fmt(value, digits);
}

/** A short number for an axis. */
function short(value) {
  const rounded = Number(value.toPrecision(4));
  return rounded < 0 ? MINUS + String(-rounded) : String(rounded);
}

function count(number, noun, plural = noun + "s") {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
}

/** The page's own data, which a script element of another type carries. */
function pageData() {
  const holder = document.getElementById("data");
  return holder ? JSON.parse(holder.textContent) : {};
}

/** Copies a text; where the browser has no clipboard, selects it for the reader to copy. */
async function copy(text, button, source) {
  try {
    await navigator.clipboard.writeText(text);
    say(button, "copied");
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    say(button, "selected: press Ctrl-C");
  }
}

function say(button, text) {
  const before = button.dataset.label ?? button.textContent;
  button.dataset.label = before;
  button.textContent = text;
  setTimeout(() => { button.textContent = before; }, 1500);
}

/** A block of text that is copied as it is: a command, a program, a templated text. */
function copyable(label, text) {
  const pre = el("pre", { tabindex: "0" }, text);
  const button = el("button", { type: "button", class: "small" }, "copy");
  button.addEventListener("click", () => copy(text, button, pre));
  return el("div", { class: "copyable" }, el("div", { class: "bar" }, el("span", {}, label), button), pre);
}

/** Calls `draw(width)` now and whenever the width of `host` has changed. */
function atWidth(host, draw) {
  let last = 0;
  const look = () => {
    const width = Math.floor(host.clientWidth);
    if (width > 0 && width !== last) { last = width; draw(width); }
  };
  new ResizeObserver(look).observe(host);
  look();
  return () => { last = 0; look(); };
}
