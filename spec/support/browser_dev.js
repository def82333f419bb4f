// spec/support/browser_dev.js - drives Chromium over its debugging pipe through a session of
// `perilune dev`: URL FOLDER [SCREENSHOTS]. Says a line for each thing it has seen; ends with 1 at
// the first one that does not come.
"use strict";
const { spawn } = require("child_process");
const fs = require("fs");
const path = require("path");
const os = require("os");

const [url, folder, shots] = process.argv.slice(2);
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

function app(body) {
  return 'local P = require "perilune"\nlocal app = P.app {}\n'
    + "app:get(\"/\", function(c) return c:html([[<!doctype html><title>t</title><h1>" + body
    + "</h1>]]) end)\nreturn app\n";
}

// Waits until the page is that one, for whoever asks.
async function served(text) {
  for (const due = Date.now() + PATIENCE_MS; Date.now() < due; await sleep(20)) {
    const body = await fetch(url).then((reply) => reply.text(), () => "");
    if (body.includes(text)) return;
  }
  throw new Error(text + " was never served");
}

function save(text) {
  fs.writeFileSync(path.join(folder, "app.lua.new"), text);
  fs.renameSync(path.join(folder, "app.lua.new"), path.join(folder, "app.lua"));
}

async function main(browser) {
  await browser.open();
  save(app("one"));
  await served("<h1>one</h1>");
  await browser.call("Page.navigate", { url }, browser.session);
  await browser.until("the page", "document.querySelector('h1').textContent === 'one'");
  await browser.until("the script", "window.perilune_dev === true");
  await sleep(200);
  save(app("two"));
  await browser.until("the page again after a reload",
    "document.querySelector('h1').textContent === 'two'");
  await sleep(200);
  save(app("three").replace("return app", "local x = nil\nlocal y = x.nothing['<b>&']\nreturn app"));
  await browser.until("the overlay with the place", SHOWN + ".includes('app.lua:5')");
  await browser.until("the message", SHOWN + ".includes(\"attempt to index local 'x'\")");
  await browser.until("the lines as text", SHOWN + ".includes(\"x.nothing['<b>&']\")");
  await browser.until("the last good page below it",
    "document.querySelector('h1').textContent === 'two'");
  await browser.shoot("overlay");
  save(app("four"));
  await browser.until("the mended page", "document.querySelector('h1').textContent === 'four'");
  await browser.until("no overlay any more", "!" + OVERLAY);
}

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "perilune-chromium-"));
const browser = new Browser(profile);
main(browser).then(() => 0, (error) => {
  console.log("not ok " + error.message);
  return 1;
}).then(async (code) => {
  browser.child.kill("SIGKILL");
  await sleep(200);
  fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  process.exit(code);
});
