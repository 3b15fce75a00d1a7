import { ask, clock, copy, dollars, listen, paint, picture, showLink, uuid } from "./live.js";

const HISTORY = "perdure-kitchen-orders";
const KEPT = 30;
const STEPS = ["Charging card", "Paid", "Picked up", "Delivered"];

const LOST = {
  unanswered: { chip: "No answer", words: "Nobody answered, so this order may have been received or not. Send it again: it stays the same order." },
  unknown: { chip: "Not received", words: "The server has not received this order, and nothing was charged. Send it again: it stays the same order." },
};

/** This browser's orders, newest first: {id, product, at, sent, ended, status}. */
const orders = load();
const cards = new Map();      // order id -> its card
const attempts = new Map();   // order id -> Map of idempotency key -> the attempts of one call
let products = new Map();
let wait = "";
let hush = () => {};

function load() {
  try {
    return JSON.parse(localStorage.getItem(HISTORY)) ?? [];
  } catch {
    return [];
  }
}

/** What other windows of this browser have ordered meanwhile, or have got an answer to, is news here. */
function merge() {
  const mine = new Map(orders.map((order) => [order.id, order]));
  const news = load().filter((theirs) => !mine.has(theirs.id) || (theirs.sent && !mine.get(theirs.id).sent));
  for (const theirs of news) {
    if (mine.has(theirs.id)) Object.assign(mine.get(theirs.id), theirs); else orders.push(theirs);
  }
  orders.sort((one, other) => other.at - one.at).splice(KEPT);
  return news;
}

function save() {
  merge();
  localStorage.setItem(HISTORY, JSON.stringify(orders));
}

// ---- ordering ----

/** The id is made here, once for an order, and written down before it is sent: sending it again can never order twice. */
function newOrder(product) {
  const order = { id: uuid(), product, at: Date.now(), state: "sending", sent: false, ended: false, status: null };
  orders.unshift(order);
  save();
  return order;
}

async function send(order) {
  order.state = "sending";
  show(order);
  const answer = await ask("/orders", { id: order.id, product: order.product });
  order.sent = answer.status === 201 || answer.status === 409;
  order.state = order.sent ? "sent" : "unanswered";
  save();
  show(order);
  watch();   // which also finds out about an order whose answer was lost
  return answer;
}

function dish(product) {
  const card = copy("dish");
  card.dataset.product = product.id;
  card.querySelector("img").src = picture(product.id);
  card.querySelector("h3").textContent = product.name;
  card.querySelector(".price").textContent = dollars(product.cents);
  card.querySelector(".about").textContent = product.about;
  const button = card.querySelector("button"), label = card.querySelector(".label"), said = card.querySelector(".said");
  button.setAttribute("aria-label", `Order ${product.name}`);
  let order = null, isAnswered = true;
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-busy") === "true") return;
    if (isAnswered) order = newOrder(product.id);
    button.setAttribute("aria-busy", "true");
    said.textContent = "";
    label.textContent = "Ordering…";
    const answer = await send(order);
    isAnswered = answer.status === 201 || answer.status === 409;
    button.removeAttribute("aria-busy");
    said.dataset.kind = isAnswered ? "good" : "bad";
    said.textContent = isAnswered ? answer.message : `${answer.message} Try again: it is the same order, and cannot be charged twice.`;
    label.textContent = isAnswered ? "Buy again" : "Try again";
    button.setAttribute("aria-label", `${label.textContent}: ${product.name}`);
  });
  return card;
}

async function showMenu() {
  const grid = document.getElementById("products"), problem = document.getElementById("menu-problem");
  const answer = await ask("/menu");
  problem.hidden = answer.status === 200;
  if (answer.status !== 200) {
    problem.textContent = `The menu cannot be read: ${answer.message} Trying again.`;
    setTimeout(showMenu, 1000);
    return;
  }
  wait = answer.wait;
  products = new Map(answer.products.map((product) => [product.id, product]));
  grid.replaceChildren(...answer.products.map(dish));
  grid.setAttribute("aria-busy", "false");
  orders.forEach(show);
}

// ---- this browser's orders ----

function card(order) {
  const made = copy("order");
  made.dataset.id = order.id;
  made.querySelector("img").src = picture(order.product);
  const time = made.querySelector("time");
  time.dateTime = new Date(order.at).toISOString();
  time.textContent = clock(order.at);
  const code = made.querySelector(".head code");
  code.textContent = order.id.slice(0, 8);
  code.title = order.id;
  made.querySelector(".again").addEventListener("click", () => send(order.state in LOST ? order : newOrder(order.product)));
  cards.set(order.id, made);
  return made;
}

function hint(order) {
  switch (order.status?.state) {
    case "Charging card": return "Charging your card. The card company rarely answers the first time: we keep asking.";
    case "Paid": return `Waiting for a driver. If none comes within ${wait}, you get your money back.`;
    case "Picked up": return `On its way. If it is not there within ${wait}, you get your money back.`;
    case "Delivered": return `Delivered at ${clock(order.status.delivered_at)}. Enjoy your meal!`;
    case "Refunding": return "Giving your money back. We keep asking until the card company has said yes.";
    default: return "";
  }
}

function show(order) {
  const shown = cards.get(order.id) ?? card(order);
  const { state = null, problem = null } = order.status ?? {};
  const product = products.get(order.product);
  const name = product?.name ?? order.product;
  shown.querySelector("h3").textContent = name;
  shown.querySelector(".price").textContent = product ? dollars(product.cents) : "not on the menu";
  const lost = LOST[order.state];
  paint(shown.querySelector(".chip"), lost?.chip ?? state ?? "Sending");
  shown.dataset.tone = shown.querySelector(".chip").dataset.tone;
  const step = STEPS.indexOf(state), track = shown.querySelector(".track");
  track.hidden = step < 0;
  [...track.children].forEach((item, at) => {
    item.className = at < step || state === "Delivered" ? "done" : at === step ? "now" : "";
    if (at === step) item.setAttribute("aria-current", "step"); else item.removeAttribute("aria-current");
  });
  shown.querySelector(".hint").textContent = hint(order);
  const trouble = lost?.words ?? problem;
  const box = shown.querySelector(".problem");
  box.hidden = !trouble;
  if (box.textContent !== (trouble ?? "")) box.textContent = trouble ?? "";
  showMessages(shown);
  const again = shown.querySelector(".again");
  again.textContent = lost ? "Send again" : "Buy again";
  again.disabled = order.state === "sending";
  again.setAttribute("aria-label", `${again.textContent}: ${name}`);
  const list = document.getElementById("orders");
  if (!shown.isConnected) {
    const next = orders.slice(orders.indexOf(order) + 1).map((older) => cards.get(older.id)).find((older) => older?.isConnected);
    list.insertBefore(shown, next ?? null);
    while (list.children.length > KEPT) list.lastElementChild.remove();
  }
  document.getElementById("no-orders").hidden = orders.length > 0;
}

// ---- every attempt ----

function addAttempt(attempt) {
  if (!attempts.has(attempt.order_id)) attempts.set(attempt.order_id, new Map());
  const calls = attempts.get(attempt.order_id);
  if (!calls.has(attempt.key)) calls.set(attempt.key, new Map());
  calls.get(attempt.key).set(attempt.number, attempt);
  const shown = cards.get(attempt.order_id);
  if (shown) showAttempts(shown, calls);
}

function showAttempts(shown, calls) {
  const all = [...calls.values()].flatMap((call) => [...call.values()]);
  const failed = all.filter((attempt) => attempt.outcome === "nobody answered" || attempt.outcome === "answer lost").length;
  shown.querySelector(".hood").classList.add("known");
  shown.querySelector(".count").textContent = `${all.length} ${all.length === 1 ? "attempt" : "attempts"}, ${failed} failed`;
  shown.querySelector(".calls").replaceChildren(...[...calls.values()].map((call) => {
    const line = copy("call"), [first] = call.values();
    line.querySelector(".what").textContent = first.is_message ? `Push “${first.what}”` : first.what;
    line.querySelector("code").textContent = `key ${first.key.length > 20 ? `…${first.key.slice(-12)}` : first.key}`;
    line.querySelector("code").title = `Idempotency key ${first.key}: the same for every attempt`;
    line.querySelector(".dots").replaceChildren(...[...call.values()].map(dot));
    return line;
  }));
  showMessages(shown);
}

/** A message has arrived even when the answer to it was lost; its key tells a second copy from a second message. */
function showMessages(shown) {
  const calls = [...(attempts.get(shown.dataset.id)?.values() ?? [])].map((call) => [...call.values()]);
  const arrived = calls.map((call) => call.find((one) => one.is_message && one.outcome !== "nobody answered")).filter(Boolean);
  const list = shown.querySelector(".messages"), problem = shown.querySelector(".problem").textContent;
  for (const one of arrived) {
    let item = [...list.children].find((child) => child.dataset.key === one.key);
    if (!item) {
      item = document.createElement("li");
      item.dataset.key = one.key;
      item.textContent = one.what;
      list.append(item);
    }
    item.hidden = one.what === problem;   // said already, and louder
  }
}

function dot(attempt) {
  const item = document.createElement("li");
  item.className = "dot";
  item.dataset.outcome = attempt.outcome;
  item.title = `Attempt ${attempt.number}: ${attempt.outcome}`;
  item.setAttribute("aria-label", item.title);
  item.textContent = { "done": "✓", "nobody answered": "✕", "answer lost": "?", "refused": "!" }[attempt.outcome];
  return item;
}

// ---- live ----

/** One stream for all orders that may still change. A browser opens six connections to a server, so it is not one an order. */
function watch() {
  hush();
  const open = orders.filter((order) => !order.ended && order.state !== "sending");
  const address = `/orders/watch?${new URLSearchParams(open.map((order) => ["id", order.id]))}`;
  const known = (handle) => (event) => {
    const order = orders.find((one) => one.id === event.id);
    if (order) { handle(order, event); save(); show(order); }
  };
  hush = listen(address, {
    status: known((order, event) => { order.status = event.status; order.state = "sent"; order.sent = true; }),
    ended: known((order) => { order.ended = true; }),
    unknown: known((order) => { order.state = "unknown"; }),
    attempt: addAttempt,
  }, showLink);
}

addEventListener("storage", () => {
  if (merge().length) {
    orders.forEach(show);
    watch();
  }
});

orders.forEach((order) => { order.state = "sent"; order.ended = false; });   // ask again about all: a status can be read for ever
document.getElementById("no-orders").hidden = orders.length > 0;
orders.forEach(show);
watch();
showMenu();
