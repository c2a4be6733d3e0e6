// The usage page: a choice takes effect as soon as it is made, and what the table says is drawn as a chart.
(() => {
  "use strict";
  const form = document.querySelector("[data-filters]");
  if (form) {
    form.querySelector("[data-filters-submit]").hidden = true;
    const own = () => form.elements.range.value === "own";
    const send = () => {
      // Half of a range is none yet. What says nothing stays out of the address.
      if (own() && !(form.elements.from.value && form.elements.to.value)) return;
      for (const field of form.elements) {
        const unused = !field.value || (!own() && (field.name === "from" || field.name === "to"));
        if (field.name && unused) field.disabled = true;
      }
      form.requestSubmit();
    };
    form.addEventListener("change", (event) => {
      if (event.target.name === "meter") form.elements.group.value = "";
      send();
    });
    // Coming back, the page may be the very one that was left, with its fields as they were then.
    window.addEventListener("pageshow", (event) => event.persisted && location.reload());
  }

  const box = document.querySelector("[data-chart-box]");
  if (!box || !window.Chart) return;
  box.hidden = false;
  const canvas = box.querySelector("canvas");
  const data = JSON.parse(canvas.dataset.chart);
  const probe = document.createElement("span");
  probe.hidden = true;
  box.append(probe);
  // Colours are those of the style sheet, as the theme resolves them.
  const colour = (name) => {
    probe.className = name;
    return getComputedStyle(probe).color;
  };
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  let chart = null;

  const draw = () => {
    chart?.destroy();
    const ink = colour("chart-ink");
    const rule = colour("chart-rule");
    chart = new window.Chart(canvas, {
      type: data.kind,
      data: {
        labels: data.labels,
        datasets: data.series.map((one) => ({
          label: one.label,
          data: one.values,
          texts: one.texts,
          type: one.number === 0 ? "line" : data.kind,
          backgroundColor: colour(`series-${one.number}`),
          borderColor: colour(`series-${one.number}`),
          borderWidth: data.kind === "line" || one.number === 0 ? 2 : 0,
          borderDash: one.number === 0 ? [4, 4] : [],
          borderRadius: data.stacked ? 0 : 3,
          maxBarThickness: 36,
          pointRadius: one.values.length > 40 ? 0 : 2,
          pointHitRadius: 12,
          stepped: data.kind === "line" && one.number !== 0,
          stack: one.number === 0 ? "before" : "now",
          order: one.number === 0 ? 0 : 1,
        })),
      },
      options: {
        animation: still ? false : { duration: 250 },
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        plugins: {
          legend: { display: false },
          tooltip: {
            filter: (item) => item.raw !== null && (data.series.length < 3 || item.raw !== 0),
            callbacks: { label: (item) => ` ${item.dataset.label}: ${item.dataset.texts[item.dataIndex]}` },
          },
        },
        scales: {
          x: { stacked: data.stacked, grid: { display: false }, border: { color: rule }, ticks: { color: ink, maxRotation: 0, autoSkipPadding: 16 } },
          y: { stacked: data.stacked, beginAtZero: true, grid: { color: rule }, border: { display: false }, ticks: { color: ink, maxTicksLimit: 6, callback: (value) => new Intl.NumberFormat("en", { notation: "compact" }).format(value) } },
        },
      },
    });
  };
  draw();
  new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });
})();
