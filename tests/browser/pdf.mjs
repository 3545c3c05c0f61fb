// Reads a PDF with somebody else's program (poppler): its text as it stands on the page, and what it says of itself.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export function readPdf(bytes) {
  const folder = mkdtempSync(join(tmpdir(), "frokost-pdf-"));
  try {
    const file = join(folder, "statement.pdf");
    writeFileSync(file, bytes);
    const run = (program, ...args) => execFileSync(program, args, { encoding: "utf8" });
    if (process.env.PICTURES) run("pdftoppm", "-png", "-r", "60", "-singlefile", file, join(process.env.PICTURES, "statement-pdf"));
    return { text: run("pdftotext", "-layout", file, "-"), info: run("pdfinfo", file) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
