"use strict";
// Tables: sorting by column, filtering, rows beyond the first ones on demand, and the table as CSV.
(() => {
  const SHOWN = 12, FILTERED = 8;
  const key = (cell) => (cell.dataset.v === undefined ? Number.NaN : Number(cell.dataset.v));
  const number = (cell) => { const found = key(cell); return Number.isNaN(found) ? Number.parseFloat(cell.textContent.replace(/,/g, "").replace("−", "-")) : found; };
  const rowsOf = (table) => [...table.tBodies[0].rows];

  const fold = (table) => rowsOf(table).forEach((row, at) => row.classList.toggle("beyond", at >= SHOWN));

  const sort = (table, column, head) => {
    const down = head.getAttribute("aria-sort") !== "descending";
    const sign = down ? -1 : 1;
    const rows = rowsOf(table).map((row, at) => ({ row, at, value: number(row.cells[column]), text: row.cells[column].textContent.trim() }));
    const numeric = head.classList.contains("number") || rows.every(({ value, text }) => !Number.isNaN(value) || text === "" || text === "–");
    rows.sort((a, b) => {
      if (!numeric) return sign * a.text.localeCompare(b.text, undefined, { numeric: true }) || a.at - b.at;
      const [one, two] = [Number.isNaN(a.value), Number.isNaN(b.value)];
      return one || two ? one - two || a.at - b.at : sign * (a.value - b.value) || a.at - b.at;
    });
    table.tBodies[0].append(...rows.map(({ row }) => row));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    fold(table);
  };

  const filter = (table, text) => {
    const wanted = text.trim().toLowerCase();
    table.classList.toggle("filtered", wanted !== "");
    for (const row of rowsOf(table)) row.classList.toggle("unmatched", wanted !== "" && !row.textContent.toLowerCase().includes(wanted));
  };

  // A cell that a spreadsheet would take for a formula is marked as text.
  const plain = (text) => (/^[=+@\t]|^-(?!\d)/.test(text) ? `'${text}` : text);
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  const heading = (head) => (head.querySelector("button") ?? head).textContent.trim() + (head.dataset.unit ? ` (${head.dataset.unit})` : "");
  const csv = (table) => {
    const cells = (row) => [...row.cells].map((cell) => cell.dataset.v ?? plain(cell.textContent.trim()));
    const lines = [[...table.tHead.rows[0].cells].map(heading), ...rowsOf(table).filter((row) => !row.classList.contains("unmatched")).map(cells)];
    return lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
  };

  const button = (text, act) => {
    const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    made.addEventListener("click", act);
    return made;
  };
  const save = (text, name) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  for (const table of document.querySelectorAll("main table")) {
    const rows = rowsOf(table), tools = Object.assign(document.createElement("div"), { className: "tools" });
    if (rows.length > 1) [...table.tHead.rows[0].cells].forEach((head, column) => {
      const text = head.firstChild?.nodeType === Node.TEXT_NODE ? head.firstChild : null;
      if (!text?.data.trim()) return;
      const by = button(text.data, () => sort(table, column, head));
      head.replaceChild(by, text);
    });
    if (rows.length > FILTERED) {
      const field = Object.assign(document.createElement("input"), { type: "search", placeholder: "filter" });
      field.setAttribute("aria-label", `filter ${table.dataset.title}`);
      field.addEventListener("input", () => filter(table, field.value));
      tools.append(field);
    }
    if (rows.length > SHOWN) {
      const all = button(`show all ${rows.length} rows`, () => {
        const whole = table.classList.toggle("whole");
        all.textContent = whole ? `show ${SHOWN} rows` : `show all ${rows.length} rows`;
        all.setAttribute("aria-expanded", String(whole));
      });
      all.setAttribute("aria-expanded", "false");
      tools.append(all);
    }
    if (!table.closest("section")?.id.startsWith("tables") && !table.closest(".answers")) tools.append(button("CSV", () => save(csv(table), `${table.id}.csv`)));
    fold(table);
    if (!tools.childElementCount) continue;
    const title = table.closest(".scroll").previousElementSibling;
    if (title?.tagName === "H3") title.append(tools);
    else table.closest(".scroll").after(tools);
  }
})();
