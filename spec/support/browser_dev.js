// spec/support/browser_dev.js - drives Chromium over its debugging pipe through a session of
// `perilune dev`: STORY URL FOLDER [SCREENSHOTS]. Says a line for each thing it has seen; ends with
// 1 at the first one that does not come.
"use strict";
const { spawn } = require("child_process");
const fs = require("fs");
const path = require("path");
const os = require("os");

const [story, url, folder, shots] = process.argv.slice(2);
const PATIENCE_MS = 10000;

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

class Browser {
  constructor(profile) {
    this.child = spawn("chromium", [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
      "--no-first-run", "--disable-extensions", "--disable-background-networking",
      "--remote-debugging-pipe", "--window-size=1200,900", "--user-data-dir=" + profile,
      "about:blank",
    ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.waiting = new Map();
    this.last = 0;
    let text = "";
    this.child.stdio[4].on("data", (chunk) => {
      text += chunk;
      for (let end; (end = text.indexOf("\0")) >= 0; text = text.slice(end + 1)) {
        const message = JSON.parse(text.slice(0, end));
        const done = this.waiting.get(message.id);
        if (done) done(message);
        this.waiting.delete(message.id);
      }
    });
  }

  call(method, params, session) {
    const id = ++this.last;
    this.child.stdio[3].write(JSON.stringify({ id, method, params, sessionId: session }) + "\0");
    return new Promise((resolve, reject) => {
      this.waiting.set(id, (m) => (m.error ? reject(new Error(m.error.message)) : resolve(m.result)));
    });
  }

  async open() {
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.call("Target.attachToTarget", { targetId, flatten: true });
    this.session = sessionId;
    await this.call("Page.enable", {}, sessionId);
  }

  async value(expression) {
    const { result } = await this.call("Runtime.evaluate", { expression, returnByValue: true },
      this.session);
    return result.value;
  }

  async until(what, expression) {
    const due = Date.now() + PATIENCE_MS;
    while (Date.now() < due) {
      const seen = await this.value(expression).catch(() => undefined);
      if (seen) {
        console.log("ok " + what);
        return seen;
      }
      await sleep(20);
    }
    throw new Error("this did not come: " + what + "\n" + await this.value("document.documentElement.outerHTML"));
  }

  async shoot(name) {
    if (!shots) return;
    for (const scheme of ["light", "dark"]) {
      await this.call("Emulation.setEmulatedMedia",
        { features: [{ name: "prefers-color-scheme", value: scheme }] }, this.session);
      const { data } = await this.call("Page.captureScreenshot", { format: "png" }, this.session);
      fs.writeFileSync(path.join(shots, name + "-" + scheme + ".png"), Buffer.from(data, "base64"));
    }
  }
}

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
    await browser.shoot("overlay");
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
    await browser.shoot("start");
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

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "perilune-chromium-"));
const browser = new Browser(profile);
browser.open().then(() => stories[story](browser)).then(() => 0, (error) => {
  console.log("not ok " + error.message);
  return 1;
}).then(async (code) => {
  browser.child.kill("SIGKILL");
  await sleep(200);
  fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  process.exit(code);
});
