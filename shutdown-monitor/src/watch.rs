//! The loop around the judge: look, say, wait. Its side effects are a trait, so that a whole life is one test.

use std::future::Future;
use std::io;
use std::time::Instant;

use contract::handshake::{IdleMemory, IdleStatus, Life, StopEnd, StopPhase, StopRequest};

use crate::engine::{Answer, Call};
use crate::judge::{Idle, Judge, Memory, Seen};

/// Why a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Woken {
    /// Something may have changed, or it is time.
    Look,
    /// The engine has answered.
    Answer(Answer),
    /// Asked to leave.
    Leave,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The builder was told to stop, now or by the monitor before us.
    Stopped,
    /// A signal.
    Asked,
}

/// Everything outside.
pub trait World {
    /// How a stop ends here.
    fn end(&self) -> StopEnd;
    /// The monotonic clock.
    fn now(&self) -> Instant;
    /// Seconds since the epoch, for display alone.
    fn wall(&self) -> u64;
    /// Nanoseconds of the monotonic clock, as all containers of the pod read it.
    fn nanoseconds(&self) -> u64;
    /// All that is published in this life.
    fn look(&mut self) -> Seen;
    /// Our own request of this life, as a monitor before us may have left it.
    fn former_request(&mut self) -> Option<StopRequest>;
    /// Our own view of this life, likewise.
    fn former_idle(&mut self) -> Option<IdleStatus>;
    /// Publishes a request.
    ///
    /// # Errors
    /// When it could not be written; then it is not in force.
    fn request(&mut self, request: &StopRequest) -> io::Result<()>;
    /// Publishes the view for `status`.
    fn show(&mut self, idle: &IdleStatus);
    /// A line for the log.
    fn note(&mut self, text: &str);
    /// Publishes why the engine does not let an idle builder stop, or that it does again.
    fn trouble(&mut self, why: Option<&str>);
    /// Asks the engine, which answers in [`Self::wait`]. Takes the place of a call that has not been answered.
    fn call(&mut self, call: Call);
    /// Until something changes, or `until`.
    fn wait(&mut self, until: Option<Instant>) -> impl Future<Output = io::Result<Woken>>;
}

/// Watches until the builder is stopped or we are asked to leave.
///
/// After `Final` nothing is left to do here where agents leave: the request stays on the run volume, and an agent that is started
/// again in this life reads it and leaves. So we do not wait for the others. In a cluster we stay until the signal comes.
///
/// # Errors
/// When events cannot be waited for, or a request not be written.
pub async fn watch(world: &mut impl World, life: &Life) -> io::Result<Ended> {
    let former = world.former_request();
    let generation = former.as_ref().map_or(0, |request| request.generation);
    let end = world.end();
    let mut judge = Judge::new(world.now(), generation, end);
    if let Some(memory) = world.former_idle().and_then(|idle| memory(world, idle)) {
        judge = judge.remembering(memory);
    }
    match former {
        Some(StopRequest { phase: StopPhase::Final, .. }) if end == StopEnd::Leave => {
            return Ok(Ended::Stopped);
        }
        Some(StopRequest { phase: StopPhase::Final, .. }) => {
            judge = Judge::stopped(world.now(), generation, end);
        }
        // Nobody waits for those answers any more; admission must not stay closed.
        Some(StopRequest { phase: StopPhase::Ask, .. }) => {
            let open = StopRequest {
                life: life.clone(),
                generation,
                phase: StopPhase::Open,
                end,
                reason: String::new(),
                last_activity: world.wall(),
            };
            world.request(&open)?;
        }
        _ => {}
    }
    let (mut shown, mut answer, mut trouble) = (None::<Idle>, None, None);
    loop {
        let seen = world.look();
        let verdict = judge.look(&seen, answer.take(), world.now());
        let idle = judge.idle();
        if shown.as_ref().is_none_or(|shown| idle.is_news_after(shown)) {
            world.show(&told(world, life, &idle));
            shown = Some(idle);
        }
        if let Some(note) = verdict.note {
            world.note(&note);
        }
        if trouble.as_deref() != judge.trouble() {
            trouble = judge.trouble().map(str::to_owned);
            world.trouble(trouble.as_deref());
        }
        if let Some((phase, reason)) = verdict.stop {
            let last_activity = wall_of(world, judge.idle().last_activity);
            let generation = judge.generation();
            let life = life.clone();
            world.request(&StopRequest { life, generation, phase, end, reason, last_activity })?;
            if phase == StopPhase::Final && end == StopEnd::Leave {
                return Ok(Ended::Stopped);
            }
        }
        if let Some(call) = verdict.call {
            world.call(call);
        }
        match world.wait(verdict.again).await? {
            Woken::Leave => return Ok(Ended::Asked),
            Woken::Answer(given) => answer = Some(given),
            Woken::Look => {}
        }
    }
}

fn told(world: &impl World, life: &Life, idle: &Idle) -> IdleStatus {
    let ago = world.now().saturating_duration_since(idle.last_activity);
    let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
    let memory = |last_build| IdleMemory { at: world.nanoseconds().saturating_sub(ago), last_build };
    IdleStatus {
        life: life.clone(),
        last_activity: wall_of(world, idle.last_activity),
        source: idle.source.clone(),
        stops_at: idle.stops_at.map(|at| wall_of(world, at)),
        keeps: idle.keeps.iter().map(|kept| kept.keep.clone()).collect(),
        soon: idle.soon,
        // What goes on may be over before the next monitor looks, and then nobody knows when: it begins anew.
        memory: idle.last_build.filter(|_| idle.stops_at.is_some()).map(memory),
    }
}

fn memory(world: &impl World, former: IdleStatus) -> Option<Memory> {
    let IdleMemory { at, last_build } = former.memory?;
    let ago = std::time::Duration::from_nanos(world.nanoseconds().checked_sub(at)?);
    Some(Memory { last_activity: world.now().checked_sub(ago)?, source: former.source, last_build })
}

/// A moment of the monotonic clock as seconds since the epoch, as of now.
fn wall_of(world: &impl World, moment: Instant) -> u64 {
    let (now, wall) = (world.now(), world.wall());
    let ahead = moment.saturating_duration_since(now).as_secs();
    let behind = now.saturating_duration_since(moment).as_secs();
    wall.saturating_add(ahead).saturating_sub(behind)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
