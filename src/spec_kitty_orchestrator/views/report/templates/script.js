"use strict";
(() => {
  const all = (query, root) => [...(root || document).querySelectorAll(query)];
  for (const one of all(".tools")) one.hidden = false;
  for (const box of all(".cmd")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", () => {
      const text = box.querySelector("pre").textContent;
      const said = (word) => { button.textContent = word; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
      const select = () => { getSelection().selectAllChildren(box.querySelector("pre")); said("Selected"); };
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => said("Copied"), select);
      else select();
    });
    box.append(button);
  }
  const value = (row, at) => {
    const cell = row.cells[at];
    return cell.dataset.v === undefined ? cell.textContent.trim() : Number(cell.dataset.v);
  };
  for (const table of all("table.sort")) {
    const body = table.tBodies[0];
    all("th", table).forEach((head, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        for (const other of all("th", table)) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => [value(row, at), row]);
        rows.sort((a, b) => way * (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
        body.append(...rows.map((pair) => pair[1]));
      });
    });
  }
  const filter = document.getElementById("filter");
  const chain = document.getElementById("only");
  const told = (row) => {
    const [label, bars, took] = row.children;
    const agents = all("rect title", bars).map((one) => one.textContent);
    return [label.textContent, label.firstElementChild.className.replaceAll("-", " "), ...agents, took.textContent].join(" ").toLowerCase();
  };
  const show = () => {
    const word = filter.value.trim().toLowerCase();
    for (const row of all(".wps .row:not(.under)")) {
      const fits = told(row).includes(word);
      row.hidden = !fits || (chain.checked && !row.classList.contains("on"));
    }
  };
  if (filter) {
    filter.addEventListener("input", show);
    chain.addEventListener("change", show);
  }
  const every = all("details");
  const opener = document.getElementById("open");
  if (opener) opener.addEventListener("click", () => {
    const open = opener.textContent === "Open all";
    for (const one of all("details.wp")) one.open = open;
    opener.textContent = open ? "Close all" : "Open all";
  });
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", reveal);
  addEventListener("beforeprint", () => { for (const one of every) one.open = true; });
  reveal();
})();
