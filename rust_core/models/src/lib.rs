//! The core's modules in which threads meet, compiled over loom's locks and atomics.
//!
//! loom runs a model again and again, in every order of the threads' steps that makes a difference and with every value
//! that the memory model lets a relaxed load see. A thread that waits for ever is a failure, so a wake-up that is lost in
//! one order of many is found. The sources are the core's own, included by path: nothing of the core is built another way
//! for their sake, and no other crate has to be built anew, as `--cfg loom` would have it.
//!
//! - [`counts`]: the hub's index under joins, leaves and look-ups;
//! - [`wakeups`]: the event queue and its descriptor between sessions and the embedding program, and the progress log.

#[path = "../../src/events.rs"]
#[allow(dead_code, unreachable_pub, reason = "the core uses more of it, and shows it")]
mod events;
#[path = "../../src/index.rs"]
#[allow(dead_code, unreachable_pub, reason = "the core uses more of it, and shows it")]
mod index;
#[path = "../../src/progress.rs"]
#[allow(dead_code, unreachable_pub, reason = "the core uses more of it, and shows it")]
mod progress;

pub mod counts;
mod locks;
mod token;
mod wake;
pub mod wakeups;

/// Runs a model in every order in which threads are interrupted at most [`MOST_PREEMPTIONS`] times where they could have
/// gone on.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound = Some(MOST_PREEMPTIONS);
    explorer.check(model);
}

/// Without a bound the models run for hours. Errors that need more than two are rare (Musuvathi and Qadeer, "Iterative
/// context bounding for systematic testing of multithreaded programs", 2007).
const MOST_PREEMPTIONS: usize = 3;
