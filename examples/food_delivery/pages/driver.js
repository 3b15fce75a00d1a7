import { ask, clock, copy, listen, paint, picture, showLink } from "./live.js";

const COUNTS_WHILE = { "picked-up": "Paid", "delivered": "Picked up" };
const OPEN = ["Charging card", "Paid", "Picked up"];
const WORDS = { "Refunding": "Too late: the customer gets the money back", "Failed": "Nothing to do" };

const rows = new Map();      // order id -> its row
const rowsBody = document.getElementById("rows"), note = document.getElementById("note");
let names = new Map();

function say(which, why = "") {
  if (note.firstElementChild?.dataset.note === which && (note.querySelector(".why")?.textContent ?? "") === why) return;
  note.replaceChildren(...(which ? [copy(which)] : []));
  if (which === "error") note.querySelector(".why").textContent = why;
}

let fading;
function toast(words) {
  const box = document.getElementById("toast");
  box.textContent = words;
  box.classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => box.classList.remove("shown"), 5000);
}

/** The page sends every click, and the workflow decides whether it counts: only it knows the state for sure. */
async function act(id, what, button) {
  const state = rows.get(id).dataset.state;
  button.setAttribute("aria-busy", "true");
  const answer = await ask(`/orders/${encodeURIComponent(id)}/${what}`, {});
  button.removeAttribute("aria-busy");
  if (answer.status !== 202) toast(answer.message);
  else if (state !== COUNTS_WHILE[what]) toast(`Ignored: that counts only while the order is “${COUNTS_WHILE[what]}”.`);
}

function make(id) {
  const row = copy("row");
  row.dataset.id = id;
  row.querySelector("code").textContent = id.slice(0, 8);
  row.querySelector("code").title = id;
  row.querySelectorAll("button").forEach((button) => button.addEventListener("click", () => act(id, button.dataset.act, button)));
  rows.set(id, row);
  return row;
}

function show({ id, status }) {
  const row = rows.get(id) ?? make(id);
  const name = names.get(status.product) ?? status.product;
  if (row.dataset.product !== status.product) row.querySelector("img").src = picture(status.product);
  row.dataset.product = status.product;
  row.dataset.state = status.state;
  row.querySelector("strong").textContent = name;
  paint(row.querySelector(".chip"), status.state);
  const isOpen = OPEN.includes(status.state);
  row.querySelectorAll("button").forEach((button) => {
    button.hidden = !isOpen;
    button.classList.toggle("plain", COUNTS_WHILE[button.dataset.act] !== status.state);
    button.setAttribute("aria-label", `${button.textContent}: ${name}, order ${id.slice(0, 8)}`);
  });
  row.querySelector(".actions .quiet").textContent = isOpen ? "" : status.delivered_at ? `Delivered at ${clock(status.delivered_at)}` : WORDS[status.state] ?? "";
  return row;
}

function board({ orders, problem }) {
  if (problem) return say("error", problem);
  const shown = orders.map(show), kept = new Set(orders.map((order) => order.id));
  for (const [id, row] of rows) {
    if (!kept.has(id)) { row.remove(); rows.delete(id); }
  }
  shown.forEach((row, at) => { if (rowsBody.children[at] !== row) rowsBody.insertBefore(row, rowsBody.children[at] ?? null); });
  say(orders.length ? "" : "empty");
  const open = orders.filter((order) => OPEN.includes(order.status.state)).length;  // an order that was delivered stays on the board for a while
  document.getElementById("count").textContent = open ? `${open} open ${open === 1 ? "order" : "orders"}` : "";
}

say("loading");
listen("/board/watch", { board }, (isLive) => {
  showLink(isLive);
  document.querySelector(".board").classList.toggle("stale", !isLive);
  if (!isLive) say("error", "The server does not answer.");
});
ask("/menu").then((answer) => {
  names = new Map((answer.products ?? []).map((product) => [product.id, product.name]));
  for (const row of rows.values()) row.querySelector("strong").textContent = names.get(row.dataset.product) ?? row.dataset.product;
});
