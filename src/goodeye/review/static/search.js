// Search: a picture to search by is chosen, dropped on the page or pasted; the server checks it and makes it anew.

const token = document.querySelector('meta[name="form-token"]').content;
const form = document.getElementById("search");
const problem = document.getElementById("problem");

async function send(file) {
  problem.textContent = "Looking …";
  try {
    const headers = { "content-type": "application/octet-stream", "x-form-token": token };
    const response = await fetch("/api/picture", { method: "POST", headers, body: file });
    const said = response.headers.get("content-type") === "application/json" ? await response.json() : {};
    if (!response.ok) throw new Error(said.detail || "The picture was not taken. Send a smaller one.");
    const given = new URLSearchParams({ like: said.like });
    for (const name of ["not", "taste"]) if (form.elements[name]?.value) given.set(name, form.elements[name].value);
    location.assign(`/look/search?${given}`);
  } catch (error) {
    problem.textContent = error instanceof TypeError ? "The server cannot be reached." : error.message;
  }
}

document.getElementById("picture").addEventListener("change", (event) => {
  if (event.target.files[0]) send(event.target.files[0]);
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files[0]) send(event.clipboardData.files[0]);
});
