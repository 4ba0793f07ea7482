"""The part of a page that shows one candidate, with its arch file to download, when its point is selected."""

PICKED = '<section id="picked" hidden></section>'
"""Filled by ``SCRIPT``, which reads the element "candidates" (:func:`search.report.subnet_table.for_scripts`)."""

SCRIPT = """
const candidates = JSON.parse(document.getElementById("candidates").textContent);
function save(name) {
  const text = JSON.stringify(candidates[name].arch, null, 2) + "\\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  link.download = "arch_" + name.replace(/[^\\w.-]+/g, "_") + ".json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
function element(tag, text, onclick) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (onclick) made.addEventListener("click", onclick);
  return made;
}
function pick(name) {
  const panel = document.getElementById("picked"), candidate = candidates[name];
  if (!candidate) return;
  panel.replaceChildren();
  const drawing = document.createElement("div");
  drawing.innerHTML = candidate.drawing;
  panel.append(element("h2", name + ": " + candidate.title), drawing);
  for (const fact of candidate.facts) panel.append(element("div", fact));
  const row = document.createElement("p");
  row.append(element("button", "download its arch file", () => save(name)), " ",
    element("button", "close", () => { panel.hidden = true; }));
  panel.append(row);
  panel.hidden = false;
}
for (const button of document.querySelectorAll("[data-save]"))
  button.addEventListener("click", () => save(button.dataset.save));
for (const plot of document.querySelectorAll(".js-plotly-plot"))
  plot.on("plotly_click", event => { if (event.points[0].id) pick(event.points[0].id); });
"""
