//! Work done ahead of its use: by threads, in order, and no further ahead than there is room for.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// The results of items `0..items`, in order. Dropping it stops the threads after what they are at.
pub(super) struct Ahead<T> {
    shared: Arc<Shared<T>>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    items: usize,
    room: usize,
}

struct State<T> {
    /// The next item that a thread begins.
    begin: usize,
    /// The next item that is handed out.
    taken: usize,
    done: BTreeMap<usize, thread::Result<T>>,
    stopped: bool,
}

impl<T: Send + 'static> Ahead<T> {
    /// Starts threads; of the results, those at hand and those in the making are `room` at most.
    pub(super) fn start(
        items: usize,
        room: usize,
        threads: usize,
        work: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Self {
        let state = State { begin: 0, taken: 0, done: BTreeMap::new(), stopped: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), items, room: room.max(1) });
        let work = Arc::new(work);
        let spawn = |_| {
            let (shared, work) = (Arc::clone(&shared), Arc::clone(&work));
            thread::spawn(move || {
                while let Some(item) = shared.begin() {
                    let result = catch_unwind(AssertUnwindSafe(|| work(item)));
                    shared.lock().done.insert(item, result);
                    shared.changed.notify_all();
                }
            })
        };
        let workers = (0..threads.clamp(1, items.max(1))).map(spawn).collect();
        Self { shared, workers }
    }
}

impl<T> Shared<T> {
    /// Nothing that holds the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item to work on, once there is room for its result; none if there is nothing left to do.
    fn begin(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.stopped || state.begin >= self.items {
                return None;
            }
            if state.begin < state.taken + self.room {
                state.begin += 1;
                return Some(state.begin - 1);
            }
            state = self.wait(state);
        }
    }
}

impl<T> Iterator for Ahead<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let mut state = self.shared.lock();
        if state.taken >= self.shared.items {
            return None;
        }
        loop {
            let next = state.taken;
            if let Some(result) = state.done.remove(&next) {
                state.taken += 1;
                drop(state);
                self.shared.changed.notify_all();
                return Some(result.unwrap_or_else(|panic| resume_unwind(panic)));
            }
            state = self.shared.wait(state);
        }
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker's panics are among the results.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order_whichever_thread_is_slow() {
        let slow = |item: usize| {
            thread::sleep(Duration::from_micros((item * 7919 % 13) as u64 * 50));
            item * item
        };
        let found: Vec<usize> = Ahead::start(200, 8, 5, slow).collect();
        assert_eq!(found, (0..200).map(|item| item * item).collect::<Vec<_>>());
        assert_eq!(Ahead::start(0, 8, 5, |item| item).count(), 0);
    }

    #[test]
    fn no_more_is_begun_than_there_is_room_for_and_nothing_after_the_end() {
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let mut ahead = Ahead::start(1000, 6, 3, move |item| {
            count.fetch_add(1, Ordering::SeqCst);
            item
        });
        for taken in 1..=20 {
            assert_eq!(ahead.next(), Some(taken - 1));
            thread::sleep(Duration::from_millis(1));
            assert!(begun.load(Ordering::SeqCst) <= taken + 6);
        }
        drop(ahead);
        let stopped = begun.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(5));
        assert_eq!(begun.load(Ordering::SeqCst), stopped);
    }

    #[test]
    fn a_panic_of_the_work_reaches_who_asks_for_its_result() {
        let mut ahead = Ahead::start(3, 3, 2, |item| assert!(item != 1, "item one"));
        assert_eq!(ahead.next(), Some(()));
        assert!(catch_unwind(AssertUnwindSafe(|| ahead.next())).is_err());
    }
}
