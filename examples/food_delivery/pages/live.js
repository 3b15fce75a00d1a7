// What both pages share: asking the server, and listening to it.

export const TONES = {
  "Charging card": "amber", "Paid": "blue", "Picked up": "violet", "Delivered": "green", "Refunding": "orange", "Failed": "red",
};

export const dollars = (cents) => `$${(cents / 100).toFixed(cents % 100 ? 2 : 0)}`;
export const clock = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
export const copy = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);
export const picture = (product) => `/pages/${encodeURIComponent(product)}.svg`;

/** A random UUID, also where the page is not served from localhost or by https and `crypto.randomUUID` is missing. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** Ask. The answer is {status, ...what the server said}; without an answer the status is 0. */
export async function ask(path, body) {
  const request = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  try {
    const response = await fetch(path, { ...request, signal: AbortSignal.timeout(20000) });
    return { ...(await response.json()), status: response.status };
  } catch {
    return { status: 0, message: "The server does not answer." };
  }
}

/**
 * Listen to server-sent events for as long as the page lives, or until the returned function is called. When the connection is lost
 * it is made again, and the server begins with everything as it is now: no event has to be remembered on either side.
 */
export function listen(path, handlers, onLink) {
  let source, timer;
  const open = () => {
    source = new EventSource(path);
    source.onopen = () => onLink(true);
    source.onerror = () => {
      source.close();
      onLink(false);
      timer = setTimeout(open, 1000);
    };
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    }
  };
  open();
  return () => {
    source.close();
    clearTimeout(timer);
  };
}

/** Show in the header whether the page is live. */
export function showLink(isLive) {
  const link = document.getElementById("link");
  link.dataset.link = isLive ? "live" : "lost";
  link.textContent = isLive ? "Live" : "Reconnecting";
}

/** Show a state: its words, and its colour. */
export function paint(element, state) {
  if (element.textContent !== state) element.textContent = state;
  element.dataset.tone = TONES[state] ?? "grey";
}

// What is not on the menu has no picture.
addEventListener("error", ({ target }) => {
  if (target instanceof HTMLImageElement && !target.src.endsWith("/icon.svg")) target.src = "/pages/icon.svg";
}, true);
