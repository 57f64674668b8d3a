//! The answers that were given, for calls that come twice.

use std::collections::HashMap;

use gristmill_proto::ids::ClientId;
use gristmill_proto::namespace::Answer;
use gristmill_proto::namespace::answer::Outcome;
use prost::Message;
use redb::{ReadableTable, Table, WriteTransaction};

use super::tables::{ANSWERS, CLIENTS, ClientRow, answer_key};
use super::{RequestId, StoreError};

/// Answers kept of one client. One that never says which it has got may not fill the disk: it is asked to settle.
pub const ANSWERS_PER_CLIENT_MAX: u64 = 65_536;

/// The sessions while a group of commands is applied.
pub(super) struct Sessions<'t> {
    answers: Table<'t, &'static [u8; 24], &'static [u8]>,
    clients: Table<'t, &'static [u8; 16], &'static [u8; 32]>,
    /// Clients of this group: as stored, and as they are now.
    rows: HashMap<ClientId, (ClientRow, ClientRow)>,
    scratch: Vec<u8>,
}

/// What is known of a call.
pub(super) enum Known {
    /// It never came.
    New,
    /// It came, and this was the answer.
    Answered(Box<Outcome>),
    /// The client has said that it is done with it.
    Settled,
    /// Too many answers of this client are kept to keep one more.
    Full,
}

impl<'t> Sessions<'t> {
    pub(super) fn begin(transaction: &'t WriteTransaction) -> Result<Sessions<'t>, StoreError> {
        let (answers, clients) = (transaction.open_table(ANSWERS)?, transaction.open_table(CLIENTS)?);
        Ok(Sessions { answers, clients, rows: HashMap::new(), scratch: Vec::new() })
    }

    /// Looks a call up. `settled_below` counts at once, but answers go when the group ends.
    pub(super) fn look_up(
        &mut self,
        id: RequestId,
        settled_below: u64,
        now_ms: u64,
    ) -> Result<Known, StoreError> {
        let row = self.row(id.client)?;
        let settled_before = row.settled_below;
        row.settled_below = row.settled_below.max(settled_below);
        row.heard_ms = now_ms;
        let row = *row;
        if id.sequence < settled_before || id.sequence < settled_below {
            return Ok(Known::Settled);
        }
        if id.sequence <= row.highest
            && let Some(answer) = self.answers.get(&answer_key(id.client, id.sequence))?
        {
            let answer = Answer::decode(answer.value());
            let answer =
                answer.map_err(|problem| StoreError::damaged("the answer to call", id.sequence, problem))?;
            let none = || StoreError::damaged("the answer to call", id.sequence, "is empty");
            return Ok(Known::Answered(Box::new(answer.outcome.ok_or_else(none)?)));
        }
        Ok(if row.kept >= ANSWERS_PER_CLIENT_MAX { Known::Full } else { Known::New })
    }

    /// Keeps the answer of a call that was looked up.
    pub(super) fn keep(&mut self, id: RequestId, outcome: Outcome) -> Result<Outcome, StoreError> {
        let mut answer = Answer { sequence: id.sequence, outcome: Some(outcome) };
        self.scratch.clear();
        answer.encode_raw(&mut self.scratch);
        self.answers.insert(&answer_key(id.client, id.sequence), self.scratch.as_slice())?;
        let row = self.row(id.client)?;
        row.kept += 1;
        row.highest = row.highest.max(id.sequence);
        Ok(answer.outcome.take().expect("it was put there"))
    }

    /// Forgets clients last heard of before a time, and at most `answers_max` answers of theirs. Says whether there
    /// is more to forget.
    pub(super) fn forget(&mut self, before_ms: u64, answers_max: u32) -> Result<bool, StoreError> {
        self.write_rows()?;
        let mut left = answers_max as usize;
        let mut old = Vec::new();
        for pair in self.clients.iter()? {
            let (client, row) = pair?;
            let row = ClientRow::unpack(row.value());
            if row.heard_ms < before_ms {
                old.push((ClientId(*client.value()), row));
            }
        }
        for (client, mut row) in old {
            let range = answer_key(client, 0)..=answer_key(client, u64::MAX);
            let mut keys = Vec::new();
            for pair in self.answers.range::<&[u8; 24]>(range.start()..=range.end())?.take(left) {
                keys.push(*pair?.0.value());
            }
            for key in &keys {
                self.answers.remove(key)?;
            }
            if keys.len() == left {
                row.kept = row.kept.saturating_sub(left as u64);
                self.clients.insert(&client.0, &row.pack())?;
                return Ok(true);
            }
            left -= keys.len();
            self.clients.remove(&client.0)?;
        }
        Ok(false)
    }

    /// Forgets what is settled. The group is over.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        for (&client, (stored, row)) in &mut self.rows {
            if row.settled_below > stored.settled_below && row.kept > 0 {
                let (first, end) = (answer_key(client, 0), answer_key(client, row.settled_below));
                let kept = &mut row.kept;
                self.answers.retain_in::<&[u8; 24], _>(&first..&end, |_, _| {
                    *kept = kept.saturating_sub(1);
                    false
                })?;
            }
        }
        self.write_rows()
    }

    fn row(&mut self, client: ClientId) -> Result<&mut ClientRow, StoreError> {
        use std::collections::hash_map::Entry::{Occupied, Vacant};
        let rows = match self.rows.entry(client) {
            Occupied(rows) => rows.into_mut(),
            Vacant(rows) => {
                let row = self.clients.get(&client.0)?;
                let row = row.map(|row| ClientRow::unpack(row.value())).unwrap_or_default();
                rows.insert((row, row))
            }
        };
        Ok(&mut rows.1)
    }

    fn write_rows(&mut self) -> Result<(), StoreError> {
        for (client, (_, row)) in self.rows.drain() {
            self.clients.insert(&client.0, &row.pack())?;
        }
        Ok(())
    }
}

/// The tables of a new namespace.
pub(super) fn plant(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(ANSWERS)?;
    transaction.open_table(CLIENTS)?;
    Ok(())
}
