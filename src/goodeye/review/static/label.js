// Label: one picture large, or four; five classes on keys 1 to 5.

import { Desk, Watch, glow, onKey, picture, showBrief, status, words } from "./desk.js";

const stage = document.getElementById("stage");
const choices = [...document.querySelectorAll("#choices button")];
const tool = (name) => document.querySelector(`[data-do="${name}"]`);
const watch = new Watch();
let four = localStorage.getItem("goodeye-four") === "1";
let active = 0; // which of the four
let drawn = ""; // what is on the stage

const desk = new Desk("label", four ? 8 : 5, draw);

function shown() {
  return desk.asks.slice(0, four ? 4 : 1);
}

function draw() {
  const asks = shown();
  active = Math.min(active, Math.max(0, asks.length - 1));
  showBrief(asks[active]);
  status(desk);
  choices.forEach((button) => (button.disabled = !asks.length));
  tool("undo").disabled = !desk.answered.length;
  tool("grid").setAttribute("aria-pressed", String(four));
  const key = `${four} ${active} ${asks.map((ask) => ask.id).join(" ")}`;
  if (key === drawn && asks.length) return;
  if (key.slice(key.indexOf(" ")) !== drawn.slice(drawn.indexOf(" "))) watch.start();
  drawn = key;
  stage.classList.toggle("four", four && asks.length > 0);
  if (asks.length) stage.replaceChildren(...asks.map(frame));
  else stage.replaceChildren(words(desk.empty ? "That was everything for now. Thank you." : "Fetching pictures …"));
}

function frame(ask, place) {
  const box = document.createElement("button");
  box.type = "button";
  box.className = "frame";
  box.tabIndex = four ? 0 : -1;
  box.setAttribute("aria-current", String(place === active));
  box.append(picture(ask.images[0], `A picture of ${ask.title}`));
  box.addEventListener("click", () => {
    active = place;
    draw();
  });
  return box;
}

function answer(outcome, said = "", note = "") {
  const ask = shown()[active];
  if (!ask) return;
  desk.answer(ask, outcome, said, watch.seconds, note);
  watch.start();
}

function press(button) {
  glow(button);
  answer("answered", button.dataset.answer);
}

const actions = {
  undo: async () => {
    if (await desk.undo()) active = 0;
    draw();
  },
  skip: () => answer("skipped"),
  flag: () => answer("flagged"),
  grid: () => {
    four = !four;
    desk.size = four ? 8 : 5;
    localStorage.setItem("goodeye-four", four ? "1" : "0");
    desk.fill();
    draw();
  },
};

choices.forEach((button) => button.addEventListener("click", () => press(button)));
for (const [name, act] of Object.entries(actions)) tool(name).addEventListener("click", act);

const keys = { z: "undo", s: "skip", f: "flag", g: "grid" };
const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 2, ArrowUp: -2 };
onKey((key) => {
  const number = Number(key);
  if (number >= 1 && number <= choices.length) press(choices[number - 1]);
  else if (keys[key.toLowerCase()]) {
    glow(tool(keys[key.toLowerCase()]));
    actions[keys[key.toLowerCase()]]();
  } else if (four && key in moves) {
    const next = active + moves[key];
    if (next >= 0 && next < shown().length) active = next;
    draw();
  } else return false;
  return true;
});

desk.start();
