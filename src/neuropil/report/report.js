// Everything on the page can be read without this: it sorts tables, highlights one method, and shows titles on a tap.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  const value = (row, column) => {
    const cell = row.cells[column], text = cell.dataset.value ?? cell.textContent.trim().replace("−", "-");
    const number = parseFloat(text.replaceAll(",", ""));
    return text !== "" && !Number.isNaN(number) ? number : text;
  };
  const compare = (a, b) => {
    if (a === "" || b === "" || a === "–" || b === "–") return (a === "" || a === "–") - (b === "" || b === "–");
    if (typeof a === typeof b && typeof a === "number") return a - b;
    return String(a).localeCompare(String(b), "en");
  };
  const sort = (head, descending) => {
    const table = head.closest("table"), body = table.tBodies[0];
    const sign = descending ? -1 : 1, empty = one => one === "" || one === "–";
    const rows = [...body.rows].map((row, place) => ({ row, place, key: value(row, head.cellIndex) }));
    rows.sort((a, b) => (empty(a.key) || empty(b.key) ? 1 : sign) * compare(a.key, b.key) || a.place - b.place);
    body.append(...rows.map(one => one.row));
    all("th", table.tHead).forEach(one => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  };
  all("table.sortable thead th").forEach(head => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.title = "sort by this column";
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort"), body = head.closest("table").tBodies[0];
      const numbers = [...body.rows].some(row => typeof value(row, head.cellIndex) === "number");
      sort(head, before ? before === "ascending" : numbers);  // largest number first, names by the alphabet
    });
  });

  let held = null;
  const light = series => all("[data-series]").forEach(one => {
    one.classList.toggle("dim", series !== null && one.dataset.series !== series);
    one.classList.toggle("lit", series !== null && one.dataset.series === series);
  });
  const seriesAt = target => target.closest?.("[data-series]")?.dataset.series || null;
  all(".legend li[data-series]").forEach(one => {
    const button = document.createElement("button");
    button.append(...one.childNodes);
    button.setAttribute("aria-pressed", "false");
    one.append(button);
    button.addEventListener("click", () => {
      held = held === one.dataset.series ? null : one.dataset.series;
      light(held);
      all(".legend li[data-series]").forEach(other =>
        other.firstChild.setAttribute("aria-pressed", String(other.dataset.series === held)));
    });
  });
  document.addEventListener("pointerover", event => light(held ?? seriesAt(event.target)));

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  document.body.append(tip);
  document.addEventListener("click", event => {
    const one = event.target, text = one.matches?.("abbr") ? one.title : one.querySelector?.(":scope > title")?.textContent;
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    tip.style.left = `${Math.max(8, Math.min(event.clientX, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
  });
})();
