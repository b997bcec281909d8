//! How many exchanges of a connection nobody saw, by counting its direction changes.
//!
//! A request and its response are two turns, called a slot here. Every slot of the connection's
//! life is accounted for once: by exchanges, or by one loss. Must not know what is in a message.

use super::{Host, LossReason};

/// Whether a direction carries requests or responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Requests.
    Request,
    /// Responses.
    Response,
}

/// The slot that a turn belongs to.
pub(super) fn slot(kind: Kind, turn: u32) -> u32 {
    match kind {
        Kind::Request => turn.div_ceil(2),
        Kind::Response => turn / 2,
    }
}

/// The slots of one connection.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Accounted for.
    charged: u32,
}

impl Slots {
    /// Begins the account with the first message understood. Where the first turn of all was a
    /// response, its request came before the agent and is nobody's loss.
    pub(super) fn open(&mut self, kind: Kind, turn: u32) {
        let requests_are_odd = (kind == Kind::Request) == (turn % 2 == 1);
        self.charged = u32::from(requests_are_odd && slot(kind, turn) > 0);
    }

    /// Counts slots before this one that nothing was seen of.
    pub(super) fn settle(&mut self, slot: u32, host: &mut Host<'_>) {
        if slot > self.charged {
            host.lose(LossReason::Unseen, slot - self.charged);
            self.charged = slot;
        }
    }

    /// Accounts for a slot of which something was seen: as a loss if nothing else did.
    pub(super) fn charge(&mut self, slot: u32, loss: Option<LossReason>, host: &mut Host<'_>) {
        if self.charged <= slot {
            self.charged = slot + 1;
            if let Some(reason) = loss {
                host.lose(reason, 1);
            }
        }
    }

    /// Counts a request that cannot be an exchange.
    pub(super) fn lose_request(&mut self, turn: u32, reason: LossReason, host: &mut Host<'_>) {
        self.charged = self.charged.max(slot(Kind::Request, turn) + 1);
        host.lose(reason, 1);
    }
}
