/** Work that is done again and again while somebody can see it. */

/**
 * Does `work` now and then `pause` ms after it was done, while the page is visible; never twice at once.
 * @param {() => Promise<unknown>} work deals with its own failures
 * @param {number} pause
 */
export function whileVisible(work, pause) {
  let timer = 0;
  let working = false;
  const turn = async () => {
    clearTimeout(timer);
    if (document.hidden || working) return;
    working = true;
    try {
      await work();
    } finally {
      working = false;
      timer = setTimeout(turn, pause);
    }
  };
  document.addEventListener("visibilitychange", turn);
  void turn();
}
