// spec/support/browser_dashboard.js - drives Chromium through the admin plane's page: STORY PAGE APP
// [SCREENSHOTS]. Says a line for each thing it has seen; ends with 1 at the first one that does not come.
"use strict";
const { sleep, tell } = require("./browser");

const [story, page, app, shots] = process.argv.slice(2);
const origin = new URL(page).origin;

const text = (id) => "document.getElementById('" + id + "').textContent";

// Everything that the page asks for, and everything that it complains of.
async function watch(browser) {
  const told = { requests: [], complaints: [] };
  browser.seen = (method, params) => {
    if (method === "Network.requestWillBeSent") told.requests.push(params.request);
    if (method === "Runtime.exceptionThrown") told.complaints.push(JSON.stringify(params.exceptionDetails));
    if (method === "Runtime.consoleAPICalled") told.complaints.push(JSON.stringify(params.args));
    if (method === "Log.entryAdded") told.complaints.push(params.entry.text + " " + params.entry.url);
    if (method === "Audits.issueAdded") told.complaints.push(JSON.stringify(params.issue));
  };
  for (const domain of ["Network", "Runtime", "Log", "Audits"])
    await browser.call(domain + ".enable", {}, browser.session);
  return told;
}

function visit(browser) {
  return browser.call("Page.navigate", { url: page }, browser.session);
}

async function resize(browser, width) {
  await browser.call("Emulation.setDeviceMetricsOverride",
    { width, height: 900, deviceScaleFactor: 1, mobile: false }, browser.session);
  await sleep(200);
}

async function picture(browser, scheme) {
  await browser.call("Emulation.setEmulatedMedia",
    { features: [{ name: "prefers-color-scheme", value: scheme }] }, browser.session);
  await sleep(300);
  return (await browser.call("Page.captureScreenshot", { format: "png" }, browser.session)).data;
}

async function press(browser, key) {
  for (const type of ["keyDown", "keyUp"])
    await browser.call("Input.dispatchKeyEvent", { type, key, code: key }, browser.session);
}

async function type(browser, words) {
  await browser.call("Input.insertText", { text: words }, browser.session);
}

// Asks the app for something again and again, until told to stop.
function load(target) {
  let goes_on = true;
  const done = (async () => {
    while (goes_on) {
      await fetch(app + target).then((reply) => reply.text());
      await sleep(10);
    }
  })();
  return () => { goes_on = false; return done; };
}

function must(what, is_so, why) {
  if (!is_so) throw new Error("this is not so: " + what + "\n" + why);
  console.log("ok " + what);
}

const stories = {
  async numbers(browser) {
    const told = await watch(browser);
    await resize(browser, 1440);
    await visit(browser);
    await browser.until("the server's name", text("name") + " === 'shown'");
    await browser.until("that it is live", text("live") + " === 'live'");
    const stop = load("/hello/moon");
    const rate = "Number(document.querySelector('#figures [data-key=rate] dd').textContent)";
    await browser.until("a rate", rate + " > 5");
    const first = await browser.value("document.querySelector('#routes tbody tr td:last-child').textContent");
    await browser.until("numbers that change",
      "document.querySelector('#routes tbody tr td:last-child').textContent !== '" + first + "'");
    await browser.until("the route", text("routes") + ".includes('/hello/:name')");
    await browser.until("two workers", "document.querySelectorAll('#workers tbody tr').length === 2");
    await browser.until("cells of the heat map", "Number(document.getElementById('heat').dataset.cells) > 0");
    await browser.until("them painted", "(() => { const c = document.getElementById('heat'); const d = c.getContext('2d')"
      + ".getImageData(c.width - 12, 0, 10, c.height).data; const seen = new Set(); for (let i = 0; i < d.length; i += 4)"
      + " if (d[i + 3] === 255) seen.add(d[i] + ',' + d[i + 1] + ',' + d[i + 2]); return seen.size > 1; })()");
    await browser.until("a check that is not well, with its reason", text("checks") + ".includes('half of it')");
    await browser.until("what the compiler did", text("jit-summary") + ".includes('traces compiled')");
    await browser.until("the cap of memory", text("memory") + ".includes('512 MiB')");
    await browser.value("document.getElementById('heat').focus()");
    await press(browser, "ArrowLeft");
    await browser.until("a column by the keyboard", text("probe") + ".includes('requests/s')");
    await stop();
    const light = await picture(browser, "light"), dark = await picture(browser, "dark");
    must("light and dark are not the same", light !== dark, "");
    must("dark is dark", (await browser.value("getComputedStyle(document.documentElement).backgroundColor"))
      .match(/\d+/g).every((n) => n < 60), "");
    await browser.shoot(shots, "wide");
    for (const width of [360, 3840]) {
      await resize(browser, width);
      const wide = await browser.value("document.documentElement.scrollWidth");
      must("it fits " + width + " pixels", wide <= width, wide);
    }
    const names = await browser.value("[...document.querySelectorAll('button, select, input, canvas[tabindex]')]"
      + ".filter((e) => !(e.labels && e.labels.length) && !e.textContent && !e.getAttribute('aria-label')).length");
    must("everything that can be used has a name", names === 0, names);
    must("nothing from elsewhere", told.requests.every(({ url }) => url.startsWith(origin) || url.startsWith("data:")),
      told.requests.map(({ url }) => url).join("\n"));
    must("no complaints", told.complaints.length === 0, told.complaints.join("\n"));
  },

  async log(browser) {
    await watch(browser);
    await visit(browser);
    const lines = "document.querySelectorAll('#log details').length", log = text("log");
    await browser.until("records of before", log + ".includes('serving') || " + lines + " > 0");
    await fetch(app + "/say/first");
    await browser.until("a record as it comes", log + ".includes('said first')");
    await fetch(app + "/say/second");
    await browser.until("the next one", log + ".includes('said second')");
    await browser.until("its end in sight", "(() => { const l = document.getElementById('log');"
      + " return l.scrollTop + l.clientHeight >= l.scrollHeight - 24; })()");
    await press(browser, "/");
    await browser.until("the filter by its key", "document.activeElement.id === 'filter'");
    await type(browser, "first");
    await browser.until("only what the filter lets through", log + ".includes('said first') && !" + log
      + ".includes('said second')");
    await fetch(app + "/say/firstborn");
    await browser.until("the filter on what comes later", log + ".includes('said firstborn')");
    await browser.value("document.getElementById('filter').value = 'number:42';"
      + "document.getElementById('filter').dispatchEvent(new Event('input'))");
    await fetch(app + "/say/field");
    await browser.until("a filter by field", lines + " > 0 && [...document.querySelectorAll('#log details')]"
      + ".every((d) => d.textContent.includes('number=42'))");
    await browser.value("document.getElementById('filter').value = '';"
      + "document.getElementById('level').value = '3';"
      + "document.getElementById('level').dispatchEvent(new Event('change'))");
    await fetch(app + "/fail");
    await browser.until("errors alone", lines + " > 0 && [...document.querySelectorAll('#log details')]"
      + ".every((d) => d.dataset.level === 'error')");
    await browser.value("document.querySelector('#log summary').click()");
    await browser.until("all fields of one", "document.querySelector('#log pre').textContent.includes('route: ')");
  },

  async token(browser) {
    const told = await watch(browser);
    await visit(browser);
    const open = "document.getElementById('ask').open";
    await browser.until("the question for the token", open);
    must("no data before", (await browser.value(text("name"))) === "Perilune", "");
    await type(browser, "wrong");
    await press(browser, "Enter");
    await browser.value("document.getElementById('ask-form').requestSubmit()");
    await browser.until("that it was wrong", text("ask-error") + ".includes('not the token')");
    await browser.value("document.getElementById('token').value = 'moonshine-at-noon';"
      + "document.getElementById('ask-form').requestSubmit()");
    await browser.until("the data then", text("name") + " === 'shown'");
    await browser.until("no question any more", "!" + open);
    must("the token stays in the tab", (await browser.value("sessionStorage.getItem('perilune-token') + localStorage.length"))
      === "moonshine-at-noon0", "");
    must("it is in no address", told.requests.every(({ url }) => !url.includes("moonshine")), "");
    must("it is in a header", told.requests.some(({ headers }) => headers.Authorization === "Bearer moonshine-at-noon"), "");
    await browser.call("Page.reload", {}, browser.session);
    await browser.until("the data after a reload", text("name") + " === 'shown'");
  },

  // The spec stops the server, and starts it again.
  async away(browser) {
    await visit(browser);
    await browser.until("that it is live", text("live") + " === 'live'");
    await browser.value("window.stays = true");
    await browser.until("that the server is away", text("live") + " === 'away' && !document.getElementById('notice').hidden");
    await browser.until("that it is back", text("live") + " === 'live' && document.getElementById('notice').hidden");
    await browser.until("the same page", "window.stays === true");
    await browser.until("a mark in the log", text("log") + ".includes('began anew')");
    const stop = load("/hello/again");
    await browser.until("new numbers", "Number(document.querySelector('#figures [data-key=rate] dd').textContent) > 0");
    await stop();
  },

  // A picture for the manual: what the page looks like after some minutes.
  async picture(browser) {
    await resize(browser, 1440);
    await visit(browser);
    await sleep(Number(process.env.SECONDS || 100) * 1000);
    await browser.shoot(shots, "dashboard");
  },
};

tell(stories[story]);
