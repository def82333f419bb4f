// spec/support/browser.js - Chromium over its debugging pipe, for the stories that specs have it go through.
"use strict";
const { spawn } = require("child_process");
const fs = require("fs");
const path = require("path");
const os = require("os");

const PATIENCE_MS = 10000;

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

class Browser {
  constructor(profile) {
    this.child = spawn("chromium", [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
      "--no-first-run", "--disable-extensions", "--disable-background-networking",
      "--remote-debugging-pipe", "--window-size=1200,900", "--hide-scrollbars",
      "--user-data-dir=" + profile,
      "about:blank",
    ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.waiting = new Map();
    this.last = 0;
    this.seen = () => {}; // gets what the browser tells by itself: (method, params)
    let text = "";
    this.child.stdio[4].on("data", (chunk) => {
      text += chunk;
      for (let end; (end = text.indexOf("\0")) >= 0; text = text.slice(end + 1)) {
        const message = JSON.parse(text.slice(0, end));
        if (message.method) this.seen(message.method, message.params);
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

  async shoot(shots, name) {
    if (!shots) return;
    for (const scheme of ["light", "dark"]) {
      await this.call("Emulation.setEmulatedMedia",
        { features: [{ name: "prefers-color-scheme", value: scheme }] }, this.session);
      const { data } = await this.call("Page.captureScreenshot", { format: "png" }, this.session);
      fs.writeFileSync(path.join(shots, name + "-" + scheme + ".png"), Buffer.from(data, "base64"));
    }
  }
}

// Goes through a story in a new browser, and ends the process: with 1 at the first thing that does not
// come.
function tell(story) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "perilune-chromium-"));
  const browser = new Browser(profile);
  browser.open().then(() => story(browser)).then(() => 0, (error) => {
    console.log("not ok " + error.message);
    return 1;
  }).then(async (code) => {
    browser.child.kill("SIGKILL");
    await sleep(200);
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    process.exit(code);
  });
}

module.exports = { PATIENCE_MS, sleep, tell };
