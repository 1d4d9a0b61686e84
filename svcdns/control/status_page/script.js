"use strict";
// Replaces the part of the page that changes, every two seconds, and draws the rates of the last five minutes.
const main = document.getElementById("live");
const rates = [];
const KEPT = 150;

function draw() {
  const chart = document.getElementById("rates");
  if (!chart) return;
  const shown = main.firstElementChild.dataset.rate;
  if (shown !== "") rates.push(Number(shown));
  if (rates.length > KEPT) rates.shift();
  const most = Math.max(1, ...rates);
  const points = rates.map((rate, at) => `${(at * 600) / (KEPT - 1)},${100 - (rate / most) * 96}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("class", "line");
  line.setAttribute("points", points.join(" "));
  chart.replaceChildren(line);
  if (rates.length) document.getElementById("most").textContent = `At most ${Math.round(most)} queries a second.`;
}

async function update() {
  try {
    const response = await fetch("live", { cache: "no-store" });
    if (!response.ok) throw new Error(String(response.status));
    main.innerHTML = await response.text();
    document.body.dataset.stale = "no";
    document.getElementById("contact").textContent = "";
    draw();
  } catch {
    document.body.dataset.stale = "yes";
    document.getElementById("contact").textContent = "No contact with the server: these are old figures.";
  }
  setTimeout(update, 2000);
}

draw();
setTimeout(update, 1000);

const form = document.querySelector("form");
if (form) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const out = document.getElementById("explanation");
    out.textContent = "…";
    const response = await fetch("explanation?" + new URLSearchParams(new FormData(form)), { cache: "no-store" });
    out.textContent = await response.text();
  });
}
