// Takes the orders that `benches/floor/src/main.rs` describes, in Node.

import { createInterface } from "node:readline";
import { setImmediate, setTimeout } from "node:timers/promises";

export const HOST = "127.0.0.1";

/** Connections that may wait to be accepted, as many as at our own door. */
export const BACKLOG = 4096;

const LOOK_MS = 1;

/**
 * Carries out what standard input says until it ends.
 *
 * @param {number} port where the peer listens
 * @param {() => number} connections how many are connected now
 * @param {(stamp: bigint, size: number) => void} broadcast sends a message of `size` bytes, published at `stamp`, to
 *   each of them
 */
export async function obey(port, connections, broadcast) {
  console.log(`port ${port}`);
  for await (const line of createInterface({ input: process.stdin })) {
    const [order, ...numbers] = line.split(" ");
    const [first, count, size] = numbers.map(Number);
    if (order === "open") {
      while (connections() < first) await setTimeout(LOOK_MS);
      console.log(`opened ${first}`);
    } else if (order === "publish") {
      await publish(broadcast, first, count, size);
      console.log(`published ${count}`);
    } else {
      throw new Error(`this is no command: ${line}`);
    }
  }
}

/** What pads a message of `size` bytes, of which `rest` holds all else. */
export const padding = (rest, size) => "x".repeat(Math.max(0, size - rest.length));

async function publish(broadcast, rate, count, size) {
  const began = performance.now();
  for (let number = 0; number < count; number += 1) {
    const wait = began + (number / rate) * 1000 - performance.now();
    // Also where it is late: what waits in the loop has its turn.
    await (wait > 0 ? setTimeout(wait) : setImmediate());
    broadcast(process.hrtime.bigint(), size); // CLOCK_MONOTONIC, as the clients read it
  }
}
