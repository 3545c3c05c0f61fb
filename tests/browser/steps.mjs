// What every walk through the portal needs: a browser, steps with a name, pictures, axe, a till, and the mails that came.
// The tests in tests/e2e/portal.rs set the variables. With WIDTH=<pixels> the window is so wide, as on a phone; with PICTURES=<folder>
// screenshots are kept there.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const { FROKOST, PORTAL, TILLS, TILL_BUNDLE, CARD, MAIL, PASSWORD, PICTURES, MAILDIR, JAVASCRIPT } = process.env;
const WIDTH = Number(process.env.WIDTH ?? 1000);
const axe = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

const profile = mkdtempSync(join(tmpdir(), "frokost-browser-"));
export const browser = await chromium.launchPersistentContext(profile, {
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
  viewport: { width: WIDTH, height: 720 },
  locale: "da-DK",
  javaScriptEnabled: JAVASCRIPT !== "off",
});
export const page = browser.pages()[0] ?? await browser.newPage();
page.setDefaultTimeout(15_000);
const broken = [];
page.on("pageerror", (error) => broken.push(String(error)));
page.on("console", (message) => { if (message.type() === "error" && !/status of [45]\d\d/.test(message.text())) broken.push(message.text()); });

export async function step(name, run) {
  try {
    await run();
    console.log(`passed  ${name}`);
  } catch (error) {
    console.log(`FAILED  ${name} at ${page.url()}`);
    console.log((await page.locator("body").innerText().catch(() => "")).slice(0, 2000));
    throw error;
  }
}

/** Runs all the steps and closes the browser, whatever comes of them. */
export async function walk(steps) {
  try {
    await steps();
    assert.deepEqual(broken, [], "the browser complained");
    console.log("every step passed");
  } finally {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

/** A picture of the page that is shown, in light or dark. */
export async function picture(name, { colorScheme = "light", ...options } = {}) {
  if (!PICTURES) return;
  await page.emulateMedia({ colorScheme });
  await page.screenshot({ path: join(PICTURES, `${name}${WIDTH === 1000 ? "" : `-${WIDTH}`}.png`), ...options });
  await page.emulateMedia({ colorScheme: null });
}

/** A click waits until the next page begins, not until it has anything in it. What looks at a page at once waits here before: until
 * its style sheet has come, too. */
export const arrived = () => page.waitForLoadState("load");

async function fits(width) {
  const wide = await page.evaluate("document.documentElement.scrollWidth");
  assert.ok(wide <= width, `${page.url()} is ${wide} px wide on ${width} px`);
}

/** What axe finds on the page that is shown: light and dark, wide and on a small phone, where nothing may stick out either. The page's
 * policy allows no scripts of others, so axe is run from outside; without JavaScript it cannot run, and only the width is looked at. */
export async function accessible() {
  await arrived();
  if (JAVASCRIPT === "off") return fits(WIDTH);
  const styled = "[...document.querySelectorAll('link[rel=stylesheet]')].every((link) => link.sheet)";
  assert.ok(await page.evaluate(styled), `${page.url()} has no style sheet`);
  const size = page.viewportSize();
  await page.evaluate(axe);
  for (const [colorScheme, width] of [["light", 1000], ["light", 320], ["dark", 320], ["dark", 1000]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: size.height });
    const found = await page.evaluate(`axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] })
      .then((r) => r.violations.map((v) => v.id + ": " + v.nodes.map((n) => n.target).join(" ")))`);
    assert.deepEqual(found, [], `axe at ${page.url()}, ${colorScheme}, ${width} px`);
    await fits(width);
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize(size);
}

export function sell(kroner, card = CARD) {
  try {
    return execFileSync(FROKOST, ["till", "--bundle", TILL_BUNDLE, "--server", TILLS, "--card", card, "--amount", String(kroner)],
      { encoding: "utf8" });
  } catch (refused) {
    return refused.stdout;
  }
}

/** The picture that the display beside the till shows after a sale, refused or not. */
export function atTheTill(card = CARD) {
  const file = join(profile, "at-the-till.jpg");
  spawnSync(FROKOST, ["till", "--bundle", TILL_BUNDLE, "--server", TILLS, "--card", card, "--amount", "5000", "--picture", file]);
  return readFileSync(file);
}

/** Pays in the window that is open. */
export async function payWith(number) {
  await page.getByLabel("Kortholder").fill("Mor Jensen");
  await page.getByLabel("Kortnummer").fill(number);
  await page.getByLabel("Udløbsdato").fill("12/39");
  await page.getByLabel("Kontrolcifre").fill("123");
  await page.getByRole("button", { name: "Gennemfør betaling" }).click();
}

export const saldo = () => page.locator("#saldo").innerText();

export const main = () => page.locator("main").innerText();

const read = new Set();

function plainText(raw) {
  const [head, ...rest] = raw.split(/\r?\n\r?\n/);
  const headers = head.replace(/\r?\n[ \t]+/g, " ");
  const subject = (headers.match(/^Subject: (.*)$/mi)?.[1] ?? "").replace(/\?=\s+=\?/g, "?==?")
    .replace(/=\?utf-8\?(b|q)\?([^?]*)\?=/gi, (_, kind, text) => kind.toLowerCase() === "b"
      ? Buffer.from(text, "base64").toString("utf8") : decodeQuoted(text.replaceAll("_", " ")));
  const to = headers.match(/^To: (.*)$/mi)?.[1] ?? "";
  const body = rest.join("\n\n");
  const part = body.split(/^--\S+/m).find((part) => /Content-Type: text\/plain/i.test(part)) ?? body;
  const [partHead, ...partRest] = part.trimStart().split(/\r?\n\r?\n/);
  let text = partRest.join("\n\n");
  if (/quoted-printable/i.test(partHead)) text = decodeQuoted(text);
  if (/base64/i.test(partHead)) text = Buffer.from(text, "base64").toString("utf8");
  return { subject, to, text };
}

function decodeQuoted(text) {
  const bytes = text.replace(/=\r?\n/g, "").replace(/=([0-9A-F]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, "latin1").toString("utf8");
}

/** The next mail to an address that was not read yet; waits for it. */
export async function mailTo(address, subject) {
  for (let tries = 0; tries < 100; tries++) {
    let names = [];
    try { names = readdirSync(join(MAILDIR, "new")).sort(); } catch { /* none yet */ }
    for (const name of names.filter((name) => !read.has(name))) {
      const mail = plainText(readFileSync(join(MAILDIR, "new", name), "utf8"));
      if (mail.to.includes(address) && subject.test(mail.subject)) {
        read.add(name);
        return mail;
      }
    }
    await new Promise((done) => setTimeout(done, 100));
  }
  const unread = readdirSync(join(MAILDIR, "new")).filter((name) => !read.has(name))
    .map((name) => plainText(readFileSync(join(MAILDIR, "new", name), "utf8")));
  throw new Error(`no mail to ${address} about ${subject}; unread: ${unread.map((mail) => `${mail.to}: ${mail.subject}`).join("; ")}`);
}

export const linkIn = (mail) => mail.text.match(/https?:\/\/\S+/)[0];

/** Tries until it holds, for what comes by itself. */
export async function soon(what, holds) {
  for (let tries = 0; tries < 80; tries++) {
    if (await holds()) return;
    await new Promise((done) => setTimeout(done, 150));
  }
  throw new Error(`it never comes: ${what}`);
}
