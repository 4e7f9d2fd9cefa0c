// Charts are drawn and films loaded when they come into sight: a page of many stays light.
const specs = JSON.parse(document.getElementById("specs").textContent);
const theme = {
  background: "transparent", font: "system-ui, 'Liberation Sans', sans-serif",
  view: {stroke: null},
  axis: {labelColor: "var(--soft)", titleColor: "var(--soft)", titleFontWeight: "normal", gridColor: "var(--line)",
         domainColor: "var(--line)", tickColor: "var(--line)"},
  legend: {labelColor: "var(--fore)", titleColor: "var(--fore)"},
  text: {color: "var(--fore)"},
};

function fitted(spec, width) {
  const copy = structuredClone(spec);
  if (width > 520) return copy;
  const room = Math.round(width / 3);  // names beside a plot may take a third of a phone
  if (copy.padding && copy.padding.right > room) copy.padding.right = room;
  for (const layer of copy.layer ?? []) {
    if (layer.mark?.limit) layer.mark.limit = Math.min(layer.mark.limit, room - 22);
    const axis = layer.encoding?.y?.axis;
    if (axis?.labelLimit) axis.labelLimit = Math.min(axis.labelLimit, room);
  }
  return copy;
}

async function draw(place) {
  const spec = fitted(specs[place.dataset.chart], place.clientWidth);
  await vegaEmbed(place, spec, {actions: false, renderer: "svg", config: theme});
  place.dataset.drawn = "yes";
}

const charts = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    charts.unobserve(entry.target);
    draw(entry.target);
  }
}, {rootMargin: "300px"});
document.querySelectorAll(".chart").forEach((place) => charts.observe(place));

// films: those in sight play; of many the others are dropped, since browsers allow a number of players only
const many = document.querySelectorAll("video").length > 60;
let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
const films = new IntersectionObserver((entries) => {
  for (const {target: film, isIntersecting: seen} of entries) {
    if (seen && !film.src) film.src = "data:video/mp4;base64," + film.dataset.film;
    film.dataset.seen = seen ? "yes" : "";
    if (seen && playing) film.play().catch(() => {});
    else film.pause();
    if (many && !seen && film.src) { film.removeAttribute("src"); film.load(); }
  }
}, {rootMargin: "100px"});
document.querySelectorAll("video").forEach((film) => {
  films.observe(film);
  const turn = () => film.paused ? film.play() : film.pause();
  film.addEventListener("click", turn);
  film.addEventListener("keydown", (event) => {
    if (event.key === " " || event.key === "Enter") { event.preventDefault(); turn(); }
  });
});
const play = document.getElementById("play");
function tell() { if (play) { play.textContent = playing ? "Pause all" : "Play all"; play.setAttribute("aria-pressed", String(playing)); } }
play?.addEventListener("click", () => {
  playing = !playing;
  document.querySelectorAll("video[data-seen=yes]").forEach((film) => playing ? film.play().catch(() => {}) : film.pause());
  tell();
});
tell();

// tables
document.querySelectorAll("table.sortable").forEach((table) => {
  table.querySelectorAll("thead th").forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const now = head.getAttribute("aria-sort");
      const down = now ? now === "ascending" : numeric;
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => { const cell = row.cells[column]; return cell.dataset.value ?? cell.textContent; };
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");  // unknown ones stay last
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
});
document.getElementById("filter")?.addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/);
  for (const row of document.querySelector("#results tbody").rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
});

// evaluations, commands, colours
const details = [...document.querySelectorAll(".detail")];
document.getElementById("chosen")?.addEventListener("change", (event) => {
  details.forEach((one, number) => { one.hidden = number !== Number(event.target.value); });
});
document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", async () => {
  const code = button.parentElement.querySelector("code");
  try { await navigator.clipboard.writeText(code.textContent); button.textContent = "Copied"; }
  catch { getSelection().selectAllChildren(code); }  // a page from disk may not write to the clipboard
}));
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  root.dataset.theme = dark ? "light" : "dark";
});
document.documentElement.dataset.ready = "yes";
