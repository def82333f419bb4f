/* What pages bring along under `perilune dev`: shows why the app does not load,
 * and loads the page again when it does. */
(function () {
  "use strict";
  if (window.perilune_dev) return;
  window.perilune_dev = true;

  var base = new URL(document.currentScript.src).origin;
  var generation = null; // that has made this page, as far as we know
  var failed = false;
  var host = null;

  var STYLE =
    ":host{all:initial}" +
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
      var text = String(line.number).padStart(5) + "  " + line.text;
      pre.appendChild(element("span", line.number === report.line ? "hit" : "", text));
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
    card.appendChild(element("p", "",
      "The last good version goes on serving. This closes when the code is mended."));
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

  var stream = new EventSource(base + "/dev/events");
  stream.addEventListener("served", function (event) {
    var now = JSON.parse(event.data).generation;
    var stale = generation !== null && generation !== now;
    if (stale) return location.reload();
    generation = now;
    failed = false;
    hide();
  });
  stream.addEventListener("failed", function (event) {
    var report = JSON.parse(event.data);
    if (generation === null) generation = report.generation;
    failed = true;
    show(report);
  });
  stream.addEventListener("style", swap_styles);
  stream.addEventListener("page", function () {
    if (!failed) location.reload();
  });
})();
