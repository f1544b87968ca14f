// Standing: setting a person's votes aside, and counting them again.

import { call } from "./desk.js";

const dialog = document.getElementById("why");
let person = "";

const problem = document.getElementById("problem");
const again = document.getElementById("again");
let last = null; // what was decided, to be sent again

async function decide(aside, why) {
  last = () => decide(aside, why);
  try {
    await call("/api/aside", { person, aside, why });
    location.reload();
  } catch (error) {
    const reason = error.status ? error.said || "The server did not take that." : "The server cannot be reached.";
    problem.textContent = `Nothing was changed for ${person}. ${reason}`;
    problem.parentElement.hidden = false;
    problem.scrollIntoView({ block: "center" });
  }
}

again.addEventListener("click", () => last());

for (const button of document.querySelectorAll("[data-person]")) {
  button.addEventListener("click", () => {
    person = button.dataset.person;
    if (button.dataset.aside === "false") {
      decide(false, "");
      return;
    }
    document.getElementById("whose").textContent = person;
    dialog.returnValue = "no";
    dialog.showModal();
  });
}

dialog.addEventListener("close", () => {
  if (dialog.returnValue === "yes") decide(true, dialog.querySelector('[name="why"]').value);
});
