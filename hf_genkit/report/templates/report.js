const root = document.documentElement;
const toggle = document.querySelector(".theme");
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.style.colorScheme || (systemIsDark.matches ? "dark" : "light")) === "dark";
const nameToggle = () => { toggle.textContent = isDark() ? "Light" : "Dark"; };
toggle.addEventListener("click", () => {
  root.style.colorScheme = isDark() ? "light" : "dark";
  nameToggle();
});
systemIsDark.addEventListener("change", nameToggle);
nameToggle();

async function copy(box) {
  try {
    await navigator.clipboard.writeText(box.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(box);
    return document.execCommand("copy");
  }
}
for (const button of document.querySelectorAll(".copy")) {
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    button.textContent = (await copy(button.previousElementSibling)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

// Hard edges only where a picture is larger than it is; a smaller one would lose lines.
const sized = new ResizeObserver((entries) => {
  for (const { target } of entries) target.classList.toggle("pixelated", target.clientWidth >= target.naturalWidth);
});
for (const image of document.querySelectorAll("img[data-pixelated]")) sized.observe(image);

const dialog = document.querySelector("dialog");
const large = dialog.querySelector("img");
for (const button of document.querySelectorAll(".enlarge")) {
  button.addEventListener("click", () => {
    const small = button.querySelector("img");
    large.src = small.src;
    large.alt = small.alt;
    const factor = Math.min((innerWidth * 0.92) / small.naturalWidth, (innerHeight * 0.8) / small.naturalHeight);
    large.width = small.naturalWidth * factor;
    large.classList.toggle("pixelated", factor >= 1 && "pixelated" in small.dataset);
    dialog.showModal();
  });
}
dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target === large) dialog.close(); });
