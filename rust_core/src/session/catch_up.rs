//! What a session asks of the database, by way of the embedding program, and what it makes of the answers.

use std::sync::Arc;

use super::{Enqueued, Session};
use crate::{
    command::SyncAnswer,
    events::{Asked, Event},
    frame::Frame,
    sequence::Next,
};

/// Changed unread counts that are kept until the first answer; beyond it the oldest is dropped, for the newest is right.
const MAX_EARLY_READS: usize = 16;

/// What a session keeps until the first answer.
#[derive(Debug)]
pub(super) struct Joining {
    /// The epoch that the client named with its position.
    pub(super) epoch: Option<Box<str>>,
    /// Changed unread counts that came meanwhile.
    pub(super) early_reads: Vec<(u64, Frame)>,
}

impl Session {
    /// Asks for what lies after the last delivered frame; tries again from [`Self::beat`] where the queue is full.
    pub(crate) fn ask(&self, now: u64) {
        let request = Event::SyncRequest {
            connection_id: self.connection_id(),
            user_id: Arc::clone(self.user_id()),
            asked: self.asked(),
            epoch: self.joining.borrow().as_ref().and_then(|joining| joining.epoch.clone()),
            session_id: self.stands_for.get(),
        };
        self.asked_ms.set(if self.context.events.offer(request) { now.max(1) } else { 0 });
    }

    /// What it asks for where it stands.
    pub(super) fn asked(&self) -> Asked {
        Asked { after: self.sequence.borrow().last(), first: self.joining.borrow().is_some() }
    }

    /// Works in an answer; returns whether the session has to be flushed.
    pub(crate) fn answer(&self, asked: Asked, answer: SyncAnswer, now: u64) -> Enqueued {
        let counters = &self.context.counters;
        let mut dropped = answer.frames.len() + self.sequence.borrow().parked();
        if self.is_closing() {
            counters.dropped_closing.add(answer.frames.len() as u64);
            return Enqueued::Settled;
        }
        if !self.sequence.borrow().is_waiting() || asked != self.asked() {
            counters.dropped_superseded.add(answer.frames.len() as u64);
            return Enqueued::Settled;
        }
        self.membership.set_role(Some(answer.role));
        let early_reads = self.joining.take().map(|joining| joining.early_reads).unwrap_or_default();
        let mut due = Enqueued::Settled;
        if let Some(preface) = &answer.preface {
            due = self.enqueue(preface, false, now);
            if self.is_closing() {
                counters.dropped_closing.add(answer.frames.len() as u64);
                return due;
            }
        }
        if answer.restart {
            self.context.events.progress.note(self.take_progress());
            self.sequence.borrow_mut().restart(answer.through);
        }
        let next = self.sequence.borrow_mut().answer(answer.frames, answer.through, answer.head, answer.rev, |frame| {
            let mut outbound = self.outbound.borrow_mut();
            let limit = self.context.config.send_queue_bytes;
            let position = outbound.queue.end();
            let queued = outbound.queue.push(self.wire_of(&frame).clone(), limit).is_ok();
            dropped -= usize::from(queued);
            counters.deliveries.add(u64::from(queued));
            if queued {
                outbound.note_stamp(position, frame.stamp());
                due = outbound.list().or(due);
            }
            queued
        });
        counters.dropped_superseded.add((dropped - self.sequence.borrow().parked()) as u64);
        match next {
            Next::Live => {}
            Next::AskWhenDrained if self.has_unwritten() => self.page_wanted.set(true),
            Next::Ask | Next::AskWhenDrained => self.ask(now),
        }
        for (rev, frame) in early_reads {
            if self.enqueue_read(rev, &frame, false, now) == Enqueued::FlushDue {
                due = Enqueued::FlushDue;
            }
        }
        due
    }

    /// Keeps an unread count that came before the first answer, which may have been read before the change was made.
    /// False, and nothing is kept, once that answer has come.
    pub(super) fn keep_early_read(&self, rev: u64, frame: &Frame) -> bool {
        let mut joining = self.joining.borrow_mut();
        let Some(Joining { early_reads, .. }) = joining.as_deref_mut() else { return false };
        if early_reads.len() == MAX_EARLY_READS {
            early_reads.remove(0);
            self.context.counters.dropped_outdated.add(1);
        }
        early_reads.push((rev, frame.clone()));
        true
    }

    /// Hears what the head of the user's sequence is, and asks where it is behind.
    pub(crate) fn announce_head(&self, head: u64, now: u64) {
        if self.sequence.borrow_mut().announce(head) {
            self.ask(now);
        }
    }
}
