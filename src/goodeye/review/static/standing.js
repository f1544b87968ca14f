// Standing: setting a person's votes aside, and counting them again.

import { call } from "./desk.js";

const dialog = document.getElementById("why");
let person = "";

async function decide(aside, why) {
  await call("/api/aside", { person, aside, why });
  location.reload();
}

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
