//! What an operator wants of workers and of the whole: it survives the master.

use gristmill_proto::ids::WorkerId;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::set_worker_state::State;
use gristmill_proto::namespace::{Done, SetSafeMode, SetWorkerState};

use redb::ReadableTable;

use super::change::{Call, Change};
use super::refusal::refuse;
use super::snapshot::Snapshot;
use super::{CallError, Effect, StoreError};

/// The row that is of no worker: safe mode.
const ALL: u64 = 0;
/// The values. A worker that simply serves has no row, and so has the whole without safe mode.
const DECOMMISSION: u8 = 1;
const MAINTENANCE: u8 = 2;
const SAFE_MODE: u8 = 1;

impl Change<'_> {
    pub(super) fn set_worker_state(
        &mut self,
        call: &Call,
        request: &SetWorkerState,
    ) -> Result<Outcome, CallError> {
        require_operator(call)?;
        let Ok(state) = State::try_from(request.state) else {
            return Err(refuse(Kind::InvalidArgument, "", "no such state of a worker"));
        };
        let is_known = call.facts.is_known || self.services.get(request.worker)?.is_some();
        if request.worker == ALL || !is_known {
            return Err(refuse(Kind::NotFound, "", format!("there is no worker-{}", request.worker)));
        }
        self.want(WorkerId(request.worker), state)?;
        Ok(Outcome::Done(Done {}))
    }

    pub(super) fn set_safe_mode(&mut self, call: &Call, request: &SetSafeMode) -> Result<Outcome, CallError> {
        require_operator(call)?;
        match request.on {
            true => drop(self.services.insert(ALL, SAFE_MODE)?),
            false => drop(self.services.remove(ALL)?),
        }
        self.effects.push(Effect::SafeModeSet(request.on));
        Ok(Outcome::Done(Done {}))
    }

    /// [`super::Action::EndMaintenance`].
    pub(super) fn end_maintenance(&mut self, worker: WorkerId) -> Result<(), StoreError> {
        let is_away = self.services.get(worker.0)?.is_some_and(|row| row.value() == MAINTENANCE);
        if is_away { self.want(worker, State::InService) } else { Ok(()) }
    }

    /// Nothing can refuse the command after this.
    fn want(&mut self, worker: WorkerId, state: State) -> Result<(), StoreError> {
        match state {
            State::InService => drop(self.services.remove(worker.0)?),
            State::Decommission => drop(self.services.insert(worker.0, DECOMMISSION)?),
            State::Maintenance => drop(self.services.insert(worker.0, MAINTENANCE)?),
        }
        self.effects.push(Effect::WorkerStateSet { worker, state });
        Ok(())
    }
}

impl Snapshot {
    /// Whether an operator has set safe mode.
    pub fn is_safe_mode_set(&self) -> Result<bool, StoreError> {
        Ok(self.services.get(ALL)?.is_some())
    }

    /// Workers of which an operator wants something else than to serve.
    pub fn worker_states(&self) -> Result<Vec<(WorkerId, State)>, StoreError> {
        let mut states = Vec::new();
        for row in self.services.range(ALL + 1..)? {
            let (worker, state) = row?;
            let state = match state.value() {
                DECOMMISSION => State::Decommission,
                MAINTENANCE => State::Maintenance,
                other => {
                    let how = format!("is {other}, which is no state");
                    return Err(StoreError::damaged("the service of worker", worker.value(), how));
                }
            };
            states.push((WorkerId(worker.value()), state));
        }
        Ok(states)
    }
}

fn require_operator(call: &Call) -> Result<(), CallError> {
    if call.actor.superuser {
        return Ok(());
    }
    Err(refuse(Kind::PermissionDenied, "", "only the owner of / may do this"))
}
