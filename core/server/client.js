/* What pages bring along under `perilune dev`: shows why the app does not load,
 * and loads the page again when it does. */
(function () {
  "use strict";
  if (window.perilune_dev) return;
  window.perilune_dev = true;

  var script = document.currentScript;
  var base = new URL(script.src).origin;
  var generation = Number(script.dataset.generation); // that has made this page
  var run = null; // of the server: its generations begin anew with the next
  var assets = null; // how often files beside the code have changed
  var failed = false;
  var stream = null;
  var host = null;

  var STYLE =
    ":host{all:initial;color-scheme:light dark}" +
    ".back{position:fixed;inset:0;z-index:2147483647;overflow:auto;" +
    "background:rgba(20,20,28,.55);font:15px/1.5 system-ui,sans-serif;color:#1c1c28}" +
    ".card{max-width:900px;margin:6vh auto;background:#fff;border-radius:10px;" +
    "border-top:6px solid #d33a3a;padding:24px 28px;box-shadow:0 12px 48px rgba(0,0,0,.35)}" +
    "h1{font-size:19px;margin:0 0 4px}p{margin:0 0 14px;color:#5b5b6b}" +
    ".where{font:600 14px ui-monospace,monospace;color:#b32525;margin:0 0 10px;word-break:break-all}" +
    "pre{font:13.5px/1.55 ui-monospace,monospace;background:#f4f4f8;border-radius:6px;" +
    "padding:12px 14px;margin:0 0 14px;overflow:auto;white-space:pre}" +
    ".hit{display:inline-block;min-width:100%;background:#fde3e3}" +
    ".small{font-size:12.5px;color:#5b5b6b;white-space:pre-wrap}" +
    "button{float:right;border:0;background:none;font-size:20px;color:inherit;cursor:pointer}" +
    "@media(prefers-color-scheme:dark){.back{color:#ececf4}.card{background:#22222c}" +
    "p,.small{color:#a5a5b8}pre{background:#17171f}.where{color:#ff8f8f}.hit{background:#55262a}}";

  function element(name, className, text) {
    var e = document.createElement(name);
    if (className) e.className = className;
    if (text !== undefined) e.textContent = text;
    return e;
  }

  function hide() {
    if (host) host.remove();
    host = null;
  }

  function excerpt(report) {
    var pre = element("pre");
    report.lines.forEach(function (line) {
      var hit = line.number === report.line;
      var text = (hit ? ">" : " ") + String(line.number).padStart(5) + "  " + line.text;
      pre.appendChild(element("span", hit ? "hit" : "", text));
      pre.appendChild(document.createTextNode("\n"));
    });
    return pre;
  }

  function show(report) {
    hide();
    host = element("div");
    host.id = "perilune-overlay";
    var root = host.attachShadow({ mode: "open" });
    var back = element("div", "back");
    var card = element("div", "card");
    var close = element("button", "", "\u00d7");
    close.title = "close";
    close.onclick = hide;
    card.appendChild(close);
    card.appendChild(element("h1", "", "The app does not load"));
    card.appendChild(element("p", "", (report.serves ? "The last good version goes on serving."
      : "Nothing is served until it does.") + " This closes when the code is mended."));
    if (report.file)
      card.appendChild(element("div", "where", report.file + ":" + report.line));
    card.appendChild(element("pre", "message", report.message)).style.whiteSpace = "pre-wrap";
    if (report.lines && report.lines.length) card.appendChild(excerpt(report));
    if (report.traceback) card.appendChild(element("pre", "small", report.traceback));
    back.appendChild(card);
    root.appendChild(element("style", "", STYLE));
    root.appendChild(back);
    document.documentElement.appendChild(host);
  }

  function swap_styles() {
    document.querySelectorAll("link[rel~=stylesheet]").forEach(function (link) {
      var url = new URL(link.href);
      if (url.origin !== location.origin) return;
      url.searchParams.set("perilune", Date.now());
      link.href = url.href;
    });
  }

  // Whether it is the same server, and serves what has made this page. A failure
  // of the first generation, 0, is told before what serves it.
  function is_current(now) {
    var same = (now.generation === generation || now.generation === 0) &&
      (run === null || run === now.run);
    run = now.run;
    return same;
  }

  function on_assets(event) {
    var now = JSON.parse(event.data).assets;
    var stale = assets !== null && assets !== now;
    assets = now;
    return stale;
  }

  function listen() {
    stream = new EventSource(base + "/dev/events");
    stream.addEventListener("served", function (event) {
      if (!is_current(JSON.parse(event.data))) return location.reload();
      failed = false;
      hide();
    });
    stream.addEventListener("failed", function (event) {
      var report = JSON.parse(event.data);
      if (!is_current(report)) return location.reload();
      failed = true;
      show(report);
    });
    stream.addEventListener("style", function (event) {
      on_assets(event);
      swap_styles();
    });
    stream.addEventListener("page", function (event) {
      on_assets(event);
      if (!failed) location.reload();
    });
    // What was missed while nobody listened.
    stream.addEventListener("assets", function (event) {
      if (on_assets(event) && !failed) location.reload();
    });
  }

  // Browsers open six connections to a server at most: pages that nobody sees
  // leave theirs to others, and ask how things stand when they are seen again.
  function on_visibility() {
    if (document.hidden && stream) {
      stream.close();
      stream = null;
    } else if (!document.hidden && !stream) {
      listen();
    }
  }

  document.addEventListener("visibilitychange", on_visibility);
  on_visibility();
})();
