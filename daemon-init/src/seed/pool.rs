//! A work queue over a few threads, for work that makes more work: walking and copying trees.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::error::StoreError;

/// What the workers share.
pub(crate) struct Pool<T> {
    queue: Mutex<Queue<T>>,
    changed: Condvar,
}

struct Queue<T> {
    tasks: Vec<T>,
    /// Workers in the middle of a task, which may add others.
    busy: usize,
    failed: Option<StoreError>,
}

impl<T> Pool<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More work, taken before what has been waiting: a tree is finished before the next is begun, so the queue
    /// stays short.
    pub(crate) fn add(&self, task: T) {
        self.lock().tasks.push(task);
        self.changed.notify_one();
    }

    fn next(&self) -> Option<T> {
        let mut queue = self.lock();
        loop {
            if queue.failed.is_some() {
                return None;
            }
            if let Some(task) = queue.tasks.pop() {
                queue.busy += 1;
                return Some(task);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, result: Result<(), StoreError>) {
        let mut queue = self.lock();
        queue.busy -= 1;
        if let Err(error) = result {
            queue.failed.get_or_insert(error);
        }
        if queue.failed.is_some() || (queue.busy == 0 && queue.tasks.is_empty()) {
            self.changed.notify_all();
        }
    }
}

/// Works through `tasks` and all that they add; the first failure ends it. Each thread has a state of its own
/// (a buffer), made by `state`.
pub(crate) fn run<T: Send, S>(
    threads: usize,
    tasks: Vec<T>,
    state: impl Fn() -> S + Sync,
    work: impl Fn(T, &mut S, &Pool<T>) -> Result<(), StoreError> + Sync,
) -> Result<(), StoreError> {
    let pool = Pool { queue: Mutex::new(Queue { tasks, busy: 0, failed: None }), changed: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut state = state();
                while let Some(task) = pool.next() {
                    pool.done(work(task, &mut state, &pool));
                }
            });
        }
    });
    match pool.queue.into_inner().unwrap_or_else(PoisonError::into_inner).failed {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn tasks_that_add_tasks_are_all_done() {
        let count = AtomicU32::new(0);
        run(
            4,
            vec![10_u32],
            || (),
            |n, (), pool| {
                count.fetch_add(1, Ordering::Relaxed);
                (0..2).filter(|_| n > 0).for_each(|_| pool.add(n - 1));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(count.into_inner(), 2_u32.pow(11) - 1);
    }

    #[test]
    fn the_first_failure_ends_it() {
        let result = run(3, vec![(); 50], || (), |(), (), _| Err(StoreError::Aborted));
        assert!(matches!(result, Err(StoreError::Aborted)));
    }
}
