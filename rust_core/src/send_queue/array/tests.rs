use flate2::{Decompress, FlushDecompress};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{close::CloseReason, frame::Frame, metrics::Counters, test_support::next_frame};

/// What is queued: a text message, or a control frame.
#[derive(Debug, Clone, PartialEq)]
enum Item {
    Text(Value),
    Control(Vec<u8>),
}

/// What happens to a queue.
#[derive(Debug, Clone)]
enum Step {
    /// An object of about so many bytes.
    Object(usize),
    /// An object of about so many bytes, which compresses to some half of it.
    Deflated(usize),
    /// A compressed message that must not be joined with others: as long, for what it compresses to, or no object.
    Alone(usize),
    /// A message that is JSON, but no object by its looks.
    Other(u8),
    Ping,
    /// The socket takes so many bytes at most.
    Take(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (10_usize..200).prop_map(Step::Object),
        1 => prop_oneof![9 => 200_usize..1500, 1 => 20_000_usize..70_000].prop_map(Step::Object),
        2 => prop_oneof![19 => 50_usize..2000, 1 => 20_000_usize..70_000].prop_map(Step::Deflated),
        1 => (200_usize..4000).prop_map(Step::Alone),
        1 => (0_u8..4).prop_map(Step::Other),
        1 => Just(Step::Ping),
        4 => prop_oneof![1_usize..30, 1_usize..4000, 1_usize..100_000].prop_map(Step::Take),
    ];
    prop::collection::vec(step, 0..150)
}

/// A queue with its peer, who has every byte that was taken, and the naive model: what was queued, in order.
#[derive(Default)]
struct Model {
    queue: SendQueue,
    batching: Batching,
    out: Vec<u8>,
    queued: Vec<Item>,
    /// For each control frame, where it is said to end in the stream.
    control_ends: Vec<u64>,
    arrays: usize,
}

impl Model {
    fn new() -> Self {
        Self { batching: Batching::new(true), ..Self::default() }
    }

    fn push(&mut self, text: &str) {
        self.queue.push(Frame::text(text).wire().clone(), usize::MAX).unwrap();
        self.queued.push(Item::Text(serde_json::from_str(text).unwrap()));
    }

    /// The compressed form, where there is one.
    fn push_deflated(&mut self, text: &str) {
        let counters = Counters::default();
        let frame = Frame::text(text).deflatable(1);
        let wire = frame.deflated(&counters).unwrap_or(frame.wire());
        self.queue.push(wire.clone(), usize::MAX).unwrap();
        self.queued.push(Item::Text(serde_json::from_str(text).unwrap()));
    }

    fn control(&mut self, frame: &Frame) {
        self.queue.push_control(frame.wire().clone());
        self.queued.push(Item::Control(frame.wire().to_vec()));
        self.control_ends.push(self.queue.end());
    }

    fn step(&mut self, step: &Step) {
        let number = self.queued.len();
        match step {
            Step::Object(length) => self.push(&json!({ "n": number, "x": "x".repeat(*length) }).to_string()),
            Step::Deflated(length) => self.push_deflated(&json!({ "n": number, "x": noise(*length) }).to_string()),
            Step::Alone(length) if length % 2 == 0 => {
                self.push_deflated(&json!({ "n": number, "x": "x".repeat(*length) }).to_string());
            }
            Step::Alone(length) => self.push_deflated(&json!(noise(*length)).to_string()),
            Step::Other(kind) => self.push(&match kind {
                0 => format!("[{number}]"),
                1 => format!("\"{number}\""),
                2 => format!("{{\"n\":{number}}} "),
                _ => "[]".to_owned(),
            }),
            Step::Ping => self.control(&Frame::ping(number as u64)),
            Step::Take(bytes) => self.take(*bytes),
        }
    }

    /// One call of the socket, which takes `most` bytes at most.
    fn take(&mut self, most: usize) {
        if self.queue.is_empty() {
            return;
        }
        let plan = self.queue.plan(&self.batching);
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = self.queue.planned_slices(&plan, &mut slices);
        let offered: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        let taken = &offered[..most.min(offered.len())];
        self.out.extend_from_slice(taken);
        let position = self.queue.written();
        let end = self.queue.end();
        let begun = self.queue.advance_planned(&plan, &mut self.batching, taken.len());
        assert_eq!(self.queue.written(), self.out.len() as u64);
        let Some(begun) = begun else {
            assert_eq!(self.queue.end(), end);
            return;
        };
        assert_eq!(self.queue.end(), begun.moved(end));
        self.arrays += 1;
        for end in self.control_ends.iter_mut().filter(|end| **end > position) {
            *end = begun.moved(*end);
        }
    }

    /// Lets the socket take all that is left.
    fn finish(&mut self) {
        while !self.queue.is_empty() {
            self.take(usize::MAX);
        }
        assert_eq!((self.queue.bytes(), self.queue.end()), (0, self.queue.written()));
    }

    /// What the peer reads of what it got: each message on its own, where control frames end, and how many frames were
    /// arrays. What is no whole frame at the end is left out.
    fn read(&self) -> (Vec<Item>, Vec<u64>, usize) {
        let (mut items, mut control_ends, mut arrays) = (Vec::new(), Vec::new(), 0);
        let mut at = 0;
        while let Some((frame, payload)) = next_frame(&self.out[at..]) {
            at += frame.len();
            if frame[0] & 0x0F != 1 {
                items.push(Item::Control(frame.to_vec()));
                control_ends.push(at as u64);
                continue;
            }
            let text = if frame[0] == DEFLATED_TEXT { inflated(payload) } else { payload.to_vec() };
            match serde_json::from_slice(&text).unwrap() {
                Value::Array(messages) if messages.iter().any(Value::is_object) => {
                    assert!(messages.len() > 1 && text.len() <= MAX_ARRAY_BYTES);
                    arrays += 1;
                    items.extend(messages.into_iter().map(Item::Text));
                }
                message => items.push(Item::Text(message)),
            }
        }
        (items, control_ends, arrays)
    }

    fn is_between_frames(&self) -> bool {
        let mut rest = &self.out[..];
        while let Some((frame, _)) = next_frame(rest) {
            rest = &rest[frame.len()..];
        }
        rest.is_empty()
    }
}

/// Hexadecimal digits without a pattern.
fn noise(length: usize) -> String {
    let mut state = length as u32;
    let mut digit = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_digit(state >> 28, 16).unwrap()
    };
    (0..length).map(|_| digit()).collect()
}

/// As a client reads a compressed message (RFC 7692 section 7.2.2).
fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 << 20);
    let mut machine = Decompress::new(false);
    machine.decompress_vec(&[payload, &deflate::TAIL].concat(), &mut message, FlushDecompress::Sync).unwrap();
    assert_eq!(machine.total_in() as usize, payload.len() + deflate::TAIL.len(), "not all of it is the message");
    message
}

proptest! {
    /// Whatever the socket takes at a time: whole frames, each message once and in order, also beside control frames,
    /// and every control frame ends where it was said to.
    #[test]
    fn a_peer_reads_what_was_queued(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.finish();
        prop_assert!(model.is_between_frames());
        let (items, control_ends, arrays) = model.read();
        prop_assert_eq!(&items, &model.queued);
        prop_assert_eq!(&control_ends, &model.control_ends);
        prop_assert_eq!(arrays, model.arrays);
    }

    /// What was begun is finished, be it an array, and nothing but the Close follows.
    #[test]
    fn a_drop_leaves_what_was_begun_whole(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        let (whole, ..) = model.read();
        let between = model.is_between_frames();
        model.queue.drop_unstarted_array(&model.batching);
        prop_assert_eq!(model.queue.is_empty(), between);
        model.control(&Frame::close(&CloseReason::SlowConsumer));
        model.finish();
        prop_assert!(model.is_between_frames());
        let (mut items, control_ends, _) = model.read();
        let close = model.queued.pop();
        prop_assert_eq!(items.pop(), close);
        prop_assert_eq!(control_ends.last(), model.control_ends.last());
        prop_assert_eq!(items.len() > whole.len(), !between);
        prop_assert_eq!(&items[..], &model.queued[..items.len()]);
    }
}

/// The text messages that a peer reads, where all of what is queued is taken.
fn messages(texts: &[&str]) -> Vec<String> {
    let mut model = Model::new();
    for text in texts {
        model.push(text);
    }
    model.finish();
    let mut rest = &model.out[..];
    let mut messages = Vec::new();
    while let Some((frame, payload)) = next_frame(rest) {
        messages.push(String::from_utf8(payload.to_vec()).unwrap());
        rest = &rest[frame.len()..];
    }
    messages
}

#[test]
fn two_messages_are_an_array_and_one_is_none() {
    assert_eq!(messages(&["{}"]), ["{}"]);
    assert_eq!(messages(&["{}", r#"{"a":[1]}"#]), [r#"[{},{"a":[1]}]"#]);
}

#[test]
fn what_is_no_object_goes_alone_and_keeps_its_place() {
    assert_eq!(messages(&["{}", "{}", "[1]", "{}", "\"\"", "{}", "{}"]), ["[{},{}]", "[1]", "{}", "\"\"", "[{},{}]"]);
}

#[test]
fn an_array_has_a_greatest_length() {
    let half = |length: usize| format!("{{\"x\":\"{}\"}}", "x".repeat(length - 8));
    let (longest, longer) = (half((MAX_ARRAY_BYTES - 3) / 2), half(MAX_ARRAY_BYTES / 2));
    let array = messages(&[&longest, &longest, "{}"]);
    assert_eq!(array.iter().map(String::len).collect::<Vec<_>>(), [MAX_ARRAY_BYTES, 2]);
    assert_eq!(messages(&[&longer, &longer, &longer]).len(), 3);
    let alone = half(2 * MAX_ARRAY_BYTES);
    assert_eq!(messages(&[&alone, "{}", "{}"]), [alone.as_str(), "[{},{}]"]);
}

#[test]
fn an_array_that_was_not_begun_takes_what_comes_later() {
    let mut model = Model::new();
    model.push("{}");
    model.push("{}");
    let plan = model.queue.plan(&model.batching);
    assert!(matches!(plan, Plan::Array(Array { messages: 2, .. })));
    model.push("{}");
    let plan = model.queue.plan(&model.batching);
    assert!(matches!(plan, Plan::Array(Array { messages: 3, .. })));
    model.take(1);
    model.push("{}");
    model.finish();
    assert_eq!(model.arrays, 1, "once begun, nothing is added");
    assert_eq!(model.read().0, model.queued);
}

/// The text messages that a peer reads, where all of what is queued is taken, and which of them are compressed.
fn compressed_messages(push: impl FnOnce(&mut Model)) -> Vec<(bool, Vec<u8>)> {
    let mut model = Model::new();
    push(&mut model);
    model.finish();
    let mut rest = &model.out[..];
    let mut messages = Vec::new();
    while let Some((frame, payload)) = next_frame(rest) {
        let compressed = frame[0] == DEFLATED_TEXT;
        messages.push((compressed, if compressed { inflated(payload) } else { payload.to_vec() }));
        rest = &rest[frame.len()..];
    }
    messages
}

#[test]
fn an_array_is_compressed_where_one_of_its_messages_is() {
    let long = json!({ "x": noise(600) }).to_string();
    let messages = compressed_messages(|model| {
        model.push("{}");
        model.push_deflated(&long);
        model.push("{\"a\":1}");
        model.push_deflated(&long);
    });
    assert_eq!(messages, [(true, format!("[{{}},{long},{{\"a\":1}},{long}]").into_bytes())]);
}

#[test]
fn what_is_too_long_for_its_form_goes_alone() {
    let bomb = json!({ "x": "x".repeat(500_000) }).to_string();
    let messages = compressed_messages(|model| {
        for _ in 0..3 {
            model.push_deflated(&bomb);
        }
    });
    assert_eq!(messages, vec![(true, bomb.into_bytes()); 3]);
}
