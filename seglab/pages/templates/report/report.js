"use strict";
for (const wall of document.querySelectorAll(".wall")) {  // which samples are shown, and how
  const kinds = [...wall.querySelectorAll("[data-kind]")], samples = [...wall.querySelectorAll(".sample")];
  const show = kind => {
    for (const s of samples) s.hidden = kind !== "" && !s.dataset.kinds.split(" ").includes(kind);
    for (const b of kinds) b.setAttribute("aria-pressed", b.dataset.kind === kind);
    wall.querySelector(".none").hidden = samples.some(s => !s.hidden);
  };
  for (const b of kinds) b.addEventListener("click", () => show(b.dataset.kind));
  for (const b of wall.querySelectorAll("[data-switch]")) b.addEventListener("click", () => {
    b.setAttribute("aria-pressed", wall.classList.toggle(b.dataset.switch));
  });
  for (const b of wall.querySelectorAll(".map")) b.addEventListener("click", () => {
    b.setAttribute("aria-pressed", b.getAttribute("aria-pressed") !== "true");
  });
}
const tip = document.getElementById("tip");
const told = value => value === null ? "–" : Number(value.toPrecision(4)).toString();
for (const chart of document.querySelectorAll("svg[data-lines]")) {  // every value at the nearest epoch
  const data = JSON.parse(chart.dataset.lines), here = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const [, , width, height] = chart.getAttribute("viewBox").split(" ").map(Number);
  for (const [k, v] of Object.entries({class: "here", y1: 10, y2: height - 30})) here.setAttribute(k, v);
  const hide = () => { tip.hidden = true; here.remove(); };
  const read = event => {
    const box = chart.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * width;
    if (!data.at.length) return;
    let i = 0;
    data.at.forEach((at, j) => { if (Math.abs(at - x) < Math.abs(data.at[i] - x)) i = j; });
    here.setAttribute("x1", data.at[i]); here.setAttribute("x2", data.at[i]);
    chart.append(here);
    tip.replaceChildren(`${data.name} ${data.x[i]}`);
    for (const line of data.lines) {
      if (line.y[i] === undefined || line.y[i] === null) continue;
      const row = document.createElement("div"), color = document.createElement("i");
      color.style.background = `var(--s${line.color})`;
      row.append(color, `${line.name}: ${told(line.y[i])}`);
      tip.append(row);
    }
    tip.hidden = false;
    const left = event.clientX + 14 + tip.offsetWidth > innerWidth ? event.clientX - 14 - tip.offsetWidth : event.clientX + 14;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 4))}px`;
  };
  chart.addEventListener("pointermove", read);
  chart.addEventListener("pointerdown", read);
  chart.addEventListener("pointerleave", hide);
  addEventListener("scroll", hide, {passive: true});
}
