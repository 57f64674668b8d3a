//! Steps are added: all of a request, or none.

use std::collections::BTreeMap;

use gristmill_proto::cluster::{AddStepsAnswer, AddStepsRequest, Step, StepSpec, cluster, step};

use super::{Core, Now, Refusal, has_ended, spec};

/// Steps that have not ended: as EMR has it.
const STEPS_ACTIVE_MAX: usize = 256;
/// As EMR has it.
const ARGUMENTS_CHARACTERS_MAX: usize = 10_240;
const NAME_CHARACTERS_MAX: usize = 128;
/// A program that fails so often will fail again.
const RETRIES_MAX: u32 = 100;
const REQUEST_BYTES: usize = 16;

impl Core {
    /// Adds steps; the same request again changes nothing.
    pub(crate) fn add(&mut self, now: Now, request: &AddStepsRequest) -> Result<AddStepsAnswer, Refusal> {
        if request.request.len() != REQUEST_BYTES {
            return Err(Refusal::Bad("cannot add steps: a request has an id of 16 bytes".to_owned()));
        }
        let known: Vec<u64> = self
            .steps
            .values()
            .filter(|step| step.request == request.request)
            .map(|step| step.number)
            .collect();
        if !known.is_empty() {
            return Ok(AddStepsAnswer { numbers: known, known_before: true });
        }
        if matches!(self.state(), cluster::State::Terminating) || self.has_ended() {
            let state = self.state().as_str_name();
            return Err(Refusal::State(format!("cannot add steps: the cluster is {state}")));
        }
        let active = self.steps.values().filter(|step| !has_ended(step)).count();
        if request.steps.is_empty() || active + request.steps.len() > STEPS_ACTIVE_MAX {
            return Err(Refusal::Full(format!(
                "cannot add {} steps: {active} are not over, and at most {STEPS_ACTIVE_MAX} may be",
                request.steps.len()
            )));
        }
        let steps = self.checked(now, request)?;
        let numbers: Vec<u64> = steps.iter().map(|step| step.number).collect();
        for step in steps {
            self.next_number = step.number + 1;
            self.changed.insert(step.number);
            self.steps.insert(step.number, step);
        }
        self.settle(now);
        Ok(AddStepsAnswer { numbers, known_before: false })
    }

    /// The steps of a request, if all of them make sense.
    fn checked(&self, now: Now, request: &AddStepsRequest) -> Result<Vec<Step>, Refusal> {
        let mut names: BTreeMap<&str, u64> = BTreeMap::new();
        let mut steps = Vec::new();
        for (number, wanted) in (self.next_number..).zip(&request.steps) {
            check(wanted)?;
            let mut depends_on = Vec::new();
            for name in &wanted.depends_on {
                let found = names.get(name.as_str()).copied().map_or_else(|| self.find(name), Ok)?;
                depends_on.push(found);
            }
            if names.insert(&wanted.name, number).is_some() {
                return Err(Refusal::Bad(format!("cannot add steps: two are named {:?}", wanted.name)));
            }
            steps.push(Step {
                number,
                spec: Some(wanted.clone()),
                state: step::State::Pending.into(),
                user: request.user.clone(),
                request: request.request.clone(),
                depends_on,
                created_ms: now.wall_ms,
                ..Step::default()
            });
        }
        Ok(steps)
    }

    /// Forgets the oldest of too many ended steps, but for those that others depend on.
    pub(super) fn forget(&mut self) {
        while self.steps.len() > super::STEPS_KEPT_MAX {
            let active = self.steps.values().filter(|step| !has_ended(step));
            let needed: Vec<u64> = active.flat_map(|step| step.depends_on.clone()).collect();
            let oldest = self.steps.values().find(|step| has_ended(step) && !needed.contains(&step.number));
            let Some(number) = oldest.map(|step| step.number) else { return };
            self.steps.remove(&number);
            self.changed.remove(&number);
            self.forgotten.push(number);
        }
    }
}

fn check(wanted: &StepSpec) -> Result<(), Refusal> {
    let name = &wanted.name;
    let bad = |what: String| Err(Refusal::Bad(format!("cannot add the step {name:?}: {what}")));
    let characters: usize = wanted.arguments.iter().map(|argument| argument.chars().count() + 1).sum();
    let schemes = ["dfs://", "s3://", "file:///"];
    if name.is_empty() || name.chars().count() > NAME_CHARACTERS_MAX || name.chars().any(char::is_control) {
        return bad(format!("a name has 1 to {NAME_CHARACTERS_MAX} characters that can be printed"));
    }
    if name.starts_with("step-") {
        return bad("names that begin with step- are ids".to_owned());
    }
    if !schemes.iter().any(|scheme| wanted.program.starts_with(scheme)) {
        return bad(format!("its program {:?} is neither dfs:// nor s3:// nor file:///", wanted.program));
    }
    if characters > ARGUMENTS_CHARACTERS_MAX {
        return bad(format!(
            "its arguments have {characters} characters, of at most {ARGUMENTS_CHARACTERS_MAX}"
        ));
    }
    if wanted.retries > RETRIES_MAX {
        return bad(format!("{} retries are more than {RETRIES_MAX}", wanted.retries));
    }
    if !matches!(wanted.sha256.len(), 0 | 32) {
        return bad("a SHA-256 has 32 bytes".to_owned());
    }
    match wanted.program_name.contains(['/', '\0'])
        || wanted.arguments.iter().any(|argument| argument.contains('\0'))
    {
        true => bad("a program's name has no slash, and no argument has a NUL".to_owned()),
        false => Ok(()),
    }
}

/// Names of what a step depends on, for people.
pub(super) fn label(step: &Step) -> String {
    format!("step-{} ({})", step.number, spec(step).name)
}
