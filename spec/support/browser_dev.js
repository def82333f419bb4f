// spec/support/browser_dev.js - drives Chromium over its debugging pipe through a session of
// `perilune dev`: STORY URL FOLDER [SCREENSHOTS]. Says a line for each thing it has seen; ends with
// 1 at the first one that does not come.
"use strict";
const fs = require("fs");
const path = require("path");
const { PATIENCE_MS, sleep, tell } = require("./browser");

const [story, url, folder, shots] = process.argv.slice(2);
const OVERLAY = "document.getElementById('perilune-overlay')";
const SHOWN = OVERLAY + " && " + OVERLAY + ".shadowRoot.textContent";

function app(body, more) {
  return 'local P = require "perilune"\nlocal app = P.app {}\n' + (more || "")
    + "app:get(\"/\", function(c) return c:html([[<!doctype html><title>t</title>"
    + "<link rel=stylesheet href=/style.css><h1>" + body + "</h1>]]) end)\n"
    + "app:get(\"/style.css\", function(c) return c:file(\"style.css\") end)\nreturn app\n";
}

// Waits until the page is that one, for whoever asks.
async function served(text) {
  for (const due = Date.now() + PATIENCE_MS; Date.now() < due; await sleep(20)) {
    const body = await fetch(url).then((reply) => reply.text(), () => "");
    if (body.includes(text)) return;
  }
  throw new Error(text + " was never served");
}

function save(text, name = "app.lua") {
  fs.writeFileSync(path.join(folder, name + ".new"), text);
  fs.renameSync(path.join(folder, name + ".new"), path.join(folder, name));
}

const BROKEN = "local x = nil\nlocal y = x.nothing['<img src=x onerror=alert(1)>&']\n";

function heading(text) {
  return "document.querySelector('h1') && document.querySelector('h1').textContent === '" + text + "'";
}

async function visit(browser, text) {
  await served("<h1>" + text + "</h1>");
  await browser.call("Page.navigate", { url }, browser.session);
  await browser.until("the page", heading(text));
  await browser.until("the script", "window.perilune_dev === true");
}

const stories = {
  // From good to broken and back.
  async errors(browser) {
    save(app("one"));
    await visit(browser, "one");
    save(app("two"));
    await browser.until("the page again after a reload", heading("two"));
    save(app("three", BROKEN));
    await browser.until("the overlay with the place", SHOWN + ".includes('app.lua:4')");
    await browser.until("the message", SHOWN + ".includes(\"attempt to index local 'x'\")");
    await browser.until("the lines as text", SHOWN + ".includes(\"x.nothing['<img src=x\")");
    await browser.until("no element made of it", "!" + OVERLAY + ".shadowRoot.querySelector('img')");
    await browser.until("the traceback", SHOWN + ".includes('in main chunk')");
    await browser.until("the last good page below it", heading("two"));
    await browser.shoot(shots, "overlay");
    await browser.value(OVERLAY + ".shadowRoot.querySelector('button').click()");
    await browser.until("that it can be closed", "!" + OVERLAY);
    save(app("three", "error('another one')\n"));
    await browser.until("the next error", SHOWN + ".includes('another one')");
    save(app("four"));
    await browser.until("the mended page", heading("four"));
    await browser.until("no overlay any more", "!" + OVERLAY);
    save(app("four", BROKEN));
    await browser.until("the overlay once more", SHOWN + ".includes('app.lua:4')");
    await browser.value("window.stays = true");
    await browser.call("Page.navigate", { url }, browser.session);
    await browser.until("it also over a page that comes later", "!window.stays && " + SHOWN
      + ".includes('app.lua:4')");
    save(app("four"));
    await browser.until("it go", "!" + OVERLAY);
  },

  // Style sheets change in the page that is there.
  async styles(browser) {
    save("h1 { color: rgb(1, 2, 3) }", "style.css");
    save(app("one"));
    await visit(browser, "one");
    const colour = "getComputedStyle(document.querySelector('h1')).color";
    await browser.until("the style", colour + " === 'rgb(1, 2, 3)'");
    await browser.value("window.stays = true");
    save("h1 { color: rgb(4, 5, 6) }", "style.css");
    await browser.until("the style swapped", colour + " === 'rgb(4, 5, 6)'");
    await browser.until("the page that was there", "window.stays === true");
    save("// a script", "script.js");
    await browser.until("the page again for other files", "!window.stays && " + heading("one"));
  },

  // An app that does not load at first.
  async start(browser) {
    await browser.call("Page.navigate", { url }, browser.session);
    await browser.until("the error as a page", heading("The app does not load"));
    await browser.until("the overlay over it", SHOWN + ".includes('Nothing is served until')");
    await browser.value("window.stays = true");
    await sleep(1000);
    await browser.until("that it does not load again and again", "window.stays === true");
    await browser.shoot(shots, "start");
    save(app("mended"));
    await browser.until("the app", heading("mended"));
    await browser.until("no overlay", "!" + OVERLAY);
  },

  // The server goes, and comes back.
  async restart(browser) {
    save(app("one"));
    await visit(browser, "one");
    await browser.value("window.stays = true");
    await browser.until("the page again with the next server", "!window.stays && "
      + heading("one"));
  },

  // Pages that nobody sees.
  async hidden(browser) {
    save(app("one"));
    await visit(browser, "one");
    const hide = (hidden) => browser.value("Object.defineProperty(document, 'hidden', "
      + "{ value: " + hidden + ", configurable: true }); "
      + "document.dispatchEvent(new Event('visibilitychange'))");
    await browser.value("window.stays = true");
    await hide(true);
    save(app("two"));
    await served("<h1>two</h1>");
    await sleep(300);
    await browser.until("the page as it was", "window.stays && " + heading("one"));
    await hide(false);
    await browser.until("the page again once it is seen", heading("two"));
  },
};

tell(stories[story]);
