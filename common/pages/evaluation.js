"use strict";
// Sort the table of all cases by its headers, and filter it by case and region. Without this script all rows are shown.
(() => {
  const table = document.getElementById("cases");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const headers = Array.from(table.tHead.rows[0].cells);
  const order = new Intl.Collator(undefined, { numeric: true });

  const key = (row, column) => row.cells[column].textContent.trim();
  const show = () => {
    const fragment = document.createDocumentFragment();
    rows.forEach((row) => fragment.append(row));
    body.append(fragment);
  };
  const sort = (column) => {
    const header = headers[column];
    const descending = header.getAttribute("aria-sort") === "ascending";
    headers.forEach((other) => other.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const figures = header.classList.contains("figure");
    const keys = new Map(rows.map((row) => [row, figures ? Number(key(row, column)) : key(row, column)]));
    const sign = descending ? -1 : 1;
    const compare = figures ? (a, b) => a - b : order.compare;
    rows.sort((a, b) => sign * compare(keys.get(a), keys.get(b)));
    show();
  };
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", `Sort by ${header.textContent.trim()}`);
    header.append(button);  // beside the text: browsers do not repeat buttons on each printed page
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(column));
  });

  const name = document.getElementById("filter-name");
  const region = document.getElementById("filter-region");
  const count = document.getElementById("filter-count");
  const filter = () => {
    const wanted = name.value.trim().toLowerCase();
    let left = 0;
    rows.forEach((row) => {
      const hidden = !key(row, 0).toLowerCase().includes(wanted) || (region.value !== "" && key(row, 1) !== region.value);
      row.hidden = hidden;
      left += hidden ? 0 : 1;
    });
    count.textContent = `${left} of ${rows.length} rows`;
  };
  name.addEventListener("input", filter);
  region.addEventListener("change", filter);
  document.getElementById("filter").hidden = false;
  filter();
})();
