//! Records out of nothing.

use super::{Input, Sealed, Source};
use crate::pipe::{Consumer, TaskInput};
use gristmill_dataflow::attempt::{Attempt, Position, TaskError};

/// The numbers from zero on, cut into splits: for jobs that generate data.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    count: u64,
}

impl Rows {
    /// The numbers `0..count`.
    pub fn new(count: u64) -> Self {
        Self { count }
    }
}

impl Sealed for Rows {}

impl Source for Rows {
    type Item = u64;

    fn input(&self) -> Input {
        Input::Rows { count: self.count }
    }

    fn read(
        &self,
        input: &TaskInput,
        attempt: &mut Attempt,
        consumer: &mut Consumer<'_, u64>,
    ) -> Result<(), TaskError> {
        let TaskInput::Rows(rows) = input else { unreachable!("a source of rows reads rows") };
        for row in rows.clone() {
            attempt.position = Position::Row(row);
            consumer.take(row, attempt);
            attempt.record_done()?;
        }
        Ok(())
    }
}
