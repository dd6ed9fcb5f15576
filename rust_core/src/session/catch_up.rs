//! What a session asks of the database, by way of the embedding program, and what it makes of the answers.

use std::sync::Arc;

use super::{Enqueued, Session};
use crate::{command::SyncAnswer, events::Event, frame::Frame, sequence::Next};

/// Changed unread counts that are kept until the first answer; beyond it the oldest is dropped, for the newest is right.
const MAX_EARLY_READS: usize = 16;

impl Session {
    /// Asks for what lies after the last delivered frame; tries again from [`Self::beat`] where the queue is full.
    pub(crate) fn ask(&self, now: u64) {
        let request = Event::SyncRequest {
            connection_id: self.connection_id(),
            user_id: Arc::clone(&self.user_id),
            after: self.sequence.borrow().last(),
            epoch: self.epoch.borrow().clone(),
            first: !self.confirmed.get(),
        };
        self.asked_ms.set(if self.context.events.offer(request) { now.max(1) } else { 0 });
    }

    /// Works in an answer; returns whether the session has to be flushed.
    pub(crate) fn answer(&self, answer: SyncAnswer, now: u64) -> Enqueued {
        if self.is_closing() || !self.sequence.borrow().is_waiting() {
            return Enqueued::Settled;
        }
        self.membership.set_role(Some(answer.role));
        self.confirmed.set(true);
        self.epoch.replace(None);
        let mut due = Enqueued::Settled;
        if let Some(preface) = &answer.preface {
            due = self.enqueue(preface, false, now);
            if self.is_closing() {
                return due;
            }
        }
        if answer.restart {
            self.context.events.progress.note(self.take_progress());
            self.sequence.borrow_mut().restart(answer.through);
        }
        let next = self.sequence.borrow_mut().answer(answer.frames, answer.through, answer.head, answer.rev, |frame| {
            let mut outbound = self.outbound.borrow_mut();
            let queued = outbound.queue.push(frame.wire().clone(), self.context.config.send_queue_bytes).is_ok();
            self.context.counters.deliveries.add(u64::from(queued));
            if queued && !outbound.listed && !outbound.blocked {
                outbound.listed = true;
                due = Enqueued::FlushDue;
            }
            queued
        });
        match next {
            Next::Live => {}
            Next::AskWhenDrained if self.has_unwritten() => self.page_wanted.set(true),
            Next::Ask | Next::AskWhenDrained => self.ask(now),
        }
        for (rev, frame) in self.early_reads.take() {
            if self.enqueue_read(rev, &frame, false, now) == Enqueued::FlushDue {
                due = Enqueued::FlushDue;
            }
        }
        due
    }

    /// Keeps an unread count that came before the first answer, which may have been read before the change was made.
    pub(super) fn keep_early_read(&self, rev: u64, frame: &Frame) {
        let mut early = self.early_reads.borrow_mut();
        if early.len() == MAX_EARLY_READS {
            early.remove(0);
        }
        early.push((rev, frame.clone()));
    }

    /// Hears what the head of the user's sequence is, and asks where it is behind.
    pub(crate) fn announce_head(&self, head: u64, now: u64) {
        if self.sequence.borrow_mut().announce(head) {
            self.ask(now);
        }
    }
}
