//! Whether new work is taken: the rules of the two-phase stop, without any I/O.

use contract::handshake::{StopEnd, StopPhase, StopRequest};

/// Where admission stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Work is taken.
    Open,
    /// The monitor asks whether it may stop the builder: new work waits for its decision.
    Asked {
        /// Of the question.
        generation: u64,
    },
    /// The stop is final, and the engine will end us. Until it does, a client that is faster may still have the builder back.
    Stopped {
        /// For a person.
        reason: String,
    },
    /// Nothing is taken any more, for this reason.
    Closed {
        /// For a person.
        reason: String,
    },
}

/// What a request of the monitor leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing new.
    Nothing,
    /// Answer with the count of work; admission is closed before it is counted.
    Acknowledge {
        /// Of the question.
        generation: u64,
    },
    /// Who waits may come in.
    Reopen,
    /// Who waits is told that the builder stops.
    Refuse,
    /// Leave.
    Leave {
        /// For a person.
        reason: String,
    },
}

impl Admission {
    /// Applies what the monitor's file says now (`None`: there is no such file of this life).
    pub fn apply(&mut self, request: Option<&StopRequest>) -> Step {
        let Some(request) = request else { return Step::Nothing };
        match (&*self, request.phase) {
            // The engine's signal comes, and says how.
            (Self::Closed { .. } | Self::Stopped { .. }, StopPhase::Final)
                if request.end == StopEnd::AwaitSignal =>
            {
                Step::Nothing
            }
            (Self::Closed { .. }, StopPhase::Final) => Step::Leave { reason: request.reason.clone() },
            // Draining: the monitor hears how much is left, and admission stays closed.
            (Self::Closed { .. }, StopPhase::Ask) => Step::Acknowledge { generation: request.generation },
            (Self::Closed { .. }, StopPhase::Open) | (Self::Open, StopPhase::Open) => Step::Nothing,
            (Self::Asked { generation }, StopPhase::Ask) if *generation == request.generation => {
                Step::Nothing
            }
            (_, StopPhase::Ask) => {
                *self = Self::Asked { generation: request.generation };
                Step::Acknowledge { generation: request.generation }
            }
            (Self::Asked { .. } | Self::Stopped { .. }, StopPhase::Open) => {
                *self = Self::Open;
                Step::Reopen
            }
            (_, StopPhase::Final) if request.end == StopEnd::AwaitSignal => {
                *self = Self::Stopped { reason: request.reason.clone() };
                Step::Refuse
            }
            (_, StopPhase::Final) => {
                *self = Self::Closed { reason: request.reason.clone() };
                Step::Leave { reason: request.reason.clone() }
            }
        }
    }

    /// A foreign SIGTERM.
    pub fn close(&mut self, reason: &str) {
        *self = Self::Closed { reason: reason.to_owned() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::handshake::Life;

    fn request(generation: u64, phase: StopPhase) -> StopRequest {
        let (life, reason) = (Life("b:1".into()), "idle for 30m".to_owned());
        StopRequest { life, generation, phase, end: StopEnd::Leave, reason, last_activity: 0 }
    }

    #[test]
    fn ask_and_open_and_ask_again() {
        let mut admission = Admission::Open;
        assert_eq!(admission.apply(None), Step::Nothing);
        assert_eq!(admission.apply(Some(&request(0, StopPhase::Open))), Step::Nothing);
        assert_eq!(admission.apply(Some(&request(1, StopPhase::Ask))), Step::Acknowledge { generation: 1 });
        assert_eq!(admission, Admission::Asked { generation: 1 });
        assert_eq!(admission.apply(Some(&request(1, StopPhase::Ask))), Step::Nothing, "once per question");
        assert_eq!(admission.apply(Some(&request(2, StopPhase::Ask))), Step::Acknowledge { generation: 2 });
        assert_eq!(admission.apply(Some(&request(2, StopPhase::Open))), Step::Reopen);
        assert_eq!(admission, Admission::Open);
    }

    #[test]
    fn final_is_final() {
        let mut admission = Admission::Asked { generation: 1 };
        let leave = Step::Leave { reason: "idle for 30m".into() };
        assert_eq!(admission.apply(Some(&request(1, StopPhase::Final))), leave);
        assert_eq!(admission.apply(Some(&request(1, StopPhase::Open))), Step::Nothing);
        assert!(matches!(admission, Admission::Closed { .. }));
    }

    #[test]
    fn where_the_engine_ends_the_agents_they_stay_and_may_be_wanted_again() {
        let last = StopRequest { end: StopEnd::AwaitSignal, ..request(1, StopPhase::Final) };
        let open = StopRequest { phase: StopPhase::Open, ..last.clone() };
        // Also for an agent that is started again in the same life.
        for mut admission in [Admission::Asked { generation: 1 }, Admission::Open] {
            assert_eq!(admission.apply(Some(&last)), Step::Refuse);
            assert_eq!(admission.apply(Some(&last)), Step::Nothing, "told once");
            assert_eq!(admission, Admission::Stopped { reason: "idle for 30m".into() });
            assert_eq!(admission.apply(Some(&open)), Step::Reopen);
            assert_eq!(admission, Admission::Open);
        }
        let mut leaving = Admission::Open;
        leaving.close("SIGTERM");
        assert_eq!(leaving.apply(Some(&last)), Step::Nothing);
        assert_eq!(leaving.apply(Some(&open)), Step::Nothing);
        assert!(matches!(leaving, Admission::Closed { .. }), "a signal is never taken back");
    }

    #[test]
    fn a_draining_builder_answers_and_stays_closed() {
        let mut admission = Admission::Open;
        admission.close("SIGTERM");
        assert_eq!(admission.apply(Some(&request(4, StopPhase::Ask))), Step::Acknowledge { generation: 4 });
        assert_eq!(admission.apply(Some(&request(4, StopPhase::Open))), Step::Nothing);
        assert!(matches!(admission, Admission::Closed { .. }));
    }
}
