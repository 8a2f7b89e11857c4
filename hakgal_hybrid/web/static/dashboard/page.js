// What all parts of the page use: elements made of text, never of markup; numbers as people read them; announcements.

const SVG = "http://www.w3.org/2000/svg";

export const $ = id => document.getElementById(id);

/** An element with attributes and children; strings become text, whatever they hold. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same, for graphics. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes))
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  element.append(...children.filter(child => child !== undefined && child !== null).map(
    child => child instanceof Node ? child : document.createTextNode(String(child))));
  return element;
}

/** Replace what an element holds, but only if its text changes: a reader's place in it stays otherwise. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setLevel(element, level) {
  if (level) element.dataset.level = level;
  else delete element.dataset.level;
}

/** Tell those who do not see the page, politely, once. */
export function announce(text) {
  setText($("announcer"), text);
}

export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  const digits = size === 0 || size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${number(Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds % 86400 / 3600)} h`;
}
