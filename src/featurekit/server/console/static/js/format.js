// Format numbers, sizes and durations, as the command line does.

const UNITS = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000]];

/** A duration in its two largest units, rounded down: `1d 23h`, `59s`, `0.9s`. */
export function span(ms) {
  if (ms < 1000) return ms > 0 ? `${Math.max(0.1, Math.floor(ms / 100) / 10)}s` : "0s";
  let left = Math.floor(ms);
  const parts = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count || parts.length) parts.push(count ? `${count}${unit}` : "");
  }
  return parts.slice(0, 2).filter(Boolean).join(" ");
}

export const ago = (ms) => (ms === null || ms === undefined ? "never" : ms < 1000 ? "just now" : `${span(ms)} ago`);

export const count = (number) => Math.round(number).toLocaleString("en");

export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** A share in percent; only exact values give 0% and 100%. */
export function percent(share) {
  if (share > 0 && share < 0.01) return "<1%";
  if (share < 1 && share > 0.99) return ">99%";
  return `${Math.round(share * 100)}%`;
}

/** A size in powers of 1000 bytes. */
export function size(bytes) {
  let left = bytes;
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (left < 1000) return `${left < 10 && unit !== "B" ? left.toFixed(1) : Math.round(left)} ${unit}`;
    left /= 1000;
  }
  return `${left.toFixed(1)} TB`;
}

/** The duration of an operation: `8 µs`, `0.42 ms`, `12 ms`, `3.2 s`. */
export function took(ms) {
  if (ms > 0 && ms < 0.1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

export const moment = (ms) => {
  const date = new Date(ms);
  const day = `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;
  return `${day} ${clock(ms)}`;
};

/** A percentile of sorted numbers. */
export function percentile(sorted, share) {
  if (!sorted.length) return 0;
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
}
