// Compare: which of two is better; arrow keys. Rows of pictures stand above each other, and so do their keys.

import { Desk, Watch, glow, idOf, onKey, picture, showBrief, status, words } from "./desk.js";

const QUESTIONS = {
  overall: "Which is the better picture?",
  accuracy: "Which fits what was asked for?",
  aesthetic: "Which is more beautiful?",
};
const BESIDE = { left: ["←", "Left"], similar: ["↓", "Similar"], right: ["→", "Right"] };
const ABOVE = { left: ["↑", "Above"], similar: ["Space", "Similar"], right: ["↓", "Below"] };
const stage = document.getElementById("stage");
const choices = Object.fromEntries(
  [...document.querySelectorAll("#choices button")].map((button) => [button.dataset.answer, button]),
);
const tool = (name) => document.querySelector(`[data-do="${name}"]`);
const watch = new Watch();
let drawn = null;
let flagging = false; // asked which of the two something is wrong with

const desk = new Desk("compare", 4, draw);

function draw() {
  const ask = desk.asks[0];
  showBrief(ask);
  status(desk);
  Object.values(choices).forEach((button) => (button.disabled = !ask));
  tool("undo").disabled = !desk.answered.length;
  if (ask && idOf(ask) === drawn) return;
  drawn = ask ? idOf(ask) : null;
  flagging = false;
  watch.start();
  question();
  if (!ask) {
    stage.replaceChildren(words(desk.empty ? "There is nothing to compare for now. Thank you." : "Fetching pictures …"));
    return;
  }
  const rows = ask.rows.some((row) => row.length > 1);
  stage.classList.toggle("rows", rows);
  for (const [side, [key, word]] of Object.entries(rows ? ABOVE : BESIDE)) {
    choices[side].querySelector("kbd").textContent = key;
    choices[side].dataset.word = word;
  }
  question();
  stage.replaceChildren(...ask.rows.map((row, place) => frame(row, place ? "right" : "left")));
}

/** What is asked of the pair: which is better, or which to flag. */
function question() {
  const ask = desk.asks[0];
  const usual = ask ? QUESTIONS[ask.axis] || `Which is better in ${ask.axis}?` : "";
  document.getElementById("question").textContent = flagging ? "Which one is something wrong with?" : usual;
  for (const [side, button] of Object.entries(choices)) {
    if (button.dataset.word) button.querySelector("span").textContent = flagging && side === "similar" ? "Both" : button.dataset.word;
  }
  tool("flag").setAttribute("aria-pressed", String(flagging));
}

function frame(row, side) {
  const box = document.createElement("button");
  box.type = "button";
  box.className = "frame";
  box.tabIndex = -1;
  box.append(...row.map((sha) => picture(sha, row.length > 1 ? `Of the row ${side === "left" ? "above" : "below"}` : `The ${side} picture`)));
  box.addEventListener("click", () => press(side));
  return box;
}

function press(side) {
  const ask = desk.asks[0];
  if (!ask) return;
  glow(choices[side]);
  desk.answer(ask, flagging ? "flagged" : "answered", side, watch.seconds);
}

function skip() {
  const ask = desk.asks[0];
  if (ask) desk.answer(ask, "skipped", "", watch.seconds);
}

const actions = {
  undo: () => desk.undo(),
  skip,
  flag: () => {
    flagging = !flagging && Boolean(desk.asks[0]);
    question();
  },
};
for (const [side, button] of Object.entries(choices)) button.addEventListener("click", () => press(side));
for (const [name, act] of Object.entries(actions)) tool(name).addEventListener("click", act);

const sides = { ArrowLeft: "left", ArrowRight: "right", " ": "similar" };
const keys = { z: "undo", s: "skip", f: "flag" };
onKey((key) => {
  const rows = stage.classList.contains("rows");
  if (key in sides) press(sides[key]);
  else if (key === "ArrowDown") press(rows ? "right" : "similar");
  else if (key === "ArrowUp" && rows) press("left");
  else if (keys[key.toLowerCase()]) {
    glow(tool(keys[key.toLowerCase()]));
    actions[keys[key.toLowerCase()]]();
  } else return false;
  return true;
});

desk.start();
