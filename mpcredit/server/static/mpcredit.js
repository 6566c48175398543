"use strict";
/* Everything works without this file but the plots and the parts that arrive by themselves. */
(function () {
  function style(name) {
    return getComputedStyle(document.body).getPropertyValue(name).trim();
  }

  function number(value, digits) {
    return new Intl.NumberFormat(document.documentElement.lang, {
      minimumFractionDigits: digits, maximumFractionDigits: digits
    }).format(value);
  }

  /* Vertical lines at the policy's limits, with their names above the bars. */
  function limits(lines) {
    return {
      id: "limits",
      afterDatasetsDraw: function (chart) {
        var x = chart.scales.x, area = chart.chartArea, c = chart.ctx;
        c.save();
        c.font = "13px " + style("--sans");
        var right = -Infinity;
        lines.forEach(function (line) {
          var at = x.getPixelForValue(line.value);
          c.strokeStyle = line.color;
          c.fillStyle = line.color;
          c.lineWidth = 2;
          c.setLineDash([5, 4]);
          c.beginPath();
          c.moveTo(at, area.top - 6);
          c.lineTo(at, area.bottom);
          c.stroke();
          var width = c.measureText(line.label).width;
          var left = Math.max(area.left, Math.min(at - width / 2, area.right - width));
          c.textBaseline = "bottom";
          c.fillText(line.label, left, left < right + 10 ? area.top - 26 : area.top - 9);
          right = Math.max(right, left + width);
        });
        c.restore();
      }
    };
  }

  function exposure(canvas, words) {
    var scale = Math.pow(10, Number(canvas.dataset.exponent));
    var existing = Number(canvas.dataset.existing) / scale, asked = Number(canvas.dataset.requested) / scale;
    var lines = [];
    if (canvas.dataset.refer !== undefined) {
      lines.push({ value: Number(canvas.dataset.refer) / scale, color: style("--act"), label: words["a person decides above"] });
      lines.push({ value: Number(canvas.dataset.decline) / scale, color: style("--bad"), label: words["declined above"] });
    }
    var most = Math.max.apply(null, [existing + asked].concat(lines.map(function (l) { return l.value; })));
    return new Chart(canvas, {
      type: "bar",
      data: {
        labels: [""],
        datasets: [
          { label: words["existing debt"], data: [existing], backgroundColor: style("--ink"), barThickness: 34 },
          { label: words["amount asked for"], data: [asked], backgroundColor: style("--tint"), barThickness: 34 }
        ]
      },
      options: {
        indexAxis: "y", maintainAspectRatio: false, animation: false,
        layout: { padding: { top: 44 } },
        scales: {
          x: { stacked: true, min: 0, suggestedMax: most * 1.08, grid: { color: style("--line") },
            ticks: { maxTicksLimit: 6, maxRotation: 0, callback: function (v) { return number(v, 0); } } },
          y: { stacked: true, grid: { display: false } }
        },
        plugins: {
          legend: { position: "bottom", labels: { boxWidth: 14 } },
          tooltip: { callbacks: { label: function (i) { return i.dataset.label + ": " + number(i.raw, 2) + " " + canvas.dataset.currency; } } }
        }
      },
      plugins: [limits(lines)]
    });
  }

  /* Who is slow at one look: the slowest first, the slow ones in another colour, the usual time as a line. */
  function times(canvas, words) {
    var medians = JSON.parse(canvas.dataset.median), slow = JSON.parse(canvas.dataset.slow);
    var sorted = medians.slice().sort(function (a, b) { return a - b; }), half = Math.floor(sorted.length / 2);
    var usual = sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
    return new Chart(canvas, {
      type: "bar",
      data: {
        labels: JSON.parse(canvas.dataset.names),
        datasets: [
          { label: words.median, data: medians, backgroundColor: slow.map(function (is) { return style(is ? "--bad" : "--ink"); }) },
          { label: words.slowest, data: JSON.parse(canvas.dataset.slowest), backgroundColor: style("--line") }
        ]
      },
      options: {
        indexAxis: "y", maintainAspectRatio: false, animation: false,
        layout: { padding: { top: 24 } },
        scales: { x: { beginAtZero: true, title: { display: true, text: words.seconds }, grid: { color: style("--line") } }, y: { grid: { display: false } } },
        plugins: { legend: { display: false } }
      },
      plugins: [limits([{ value: usual, color: style("--act"), label: words.usual + ": " + number(usual, 0) + " " + words.seconds }])]
    });
  }

  function draw(root) {
    if (typeof Chart === "undefined") { return; }
    Chart.defaults.font.family = style("--sans");
    Chart.defaults.font.size = 13;
    Chart.defaults.color = style("--text");
    root.querySelectorAll("canvas.chart").forEach(function (canvas) {
      if (Chart.getChart(canvas)) { return; }
      (canvas.dataset.chart === "exposure" ? exposure : times)(canvas, JSON.parse(canvas.dataset.words));
    });
  }

  var said = "";
  function announce(root) {
    var source = root.matches && root.matches("[data-announce]") ? root : root.querySelector("[data-announce]");
    var text = source ? source.textContent.trim() : "";
    if (text && said && text !== said) { document.getElementById("announce").textContent = text; }
    if (text) { said = text; }
  }

  document.addEventListener("DOMContentLoaded", function () {
    draw(document);
    announce(document);
    var problems = document.querySelector(".box[role=alert][tabindex]");
    if (problems) { problems.focus(); }
    document.querySelectorAll("form[method=post]").forEach(function (form) {
      form.addEventListener("submit", function (event) {
        if (event.submitter && event.submitter.hasAttribute("data-download")) { return; } /* the page stays */
        /* One click, one step; the form comes back with the next page. */
        setTimeout(function () { form.querySelectorAll("button").forEach(function (b) { b.disabled = true; }); }, 0);
      });
    });
  });
  window.addEventListener("pageshow", function (event) {
    if (event.persisted) { document.querySelectorAll("form button:disabled").forEach(function (b) { b.disabled = false; }); }
  });
  document.addEventListener("htmx:configRequest", function (event) {
    /* What the page asks by itself does not keep anybody signed in; a click or a key does. */
    var cause = event.detail.triggeringEvent;
    if (!cause || !cause.isTrusted) { event.detail.headers["Mpcredit-Unattended"] = "1"; }
  });
  /* Who fills in a long form is there, though nothing is sent yet; said at most once a minute. */
  var active = Date.now();
  ["keydown", "pointerdown"].forEach(function (kind) {
    document.addEventListener(kind, function (event) {
      if (!event.isTrusted || Date.now() - active < 60000 || !document.querySelector("[sse-connect]")) { return; }
      active = Date.now();
      fetch("/account/active", { method: "POST" }).catch(function () { /* the next key says it again */ });
    }, { capture: true, passive: true });
  });
  document.addEventListener("htmx:sseOpen", function (event) {
    var source = event.detail.source;
    source.addEventListener("ended", function () {
      source.close();
      location.assign("/sign-in?next=" + encodeURIComponent(location.pathname));
    });
  });
  document.addEventListener("htmx:beforeSwap", function (event) {
    /* A part that somebody works in (an open detail, a focused field) is left alone. */
    var target = event.detail.target;
    if (target && target.querySelector && (target.querySelector("details[open]") || target.querySelector("input:focus, textarea:focus"))) {
      event.detail.shouldSwap = false;
    }
  });
  document.addEventListener("htmx:afterSettle", function (event) {
    var place = document.getElementById(event.detail.elt.id) || event.detail.elt;
    draw(place);
    announce(place);
    /* What was said about the last step is old once the page moves on. */
    var old = document.querySelector("main > .said");
    if (old && event.detail.elt.id === "live") { old.remove(); }
  });
})();
