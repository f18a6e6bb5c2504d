// Problems of a page's accessibility, as a list of sentences: faint text, elements without names, small targets,
// elements that reach out of the screen. The contrast is that of WCAG 2.2, 1.4.3.
(() => {
  const problems = [];
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = numbers(colour).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (numbers(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const isShown = (element) => element.getClientRects().length > 0;
  const named = (element) => `${element.tagName.toLowerCase()} "${element.textContent.trim().slice(0, 30)}"`;
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!isShown(element)) continue;
    if (element.getBoundingClientRect().right > document.documentElement.clientWidth + 1) problems.push(`too wide: ${named(element)}`);
    if (!own || element.disabled) continue;
    const style = getComputedStyle(element);
    const svg = element.closest("svg");
    const over = luminance(svg ? style.fill : style.color), under = luminance(ground(svg ? svg.parentElement : element));
    const ratio = (Math.max(over, under) + 0.05) / (Math.min(over, under) + 0.05);
    if (ratio < 4.5) problems.push(`faint, ${ratio.toFixed(1)}: ${named(element)}`);
  }
  for (const element of document.querySelectorAll("textarea, input, select")) {
    if (!element.labels.length && !element.getAttribute("aria-label")) problems.push(`no label: ${named(element)}`);
  }
  for (const element of document.querySelectorAll("progress, svg")) {
    if (!element.getAttribute("aria-label")) problems.push(`no name: ${named(element)}`);
  }
  for (const element of document.querySelectorAll("button")) {
    if (!element.textContent.trim()) problems.push("a button without text");
    if (isShown(element) && element.getBoundingClientRect().height < 44) problems.push(`a small button: ${named(element)}`);
  }
  if (!document.documentElement.lang) problems.push("no language");
  if (document.querySelectorAll("h1").length !== 1) problems.push("not one heading of level 1");
  return problems;
})()
