// Look: a change of a filter shows at once; N goes to the next page.

const form = document.getElementById("filters");
form.addEventListener("submit", () => {
  for (const field of form.elements) if (!field.value) field.disabled = true; // a short address
});
form.addEventListener("change", (event) => {
  if (event.target.matches("select, [type=checkbox]")) form.requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "n" && !event.target.closest("input, select")) document.getElementById("next")?.click();
});
window.addEventListener("pageshow", () => {
  for (const field of form.elements) field.disabled = false;
});
